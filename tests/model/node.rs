//! What does a node do with what it is told? It applies the records, and only then is its lease longer.

use super::rules::{Mutant, Rules};
use super::state::{ASKED, Errand, Invalidation, Node, Others, Progress, Set, State, Told, has};

impl Node {
    /// May it serve from what it has?
    pub fn is_current(&self) -> bool {
        self.is_up && self.lease > 0
    }

    /// Can it reach its journal, as far as that lies with the bucket?
    pub fn finds_journal(&self, state: &State) -> bool {
        self.is_up && !state.head.is_gone && state.head.journal == self.journal
    }

    fn take(&mut self, rules: &Rules, told: Told, age: u8) {
        self.know(told.words);
        self.applied = told.sequence;
        self.lease = self.lease.max(rules.bounds.lease - age);
    }

    /// Marks that it has not known are known from now on; those that are gone are forgotten.
    pub fn know(&mut self, words: Set) {
        for (word, known) in (0..ASKED as u8).zip(&mut self.marks) {
            *known = has(words, word).then_some(known.unwrap_or(0));
        }
    }
}

impl State {
    /// The bucket does its part of a look.
    pub fn look(&mut self, node: u8) {
        let told = self.tell(self.node(node).name);
        self.node_mut(node).errand = Errand::Look { age: 0, told };
    }

    /// The answer arrives.
    pub fn receive(&mut self, rules: &Rules, node: u8) {
        match self.node(node).errand {
            Errand::Look { told, .. } if !told.admits && !rules.is(Mutant::PassedOverGoOnServing) => {
                let name = self.node(node).name;
                self.node_mut(node).know(told.words);
                self.join(name);
                self.look(node);
            }
            Errand::Look { age, told } => {
                let age = if rules.is(Mutant::LeaseFromTheAnswerOfALook) { 0 } else { age };
                let node = self.node_mut(node);
                node.take(rules, told, age);
                node.errand = Errand::None;
            }
            Errand::Append { age, told, invalidation, others } => {
                let age = if rules.is(Mutant::LeaseFromTheAnswerOfAnAppend) { 0 } else { age };
                self.node_mut(node).take(rules, told, age);
                self.node_mut(node).errand = Errand::None;
                self.wait(rules, node, invalidation, others);
            }
            Errand::None | Errand::Unknown { .. } => unreachable!("nothing is on its way"),
        }
    }

    /// The node waits for the others before it answers.
    pub fn wait(&mut self, rules: &Rules, node: u8, invalidation: u8, others: Others) {
        let left = if rules.is(Mutant::AnsweredWithoutWaiting) { 0 } else { rules.bounds.lease };
        self.invalidation_mut(invalidation).progress = Progress::Waiting { node, others, left };
    }

    /// The record is in the head, which shows the node as a member: the answer is on its way.
    pub fn appended(&mut self, rules: &Rules, node: u8, invalidation: u8) {
        let name = self.node(node).name;
        let (told, others) = (self.tell(name), self.others(rules, name));
        self.node_mut(node).errand = Errand::Append { age: 0, told, invalidation, others };
        self.invalidation_mut(invalidation).progress = Progress::Appending { node };
    }

    pub fn invalidation(&self, invalidation: u8) -> &Invalidation {
        &self.invalidations[usize::from(invalidation)]
    }

    pub fn invalidation_mut(&mut self, invalidation: u8) -> &mut Invalidation {
        &mut self.invalidations[usize::from(invalidation)]
    }

    /// Whoever joins again is not passed over for what was before.
    pub fn void_tickets(&mut self, name: u8) {
        let keep = !(1 << name);
        for invalidation in &mut self.invalidations {
            match &mut invalidation.progress {
                Progress::Waiting { others, .. } => others.tickets &= keep,
                Progress::Answered { silent, .. } => *silent &= keep,
                _ => {}
            }
        }
        for node in &mut self.nodes {
            if let Errand::Append { others, .. } = &mut node.errand {
                others.tickets &= keep;
            }
        }
    }

    /// The process ends, however.
    pub fn end(&mut self, node: u8) {
        *self.node_mut(node) = Node { is_up: false, ..Node::default() };
        for fill in &mut self.fills {
            // What is on its way into the store may arrive.
            fill.take_if(|fill| fill.node == node && fill.stage != super::state::Stage::Writing);
        }
        self.pausing.take_if(|pausing| pausing.node == node);
        for invalidation in &mut self.invalidations {
            match invalidation.progress {
                Progress::Appending { node: at } | Progress::Waiting { node: at, .. } if at == node => {
                    invalidation.progress = Progress::Failed;
                }
                Progress::Answered { node: at, .. } if at == node => invalidation.progress = Progress::Done,
                _ => {}
            }
        }
    }

    /// One tick passes everywhere.
    pub fn tick(&mut self, rules: &Rules) {
        let lease = rules.bounds.lease;
        let older = |age: &mut u8| *age = lease.min(*age + 1);
        for node in &mut self.nodes {
            node.lease = node.lease.saturating_sub(1);
            node.settling = node.settling.saturating_sub(1);
            node.marks.iter_mut().flatten().for_each(older);
            match &mut node.errand {
                Errand::Look { age, .. } | Errand::Append { age, .. } => older(age),
                Errand::None | Errand::Unknown { .. } => {}
            }
        }
        for invalidation in &mut self.invalidations {
            if let Progress::Waiting { left, .. } = &mut invalidation.progress {
                *left = left.saturating_sub(1);
            }
        }
    }
}
