//! Which pages did a store that is far away not have a moment ago? Spares a request over the network to each look that would
//! find nothing again.
//!
//! What it says may be out of date: another node may have stored the page since. Then the origin is asked once too often, and
//! nothing worse. It never says that a page is there, and it remembers nothing of stores that are near.

use quick_cache::sync::Cache;

use super::errand::Errand;
use super::handler::Handler;
use crate::clock::UnixMillis;
use crate::page::{Key, ObjectName, Sequence};

/// Names remembered; some hundred bytes each. Those that are forgotten cost a look.
const NAMES_MAX: usize = 65_536;

/// How long a look counts. Another node may store the page at any time, and most pages take less than this to be made; a
/// visitor who comes back for a page that could not be fetched meets the store again.
const SECONDS: u64 = 10;

/// What was absent, and when.
#[derive(Debug)]
pub(super) struct Absent(Cache<Key, Look>);

/// A look that found nothing valid.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// The newest record applied before it.
    applied: Sequence,
    at: UnixMillis,
}

impl Default for Absent {
    fn default() -> Self {
        Absent(Cache::new(NAMES_MAX))
    }
}

impl Absent {
    /// The page has been stored.
    pub(super) fn forget(&self, key: &Key) {
        self.0.remove(key);
    }
}

impl Handler {
    /// Nothing valid was found there; `applied` was the newest record before the look.
    pub(super) fn note_absent(&self, name: &ObjectName, applied: Sequence) {
        if self.store.is_remote() {
            self.absent.0.insert(name.key, Look { applied, at: self.clock.now() });
        }
    }

    /// Whether a look a moment ago found nothing there. An invalidation since then ends that: another node may have fetched the
    /// page anew. (Of tags nothing is known before there is a page; they have to wait.)
    pub(super) fn is_known_absent(&self, errand: &Errand, name: &ObjectName) -> bool {
        let Some(look) = self.absent.0.get(&name.key) else { return false };
        let newest = self.invalidations.newest(&errand.subject(&[]));
        let is_recent = self.clock.now().seconds_since(look.at) < SECONDS;
        is_recent && newest.hard.max(newest.soft) <= look.applied
    }
}
