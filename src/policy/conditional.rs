//! Does the client have this page already, or insist on another one? RFC 9110, section 13, for GET and HEAD answered from the cache.
//!
//! It never looks at `Range` and `If-Range` (see `range`), and nothing is allocated.

use http::HeaderName;
use http::header::{ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED};

use super::request_fields::{RequestFields, text};

/// What the request's preconditions say about the stored page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Answer as if there were none.
    Proceed,
    /// Answer 304: the client has it.
    NotModified,
    /// Answer 412: the client wants another one.
    Failed,
}

/// Evaluates the preconditions of a GET or HEAD in the order of RFC 9110, section 13.2.2. `stored` knows the stored page's fields, and is asked
/// for `ETag` or `Last-Modified` where a precondition is about it. Only for a page with a 2xx status: others are sent whatever the
/// preconditions say (section 13.2.1).
///
/// `If-Match` and `If-Unmodified-Since` are meant for the origin server (RFC 9111, section 4.3.2). A gateway is the origin server
/// to its clients (RFC 9110, section 3.7), and a page that is served here is the one that the origin would send; to ignore them
/// could mend a download from the halves of two pages.
#[must_use]
pub fn evaluate<'p>(request: RequestFields<'_>, stored: impl Fn(&HeaderName) -> Option<&'p [u8]>) -> Precondition {
    let expects_another = if request.contains(&IF_MATCH) {
        !names_tag(request, &IF_MATCH, &stored, same_strongly)
    } else {
        is_modified_since(request, &IF_UNMODIFIED_SINCE, &stored) == Some(true)
    };
    if expects_another {
        return Precondition::Failed;
    }
    let has_it = if request.contains(&IF_NONE_MATCH) {
        names_tag(request, &IF_NONE_MATCH, &stored, same_weakly)
    } else {
        is_modified_since(request, &IF_MODIFIED_SINCE, &stored) == Some(false)
    };
    if has_it { Precondition::NotModified } else { Precondition::Proceed }
}

/// Whether one of the field's lines is `*` or lists a tag that is the page's (RFC 9110, sections 13.1.1 and 13.1.2).
fn names_tag<'p>(
    request: RequestFields<'_>,
    field: &HeaderName,
    stored: impl Fn(&HeaderName) -> Option<&'p [u8]>,
    is_same: fn(&[u8], &[u8]) -> bool,
) -> bool {
    let etag = stored(&ETAG);
    request.all(field).any(|line| {
        let line = line.trim_ascii();
        line == b"*" || tags(line).any(|named| etag.is_some_and(|etag| is_same(named, etag)))
    })
}

/// The entity tags of a list, with quotes and `W/`. A tag may hold commas (RFC 9110, section 8.8.3); what follows the first thing
/// that is no tag is not looked at.
fn tags(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while let [b',' | b' ' | b'\t', rest @ ..] = list {
            list = rest;
        }
        let quote = if list.starts_with(b"W/") { 2 } else { 0 };
        let (b'"', inside) = list.get(quote..)?.split_first()? else { return None };
        let end = quote + inside.iter().position(|byte| *byte == b'"')? + 2;
        let (tag, rest) = list.split_at(end);
        list = rest;
        Some(tag)
    })
}

/// Strong comparison: neither is weak, and they are the same (RFC 9110, section 8.8.3.2).
fn same_strongly(named: &[u8], stored: &[u8]) -> bool {
    !named.starts_with(b"W/") && named == stored
}

/// Weak comparison: `W/` does not count.
fn same_weakly(named: &[u8], stored: &[u8]) -> bool {
    let opaque = |tag| <[u8]>::strip_prefix(tag, b"W/").unwrap_or(tag);
    opaque(named) == opaque(stored)
}

/// `None` where there is nothing to compare: a date that is missing, invalid or given twice is ignored (RFC 9110, sections 13.1.3
/// and 13.1.4).
fn is_modified_since<'p>(
    request: RequestFields<'_>,
    field: &HeaderName,
    stored: impl Fn(&HeaderName) -> Option<&'p [u8]>,
) -> Option<bool> {
    let date = |value: &[u8]| httpdate::parse_http_date(text(value)?).ok();
    let mut lines = request.all(field);
    let named = date(lines.next()?)?;
    if lines.next().is_some() {
        return None;
    }
    Some(date(stored(&LAST_MODIFIED)?)? > named)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::Precondition::{Failed, NotModified, Proceed};
    use super::*;
    use crate::policy::request_fields::tests::{both_ways, sent};

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sunday, 06-Nov-94 08:49:38 GMT";

    /// A page with these.
    fn page<'p>(etag: Option<&'p str>, modified: Option<&'p str>) -> impl Fn(&HeaderName) -> Option<&'p [u8]> {
        move |name| if name == ETAG { etag } else { modified.filter(|_| name == LAST_MODIFIED) }.map(str::as_bytes)
    }

    /// Asks with these fields for a page with the given tag, modified at [`MODIFIED`].
    fn asked(fields: &[(HeaderName, &str)], etag: &str) -> Precondition {
        let request: HeaderMap =
            fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        let etag = Some(etag).filter(|etag| !etag.is_empty());
        evaluate((&request).into(), page(etag, Some(MODIFIED)))
    }

    #[test]
    fn a_client_that_has_the_page_is_told_so() {
        for (field, etag) in [
            ("\"a\"", "\"a\""),
            ("W/\"a\"", "\"a\""),
            ("\"a\"", "W/\"a\""),
            ("\"x\", \"a\"", "\"a\""),
            ("\"x\",,\t W/\"a\" ,", "\"a\""),
            ("\"x,y\", \"a,b\"", "\"a,b\""),
            ("*", "\"a\""),
            ("*", ""),
            (" * ", "\"a\""),
            ("\"\"", "\"\""),
        ] {
            assert_eq!(asked(&[(IF_NONE_MATCH, field)], etag), NotModified, "{field} {etag}");
        }
        assert_eq!(asked(&[(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, "\"a\"")], "\"a\""), NotModified);
    }

    #[test]
    fn a_client_that_has_another_page_gets_this_one() {
        for (field, etag) in [
            ("\"b\"", "\"a\""),
            ("\"A\"", "\"a\""),
            ("\"x,\"a\"", "\"a\""),
            ("w/\"a\"", "\"a\""),
            ("x, \"a\"", "\"a\""),
            ("\"a", "\"a\""),
            ("a", "\"a\""),
            ("", "\"a\""),
            ("\"a\"", ""),
            ("\"*\"", "\"a\""),
            ("W/", "W/"),
        ] {
            assert_eq!(asked(&[(IF_NONE_MATCH, field)], etag), Proceed, "{field} {etag}");
        }
    }

    #[test]
    fn dates_count_only_without_a_tag_and_only_if_they_are_dates() {
        assert_eq!(asked(&[(IF_MODIFIED_SINCE, BEFORE)], ""), Proceed);
        assert_eq!(asked(&[(IF_MODIFIED_SINCE, MODIFIED)], ""), NotModified);
        assert_eq!(asked(&[(IF_MODIFIED_SINCE, AFTER)], ""), NotModified);
        assert_eq!(asked(&[(IF_MODIFIED_SINCE, "yesterday")], ""), Proceed);
        assert_eq!(asked(&[(IF_MODIFIED_SINCE, AFTER), (IF_MODIFIED_SINCE, AFTER)], ""), Proceed);
        assert_eq!(asked(&[(IF_MODIFIED_SINCE, AFTER), (IF_NONE_MATCH, "\"b\"")], "\"a\""), Proceed);
        assert_eq!(asked(&[(IF_MODIFIED_SINCE, BEFORE), (IF_NONE_MATCH, "\"a\"")], "\"a\""), NotModified);
        let request = HeaderMap::from_iter([(IF_MODIFIED_SINCE, HeaderValue::from_static(AFTER))]);
        assert_eq!(evaluate((&request).into(), page(None, None)), Proceed);
        assert_eq!(evaluate((&request).into(), page(None, Some("yesterday"))), Proceed);
        assert_eq!(evaluate((&HeaderMap::new()).into(), page(None, Some(MODIFIED))), Proceed);
    }

    #[test]
    fn a_client_that_insists_on_another_page_is_refused() {
        for (field, etag, expected) in [
            ("\"a\"", "\"a\"", Proceed),
            ("\"b\", \"a\"", "\"a\"", Proceed),
            ("*", "", Proceed),
            ("\"b\"", "\"a\"", Failed),
            ("W/\"a\"", "W/\"a\"", Failed),
            ("W/\"a\"", "\"a\"", Failed),
            ("\"a\"", "", Failed),
        ] {
            assert_eq!(asked(&[(IF_MATCH, field)], etag), expected, "{field} {etag}");
        }
        assert_eq!(asked(&[(IF_UNMODIFIED_SINCE, BEFORE)], ""), Failed);
        assert_eq!(asked(&[(IF_UNMODIFIED_SINCE, MODIFIED)], ""), Proceed);
        assert_eq!(asked(&[(IF_UNMODIFIED_SINCE, "yesterday")], ""), Proceed);
        assert_eq!(asked(&[(IF_UNMODIFIED_SINCE, BEFORE), (IF_MATCH, "\"a\"")], "\"a\""), Proceed);
        assert_eq!(asked(&[(IF_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")], "\"a\""), Failed);
        assert_eq!(asked(&[(IF_MATCH, "\"a\""), (IF_NONE_MATCH, "\"a\"")], "\"a\""), NotModified);
    }

    proptest! {
        #[test]
        fn every_tag_of_a_list_is_seen(
            list in prop::collection::vec(("(W/)?", "[!#-~, ]{0,6}"), 1..6), separator in "[ \t]{0,2},[ \t,]{0,2}", one in any::<prop::sample::Index>(),
        ) {
            let spelled: Vec<_> = list.iter().map(|(weak, opaque)| format!("{weak}\"{opaque}\"")).collect();
            let field = spelled.join(&separator);
            prop_assert_eq!(tags(field.as_bytes()).collect::<Vec<_>>(), spelled.iter().map(String::as_bytes).collect::<Vec<_>>());
            prop_assert_eq!(asked(&[(IF_NONE_MATCH, &field)], &spelled[one.index(spelled.len())]), NotModified);
        }

        #[test]
        fn a_precondition_does_not_depend_on_where_the_fields_lie(
            sent in sent(
                &["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"],
                "(\"a\"|W/\"a\"|\"b\"|, |[*]){0,3}|Sun, 06 Nov 1994 08:49:3[678] GMT",
            ),
            etag in prop::option::of(prop::sample::select(vec!["\"a\"", "W/\"a\""])),
        ) {
            let [map, lines] = both_ways(&sent, |fields| evaluate(fields, page(etag, Some(MODIFIED))));
            prop_assert_eq!(map, lines);
        }

        #[test]
        fn no_list_is_too_odd(list in prop::collection::vec(prop::sample::select(b"\"W/a, *\\".to_vec()), 0..12)) {
            prop_assert!(tags(&list).all(|tag| tag.len() >= 2 && tag.ends_with(b"\"")));
        }
    }
}
