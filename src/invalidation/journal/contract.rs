//! What must hold for every journal? Test functions that each implementation runs.
//!
//! They see nothing but the trait. How an implementation fails is for its own tests.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::{Journal, Recovered};
use crate::clock::UnixMillis;
use crate::invalidation::selector::{Record, Target};
use crate::page::Sequence;

/// Where one journal lives, to be opened again and again.
#[async_trait]
pub trait Place: Sync {
    /// Opens it, as after a restart: whoever had it open before is gone.
    async fn open(&self) -> (Arc<dyn Journal>, Recovered);
}

/// Runs everything that any journal promises; `fresh` gives an empty place each time.
pub async fn every_journal<P: Place>(fresh: impl Fn() -> P) {
    numbers_are_consecutive_over_batches(&fresh()).await;
    an_empty_batch_returns_the_newest_number(&fresh()).await;
    concurrent_appends_take_distinct_consecutive_numbers(&fresh()).await;
    what_was_never_appended_cannot_be_folded(&fresh()).await;
    a_journal_is_reopened_whole_or_is_another(&fresh()).await;
}

/// Runs what those promise that survive a restart.
pub async fn durable_journal<P: Place>(fresh: impl Fn() -> P) {
    the_identity_stays(&fresh()).await;
    reopening_recovers_everything_in_order(&fresh()).await;
    a_snapshot_stands_for_what_was_folded(&fresh()).await;
    records_after_the_folded_sequence_stay(&fresh()).await;
    folding_again_replaces_the_snapshot(&fresh()).await;
    folding_shortens_the_tail(&fresh()).await;
}

/// A record that is told from others by `number`.
#[must_use]
pub fn record(number: u64) -> Arc<Record> {
    let target = Target { host: None, path: format!("/page/{number}").into() };
    Arc::new(Record { at: UnixMillis(number), paths: vec![target], ..Record::default() })
}

/// Batches take their numbers one after the other, starting with 1.
pub async fn numbers_are_consecutive_over_batches(place: &impl Place) {
    let (journal, recovered) = place.open().await;
    assert_eq!(recovered, Recovered::default(), "a fresh place is empty");
    assert_eq!(append(&*journal, 1..=1).await, Sequence(1));
    assert_eq!(append(&*journal, 2..=4).await, Sequence(4));
    assert_eq!(append(&*journal, 5..=5).await, Sequence(5));
}

/// Nothing to append is not an error and takes no number.
pub async fn an_empty_batch_returns_the_newest_number(place: &impl Place) {
    let (journal, _) = place.open().await;
    assert_eq!(journal.append(&[]).await.expect("nothing to do").last, Sequence(0));
    append(&*journal, 1..=3).await;
    assert_eq!(journal.append(&[]).await.expect("nothing to do").last, Sequence(3));
    assert_eq!(append(&*journal, 4..=4).await, Sequence(4));
}

/// Whoever appends at the same time shares no number and leaves none out.
pub async fn concurrent_appends_take_distinct_consecutive_numbers(place: &impl Place) {
    let (journal, _) = place.open().await;
    let mut appends = JoinSet::new();
    for number in 0..20 {
        let journal = journal.clone();
        // Batches of two: each takes its last number and the one before it.
        appends.spawn(async move { append(&*journal, 2 * number + 1..=2 * number + 2).await.0 });
    }
    let mut last_numbers = appends.join_all().await;
    last_numbers.sort_unstable();
    assert_eq!(last_numbers, (1..=20).map(|batch| 2 * batch).collect::<Vec<_>>());
}

/// A snapshot of the future would swallow records to come.
pub async fn what_was_never_appended_cannot_be_folded(place: &impl Place) {
    let (journal, _) = place.open().await;
    append(&*journal, 1..=2).await;
    assert!(journal.fold(Sequence(3), b"three".to_vec()).await.is_err());
    assert_eq!(append(&*journal, 3..=3).await, Sequence(3));
}

/// A journal that lost something must not carry the old name: pages are judged by name and number.
pub async fn a_journal_is_reopened_whole_or_is_another(place: &impl Place) {
    let (journal, _) = place.open().await;
    let id = journal.id();
    append(&*journal, 1..=3).await;
    drop(journal);
    let (journal, recovered) = place.open().await;
    let expected = if journal.id() == id { records(1..=3) } else { Recovered::default() };
    assert_eq!(recovered, expected);
    assert_eq!(append(&*journal, 4..=4).await, Sequence(expected.last().0 + 1), "numbers go on");
}

/// The name of a journal is for good, also before its first record.
pub async fn the_identity_stays(place: &impl Place) {
    let (journal, _) = place.open().await;
    let id = journal.id();
    drop(journal);
    let (journal, _) = place.open().await;
    assert_eq!(journal.id(), id);
    append(&*journal, 1..=1).await;
    journal.fold(Sequence(1), b"one".to_vec()).await.expect("folds");
    drop(journal);
    assert_eq!(place.open().await.0.id(), id);
}

/// All batches are there again, and the numbers go on.
pub async fn reopening_recovers_everything_in_order(place: &impl Place) {
    let (journal, _) = place.open().await;
    append(&*journal, 1..=1).await;
    append(&*journal, 2..=5).await;
    drop(journal);
    let (journal, recovered) = place.open().await;
    assert_eq!(recovered, records(1..=5));
    append(&*journal, 6..=6).await;
    drop(journal);
    assert_eq!(place.open().await.1, records(1..=6));
}

/// What was folded comes back as the snapshot, byte by byte, and what came later as records.
pub async fn a_snapshot_stands_for_what_was_folded(place: &impl Place) {
    let (journal, _) = place.open().await;
    append(&*journal, 1..=3).await;
    let bytes: Vec<u8> = (0..=255).chain([b'\n']).collect();
    journal.fold(Sequence(3), bytes.clone()).await.expect("folds");
    append(&*journal, 4..=5).await;
    drop(journal);
    let (journal, recovered) = place.open().await;
    assert_eq!(recovered, Recovered { snapshot: Some((Sequence(3), bytes)), ..records(4..=5) });
    assert_eq!(journal.append(&[]).await.expect("nothing to do").last, Sequence(5));
}

/// The index may have been copied before the newest records came.
pub async fn records_after_the_folded_sequence_stay(place: &impl Place) {
    let (journal, _) = place.open().await;
    append(&*journal, 1..=5).await;
    journal.fold(Sequence(2), b"two".to_vec()).await.expect("folds");
    append(&*journal, 6..=6).await;
    drop(journal);
    let expected = Recovered { snapshot: Some((Sequence(2), b"two".to_vec())), ..records(3..=6) };
    assert_eq!(place.open().await.1, expected);
}

/// The newest snapshot counts; an older one changes nothing.
pub async fn folding_again_replaces_the_snapshot(place: &impl Place) {
    let (journal, _) = place.open().await;
    append(&*journal, 1..=4).await;
    journal.fold(Sequence(2), b"two".to_vec()).await.expect("folds");
    journal.fold(Sequence(4), b"four".to_vec()).await.expect("folds");
    journal.fold(Sequence(3), b"three".to_vec()).await.expect("is folded already");
    drop(journal);
    let (journal, recovered) = place.open().await;
    assert_eq!(recovered, Recovered { snapshot: Some((Sequence(4), b"four".to_vec())), ..Recovered::default() });
    assert_eq!(append(&*journal, 5..=5).await, Sequence(5));
}

/// [`Journal::tail_bytes`] grows with records, shrinks with a fold, and is the same after reopening.
pub async fn folding_shortens_the_tail(place: &impl Place) {
    let (journal, _) = place.open().await;
    assert_eq!(journal.tail_bytes(), 0);
    append(&*journal, 1..=3).await;
    let before = journal.tail_bytes();
    assert!(before > 0);
    drop(journal);
    let (journal, _) = place.open().await;
    assert_eq!(journal.tail_bytes(), before);
    journal.fold(Sequence(3), b"three".to_vec()).await.expect("folds");
    assert_eq!(journal.tail_bytes(), 0);
}

async fn append(journal: &dyn Journal, numbers: std::ops::RangeInclusive<u64>) -> Sequence {
    let batch: Vec<_> = numbers.map(record).collect();
    journal.append(&batch).await.expect("appends").last
}

/// What a journal recovers that holds these records under their own numbers.
fn records(numbers: std::ops::RangeInclusive<u64>) -> Recovered {
    let records = numbers.map(|number| (Sequence(number), record(number))).collect();
    Recovered { snapshot: None, records }
}
