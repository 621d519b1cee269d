//! Copies from the back into the front, behind the reader's back: each page once at a time, few at once, none that a newer write
//! or a removal has overtaken.
//!
//! A copy that is being written when its page is replaced or removed may land after it:
//!
//! ```text
//! get    reads the old page from the back
//! put              writes the new page to both
//! copy                                        lands: the old page lies in front
//! ```
//!
//! So whoever replaces or removes a page says so, and the copy removes itself when it has landed; until then the front is not
//! asked for this page.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::front::{Front, Work};
use crate::page::{ObjectName, PathId};
use crate::store::Object;

/// Copies at the same time: as many as keep a disk busy. Further pages stay in the back alone, until they are asked for again.
pub(super) const COPIES_MAX: usize = 16;

/// Is the copy still wanted?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copying {
    Wanted,
    Overtaken,
}

type UnderWay = Arc<Mutex<HashMap<ObjectName, Copying>>>;

/// The copies under way. Dropped, it ends them.
#[derive(Debug)]
pub(super) struct Promotions {
    front: Arc<Front>,
    slots: Arc<Semaphore>,
    under_way: UnderWay,
    tasks: Mutex<JoinSet<()>>,
}

/// Whatever ends the copy, it is no longer under way.
struct Landing {
    under_way: UnderWay,
    name: ObjectName,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.name);
    }
}

impl Landing {
    fn is_overtaken(&self) -> bool {
        self.under_way.lock().get(&self.name) == Some(&Copying::Overtaken)
    }
}

impl Promotions {
    pub(super) fn new(front: Arc<Front>) -> Self {
        Promotions {
            front,
            slots: Arc::new(Semaphore::new(COPIES_MAX)),
            under_way: UnderWay::default(),
            tasks: Mutex::default(),
        }
    }

    /// Starts to copy the object, unless that is under way or too many are.
    pub(super) fn promote(&self, name: &ObjectName, object: &Object) {
        if self.front.rests(Work::Look) || self.front.rests(Work::Copy) {
            return;
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return };
        {
            let mut under_way = self.under_way.lock();
            if under_way.contains_key(name) {
                return;
            }
            under_way.insert(name.clone(), Copying::Wanted);
        }
        let landing = Landing { under_way: Arc::clone(&self.under_way), name: name.clone() };
        let (front, object) = (Arc::clone(&self.front), object.clone());
        let copy = async move {
            let _slot = slot;
            front.attempt(Work::Copy, front.store.put(&landing.name, &object)).await;
            if landing.is_overtaken() {
                front.attempt(Work::Remove, front.store.remove(&landing.name)).await;
            }
        };
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(copy);
    }

    /// Waits until no copy is under way.
    #[cfg(test)]
    pub(super) async fn settle(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }

    /// The page is being replaced or removed: a copy of what it was is worth nothing.
    pub(super) fn overtake(&self, name: &ObjectName) {
        if let Some(copying) = self.under_way.lock().get_mut(name) {
            *copying = Copying::Overtaken;
        }
    }

    /// As [`Promotions::overtake`], for all pages of a path.
    pub(super) fn overtake_path(&self, path: &PathId) {
        let mut under_way = self.under_way.lock();
        under_way.iter_mut().filter(|(name, _)| name.path == *path).for_each(|(_, state)| *state = Copying::Overtaken);
    }

    /// Whether the front holds, or may come to hold, what is no longer there.
    pub(super) fn is_overtaken(&self, name: &ObjectName) -> bool {
        self.under_way.lock().get(name) == Some(&Copying::Overtaken)
    }
}
