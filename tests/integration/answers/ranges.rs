//! Parts of a page: one, several, none, and under conditions.

use http::Method;

use crate::support::{Answer, Origin, Proxy, Reply, origin, proxy};

const MODIFIED: &str = "Sat, 01 Aug 2026 10:00:00 GMT";
const PAGE: &str = "0123456789";

async fn site(etag: &'static str) -> (Origin, Proxy) {
    let page = move |_| async move {
        let page = Reply::new(PAGE).header("etag", etag).header("last-modified", MODIFIED);
        page.header("content-type", "text/plain")
    };
    let origin = origin().otherwise(page).start().await;
    let proxy = proxy().origin(&origin).start().await;
    proxy.get("/").await;
    (origin, proxy)
}

async fn get(proxy: &Proxy, fields: &[(&str, &str)]) -> Answer {
    fields.iter().fold(proxy.ask(Method::GET, "/"), |ask, (name, value)| ask.header(name, value)).send().await
}

#[tokio::test]
async fn one_range_is_answered_with_its_bytes() {
    let (_origin, proxy) = site("\"v1\"").await;
    for (range, part, content_range) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
        ("bytes=-99", PAGE, "bytes 0-9/10"),
        ("BYTES=0-0", "0", "bytes 0-0/10"),
        ("bytes=0-1,2-3", "0123", "bytes 0-3/10"),
    ] {
        let answer = get(&proxy, &[("range", range)]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (206, part), "{range}");
        assert_eq!(answer.header("content-range"), Some(content_range), "{range}");
        assert_eq!(answer.header("content-length"), Some(&*part.len().to_string()), "{range}");
        assert_eq!((answer.header("etag"), answer.header("content-type")), (Some("\"v1\""), Some("text/plain")));
        assert_eq!(answer.cache_status(), "everpage; hit; detail=memory");
    }
}

#[tokio::test]
async fn several_ranges_come_as_parts() {
    let (_origin, proxy) = site("\"v1\"").await;
    let answer = get(&proxy, &[("range", "bytes=8-9, 0-1 ,4-5")]).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-range")), (206, None));
    assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
    let expected = [("bytes 8-9/10", "89"), ("bytes 0-1/10", "01"), ("bytes 4-5/10", "45")].map(|(range, part)| Part {
        fields: vec![("content-type".into(), "text/plain".into()), ("content-range".into(), range.into())],
        bytes: part.into(),
    });
    assert_eq!(parts(&answer), expected);
}

#[tokio::test]
async fn what_lies_behind_the_end_is_416() {
    let (_origin, proxy) = site("\"v1\"").await;
    for range in ["bytes=10-", "bytes=99-100", "bytes=-0"] {
        let answer = get(&proxy, &[("range", range)]).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-range")), (416, Some("bytes */10")), "{range}");
        assert_eq!((answer.header("content-length"), answer.text()), (Some("0"), ""));
    }
}

#[tokio::test]
async fn what_is_no_range_is_answered_with_the_page() {
    let (_origin, proxy) = site("\"v1\"").await;
    let many = format!("bytes={}", (0..17).map(|_| "0-0").collect::<Vec<_>>().join(","));
    for range in ["bytes=4-2", "lines=1-2", "bytes", "bytes=a-b", "bytes=0-9,0-9", &many] {
        let answer = get(&proxy, &[("range", range)]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, PAGE), "{range}");
    }
    let twice = get(&proxy, &[("range", "bytes=0-0"), ("range", "bytes=1-1")]).await;
    assert_eq!((twice.status.as_u16(), twice.text()), (200, PAGE));
}

#[tokio::test]
async fn if_range_gives_the_whole_of_a_page_that_changed() {
    let (_origin, proxy) = site("\"v1\"").await;
    for (condition, status) in [
        ("\"v1\"", 206),
        ("\"v2\"", 200),
        ("W/\"v1\"", 200),
        (MODIFIED, 206),
        ("Sat, 01 Aug 2026 10:00:01 GMT", 200),
        ("Sat, 01 Aug 2026 09:59:59 GMT", 200),
        ("nonsense", 200),
    ] {
        let answer = get(&proxy, &[("range", "bytes=0-0"), ("if-range", condition)]).await;
        assert_eq!(answer.status, status, "{condition}");
        assert_eq!(answer.text(), if status == 206 { "0" } else { PAGE }, "{condition}");
    }
    let (_origin, weak) = site("W/\"v1\"").await;
    let answer = get(&weak, &[("range", "bytes=0-0"), ("if-range", "W/\"v1\"")]).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn conditions_come_before_ranges() {
    let (_origin, proxy) = site("\"v1\"").await;
    let range = ("range", "bytes=0-0");
    assert_eq!(get(&proxy, &[range, ("if-none-match", "\"v1\"")]).await.status, 304);
    assert_eq!(get(&proxy, &[range, ("if-none-match", "\"v2\"")]).await.status, 206);
    assert_eq!(get(&proxy, &[range, ("if-match", "\"v2\"")]).await.status, 412);
    assert_eq!(get(&proxy, &[range, ("if-match", "\"v1\"")]).await.status, 206);
    let all = [range, ("if-match", "\"v1\""), ("if-range", "\"v2\"")];
    assert_eq!(get(&proxy, &all).await.status, 200);
}

#[tokio::test]
async fn head_and_a_miss_know_no_ranges() {
    let (origin, proxy) = site("\"v1\"").await;
    let head = proxy.ask(Method::HEAD, "/").header("range", "bytes=0-0").send().await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, Some("10")));
    let miss = proxy.ask(Method::GET, "/cold").header("range", "bytes=0-0").send().await;
    assert_eq!((miss.status.as_u16(), miss.outcome(), miss.text()), (200, "miss", PAGE));
    assert_eq!(origin.last().header("range"), None);
    let hit = proxy.ask(Method::GET, "/cold").header("range", "bytes=0-0").send().await;
    assert_eq!((hit.status.as_u16(), hit.outcome(), hit.text()), (206, "hit", "0"));
}

#[tokio::test]
async fn an_empty_page_has_no_ranges() {
    let origin = origin().page("/", "").start().await;
    let proxy = proxy().origin(&origin).start().await;
    proxy.get("/").await;
    let answer = get(&proxy, &[("range", "bytes=0-")]).await;
    assert_eq!((answer.status.as_u16(), answer.outcome(), answer.text()), (200, "hit", ""));
}

#[derive(Debug, PartialEq)]
struct Part {
    fields: Vec<(String, String)>,
    bytes: String,
}

/// Reads `multipart/byteranges` (RFC 9110, section 14.6; RFC 2046, section 5.1.1), strictly.
fn parts(answer: &Answer) -> Vec<Part> {
    let boundary = answer.header("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
    let body = answer.text().strip_suffix(&format!("\r\n--{boundary}--\r\n")).expect("the closing delimiter");
    let delimiter = format!("\r\n--{boundary}\r\n");
    let parts = body.split(&delimiter).skip(1);
    parts
        .map(|part| {
            let (head, bytes) = part.split_once("\r\n\r\n").expect("a head and a body");
            let field = |line: &str| {
                let (name, value) = line.split_once(": ").expect("a field");
                (name.to_ascii_lowercase(), value.to_owned())
            };
            Part { fields: head.split("\r\n").map(field).collect(), bytes: bytes.into() }
        })
        .collect()
}
