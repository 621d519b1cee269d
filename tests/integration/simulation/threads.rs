//! Threads: the one thing that a simulation on a single thread cannot interleave.
//!
//! Some threads judge a page again and again while another invalidates it. What they race for is a few instructions wide, so each of many rounds gives it
//! another chance; on correct code no round can fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use everpage::clock::UnixMillis;
use everpage::invalidation::index::Subject;
use everpage::invalidation::journal::memory::MemoryJournal;
use everpage::invalidation::journal::{Journal as _, Recovered};
use everpage::invalidation::selector::{Record, Target};
use everpage::invalidation::{Invalidations, Verdict};
use everpage::page::fields::ResponseFields;
use everpage::page::{JournalId, Page, PageHead, Sequence};
use everpage::policy::path::path_id;
use http::{Method, StatusCode};
use parking_lot::RwLock;

const ROUNDS: usize = 10_000;
/// More than there are cores: what is looked for happens where a thread is put aside for a while.
const JUDGES: usize = 3;
const PATH: &str = "/page";

fn page(as_of: Sequence, journal: &JournalId) -> Arc<Page> {
    let head = PageHead {
        method: Method::GET,
        host: "a.example".into(),
        path: PATH.into(),
        query: None,
        status: StatusCode::OK,
        headers: ResponseFields::default(),
        stored_at: UnixMillis(0),
        age_seconds: 0,
        fresh_seconds: None,
        as_of,
        journal: journal.clone(),
        tags: Vec::new(),
        varied_by: Vec::new(),
    };
    Arc::new(Page::new(head, "page".into(), path_id(PATH)))
}

#[test]
fn no_thread_ever_finds_a_page_valid_after_its_invalidation_was_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let journal = Arc::new(MemoryJournal::new(JournalId("threads".into())));
    let id = journal.id();
    let _entered = runtime.enter();
    let invalidations = Invalidations::start(journal, Recovered::default());
    let current = RwLock::new([page(Sequence(0), &id), page(Sequence(0), &id)]);
    let over = AtomicBool::new(false);
    let path_id = path_id(PATH);
    let subject = Subject { host: "a.example", path: PATH, path_id: &path_id, tags: &[] };
    // The newest invalidation of the page that has been answered.
    let answered = AtomicU64::new(0);
    let judge = &|number: usize| {
        while !over.load(Ordering::Relaxed) {
            let page = Arc::clone(&current.read()[usize::from(number > 0)]);
            if number == 0 {
                // As if nobody had looked yet: so that every judgement of this one asks the index.
                page.validated_to.store(0, Ordering::Relaxed);
            }
            // Mostly judging: the rest of this loop must not be where it usually is when the record comes.
            for _ in 0..if number == 0 { 1 } else { 100 } {
                invalidations.judge(&page);
            }
            let is_dead = answered.load(Ordering::Acquire) > page.head.as_of.0;
            assert!(!is_dead || invalidations.judge(&page) == Verdict::Invalid, "a dead page was marked as valid");
            // Whoever takes this number for an `as_of` counts on all records up to it: each even one names the page.
            let applied = invalidations.applied();
            let known = invalidations.newest(&subject).hard;
            assert!(
                known.0 + applied.0 % 2 >= applied.0,
                "{applied} is called applied, but look-ups know {known} only"
            );
        }
    };
    let invalidate = || {
        // The others end also where this one fails.
        let _end = End(&over);
        for round in 0..ROUNDS {
            let pages = [0, 1].map(|_| page(invalidations.applied(), &id));
            current.write().clone_from(&pages);
            pages.iter().for_each(|page| assert_eq!(invalidations.judge(page), Verdict::Valid));
            // A record between, so that the page is looked up again just when the next one comes.
            let record =
                |path: &str| Record { paths: vec![Target { host: None, path: path.into() }], ..Record::default() };
            runtime.block_on(invalidations.submit(record("/another"))).unwrap();
            let made = runtime.block_on(invalidations.submit(record(PATH))).unwrap();
            answered.store(made.sequence.0, Ordering::Release);
            pages.iter().for_each(|page| assert_eq!(invalidations.judge(page), Verdict::Invalid, "in round {round}"));
        }
    };
    std::thread::scope(|threads| {
        let judges: Vec<_> = (0..JUDGES).map(|number| threads.spawn(move || judge(number))).collect();
        invalidate();
        judges.into_iter().for_each(|judge| judge.join().unwrap());
    });
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
