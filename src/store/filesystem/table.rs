//! What lies in the store, how large is it, and what was least recently used?
//!
//! A table in memory, 72 bytes for each object and some thirty for each path. Eviction samples: of sixteen random entries the least recently used goes,
//! which is close to a true order and needs no list. It never touches a file.

use std::collections::HashMap;
use std::collections::hash_map::Entry::Occupied;

use indexmap::IndexMap;

use crate::clock::UnixMillis;
use crate::page::{Key, METHODS, ObjectName, PathId};

/// Entries of which the least recently used is evicted: at sixteen, a page of the younger half goes once in 65,536 times.
const SAMPLE: usize = 16;

/// Use is written down (in the file's modification time) at most this often, in seconds.
const SAVE_SECONDS: u32 = 3600;

/// The table of one store.
#[derive(Debug)]
pub(super) struct Table {
    entries: IndexMap<Place, Entry>,
    /// Entries of each path, by eight bytes of its name: two paths that share these count together, which costs a look at the disk.
    of_path: HashMap<u64, u32>,
    kib: u64,
    limit_kib: u64,
    /// The latest use: each use is later than the one before, even within a millisecond.
    latest: u64,
    /// State of the random numbers.
    random: u64,
    /// Whether all that lay in the folder at start has been found.
    pub(super) counted: bool,
}

/// An [`ObjectName`] in 41 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    path: [u8; 20],
    key: [u8; 20],
    /// Its place in [`METHODS`].
    method: u8,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// In milliseconds since the epoch, or slightly later.
    used: u64,
    /// When its use was last saved, in seconds since the epoch.
    saved_seconds: u32,
    /// Bytes of the file in KiB, rounded up.
    kib: u32,
}

/// What must be done after a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Used {
    /// Nothing: it was saved lately.
    Saved,
    /// The file's modification time is to be set.
    ToSave,
}

impl Table {
    /// An empty table. Its random numbers follow from `seed`.
    pub(super) fn new(limit_bytes: u64, seed: u64) -> Self {
        let limit_kib = limit_bytes / 1024;
        let (entries, of_path) = (IndexMap::new(), HashMap::new());
        Table { entries, of_path, kib: 0, limit_kib, latest: 0, random: seed | 1, counted: false }
    }

    /// It was written just now.
    pub(super) fn put(&mut self, name: &ObjectName, bytes: u64, now: UnixMillis) {
        let Some(place) = Place::of(name) else { return };
        let entry = Entry { used: self.tick(now), saved_seconds: seconds(now), kib: kib(bytes) };
        self.kib += u64::from(entry.kib);
        match self.entries.insert(place, entry) {
            Some(before) => self.kib -= u64::from(before.kib),
            None => *self.of_path.entry(place.path_number()).or_default() += 1,
        }
    }

    /// It was found in the folder, last saved or used at `modified`.
    pub(super) fn found(&mut self, name: &ObjectName, bytes: u64, modified: UnixMillis) {
        let Some(place) = Place::of(name) else { return };
        self.entries.entry(place).or_insert_with(|| {
            let entry = Entry { used: modified.0, saved_seconds: seconds(modified), kib: kib(bytes) };
            self.kib += u64::from(entry.kib);
            *self.of_path.entry(place.path_number()).or_default() += 1;
            entry
        });
    }

    /// It was read just now. What is not in the table yet will be found, with the time that is saved.
    pub(super) fn used(&mut self, name: &ObjectName, now: UnixMillis) -> Used {
        let used = self.tick(now);
        let Some(entry) = Place::of(name).and_then(|place| self.entries.get_mut(&place)) else { return Used::ToSave };
        entry.used = used;
        if seconds(now).saturating_sub(entry.saved_seconds) < SAVE_SECONDS {
            return Used::Saved;
        }
        entry.saved_seconds = seconds(now);
        Used::ToSave
    }

    /// Is it here?
    pub(super) fn holds(&self, name: &ObjectName) -> bool {
        Place::of(name).is_some_and(|place| self.entries.contains_key(&place))
    }

    /// May there be something of this path?
    pub(super) fn holds_any_of(&self, path: &PathId) -> bool {
        self.of_path.contains_key(&path_number(&path.0))
    }

    /// It is no longer there.
    pub(super) fn remove(&mut self, name: &ObjectName) {
        let Some(place) = Place::of(name) else { return };
        let Some(entry) = self.entries.swap_remove(&place) else { return };
        self.kib -= u64::from(entry.kib);
        if let Occupied(mut of_path) = self.of_path.entry(place.path_number()) {
            *of_path.get_mut() -= 1;
            if *of_path.get() == 0 {
                of_path.remove();
            }
        }
    }

    /// More than the limit?
    pub(super) fn is_over(&self) -> bool {
        self.kib > self.limit_kib
    }

    /// What to evict next; `None`: nothing, at most 95 % of the limit is taken.
    pub(super) fn victim(&mut self) -> Option<ObjectName> {
        if self.kib <= self.limit_kib - self.limit_kib / 20 || self.entries.is_empty() {
            return None;
        }
        let sample = (0..SAMPLE).map(|_| self.random_entry());
        let (place, _) = sample.min_by_key(|(_, entry)| entry.used)?;
        Some(place.name())
    }

    /// Objects.
    pub(super) fn objects(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Bytes of all, each rounded up to a KiB.
    pub(super) fn bytes(&self) -> u64 {
        self.kib * 1024
    }

    fn tick(&mut self, now: UnixMillis) -> u64 {
        self.latest = now.0.max(self.latest.saturating_add(1));
        self.latest
    }

    /// One of the entries, of which there are some. Marsaglia's xorshift64 is random enough for a sample.
    fn random_entry(&mut self) -> (Place, Entry) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let index = (self.random % self.entries.len() as u64) as usize;
        let (place, entry) = self.entries.get_index(index).expect("smaller than the length");
        (*place, *entry)
    }
}

impl Place {
    fn of(name: &ObjectName) -> Option<Self> {
        let method = METHODS.iter().position(|method| *method == name.method)?;
        Some(Place { path: name.path.0, key: name.key.0, method: u8::try_from(method).ok()? })
    }

    fn path_number(&self) -> u64 {
        path_number(&self.path)
    }

    fn name(&self) -> ObjectName {
        let method = METHODS[usize::from(self.method)].clone();
        ObjectName { path: PathId(self.path), method, key: Key(self.key) }
    }
}

fn path_number(path: &[u8; 20]) -> u64 {
    u64::from_le_bytes(*path.first_chunk().expect("twenty bytes have eight"))
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

fn seconds(time: UnixMillis) -> u32 {
    u32::try_from(time.0 / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn name(n: u32) -> ObjectName {
        let mut key = [0; 20];
        key[..4].copy_from_slice(&n.to_be_bytes());
        ObjectName { path: PathId([0; 20]), method: Method::GET, key: Key(key) }
    }

    fn evict(table: &mut Table) -> Vec<ObjectName> {
        let mut evicted = Vec::new();
        while let Some(victim) = table.victim() {
            table.remove(&victim);
            evicted.push(victim);
        }
        evicted
    }

    #[test]
    fn an_entry_takes_seventy_two_bytes() {
        // The hash of 8 bytes lies beside the key and the value.
        assert_eq!((size_of::<(u64, Place, Entry)>(), size_of::<Place>()), (72, 41));
    }

    #[test]
    fn what_was_used_least_recently_goes_first() {
        let mut table = Table::new(1000 * 1024, 7);
        (0..1000).for_each(|n| table.put(&name(n), 1024, UnixMillis(u64::from(n))));
        (0..500).for_each(|n| _ = table.used(&name(n), UnixMillis(5000)));
        assert!(table.victim().is_some());
        let evicted = evict(&mut table);
        assert_eq!((evicted.len(), table.bytes()), (50, 950 * 1024));
        let unused = evicted.iter().filter(|victim| (500..1000).any(|n| name(n) == **victim)).count();
        assert!(unused >= 49, "{unused} of 50");
    }

    #[test]
    fn below_ninety_five_percent_nothing_goes() {
        let mut table = Table::new(100 * 1024, 7);
        (0..95).for_each(|n| table.put(&name(n), 1024, UnixMillis(1)));
        assert_eq!(evict(&mut table), []);
        (95..101).for_each(|n| table.put(&name(n), 1024, UnixMillis(1)));
        assert!(table.is_over());
        assert_eq!(evict(&mut table).len(), 6);
    }

    #[test]
    fn an_overwritten_entry_counts_once() {
        let mut table = Table::new(1 << 20, 7);
        table.put(&name(1), 5000, UnixMillis(1));
        table.put(&name(1), 1, UnixMillis(2));
        table.found(&name(1), 5000, UnixMillis(0));
        assert_eq!((table.objects(), table.bytes()), (1, 1024));
        table.remove(&name(1));
        table.remove(&name(1));
        assert_eq!((table.objects(), table.bytes()), (0, 0));
    }

    #[test]
    fn a_path_holds_something_until_its_last_object_goes() {
        let mut table = Table::new(1 << 20, 7);
        let (path, other) = (PathId([0; 20]), PathId([1; 20]));
        assert!(!table.holds_any_of(&path));
        table.put(&name(1), 1, UnixMillis(1));
        table.put(&name(1), 1, UnixMillis(2));
        table.found(&name(1), 1, UnixMillis(0));
        table.found(&name(2), 1, UnixMillis(0));
        table.remove(&name(1));
        table.remove(&name(1));
        assert!(table.holds_any_of(&path) && !table.holds_any_of(&other));
        table.remove(&name(2));
        assert!(!table.holds_any_of(&path));
        assert!(table.of_path.is_empty());
    }

    #[test]
    fn use_is_saved_once_an_hour() {
        let (mut table, hour) = (Table::new(1 << 20, 7), 3_600_000);
        table.put(&name(1), 1, UnixMillis(hour));
        let mut used = |at| table.used(&name(1), UnixMillis(at));
        assert_eq!(used(2 * hour - 1), Used::Saved);
        assert_eq!(used(2 * hour), Used::ToSave);
        assert_eq!(used(2 * hour + 1), Used::Saved);
        assert_eq!(used(3 * hour), Used::ToSave);
    }
}
