//! What do the swaps of the head do? Each takes effect on the head as it is: a swap that another one has overtaken changes nothing, and is tried again on
//! the head that it then reads, which is the same as if it had been sent then.

use super::rules::{Mutant, Rules};
use super::state::{Member, NAMES, Others, Set, State, Told, has};

impl State {
    /// What a look at the head tells this name.
    pub fn tell(&self, name: u8) -> Told {
        let words = self.head.members.iter().fold(0, |words, member| match member {
            Member::PassedOver(word) => words | 1 << word,
            _ => words,
        });
        Told { sequence: self.head.sequence, admits: self.admits(name), words }
    }

    pub fn admits(&self, name: u8) -> bool {
        self.head.members[usize::from(name)] == Member::Serves
    }

    /// All members that `is_meant` says yes to.
    fn members(&self, is_meant: impl Fn(u8, Member) -> bool) -> Set {
        (0..)
            .zip(self.head.members)
            .filter(|(name, member)| is_meant(*name, *member))
            .fold(0, |set, (name, _)| set | 1 << name)
    }

    /// Whatever is swapped, no late swap succeeds any more.
    fn swapped(&mut self) {
        self.late = None;
    }

    /// Under a new epoch: tickets for the one before are void.
    pub fn join(&mut self, name: u8) {
        self.head.members[usize::from(name)] = Member::Serves;
        self.void_tickets(name);
        self.swapped();
    }

    /// Whom the node would drop with its next append: those whose mark it has known for a lease.
    pub fn silent(&self, rules: &Rules, node: u8) -> Set {
        let node = self.node(node);
        self.members(|name, member| match member {
            Member::PassedOver(word) if name != node.name => {
                let known = node.marks[usize::from(word)].unwrap_or(0);
                known >= rules.bounds.lease || rules.is(Mutant::DroppedWithTheMark)
            }
            _ => false,
        })
    }

    /// Writes the record, drops the silent, and joins if need be.
    pub fn append(&mut self, rules: &Rules, name: u8, invalidation: u8, dropped: Set) {
        for dropped in (0..NAMES as u8).filter(|other| has(dropped, *other)) {
            self.head.members[usize::from(dropped)] = Member::Absent;
        }
        if !self.admits(name) && !rules.is(Mutant::PassedOverAppendWithoutJoining) {
            self.join(name);
        }
        self.head.sequence += 1;
        self.invalidations[usize::from(invalidation)].sequence = self.head.sequence;
        self.swapped();
    }

    /// Whom an append of this name waits for.
    pub fn others(&self, rules: &Rules, name: u8) -> Others {
        let tickets = self.members(|other, member| other != name && member == Member::Serves);
        let passed_over = self.members(|other, member| other != name && matches!(member, Member::PassedOver(_)));
        let is_short = rules.is(Mutant::PassedOverAreNotWaitedFor);
        Others { unheard: if is_short { tickets } else { tickets | passed_over }, tickets }
    }

    /// Marks those who have been waited for, under a word of its own.
    pub fn pass_over(&mut self, rules: &Rules, silent: Set, invalidation: u8) {
        let word = if rules.is(Mutant::MarksShareAWord) { 0 } else { invalidation };
        for name in (0..NAMES as u8).filter(|name| has(silent, *name)) {
            if self.admits(name) {
                let is_dropped = rules.is(Mutant::DroppedAtOnce);
                self.head.members[usize::from(name)] =
                    if is_dropped { Member::Absent } else { Member::PassedOver(word) };
                self.swapped();
            }
        }
    }

    pub fn leave(&mut self, name: u8) {
        self.head.members[usize::from(name)] = Member::Absent;
        self.swapped();
    }

    /// A new journal begins, in the place of one that is gone.
    pub fn begin_journal(&mut self) {
        self.head.journal += 1;
        self.head.is_gone = false;
        self.head.sequence = 0;
        self.head.members = [Member::Absent; NAMES];
        self.swapped();
    }
}
