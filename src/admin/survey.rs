//! What is stored of the pages that a record names? Bounded in pages and time; says when it is not the whole truth.
//!
//! What a record names is asked of the same index that judges requests.

use std::collections::HashSet;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use crate::invalidation::index::{Index, Newest, Subject};
use crate::invalidation::selector::{Record, Target};
use crate::page::{ObjectName, Sequence};
use crate::policy::path;
use crate::store::{Listed, Place, Store, StoreError};

/// Pages asked for in one part of a listing.
const PART: usize = 2000;
/// Paths that are counted before an invalidation; beyond, it is answered without.
const COUNTED_MAX: usize = 10_000;
/// Names that are looked at at once: as many take the thread that visitors share a twentieth of a millisecond.
const NAMED_AT_ONCE: usize = 200;
/// How long they may take: an invalidation is urgent, the count a courtesy.
const COUNT_PATIENCE: Duration = Duration::from_secs(2);

/// How much is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Pages that are found at most.
    pub found: usize,
    /// Pages that are looked at, beside those under the named paths.
    pub looked_at: usize,
    /// How long it may take.
    pub time: Duration,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The pages, each once.
    pub pages: Vec<Listed>,
    /// Named paths of which nothing was stored, by their place in the record.
    pub unmatched: Vec<usize>,
    /// False: a bound was hit, there may be more.
    pub complete: bool,
}

/// Looks for everything that the record names.
pub(super) async fn find(store: &dyn Store, record: &Record, bounds: Bounds) -> Result<Found, StoreError> {
    let deadline = Instant::now() + bounds.time;
    let mut found = Found { complete: true, ..Found::default() };
    for (place, target) in record.paths.iter().enumerate() {
        if found.pages.len() >= bounds.found || Instant::now() >= deadline {
            found.complete = false;
            return Ok(found);
        }
        if (place + 1).is_multiple_of(NAMED_AT_ONCE) {
            yield_now().await;
        }
        let before = found.pages.len();
        found.pages.extend(pages_of(store, target).await?);
        if found.pages.len() == before {
            found.unmatched.push(place);
        }
    }
    if record.all || !record.prefixes.is_empty() || !record.tags.is_empty() {
        sweep(store, record, bounds, deadline, &mut found).await?;
    }
    if found.pages.len() > bounds.found {
        found.pages.truncate(bounds.found);
        found.complete = false;
    }
    Ok(found)
}

/// Goes through the whole store.
async fn sweep(
    store: &dyn Store,
    record: &Record,
    bounds: Bounds,
    deadline: Instant,
    found: &mut Found,
) -> Result<(), StoreError> {
    let mut index = Index::default();
    for part in record.parts(NAMED_AT_ONCE) {
        index.apply_part(Sequence(1), record, part);
        yield_now().await;
    }
    let known: HashSet<ObjectName> = found.pages.iter().map(|listed| listed.name.clone()).collect();
    let (mut after, mut looked_at) = (None, 0);
    loop {
        let part = store.list("", after.as_ref(), PART).await?;
        looked_at += part.pages.len().max(1);
        let named = part.pages.into_iter().filter(|listed| names(&index, listed) && !known.contains(&listed.name));
        found.pages.extend(named);
        if part.next.is_none() {
            return Ok(());
        }
        if found.pages.len() >= bounds.found || looked_at >= bounds.looked_at || Instant::now() >= deadline {
            found.complete = false;
            return Ok(());
        }
        after = part.next;
    }
}

fn names(index: &Index, listed: &Listed) -> bool {
    let head = &listed.head;
    let subject = Subject { host: &head.host, path: &head.path, path_id: &listed.name.path, tags: &head.tags };
    index.newest(&subject) != Newest::default()
}

async fn pages_of(store: &dyn Store, target: &Target) -> Result<Vec<Listed>, StoreError> {
    let mut pages = store.under(&path::path_id(&target.path)).await?;
    pages.retain(|page| target.host.as_ref().is_none_or(|host| *host == page.head.host));
    Ok(pages)
}

/// How many pages are stored of the named paths, and which of these have none; `None` where the store cannot tell quickly, or the record names
/// more than paths.
pub(super) async fn count(store: &dyn Store, record: &Record) -> Option<(u64, Vec<usize>)> {
    if record.all || !record.prefixes.is_empty() || !record.tags.is_empty() || record.paths.len() > COUNTED_MAX {
        return None;
    }
    timeout(COUNT_PATIENCE, count_paths(store, record)).await.ok()?
}

async fn count_paths(store: &dyn Store, record: &Record) -> Option<(u64, Vec<usize>)> {
    let mut counts = Vec::with_capacity(record.paths.len());
    for part in record.paths.chunks(NAMED_AT_ONCE) {
        if !counts.is_empty() {
            yield_now().await;
        }
        let place = |target: &Target| Place { path: path::path_id(&target.path), host: target.host.clone() };
        let places: Vec<Place> = part.iter().map(place).collect();
        counts.extend(store.pages_each(&places).await?);
    }
    let unmatched = counts.iter().enumerate().filter(|(_, pages)| **pages == 0).map(|(at, _)| at);
    Some((counts.iter().sum(), unmatched.collect()))
}
