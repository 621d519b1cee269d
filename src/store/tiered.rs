//! Two stores as one: a front that is near and small, and a back that has everything. The front is this machine's disk, the
//! back is S3.
//!
//! What is read from the back is put into the front without making the reader wait; what is written goes to both. A page in the
//! front may have been invalidated and fetched anew by another node: the front's copy counts only if whoever asks accepts it
//! ([`Store::get_accepted`]), else the back is asked. It never judges a page itself.
//!
//! For each page that many visitors wait for, the proxy's flights ask once; so one GET is sent to S3, and one copy is made in front.
//!
//! # What a failing tier means
//!
//! | | reading | writing | removing |
//! | --- | --- | --- | --- |
//! | the front fails, or is slow | a warning; the back is asked | a warning; the back keeps it | a warning; what is left there is judged as ever |
//! | the back fails | what the front has is served, else an error | an error; the front keeps it all the same | an error |
//! | the front has no room for it | | the back keeps it, and the front removes what it had under that name | |
//!
//! After a warning the front rests for a while: nobody waits for a disk that hangs again and again. Reading, writing and
//! removing rest on their own, since a full disk can still be read. All of this is decided in one place, `Front::attempt`; what the
//! back says is passed on as it is.

mod front;
mod promotion;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

use self::front::{Front, Work};
use self::promotion::Promotions;
use super::{Accept, Found, Listed, Listing, Object, Place, Store, StoreError, Usage};
use crate::page::{JournalId, ObjectName, PathId, Sequence};

/// A store before a store.
#[derive(Debug)]
pub struct TieredStore {
    front: Arc<Front>,
    back: Arc<dyn Store>,
    promotions: Promotions,
}

impl TieredStore {
    /// The front before the back.
    #[must_use]
    pub fn new(front: Arc<dyn Store>, back: Arc<dyn Store>) -> Self {
        let front = Arc::new(Front::new(front));
        TieredStore { promotions: Promotions::new(Arc::clone(&front)), front, back }
    }

    async fn look_in_front(&self, name: &ObjectName) -> Option<Object> {
        if self.promotions.is_overtaken(name) {
            return None;
        }
        self.front.attempt(Work::Look, self.front.store.get(name)).await.flatten()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for TieredStore {
    fn kind(&self) -> &'static str {
        self.back.kind()
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Object>, StoreError> {
        Ok(self.get_accepted(name, &|_| true).await?.map(|found| found.object))
    }

    async fn get_accepted(&self, name: &ObjectName, accept: Accept<'_>) -> Result<Option<Found>, StoreError> {
        if let Some(object) = self.look_in_front(name).await.filter(|object| accept(object)) {
            return Ok(Some(Found { object, kind: self.front.store.kind() }));
        }
        let found = self.back.get_accepted(name, accept).await?;
        if let Some(Found { object, .. }) = &found
            && accept(object)
        {
            self.promotions.promote(name, object);
        }
        Ok(found)
    }

    async fn put(&self, name: &ObjectName, object: &Object) -> Result<(), StoreError> {
        self.promotions.overtake(name);
        // A large body takes as long as it takes to be read.
        let work = if matches!(object, Object::Large(_)) { Work::Copy } else { Work::Write };
        let in_front = self.front.attempt(work, self.front.store.put(name, object));
        let (in_front, result) = tokio::join!(in_front, self.back.put(name, object));
        if in_front.is_none() {
            // What lies there may be valid still, but is not what was written last. A full disk can remove it.
            self.front.attempt(Work::Remove, self.front.store.remove(name)).await;
        }
        self.promotions.overtake(name);
        result
    }

    async fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.promotions.overtake(name);
        self.front.attempt(Work::Remove, self.front.store.remove(name)).await;
        let result = self.back.remove(name).await;
        self.promotions.overtake(name);
        result
    }

    async fn remove_older(&self, path: &PathId, journal: &JournalId, before: Sequence) -> Result<u64, StoreError> {
        self.promotions.overtake_path(path);
        self.front.attempt(Work::Remove, self.front.store.remove_older(path, journal, before)).await;
        let result = self.back.remove_older(path, journal, before).await;
        self.promotions.overtake_path(path);
        result
    }

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

    async fn pages_each(&self, places: &[Place]) -> Option<Vec<u64>> {
        self.back.pages_each(places).await
    }

    async fn under(&self, path: &PathId) -> Result<Vec<Listed>, StoreError> {
        self.back.under(path).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, StoreError> {
        self.back.list(prefix, after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.front.attempt(Work::Write, self.front.store.check()).await;
        self.back.check().await
    }

    fn usage(&self) -> Usage {
        self.back.usage()
    }

    fn is_remote(&self) -> bool {
        self.back.is_remote()
    }

    fn trouble(&self) -> Option<String> {
        self.back.trouble()
    }
}
