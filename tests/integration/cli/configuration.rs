//! Usage and configuration: what is right, what is wrong, and in which words.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value as Json;

use super::process::{everpage, run};

#[test]
fn help_and_version_are_no_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let help = run(folder.path(), &["--help"]).fine();
    for command in ["serve", "demo", "check", "explain", "invalidate", "status", "pages", "warm"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command} in\n{help}");
        let help = run(folder.path(), &[command, "--help"]).fine();
        assert!(help.contains("Usage: everpage"), "{help}");
    }
    assert_eq!(run(folder.path(), &["--version"]).fine(), format!("everpage {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_ends_with_64() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &[][..],
        &["serv"],
        &["serve", "--port", "80"],
        &["invalidate"],
        &["invalidate", "--all", "/a/"],
        &["invalidate", "/a/", "--admin-url", "127.0.0.1:8081"],
        &["invalidate", "/a/", "--admin-url", "http://127.0.0.1:8081/admin"],
        &["invalidate", "/a/", "--token-file", "missing"],
        &["explain"],
        &["explain", "-H", "no colon", "/"],
        &["warm"],
        &["warm", "http://a/", "--sitemap", "http://a/"],
        &["warm", "/a/"],
        &["warm", "/a/", "--host", "shop.example/"],
        &["warm", "ftp://shop.example/"],
        &["demo", "--admin", "0.0.0.0:0"],
    ] {
        let told = run(folder.path(), arguments).failed(64);
        assert!(!told.trim().is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_configuration_without_mistakes_is_summed_up() {
    let folder = tempfile::tempdir().unwrap();
    let told = run(folder.path(), &["check"]).fine();
    assert!(told.starts_with("no mistakes (no config.toml here"), "{told}");
    fs::write(folder.path().join("config.toml"), "[origin]\nurl = \"http://127.0.0.1:9\"\n").unwrap();
    let told = run(folder.path(), &["check"]).fine();
    assert!(told.starts_with("no mistakes (config.toml)\n"), "{told}");
    assert!(told.contains("origin  http://127.0.0.1:9\n"), "{told}");
}

#[test]
fn a_mistake_is_told_with_its_line_by_every_command_that_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.toml");
    fs::write(&path, "listen = \"127.0.0.1:8080\"\nhost = []\n").unwrap();
    for command in [&["check"][..], &["serve"], &["explain", "/"], &["status"], &["pages"], &["warm", "http://a/"]] {
        let told = run(folder.path(), &[command, &["--config", "shop.toml"]].concat()).failed(64);
        assert!(told.starts_with("shop.toml:2:1:"), "{told}");
        assert!(told.contains("\n  2 | host\n"), "{told}");
    }
}

#[test]
fn programs_get_the_mistakes_as_json() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.toml"), "listen = 80\n").unwrap();
    let ran = run(folder.path(), &["check", "--json"]);
    assert_eq!(ran.code, Some(64));
    let json: Json = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&json["valid"], &json["errors"][0]["key"]), (&false.into(), &"listen".into()));
    assert!(ran.err.starts_with("config.toml:1:10:"), "{}", ran.err);
}

#[test]
fn the_environment_goes_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("shop.toml"), "[origin]\nurl = \"http://127.0.0.1:9\"\n").unwrap();
    let mut command = everpage(folder.path(), &["check", "--json"]);
    command.env("EVERPAGE_CONFIG", "shop.toml").env("EVERPAGE_ORIGIN__URL", "http://127.0.0.1:10");
    let json: Json = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!(json["file"], "shop.toml");
    assert_eq!(json["config"]["origin"]["url"], "http://127.0.0.1:10");
}

#[test]
fn a_bucket_is_checked_without_asking_it_and_its_keys_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key"), "hunter2\n").unwrap();
    let text = "[store]\nkind = \"s3\"\n[store.s3]\naccess_key = \"hunter2\"\nsecret_key_file = \"key\"\n";
    fs::write(folder.path().join("config.toml"), text).unwrap();
    let told = run(folder.path(), &["check"]).failed(64);
    assert!(told.starts_with("config.toml:2:8: store.kind: there is no bucket\n"), "{told}");

    let check = |options: &[&str]| {
        let mut command = everpage(folder.path(), &[&["check"], options].concat());
        let output = command.env("EVERPAGE_STORE__S3__BUCKET", "shop-pages").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(check(&[]).contains("in the bucket shop-pages"), "{}", check(&[]));
    let json: Json = serde_json::from_str(&check(&["--json"])).unwrap();
    let s3 = &json["config"]["store"]["s3"];
    assert_eq!((&s3["bucket"], &s3["access_key"], &s3["secret_key"]), (&"shop-pages".into(), &"…".into(), &"…".into()));
    assert!(!json.to_string().contains("hunter2"));
}

#[test]
fn the_settings_that_the_readme_names_for_s3_exist_and_are_all_of_them() {
    let readme = include_str!("../../../README.md");
    let (_, section) = readme.split_once("### Coming from django-storages").expect("the table of old names");
    let (section, _) = section.split_once("\n## ").expect("another section");
    let (table, rest) = section.split_once("\nNew here:").expect("what is new");
    let columns = table.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split(" | ").nth(1));
    let named: BTreeSet<String> = columns.chain([rest]).flat_map(code_words).map(|name| qualified(&name)).collect();

    let folder = tempfile::tempdir().unwrap();
    let json: Json = serde_json::from_str(&run(folder.path(), &["check", "--json"]).fine()).unwrap();
    let shown = |name: &str| json.pointer(&format!("/config/{}", name.replace('.', "/"))).is_some();
    // What a secret's file holds is shown as the secret.
    let exists = |name: &String| shown(name) || name.strip_suffix("_file").is_some_and(shown);
    let wrong: Vec<&String> = named.iter().filter(|name| !exists(name)).collect();
    assert!(wrong.is_empty(), "no settings: {wrong:?}");

    let sections = ["object_parameters", "disk_cache"];
    let s3 = json.pointer("/config/store/s3").and_then(Json::as_object).unwrap();
    let keys = s3.keys().filter(|key| !sections.contains(&key.as_str())).map(|key| format!("store.s3.{key}"));
    let missing: Vec<String> = keys.filter(|key| !named.contains(key)).collect();
    assert!(missing.is_empty(), "not in the README: {missing:?}");
}

/// What stands between backticks, if it looks like the name of a setting.
fn code_words(text: &str) -> Vec<String> {
    let words = text.split('`').skip(1).step_by(2);
    let is_name = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte));
    words.filter(is_name).map(str::to_owned).collect()
}

/// With its section: those of S3 stand without it in the README.
fn qualified(name: &str) -> String {
    let is_whole = ["cache.", "cluster.", "store."].iter().any(|section| name.starts_with(section));
    if is_whole { name.to_owned() } else { format!("store.s3.{name}") }
}

#[test]
fn a_request_is_explained_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let told = run(folder.path(), &["explain", "http://shop.example/a/../b/?utm_source=x&q=1"]).fine();
    assert!(told.contains("GET http://shop.example/b/?q=1\n") && told.contains("\ndecision   look up\n"), "{told}");
    let told = run(folder.path(), &["explain", "/admin/"]).fine();
    assert!(told.contains("past the cache (ignored)") && told.contains("rule      ^/admin/"), "{told}");
    let told = run(folder.path(), &["explain", "--json", "-H", "Cookie: sessionid=1", "/"]).fine();
    let json: Json = serde_json::from_str(&told).unwrap();
    assert_eq!((&json["decision"], &json["reason"]), (&"bypass".into(), &"bypass-cookie".into()));
}
