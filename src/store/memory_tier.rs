//! Which pages are at hand? A bounded, concurrent cache before the store: a look-up takes one shard's read lock and does no I/O.
//!
//! It never judges a page: `invalidation` does, at every hit. A page that is found dead stays until it is replaced or evicted.
//!
//! quick_cache was chosen by measurement among moka 0.12, quick_cache 0.7 and foyer 0.22, 100,000 entries of 2 KiB, CPU time per call:
//!
//! | | quick_cache | moka | foyer S3-FIFO |
//! |---|---|---|---|
//! | hit, one thread | 51 ns | 374 ns | 146 ns |
//! | insert into a full cache | 66 ns | 883 ns | 280 ns |
//! | overhead of an entry | 61 to 111 B | 325 B | 131 to 167 B |
//! | hit ratio, Zipf 0.9, room for 10 % of the keys | 0.685 | 0.642 | 0.673 |
//! | the same beside an endless scan | 0.686 | 0.554 | 0.681 |
//! | live bytes over capacity, mixed sizes | 1.06 | 1.6 to 3.2 | 1.07 |
//!
//! Its weakness is that admission ignores size: bodies of 60 MiB that are asked for once push the small pages out (hit ratio 0.684 to 0.418). So
//! a large body is let in only when it is asked for a second time within `LARGE_SEEN_MAX` large ones, which restores 0.684.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, LazyLock, Once, Weak};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::page::block::{self, taken};
use crate::page::{Key, Page, Variants};

/// A body above this is large.
pub const LARGE_BYTES: usize = 1 << 20;
/// Large bodies remembered.
const LARGE_SEEN_MAX: usize = 4096;
/// What the tables take for an entry, measured with a counting allocator.
const ENTRY_BYTES: u64 = 112;
/// Signposts kept; one that is gone costs a look into the store.
const SIGNPOSTS_MAX: usize = 16_384;
/// What a page takes on average, for sizing the memory of evicted keys.
const AVERAGE_BYTES: u64 = 8 << 10;
/// This part of the capacity may wait for the next bodies ([`block`]).
const IDLE_PART: u64 = 32;

/// As many bodies may have memory of their own ([`block`]), each a mapping: a half of what the system lets a process have, since the allocator and the stacks of
/// threads need some too. Most often they need fewer, for Linux merges neighbours: 30,000 bodies of 32 to 60 KiB were no line of their own in `/proc/self/maps` once
/// filled, 7,500 lines after 200,000 had been replaced at random, and 9,500 after every other one was gone then.
static PIECES_MAX: LazyLock<usize> = LazyLock::new(|| {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    limit.and_then(|limit| limit.trim().parse::<usize>().ok()).map_or(block::PIECES_MAX, |limit| limit / 2)
});

/// The pages at hand.
#[derive(Debug)]
pub struct MemoryTier {
    pages: Option<Cache<Key, Arc<Page>, Weights, KeyHasher>>,
    signposts: Cache<Key, Arc<Variants>>,
    /// Large pages seen lately. While somebody still reads one, everyone else reads the same copy.
    large: Cache<Key, Weak<Page>>,
}

/// How full it is.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct MemoryUsage {
    /// Pages.
    pub entries: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Bytes they may take.
    pub capacity: u64,
}

impl MemoryTier {
    /// A tier of `capacity` bytes that takes bodies of up to `max_body` bytes, or of a half of the capacity if that is less; no tier if `capacity` is 0.
    #[must_use]
    pub fn new(capacity: u64, max_body: u64) -> Self {
        let idle =
            usize::try_from(capacity / IDLE_PART).map_or(block::IDLE_BYTES_MAX, |idle| idle.min(block::IDLE_BYTES_MAX));
        block::bound(*PIECES_MAX, idle);
        let items = (capacity / AVERAGE_BYTES).clamp(1024, 1 << 24);
        let options = OptionsBuilder::new()
            .weight_capacity(capacity)
            .estimated_items_capacity(usize::try_from(items).expect("at most 2^24"))
            .shards(shards(capacity, max_body))
            .build();
        MemoryTier {
            pages: options.ok().filter(|_| capacity > 0).map(|options| {
                Cache::with_options(options, Weights, KeyHasher::default(), DefaultLifecycle::default())
            }),
            signposts: Cache::new(SIGNPOSTS_MAX),
            large: Cache::new(LARGE_SEEN_MAX),
        }
    }

    /// The page under the key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Page>> {
        let page = self.pages.as_ref().and_then(|pages| pages.get(key));
        page.or_else(|| self.large.get(key)?.upgrade())
    }

    /// Keeps the page, if there is room and it is wanted.
    pub fn insert(&self, key: Key, page: Arc<Page>) {
        let mut is_wanted = true;
        if page.body.len() > LARGE_BYTES {
            is_wanted = self.large.get(&key).is_some();
            self.large.insert(key, Arc::downgrade(&page));
        }
        let Some(pages) = &self.pages else { return };
        if is_wanted {
            page.release();
            pages.insert(key, page);
            if block::is_short() {
                warn_of_heaps(pages.capacity());
            }
        } else {
            // What lies there is older.
            pages.remove(&key);
        }
    }

    /// The signpost under the key. Signposts are kept even where pages are not: requests find their variants by them.
    #[must_use]
    pub fn signpost(&self, key: &Key) -> Option<Arc<Variants>> {
        self.signposts.get(key)
    }

    /// Puts up the signpost.
    pub fn insert_signpost(&self, key: Key, signpost: Arc<Variants>) {
        self.signposts.insert(key, signpost);
    }

    /// Takes out what lies under the key.
    pub fn remove(&self, key: &Key) {
        if let Some(pages) = &self.pages {
            pages.remove(key);
        }
        self.large.remove(key);
    }

    /// How full it is.
    #[must_use]
    pub fn usage(&self) -> MemoryUsage {
        let Some(pages) = &self.pages else { return MemoryUsage::default() };
        MemoryUsage { entries: pages.len() as u64, bytes: pages.weight(), capacity: pages.capacity() }
    }
}

/// Says once that bodies lie in the allocator's heaps, which grow under churn, and what helps.
fn warn_of_heaps(capacity: u64) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        // Enough for the smallest of such bodies, and at least twice what there is.
        let wanted = (capacity / block::own_bytes() as u64 * 2).max(*PIECES_MAX as u64 * 4);
        tracing::warn!(
            bodies = *PIECES_MAX,
            wanted,
            "the system lets this process have too few mappings for the larger bodies in memory: further ones take more memory than \
             memory.capacity counts; raise it with `sysctl vm.max_map_count=<wanted>` and start again"
        );
    });
}

/// As many shards as leave each of them room for the largest body: a shard takes nothing above 97 % of its own capacity.
fn shards(capacity: u64, max_body: u64) -> usize {
    let largest = taken(max_body.min(capacity / 2)) + ENTRY_BYTES;
    let mut shards: u64 = 16;
    while shards > 1 && capacity / shards / 100 * 97 < largest {
        shards /= 2;
    }
    usize::try_from(shards).expect("at most 16")
}

#[derive(Clone, Debug)]
struct Weights;

impl Weighter<Key, Arc<Page>> for Weights {
    fn weight(&self, _: &Key, page: &Arc<Page>) -> u64 {
        ENTRY_BYTES + page.memory_bytes()
    }
}

/// The key is a sha1: eight of its bytes are a hash already.
#[derive(Clone, Debug, Default)]
struct KeyHasher(u64);

impl BuildHasher for KeyHasher {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(0)
    }
}

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // The length of the array, the same for all.
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::contract;

    fn page(body_bytes: usize) -> Arc<Page> {
        match contract::page("/", &vec![b'x'; body_bytes]).1 {
            crate::store::Object::Page(page) => page,
            _ => unreachable!("a page was made"),
        }
    }

    fn key(number: u32) -> Key {
        let mut bytes = [0; 20];
        // Spread over the shards, as a sha1 is.
        bytes[..8].copy_from_slice(&u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        Key(bytes)
    }

    #[test]
    fn what_was_put_is_at_hand() {
        let tier = MemoryTier::new(1 << 20, 1 << 20);
        let put = page(100);
        tier.insert(key(1), Arc::clone(&put));
        assert!(Arc::ptr_eq(&tier.get(&key(1)).unwrap(), &put));
        assert!(tier.get(&key(2)).is_none());
        tier.remove(&key(1));
        assert!(tier.get(&key(1)).is_none());
    }

    #[test]
    fn it_never_takes_more_than_its_capacity() {
        let tier = MemoryTier::new(1 << 20, 1 << 20);
        for number in 0..5000 {
            tier.insert(key(number), page(1000));
            assert!(tier.usage().bytes <= 1 << 20);
        }
        assert!(tier.usage().entries > 300, "{:?}", tier.usage());
    }

    #[test]
    fn a_large_page_is_kept_when_it_is_seen_again_and_shared_meanwhile() {
        let tier = MemoryTier::new(64 << 20, 8 << 20);
        let first = page(LARGE_BYTES + 1);
        tier.insert(key(1), Arc::clone(&first));
        assert_eq!(tier.usage().entries, 0);
        assert!(Arc::ptr_eq(&tier.get(&key(1)).unwrap(), &first), "whoever comes while it is read shares the copy");
        drop(first);
        assert!(tier.get(&key(1)).is_none());
        tier.insert(key(1), page(LARGE_BYTES + 1));
        assert_eq!(tier.usage().entries, 1);
        assert!(tier.get(&key(1)).is_some());
    }

    #[test]
    fn a_body_weighs_the_memory_that_it_takes() {
        let tier = MemoryTier::new(64 << 20, 8 << 20);
        let small = page(100);
        let beside = small.memory_bytes() - 100;
        tier.insert(key(1), small);
        assert_eq!(tier.usage().bytes, ENTRY_BYTES + beside + 100);
        let before = tier.usage().bytes;
        // Of memory of its own, whole pages.
        let bytes = block::own_bytes() + 1024;
        let page = page(bytes);
        let taken = (bytes as u64).next_multiple_of(rustix::param::page_size() as u64);
        // Its length has more digits.
        let head = page.head.memory_bytes() - tier.get(&key(1)).unwrap().head.memory_bytes();
        assert_eq!(page.memory_bytes(), beside + head + taken);
        tier.insert(key(2), page);
        assert_eq!(tier.usage().bytes - before, ENTRY_BYTES + beside + head + taken);
    }

    #[test]
    fn the_largest_body_fits_into_a_shard() {
        for capacity in [1u64 << 20, 64 << 20, 256 << 20, 4 << 30] {
            let largest = capacity / 2;
            let per_shard = capacity / shards(capacity, largest) as u64;
            assert!(largest + ENTRY_BYTES <= per_shard, "{capacity}");
        }
        assert_eq!(shards(4 << 30, 64 << 20), 16);
    }

    #[test]
    fn without_capacity_only_signposts_are_kept() {
        let tier = MemoryTier::new(0, 1 << 20);
        tier.insert(key(1), page(10));
        assert!(tier.get(&key(1)).is_none());
        assert_eq!(tier.usage().bytes, 0);
    }

    #[test]
    fn a_share_of_memory_is_given_back_when_the_page_goes_or_the_tier_takes_it() {
        let tier = MemoryTier::new(64 << 20, 8 << 20);
        let share = Arc::new(Bytes::new());
        let passing = page(LARGE_BYTES + 1);
        passing.hold(Arc::clone(&share));
        assert_eq!(Arc::strong_count(&share), 2);
        tier.insert(key(1), passing);
        assert_eq!(Arc::strong_count(&share), 1, "seen once: nobody keeps it");
        let staying = page(LARGE_BYTES + 1);
        staying.hold(Arc::clone(&share));
        tier.insert(key(1), Arc::clone(&staying));
        assert_eq!(Arc::strong_count(&share), 1, "it counts against the tier's own capacity now");
    }
}
