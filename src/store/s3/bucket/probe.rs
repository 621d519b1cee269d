//! DOES THE SERVER MEAN WHAT IT SAYS? Some S3-compatible servers answer 200 to a conditional write whatever its condition says, and some keep conditions
//! one by one and lose races. Several nodes on such a server would lose invalidations, so each start tries it, on one object that nobody else knows.
//!
//! Four writers create it at once. Then, at the same time: a second creation, a swap with a version that never was, and a conditional read, of which none
//! may find its condition fulfilled. Then four writers swap the same version, three times. Of those who race exactly one may win; what is read afterwards
//! must be what the winner wrote. A loser that is told 500 has lost, if that is what is read. At last a conditional read by who knows the first version
//! only: it must bring the newest, for a look at the journal that is told 304 makes a lease longer.
//!
//! 25 requests (18 PUT, 4 GET, 2 conditional GET, 1 DELETE; about 0.0001 dollars), one after the other at most 10. A race that nobody wins is run again.
//!
//! It proves lies, never honesty: a server whose races are lost once in a thousand passes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::{Condition, Inner, S3Error, S3ErrorKind, Swap, Version, read, refused, remove, write};

/// Writers of one race: as many as a few nodes that swap at the same moment.
const RACERS: usize = 4;
/// Races for one and the same version.
const ROUNDS: usize = 3;
/// How often a race is run again that nobody wins: AWS may answer 409 to all, a busy server 500.
const TRIES: usize = 4;
/// All of it. Each request has its own bound also.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any of its objects has.
const OBJECT_BYTES_MAX: u64 = 1 << 10;

/// What a bucket's server can do for several nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Can several nodes swap one object?
    pub conditional_writes: ConditionalWrites,
    /// 304 for an object that is unchanged; if not, each look at the journal reads it whole.
    pub conditional_reads: bool,
}

/// What a server makes of the condition of a write. Where it is not kept: which probe failed, and what it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConditionalWrites {
    /// Of several at once one wins.
    Atomic,
    /// Kept one by one, but not in a race.
    LosesRaces(String),
    /// 200, and written, whatever it says.
    Ignored(String),
    /// Refused, whatever it says.
    Unsupported(String),
    /// Kept, but not everybody sees what was written: a conditional read says 304 although the object has changed.
    Unseen(String),
}

impl ConditionalWrites {
    /// The probe that failed, and what it saw; `None`: none did.
    #[must_use]
    pub fn flaw(&self) -> Option<&str> {
        match self {
            ConditionalWrites::Atomic => None,
            ConditionalWrites::LosesRaces(flaw)
            | ConditionalWrites::Ignored(flaw)
            | ConditionalWrites::Unsupported(flaw)
            | ConditionalWrites::Unseen(flaw) => Some(flaw),
        }
    }
}

pub(super) async fn probe(inner: &Arc<Inner>) -> Result<Probe, S3Error> {
    let key = format!("everpage-probe-{}", uuid::Uuid::new_v4().simple());
    let probed = timeout(PATIENCE, Box::pin(probe_object(inner, &key))).await;
    let removed = remove::delete(inner, &key).await;
    let late = |_| S3Error {
        kind: S3ErrorKind::Timeout,
        ..refused(format!("conditional writes could not be tried within {} seconds", PATIENCE.as_secs()))
    };
    let probe = probed.map_err(late)??;
    removed.map(|()| probe)
}

async fn probe_object(inner: &Arc<Inner>, key: &str) -> Result<Probe, S3Error> {
    let found = |conditional_writes| Probe { conditional_writes, conditional_reads: true };
    let (first, present) = match race(inner, key, "create-if-absent", &Condition::Absent).await? {
        Raced::Won(version) => (None, version),
        Raced::Lost(flaw, Some(version)) => (Some(flaw), version),
        Raced::Lost(flaw, None) => return Ok(found(ConditionalWrites::LosesRaces(flaw))),
        Raced::Unsupported(flaw) => return Ok(found(ConditionalWrites::Unsupported(flaw))),
    };
    let never = Condition::Is(Version("\"00000000000000000000000000000000\"".into()));
    // None of them may write, so they can be asked at once.
    let (created, swapped, conditional_reads) = tokio::join!(
        write::swap(inner, key, token(), &Condition::Absent),
        write::swap(inner, key, token(), &never),
        read::is_spared(inner, key, &present),
    );
    let conditional_reads = conditional_reads?;
    let found = |conditional_writes| Ok(Probe { conditional_writes, conditional_reads });
    if matches!(created, Ok(Swap::Done(_))) {
        return found(ConditionalWrites::Ignored(
            "create-if-absent (If-None-Match: *) created an object that was there already".to_owned(),
        ));
    }
    if matches!(swapped, Ok(Swap::Done(_))) {
        return found(ConditionalWrites::Ignored(
            "swap (If-Match) replaced an object although the version named was wrong".to_owned(),
        ));
    }
    if let Some(flaw) = first {
        return found(ConditionalWrites::LosesRaces(flaw));
    }
    let (oldest, mut present) = (present.clone(), present);
    for _ in 0..ROUNDS {
        present = match race(inner, key, "swap", &Condition::Is(present)).await? {
            Raced::Won(version) => version,
            Raced::Lost(flaw, _) => return found(ConditionalWrites::LosesRaces(flaw)),
            Raced::Unsupported(flaw) => return found(ConditionalWrites::Unsupported(flaw)),
        };
    }
    if read::is_spared(inner, key, &oldest).await? {
        return found(ConditionalWrites::Unseen(
            "a conditional read (If-None-Match) was told 304 although the object had changed".to_owned(),
        ));
    }
    found(ConditionalWrites::Atomic)
}

/// How a race ended.
enum Raced {
    /// One has won, and this is what it wrote.
    Won(Version),
    /// The server has lost it; what was read then.
    Lost(String, Option<Version>),
    /// No condition is fulfilled, or none is understood.
    Unsupported(String),
}

/// Several write at once, under a condition that one of them can have fulfilled.
async fn race(inner: &Arc<Inner>, key: &str, name: &str, condition: &Condition) -> Result<Raced, S3Error> {
    let mut tried = 0;
    loop {
        tried += 1;
        let tokens: Vec<Bytes> = (0..RACERS).map(|_| token()).collect();
        let racer = |token: &Bytes| -> Racer<'_> { Box::pin(write::swap(inner, key, token.clone(), condition)) };
        let told = join_all(tokens.iter().map(racer)).await;
        let present = read::get(inner, key, OBJECT_BYTES_MAX).await?;
        let author = present.as_ref().and_then(|found| tokens.iter().position(|token| *token == found.bytes));
        match judge(name, &told, author) {
            Judgement::Won => {
                return Ok(Raced::Won(present.expect("somebody has written it").version));
            }
            Judgement::Lost(flaw) => return Ok(Raced::Lost(flaw, present.map(|found| found.version))),
            Judgement::Unsupported(flaw) => return Ok(Raced::Unsupported(flaw)),
            Judgement::Nobody if tried < TRIES => {}
            Judgement::Nobody => {
                // What was never answered tells nothing about conditions.
                return match told.into_iter().find_map(Result::err) {
                    Some(error) => Err(error),
                    None => {
                        Ok(Raced::Unsupported(format!("{name} was refused each time, although its condition held")))
                    }
                };
            }
        }
    }
}

type Racer<'a> = Pin<Box<dyn Future<Output = Result<Swap, S3Error>> + Send + 'a>>;

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Won,
    Lost(String),
    Unsupported(String),
    Nobody,
}

/// What a race shows, by what the racers were told, and by who of them wrote what lies there now.
fn judge(name: &str, told: &[Result<Swap, S3Error>], author: Option<usize>) -> Judgement {
    let winners: Vec<usize> = (0..told.len()).filter(|racer| matches!(told[*racer], Ok(Swap::Done(_)))).collect();
    // 400, 501 and the like: it was not even looked at.
    if let Some(Err(error)) = told.iter().find(|told| matches!(told, Err(error) if error.kind == S3ErrorKind::Other)) {
        return Judgement::Unsupported(format!("{name} is not understood: {error}"));
    }
    match (&winners[..], author) {
        ([winner], Some(author)) if *winner == author => Judgement::Won,
        ([_], _) => Judgement::Lost(format!("race of {name}: what lies there is not what the winner wrote")),
        // Its answer was lost.
        ([], Some(author)) if told[author].is_err() => Judgement::Won,
        ([], Some(_)) => Judgement::Lost(format!("race of {name}: what was refused was written")),
        ([], None) => Judgement::Nobody,
        (several, _) => {
            Judgement::Lost(format!("race of {name}: {} of {} writers won, where one may", several.len(), told.len()))
        }
    }
}

/// Different bytes for each write: identical ones have identical entity tags.
fn token() -> Bytes {
    format!("everpage tries conditional writes, and removes this at once: {}", uuid::Uuid::new_v4().simple()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> Result<Swap, S3Error> {
        Ok(Swap::Done(Version("\"1\"".into())))
    }

    fn failed(kind: S3ErrorKind) -> Result<Swap, S3Error> {
        Err(S3Error { advice: "it failed".to_owned(), kind })
    }

    fn lost() -> Result<Swap, S3Error> {
        Ok(Swap::Lost)
    }

    #[test]
    fn one_winner_whose_bytes_are_read_is_honest_whatever_the_losers_were_told() {
        assert_eq!(judge("swap", &[lost(), done(), lost()], Some(1)), Judgement::Won);
        assert_eq!(judge("swap", &[failed(S3ErrorKind::Server), done(), lost()], Some(1)), Judgement::Won);
        assert_eq!(judge("swap", &[failed(S3ErrorKind::Timeout), lost()], Some(0)), Judgement::Won);
    }

    #[test]
    fn two_winners_are_a_lie_and_so_is_a_winner_that_was_overwritten() {
        let is_lost = |judgement| matches!(judgement, Judgement::Lost(_));
        assert!(is_lost(judge("swap", &[done(), done(), lost()], Some(0))));
        assert!(is_lost(judge("swap", &[done(), failed(S3ErrorKind::Server)], Some(1))));
        assert!(is_lost(judge("swap", &[done(), lost()], Some(1))));
        assert!(is_lost(judge("swap", &[done(), lost()], None)));
        assert!(is_lost(judge("swap", &[lost(), lost()], Some(1))));
    }

    #[test]
    fn a_race_that_nobody_won_tells_nothing() {
        assert_eq!(judge("swap", &[lost(), failed(S3ErrorKind::Server)], None), Judgement::Nobody);
    }

    #[test]
    fn what_is_not_understood_is_not_supported() {
        let judged = judge("swap", &[failed(S3ErrorKind::Other), failed(S3ErrorKind::Other)], None);
        assert!(matches!(judged, Judgement::Unsupported(_)), "{judged:?}");
    }
}
