//! Every "no" has a name: the same word in `Cache-Status`, in the log, in the metrics and in `explain`.

/// Why a request was not looked up, or a response not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The method is not one of `cache.methods`.
    Method,
    /// An ignore rule matches the path.
    Ignored,
    /// The request carries `Authorization`.
    Authorization,
    /// The request carries one of `cache.bypass_cookies`.
    BypassCookie,
    /// The request has a query, and `cache.query` is `"bypass"`.
    Query,
    /// The path cannot be normalised: it is passed on as it came.
    MalformedPath,
    /// The journal cannot be looked at: nobody knows which pages are still valid.
    JournalOutage,
    /// A GET or HEAD with a body: what it selects is not in its URL.
    RequestBody,
    /// The request asks for another protocol.
    Upgrade,
    /// The visitor asked for a fresh page, and `cache.honor_reload` allows it.
    Reload,
    /// The status is not one of `cache.statuses`.
    Status,
    /// The response sets a cookie: it was made for one visitor.
    SetCookie,
    /// `Cache-Control: no-store`.
    NoStore,
    /// `Cache-Control: private`.
    Private,
    /// `Cache-Control: no-cache`.
    NoCache,
    /// `Vary: *`: anything may select it.
    VaryStar,
    /// A part of a page, answered to a request for the whole.
    Partial,
    /// An empty 200 for which the origin did not say `Content-Length: 0`.
    Empty,
    /// The body is larger than `cache.max_body`.
    TooLarge,
    /// The body ended early: shorter than announced, a broken chunk, a reset.
    CutShort,
    /// With `cache.lifetime = "origin"`: no time of freshness is left or given (RFC 9111, section 4.2).
    NotFresh,
    /// More tags than a page may carry.
    TooManyTags,
    /// An invalidation named the page while it was rendered.
    Invalidated,
    /// The fetch began within `cache.settle` after an invalidation that names the page.
    Settling,
    /// All fills in flight hold `cache.max_fill_bytes` already.
    FillMemory,
    /// The body is too large for memory, and all temporary files hold `cache.max_temporary_bytes` already.
    FillDisk,
    /// The body is too large for memory, and the temporary file could not be written.
    TemporaryFile,
    /// Too many pages wait to be written to the store: it stays in memory at most.
    StoreBusy,
    /// The origin cannot be reached.
    OriginUnreachable,
    /// The origin did not answer in time.
    OriginTimeout,
    /// What the origin sent is not HTTP, or broke off before its head was complete.
    OriginBroken,
    /// Too many requests are at the origin already.
    OriginBusy,
}

impl Reason {
    /// All of them, in the order of their numbers: for counters.
    pub const ALL: [Reason; 32] = [
        Reason::Method,
        Reason::Ignored,
        Reason::Authorization,
        Reason::BypassCookie,
        Reason::Query,
        Reason::MalformedPath,
        Reason::JournalOutage,
        Reason::RequestBody,
        Reason::Upgrade,
        Reason::Reload,
        Reason::Status,
        Reason::SetCookie,
        Reason::NoStore,
        Reason::Private,
        Reason::NoCache,
        Reason::VaryStar,
        Reason::Partial,
        Reason::Empty,
        Reason::TooLarge,
        Reason::CutShort,
        Reason::NotFresh,
        Reason::TooManyTags,
        Reason::Invalidated,
        Reason::Settling,
        Reason::FillMemory,
        Reason::FillDisk,
        Reason::TemporaryFile,
        Reason::StoreBusy,
        Reason::OriginUnreachable,
        Reason::OriginTimeout,
        Reason::OriginBroken,
        Reason::OriginBusy,
    ];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Method => "method",
            Reason::Ignored => "ignored",
            Reason::Authorization => "authorization",
            Reason::BypassCookie => "bypass-cookie",
            Reason::Query => "query",
            Reason::MalformedPath => "malformed-path",
            Reason::JournalOutage => "journal-outage",
            Reason::RequestBody => "request-body",
            Reason::Upgrade => "upgrade",
            Reason::Reload => "reload",
            Reason::Status => "status",
            Reason::SetCookie => "set-cookie",
            Reason::NoStore => "no-store",
            Reason::Private => "private",
            Reason::NoCache => "no-cache",
            Reason::VaryStar => "vary-star",
            Reason::Partial => "partial",
            Reason::Empty => "empty",
            Reason::TooLarge => "too-large",
            Reason::CutShort => "cut-short",
            Reason::NotFresh => "not-fresh",
            Reason::TooManyTags => "too-many-tags",
            Reason::Invalidated => "invalidated",
            Reason::Settling => "settling",
            Reason::FillMemory => "fill-memory",
            Reason::FillDisk => "fill-disk",
            Reason::TemporaryFile => "temporary-file",
            Reason::StoreBusy => "store-busy",
            Reason::OriginUnreachable => "origin-unreachable",
            Reason::OriginTimeout => "origin-timeout",
            Reason::OriginBroken => "origin-broken",
            Reason::OriginBusy => "origin-busy",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own_and_its_place() {
        let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
