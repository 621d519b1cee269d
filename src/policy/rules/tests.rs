//! The rules, as requests meet them.

use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::policy::request_fields::tests::{both_ways, sent};

fn rules(change: impl FnOnce(&mut config::Cache)) -> Rules {
    let mut cache = config::Cache::default();
    change(&mut cache);
    Rules::new(&cache).unwrap()
}

fn request<'a>(headers: &'a HeaderMap, target: &'a str) -> Request<'a> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    Request { method: &Method::GET, https: false, host: "h", path, query, headers: headers.into() }
}

fn refusal(rules: &Rules, headers: &[(&str, &str)], target: &str) -> Option<Reason> {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap()))
        .collect();
    match rules.lookup(&request(&headers, target)) {
        Lookup::Use(_) => None,
        Lookup::Bypass(reason) => Some(reason),
    }
}

fn query(rules: &Rules, target: &str) -> Option<String> {
    match rules.lookup(&request(&HeaderMap::new(), target)) {
        Lookup::Use(target) => target.query.map(Cow::into_owned),
        Lookup::Bypass(reason) => panic!("{reason:?}"),
    }
}

#[test]
fn an_ignore_rule_matches_at_the_start_of_the_path() {
    let rules = rules(|cache| cache.ignore = vec!["/admin/".into(), "(?x) ^/x/  # the end".into()]);
    assert_eq!(refusal(&rules, &[], "/admin/x"), Some(Reason::Ignored));
    assert_eq!(refusal(&rules, &[], "/x/y"), Some(Reason::Ignored));
    assert_eq!(refusal(&rules, &[], "/the/admin/"), None);
    assert_eq!(rules.matching_rules("/%78/y"), [1]);
}

#[test]
fn no_spelling_slips_past_an_ignore_rule() {
    let rules = rules(|cache| cache.ignore = vec!["^/admin/".into()]);
    for path in
        ["/%61dmin/", "//admin/", "/x/../admin/", "/./admin/", "/x/%2e%2e/admin/", "/admin%2Fx", "/a%2Fb/../../admin/"]
    {
        assert_eq!(refusal(&rules, &[], path), Some(Reason::Ignored), "{path}");
    }
}

#[test]
fn whoever_has_a_session_goes_past() {
    let rules = rules(|_| {});
    let cookie = |value| refusal(&rules, &[("cookie", value)], "/");
    assert_eq!(cookie("a=b; sessionid=x"), Some(Reason::BypassCookie));
    assert_eq!(cookie("wordpress_logged_in_abc=1"), Some(Reason::BypassCookie));
    assert_eq!(cookie("_ga=1; theme=sessionid"), None);
    assert_eq!(refusal(&rules, &[("authorization", "Basic x")], "/"), Some(Reason::Authorization));
}

#[test]
fn a_request_that_is_more_than_its_url_goes_past() {
    let rules = rules(|_| {});
    assert_eq!(refusal(&rules, &[("content-length", "3")], "/"), Some(Reason::RequestBody));
    assert_eq!(refusal(&rules, &[("transfer-encoding", "chunked")], "/"), Some(Reason::RequestBody));
    assert_eq!(refusal(&rules, &[("content-length", "0")], "/"), None);
    assert_eq!(refusal(&rules, &[("upgrade", "websocket")], "/"), Some(Reason::Upgrade));
    assert_eq!(refusal(&rules, &[], "/%zz"), Some(Reason::MalformedPath));
}

#[test]
fn a_reload_reaches_the_origin_only_where_that_is_allowed() {
    for field in [("cache-control", "no-cache"), ("cache-control", "max-age=0"), ("pragma", "no-cache")] {
        assert_eq!(refusal(&rules(|_| {}), &[field], "/"), None);
        assert_eq!(refusal(&rules(|cache| cache.honor_reload = true), &[field], "/"), Some(Reason::Reload));
    }
}

#[test]
fn ignored_parameters_are_not_part_of_the_page() {
    let rules = rules(|_| {});
    assert_eq!(query(&rules, "/?utm_source=x&page=2&fbclid=y"), Some("page=2".into()));
    assert_eq!(query(&rules, "/?utm_source=x"), None);
    assert_eq!(query(&rules, "/?page=2"), Some("page=2".into()));
    assert_eq!(query(&rules, "/?"), Some(String::new()));
}

#[test]
fn the_query_is_dropped_or_refused_where_asked() {
    let ignoring = rules(|cache| cache.query = QueryPolicy::Ignore);
    assert_eq!(query(&ignoring, "/?page=2"), None);
    let refusing = rules(|cache| cache.query = QueryPolicy::Bypass);
    assert_eq!(refusal(&refusing, &[], "/?page=2"), Some(Reason::Query));
    assert_eq!(refusal(&refusing, &[], "/?utm_source=x"), None);
}

#[test]
fn key_headers_select_a_page() {
    let rules = rules(|cache| cache.key_headers = vec![HeaderName::from_static("x-theme")]);
    let key = |value: &'static str| {
        let headers =
            HeaderMap::from_iter([(HeaderName::from_static("x-theme"), http::HeaderValue::from_static(value))]);
        match rules.lookup(&request(&headers, "/")) {
            Lookup::Use(target) => target.key,
            Lookup::Bypass(reason) => panic!("{reason:?}"),
        }
    };
    assert_ne!(key("dark"), key("light"));
    assert_eq!(key("dark"), key("dark"));
}

const NAMES: &[&str] = &[
    "authorization",
    "upgrade",
    "transfer-encoding",
    "content-length",
    "cookie",
    "cache-control",
    "pragma",
    "connection",
    "x-theme",
    "accept-encoding",
];
const VALUES: &str = "(0|3|no-cache|max-age=0|a=b; |sessionid=x|; |x-theme|, |gzip|br|dark){0,3}";

proptest! {
    #[test]
    fn what_is_looked_up_does_not_depend_on_where_the_fields_lie(
        sent in sent(NAMES, VALUES),
        target in prop::sample::select(vec!["/", "/?page=2&utm_source=x", "/%zz"]),
        is_head: bool, honor_reload: bool,
    ) {
        let rules = rules(|cache| {
            cache.honor_reload = honor_reload;
            cache.key_headers = vec![HeaderName::from_static("x-theme"), http::header::ACCEPT_ENCODING];
        });
        let method = if is_head { Method::HEAD } else { Method::GET };
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let [map, lines] = both_ways(&sent, |headers| {
            let request = Request { method: &method, https: true, host: "h", path, query, headers };
            match rules.lookup(&request) {
                Lookup::Use(target) => Ok((target.key, rules.as_get(&target, headers).key)),
                Lookup::Bypass(reason) => Err(reason),
            }
        });
        prop_assert_eq!(map, lines);
    }
}
