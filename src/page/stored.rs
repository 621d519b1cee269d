//! How does an object lie in a store? A line that says what follows, the head as JSON, the body as it is.
//!
//! ```text
//! everpage/1 page 412 8d3f0c11 5120 77e1a2b4
//! {"name":"<sha1 of path>/GET-<sha1 of the variant>","host":"shop.example","path":"/blog/","status":200, ...}
//! <5120 bytes of body>
//! ```
//!
//! The numbers of the first line are the bytes and the crc32 of the head, then those of the body; a line feed follows the
//! head. Every byte is covered: by a checksum, or because the line has one spelling only. Decoding trusts nothing and
//! bounds every length before it allocates; it copies no large body. It never judges whether a page is still valid.
//!
//! A body that is compressed where it lies ([`at_rest`]) has a kind of its own, `page+zstd` or `page+gzip`; the first line counts
//! and checks the bytes that lie there.

pub mod at_rest;
mod json;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use self::at_rest::{AtRest, Coding, MAX_DECODED_BYTES};
use self::json::{StoredPage, StoredVariants, to_json};
use super::large::LargePage;
use super::{JournalId, Object, ObjectName, Page, PageHead, Sequence, Variants, block, is_older};

/// What every stored object begins with.
const MAGIC: &str = "everpage/";

/// The version of the form that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Bytes that are enough for any first line.
pub const MAX_FIRST_LINE_BYTES: usize = 96;

/// Bytes of the largest head: ten times what hyper accepts as a response head.
pub const MAX_HEAD_BYTES: u64 = 4 << 20;

/// Bytes of the largest body: of the largest object in S3.
pub const MAX_BODY_BYTES: u64 = 5 << 40;

/// A body is a slice of what was read only if the head before it, which stays in memory with it then, is less than this part of it.
const SLICE_PART: usize = 16;

/// A body that gets memory of its own ([`block`]) is copied there; not from this size on, when the copy takes longer than it is worth.
const SLICE_BYTES: usize = 1 << 20;

/// An object in its stored form: `head` and `body`, one after the other.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The first line, the head and a line feed.
    pub head: Bytes,
    /// The page's body, shared with the page unless it is compressed.
    pub body: Bytes,
}

impl Encoded {
    /// Bytes of both.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        (self.head.len() + self.body.len()) as u64
    }
}

/// An object without its body.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// A page.
    Page(PageHead),
    /// A signpost.
    Variants(Variants),
}

impl Head {
    /// As [`Object::is_older`].
    #[must_use]
    pub fn is_older(&self, journal: &JournalId, before: Sequence) -> bool {
        match self {
            Head::Page(head) => is_older(&head.journal, head.as_of, journal, before),
            Head::Variants(variants) => is_older(&variants.journal, variants.as_of, journal, before),
        }
    }
}

/// Why an object has no stored form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The page is of another path or method than its name.
    #[error("the page belongs under another name")]
    Misplaced,
    /// The method is not one of [`METHODS`](super::METHODS).
    #[error("the method cannot be part of a name")]
    Method,
    /// More than [`MAX_HEAD_BYTES`].
    #[error("its head takes more than {MAX_HEAD_BYTES} bytes")]
    HeadTooLarge,
    /// More than [`MAX_BODY_BYTES`].
    #[error("its body takes more than {MAX_BODY_BYTES} bytes")]
    BodyTooLarge,
    /// The body is not in memory: [`encode_large`].
    #[error("its body lies elsewhere")]
    NotInMemory,
}

/// Why bytes are not the object that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing that everpage wrote.
    #[error("foreign: not written by everpage")]
    Foreign,
    /// Written by a newer everpage.
    #[error("written in version {0} of the stored form, which is newer than this program's {VERSION}")]
    Newer(u32),
    /// It ends within its first line, or holds zeros only, as files do after a power loss.
    #[error("torn: it ends before its first line does")]
    Unfinished,
    /// Shorter or longer than its first line says.
    #[error("torn: {found} bytes where its first line says {declared}")]
    Torn {
        /// What the first line says.
        declared: u64,
        /// What there is.
        found: u64,
    },
    /// The first line cannot be read.
    #[error("damaged: its first line is malformed")]
    FirstLine,
    /// The head has another checksum.
    #[error("damaged: the checksum of its head is wrong")]
    HeadChecksum,
    /// The body has another checksum.
    #[error("damaged: the checksum of its body is wrong")]
    BodyChecksum,
    /// The body is what was written, yet cannot be decompressed to what the head announces.
    #[error("damaged: its body cannot be decompressed: {0}")]
    Compressed(String),
    /// The head is whole, yet no head.
    #[error("damaged: its head is malformed: {0}")]
    Head(String),
    /// Whole, but it belongs under another name.
    #[error("misplaced: it belongs under the name {0}")]
    Misplaced(ObjectName),
}

impl DecodeError {
    /// Whether it is of no use to anyone: this program's own, and broken or misplaced. The others must be left alone.
    #[must_use]
    pub fn is_worthless(&self) -> bool {
        !matches!(self, DecodeError::Foreign | DecodeError::Newer(_))
    }
}

/// The stored form of an object in memory; the body is not copied.
///
/// # Errors
/// It has none: wrong name, too large, or not in memory.
pub fn encode(name: &ObjectName, object: &Object) -> Result<Encoded, EncodeError> {
    encode_at_rest(name, object, &AtRest::default())
}

/// As [`encode`], with the body compressed where `at_rest` wants it.
///
/// # Errors
/// As [`encode`].
pub fn encode_at_rest(name: &ObjectName, object: &Object, at_rest: &AtRest) -> Result<Encoded, EncodeError> {
    check_name(name, object.belongs_under(name))?;
    let (kind, json, body) = match object {
        Object::Page(page) => {
            let mut json = StoredPage::new(name, &page.head);
            let compressed = at_rest.compress(&page.head, &page.body);
            json.decoded_bytes = compressed.as_ref().map(|_| page.body.len() as u64);
            let (kind, body) = match compressed {
                Some((coding, body)) => (Kind::Compressed(coding), body),
                None => (Kind::Page, page.body.clone()),
            };
            (kind, to_json(&json), body)
        }
        Object::Variants(variants) => (Kind::Variants, to_json(&StoredVariants::new(name, variants)), Bytes::new()),
        Object::Large(_) => return Err(EncodeError::NotInMemory),
    };
    let body_crc = crc32fast::hash(&body);
    Ok(Encoded { head: encode_head(kind, &json, body.len() as u64, body_crc)?, body })
}

/// What comes before the body of a large page in its stored form.
///
/// # Errors
/// It has none: wrong name, or too large.
pub fn encode_large(name: &ObjectName, page: &LargePage) -> Result<Bytes, EncodeError> {
    check_name(name, page.path_id == name.path && page.head.method == name.method)?;
    encode_head(Kind::Page, &to_json(&StoredPage::new(name, &page.head)), page.body.bytes(), page.body_crc)
}

fn check_name(name: &ObjectName, belongs_there: bool) -> Result<(), EncodeError> {
    match (super::METHODS.contains(&name.method), belongs_there) {
        (false, _) => Err(EncodeError::Method),
        (true, false) => Err(EncodeError::Misplaced),
        (true, true) => Ok(()),
    }
}

/// The first line, the head and a line feed.
fn encode_head(kind: Kind, json: &[u8], body_bytes: u64, body_crc: u32) -> Result<Bytes, EncodeError> {
    let head_bytes = json.len() as u64;
    if head_bytes > MAX_HEAD_BYTES {
        return Err(EncodeError::HeadTooLarge);
    }
    if body_bytes > MAX_BODY_BYTES {
        return Err(EncodeError::BodyTooLarge);
    }
    let head_crc = crc32fast::hash(json);
    let mut head = FirstLine { kind, head_bytes, head_crc, body_bytes, body_crc }.to_string().into_bytes();
    head.extend_from_slice(json);
    head.push(b'\n');
    Ok(head.into())
}

/// The object of this name; a large body is a slice of `stored`, unless it was compressed; others are copied to where they can stay.
///
/// # Errors
/// `stored` is not exactly that object.
pub fn decode(name: &ObjectName, stored: &Bytes) -> Result<Object, DecodeError> {
    let line = FirstLine::parse(stored)?;
    line.check_length(stored.len() as u64)?;
    let body = stored.slice(line.head_end()..);
    let is_copied = line.head_end() > body.len() / SLICE_PART || is_moved(&body);
    line.object(name, stored, body, is_copied)
}

/// As [`decode`], of a body that lies where it can stay: it is not copied. `start` must end with the head.
///
/// # Errors
/// They are not exactly that object.
pub fn decode_parts(name: &ObjectName, start: &[u8], body: Bytes) -> Result<Object, DecodeError> {
    let line = FirstLine::parse(start)?;
    line.check_length((start.len() + body.len()) as u64)?;
    line.object(name, start, body, false)
}

/// Whether it is copied into memory of its own.
fn is_moved(body: &[u8]) -> bool {
    block::is_own(body.len()) && body.len() < SLICE_BYTES
}

/// The head alone, and the bytes of the body, which are those that follow unless it was compressed. `start` must reach to the end of the head
/// ([`FirstLine::head_end`]); nothing is said about the body.
///
/// # Errors
/// `start` does not begin with the whole head of that object.
pub fn decode_head(name: &ObjectName, start: &[u8]) -> Result<(Head, u64), DecodeError> {
    FirstLine::parse(start)?.head(name, start)
}

/// The first line: how much follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstLine {
    kind: Kind,
    head_bytes: u64,
    head_crc: u32,
    body_bytes: u64,
    body_crc: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Page,
    Compressed(Coding),
    Variants,
}

impl FirstLine {
    /// Reads it from the start of an object, of which [`MAX_FIRST_LINE_BYTES`] are enough.
    ///
    /// # Errors
    /// There is none, or it declares more than the bounds.
    pub fn parse(start: &[u8]) -> Result<Self, DecodeError> {
        let start = &start[..start.len().min(MAX_FIRST_LINE_BYTES)];
        if !start.starts_with(MAGIC.as_bytes()) {
            let unfinished = MAGIC.as_bytes().starts_with(start) || start.iter().all(|byte| *byte == 0);
            return Err(if unfinished { DecodeError::Unfinished } else { DecodeError::Foreign });
        }
        // The version comes first: what a newer form looks like after it is not known here.
        let mut words = start[MAGIC.len()..].split(|byte| byte.is_ascii_whitespace());
        let version = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse::<u32>().ok());
        if let Some(version) = version.filter(|version| *version > VERSION) {
            return Err(DecodeError::Newer(version));
        }
        let Some(end) = start.iter().position(|byte| *byte == b'\n') else {
            let cut = start.len() < MAX_FIRST_LINE_BYTES;
            return Err(if cut { DecodeError::Unfinished } else { DecodeError::FirstLine });
        };
        let text = std::str::from_utf8(&start[..=end]).map_err(|_| DecodeError::FirstLine)?;
        let words = text[MAGIC.len()..].split_ascii_whitespace().skip(1);
        let line = FirstLine::parse_fields(words).ok_or(DecodeError::FirstLine)?;
        // Only the one spelling counts: no leading zeros, signs or capitals.
        if line.to_string() == text { Ok(line) } else { Err(DecodeError::FirstLine) }
    }

    fn parse_fields<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let kind = match words.next()? {
            "page" => Kind::Page,
            "page+zstd" => Kind::Compressed(Coding::Zstd),
            "page+gzip" => Kind::Compressed(Coding::Gzip),
            "variants" => Kind::Variants,
            _ => return None,
        };
        let head_bytes = words.next()?.parse().ok().filter(|bytes| *bytes <= MAX_HEAD_BYTES)?;
        let head_crc = u32::from_str_radix(words.next()?, 16).ok()?;
        let body_bytes = words.next()?.parse().ok().filter(|bytes| *bytes <= MAX_BODY_BYTES)?;
        let body_crc = u32::from_str_radix(words.next()?, 16).ok()?;
        (kind != Kind::Variants || body_bytes == 0).then_some(FirstLine {
            kind,
            head_bytes,
            head_crc,
            body_bytes,
            body_crc,
        })
    }

    /// Where the head begins.
    fn line_bytes(&self) -> usize {
        self.to_string().len()
    }

    /// Where the head ends and the body begins.
    #[must_use]
    pub fn head_end(&self) -> usize {
        self.line_bytes() + usize::try_from(self.head_bytes).expect("bounded by MAX_HEAD_BYTES") + 1
    }

    /// Bytes of the body.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// crc32 of the body.
    #[must_use]
    pub fn body_crc(&self) -> u32 {
        self.body_crc
    }

    /// Bytes of the whole object.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.head_end() as u64 + self.body_bytes
    }

    /// Whether an object of `found` bytes is whole.
    ///
    /// # Errors
    /// [`DecodeError::Torn`].
    pub fn check_length(&self, found: u64) -> Result<(), DecodeError> {
        let declared = self.total_bytes();
        if declared == found { Ok(()) } else { Err(DecodeError::Torn { declared, found }) }
    }

    /// Whether the body is compressed where it lies: then ranges of it cannot be read.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        matches!(self.kind, Kind::Compressed(_))
    }

    /// The object that begins with `start`, and whose body lies as `body`; that is copied to where it can stay if `is_copied`.
    fn object(&self, name: &ObjectName, start: &[u8], mut body: Bytes, is_copied: bool) -> Result<Object, DecodeError> {
        let (head, decoded_bytes) = self.head(name, start)?;
        if crc32fast::hash(&body) != self.body_crc {
            return Err(DecodeError::BodyChecksum);
        }
        if let Kind::Compressed(coding) = self.kind {
            let decoded = coding.decompress(&body, decoded_bytes);
            body = decoded.map_err(|error| DecodeError::Compressed(error.to_string()))?;
            if is_moved(&body) {
                body = block::copy(&body);
            }
        } else if is_copied {
            body = block::copy(&body);
        }
        Ok(match head {
            Head::Page(head) => Object::Page(Arc::new(Page::new(head, body, name.path))),
            Head::Variants(variants) => Object::Variants(Arc::new(variants)),
        })
    }

    /// The head that follows this line in `start`, and the bytes of the body.
    fn head(&self, name: &ObjectName, start: &[u8]) -> Result<(Head, u64), DecodeError> {
        let end = self.head_end();
        let (Some(json), Some(b'\n')) = (start.get(self.line_bytes()..end - 1), start.get(end - 1)) else {
            return Err(match start.len() < end {
                true => DecodeError::Torn { declared: self.total_bytes(), found: start.len() as u64 },
                false => DecodeError::Head("no line feed after it".to_owned()),
            });
        };
        if crc32fast::hash(json) != self.head_crc {
            return Err(DecodeError::HeadChecksum);
        }
        let malformed = |error: &dyn fmt::Display| DecodeError::Head(error.to_string());
        let mut body_bytes = self.body_bytes;
        let (found, head) = match self.kind {
            Kind::Page | Kind::Compressed(_) => {
                let page = serde_json::from_slice::<StoredPage>(json).map_err(|e| malformed(&e))?;
                if page.decoded_bytes.is_some() != self.is_compressed() {
                    return Err(malformed(&"decoded_bytes goes with compressed bodies alone"));
                }
                body_bytes = page.decoded_bytes.unwrap_or(body_bytes);
                if self.is_compressed() && body_bytes > MAX_DECODED_BYTES {
                    return Err(malformed(&"its body takes more than anything that is compressed"));
                }
                page.into_head()
            }
            Kind::Variants => serde_json::from_slice::<StoredVariants>(json).map_err(|e| malformed(&e))?.into_head(),
        }
        .map_err(|e| malformed(&e))?;
        if found == *name { Ok((head, body_bytes)) } else { Err(DecodeError::Misplaced(found)) }
    }
}

impl fmt::Display for FirstLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FirstLine { head_bytes, head_crc, body_bytes, body_crc, .. } = self;
        let kind = match self.kind {
            Kind::Page => "page",
            Kind::Compressed(Coding::Zstd) => "page+zstd",
            Kind::Compressed(Coding::Gzip) => "page+gzip",
            Kind::Variants => "variants",
        };
        writeln!(f, "{MAGIC}{VERSION} {kind} {head_bytes} {head_crc:08x} {body_bytes} {body_crc:08x}")
    }
}

#[cfg(test)]
mod tests;
