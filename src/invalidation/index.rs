//! Which record named this page last? Pure: no I/O, no clock, no locks.
//!
//! One number is kept for each path, prefix, tag and host that was ever named: the newest record that did. Keys are 64 bits of a sha1,
//! so a path costs some twenty bytes whatever its length. Two names that share a key invalidate each other's pages: too often,
//! never too seldom. They lie in many small tables: while one grows, look-ups wait, and one of ten million names would take a sixth of a second for it.
//! The index says nothing about what is stored.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use sha1::{Digest, Sha1};

use super::selector::{Part, Record, Target};
use crate::page::{PathId, Sequence};
use crate::policy::path;

/// Names kept at most. Beyond that the index forgets them all and calls every older page invalid: one refill of the cache instead of
/// memory without end. Twenty million names take about 700 MB.
const NAMES_MAX: usize = 20_000_000;

/// Bytes of the numbers that stand before the names in a snapshot.
const NUMBERS_BYTES: usize = 48;

/// Bytes of a name there.
const NAME_BYTES: usize = 16;

/// Tables of a set of names: of twenty million, each has less than can be moved in a millisecond or two.
const TABLES: usize = 256;

/// What a page or a request is, as far as invalidations can name it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Lower case, without a default port.
    pub host: &'a str,
    /// Normalised.
    pub path: &'a str,
    /// [`path::path_id`] of `path`.
    pub path_id: &'a PathId,
    /// Known once the response's head has arrived; empty before.
    pub tags: &'a [std::sync::Arc<str>],
}

/// The newest records that name a subject; 0 where none does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// Pages older than this must not be served.
    pub hard: Sequence,
    /// Pages older than this may be served while a newer one is fetched.
    pub soft: Sequence,
}

/// From names to the newest record that named them.
#[derive(Debug, Default)]
pub struct Index {
    hard: Names,
    soft: Names,
}

impl Index {
    /// Takes a record into account. Records may come in any order and more than once.
    pub fn apply(&mut self, sequence: Sequence, record: &Record) {
        record.parts(usize::MAX).for_each(|part| self.apply_part(sequence, record, part));
    }

    /// One of the parts of a record: nobody need wait for all of them. After the last one, the record has been applied.
    pub fn apply_part(&mut self, sequence: Sequence, record: &Record, part: Part<'_>) {
        let names = if record.soft { &mut self.soft } else { &mut self.hard };
        names.apply_part(sequence, record, part);
        names.bound(sequence);
    }

    /// The newest records that name the subject: a few look-ups, whatever the number of names and pages.
    #[must_use]
    pub fn newest(&self, subject: &Subject<'_>) -> Newest {
        Newest { hard: Sequence(self.hard.newest_of(subject)), soft: Sequence(self.soft.newest_of(subject)) }
    }

    /// May a record newer than `since` have killed a page of this path? Asked where the path's id is at hand and nothing else, so it says yes
    /// for every path once a newer record names pages by prefix, tag or host, or all of them. Never no where the answer is yes.
    #[must_use]
    pub fn may_name_since(&self, path_id: &PathId, since: Sequence) -> bool {
        self.hard.widest > since.0 || self.hard.look(Kind::Path, None, &path_id.0) > since.0
    }

    /// How many names it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hard.len() + self.soft.len()
    }

    /// True before the first record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hard.newest == 0 && self.soft.newest == 0
    }

    /// The index as bytes, for the journal's snapshot.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        Index::write_down(|part| part(self))
    }

    /// [`Index::to_bytes`] of an index that goes on: `lend` lends it for one part after the other, each some thousands of names. What is applied meanwhile
    /// may be written or not; all that had been applied before is.
    #[must_use]
    pub fn write_down(lend: impl Fn(&mut dyn FnMut(&Index))) -> Vec<u8> {
        let mut bytes = Vec::new();
        lend(&mut |index| bytes.reserve(2 * NUMBERS_BYTES + NAME_BYTES * index.len()));
        for names in [|index: &Index| &index.hard, |index: &Index| &index.soft] as [fn(&Index) -> &Names; 2] {
            let numbers_at = bytes.len();
            bytes.resize(numbers_at + NUMBERS_BYTES, 0);
            for table in 0..TABLES {
                lend(&mut |index| names(index).write_table(table, &mut bytes));
            }
            // Last, for they speak of all names, and those that have come meanwhile.
            let count = (bytes.len() - numbers_at - NUMBERS_BYTES) / NAME_BYTES;
            lend(&mut |index| {
                bytes[numbers_at..numbers_at + NUMBERS_BYTES].copy_from_slice(&names(index).numbers(count));
            });
        }
        bytes
    }

    /// The index that [`Index::to_bytes`] wrote, and what follows it; `None` if these bytes are no such thing, or name pages in a way that is not known.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (hard, rest) = Names::read(bytes)?;
        let (soft, rest) = Names::read(rest)?;
        Some((Index { hard, soft }, rest))
    }
}

/// The kinds of names, mixed into their keys.
#[derive(Clone, Copy)]
enum Kind {
    Path = 1,
    Prefix = 2,
    Tag = 3,
    Host = 4,
}

/// All of them, as the bits of [`Names::kinds`].
const KINDS: u8 = 1 << Kind::Path as u8 | 1 << Kind::Prefix as u8 | 1 << Kind::Tag as u8 | 1 << Kind::Host as u8;

/// One set of names. Hosts stand inside the key of what they narrow.
#[derive(Debug, Default)]
struct Names {
    all: u64,
    newest: u64,
    /// Which kinds occur: look-ups of the others are left out.
    kinds: u8,
    /// Whether any name is narrowed to a host.
    narrowed: bool,
    /// Segments of the deepest prefix: ancestors below it need no look-up, however deep a visitor's path is.
    deepest: u64,
    /// The newest record that named anything but a path of every host.
    widest: u64,
    names: usize,
    /// [`TABLES`] of them, or none as long as there is no name.
    newest_by_key: Vec<HashMap<u64, u64, BuildHasherDefault<AlreadyHashed>>>,
}

impl Names {
    fn len(&self) -> usize {
        self.names
    }

    /// Room for the newest record of this key; 0 at first.
    fn entry(&mut self, key: u64) -> &mut u64 {
        self.newest_by_key.resize_with(TABLES, HashMap::default);
        match self.newest_by_key[table_of(key)].entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                self.names += 1;
                unknown.insert(0)
            }
        }
    }

    /// Forgets all names where there are too many.
    fn bound(&mut self, sequence: Sequence) {
        if self.names > NAMES_MAX {
            let all = sequence.0.max(self.newest);
            *self = Names { all, newest: self.newest, widest: all, ..Names::default() };
        }
    }

    fn apply_part(&mut self, sequence: Sequence, record: &Record, part: Part<'_>) {
        self.newest = self.newest.max(sequence.0);
        let host = record.host.as_deref();
        match part {
            Part::Paths(targets) => {
                for Target { host, path } in targets {
                    self.note(sequence, Kind::Path, host.as_deref(), &path::path_id(path).0);
                }
            }
            Part::Prefixes(targets) => {
                for Target { host, path } in targets {
                    let identity = path::prefix_identity(path);
                    self.deepest = self.deepest.max(path::ancestors(&identity).count() as u64);
                    self.note(sequence, Kind::Prefix, host.as_deref(), &identity);
                }
            }
            Part::Tags(tags) => tags.iter().for_each(|tag| self.note(sequence, Kind::Tag, host, tag.as_bytes())),
            Part::Rest => match (record.all, host) {
                (true, None) => {
                    self.all = self.all.max(sequence.0);
                    self.widest = self.widest.max(self.all);
                }
                (true, Some(host)) => self.note(sequence, Kind::Host, Some(host), b""),
                (false, _) => {}
            },
        }
    }

    fn note(&mut self, sequence: Sequence, kind: Kind, host: Option<&str>, name: &[u8]) {
        self.kinds |= 1 << kind as u8;
        self.narrowed |= host.is_some();
        if host.is_some() || !matches!(kind, Kind::Path) {
            self.widest = self.widest.max(sequence.0);
        }
        let newest = self.entry(key(kind, host, name));
        *newest = (*newest).max(sequence.0);
    }

    fn newest_of(&self, subject: &Subject<'_>) -> u64 {
        if self.names == 0 {
            return self.all;
        }
        let mut newest = self.all.max(self.look(Kind::Path, Some(subject.host), &subject.path_id.0));
        newest = newest.max(self.look(Kind::Host, Some(subject.host), b""));
        for tag in subject.tags {
            newest = newest.max(self.look(Kind::Tag, Some(subject.host), tag.as_bytes()));
        }
        if self.has(Kind::Prefix) {
            let deepest = usize::try_from(self.deepest).unwrap_or(usize::MAX);
            for ancestor in path::ancestors(&path::identity(subject.path)).take(deepest) {
                newest = newest.max(self.look(Kind::Prefix, Some(subject.host), ancestor));
            }
        }
        newest
    }

    fn has(&self, kind: Kind) -> bool {
        self.kinds & (1 << kind as u8) != 0
    }

    /// The newest record that names it for every host or, if one is given, for that.
    fn look(&self, kind: Kind, host: Option<&str>, name: &[u8]) -> u64 {
        if !self.has(kind) {
            return 0;
        }
        let find = |host| {
            let key = key(kind, host, name);
            self.newest_by_key.get(table_of(key)).and_then(|table| table.get(&key)).copied().unwrap_or(0)
        };
        let any_host = find(None);
        if self.narrowed && host.is_some() { any_host.max(find(host)) } else { any_host }
    }

    /// What stands before `count` names.
    fn numbers(&self, count: usize) -> [u8; NUMBERS_BYTES] {
        let (kinds, narrowed) = (u64::from(self.kinds), u64::from(self.narrowed));
        let mut bytes = [0; NUMBERS_BYTES];
        let numbers = [self.all, self.newest, kinds, narrowed, self.deepest, count as u64];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn write_table(&self, table: usize, bytes: &mut Vec<u8>) {
        for (key, newest) in self.newest_by_key.get(table).into_iter().flatten() {
            bytes.extend_from_slice(&key.to_le_bytes());
            bytes.extend_from_slice(&newest.to_le_bytes());
        }
    }

    fn read(mut bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut names = Names {
            all: read_u64(&mut bytes)?,
            newest: read_u64(&mut bytes)?,
            kinds: u8::try_from(read_u64(&mut bytes)?).ok()?,
            narrowed: read_u64(&mut bytes)? != 0,
            deepest: read_u64(&mut bytes)?,
            ..Names::default()
        };
        if names.kinds & !KINDS != 0 {
            return None;
        }
        // A snapshot does not say it: if anything but paths was ever named, its newest record may have.
        let paths_only = names.kinds & !(1 << Kind::Path as u8) == 0 && !names.narrowed;
        names.widest = if paths_only { names.all } else { names.newest };
        let count = usize::try_from(read_u64(&mut bytes)?).ok()?;
        if count > bytes.len() / 16 {
            return None;
        }
        names.newest_by_key.resize_with(TABLES, HashMap::default);
        names.newest_by_key.iter_mut().for_each(|table| table.reserve(count / TABLES));
        for _ in 0..count {
            let key = read_u64(&mut bytes)?;
            *names.entry(key) = read_u64(&mut bytes)?;
        }
        Some((names, bytes))
    }
}

fn read_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

/// Stable across restarts and releases: snapshots hold these keys.
fn key(kind: Kind, host: Option<&str>, name: &[u8]) -> u64 {
    let mut sha1 = Sha1::new();
    sha1.update([kind as u8, u8::from(host.is_some())]);
    sha1.update(host.unwrap_or_default());
    sha1.update([0]);
    sha1.update(name);
    let digest: [u8; 20] = sha1.finalize().into();
    u64::from_le_bytes(*digest.first_chunk().expect("a sha1 has twenty bytes"))
}

/// By bits that the tables themselves do not use: they take the lowest and the highest seven.
fn table_of(key: u64) -> usize {
    (key >> 40) as usize % TABLES
}

/// The keys are hashes already.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}
