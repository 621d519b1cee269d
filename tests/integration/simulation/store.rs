//! A store that is slow, fails, loses, hands out what was overwritten, and lets a write land after later ones, even after the writer's death.
//!
//! Pages are copied on their way in and out, as through a file: what a process noted on a page dies with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use everpage::page::{JournalId, Object, ObjectName, Page, PathId, Sequence};
use everpage::store::{Listed, Listing, Store, StoreError, Usage};
use parking_lot::Mutex;

use super::origin::rendering_number;
use super::world::{Breach, World};

/// How late a late write is, in milliseconds.
const LATE: u64 = 1500;

#[derive(Debug)]
pub struct SimulatedStore {
    world: Arc<World>,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// All that was ever written under a name, the present object last.
    written: BTreeMap<ObjectName, Vec<Object>>,
    /// Writes on their way, by when they land and in which order they left.
    late: BTreeMap<(u64, u64), (ObjectName, Object)>,
}

impl SimulatedStore {
    pub fn new(world: &Arc<World>) -> Self {
        SimulatedStore { world: Arc::clone(world), shelf: Mutex::default() }
    }

    /// Lands what is due.
    fn settle(&self) {
        let now = self.world.milliseconds();
        while let Some(late) = {
            let mut shelf = self.shelf.lock();
            let due = shelf.late.first_entry().filter(|entry| entry.key().0 <= now);
            due.map(std::collections::btree_map::OccupiedEntry::remove)
        } {
            self.world.count("late writes");
            self.land(&late.0, late.1);
        }
    }

    fn land(&self, name: &ObjectName, object: Object) {
        if let Some((head, _)) = object.page() {
            let number = rendering_number(&head.headers.to_map());
            let state = self.world.state();
            let rendering = &state.checker.renderings[number.expect("only renderings are kept")];
            let is_dead = rendering.began <= state.checker.floor(&rendering.place).made;
            drop(state);
            if is_dead {
                self.world.count("dead on arrival in the store");
            }
            self.world.note(format_args!("store: rendering {number:?} lands{}", if is_dead { ", dead" } else { "" }));
        }
        self.shelf.lock().written.entry(name.clone()).or_default().push(object);
    }

    fn error(action: &str) -> StoreError {
        StoreError { store: "simulated", action: action.to_owned(), source: "simulated".into() }
    }

    fn look(&self, name: &ObjectName) -> Option<Object> {
        let wants_old = self.world.chance(self.world.weather.store_old);
        let shelf = self.shelf.lock();
        if self.world.breach == Breach::StoreMixesUp && self.world.chance(30) {
            return shelf.written.values().flatten().next_back().cloned();
        }
        let versions = shelf.written.get(name)?;
        if wants_old {
            self.world.count("overwritten objects read");
            return Some(self.world.pick(versions).clone());
        }
        versions.last().cloned()
    }
}

fn copied(object: &Object) -> Object {
    match object {
        Object::Page(page) => Object::Page(Arc::new(Page::new(page.head.clone(), page.body.clone(), page.path_id))),
        Object::Large(page) => Object::Large(Arc::clone(page)),
        Object::Variants(variants) => Object::Variants(Arc::clone(variants)),
    }
}

#[async_trait]
impl Store for SimulatedStore {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Object>, StoreError> {
        self.world.pause().await;
        self.settle();
        if self.world.chance(self.world.weather.store_fails) {
            return Err(Self::error("read"));
        }
        let found = self.look(name).as_ref().map(copied);
        self.world.pause().await;
        Ok(found)
    }

    async fn put(&self, name: &ObjectName, object: &Object) -> Result<(), StoreError> {
        let object = copied(object);
        self.world.pause().await;
        self.settle();
        let weather = self.world.weather;
        if self.world.chance(weather.store_loses) {
            return Ok(());
        }
        if self.world.chance(weather.store_late) {
            let due = self.world.milliseconds() + 1 + self.world.below(LATE);
            let order = self.world.tick();
            self.shelf.lock().late.insert((due, order), (name.clone(), object));
            return if self.world.chance(50) { Err(Self::error("hear of the write")) } else { Ok(()) };
        }
        if self.world.chance(weather.store_fails) {
            return Err(Self::error("write"));
        }
        self.land(name, object);
        self.world.pause().await;
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
