//! What users see: messages as they are printed, and which source goes before which.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::given::{Given, Place};
use super::keys::KEYS;
use super::load::assemble;
use super::{Config, ConfigErrors, Secret, Sources, environment, file};

const DOCUMENTED: &str = include_str!("../../config.toml");

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    assemble(Some((Path::new("config.toml"), text)), &[], &[])
}

fn parse_variables(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let owned: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assemble(None, &owned, &[])
}

fn mistakes(text: &str) -> String {
    parse(text).expect_err("a mistake").to_string()
}

/// One of `mistakes.txt`: lines of a file and, after `$ `, variables and options; then the messages.
struct Case {
    title: &'static str,
    input: &'static str,
    expected: &'static str,
}

impl Case {
    fn all() -> Vec<Case> {
        let cases = include_str!("mistakes.txt").split("=== ").skip(1).map(|case| {
            let (title, rest) = case.split_once('\n').expect("a title");
            let (input, expected) = rest.split_once("---\n").expect("an input");
            Case { title, input, expected: expected.trim_end() }
        });
        cases.collect()
    }

    fn printed(&self) -> String {
        let (given, lines): (Vec<&str>, Vec<&str>) = self.input.lines().partition(|line| line.starts_with("$ "));
        let given = given.into_iter().filter_map(|line| line[2..].split_once('='));
        let (variables, options): (Vec<_>, Vec<_>) = given.partition(|(name, _)| name.starts_with("EVERPAGE_"));
        let variables: Vec<_> = variables.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let options: Vec<_> = options.into_iter().map(|(n, v)| (n, v.to_owned())).collect();
        let text = lines.join("\n");
        match assemble(Some((Path::new("config.toml"), &text)), &variables, &options) {
            Ok(config) => format!("no mistake: {config:?}"),
            Err(errors) => errors.to_string(),
        }
    }
}

#[test]
fn each_mistake_is_told_in_these_words() {
    for case in Case::all() {
        assert_eq!(case.printed(), case.expected, "{}", case.title);
    }
}

#[test]
fn a_secret_is_in_no_message() {
    for case in Case::all() {
        assert!(!case.printed().contains("hunter2"), "{}", case.title);
    }
}

#[test]
fn a_secret_is_in_no_print_of_the_configuration() {
    let s3 = "[store.s3]\naccess_key = 'hunter2'\nsecret_key = 'hunter2'\nsession_token = 'hunter2'";
    let config = parse(&format!("[admin]\ntoken = 'hunter2'\n{s3}")).unwrap();
    assert_eq!(config.admin.token.reveal(), "hunter2");
    assert_eq!(config.store.s3.session_token.reveal(), "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
    let json = config.to_json();
    assert!(!json.to_string().contains("hunter2"));
    for key in KEYS.iter().filter(|key| is_secret(key.name) && !key.name.ends_with("_file")) {
        assert_eq!(json.pointer(&format!("/{}", key.name.replace('.', "/"))), Some(&"…".into()), "{}", key.name);
    }
}

#[test]
fn no_place_of_a_mistake_on_the_line_of_a_secret_shows_it() {
    for name in KEYS.iter().map(|key| key.name).filter(|name| is_secret(name) && !name.ends_with("_file")) {
        let (section, key) = name.rsplit_once('.').unwrap();
        for value in ["'hunter2 x'", "'hunter2", "hunter2", "['hunter2']", "{ hunter2 = 1 }"] {
            let told = mistakes(&format!("[{section}]\n{key} = {value}"));
            assert!(!told.contains("hunter2"), "{told}");
            let told = mistakes(&format!("{section} = {{ zebra = 1, {key} = {value}, listen = 5 }}"));
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}

#[test]
fn a_bucket_is_a_name_or_an_access_point() {
    let bucket = |name: &str| parse(&format!("[store.s3]\nbucket = '{name}'")).map(|config| config.store.s3.bucket);
    let longest = "a".repeat(63);
    let access_point = "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/pages";
    for right in ["", "abc", "my.shop-pages.2", longest.as_str(), access_point, "pages-abc123-s3alias"] {
        assert_eq!(bucket(right).unwrap(), right);
    }
    let too_long = "a".repeat(64);
    for wrong in ["ab", too_long.as_str(), "Shop", "a_b", "-ab", "ab.", "a..b", "10.0.0.1", "xn--abc", "shop/pages"] {
        bucket(wrong).expect_err(wrong);
    }
}

#[test]
fn a_location_loses_its_last_slash_and_nothing_else() {
    let location = |text: &str| parse(&format!("[store.s3]\nlocation = '{text}'")).map(|it| it.store.s3.location);
    assert_eq!(location("shop/pages/").unwrap(), "shop/pages");
    assert_eq!(location("/").unwrap(), "");
    assert_eq!(location("Shop..1/_").unwrap(), "Shop..1/_");
    for wrong in ["/shop", "shop//", "a//b", "..", "a/../b", "a/./b", "a b", "a*", "ä", "${aws:username}"] {
        location(wrong).expect_err(wrong);
    }
}

#[test]
fn keys_of_s3_come_from_files_and_from_variables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "hunter2\n").unwrap();
    let path = path.to_str().unwrap();
    let text = format!("[store.s3]\nsecret_key_file = '{path}'\nsession_token_file = '{path}'");
    let variables = [("EVERPAGE_STORE__S3__ACCESS_KEY".to_owned(), "id".to_owned())];
    let s3 = assemble(Some((Path::new("config.toml"), &text)), &variables, &[]).unwrap().store.s3;
    assert_eq!([&s3.access_key, &s3.secret_key, &s3.session_token].map(Secret::reveal), ["id", "hunter2", "hunter2"]);
}

#[test]
fn a_bucket_can_be_set_up_by_variables_alone() {
    let config = parse_variables(&[
        ("EVERPAGE_STORE__KIND", "s3"),
        ("EVERPAGE_STORE__S3__BUCKET", "shop-pages"),
        ("EVERPAGE_STORE__S3__ENDPOINT_URL", "http://127.0.0.1:9000/"),
        ("EVERPAGE_STORE__S3__EXPECTED_BUCKET_OWNER", "123456789012"),
        ("EVERPAGE_STORE__S3__MAX_ENTRIES", "100000"),
        ("EVERPAGE_STORE__S3__COMPRESS_TYPES", "Text/HTML, text/*"),
        ("EVERPAGE_STORE__S3__OBJECT_PARAMETERS__TAGGING", "team=shop&kind=cache"),
        ("EVERPAGE_STORE__S3__DISK_CACHE__PATH", "cache"),
        ("EVERPAGE_CLUSTER__LEASE", "3s"),
    ]);
    let Config { store, cluster, .. } = config.unwrap();
    assert_eq!(store.s3.bucket, "shop-pages");
    assert_eq!(store.s3.endpoint_url.unwrap(), "http://127.0.0.1:9000");
    assert_eq!((store.s3.max_entries, store.s3.max_bytes), (Some(100_000), None));
    assert_eq!(store.s3.compress_types, ["text/html", "text/*"]);
    assert_eq!(store.s3.disk_cache.path.as_deref(), Some(Path::new("cache")));
    assert_eq!(cluster.lease.as_secs(), 3);
}

#[test]
fn what_another_store_would_need_is_no_mistake() {
    parse("[store.s3]\nlocation = 'shop'").expect("no bucket, and none is needed");
    let large = "[cache]\nmax_body = '20 GiB'\nmax_temporary_bytes = '40 GiB'\n[store]\nkind = 's3'\n[store.s3]\nbucket = 'shop'";
    parse(large).expect("larger than the default of a folder that is not used");
}

#[test]
fn the_documented_file_says_what_holds_without_it() {
    assert_eq!(parse(DOCUMENTED).unwrap(), Config::default());
}

#[test]
fn the_documented_file_names_every_key_in_order() {
    let (settings, _) = file::from_text(DOCUMENTED);
    let documented: Vec<&str> = settings.iter().map(|(key, _)| key.name).collect();
    let known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(documented, known);
}

#[test]
fn an_empty_file_and_no_file_are_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(assemble(None, &[], &[]).unwrap(), Config::default());
}

#[test]
fn the_environment_goes_before_the_file_and_the_command_line_before_both() {
    let file = Some((Path::new("config.toml"), "listen = '127.0.0.1:1'\n[store.filesystem]\npath = 'file'"));
    let variables = [("EVERPAGE_LISTEN".to_owned(), "127.0.0.1:2".to_owned())];
    let options = [("listen", "127.0.0.1:3".to_owned())];
    let port = |variables, options| assemble(file, variables, options).unwrap().listen.port();
    assert_eq!(port(&[], &[]), 1);
    assert_eq!(port(&variables, &[]), 2);
    assert_eq!(port(&[], &options), 3);
    assert_eq!(port(&variables, &options), 3);
    let config = assemble(file, &variables, &options).unwrap();
    assert_eq!(config.store.filesystem.path, Path::new("file"), "what a later source leaves out stays");
}

#[test]
fn variables_hold_lists_of_both_kinds() {
    let hosts = |value| parse_variables(&[("EVERPAGE_HOSTS", value)]).unwrap().hosts;
    assert_eq!(hosts("a.example, B.example,"), ["a.example", "b.example"]);
    assert_eq!(hosts(r#"["a.example", "B.example"]"#), ["a.example", "b.example"]);
    assert_eq!(hosts(""), [""; 0]);
}

#[test]
fn a_regex_in_a_variable_is_not_split_at_its_comma() {
    let ignore = |value| parse_variables(&[("EVERPAGE_CACHE__IGNORE", value)]).unwrap().cache.ignore;
    assert_eq!(ignore("^/a{1,2}/"), ["^/a{1,2}/"]);
    assert_eq!(ignore("[ab],c"), ["[ab],c"]);
    assert_eq!(ignore("['^/a/', '^/b/']"), ["^/a/", "^/b/"]);
    assert_eq!(ignore("[]"), [""; 0]);
}

#[test]
fn variables_of_the_client_commands_and_of_container_platforms_are_no_settings() {
    let names = [
        "EVERPAGE_CONFIG",
        "EVERPAGE_ADMIN_URL",
        "EVERPAGE_TOKEN",
        "EVERPAGE_SERVICE_HOST",
        "EVERPAGE_SERVICE_PORT_HTTP",
        "EVERPAGE_PORT",
        "EVERPAGE_PORT_80_TCP_ADDR",
        "EVERPAGE_ADMIN_PORT_8081_TCP",
        "PATH",
    ];
    assert_eq!(parse_variables(&names.map(|name| (name, "tcp://10.0.0.1:80"))).unwrap(), Config::default());
    parse_variables(&[("EVERPAGE_PORT", "8080")]).expect_err("somebody hopes that this is a setting");
}

#[test]
fn each_key_has_a_variable_of_its_own_that_no_platform_sets() {
    let variables: BTreeSet<String> = KEYS.iter().map(|key| environment::variable(key.name)).collect();
    assert_eq!(variables.len(), KEYS.len());
    let given: Vec<_> = variables.into_iter().map(|name| (name, String::new())).collect();
    assert_eq!(environment::from_variables(&given).0.len(), KEYS.len());
}

#[test]
fn an_address_is_a_network_and_a_network_has_no_host_bits() {
    let config = parse("purge_from = ['10.0.0.1', '10.1.2.3/8', '::1']").unwrap();
    let networks: Vec<String> = config.purge_from.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.1/32", "10.0.0.0/8", "::1/128"]);
}

#[test]
fn sizes_in_binary_units_are_exact() {
    let bytes = |size: &str| parse(&format!("[memory]\ncapacity = {size}")).unwrap().memory.capacity;
    assert_eq!(bytes("'64 MiB'"), 67_108_864);
    assert_eq!(bytes("'64MB'"), 64_000_000);
    assert_eq!(bytes("'1.5 GiB'"), 1_610_612_736);
    assert_eq!(bytes("0"), 0);
}

#[test]
fn a_free_port_twice_is_no_collision() {
    let config = parse("listen = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.1:0'").unwrap();
    assert_eq!(config.listen, config.admin.listen);
    parse("listen = '0.0.0.0:80'\n[admin]\nlisten = '[::1]:80'").expect("another family of addresses");
}

#[test]
fn a_token_comes_from_a_file_without_its_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "hunter2\r\n").unwrap();
    let path = path.to_str().unwrap();
    let text = format!("[admin]\ntoken_file = '{path}'\ntoken = ''\nlisten = '0.0.0.0:8081'");
    assert_eq!(parse(&text).unwrap().admin.token, Secret::new("hunter2".to_owned()));
    let from_variable = parse_variables(&[("EVERPAGE_ADMIN__TOKEN_FILE", path)]).unwrap();
    assert_eq!(from_variable.admin.token, Secret::new("hunter2".to_owned()));

    let variables = [("EVERPAGE_ADMIN__TOKEN".to_owned(), "other".to_owned())];
    let config = assemble(Some((Path::new("config.toml"), &text)), &variables, &[]).unwrap();
    assert_eq!(config.admin.token.reveal(), "other", "the environment goes before the file");
}

#[test]
fn an_empty_token_file_is_a_mistake() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "\n").unwrap();
    let text = format!("[admin]\ntoken_file = '{}'", file.path().display());
    assert!(parse(&text).unwrap_err().to_string().contains("is empty"));
}

#[test]
fn what_a_mistake_hides_is_not_missed() {
    for text in ["[admin\ntoken = 'hunter2'", "[admin]\ntokn = 'hunter2'", "[admin]\ntoken = 5"] {
        let open = [("admin.listen", "0.0.0.0:8081".to_owned())];
        let errors = assemble(Some((Path::new("config.toml"), text)), &[], &open).unwrap_err();
        assert_eq!(errors.0.len(), 1, "{errors}");
    }
}

#[test]
fn lines_may_end_as_on_windows() {
    parse("listen = '127.0.0.1:1'\r\n[log]\r\naccess = true\r\n").expect("no mistake");
    let message = mistakes("hosts = []\r\nlisten = \"x\r\n");
    assert!(message.ends_with("  2 | listen = \"x\n    |             ^"), "{message}");
}

#[test]
fn a_byte_order_mark_is_no_mistake() {
    assert_eq!(parse("\u{feff}listen = '127.0.0.1:1'").unwrap().listen.port(), 1);
}

#[test]
fn mistakes_are_told_up_to_a_bound() {
    let text: String = (0..200).map(|number| format!("zebra{number} = 1\n")).collect();
    assert_eq!(parse(&text).unwrap_err().0.len(), 100);
}

#[test]
fn a_named_file_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.toml");
    let sources = || Sources { file: Some(path.clone()), ..Sources::default() };
    let message = Config::load(sources()).unwrap_err().to_string();
    assert_eq!(message, format!("{}: cannot read it: No such file or directory (os error 2)", path.display()));

    std::fs::write(&path, "listen = '127.0.0.1:1'").unwrap();
    let loaded = Config::load(sources()).unwrap();
    assert_eq!((loaded.config.listen.port(), loaded.file), (1, Some(path)));
}

#[test]
fn the_usual_file_is_found_where_everpage_is_started() {
    let loaded = Config::load(Sources::default()).unwrap();
    assert_eq!(loaded.file.as_deref(), Some(Path::new("config.toml")));
    assert_eq!(loaded.config, Config::default());
}

/// What may stand at a key, plausible more often than not.
fn any_words() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,5} ?(ms|s|m|h|day|B|KiB|MiB|GiB|kB)?",
        "(https?://)?[a-z0-9.]{1,9}(:[0-9]{1,5})?/?",
        "[0-9]{1,3}\\.0\\.0\\.1(:[0-9]{1,5}|/[0-9]{1,2})?",
        "(true|false|forever|origin|include|ignore|bypass|drop|forward|memory|text|json|unlimited|info|GET|HEAD)",
        "[a-zA-Z*_.{}-]{0,12}(, ?[a-z*]{1,5}){0,3}",
        "\\[(\"[a-z/*]{0,5}\"(, )?){0,3}\\]?",
        "\\PC{0,20}",
    ]
}

fn any_toml() -> impl Strategy<Value = String> {
    let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    let quoted = any_words().prop_map(|words| format!("{words:?}"));
    let value = prop_oneof![quoted, any_words(), any::<i64>().prop_map(|number| number.to_string())];
    let line = (prop::sample::select(names), value, any_words())
        .prop_map(|(name, value, noise)| if noise.len() == 1 { noise } else { format!("{name} = {value}") });
    prop::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"))
}

fn is_secret(name: &str) -> bool {
    let name = name.trim_end_matches("_file");
    ["admin.token", "store.s3.access_key", "store.s3.secret_key", "store.s3.session_token"].contains(&name)
}

/// What a file would say, so that it can be read again. A secret is not shown, so there is none.
fn as_toml(json: &Json) -> String {
    toml::to_string(json).expect("JSON of tables, lists, text, numbers and booleans")
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(?s).{0,200}") {
        if let Err(errors) = parse(&text) {
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn no_settings_make_it_panic(text in any_toml()) {
        if let Err(errors) = parse(&text) {
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again(words in prop::collection::vec(any_words(), KEYS.len())) {
        let mut config = Config::default();
        for (key, words) in KEYS.iter().zip(&words).filter(|(key, _)| !is_secret(key.name)) {
            let place = Place::Option("--any".to_owned());
            let _ = (key.read)(&mut config, &Given::from_words(words, place));
        }
        let mut again = Config::default();
        let (settings, problems) = file::from_text(&as_toml(&config.to_json()));
        prop_assert!(problems.is_empty());
        for (key, given) in settings {
            (key.read)(&mut again, &given).expect("what is shown is right");
        }
        prop_assert_eq!(again, config);
    }
}
