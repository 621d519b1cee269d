//! Pages in S3: `<location>/<flavor>/<version>/pages/<sha1 of path>/<METHOD>-<sha1 of the variant>`.
//!
//! - One object, one page, in its [stored form](crate::page::stored): one GET brings everything. What it is stands in its user
//!   metadata, for people.
//! - A PUT is whole or nothing, so nobody ever reads half a page. What is foreign, torn, newer or tampered with is a miss and a
//!   warning; nothing of it is ever served.
//! - Bodies of listed types lie compressed ([`crate::page::stored::at_rest`]). Those that are too large for memory do not: they
//!   are read by ranged GETs, as often as somebody asks, of the very version that was found. When another page takes its
//!   place meanwhile, the read ends in an error, never in a mix.
//! - Nothing outside `<location>` is read, listed or deleted: [`bucket`] is the only door. Below it, this store touches what
//!   bears the name of a page and nothing else.
//! - How full it is is not counted by listing: its sweeper says what it has seen ([`S3Store::note_usage`]).
//!
//! | | requests |
//! | --- | --- |
//! | a look | 1 GET; a large body: 1 more for each read |
//! | a page is stored | 1 PUT; a large body: its parts and 2 |
//! | a page is removed | 1 DELETE |
//! | the pages under a path, or the older ones among them | 1 LIST for each 1,000, 1 GET each, 1 DELETE for each 1,000 |
//! | a part of a listing | 1 LIST, 1 GET for each object that is looked at |

mod body;
mod breaker;
pub mod bucket;
mod call;
mod client;
pub mod export;
mod failure;
pub mod housekeeping;
mod metadata;
mod object;
mod requests;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::task::spawn_blocking;

pub use self::breaker::Health;
use self::bucket::Bucket;
use self::object::ReadError;
pub use self::requests::{Class, RequestCount};
use super::{Listed, Listing, Object, Store, StoreError, UNDER_MAX, Usage};
use crate::clock::UnixMillis;
use crate::config;
use crate::page::stored::at_rest::AtRest;
use crate::page::stored::{self, Head};
use crate::page::{JournalId, ObjectName, PathId, Sequence};

/// The word for it.
const KIND: &str = "s3";

/// `Content-Type` of the stored form.
const CONTENT_TYPE: &str = "application/vnd.everpage.page";

/// Keys in one LIST and in one request that deletes: the most that S3 takes. One call of [`Store::list`] looks at as many objects,
/// with a GET each.
const KEYS_MAX: usize = 1000;

/// LISTs that bring nothing of ours before a listing is given up.
const FOREIGN_LISTS_MAX: usize = 100;

/// Heads read at the same time by one listing: the round trips overlap, and visitors' looks keep most of `max_requests`.
const HEADS_AT_ONCE: usize = 16;

/// Objects that are remembered as warned about; beyond that, they are ignored silently.
const WARNED_MAX: usize = 1000;

/// Bytes above which checking and compressing are no work for the threads that answer requests: they take a millisecond.
const BLOCKING_BYTES: usize = 64 << 10;

/// What went wrong; the caller says at what.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The store `s3`.
#[derive(Debug)]
pub struct S3Store {
    bucket: Bucket,
    /// `<flavor>/<version>/pages/`
    root: String,
    at_rest: Arc<AtRest>,
    /// Bytes of the largest body that is read into memory.
    max_memory_bytes: u64,
    limit_bytes: Option<u64>,
    warned: Mutex<HashSet<ObjectName>>,
    seen: Mutex<Option<Seen>>,
}

/// What the sweeper saw.
#[derive(Clone, Copy, Debug)]
struct Seen {
    objects: u64,
    bytes: u64,
    at: UnixMillis,
}

impl S3Store {
    /// The pages of one flavor and version in the bucket; an empty flavor is `default`. Bodies of more than `max_memory_bytes` are
    /// read in pieces.
    #[must_use]
    pub fn new(bucket: Bucket, settings: &config::S3Store, flavor: &str, version: u32, max_memory_bytes: u64) -> Self {
        let flavor = if flavor.is_empty() { "default" } else { flavor };
        S3Store {
            bucket,
            root: format!("{flavor}/{version}/pages/"),
            at_rest: Arc::new(AtRest::new(settings.compress, &settings.compress_types)),
            max_memory_bytes,
            limit_bytes: settings.max_bytes,
            warned: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// Tells how full the store was, by the sweeper's count.
    pub fn note_usage(&self, objects: u64, bytes: u64, at: UnixMillis) {
        *self.seen.lock() = Some(Seen { objects, bytes, at });
    }

    /// When [`Store::usage`] was counted; `None`: never.
    #[must_use]
    pub fn counted_at(&self) -> Option<UnixMillis> {
        self.seen.lock().map(|seen| seen.at)
    }

    /// The key of a page, below the location.
    #[must_use]
    pub fn key(&self, name: &ObjectName) -> String {
        format!("{}{name}", self.root)
    }

    /// The page of a key; `None`: it is no page's.
    fn name(&self, key: &str) -> Option<ObjectName> {
        key.strip_prefix(&self.root)?.parse().ok()
    }

    fn warn_once(&self, name: &ObjectName, error: &ReadError) {
        let mut warned = self.warned.lock();
        if warned.len() < WARNED_MAX && warned.insert(name.clone()) {
            tracing::warn!(key = self.key(name), %error, "a stored page cannot be used and is ignored");
        }
    }

    /// The head of an object, and the bytes of its body; `None`: it is gone, or cannot be used.
    async fn head(&self, name: &ObjectName) -> Result<Option<(Head, u64)>, ReadError> {
        match object::read_head(&self.bucket, &self.key(name), name).await {
            Err(error) if error.is_content() => {
                self.warn_once(name, &error);
                Ok(None)
            }
            result => result,
        }
    }

    /// The line of a listing; `None`: it is no page.
    async fn listed(&self, name: ObjectName) -> Result<Option<Listed>, ReadError> {
        Ok(match self.head(&name).await? {
            Some((Head::Page(head), body_bytes)) => Some(Listed { name, head, body_bytes }),
            Some((Head::Variants(_), _)) | None => None,
        })
    }

    /// All names under a path, in order.
    async fn names_under(&self, path: &PathId) -> Result<Vec<ObjectName>, bucket::S3Error> {
        let prefix = format!("{}{path}/", self.root);
        let (mut names, mut after) = (Vec::new(), None::<String>);
        loop {
            let part = self.bucket.list(&prefix, after.as_deref(), KEYS_MAX).await?;
            names.extend(part.keys.iter().filter_map(|listed| self.name(&listed.key)));
            after = part.keys.into_iter().next_back().map(|listed| listed.key);
            if !part.is_truncated || after.is_none() || names.len() >= UNDER_MAX {
                return Ok(names);
            }
        }
    }

    /// Whether no invalidation of its path up to `before` leaves it valid, or it is of no use to anyone.
    async fn is_worthless(&self, name: &ObjectName, journal: &JournalId, before: Sequence) -> Result<bool, ReadError> {
        match object::read_head(&self.bucket, &self.key(name), name).await {
            Ok(found) => Ok(found.is_some_and(|(head, _)| head.is_older(journal, before))),
            Err(ReadError::Content(error)) => Ok(error.is_worthless()),
            Err(error) => Err(error),
        }
    }

    async fn older_under(
        &self,
        path: &PathId,
        journal: &JournalId,
        before: Sequence,
    ) -> Result<Vec<ObjectName>, ReadError> {
        let names = self.names_under(path).await?;
        let judged = stream::iter(names).map(async |name| {
            let is_worthless = self.is_worthless(&name, journal, before).await?;
            Ok::<_, ReadError>(is_worthless.then_some(name))
        });
        let judged: Vec<_> = judged.buffered(HEADS_AT_ONCE).collect().await;
        judged.into_iter().filter_map(Result::transpose).collect()
    }

    async fn list_part(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, ReadError> {
        let (names, is_truncated) = self.names_after(after).await?;
        let last = names.last().filter(|_| is_truncated).cloned();
        let heads = stream::iter(names).map(async |name| (name.clone(), self.listed(name).await));
        let mut heads = heads.buffered(HEADS_AT_ONCE.min(limit.max(1)));
        let mut listing = Listing::default();
        while let Some((name, listed)) = heads.next().await {
            if let Some(listed) = listed?.filter(|listed| listed.head.path.starts_with(prefix)) {
                listing.pages.push(listed);
            }
            if listing.pages.len() >= limit {
                listing.next = Some(name);
                return Ok(listing);
            }
        }
        listing.next = last;
        Ok(listing)
    }

    /// The next names, some unless there are none, and whether there may be more.
    async fn names_after(&self, after: Option<&ObjectName>) -> Result<(Vec<ObjectName>, bool), ReadError> {
        let mut after = after.map(|name| self.key(name));
        for _ in 0..FOREIGN_LISTS_MAX {
            let part = self.bucket.list(&self.root, after.as_deref(), KEYS_MAX).await?;
            let names: Vec<_> = part.keys.iter().filter_map(|listed| self.name(&listed.key)).collect();
            if !names.is_empty() || !part.is_truncated {
                return Ok((names, part.is_truncated));
            }
            after = part.keys.into_iter().next_back().map(|listed| listed.key);
        }
        let (root, keys) = (&self.root, FOREIGN_LISTS_MAX * KEYS_MAX);
        let message = format!("{keys} objects in a row below {root} are not everpage's: move them elsewhere");
        Err(std::io::Error::other(message).into())
    }

    async fn write(&self, name: &ObjectName, object: &Object) -> Result<(), Failure> {
        let (key, attributes) = (self.key(name), metadata::attributes(&name.method, object));
        if let Object::Large(page) = object {
            let head = stored::encode_large(name, page)?;
            return Ok(self.bucket.upload(&key, head, Arc::clone(&page.body), &attributes).await?);
        }
        let is_long = matches!(object, Object::Page(page) if page.body.len() > BLOCKING_BYTES);
        let encoded = if is_long {
            let (name, object, at_rest) = (name.clone(), object.clone(), Arc::clone(&self.at_rest));
            spawn_blocking(move || stored::encode_at_rest(&name, &object, &at_rest)).await??
        } else {
            stored::encode_at_rest(name, object, &self.at_rest)?
        };
        self.bucket.put(&key, vec![encoded.head, encoded.body], &attributes).await?;
        Ok(())
    }

    fn error(action: String, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        StoreError { store: KIND, action, source: source.into() }
    }
}

#[async_trait]
impl Store for S3Store {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Object>, StoreError> {
        match object::read(&self.bucket, self.key(name), name, self.max_memory_bytes).await {
            Ok(found) => Ok(found),
            Err(error) if error.is_content() => {
                self.warn_once(name, &error);
                Ok(None)
            }
            Err(error) => Err(Self::error(format!("read {name}"), error)),
        }
    }

    async fn put(&self, name: &ObjectName, object: &Object) -> Result<(), StoreError> {
        let action = |source: Failure| Self::error(format!("write the page of {} as {name}", object.path()), source);
        self.write(name, object).await.map_err(action)?;
        self.warned.lock().remove(name);
        Ok(())
    }

    async fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.bucket.delete(&self.key(name)).await.map_err(|error| Self::error(format!("remove {name}"), error))
    }

    /// A page that is written between the look at its head and the deletion goes with the old one: a miss.
    async fn remove_older(&self, path: &PathId, journal: &JournalId, before: Sequence) -> Result<u64, StoreError> {
        let action = |source: Failure| Self::error(format!("remove old pages in {path}"), source);
        let older = self.older_under(path, journal, before).await.map_err(|error| action(error.into()))?;
        let keys: Vec<String> = older.iter().map(|name| self.key(name)).collect();
        let mut removed = 0;
        for keys in keys.chunks(KEYS_MAX) {
            let left = self.bucket.delete_many(keys).await.map_err(|error| action(error.into()))?;
            removed += (keys.len() - left.len()) as u64;
        }
        Ok(removed)
    }

    async fn under(&self, path: &PathId) -> Result<Vec<Listed>, StoreError> {
        let action = |source: Failure| Self::error(format!("list the pages in {path}"), source);
        let names = self.names_under(path).await.map_err(|error| action(error.into()))?;
        let mut heads = stream::iter(names).map(|name| self.listed(name)).buffered(HEADS_AT_ONCE);
        let mut pages = Vec::new();
        while let Some(listed) = heads.next().await {
            pages.extend(listed.map_err(|error| action(error.into()))?);
        }
        pages.truncate(UNDER_MAX);
        Ok(pages)
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, StoreError> {
        let listing = self.list_part(prefix, after, limit).await;
        listing.map_err(|error| Self::error(format!("list the pages below {prefix}"), error))
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.bucket.check().await.map_err(|error| Self::error("use its bucket".to_owned(), error))
    }

    fn usage(&self) -> Usage {
        let seen = *self.seen.lock();
        let (objects, bytes) = seen.map_or((0, 0), |seen| (seen.objects, seen.bytes));
        Usage { objects, bytes, limit_bytes: self.limit_bytes, exact: seen.is_some() }
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn trouble(&self) -> Option<String> {
        match self.bucket.health() {
            Health::Closed => None,
            Health::Open { since, reason } => Some(format!("S3 is not asked since {}: {reason}", since.to_rfc3339())),
        }
    }
}
