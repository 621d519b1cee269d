//! Variants under one path: selected by what the origin says in Vary, bounded, found again, and right for whoever asks.

use everpage::config::Config;
use http::Method;

use crate::support::{Asked, Origin, Proxy, Reply, origin, proxy, stored_files};

/// A page in the visitor's language.
async fn translated(asked: Asked) -> Reply {
    let language = asked.header("accept-language").unwrap_or("none").to_owned();
    Reply::new(format!("in {language}")).header("vary", "Accept-Language")
}

/// An origin that compresses where it may; `vary` is what it says about that.
fn compressing(vary: &'static str) -> impl Fn(Asked) -> std::future::Ready<Reply> + Send + Sync + 'static {
    move |asked| {
        let accepted = asked.header("accept-encoding").unwrap_or_default();
        let coding = ["br", "gzip"].into_iter().find(|coding| accepted.contains(coding));
        let reply = match coding {
            Some(coding) => Reply::new(format!("{coding} bytes")).header("content-encoding", coding),
            None => Reply::new("plain bytes"),
        };
        std::future::ready(if vary.is_empty() { reply } else { reply.header("vary", vary) })
    }
}

async fn get(proxy: &Proxy, path: &str, name: &str, value: &str) -> (&'static str, String) {
    let answer = proxy.revisit_with(|| proxy.ask(Method::GET, path).header(name, value)).await;
    (answer.outcome(), answer.text().to_owned())
}

/// With and without pages in memory: without, each hit comes from the store.
async fn both(origin: &Origin) -> [(Proxy, &'static str); 2] {
    let with = proxy().origin(origin).start().await;
    let without = proxy().origin(origin).set(no_memory).start().await;
    [(with, "memory"), (without, "filesystem")]
}

fn no_memory(config: &mut Config) {
    config.memory.capacity = 0;
}

#[tokio::test]
async fn each_visitor_gets_the_variant_that_fits() {
    let origin = origin().otherwise(translated).start().await;
    for (proxy, place) in both(&origin).await {
        for language in ["de", "en"] {
            let (outcome, text) = get(&proxy, "/", "accept-language", language).await;
            assert_eq!((outcome, text), ("miss", format!("in {language}")));
        }
        for language in ["de", "en", "de"] {
            let ask = || proxy.ask(Method::GET, "/").header("accept-language", language);
            let answer = proxy.revisit_with(ask).await;
            assert_eq!((answer.detail(), answer.text()), (Some(place), &*format!("in {language}")));
        }
        let none = proxy.get("/").await;
        assert_eq!(none.text(), "in none");
        assert_eq!(none.cache_status(), "everpage; fwd=vary-miss; fwd-status=200; stored");
        assert_eq!(get(&proxy, "/", "accept-language", "").await.0, "miss", "empty is not absent");
        // Three variants with a language, one without, and their signpost.
        assert_eq!(stored_files(&proxy.stop().await).len(), 5);
    }
}

#[tokio::test]
async fn variants_and_their_signpost_survive_a_restart() {
    let origin = origin().otherwise(translated).start().await;
    for (first, _) in both(&origin).await {
        let asked_before = origin.asked().len();
        for language in ["de", "en"] {
            get(&first, "/", "accept-language", language).await;
        }
        let second = proxy().origin(&origin).folder(first.stop().await).set(no_memory).start().await;
        for language in ["en", "de"] {
            let answer = second.ask(Method::GET, "/").header("accept-language", language).send().await;
            assert_eq!(answer.cache_status(), "everpage; hit; detail=filesystem");
            assert_eq!(answer.text(), format!("in {language}"));
        }
        assert_eq!(origin.asked().len() - asked_before, 2);
        assert_eq!(get(&second, "/", "accept-language", "fr").await, ("miss", "in fr".into()));
    }
}

/// Fails when `place_variant` refuses the new one, or when the displaced one is left in memory or in the store.
#[tokio::test]
async fn one_variant_too_many_takes_the_place_of_the_oldest_also_after_a_restart() {
    let origin = origin().otherwise(translated).start().await;
    let few = |config: &mut Config| config.cache.max_variants = 2;
    let first = proxy().origin(&origin).set(few).start().await;
    for language in ["a", "b", "c"] {
        assert_eq!(get(&first, "/", "accept-language", language).await.0, "miss");
    }
    for (language, outcome) in [("b", "hit"), ("c", "hit"), ("a", "miss"), ("c", "hit"), ("b", "miss")] {
        assert_eq!(get(&first, "/", "accept-language", language).await, (outcome, format!("in {language}")));
    }
    let second = proxy().origin(&origin).folder(first.stop().await).set(few).start().await;
    for (language, outcome) in [("a", "hit"), ("b", "hit"), ("d", "miss"), ("b", "hit"), ("d", "hit")] {
        assert_eq!(get(&second, "/", "accept-language", language).await, (outcome, format!("in {language}")));
    }
    assert_eq!(stored_files(&second.stop().await).len(), 3, "two variants and the signpost");
}

#[tokio::test]
async fn codings_fall_into_four_classes() {
    for vary in ["Accept-Encoding", ""] {
        let origin = origin().otherwise(compressing(vary)).start().await;
        for (proxy, _) in both(&origin).await {
            let asked_before = origin.asked().len();
            for (accepted, text) in [
                ("gzip, deflate, br, zstd", "br bytes"),
                ("br;q=0.1, GZIP", "br bytes"),
                ("gzip", "gzip bytes"),
                ("x-gzip;q=0.5, deflate", "gzip bytes"),
                ("br", "br bytes"),
                ("br, gzip;q=0", "br bytes"),
                ("identity", "plain bytes"),
                ("deflate, zstd", "plain bytes"),
                ("gzip;q=0, br;q=0.000", "plain bytes"),
            ] {
                let (_, got) = get(&proxy, "/", "accept-encoding", accepted).await;
                assert_eq!(got, text, "{accepted:?} with vary {vary:?}");
            }
            assert_eq!(proxy.get("/").await.text(), "plain bytes");
            let asked: Vec<String> = origin.asked()[asked_before..]
                .iter()
                .map(|asked| asked.header("accept-encoding").unwrap().to_owned())
                .collect();
            assert_eq!(asked, ["br, gzip", "gzip", "br", "identity"], "vary {vary:?}");
        }
    }
}

#[tokio::test]
async fn compressed_bytes_reach_only_those_who_take_them_whatever_came_first() {
    let origin = origin().otherwise(compressing("")).start().await;
    for (proxy, _) in both(&origin).await {
        // The first visitor decides nothing for the second.
        assert_eq!(get(&proxy, "/", "accept-encoding", "gzip").await.1, "gzip bytes");
        assert_eq!(get(&proxy, "/", "accept-encoding", "identity").await.1, "plain bytes");
        assert_eq!(get(&proxy, "/", "accept-encoding", "br").await.1, "br bytes");
        // What came plain and without Vary first fits everyone.
        assert_eq!(get(&proxy, "/other", "accept-encoding", "identity").await.1, "plain bytes");
        assert_eq!(get(&proxy, "/other", "accept-encoding", "gzip").await, ("hit", "plain bytes".into()));
    }
}

#[tokio::test]
async fn what_the_origin_never_sees_makes_no_variants() {
    let vary = "Cookie, Authorization, User-Agent, X-Forwarded-Host, Host";
    let origin = origin().otherwise(move |_| async move { Reply::new("x").header("vary", vary) }).start().await;
    let proxy = proxy().origin(&origin).start().await;
    assert_eq!(get(&proxy, "/", "cookie", "a=1").await.0, "miss");
    assert_eq!(get(&proxy, "/", "cookie", "a=2").await.0, "hit");
    assert_eq!(get(&proxy, "/", "x-forwarded-host", "evil").await.0, "hit");
    assert_eq!(get(&proxy, "/", "user-agent", "other").await.0, "miss");
    assert_eq!(proxy.get("/").await.header("vary"), Some(vary), "it is passed on as it came");
}

#[tokio::test]
async fn vary_may_change_over_time() {
    let render = |asked: Asked| async move {
        let seen = format!("{:?} {:?}", asked.header("x-a"), asked.header("x-b"));
        match asked.number {
            1 => Reply::new(seen),
            2 | 3 => Reply::new(seen).header("vary", "x-a"),
            4 => Reply::new(seen).header("vary", "x-b"),
            _ => Reply::new(seen).header("vary", "x-a").header("vary", "X-B, x-a"),
        }
    };
    let origin = origin().otherwise(render).start().await;
    for (proxy, _) in both(&origin).await {
        let path = format!("/{}", proxy.address.port());
        let get = async |a: &str, b: &str| {
            let ask = || proxy.ask(Method::GET, &path).header("x-a", a).header("x-b", b);
            let answer = proxy.revisit_with(ask).await;
            (answer.outcome(), answer.text().to_owned())
        };
        let page = |a: &str, b: &str| format!("Some({a:?}) Some({b:?})");
        let invalidate = async || {
            assert_eq!(proxy.ask(Method::POST, &path).send().await.status, 200);
        };
        assert_eq!(get("1", "1").await, ("miss", page("1", "1")));
        assert_eq!(get("2", "2").await, ("hit", page("1", "1")), "it says that it fits everyone");
        invalidate().await; // The second request to the path.
        assert_eq!(get("1", "1").await, ("miss", page("1", "1")));
        assert_eq!(get("1", "2").await, ("hit", page("1", "1")));
        // From here on it varies by the other field: both count, for what was said before may be said again.
        assert_eq!(get("2", "1").await, ("miss", page("2", "1")));
        assert_eq!(get("2", "2").await, ("miss", page("2", "2")));
        assert_eq!(get("2", "1").await, ("hit", page("2", "1")));
        assert_eq!(get("1", "1").await, ("miss", page("1", "1")), "kept under the narrower rule, so asked again");
        assert_eq!(get("1", "1").await, ("hit", page("1", "1")));
    }
}

#[tokio::test]
async fn head_finds_the_variant_of_a_get() {
    let origin = origin().otherwise(translated).start().await;
    for (proxy, place) in both(&origin).await {
        for language in ["de", "english"] {
            get(&proxy, "/", "accept-language", language).await;
        }
        for language in ["de", "english"] {
            let ask = || proxy.ask(Method::HEAD, "/").header("accept-language", language);
            let head = proxy.revisit_with(ask).await;
            let length = format!("in {language}").len().to_string();
            assert_eq!((head.detail(), head.header("content-length")), (Some(place), Some(&*length)));
        }
        let ask = || proxy.ask(Method::HEAD, "/").header("accept-language", "fr");
        assert_eq!(ask().send().await.outcome(), "miss");
        assert_eq!(proxy.revisit_with(ask).await.detail(), Some(place));
        assert_eq!(origin.last().method, Method::HEAD);
    }
    // Four GETs, and a HEAD at each proxy.
    assert_eq!(origin.asked().len(), 6);
}

#[tokio::test]
async fn without_memory_answers_are_as_right_as_with_it() {
    let etag = |asked: Asked| async move { translated(asked).await.header("etag", "\"v1\"") };
    let origin = origin().otherwise(etag).start().await;
    for (proxy, place) in both(&origin).await {
        get(&proxy, "/", "accept-language", "de").await;
        let ask = || proxy.ask(Method::GET, "/").header("accept-language", "de");
        for (name, value, status) in [
            ("if-none-match", "\"v1\"", 304),
            ("range", "bytes=0-1", 206),
            ("range", "bytes=99-", 416),
            ("if-match", "\"v2\"", 412),
        ] {
            let answer = proxy.revisit_with(|| ask().header(name, value)).await;
            assert_eq!((answer.status.as_u16(), answer.detail()), (status, Some(place)), "{name}");
        }
        assert_eq!(proxy.ask(Method::POST, "/").send().await.status, 200);
        assert_eq!(proxy.revisit_with(ask).await.outcome(), "miss");
        assert_eq!(proxy.revisit_with(ask).await.detail(), Some(place));
    }
}
