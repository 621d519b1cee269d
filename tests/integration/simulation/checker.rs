//! Was the promise kept? Keeps the history that matters and compares each answer with it.
//!
//! Time is a count of events, so that before and after are never in doubt. When an invalidation has been answered it raises the floor of every page that it
//! names: a request that starts afterwards must get a page that the app began to render after the invalidation was made, hence of at least the version of
//! that moment. Soft invalidations promise nothing.

use std::collections::BTreeMap;

use everpage::invalidation::selector::Record;

use super::site::{HOSTS, PATHS, Place, Rendering};

/// The least that may be served of a page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floor {
    /// The rendering began after this.
    pub made: u64,
    /// It is of this version or a newer one.
    pub version: u64,
}

impl Floor {
    fn raise(&mut self, other: Floor) {
        self.made = self.made.max(other.made);
        self.version = self.version.max(other.version);
    }
}

pub type Floors = [[Floor; PATHS.len()]; HOSTS.len()];

#[derive(Default)]
pub struct Checker {
    /// What the app's database holds.
    pub versions: [u64; PATHS.len()],
    durable: Floors,
    /// Of changes that went through although their invalidation could not be made durable: a crash forgets them.
    volatile: Floors,
    pub renderings: Vec<Rendering>,
    pub violations: Vec<String>,
}

/// A request under way.
#[derive(Clone, Debug)]
pub struct Asked {
    pub visitor: u64,
    pub place: Place,
    /// What it says in `x-variant`; empty: nothing.
    pub variant: String,
    floor: Floor,
}

impl Asked {
    /// The node that is asked has promised this beyond what all have.
    pub fn raise(&mut self, floors: &Floors) {
        self.floor.raise(floors[self.place.host][self.place.path]);
    }

    /// Does the promise say anything about it?
    pub fn is_after_invalidation(&self) -> bool {
        self.floor.made > 0
    }
}

impl Checker {
    /// A request starts.
    pub fn ask(&self, visitor: u64, place: Place, variant: String) -> Asked {
        let floor = self.floor(&place);
        Asked { visitor, place, variant, floor }
    }

    pub fn floor(&self, place: &Place) -> Floor {
        let mut floor = self.durable[place.host][place.path];
        floor.raise(self.volatile[place.host][place.path]);
        floor
    }

    /// What an invalidation that is made now promises once it is answered.
    pub fn promise(&self, record: &Record, now: u64) -> Floors {
        let mut floors = Floors::default();
        for (host, row) in floors.iter_mut().enumerate() {
            for (path, floor) in row.iter_mut().enumerate() {
                if !record.soft && names(record, host, path) {
                    *floor = Floor { made: now, version: self.versions[path] };
                }
            }
        }
        floors
    }

    /// What an answered POST to a path promises, on every host.
    pub fn promise_of_post(path: usize, saved: Floor) -> Floors {
        let mut floors = Floors::default();
        floors.iter_mut().for_each(|row| row[path] = saved);
        floors
    }

    /// An invalidation has been answered.
    pub fn answered(&mut self, floors: &Floors, durable: bool) {
        raise(if durable { &mut self.durable } else { &mut self.volatile }, floors);
    }

    /// The process is gone, and what only it knew.
    pub fn crash(&mut self) {
        self.volatile = Floors::default();
    }

    /// Whether some change has no answered invalidation yet.
    pub fn is_outdated(&self, path: usize) -> bool {
        (0..HOSTS.len()).any(|host| self.durable[host][path].version < self.versions[path])
    }

    /// The head of an answer that a rendering is in.
    pub fn head(&mut self, asked: &Asked, number: usize) {
        let Some(rendering) = self.renderings.get_mut(number) else {
            return self.violations.push(format!("visitor {}: no rendering has number {number}", asked.visitor));
        };
        rendering.seen += 1;
        let mut complaints = Vec::new();
        if rendering.version < asked.floor.version {
            complaints
                .push(format!("STALE: version {} after {} was invalidated", rendering.version, asked.floor.version));
        }
        if rendering.began <= asked.floor.made {
            let Floor { made, .. } = asked.floor;
            complaints.push(format!("STALE: begun at {}, invalidated at {made}", rendering.began));
        }
        if rendering.place != asked.place {
            complaints.push(format!("asked for {:?}, got {:?}", asked.place, rendering.place));
        }
        if rendering.variant.as_ref().is_some_and(|variant| *variant != asked.variant) {
            complaints.push(format!("asked for variant {:?}, got {:?}", asked.variant, rendering.variant));
        }
        if !rendering.shareable && rendering.seen > 1 {
            complaints.push("got what was made for another visitor".to_owned());
        }
        let visitor = asked.visitor;
        self.violations
            .extend(complaints.into_iter().map(|text| format!("visitor {visitor}, rendering {number}: {text}")));
    }

    /// A body that came to its proper end.
    pub fn body(&mut self, asked: &Asked, number: usize, body: &[u8]) {
        let expected = self.renderings[number].body();
        if expected.as_bytes() != body {
            let body = String::from_utf8_lossy(body);
            self.violations.push(format!("visitor {}: not the body of rendering {number}: {body:?}", asked.visitor));
        }
    }

    /// Content-Length of an answer without its body.
    pub fn length(&mut self, asked: &Asked, number: usize, announced: u64) {
        let length = self.renderings[number].body().len() as u64;
        if announced != length {
            let visitor = asked.visitor;
            self.violations
                .push(format!("visitor {visitor}: announced {announced} of {length} bytes of rendering {number}"));
        }
    }

    pub fn complain(&mut self, text: String) {
        self.violations.push(text);
    }
}

pub fn raise(raised: &mut Floors, floors: &Floors) {
    for (row, new) in raised.iter_mut().zip(floors) {
        row.iter_mut().zip(new).for_each(|(floor, new)| floor.raise(*new));
    }
}

fn names(record: &Record, host: usize, path: usize) -> bool {
    let (name, tags, _) = PATHS[path];
    let is_here =
        |narrowed: &Option<std::sync::Arc<str>>| narrowed.as_deref().is_none_or(|narrowed| narrowed == HOSTS[host]);
    let below = |prefix: &str| {
        prefix == "/" || name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    record.paths.iter().any(|target| is_here(&target.host) && *target.path == *name)
        || record.prefixes.iter().any(|target| is_here(&target.host) && below(&target.path))
        || is_here(&record.host) && (record.all || record.tags.iter().any(|tag| tags.contains(&&**tag)))
}

/// How often each interesting thing happened.
#[derive(Clone, Debug, Default)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

impl Counts {
    pub fn count(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    pub fn add(&mut self, other: &Counts) {
        other.0.iter().for_each(|(what, times)| self.count(what, *times));
    }
}
