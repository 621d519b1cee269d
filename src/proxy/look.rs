//! What does memory know of the page? A look takes no I/O and no global lock.
//!
//! It finds pages; whether one may be served is asked of `invalidation`, at every look.

use std::sync::Arc;

use http::{HeaderName, Method};

use super::handler::Handler;
use super::outcome::Forwarded;
use crate::invalidation::Verdict;
use crate::page::{Key, Page, PageHead};
use crate::policy::key;
use crate::policy::request_fields::RequestFields;
use crate::policy::rules::Target;

/// What a look into memory finds.
pub(super) enum Found {
    Page(Arc<Page>),
    /// It may be served while a newer one is fetched.
    Soft(Arc<Page>, Place),
    Nothing(Place),
}

/// Where a page would be, as far as memory knows.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The key, `Vary` included as far as it is known.
    pub key: Key,
    /// The fields that are known to select it.
    pub fields: Vec<HeaderName>,
    pub forwarded: Forwarded,
}

impl Handler {
    /// A stored GET answers HEAD; a HEAD of its own is looked for after it.
    pub(super) fn find(&self, target: &Target<'_>, request: RequestFields<'_>) -> Found {
        if target.method == Method::HEAD
            && let found @ (Found::Page(_) | Found::Soft(..)) =
                self.find_under(&self.rules.as_get(target, request).key, request)
        {
            return found;
        }
        self.find_under(&target.key, request)
    }

    fn find_under(&self, base: &Key, request: RequestFields<'_>) -> Found {
        let mut place = Place { key: *base, fields: Vec::new(), forwarded: Forwarded::UriMiss };
        if let Some(found) = self.find_at(&mut place) {
            return found;
        }
        let Some(signpost) = self.memory.signpost(base) else { return Found::Nothing(place) };
        place.key = key::variant(base, &signpost.fields, request);
        place.fields.clone_from(&signpost.fields);
        place.forwarded = Forwarded::VaryMiss;
        self.find_at(&mut place).unwrap_or(Found::Nothing(place))
    }

    fn find_at(&self, place: &mut Place) -> Option<Found> {
        let page = self.memory.get(&place.key)?;
        if !self.is_fresh(&page.head) {
            place.forwarded = Forwarded::Stale;
            return None;
        }
        match self.invalidations.judge(&page) {
            Verdict::Valid => Some(Found::Page(page)),
            Verdict::Soft => Some(Found::Soft(page, place.clone())),
            Verdict::Invalid => {
                place.forwarded = Forwarded::UriMiss;
                None
            }
        }
    }

    pub(super) fn is_fresh(&self, head: &PageHead) -> bool {
        let passed = || self.clock.now().seconds_since(head.stored_at);
        head.fresh_seconds.is_none_or(|fresh| passed() < fresh)
    }

    /// The target that found the page: a HEAD may have found a GET.
    pub(super) fn target_of<'a>(&self, page: &Page, target: Target<'a>, request: RequestFields<'_>) -> Target<'a> {
        if page.head.method == *target.method { target } else { self.rules.as_get(&target, request) }
    }
}
