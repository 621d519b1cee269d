//! One seed: who does what at which node and when.

use std::rc::Rc;
use std::time::Duration;

use everpage::invalidation::selector::Record;
use http::{Method, StatusCode};
use tokio::time::{sleep, timeout};

use super::node::{Cluster, Node};
use super::storm::Lie;
use crate::simulation::checker::{Checker, Floors, raise};
use crate::simulation::crowd::{Actor, Crowd, Ended};
use crate::simulation::node::{Unanswered, saved, target};
use crate::simulation::origin::App;
use crate::simulation::run::{Report, record, visit};
use crate::simulation::site::{HOSTS, PATHS, Place};
use crate::simulation::visitor::Visit;
use crate::simulation::world::{Breach, World};

/// Events of a seed at most.
const EVENTS: u64 = 50;
/// No seed takes longer, in simulated time: whatever is still under way then hangs.
const LIFE: Duration = Duration::from_secs(300);
/// Bytes of a record that does not fit into the head.
const LARGE: usize = 70 << 10;
/// When all is well again, whatever was under way has ended after this: late writes, pauses, circuit breakers.
const CALM: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
enum Deed {
    Start(usize),
    Visit(usize, Visit),
    Post(usize, Visit),
    Purge(usize, Visit),
    Save(usize, Record),
    Crash(usize, u64),
    Leave(usize, u64),
    Pause(usize, u64),
    /// It stands still while it looks, and a page changes meanwhile.
    PauseAmidChange(usize, u64, usize, Record),
    Outage(u64),
    CutOff(usize, u64),
}

struct Event {
    number: u64,
    at: u64,
    deed: Deed,
}

/// Runs a seed to its end.
pub fn run(seed: u64, lie: Lie) -> Report {
    everpage::chance::seed_this_thread(Some(seed));
    let cluster = Rc::new(Cluster::new(World::new(seed, Breach::None), lie));
    let world = &cluster.world;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(live(&cluster));
    drop(runtime);
    everpage::chance::seed_this_thread(None);
    let log = world.take_log();
    let mut state = world.state();
    let violations = std::mem::take(&mut state.checker.violations);
    Report { log, violations, counts: state.counts.clone() }
}

async fn live(cluster: &Rc<Cluster>) {
    let world = &cluster.world;
    world.node_starts();
    world.note(format_args!("{:?} {:?}", world.weather, cluster.storm));
    let events = plan(cluster);
    let actors = events.into_iter().map(|event| actor(cluster, event)).collect();
    let draw = {
        let cluster = Rc::clone(cluster);
        move |end: usize| usize::try_from(cluster.world.below(end as u64)).unwrap()
    };
    if timeout(LIFE, Crowd::new(actors, draw)).await.is_err() {
        world.state().checker.complain("somebody hangs".to_owned());
    }
    if timeout(LIFE, check_the_end(cluster)).await.is_err() {
        world.state().checker.complain("the end hangs".to_owned());
    }
    world.node_ends();
}

fn actor(cluster: &Rc<Cluster>, event: Event) -> Actor {
    let cluster = Rc::clone(cluster);
    Box::pin(async move {
        sleep(Duration::from_millis(event.at)).await;
        let world = &cluster.world;
        match event.deed {
            Deed::Start(number) => cluster.start(number).await,
            Deed::Visit(number, asked) => visit_at(&cluster, number, &asked).await,
            Deed::Post(number, asked) => post(&cluster, number, &asked).await,
            Deed::Purge(number, asked) => purge(&cluster, number, &asked).await,
            Deed::Save(path, record) => save(&cluster, event.number, path, record).await,
            Deed::Crash(number, pause) => {
                cluster.crash(number);
                sleep(Duration::from_millis(pause)).await;
                cluster.start(number).await;
            }
            Deed::Leave(number, pause) => {
                cluster.leave(number).await;
                sleep(Duration::from_millis(pause)).await;
                cluster.start(number).await;
            }
            Deed::Pause(number, milliseconds) => cluster.pause(number, milliseconds),
            Deed::PauseAmidChange(number, milliseconds, path, record) => {
                let change = async {
                    sleep(Duration::from_millis(world.below(cluster.storm.s3_delay))).await;
                    cluster.pause(number, milliseconds);
                    save(&cluster, event.number, path, record).await;
                };
                let asked = plain(30_000 + event.number, path);
                tokio::join!(visit_at(&cluster, number, &asked), change);
            }
            Deed::Outage(milliseconds) => {
                world.note(format_args!("s3: OUTAGE for {milliseconds} ms"));
                world.count("outages");
                cluster.s3.fail_for(milliseconds);
            }
            Deed::CutOff(number, milliseconds) => {
                world.note(format_args!("s3: node {number} is cut off for {milliseconds} ms"));
                world.count("nodes cut off");
                cluster.s3.cut_off(number, milliseconds);
            }
        }
        Ended::Done
    })
}

async fn visit_at(cluster: &Cluster, number: usize, asked: &Visit) {
    let Some(node) = cluster.node(number) else { return cluster.world.count("visitors at a node that is down") };
    if node.gate.is_paused() {
        cluster.world.count("visitors at a node that stands still");
    } else if !node.invalidations.is_current() {
        cluster.world.count("visitors at a node whose lease has run out");
    }
    cluster.world.note(format_args!("visitor {}: goes to node {number}", asked.number));
    node.gate.while_alive(node.reader.visit(asked)).await;
}

/// A POST through the proxy changes a page. Its answer is a promise: of all nodes, or, if no record could be made durable, of this one while it lives.
async fn post(cluster: &Cluster, number: usize, asked: &Visit) {
    let world = &cluster.world;
    let Some(node) = cluster.node(number) else { return };
    let place = Place::read(asked.host, &asked.target).expect("visitors know the site");
    world.note(format_args!("visitor {}: POST {} at node {number}", asked.number, asked.target));
    let failures = node.metrics.invalidation_failures.get();
    let answered = node.gate.while_alive(async {
        node.gate.pass().await;
        node.reader.handle(asked).await
    });
    let Some(response) = answered.await else { return };
    let is_durable = node.metrics.invalidation_failures.get() == failures;
    world.note(format_args!("visitor {}: POST answered {}, durable {is_durable}", asked.number, response.status()));
    let Some(saved) = saved(&response) else { return };
    let promise = Checker::promise_of_post(place.path, saved);
    if is_durable {
        world.state().checker.answered(&promise, true);
        world.count("posts");
        look_everywhere(cluster, asked.number, place.path).await;
    } else {
        raise(&mut node.reader.own.lock(), &promise);
        world.count("posts without a durable record");
        visit_at(cluster, number, &plain(20_000 + asked.number, place.path)).await;
    }
}

/// A PURGE: its 200 is a promise.
async fn purge(cluster: &Cluster, number: usize, asked: &Visit) {
    let world = &cluster.world;
    let Some(node) = cluster.node(number) else { return };
    let place = Place::read(asked.host, &asked.target).expect("visitors know the site");
    let record = Record { paths: vec![target(None, PATHS[place.path].0)], ..Record::default() };
    let made = world.tick();
    let promise = world.state().checker.promise(&record, made);
    let answered = node.gate.while_alive(async {
        node.gate.pass().await;
        node.reader.handle(asked).await.status()
    });
    let status = answered.await;
    world.tick();
    world.note(format_args!("visitor {}: PURGE {} at node {number}: {status:?}", asked.number, asked.target));
    if status == Some(StatusCode::OK) {
        world.state().checker.answered(&promise, true);
        world.count("purges");
        look_everywhere(cluster, asked.number, place.path).await;
    }
}

/// The app saves, commits, and tells; then somebody looks.
async fn save(cluster: &Cluster, number: u64, path: usize, record: Record) {
    App::save(&cluster.world, path);
    cluster.unanswered.borrow_mut().insert(number, Unanswered { record, promise: None });
    cluster.world.pause().await;
    if tell(cluster, number).await {
        look_everywhere(cluster, number, path).await;
    }
}

/// Visitors come to each node the moment that an invalidation has been answered.
async fn look_everywhere(cluster: &Cluster, number: u64, path: usize) {
    for node in 0..cluster.storm.nodes {
        if cluster.world.chance(50) {
            visit_at(cluster, node, &plain(10_000 + number * 10 + node as u64, path)).await;
        }
    }
}

/// The app's hook: tries one node after the other until it is answered, or gives up.
async fn tell(cluster: &Cluster, number: u64) -> bool {
    let world = &cluster.world;
    let mut asked = None;
    loop {
        let Some(mut hook) = cluster.unanswered.borrow().get(&number).cloned() else { return false };
        let nodes = cluster.nodes();
        if !nodes.is_empty() {
            let node = world.pick(&nodes);
            let made = world.tick();
            let promise = *hook.promise.get_or_insert_with(|| world.state().checker.promise(&hook.record, made));
            cluster.unanswered.borrow_mut().insert(number, hook.clone());
            if hook.record.id.is_some() && asked.replace(node.number).is_some_and(|asked| asked != node.number) {
                world.count("ids repeated at another node");
            }
            if submit(node, number, &hook.record).await {
                cluster.unanswered.borrow_mut().remove(&number);
                answered(cluster, &promise, &hook.record);
                return true;
            }
        }
        if world.chance(10) {
            cluster.unanswered.borrow_mut().remove(&number);
            world.note(format_args!("hook {number}: gives up"));
            return false;
        }
        sleep(Duration::from_millis(1 + world.below(100))).await;
    }
}

async fn submit(node: &Node, number: u64, record: &Record) -> bool {
    let world = &node.reader.world;
    let mut shown = record.clone();
    shown.reason = None;
    world.note(format_args!("hook {number}: to node {}: {}", node.number, serde_json::to_string(&shown).unwrap()));
    let submitted = node.gate.while_alive(async {
        node.gate.pass().await;
        node.invalidations.submit(record.clone()).await
    });
    match submitted.await {
        Some(Ok(made)) => {
            world.note(format_args!("hook {number}: answered {}", made.sequence));
            true
        }
        Some(Err(error)) => {
            world.count("invalidations refused");
            world.note(format_args!("hook {number}: {error}"));
            false
        }
        None => false,
    }
}

fn answered(cluster: &Cluster, promise: &Floors, record: &Record) {
    let world = &cluster.world;
    world.tick();
    world.count(if record.soft { "soft invalidations" } else { "invalidations" });
    world.count(match record {
        Record { all: true, .. } => "invalidations of everything",
        Record { tags, .. } if !tags.is_empty() => "invalidations of a tag",
        Record { prefixes, .. } if !prefixes.is_empty() => "invalidations of a prefix",
        _ => "invalidations of a path",
    });
    world.state().checker.answered(promise, true);
}

/// When all is well again: every node shows the newest version of a page, and the second time without the app.
async fn check_the_end(cluster: &Cluster) {
    let world = &cluster.world;
    world.calm_down();
    cluster.s3.heal();
    world.note(format_args!("calm"));
    sleep(CALM).await;
    for number in 0..cluster.storm.nodes {
        cluster.start(number).await;
    }
    let left: Vec<u64> = cluster.unanswered.borrow().keys().copied().collect();
    for number in left {
        tell(cluster, number).await;
    }
    for (path, (name, ..)) in PATHS.iter().enumerate() {
        if path == 0 || world.state().checker.is_outdated(path) {
            let record = Record { paths: vec![target(None, name)], ..Record::default() };
            cluster.unanswered.borrow_mut().insert(u64::MAX, Unanswered { record, promise: None });
            tell(cluster, u64::MAX).await;
        }
    }
    for node in 0..cluster.storm.nodes {
        let path = usize::try_from(world.below(PATHS.len() as u64)).unwrap();
        check_page(cluster, node, path).await;
    }
}

async fn check_page(cluster: &Cluster, number: usize, path: usize) {
    let world = &cluster.world;
    let Some(node) = cluster.node(number) else {
        return world.state().checker.complain(format!("node {number} does not come up again"));
    };
    let newest = world.state().checker.versions[path];
    let is_large = world.weather.large && path == crate::simulation::site::LARGE;
    for must_hit in [false, true] {
        let visit = plain(100_000 + (number * 10 + path) as u64, path);
        let complaint = match node.reader.visit(&visit).await {
            Some((_, version)) if version != newest => format!("version {version} instead of {newest}"),
            Some((status, _)) if must_hit && !is_large && !status.contains("; hit") => {
                format!("{status} at the second read")
            }
            Some(_) => continue,
            None => "no answer".to_owned(),
        };
        world.state().checker.complain(format!("{visit:?} at node {number}, in the end: {complaint}"));
    }
}

fn plain(number: u64, path: usize) -> Visit {
    Visit {
        number,
        method: Method::GET,
        host: HOSTS[0],
        target: PATHS[path].0.to_owned(),
        variant: None,
        etag: None,
        leaves_after: None,
    }
}

/// Bursts of visitors around changes of a few pages; mishaps in between.
fn plan(cluster: &Cluster) -> Vec<Event> {
    let (world, nodes) = (&cluster.world, cluster.storm.nodes);
    let mut at = 0;
    let favourite = world.below(PATHS.len() as u64);
    let hurry = 2 + world.below(60);
    let mut events: Vec<Event> = (0..nodes)
        .map(|node| Event { number: 900 + node as u64, at: world.below(100), deed: Deed::Start(node) })
        .collect();
    at += 300;
    for number in 0..20 + world.below(EVENTS - 20) {
        at += if world.chance(10) { world.below(1500) } else { world.below(hurry) };
        let path = if world.chance(75) { favourite } else { world.below(PATHS.len() as u64) };
        let path = usize::try_from(path).unwrap();
        let node = usize::try_from(world.below(nodes as u64)).unwrap();
        let deed = match world.below(100) {
            draw if draw < cluster.storm.mishaps => mishap(cluster, node, number, path),
            0..78 => Deed::Visit(node, visit(world, number, path)),
            78..80 => {
                let asked = Visit { method: Method::POST, leaves_after: None, ..visit(world, number, path) };
                Deed::Post(node, asked)
            }
            80..82 => {
                let method = Method::from_bytes(b"PURGE").unwrap();
                Deed::Purge(node, Visit { method, leaves_after: None, ..visit(world, number, path) })
            }
            _ => Deed::Save(path, change(cluster, number, path)),
        };
        events.push(Event { number, at, deed });
    }
    events
}

fn mishap(cluster: &Cluster, node: usize, number: u64, path: usize) -> Deed {
    let world = &cluster.world;
    let lease = u64::try_from(cluster.storm.lease.as_millis()).unwrap();
    let length = 1 + world.below(lease * 3);
    match world.below(10) {
        0 => Deed::Crash(node, world.below(1500)),
        1 => Deed::Leave(node, world.below(1500)),
        2..4 => Deed::Pause(node, length),
        // Beyond the lease, and not so long that the look under way is given up.
        4..6 => Deed::PauseAmidChange(node, lease + 60 + world.below(lease), path, change(cluster, number, path)),
        6 => Deed::Outage(length),
        _ => Deed::CutOff(node, length),
    }
}

fn change(cluster: &Cluster, number: u64, path: usize) -> Record {
    let mut record = record(&cluster.world, number, path);
    if cluster.world.chance(cluster.storm.large_records) {
        cluster.world.count("large records");
        record.reason = Some("x".repeat(LARGE).into());
    }
    record
}
