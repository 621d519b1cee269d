//! Would a page be served that is known by its head only? In the words of the dashboard; requests are judged by `invalidation` itself.

use serde::Serialize;

use super::Parties;
use crate::invalidation::index::Subject;
use crate::page::{PageHead, PathId};

/// What becomes of a stored page when somebody asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Judgement {
    /// It is served.
    Valid,
    /// It may be served while a newer one is fetched.
    Soft,
    /// It is no longer fresh (`cache.lifetime = "origin"`).
    Expired,
    /// A newer invalidation names it, or it is of another journal: it is never served again.
    Invalid,
}

/// Judges a page that lies under `path_id`.
pub(super) fn judge(parties: &Parties, head: &PageHead, path_id: &PathId) -> Judgement {
    let subject = Subject { host: &head.host, path: &head.path, path_id, tags: &head.tags };
    let newest = parties.invalidations.newest(&subject);
    let passed_seconds = parties.clock.now().seconds_since(head.stored_at);
    if head.journal != *parties.invalidations.journal_id() || newest.hard > head.as_of {
        Judgement::Invalid
    } else if head.fresh_seconds.is_some_and(|fresh| passed_seconds >= fresh) {
        Judgement::Expired
    } else if newest.soft > head.as_of {
        Judgement::Soft
    } else {
        Judgement::Valid
    }
}
