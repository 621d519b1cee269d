//! Does the code keep to its own map? Reads the sources as text and never runs them.
//!
//! A new arrow between modules shall be a decision, made here in a line that gives its reason.

use std::fs;
use std::path::Path;

/// Who may know whom: a module imports from the rows below its own.
const LAYERS: [&[&str]; 7] = [
    &["config", "metrics", "logging", "clock", "chance", "background", "trust"],
    &["page", "policy"],
    &["store", "store_contract"],
    &["invalidation"],
    &["proxy", "admin", "upkeep"],
    &["server"],
    &["cli", "main", "lib"],
];

/// Arrows within a row: who, whom, why.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    ("policy", "page", "decisions are about pages, and speak of them in the types of page.rs"),
    ("store", "store_contract", "a macro of store's: macros live at the crate's root"),
    ("logging", "config", "each component is built from its own section of the configuration"),
];

/// Words that only the named places may say outside their tests: words, places, why.
const RESERVED: &[(&[&str], &[&str], &str)] = &[
    (
        &["HttpConnector", "TcpStream::connect", ".connect("],
        &["proxy/origin.rs", "cli/", "store/s3/client", "admin/ring.rs", "server/address.rs"],
        "one place connects to the origin, one to S3, one to other nodes; the client commands connect to the admin API",
    ),
    (&["aws_sdk", "aws_config"], &["store/s3"], "one place knows the SDK of S3"),
    (
        &["std::fs", "tokio::fs", "std::env", "env::var", "File::open"],
        &["config.rs", "config/", "store/", "invalidation/journal/", "cli/"],
        "files and environment come in through the configuration; stores and journal keep files",
    ),
];

/// What must not stay: spelled in two halves, for this file is read too.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("to", "do!"), "what is missing is an error with a name"),
    (concat!("unimpl", "emented!"), "what is missing is an error with a name"),
    (concat!("#[ig", "nore"), "a test that does not run proves nothing"),
];

/// Lines of a file that can be read in one go.
const LONG_LINES: usize = 500;

/// Files that are longer: path and why that is better than two files.
const LONG: &[(&str, &str)] = &[];

/// A file, its path relative to `src` or to the package, with `/`.
struct Source {
    path: String,
    text: String,
}

#[test]
fn imports_go_down_only() {
    assert_no_complaints(&upward_imports(&sources("src")));
}

#[test]
fn the_origin_the_files_and_the_environment_have_one_door_each() {
    assert_no_complaints(&reserved_words(&sources("src")));
}

#[test]
fn no_file_is_too_long_to_read_without_a_reason() {
    let all: Vec<Source> = ["src", "tests", "benches"].into_iter().flat_map(sources).collect();
    assert_no_complaints(&long_files(&all, LONG));
}

#[test]
fn nothing_is_left_undone_and_no_test_is_skipped() {
    let all: Vec<Source> = ["src", "tests", "benches"].into_iter().flat_map(sources).collect();
    assert_no_complaints(&forbidden_words(&all));
}

/// All Rust files below a folder of the package; none if there is no such folder.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a folder that could be opened can be listed").path();
            if path.is_dir() {
                if !path.ends_with("node_modules") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                let path = path.strip_prefix(&root).expect("it was found below the root");
                found.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn assert_no_complaints(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn upward_imports(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let from = top_module(&source.path);
        for to in imported_modules(&code(&source.text)) {
            let complaint = match (layer(from), layer(&to)) {
                (None, _) => format!("{}: {from} has no row in LAYERS", source.path),
                (_, None) => format!("{}: {to} has no row in LAYERS", source.path),
                (Some(own), Some(other)) if from == to || other < own || neighbours(from, &to) => continue,
                (Some(own), Some(other)) => format!("{}: {from} (row {own}) imports {to} (row {other})", source.path),
            };
            complaints.push(complaint);
        }
    }
    complaints
}

/// `proxy` of `proxy/origin.rs`, `page` of `page.rs`.
fn top_module(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

fn neighbours(from: &str, to: &str) -> bool {
    NEIGHBOURS.iter().any(|&(one, other, _)| (one, other) == (from, to))
}

/// The first names after `crate::`, in imports and in paths; of `crate::{…}`, the first name of each part.
fn imported_modules(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(group) => modules.extend(first_names(group)),
            None => modules.push(first_name(rest)),
        }
    }
    modules.sort();
    modules.dedup();
    modules
}

/// Of `page::{Page, PathId}, clock}; …`: `page` and `clock`.
fn first_names(group: &str) -> Vec<String> {
    let mut names = vec![first_name(group)];
    let mut depth = 1;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(first_name(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn first_name(text: &str) -> String {
    text.trim_start().chars().take_while(|&character| character.is_alphanumeric() || character == '_').collect()
}

fn reserved_words(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| !source.path.ends_with("tests.rs")) {
        let code = without_tests(&code(&source.text));
        for (words, places, reason) in RESERVED {
            if places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            for word in words.iter().filter(|word| code.contains(**word)) {
                complaints.push(format!("{}: says {word}, but {reason}", source.path));
            }
        }
    }
    complaints
}

fn long_files(sources: &[Source], listed: &[(&str, &str)]) -> Vec<String> {
    let lines = |source: &Source| source.text.lines().count();
    let long: Vec<&Source> = sources.iter().filter(|source| lines(source) > LONG_LINES).collect();
    let unlisted = long
        .iter()
        .filter(|source| !listed.iter().any(|(path, _)| *path == source.path))
        .map(|source| format!("{}: {} lines; split it or list it with a reason", source.path, lines(source)));
    let outdated = listed
        .iter()
        .filter(|(path, _)| !long.iter().any(|source| *path == source.path))
        .map(|(path, _)| format!("{path}: listed as long, but it is not, or not any more"));
    unlisted.chain(outdated).collect()
}

fn forbidden_words(sources: &[Source]) -> Vec<String> {
    let said = |source: &Source, word: &str| code(&source.text).contains(word);
    let complain = |source: &Source, word: &str, reason: &str| format!("{}: {word}: {reason}", source.path);
    sources
        .iter()
        .flat_map(|source| FORBIDDEN.iter().map(move |&(word, reason)| (source, word, reason)))
        .filter(|(source, word, _)| said(source, word))
        .map(|(source, word, reason)| complain(source, word, reason))
        .collect()
}

/// The text without its comments: links of the documentation may point upwards.
fn code(text: &str) -> String {
    let uncommented = |line: &str| match line {
        line if line.trim_start().starts_with("//") => String::new(),
        line => line.split(" //").next().unwrap_or(line).to_owned(),
    };
    text.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

/// Everything before the tests, which stand last.
fn without_tests(code: &str) -> String {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap_or(code).to_owned()
}

/// The checks themselves, each shown a file that it has to refuse.
mod checks {
    use super::*;

    fn file(path: &str, text: &str) -> Vec<Source> {
        vec![Source { path: path.to_owned(), text: text.to_owned() }]
    }

    #[test]
    fn an_import_from_a_row_above_is_found_in_every_form() {
        for text in [
            "use crate::proxy::origin::Origin;",
            "pub use crate::proxy;",
            "use crate::{clock::Clock, proxy::{flight, origin}};",
            "use crate::{\n    page::{Page, PathId},\n    proxy::Origin,\n};",
            "fn f() { crate::proxy::f() }",
            "#[cfg(test)]\nmod tests {\n    use crate::proxy::f;\n}",
        ] {
            let expected = ["store/s3.rs: store (row 2) imports proxy (row 4)"];
            assert_eq!(upward_imports(&file("store/s3.rs", text)), expected, "{text}");
        }
    }

    #[test]
    fn neighbours_do_not_import_each_other_but_for_those_with_a_reason() {
        assert_eq!(upward_imports(&file("proxy/mod.rs", "use crate::admin::Status;")).len(), 1);
        assert_eq!(upward_imports(&file("metrics.rs", "use crate::clock::Clock;")).len(), 1);
        assert_eq!(upward_imports(&file("logging.rs", "use crate::config::Log;")).len(), 0);
    }

    #[test]
    fn an_import_from_below_from_itself_and_a_link_in_a_comment_are_fine() {
        let text =
            "//! See [`crate::server`].\nuse crate::store::Store;\nuse crate::proxy::f;\nlet a = 1; // crate::cli\n";
        assert_eq!(upward_imports(&file("proxy/flight.rs", text)), [""; 0]);
    }

    #[test]
    fn a_module_without_a_row_is_found_on_both_sides() {
        assert_eq!(upward_imports(&file("utils.rs", "use crate::page::Page;")).len(), 1);
        assert_eq!(upward_imports(&file("page.rs", "use crate::utils::f;")).len(), 1);
    }

    #[test]
    fn a_second_door_is_found_but_for_tests() {
        let reads = "fn f() { std::fs::read(\"x\") }";
        assert_eq!(reserved_words(&file("proxy/body.rs", reads)).len(), 1);
        assert_eq!(reserved_words(&file("store/filesystem.rs", reads)).len(), 0);
        assert_eq!(reserved_words(&file("proxy/tests.rs", reads)).len(), 0);
        let tested = format!("fn g() {{}}\n\n#[cfg(test)]\nmod tests {{\n{reads}\n}}");
        assert_eq!(reserved_words(&file("proxy/body.rs", &tested)).len(), 0);
        assert_eq!(reserved_words(&file("proxy/flight.rs", "HttpConnector::new()")).len(), 1);
        assert_eq!(reserved_words(&file("proxy/origin.rs", "HttpConnector::new()")).len(), 0);
    }

    #[test]
    fn a_long_file_and_a_listed_short_one_are_found() {
        let (long, short) = (file("a.rs", &"x\n".repeat(LONG_LINES + 1)), file("a.rs", &"x\n".repeat(LONG_LINES)));
        assert_eq!(long_files(&long, &[]).len(), 1);
        assert_eq!(long_files(&long, &[("a.rs", "a table")]).len(), 0);
        assert_eq!(long_files(&short, &[]).len(), 0);
        assert_eq!(long_files(&short, &[("a.rs", "a table")]).len(), 1);
    }

    #[test]
    fn what_is_left_undone_is_found() {
        for (word, _) in FORBIDDEN {
            assert_eq!(forbidden_words(&file("a.rs", &format!("fn f() {{ {word} }}"))).len(), 1);
        }
    }
}
