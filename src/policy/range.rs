//! Which bytes of a stored body does a request ask for? RFC 9110, section 14.
//!
//! It never touches the body. A request carries one `Range`; a caller that finds several sends the whole page. Nothing here may
//! fail a request: what cannot be understood is ignored, and the whole page is the answer.

use std::ops::Range;

use http::HeaderValue;

/// Ranges of one request. More are only good for making a server work (RFC 9110, section 17.15).
pub const MAX_RANGES: usize = 16;

/// What a `Range` field asks of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// Answer as if it were not there: 200.
    Ignore(Ignored),
    /// Answer 206 with these bytes: in the order asked for, none empty, no two of them touching.
    Satisfiable(Vec<Range<u64>>),
    /// Answer 416: all of it lies behind the end.
    Unsatisfiable,
}

/// Why a `Range` field is ignored, which RFC 9110 (section 14.2) always allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Another unit than `bytes`.
    OtherUnit,
    /// Not a range set.
    Malformed,
    /// More than [`MAX_RANGES`].
    TooMany,
    /// Together longer than the body: it costs less to send it whole.
    MoreThanAll,
    /// The body has no bytes: a 206 could not say which it sends.
    EmptyBody,
}

impl Ignored {
    /// The reason's name in headers, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Ignored::OtherUnit => "range-other-unit",
            Ignored::Malformed => "range-malformed",
            Ignored::TooMany => "range-too-many",
            Ignored::MoreThanAll => "range-more-than-all",
            Ignored::EmptyBody => "range-empty-body",
        }
    }
}

/// Reads the `Range` field of a GET that would be answered 200 with a body of `len` bytes: suffixes resolved, ends clamped, ranges that overlap or touch made one, in the
/// place of the first of them.
#[must_use]
pub fn parse(range_field: &[u8], len: u64) -> Ranges {
    match parse_set(range_field, len) {
        Ok(ranges) if ranges.is_empty() => Ranges::Unsatisfiable,
        Ok(ranges) => Ranges::Satisfiable(ranges),
        Err(reason) => Ranges::Ignore(reason),
    }
}

/// Whether `If-Range` allows a 206 of the stored page: its entity tag is the same by strong comparison, or its `Last-Modified` is
/// the same date to the letter (RFC 9110, section 13.1.5). In doubt it does not, and the whole page is sent.
#[must_use]
pub fn if_range_matches(field: &[u8], etag: Option<&[u8]>, last_modified: Option<&[u8]>) -> bool {
    let field = field.trim_ascii();
    if let [b'"', .., b'"'] = field {
        return etag.is_some_and(|etag| etag == field);
    }
    let is_date = std::str::from_utf8(field).is_ok_and(|date| httpdate::parse_http_date(date).is_ok());
    is_date && last_modified.is_some_and(|date| date == field)
}

/// `Content-Range` of a 206, or of one of its parts (RFC 9110, section 14.4).
#[must_use]
pub fn content_range(range: &Range<u64>, len: u64) -> HeaderValue {
    let last = range.end.saturating_sub(1);
    HeaderValue::try_from(format!("bytes {}-{last}/{len}", range.start)).expect("digits and ASCII signs")
}

/// `Content-Range` of a 416 (RFC 9110, section 15.5.17).
#[must_use]
pub fn content_range_unsatisfied(len: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes */{len}")).expect("digits and ASCII signs")
}

fn parse_set(field: &[u8], len: u64) -> Result<Vec<Range<u64>>, Ignored> {
    let equals = field.iter().position(|byte| *byte == b'=').ok_or(Ignored::Malformed)?;
    if !field[..equals].trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return Err(Ignored::OtherUnit);
    }
    let (mut specs, mut wanted) = (0, 0u64);
    let mut ranges = Vec::new();
    // A list may have empty elements (RFC 9110, section 5.6.1.2).
    for spec in field[equals + 1..].split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty())
    {
        specs += 1;
        if specs > MAX_RANGES {
            return Err(Ignored::TooMany);
        }
        if let Some(range) = parse_spec(spec, len)? {
            wanted = wanted.saturating_add(range.end - range.start);
            join(range, &mut ranges);
        }
    }
    match specs {
        0 => Err(Ignored::Malformed),
        _ if len == 0 => Err(Ignored::EmptyBody),
        _ if wanted > len => Err(Ignored::MoreThanAll),
        _ => Ok(ranges),
    }
}

/// `None`: valid, but behind the end (RFC 9110, section 14.1.2).
fn parse_spec(spec: &[u8], len: u64) -> Result<Option<Range<u64>>, Ignored> {
    let dash = spec.iter().position(|byte| *byte == b'-').ok_or(Ignored::Malformed)?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    let range = match (first.is_empty(), last.is_empty()) {
        (true, _) => len.saturating_sub(number(last)?)..len,
        (false, true) => number(first)?..len,
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(Ignored::Malformed);
            }
            first..last.saturating_add(1).min(len)
        }
    };
    Ok((!range.is_empty()).then_some(range))
}

/// A number too large for us is behind every end.
fn number(digits: &[u8]) -> Result<u64, Ignored> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Ignored::Malformed);
    }
    let digit = |digit: &u8| u64::from(digit - b'0');
    Ok(digits.iter().fold(0u64, |number, next| number.saturating_mul(10).saturating_add(digit(next))))
}

/// Adds a range, which takes in all that it overlaps or touches; so no two of `ranges` ever touch.
fn join(mut range: Range<u64>, ranges: &mut Vec<Range<u64>>) {
    let touches = |one: &Range<u64>, other: &Range<u64>| one.start <= other.end && other.start <= one.end;
    let place = ranges.iter().position(|met| touches(met, &range)).unwrap_or(ranges.len());
    ranges.retain(|met| {
        let apart = !touches(met, &range);
        if !apart {
            range = met.start.min(range.start)..met.end.max(range.end);
        }
        apart
    });
    ranges.insert(place, range);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ranges(field: &str, len: u64) -> Ranges {
        parse(field.as_bytes(), len)
    }

    fn satisfiable(field: &str, len: u64) -> Vec<(u64, u64)> {
        match ranges(field, len) {
            Ranges::Satisfiable(ranges) => ranges.iter().map(|range| (range.start, range.end)).collect(),
            other => panic!("{field}: {other:?}"),
        }
    }

    #[test]
    fn ranges_are_resolved_clamped_and_coalesced_in_their_order() {
        for (field, expected) in [
            ("bytes=0-0", vec![(0, 1)]),
            ("bytes=0-", vec![(0, 100)]),
            ("bytes=-1", vec![(99, 100)]),
            ("bytes=-1000", vec![(0, 100)]),
            ("bytes=90-1000", vec![(90, 100)]),
            ("BYTES = 5-9", vec![(5, 10)]),
            ("bytes=50-59,0-9", vec![(50, 60), (0, 10)]),
            ("bytes=0-9, 10-19", vec![(0, 20)]),
            ("bytes=20-29,0-9,10-19", vec![(0, 30)]),
            ("bytes=0-9,50-59,5-20", vec![(0, 21), (50, 60)]),
            ("bytes=,0-9,, \t,", vec![(0, 10)]),
            ("bytes=100-,0-9,-0", vec![(0, 10)]),
            ("bytes=0-99999999999999999999", vec![(0, 100)]),
        ] {
            assert_eq!(satisfiable(field, 100), expected, "{field}");
        }
    }

    #[test]
    fn what_lies_behind_the_end_is_unsatisfiable() {
        for field in ["bytes=100-", "bytes=-0", "bytes=99999999999999999999-", "bytes=100-200,300-"] {
            assert_eq!(ranges(field, 100), Ranges::Unsatisfiable, "{field}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_ignored_by_name() {
        for (field, reason) in [
            ("lines=0-9", Ignored::OtherUnit),
            ("0-9", Ignored::Malformed),
            ("bytes=", Ignored::Malformed),
            ("bytes=,", Ignored::Malformed),
            ("bytes=-", Ignored::Malformed),
            ("bytes=9-0", Ignored::Malformed),
            ("bytes=0-9;5", Ignored::Malformed),
            ("bytes=0x0-9", Ignored::Malformed),
            ("bytes=0-+9", Ignored::Malformed),
            ("bytes=0 - 9", Ignored::Malformed),
            ("bytes=0-9,x", Ignored::Malformed),
            ("bytes=0-,-1", Ignored::MoreThanAll),
        ] {
            assert_eq!(ranges(field, 100), Ranges::Ignore(reason), "{field}");
        }
        assert_eq!(ranges("bytes=0-", 0), Ranges::Ignore(Ignored::EmptyBody));
        let many = |count: usize| format!("bytes={}", vec!["0-0"; count].join(","));
        assert_eq!(satisfiable(&many(MAX_RANGES), 100), [(0, 1)]);
        assert_eq!(ranges(&many(MAX_RANGES + 1), 100), Ranges::Ignore(Ignored::TooMany));
    }

    #[test]
    fn if_range_compares_strongly_and_to_the_letter() {
        let matches = |field: &str, etag: Option<&str>, last_modified: Option<&str>| {
            if_range_matches(field.as_bytes(), etag.map(str::as_bytes), last_modified.map(str::as_bytes))
        };
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let same_date = "Sunday, 06-Nov-94 08:49:37 GMT";
        assert!(matches("\"a\"", Some("\"a\""), None));
        assert!(matches(date, Some("\"a\""), Some(date)));
        for (field, etag, last_modified) in [
            ("\"a\"", Some("\"b\""), Some(date)),
            ("\"a\"", Some("W/\"a\""), None),
            ("W/\"a\"", Some("W/\"a\""), None),
            ("\"", Some("\""), None),
            ("a", Some("a"), Some("a")),
            ("\"a\"", None, None),
            (date, None, Some(same_date)),
            (date, None, None),
        ] {
            assert!(!matches(field, etag, last_modified), "{field:?} {etag:?}");
        }
    }

    #[test]
    fn content_range_counts_from_zero_to_the_last_byte() {
        assert_eq!(content_range(&(0..10), 100), "bytes 0-9/100");
        assert_eq!(content_range_unsatisfied(100), "bytes */100");
    }

    /// A range as it is asked for: first and last position, or a suffix.
    type Asked = (Option<u64>, Option<u64>);

    fn asked() -> impl Strategy<Value = Asked> {
        prop_oneof![
            (0u64..40, 0u64..40).prop_map(|(first, more)| (Some(first), Some(first + more))),
            (0u64..40).prop_map(|first| (Some(first), None)),
            (0u64..40).prop_map(|suffix| (None, Some(suffix))),
        ]
    }

    /// The bytes that one range names, counted out.
    fn named(range: Asked, len: u64) -> Vec<u64> {
        let wanted = |at: &u64| match range {
            (Some(first), last) => *at >= first && last.is_none_or(|last| *at <= last),
            (None, suffix) => len - *at <= suffix.unwrap(),
        };
        (0..len).filter(wanted).collect()
    }

    proptest! {
        #[test]
        fn the_bytes_sent_are_the_bytes_asked_for(asked in prop::collection::vec(asked(), 1..18), len in 0u64..60) {
            let spell = |end: Option<u64>| end.map(|end| end.to_string()).unwrap_or_default();
            let specs: Vec<_> = asked.iter().map(|(first, last)| format!("{}-{}", spell(*first), spell(*last))).collect();
            let each: Vec<Vec<u64>> = asked.iter().map(|range| named(*range, len)).collect();
            let all: BTreeSet<u64> = each.iter().flatten().copied().collect();
            let total: usize = each.iter().map(Vec::len).sum();
            match ranges(&format!("bytes={}", specs.join(",")), len) {
                Ranges::Ignore(Ignored::TooMany) => prop_assert!(asked.len() > MAX_RANGES),
                Ranges::Ignore(Ignored::EmptyBody) => prop_assert_eq!(len, 0),
                Ranges::Ignore(reason) => {
                    prop_assert_eq!(reason, Ignored::MoreThanAll);
                    prop_assert!(total as u64 > len);
                }
                Ranges::Unsatisfiable => prop_assert!(all.is_empty() && len > 0),
                Ranges::Satisfiable(ranges) => {
                    prop_assert!(asked.len() <= MAX_RANGES && total as u64 <= len);
                    prop_assert_eq!(ranges.iter().cloned().flatten().collect::<BTreeSet<_>>(), all);
                    let gap = |a: &Range<u64>, b: &Range<u64>| a.end < b.start || b.end < a.start;
                    let first_asked = |range: &Range<u64>| each.iter().position(|bytes| bytes.iter().any(|at| range.contains(at)));
                    for (at, range) in ranges.iter().enumerate() {
                        prop_assert!(ranges[..at].iter().all(|before| gap(before, range)));
                        prop_assert!(ranges[..at].iter().all(|before| first_asked(before) < first_asked(range)));
                    }
                }
            }
        }

        #[test]
        fn no_field_is_too_odd(field in "bytes=[0-9, =-]{0,20}", len in any::<u64>()) {
            if let Ranges::Satisfiable(ranges) = ranges(&field, len) {
                prop_assert!(ranges.iter().all(|range| range.start < range.end && range.end <= len));
            }
        }
    }
}
