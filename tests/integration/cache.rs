//! A site behind everpage on one node: cached forever, never stale.

use http::Method;

use crate::support::{origin, proxy};

#[tokio::test]
async fn a_page_is_fetched_once_and_then_served_from_memory() {
    let origin = origin().page("/", "hello").start().await;
    let proxy = proxy().origin(&origin).start().await;
    let first = proxy.get("/").await;
    assert_eq!((first.outcome(), first.text()), ("miss", "hello"));
    assert_eq!(first.cache_status(), "everpage; fwd=uri-miss; fwd-status=200; stored");
    let second = proxy.get("/").await;
    assert_eq!((second.outcome(), second.text()), ("hit", "hello"));
    assert_eq!(second.cache_status(), "everpage; hit; detail=memory");
    assert_eq!(origin.hits("/"), 1);
}

#[tokio::test]
async fn a_stored_get_answers_head_and_a_cold_head_is_kept_under_its_own_method() {
    let origin = origin().page("/", "hello").page("/cold", "hello").start().await;
    let proxy = proxy().origin(&origin).start().await;
    proxy.get("/").await;
    let head = proxy.head("/").await;
    assert_eq!((head.outcome(), head.header("content-length"), head.text()), ("hit", Some("5"), ""));
    assert_eq!(proxy.head("/cold").await.outcome(), "miss");
    let again = proxy.head("/cold").await;
    assert_eq!((again.outcome(), again.header("content-length")), ("hit", Some("5")));
    assert_eq!(origin.last().method, Method::HEAD);
    assert_eq!(proxy.get("/cold").await.outcome(), "miss");
}

#[tokio::test]
async fn pages_survive_a_restart() {
    let origin = origin().page("/", "hello").start().await;
    let first = proxy().origin(&origin).start().await;
    first.get("/").await;
    let folder = first.stop().await;
    let second = proxy().origin(&origin).folder(folder).start().await;
    let answer = second.get("/").await;
    assert_eq!(answer.cache_status(), "everpage; hit; detail=filesystem");
    assert_eq!(origin.hits("/"), 1);
}
