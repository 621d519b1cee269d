//! Which protocol is explored, and how far?

use super::state::{ASKED, FILLS, Fill, Node, Page, Stage};
use super::steps::Step;

/// How much may happen. Time, looks, joins, pauses and outages have no bound: a step is never forced, so a node that pauses or cannot reach the bucket
/// is one that takes none while time goes on.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub nodes: u8,
    /// Ticks.
    pub lease: u8,
    pub invalidations: u8,
    pub fills: u8,
    /// Nodes that die, or leave; each may come back.
    pub crashes: u8,
    /// Appends whose answer is lost.
    pub losses: u8,
    /// Clients that ask again, with the same id.
    pub repeats: u8,
    /// Deletions of the journal.
    pub deletions: u8,
    /// Members are told of a record at once, and are not waited for once they have applied it.
    pub ring: bool,
    /// Records name a tag of the page, which nobody knows before the response's head arrives; if not, its path.
    pub tagged: bool,
    /// A request may stand still between the check of the lease and its answer.
    pub pausing: bool,
    /// States that are the same for the promise are told apart.
    pub apart: bool,
    /// The application waits for the answer before it saves again.
    pub in_turn: bool,
    /// The only nodes that each of the invalidations is sent to; all, if not said.
    pub asked: Option<[u8; ASKED]>,
    /// The only node that fetches.
    pub fetches: Option<u8>,
    /// What has happened already.
    pub history: &'static [Step],
}

impl Bounds {
    /// Two nodes, and nothing goes wrong but time.
    pub const fn nodes(nodes: u8) -> Self {
        Bounds {
            nodes,
            lease: 2,
            invalidations: 1,
            fills: 1,
            crashes: 0,
            losses: 0,
            repeats: 0,
            deletions: 0,
            ring: false,
            tagged: false,
            pausing: false,
            apart: false,
            in_turn: false,
            asked: None,
            fetches: None,
            history: &[],
        }
    }
}

impl Bounds {
    /// So much more as the environment asks for: `MODEL_MORE_FILLS`, `MODEL_MORE_INVALIDATIONS`, `MODEL_MORE_TICKS` (of the lease).
    pub fn with_more(self) -> Self {
        let of = |name: &str, most: usize, number: u8| {
            #[expect(
                clippy::disallowed_methods,
                reason = "a test that somebody may want to take further has no configuration"
            )]
            let more: u8 = std::env::var(name).map_or(0, |more| more.parse().expect("a small number"));
            number.saturating_add(more).min(most as u8)
        };
        Bounds {
            fills: of("MODEL_MORE_FILLS", FILLS, self.fills),
            invalidations: of("MODEL_MORE_INVALIDATIONS", ASKED, self.invalidations),
            lease: of("MODEL_MORE_TICKS", 10, self.lease),
            ..self
        }
    }
}

/// One rule of the protocol, broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Pages are served whatever their `as_of`.
    PagesAreNotJudged,
    /// `as_of` is taken when the response is complete.
    AsOfAtTheEnd,
    /// The page is judged by what was applied when it was written to the store.
    AsOfWhenWritten,
    /// Any request may join any flight.
    FollowersJoinUnchecked,
    /// Followers are not checked again when the tags are known.
    FollowersStayUnchecked,
    /// A look is good for a lease after its answer.
    LeaseFromTheAnswerOfALook,
    /// An append is good for a lease after its answer.
    LeaseFromTheAnswerOfAnAppend,
    /// The POST is answered when it comes.
    AnsweredBeforeDurable,
    /// The POST is answered when its record is durable.
    AnsweredWithoutWaiting,
    /// A member that was passed over is not waited for.
    PassedOverAreNotWaitedFor,
    /// Who was waited for is dropped, not passed over.
    DroppedAtOnce,
    /// Who is passed over is dropped by the next append.
    DroppedWithTheMark,
    /// All marks have the same word.
    MarksShareAWord,
    /// A look that shows the node as passed over renews its lease.
    PassedOverGoOnServing,
    /// An append of a node that was passed over renews its lease.
    PassedOverAppendWithoutJoining,
    /// A node serves from the store before it has read the journal.
    ServesBeforeTheJournalIsRead,
    /// A lost answer counts as a good one.
    LostAnswersAreGood,
    /// A repeated POST whose record is known is answered at once.
    RepeatsAreAnsweredAtOnce,
    /// The ring is acknowledged before the record is applied.
    RingAcknowledgedUnread,
    /// A node serves until it has left.
    LeavesBeforeItStops,
    /// A page of another journal is judged like one of this.
    PagesNameNoJournal,
    /// Who opens a journal trusts it to name all who serve.
    OpenedJournalsAreComplete,
}

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub bounds: Bounds,
    pub mutant: Option<Mutant>,
}

impl Rules {
    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// May the node serve the page? All records name it, so the newest applied is the newest that names it.
    pub fn is_valid(&self, node: &Node, page: &Page) -> bool {
        let is_of_journal = page.journal == node.journal || self.is(Mutant::PagesNameNoJournal);
        self.is(Mutant::PagesAreNotJudged) || (is_of_journal && page.as_of == node.applied)
    }

    /// May a request that is at the node now join the fetch?
    pub fn may_join(&self, node: &Node, fill: &Fill) -> bool {
        let are_tags_known = !self.bounds.tagged || fill.stage != Stage::Fetching;
        let is_unchecked = self.is(Mutant::FollowersJoinUnchecked) || !are_tags_known;
        fill.stage != Stage::Writing && (is_unchecked || node.applied <= fill.as_of)
    }
}
