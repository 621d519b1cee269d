//! Which page does this path name? One spelling, shared by requests and invalidations.
//!
//! - [`normalise`]: the spelling that is part of the key and that the origin is asked for.
//! - [`identity`]: what an app makes of that spelling; invalidations compare identities.
//! - [`any_form`]: everything an origin may see in it; ignore rules look at all of them.
//!
//! It never sees a query and never decides what is kept. What it allocates is bounded by a few times the path's length.

use std::borrow::Cow;

use percent_encoding::{percent_decode_str, percent_encode_byte};
use sha1::{Digest, Sha1};

use super::host::{HostError, normalise_host};
use crate::page::PathId;

/// Why a path or URL has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("a path begins with `/`, a URL with `http://` or `https://`")]
    NoLeadingSlash,
    /// A `%` without two hexadecimal digits after it.
    #[error("the `%` at byte {at} is not followed by two hexadecimal digits")]
    BrokenTriplet {
        /// Where the `%` stands, counted from 0.
        at: usize,
    },
    /// A URL of another scheme than `http` and `https`.
    #[error("only URLs with `http://` or `https://` name pages")]
    ForeignScheme,
    /// A URL whose host is none.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl PathError {
    /// The reason's name in headers, logs and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            PathError::NoLeadingSlash => "no-leading-slash",
            PathError::BrokenTriplet { .. } => "broken-percent-triplet",
            PathError::ForeignScheme => "foreign-scheme",
            PathError::Host(host) => host.as_str(),
        }
    }
}

/// The normal spelling of a path without query: percent triplets in upper case, unreserved characters decoded, everything that
/// RFC 3986 (section 3.3) does not allow in a path encoded, dot segments (also `%2e`) removed (section 5.2.4). Doubled slashes stay.
///
/// The result is ASCII, and its own normal form. A path that is normal already is borrowed after one scan: this is on the hit path.
///
/// # Errors
/// [`PathError::NoLeadingSlash`] and [`PathError::BrokenTriplet`].
pub fn normalise(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.starts_with('/') {
        return Err(PathError::NoLeadingSlash);
    }
    if is_normal(raw.as_bytes()) { Ok(Cow::Borrowed(raw)) } else { rewrite(raw.as_bytes()).map(Cow::Owned) }
}

/// The path as an app sees it, for invalidation: all triplets decoded once (`%2F` too), backslashes taken for slashes, runs of
/// slashes collapsed, then the dot segments that came to light resolved. `normal` comes from [`normalise`].
///
/// Why not the normal spelling: apps that decode the whole path (`PATH_INFO` in WSGI, so Django) answer `/a%2Fb` with the page of
/// `/a/b`, and many servers merge slashes. Each such spelling has a key of its own, but one invalidation must reach them all.
/// Two different pages that share an identity cost an invalidation too many, never a stale page. Slashes are collapsed before dots
/// are resolved, as servers that merge slashes do; a trailing slash counts.
#[must_use]
pub fn identity(normal: &str) -> Cow<'_, [u8]> {
    if is_identity(normal.as_bytes()) {
        return Cow::Borrowed(normal.as_bytes());
    }
    let decoded: Vec<u8> = percent_decode_str(normal).collect();
    Cow::Owned(without_dot_segments(&without_doubled_slashes(&without_backslashes(&decoded))))
}

/// The name of an [`identity`]: the folder of the path's pages and its key in the invalidation index.
#[must_use]
pub fn path_id(normal: &str) -> PathId {
    PathId(Sha1::digest(identity(normal)).into())
}

/// The [`identity`] of a prefix, without trailing slash: `/blog` and `/blog/` both mean `/blog`, `/blog/` and all below, not
/// `/blogger`. The prefix `/`, which covers everything, is empty.
#[must_use]
pub fn prefix_identity(normal: &str) -> Cow<'_, [u8]> {
    match identity(normal) {
        Cow::Borrowed(path) => Cow::Borrowed(path.strip_suffix(b"/").unwrap_or(path)),
        Cow::Owned(mut path) => {
            path.pop_if(|last| *last == b'/');
            Cow::Owned(path)
        }
    }
}

/// The prefixes ([`prefix_identity`]) that cover a page, shortest first: for `/blog/a/` the empty root, `/blog` and `/blog/a`.
///
/// There are as many as the path has slashes, at most one more, so at most the length that a request's target may have. Whoever
/// looks them up may stop at the depth of the deepest prefix that was ever named.
pub fn ancestors(identity: &[u8]) -> impl Iterator<Item = &[u8]> {
    let itself = (identity.last() != Some(&b'/')).then_some(identity);
    let slashes = identity.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| &identity[..at]).chain(itself)
}

/// Whether an ignore rule `matches` any form in which an origin may see the path: as sent, normalised (this is what it is asked
/// for), percent-decoded once as servers do, each with dot segments resolved and doubled slashes collapsed, and with `/` for
/// backslashes, which some servers take for slashes. Decoded bytes that are not UTF-8 become U+FFFD.
///
/// A plain path has one form and nothing is allocated; any other has at most 22.
pub fn any_form(raw: &str, mut matches: impl FnMut(&str) -> bool) -> bool {
    if matches(raw) {
        return true;
    }
    if is_normal(raw.as_bytes()) && is_identity(raw.as_bytes()) {
        return false;
    }
    // Both, because dots are resolved before `%2F` is decoded or after: `/a%2Fb/../admin/` is sent on as `/admin/`.
    let normal = normalise(raw).unwrap_or(Cow::Borrowed(raw));
    matches(&normal)
        || any_decoded_form(raw, &mut matches)
        || (normal != raw && any_decoded_form(&normal, &mut matches))
}

/// Splits what a client may name as a page: a path, or a URL with `http://` or `https://`. Gives the normal host (`None`: every
/// host) and the path without query and fragment, not yet normalised.
///
/// # Errors
/// [`PathError::NoLeadingSlash`], [`PathError::ForeignScheme`], [`PathError::Host`].
pub fn split_url(raw: &str) -> Result<(Option<String>, &str), PathError> {
    let raw = raw.split(['?', '#']).next().unwrap_or(raw);
    if raw.starts_with('/') {
        return Ok((None, raw));
    }
    let (scheme, rest) = raw.split_once("://").ok_or(PathError::NoLeadingSlash)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(PathError::ForeignScheme);
    }
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    Ok((Some(normalise_host(authority)?.into_owned()), path))
}

/// What a byte of a path calls for.
#[derive(Clone, Copy)]
enum Byte {
    /// Stays: `pchar` or `/`.
    Plain,
    /// Stays, unless it is part of a dot segment.
    Dot,
    /// Begins a triplet.
    Percent,
    /// Must be encoded.
    Foreign,
}

static BYTES: [Byte; 256] = {
    let mut table = [Byte::Foreign; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = match byte {
            b'.' => Byte::Dot,
            b'%' => Byte::Percent,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => Byte::Plain,
            b':' | b'@' | b'/' => Byte::Plain,
            _ if is_unreserved(byte) => Byte::Plain,
            _ => Byte::Foreign,
        };
        byte += 1;
    }
    table
};

/// RFC 3986, section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn is_normal(path: &[u8]) -> bool {
    let mut at = 0;
    while let Some(byte) = path.get(at) {
        at += match BYTES[usize::from(*byte)] {
            Byte::Plain => 1,
            Byte::Dot if at > 0 && path[at - 1] == b'/' && begins_with_dot_segment(&path[at..]) => return false,
            Byte::Dot => 1,
            Byte::Percent => match triplet(&path[at..]) {
                Some(decoded) if !is_unreserved(decoded) && path[at..].starts_with(encoded(decoded)) => 3,
                _ => return false,
            },
            Byte::Foreign => return false,
        };
    }
    true
}

fn begins_with_dot_segment(path: &[u8]) -> bool {
    matches!(path, [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..])
}

/// The byte that a triplet at the beginning of `path` stands for.
fn triplet(path: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match path {
        [b'%', high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// A triplet in upper case.
fn encoded(byte: u8) -> &'static [u8] {
    percent_encode_byte(byte).as_bytes()
}

fn rewrite(raw: &[u8]) -> Result<String, PathError> {
    let mut spelled = Vec::with_capacity(raw.len() + 16);
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        at += match BYTES[usize::from(byte)] {
            Byte::Plain | Byte::Dot => {
                spelled.push(byte);
                1
            }
            Byte::Percent => {
                let decoded = triplet(&raw[at..]).ok_or(PathError::BrokenTriplet { at })?;
                if is_unreserved(decoded) {
                    spelled.push(decoded)
                } else {
                    spelled.extend(encoded(decoded))
                }
                3
            }
            Byte::Foreign => {
                spelled.extend(encoded(byte));
                1
            }
        };
    }
    Ok(String::from_utf8(without_dot_segments(&spelled)).expect("all but ASCII was percent-encoded"))
}

/// RFC 3986, section 5.2.4: `.` goes, `..` goes with the segment before it, empty segments count. What is kept begins with a slash,
/// and ends with one wherever a segment begins.
fn without_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(path.len());
    kept.push(b'/');
    let mut segments = path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"." => {}
            b".." => {
                let parent = kept[..kept.len() - 1].iter().rposition(|byte| *byte == b'/');
                kept.truncate(parent.map_or(1, |slash| slash + 1));
            }
            _ => {
                kept.extend(segment);
                if segments.peek().is_some() {
                    kept.push(b'/');
                }
            }
        }
    }
    kept
}

fn without_backslashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

fn without_doubled_slashes(path: &[u8]) -> Vec<u8> {
    let mut kept = path.to_vec();
    kept.dedup_by(|next, last| *next == b'/' && *last == b'/');
    kept
}

/// Whether there is nothing to decode and no slash to collapse in a normal path.
fn is_identity(normal: &[u8]) -> bool {
    !normal.contains(&b'%') && !normal.windows(2).any(|pair| pair == b"//")
}

fn any_decoded_form(spelled: &str, matches: &mut impl FnMut(&str) -> bool) -> bool {
    let decoded: Vec<u8> = percent_decode_str(spelled).collect();
    any_resolved_form(&decoded, matches)
        || (decoded.contains(&b'\\') && any_resolved_form(&without_backslashes(&decoded), matches))
}

/// Servers differ in what they do first: `/x//../admin/` is `/x/admin/` to one and `/admin/` to another.
fn any_resolved_form(decoded: &[u8], matches: &mut impl FnMut(&str) -> bool) -> bool {
    let mut matches = |path: &[u8]| matches(&String::from_utf8_lossy(path));
    let (resolved, merged) = (without_dot_segments(decoded), without_doubled_slashes(decoded));
    matches(decoded)
        || matches(&merged)
        || matches(&resolved)
        || matches(&without_doubled_slashes(&resolved))
        || matches(&without_dot_segments(&merged))
}

#[cfg(test)]
mod tests;
