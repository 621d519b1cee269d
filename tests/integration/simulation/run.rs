//! One seed: who does what and when, over several lives of the node.

use std::rc::Rc;
use std::time::Duration;

use everpage::invalidation::selector::Record;
use http::Method;

use super::checker::Counts;
use super::crowd::{Actor, Crowd, Ended};
use super::node::{Node, Surroundings, target};
use super::site::{HOSTS, PATHS};
use super::visitor::Visit;
use super::world::{Breach, World};

/// Events of a seed at most.
const EVENTS: u64 = 70;
/// No life of a node takes longer, in simulated time: whatever is still under way then hangs.
const LIFE: Duration = Duration::from_secs(120);

/// What a seed showed.
pub struct Report {
    pub log: String,
    pub violations: Vec<String>,
    pub counts: Counts,
}

#[derive(Clone, Debug)]
enum Deed {
    Visit(Visit),
    Post(Visit),
    Purge(Visit),
    Save(usize, Record),
    /// A hook whose answer a crash swallowed.
    Tell,
    Crash,
}

#[derive(Clone, Debug)]
struct Event {
    number: u64,
    at: u64,
    deed: Deed,
}

/// Runs a seed to its end.
pub fn run(seed: u64, breach: Breach) -> Report {
    let around = Rc::new(Surroundings::new(World::new(seed, breach)));
    let world = &around.world;
    world.note(format_args!("{:?} memory {}", world.weather, around.config.memory.capacity));
    let mut events = plan(world);
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let ended = runtime.block_on(live(&around, &mut events));
        // What the process had under way ends here, in the middle.
        drop(runtime);
        if ended == Ended::Done {
            break;
        }
        world.state().checker.crash();
        world.count("crashes");
    }
    let log = world.take_log();
    let mut state = world.state();
    let violations = std::mem::take(&mut state.checker.violations);
    Report { log, violations, counts: state.counts.clone() }
}

async fn live(around: &Rc<Surroundings>, events: &mut Vec<Event>) -> Ended {
    let node = Node::start(around);
    let world = &around.world;
    let begin = world.milliseconds();
    let told = around
        .unanswered
        .borrow()
        .keys()
        .map(|number| Event { number: *number, at: begin, deed: Deed::Tell })
        .collect::<Vec<_>>();
    let actors = told.iter().chain(events.iter()).map(|event| actor(&node, event.clone(), begin)).collect();
    let draw = {
        let around = Rc::clone(around);
        move |end: usize| usize::try_from(around.world.below(end as u64)).unwrap()
    };
    let ended = tokio::time::timeout(LIFE, Crowd::new(actors, draw)).await.unwrap_or_else(|_| {
        world.state().checker.complain("somebody hangs".to_owned());
        Ended::Done
    });
    if ended == Ended::Done && tokio::time::timeout(LIFE, node.check_the_end()).await.is_err() {
        world.state().checker.complain("the end hangs".to_owned());
    }
    let now = world.milliseconds();
    events.retain(|event| event.at > now);
    node.end();
    ended
}

fn actor(node: &Rc<Node>, event: Event, begin: u64) -> Actor {
    let node = Rc::clone(node);
    Box::pin(async move {
        tokio::time::sleep(Duration::from_millis(event.at.saturating_sub(begin))).await;
        match event.deed {
            Deed::Visit(visit) => node.visit(&visit).await,
            Deed::Post(visit) => node.post(&visit).await,
            Deed::Purge(visit) => node.purge(&visit).await,
            Deed::Save(path, record) => node.save(event.number, path, record).await,
            Deed::Tell => node.tell(event.number, None).await,
            Deed::Crash => {
                node.around.world.note(format_args!("CRASH"));
                return Ended::Crash;
            }
        }
        Ended::Done
    })
}

/// Bursts of visitors around changes of a few pages; crashes in between.
fn plan(world: &World) -> Vec<Event> {
    let mut at = 0;
    let favourite = world.below(PATHS.len() as u64);
    let hurry = 2 + world.below(40);
    let crashes = world.below(3);
    let mut events = Vec::new();
    for number in 0..20 + world.below(EVENTS - 20) {
        at += if world.chance(8) { world.below(600) } else { world.below(hurry) };
        let path = if world.chance(75) { favourite } else { world.below(PATHS.len() as u64) };
        let path = usize::try_from(path).unwrap();
        let deed = match world.below(100) {
            0..76 => Deed::Visit(visit(world, number, path)),
            76..80 => Deed::Post(Visit { method: Method::POST, ..visit(world, number, path) }),
            80..82 => {
                Deed::Purge(Visit { method: Method::from_bytes(b"PURGE").unwrap(), ..visit(world, number, path) })
            }
            _ => Deed::Save(path, record(world, number, path)),
        };
        events.push(Event { number, at, deed });
    }
    for number in 0..crashes {
        events.push(Event { number: 900 + number, at: 1 + world.below(at), deed: Deed::Crash });
    }
    events
}

pub fn visit(world: &World, number: u64, path: usize) -> Visit {
    let (name, _, spellings) = PATHS[path];
    let target = if world.chance(20) && !spellings.is_empty() { *world.pick(spellings) } else { name };
    Visit {
        number,
        method: if world.chance(15) { Method::HEAD } else { Method::GET },
        host: if world.chance(90) { HOSTS[0] } else { HOSTS[1] },
        target: target.to_owned(),
        variant: world.chance(30).then(|| (*world.pick(&["x", "y"])).to_owned()),
        etag: world.chance(10).then(|| usize::try_from(world.below(30)).unwrap()),
        leaves_after: world.chance(8).then(|| Duration::from_millis(world.below(80))),
    }
}

/// An invalidation that names the page, one way or another.
pub fn record(world: &World, number: u64, path: usize) -> Record {
    let (name, tags, _) = PATHS[path];
    let mut record = Record { at: world.now(), soft: world.chance(10), ..Record::default() };
    record.id = world.chance(40).then(|| format!("save-{number}").into());
    let host = world.chance(20).then(|| HOSTS[usize::try_from(world.below(2)).unwrap()]);
    match if world.weather.tagged_only { 9 } else { world.below(10) } {
        0..4 => record.paths = vec![target(host, name)],
        4..6 => {
            let parent = &name[..name.rfind('/').unwrap().max(1)];
            let prefix = ["/", parent][usize::try_from(world.below(2)).unwrap()];
            record.prefixes = vec![target(host, prefix)];
        }
        6 => (record.all, record.host) = (true, host.map(Into::into)),
        _ => (record.tags, record.host) = (vec![(*world.pick(tags)).into()], host.map(Into::into)),
    }
    record
}
