//! May this response be kept?

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, SET_COOKIE};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::reason::Reason;
use super::rules::Rules;
use super::{cache_control, freshness, tags, vary};
use crate::clock::UnixMillis;
use crate::config::Lifetime;

/// What keeping a response takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// Names by which it can be invalidated.
    pub tags: Vec<Arc<str>>,
    /// Request fields that select it, sorted.
    pub vary: Vec<HeaderName>,
    /// Seconds for which it is fresh; `None`: forever.
    pub fresh_seconds: Option<u64>,
    /// Its age on arrival.
    pub age_seconds: u64,
    /// Bytes of the body, where the origin announced them.
    pub announced_bytes: Option<u64>,
}

/// Judges the head of a response to a request that may be kept. The body has its own say in [`judge_body`].
///
/// # Errors
/// Why it must not be kept.
pub fn judge_head(
    rules: &Rules,
    method: &Method,
    status: StatusCode,
    response: &HeaderMap,
    now: UnixMillis,
) -> Result<Admitted, Reason> {
    if status == StatusCode::PARTIAL_CONTENT || response.contains_key(CONTENT_RANGE) {
        return Err(Reason::Partial);
    }
    if !rules.statuses.contains(&status) {
        return Err(Reason::Status);
    }
    if response.contains_key(SET_COOKIE) {
        return Err(Reason::SetCookie);
    }
    let targeted = ["everpage-cache-control", "cdn-cache-control"]
        .into_iter()
        .find_map(|name| cache_control::parse_targeted(response.get_all(name).iter()));
    let is_targeted = targeted.is_some();
    let directives = targeted.unwrap_or_else(|| cache_control::parse(response.get_all("cache-control").iter()));
    if directives.no_store {
        return Err(Reason::NoStore);
    }
    if directives.private {
        return Err(Reason::Private);
    }
    if directives.no_cache {
        return Err(Reason::NoCache);
    }
    let vary = vary::fields(response)?;
    let tags = tags::tags(response).map_err(|_| Reason::TooManyTags)?;
    let fresh_seconds = match rules.lifetime {
        Lifetime::Forever => None,
        Lifetime::Origin => match freshness::fresh_seconds(&directives, is_targeted, response, now) {
            0 => return Err(Reason::NotFresh),
            seconds => Some(seconds),
        },
    };
    let announced_bytes = announced_bytes(response);
    if method != Method::HEAD && announced_bytes.is_some_and(|bytes| bytes > rules.max_body) {
        return Err(Reason::TooLarge);
    }
    Ok(Admitted { tags, vary, fresh_seconds, age_seconds: freshness::age_seconds(response, now), announced_bytes })
}

/// Judges a body that has arrived whole.
///
/// # Errors
/// Why the page must not be kept.
pub fn judge_body(
    method: &Method,
    status: StatusCode,
    announced_bytes: Option<u64>,
    received_bytes: u64,
) -> Result<(), Reason> {
    if method == Method::HEAD {
        return Ok(());
    }
    match announced_bytes {
        Some(announced) if announced != received_bytes => Err(Reason::CutShort),
        None if received_bytes == 0 && status == StatusCode::OK => Err(Reason::Empty),
        _ => Ok(()),
    }
}

fn announced_bytes(response: &HeaderMap) -> Option<u64> {
    response.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use crate::config;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn judge_as(lifetime: Lifetime, status: u16, lines: &[(&str, &str)]) -> Result<Admitted, Reason> {
        let cache = config::Cache { lifetime, max_body: 1000, ..config::Cache::default() };
        let headers = lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        judge_head(&Rules::new(&cache).unwrap(), &Method::GET, status, &headers, NOW)
    }

    fn refusal(status: u16, lines: &[(&str, &str)]) -> Option<Reason> {
        judge_as(Lifetime::Forever, status, lines).err()
    }

    #[test]
    fn a_plain_page_is_kept_forever() {
        let admitted = judge_as(Lifetime::Forever, 200, &[("cache-control", "max-age=0, must-revalidate")]).unwrap();
        assert_eq!(admitted.fresh_seconds, None);
    }

    #[test]
    fn each_refusal_has_its_name() {
        assert_eq!(refusal(404, &[]), Some(Reason::Status));
        assert_eq!(refusal(206, &[]), Some(Reason::Partial));
        assert_eq!(refusal(200, &[("content-range", "bytes 0-1/2")]), Some(Reason::Partial));
        assert_eq!(refusal(200, &[("set-cookie", "a=b")]), Some(Reason::SetCookie));
        assert_eq!(refusal(200, &[("cache-control", "No-Store")]), Some(Reason::NoStore));
        assert_eq!(refusal(200, &[("cache-control", "public, private=\"x\"")]), Some(Reason::Private));
        assert_eq!(refusal(200, &[("cache-control", "no-cache")]), Some(Reason::NoCache));
        assert_eq!(refusal(200, &[("vary", "accept, *")]), Some(Reason::VaryStar));
        assert_eq!(refusal(200, &[("content-length", "1001")]), Some(Reason::TooLarge));
        assert_eq!(refusal(200, &[("cache-tag", "t, s")]), None);
        let tags: String = (0..1001).map(|n| format!("t{n},")).collect();
        assert_eq!(refusal(200, &[("cache-tag", &tags)]), Some(Reason::TooManyTags));
    }

    #[test]
    fn what_the_origin_says_to_this_cache_counts_instead() {
        let private = ("cache-control", "private");
        assert_eq!(refusal(200, &[private, ("cdn-cache-control", "max-age=60")]), None);
        assert_eq!(refusal(200, &[("cdn-cache-control", "no-store")]), Some(Reason::NoStore));
        let both = [("cdn-cache-control", "no-store"), ("everpage-cache-control", "max-age=60")];
        assert_eq!(refusal(200, &both), None);
        assert_eq!(refusal(200, &[private, ("cdn-cache-control", "!")]), Some(Reason::Private));
    }

    #[test]
    fn with_the_origins_lifetime_only_what_is_fresh_is_kept() {
        let judge =
            |value| judge_as(Lifetime::Origin, 200, &[("cache-control", value)]).map(|admitted| admitted.fresh_seconds);
        assert_eq!(judge("max-age=60"), Ok(Some(60)));
        assert_eq!(judge("max-age=0"), Err(Reason::NotFresh));
        assert_eq!(judge("public"), Err(Reason::NotFresh));
    }

    #[test]
    fn a_body_must_be_as_long_as_announced_and_not_empty_by_accident() {
        let judge = |method, announced, received| judge_body(&method, StatusCode::OK, announced, received);
        assert_eq!(judge(Method::GET, Some(5), 4), Err(Reason::CutShort));
        assert_eq!(judge(Method::GET, None, 0), Err(Reason::Empty));
        assert_eq!(judge(Method::GET, Some(0), 0), Ok(()));
        assert_eq!(judge(Method::GET, None, 1), Ok(()));
        assert_eq!(judge(Method::HEAD, Some(5), 0), Ok(()));
        assert_eq!(judge_body(&Method::GET, StatusCode::NO_CONTENT, None, 0), Ok(()));
    }

    fn arbitrary_response() -> impl Strategy<Value = (u16, HeaderMap)> {
        let name = prop::sample::select(vec![
            "set-cookie",
            "Set-Cookie",
            "cache-control",
            "cdn-cache-control",
            "everpage-cache-control",
            "vary",
            "content-range",
            "content-length",
            "content-encoding",
            "age",
            "date",
            "expires",
            "last-modified",
            "cache-tag",
            "surrogate-key",
            "cache-groups",
            "x-other",
        ]);
        let words = "(no-store|private|no-cache|max-age=[0-9]{1,12}|s-maxage|[*]|cookie|accept|gzip|[0-9]{1,22}|\"[a-z,\\\\]{0,4}\"?|[ ,;=]){0,6}";
        let octets = prop::collection::vec(prop_oneof![Just(b'\t'), 32u8..127, 128u8..=255], 0..20);
        let value = prop_oneof![3 => words.prop_map(String::into_bytes), 1 => octets];
        let line = (name, value)
            .prop_map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(&value).unwrap()));
        let status = prop_oneof![4 => Just(200u16), 1 => 100u16..1000];
        // One by one: collecting would keep the last line of a field only.
        let gather = |lines: Vec<(HeaderName, HeaderValue)>| {
            let mut headers = HeaderMap::new();
            lines.into_iter().for_each(|(name, value)| _ = headers.append(name, value));
            headers
        };
        (status, prop::collection::vec(line, 0..6).prop_map(gather))
    }

    /// Whether the word stands alone between two commas.
    fn says(line: &HeaderValue, word: &[u8]) -> bool {
        line.as_bytes().split(|byte| *byte == b',').any(|item| item.trim_ascii() == word)
    }

    proptest! {
        #[test]
        fn whatever_is_admitted_is_for_everybody((status, headers) in arbitrary_response(), forever: bool, head: bool) {
            let lifetime = if forever { Lifetime::Forever } else { Lifetime::Origin };
            let cache = config::Cache { lifetime, max_body: 1000, ..config::Cache::default() };
            let method = if head { Method::HEAD } else { Method::GET };
            let status = StatusCode::from_u16(status).unwrap();
            if let Ok(admitted) = judge_head(&Rules::new(&cache).unwrap(), &method, status, &headers, NOW) {
                prop_assert_eq!(status, StatusCode::OK);
                prop_assert!(!headers.contains_key("set-cookie") && !headers.contains_key("content-range"));
                prop_assert!(!headers.get_all("vary").iter().any(|line| says(line, b"*")));
                prop_assert!(head || admitted.announced_bytes.is_none_or(|bytes| bytes <= 1000));
                prop_assert_eq!(admitted.fresh_seconds.is_none(), forever);
                prop_assert_ne!(admitted.fresh_seconds, Some(0));
                // Where nobody speaks to this cache alone, each word of Cache-Control counts.
                if !headers.contains_key("cdn-cache-control") && !headers.contains_key("everpage-cache-control") {
                    for line in headers.get_all("cache-control") {
                        let refuses = [&b"no-store"[..], b"private", b"no-cache"].iter().any(|word| says(line, word));
                        prop_assert!(line.as_bytes().contains(&b'"') || !refuses);
                    }
                }
            }
        }
    }
}
