//! Where do settings come from outside the process? Variables, options, and the files they are kept in.
//!
//! The only place that asks for variables.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::given::{Given, Place, Problem};
use super::keys::{self, KEYS, Key};

/// What our variables begin with.
const PREFIX: &str = "EVERPAGE_";

/// Variables of the client commands, no settings.
const RESERVED: &[&str] = &["EVERPAGE_CONFIG", "EVERPAGE_ADMIN_URL", "EVERPAGE_TOKEN"];

/// Options of the command line that stand for a key.
const OPTIONS: &[(&str, &str)] = &[
    ("origin.url", "--origin"),
    ("listen", "--listen"),
    ("admin.listen", "--admin"),
    ("store.filesystem.path", "--data"),
];

/// A file larger than this is not one of ours.
const MOST_FILE_BYTES: u64 = 1 << 20;

/// The variables of this process that are ours. What is not UTF-8 is shown with replacement characters.
#[must_use]
pub fn variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect()
}

/// A whole small text file.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MOST_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_FILE_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

/// The variable that sets a key: `cache.max_body` is `EVERPAGE_CACHE__MAX_BODY`.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// The settings among variables; a variable of ours that is none is a problem.
pub(super) fn from_variables(variables: &[(String, String)]) -> (Vec<(&'static Key, Given)>, Vec<Problem>) {
    let (mut settings, mut problems) = (Vec::new(), Vec::new());
    for (name, value) in variables {
        if !name.starts_with(PREFIX) || RESERVED.contains(&name.as_str()) || is_service_link(name, value) {
            continue;
        }
        let place = Place::Variable(name.clone());
        match KEYS.iter().find(|key| variable(key.name) == *name) {
            Some(key) => settings.push((key, Given::from_words(value, place))),
            None => problems.push(unknown_variable(name, place)),
        }
    }
    (settings, problems)
}

fn unknown_variable(name: &str, place: Place) -> Problem {
    let key = name.trim_start_matches(PREFIX).to_ascii_lowercase().replace("__", ".");
    let expected = keys::closest(&key, KEYS.iter().map(|key| key.name))
        .map_or_else(|| format!("a name such as {}", variable("origin.url")), variable);
    Problem { place, what: "no setting has this variable".to_owned(), expected }
}

/// Container platforms tell each process about services, in variables named after them: a service that is called
/// `everpage` gives `EVERPAGE_SERVICE_HOST`, `EVERPAGE_PORT`, `EVERPAGE_PORT_80_TCP_ADDR` and the like.
fn is_service_link(name: &str, value: &str) -> bool {
    let port =
        name.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|first: char| first.is_ascii_digit()));
    port || name.ends_with("_PORT") && value.contains("://")
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
}

/// The settings of the command line, each under the name of its key.
pub(super) fn from_options(overrides: &[(&'static str, String)]) -> (Vec<(&'static Key, Given)>, Vec<Problem>) {
    let (mut settings, mut problems) = (Vec::new(), Vec::new());
    for (name, value) in overrides {
        let option = OPTIONS.iter().find_map(|(key, option)| (key == name).then_some(*option)).unwrap_or(name);
        let place = Place::Option(option.to_owned());
        match keys::find(name) {
            Some(key) => settings.push((key, Given::from_words(value, place))),
            None => problems.push(Problem {
                place,
                what: "no setting has this name".to_owned(),
                expected: keys::closest(name, KEYS.iter().map(|key| key.name)).unwrap_or_default().to_owned(),
            }),
        }
    }
    (settings, problems)
}
