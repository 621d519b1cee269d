//! Which states are the same for the promise? What cannot make a difference any more is forgotten, and nodes are alike: of states that differ only in
//! which node is which, one is kept.

use super::rules::{Mutant, Rules};
use super::state::{Errand, NAMES, NODES, Others, Progress, Set, Stage, State, has};

/// All orders of three nodes; those of two come first.
const ORDERS: [[u8; NODES]; 6] = [[0, 1, 2], [1, 0, 2], [0, 2, 1], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

impl Rules {
    /// The state that stands for all that are the same.
    pub fn representative(&self, mut state: State) -> State {
        if self.bounds.apart {
            return state;
        }
        if self.mutant.is_none_or(Mutant::leaves_dead_pages_dead) {
            self.forget_dead_pages(&mut state);
        }
        // Broken rules may make a difference of what makes none, and their examples shall keep the names of the nodes.
        if self.mutant.is_some() {
            return state;
        }
        self.forget_old_marks(&mut state);
        let is_symmetric = self.bounds.asked.is_none() && self.bounds.fetches.is_none();
        let orders = match self.bounds.nodes {
            3 if is_symmetric => 6,
            2 if is_symmetric => 2,
            _ => 1,
        };
        let others = ORDERS[1..orders].iter().map(|order| state.in_order(order)).min();
        others.map_or(state.clone(), |other| other.min(state))
    }

    /// A page that its node does not serve any more, or none of those who can find it, is served by nobody ever. Records are never unlearned, and whoever
    /// starts again reads them all before it serves.
    fn forget_dead_pages(&self, state: &mut State) {
        let least = state.running().map(|(_, node)| node.applied).min().unwrap_or(state.head.sequence);
        let is_one_journal = self.bounds.deletions == 0;
        if is_one_journal {
            state.store.take_if(|page| page.as_of < least);
        }
        for node in &mut state.nodes {
            node.memory.take_if(|page| page.as_of < node.applied);
        }
        let applied = state.nodes.map(|node| node.applied);
        for place in &mut state.fills {
            place.take_if(|fill| match fill.stage {
                Stage::Writing => is_one_journal && fill.as_of < least,
                _ => fill.rider.is_none() && !self.bounds.tagged && fill.as_of < applied[usize::from(fill.node)],
            });
        }
        state.sort_fills();
    }

    /// A mark that is not in the head any more does not come back: the next has another word. When nothing is appended any more, nobody is dropped, and
    /// nobody need be marked.
    fn forget_old_marks(&self, state: &mut State) {
        let has_ended = self.has_ended(state);
        let words = if has_ended { 0 } else { state.tell(0).words };
        for node in &mut state.nodes {
            for (word, known) in (0..).zip(&mut node.marks) {
                known.take_if(|_| !has(words, word));
            }
            match &mut node.errand {
                Errand::Append { told, others, .. } => {
                    told.words &= words;
                    others.tickets &= if has_ended { 0 } else { Set::MAX };
                }
                Errand::Look { told, .. } => told.words &= words,
                Errand::None | Errand::Unknown { .. } => {}
            }
        }
        if has_ended {
            for invalidation in &mut state.invalidations {
                match &mut invalidation.progress {
                    Progress::Waiting { others, .. } => others.tickets = 0,
                    progress @ Progress::Answered { .. } => *progress = Progress::Done,
                    _ => {}
                }
            }
        }
    }

    /// Has the last record been appended?
    fn has_ended(&self, state: &State) -> bool {
        let may_repeat = state.spent.repeats < self.bounds.repeats;
        let invalidations = &state.invalidations[..usize::from(self.bounds.invalidations)];
        state.late.is_none()
            && invalidations.iter().all(|invalidation| match invalidation.progress {
                Progress::Answered { .. } | Progress::Done => true,
                Progress::Waiting { .. } | Progress::Failed => !may_repeat,
                Progress::Appending { node } => {
                    matches!(state.node(node).errand, Errand::Append { .. }) && state.spent.losses == self.bounds.losses
                }
                Progress::Unmade | Progress::Posted => false,
            })
    }
}

impl Mutant {
    /// Does it only break what keeps nodes informed, and not what judges pages?
    fn leaves_dead_pages_dead(self) -> bool {
        !matches!(
            self,
            Mutant::PagesAreNotJudged
                | Mutant::AsOfAtTheEnd
                | Mutant::AsOfWhenWritten
                | Mutant::FollowersJoinUnchecked
                | Mutant::FollowersStayUnchecked
                | Mutant::ServesBeforeTheJournalIsRead
                | Mutant::PagesNameNoJournal
        )
    }
}

impl State {
    fn in_order(&self, order: &[u8; NODES]) -> State {
        let at = |place: u8| order[usize::from(place)];
        let name = |name: u8| if usize::from(name) < NODES { at(name) } else { name };
        let set = |set: Set| (0..NAMES as u8).filter(|it| has(set, *it)).fold(0, |new, it| new | 1 << name(it));
        let others = |others: Others| Others { unheard: set(others.unheard), tickets: set(others.tickets) };
        let mut state = self.clone();
        for (place, node) in (0..NODES as u8).zip(self.nodes) {
            let mut node = node;
            if node.is_up {
                node.name = name(node.name);
            }
            if let Errand::Append { others: whom, .. } = &mut node.errand {
                *whom = others(*whom);
            }
            *state.node_mut(at(place)) = node;
        }
        for (old, member) in (0..).zip(self.head.members) {
            state.head.members[usize::from(name(old))] = member;
        }
        for invalidation in &mut state.invalidations {
            invalidation.progress = match invalidation.progress {
                Progress::Appending { node } => Progress::Appending { node: at(node) },
                Progress::Waiting { node, others: whom, left } => {
                    Progress::Waiting { node: at(node), others: others(whom), left }
                }
                Progress::Answered { node, silent } => Progress::Answered { node: at(node), silent: set(silent) },
                other => other,
            };
        }
        state.fills.iter_mut().flatten().for_each(|fill| fill.node = at(fill.node));
        state.sort_fills();
        if let Some(late) = &mut state.late {
            (late.name, late.dropped) = (name(late.name), set(late.dropped));
        }
        if let Some(pausing) = &mut state.pausing {
            pausing.node = at(pausing.node);
        }
        state
    }
}
