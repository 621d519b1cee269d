//! HTTP between three parties: methods, versions, targets, and the fields that are for one hop only.

use std::time::Duration;

use http::Method;

use crate::support::{Asked, Door, HOST, Reply, Wire, canned, origin, proxy, raw, raw_until_closed};

const ONCE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce";

#[tokio::test]
async fn an_http_1_0_visitor_gets_no_chunks_and_the_end_of_the_connection_as_the_end() {
    let app = canned("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    let proxy = proxy().origin_at(&app).start().await;
    for target in ["/admin/passed", "/kept", "/kept"] {
        let request = format!("GET {target} HTTP/1.0\r\nHost: shop.example\r\n\r\n");
        let answer = raw_until_closed(proxy.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nabc"), "{answer}");
        assert!(!answer.contains("transfer-encoding"), "{answer}");
    }
}

#[tokio::test]
async fn an_http_1_0_visitor_may_keep_the_connection() {
    let origin = origin().page("/", "hello").start().await;
    let proxy = proxy().origin(&origin).start().await;
    proxy.get("/").await;
    let mut visitor = Wire::connect(proxy.address).await;
    for _ in 0..2 {
        visitor.send("GET / HTTP/1.0\r\nHost: shop.example\r\nConnection: keep-alive\r\n\r\n").await;
        let head = visitor.head().await;
        assert!(head.contains("connection: keep-alive\r\n") && head.contains("content-length: 5\r\n"), "{head}");
        assert_eq!(visitor.exactly(5).await, b"hello");
    }
    visitor.send("GET / HTTP/1.0\r\nHost: shop.example\r\n\r\n").await;
    assert!(visitor.rest().await.ends_with("hello"));
}

#[tokio::test]
async fn an_http_1_0_visitor_need_not_name_the_host() {
    let origin = origin().page("/", "hello").start().await;
    let proxy = proxy().origin(&origin).start().await;
    assert!(raw_until_closed(proxy.address, b"GET / HTTP/1.0\r\n\r\n").await.ends_with("hello"));
    assert_eq!(origin.last().header("host"), Some(&*origin.address.to_string()));
}

#[tokio::test]
async fn an_http_1_0_visitor_is_never_told_to_continue() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let request = "PUT / HTTP/1.0\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody";
    let mut visitor = Wire::asking(proxy.address, request).await;
    let mut origin = app.enter().await;
    assert!(!origin.until("\r\n\r\nbody").await.contains("expect"));
    origin.send(ONCE).await;
    assert!(visitor.rest().await.starts_with("HTTP/1.0 200 OK\r\n"));
}

#[tokio::test]
async fn an_http_1_0_origin_is_no_reason_to_speak_http_1_0() {
    let app = canned("HTTP/1.0 200 OK\r\n\r\nabc").await;
    let proxy = proxy().origin_at(&app).start().await;
    for target in ["/admin/passed", "/kept", "/kept"] {
        let mut visitor = Wire::connect(proxy.address).await;
        visitor.send(format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n")).await;
        assert!(visitor.until("abc").await.starts_with("HTTP/1.1 200 OK\r\n"), "{target}");
    }
}

#[tokio::test]
async fn any_method_passes_whole_and_is_not_kept() {
    let origin = origin().otherwise(|asked| async move { Reply::new(asked.body) }).start().await;
    let proxy = proxy().origin(&origin).start().await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "REPORT", "OPTIONS", "BREW"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for _ in 0..2 {
            let answer = proxy.ask(method.clone(), "/?a=b").body("body").send().await;
            assert_eq!((answer.status.as_u16(), answer.detail(), answer.text()), (200, Some("method"), "body"));
            assert_eq!((origin.last().method, &*origin.last().target), (method.clone(), "/?a=b"));
        }
    }
    assert_eq!(origin.hits("/"), 16);
}

#[tokio::test]
async fn head_passes_with_the_length_that_a_get_would_have() {
    let app = canned("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let proxy = proxy().origin_at(&app).start().await;
    let mut visitor = Wire::connect(proxy.address).await;
    for _ in 0..2 {
        visitor.send("HEAD /admin/ HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        let head = visitor.head().await;
        assert!(head.contains("content-length: 5\r\n") && head.contains("detail=ignored"), "{head}");
    }
    assert!(visitor.is_silent().await);
}

#[tokio::test]
async fn options_and_trace_count_their_hops_down_and_end_here_at_zero() {
    let origin = origin().otherwise(|_| async { Reply::new("from the origin") }).start().await;
    let proxy = proxy().origin(&origin).start().await;
    for (method, status) in [(Method::OPTIONS, 200), (Method::TRACE, 405)] {
        let answer = proxy.ask(method.clone(), "/").header("max-forwards", "5").send().await;
        assert_eq!((answer.text(), origin.last().header("max-forwards")), ("from the origin", Some("4")));
        let answer = proxy.ask(method.clone(), "/").header("max-forwards", "0").send().await;
        assert_eq!((answer.status.as_u16(), answer.text(), answer.detail()), (status, "", Some("method")));
        assert!(answer.header("allow").is_some_and(|methods| !methods.contains("TRACE")));
        proxy.ask(method, "/").send().await;
        assert_eq!(origin.last().header("max-forwards"), None);
    }
    assert_eq!(origin.hits("/"), 4);
    proxy.ask(Method::POST, "/").header("max-forwards", "0").send().await;
    assert_eq!(origin.last().header("max-forwards"), Some("0"));
}

#[tokio::test]
async fn options_for_the_server_itself_reach_the_origin_as_an_asterisk() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let mut visitor = Wire::asking(proxy.address, "OPTIONS * HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let mut origin = app.enter().await;
    assert!(origin.head().await.starts_with("OPTIONS * HTTP/1.1\r\n"));
    origin.send("HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n").await;
    assert!(visitor.head().await.contains("allow: GET\r\n"));
    let refused = raw(proxy.address, b"GET * HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
}

#[tokio::test]
async fn connect_is_refused() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let target = app.address();
    let mut visitor =
        Wire::asking(proxy.address, &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    let head = visitor.head().await;
    assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n") && head.contains("detail=connect"), "{head}");
    assert!(head.contains("allow: GET, "), "{head}");
    assert!(app.is_silent().await);
}

#[tokio::test]
async fn what_is_for_one_hop_goes_no_further() {
    let reply = |_: Asked| async {
        let reply = Reply::new("page").header("connection", "x-mine").header("x-mine", "1");
        reply.header("keep-alive", "timeout=5").header("proxy-authenticate", "Basic").header("x-kept", "1")
    };
    let origin = origin().otherwise(reply).start().await;
    let proxy = proxy().origin(&origin).start().await;
    let of_one_hop = ["x-yours", "keep-alive", "proxy-connection", "proxy-authorization", "te"];
    for target in ["/admin/passed", "/kept", "/kept"] {
        let ask = proxy.ask(Method::GET, target).header("connection", "X-Yours, close").header("x-end", "1");
        let ask = of_one_hop.iter().fold(ask, |ask, name| ask.header(name, "1"));
        let answer = ask.send().await;
        let asked = origin.last();
        for name in of_one_hop {
            assert_eq!((name, asked.header(name)), (name, None), "{target}");
        }
        assert_eq!(asked.header("x-end"), Some("1"));
        for name in ["x-mine", "keep-alive", "proxy-authenticate"] {
            assert_eq!((name, answer.header(name)), (name, None), "{target}");
        }
        assert_eq!(answer.header("x-kept"), Some("1"));
    }
    assert_eq!(proxy.get("/kept").await.outcome(), "hit");
    proxy.ask(Method::GET, "/admin/passed").header("te", "trailers").send().await;
    assert_eq!((origin.last().header("te"), origin.last().header("connection")), (Some("trailers"), Some("te")));
}

const SAID: [(&str, &str); 6] = [
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "https"),
    ("forwarded", "for=203.0.113.7"),
    ("x-real-ip", "203.0.113.7"),
    ("x-forwarded-port", "444"),
];

#[tokio::test]
async fn a_pass_tells_the_origin_who_asks_and_nothing_that_the_visitor_made_up() {
    let origin = origin().page("/admin/", "page").start().await;
    let proxy = proxy().origin(&origin).start().await;
    let ask = proxy.ask(Method::GET, "/admin/").header("via", "1.1 front");
    let answer = SAID.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send().await;
    assert_eq!(answer.header("via"), Some("1.1 everpage"));
    let asked = origin.last();
    for (name, value) in [
        ("host", HOST),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", HOST),
        ("x-forwarded-proto", "http"),
        ("forwarded", "for=127.0.0.1;host=\"shop.example\";proto=http"),
        ("x-real-ip", "127.0.0.1"),
    ] {
        assert_eq!((name, asked.header(name)), (name, Some(value)));
    }
    assert_eq!(asked.header("x-forwarded-port"), None);
    assert_eq!(asked.headers.get_all("via").iter().collect::<Vec<_>>(), ["1.1 front", "1.1 everpage"]);
}

#[tokio::test]
async fn a_fill_is_for_nobody_in_particular() {
    let origin = origin().page("/", "page").start().await;
    let proxy = proxy().origin(&origin).start().await;
    let ask = proxy.ask(Method::GET, "/").header("cookie", "theme=dark").header("via", "1.1 front");
    let answer = SAID.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send().await;
    assert_eq!(answer.header("via"), Some("1.1 everpage"));
    let asked = origin.last();
    for (name, value) in [
        ("host", Some(HOST)),
        ("x-forwarded-host", Some(HOST)),
        ("x-forwarded-proto", Some("http")),
        ("forwarded", Some("host=\"shop.example\";proto=http")),
        ("via", Some("1.1 everpage")),
        ("cookie", None),
        ("x-forwarded-for", None),
        ("x-real-ip", None),
        ("x-forwarded-port", None),
    ] {
        assert_eq!((name, asked.header(name)), (name, value));
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let origin = origin().page("/admin/", "page").start().await;
    let trusting =
        |config: &mut everpage::config::Config| config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let proxy = proxy().origin(&origin).set(trusting).start().await;
    let ask = proxy.ask(Method::GET, "/admin/");
    SAID.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send().await;
    let asked = origin.last();
    assert_eq!(asked.header("x-forwarded-for"), Some("203.0.113.7, 127.0.0.1"));
    assert_eq!(asked.header("x-forwarded-proto"), Some("https"));
    assert_eq!(asked.header("x-forwarded-host"), Some(HOST));
}

#[tokio::test]
async fn a_request_that_goes_round_in_circles_is_refused() {
    let app = Door::open().await;
    let front = proxy().origin_at(&app.url()).start().await;
    let ask = front.ask(Method::POST, "/").header("via", &["1.1 everpage"; 8].join(", "));
    let answer = ask.send().await;
    assert_eq!((answer.status.as_u16(), answer.detail()), (508, Some("loop")));
    assert!(app.is_silent().await);
}

#[tokio::test]
async fn an_absolute_target_is_its_path_on_the_host_that_it_names() {
    let origin = origin().page("/", "hello").start().await;
    let proxy = proxy().origin(&origin).start().await;
    let request = b"GET http://Shop.Example:80/ HTTP/1.1\r\nHost: other.example\r\n\r\n";
    assert!(raw(proxy.address, request).await.contains("; stored"));
    assert_eq!((&*origin.last().target, origin.last().header("host")), ("/", Some(HOST)));
    assert_eq!(proxy.get("/").await.outcome(), "hit");
}

#[tokio::test]
async fn a_request_names_exactly_one_host() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    for fields in
        ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n", "Host: \r\n", "Host: a/b\r\n", "Host: a b\r\n"]
    {
        let answer = raw(proxy.address, format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{fields:?}: {answer}");
    }
    assert!(app.is_silent().await);
}

#[tokio::test]
async fn connections_to_the_origin_are_used_again() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let mut visitor = Wire::connect(proxy.address).await;
    visitor.send("GET /1 HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let mut origin = app.enter().await;
    for number in 1..=3 {
        assert!(origin.head().await.starts_with(&format!("GET /{number} ")));
        origin.send(ONCE).await;
        visitor.until("once").await;
        visitor.send(format!("GET /{} HTTP/1.1\r\nHost: shop.example\r\n\r\n", number + 1)).await;
    }
    assert!(app.is_silent().await);
}

#[tokio::test]
async fn a_kept_connection_that_the_origin_closes_upon_the_next_request_is_replaced() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let mut visitor = Wire::asking(proxy.address, "GET /1 HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send(ONCE).await;
    visitor.until("once").await;
    visitor.send("GET /2 HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    origin.head().await;
    drop(origin);
    let mut origin = app.enter().await;
    assert!(origin.head().await.starts_with("GET /2 "));
    origin.send(ONCE).await;
    visitor.until("once").await;
}

#[tokio::test]
async fn a_kept_connection_that_the_origin_closed_meanwhile_is_replaced() {
    let app = Door::open().await;
    let proxy = proxy().origin_at(&app.url()).start().await;
    let mut visitor = Wire::asking(proxy.address, "POST /1 HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let mut origin = app.enter().await;
    origin.head().await;
    origin.send(ONCE).await;
    visitor.until("once").await;
    origin.finish().await;
    // The proxy has noticed when it closes its side.
    assert_eq!(origin.rest().await, "");
    visitor.send("POST /2 HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\nbody").await;
    let mut origin = app.enter().await;
    assert!(origin.until("body").await.starts_with("POST /2 "));
    origin.send(ONCE).await;
    visitor.until("once").await;
}

/// Every new connection asks for the origin's address again (`proxy/origin.rs`): an origin that moved is found after this time at the latest.
#[tokio::test]
async fn an_idle_connection_to_the_origin_is_given_up_after_a_while() {
    let app = Door::open().await;
    let url = format!("http://localhost:{}", app.address().port());
    let hasty = |config: &mut everpage::config::Config| config.origin.pool_idle_timeout = Duration::from_millis(50);
    let proxy = proxy().origin_at(&url).set(hasty).start().await;
    for number in 1..=2 {
        let request = format!("GET /{number} HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        let mut visitor = Wire::asking(proxy.address, &request).await;
        let mut origin = app.enter().await;
        origin.head().await;
        origin.send(ONCE).await;
        visitor.until("once").await;
        assert_eq!(origin.rest().await, "", "the proxy closes it");
    }
}

#[tokio::test]
async fn interim_responses_are_not_taken_for_the_answer() {
    let app = canned(format!("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n{ONCE}")).await;
    let proxy = proxy().origin_at(&app).start().await;
    for target in ["/admin/passed", "/kept", "/kept"] {
        assert_eq!(proxy.get(target).await.text(), "once");
    }
}
