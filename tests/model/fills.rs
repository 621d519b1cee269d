//! How does a page come into being? A flight, from the beginning of the fetch to the write into the store.
//!
//! A flight that still asks the store has no place here: it has no page and no `as_of` yet, and takes it after all who joined had begun, which is as if
//! they had come when the fetch began. A flight that nobody may join any more goes on for those on board; more than one may be under way.

use super::rules::{Mutant, Rules};
use super::state::{Fill, Page, Rider, Stage, State};
use super::steps::Step as Any;

/// How a fetch goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The origin reads the row.
    Render,
    /// A request joins.
    Board,
    /// The head of the response arrives: its tags are known.
    Arrive,
    /// The response is complete, and is kept if nothing has named it.
    Finish,
    /// The store has the page.
    Write,
}

impl Fill {
    fn page(&self) -> Page {
        Page { journal: self.journal, as_of: self.as_of, version: self.version.expect("it has been rendered") }
    }
}

pub fn steps(rules: &Rules, state: &State, steps: &mut Vec<Any>) {
    for (place, fill) in (0..).zip(state.fills()) {
        let mut push = |step| steps.push(Any::Fill(place, step));
        match (fill.stage, fill.version) {
            (Stage::Fetching, None) => push(Step::Render),
            (Stage::Fetching, Some(_)) => push(Step::Arrive),
            (Stage::Streaming, _) => push(Step::Finish),
            (Stage::Writing, _) => push(Step::Write),
        }
        let node = state.node(fill.node);
        let is_free = fill.stage == Stage::Fetching && fill.rider.is_none();
        if rules.bounds.tagged && is_free && state.answered > 0 && node.is_current() && rules.may_join(node, fill) {
            push(Step::Board);
        }
    }
}

/// Takes the `as_of`, and then asks the origin.
pub fn begin(state: &mut State, node: u8) {
    let it = state.node(node);
    let (journal, as_of) = (it.journal, it.applied);
    let fill = Fill { node, journal, as_of, version: None, stage: Stage::Fetching, rider: None };
    state.spent.fills += 1;
    *state.fills.iter_mut().find(|place| place.is_none()).expect("there is room for all") = Some(fill);
    state.sort_fills();
}

impl State {
    /// In the order in which [`steps`] numbers them: those that are not there last.
    pub fn sort_fills(&mut self) {
        self.fills.sort_by_key(|fill| (fill.is_none(), *fill));
    }
}

pub fn take(rules: &Rules, state: &mut State, place: u8, step: Step) {
    let mut fill = state.fills[usize::from(place)].expect("it is under way");
    let fill = match step {
        Step::Render => {
            let stage = if rules.bounds.tagged { Stage::Fetching } else { Stage::Streaming };
            Some(Fill { version: Some(state.row), stage, ..fill })
        }
        Step::Board => {
            let rider = Rider { floor: state.answered, joined_at: state.node(fill.node).applied };
            Some(Fill { rider: Some(rider), ..fill })
        }
        Step::Arrive => {
            let applied = state.node(fill.node).applied;
            let is_checked = !rules.is(Mutant::FollowersStayUnchecked);
            fill.rider.take_if(|rider| is_checked && rider.joined_at > fill.as_of && applied > fill.as_of);
            Some(Fill { stage: Stage::Streaming, ..fill })
        }
        Step::Finish => finish(rules, state, fill),
        Step::Write => {
            let node = state.node(fill.node);
            if rules.is(Mutant::AsOfWhenWritten) && node.is_up {
                fill.as_of = node.applied;
            }
            state.store = Some(fill.page());
            None
        }
    };
    state.fills[usize::from(place)] = fill;
    state.sort_fills();
}

/// Memory first, then the store. A page that has been named since is not kept.
fn finish(rules: &Rules, state: &mut State, mut fill: Fill) -> Option<Fill> {
    let node = state.node_mut(fill.node);
    if rules.is(Mutant::AsOfAtTheEnd) {
        fill.as_of = node.applied;
    }
    let page = fill.page();
    let is_overtaken = node.memory.is_some_and(|newer| newer.journal == page.journal && newer.as_of > page.as_of);
    if !rules.is_valid(node, &page) || is_overtaken {
        return None;
    }
    node.memory = Some(page);
    Some(Fill { stage: Stage::Writing, rider: None, ..fill })
}
