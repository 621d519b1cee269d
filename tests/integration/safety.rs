//! No visitor gets another visitor's page: what is asked of the origin, what goes past the cache, what is never kept.

mod reasons;
mod rules;

use everpage::config::{Config, UnkeyedHeaders};
use http::{HeaderName, Method};

use crate::support::{Asked, HOST, Origin, Proxy, Reply, inside, origin, pieces, proxy, raw, stored_files};

/// Request fields by which one visitor could change the page of all others.
const POISON: [&str; 30] = [
    "Forwarded",
    "X-Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Prefix",
    "X-Forwarded-User",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Anything",
    "X-Host",
    "X-Real-IP",
    "X-Client-IP",
    "Client-IP",
    "True-Client-IP",
    "X-Original-Host",
    "X-Original-URL",
    "X-Original-URI",
    "X-Original-Method",
    "X-Rewrite-URL",
    "X-Envoy-Original-Path",
    "X-HTTP-Method",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Remote-User",
    "Remote-User",
    "From",
    "Via",
];

async fn site(change: impl FnOnce(&mut Config)) -> (Origin, Proxy) {
    let origin = origin().otherwise(|_| async { Reply::new("hello") }).start().await;
    let proxy = proxy().origin(&origin).set(change).start().await;
    (origin, proxy)
}

/// The fields that the origin saw, by name; several lines of one field as several values.
fn fields<'a>(asked: &'a Asked, name: &str) -> Vec<&'a str> {
    asked.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn a_page_is_rendered_for_nobody_in_particular() {
    let (origin, proxy) = site(|_| {}).await;
    let mut ask = proxy.ask(Method::GET, "/").header("cookie", "theme=dark; _ga=1").header("pragma", "x");
    for name in POISON {
        ask = ask.header(name, "evil.example");
    }
    assert_eq!(ask.send().await.outcome(), "miss");
    let asked = origin.last();
    let evil: Vec<&HeaderName> =
        asked.headers.iter().filter(|(_, value)| *value == "evil.example").map(|(name, _)| name).collect();
    assert_eq!(evil, [] as [&HeaderName; 0]);
    assert_eq!((asked.header("cookie"), asked.header("pragma")), (None, None));
    assert_eq!(fields(&asked, "host"), [HOST]);
    assert_eq!(fields(&asked, "x-forwarded-host"), [HOST]);
    assert_eq!(fields(&asked, "x-forwarded-proto"), ["http"]);
    assert_eq!(fields(&asked, "forwarded"), [r#"host="shop.example";proto=http"#]);
    assert_eq!(fields(&asked, "via"), ["1.1 everpage"]);
    assert_eq!(fields(&asked, "x-forwarded-for"), [""; 0]);
    assert_eq!(fields(&asked, "x-real-ip"), [""; 0]);
}

#[tokio::test]
async fn the_origin_is_asked_for_the_whole_page_whatever_the_visitor_has() {
    let (origin, proxy) = site(|_| {}).await;
    let mine = [
        ("range", "bytes=0-0"),
        ("if-range", "\"a\""),
        ("if-none-match", "\"a\""),
        ("if-match", "\"a\""),
        ("if-modified-since", "Sat, 01 Aug 2026 10:00:00 GMT"),
        ("if-unmodified-since", "Sat, 01 Aug 2026 10:00:00 GMT"),
        ("cache-control", "no-cache, max-age=0"),
        ("te", "trailers"),
        ("expect", "100-continue"),
        ("max-forwards", "0"),
        ("connection", "x-mine"),
        ("x-mine", "1"),
        ("accept-encoding", "deflate, gzip, zstd"),
    ];
    let ask = mine.iter().fold(proxy.ask(Method::GET, "/"), |ask, (name, value)| ask.header(name, value));
    ask.send().await;
    let asked = origin.last();
    for (name, _) in mine.iter().filter(|(name, _)| *name != "accept-encoding") {
        assert_eq!(asked.header(name), None, "{name}");
    }
    assert_eq!(asked.header("accept-encoding"), Some("gzip"));
    assert_eq!(proxy.revisit("/").await.text(), "hello");
}

#[tokio::test]
async fn the_strict_form_sends_only_what_is_in_the_key_and_a_fixed_list() {
    let change = |config: &mut Config| {
        config.cache.unkeyed_headers = UnkeyedHeaders::Drop;
        config.cache.key_headers = vec![HeaderName::from_static("x-theme")];
    };
    let (origin, proxy) = site(change).await;
    let ask = proxy.ask(Method::GET, "/").header("x-theme", "dark").header("x-else", "1").header("accept", "text/html");
    ask.header("user-agent", "test").header("accept-language", "de").send().await;
    let asked = origin.last();
    let mut names: Vec<&str> = asked.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let list = ["accept", "accept-encoding", "accept-language", "forwarded", "host", "user-agent", "via"];
    assert_eq!(names, [&list[..], &["x-forwarded-host", "x-forwarded-proto", "x-theme"]].concat());
}

#[tokio::test]
async fn key_headers_select_a_page() {
    let origin = origin().otherwise(|asked| async move { Reply::new(format!("{:?}", asked.header("x-theme"))) });
    let origin = origin.start().await;
    let change = |config: &mut Config| config.cache.key_headers = vec![HeaderName::from_static("x-theme")];
    let proxy = proxy().origin(&origin).set(change).start().await;
    let get = async |theme: &str| {
        let answer = proxy.ask(Method::GET, "/").header("x-theme", theme).send().await;
        (answer.outcome(), answer.text().to_owned())
    };
    assert_eq!(get("dark").await, ("miss", "Some(\"dark\")".into()));
    assert_eq!(get("light").await, ("miss", "Some(\"light\")".into()));
    assert_eq!(get("dark").await, ("hit", "Some(\"dark\")".into()));
    assert_eq!(proxy.get("/").await.text(), "None");
    assert_eq!(proxy.ask(Method::HEAD, "/").header("x-theme", "light").send().await.outcome(), "hit");
}

/// `Connection` names a field that selects the page, so the origin does not see it: what it renders is the page without the field,
/// and must not be kept as the page with it.
#[tokio::test]
async fn a_field_that_connection_takes_away_selects_nothing() {
    let render = |asked: Asked| async move {
        Reply::new(format!("{:?}{:?}", asked.header("x-theme"), asked.header("accept-language")))
            .header("vary", "accept-language")
    };
    let origin = origin().otherwise(render).start().await;
    let change = |config: &mut Config| config.cache.key_headers = vec![HeaderName::from_static("x-theme")];
    let proxy = proxy().origin(&origin).set(change).start().await;
    for taken in ["x-theme", "accept-language", "X-Theme, accept-language"] {
        let ask = proxy.ask(Method::GET, "/").header("x-theme", "dark").header("accept-language", "de");
        ask.header("connection", taken).send().await;
        let ask = proxy.ask(Method::GET, "/").header("x-theme", "dark").header("accept-language", "de");
        assert_eq!(ask.send().await.text(), r#"Some("dark")Some("de")"#, "{taken}");
    }
}

#[tokio::test]
async fn a_visitor_with_a_session_goes_past_whole_and_leaves_nothing() {
    let origin = origin().otherwise(|asked| async move { Reply::new(format!("for {:?}", asked.header("cookie"))) });
    let origin = origin.start().await;
    let proxy = proxy().origin(&origin).start().await;
    let cookies = [
        "sessionid=x",
        "a=b; _shop_session=x",
        "laravel_session=x",
        "PHPSESSID=x",
        "connect.sid=s%3A1",
        "wordpress_logged_in_1a2b=x",
        "a=b;sessionid=x",
        "__Host-id=1",
    ];
    for cookie in cookies {
        let answer = proxy.ask(Method::GET, "/").header("cookie", cookie).send().await;
        assert_eq!(answer.cache_status(), "everpage; fwd=bypass; detail=bypass-cookie", "{cookie}");
        assert_eq!(answer.text(), format!("for Some({cookie:?})"));
    }
    for credentials in ["Basic eDp5", "Bearer t"] {
        let ask = proxy.ask(Method::GET, "/").header("authorization", credentials).header("if-none-match", "\"x\"");
        let ask = ask.header("range", "bytes=0-0").header("cache-control", "no-cache");
        let answer = ask.send().await;
        assert_eq!(answer.cache_status(), "everpage; fwd=bypass; detail=authorization");
        let asked = origin.last();
        assert_eq!(asked.header("authorization"), Some(credentials));
        let whole = [asked.header("if-none-match"), asked.header("range"), asked.header("cache-control")];
        assert_eq!(whole, [Some("\"x\""), Some("bytes=0-0"), Some("no-cache")]);
        assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1"));
    }
    let anonymous = proxy.get("/").await;
    assert_eq!((anonymous.outcome(), anonymous.text()), ("miss", "for None"));
    let again = proxy.ask(Method::GET, "/").header("cookie", "sessionid=x").send().await;
    assert_eq!((again.outcome(), again.text()), ("bypass", "for Some(\"sessionid=x\")"));
    assert_eq!(stored_files(&proxy.stop().await).len(), 1);
}

#[tokio::test]
async fn a_cookie_is_set_for_the_visitor_who_asked_and_for_nobody_else() {
    let gate = crate::support::Gate::default();
    let held = gate.clone();
    let number = std::sync::atomic::AtomicUsize::new(0);
    let inside = inside(
        |_| {},
        move |_| {
            let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let gate = held.clone();
            async move {
                gate.pass().await;
                pieces(http::Response::builder().header("set-cookie", format!("id={number}")), vec![Ok("x")])
            }
        },
    );
    let (one, two, three, ()) = tokio::join!(inside.get("/"), inside.get("/"), inside.get("/"), async { gate.open() });
    let mut cookies: Vec<_> = [&one, &two, &three].iter().map(|answer| answer.header("set-cookie").unwrap()).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, ["id=0", "id=1", "id=2"]);
    assert!([one, two, three].iter().all(|answer| answer.detail() == Some("set-cookie")));
    assert_eq!(inside.get("/").await.header("set-cookie"), Some("id=3"));
}

#[tokio::test]
async fn what_the_origin_says_to_this_cache_is_not_passed_on() {
    let reply = |asked: Asked| async move {
        let reply =
            Reply::new("x").header("cache-tag", "a").header("surrogate-key", "b").header("cache-groups", "\"c\"");
        let control = if asked.target == "/kept" { "max-age=1" } else { "no-store" };
        reply.header("cdn-cache-control", control).header("everpage-cache-control", control)
    };
    let origin = origin().otherwise(reply).start().await;
    let proxy = proxy().origin(&origin).start().await;
    for (path, outcome) in [("/kept", "miss"), ("/kept", "hit"), ("/not", "refused"), ("/admin/", "bypass")] {
        let answer = proxy.get(path).await;
        assert_eq!(answer.outcome(), outcome);
        for name in ["cache-tag", "surrogate-key", "cache-groups", "cdn-cache-control", "everpage-cache-control"] {
            assert_eq!(answer.header(name), None, "{name} of {path}");
        }
    }
}

#[tokio::test]
async fn the_cache_is_told_apart_from_the_browser() {
    let reply = |asked: Asked| async move {
        let (ours, cdn, all) = match &*asked.target {
            "/ours" => ("max-age=1", "no-store", "private"),
            "/cdn" => ("", "max-age=1", "no-store"),
            _ => ("no-store", "max-age=1", "public"),
        };
        let reply = Reply::new("x").header("cdn-cache-control", cdn).header("cache-control", all);
        if ours.is_empty() { reply } else { reply.header("everpage-cache-control", ours) }
    };
    let origin = origin().otherwise(reply).start().await;
    let proxy = proxy().origin(&origin).start().await;
    for (path, outcome, control) in
        [("/ours", "hit", "private"), ("/cdn", "hit", "no-store"), ("/no", "refused", "public")]
    {
        proxy.get(path).await;
        let answer = proxy.get(path).await;
        assert_eq!((answer.outcome(), answer.header("cache-control")), (outcome, Some(control)), "{path}");
    }
}

#[tokio::test]
async fn a_page_belongs_to_its_host() {
    let origin = origin().otherwise(|asked| async move { Reply::new(asked.header("host").unwrap().to_owned()) });
    let origin = origin.start().await;
    let proxy = proxy().origin(&origin).start().await;
    let get = async |host: &str| {
        let answer = proxy.ask(Method::GET, "/").host(host).send().await;
        (answer.outcome(), answer.text().to_owned())
    };
    assert_eq!(get("shop.example").await, ("miss", "shop.example".into()));
    for same in ["SHOP.example", "shop.example:80", "Shop.Example.", "shop.example:"] {
        assert_eq!(get(same).await, ("hit", "shop.example".into()), "{same}");
    }
    assert_eq!(get("shop.example:8080").await, ("miss", "shop.example:8080".into()));
    assert_eq!(get("other.example").await, ("miss", "other.example".into()));
    let absolute = b"GET http://third.example/ HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
    assert!(raw(proxy.address, absolute).await.contains("fwd=uri-miss"));
    assert_eq!(origin.last().header("host"), Some("third.example"));
    assert_eq!(get("third.example").await, ("hit", "third.example".into()));
}

#[tokio::test]
async fn a_host_that_is_not_served_is_misdirected() {
    let (origin, proxy) = site(|config| config.hosts = vec!["shop.example".into()]).await;
    for (host, status) in [
        ("shop.example", 200),
        ("SHOP.EXAMPLE:80", 200),
        ("shop.example:8443", 200),
        ("other.example", 421),
        ("shop.example.evil.example", 421),
        ("evil.example:80", 421),
        ("shop.example@evil", 400),
        ("", 400),
    ] {
        let answer = proxy.ask(Method::GET, "/").host(host).send().await;
        assert_eq!(answer.status, status, "{host}");
    }
    assert!(origin.asked().iter().all(|asked| asked.header("host").unwrap().starts_with("shop.example")));
    for head in ["", "Host: shop.example\r\nHost: shop.example\r\n"] {
        let request = format!("GET / HTTP/1.1\r\n{head}Connection: close\r\n\r\n");
        assert!(raw(proxy.address, request.as_bytes()).await.starts_with("HTTP/1.1 400 "), "{head}");
    }
}
