//! WHERE WERE WE? `<flavor>/sweep/state-<version>`: what the last sweep of this `cache.version` saw, and how far the one under way has come. Nodes of
//! another version may run beside ours: they sweep pages of their own.
//!
//! It only saves work. Without it, or with one that cannot be read, a sweep looks at every page.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ages::Ages;
use super::{Problem, Terms};
use crate::clock::UnixMillis;
use crate::page::{JournalId, Sequence};
use crate::store::s3::bucket::{Attributes, Bucket};

/// The version of the form that is written, and the newest that is read.
const VERSION: u32 = 1;
/// Bytes of the largest that is read: the ages take twenty kilobytes.
const BYTES_MAX: u64 = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    everpage_sweep: u32,
    /// Sweeps that came to their end: another number than before says that somebody has swept.
    pub(super) completed: u64,
    /// When a sweeper of this version was here first, by the server's clock.
    #[serde(default)]
    pub(super) first_here: Option<UnixMillis>,
    pub(super) last: Option<Swept>,
    pub(super) running: Option<Running>,
}

/// What the last sweep to the end has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Swept {
    pub(super) journal: JournalId,
    /// What records up to this one killed is gone, if it was there when the sweep began.
    pub(super) to: Sequence,
    /// When it began, by the server's clock.
    pub(super) began: UnixMillis,
    pub(super) left: Left,
}

/// What a sweep left lying there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Left {
    pub(super) objects: u64,
    pub(super) bytes: u64,
    /// When it ended, by the clock of its node: for people.
    pub(super) at: UnixMillis,
}

/// A sweep that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) journal: JournalId,
    pub(super) to: Sequence,
    /// By the server's clock; `None`: it has not been asked yet.
    pub(super) began: Option<UnixMillis>,
    /// The last key that needs no second look.
    pub(super) cursor: Option<String>,
    /// Of the pages up to the cursor that stay.
    pub(super) ages: Ages,
}

impl State {
    pub(super) fn key(terms: &Terms) -> String {
        format!("{}/sweep/state-{}", terms.flavor, terms.version)
    }

    pub(super) async fn load(bucket: &Bucket, key: &str) -> Result<Self, Problem> {
        let Some(found) = bucket.get(key, BYTES_MAX).await? else { return Ok(State::default()) };
        match serde_json::from_slice::<serde_json::Value>(&found.bytes).map(|json| json["everpage_sweep"].as_u64()) {
            Ok(Some(version)) if version > u64::from(VERSION) => return Err(Problem::Newer(key.to_owned())),
            _ => {}
        }
        Ok(serde_json::from_slice(&found.bytes).unwrap_or_else(|error| {
            tracing::warn!(key, %error, "the sweeper's notes cannot be read: it looks at every page");
            State::default()
        }))
    }

    pub(super) async fn save(&mut self, bucket: &Bucket, key: &str) -> Result<(), Problem> {
        self.everpage_sweep = VERSION;
        let json = serde_json::to_vec(self).expect("numbers and strings, under keys that are strings");
        let attributes = Attributes { content_type: Some("application/json".to_owned()), ..Attributes::default() };
        bucket.put(key, vec![Bytes::from(json)], &attributes).await?;
        Ok(())
    }

    /// Goes on where a sweep of this journal stopped, or begins one.
    pub(super) fn resume(&mut self, journal: &JournalId, to: Sequence) -> &mut Running {
        if self.running.as_ref().is_some_and(|running| running.journal != *journal || running.to > to) {
            self.running = None;
        }
        let fresh = || Running { journal: journal.clone(), to, began: None, cursor: None, ages: Ages::default() };
        self.running.get_or_insert_with(fresh)
    }

    /// What the last sweep of this journal saw.
    pub(super) fn last_of(&self, journal: &JournalId, to: Sequence) -> Option<&Swept> {
        self.last.as_ref().filter(|last| last.journal == *journal && last.to <= to)
    }

    /// The sweep under way has come to its end.
    pub(super) fn complete(&mut self, left: Left) {
        self.completed += 1;
        if let Some(Running { journal, to, began: Some(began), .. }) = self.running.take() {
            self.last = Some(Swept { journal, to, began, left });
        }
    }
}
