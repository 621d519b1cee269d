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
pub fn judge_body(method: &Method, announced_bytes: Option<u64>, received_bytes: u64) -> Result<(), Reason> {
    if method == Method::HEAD {
        return Ok(());
    }
    match announced_bytes {
        Some(announced) if announced != received_bytes => Err(Reason::CutShort),
        None if received_bytes == 0 => Err(Reason::Empty),
        _ => Ok(()),
    }
}

fn announced_bytes(response: &HeaderMap) -> Option<u64> {
    response.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}
