//! What is kept of a response, and its versioned stored form.
//!
//! A [`Page`] is immutable but for one number: the generation of the invalidation index at which it was last found valid.
//! This module never decides whether a page may be kept or served: that is `policy` and `invalidation`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};

use crate::clock::UnixMillis;

/// Forty hexadecimal digits, wherever it is shown or parsed.
macro_rules! hexadecimal {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = hex::FromHexError;

            fn from_str(digits: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; 20];
                hex::decode_to_slice(digits, &mut bytes)?;
                Ok($name(bytes))
            }
        }
    };
}

/// The number of an invalidation record in its journal: 1, 2, 3, ...; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a journal, made with its first record: a page that names another journal is never valid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct JournalId(pub Arc<str>);

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The sha1 of a path's identity (`policy::path`): the folder of its pages, and its key in the invalidation index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub [u8; 20]);

hexadecimal!(PathId);

/// The sha1 of all that selects one page: method, host, normalised path and variant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 20]);

hexadecimal!(Key);

/// Where a page lies in a store: `<sha1 of path>/<METHOD>-<sha1 of the variant>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The folder.
    pub path: PathId,
    /// The request's method, part of the file name.
    pub method: Method,
    /// The page's key.
    pub key: Key,
}

/// Everything about a page but its body.
#[derive(Clone, Debug, PartialEq)]
pub struct PageHead {
    /// The request's method.
    pub method: Method,
    /// The request's host, lower case, without a default port.
    pub host: Arc<str>,
    /// The normalised path.
    pub path: Arc<str>,
    /// The part of the query that belongs to the key, without `?`.
    pub query: Option<Arc<str>>,
    /// The response's status.
    pub status: StatusCode,
    /// End-to-end response fields, `ETag` and `Content-Length` included; as they are sent.
    pub headers: HeaderMap,
    /// When the response head arrived.
    pub stored_at: UnixMillis,
    /// `Age` of the response when it arrived, in seconds.
    pub age_seconds: u64,
    /// Seconds from `stored_at` for which the page is fresh; `None`: forever.
    pub fresh_seconds: Option<u64>,
    /// The newest invalidation that had been applied when the fetch began.
    pub as_of: Sequence,
    /// The journal that `as_of` counts in.
    pub journal: JournalId,
    /// Names by which groups of pages are invalidated, sorted, without repetitions.
    pub tags: Vec<Arc<str>>,
    /// Request fields that selected this variant (`Vary`), with their values; empty where the response does not vary.
    pub varied_by: Vec<(HeaderName, String)>,
}

impl PageHead {
    /// Seconds since the origin made the response (RFC 9111, section 4.2.3).
    #[must_use]
    pub fn age_at(&self, now: UnixMillis) -> u64 {
        now.seconds_since(self.stored_at).saturating_add(self.age_seconds)
    }
}

/// A page: head, body, and when it was last found valid.
#[derive(Debug)]
pub struct Page {
    /// Everything but the body.
    pub head: PageHead,
    /// The body as the origin encoded it, shared by all answers.
    pub body: Bytes,
    /// The folder of its path; also the path's key in the index.
    pub path_id: PathId,
    /// The index's generation at which the page was last found valid; 0: never looked.
    pub validated_to: AtomicU64,
}

/// A signpost in the place of a page: which request fields select the page to serve (RFC 9111, section 4.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Variants {
    /// Field names, sorted, lower case.
    pub fields: Vec<HeaderName>,
    /// Keys of the variants that were kept, oldest first; bounded by `cache.max_variants`.
    pub known: Vec<Key>,
    /// As in [`PageHead`]: whose signpost it is.
    pub host: Arc<str>,
    /// The normalised path.
    pub path: Arc<str>,
    /// As in [`PageHead`], of the variant kept last: lets housekeeping remove a signpost with its pages.
    pub as_of: Sequence,
    /// The journal that `as_of` counts in.
    pub journal: JournalId,
}
