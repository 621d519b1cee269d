//! What lies in the bucket, read and written: the head, and the objects that it names.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;

use super::envelope::{self, Unreadable};
use super::head::{Batch, Head, Part};
use crate::chance;
use crate::invalidation::journal::Recovered;
use crate::invalidation::selector::Record;
use crate::page::Sequence;
use crate::store::s3::bucket::{Bucket, Condition, S3Error, Swap};

/// Bytes of the largest head, records object and snapshot that are read.
pub(super) const HEAD_BYTES_MAX: u64 = 16 << 20;
const RECORDS_BYTES_MAX: u64 = 1 << 30;
const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;
/// Objects that are read at the same time: a node that starts has many to read, and each takes a round trip.
const PARTS_AT_ONCE: usize = 16;
/// Pauses between tries: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

const HEAD: &str = "journal-head";
pub(super) const RECORDS: &str = "journal-records";
pub(super) const SNAPSHOT: &str = "journal-snapshot";

pub(super) fn parse_head(bytes: &Bytes) -> Result<Head, Unreadable> {
    // Its checksum is right: it is as it was written.
    let unknown = |error: &dyn std::fmt::Display| Unreadable::Unknown(error.to_string());
    let head: Head = serde_json::from_slice(&envelope::open(HEAD, bytes)?).map_err(|error| unknown(&error))?;
    if head.is_whole() && !head.secret.is_empty() { Ok(head) } else { Err(unknown(&"records are missing in it")) }
}

/// Puts `head` into the place of the one that `condition` names, under a nonce of its own.
pub(super) async fn swap(
    bucket: &Bucket,
    folder: &str,
    head: &mut Head,
    condition: &Condition,
) -> Result<Swap, S3Error> {
    let bytes = seal_head(head);
    bucket.swap(&format!("{folder}/head"), bytes, condition).await
}

/// The head as it lies in the bucket, under a nonce of its own.
pub(super) fn seal_head(head: &mut Head) -> Bytes {
    head.nonce = chance::word();
    let json = serde_json::to_vec(head).expect("a head is JSON");
    envelope::seal(HEAD, &json).into()
}

/// Why something that the head names was not read.
pub(super) enum Missing {
    Bucket(S3Error),
    Object(String, Unreadable),
}

/// Everything after `told` that the head names.
pub(super) async fn read(
    bucket: &Bucket,
    head: &Head,
    told: Sequence,
    own: Option<&(Arc<str>, Vec<Arc<Record>>)>,
) -> Result<Recovered, Missing> {
    let mut news = Recovered::default();
    if let Some(snapshot) = head.snapshot.as_ref().filter(|snapshot| snapshot.last > told) {
        let bytes = read_object(bucket, SNAPSHOT, &snapshot.key, SNAPSHOT_BYTES_MAX).await?;
        news.snapshot = Some((snapshot.last, bytes.into()));
    }
    let known = told.max(head.folded());
    let parts = head.parts.iter().filter(|part| part.last > known);
    let reads: Vec<_> = parts.map(|part| read_part(bucket, part, own)).collect();
    let mut reads = stream::iter(reads).buffered(PARTS_AT_ONCE);
    while let Some(records) = reads.next().await {
        news.records.extend(records?);
    }
    news.records.extend(head.batches.iter().cloned().flat_map(Batch::numbered));
    news.records.retain(|(sequence, _)| *sequence > known);
    // Whoever is told less than there is would serve what the rest names.
    if !news.records.iter().map(|(sequence, _)| sequence.0).eq(known.0 + 1..=head.sequence.0) {
        let why = format!("the records after {known} up to {} are not all in it", head.sequence);
        return Err(Missing::Object(RECORDS.to_owned(), Unreadable::Unknown(why)));
    }
    Ok(news)
}

async fn read_part(
    bucket: &Bucket,
    part: &Part,
    own: Option<&(Arc<str>, Vec<Arc<Record>>)>,
) -> Result<Vec<(Sequence, Arc<Record>)>, Missing> {
    let own = own.filter(|(token, records)| {
        part.tokens.len() == 1 && part.tokens[0].0 == *token && part.last.0 + 1 - part.first.0 == records.len() as u64
    });
    if let Some((_, records)) = own {
        return Ok((part.first.0..).map(Sequence).zip(records.iter().cloned()).collect());
    }
    let bytes = read_object(bucket, RECORDS, &part.key, RECORDS_BYTES_MAX).await?;
    let unknown = |error: String| Missing::Object(part.key.clone(), Unreadable::Unknown(error));
    let mut batches: VecDeque<Batch> = serde_json::from_slice(&bytes).map_err(|error| unknown(error.to_string()))?;
    // Written before it had numbers: its last record is the part's last, whatever a fold has cut off.
    if let Some(batch) = batches.front_mut().filter(|batch| batch.first == Sequence(0)) {
        let before = part.last.0.checked_sub(batch.records.len() as u64);
        batch.first = Sequence(before.ok_or_else(|| unknown("it has too many records".to_owned()))? + 1);
    }
    Ok(batches.into_iter().flat_map(Batch::numbered).collect())
}

async fn read_object(bucket: &Bucket, kind: &str, key: &str, most: u64) -> Result<Bytes, Missing> {
    let fetched = bucket.get(key, most).await.map_err(Missing::Bucket)?;
    let fetched = fetched.ok_or_else(|| Missing::Object(key.to_owned(), Unreadable::Absent))?;
    envelope::open(kind, &fetched.bytes).map_err(|error| Missing::Object(key.to_owned(), error))
}

/// Pauses that grow and differ, so that nodes which collide do not collide again.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Self {
        Pauses(PAUSES.0)
    }

    pub(super) async fn next(&mut self) {
        let random = u32::from(chance::byte());
        sleep(self.0 / 2 + self.0 * random / 256).await;
        self.0 = (self.0 * 2).min(PAUSES.1);
    }
}
