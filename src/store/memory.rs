//! Pages in this process: for tests and for trying things out. A restart forgets all.
//!
//! Bounded by bytes; what was put first goes first, however often it was read. It never touches a disk: a large page that fits is read into memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Listed, Listing, Object, Store, StoreError, TooLarge, UNDER_MAX, Usage};
use crate::page::large::read_whole;
use crate::page::stored::EncodeError;
use crate::page::{JournalId, ObjectName, Page, PathId, Sequence};

/// The word for it.
const KIND: &str = "memory";

/// The store `memory`.
#[derive(Debug)]
pub struct MemoryStore {
    limit_bytes: u64,
    kept: Mutex<Kept>,
}

impl MemoryStore {
    /// An empty store that takes at most `limit_bytes`, as [`Object::memory_bytes`] counts them.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        MemoryStore { limit_bytes, kept: Mutex::default() }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Object>, StoreError> {
        let kept = self.kept.lock();
        Ok(kept.folders.get(&name.path).and_then(|folder| folder.get(name)).map(|entry| entry.object.clone()))
    }

    async fn put(&self, name: &ObjectName, object: &Object) -> Result<(), StoreError> {
        let refuse = |source: Box<dyn std::error::Error + Send + Sync>| {
            Err(StoreError { store: KIND, action: format!("keep the page of {}", object.path()), source })
        };
        if !object.belongs_under(name) {
            return refuse(EncodeError::Misplaced.into());
        }
        let body_bytes = if let Object::Large(page) = object { page.body.bytes() } else { 0 };
        let bytes = object.memory_bytes() + body_bytes;
        if bytes > self.limit_bytes {
            return refuse(TooLarge { bytes, limit_bytes: self.limit_bytes }.into());
        }
        let object = match object {
            Object::Large(page) => match read_whole(&*page.body).await {
                Ok(body) => Object::Page(Arc::new(Page::new(page.head.clone(), body, page.path_id))),
                Err(error) => return refuse(error.into()),
            },
            other => other.clone(),
        };
        let mut kept = self.kept.lock();
        kept.insert(name, object, bytes);
        while kept.bytes > self.limit_bytes {
            let Some((_, oldest)) = kept.order.first_key_value() else { break };
            let oldest = oldest.clone();
            kept.remove(&oldest);
        }
        Ok(())
    }

    async fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.kept.lock().remove(name);
        Ok(())
    }

    async fn remove_older(&self, path: &PathId, journal: &JournalId, before: Sequence) -> Result<u64, StoreError> {
        let mut kept = self.kept.lock();
        let folder = kept.folders.get(path).into_iter().flatten();
        let older = folder.filter(|(_, entry)| entry.object.is_older(journal, before));
        let older: Vec<ObjectName> = older.map(|(name, _)| name.clone()).collect();
        older.iter().for_each(|name| kept.remove(name));
        Ok(older.len() as u64)
    }

    async fn under(&self, path: &PathId) -> Result<Vec<Listed>, StoreError> {
        let kept = self.kept.lock();
        let folder = kept.folders.get(path).into_iter().flatten();
        Ok(folder.filter_map(|(name, entry)| listed(name, &entry.object)).take(UNDER_MAX).collect())
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, StoreError> {
        let kept = self.kept.lock();
        let start = after.map_or(PathId([0; 20]), |name| name.path);
        let names = kept.folders.range(start..).flat_map(|(_, folder)| folder.iter());
        let mut listing = Listing::default();
        for (name, entry) in names.filter(|(name, _)| after.is_none_or(|after| *name > after)) {
            if !entry.object.path().starts_with(prefix) {
                continue;
            }
            let Some(page) = listed(name, &entry.object) else { continue };
            listing.pages.push(page);
            if listing.pages.len() >= limit {
                listing.next = Some(name.clone());
                break;
            }
        }
        Ok(listing)
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn usage(&self) -> Usage {
        let kept = self.kept.lock();
        let objects = kept.order.len() as u64;
        Usage { objects, bytes: kept.bytes, limit_bytes: Some(self.limit_bytes), exact: true }
    }
}

fn listed(name: &ObjectName, object: &Object) -> Option<Listed> {
    let (head, body_bytes) = object.page()?;
    Some(Listed { name: name.clone(), head: head.clone(), body_bytes })
}

#[derive(Debug, Default)]
struct Kept {
    folders: BTreeMap<PathId, BTreeMap<ObjectName, Entry>>,
    /// Names by the number of their put: the oldest first.
    order: BTreeMap<u64, ObjectName>,
    puts: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    object: Object,
    bytes: u64,
    put: u64,
}

impl Kept {
    fn insert(&mut self, name: &ObjectName, object: Object, bytes: u64) {
        self.remove(name);
        self.puts += 1;
        self.bytes += bytes;
        self.order.insert(self.puts, name.clone());
        let entry = Entry { object, bytes, put: self.puts };
        self.folders.entry(name.path).or_default().insert(name.clone(), entry);
    }

    fn remove(&mut self, name: &ObjectName) {
        let Some(folder) = self.folders.get_mut(&name.path) else { return };
        let Some(entry) = folder.remove(name) else { return };
        if folder.is_empty() {
            self.folders.remove(&name.path);
        }
        self.order.remove(&entry.put);
        self.bytes -= entry.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    async fn fresh() -> (Arc<dyn Store>, ()) {
        (Arc::new(MemoryStore::new(64 << 20)), ())
    }

    crate::store_contract!(fresh);

    #[tokio::test]
    async fn the_oldest_goes_first() {
        let store = MemoryStore::new(100_000);
        for n in 0..20 {
            let (name, page) = contract::page(&format!("/{n}/"), &[b'x'; 10_000]);
            store.put(&name, &page).await.unwrap();
            assert!(store.usage().bytes <= 100_000);
        }
        let listing = store.list("/", None, 100).await.unwrap();
        let mut kept: Vec<u32> =
            listing.pages.iter().map(|page| page.head.path.trim_matches('/').parse().unwrap()).collect();
        kept.sort_unstable();
        assert_eq!(kept, (20 - kept.len() as u32..20).collect::<Vec<_>>());
        assert!(kept.len() >= 8, "{kept:?}");
    }

    #[tokio::test]
    async fn a_page_larger_than_the_store_is_refused_and_drives_nothing_out() {
        let store = MemoryStore::new(10_000);
        let (small, page) = contract::page("/small/", b"x");
        store.put(&small, &page).await.unwrap();
        let (large, page) = contract::page("/large/", &[0; 20_000]);
        assert!(store.put(&large, &page).await.unwrap_err().to_string().contains("/large/"));
        assert!(store.get(&small).await.unwrap().is_some());
    }
}
