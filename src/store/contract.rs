//! What must every store do? Each function is one sentence of the contract of [`Store`](super::Store) and takes an empty store.
//!
//! `store_contract!(fresh)` makes a test of each of them; `fresh` is an async function that returns an empty store of at
//! least 64 MiB, which keeps bodies of up to 8 MiB in memory, and whatever must live as long as it does. Bounds, locks and damage are each
//! implementation's own.

mod large;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use sha1::{Digest, Sha1};

pub use self::large::*;
use super::{Object, Place, Store};
use crate::clock::UnixMillis;
use crate::page::{JournalId, Key, METHODS, ObjectName, Page, PageHead, PathId, Sequence, Variants};

/// A test of each sentence of the contract, for the stores that `$fresh` makes.
#[doc(hidden)]
#[macro_export]
macro_rules! store_contract {
    ($fresh:expr) => {
        $crate::store_contract!(@each $fresh,
            an_absent_name_is_none,
            what_was_put_is_what_is_got,
            the_last_put_wins,
            a_page_takes_the_place_of_a_signpost_and_back,
            a_page_of_another_path_is_refused,
            remove_removes_what_lies_under_the_name_and_nothing_else,
            remove_older_removes_what_is_older_and_what_is_of_another_journal,
            remove_older_leaves_other_paths_alone,
            many_paths_are_cleared_as_one_after_the_other,
            pages_are_counted_by_path_and_host_signposts_left_out,
            under_a_path_are_its_pages_in_order_and_no_signposts,
            a_listing_has_each_page_once_and_in_order,
            a_listing_keeps_to_its_prefix,
            pages_that_come_and_go_do_not_disturb_a_listing,
            a_body_of_eight_mebibytes_comes_back,
            an_empty_body_comes_back,
            many_at_once_under_one_name_see_whole_objects,
            usage_follows_what_is_kept,
            every_method_has_a_name_of_its_own,
            a_healthy_store_is_ready,
            a_large_body_comes_back_in_pieces_and_in_ranges,
            a_large_body_outlives_its_replacement,
            a_large_page_is_listed_and_takes_the_place_of_a_small_one_and_back,
            a_large_body_that_breaks_off_is_not_kept,
        );
    };
    (@each $fresh:expr, $($sentence:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sentence() {
                let (store, _keep) = $fresh().await;
                $crate::store::contract::$sentence(store).await;
            }
        )+
    };
}

/// An empty store.
type Fresh = Arc<dyn Store>;

/// Why a call must succeed here.
const HEALTHY: &str = "a healthy store with room can do it";

/// A page of `shop.example`, sequence 5 of journal `j`, under the name that its path gives.
#[must_use]
pub fn page(path: &str, body: &[u8]) -> (ObjectName, Object) {
    page_as_of(path, "", body, "j", 5)
}

/// As [`page`], with a query that tells its siblings apart.
#[must_use]
pub fn page_as_of(path: &str, query: &str, body: &[u8], journal: &str, as_of: u64) -> (ObjectName, Object) {
    let name = name(Method::GET, path, query);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/html"));
    headers.append("link", HeaderValue::from_static("</a>"));
    headers.append("link", HeaderValue::from_static("</b>"));
    headers.insert("x-latin1", HeaderValue::from_bytes(b"caf\xe9").expect("a valid value"));
    let head = PageHead {
        method: Method::GET,
        host: "shop.example".into(),
        path: path.into(),
        query: (!query.is_empty()).then(|| query.into()),
        status: StatusCode::OK,
        headers: headers.into(),
        stored_at: UnixMillis(1_700_000_000_000),
        age_seconds: 7,
        fresh_seconds: Some(60),
        as_of: Sequence(as_of),
        journal: JournalId(journal.into()),
        tags: vec!["a".into(), "b".into()],
        varied_by: vec![(http::header::ACCEPT_LANGUAGE, "de".to_owned())],
    };
    let page = Page::new(head, Bytes::copy_from_slice(body), name.path);
    (name, Object::Page(Arc::new(page)))
}

/// A signpost, to lie under [`page`]'s name.
#[must_use]
pub fn signpost(path: &str, journal: &str, as_of: u64) -> Object {
    Object::Variants(Arc::new(Variants {
        fields: vec![http::header::ACCEPT_LANGUAGE],
        known: vec![Key([1; 20]), Key([2; 20])],
        host: "shop.example".into(),
        path: path.into(),
        as_of: Sequence(as_of),
        journal: JournalId(journal.into()),
    }))
}

/// The name of a page, as far as a store is concerned.
#[must_use]
pub fn name(method: Method, path: &str, query: &str) -> ObjectName {
    let key = Key(Sha1::digest(format!("{method} {path}?{query}")).into());
    ObjectName { path: PathId(Sha1::digest(path).into()), method, key }
}

/// Fails unless both are the same object.
///
/// # Panics
/// They are not.
pub fn assert_same(left: &Object, right: &Object) {
    match (left, right) {
        (Object::Page(left), Object::Page(right)) => {
            assert_eq!((&left.head, left.path_id), (&right.head, right.path_id));
            assert!(left.body == right.body, "the bodies of {} differ", left.head.path);
        }
        (Object::Variants(left), Object::Variants(right)) => assert_eq!(left, right),
        _ => panic!("one is a page, the other a signpost"),
    }
}

async fn put(store: &Fresh, (name, object): &(ObjectName, Object)) {
    store.put(name, object).await.expect(HEALTHY);
}

async fn get(store: &Fresh, name: &ObjectName) -> Option<Object> {
    store.get(name).await.expect(HEALTHY)
}

/// Names of a whole listing, taken in parts of `limit`; `between` runs after each part.
async fn list(store: &Fresh, prefix: &str, limit: usize, mut between: impl AsyncFnMut(usize)) -> Vec<ObjectName> {
    let (mut names, mut after) = (Vec::new(), None);
    for part in 0.. {
        let listing = store.list(prefix, after.as_ref(), limit).await.expect(HEALTHY);
        assert!(listing.pages.len() <= limit);
        for listed in listing.pages {
            assert!(listed.head.path.starts_with(prefix));
            names.push(listed.name);
        }
        let Some(next) = listing.next else { break };
        assert!(after.is_none_or(|after| after < next), "the listing goes forward");
        after = Some(next);
        between(part).await;
    }
    names
}

pub async fn an_absent_name_is_none(store: Fresh) {
    let (absent, _) = page("/absent/", b"");
    assert!(get(&store, &absent).await.is_none());
    put(&store, &page_as_of("/absent/", "q=1", b"a sibling", "j", 5)).await;
    assert!(get(&store, &absent).await.is_none());
}

pub async fn what_was_put_is_what_is_got(store: Fresh) {
    let (name, object) = page("/blog/", b"hello");
    put(&store, &(name.clone(), object.clone())).await;
    assert_same(&object, &get(&store, &name).await.expect("it was put"));
}

pub async fn the_last_put_wins(store: Fresh) {
    for body in ["first", "", "a much longer third one", "4"] {
        let (name, object) = page("/blog/", body.as_bytes());
        put(&store, &(name.clone(), object.clone())).await;
        assert_same(&object, &get(&store, &name).await.expect("it was put"));
    }
    if !store.is_remote() {
        assert_eq!(store.usage().objects, 1);
    }
}

pub async fn a_page_takes_the_place_of_a_signpost_and_back(store: Fresh) {
    let (name, page) = page("/blog/", b"hello");
    let signpost = signpost("/blog/", "j", 5);
    for object in [&page, &signpost, &page] {
        put(&store, &(name.clone(), object.clone())).await;
        assert_same(object, &get(&store, &name).await.expect("it was put"));
    }
}

pub async fn a_page_of_another_path_is_refused(store: Fresh) {
    let ((_, object), (elsewhere, _)) = (page("/blog/", b"hello"), page("/elsewhere/", b""));
    store.put(&elsewhere, &object).await.expect_err("invalidations of /blog/ would not find it");
    assert!(get(&store, &elsewhere).await.is_none());
}

pub async fn remove_removes_what_lies_under_the_name_and_nothing_else(store: Fresh) {
    let (going, staying) = (page("/going/", b"a"), page("/staying/", b"b"));
    for (name, object) in [&going, &staying] {
        store.put(name, object).await.expect(HEALTHY);
    }
    store.remove(&going.0).await.expect(HEALTHY);
    store.remove(&going.0).await.expect(HEALTHY);
    assert!(store.get(&going.0).await.expect(HEALTHY).is_none());
    assert!(store.get(&staying.0).await.expect(HEALTHY).is_some());
    assert!(store.under(&going.0.path).await.expect(HEALTHY).is_empty());
}

pub async fn remove_older_removes_what_is_older_and_what_is_of_another_journal(store: Fresh) {
    let older = [("q=1", "j", 4), ("q=2", "j", 0), ("q=3", "other", 4), ("q=4", "other", 9)];
    let newer = [("q=5", "j", 5), ("q=6", "j", 6), ("q=7", "j", u64::MAX)];
    for (query, journal, as_of) in older.into_iter().chain(newer) {
        put(&store, &page_as_of("/blog/", query, b"hello", journal, as_of)).await;
    }
    put(&store, &(name(Method::GET, "/blog/", "old signpost"), signpost("/blog/", "j", 4))).await;
    put(&store, &(name(Method::GET, "/blog/", "new signpost"), signpost("/blog/", "j", 5))).await;
    let path = name(Method::GET, "/blog/", "").path;
    let journal = JournalId("j".into());
    assert_eq!(store.remove_older(&path, &journal, Sequence(5)).await.expect(HEALTHY), 5);
    for (query, ..) in older.into_iter().chain([("old signpost", "j", 4)]) {
        assert!(get(&store, &name(Method::GET, "/blog/", query)).await.is_none(), "{query}");
    }
    for (query, ..) in newer.into_iter().chain([("new signpost", "j", 5)]) {
        assert!(get(&store, &name(Method::GET, "/blog/", query)).await.is_some(), "{query}");
    }
    assert_eq!(store.remove_older(&path, &journal, Sequence(5)).await.expect(HEALTHY), 0);
}

pub async fn remove_older_leaves_other_paths_alone(store: Fresh) {
    let (here, there) = (page("/blog/", b"hello"), page("/blog/1/", b"hello"));
    put(&store, &here).await;
    put(&store, &there).await;
    let journal = JournalId("j".into());
    assert_eq!(store.remove_older(&here.0.path, &journal, Sequence(9)).await.expect(HEALTHY), 1);
    assert!(get(&store, &here.0).await.is_none());
    assert!(get(&store, &there.0).await.is_some());
    let never = name(Method::GET, "/never/", "").path;
    assert_eq!(store.remove_older(&never, &journal, Sequence(9)).await.expect(HEALTHY), 0);
}

pub async fn pages_are_counted_by_path_and_host_signposts_left_out(store: Fresh) {
    let place = |path, host: Option<&str>| Place { path: name(Method::GET, path, "").path, host: host.map(Into::into) };
    let blog = || place("/blog/", None);
    if store.is_remote() {
        assert_eq!(store.pages_each(&[blog()]).await, None, "it would take a request for each");
        return;
    }
    assert_eq!(store.pages_each(&[blog()]).await, Some(vec![0]));
    put(&store, &page("/blog/1/", b"")).await;
    put(&store, &(name(Method::GET, "/blog/", "signpost"), signpost("/blog/", "j", 5))).await;
    for (query, expected) in [("q=1", 1), ("q=2", 2), ("q=2", 2), ("q=3", 3)] {
        put(&store, &page_as_of("/blog/", query, b"hello", "j", 5)).await;
        assert_eq!(store.pages_each(&[blog()]).await, Some(vec![expected]));
    }
    let Object::Page(page) = page("/", b"").1 else { unreachable!("a page was made") };
    let own = place("/blog/", Some(&page.head.host));
    let places = [place("/never/", None), own, place("/blog/", Some("other.example")), place("/blog/1/", None)];
    assert_eq!(store.pages_each(&places).await, Some(vec![0, 3, 0, 1]));
    store.remove_older(&blog().path, &JournalId("j".into()), Sequence(9)).await.expect(HEALTHY);
    assert_eq!(store.pages_each(&[blog(), place("/blog/1/", None)]).await, Some(vec![0, 1]));
    assert_eq!(store.pages_each(&[]).await, Some(Vec::new()));
}

pub async fn many_paths_are_cleared_as_one_after_the_other(store: Fresh) {
    for (path, query, as_of) in [("/a/", "", 4), ("/b/", "q=1", 4), ("/b/", "q=2", 5), ("/c/", "", 4)] {
        put(&store, &page_as_of(path, query, b"hello", "j", as_of)).await;
    }
    let paths = ["/b/", "/never/", "/a/"].map(|path| name(Method::GET, path, "").path);
    assert_eq!(store.remove_older_each(&paths, &JournalId("j".into()), Sequence(5)).await.expect(HEALTHY), 2);
    for (path, query, is_there) in [("/a/", "", false), ("/b/", "q=1", false), ("/b/", "q=2", true), ("/c/", "", true)]
    {
        assert_eq!(get(&store, &name(Method::GET, path, query)).await.is_some(), is_there, "{path}?{query}");
    }
    assert_eq!(store.remove_older_each(&[], &JournalId("j".into()), Sequence(5)).await.expect(HEALTHY), 0);
}

pub async fn under_a_path_are_its_pages_in_order_and_no_signposts(store: Fresh) {
    let path = name(Method::GET, "/blog/", "").path;
    assert!(store.under(&path).await.expect(HEALTHY).is_empty());
    let mut expected = BTreeSet::new();
    for query in ["q=1", "q=2", "q=3"] {
        let page = page_as_of("/blog/", query, query.as_bytes(), "j", 5);
        put(&store, &page).await;
        expected.insert(page.0);
    }
    put(&store, &(name(Method::GET, "/blog/", "signpost"), signpost("/blog/", "j", 5))).await;
    put(&store, &page("/blog/1/", b"another path")).await;
    let pages = store.under(&path).await.expect(HEALTHY);
    assert!(pages.iter().all(|listed| &*listed.head.path == "/blog/" && listed.body_bytes == 3));
    let names: Vec<ObjectName> = pages.into_iter().map(|listed| listed.name).collect();
    assert_eq!(names, expected.into_iter().collect::<Vec<_>>());
}

pub async fn a_listing_has_each_page_once_and_in_order(store: Fresh) {
    let mut expected = BTreeSet::new();
    for n in 0..20 {
        for query in ["q=1", "q=2", "q=3"] {
            let page = page_as_of(&format!("/{n}/"), query, b"hello", "j", 5);
            put(&store, &page).await;
            expected.insert(page.0);
        }
        put(&store, &(name(Method::GET, &format!("/{n}/"), "signpost"), signpost(&format!("/{n}/"), "j", 5))).await;
    }
    let expected: Vec<ObjectName> = expected.into_iter().collect();
    for limit in [1, 3, 7, 60, 1000] {
        assert_eq!(list(&store, "/", limit, async |_| ()).await, expected, "in parts of {limit}");
    }
}

pub async fn a_listing_keeps_to_its_prefix(store: Fresh) {
    for path in ["/blog", "/blog/", "/blog/1/", "/blogger/", "/", "/shop/blog/"] {
        put(&store, &page(path, b"hello")).await;
    }
    for (prefix, expected) in [("/blog/", 2), ("/blog", 4), ("/", 6), ("/nothing/", 0), ("", 6)] {
        assert_eq!(list(&store, prefix, 4, async |_| ()).await.len(), expected, "{prefix}");
    }
    let listing = store.list("/blog/1/", None, 10).await.expect(HEALTHY);
    let [listed] = &listing.pages[..] else { panic!("one page: {listing:?}") };
    let (expected, Object::Page(page)) = page("/blog/1/", b"hello") else { panic!("a page") };
    assert_eq!((&listed.name, &listed.head, listed.body_bytes), (&expected, &page.head, 5));
}

pub async fn pages_that_come_and_go_do_not_disturb_a_listing(store: Fresh) {
    let mut lasting = Vec::new();
    for n in 0..40 {
        let page = page(&format!("/lasting/{n}/"), b"hello");
        put(&store, &page).await;
        lasting.push(page.0);
        put(&store, &self::page(&format!("/going/{n}/"), b"hello")).await;
    }
    lasting.sort();
    let listed = list(&store, "/", 7, async |part| {
        for n in 0..5 {
            put(&store, &page(&format!("/coming/{part}/{n}/"), b"hello")).await;
            let going = name(Method::GET, &format!("/going/{}/", part * 5 + n), "").path;
            store.remove_older(&going, &JournalId("j".into()), Sequence(9)).await.expect(HEALTHY);
        }
    })
    .await;
    assert!(listed.is_sorted_by(|left, right| left < right), "each once, in order");
    let of_lasting: Vec<_> = listed.into_iter().filter(|name| lasting.binary_search(name).is_ok()).collect();
    assert_eq!(of_lasting, lasting);
}

pub async fn a_body_of_eight_mebibytes_comes_back(store: Fresh) {
    let body: Vec<u8> = (0..8_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (name, object) = page("/large/", &body);
    put(&store, &(name.clone(), object.clone())).await;
    assert_same(&object, &get(&store, &name).await.expect("it was put"));
}

pub async fn an_empty_body_comes_back(store: Fresh) {
    let (name, object) = page("/empty/", b"");
    put(&store, &(name.clone(), object.clone())).await;
    assert_same(&object, &get(&store, &name).await.expect("it was put"));
}

pub async fn many_at_once_under_one_name_see_whole_objects(store: Fresh) {
    let (name, first) = page("/blog/", &[0; 1]);
    put(&store, &(name.clone(), first)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 1..=16_u8 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..8 {
                put(&store, &page("/blog/", &vec![writer; usize::from(writer) * 1000])).await;
            }
        });
    }
    for _ in 0..16 {
        let (store, name) = (store.clone(), name.clone());
        tasks.spawn(async move {
            for _ in 0..16 {
                let Some(Object::Page(page)) = get(&store, &name).await else { panic!("it was put and never removed") };
                let writer = page.body[0];
                assert_eq!(page.body.len(), usize::from(writer).max(1) * if writer == 0 { 1 } else { 1000 });
                assert!(page.body.iter().all(|byte| *byte == writer), "a mix of two pages");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no task panics");
    }
}

pub async fn usage_follows_what_is_kept(store: Fresh) {
    if store.is_remote() {
        // Counting costs requests: its sweeper tells it what it has seen.
        assert!(!store.usage().exact);
        return;
    }
    let before = store.usage();
    assert_eq!((before.objects, before.bytes), (0, 0));
    let pages = [page("/1/", &[0; 50_000]), page("/2/", &[0; 50_000])];
    for page in &pages {
        put(&store, page).await;
        put(&store, page).await;
    }
    let full = store.usage();
    assert_eq!(full.objects, 2);
    assert!((100_000..120_000).contains(&full.bytes), "{full:?}");
    put(&store, &page("/1/", b"small")).await;
    let less = store.usage();
    assert!((50_000..60_000).contains(&less.bytes), "{less:?}");
    store.remove_older(&pages[1].0.path, &JournalId("j".into()), Sequence(9)).await.expect(HEALTHY);
    assert_eq!(store.usage().objects, 1);
}

pub async fn every_method_has_a_name_of_its_own(store: Fresh) {
    let mut objects = Vec::new();
    for method in &METHODS {
        let (_, Object::Page(page)) = page("/blog/", method.as_str().as_bytes()) else { panic!("a page") };
        let head = PageHead { method: method.clone(), ..page.head.clone() };
        // One key for all: the method alone tells them apart.
        let name = ObjectName { method: method.clone(), ..name(Method::GET, "/blog/", "") };
        let object = Object::Page(Arc::new(Page::new(head, page.body.clone(), name.path)));
        put(&store, &(name.clone(), object.clone())).await;
        objects.push((name, object));
    }
    for (name, object) in &objects {
        assert_same(object, &get(&store, name).await.expect("it was put"));
    }
    assert_eq!(list(&store, "/", 2, async |_| ()).await.len(), METHODS.len());
}

pub async fn a_healthy_store_is_ready(store: Fresh) {
    store.check().await.expect(HEALTHY);
}
