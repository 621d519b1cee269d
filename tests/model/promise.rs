//! What must hold in every state, and what must be seen in some?

use stateright::{Model, Property};

use super::rules::Rules;
use super::state::{Errand, Member, Node, Page, Stage, State};
use super::steps::Step;

impl Model for Rules {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![self.after_history()]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.steps(state, steps);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        self.take(&mut next, step);
        Some(self.representative(next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let promise = Property::always(PROMISE, Rules::is_kept);
        match self.mutant {
            Some(_) => vec![promise],
            None => std::iter::once(promise).chain(self.sights()).collect(),
        }
    }
}

/// Every request that starts after an invalidation was answered gets a page that was rendered from the row that it announced, or from a newer one.
pub const PROMISE: &str = "no page is older than an invalidation that was answered before the request started";

impl Rules {
    /// The state that the steps of the history lead to.
    pub fn after_history(&self) -> State {
        let mut state = State::begin(self);
        for step in self.bounds.history {
            let mut steps = Vec::new();
            self.steps(&state, &mut steps);
            assert!(steps.contains(step), "{step:?} is not possible then: {steps:?}");
            self.take(&mut state, *step);
        }
        state
    }

    /// Requests are not steps. A request that starts in this state and is answered in it is checked here: that one is checked most strictly. Of those that
    /// stand still meanwhile, one is kept in the state.
    fn is_kept(&self, state: &State) -> bool {
        state.running().all(|(place, node)| {
            let paused = state.pausing.filter(|pausing| pausing.node == place).map(|pausing| pausing.floor);
            let starting = node.is_current().then_some(state.answered);
            let Some(floor) = starting.max(paused) else { return true };
            self.offers(state, place, node).all(|version| version >= floor)
        }) && state
            .fills()
            .filter(|fill| fill.stage == Stage::Streaming)
            .all(|fill| fill.rider.is_none_or(|rider| fill.version.is_none_or(|version| version >= rider.floor)))
    }

    /// The versions that a request may get at the node which has passed the check of the lease.
    fn offers<'a>(&'a self, state: &'a State, place: u8, node: &'a Node) -> impl Iterator<Item = u8> + 'a {
        let pages = [node.memory, state.store].into_iter().flatten();
        let kept = pages.filter(|page| self.is_valid(node, page)).map(|page| page.version);
        let flights = state.fills().filter(move |fill| fill.node == place && fill.stage == Stage::Streaming);
        kept.chain(flights.filter(|fill| self.may_join(node, fill)).filter_map(|fill| fill.version))
    }

    /// What shows that the model is not empty, as far as the bounds allow it.
    fn sights(&self) -> Vec<Property<Self>> {
        let bounds = &self.bounds;
        let mut sights = Vec::new();
        if bounds.fills > 0 {
            sights.push(Property::sometimes(
                "a page is served after an invalidation",
                |rules: &Rules, state: &State| {
                    state.answered > 0 && state.running().any(|(_, node)| rules.serves(node, node.memory))
                },
            ));
        }
        if bounds.fills > 0 && bounds.nodes > 1 {
            sights.push(Property::sometimes(
                "two nodes serve a new page from the store",
                |rules: &Rules, state: &State| {
                    let is_new = state.store.is_some_and(|page| page.as_of > 0);
                    is_new && state.running().filter(|(_, node)| rules.serves(node, state.store)).count() > 1
                },
            ));
        }
        if bounds.nodes > 1 && bounds.invalidations > 1 {
            sights.push(Property::sometimes(
                "a member that is passed over learns it at its next look",
                |_: &Rules, state: &State| {
                    state.running().any(|(_, node)| matches!(node.errand, Errand::Look { told, .. } if !told.admits))
                },
            ));
        }
        if bounds.nodes > 1 && bounds.invalidations > 1 {
            sights.push(Property::sometimes("a member that runs is dropped", |_: &Rules, state: &State| {
                state.running().any(|(_, node)| state.head.members[usize::from(node.name)] == Member::Absent)
            }));
        }
        sights
    }

    fn serves(&self, node: &Node, page: Option<Page>) -> bool {
        node.is_current() && page.is_some_and(|page| self.is_valid(node, &page))
    }
}
