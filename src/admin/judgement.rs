//! Would a page be served that is known by its head only? In the words of the dashboard; requests are judged by `invalidation` itself.

use serde::Serialize;

use super::Parties;
use crate::invalidation::Verdict;
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
    let verdict = parties.invalidations.look_up(head, path_id);
    let passed_seconds = parties.clock.now().seconds_since(head.stored_at);
    let is_expired = head.fresh_seconds.is_some_and(|fresh| passed_seconds >= fresh);
    match verdict {
        Verdict::Invalid => Judgement::Invalid,
        Verdict::Valid | Verdict::Soft if is_expired => Judgement::Expired,
        Verdict::Soft => Judgement::Soft,
        Verdict::Valid => Judgement::Valid,
    }
}
