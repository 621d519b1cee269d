use proptest::prelude::*;

use super::*;

fn normal(raw: &str) -> String {
    normalise(raw).unwrap().into_owned()
}

fn identity_of(raw: &str) -> String {
    String::from_utf8(identity(&normal(raw)).into_owned()).unwrap()
}

#[test]
fn a_normal_path_is_borrowed() {
    for raw in ["/", "/blog/", "//a", "/a.b/..c/.d", "/caf%C3%A9", "/a%2Fb", "/x;y=1,2:@!$&'()*+~", "/%25zz"] {
        assert!(matches!(normalise(raw), Ok(Cow::Borrowed(same)) if same == raw), "{raw}");
    }
}

#[test]
fn spellings_of_one_path_have_one_normal_form() {
    for (raw, expected) in [
        ("/%7euser/%61%2D", "/~user/a-"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/café", "/caf%C3%A9"),
        ("/a b\"<>^`{|}\\[]?#\u{7f}", "/a%20b%22%3C%3E%5E%60%7B%7C%7D%5C%5B%5D%3F%23%7F"),
        ("/%2565", "/%2565"),
        ("/a/./b/../c", "/a/c"),
        ("/a/%2e%2E/c/%2e", "/c/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("/a/..", "/"),
        ("/a//../b", "/a/b"),
        ("//..", "/"),
        ("/../..//a", "//a"),
    ] {
        assert_eq!(normal(raw), expected, "{raw}");
    }
}

#[test]
fn what_cannot_be_normalised_is_refused_by_name() {
    assert_eq!(normalise("blog/"), Err(PathError::NoLeadingSlash));
    assert_eq!(normalise(""), Err(PathError::NoLeadingSlash));
    for (raw, at) in [("/%zz", 1), ("/a%", 2), ("/a%2", 2), ("/%41%+1", 4), ("/%é1", 1)] {
        assert_eq!(normalise(raw), Err(PathError::BrokenTriplet { at }), "{raw}");
    }
}

#[test]
fn an_identity_is_what_an_app_sees() {
    assert_eq!(identity_of("/a%2Fb"), "/a/b");
    assert_eq!(identity_of("//a///b/"), "/a/b/");
    assert_eq!(identity_of("/a/x%2F..%2Fb"), "/a/b");
    assert_eq!(identity_of("/%2e%2e%2fa"), "/a");
    assert_eq!(identity_of("/a\\x%5c..%5Cb"), "/a/b");
    assert_ne!(path_id("/blog"), path_id("/blog/"));
    assert_eq!(path_id("/blog/a"), path_id("/blog%2Fa"));
    assert!(matches!(identity("/blog/"), Cow::Borrowed(b"/blog/")));
    assert_eq!(path_id("/").to_string(), "42099b4af021e53fd8fd4e056c2568d7c2e3ffa8");
}

#[test]
fn a_prefix_covers_by_segments() {
    let covers = |prefix: &str, page: &str| {
        let page = identity(page);
        ancestors(&page).any(|ancestor| ancestor == &*prefix_identity(prefix))
    };
    for prefix in ["/blog", "/blog/", "//blog//", "/blog%2F"] {
        for page in ["/blog", "/blog/", "/blog/a", "/blog/a/b/", "/blog%2Fa"] {
            assert!(covers(prefix, page), "{prefix} {page}");
        }
        for page in ["/", "/blogger", "/a/blog", "/blo"] {
            assert!(!covers(prefix, page), "{prefix} {page}");
        }
    }
    for page in ["/", "/blog", "//"] {
        assert!(covers("/", page), "{page}");
    }
    let listed: Vec<_> = ancestors(b"/blog/a/b/").collect();
    assert_eq!(listed, [&b""[..], b"/blog", b"/blog/a", b"/blog/a/b"]);
}

fn is_ignored(raw: &str) -> bool {
    any_form(raw, |form| form.starts_with("/admin/"))
}

#[test]
fn an_ignore_rule_sees_every_form() {
    for raw in [
        "/admin/",
        "/%61dmin/",
        "//admin/",
        "/x/../admin/",
        "/x//../admin/",
        "/x/..//admin/",
        "/x%2F..%2Fadmin%2f",
        "/a%2Fb/../admin/",
        "/a%2Fb/..//admin/",
        "/./admin/",
        "/x\\..\\admin\\",
        "/x%5c..%5Cadmin/",
        "/admin%2F%ff",
        "/%zz/../admin/",
    ] {
        assert!(is_ignored(raw), "{raw}");
    }
    for raw in ["/", "/admin", "/badmin/", "/x/admin/", "/%2561dmin/", "*", ""] {
        assert!(!is_ignored(raw), "{raw}");
    }
    for (raw, seen) in [
        ("/x%2F%2F..%2F%2Fa", "/x//..//a"),
        ("/x%2F%2F..%2F%2Fa", "/x//a"),
        ("/x%2F%2F..%2F%2Fa", "/x/a"),
        ("/x%2F%2F..%2F%2Fa", "/a"),
    ] {
        assert!(any_form(raw, |form| form == seen), "{raw} {seen}");
    }
    assert!(any_form("/caf%c3%a9", |form| form == "/café"));
    assert!(any_form("/café", |form| form == "/caf%C3%A9"));
}

#[test]
fn a_plain_path_has_one_form() {
    let mut forms = 0;
    any_form("/blog/2024/01/a.html", |_| {
        forms += 1;
        false
    });
    assert_eq!(forms, 1);
}

#[test]
fn a_page_is_named_by_path_or_url() {
    let shop = Some("shop.example".to_owned());
    assert_eq!(split_url("/a?b#c"), Ok((None, "/a")));
    assert_eq!(split_url("/a#b"), Ok((None, "/a")));
    assert_eq!(split_url("//a/b"), Ok((None, "//a/b")));
    assert_eq!(split_url("https://Shop.Example:443/a?b=/c"), Ok((shop.clone(), "/a")));
    assert_eq!(split_url("HTTP://shop.example?b"), Ok((shop, "/")));
    assert_eq!(split_url("blog/"), Err(PathError::NoLeadingSlash));
    assert_eq!(split_url("?a=http://b/"), Err(PathError::NoLeadingSlash));
    assert_eq!(split_url("ftp://shop.example/"), Err(PathError::ForeignScheme));
    assert_eq!(split_url("http:///a"), Err(PathError::Host(HostError::Empty)));
    assert_eq!(split_url("http://me@shop.example/"), Err(PathError::Host(HostError::Character)));
}

/// Spells bytes as a path: those whose flag is set, and those that may not stand there, as triplets of either case.
fn spelled(bytes: &[u8], flags: &[u8]) -> String {
    let mut raw = String::new();
    for (byte, flag) in bytes.iter().zip(flags.iter().cycle()) {
        let foreign = matches!(BYTES[usize::from(*byte)], Byte::Foreign | Byte::Percent);
        match flag % 3 {
            0 if !foreign => raw.push(char::from(*byte)),
            1 => raw.push_str(&format!("%{byte:02x}")),
            _ => raw.push_str(&format!("%{byte:02X}")),
        }
    }
    raw
}

fn flags() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..24)
}

/// Paths made of what matters: slashes, dots, backslashes, and their triplets.
fn crooked_path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "%2f", "%2F", ".", "..", "%2e", "\\", "%5C", "/../", "a", "%61", "admin", "admin/", "%61dmin/", "é",
        "%25", "%ff",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// What a WSGI app sees of the path that the origin is asked for, if slashes are merged and if they are not.
fn origin_views(raw: &str) -> [String; 2] {
    let decoded: Vec<u8> = percent_decode_str(&normal(raw)).collect();
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    let merged = decoded.split('/').filter(|segment| !segment.is_empty()).collect::<Vec<_>>().join("/");
    let slash = if decoded.ends_with('/') { "/" } else { "" };
    [format!("/{merged}{slash}"), decoded]
}

proptest! {
    #[test]
    fn the_normal_form_is_its_own_normal_form(raw in prop_oneof![crooked_path(), "/.{0,30}"]) {
        if let Ok(once) = normalise(&raw) {
            prop_assert!(matches!(normalise(&once), Ok(Cow::Borrowed(_))), "{raw} {once}");
        }
    }

    #[test]
    fn encoding_what_need_not_be_encoded_changes_nothing(segment in "[A-Za-z0-9._~-]{1,20}", flags in flags()) {
        let plain = format!("/x/{segment}");
        prop_assert_eq!(normal(&format!("/x/{}", spelled(segment.as_bytes(), &flags))), normal(&plain));
    }

    #[test]
    fn non_ascii_and_its_triplets_are_one_path(text in "[^/.]{0,20}", flags in flags()) {
        let encoded: String = text.bytes().map(|byte| spelled(&[byte], &[1])).collect();
        let raw = text.replace('%', "%25");
        prop_assert_eq!(path_id(&normal(&format!("/{raw}"))), path_id(&normal(&format!("/{encoded}"))));
        prop_assert_eq!(path_id(&normal(&format!("/{}", spelled(text.as_bytes(), &flags)))), path_id(&normal(&format!("/{encoded}"))));
    }

    #[test]
    fn one_invalidation_reaches_all_that_the_app_takes_for_one_path(
        bytes in prop::collection::vec(prop_oneof![Just(b'/'), any::<u8>()], 0..20), one in flags(), other in flags(),
    ) {
        // Dot segments that are sent as such are resolved before the app can see them.
        let resolved = without_dot_segments(&[b"/", &bytes[..]].concat());
        let (one, other) = (spelled(&resolved[1..], &one), spelled(&resolved[1..], &other));
        prop_assert_eq!(path_id(&normal(&format!("/{one}"))), path_id(&normal(&format!("/{other}"))));
    }

    #[test]
    fn doubled_slashes_do_not_hide_a_page(segments in prop::collection::vec("[a-z%]{1,3}", 1..5), extra in 1usize..4) {
        let encoded: Vec<_> = segments.iter().map(|segment| segment.replace('%', "%25")).collect();
        let one = normal(&format!("/{}", encoded.join("/")));
        let other = normal(&format!("/{}", encoded.join(&"/".repeat(extra))));
        prop_assert_eq!(path_id(&one), path_id(&other));
    }

    #[test]
    fn a_page_lies_below_its_own_prefix_and_the_root(raw in crooked_path()) {
        let page = normal(&raw);
        let page_identity = identity(&page);
        let all: Vec<_> = ancestors(&page_identity).collect();
        prop_assert_eq!(all[0], b"");
        prop_assert_eq!(*all.last().unwrap(), &*prefix_identity(&page));
        prop_assert!(all.windows(2).all(|pair| pair[1].starts_with(pair[0]) && pair[1][pair[0].len()] == b'/'));
    }

    #[test]
    fn no_spelling_of_an_ignored_path_slips_past(
        detour in prop::sample::select(vec!["", "/", "/.", "/x/..", "/x//../..", "//"]), times in 0usize..3, flags in flags(),
        page in "[a-z]{0,3}",
    ) {
        let path = format!("{}/admin/{page}", detour.repeat(times));
        let raw = format!("/{}", spelled(&path.as_bytes()[1..], &flags));
        prop_assert!(is_ignored(&raw), "{raw}");
    }

    #[test]
    fn an_ignore_rule_sees_what_the_origin_sees(raw in crooked_path()) {
        if origin_views(&raw).iter().any(|view| view.starts_with("/admin/")) {
            prop_assert!(is_ignored(&raw), "{raw}");
        }
    }
}
