//! Records and pages, without the network.

use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Method, StatusCode};

use super::index::Index;
use super::journal::memory::MemoryJournal;
use super::journal::{Appended, JournalError};
use super::selector::Target;
use super::*;
use crate::clock::UnixMillis;
use crate::page::PageHead;
use crate::page::fields::ResponseFields;
use crate::policy::path;

fn invalidations() -> Invalidations {
    Invalidations::start(Arc::new(MemoryJournal::new(JournalId("j".into()))), Recovered::default())
}

fn page(path: &str, as_of: u64, journal: &str) -> Page {
    let head = PageHead {
        method: Method::GET,
        host: "h".into(),
        path: path.into(),
        query: None,
        status: StatusCode::OK,
        headers: ResponseFields::default(),
        stored_at: UnixMillis(0),
        age_seconds: 0,
        fresh_seconds: None,
        as_of: Sequence(as_of),
        journal: JournalId(journal.into()),
        tags: vec![],
        varied_by: vec![],
    };
    Page::new(head, Bytes::new(), path::path_id(path))
}

fn names(path: &str) -> Record {
    Record { paths: vec![Target { host: None, path: path.into() }], ..Record::default() }
}

#[tokio::test]
async fn a_page_is_valid_until_a_newer_record_names_it() {
    let invalidations = invalidations();
    let (named, other) = (page("/a", 0, "j"), page("/b", 0, "j"));
    assert_eq!(invalidations.judge(&named), Verdict::Valid);
    assert_eq!(invalidations.submit(names("/a")).await.unwrap().sequence, Sequence(1));
    assert_eq!(invalidations.judge(&named), Verdict::Invalid);
    assert_eq!(invalidations.judge(&other), Verdict::Valid);
    assert_eq!(invalidations.judge(&page("/a", 1, "j")), Verdict::Valid);
}

#[tokio::test]
async fn a_page_of_another_journal_or_of_the_future_is_never_valid() {
    let invalidations = invalidations();
    assert_eq!(invalidations.judge(&page("/a", 0, "other")), Verdict::Invalid);
    assert_eq!(invalidations.judge(&page("/a", 1, "j")), Verdict::Invalid);
}

#[tokio::test]
async fn a_soft_record_lets_the_old_page_be_served() {
    let invalidations = invalidations();
    invalidations.submit(Record { soft: true, ..names("/a") }).await.unwrap();
    let old = page("/a", 0, "j");
    assert_eq!(invalidations.judge(&old), Verdict::Soft);
    assert_eq!(invalidations.judge(&old), Verdict::Soft, "and is looked up each time");
    invalidations.submit(names("/a")).await.unwrap();
    assert_eq!(invalidations.judge(&old), Verdict::Invalid);
}

#[tokio::test]
async fn an_id_is_one_invalidation_also_in_one_batch() {
    let invalidations = invalidations();
    let with_id = || Record { id: Some("x".into()), ..names("/a") };
    let (a, b) = tokio::join!(invalidations.submit(with_id()), invalidations.submit(with_id()));
    assert_eq!((a.unwrap().sequence, b.unwrap().sequence), (Sequence(1), Sequence(1)));
    assert_eq!(invalidations.submit(with_id()).await.unwrap().sequence, Sequence(1));
    assert_eq!(invalidations.submit(names("/b")).await.unwrap().sequence, Sequence(2));
}

/// A journal that fails as often as it is told to.
#[derive(Debug)]
struct Failing(MemoryJournal, AtomicU64);

#[async_trait::async_trait]
impl Journal for Failing {
    fn id(&self) -> JournalId {
        self.0.id()
    }

    async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError> {
        if self.1.load(Ordering::Relaxed) > 0 {
            self.1.fetch_sub(1, Ordering::Relaxed);
            return Err(JournalError::new("append", "told to fail"));
        }
        self.0.append(records).await
    }

    async fn fold(&self, sequence: Sequence, snapshot: Vec<u8>) -> Result<(), JournalError> {
        self.0.fold(sequence, snapshot).await
    }

    fn tail_bytes(&self) -> u64 {
        0
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_not_durable_takes_effect_and_is_tried_again_until_it_is() {
    let journal = Failing(MemoryJournal::new(JournalId("j".into())), AtomicU64::new(3));
    let invalidations = Invalidations::start(Arc::new(journal), Recovered::default());
    let old = page("/a", 0, "j");
    assert_eq!(invalidations.judge(&old), Verdict::Valid);
    assert!(invalidations.submit_change(names("/a")).await.is_err());
    assert_eq!(invalidations.judge(&old), Verdict::Invalid);
    assert_eq!(invalidations.judge(&page("/a", 0, "j")), Verdict::Invalid, "a fetch from before it is durable");
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(invalidations.applied(), Sequence(1));
    assert_eq!(&*invalidations.recent(1)[0].1.paths[0].path, "/a");
    assert_eq!(invalidations.judge(&page("/a", 1, "j")), Verdict::Valid);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(invalidations.applied(), Sequence(1), "once is enough");
}

#[tokio::test]
async fn while_a_change_is_not_durable_no_page_of_it_is_valid_however_new() {
    let journal = Failing(MemoryJournal::new(JournalId("j".into())), AtomicU64::new(1));
    let invalidations = Invalidations::start(Arc::new(journal), Recovered::default());
    assert!(invalidations.submit_change(names("/a")).await.is_err());
    // Another node's record: a page that it rendered before the change may be as new as that.
    let records = [(Sequence(1), Arc::new(names("/b")))].into();
    invalidations.shared.take(Recovered { snapshot: None, records }).await;
    assert_eq!(invalidations.judge(&page("/a", 1, "j")), Verdict::Invalid);
    assert_eq!(invalidations.judge(&page("/c", 0, "j")), Verdict::Valid);
}

#[tokio::test]
async fn an_invalidation_that_is_not_durable_takes_no_effect() {
    let journal = Failing(MemoryJournal::new(JournalId("j".into())), AtomicU64::new(1));
    let invalidations = Invalidations::start(Arc::new(journal), Recovered::default());
    assert!(invalidations.submit(names("/a")).await.is_err());
    assert_eq!(invalidations.judge(&page("/a", 0, "j")), Verdict::Valid);
}

/// A journal of large records that cannot be folded, and how often that was tried.
#[derive(Debug)]
struct Unfoldable {
    inner: MemoryJournal,
    tail_bytes: AtomicU64,
    tries: AtomicU64,
}

const RECORDS_UNTIL_FOLD: u64 = 4;

#[async_trait::async_trait]
impl Journal for Unfoldable {
    fn id(&self) -> JournalId {
        self.inner.id()
    }

    async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError> {
        let bytes = folding::FOLD_BYTES / RECORDS_UNTIL_FOLD * records.len() as u64;
        self.tail_bytes.fetch_add(bytes, Ordering::SeqCst);
        self.inner.append(records).await
    }

    async fn fold(&self, _: Sequence, _: Vec<u8>) -> Result<(), JournalError> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        Err(JournalError::new("fold", "told to fail"))
    }

    fn tail_bytes(&self) -> u64 {
        self.tail_bytes.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_folded_is_tried_again_only_when_it_has_grown() {
    let inner = MemoryJournal::new(JournalId("j".into()));
    let journal = Arc::new(Unfoldable { inner, tail_bytes: 0.into(), tries: 0.into() });
    let invalidations = Invalidations::start(Arc::clone(&journal) as Arc<dyn Journal>, Recovered::default());
    // The fifth and the tenth are too much; what one sets off is over when the next is answered.
    for _ in 0..=2 * (RECORDS_UNTIL_FOLD + 1) {
        invalidations.submit(names("/a")).await.unwrap();
    }
    assert_eq!(journal.tries.load(Ordering::SeqCst), 2);
}

/// A journal that notes the largest batch, in bytes.
#[derive(Debug)]
struct Weighing(MemoryJournal, AtomicU64);

#[async_trait::async_trait]
impl Journal for Weighing {
    fn id(&self) -> JournalId {
        self.0.id()
    }

    async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError> {
        let bytes: usize = records.iter().map(|record| serde_json::to_string(&**record).unwrap().len()).sum();
        self.1.fetch_max(bytes as u64, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.0.append(records).await
    }

    async fn fold(&self, _: Sequence, _: Vec<u8>) -> Result<(), JournalError> {
        Ok(())
    }

    fn tail_bytes(&self) -> u64 {
        0
    }
}

#[tokio::test]
async fn what_waits_together_goes_into_the_journal_in_batches_that_readers_can_bear() {
    const MIB: usize = 1 << 20;
    let journal = Arc::new(Weighing(MemoryJournal::new(JournalId("j".into())), 0.into()));
    let invalidations = Invalidations::start(Arc::clone(&journal) as Arc<dyn Journal>, Recovered::default());
    let invalidations = Arc::new(invalidations);
    let mut clients = tokio::task::JoinSet::new();
    for mib in std::iter::repeat_n(1, 40).chain([20]) {
        let invalidations = Arc::clone(&invalidations);
        let record = Record { tags: vec!["t".repeat(mib * MIB).into()], ..Record::default() };
        clients.spawn(async move { invalidations.submit(record).await });
    }
    let made: Vec<_> = clients.join_all().await.into_iter().map(|made| made.unwrap().sequence.0).collect();
    assert_eq!(made.iter().copied().collect::<std::collections::BTreeSet<_>>(), (1..=41).collect());
    // The one that is larger than a batch goes alone.
    let largest = journal.1.load(Ordering::SeqCst) as usize;
    assert!(largest > 2 * MIB && largest < 21 * MIB, "{largest}");
}

/// Fails when anything that a request goes by changes before the last part, or when nobody has a turn between the parts.
#[tokio::test]
async fn a_large_record_is_applied_in_parts_and_is_known_when_all_of_it_is() {
    let paths: Vec<String> = (0..250).map(|number| format!("/{number}")).collect();
    let targets = paths.iter().map(|path| Target { host: None, path: path.as_str().into() }).collect();
    let tags: Vec<Arc<str>> = (0..250).map(|number| format!("t{number}").into()).collect();
    let record = Arc::new(Record { paths: targets, tags: tags.clone(), ..Record::default() });
    let invalidations = invalidations();
    let pages: Vec<Page> = paths.iter().map(|path| page(path, 0, "j")).collect();
    let tagged = |tag: &Arc<str>, as_of| {
        let mut page = page("/tagged", as_of, "j");
        page.head.tags = vec![Arc::clone(tag)];
        page
    };
    assert!(pages.iter().all(|page| invalidations.judge(page) == Verdict::Valid));
    let news = Recovered { records: vec![(Sequence(1), record)].into(), ..Recovered::default() };
    let mut taking = std::pin::pin!(invalidations.shared.take(news));
    let mut turns = 0;
    while (&mut taking).now_or_never().is_none() {
        turns += 1;
        assert_eq!(invalidations.applied(), Sequence(0), "what is fetched now is older than the record");
        assert!(pages.iter().all(|page| invalidations.judge(page) == Verdict::Valid), "the record is not answered yet");
        // Looked up anew: dead already, or held for valid until the last part is applied.
        assert_eq!(invalidations.judge(&page("/0", 0, "j")), Verdict::Invalid);
        for fetched in [page("/249", 0, "j"), tagged(&tags[249], 0)] {
            if invalidations.judge(&fetched) == Verdict::Valid {
                assert_ne!(fetched.validated_to.load(Ordering::Relaxed), 2, "it would outlive the record");
            }
        }
    }
    assert_eq!(turns, 5, "six parts");
    assert_eq!(invalidations.applied(), Sequence(1));
    assert!(pages.iter().all(|page| invalidations.judge(page) == Verdict::Invalid));
    assert!(tags.iter().all(|tag| invalidations.judge(&tagged(tag, 0)) == Verdict::Invalid));
    assert!(tags.iter().all(|tag| invalidations.judge(&tagged(tag, 1)) == Verdict::Valid));
}

/// Fails when `Shared::take` reads it on the runtime's thread.
#[tokio::test]
async fn a_large_snapshot_is_read_beside_the_requests() {
    let invalidations = invalidations();
    let mut index = Index::default();
    (0..200_000).for_each(|number| index.apply(Sequence(7), &names(&format!("/{number}"))));
    let mut bytes = index.to_bytes();
    assert!(bytes.len() > snapshot::LARGE_BYTES);
    let ids = [(UnixMillis(0), "order-7", Sequence(7))];
    serde_json::to_writer(&mut bytes, &ids).unwrap();
    let news = Recovered { snapshot: Some((Sequence(7), bytes)), ..Recovered::default() };
    let mut taking = std::pin::pin!(invalidations.shared.take(news));
    assert!((&mut taking).now_or_never().is_none(), "nobody else was answered meanwhile");
    assert_eq!(invalidations.applied(), Sequence(0));
    assert_eq!(invalidations.judge(&page("/3", 0, "j")), Verdict::Valid);
    taking.await;
    assert_eq!(invalidations.applied(), Sequence(7));
    assert_eq!(invalidations.judge(&page("/3", 6, "j")), Verdict::Invalid);
    assert_eq!(invalidations.judge(&page("/3", 7, "j")), Verdict::Valid);
    assert_eq!(invalidations.judge(&page("/other", 0, "j")), Verdict::Valid);
    assert_eq!(invalidations.shared.past.lock().sequence_of(&"order-7".into()), Some(Sequence(7)));
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_invalidates_everything_up_to_it() {
    for length in [0, 80, snapshot::LARGE_BYTES] {
        let invalidations = invalidations();
        let news = Recovered { snapshot: Some((Sequence(7), vec![255; length])), ..Recovered::default() };
        invalidations.shared.take(news).await;
        assert_eq!(invalidations.judge(&page("/", 6, "j")), Verdict::Invalid, "of {length} bytes");
        assert_eq!(invalidations.judge(&page("/", 7, "j")), Verdict::Valid, "of {length} bytes");
    }
}

#[test]
fn an_index_that_goes_on_while_it_is_written_down_loses_nothing() {
    let names = |number: u64| Record {
        paths: vec![Target { host: number.is_multiple_of(3).then(|| "a".into()), path: format!("/{number}").into() }],
        tags: vec![format!("t{number}").into()],
        soft: number.is_multiple_of(2),
        ..Record::default()
    };
    let newest = |index: &Index, number: u64| {
        let path = format!("/{number}");
        let tags = [format!("t{number}").into()];
        index.newest(&Subject { host: "a", path: &path, path_id: &path::path_id(&path), tags: &tags })
    };
    let index = std::cell::RefCell::new(Index::default());
    (1..500).for_each(|number| index.borrow_mut().apply(Sequence(number), &names(number)));
    let next = std::cell::Cell::new(500);
    let bytes = Index::write_down(|part| {
        part(&index.borrow());
        let number = next.replace(next.get() + 1);
        // Old names and new ones.
        index.borrow_mut().apply(Sequence(number), &names(number % 700));
    });
    assert!(next.get() > 1000, "{}", next.get());
    let (restored, rest) = Index::from_bytes(&bytes).unwrap();
    assert!(rest.is_empty());
    for number in 1..500 {
        let (then, now) = (newest(&restored, number), newest(&index.borrow(), number));
        let least = Sequence(number);
        assert!(
            then.hard.max(then.soft) >= least && then.hard <= now.hard && then.soft <= now.soft,
            "{number}: {then:?} {now:?}"
        );
    }
}
