//! The fields of a request, wherever they lie: in the map that hyper makes, or as slices of the bytes that came.
//!
//! It finds values by name and copies nothing. What a value means is asked elsewhere.

use std::slice;

use http::header::ValueIter;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields of a request, in the order of their lines as far as one name is concerned.
#[derive(Clone, Copy, Debug)]
pub enum RequestFields<'a> {
    /// As hyper gives them.
    Map(&'a HeaderMap),
    /// As httparse finds them: names in any case, values without the white space around them.
    Lines(Lines<'a>),
}

/// Lines, and a mark for each name among them: most names that are asked for are not there, and that shows without a look at the lines.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    lines: &'a [httparse::Header<'a>],
    marks: u64,
}

impl<'a> From<&'a [httparse::Header<'a>]> for RequestFields<'a> {
    fn from(lines: &'a [httparse::Header<'a>]) -> Self {
        let marks = lines.iter().fold(0, |marks, line| marks | mark(line.name));
        RequestFields::Lines(Lines { lines, marks })
    }
}

/// One of 64 marks, the same for a name in any case.
#[inline]
fn mark(name: &str) -> u64 {
    let first = name.as_bytes().first().map_or(0, |letter| usize::from(letter | 0x20));
    1 << ((name.len() + 7 * first) % 64)
}

impl<'a> From<&'a HeaderMap> for RequestFields<'a> {
    fn from(map: &'a HeaderMap) -> Self {
        RequestFields::Map(map)
    }
}

impl<'a> RequestFields<'a> {
    /// The values of all lines of this name, in their order.
    #[inline]
    #[must_use]
    pub fn all<'n>(self, name: &'n HeaderName) -> Values<'a, 'n> {
        match self {
            RequestFields::Map(map) => Values::Map(map.get_all(name).iter()),
            RequestFields::Lines(Lines { lines, marks }) => {
                let name = name.as_str();
                let may_be_there = marks & mark(name) != 0;
                Values::Lines(if may_be_there { lines.iter() } else { [].iter() }, name)
            }
        }
    }

    /// The value of the first line of this name.
    #[must_use]
    pub fn first(self, name: &HeaderName) -> Option<&'a [u8]> {
        match self {
            RequestFields::Map(map) => map.get(name).map(HeaderValue::as_bytes),
            RequestFields::Lines(_) => self.all(name).next(),
        }
    }

    /// Whether there is a line of this name.
    #[must_use]
    pub fn contains(self, name: &HeaderName) -> bool {
        self.first(name).is_some()
    }
}

/// The values of one name, from both ends.
#[derive(Debug)]
pub enum Values<'a, 'n> {
    /// In a map.
    Map(ValueIter<'a, HeaderValue>),
    /// In lines that are still to be looked at, by this name in lower case.
    Lines(slice::Iter<'a, httparse::Header<'a>>, &'n str),
}

impl<'a> Iterator for Values<'a, '_> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Values::Map(values) => values.next().map(HeaderValue::as_bytes),
            Values::Lines(lines, name) => lines.find(|line| is_named(line, name)).map(|line| line.value),
        }
    }
}

impl DoubleEndedIterator for Values<'_, '_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Values::Map(values) => values.next_back().map(HeaderValue::as_bytes),
            Values::Lines(lines, name) => lines.rfind(|line| is_named(line, name)).map(|line| line.value),
        }
    }
}

/// Without regard to case (RFC 9110, section 5.1). Most names differ in length, which is seen at once.
#[inline]
fn is_named(line: &httparse::Header<'_>, name: &str) -> bool {
    line.name.len() == name.len() && line.name.eq_ignore_ascii_case(name)
}

/// The value as text if it is visible ASCII, spaces and tabs, as [`HeaderValue::to_str`] has it.
#[must_use]
pub fn text(value: &[u8]) -> Option<&str> {
    let is_text = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    std::str::from_utf8(value).ok().filter(|_| is_text)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines as they come: name and value.
    pub(crate) type Sent = Vec<(String, Vec<u8>)>;

    /// Up to eight lines of these names in any case. Values are either of `values` or bytes that a field may have.
    pub(crate) fn sent(names: &'static [&'static str], values: &'static str) -> impl Strategy<Value = Sent> {
        let name = (prop::sample::select(names), any::<u64>()).prop_map(|(name, upper)| {
            let cased = |(at, letter): (usize, char)| match upper >> (at % 64) & 1 {
                0 => letter,
                _ => letter.to_ascii_uppercase(),
            };
            name.chars().enumerate().map(cased).collect::<String>()
        });
        let byte = prop_oneof![Just(b'\t'), b' '..=b'~', 0x80..=0xff_u8];
        let value = prop_oneof![
            4 => values.prop_map(String::into_bytes),
            1 => prop::collection::vec(byte, 0..8).prop_map(|bytes| bytes.trim_ascii().to_vec()),
        ];
        prop::collection::vec((name, value), 0..8)
    }

    /// Asks for the answer to the same fields in a map and as lines.
    pub(crate) fn both_ways<T>(sent: &Sent, mut ask: impl FnMut(RequestFields<'_>) -> T) -> [T; 2] {
        let map: HeaderMap = sent
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap()))
            .collect();
        let lines: Vec<_> = sent.iter().map(|(name, value)| httparse::Header { name, value }).collect();
        [ask((&map).into()), ask(lines.as_slice().into())]
    }

    #[test]
    fn names_count_in_any_case_and_as_a_whole() {
        let lines = [("HOST", "a"), ("hos", "b"), ("x-host", "c"), ("Host", "d")]
            .map(|(name, value)| httparse::Header { name, value: value.as_bytes() });
        let fields = RequestFields::from(&lines[..]);
        assert!(fields.all(&http::header::HOST).eq([b"a", b"d"]));
        assert!(fields.all(&http::header::HOST).rev().eq([b"d", b"a"]));
        assert_eq!(fields.first(&http::header::HOST), Some(&b"a"[..]));
        assert!(!fields.contains(&http::header::COOKIE));
    }

    proptest! {
        #[test]
        fn a_map_and_lines_say_the_same(
            sent in sent(&["host", "cookie", "x-a", "x-b", "accept"], "[a-z]{0,3}"),
            asked in prop::sample::select(vec!["host", "cookie", "x-a", "x-b", "accept", "via"]),
            from_back in prop::collection::vec(any::<bool>(), 10),
        ) {
            let name: HeaderName = asked.parse().unwrap();
            let [map, lines] = both_ways(&sent, |fields| {
                let mut values = fields.all(&name);
                let ends: Vec<_> = from_back
                    .iter()
                    .map(|back| if *back { values.next_back() } else { values.next() }.map(<[u8]>::to_vec))
                    .collect();
                let all: Vec<_> = fields.all(&name).map(<[u8]>::to_vec).collect();
                (all, ends, fields.first(&name).map(<[u8]>::to_vec), fields.contains(&name))
            });
            prop_assert_eq!(&map, &lines);
            let expected = sent.iter().filter(|(sent, _)| name == *sent.to_ascii_lowercase()).map(|(_, value)| value);
            prop_assert!(expected.eq(&map.0));
        }

        #[test]
        fn what_is_text_in_a_map_is_text_in_lines(value in prop::collection::vec(any::<u8>(), 0..6)) {
            if let Ok(in_map) = HeaderValue::from_bytes(&value) {
                prop_assert_eq!(text(&value), in_map.to_str().ok());
            }
        }
    }
}
