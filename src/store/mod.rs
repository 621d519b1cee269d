//! WHERE? Keeping pages beyond memory: the trait, its contract, and the implementations.
//!
//! A store never decides whether a page may be served: whatever it returns is judged by `invalidation` again. So losing
//! an object is a miss, never an error, and deleting objects is housekeeping.
//!
//! A body of at most `cache.max_memory_size` bytes comes back in memory ([`Object::Page`]); a larger one stays where it lies and is read in pieces
//! ([`Object::Large`]).

#[doc(hidden)]
pub mod contract;
pub mod file_body;
pub mod filesystem;
pub mod memory;
pub mod memory_tier;
pub mod s3;
pub mod spool;
pub mod tiered;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub use crate::page::Object;
use crate::page::{JournalId, ObjectName, PageHead, PathId, Sequence};

/// Pages of one path that [`Store::under`] gives at most: a path may have any number of queries.
pub const UNDER_MAX: usize = 10_000;

/// One line of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Where it lies.
    pub name: ObjectName,
    /// What it is, without its body.
    pub head: PageHead,
    /// Bytes of the body.
    pub body_bytes: u64,
}

/// A part of a listing.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// In the order of their names.
    pub pages: Vec<Listed>,
    /// The `after` of the next part; `None`: this was the last.
    pub next: Option<ObjectName>,
}

/// Where pages are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path.
    pub path: PathId,
    /// The pages of this host only; `None`: of all.
    pub host: Option<Arc<str>>,
}

impl Place {
    /// Is this one of the pages that are counted here? Its path is right.
    fn takes(&self, head: &PageHead) -> bool {
        self.host.as_ref().is_none_or(|host| *host == head.host)
    }
}

/// An object, and where it was.
#[derive(Clone, Debug)]
pub struct Found {
    /// The object.
    pub object: Object,
    /// [`Store::kind`] of the store that had it.
    pub kind: &'static str,
}

/// How full a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects.
    pub objects: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Bytes they may take; `None`: no bound of its own.
    pub limit_bytes: Option<u64>,
    /// False while the store is still counting.
    pub exact: bool,
}

/// Why a store could not do it. The message says what and where.
#[derive(Debug, thiserror::Error)]
#[error("{store} store: cannot {action}: {source}")]
pub struct StoreError {
    /// Its [`Store::kind`].
    pub store: &'static str,
    /// In the caller's words: "write the page of /blog/".
    pub action: String,
    /// What the system said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// One object that would fill more than the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it takes {bytes} bytes, and the whole store may take {limit_bytes}")]
pub struct TooLarge {
    /// Bytes of the object.
    pub bytes: u64,
    /// Bytes that the store may take.
    pub limit_bytes: u64,
}

/// Can the caller use this object? Asked of each copy that a store of several tiers holds.
pub type Accept<'a> = &'a (dyn Fn(&Object) -> bool + Send + Sync);

/// A place where pages are kept. Its contract is `store::contract`, which every implementation passes.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// `filesystem`, `memory`, `s3`: the word in `Cache-Status: detail=`, logs and metrics.
    fn kind(&self) -> &'static str;

    /// What lies under the name; a torn or foreign object is `None` and a warning. A large page is checked as far as its head and length go: its body
    /// is checked by whoever reads it whole, and stays readable to them whatever is put or removed meanwhile, or ends in an error.
    ///
    /// # Errors
    /// The store could not be asked.
    async fn get(&self, name: &ObjectName) -> Result<Option<Object>, StoreError>;

    /// As [`Store::get`]. A store with more than one copy looks on while `accept` says no: one tier may hold a page that was
    /// invalidated, another the page that took its place. Whoever asks judges what is returned all the same: `accept` may have
    /// said no to it, or may not have been asked.
    ///
    /// # Errors
    /// The store could not be asked.
    async fn get_accepted(&self, name: &ObjectName, accept: Accept<'_>) -> Result<Option<Found>, StoreError> {
        _ = accept;
        Ok(self.get(name).await?.map(|object| Found { object, kind: self.kind() }))
    }

    /// Keeps the object under the name, whole or not at all; the last writer wins. The body of a large page is read once, from its first to its last
    /// byte, and never held in memory as a whole, but by a store that lies in memory itself.
    ///
    /// # Errors
    /// It was not kept; what lay there before still does.
    async fn put(&self, name: &ObjectName, object: &Object) -> Result<(), StoreError>;

    /// Housekeeping: removes what lies under the name, if anything does.
    ///
    /// # Errors
    /// It may still be there.
    async fn remove(&self, name: &ObjectName) -> Result<(), StoreError>;

    /// Housekeeping: removes what lies under the path and can never be valid again, that is, what is older than `before` or of
    /// another journal. Returns how many objects went.
    ///
    /// # Errors
    /// Some may be left.
    async fn remove_older(&self, path: &PathId, journal: &JournalId, before: Sequence) -> Result<u64, StoreError>;

    /// [`Store::remove_older`] for each of these paths, at once where one after the other would cost more: a caller with many gives them in parts, for
    /// others wait meanwhile.
    ///
    /// # Errors
    /// Some may be left.
    async fn remove_older_each(
        &self,
        paths: &[PathId],
        journal: &JournalId,
        before: Sequence,
    ) -> Result<u64, StoreError> {
        let mut removed = 0;
        for path in paths {
            removed += self.remove_older(path, journal, before).await?;
        }
        Ok(removed)
    }

    /// How many pages lie in each of these places, in their order, at most [`UNDER_MAX`] in each; `None` where each look would cost a request over the
    /// network, or one failed. A caller with many gives them in parts, as with [`Store::remove_older_each`].
    async fn pages_each(&self, places: &[Place]) -> Option<Vec<u64>> {
        if self.is_remote() {
            return None;
        }
        let mut counts = Vec::with_capacity(places.len());
        for place in places {
            let pages = self.under(&place.path).await.inspect_err(|error| tracing::warn!("{error}")).ok()?;
            counts.push(pages.iter().filter(|page| place.takes(&page.head)).count() as u64);
        }
        Some(counts)
    }

    /// The pages that lie under the path, signposts left out, in the order of their names; at most [`UNDER_MAX`].
    ///
    /// # Errors
    /// The store could not be asked.
    async fn under(&self, path: &PathId) -> Result<Vec<Listed>, StoreError>;

    /// At most `limit` pages whose path starts with `prefix`, in the order of their names, those after `after`. A call looks at a
    /// bounded number of objects and may return fewer than `limit`, even none, and still name a `next`.
    ///
    /// # Errors
    /// The store could not be asked.
    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, StoreError>;

    /// Ready for work?
    ///
    /// # Errors
    /// It is not, and why.
    async fn check(&self) -> Result<(), StoreError>;

    /// How full it is.
    fn usage(&self) -> Usage;

    /// Does every look cost a request over the network? Then a look that found nothing is remembered, and what invalidations
    /// killed is removed by a sweeper instead of one listing per invalidated path.
    fn is_remote(&self) -> bool {
        false
    }

    /// What is wrong with it, in words, as far as it knows without a look; `None`: nothing.
    fn trouble(&self) -> Option<String> {
        None
    }
}
