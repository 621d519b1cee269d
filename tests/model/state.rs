//! What does the model know of the world at one moment? Small numbers in arrays: states are copied, compared and hashed by the million.
//!
//! Times are what is left, or what has passed up to a lease, never a date: so time has no end, and yet there are few states.

use super::rules::Rules;

/// Nodes at most.
pub const NODES: usize = 3;
/// Names of nodes at most: one that starts again has another.
pub const NAMES: usize = NODES + 1;
/// Invalidations at most.
pub const ASKED: usize = 3;
/// Fetches at most.
pub const FILLS: usize = 3;

/// Names of nodes, or words of marks: bit `n` stands for `n`.
pub type Set = u8;

pub fn has(set: Set, member: u8) -> bool {
    set >> member & 1 == 1
}

/// A page: rendered from this version of the row, by a fetch that began as of this record of this journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Page {
    pub journal: u8,
    pub as_of: u8,
    pub version: u8,
}

/// What the head says of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    #[default]
    Absent,
    Serves,
    /// Under this word.
    PassedOver(u8),
}

/// The object that is swapped. All records name the only path there is, so their number says all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Head {
    pub journal: u8,
    /// Somebody has deleted it.
    pub is_gone: bool,
    pub sequence: u8,
    pub members: [Member; NAMES],
}

/// What a node learns from a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Told {
    pub sequence: u8,
    /// It shows the node as a member.
    pub admits: bool,
    /// Words of the marks in it.
    pub words: Set,
}

/// What a node does with the head, one thing at a time: the bucket has done its part, the answer is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Errand {
    #[default]
    None,
    /// It has looked, or joined.
    Look { age: u8, told: Told },
    /// It has appended.
    Append { age: u8, told: Told, invalidation: u8, others: Others },
    /// It has tried to append, and no answer came.
    /// The record's number was this before: if it has another now, the swap was carried out.
    Unknown { invalidation: u8, before: u8 },
}

/// Whom an append waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Others {
    /// Those who may serve without having heard of it.
    pub unheard: Set,
    /// Those of them who may be passed over afterwards: they have not joined again since.
    pub tickets: Set,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    pub is_up: bool,
    pub name: u8,
    pub journal: u8,
    /// The newest record applied.
    pub applied: u8,
    /// Ticks until the lease runs out.
    pub lease: u8,
    /// Ticks until no node can serve that this one's journal does not know of: after it was opened.
    pub settling: u8,
    /// For how long the mark of this word has been known, up to a lease.
    pub marks: [Option<u8>; ASKED],
    pub memory: Option<Page>,
    pub errand: Errand,
}

/// A fetch from the origin, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fill {
    pub node: u8,
    /// What it will store.
    pub journal: u8,
    pub as_of: u8,
    /// Of the row that the origin has read.
    pub version: Option<u8>,
    pub stage: Stage,
    pub rider: Option<Rider>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The head of the response, with its tags, has not arrived.
    Fetching,
    /// It has.
    Streaming,
    /// The page is on its way into the store. Its node may be gone.
    Writing,
}

/// Somebody who reads along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rider {
    /// The newest version whose invalidation had been answered when he came.
    pub floor: u8,
    /// The newest record that the node had applied then.
    pub joined_at: u8,
}

/// How far an invalidation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Progress {
    #[default]
    Unmade,
    /// The row has been saved, and no node has begun to append.
    Posted,
    /// A node appends it.
    Appending {
        node: u8,
    },
    /// It is durable, and waits for others.
    Waiting {
        node: u8,
        others: Others,
        left: u8,
    },
    /// Answered 200; these have not been heard of.
    Answered {
        node: u8,
        silent: Set,
    },
    Done,
    /// Answered 503, or the connection broke.
    Failed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Invalidation {
    pub progress: Progress,
    /// The number of its record; 0: it has none.
    pub sequence: u8,
}

/// A swap that its node has given up, and that the bucket carries out if the head has not changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Late {
    pub name: u8,
    pub invalidation: u8,
    /// Those whom it drops.
    pub dropped: Set,
}

/// A request that has passed the check of the lease and then stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pausing {
    pub node: u8,
    pub floor: u8,
}

/// What has been used of the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spent {
    pub fills: u8,
    pub crashes: u8,
    pub starts: u8,
    pub losses: u8,
    pub repeats: u8,
    pub deletions: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    /// The row's version: how often it was saved.
    pub row: u8,
    /// The newest version whose invalidation was answered 200.
    pub answered: u8,
    pub head: Head,
    /// The object of the page.
    pub store: Option<Page>,
    pub nodes: [Node; NODES],
    pub invalidations: [Invalidation; ASKED],
    /// Sorted, so that the order in which they began makes no difference.
    pub fills: [Option<Fill>; FILLS],
    pub late: Option<Late>,
    pub pausing: Option<Pausing>,
    pub spent: Spent,
}

impl State {
    /// All nodes serve a page of the first row, from their memory and from the store.
    pub fn begin(rules: &Rules) -> Self {
        let page = Some(Page { journal: 0, as_of: 0, version: 0 });
        let mut nodes = [Node::default(); NODES];
        let mut members = [Member::Absent; NAMES];
        for name in 0..rules.bounds.nodes {
            members[usize::from(name)] = Member::Serves;
            nodes[usize::from(name)] =
                Node { is_up: true, name, lease: rules.bounds.lease, memory: page, ..Node::default() };
        }
        State {
            row: 0,
            answered: 0,
            head: Head { journal: 0, is_gone: false, sequence: 0, members },
            store: page,
            nodes,
            invalidations: [Invalidation::default(); ASKED],
            fills: [None; FILLS],
            late: None,
            pausing: None,
            spent: Spent::default(),
        }
    }

    pub fn node(&self, node: u8) -> &Node {
        &self.nodes[usize::from(node)]
    }

    pub fn node_mut(&mut self, node: u8) -> &mut Node {
        &mut self.nodes[usize::from(node)]
    }

    /// Nodes that run, with their places.
    pub fn running(&self) -> impl Iterator<Item = (u8, &Node)> {
        (0..).zip(&self.nodes).filter(|(_, node)| node.is_up)
    }

    pub fn fills(&self) -> impl Iterator<Item = &Fill> {
        self.fills.iter().flatten()
    }
}
