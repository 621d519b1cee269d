//! One node, from its start to its crash, and who tells it of changes: the real handler between simulated parties.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everpage::clock::Clock;
use everpage::config::Config;
use everpage::invalidation::Invalidations;
use everpage::invalidation::selector::{Record, Target};
use everpage::metrics::Metrics;
use everpage::policy::rules::Rules;
use everpage::proxy::handler::{Handler, Parties};
use everpage::store::memory_tier::MemoryTier;
use http::{Method, Response, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::checker::{Checker, Floor, Floors};
use super::gate::Gate;
use super::journal::SimulatedJournal;
use super::origin::{App, FIRST_BYTE, IDLE, SAVED};
use super::site::{HOSTS, PATHS, Place};
use super::store::SimulatedStore;
use super::visitor::{Reader, Visit};
use super::world::{Breach, World};

const CONNECT: Duration = Duration::from_millis(500);
/// What the proxy may add of its own to what it waits for.
const SLACK: Duration = Duration::from_millis(5);

/// What a crash does not take.
pub struct Surroundings {
    pub world: Arc<World>,
    pub journal: Arc<SimulatedJournal>,
    pub store: Arc<SimulatedStore>,
    pub config: Config,
    /// Changes whose invalidation has not been answered yet: the app goes on trying after a restart.
    pub unanswered: RefCell<BTreeMap<u64, Unanswered>>,
}

#[derive(Clone)]
pub struct Unanswered {
    pub record: Record,
    /// What it will have promised, from the moment of the first try.
    pub promise: Option<Floors>,
}

/// A process.
pub struct Node {
    pub around: Rc<Surroundings>,
    reader: Reader,
    invalidations: Arc<Invalidations>,
    metrics: Arc<Metrics>,
}

impl Surroundings {
    pub fn new(world: World) -> Self {
        let world = Arc::new(world);
        let mut config = Config::default();
        config.origin.connect_timeout = CONNECT;
        config.origin.first_byte_timeout = FIRST_BYTE;
        config.origin.idle_timeout = IDLE;
        config.purge_from = vec!["127.0.0.0/8".parse().unwrap()];
        config.cache.uncacheable_for = Duration::from_millis(200);
        config.memory.capacity = *world.pick(&[0, 5_000, 1 << 20, 1 << 20]);
        if world.weather.large {
            config.cache.max_body = 1000;
        }
        let journal = Arc::new(SimulatedJournal::new(&world));
        let store = Arc::new(SimulatedStore::new(&world));
        Surroundings { world, journal, store, config, unanswered: RefCell::default() }
    }
}

impl Node {
    /// As `everpage::server` composes it.
    pub fn start(around: &Rc<Surroundings>) -> Rc<Self> {
        let Surroundings { world, config, .. } = &**around;
        world.node_starts();
        let clock = Clock::Tokio { epoch: world.now(), started: Instant::now() };
        let recovered = around.journal.recover();
        world.note(format_args!("node: starts at record {}", recovered.last()));
        let journal = Arc::clone(&around.journal);
        let invalidations = Arc::new(Invalidations::start(journal, recovered));
        let metrics = Arc::new(Metrics::default());
        let parties = Parties {
            rules: rules(config),
            invalidations: Arc::clone(&invalidations),
            memory: Arc::new(MemoryTier::new(config.memory.capacity, config.cache.max_memory_size)),
            store: Arc::<SimulatedStore>::clone(&around.store),
            origin: Arc::new(App::new(world)),
            metrics: Arc::clone(&metrics),
            clock,
        };
        let handler = Arc::new(Handler::new(config, parties));
        let bound = Some(CONNECT * 2 + FIRST_BYTE + SLACK);
        let reader =
            Reader { world: Arc::clone(world), handler, gate: Arc::new(Gate::new(world)), bound, own: Arc::default() };
        Rc::new(Node { around: Rc::clone(around), reader, invalidations, metrics })
    }

    /// The process is over.
    pub fn end(&self) {
        let world = &self.around.world;
        for (word, what) in [("invalidated", "invalidated while fetched"), ("too-large", "too large to be kept")] {
            world.state().counts.count(what, self.metrics.refused(word).get());
        }
        world.state().counts.count("store errors", self.metrics.store_errors.get());
        world.node_ends();
    }

    pub async fn visit(&self, visit: &Visit) {
        self.reader.visit(visit).await;
    }

    /// A POST through the proxy: its answer is a promise.
    pub async fn post(&self, visit: &Visit) {
        let world = &self.around.world;
        let place = Place::read(visit.host, &visit.target).expect("visitors know the site");
        let failures = self.around.journal.failures();
        world.note(format_args!("visitor {}: POST {}", visit.number, visit.target));
        let response = self.reader.handle(visit).await;
        let is_durable = self.around.journal.failures() == failures;
        let status = response.status();
        if let Some(saved) = saved(&response) {
            world.state().checker.answered(&Checker::promise_of_post(place.path, saved), is_durable);
            world.count(if is_durable { "posts" } else { "posts without a durable record" });
        }
        world.note(format_args!("visitor {}: POST answered {status}, durable {is_durable}", visit.number));
    }

    /// A PURGE: its 200 is a promise.
    pub async fn purge(&self, visit: &Visit) {
        let world = &self.around.world;
        let place = Place::read(visit.host, &visit.target).expect("visitors know the site");
        let record = Record { paths: vec![target(None, PATHS[place.path].0)], ..Record::default() };
        let made = world.tick();
        let promise = world.state().checker.promise(&record, made);
        let status = self.reader.handle(visit).await.status();
        world.tick();
        if status == StatusCode::OK {
            world.state().checker.answered(&promise, true);
            world.count("purges");
        }
        world.note(format_args!("visitor {}: PURGE {} answered {status}", visit.number, visit.target));
    }

    /// The app saves, commits, and tells.
    pub async fn save(&self, number: u64, path: usize, record: Record) {
        let world = &self.around.world;
        if world.breach != Breach::HookBeforeCommit {
            App::save(world, path);
        }
        self.around.unanswered.borrow_mut().insert(number, Unanswered { record, promise: None });
        world.pause().await;
        self.tell(number, Some(path)).await;
    }

    /// The app's hook: tries until it is answered, or gives up.
    pub async fn tell(&self, number: u64, path: Option<usize>) {
        let world = &self.around.world;
        loop {
            let Some(mut hook) = self.around.unanswered.borrow().get(&number).cloned() else { return };
            let made = world.tick();
            let promise = *hook.promise.get_or_insert_with(|| world.state().checker.promise(&hook.record, made));
            self.around.unanswered.borrow_mut().insert(number, hook.clone());
            world.note(format_args!("hook {number}: {}", serde_json::to_string(&hook.record).unwrap()));
            match self.invalidations.submit(hook.record.clone()).await {
                Ok(made) => {
                    self.around.unanswered.borrow_mut().remove(&number);
                    self.answered(&promise, number, path, &hook.record).await;
                    return world.note(format_args!("hook {number}: answered {}", made.sequence));
                }
                Err(error) => world.note(format_args!("hook {number}: {error}")),
            }
            if world.chance(30) {
                self.around.unanswered.borrow_mut().remove(&number);
                return world.note(format_args!("hook {number}: gives up"));
            }
            tokio::time::sleep(Duration::from_millis(1 + world.below(50))).await;
        }
    }

    async fn answered(&self, promise: &Floors, number: u64, path: Option<usize>, record: &Record) {
        let world = &self.around.world;
        world.tick();
        world.count(if record.soft { "soft invalidations" } else { "invalidations" });
        if let (Breach::HookBeforeCommit, Some(path)) = (world.breach, path) {
            world.pause().await;
            App::save(world, path);
            world.note(format_args!("hook {number}: committed only now"));
            let promise = world.state().checker.promise(record, 0);
            return world.state().checker.answered(&promise, true);
        }
        world.state().checker.answered(promise, true);
    }

    /// When all have gone: the newest version of each page, and the second time without the app.
    pub async fn check_the_end(&self) {
        let world = &self.around.world;
        world.calm_down();
        world.note(format_args!("calm"));
        // What could not be kept is forgotten, fetches under way end, late writes land.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let left: Vec<u64> = self.around.unanswered.borrow().keys().copied().collect();
        for number in left {
            Box::pin(self.tell(number, None)).await;
        }
        for (path, (name, ..)) in PATHS.iter().enumerate() {
            if path == 0 || world.state().checker.is_outdated(path) {
                let record = Record { paths: vec![target(None, name)], ..Record::default() };
                self.around.unanswered.borrow_mut().insert(u64::MAX, Unanswered { record, promise: None });
                self.tell(u64::MAX, None).await;
            }
        }
        for (host, path) in (0..HOSTS.len()).flat_map(|host| (0..PATHS.len()).map(move |path| (host, path))) {
            self.check_page(host, path).await;
        }
        // What a soft hit fetches nobody waits for.
        tokio::time::sleep(Duration::from_secs(1)).await;
        if self.reader.handler.flights() > 0 {
            world.state().checker.complain(format!("{} flights never landed", self.reader.handler.flights()));
        }
    }

    async fn check_page(&self, host: usize, path: usize) {
        let world = &self.around.world;
        let newest = world.state().checker.versions[path];
        let is_large = world.weather.large && path == super::site::LARGE;
        for must_hit in [false, true] {
            let visit = Visit {
                number: 1000 + (host * 10 + path) as u64,
                method: Method::GET,
                host: HOSTS[host],
                target: PATHS[path].0.to_owned(),
                variant: None,
                etag: None,
                leaves_after: None,
            };
            match self.reader.visit(&visit).await {
                Some((_, version)) if version != newest => {
                    world
                        .state()
                        .checker
                        .complain(format!("{visit:?}: version {version} at the end instead of {newest}"));
                }
                Some((status, _)) if must_hit && !is_large && !status.contains("; hit") => {
                    world.state().checker.complain(format!("{visit:?}: {status} at the second read"));
                }
                Some(_) => {}
                None => world.state().checker.complain(format!("{visit:?}: no answer at the end")),
            }
        }
    }
}

/// What an answer to a POST that has changed a page says of it.
pub fn saved<B>(response: &Response<B>) -> Option<Floor> {
    let status = response.status();
    if !status.is_success() && !status.is_redirection() {
        return None;
    }
    let saved = response.headers().get(SAVED).expect("the app says when it saved").to_str().unwrap();
    let (made, version) = saved.split_once(' ').unwrap();
    Some(Floor { made: made.parse().unwrap(), version: version.parse().unwrap() })
}

/// Compiled once for all seeds: most of what a start costs.
pub fn rules(config: &Config) -> Arc<Rules> {
    static COMPILED: Mutex<BTreeMap<u64, Arc<Rules>>> = Mutex::new(BTreeMap::new());
    let compile = || Arc::new(Rules::new(&config.cache).unwrap());
    Arc::clone(COMPILED.lock().entry(config.cache.max_body).or_insert_with(compile))
}

/// What an invalidation of one path names.
pub fn target(host: Option<&str>, path: &str) -> Target {
    Target { host: host.map(Into::into), path: path.into() }
}
