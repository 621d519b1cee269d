//! What is kept of a response, and its versioned stored form.
//!
//! A [`Page`] is immutable but for one number: the generation of the invalidation index at which it was last found valid.
//! [`stored`] is the form in which pages lie in a store. This module never decides whether a page may be kept or served:
//! that is `policy` and `invalidation`.

pub mod block;
pub mod fields;
pub mod large;
pub mod shared;
pub mod stored;

use std::any::Any;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode};
use parking_lot::Mutex;

use self::fields::ResponseFields;
use self::large::LargePage;
use crate::clock::UnixMillis;

/// Serialised as it is shown: a string.
macro_rules! as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

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

        impl FromStr for $name {
            type Err = hex::FromHexError;

            fn from_str(digits: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; 20];
                hex::decode_to_slice(digits, &mut bytes)?;
                Ok($name(bytes))
            }
        }

        as_text!($name);
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

/// Where a page lies in a store, shown and parsed as `<sha1 of path>/<METHOD>-<sha1 of the variant>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The folder.
    pub path: PathId,
    /// The request's method, part of the file name.
    pub method: Method,
    /// The page's key.
    pub key: Key,
}

/// The methods that can be part of a name. A closed list, so that no name can lead out of its store.
pub static METHODS: [Method; 9] = [
    Method::CONNECT,
    Method::DELETE,
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::POST,
    Method::PUT,
    Method::TRACE,
];

impl ObjectName {
    /// The name of a file `<METHOD>-<sha1 of the variant>` in the folder of a path; `None`: it is no such file's name.
    #[must_use]
    pub fn in_folder(path: PathId, file: &str) -> Option<Self> {
        let (method, digits) = file.split_once('-')?;
        let method = METHODS.iter().find(|known| known.as_str() == method)?.clone();
        Some(ObjectName { path, method, key: canonical(digits)? })
    }

    /// The last part: `<METHOD>-<sha1 of the variant>`.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}-{}", self.method, self.key)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.path, self.method, self.key)
    }
}

impl FromStr for ObjectName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let (folder, file) = text.split_once('/').ok_or(NotAName)?;
        ObjectName::in_folder(canonical(folder).ok_or(NotAName)?, file).ok_or(NotAName)
    }
}

as_text!(ObjectName);

/// Digits in the one spelling that names are written in: lower case.
pub(crate) fn canonical<T: FromStr + fmt::Display>(digits: &str) -> Option<T> {
    digits.parse::<T>().ok().filter(|parsed| parsed.to_string() == digits)
}

/// The text is no [`ObjectName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a page: expected <sha1 of path>/<METHOD>-<sha1 of the variant>, in lower-case digits")]
pub struct NotAName;

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
    pub headers: ResponseFields,
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
    /// Bytes it takes in memory, nearly.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let fields = self.headers.lines().len() + ALLOCATION_BYTES;
        // Its host and its journal are shared with other pages.
        let tags: usize = self.tags.iter().map(|tag| size_of_val(tag) + tag.len() + ALLOCATION_BYTES).sum();
        let varied: usize = self
            .varied_by
            .iter()
            .map(|by| size_of_val(by) + by.0.as_str().len() + by.1.len() + 2 * ALLOCATION_BYTES)
            .sum();
        let named = [Some(&self.path), self.query.as_ref()].into_iter().flatten();
        let names: usize = named.map(|name| name.len() + ALLOCATION_BYTES).sum();
        (fields + tags + varied + names) as u64
    }

    /// Seconds since the origin made the response (RFC 9111, section 4.2.3).
    #[must_use]
    pub fn age_at(&self, now: UnixMillis) -> u64 {
        now.seconds_since(self.stored_at).saturating_add(self.age_seconds)
    }
}

/// What an allocation takes beside what is in it: the allocator's own, what it rounds up, and the counters of what is shared.
const ALLOCATION_BYTES: usize = 32;

/// Seldom there, so in as few bytes as can be.
type Share = Box<dyn Any + Send>;

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
    /// What must live as long as this copy: its share of a bound on memory.
    held: Mutex<Option<Box<Share>>>,
}

impl Page {
    /// Lets `share` live until this copy is gone or released.
    pub fn hold(&self, share: impl Any + Send) {
        *self.held.lock() = Some(Box::new(Box::new(share)));
    }

    /// Gives up what is held: this copy is counted elsewhere now.
    pub fn release(&self) {
        self.held.lock().take();
    }

    /// Bytes it takes in memory, nearly; never changes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.head.memory_bytes() + block::taken(self.body.len() as u64) + (size_of::<Page>() + ALLOCATION_BYTES) as u64
    }

    /// A page that has not been looked up in the index yet.
    #[must_use]
    pub fn new(head: PageHead, body: Bytes, path_id: PathId) -> Self {
        Page { head, body, path_id, validated_to: AtomicU64::new(0), held: Mutex::new(None) }
    }
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

/// What lies under a name.
#[derive(Clone, Debug)]
pub enum Object {
    /// A page.
    Page(Arc<Page>),
    /// A page whose body is too large for memory.
    Large(Arc<LargePage>),
    /// A signpost: the pages of this name differ by request fields (`Vary`).
    Variants(Arc<Variants>),
}

impl Object {
    /// The page's head and the bytes of its body; `None`: it is a signpost.
    #[must_use]
    pub fn page(&self) -> Option<(&PageHead, u64)> {
        match self {
            Object::Page(page) => Some((&page.head, page.body.len() as u64)),
            Object::Large(page) => Some((&page.head, page.body.bytes())),
            Object::Variants(_) => None,
        }
    }

    /// Bytes it takes in memory, nearly: for tiers that are bounded by bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        match self {
            Object::Page(page) => page.memory_bytes(),
            Object::Large(page) => page.head.memory_bytes() + (size_of::<LargePage>() + ALLOCATION_BYTES) as u64,
            Object::Variants(variants) => {
                let fields: usize = variants.fields.iter().map(|field| field.as_str().len() + ALLOCATION_BYTES).sum();
                let known = variants.known.len() * size_of::<Key>();
                let names = variants.host.len() + variants.path.len();
                (size_of::<Variants>() + fields + known + names + ALLOCATION_BYTES) as u64
            }
        }
    }

    /// Whether a page may lie under the name: it is of that path and method.
    #[must_use]
    pub fn belongs_under(&self, name: &ObjectName) -> bool {
        match self {
            Object::Page(page) => page.path_id == name.path && page.head.method == name.method,
            Object::Large(page) => page.path_id == name.path && page.head.method == name.method,
            Object::Variants(_) => true,
        }
    }

    /// The normalised path, for messages.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Object::Page(page) => &page.head.path,
            Object::Large(page) => &page.head.path,
            Object::Variants(variants) => &variants.path,
        }
    }

    /// Whether no invalidation of its path up to `before` can leave it valid: it is older, or of another journal.
    #[must_use]
    pub fn is_older(&self, journal: &JournalId, before: Sequence) -> bool {
        match self {
            Object::Page(page) => is_older(&page.head.journal, page.head.as_of, journal, before),
            Object::Large(page) => is_older(&page.head.journal, page.head.as_of, journal, before),
            Object::Variants(variants) => is_older(&variants.journal, variants.as_of, journal, before),
        }
    }
}

/// See [`Object::is_older`].
fn is_older(own: &JournalId, as_of: Sequence, journal: &JournalId, before: Sequence) -> bool {
    own != journal || as_of < before
}
