//! Each policy alone: time and allocations per call.
//!
//! `cargo bench --bench policy`; `cargo bench --bench policy -- lookup` measures those with the word in their names.

#[path = "shared/browser.rs"]
mod browser;

use std::hash::{BuildHasher as _, RandomState};

use divan::{AllocProfiler, Bencher, black_box};
use everpage::clock::UnixMillis;
use everpage::config::{Cache, Config};
use everpage::policy::explain::{Question, explain};
use everpage::policy::fields::Told;
use everpage::policy::range::Ranges;
use everpage::policy::rules::{Lookup, Request, Rules};
use everpage::policy::{admission, cache_control, conditional, fields, host, key, path, range, tags, vary};
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// A path as blogs and shops have them.
const PLAIN: &str = "/blog/2026/a-post-of-some-length/";
const ENCODED: &str = "/blog/%C3%A4pfel-und-%62irnen/";
const DOTS: &str = "/blog/./2026/../2025/%2e%2e/a-post/";
/// Times in the fields below lie shortly before it.
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn main() {
    // What is measured shall be the way that is meant.
    assert!(matches!(lookup(&rules(1), PLAIN, &request(&[])), Lookup::Use(_)));
    assert!(matches!(lookup(&rules(100), PLAIN, &request(&[])), Lookup::Use(_)));
    assert!(matches!(lookup(&rules(1), PLAIN, &request(&[SESSION])), Lookup::Bypass(_)));
    assert!(admission::judge_head(&rules(1), &Method::GET, StatusCode::OK, &response(), NOW).is_ok());
    assert!(matches!(range::parse(b"bytes=0-99,200-299", 4096), Ranges::Satisfiable(_)));
    divan::main();
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

/// What a browser asks with.
fn request(more: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut lines = vec![("host", "shop.example")];
    lines.extend(browser::FIELDS);
    lines.extend(more);
    headers(&lines)
}

/// What an app answers with.
fn response() -> HeaderMap {
    headers(&[
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "16384"),
        ("date", "Fri, 15 Jan 2027 08:00:00 GMT"),
        ("cache-control", "public, max-age=60, stale-while-revalidate=30"),
        ("cdn-cache-control", "max-age=86400"),
        ("cache-tag", "post-17, blog, author-3"),
        ("vary", "Cookie, Accept-Encoding"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
    ])
}

/// The default rules, with as many patterns to ignore.
fn rules(patterns: usize) -> Rules {
    let ignore = (0..patterns).map(|number| match number {
        0 => "^/admin/".to_owned(),
        number => format!("^/section-{number}/[^/]+/(edit|delete)/"),
    });
    Rules::new(&Cache { ignore: ignore.collect(), ..Cache::default() }).expect("the patterns compile")
}

fn lookup<'a>(rules: &Rules, path: &'a str, headers: &'a HeaderMap) -> Lookup<'a> {
    rules.lookup(&Request {
        method: &Method::GET,
        https: false,
        host: "shop.example",
        path,
        query: None,
        headers: headers.into(),
    })
}

const ANALYTICS: (&str, &str) = ("cookie", "_ga=GA1.1.1234567890.1700000000; _ga_ABCDEF=GS1.1.17.1.1.0; theme=dark");
const SESSION: (&str, &str) = ("cookie", "_ga=GA1.1.1234567890.1700000000; theme=dark; sessionid=0123456789abcdef");

mod urls {
    use super::*;

    #[divan::bench(args = ["shop.example", "Shop.Example:443"])]
    fn normalise_host(raw: &str) -> usize {
        host::normalise_host(black_box(raw)).map_or(0, |host| host.len())
    }

    #[divan::bench(args = [PLAIN, ENCODED, DOTS])]
    fn normalise_path(raw: &str) -> usize {
        path::normalise(black_box(raw)).map_or(0, |path| path.len())
    }

    #[divan::bench(args = [PLAIN, ENCODED])]
    fn path_id(bencher: Bencher<'_, '_>, raw: &str) {
        let normal = path::normalise(raw).expect("a path");
        bencher.bench(|| path::path_id(black_box(&normal)));
    }
}

/// What selects a page. The page at hand is found by the sha1 of its URL; `siphash` shows what a shorter name made by the standard library's hash
/// would cost, of twice 64 bits, for two pages under one name must not happen.
mod keys {
    use super::*;

    #[divan::bench]
    fn base(bencher: Bencher<'_, '_>) {
        let request = request(&[]);
        bencher
            .bench(|| key::base(&Method::GET, false, "shop.example", black_box(PLAIN), None, &[], (&request).into()));
    }

    #[divan::bench]
    fn base_by_siphash(bencher: Bencher<'_, '_>) {
        let (one, other) = (RandomState::new(), RandomState::new());
        bencher.bench(|| {
            let page = ("GET", false, "shop.example", black_box(PLAIN), None::<&str>);
            (one.hash_one(page), other.hash_one(page))
        });
    }

    #[divan::bench]
    fn base_with_key_headers(bencher: Bencher<'_, '_>) {
        let request = request(&[]);
        let selected = [ACCEPT_LANGUAGE];
        bencher.bench(|| {
            key::base(&Method::GET, false, "shop.example", black_box(PLAIN), None, &selected, (&request).into())
        });
    }

    #[divan::bench]
    fn variant(bencher: Bencher<'_, '_>) {
        let request = request(&[]);
        let base = key::base(&Method::GET, false, "shop.example", PLAIN, None, &[], (&request).into());
        bencher.bench(|| key::variant(black_box(&base), &[ACCEPT_ENCODING], (&request).into()));
    }
}

/// May the request be looked up?
mod lookups {
    use super::*;

    #[divan::bench(args = [1, 10, 100])]
    fn with_ignore_patterns(bencher: Bencher<'_, '_>, patterns: usize) {
        let (rules, request) = (rules(patterns), request(&[]));
        bencher.bench(|| matches!(super::lookup(&rules, black_box(PLAIN), &request), Lookup::Use(_)));
    }

    #[divan::bench]
    fn of_an_encoded_path(bencher: Bencher<'_, '_>) {
        let (rules, request) = (rules(1), request(&[]));
        bencher.bench(|| matches!(super::lookup(&rules, black_box(ENCODED), &request), Lookup::Use(_)));
    }

    #[divan::bench(args = ["none", "analytics", "session"])]
    fn with_cookies(bencher: Bencher<'_, '_>, cookies: &str) {
        let request = match cookies {
            "none" => request(&[]),
            "analytics" => request(&[ANALYTICS]),
            _ => request(&[SESSION]),
        };
        let rules = rules(1);
        bencher.bench(|| matches!(super::lookup(&rules, black_box(PLAIN), &request), Lookup::Use(_)));
    }
}

/// What of the request reaches the origin.
mod requests {
    use super::*;

    #[divan::bench]
    fn for_fill(bencher: Bencher<'_, '_>) {
        let request = request(&[ANALYTICS]);
        let told = Told { host: "shop.example", https: false, client: None };
        bencher.bench(|| fields::for_fill(black_box(&request), &told, None));
    }

    #[divan::bench]
    fn accepted_codings(bencher: Bencher<'_, '_>) {
        let request = request(&[]);
        bencher.bench(|| fields::accepted_codings(black_box(&request).into()));
    }

    #[divan::bench(args = [1, 20])]
    fn if_none_match(bencher: Bencher<'_, '_>, named: usize) {
        let tags: Vec<String> = (0..named).map(|number| format!("\"{number:032x}\"")).collect();
        let mut request = request(&[]);
        request.insert(IF_NONE_MATCH, tags.join(", ").try_into().expect("text"));
        let own = tags[named - 1].as_bytes();
        let stored = |name: &HeaderName| (*name == ETAG).then_some(own);
        assert_eq!(conditional::evaluate((&request).into(), stored), conditional::Precondition::NotModified);
        bencher.bench(|| conditional::evaluate(black_box(&request).into(), stored));
    }

    #[divan::bench(args = ["bytes=0-99", "bytes=0-99,200-299,-100"])]
    fn parse_range(bencher: Bencher<'_, '_>, field: &'static str) {
        bencher.bench(|| range::parse(black_box(field.as_bytes()), 16384));
    }
}

/// May the response be kept?
mod responses {
    use super::*;

    #[divan::bench]
    fn admission(bencher: Bencher<'_, '_>) {
        let (rules, response) = (rules(1), response());
        bencher.bench(|| admission::judge_head(&rules, &Method::GET, StatusCode::OK, black_box(&response), NOW));
    }

    #[divan::bench]
    fn cache_control(bencher: Bencher<'_, '_>) {
        let response = response();
        bencher.bench(|| cache_control::parse(black_box(&response).get_all(CACHE_CONTROL).iter()));
    }

    #[divan::bench]
    fn cache_control_targeted(bencher: Bencher<'_, '_>) {
        let response = response();
        bencher.bench(|| cache_control::parse_targeted(black_box(&response).get_all("cdn-cache-control").iter()));
    }

    #[divan::bench]
    fn tags(bencher: Bencher<'_, '_>) {
        let response = response();
        bencher.bench(|| tags::tags(black_box(&response)));
    }

    #[divan::bench]
    fn vary(bencher: Bencher<'_, '_>) {
        let response = response();
        bencher.bench(|| vary::fields(black_box(&response)));
    }
}

/// The answer to `everpage explain`, its question read.
#[divan::bench]
fn explain_a_url(bencher: Bencher<'_, '_>) {
    let config = Config::default();
    let rules = Rules::new(&config.cache).expect("the defaults are right");
    bencher.bench(|| {
        let question = Question::new("GET", black_box("https://shop.example/blog/?page=2"), &[], "").expect("a URL");
        explain(&config, &rules, &question)
    });
}
