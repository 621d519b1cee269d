//! How a request ended: one word for each, the same in the access log, the metrics and on the dashboard.

use http::{HeaderValue, StatusCode};

use crate::policy::reason::Reason;

/// Every request ends in exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered from memory.
    Hit,
    /// Answered from the store.
    StoreHit,
    /// Answered from memory with a page that a soft invalidation named, while a newer one is fetched.
    SoftHit,
    /// Fetched, and kept.
    Miss,
    /// Fetched by an earlier request for the same page.
    Collapsed,
    /// Fetched, and not kept.
    Refused,
    /// Passed on without a look into the cache.
    Bypass,
    /// The origin did not answer.
    Error,
    /// Not let in.
    Rejected,
    /// An invalidation on the public listener.
    Purge,
}

impl Outcome {
    /// All of them, in the order of their numbers: for counters.
    pub const ALL: [Outcome; 10] = [
        Outcome::Hit,
        Outcome::StoreHit,
        Outcome::SoftHit,
        Outcome::Miss,
        Outcome::Collapsed,
        Outcome::Refused,
        Outcome::Bypass,
        Outcome::Error,
        Outcome::Rejected,
        Outcome::Purge,
    ];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::StoreHit => "store-hit",
            Outcome::SoftHit => "soft-hit",
            Outcome::Miss => "miss",
            Outcome::Collapsed => "collapsed",
            Outcome::Refused => "refused",
            Outcome::Bypass => "bypass",
            Outcome::Error => "error",
            Outcome::Rejected => "rejected",
            Outcome::Purge => "purge",
        }
    }
}

/// How a request went past what was stored (RFC 9211, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwarded {
    /// Nothing valid was stored of the URL.
    UriMiss,
    /// Something was, but not for these request fields.
    VaryMiss,
    /// Something was, but it is no longer fresh.
    Stale,
}

impl Forwarded {
    fn as_str(self) -> &'static str {
        match self {
            Forwarded::UriMiss => "uri-miss",
            Forwarded::VaryMiss => "vary-miss",
            Forwarded::Stale => "stale",
        }
    }
}

/// The value of `Cache-Status` (RFC 9211) for a hit from memory.
pub(super) const MEMORY_HIT: &str = "everpage; hit; detail=memory";

/// The value of `Cache-Status` for a hit.
pub(super) fn hit(detail: &'static str) -> HeaderValue {
    match detail {
        "memory" => HeaderValue::from_static(MEMORY_HIT),
        "soft" => HeaderValue::from_static("everpage; hit; detail=soft"),
        other => value(format!("everpage; hit; detail={other}")),
    }
}

/// For a response that is being kept.
pub(super) fn stored(forwarded: Forwarded, status: StatusCode) -> HeaderValue {
    value(format!("everpage; fwd={}; fwd-status={}; stored", forwarded.as_str(), status.as_u16()))
}

/// For a response that another request fetches.
pub(super) fn collapsed(forwarded: Forwarded) -> HeaderValue {
    value(format!("everpage; fwd={}; collapsed", forwarded.as_str()))
}

/// For a response that another request fetches, and that is not kept.
pub(super) fn collapsed_unkept(forwarded: Forwarded, reason: Reason) -> HeaderValue {
    value(format!("everpage; fwd={}; collapsed; detail={}", forwarded.as_str(), reason.as_str()))
}

/// For a response that is not kept.
pub(super) fn refused(forwarded: Forwarded, status: StatusCode, reason: Reason) -> HeaderValue {
    value(format!("everpage; fwd={}; fwd-status={}; detail={}", forwarded.as_str(), status.as_u16(), reason.as_str()))
}

/// For a fetch that failed.
pub(super) fn failed(reason: Reason) -> HeaderValue {
    value(format!("everpage; fwd=uri-miss; detail={}", reason.as_str()))
}

/// For a request that could not be passed on: why it goes past the cache, and what failed.
pub(super) fn bypass_failed(past: Reason, failure: Reason) -> HeaderValue {
    value(format!("everpage; fwd={}; detail={}", forwarded_past(past), failure.as_str()))
}

/// For a request that was passed on.
pub(super) fn bypass(reason: Reason) -> HeaderValue {
    value(format!("everpage; fwd={}; detail={}", forwarded_past(reason), reason.as_str()))
}

/// For a request that was not let in.
pub(super) fn rejected(word: &'static str) -> HeaderValue {
    value(format!("everpage; detail={word}"))
}

/// RFC 9211, section 2.2.
fn forwarded_past(reason: Reason) -> &'static str {
    match reason {
        Reason::Method => "method",
        Reason::Reload => "request",
        _ => "bypass",
    }
}

fn value(words: String) -> HeaderValue {
    HeaderValue::try_from(words).expect("plain words are a field value")
}
