//! A site behind everpage on one node: cached forever, never stale.

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::support::{Gate, Reply, origin, proxy, raw_origin, raw_until_closed};

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

#[tokio::test]
async fn early_hints_reach_the_visitor_before_the_answer_on_a_miss_and_on_a_pass() {
    let address = raw_origin(|mut stream, _| async move {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        stream.write_all(hints.as_bytes()).await.unwrap();
        // The answer comes only when the visitor has said that the hints have arrived.
        HINTED.acquire().await.unwrap().forget();
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let proxy = proxy().origin_at(&format!("http://{address}")).start().await;
    for method in ["GET", "REPORT"] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let request = format!("{method} / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.unwrap();
        let hints = String::from_utf8_lossy(&buffer[..count]).into_owned();
        assert_eq!(hints, "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n");
        HINTED.add_permits(1);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    }
    let old = raw_until_closed(proxy.address, b"REPORT / HTTP/1.0\r\nHost: h\r\n\r\n");
    HINTED.add_permits(1);
    assert!(old.await.starts_with("HTTP/1.0 200"), "HTTP/1.0 knows no interim answers");
}

/// Fails when a HEAD that finds a GET renews it by a HEAD of its own.
#[tokio::test]
async fn a_head_that_finds_a_soft_page_has_the_page_itself_fetched_anew() {
    let gate = Gate::default();
    let origin = origin().gated("/", &gate).start().await;
    let proxy = proxy().origin(&origin).start().await;
    gate.release();
    proxy.get("/").await;
    proxy.invalidate(serde_json::json!({"paths": ["/"], "soft": true})).await;
    gate.arrival().await;
    assert_eq!(proxy.head("/").await.cache_status(), "everpage; hit; detail=soft");
    gate.arrival().await;
    assert_eq!(origin.last().method, Method::GET);
    gate.open();
    proxy.renewed("/", "v2").await;
}

static HINTED: Semaphore = Semaphore::const_new(0);
