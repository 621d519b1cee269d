//! Each rule of the protocol is broken, one at a time: the model must find out. One that cannot fail proves nothing.

use super::explore;
use super::rules::{Bounds, Mutant};
use super::steps::Step;

const TWO: Bounds = Bounds::nodes(2);
/// Both invalidations are sent to one node, and the other fetches.
const TWICE: Bounds = Bounds { invalidations: 2, in_turn: true, asked: Some([0, 0, 0]), fetches: Some(1), ..TWO };

/// Says the shortest way to a broken promise, with `--nocapture`.
#[expect(clippy::print_stdout, reason = "the example is for people, and only if they ask for it")]
fn caught(mutant: Mutant, bounds: Bounds) {
    let Some(steps) = explore(bounds, Some(mutant)).broken else {
        panic!("{mutant:?} was not caught within {bounds:?}")
    };
    println!("{mutant:?}: {steps:?}");
}

#[test]
fn pages_that_are_not_judged_are_caught() {
    caught(Mutant::PagesAreNotJudged, Bounds { fills: 0, ..TWO });
}

#[test]
fn an_as_of_taken_at_the_end_of_the_fetch_is_caught() {
    caught(Mutant::AsOfAtTheEnd, TWO);
}

#[test]
fn a_late_writer_whose_page_is_judged_by_when_it_was_written_is_caught() {
    caught(Mutant::AsOfWhenWritten, TWO);
}

#[test]
fn followers_that_join_unchecked_are_caught() {
    caught(Mutant::FollowersJoinUnchecked, TWO);
}

#[test]
fn followers_that_are_not_checked_again_when_the_tags_are_known_are_caught() {
    caught(Mutant::FollowersStayUnchecked, Bounds { tagged: true, ..TWO });
}

#[test]
fn a_lease_measured_from_the_answer_of_a_look_is_caught() {
    caught(Mutant::LeaseFromTheAnswerOfALook, Bounds { fills: 0, ..TWO });
}

#[test]
fn a_lease_measured_from_the_answer_of_an_append_is_caught() {
    caught(
        Mutant::LeaseFromTheAnswerOfAnAppend,
        Bounds { in_turn: false, asked: Some([1, 0, 0]), fetches: Some(0), ..TWICE },
    );
}

#[test]
fn an_answer_before_the_record_is_durable_is_caught() {
    caught(Mutant::AnsweredBeforeDurable, Bounds { fills: 0, ..Bounds::nodes(1) });
}

#[test]
fn an_answer_that_waits_for_nobody_is_caught() {
    caught(Mutant::AnsweredWithoutWaiting, Bounds { fills: 0, ..TWO });
}

#[test]
fn a_lost_answer_that_counts_as_a_good_one_is_caught() {
    caught(Mutant::LostAnswersAreGood, Bounds { fills: 0, losses: 1, ..Bounds::nodes(1) });
}

/// The record is known, but the first POST still waits for the others, or was answered 503 after the bucket had carried the swap out.
#[test]
fn a_repeated_id_that_is_answered_at_once_is_caught() {
    caught(Mutant::RepeatsAreAnsweredAtOnce, Bounds { fills: 0, repeats: 1, ..TWO });
}

#[test]
fn members_that_are_not_waited_for_once_they_are_passed_over_are_caught() {
    caught(Mutant::PassedOverAreNotWaitedFor, TWICE);
}

#[test]
fn silent_members_that_are_dropped_at_once_are_caught() {
    caught(Mutant::DroppedAtOnce, TWICE);
}

#[test]
fn members_that_are_dropped_before_their_mark_is_a_lease_old_are_caught() {
    caught(Mutant::DroppedWithTheMark, TWICE);
}

#[test]
fn passed_over_members_that_go_on_serving_are_caught() {
    caught(Mutant::PassedOverGoOnServing, TWICE);
}

/// Node 1 has been passed over, and node 0 has known that for a lease.
const PASSED_OVER: &[Step] = &[
    Step::Save,
    Step::Append { node: 0, invalidation: 0 },
    Step::Receive { node: 0 },
    Step::Tick,
    Step::Tick,
    Step::Answer { invalidation: 0 },
    Step::PassOver { invalidation: 0 },
    Step::Tick,
    Step::Tick,
];

#[test]
fn passed_over_members_that_append_without_joining_again_are_caught() {
    let (asked, fetches) = (Some([0, 1, 0]), Some(1));
    let bounds = Bounds { invalidations: 3, asked, fetches, history: PASSED_OVER, ..TWO };
    caught(Mutant::PassedOverAppendWithoutJoining, bounds);
}

/// Node 2 has been passed over, node 1 has known that for a lease, and node 2 has come back since. Then the second record is appended.
const COME_BACK: &[Step] = &[
    Step::Save,
    Step::Append { node: 0, invalidation: 0 },
    Step::Receive { node: 0 },
    Step::Tick,
    Step::Answer { invalidation: 0 },
    Step::PassOver { invalidation: 0 },
    Step::Look { node: 1 },
    Step::Receive { node: 1 },
    Step::Receive { node: 1 },
    Step::Tick,
    Step::Look { node: 2 },
    Step::Receive { node: 2 },
    Step::Receive { node: 2 },
    Step::Save,
    Step::Append { node: 0, invalidation: 1 },
    Step::Receive { node: 0 },
];

#[test]
fn marks_that_share_a_word_are_caught() {
    let (asked, fetches) = (Some([0, 0, 1]), Some(2));
    let bounds = Bounds {
        invalidations: 3,
        lease: 1,
        in_turn: true,
        ring: true,
        asked,
        fetches,
        history: COME_BACK,
        ..Bounds::nodes(3)
    };
    caught(Mutant::MarksShareAWord, bounds);
}

#[test]
fn a_node_that_serves_before_it_has_read_the_journal_is_caught() {
    caught(Mutant::ServesBeforeTheJournalIsRead, Bounds { fills: 0, crashes: 1, ..Bounds::nodes(1) });
}

#[test]
fn a_node_that_leaves_before_it_stops_is_caught() {
    caught(Mutant::LeavesBeforeItStops, Bounds { fills: 0, crashes: 1, ..TWO });
}

#[test]
fn a_ring_that_is_acknowledged_before_the_record_is_applied_is_caught() {
    caught(Mutant::RingAcknowledgedUnread, Bounds { fills: 0, ring: true, ..TWO });
}

#[test]
fn pages_of_another_journal_are_caught() {
    caught(Mutant::PagesNameNoJournal, Bounds { fills: 0, crashes: 1, deletions: 1, ..Bounds::nodes(1) });
}

/// The head is gone or damaged, and whoever begins a new one names itself alone, while nodes of the old one serve until their leases run out.
#[test]
fn a_new_journal_that_forgets_who_served_by_the_old_one_is_caught() {
    caught(Mutant::OpenedJournalsAreComplete, Bounds { fills: 0, crashes: 1, deletions: 1, ..TWO });
}
