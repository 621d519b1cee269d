//! DOES THE PROTOCOL OF THE JOURNAL KEEP ITS PROMISE? A model of `everpage::invalidation`, of which every state is looked at.
//!
//! The model has nodes with an index, a memory, a lease and fetches; a bucket with the journal's head and the store; an application that saves a row and
//! POSTs an invalidation. It follows the code: `journal/s3.rs` and `journal/s3/head.rs` (looks, appends, members, marks, tickets), `lease.rs`,
//! `commit.rs` (waits, repeated ids), `proxy/flight.rs` and `proxy/fill.rs` (who may join, when `as_of` is taken). It runs none of it.
//!
//! # What is looked at
//!
//! - **The promise**: every request that starts after an invalidation was answered 200 gets a page whose render read the row that it announced, or a
//!   newer one. The check of the lease comes after the request's start, so a request that starts and is answered within a state is judged most
//!   strictly: it need not be a step. One may stand still between the check and its answer (`pausing`): what counts is what had been answered
//!   when it passed the check.
//! - **Time** is unbounded: what is counted is what is left of a lease or a wait, and for how long something has been known. Nothing is ever forced: a
//!   node that takes no step while time goes on is paused, or cannot reach the bucket, for as long as you like. All clocks tick alike; that the waits are
//!   longer than the leases covers real ones.
//! - **Looks, joins, marks, drops** happen at any time and as often as you like. An answer of the bucket may arrive at any time later, or be given up;
//!   the bucket carries a request out at one moment.
//! - **Bounded**, as each test says: nodes (1 to 3), invalidations (1 to 3), fetches, crashes and departures (with a return under a new name), appends
//!   whose answer is lost (carried out, not carried out, or carried out after the node has given it up), clients that ask again, deletions of
//!   the journal. A test explores exhaustively within its own bounds, which it prints with the number of states; beyond them it says nothing. Bounds
//!   multiply: not all faults at once, and three nodes with one fetch or none.
//!
//! # What is not in it
//!
//! - One path, and every record names it: nothing here can show that the index confuses names. One object per page: no variants, no signposts.
//! - No snapshots and folds, no `submit_change` and overdue records, no soft invalidations, no `on_store_outage = "serve"`, which promises less.
//! - A swap that others overtake is tried again on the head that won: the model sends it then. Of a repeated POST, the first is not heard any more.
//! - The ring is not built yet: here it is a member's word that it has applied the record, and ends the wait for it (`ring`).
//! - A bucket that does not do what S3 promises.
//!
//! # Mutants
//!
//! Each rule is broken by a flag of the model, and a test finds the broken promise ([`mutants`]). Two of these mutants are what the code does today; they say so.
//!
//! # Further
//!
//! `MODEL_MORE_FILLS=1 cargo test --release --test model -- kept --test-threads 1` goes further, and so do `MODEL_MORE_INVALIDATIONS=1` and
//! `MODEL_MORE_TICKS=1`: minutes to hours, and gigabytes. States are told apart by 64-bit fingerprints.

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
