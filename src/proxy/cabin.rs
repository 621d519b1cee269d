//! Where are the bytes of a flight, and who has read how many of them?
//!
//! In memory, all of them, until the body is too large for that: then in a temporary file that grows, which everyone reads from the start, at their own
//! pace, whenever they come. If the body is too large to be kept at all, or the file cannot be written, the bytes that follow stay in memory only until
//! everyone on board has read them, the producer waits for the slowest, and nobody joins any more.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;

use crate::page::block;
use crate::policy::reason::Reason;
use crate::store::file_body::{OpenFile, READ_BYTES};

/// Bytes that a response too large to be kept may be ahead of its slowest reader.
const WINDOW_BYTES: usize = 1 << 20;

/// The bytes on their way, and who reads them.
#[derive(Debug, Default)]
pub(super) struct Cabin {
    chunks: VecDeque<Bytes>,
    /// The number of the first chunk that is still here.
    first: usize,
    bytes: usize,
    /// What came before the chunks, if they are not all, and how many bytes of it are there.
    file: Option<(Arc<OpenFile>, u64)>,
    end: Option<Ending>,
    /// Not kept: chunks go once everyone has read them, and the producer waits for the slowest reader.
    windowed: bool,
    readers: HashMap<u64, Reader>,
    next_reader: u64,
    producer: Option<Waker>,
    /// Its share of `cache.max_fill_bytes`.
    memory: Vec<OwnedSemaphorePermit>,
}

#[derive(Debug, Default)]
struct Reader {
    next: usize,
    /// Bytes read.
    read: u64,
    waker: Option<Waker>,
}

#[derive(Clone, Debug)]
pub(super) enum Ending {
    Whole(Option<HeaderMap>),
    Broken(Reason),
}

/// How a reader gets its next bytes.
pub(super) enum Next {
    /// Here they are.
    Chunk(Bytes),
    /// They lie there.
    File(Arc<OpenFile>, Range<u64>),
    /// There are none.
    End(Ending),
}

impl Cabin {
    /// The number of one more reader; none where the first bytes may be gone already.
    pub(super) fn join(&mut self) -> Option<u64> {
        if self.windowed {
            return None;
        }
        self.next_reader += 1;
        self.readers.insert(self.next_reader, Reader { next: self.first, ..Reader::default() });
        Some(self.next_reader)
    }

    pub(super) fn leave(&mut self, reader: u64) {
        self.readers.remove(&reader);
        self.wake_producer();
    }

    /// Takes a chunk; false: wait for room before the next one.
    pub(super) fn push(&mut self, chunk: Bytes, memory: Option<OwnedSemaphorePermit>) -> bool {
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
        self.memory.extend(memory);
        self.wake_readers();
        !self.windowed
    }

    pub(super) fn is_kept(&self) -> bool {
        !self.windowed
    }

    pub(super) fn stop_keeping(&mut self) {
        self.windowed = true;
        self.memory.clear();
        self.trim();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn end(&mut self, ending: Ending) {
        self.end = Some(ending);
        self.wake_readers();
    }

    /// All that is in memory.
    pub(super) fn chunks(&self) -> Vec<Bytes> {
        self.chunks.iter().cloned().collect()
    }

    /// All that came so far, `bytes` of it, lies in this file.
    pub(super) fn spill(&mut self, file: &Arc<OpenFile>, bytes: u64) {
        self.file = Some((Arc::clone(file), bytes));
        self.first += self.chunks.len();
        let first = self.first;
        self.readers.values_mut().for_each(|reader| reader.next = first);
        // With its room, which is not needed again.
        self.chunks = VecDeque::new();
        self.bytes = 0;
        self.memory = Vec::new();
        self.wake_readers();
    }

    /// All chunks as one body, copied once, to where it stays.
    pub(super) fn gather(&self) -> Bytes {
        block::gather(self.chunks.iter().map(|chunk| &**chunk), self.bytes)
    }

    fn wake_readers(&mut self) {
        self.readers.values_mut().filter_map(|reader| reader.waker.take()).for_each(Waker::wake);
    }

    /// Until there is room for a further chunk; false when nobody is left to read it.
    pub(super) fn poll_room(&mut self, context: &Context<'_>) -> Poll<bool> {
        self.trim();
        if self.readers.is_empty() {
            return Poll::Ready(false);
        }
        if self.bytes < WINDOW_BYTES {
            return Poll::Ready(true);
        }
        self.producer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Drops the chunks that everyone has read.
    fn trim(&mut self) {
        let slowest = self.readers.values().map(|reader| reader.next).min().unwrap_or(usize::MAX);
        while self.first < slowest {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.first += 1;
            self.bytes -= chunk.len();
        }
    }

    fn wake_producer(&mut self) {
        if self.windowed
            && let Some(producer) = self.producer.take()
        {
            producer.wake();
        }
    }

    pub(super) fn poll_read(&mut self, id: u64, context: &Context<'_>) -> Poll<Next> {
        let Some(reader) = self.readers.get_mut(&id) else { return Poll::Ready(Next::End(Ending::Whole(None))) };
        if let Some((file, written)) = &self.file
            && reader.read < *written
        {
            let range = reader.read..(*written).min(reader.read + READ_BYTES);
            reader.read = range.end;
            return Poll::Ready(Next::File(Arc::clone(file), range));
        }
        if let Some(chunk) = self.chunks.get(reader.next - self.first) {
            reader.next += 1;
            reader.read += chunk.len() as u64;
            let chunk = chunk.clone();
            self.wake_producer();
            return Poll::Ready(Next::Chunk(chunk));
        }
        let Some(end) = self.end.clone() else {
            reader.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        if let Ending::Whole(_) = end {
            self.readers.remove(&id);
        }
        Poll::Ready(Next::End(end))
    }
}
