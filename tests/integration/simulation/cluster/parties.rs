//! The store and the app, as one node reaches them through its gate; and the way from node to node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::{Circle, Other};
use everpage::invalidation::ring::{Bell, Unheard};
use everpage::page::{JournalId, Object, ObjectName, PathId, Sequence};
use everpage::proxy::origin::{IncomingBody, Origin, OriginError, OutgoingBody};
use everpage::store::{Listed, Listing, Store, StoreError, Usage};
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::storm::{Lie, Storm};
use crate::simulation::gate::Gate;
use crate::simulation::origin::{App, rendering_number};
use crate::simulation::store::SimulatedStore;
use crate::simulation::world::World;

/// Which node had which rendering made.
pub type Fetched = Arc<Mutex<BTreeMap<usize, usize>>>;

#[derive(Debug)]
pub struct GatedApp {
    pub node: usize,
    pub gate: Arc<Gate>,
    pub app: App,
    pub fetched: Fetched,
}

#[async_trait]
impl Origin for GatedApp {
    async fn send(&self, request: Request<OutgoingBody>) -> Result<Response<IncomingBody>, OriginError> {
        self.gate.pass().await;
        let response = self.app.send(request).await;
        if let Some(number) = response.as_ref().ok().and_then(|response| rendering_number(response.headers())) {
            self.fetched.lock().insert(number, self.node);
        }
        self.gate.pass().await;
        response
    }
}

#[derive(Debug)]
pub struct GatedStore {
    pub node: usize,
    pub gate: Arc<Gate>,
    pub store: Arc<SimulatedStore>,
    pub fetched: Fetched,
    pub world: Arc<World>,
}

#[async_trait]
impl Store for GatedStore {
    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Object>, StoreError> {
        self.gate.pass().await;
        let found = self.store.get(name).await;
        self.gate.pass().await;
        let page = found.as_ref().ok().and_then(|object| object.as_ref()?.page());
        let by =
            page.and_then(|(head, _)| self.fetched.lock().get(&rendering_number(&head.headers.to_map())?).copied());
        if by.is_some_and(|by| by != self.node) {
            self.world.count("pages of another node read");
        }
        found
    }

    async fn put(&self, name: &ObjectName, object: &Object) -> Result<(), StoreError> {
        self.gate.pass().await;
        let put = self.store.put(name, object).await;
        self.gate.pass().await;
        put
    }

    async fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.store.remove(name).await
    }

    async fn remove_older(&self, path: &PathId, journal: &JournalId, before: Sequence) -> Result<u64, StoreError> {
        self.store.remove_older(path, journal, before).await
    }

    async fn under(&self, path: &PathId) -> Result<Vec<Listed>, StoreError> {
        self.store.under(path).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, StoreError> {
        self.store.list(prefix, after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }
}

/// Who can be rung where.
pub type Addresses = Arc<Mutex<BTreeMap<String, Rung>>>;

#[derive(Clone, Debug)]
pub struct Rung {
    pub gate: Arc<Gate>,
    pub invalidations: Arc<Invalidations>,
}

/// A network between the nodes that is slow and loses calls and answers.
#[derive(Clone, Debug)]
pub struct Network {
    pub world: Arc<World>,
    pub storm: Storm,
    pub lie: Lie,
    /// Of the node that rings.
    pub gate: Arc<Gate>,
    pub addresses: Addresses,
}

impl Network {
    async fn travel(&self) {
        let most = if self.world.chance(self.storm.ring_slow) { 1500 } else { self.storm.ring_delay };
        let milliseconds = if self.world.is_calm() { 1 } else { self.world.below(most) };
        sleep(Duration::from_millis(milliseconds)).await;
    }

    /// As the handler of the ring does it.
    async fn heed(
        self,
        rung: Rung,
        node: Arc<str>,
        journal: JournalId,
        sequence: Sequence,
    ) -> Result<Sequence, Unheard> {
        rung.gate.pass().await;
        let circle = rung.invalidations.circle().ok_or(Unheard::Refused)?;
        if circle.node != node || *rung.invalidations.journal_id() != journal {
            self.world.count("rings for somebody else");
            return Err(Unheard::AnotherNode);
        }
        if self.lie == Lie::RingWithoutSequence {
            return Ok(sequence);
        }
        let applied = rung.invalidations.heed(sequence).await.map_err(|_| Unheard::JournalOutage);
        rung.gate.pass().await;
        applied
    }
}

#[async_trait]
impl Bell for Network {
    async fn ring(
        &self,
        url: &str,
        other: &Other,
        _: &Circle,
        journal: &JournalId,
        sequence: Sequence,
    ) -> Result<Sequence, Unheard> {
        self.gate.pass().await;
        if self.world.chance(self.storm.ring_loses) {
            self.world.count("rings lost");
            return std::future::pending().await;
        }
        self.travel().await;
        let Some(rung) = self.addresses.lock().get(url).cloned() else {
            self.world.count("rings at nobody's door");
            return Err(Unheard::Unreachable);
        };
        let heed = self.clone().heed(rung, Arc::clone(&other.node), journal.clone(), sequence);
        // Who rings may hang up while the other looks, which then goes on or not.
        let applied =
            if self.world.chance(50) { tokio::spawn(heed).await.unwrap_or(Err(Unheard::Silent)) } else { heed.await };
        if self.world.chance(self.storm.ring_loses) {
            self.world.count("answers to rings lost");
            return Err(Unheard::Unreachable);
        }
        self.travel().await;
        self.gate.pass().await;
        self.world.count(if applied.is_ok_and(|applied| applied >= sequence) {
            "rings answered"
        } else {
            "rings in vain"
        });
        self.world.note(format_args!("ring: {url} has applied {applied:?} of {sequence}"));
        applied
    }
}
