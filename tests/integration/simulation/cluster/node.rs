//! A node: the real handler, invalidations, journal and bucket client. It is started, paused, cut off, killed, sent away, and started again, empty.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everpage::clock::{Clock, UnixMillis};
use everpage::config::{Config, S3Store};
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::s3;
use everpage::metrics::Metrics;
use everpage::proxy::handler::{Handler, Parties};
use everpage::store::memory_tier::MemoryTier;
use everpage::store::s3::bucket::Bucket;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::liar::Observed;
use super::parties::{Addresses, Fetched, GatedApp, GatedStore, Network, Rung};
use super::s3::{BUCKET, S3};
use super::storm::{Lie, Storm};
use crate::simulation::gate::Gate;
use crate::simulation::node::{Unanswered, rules};
use crate::simulation::origin::{App, FIRST_BYTE, IDLE};
use crate::simulation::store::SimulatedStore;
use crate::simulation::visitor::Reader;
use crate::simulation::world::World;

/// Between two attempts to start: what starts a process again waits a little.
const RESTART: Duration = Duration::from_millis(100);
/// How long a node takes at most to go in good order.
const DRAIN: Duration = Duration::from_secs(30);

/// Everything that no single node takes with it.
pub struct Cluster {
    pub world: Arc<World>,
    pub storm: Storm,
    pub lie: Lie,
    pub s3: Arc<S3>,
    config: Config,
    bucket: S3Store,
    store: Arc<SimulatedStore>,
    fetched: Fetched,
    addresses: Addresses,
    seats: RefCell<Vec<Seat>>,
    /// Changes whose invalidation has not been answered yet.
    pub unanswered: RefCell<BTreeMap<u64, Unanswered>>,
}

enum Seat {
    Empty,
    /// Somebody is starting it.
    Starting,
    Taken(Rc<Node>),
}

/// A process.
pub struct Node {
    pub number: usize,
    pub reader: Reader,
    pub invalidations: Arc<Invalidations>,
    pub gate: Arc<Gate>,
    pub metrics: Arc<Metrics>,
}

/// Where a node is reached by the others.
pub fn url(node: usize) -> String {
    format!("http://node-{node}.simulated")
}

impl Cluster {
    pub fn new(world: World, lie: Lie) -> Self {
        let world = Arc::new(world);
        let storm = Storm::draw(&world);
        let mut config = Config::default();
        config.origin.first_byte_timeout = FIRST_BYTE;
        config.origin.idle_timeout = IDLE;
        config.purge_from = vec!["127.0.0.0/8".parse().unwrap()];
        config.cache.uncacheable_for = Duration::from_millis(200);
        config.memory.capacity = *world.pick(&[0, 5_000, 1 << 20, 1 << 20, 1 << 20]);
        if world.weather.large {
            config.cache.max_body = 1000;
        }
        let bucket = S3Store {
            bucket: BUCKET.to_owned(),
            read_timeout: Duration::from_millis(*world.pick(&[300, 1000, 1000])),
            attempts: 2,
            ..S3Store::default()
        };
        Cluster {
            s3: Arc::new(S3::new(&world, storm, lie)),
            store: Arc::new(SimulatedStore::new(&world)),
            seats: RefCell::new((0..storm.nodes).map(|_| Seat::Empty).collect()),
            unanswered: RefCell::default(),
            fetched: Fetched::default(),
            addresses: Addresses::default(),
            world,
            storm,
            lie,
            config,
            bucket,
        }
    }

    /// The node there, if it is up.
    pub fn node(&self, number: usize) -> Option<Rc<Node>> {
        match &self.seats.borrow()[number] {
            Seat::Taken(node) => Some(Rc::clone(node)),
            Seat::Empty | Seat::Starting => None,
        }
    }

    /// Those that are up.
    pub fn nodes(&self) -> Vec<Rc<Node>> {
        (0..self.storm.nodes).filter_map(|number| self.node(number)).collect()
    }

    fn seat(&self, number: usize, seat: Seat) {
        self.seats.borrow_mut()[number] = seat;
    }

    /// Starts a node, however long it takes.
    pub async fn start(&self, number: usize) {
        if !matches!(self.seats.borrow()[number], Seat::Empty) {
            return;
        }
        self.seat(number, Seat::Starting);
        loop {
            match self.attempt(number).await {
                Ok(node) => return self.seat(number, Seat::Taken(Rc::new(node))),
                Err(error) => {
                    self.world.note(format_args!("node {number}: does not start: {error}"));
                    self.world.count("starts that failed");
                }
            }
            sleep(RESTART).await;
        }
    }

    /// As `everpage::server` composes it.
    async fn attempt(&self, number: usize) -> Result<Node, String> {
        let Cluster { world, storm, .. } = self;
        let gate = Arc::new(Gate::new(world));
        let skew = world.below(storm.skew);
        let clock = Clock::Tokio { epoch: UnixMillis(world.now().0 + skew), started: Instant::now() };
        let bucket = Bucket::behind(self.s3.client(number, &gate), &self.bucket).map_err(|error| error.to_string())?;
        let opened = s3::open(bucket, "", storm.lease, Some(url(number).into()), clock).await;
        let (journal, recovered) = opened.map_err(|error| error.to_string())?;
        world.note(format_args!("node {number}: starts at record {}", recovered.last()));
        if recovered.snapshot.is_some() {
            world.count("starts from a snapshot");
        }
        let (lie, storm) = (self.lie, *storm);
        let journal = Observed { journal, world: Arc::clone(world), storm, lie, state: Mutex::default() };
        let addresses = Arc::clone(&self.addresses);
        let bell = Network { world: Arc::clone(world), storm, lie, gate: Arc::clone(&gate), addresses };
        let invalidations = Arc::new(Invalidations::start_with(Arc::new(journal), recovered, Some(Arc::new(bell))));
        let metrics = Arc::new(Metrics::default());
        let handler = self.handler(number, &gate, (&invalidations, &metrics), clock);
        let rung = Rung { gate: Arc::clone(&gate), invalidations: Arc::clone(&invalidations) };
        self.addresses.lock().insert(url(number), rung);
        let reader =
            Reader { world: Arc::clone(world), handler, gate: Arc::clone(&gate), bound: None, own: Arc::default() };
        Ok(Node { number, reader, invalidations, gate, metrics })
    }

    fn handler(
        &self,
        number: usize,
        gate: &Arc<Gate>,
        (invalidations, metrics): (&Arc<Invalidations>, &Arc<Metrics>),
        clock: Clock,
    ) -> Arc<Handler> {
        let Cluster { world, config, fetched, .. } = self;
        let store = GatedStore {
            node: number,
            gate: Arc::clone(gate),
            store: Arc::clone(&self.store),
            fetched: Arc::clone(fetched),
            world: Arc::clone(world),
        };
        let app = App::new(world);
        let origin = GatedApp { node: number, gate: Arc::clone(gate), app, fetched: Arc::clone(fetched) };
        let parties = Parties {
            rules: rules(config),
            invalidations: Arc::clone(invalidations),
            memory: Arc::new(MemoryTier::new(config.memory.capacity, config.cache.max_memory_size)),
            store: Arc::new(store),
            origin: Arc::new(origin),
            metrics: Arc::clone(metrics),
            clock,
        };
        Arc::new(Handler::new(config, parties))
    }

    /// Takes it away from those who would ask or ring it.
    fn take(&self, number: usize) -> Option<Rc<Node>> {
        let node = self.node(number)?;
        self.seat(number, Seat::Empty);
        self.addresses.lock().remove(&url(number));
        Some(node)
    }

    /// The process is over, in the middle of everything.
    pub fn crash(&self, number: usize) {
        if let Some(node) = self.take(number) {
            self.world.note(format_args!("node {number}: CRASH"));
            self.world.count("crashes");
            node.gate.kill();
        }
    }

    /// It goes in good order: answers what is under way, and takes leave of the others.
    pub async fn leave(&self, number: usize) {
        let Some(node) = self.take(number) else { return };
        self.world.note(format_args!("node {number}: leaves"));
        let end = async {
            node.reader.handler.drain().await;
            let closed = node.invalidations.closed();
            drop(node);
            closed.await;
        };
        let word = if timeout(DRAIN, end).await.is_ok() { "clean leaves" } else { "leaves that took too long" };
        self.world.count(word);
        self.world.note(format_args!("node {number}: has left"));
    }

    pub fn pause(&self, number: usize, milliseconds: u64) {
        if let Some(node) = self.node(number) {
            self.world.note(format_args!("node {number}: stands still for {milliseconds} ms"));
            let is_long = u128::from(milliseconds) > self.storm.lease.as_millis();
            self.world.count(if is_long { "pauses longer than the lease" } else { "short pauses" });
            node.gate.pause(milliseconds);
        }
    }
}
