//! What does the origin say about caching? `Cache-Control` (RFC 9111, section 5.2) and its targeted kin (RFC 9213).
//!
//! It only reads: whether a page may be kept, and for how long, is decided elsewhere. In doubt the reading is the stricter one.

use std::borrow::Cow;

use http::HeaderValue;
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// The directives that matter to a shared cache; all others are skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// Not to be stored.
    pub no_store: bool,
    /// Not to be served without asking the origin. With field names (`no-cache="x"`) it counts just the same.
    pub no_cache: bool,
    /// For one visitor. With field names (`private="x"`) it counts just the same.
    pub private: bool,
    /// For everybody.
    pub public: bool,
    /// Not to be served stale.
    pub must_revalidate: bool,
    /// Seconds for which any cache may take it for fresh.
    pub max_age: Option<u64>,
    /// Seconds for which a shared cache may, before `max_age`.
    pub s_maxage: Option<u64>,
}

/// The longest lifetime that can be said: 68 years (RFC 9111, section 1.2.2).
pub const MAX_SECONDS: u64 = 1 << 31;

/// Reads all `Cache-Control` lines of a message. Names in any case; a number may be quoted; the smallest of several counts, and a
/// number that is none counts as 0, that is, stale (RFC 9111, section 4.2.1).
#[must_use]
pub fn parse<'a, V: AsRef<[u8]> + ?Sized + 'a>(values: impl Iterator<Item = &'a V>) -> Directives {
    let mut directives = Directives::default();
    for value in values {
        for directive in split_list(value.as_ref()) {
            let equals = directive.iter().position(|byte| *byte == b'=').unwrap_or(directive.len());
            let (name, argument) = directive.split_at(equals);
            let argument = argument.strip_prefix(b"=").unwrap_or_default().trim_ascii();
            directives.add(&name.trim_ascii().to_ascii_lowercase(), || delta_seconds(&unquoted(argument)));
        }
    }
    directives
}

/// Reads a targeted field, such as `CDN-Cache-Control`, as the structured dictionary that it is (RFC 9213, section 2.1). `None`, as
/// if it were absent: no line, nothing in it, or not a dictionary. A member that is false (`no-store=?0`) is not said.
#[must_use]
pub fn parse_targeted<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Option<Directives> {
    let lines: Vec<&[u8]> = values.map(HeaderValue::as_bytes).collect();
    let members: Dictionary = Parser::new(&lines.join(&b", "[..])).parse().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut directives = Directives::default();
    for (name, value) in &members {
        let item = match value {
            ListEntry::Item(item) => Some(&item.bare_item),
            ListEntry::InnerList(_) => None,
        };
        if item != Some(&BareItem::Boolean(false)) {
            let seconds = || item.and_then(BareItem::as_integer).and_then(|integer| u64::try_from(integer).ok());
            directives.add(name.as_str().as_bytes(), || seconds().map_or(0, |seconds| seconds.min(MAX_SECONDS)));
        }
    }
    Some(directives)
}

impl Directives {
    fn add(&mut self, name: &[u8], seconds: impl FnOnce() -> u64) {
        let smaller = |known: Option<u64>, next: u64| Some(known.map_or(next, |known| known.min(next)));
        match name {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache = true,
            b"private" => self.private = true,
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"max-age" => self.max_age = smaller(self.max_age, seconds()),
            b"s-maxage" => self.s_maxage = smaller(self.s_maxage, seconds()),
            _ => {}
        }
    }
}

/// The elements of a list, cut at commas outside of quoted strings. A quote that is never closed quotes nothing, so it can hide
/// no `no-store` after it.
fn split_list(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if list.is_empty() {
            return None;
        }
        let mut end = 0;
        while end < list.len() && list[end] != b',' {
            end += quoted_length(&list[end..]).unwrap_or(1);
        }
        let element = &list[..end];
        list = list.get(end + 1..).unwrap_or_default();
        Some(element)
    })
}

/// Bytes of the quoted string at the beginning, quotes included (RFC 9110, section 5.6.4).
fn quoted_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    while text.first() == Some(&b'"') {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

fn unquoted(argument: &[u8]) -> Cow<'_, [u8]> {
    match argument {
        [b'"', inside @ .., b'"'] if inside.contains(&b'\\') => {
            let mut bytes = inside.iter();
            let unescaped =
                std::iter::from_fn(|| bytes.next().map(|byte| if *byte == b'\\' { bytes.next() } else { Some(byte) }));
            Cow::Owned(unescaped.flatten().copied().collect())
        }
        [b'"', inside @ .., b'"'] => Cow::Borrowed(inside),
        _ => Cow::Borrowed(argument),
    }
}

/// RFC 9111, section 1.2.2.
fn delta_seconds(digits: &[u8]) -> u64 {
    if !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let add = |seconds: u64, digit: &u8| (seconds * 10 + u64::from(digit - b'0')).min(MAX_SECONDS);
    digits.iter().fold(0, add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&str]) -> Directives {
        let values: Vec<_> = lines.iter().map(|line| HeaderValue::from_str(line).unwrap()).collect();
        parse(values.iter())
    }

    fn targeted(lines: &[&str]) -> Option<Directives> {
        let values: Vec<_> = lines.iter().map(|line| HeaderValue::from_str(line).unwrap()).collect();
        parse_targeted(values.iter())
    }

    fn max_age(seconds: u64) -> Directives {
        Directives { max_age: Some(seconds), ..Directives::default() }
    }

    #[test]
    fn directives_are_read_in_any_case_over_several_lines() {
        let all = Directives {
            no_store: true,
            no_cache: true,
            private: true,
            public: true,
            must_revalidate: true,
            max_age: Some(60),
            s_maxage: Some(0),
        };
        assert_eq!(read(&["No-Store, no-CACHE,private ,\tpublic,,", "must-revalidate, max-age=60,s-maxage=0"]), all);
        assert_eq!(read(&[]), Directives::default());
        assert_eq!(read(&["", ",", "no-storex, x=no-store, immutable, =, \"no-store\""]), Directives::default());
    }

    #[test]
    fn a_directive_with_an_argument_counts_as_a_whole() {
        let private = Directives { private: true, no_cache: true, ..Directives::default() };
        assert_eq!(read(&["private=\"set-cookie, no-store\", no-cache=\"x\""]), private);
        assert_eq!(read(&["private=x, no-cache="]), private);
    }

    #[test]
    fn a_quoted_comma_does_not_end_a_directive_and_an_open_quote_hides_nothing() {
        assert_eq!(read(&["x=\"a, no-store\", max-age=1"]), max_age(1));
        assert_eq!(read(&["x=\"a\\\", no-store, b\", max-age=1"]), max_age(1));
        assert!(read(&["x=\"a, no-store"]).no_store);
        assert!(read(&["x=\"a\\", "no-store"]).no_store);
    }

    #[test]
    fn the_smallest_number_counts_and_what_is_none_is_stale() {
        assert_eq!(read(&["max-age=60, max-age=10", "max-age=30"]), max_age(10));
        for stale in [
            "max-age",
            "max-age=",
            "max-age=x",
            "max-age=-1",
            "max-age=1.5",
            "max-age=\"1",
            "max-age=+1",
            "max-age=\"\"",
        ] {
            assert_eq!(read(&[stale, "max-age=9"]), max_age(0), "{stale}");
        }
        for quoted in ["max-age=\"60\"", "max-age = 60", "max-age=\"6\\0\"", "max-age=060"] {
            assert_eq!(read(&[quoted]), max_age(60), "{quoted}");
        }
        assert_eq!(read(&["max-age=99999999999999999999999"]), max_age(MAX_SECONDS));
        assert_eq!(read(&["max-age=2147483649"]), max_age(2_147_483_648));
    }

    #[test]
    fn a_targeted_field_is_a_dictionary_or_nothing() {
        assert_eq!(targeted(&["max-age=60"]), Some(max_age(60)));
        assert_eq!(targeted(&["max-age=60;x=1, y=(a b)"]), Some(max_age(60)));
        assert_eq!(targeted(&["no-store=?0, max-age=9", "max-age=60"]), Some(max_age(60)));
        assert_eq!(targeted(&["max-age=999999999999999"]), Some(max_age(MAX_SECONDS)));
        let private = Directives { private: true, no_store: true, ..Directives::default() };
        assert_eq!(targeted(&["private=\"x\"", "no-store"]), Some(private));
        assert_eq!(targeted(&["x"]), Some(Directives::default()));
        for stale in ["max-age", "max-age=-1", "max-age=1.5", "max-age=\"60\"", "max-age=(60)"] {
            assert_eq!(targeted(&[stale]), Some(max_age(0)), "{stale}");
        }
        for nothing in
            [&[][..], &[""], &["  "], &["Max-Age=60"], &["no-store,"], &["no-store", "é"], &["max-age=60 private"]]
        {
            assert_eq!(targeted(nothing), None, "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn no_argument_of_another_directive_hides_a_no_store(before in "[ -~]{0,20}", after in "[ -~]{0,20}") {
            prop_assume!(!before.contains('"') && !after.contains('"'));
            let line = format!("{before}, no-store ,{after}");
            prop_assert!(read(&[&line]).no_store, "{line}");
        }

        #[test]
        fn no_line_is_too_odd(line in prop::collection::vec(prop::sample::select(b"\"\\=, max-age1\xff".to_vec()), 0..24)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let seconds = parse([&value].into_iter()).max_age;
                prop_assert!(seconds.is_none_or(|seconds| seconds <= MAX_SECONDS));
                prop_assert!(split_list(value.as_bytes()).map(|element| element.len() + 1).sum::<usize>() <= line.len() + 1);
            }
        }
    }
}
