//! What may happen next? Everything that is possible; nothing is ever forced, but that time does not pass unless somebody lets it.

use super::fills;
use super::rules::{Mutant, Rules};
use super::state::{Errand, Late, Node, Pausing, Progress, Set, State, has};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Tick,
    /// The application saves the row and POSTs the invalidation.
    Save,
    /// The bucket carries out the swap that appends it.
    Append {
        node: u8,
        invalidation: u8,
    },
    /// The node sends the swap and gives it up; the bucket has not carried it out.
    AppendUnanswered {
        node: u8,
        invalidation: u8,
    },
    /// The bucket carries out a swap that was given up.
    CarryOut,
    /// The answer to a swap that was carried out is lost.
    LoseAnswer {
        node: u8,
    },
    /// The node finds its record in the head.
    Resolve {
        node: u8,
    },
    /// The node cannot find out, and answers 503.
    Fail {
        node: u8,
    },
    /// Mutant: it answers as if the swap had been carried out.
    Believe {
        node: u8,
    },
    /// The answer of the bucket arrives.
    Receive {
        node: u8,
    },
    /// The bucket answers a look.
    Look {
        node: u8,
    },
    /// The node gives the look up: no answer, or the journal is out of reach.
    GiveUp {
        node: u8,
    },
    /// The POST is answered 200.
    Answer {
        invalidation: u8,
    },
    /// Whoever was waited for is marked.
    PassOver {
        invalidation: u8,
    },
    /// A member has heard the ring, has looked, and says so.
    Acknowledge {
        node: u8,
        invalidation: u8,
    },
    /// A client asks again, with the same id.
    Repeat {
        node: u8,
        invalidation: u8,
    },
    /// A request passes the check of the lease, and stands still.
    Pause {
        node: u8,
    },
    /// The page in the store is taken into memory.
    Load {
        node: u8,
    },
    /// A fetch begins.
    Fetch {
        node: u8,
    },
    /// A fetch goes on.
    Fill(u8, fills::Step),
    Crash {
        node: u8,
    },
    /// The node stops and takes its name out of the head.
    Leave {
        node: u8,
    },
    Start {
        node: u8,
    },
    DeleteJournal,
}

impl Rules {
    /// All steps that are possible in this state.
    pub fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        steps.push(Step::Tick);
        let may_save = !self.bounds.in_turn || state.answered == state.row;
        if state.row < self.bounds.invalidations && may_save {
            steps.push(Step::Save);
        }
        if state.late.is_some() {
            steps.push(Step::CarryOut);
        }
        if state.spent.deletions < self.bounds.deletions && !state.head.is_gone {
            steps.push(Step::DeleteJournal);
        }
        (0..self.bounds.invalidations).for_each(|invalidation| self.steps_of_invalidation(state, invalidation, steps));
        for node in 0..self.bounds.nodes {
            if state.node(node).is_up {
                self.steps_of_errand(state, node, steps);
                self.steps_of_node(state, node, steps);
            } else {
                steps.push(Step::Start { node });
            }
        }
        fills::steps(self, state, steps);
    }

    fn steps_of_invalidation(&self, state: &State, invalidation: u8, steps: &mut Vec<Step>) {
        match state.invalidation(invalidation).progress {
            Progress::Waiting { node, others, left } => {
                let are_heard = others.unheard == 0 && state.node(node).settling == 0;
                if left == 0 || are_heard {
                    steps.push(Step::Answer { invalidation });
                }
            }
            Progress::Answered { node, silent } if silent != 0 && is_idle(state, node) => {
                steps.push(Step::PassOver { invalidation });
            }
            Progress::Posted if self.is(Mutant::AnsweredBeforeDurable) => steps.push(Step::Answer { invalidation }),
            _ => {}
        }
    }

    /// What the node may do with the head.
    fn steps_of_errand(&self, state: &State, node: u8, steps: &mut Vec<Step>) {
        match state.node(node).errand {
            Errand::None if is_idle(state, node) => {
                if self.may_learn(state, node) {
                    steps.push(Step::Look { node });
                }
                for invalidation in 0..self.bounds.invalidations {
                    let is_asked = self.bounds.asked.is_none_or(|asked| asked[usize::from(invalidation)] == node);
                    if is_asked && state.invalidation(invalidation).progress == Progress::Posted {
                        self.appends(state, node, invalidation, steps);
                    }
                }
            }
            Errand::None => {}
            Errand::Look { .. } => steps.extend([Step::Receive { node }, Step::GiveUp { node }]),
            Errand::Append { .. } => {
                steps.push(Step::Receive { node });
                if state.spent.losses < self.bounds.losses {
                    steps.push(Step::LoseAnswer { node });
                }
            }
            Errand::Unknown { invalidation, before } => {
                steps.push(Step::Fail { node });
                if self.is(Mutant::LostAnswersAreGood) {
                    steps.push(Step::Believe { node });
                }
                if !state.node(node).finds_journal(state) {
                } else if state.invalidation(invalidation).sequence == before {
                    self.appends(state, node, invalidation, steps);
                } else {
                    steps.push(Step::Resolve { node });
                }
            }
        }
    }

    fn appends(&self, state: &State, node: u8, invalidation: u8, steps: &mut Vec<Step>) {
        steps.push(Step::Append { node, invalidation });
        if state.spent.losses < self.bounds.losses {
            steps.push(Step::AppendUnanswered { node, invalidation });
        }
    }

    /// A look that tells nothing and makes the lease no longer need not be made.
    fn may_learn(&self, state: &State, node: u8) -> bool {
        let node = state.node(node);
        let told = state.tell(node.name);
        let words =
            (0..).zip(node.marks).fold(0, |words: Set, (word, known)| words | u8::from(known.is_some()) << word);
        node.lease < self.bounds.lease || told.sequence != node.applied || !told.admits || told.words != words
    }

    /// What else a node may do that runs.
    fn steps_of_node(&self, state: &State, node: u8, steps: &mut Vec<Step>) {
        let it = state.node(node);
        for invalidation in 0..self.bounds.invalidations {
            if self.bounds.ring && self.hears_ring(state, it, invalidation) {
                steps.push(Step::Acknowledge { node, invalidation });
            }
            let progress = state.invalidation(invalidation).progress;
            let is_repeatable = matches!(progress, Progress::Waiting { .. } | Progress::Failed);
            if is_repeatable && state.spent.repeats < self.bounds.repeats && it.errand == Errand::None {
                steps.push(Step::Repeat { node, invalidation });
            }
        }
        if it.is_current() {
            if self.bounds.pausing && state.answered > 0 && state.pausing.is_none() {
                steps.push(Step::Pause { node });
            }
            if state.store != it.memory && state.store.is_some_and(|page| self.is_valid(it, &page)) {
                steps.push(Step::Load { node });
            }
        }
        if state.spent.fills < self.bounds.fills && self.bounds.fetches.is_none_or(|only| only == node) {
            steps.push(Step::Fetch { node });
        }
        if state.spent.crashes < self.bounds.crashes {
            steps.push(Step::Crash { node });
            if is_idle(state, node) {
                steps.push(Step::Leave { node });
            }
        }
    }

    fn hears_ring(&self, state: &State, node: &Node, invalidation: u8) -> bool {
        let Progress::Waiting { node: asker, others, .. } = state.invalidation(invalidation).progress else {
            return false;
        };
        let has_applied =
            node.journal == state.node(asker).journal && node.applied >= state.invalidation(invalidation).sequence;
        has(others.unheard, node.name) && (has_applied || self.is(Mutant::RingAcknowledgedUnread))
    }

    /// Takes the step.
    pub fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Tick => state.tick(self),
            Step::Save => {
                state.invalidation_mut(state.row).progress = Progress::Posted;
                state.row += 1;
            }
            Step::Append { node, invalidation } => {
                let dropped = state.silent(self, node);
                state.append(self, state.node(node).name, invalidation, dropped);
                state.appended(self, node, invalidation);
            }
            Step::AppendUnanswered { node, invalidation } => self.send_late(state, node, invalidation),
            Step::CarryOut => {
                let late = state.late.take().expect("there is one");
                state.append(self, late.name, late.invalidation, late.dropped);
            }
            Step::LoseAnswer { node } => {
                let Errand::Append { invalidation, .. } = state.node(node).errand else { unreachable!("it appends") };
                state.spent.losses += 1;
                state.node_mut(node).errand = Errand::Unknown { invalidation, before: 0 };
            }
            Step::Resolve { node } => {
                let invalidation = state.unknown(node);
                let name = state.node(node).name;
                if !state.admits(name) && !self.is(Mutant::PassedOverAppendWithoutJoining) {
                    state.join(name);
                }
                state.appended(self, node, invalidation);
            }
            Step::Fail { node } => {
                let invalidation = state.unknown(node);
                state.invalidation_mut(invalidation).progress = Progress::Failed;
            }
            Step::Believe { node } => {
                let invalidation = state.unknown(node);
                let others = state.others(self, state.node(node).name);
                state.wait(self, node, invalidation, others);
            }
            Step::Receive { node } => state.receive(self, node),
            Step::Look { node } => state.look(node),
            Step::GiveUp { node } => state.node_mut(node).errand = Errand::None,
            Step::Answer { invalidation } => answer(state, invalidation),
            Step::PassOver { invalidation } => {
                let Progress::Answered { node, silent } = state.invalidation(invalidation).progress else {
                    unreachable!("it was answered")
                };
                state.pass_over(self, silent, invalidation);
                let told = state.tell(state.node(node).name);
                state.node_mut(node).know(told.words);
                state.invalidation_mut(invalidation).progress = Progress::Done;
            }
            Step::Acknowledge { node, invalidation } => {
                let name = state.node(node).name;
                if let Progress::Waiting { others, .. } = &mut state.invalidation_mut(invalidation).progress {
                    others.unheard &= !(1 << name);
                    others.tickets &= !(1 << name);
                }
            }
            Step::Repeat { node, invalidation } => self.repeat(state, node, invalidation),
            Step::Pause { node } => state.pausing = Some(Pausing { node, floor: state.answered }),
            Step::Load { node } => state.node_mut(node).memory = state.store,
            Step::Fetch { node } => fills::begin(state, node),
            Step::Fill(place, step) => fills::take(self, state, place, step),
            Step::Crash { node } => {
                state.spent.crashes += 1;
                state.end(node);
            }
            Step::Leave { node } => {
                state.spent.crashes += 1;
                let name = state.node(node).name;
                if !self.is(Mutant::LeavesBeforeItStops) {
                    state.end(node);
                }
                state.leave(name);
            }
            Step::Start { node } => self.start(state, node),
            Step::DeleteJournal => {
                state.spent.deletions += 1;
                state.head.is_gone = true;
                state.late = None;
            }
        }
    }

    fn send_late(&self, state: &mut State, node: u8, invalidation: u8) {
        let dropped = state.silent(self, node);
        let before = state.invalidation(invalidation).sequence;
        state.spent.losses += 1;
        state.late = Some(Late { name: state.node(node).name, invalidation, dropped });
        state.node_mut(node).errand = Errand::Unknown { invalidation, before };
        state.invalidation_mut(invalidation).progress = Progress::Appending { node };
    }

    /// A record whose id is known takes no new number, but whoever may not have heard of it is waited for.
    fn repeat(&self, state: &mut State, node: u8, invalidation: u8) {
        state.spent.repeats += 1;
        let (it, known) = (state.node(node), state.invalidation(invalidation).sequence);
        if known == 0 || it.applied < known {
            state.invalidation_mut(invalidation).progress = Progress::Posted;
        } else if self.is(Mutant::RepeatsAreAnsweredAtOnce) {
            answer(state, invalidation);
        } else {
            let others = state.others(self, it.name);
            state.wait(self, node, invalidation, others);
        }
    }

    /// The process comes back under a new name: it joins, and has read the journal when the answer arrives.
    fn start(&self, state: &mut State, node: u8) {
        let name = self.bounds.nodes + state.spent.starts;
        state.spent.starts += 1;
        if state.head.is_gone {
            state.begin_journal();
        }
        state.join(name);
        let is_rash = self.is(Mutant::ServesBeforeTheJournalIsRead);
        let may_be_incomplete = self.bounds.deletions > 0 && !self.is(Mutant::OpenedJournalsAreComplete);
        *state.node_mut(node) = Node {
            is_up: true,
            name,
            journal: state.head.journal,
            lease: if is_rash { self.bounds.lease } else { 0 },
            settling: if may_be_incomplete { self.bounds.lease } else { 0 },
            ..Node::default()
        };
        state.look(node);
    }
}

fn is_idle(state: &State, node: u8) -> bool {
    state.node(node).finds_journal(state) && state.node(node).errand == Errand::None
}

fn answer(state: &mut State, invalidation: u8) {
    state.answered = state.answered.max(invalidation + 1);
    let progress = &mut state.invalidation_mut(invalidation).progress;
    *progress = match *progress {
        Progress::Waiting { node, others, .. } if others.tickets != 0 => {
            Progress::Answered { node, silent: others.tickets }
        }
        _ => Progress::Done,
    };
}

impl State {
    /// What the node has tried to append; it does not wait for it any more.
    fn unknown(&mut self, node: u8) -> u8 {
        let Errand::Unknown { invalidation, .. } = self.node(node).errand else { unreachable!("it has tried") };
        self.node_mut(node).errand = Errand::None;
        invalidation
    }
}
