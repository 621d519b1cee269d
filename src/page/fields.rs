//! The response fields of a page, as they are sent: lines of text in one block.
//!
//! A map of fields takes four times the memory, and would have to be written out for every answer. What differs from answer to answer, `Age` and our
//! line of `Cache-Status`, is never part of it.

use std::fmt;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What a 304 does not carry: it has no body to describe (RFC 9110, section 15.4.5).
pub const OF_BODY: [HeaderName; 5] = [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, ACCEPT_RANGES];

/// Between a name and its value.
const COLON: &[u8] = b": ";
/// After a value.
const LINE_END: &[u8] = b"\r\n";

/// Lines `name: value`, each with CR LF, names in lower case; those that describe a body come last, so that a 304's fields are the beginning.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ResponseFields {
    lines: Box<[u8]>,
    /// Where the fields begin that describe a body.
    of_body: u32,
}

impl ResponseFields {
    /// All lines.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The lines that a 304 carries.
    #[must_use]
    pub fn lines_without_body(&self) -> &[u8] {
        &self.lines[..self.of_body as usize]
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        each(&self.lines).map(|(name, value)| (std::str::from_utf8(name).expect("a field's name is ASCII"), value))
    }

    /// The value of the first line with this name.
    #[must_use]
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        let name = name.as_str().as_bytes();
        lines(&self.lines).find_map(|line| line.strip_prefix(name)?.strip_prefix(COLON))
    }

    /// As [`get`](Self::get), where the value is text.
    #[must_use]
    pub fn text(&self, name: &HeaderName) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// The same as a map, with room for two fields more.
    #[must_use]
    pub fn to_map(&self) -> HeaderMap {
        let bytes = Bytes::copy_from_slice(&self.lines);
        let mut map = HeaderMap::with_capacity(self.iter().count() + 2);
        for (name, value) in each(&bytes) {
            let name = HeaderName::from_bytes(name).expect("it was a name");
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value)).expect("it was a value");
            map.append(name, value);
        }
        map
    }
}

/// Lines without their ends.
fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut begin = 0;
    memchr::memchr_iter(b'\n', block).map(move |end| {
        let line = &block[begin..=end - LINE_END.len()];
        begin = end + 1;
        line
    })
}

/// Names and values.
fn each(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(block).filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], &line[colon + COLON.len()..]))
    })
}

impl From<&HeaderMap> for ResponseFields {
    fn from(map: &HeaderMap) -> Self {
        let is_kept = |(name, _): &(&HeaderName, &HeaderValue)| *name != AGE;
        let is_of_body = |(name, _): &(&HeaderName, &HeaderValue)| OF_BODY.contains(name);
        let bytes = map.iter().map(|(name, value)| name.as_str().len() + COLON.len() + value.len() + LINE_END.len());
        let mut lines = Vec::with_capacity(bytes.sum());
        let mut write = |(name, value): (&HeaderName, &HeaderValue)| {
            for part in [name.as_str().as_bytes(), COLON, value.as_bytes(), LINE_END] {
                lines.extend_from_slice(part);
            }
            lines.len()
        };
        let of_body = map.iter().filter(is_kept).filter(|field| !is_of_body(field)).map(&mut write).last().unwrap_or(0);
        map.iter().filter(is_of_body).for_each(|field| {
            write(field);
        });
        ResponseFields { lines: lines.into(), of_body: u32::try_from(of_body).expect("a head is far below 4 GiB") }
    }
}

impl From<HeaderMap> for ResponseFields {
    fn from(map: HeaderMap) -> Self {
        ResponseFields::from(&map)
    }
}

impl fmt::Debug for ResponseFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
            .collect()
    }

    #[test]
    fn what_describes_a_body_comes_last_and_age_not_at_all() {
        let fields = ResponseFields::from(map(&[("Content-Type", "text/html"), ("age", "7"), ("ETag", "\"x\"")]));
        assert_eq!(fields.lines(), b"etag: \"x\"\r\ncontent-type: text/html\r\n");
        assert_eq!(fields.lines_without_body(), b"etag: \"x\"\r\n");
        assert_eq!(fields.get(&CONTENT_TYPE), Some(&b"text/html"[..]));
        assert_eq!(fields.get(&AGE), None);
    }

    #[test]
    fn no_fields_are_no_lines() {
        let fields = ResponseFields::from(HeaderMap::new());
        assert_eq!((fields.lines(), fields.lines_without_body()), (&b""[..], &b""[..]));
        assert_eq!(fields.to_map(), HeaderMap::new());
        assert_eq!(fields, ResponseFields::default());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_on_the_way(
            fields in prop::collection::vec(("x-[a-z]{0,3}|content-type|etag", prop::collection::vec(prop::sample::select((b' '..=255).filter(|byte| *byte != 127).collect::<Vec<_>>()), 0..8)), 0..9),
        ) {
            let mut map = HeaderMap::new();
            for (name, value) in &fields {
                map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
            }
            let fields = ResponseFields::from(&map);
            prop_assert_eq!(fields.to_map(), map);
            prop_assert_eq!(ResponseFields::from(fields.to_map()), fields);
        }
    }
}
