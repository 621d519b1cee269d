//! What the operator's rules make of a request: ignored paths, queries, methods, flavors; and spellings that name the same page.

use everpage::config::{Config, QueryPolicy};
use http::{Method, StatusCode};

use crate::support::{Origin, Proxy, Reply, origin, proxy, raw, stored_files};

/// An origin that shows what it was asked for.
async fn echo() -> Origin {
    origin().otherwise(|asked| async move { Reply::new(asked.target) }).start().await
}

async fn site(change: impl FnOnce(&mut Config)) -> (Origin, Proxy) {
    let origin = echo().await;
    let proxy = proxy().origin(&origin).set(change).start().await;
    (origin, proxy)
}

/// Asks for a target as it stands, and returns `outcome`-telling Cache-Status.
async fn status_of(proxy: &Proxy, target: &[u8]) -> String {
    let request = [b"GET ", target, b" HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"].concat();
    let answer = raw(proxy.address, &request).await;
    answer.lines().find_map(|line| line.strip_prefix("cache-status: ")).unwrap_or(&answer).to_owned()
}

/// Every way to write `/admin/` that some server takes for it.
const SPELLINGS: [&str; 12] = [
    "/admin/",
    "/admin/?a=b",
    "/%61dmin/",
    "/%61%64min%2f",
    "//admin/",
    "///admin/x",
    "/x/../admin/",
    "/./admin/",
    "/x/%2e%2e/admin/",
    "/x/.%2E/admin/",
    "/\\admin/",
    "/x%5C..%5Cadmin/",
];

#[tokio::test]
async fn no_spelling_slips_past_an_ignore_rule() {
    let (origin, proxy) = site(|config| config.cache.ignore = vec!["^/admin/".into()]).await;
    for spelling in SPELLINGS {
        assert_eq!(status_of(&proxy, spelling.as_bytes()).await, "everpage; fwd=bypass; detail=ignored", "{spelling}");
        assert_eq!(origin.last().target, spelling, "it is passed on as it came");
    }
    assert_eq!(proxy.get("/the/admin/").await.outcome(), "miss");
    assert_eq!(proxy.get("/administration").await.outcome(), "miss");
}

#[tokio::test]
async fn a_rule_added_later_silences_what_is_stored() {
    let origin = echo().await;
    let none = |config: &mut Config| config.cache.ignore = vec![];
    let before = proxy().origin(&origin).set(none).start().await;
    for spelling in SPELLINGS {
        assert!(!status_of(&before, spelling.as_bytes()).await.contains("ignored"), "{spelling}");
    }
    let folder = before.stop().await;
    assert!(stored_files(&folder).len() > 3);
    let after = proxy().origin(&origin).folder(folder).set(|config| config.cache.ignore = vec!["/admin/".into()]);
    let after = after.start().await;
    for spelling in SPELLINGS {
        assert_eq!(status_of(&after, spelling.as_bytes()).await, "everpage; fwd=bypass; detail=ignored", "{spelling}");
    }
    let again = proxy().origin(&origin).folder(after.stop().await).set(none).start().await;
    assert_eq!(again.get("/admin/").await.outcome(), "hit", "it was silenced, not lost");
}

#[tokio::test]
async fn purge_is_any_other_method_until_somebody_may_send_it() {
    let (origin, off) = site(|_| {}).await;
    let purge = Method::from_bytes(b"PURGE").unwrap();
    let answer = off.ask(purge.clone(), "/x").send().await;
    assert_eq!((answer.cache_status(), answer.text()), ("everpage; fwd=method; detail=method", "/x"));
    assert_eq!(origin.last().method, purge);
    let foreign = |config: &mut Config| config.purge_from = vec!["10.0.0.0/8".parse().unwrap()];
    let (origin, foreign) = site(foreign).await;
    foreign.get("/").await;
    let answer = foreign.ask(purge.clone(), "/").send().await;
    assert_eq!((answer.status.as_u16(), answer.detail()), (403, Some("purge-forbidden")));
    assert_eq!(foreign.get("/").await.outcome(), "hit");
    let (own_origin, own) = site(|config| config.purge_from = vec!["127.0.0.0/8".parse().unwrap()]).await;
    own.get("/").await;
    assert_eq!(own.ask(purge, "/").send().await.status, 200);
    assert_eq!(own.get("/").await.outcome(), "miss");
    assert!(origin.asked().iter().chain(&own_origin.asked()).all(|asked| asked.method == Method::GET));
}

#[tokio::test]
async fn ignored_parameters_are_neither_in_the_key_nor_asked_for() {
    let (origin, proxy) = site(|_| {}).await;
    assert_eq!(proxy.get("/?utm_source=x&page=2&gclid=y&b").await.text(), "/?page=2&b");
    assert_eq!(proxy.get("/?page=2&b&utm_campaign=z").await.outcome(), "hit");
    assert_eq!(proxy.get("/?b&page=2").await.outcome(), "miss", "order counts");
    assert_eq!(proxy.get("/?fbclid=1").await.text(), "/");
    assert_eq!(proxy.get("/").await.outcome(), "hit");
    assert_eq!(origin.asked().len(), 3);
}

#[tokio::test]
async fn a_query_is_dropped_where_it_means_nothing() {
    let (origin, proxy) = site(|config| config.cache.query = QueryPolicy::Ignore).await;
    assert_eq!(proxy.get("/?page=2").await.text(), "/");
    assert_eq!(proxy.get("/?page=3").await.outcome(), "hit");
    assert_eq!(proxy.get("/").await.outcome(), "hit");
    assert_eq!(origin.asked().len(), 1);
}

#[tokio::test]
async fn a_query_goes_past_where_it_is_not_kept() {
    let (_origin, proxy) = site(|config| config.cache.query = QueryPolicy::Bypass).await;
    proxy.get("/").await;
    for _ in 0..2 {
        let answer = proxy.get("/?page=2&utm_source=x").await;
        assert_eq!(answer.cache_status(), "everpage; fwd=bypass; detail=query");
        assert_eq!(answer.text(), "/?page=2&utm_source=x", "whole");
    }
    assert_eq!(proxy.get("/?utm_source=x").await.outcome(), "hit");
}

#[tokio::test]
async fn a_visitors_reload_reaches_past_the_cache_only_where_that_is_allowed() {
    let reloads = [("cache-control", "no-cache"), ("cache-control", "max-age=0"), ("pragma", "no-cache")];
    for (allowed, outcome) in [(false, "hit"), (true, "bypass")] {
        let (origin, proxy) = site(|config| config.cache.honor_reload = allowed).await;
        proxy.get("/").await;
        for (name, value) in reloads {
            let answer = proxy.ask(Method::GET, "/").header(name, value).send().await;
            assert_eq!(answer.outcome(), outcome, "{name}: {value}");
            assert_eq!(answer.detail(), Some(if allowed { "reload" } else { "memory" }));
        }
        assert_eq!(origin.asked().len(), if allowed { 4 } else { 1 });
        assert_eq!(proxy.get("/").await.outcome(), "hit");
    }
}

#[tokio::test]
async fn a_method_that_is_not_kept_goes_past() {
    let (_origin, proxy) = site(|config| config.cache.methods = vec![Method::GET]).await;
    proxy.get("/").await;
    for _ in 0..2 {
        assert_eq!(proxy.head("/").await.cache_status(), "everpage; fwd=method; detail=method");
    }
    assert_eq!(proxy.get("/").await.outcome(), "hit");
}

#[tokio::test]
async fn flavors_and_versions_have_pages_of_their_own() {
    let origin = origin().counted("/").start().await;
    let mut folder = tempfile::TempDir::new().unwrap();
    let round: [(&str, u32, &str, &str); 6] = [
        ("", 1, "miss", "v1"),
        ("staging", 1, "miss", "v2"),
        ("", 2, "miss", "v3"),
        ("", 1, "hit", "v1"),
        ("staging", 1, "hit", "v2"),
        ("", 2, "hit", "v3"),
    ];
    for (flavor, version, outcome, text) in round {
        let change = |config: &mut Config| (config.cache.flavor, config.cache.version) = (flavor.into(), version);
        let proxy = proxy().origin(&origin).folder(folder).set(change).start().await;
        let answer = proxy.get("/").await;
        assert_eq!((answer.outcome(), answer.text()), (outcome, text), "{flavor} {version}");
        folder = proxy.stop().await;
    }
}

#[tokio::test]
async fn spellings_of_one_path_are_one_page() {
    let (origin, proxy) = site(|_| {}).await;
    let normal = "/eis/k%C3%A4se~a/";
    let spellings: [&[u8]; 7] = [
        "/eis/käse~a/".as_bytes(),
        b"/eis/k%C3%A4se~a/",
        b"/eis/k%c3%a4se%7ea/",
        b"/eis/k%c3%A4se%7Ea/",
        b"/%65is/k%C3%A4se~%61/",
        b"/x/../eis/./k%C3%A4se~a/",
        b"/eis/%2e%2e/eis/k%C3%A4se~a/",
    ];
    for (number, spelling) in spellings.into_iter().enumerate() {
        let status = status_of(&proxy, spelling).await;
        assert_eq!(status.contains("; hit"), number > 0, "{}: {status}", spelling.escape_ascii());
        assert_eq!(origin.last().target, normal);
    }
    assert_eq!(origin.asked().len(), 1);
    assert_eq!(proxy.get("//eis/k%C3%A4se~a/").await.outcome(), "miss", "doubled slashes stay");
}

#[tokio::test]
async fn a_path_that_cannot_be_normalised_is_passed_on_as_it_is() {
    let (origin, proxy) = site(|_| {}).await;
    for path in ["/%zz", "/a%", "/a%2", "/a%2F..%2Fb"] {
        for _ in 0..2 {
            let status = status_of(&proxy, path.as_bytes()).await;
            assert_eq!(status, "everpage; fwd=bypass; detail=malformed-path", "{path}");
            assert_eq!(origin.last().target, path);
        }
    }
}

#[tokio::test]
async fn only_the_statuses_named_are_kept() {
    let origin = origin()
        .otherwise(|asked| async move { Reply::new("x").status(asked.target[1..].parse().unwrap()) })
        .start()
        .await;
    let statuses = |config: &mut Config| {
        config.cache.statuses = vec![StatusCode::OK, StatusCode::MOVED_PERMANENTLY, StatusCode::NOT_FOUND];
    };
    let proxy = proxy().origin(&origin).set(statuses).start().await;
    for (status, outcome) in
        [(200, "hit"), (301, "hit"), (404, "hit"), (302, "refused"), (410, "refused"), (500, "refused")]
    {
        let path = format!("/{status}");
        proxy.get(&path).await;
        let answer = proxy.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.outcome()), (status, outcome));
    }
}

#[tokio::test]
async fn an_answer_that_has_no_body_by_its_nature_is_kept() {
    let origin = origin().otherwise(|_| async { Reply::new("").status(204) }).start().await;
    let change = |config: &mut Config| config.cache.statuses = vec![StatusCode::NO_CONTENT];
    let proxy = proxy().origin(&origin).set(change).start().await;
    for outcome in ["miss", "hit"] {
        let answer = proxy.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.outcome(), answer.complete), (204, outcome, true));
        assert_eq!(answer.header("content-length"), None, "RFC 9110, section 8.6");
    }
}

#[tokio::test]
async fn an_empty_page_is_kept_only_if_the_origin_means_it() {
    let origin = origin()
        .page("/meant", "")
        .otherwise(|_| async {
            let (reply, _feed) = Reply::fed();
            reply
        })
        .start()
        .await;
    let proxy = proxy().origin(&origin).start().await;
    for (path, second) in [("/meant", "hit"), ("/accident", "miss")] {
        for outcome in ["miss", second] {
            let answer = proxy.revisit(path).await;
            assert_eq!((answer.outcome(), answer.status.as_u16()), (outcome, 200), "{path}");
            assert_eq!((answer.text(), answer.complete), ("", true), "the visitor gets what the origin sent: {path}");
        }
    }
    assert_eq!(stored_files(&proxy.stop().await).len(), 1);
}

#[tokio::test]
async fn a_body_over_the_limit_reaches_the_visitor_and_is_not_kept() {
    let origin = origin()
        .page("/announced", "0123456789")
        .page("/just", "01234567")
        .otherwise(|_| async {
            let (reply, feed) = Reply::fed();
            ["0123", "4567", "89"].into_iter().for_each(|piece| feed.data(piece));
            reply
        })
        .start()
        .await;
    let proxy = proxy().origin(&origin).set(|config| config.cache.max_body = 8).start().await;
    for (path, body, second) in
        [("/announced", "0123456789", "refused"), ("/streamed", "0123456789", "miss"), ("/just", "01234567", "hit")]
    {
        proxy.get(path).await;
        let answer = proxy.revisit(path).await;
        assert_eq!((answer.text(), answer.outcome(), answer.complete), (body, second, true), "{path}");
    }
    assert_eq!(proxy.head("/announced").await.outcome(), "miss", "a head has no body");
    assert_eq!(stored_files(&proxy.stop().await).len(), 2);
}
