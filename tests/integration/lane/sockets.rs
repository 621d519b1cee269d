//! What only hyper does, on connections that have had a hit before: tunnels, interim answers, uploads.

use crate::support::{Door, Proxy, Wire, proxy};

use super::line::get;

const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage";

/// A proxy before this app that has `/` at hand, and a visitor who has just got it by the lane.
async fn after_a_hit(app: &Door) -> (Proxy, Wire) {
    let proxy = proxy().origin_at(&app.url()).start().await;
    let fill = async {
        let mut origin = app.enter().await;
        origin.head().await;
        origin.send(PAGE).await;
        origin.finish().await;
    };
    let (answer, ()) = tokio::join!(proxy.get("/"), fill);
    assert_eq!(answer.outcome(), "miss");
    assert_eq!(proxy.revisit("/").await.outcome(), "hit");
    let mut visitor = Wire::asking(proxy.address, &get("/")).await;
    hit(&mut visitor).await;
    (proxy, visitor)
}

async fn hit(visitor: &mut Wire) {
    assert!(visitor.head().await.contains("; hit; detail=memory\r\n"));
    assert_eq!(visitor.exactly(4).await, b"page");
}

#[tokio::test]
async fn a_tunnel_after_a_hit_carries_what_looks_like_a_request_for_a_page_at_hand() {
    let app = Door::open().await;
    let (_proxy, mut visitor) = after_a_hit(&app).await;
    visitor.send("GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    let mut origin = app.enter().await;
    assert!(origin.head().await.starts_with("GET /chat "));
    origin.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    assert!(visitor.head().await.starts_with("HTTP/1.1 101 "));
    for _ in 0..2 {
        visitor.send(get("/")).await;
        assert_eq!(origin.exactly(get("/").len()).await, get("/").as_bytes());
    }
    origin.send("goodbye").await;
    origin.finish().await;
    visitor.finish().await;
    assert_eq!(visitor.rest().await, "goodbye");
}

#[tokio::test]
async fn an_upgrade_that_is_refused_ends_the_connection_though_a_hit_came_before() {
    let app = Door::open().await;
    let (_proxy, mut visitor) = after_a_hit(&app).await;
    visitor.send("GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    let mut origin = app.enter().await;
    origin.head().await;
    visitor.send(get("/")).await;
    origin.send(PAGE).await;
    let answer = visitor.rest().await;
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("\r\n\r\npage"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[tokio::test]
async fn early_hints_stand_between_the_hit_before_and_the_answer_that_they_are_for() {
    let app = Door::open().await;
    let (_proxy, mut visitor) = after_a_hit(&app).await;
    for target in ["/1", "/2"] {
        visitor.send(get(target)).await;
        let mut origin = app.enter().await;
        origin.head().await;
        origin.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
        assert_eq!(visitor.head().await, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
        origin.send(PAGE).await;
        origin.finish().await;
        assert!(visitor.until("page").await.starts_with("HTTP/1.1 200 OK\r\n"));
        visitor.send(get("/")).await;
        if !visitor.head().await.contains("; hit") {
            // The end of the chunks.
            hit(&mut visitor).await;
        } else {
            visitor.exactly(4).await;
        }
    }
}

#[tokio::test]
async fn an_upload_waits_for_leave_after_a_hit_and_the_next_hit_for_its_answer() {
    let app = Door::open().await;
    let (_proxy, mut visitor) = after_a_hit(&app).await;
    let head = "PUT /file HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 58\r\n\r\n";
    visitor.send(head).await;
    let mut origin = app.enter().await;
    assert!(origin.head().await.contains("expect: 100-continue\r\n"));
    origin.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert!(visitor.head().await.starts_with("HTTP/1.1 100 "));
    // A body that reads as if it were a request.
    let body = format!("{}{}", get("/"), "x".repeat(58 - get("/").len()));
    visitor.send(&body).await;
    assert_eq!(origin.exactly(58).await, body.as_bytes());
    visitor.send(get("/")).await;
    assert!(visitor.is_silent().await);
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept").await;
    assert!(visitor.until("kept").await.contains("detail=method\r\n"));
    hit(&mut visitor).await;
}
