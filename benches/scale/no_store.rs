//! A store that keeps nothing but the last page it was given: what memory takes is measured without it.

use std::sync::Arc;

use async_trait::async_trait;
use everpage::page::{JournalId, ObjectName, Page, PathId, Sequence};
use everpage::store::{Listed, Listing, Object, Store, StoreError, Usage};
use parking_lot::Mutex;

/// See above.
#[derive(Debug, Default)]
pub(crate) struct NoStore(Mutex<Option<Arc<Page>>>);

impl NoStore {
    /// The last page that was to be kept.
    pub(crate) fn last(&self) -> Option<Arc<Page>> {
        self.0.lock().clone()
    }
}

#[async_trait]
impl Store for NoStore {
    fn kind(&self) -> &'static str {
        "none"
    }

    async fn get(&self, _: &ObjectName) -> Result<Option<Object>, StoreError> {
        Ok(None)
    }

    async fn put(&self, _: &ObjectName, object: &Object) -> Result<(), StoreError> {
        if let Object::Page(page) = object {
            *self.0.lock() = Some(Arc::clone(page));
        }
        Ok(())
    }

    async fn remove(&self, _: &ObjectName) -> Result<(), StoreError> {
        Ok(())
    }

    async fn remove_older(&self, _: &PathId, _: &JournalId, _: Sequence) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn under(&self, _: &PathId) -> Result<Vec<Listed>, StoreError> {
        Ok(Vec::new())
    }

    async fn list(&self, _: &str, _: Option<&ObjectName>, _: usize) -> Result<Listing, StoreError> {
        Ok(Listing::default())
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }
}
