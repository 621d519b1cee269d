//! The protocol of `everpage::invalidation`, as a model.

#![expect(unreachable_pub, reason = "the modules of a test are not public")]

mod bucket;
mod fills;
mod kept;
mod mutants;
mod node;
mod promise;
mod rules;
mod sameness;
mod state;
mod steps;

use std::io::Write;
use std::time::Instant;

use stateright::{Checker, Model};

use promise::PROMISE;
use rules::{Bounds, Mutant, Rules};
use steps::Step;

/// What an exploration has shown.
struct Explored {
    /// The shortest way to a broken promise.
    broken: Option<Vec<Step>>,
    /// What should have been seen and was not.
    unseen: Vec<&'static str>,
}

/// Looks at all states within the bounds, or until the promise is broken where a rule is. Says how many there were, past the harness, which would keep
/// it for itself.
fn explore(bounds: Bounds, mutant: Option<Mutant>) -> Explored {
    let began = Instant::now();
    let checker = Rules { bounds, mutant }.checker().threads(2).spawn_bfs().join();
    let mut found = checker.discoveries();
    let broken = found.remove(PROMISE).map(|path| path.into_actions());
    let sights = checker.model().properties().into_iter().map(|property| property.name);
    let unseen = sights.filter(|name| *name != PROMISE && !found.contains_key(name)).collect();
    let name = mutant.map_or_else(|| "the protocol".to_owned(), |mutant| format!("{mutant:?}"));
    let (states, depth, seconds) = (checker.unique_state_count(), checker.max_depth(), began.elapsed().as_secs_f32());
    let line = format!("model: {name}: {states} states, {depth} steps deep, {seconds:.1} s: {bounds:?}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error can be written");
    Explored { broken, unseen }
}
