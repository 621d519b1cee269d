//! A site behind everpage on one node: cached forever, never stale.

use http::Method;

use crate::support::{Gate, Reply, origin, proxy};

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

/// Fails when `Handler::pass` sends an unsafe request in the visitor's own task.
#[tokio::test]
async fn a_post_invalidates_its_path_even_if_its_sender_has_left() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = origin()
        .route("/", move |asked| {
            let held = held.clone();
            async move {
                if asked.method == Method::POST {
                    held.pass().await;
                }
                Reply::new(format!("v{}", asked.number))
            }
        })
        .start()
        .await;
    let proxy = proxy().origin(&origin).start().await;
    assert_eq!(proxy.get("/").await.text(), "v1");
    let sender = tokio::spawn(proxy.ask(Method::POST, "/").body("x=1").open());
    gate.arrival().await;
    sender.abort();
    assert!(sender.await.unwrap_err().is_cancelled());
    gate.release();
    for _ in 0..1000 {
        if proxy.get("/").await.text() == "v3" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the old page is still served");
}
