//! The promise is kept in every state within these bounds; and each of them lets happen what would break it, were a rule missing ([`super::mutants`]).

use super::explore;
use super::rules::{Bounds, Rules};
use super::state::{Member, State};
use super::steps::Step;

const ONE: Bounds = Bounds::nodes(1);
const TWO: Bounds = Bounds::nodes(2);
const THREE: Bounds = Bounds::nodes(3);
/// Two invalidations, the second after the answer to the first.
const TWICE: Bounds = Bounds { invalidations: 2, in_turn: true, ..TWO };

fn assert_kept(bounds: Bounds) {
    let bounds = bounds.with_more();
    let explored = explore(bounds, None);
    if let Some(steps) = explored.broken {
        panic!("the promise is broken within {bounds:?}:\n{steps:#?}");
    }
    assert!(explored.unseen.is_empty(), "never seen within {bounds:?}: {:?}", explored.unseen);
}

#[test]
fn by_one_node_that_crashes_or_leaves_and_comes_back() {
    assert_kept(Bounds { invalidations: 2, crashes: 1, ..ONE });
}

#[test]
fn by_one_node_whose_answers_are_lost_and_whose_clients_ask_again() {
    assert_kept(Bounds { invalidations: 2, losses: 1, repeats: 1, ..ONE });
}

#[test]
fn by_two_nodes_with_two_invalidations_at_the_same_time() {
    assert_kept(Bounds { invalidations: 2, ..TWO });
}

#[test]
fn by_two_nodes_if_no_two_states_are_taken_for_one() {
    assert_kept(Bounds { apart: true, ..TWO });
    assert_kept(Bounds { apart: true, crashes: 1, fills: 0, ..TWO });
}

#[test]
fn by_two_nodes_with_two_fetches() {
    assert_kept(Bounds { fills: 2, ..TWO });
}

#[test]
fn by_two_nodes_of_which_one_crashes_or_leaves() {
    assert_kept(Bounds { crashes: 1, ..TWO });
    assert_kept(Bounds { crashes: 1, fills: 0, ..TWICE });
}

#[test]
fn by_two_nodes_when_the_answer_to_an_append_is_lost() {
    assert_kept(Bounds { losses: 1, ..TWO });
    assert_kept(Bounds { losses: 1, ..TWICE });
}

#[test]
fn by_two_nodes_when_clients_ask_again() {
    assert_kept(Bounds { repeats: 1, ..TWO });
    assert_kept(Bounds { repeats: 1, losses: 1, fills: 0, ..TWO });
    assert_kept(Bounds { repeats: 1, crashes: 1, fills: 0, ..TWO });
}

#[test]
fn by_two_nodes_when_a_request_stands_still_after_the_check_of_the_lease() {
    assert_kept(Bounds { pausing: true, ..TWO });
}

#[test]
fn by_two_nodes_when_tags_are_named() {
    assert_kept(Bounds { tagged: true, ..TWO });
}

#[test]
fn by_two_nodes_when_the_journal_is_deleted() {
    assert_kept(Bounds { deletions: 1, crashes: 1, fills: 0, ..TWO });
    assert_kept(Bounds { deletions: 1, crashes: 1, ..ONE });
}

#[test]
fn by_two_nodes_with_the_ring() {
    assert_kept(Bounds { ring: true, ..TWICE });
    assert_kept(Bounds { ring: true, crashes: 1, ..TWO });
    assert_kept(Bounds { ring: true, repeats: 1, ..TWO });
}

#[test]
fn by_three_nodes() {
    assert_kept(THREE);
    assert_kept(Bounds { invalidations: 2, in_turn: true, fills: 0, ..THREE });
}

#[test]
fn by_three_nodes_with_the_ring() {
    assert_kept(Bounds { ring: true, ..THREE });
    assert_kept(Bounds { ring: true, invalidations: 2, in_turn: true, fills: 0, ..THREE });
}

/// Node 1 pauses for so long that it is passed over, and then dropped by the next append, which waits for nobody.
const DROPPED: &[Step] = &[
    Step::Save,
    Step::Append { node: 0, invalidation: 0 },
    Step::Receive { node: 0 },
    Step::Tick,
    Step::Tick,
    Step::Answer { invalidation: 0 },
    Step::PassOver { invalidation: 0 },
    Step::Tick,
    Step::Tick,
    Step::Save,
    Step::Append { node: 0, invalidation: 1 },
    Step::Receive { node: 0 },
    Step::Answer { invalidation: 1 },
];

/// And then it looks: it learns that it is no member, joins, and has read the journal.
const BACK: &[Step] = &[Step::Look { node: 1 }, Step::Receive { node: 1 }, Step::Receive { node: 1 }];

#[test]
fn by_a_node_that_paused_until_it_was_dropped_and_that_joins_again_before_it_serves() {
    let rules = Rules { bounds: Bounds { history: DROPPED, ..TWICE }, mutant: None };
    let mut state: State = rules.after_history();
    assert_eq!((state.head.members[1], state.answered), (Member::Absent, 2));
    for step in BACK {
        assert!(!state.node(1).is_current(), "{step:?}");
        rules.take(&mut state, *step);
    }
    assert!(state.node(1).is_current() && state.admits(1));
    assert_kept(Bounds { history: DROPPED, ..TWICE });
}
