//! Which groups does a response belong to? `Cache-Tag`, `Surrogate-Key` and `Cache-Groups` of the origin.
//!
//! It never leaves a tag out: an invalidation of it would miss the page. A response whose tags cannot be read has an error instead,
//! and must not be kept.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, List, ListEntry, Parser};

/// Tags of one page: each is kept with the page and looked up when it is validated.
pub const MAX_TAGS: usize = 1000;

/// Bytes of one tag, as at the large content delivery networks.
pub const MAX_TAG_BYTES: usize = 1024;

/// The fields that name tags; they are not passed on.
pub const FIELDS: [HeaderName; 3] = [CACHE_TAG, SURROGATE_KEY, CACHE_GROUPS];

const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// Why the tags of a response cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagsError {
    /// More than [`MAX_TAGS`].
    #[error("more than {MAX_TAGS} tags")]
    TooMany,
    /// One of more than [`MAX_TAG_BYTES`].
    #[error("a tag of more than {MAX_TAG_BYTES} bytes")]
    TooLong,
    /// One that is not UTF-8, so that no invalidation could name it.
    #[error("a tag that is not UTF-8")]
    NotUtf8,
    /// `Cache-Groups` is not a structured list of strings.
    #[error("Cache-Groups is not a list of strings")]
    NotStrings,
}

impl TagsError {
    /// The reason's name in headers, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TagsError::TooMany => "tags-too-many",
            TagsError::TooLong => "tags-too-long",
            TagsError::NotUtf8 => "tags-not-utf8",
            TagsError::NotStrings => "tags-not-strings",
        }
    }
}

/// The tags of a response, sorted, without repetitions; case counts.
///
/// `Cache-Tag` is cut at commas, `Surrogate-Key` at spaces; `Cache-Groups` is a structured list of strings (RFC 9875, section 2).
/// RFC 9875 would have a `Cache-Groups` that is none ignored; here it is an error, because a page without its groups could not be
/// invalidated by them.
///
/// # Errors
/// Each [`TagsError`].
pub fn tags(headers: &HeaderMap) -> Result<Vec<Arc<str>>, TagsError> {
    let mut tags = BTreeSet::new();
    for line in headers.get_all(CACHE_TAG) {
        add(text(line)?.split(','), &mut tags)?;
    }
    for line in headers.get_all(SURROGATE_KEY) {
        add(text(line)?.split([' ', '\t']), &mut tags)?;
    }
    if headers.contains_key(CACHE_GROUPS) {
        let lines: Vec<&[u8]> = headers.get_all(CACHE_GROUPS).iter().map(HeaderValue::as_bytes).collect();
        let groups: List = Parser::new(&lines.join(&b", "[..])).parse().map_err(|_| TagsError::NotStrings)?;
        for group in groups {
            insert(Cow::Owned(string(group)?), &mut tags)?;
        }
    }
    Ok(tags.into_iter().map(Arc::from).collect())
}

fn text(line: &HeaderValue) -> Result<&str, TagsError> {
    std::str::from_utf8(line.as_bytes()).map_err(|_| TagsError::NotUtf8)
}

fn string(group: ListEntry) -> Result<String, TagsError> {
    match group {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::String(name) => Ok(name.into()),
            _ => Err(TagsError::NotStrings),
        },
        ListEntry::InnerList(_) => Err(TagsError::NotStrings),
    }
}

fn add<'a>(parts: impl Iterator<Item = &'a str>, tags: &mut BTreeSet<Cow<'a, str>>) -> Result<(), TagsError> {
    for tag in parts.map(|part| part.trim_matches([' ', '\t'])).filter(|tag| !tag.is_empty()) {
        insert(Cow::Borrowed(tag), tags)?;
    }
    Ok(())
}

fn insert<'a>(tag: Cow<'a, str>, tags: &mut BTreeSet<Cow<'a, str>>) -> Result<(), TagsError> {
    if tag.len() > MAX_TAG_BYTES {
        return Err(TagsError::TooLong);
    }
    tags.insert(tag);
    if tags.len() > MAX_TAGS { Err(TagsError::TooMany) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(fields: &[(&'static str, &str)]) -> Result<Vec<String>, TagsError> {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let tags = tags(&fields.iter().map(field).collect())?;
        Ok(tags.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn tags_of_all_fields_are_sorted_and_named_once() {
        let fields = [
            ("cache-tag", "flavor-7, two words,,b"),
            ("cache-tag", "käse"),
            ("surrogate-key", "b  a\tA a,b"),
            ("cache-groups", "\"group, one\";x=1, \"a\""),
            ("cache-groups", "\"\\\"q\\\"\""),
        ];
        let expected = ["\"q\"", "A", "a", "a,b", "b", "flavor-7", "group, one", "käse", "two words"];
        assert_eq!(read(&fields).unwrap(), expected);
        assert_eq!(read(&[]).unwrap(), [""; 0]);
        assert_eq!(read(&[("cache-tag", " , "), ("surrogate-key", ""), ("cache-groups", "")]).unwrap(), [""; 0]);
    }

    #[test]
    fn tags_that_cannot_be_kept_are_an_error() {
        let many = |count: usize| (0..count).map(|tag| tag.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(read(&[("surrogate-key", &many(MAX_TAGS))]).unwrap().len(), MAX_TAGS);
        assert_eq!(read(&[("surrogate-key", &many(MAX_TAGS + 1))]), Err(TagsError::TooMany));
        assert_eq!(read(&[("surrogate-key", &many(MAX_TAGS)), ("cache-groups", "\"x\"")]), Err(TagsError::TooMany));
        assert!(read(&[("cache-tag", &"x".repeat(MAX_TAG_BYTES))]).is_ok());
        assert_eq!(read(&[("cache-tag", &"x".repeat(MAX_TAG_BYTES + 1))]), Err(TagsError::TooLong));
        for groups in ["a", "\"a\" \"b\"", "\"a", "(\"a\")", "1"] {
            assert_eq!(read(&[("cache-groups", groups)]), Err(TagsError::NotStrings), "{groups}");
        }
        let latin = HeaderMap::from_iter([(CACHE_TAG, HeaderValue::from_bytes(b"k\xe4se").unwrap())]);
        assert_eq!(tags(&latin), Err(TagsError::NotUtf8));
    }

    proptest! {
        #[test]
        fn every_tag_is_read(named in prop::collection::btree_set("[a-zA-Z0-9:/_.-]{1,12}", 0..20), field in 0..3) {
            let quoted: Vec<_> = named.iter().map(|tag| format!("\"{tag}\"")).collect();
            let plain: Vec<_> = named.iter().rev().cloned().collect();
            let (name, line) = match field {
                0 => ("cache-tag", plain.join(", ")),
                1 => ("surrogate-key", plain.join(" ")),
                _ => ("cache-groups", quoted.join(", ")),
            };
            prop_assert_eq!(read(&[(name, &line)]).unwrap(), named.into_iter().collect::<Vec<_>>());
        }
    }
}
