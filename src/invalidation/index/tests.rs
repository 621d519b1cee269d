//! The index as those who ask and those who invalidate see it.

use std::sync::Arc;

use super::*;

fn record() -> Record {
    Record::default()
}

fn target(host: Option<&str>, path: &str) -> Target {
    Target { host: host.map(Arc::from), path: path.into() }
}

fn newest(index: &Index, host: &str, path: &str, tags: &[&str]) -> u64 {
    let tags: Vec<Arc<str>> = tags.iter().map(|tag| Arc::from(*tag)).collect();
    let path_id = path::path_id(path);
    let restored = Index::from_bytes(&index.to_bytes()).unwrap().0;
    let subject = Subject { host, path, path_id: &path_id, tags: &tags };
    assert_eq!(restored.newest(&subject), index.newest(&subject), "a snapshot says the same");
    index.newest(&subject).hard.0
}

#[test]
fn a_path_names_itself_on_every_host() {
    let mut index = Index::default();
    index.apply(Sequence(3), &Record { paths: vec![target(None, "/blog/")], ..record() });
    assert_eq!(newest(&index, "a", "/blog/", &[]), 3);
    assert_eq!(newest(&index, "b", "/blog/", &[]), 3);
    assert_eq!(newest(&index, "a", "/blog", &[]), 0);
    assert_eq!(newest(&index, "a", "/blog/x", &[]), 0);
}

#[test]
fn a_path_of_a_host_spares_the_others() {
    let mut index = Index::default();
    index.apply(Sequence(3), &Record { paths: vec![target(Some("a"), "/blog/")], ..record() });
    assert_eq!(newest(&index, "a", "/blog/", &[]), 3);
    assert_eq!(newest(&index, "b", "/blog/", &[]), 0);
}

#[test]
fn a_prefix_goes_by_segments() {
    let mut index = Index::default();
    index.apply(Sequence(5), &Record { prefixes: vec![target(None, "/blog/")], ..record() });
    for path in ["/blog", "/blog/", "/blog/a", "/blog/a/b/", "/%62log/a", "//blog/a"] {
        assert_eq!(newest(&index, "a", path, &[]), 5, "{path}");
    }
    assert_eq!(newest(&index, "a", "/blogger", &[]), 0);
    index.apply(Sequence(6), &Record { prefixes: vec![target(None, "/")], ..record() });
    assert_eq!(newest(&index, "a", "/blogger", &[]), 6);
}

#[test]
fn tags_hosts_and_all_reach_what_carries_them() {
    let mut index = Index::default();
    index.apply(Sequence(1), &Record { tags: vec!["t".into()], ..record() });
    assert_eq!(newest(&index, "a", "/", &["s", "t"]), 1);
    assert_eq!(newest(&index, "a", "/", &["s"]), 0);
    index.apply(Sequence(2), &Record { tags: vec!["s".into()], host: Some("a".into()), ..record() });
    assert_eq!(newest(&index, "a", "/", &["s"]), 2);
    assert_eq!(newest(&index, "b", "/", &["s"]), 0);
    index.apply(Sequence(3), &Record { all: true, host: Some("b".into()), ..record() });
    assert_eq!(newest(&index, "b", "/", &[]), 3);
    assert_eq!(newest(&index, "a", "/", &[]), 0);
    index.apply(Sequence(4), &Record { all: true, ..record() });
    assert_eq!(newest(&index, "a", "/", &[]), 4);
}

#[test]
fn an_older_record_never_takes_back_a_newer_one() {
    let mut index = Index::default();
    index.apply(Sequence(9), &Record { paths: vec![target(None, "/")], ..record() });
    index.apply(Sequence(4), &Record { paths: vec![target(None, "/")], ..record() });
    assert_eq!(newest(&index, "a", "/", &[]), 9);
}

#[test]
fn soft_and_hard_are_told_apart() {
    let mut index = Index::default();
    index.apply(Sequence(2), &Record { paths: vec![target(None, "/")], soft: true, ..record() });
    let path_id = path::path_id("/");
    let subject = Subject { host: "a", path: "/", path_id: &path_id, tags: &[] };
    assert_eq!(index.newest(&subject), Newest { hard: Sequence(0), soft: Sequence(2) });
}

#[test]
fn a_path_is_asked_for_without_its_host_and_never_too_little_is_said() {
    let restored = |index: &Index| Index::from_bytes(&index.to_bytes()).unwrap().0;
    let (shop, blog) = (path::path_id("/shop/"), path::path_id("/blog/"));
    let mut index = Index::default();
    index.apply(Sequence(3), &Record { paths: vec![target(None, "/blog/")], ..record() });
    for index in [&index, &restored(&index)] {
        assert!(index.may_name_since(&blog, Sequence(2)));
        assert!(!index.may_name_since(&blog, Sequence(3)));
        assert!(!index.may_name_since(&shop, Sequence(0)));
    }
    let wide = [
        Record { paths: vec![target(Some("a"), "/x/")], ..record() },
        Record { prefixes: vec![target(None, "/x/")], ..record() },
        Record { tags: vec!["t".into()], ..record() },
        Record { all: true, ..record() },
        Record { all: true, host: Some("a".into()), ..record() },
    ];
    for (sequence, record) in (4..).zip(wide) {
        index.apply(Sequence(sequence), &record);
        for index in [&index, &restored(&index)] {
            assert!(index.may_name_since(&shop, Sequence(sequence - 1)), "{record:?}");
            assert!(!index.may_name_since(&shop, Sequence(sequence)), "{record:?}");
        }
    }
}

#[test]
fn each_of_many_names_is_found_again_and_no_other() {
    let path = |number: u64| format!("/page-{number}/");
    let mut index = Index::default();
    for number in 1..=5000 {
        index.apply(Sequence(number), &Record { paths: vec![target(None, &path(number))], ..record() });
    }
    let bytes = index.to_bytes();
    let (restored, rest) = Index::from_bytes(&bytes).unwrap();
    assert!(rest.is_empty());
    for index in [&index, &restored] {
        assert_eq!(index.len(), 5000);
        for number in 1..=6000 {
            let (path, newest) = (path(number), if number > 5000 { 0 } else { number });
            let subject = Subject { host: "a", path: &path, path_id: &path::path_id(&path), tags: &[] };
            assert_eq!(index.newest(&subject).hard.0, newest);
        }
    }
}

#[test]
fn foreign_bytes_are_refused() {
    assert!(Index::from_bytes(b"").is_none());
    assert!(Index::from_bytes(&[255; 80]).is_none());
    let mut bytes = Index::default().to_bytes();
    assert!(Index::from_bytes(&bytes).is_some());
    bytes[16] = 1 << 5;
    assert!(Index::from_bytes(&bytes).is_none(), "nobody knows what names of this kind name");
}
