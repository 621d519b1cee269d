//! Which fields travel? Request fields to the origin, response fields to the visitor and into the store.
//!
//! A page is rendered for nobody in particular: a request that may be kept carries no field that names a visitor, a client,
//! another URL, host, scheme or method. What is not in the key must not change the page.

use std::borrow::Cow;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::request_fields::{RequestFields, text};

/// Meant for the next hop only (RFC 9110, section 7.6.1; RFC 9112; and what older clients send).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Request fields that belong to one visitor's request and never go along on a fill.
const OF_ONE_REQUEST: [HeaderName; 11] = [
    CONTENT_LENGTH,
    EXPECT,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    MAX_FORWARDS,
    RANGE,
    TRAILER,
    HeaderName::from_static("cache-control"),
];

/// Request fields that name a visitor, a client, or another URL, host, scheme or method than the request line does.
const NAMES_SOMEBODY: [&str; 25] = [
    "cookie",
    "authorization",
    "pragma",
    "from",
    "referer",
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "remote-user",
    "x-host",
    "x-url-scheme",
    "x-scheme",
    "front-end-https",
    "x-http-method",
    "x-method-override",
    "x-http-host-override",
    "x-script-name",
    "x-envoy-original-path",
];

/// Of these, what a request that goes past the cache does not carry on: the proxy tells it anew, or nobody vouches for it.
const REPLACED_ON_PASS: [&str; 15] = [
    "forwarded",
    "x-real-ip",
    "x-forwarded",
    "x-forwarded-by",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
];

/// How the names of whole families of such fields begin; new members turn up with every gateway.
const NAMES_SOMEBODY_BEGINNINGS: [&str; 6] =
    ["x-forwarded", "x-original-", "x-originating-", "x-remote-", "x-rewrite-", "x-http-method-"];

/// With `cache.unkeyed_headers = "drop"`, only these and `cache.key_headers` reach the origin.
const ALWAYS_FORWARDED: [HeaderName; 3] = [ACCEPT, ACCEPT_LANGUAGE, USER_AGENT];

/// Response fields that speak to this cache and are not passed on (RFC 9213, RFC 9875, and the names in use).
const FOR_THIS_CACHE: [&str; 5] =
    ["everpage-cache-control", "cdn-cache-control", "cache-tag", "surrogate-key", "cache-groups"];

/// Who asks, as far as the origin is told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The host that the visitor asked for.
    pub host: &'a str,
    /// The scheme by which the visitor came.
    pub https: bool,
    /// The visitor's address; `None` on a fill, which is for nobody in particular.
    pub client: Option<&'a str>,
}

/// The fields of a request whose answer may be kept.
#[must_use]
pub fn for_fill(request: &HeaderMap, told: &Told<'_>, only: Option<&[HeaderName]>) -> HeaderMap {
    let listed = listed_in_connection(request);
    let mut headers = HeaderMap::with_capacity(request.keys_len() + 6);
    for (name, value) in request {
        let travels = match only {
            Some(keyed) => keyed.contains(name) || ALWAYS_FORWARDED.contains(name),
            None => true,
        };
        if travels && reaches_origin_on_fill(name) && !listed.contains(name) && name != HOST && name != ACCEPT_ENCODING
        {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepted_codings(request.into())));
    tell(&mut headers, told, None);
    headers
}

/// The fields of a request that goes past the cache: all but the hop-by-hop ones. What a trusted proxy says of the clients before it stays.
#[must_use]
pub fn for_pass(request: &HeaderMap, told: &Told<'_>, from_trusted: bool) -> HeaderMap {
    let mut headers = request.clone();
    remove_hop_by_hop(&mut headers);
    let forwarded_for = request.get("x-forwarded-for").filter(|_| from_trusted).cloned();
    let replaced = |name: &&HeaderName| REPLACED_ON_PASS.contains(&&*as_apps_read(name.as_str()));
    for name in request.keys().filter(replaced) {
        headers.remove(name);
    }
    headers.remove(HOST);
    tell(&mut headers, told, forwarded_for.as_ref());
    headers
}

/// Whether the origin sees this field of a request whose answer may be kept: if not, no page can vary by it.
#[must_use]
pub fn reaches_origin_on_fill(name: &HeaderName) -> bool {
    !(HOP_BY_HOP.contains(name) || OF_ONE_REQUEST.contains(name) || names_somebody(name.as_str()))
}

fn names_somebody(name: &str) -> bool {
    let name = as_apps_read(name);
    NAMES_SOMEBODY.contains(&&*name) || NAMES_SOMEBODY_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// CGI and its heirs (WSGI, PHP, Rack) give `X_Forwarded_Host` and `X-Forwarded-Host` to the app under one name.
fn as_apps_read(name: &str) -> Cow<'_, str> {
    if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { Cow::Borrowed(name) }
}

/// Removes what is meant for one hop, the fields that `Connection` lists included (RFC 9110, section 7.6.1).
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in listed_in_connection(headers) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Removes what the origin says to this cache only.
pub fn remove_cache_fields(headers: &mut HeaderMap) {
    for name in FOR_THIS_CACHE {
        headers.remove(name);
    }
}

/// Adds this proxy to `Via` (RFC 9110, section 7.6.3).
pub fn add_via(headers: &mut HeaderMap) {
    headers.append(VIA, HeaderValue::from_static("1.1 everpage"));
}

/// How often this kind of proxy stands in `Via` already: a loop shows there.
#[must_use]
pub fn passes_through_everpage(request: &HeaderMap) -> usize {
    let lines = request.get_all(VIA).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter(|hop| hop.trim_end().ends_with("everpage")).count()
}

/// The content codings that the origin is asked for: `br` and `gzip` as far as the visitor takes them, so that a page that varies by
/// `Accept-Encoding` has four variants at most (RFC 9110, section 12.5.3).
#[must_use]
pub fn accepted_codings(request: RequestFields<'_>) -> &'static str {
    let (mut brotli, mut gzip, mut any) = (None, None, None);
    for line in request.all(&ACCEPT_ENCODING) {
        for item in text(line).unwrap_or_default().split(',') {
            let mut parts = item.split(';');
            let coding = parts.next().unwrap_or_default().trim();
            let refused = parts.any(|parameter| is_zero_weight(parameter.trim()));
            let slot = match coding {
                _ if coding.eq_ignore_ascii_case("br") => &mut brotli,
                _ if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") => &mut gzip,
                "*" => &mut any,
                _ => continue,
            };
            *slot = Some(!refused);
        }
    }
    let accepts = |coding: Option<bool>| coding.or(any).unwrap_or(false);
    match (accepts(brotli), accepts(gzip)) {
        (true, true) => "br, gzip",
        (true, false) => "br",
        (false, true) => "gzip",
        (false, false) => "identity",
    }
}

fn is_zero_weight(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    name.trim().eq_ignore_ascii_case("q") && value.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0)
}

/// Whether `Connection` takes this field away before it reaches the origin.
#[must_use]
pub fn is_listed_in_connection(request: RequestFields<'_>, name: &HeaderName) -> bool {
    let lines = request.all(&CONNECTION).filter_map(text);
    lines.flat_map(|line| line.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(name.as_str()))
}

fn listed_in_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// The proxy's own truth about the request (RFC 7239, and the fields that apps read instead).
fn tell(headers: &mut HeaderMap, told: &Told<'_>, forwarded_for: Option<&HeaderValue>) {
    let scheme = if told.https { "https" } else { "http" };
    let mut set = |name: &'static str, value: String| {
        // A host that is no field value has been refused before.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set("x-forwarded-host", told.host.to_owned());
    set("x-forwarded-proto", scheme.to_owned());
    let mut forwarded = format!("host=\"{}\";proto={scheme}", told.host);
    if let Some(client) = told.client {
        let node = if client.contains(':') { format!("\"[{client}]\"") } else { client.to_owned() };
        forwarded = format!("for={node};{forwarded}");
        let before = forwarded_for.and_then(|line| line.to_str().ok()).map(|line| format!("{line}, "));
        set("x-forwarded-for", format!("{}{client}", before.unwrap_or_default()));
        set("x-real-ip", client.to_owned());
    }
    set("forwarded", forwarded);
    add_via(headers);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
            .collect()
    }

    const NOBODY: Told<'_> = Told { host: "shop.example", https: false, client: None };

    #[test]
    fn a_fill_names_no_visitor_and_no_other_url() {
        let mut request =
            headers(&[("accept-language", "de"), ("connection", "x-hop"), ("x-hop", "1"), ("if-none-match", "*")]);
        for name in NAMES_SOMEBODY.into_iter().chain(REPLACED_ON_PASS).chain(["x-forwarded-new", "x-original-url"]) {
            request.insert(name, "evil".parse().unwrap());
        }
        let fill = for_fill(&request, &NOBODY, None);
        assert!(fill.values().all(|value| value != "evil"), "{fill:?}");
        assert!(!fill.contains_key("x-hop") && !fill.contains_key("if-none-match"));
        assert_eq!(fill["accept-language"], "de");
        assert_eq!(fill["x-forwarded-host"], "shop.example");
        assert_eq!(fill["forwarded"], "host=\"shop.example\";proto=http");
    }

    #[test]
    fn underscores_name_the_same_fields_as_dashes() {
        let request = headers(&[("x_forwarded_host", "evil"), ("x_original-url", "evil"), ("x_theme", "dark")]);
        let fill = for_fill(&request, &NOBODY, None);
        assert!(fill.values().all(|value| value != "evil"), "{fill:?}");
        assert_eq!(fill["x_theme"], "dark");
        assert!(!for_pass(&request, &NOBODY, true).contains_key("x_forwarded_host"));
    }

    #[test]
    fn the_strict_form_forwards_the_key_and_a_fixed_list() {
        let request = headers(&[("accept", "*/*"), ("x-theme", "dark"), ("x-else", "1")]);
        let fill = for_fill(&request, &NOBODY, Some(&[HeaderName::from_static("x-theme")]));
        assert!(fill.contains_key("accept") && fill.contains_key("x-theme") && !fill.contains_key("x-else"));
    }

    #[test]
    fn a_pass_carries_cookies_and_appends_the_client() {
        let request = headers(&[("cookie", "a=b"), ("x-forwarded-for", "10.0.0.1"), ("x-forwarded-host", "evil")]);
        let told = Told { client: Some("::1"), ..NOBODY };
        assert_eq!(for_pass(&request, &told, false)["x-forwarded-for"], "::1");
        let pass = for_pass(&request, &told, true);
        assert_eq!(pass["cookie"], "a=b");
        assert_eq!(pass["x-forwarded-for"], "10.0.0.1, ::1");
        assert_eq!(pass["x-forwarded-host"], "shop.example");
        assert_eq!(pass["forwarded"], "for=\"[::1]\";host=\"shop.example\";proto=http");
    }

    #[test]
    fn codings_fall_into_four_classes() {
        let class = |value: &str| accepted_codings((&headers(&[("accept-encoding", value)])).into());
        assert_eq!(class("gzip, deflate, br, zstd"), "br, gzip");
        assert_eq!(class("gzip;q=0.5, br;q=0"), "gzip");
        assert_eq!(class("*"), "br, gzip");
        assert_eq!(class("*, gzip; q=0.000"), "br");
        assert_eq!(class("identity"), "identity");
        assert_eq!(accepted_codings((&HeaderMap::new()).into()), "identity");
    }

    #[test]
    fn a_loop_shows_in_via() {
        assert_eq!(passes_through_everpage(&headers(&[("via", "1.1 everpage, 1.1 nginx")])), 1);
    }

    proptest! {
        #[test]
        fn no_request_says_more_to_the_origin_than_the_key_knows(
            lines in prop::collection::vec(
                (
                    "(x-forwarded-[a-z]{1,8}|x-original-[a-z]{1,4}|cookie|range|if-[a-z]{1,6}|te|connection|host|accept|x-[a-z]{1,3})",
                    "(evil|x-[a-z]{1,3}|accept|,| |gzip){1,5}",
                ),
                0..10,
            ),
            strict: bool,
        ) {
            let mut request = HeaderMap::new();
            for (name, value) in &lines {
                request.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
            }
            let keyed = [HeaderName::from_static("x-a")];
            let fill = for_fill(&request, &NOBODY, strict.then_some(&keyed[..]));
            let own = ["accept-encoding", "forwarded", "via", "x-forwarded-host", "x-forwarded-proto"];
            for name in fill.keys() {
                let is_own = own.contains(&name.as_str());
                prop_assert!(is_own || (reaches_origin_on_fill(name) && !is_listed_in_connection((&request).into(), name)));
                prop_assert!(is_own || !strict || name == "x-a" || ALWAYS_FORWARDED.contains(name));
                if is_own {
                    prop_assert!(fill.get_all(name).iter().eq(for_fill(&HeaderMap::new(), &NOBODY, None).get_all(name)) || name == ACCEPT_ENCODING);
                }
            }
        }

        #[test]
        fn any_accept_encoding_falls_into_a_class(value in "(gzip|br|[*]|x-gzip|;|q=|[0-9.]{0,4}|,| |nan|-){0,10}") {
            let class = accepted_codings((&headers(&[("accept-encoding", &value)])).into());
            prop_assert!(["br, gzip", "br", "gzip", "identity"].contains(&class));
            prop_assert!(value.contains(['*']) || !class.contains("br") || value.contains("br"));
            prop_assert!(value.contains(['*']) || !class.contains("gzip") || value.contains("gzip"));
        }
    }
}
