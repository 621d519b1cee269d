//! How does the head change? By swaps, on whatever it is by then, until one is carried out; what it is to name is written before.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::alone::Lock;
use super::envelope;
use super::head::{Batch, Head, INLINE_BYTES, Part};
use super::reading::{Pauses, RECORDS, swap};
use super::{Marks, PATIENCE, PATIENCE_AMONG_OTHERS, S3Journal, State};
use crate::clock::Ticks;
use crate::invalidation::journal::JournalError;
use crate::store::s3::bucket::{Attributes, Condition, Swap, Version};

/// What is to be done with a head.
#[derive(PartialEq)]
pub(super) enum Wish {
    /// It is as it should be.
    Nothing,
    /// It has been changed, and is swapped.
    Swap,
    /// An object of records comes behind the newest, and then it is swapped.
    Append(Part),
}

impl From<bool> for Wish {
    fn from(is_changed: bool) -> Self {
        if is_changed { Wish::Swap } else { Wish::Nothing }
    }
}

impl S3Journal {
    /// Changes the head, on whatever it is by then, until it is changed. `change` is given a copy, and says what is left to do. Returns when
    /// the try began after which the head was as `state` holds it.
    pub(super) async fn change<W: Into<Wish>>(
        &self,
        state: &mut State,
        action: &str,
        change: impl FnMut(&mut Head, &Marks) -> W + Send,
    ) -> Result<Ticks, JournalError> {
        self.change_within((PATIENCE, PATIENCE_AMONG_OTHERS), state, action, change).await
    }

    pub(super) async fn change_within<W: Into<Wish>>(
        &self,
        patience: (Duration, Duration),
        state: &mut State,
        action: &str,
        mut change: impl FnMut(&mut Head, &Marks) -> W + Send,
    ) -> Result<Ticks, JournalError> {
        let start = Instant::now();
        let mut pauses = Pauses::new();
        let mut began = self.terms.clock.ticks();
        loop {
            if state.has_left {
                return Err(JournalError::new(action, "this node has left"));
            }
            let mut head = state.head.clone();
            let wish = change(&mut head, &state.marks).into();
            if wish == Wish::Nothing {
                return Ok(began);
            }
            self.move_out(&mut head, &state.version, wish).await?;
            began = self.terms.clock.ticks();
            let sent = Instant::now();
            let (failure, patience) = match self.write_head(state, &mut head).await {
                Ok(Swap::Done(version)) => {
                    self.turns.note_swap(sent.elapsed());
                    self.take(state, head, version);
                    return Ok(began);
                }
                Ok(Swap::Lost) => {
                    self.shown.note_lost_swap();
                    self.turns.note_swap(sent.elapsed());
                    self.turns.note_loss().await;
                    ("others change it all the time".to_owned(), patience.1)
                }
                Err(error) => {
                    pauses.next().await;
                    (error.to_string(), patience.0)
                }
            };
            loop {
                if start.elapsed() > patience || self.lock.as_ref().is_some_and(Lock::is_lost) {
                    return Err(JournalError::new(action, failure));
                }
                began = self.terms.clock.ticks();
                // What was refused for good is not asked again; what was not answered is.
                if self.refresh(state).await.is_ok() {
                    break;
                }
                if start.elapsed() > PATIENCE {
                    return Err(JournalError::new(action, failure));
                }
                pauses.next().await;
            }
        }
    }

    async fn write_head(&self, state: &mut State, head: &mut Head) -> Result<Swap, JournalError> {
        if let Some(lock) = &self.lock {
            return self.replace(lock, state, head).await;
        }
        let condition = Condition::Is(state.version.clone());
        swap(&self.bucket, &self.folder, head, &condition).await.map_err(Self::error("swap the head"))
    }

    /// Writes the batches that stand in the head into an object, if they are too many, or if an object comes behind them.
    async fn move_out(&self, head: &mut Head, version: &Version, wish: Wish) -> Result<(), JournalError> {
        let part = if let Wish::Append(part) = wish { Some(part) } else { None };
        let first = head.batches.front().map(|batch| batch.first);
        let is_due = part.is_some() || head.inline_bytes() > INLINE_BYTES;
        if let Some(first) = first.filter(|_| is_due) {
            let key = self.key("records", first);
            // Named by nothing if the swap is lost.
            self.spare.note(version, &key);
            let json = serde_json::to_vec(&head.batches).expect("batches are JSON");
            self.write(RECORDS, &key, &json).await?;
            head.move_out(key);
        }
        if let Some(part) = part {
            head.append_part(part);
        }
        Ok(())
    }

    /// Writes a large batch into an object, once, before anybody knows which numbers its records will have.
    pub(super) async fn write_ahead(&self, batch: &Batch) -> Result<Option<Part>, JournalError> {
        if batch.bytes <= INLINE_BYTES {
            return Ok(None);
        }
        let part = batch.part(format!("{}/records/{}", self.folder, batch.token));
        let json = serde_json::to_vec(std::slice::from_ref(batch)).expect("batches are JSON");
        self.write(RECORDS, &part.key, &json).await?;
        Ok(Some(part))
    }

    pub(super) async fn write(&self, kind: &'static str, key: &str, content: &[u8]) -> Result<(), JournalError> {
        let pieces = vec![Bytes::from(envelope::seal(kind, content))];
        let written = self.bucket.put(key, pieces, &Attributes::default()).await;
        written.map(|_| ()).map_err(Self::error("write an object"))
    }
}
