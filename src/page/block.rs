//! Where in memory does the body of a page lie? A small one where the allocator puts it; a larger one in memory of its own from the system.
//!
//! Pages of all sizes come and go, on all threads. In the allocator's heaps each leaves a hole that fits few of those that follow, and memory grows for a
//! long time: to 1.37 times what pages take, where it is 1.12 if the larger ones stay out of there (`benches/scale/churn.rs`). Memory of its own is given
//! back whole. It costs a system call, and to touch it first costs several times the copy that is made into it; so the last that bodies gave up are kept for those
//! that come next.
//!
//! It never holds bytes that are on their way: those are gone soon, and the allocator is quicker.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::MmapMut;
use parking_lot::Mutex;
use rustix::param::page_size;

/// From so many of the system's pages on (32 KiB, nearly everywhere), a body has memory of its own: what is lost in the last one is then a sixteenth of it on
/// average, and less of larger ones.
const OWN_PAGES: usize = 8;
/// A piece that may be used again is larger than its body by less than this part: bodies of nearly the same size fit into each other's.
const UNUSED_PART: usize = 16;
/// Bytes that wait for the next body: a thirty-second of the memory tier's default. Fewer with a smaller tier: [`bound`].
pub const IDLE_BYTES_MAX: usize = 8 << 20;
/// One that is larger does not wait: it would push out many.
const IDLE_EACH_MAX: usize = 1 << 20;
/// How many wait: as many of some 64 KiB as take those bytes, few enough to look at each.
const IDLE_MAX: usize = 128;
/// Pieces that there may be until [`bound`] is told of others: a half of what Linux lets a process have where nobody raised it.
pub const PIECES_MAX: usize = 65_530 / 2;

static SYSTEM: System = System::new();

/// The pieces, one after the other, copied into memory where they can stay for long. `bytes` is what they are together.
///
/// # Panics
/// They are more.
pub fn gather<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, bytes: usize) -> Bytes {
    SYSTEM.gather(pieces, bytes)
}

/// The same of one piece.
#[must_use]
pub fn copy(body: &[u8]) -> Bytes {
    gather([body], body.len())
}

/// The next `bytes` of what is read, straight into memory where they can stay for long.
///
/// # Errors
/// It cannot be read, or ends before ([`io::ErrorKind::UnexpectedEof`]).
pub fn read(from: impl Read, bytes: usize) -> io::Result<Bytes> {
    SYSTEM.read(from, bytes)
}

/// From this size on, a body gets memory of its own.
#[must_use]
pub fn own_bytes() -> usize {
    OWN_PAGES * page_size()
}

/// Whether a body of so many bytes gets it.
#[must_use]
pub fn is_own(bytes: usize) -> bool {
    bytes >= own_bytes()
}

/// Bytes that a body of so many takes.
#[must_use]
pub fn taken(bytes: u64) -> u64 {
    usize::try_from(bytes).map_or(bytes, |bytes| if is_own(bytes) { piece(bytes) } else { bytes } as u64)
}

/// Tells how many pieces there may be, and how many bytes may wait for the next body: the most that anyone said, and none before that.
pub fn bound(pieces: usize, idle_bytes: usize) {
    SYSTEM.own_max.store(pieces, Ordering::Relaxed);
    SYSTEM.idle_max.fetch_max(idle_bytes, Ordering::Relaxed);
}

/// Whether a body that should have had memory of its own went to the allocator's heaps, since there were too many pieces, or the system gave no more.
#[must_use]
pub fn is_short() -> bool {
    SYSTEM.short.load(Ordering::Relaxed)
}

/// Bytes of the piece for a body that gets one: whole pages, and in steps, so that what it takes is the same whether it was used before or not.
fn piece(bytes: usize) -> usize {
    let step = if bytes > IDLE_EACH_MAX { 1 } else { bytes.next_power_of_two() / 2 / UNUSED_PART };
    bytes.next_multiple_of(step.max(page_size()))
}

/// A body in memory of its own.
struct Block {
    /// Until it is dropped.
    memory: Option<Memory>,
    bytes: usize,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory.map[..self.bytes])
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            let system = memory.system;
            let gone = system.idle.lock().put(memory, system.idle_max.load(Ordering::Relaxed));
            // Given back without the lock: it takes a system call.
            drop(gone);
        }
    }
}

/// Memory from the system, counted.
struct Memory {
    map: MmapMut,
    system: &'static System,
}

impl Memory {
    fn into_body(self, bytes: usize) -> Bytes {
        Bytes::from_owner(Block { memory: Some(self), bytes })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.system.own.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where pieces come from.
struct System {
    /// Pieces that there are.
    own: AtomicUsize,
    /// As many there may be, for the allocator and the stacks of threads need some of what the system allows too. Further bodies lie where the allocator puts
    /// them.
    own_max: AtomicUsize,
    /// That happened.
    short: AtomicBool,
    idle: Mutex<Idle>,
    idle_max: AtomicUsize,
}

impl System {
    const fn new() -> Self {
        System {
            own: AtomicUsize::new(0),
            own_max: AtomicUsize::new(PIECES_MAX),
            short: AtomicBool::new(false),
            idle: Mutex::new(Idle { waiting: VecDeque::new(), bytes: 0 }),
            idle_max: AtomicUsize::new(0),
        }
    }

    fn gather<'a>(&'static self, pieces: impl IntoIterator<Item = &'a [u8]>, bytes: usize) -> Bytes {
        if let Some(mut memory) = self.memory(bytes) {
            let mut filled = 0;
            for piece in pieces {
                memory.map[..bytes][filled..filled + piece.len()].copy_from_slice(piece);
                filled += piece.len();
            }
            return memory.into_body(filled);
        }
        let mut body = Vec::with_capacity(bytes);
        pieces.into_iter().for_each(|piece| body.extend_from_slice(piece));
        body.into()
    }

    fn read(&'static self, mut from: impl Read, bytes: usize) -> io::Result<Bytes> {
        if let Some(mut memory) = self.memory(bytes) {
            from.read_exact(&mut memory.map[..bytes])?;
            return Ok(memory.into_body(bytes));
        }
        let mut body = vec![0; bytes];
        from.read_exact(&mut body)?;
        Ok(body.into())
    }

    /// For a body of so many bytes; none if it is small, there are too many, or the system has no more.
    fn memory(&'static self, bytes: usize) -> Option<Memory> {
        if !is_own(bytes) {
            return None;
        }
        let waiting = self.idle.lock().take(piece(bytes));
        waiting.or_else(|| self.fresh(piece(bytes)))
    }

    fn fresh(&'static self, bytes: usize) -> Option<Memory> {
        let own_max = self.own_max.load(Ordering::Relaxed);
        let is_one_more = |own: usize| (own < own_max).then_some(own + 1);
        if self.own.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_one_more).is_err() {
            self.short.store(true, Ordering::Relaxed);
            return None;
        }
        let map = MmapMut::map_anon(bytes);
        if map.is_err() {
            self.own.fetch_sub(1, Ordering::Relaxed);
            self.short.store(true, Ordering::Relaxed);
        }
        map.ok().map(|map| Memory { map, system: self })
    }
}

/// What bodies gave up, for those that come next. The oldest goes first: sizes that nobody wants any more do not stay.
struct Idle {
    waiting: VecDeque<Memory>,
    bytes: usize,
}

impl Idle {
    /// The last of just so many bytes: it may still lie in the processor's caches.
    fn take(&mut self, bytes: usize) -> Option<Memory> {
        let last = self.waiting.iter().rposition(|memory| memory.map.len() == bytes)?;
        self.bytes -= bytes;
        self.waiting.remove(last)
    }

    /// Lets it wait. Returns what has no room among `bytes_max` any more.
    fn put(&mut self, memory: Memory, bytes_max: usize) -> Vec<Memory> {
        if memory.map.len() > IDLE_EACH_MAX.min(bytes_max) {
            return vec![memory];
        }
        self.bytes += memory.map.len();
        self.waiting.push_back(memory);
        let mut gone = Vec::new();
        while self.bytes > bytes_max || self.waiting.len() > IDLE_MAX {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.bytes -= oldest.map.len();
            gone.push(oldest);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One that nobody else counts in.
    fn system(own_max: usize, idle_max: usize) -> &'static System {
        let system = System::new();
        system.own_max.store(own_max, Ordering::Relaxed);
        system.idle_max.store(idle_max, Ordering::Relaxed);
        Box::leak(Box::new(system))
    }

    /// Where the allocator puts something of some size, its own notes come before it: never at the beginning of a page of memory.
    fn is_outside(body: &Bytes) -> bool {
        body.as_ptr().addr().is_multiple_of(page_size())
    }

    fn memory(system: &'static System, pages: usize) -> Memory {
        system.fresh(pages * page_size()).unwrap()
    }

    fn empty() -> Idle {
        Idle { waiting: VecDeque::new(), bytes: 0 }
    }

    proptest! {
        #[test]
        fn a_body_is_what_was_gathered_or_read(pieces in prop::collection::vec((any::<u8>(), 0..3 * own_bytes() / 2), 0..4)) {
            let pieces: Vec<Vec<u8>> = pieces.into_iter().map(|(byte, bytes)| vec![byte; bytes]).collect();
            let whole = pieces.concat();
            let gathered = gather(pieces.iter().map(Vec::as_slice), whole.len());
            prop_assert!(gathered == whole, "{} bytes", whole.len());
            prop_assert!(copy(&gathered) == whole, "{} bytes", whole.len());
            prop_assert!(read(&*gathered, whole.len()).unwrap() == whole, "{} bytes", whole.len());
        }

        #[test]
        fn a_piece_is_large_enough_and_hardly_larger(bytes in own_bytes()..2 * IDLE_EACH_MAX) {
            let piece = piece(bytes);
            prop_assert!(piece.is_multiple_of(page_size()));
            prop_assert!(bytes <= piece && piece - bytes < page_size().max(bytes / UNUSED_PART), "{piece} for {bytes}");
        }
    }

    #[test]
    fn a_larger_body_lies_outside_of_the_heap() {
        for bytes in [own_bytes(), 3 * own_bytes() + 1, 8 << 20] {
            let body = vec![b'x'; bytes];
            assert!(is_outside(&copy(&body)), "{bytes}");
            assert!(is_outside(&read(&*body, bytes).unwrap()), "{bytes}, read");
        }
        assert!((0..8).map(|_| copy(&vec![b'x'; own_bytes() - 1])).any(|body| !is_outside(&body)));
    }

    #[test]
    fn what_ends_too_soon_is_no_body() {
        let body = vec![b'x'; own_bytes()];
        for bytes in [1, own_bytes()] {
            let error = read(&body[..bytes - 1], bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{bytes}");
        }
    }

    #[test]
    fn beyond_the_bound_bodies_lie_in_the_heap_until_others_are_gone() {
        let system = system(2, 0);
        // Small enough for the heap, where the allocator would not itself ask the system for memory apart.
        let body = vec![b'x'; own_bytes()];
        let put = || system.gather([&body[..]], body.len());
        let kept = [put(), put()];
        assert!(kept.iter().all(is_outside) && !system.short.load(Ordering::Relaxed));
        let further: Vec<Bytes> = (0..8).map(|_| put()).collect();
        assert!(further.iter().all(|further| *further == body));
        assert!(further.iter().any(|further| !is_outside(further)));
        assert!(system.short.load(Ordering::Relaxed), "it can be said");
        assert!(system.read(&*body, body.len()).unwrap() == body);
        assert_eq!(system.own.load(Ordering::Relaxed), 2);
        drop((kept, further));
        assert_eq!(system.own.load(Ordering::Relaxed), 0, "the pieces went back");
        assert!(is_outside(&put()));
    }

    #[test]
    fn nothing_of_an_earlier_body_shows_in_the_next_one() {
        let system = system(8, IDLE_BYTES_MAX);
        let (long, short) = (vec![b'l'; own_bytes() + 4000], vec![b's'; own_bytes() + 1]);
        let earlier = system.gather([&long[..]], long.len());
        let place = earlier.as_ptr();
        drop(earlier);
        let gathered = system.gather([&short[..9], &short[9..]], short.len());
        assert_eq!(gathered.as_ptr(), place, "it is used again");
        assert!(gathered == short);
        drop(gathered);
        system.read(&short[1..], short.len()).unwrap_err();
        let read = system.read(&*long, short.len()).unwrap();
        assert_eq!(read.as_ptr(), place);
        assert!(read == long[..short.len()]);
        drop(read);
        // Whoever announces more than comes gets what came.
        assert!(system.gather([&short[..5]], short.len()) == short[..5]);
    }

    #[test]
    fn what_a_body_gave_up_is_of_use_to_one_that_takes_as_much() {
        let (system, mut idle) = (system(8, 0), empty());
        let size = |pages: usize| pages * page_size();
        let first = memory(system, 17);
        let last = memory(system, 17);
        let place = last.map.as_ptr();
        for memory in [memory(system, 20), first, last] {
            assert!(idle.put(memory, IDLE_BYTES_MAX).is_empty());
        }
        assert!(idle.take(size(16)).is_none(), "some would be unused");
        assert!(idle.take(size(18)).is_none(), "some would be missing");
        assert_eq!(idle.take(size(17)).unwrap().map.as_ptr(), place, "the last of two");
        assert_eq!(idle.take(size(17)).unwrap().map.len(), size(17));
        assert_eq!(idle.take(size(20)).unwrap().map.len(), size(20));
        assert_eq!(idle.bytes, 0);
    }

    #[test]
    fn little_waits_and_the_oldest_goes_first() {
        let (system, mut idle) = (system(PIECES_MAX, 0), empty());
        let each = IDLE_EACH_MAX / page_size();
        let mut put = |pages: usize| -> Vec<usize> {
            let gone = idle.put(memory(system, pages), IDLE_BYTES_MAX);
            gone.iter().map(|memory| memory.map.len() / page_size()).collect()
        };
        assert_eq!((put(2), put(3)), (vec![], vec![]));
        assert_eq!(put(each + 1), [each + 1], "large ones do not wait");
        assert_eq!((0..IDLE_MAX - 1).flat_map(|_| put(1)).collect::<Vec<_>>(), [2], "one too many");
        let gone = (0..IDLE_MAX).flat_map(|_| put(each)).count();
        assert_eq!(idle.waiting.len(), IDLE_BYTES_MAX / IDLE_EACH_MAX);
        assert_eq!((idle.bytes, gone), (IDLE_BYTES_MAX, 2 * IDLE_MAX - IDLE_BYTES_MAX / IDLE_EACH_MAX));
    }

    #[test]
    fn nothing_waits_where_no_pages_are_kept() {
        let system = system(8, 0);
        drop(system.gather([&vec![b'x'; own_bytes()][..]], own_bytes()));
        assert_eq!((system.own.load(Ordering::Relaxed), system.idle.lock().waiting.len()), (0, 0));
    }
}
