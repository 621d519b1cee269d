//! What a response says: Cache-Status, Age, ETag, Date, Via; and what a visitor who has the page already gets.

mod ranges;

use std::time::Duration;

use everpage::config::Lifetime;
use http::Method;

use crate::support::{Gate, Proxy, Reply, inside, origin, pieces, proxy, stored_files};

const MODIFIED: &str = "Sat, 01 Aug 2026 10:00:00 GMT";
const EARLIER: &str = "Sat, 01 Aug 2026 09:59:59 GMT";

/// A page with an ETag and a date of its own.
fn tagged() -> Reply {
    Reply::new("hello")
        .header("etag", "\"v1\"")
        .header("last-modified", MODIFIED)
        .header("content-type", "text/plain")
        .header("content-language", "en")
        .header("cache-control", "max-age=60")
}

async fn tagged_site() -> (crate::support::Origin, Proxy) {
    let origin = origin().otherwise(|_| async { tagged() }).start().await;
    let proxy = proxy().origin(&origin).start().await;
    (origin, proxy)
}

#[tokio::test]
async fn cache_status_says_how_a_page_came() {
    let origin = origin().page("/", "hello").start().await;
    let first = proxy().origin(&origin).start().await;
    assert_eq!(first.get("/").await.cache_status(), "everpage; fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(first.get("/").await.cache_status(), "everpage; hit; detail=memory");
    assert_eq!(first.get("/none").await.cache_status(), "everpage; fwd=uri-miss; fwd-status=404; detail=status");
    assert_eq!(first.get("/admin/").await.cache_status(), "everpage; fwd=bypass; detail=ignored");
    let post = first.ask(Method::POST, "/none").send().await;
    assert_eq!(post.cache_status(), "everpage; fwd=method; detail=method");
    let second = proxy().origin(&origin).folder(first.stop().await).start().await;
    assert_eq!(second.get("/").await.cache_status(), "everpage; hit; detail=filesystem");
    assert_eq!(second.get("/").await.cache_status(), "everpage; hit; detail=memory");
}

#[tokio::test(start_paused = true)]
async fn cache_status_says_who_was_carried_along() {
    let gate = Gate::default();
    let held = gate.clone();
    let inside = inside(
        |_| {},
        move |_| {
            let gate = held.clone();
            async move {
                gate.pass().await;
                pieces(http::Response::builder(), vec![Ok("x")])
            }
        },
    );
    let (leader, follower, ()) = tokio::join!(inside.get("/"), inside.get("/"), async { gate.open() });
    assert_eq!(leader.cache_status(), "everpage; fwd=uri-miss; fwd-status=200; stored");
    assert_eq!((follower.cache_status(), follower.text()), ("everpage; fwd=uri-miss; collapsed", "x"));
}

#[tokio::test]
async fn cache_status_says_why_nothing_came() {
    let origin = origin().start().await;
    let proxy = proxy().origin_at("http://127.0.0.1:1").set(|config| config.hosts = vec!["shop.example".into()]);
    let proxy = proxy.start().await;
    let unreachable = proxy.get("/").await;
    assert_eq!(unreachable.cache_status(), "everpage; fwd=uri-miss; detail=origin-unreachable");
    assert_eq!((unreachable.status.as_u16(), unreachable.header("cache-control")), (502, Some("no-store")));
    let foreign = proxy.ask(Method::GET, "/").host("other.example").send().await;
    assert_eq!((foreign.status.as_u16(), foreign.cache_status()), (421, "everpage; detail=foreign-host"));
    assert_eq!(origin.asked().len(), 0);
}

#[tokio::test]
async fn what_a_cache_before_the_origin_said_stays_before_our_own_word() {
    let upstream = "upstream; hit";
    let origin =
        origin().otherwise(move |_| async move { Reply::new("x").header("cache-status", upstream) }).start().await;
    let proxy = proxy().origin(&origin).start().await;
    for ours in ["everpage; fwd=uri-miss; fwd-status=200; stored", "everpage; hit; detail=memory"] {
        let answer = proxy.get("/").await;
        let lines: Vec<_> = answer.headers.get_all("cache-status").iter().collect();
        assert_eq!(lines, [upstream, ours]);
    }
}

#[tokio::test(start_paused = true)]
async fn age_grows_and_counts_what_the_origin_said() {
    let inside =
        inside(|_| {}, |_| async { pieces(http::Response::builder().header("age", "100"), vec![Ok("hello")]) });
    let miss = inside.get("/").await;
    assert_eq!((miss.outcome(), miss.header("age")), ("miss", Some("100")));
    assert_eq!(inside.get("/").await.header("age"), Some("100"));
    tokio::time::advance(Duration::from_millis(61_500)).await;
    let hit = inside.get("/").await;
    assert_eq!((hit.outcome(), hit.header("age")), ("hit", Some("161")));
    assert_eq!(hit.headers.get_all("age").iter().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn age_counts_the_time_since_the_origins_date() {
    let date = httpdate::fmt_http_date(crate::support::EPOCH.to_system_time() - Duration::from_secs(30));
    let answered = date.clone();
    let inside = inside(
        |_| {},
        move |_| {
            let date = answered.clone();
            async move { pieces(http::Response::builder().header("date", date).header("age", "7"), vec![Ok("hello")]) }
        },
    );
    assert_eq!(inside.get("/").await.header("age"), Some("30"));
    tokio::time::advance(Duration::from_secs(5)).await;
    let hit = inside.get("/").await;
    assert_eq!((hit.header("age"), hit.header("date")), (Some("35"), Some(&*date)));
}

#[tokio::test]
async fn a_fresh_page_has_no_age_on_the_way_and_zero_from_memory() {
    let origin = origin().page("/", "hello").start().await;
    let proxy = proxy().origin(&origin).start().await;
    assert_eq!(proxy.get("/").await.header("age"), None);
    assert!(proxy.get("/").await.header("age").is_some_and(|age| age.parse::<u64>().unwrap() < 20));
}

#[tokio::test]
async fn a_page_without_etag_gets_a_strong_one_that_outlives_a_restart() {
    let origin = origin().page("/a", "hello").page("/b", "hello").page("/c", "other").start().await;
    let first = proxy().origin(&origin).start().await;
    assert_eq!(first.get("/a").await.header("etag"), None, "its body was not known when its head was sent");
    let etag = first.get("/a").await.header("etag").map(str::to_owned);
    assert!(etag.as_ref().is_some_and(|etag| etag.starts_with('"') && etag.len() == 42), "{etag:?}");
    assert_eq!(first.get("/a").await.header("etag"), etag.as_deref());
    let (_, same) = (first.get("/b").await, first.get("/b").await);
    let (_, other) = (first.get("/c").await, first.get("/c").await);
    assert_eq!(same.header("etag"), etag.as_deref(), "it is made from the body");
    assert_ne!(other.header("etag"), etag.as_deref());
    let second = proxy().origin(&origin).folder(first.stop().await).start().await;
    assert_eq!(second.get("/a").await.header("etag"), etag.as_deref());
    let known = second.ask(Method::GET, "/a").header("if-none-match", &etag.unwrap()).send().await;
    assert_eq!(known.status, 304);
}

#[tokio::test]
async fn the_origins_etag_is_kept_as_it_is() {
    for etag in ["\"v1\"", "W/\"v1\""] {
        let origin = origin().otherwise(move |_| async move { Reply::new("x").header("etag", etag) }).start().await;
        let proxy = proxy().origin(&origin).start().await;
        for _ in 0..2 {
            assert_eq!(proxy.get("/").await.header("etag"), Some(etag));
        }
    }
}

#[tokio::test]
async fn date_via_and_other_fields_are_the_origins() {
    let date = "Sat, 01 Aug 2026 10:00:00 GMT";
    let origin = origin()
        .otherwise(move |_| async move {
            let hop =
                Reply::new("x").header("connection", "x-hop").header("x-hop", "1").header("keep-alive", "timeout=5");
            hop.header("date", date).header("via", "1.1 inner").header("x-app", "a").header("x-app", "b")
        })
        .start()
        .await;
    let first = proxy().origin(&origin).start().await;
    let miss = first.get("/").await;
    let hit = first.get("/").await;
    let second = proxy().origin(&origin).folder(first.stop().await).start().await;
    for answer in [miss, hit, second.get("/").await] {
        let all = |name: &str| -> Vec<String> {
            answer.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(all("date"), [date]);
        assert_eq!(all("via"), ["1.1 inner", "1.1 everpage"]);
        assert_eq!(all("x-app"), ["a", "b"]);
        assert_eq!(all("content-length"), ["1"]);
        assert_eq!((answer.header("x-hop"), answer.header("keep-alive")), (None, None));
    }
}

#[tokio::test]
async fn head_says_the_length_of_a_page_that_came_without_one() {
    let origin = origin()
        .route("/", |_| async {
            let (reply, feed) = Reply::fed();
            feed.data("hel");
            feed.data("lo");
            reply
        })
        .start()
        .await;
    let proxy = proxy().origin(&origin).start().await;
    let miss = proxy.get("/").await;
    assert_eq!((miss.text(), miss.header("content-length")), ("hello", None));
    let head = proxy.head("/").await;
    assert_eq!((head.outcome(), head.header("content-length"), head.text()), ("hit", Some("5"), ""));
    assert_eq!(proxy.get("/").await.header("content-length"), Some("5"));
}

#[tokio::test]
async fn a_visitor_who_names_the_etag_gets_304() {
    let (origin, proxy) = tagged_site().await;
    for (outcome, path) in [("miss", "/a"), ("hit", "/a")] {
        let known = ["\"v1\"", "W/\"v1\"", "\"x\", \"v1\"", "\"a,b\" ,W/\"v1\"", "*"];
        for (number, named) in known.into_iter().enumerate() {
            let path = if outcome == "miss" { format!("{path}{number}") } else { path.into() };
            if outcome == "hit" {
                proxy.get(&path).await;
            }
            let answer = proxy.ask(Method::GET, &path).header("if-none-match", named).send().await;
            assert_eq!((answer.status.as_u16(), answer.outcome(), &*answer.body), (304, outcome, &b""[..]), "{named}");
        }
    }
    assert!(origin.asked().iter().all(|asked| asked.header("if-none-match").is_none()));
    let lines = proxy.ask(Method::GET, "/a").header("if-none-match", "\"x\"").header("if-none-match", "\"v1\"");
    assert_eq!(lines.send().await.status, 304);
    let other = proxy.ask(Method::GET, "/a").header("if-none-match", "\"v2\", v1").send().await;
    assert_eq!((other.status.as_u16(), other.text()), (200, "hello"));
    let head = proxy.ask(Method::HEAD, "/a").header("if-none-match", "\"v1\"").send().await;
    assert_eq!((head.status.as_u16(), head.outcome()), (304, "hit"));
}

#[tokio::test]
async fn a_304_says_what_a_200_would_but_for_the_body() {
    let (_origin, proxy) = tagged_site().await;
    proxy.get("/").await;
    let answer = proxy.ask(Method::GET, "/").header("if-none-match", "\"v1\"").send().await;
    assert_eq!(answer.status, 304);
    // RFC 9110, section 15.4.5.
    for (name, value) in [("etag", "\"v1\""), ("last-modified", MODIFIED), ("cache-control", "max-age=60")] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    for name in ["date", "via", "age"] {
        assert!(answer.header(name).is_some(), "{name}");
    }
    for name in ["content-length", "content-type", "content-language", "transfer-encoding", "accept-ranges"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.cache_status(), "everpage; hit; detail=memory");
}

#[tokio::test]
async fn dates_count_where_no_etag_is_named() {
    let (_origin, proxy) = tagged_site().await;
    let status = async |fields: &[(&str, &str)]| {
        let ask = fields.iter().fold(proxy.ask(Method::GET, "/"), |ask, (name, value)| ask.header(name, value));
        ask.send().await.status.as_u16()
    };
    assert_eq!(status(&[("if-modified-since", MODIFIED)]).await, 304, "on a miss");
    assert_eq!(proxy.revisit("/").await.outcome(), "hit");
    assert_eq!(status(&[("if-modified-since", MODIFIED)]).await, 304);
    assert_eq!(status(&[("if-modified-since", EARLIER)]).await, 200);
    assert_eq!(status(&[("if-modified-since", "yesterday")]).await, 200);
    assert_eq!(status(&[("if-modified-since", MODIFIED), ("if-none-match", "\"v2\"")]).await, 200);
    assert_eq!(status(&[("if-modified-since", EARLIER), ("if-none-match", "\"v1\"")]).await, 304);
}

#[tokio::test]
async fn whoever_insists_on_another_page_gets_412() {
    let (_origin, proxy) = tagged_site().await;
    let answer = async |name: &str, value: &str| proxy.ask(Method::GET, "/").header(name, value).send().await;
    assert_eq!(answer("if-match", "\"v2\"").await.status, 412, "on a miss");
    assert_eq!(proxy.revisit("/").await.outcome(), "hit");
    let failed = answer("if-match", "\"v2\"").await;
    assert_eq!((failed.status.as_u16(), failed.header("content-length"), failed.text()), (412, Some("0"), ""));
    assert_eq!(failed.cache_status(), "everpage; hit; detail=memory");
    assert_eq!(answer("if-match", "W/\"v1\"").await.status, 412, "strong comparison");
    assert_eq!(answer("if-match", "\"x\", \"v1\"").await.status, 200);
    assert_eq!(answer("if-match", "*").await.status, 200);
    assert_eq!(answer("if-unmodified-since", EARLIER).await.status, 412);
    assert_eq!(answer("if-unmodified-since", MODIFIED).await.status, 200);
}

#[tokio::test]
async fn conditions_are_not_asked_of_errors() {
    let gone = |_| async { Reply::new("gone").status(410).header("etag", "\"v1\"") };
    let origin = origin().otherwise(gone).start().await;
    let proxy = proxy().origin(&origin).set(|config| config.cache.statuses.push(http::StatusCode::GONE)).start().await;
    for outcome in ["miss", "hit"] {
        let answer = proxy.ask(Method::GET, "/").header("if-none-match", "\"v1\"").header("range", "bytes=0-0");
        let answer = answer.send().await;
        assert_eq!((answer.status.as_u16(), answer.outcome(), answer.text()), (410, outcome, "gone"));
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_origins_lifetime_a_page_is_fresh_then_fetched_again() {
    let lifetime = |config: &mut everpage::config::Config| config.cache.lifetime = Lifetime::Origin;
    let answer = |request: http::Request<_>| {
        let control = if request.uri() == "/shared" { "max-age=5, s-maxage=60" } else { "max-age=60" };
        async move { pieces(http::Response::builder().header("cache-control", control).header("age", "10"), vec![Ok("x")]) }
    };
    let inside = inside(lifetime, answer);
    for path in ["/", "/shared"] {
        assert_eq!(inside.get(path).await.outcome(), "miss");
        tokio::time::advance(Duration::from_millis(49_900)).await;
        assert_eq!(inside.get(path).await.cache_status(), "everpage; hit; detail=memory");
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(inside.get(path).await.cache_status(), "everpage; fwd=stale; fwd-status=200; stored");
        assert_eq!(inside.get(path).await.cache_status(), "everpage; hit; detail=memory");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_kept_forever_is_a_hit_after_ten_years_whatever_its_max_age() {
    let inside = inside(
        |_| {},
        |_| async {
            pieces(http::Response::builder().header("cache-control", "max-age=0, must-revalidate"), vec![Ok("x")])
        },
    );
    inside.get("/").await;
    tokio::time::advance(Duration::from_secs(10 * 365 * 86_400)).await;
    assert_eq!(inside.get("/").await.outcome(), "hit");
}

#[tokio::test]
async fn bytes_are_the_same_from_origin_memory_and_disk() {
    let body: Vec<u8> = (0..300_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sent = body.clone();
    let origin = origin()
        .otherwise(move |_| {
            let body = sent.clone();
            async move { Reply::new(body).header("content-type", "image/png") }
        })
        .start()
        .await;
    let first = proxy().origin(&origin).start().await;
    for outcome in ["miss", "hit"] {
        let answer = first.get("/").await;
        assert_eq!((answer.outcome(), answer.body == body), (outcome, true));
    }
    let folder = first.stop().await;
    assert_eq!(stored_files(&folder).len(), 1);
    let second = proxy().origin(&origin).folder(folder).start().await;
    let answer = second.get("/").await;
    assert_eq!(
        (answer.outcome(), answer.body == body, answer.header("content-type")),
        ("hit", true, Some("image/png"))
    );
    assert_eq!(origin.hits("/"), 1);
}
