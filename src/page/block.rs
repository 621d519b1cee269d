//! Where in memory does the body of a page lie? A small one where the allocator puts it; a larger one in memory of its own from the system.
//!
//! Pages of all sizes come and go, on all threads. In the allocator's heaps each leaves a hole that fits few of those that follow, and memory grows for a
//! long time: to 1.37 times what pages take, where it is 1.14 if the larger ones stay out of there (`benches/scale/churn.rs`). Memory of its own is given
//! back whole. It costs a system call, and to touch it first costs several times the copy that is made into it; so the last that bodies gave up are kept for those
//! that come next.
//!
//! It never holds bytes that are on their way: those are gone soon, and the allocator is quicker.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::MmapMut;
use parking_lot::Mutex;

/// From this size on, a body has memory of its own: what is lost in its last page is then a sixteenth of it on average, and less of larger ones.
pub const OWN_BYTES: usize = 32 << 10;
/// What the system hands out is a multiple of this, nearly everywhere.
const PAGE_BYTES: usize = 4 << 10;
/// Bytes that wait for the next body: a thirty-second of the memory tier's default.
const IDLE_BYTES_MAX: usize = 8 << 20;
/// One that is larger does not wait: it would push out many.
const IDLE_EACH_MAX: usize = 1 << 20;
/// How many wait: as many of some 64 KiB as take those bytes, few enough to look at each.
const IDLE_MAX: usize = 128;
/// What waits is taken by a body that leaves less than this part of itself unused.
const UNUSED_PART: usize = 8;
/// As many pieces there may be: a half of what Linux lets a process have (`vm.max_map_count`, 65,530 where nobody raised it), since the allocator and the stacks
/// of threads need some too. Further bodies lie where the allocator puts them.
const OWN_MAX: usize = 32_765;

/// Pieces that there are.
static OWN: AtomicUsize = AtomicUsize::new(0);
static IDLE: Mutex<Idle> = Mutex::new(Idle { waiting: VecDeque::new(), bytes: 0 });

/// The pieces, one after the other, copied into memory where they can stay for long. `bytes` is what they are together.
///
/// # Panics
/// They are more.
pub fn gather<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, bytes: usize) -> Bytes {
    if let Some(mut memory) = Memory::of(bytes) {
        let mut filled = 0;
        for piece in pieces {
            memory.0[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        return Bytes::from_owner(Block { memory: Some(memory), bytes: filled });
    }
    let mut body = Vec::with_capacity(bytes);
    pieces.into_iter().for_each(|piece| body.extend_from_slice(piece));
    body.into()
}

/// The same of one piece.
#[must_use]
pub fn copy(body: &[u8]) -> Bytes {
    gather([body], body.len())
}

/// Bytes that a body of so many takes.
#[must_use]
pub fn taken(bytes: u64) -> u64 {
    if bytes < OWN_BYTES as u64 { bytes } else { bytes.next_multiple_of(PAGE_BYTES as u64) }
}

/// A body in memory of its own.
struct Block {
    /// Until it is dropped.
    memory: Option<Memory>,
    bytes: usize,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory.0[..self.bytes])
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            let gone = IDLE.lock().put(memory);
            // Given back without the lock: it takes a system call.
            drop(gone);
        }
    }
}

/// Memory from the system, counted.
struct Memory(MmapMut);

impl Memory {
    /// For a body of so many bytes; none if it is small, or the system has no more.
    fn of(bytes: usize) -> Option<Self> {
        if bytes < OWN_BYTES {
            return None;
        }
        let waiting = IDLE.lock().take(bytes);
        waiting.or_else(|| Memory::fresh(bytes))
    }

    fn fresh(bytes: usize) -> Option<Self> {
        let is_one_more = |own: usize| (own < OWN_MAX).then_some(own + 1);
        OWN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_one_more).ok()?;
        let map = MmapMut::map_anon(bytes.next_multiple_of(PAGE_BYTES));
        if map.is_err() {
            OWN.fetch_sub(1, Ordering::Relaxed);
        }
        map.ok().map(Memory)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        OWN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What bodies gave up, for those that come next. The oldest goes first: sizes that nobody wants any more do not stay.
struct Idle {
    waiting: VecDeque<Memory>,
    bytes: usize,
}

impl Idle {
    /// The smallest that is large enough, if not much of it would be unused.
    fn take(&mut self, bytes: usize) -> Option<Memory> {
        let fits = bytes..=bytes.next_multiple_of(PAGE_BYTES) + bytes / UNUSED_PART;
        let sizes = self.waiting.iter().map(|memory| memory.0.len()).enumerate();
        let (best, size) = sizes.filter(|(_, size)| fits.contains(size)).min_by_key(|(_, size)| *size)?;
        self.bytes -= size;
        self.waiting.remove(best)
    }

    /// Lets it wait. Returns what has no room any more.
    fn put(&mut self, memory: Memory) -> Vec<Memory> {
        if memory.0.len() > IDLE_EACH_MAX {
            return vec![memory];
        }
        self.bytes += memory.0.len();
        self.waiting.push_back(memory);
        let mut gone = Vec::new();
        while self.bytes > IDLE_BYTES_MAX || self.waiting.len() > IDLE_MAX {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.bytes -= oldest.0.len();
            gone.push(oldest);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn memory(pages: usize) -> Memory {
        Memory::fresh(pages * PAGE_BYTES).unwrap()
    }

    fn empty() -> Idle {
        Idle { waiting: VecDeque::new(), bytes: 0 }
    }

    proptest! {
        #[test]
        fn a_body_is_what_was_gathered(pieces in prop::collection::vec((any::<u8>(), 0..3 * OWN_BYTES / 2), 0..4)) {
            let pieces: Vec<Vec<u8>> = pieces.into_iter().map(|(byte, bytes)| vec![byte; bytes]).collect();
            let whole = pieces.concat();
            let gathered = gather(pieces.iter().map(Vec::as_slice), whole.len());
            prop_assert!(gathered == whole, "{} bytes", whole.len());
            prop_assert!(copy(&gathered) == whole, "{} bytes", whole.len());
        }
    }

    #[test]
    fn a_larger_body_lies_outside_of_the_heap() {
        // Where the allocator puts something, its own notes come before it: never at the beginning of a page of memory.
        let is_outside = |body: &Bytes| body.as_ptr().addr().is_multiple_of(PAGE_BYTES);
        for bytes in [OWN_BYTES, 3 * OWN_BYTES + 1, 8 << 20] {
            assert!(is_outside(&copy(&vec![b'x'; bytes])), "{bytes}");
        }
        assert!((0..8).map(|_| copy(&[b'x'; OWN_BYTES - 1])).any(|body| !is_outside(&body)));
    }

    #[test]
    fn what_a_body_gave_up_is_of_use_to_one_that_nearly_fills_it() {
        let mut idle = empty();
        for pages in [20, 16, 17] {
            assert!(idle.put(memory(pages)).is_empty());
        }
        let mut taken = |bytes: usize| idle.take(bytes).map(|memory| memory.0.len() / PAGE_BYTES);
        assert_eq!(taken(21 * PAGE_BYTES), None, "too large for all");
        assert_eq!(taken(16 * PAGE_BYTES - 1), Some(16), "the smallest of two");
        assert_eq!(taken(16 * PAGE_BYTES - 1), Some(17));
        assert_eq!(taken(16 * PAGE_BYTES), None, "too much would be unused");
        assert_eq!(taken(20 * PAGE_BYTES), Some(20));
        assert_eq!(idle.bytes, 0);
    }

    #[test]
    fn little_waits_and_the_oldest_goes_first() {
        let mut idle = empty();
        for pages in [9, 10] {
            assert!(idle.put(memory(pages)).is_empty());
        }
        assert_eq!(idle.put(memory(IDLE_EACH_MAX / PAGE_BYTES + 1)).len(), 1, "large ones do not wait");
        let gone: Vec<usize> =
            (0..IDLE_MAX - 1).flat_map(|_| idle.put(memory(8))).map(|memory| memory.0.len() / PAGE_BYTES).collect();
        assert_eq!(gone, [9], "one too many");
        let gone = (0..IDLE_MAX).flat_map(|_| idle.put(memory(IDLE_EACH_MAX / PAGE_BYTES))).count();
        assert_eq!(idle.waiting.len(), IDLE_BYTES_MAX / IDLE_EACH_MAX);
        assert_eq!((idle.bytes, gone), (IDLE_BYTES_MAX, 2 * IDLE_MAX - IDLE_BYTES_MAX / IDLE_EACH_MAX));
    }
}
