//! What does an invalidation name? Records, as the journal keeps them and the index applies them.
//!
//! Pure: it never looks at what is stored and never applies anything. What clients send is read in `body`.

use std::sync::Arc;

use crate::clock::UnixMillis;

/// A path or prefix, of one host or of all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Lower case, without a default port; `None`: every host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Arc<str>>,
    /// Normalised, without query and fragment.
    pub path: Arc<str>,
}

/// One invalidation, as the journal keeps it. Each list is without repetitions, in the order of the request.
///
/// A field that is not known makes a record unreadable: it may name pages that would be missed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When it was made.
    pub at: UnixMillis,
    /// Chosen by the client, for safe retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Arc<str>>,
    /// Pages by their path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<Target>,
    /// Pages at and below a path, by segments: `/blog` stands for `/blog`, `/blog/` and all below. Without a slash at the end, but
    /// for `/`, which is every path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<Target>,
    /// Pages that carry a tag (of `host`, if that is given).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Arc<str>>,
    /// Every page (of `host`, if that is given).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Narrows `tags` and `all` to one host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Arc<str>>,
    /// The old page may be served until the new one has been fetched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
    /// In the caller's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

/// Some of a record's names: what is applied at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Some of its paths.
    Paths(&'a [Target]),
    /// Some of its prefixes.
    Prefixes(&'a [Target]),
    /// Some of its tags.
    Tags(&'a [Arc<str>]),
    /// What is not a list. The last part, whatever the record names.
    Rest,
}

impl Part<'_> {
    /// How many names.
    #[must_use]
    pub fn names(&self) -> usize {
        match self {
            Part::Paths(targets) | Part::Prefixes(targets) => targets.len(),
            Part::Tags(tags) => tags.len(),
            Part::Rest => 1,
        }
    }
}

impl Record {
    /// The whole record in parts of at most so many names.
    pub fn parts(&self, names: usize) -> impl Iterator<Item = Part<'_>> {
        let paths = self.paths.chunks(names).map(Part::Paths);
        let prefixes = self.prefixes.chunks(names).map(Part::Prefixes);
        let tags = self.tags.chunks(names).map(Part::Tags);
        paths.chain(prefixes).chain(tags).chain([Part::Rest])
    }

    /// How many paths, prefixes and tags it names.
    #[must_use]
    pub fn names(&self) -> usize {
        self.paths.len() + self.prefixes.len() + self.tags.len()
    }

    /// About how many bytes it takes in the journal.
    #[must_use]
    pub fn bytes(&self) -> usize {
        /// Braces, names of fields, the time.
        const AROUND: usize = 32;
        let host = |host: &Option<Arc<str>>| host.as_ref().map_or(0, |host| host.len() + AROUND);
        let targets = self.paths.iter().chain(&self.prefixes);
        let targets: usize = targets.map(|target| target.path.len() + host(&target.host) + AROUND).sum();
        let tags: usize = self.tags.iter().map(|tag| tag.len() + AROUND).sum();
        AROUND + targets + tags + host(&self.id) + host(&self.host) + host(&self.reason)
    }

    /// Names no page at all: nothing would change by it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names() == 0 && !self.all
    }
}
