use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn read(body: &serde_json::Value) -> Request {
    parse(body.to_string().as_bytes(), NOW).unwrap()
}

/// The stable name of the mistake, and its explanation.
fn refused(body: &serde_json::Value) -> (&'static str, String) {
    refused_bytes(body.to_string().as_bytes())
}

fn refused_bytes(body: &[u8]) -> (&'static str, String) {
    let error = parse(body, NOW).unwrap_err();
    (error.error, error.detail)
}

fn everywhere(path: &str) -> Target {
    Target { host: None, path: path.into() }
}

fn at(host: &str, path: &str) -> Target {
    Target { host: Some(host.into()), path: path.into() }
}

#[test]
fn the_full_object_is_understood() {
    let request = read(&json!({
        "paths": ["/ice-cream/"], "prefixes": ["/blog/"], "tags": ["flavor-7"], "all": true, "refresh": true,
        "soft": true, "dry_run": true, "reason": "IceCream 7 saved", "id": "save-7"
    }));
    let record = Record {
        at: NOW,
        id: Some("save-7".into()),
        paths: vec![everywhere("/ice-cream/")],
        prefixes: vec![everywhere("/blog")],
        tags: vec!["flavor-7".into()],
        all: true,
        host: None,
        soft: true,
        reason: Some("IceCream 7 saved".into()),
    };
    assert_eq!(request, Request { record, refresh: true, dry_run: true, named: vec!["/ice-cream/".into()] });
}

#[test]
fn a_bare_array_holds_paths() {
    let request = read(&json!(["/a", "/b/"]));
    assert_eq!(request.record.paths, [everywhere("/a"), everywhere("/b/")]);
    assert_eq!(request.named, ["/a", "/b/"]);
}

#[test]
fn an_empty_list_is_fine_and_does_nothing() {
    for body in
        [json!([]), json!({"paths": []}), json!({"tags": [], "all": false}), json!({"type": "uri", "selectors": []})]
    {
        assert!(read(&body).is_empty(), "{body}");
    }
    for body in [json!(["/"]), json!({"prefixes": ["/"]}), json!({"tags": ["t"]}), json!({"all": true})] {
        assert!(!read(&body).is_empty(), "{body}");
    }
}

#[test]
fn an_object_that_names_nothing_is_refused() {
    for body in [json!({}), json!({"host": "shop.example", "refresh": true})] {
        assert_eq!(refused(&body).0, "no-selector", "{body}");
    }
}

#[test]
fn a_url_stands_for_the_page_of_its_host() {
    let request = read(&json!(["https://Shop.Example:443/ice?page=2#top", "https://shop.example?x", "/ice?page=3"]));
    assert_eq!(request.record.paths, [at("shop.example", "/ice"), at("shop.example", "/"), everywhere("/ice")]);
}

#[test]
fn a_host_narrows_whatever_has_none_of_its_own() {
    let request = read(&json!({
        "host": "Shop.Example", "paths": ["/a", "http://other.example/a"], "prefixes": ["/b"], "tags": ["t"]
    }));
    assert_eq!(request.record.paths, [at("shop.example", "/a"), at("other.example", "/a")]);
    assert_eq!(request.record.prefixes, [at("shop.example", "/b")]);
    assert_eq!(request.record.host.as_deref(), Some("shop.example"));
}

#[test]
fn the_default_port_of_a_host_is_dropped() {
    for (written, meant) in
        [("a.example:443", "a.example"), ("a.example:80", "a.example"), ("a.example:81", "a.example:81")]
    {
        assert_eq!(read(&json!({"all": true, "host": written})).record.host.as_deref(), Some(meant));
    }
}

#[test]
fn repetitions_are_merged_after_normalising() {
    let request = read(&json!({
        "paths": ["/%61", "/a", "/b", "/a?x"], "prefixes": ["/blog", "/blog/"], "tags": ["t", "u", "t"]
    }));
    assert_eq!(request.record.paths, [everywhere("/a"), everywhere("/b")]);
    assert_eq!(request.named, ["/%61", "/b"], "aligned with the paths, as first written");
    assert_eq!(request.record.prefixes, [everywhere("/blog")]);
    assert_eq!(request.record.tags, ["t".into(), "u".into()]);
}

#[test]
fn a_prefix_loses_one_slash_at_its_end_and_the_root_keeps_its_own() {
    for (written, kept) in
        [("/", "/"), ("/blog", "/blog"), ("/blog/", "/blog"), ("/blog//", "/blog/"), ("/a/b/?q", "/a/b")]
    {
        assert_eq!(read(&json!({"prefixes": [written]})).record.prefixes, [everywhere(kept)], "{written}");
    }
}

#[test]
fn the_event_of_the_draft_is_understood() {
    let uri = read(&json!({"type": "uri", "selectors": ["https://a.example/x"], "purge": true, "new-member": {}}));
    assert_eq!(uri.record.paths, [at("a.example", "/x")]);
    assert_eq!(uri.named, ["https://a.example/x"]);
    let prefix = read(&json!({"type": "uri-prefix", "selectors": ["https://a.example/x/"], "dry_run": true}));
    assert_eq!(prefix.record.prefixes, [at("a.example", "/x")]);
    assert!(prefix.dry_run);
    let origin = read(&json!({"type": "origin", "selectors": ["https://a.example:443", "http://b.example:8080"]}));
    assert_eq!(origin.record.prefixes, [at("a.example", "/"), at("b.example:8080", "/")]);
}

#[test]
fn groups_belong_to_the_origin_they_are_given_with() {
    let one = read(&json!({"type": "group", "selectors": ["https://a.example:443"], "groups": ["scripts"]}));
    assert_eq!(one.record.tags, ["scripts".into()]);
    assert_eq!(one.record.host.as_deref(), Some("a.example"));
    let two = read(&json!({
        "type": "group", "selectors": ["https://a.example:443", "https://b.example:443"], "groups": ["scripts"]
    }));
    assert_eq!(two.record.host, None, "every host: more than was asked for, never less");
    let none = read(&json!({"type": "group", "selectors": ["scripts", "styles"]}));
    assert_eq!(none.record.tags, ["scripts".into(), "styles".into()]);
    let (error, detail) = refused(&json!({"type": "group", "selectors": ["https://a.example:443"]}));
    assert_eq!(error, "no-selector");
    assert!(detail.contains("`groups` is missing"), "{detail}");
}

#[test]
fn each_mistake_is_named_with_its_place_and_the_right_way() {
    let cases = [
        (json!("/blog/"), "not-a-request", "[\"/blog/\"]"),
        (json!({"paths": "/blog/"}), "not-a-list", "\"paths\": [\"/blog/\"]"),
        (json!({"tags": null}), "not-a-list", "`tags` is null"),
        (json!({"paths": ["/a", "/b", "/c", 7]}), "not-a-string", "paths[3] is a number"),
        (json!(["/a", ["/b"]]), "not-a-string", "[1] is a list"),
        (json!({"all": "yes"}), "not-a-boolean", "`all` is a string"),
        (json!({"paths": [], "host": 7}), "not-a-string", "`host` is a number"),
        (json!({"path": ["/a"]}), "unknown-key", "did you mean `paths`?"),
        (json!({"paths": [], "dry-run": true}), "unknown-key", "did you mean `dry_run`?"),
        (json!({"paths": [], "colour": 1}), "unknown-key", "known are paths, prefixes"),
        (json!({"paths": ["/a", "blog/"]}), "bad-path", "write \"/blog/\""),
        (json!({"prefixes": ["/%zz"]}), "bad-path", "prefixes[0] is \"/%zz\""),
        (json!([""]), "bad-path", "[0] is \"\""),
        (json!({"all": true, "host": "a b"}), "bad-host", "\"shop.example\""),
        (json!({"tags": ["t", ""]}), "bad-tag", "tags[1] is empty"),
        (json!({"tags": ["t".repeat(1025)]}), "bad-tag", "tags[0] has 1025 bytes"),
        (json!({"all": true, "id": ""}), "bad-id", "1 to 128"),
        (json!({"all": true, "id": "i".repeat(129)}), "bad-id", "1 to 128"),
        (json!({"all": true, "id": "a\u{7f}b"}), "bad-id", "control"),
        (json!({"all": true, "reason": "r".repeat(1025)}), "bad-reason", "1025 bytes"),
        (json!({"type": "uri", "selectors": [], "paths": []}), "mixed-forms", "`paths`"),
        (json!({"type": "url", "selectors": []}), "unknown-type", "\"url\" is none of uri"),
        (json!({"selectors": []}), "no-selector", "`type` is missing"),
        (json!({"type": "uri"}), "no-selector", "`selectors` is missing"),
        (json!({"type": "origin", "selectors": ["https://a.example/x"]}), "bad-host", "selectors[0]"),
    ];
    for (body, name, explained) in cases {
        let (error, detail) = refused(&body);
        assert_eq!(error, name, "{body}: {detail}");
        assert!(detail.contains(explained), "{body}: {detail}");
    }
}

#[test]
fn what_is_not_json_is_refused_with_line_and_column() {
    for body in ["", "{", "{\"paths\": [\"/a\",\n}", "[\"/a\"] trailing", "\u{feff}[]"] {
        let (error, detail) = refused_bytes(body.as_bytes());
        assert_eq!(error, "not-json", "{body:?}");
        assert!(detail.contains("line") && detail.contains("column"), "{detail}");
    }
    assert_eq!(refused_bytes(b"[\"\xff\"]").0, "not-json");
}

#[test]
fn a_key_given_twice_is_refused_so_that_neither_value_is_lost() {
    let (error, detail) = refused_bytes(br#"{"paths": ["/a"], "paths": ["/b"]}"#);
    assert_eq!(error, "duplicate-key");
    assert!(detail.contains("\"paths\""), "{detail}");
}

#[test]
fn the_number_of_selectors_and_keys_has_a_bound() {
    let paths = |count: usize| (0..count).map(|n| format!("/{n}")).collect::<Vec<_>>();
    assert_eq!(read(&json!(paths(MAX_SELECTORS))).record.paths.len(), MAX_SELECTORS);
    assert_eq!(refused(&json!(paths(MAX_SELECTORS + 2))).0, "too-many-selectors");
    assert_eq!(refused(&json!({"paths": paths(MAX_SELECTORS), "tags": ["one more"]})).0, "too-many-selectors");
    let keys: serde_json::Map<_, _> = (0..40).map(|n| (n.to_string(), json!(n))).collect();
    assert_eq!(refused(&keys.into()).0, "too-many-keys");
}

#[test]
fn a_long_value_is_cut_short_in_the_message() {
    let (_, detail) = refused(&json!(["x".repeat(100_000)]));
    assert!(detail.len() < 400, "{}", detail.len());
}

#[test]
fn what_does_not_fit_is_skipped_and_not_kept() {
    let deep = format!("[{}1{}]", "[".repeat(100), "]".repeat(100));
    assert_eq!(refused_bytes(deep.as_bytes()).0, "not-a-string");
    assert_eq!(refused(&json!({"paths": {"a": ["b"]}})).0, "not-a-list");
}

/// JSON that often looks like a request.
fn bodies() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof!["/[a-c%6/.?#]{0,8}", "https?://[a-z.:0-9]{0,10}(/[a-z]{0,4})?", ".{0,12}"];
    let leaf = prop_oneof![
        text.clone().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    let texts = prop::collection::vec(text, 0..4).prop_map(serde_json::Value::from);
    let value = prop_oneof![4 => texts.clone(), 2 => leaf.clone(), 1 => prop::collection::vec(leaf, 0..3).prop_map(serde_json::Value::from)];
    let key = prop::sample::select(vec![
        "paths",
        "prefixes",
        "tags",
        "host",
        "all",
        "id",
        "reason",
        "soft",
        "type",
        "selectors",
        "x",
    ]);
    let object = prop::collection::hash_map(key.prop_map(str::to_owned), value.clone(), 0..4);
    prop_oneof![
        3 => object.prop_map(|members| members.into_iter().collect()),
        2 => texts,
        1 => value,
    ]
}

proptest! {
    #[test]
    fn whatever_is_understood_survives_the_journal(body in bodies()) {
        if let Ok(request) = parse(body.to_string().as_bytes(), NOW) {
            let json = serde_json::to_vec(&request.record).unwrap();
            prop_assert!(!json.contains(&b'\n'));
            prop_assert_eq!(&serde_json::from_slice::<Record>(&json).unwrap(), &request.record);
            prop_assert_eq!(request.named.len(), request.record.paths.len());
            let targets = request.record.paths.iter().chain(&request.record.prefixes);
            for target in targets {
                prop_assert!(!target.path.contains(['?', '#']));
                prop_assert_eq!(normalise(&target.path).unwrap(), &*target.path, "a path is in its normal form");
                let host = target.host.as_deref().unwrap_or("shop.example");
                prop_assert_eq!(normalise_host(host).unwrap(), host, "a host is in its normal form");
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&body, NOW);
    }
}
