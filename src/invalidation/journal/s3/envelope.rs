//! How does an object of the journal lie in the bucket? A line that says what follows, then JSON or the folded index.
//!
//! ```text
//! everpage/1 journal-head 812 5d0be1f2
//! {"journal":"...","sequence":42, ...}
//! ```
//!
//! The numbers are the bytes of what follows and their crc32. An object that was cut, edited or written by something else is not read.

use bytes::Bytes;

/// What every object begins with.
const MAGIC: &str = "everpage/";
/// The version of the form that is written, and the newest that is read.
const VERSION: u32 = 1;
/// Bytes that hold any first line.
const FIRST_LINE_MAX: usize = 96;

/// Why an object cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it was written by a newer version of everpage: {0} where this one reads up to {VERSION}")]
    Newer(u32),
    #[error("it is not there")]
    Absent,
    #[error("it is damaged, or not what everpage wrote")]
    Damaged,
    #[error("it is whole, and yet not understood ({0}): another version of everpage wrote it")]
    Unknown(String),
}

/// `content` with its first line.
pub(super) fn seal(kind: &str, content: &[u8]) -> Vec<u8> {
    let mut sealed =
        format!("{MAGIC}{VERSION} {kind} {} {:08x}\n", content.len(), crc32fast::hash(content)).into_bytes();
    sealed.extend_from_slice(content);
    sealed
}

/// The content of an object of this kind.
pub(super) fn open(kind: &str, sealed: &Bytes) -> Result<Bytes, Unreadable> {
    let start = &sealed[..sealed.len().min(FIRST_LINE_MAX)];
    let end = start.iter().position(|byte| *byte == b'\n').ok_or(Unreadable::Damaged)?;
    let line = std::str::from_utf8(&start[..end]).map_err(|_| Unreadable::Damaged)?;
    let mut words = line.strip_prefix(MAGIC).ok_or(Unreadable::Damaged)?.split(' ');
    let version: u32 = words.next().and_then(|word| word.parse().ok()).ok_or(Unreadable::Damaged)?;
    if version > VERSION {
        return Err(Unreadable::Newer(version));
    }
    if version < VERSION {
        return Err(Unreadable::Damaged);
    }
    let content = sealed.slice(end + 1..);
    let expected = format!("{kind} {} {:08x}", content.len(), crc32fast::hash(&content));
    if words.eq(expected.split(' ')) { Ok(content) } else { Err(Unreadable::Damaged) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_opened_and_nothing_else() {
        let sealed = Bytes::from(seal("journal-head", b"{}\n{}"));
        assert_eq!(&open("journal-head", &sealed).unwrap()[..], b"{}\n{}");
        assert_eq!(open("journal-records", &sealed), Err(Unreadable::Damaged));
        for cut in 0..sealed.len() {
            assert_eq!(open("journal-head", &sealed.slice(..cut)), Err(Unreadable::Damaged), "cut to {cut}");
        }
        for place in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[place] ^= 1;
            assert!(open("journal-head", &changed.into()).is_err(), "changed at {place}");
        }
        let newer = Bytes::from_static(b"everpage/2 journal-head who knows\n");
        assert_eq!(open("journal-head", &newer), Err(Unreadable::Newer(2)));
    }
}
