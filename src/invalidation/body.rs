//! What does the body of `POST /invalidate` ask for?
//!
//! Three forms are read: everpage's object, a bare array of paths, and the event of draft-nottingham-http-invalidation. A body is
//! taken whole or refused whole: a selector that was overlooked would leave a page that its writer believes gone. This module
//! never applies anything and never looks at what is stored.

mod fault;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

pub use self::fault::{BodyError, Fault};
use self::shape::{Members, Value};
use super::selector::{Record, Target};
use crate::background;
use crate::clock::UnixMillis;
use crate::policy::host::normalise_host;
use crate::policy::path::{PathError, normalise, split_url};

/// Paths, prefixes and tags of one request together: ten times what a site has ever been seen to send, and still one line of a
/// journal.
pub const MAX_SELECTORS: usize = 100_000;
/// Texts that are read at once: a tenth of a millisecond. Then others have their turn.
const READ_AT_ONCE: usize = 500;
/// Bytes of one tag.
pub const MAX_TAG_BYTES: usize = 1024;
/// Bytes of an id: a UUID, a digest, a name with a number.
pub const MAX_ID_BYTES: usize = 128;
/// Bytes of a reason: a sentence for the log, not a document.
pub const MAX_REASON_BYTES: usize = 1024;

/// Keys that name pages.
const SELECTORS: [&str; 4] = ["paths", "prefixes", "tags", "all"];
/// Keys that say how.
const OPTIONS: [&str; 6] = ["host", "refresh", "soft", "dry_run", "reason", "id"];

/// A body, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is invalidated.
    pub record: Record,
    /// Fetch again what was stored of the named pages.
    pub refresh: bool,
    /// Say what would happen, and do nothing.
    pub dry_run: bool,
    /// `record.paths`, one for one, as the caller wrote them first: for `unmatched`.
    pub named: Vec<String>,
}

impl Request {
    /// There is nothing to do: a list was given and it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record.is_empty()
    }
}

/// Reads a body that arrived at `now`.
///
/// # Errors
/// The first mistake; nothing may be done then.
pub fn parse(body: &[u8], now: UnixMillis) -> Result<Request, BodyError> {
    let record = Record { at: now, ..Record::default() };
    let mut request = Request { record, refresh: false, dry_run: false, named: Vec::new() };
    match shape::read(body)? {
        Value::List(list) => request.add_paths("", list.into_texts("")?)?,
        Value::Object(mut members) => {
            members.check()?;
            if members.has("type") || members.has("selectors") {
                request.read_event(&mut members)?;
            } else {
                request.read_object(&mut members)?;
            }
        }
        other => {
            let detail = format!("the body is {}; send {{\"paths\": [\"/blog/\"]}} or [\"/blog/\"]", other.kind());
            return Err(Fault::NotARequest.because(detail));
        }
    }
    Ok(request)
}

impl Request {
    /// everpage's own form.
    fn read_object(&mut self, members: &mut Members) -> Result<(), BodyError> {
        let known = || SELECTORS.into_iter().chain(OPTIONS);
        if let Some(key) = members.keys().find(|key| !known().any(|known| known == *key)) {
            let hint = closest(key, known()).map_or_else(
                || format!("known are {}", known().collect::<Vec<_>>().join(", ")),
                |known| format!("did you mean `{known}`?"),
            );
            return Err(Fault::UnknownKey.because(format!("unknown key {}; {hint}", shown(key))));
        }
        if !SELECTORS.iter().any(|key| members.has(key)) {
            let detail = format!("nothing is named; give at least one of {}", SELECTORS.join(", "));
            return Err(Fault::NoSelector.because(detail));
        }
        self.read_options(members)?;
        self.record.all = members.flag("all")?;
        self.add_paths("paths", members.list("paths")?.unwrap_or_default())?;
        self.add_prefixes("prefixes", &members.list("prefixes")?.unwrap_or_default())?;
        self.add_tags("tags", members.list("tags")?.unwrap_or_default())
    }

    /// The event of draft-nottingham-http-invalidation, section 3. Its unknown members are ignored, as the draft asks, and so is
    /// `purge`: an invalidated page is not served again either way.
    fn read_event(&mut self, members: &mut Members) -> Result<(), BodyError> {
        if let Some(key) = SELECTORS.iter().find(|key| members.has(key)) {
            let detail = format!("`{key}` does not go with `type` and `selectors`; send two requests");
            return Err(Fault::MixedForms.because(detail));
        }
        self.read_options(members)?;
        let missing = |key| Fault::NoSelector.because(format!("an event has a type and selectors; `{key}` is missing"));
        let kind = members.text("type")?.ok_or_else(|| missing("type"))?;
        let selectors = members.list("selectors")?.ok_or_else(|| missing("selectors"))?;
        match kind.as_str() {
            "uri" => self.add_paths("selectors", selectors),
            "uri-prefix" => self.add_prefixes("selectors", &selectors),
            "origin" => self.add_origins(&selectors),
            "group" => match members.list("groups")? {
                Some(groups) => self.add_groups(&selectors, groups),
                // The short form has the groups themselves as selectors; an origin there is the draft's form, half of it missing.
                None if selectors.iter().any(|text| text.contains("://")) => Err(missing("groups")),
                None => self.add_tags("selectors", selectors),
            },
            other => {
                let detail = format!("type {} is none of uri, uri-prefix, group, origin", shown(other));
                Err(Fault::UnknownType.because(detail))
            }
        }
    }

    fn read_options(&mut self, members: &mut Members) -> Result<(), BodyError> {
        self.refresh = members.flag("refresh")?;
        self.dry_run = members.flag("dry_run")?;
        self.record.soft = members.flag("soft")?;
        self.record.host = members.text("host")?.map(|raw| host(&raw)).transpose()?;
        self.record.reason = members.text("reason")?.map(reason).transpose()?;
        self.record.id = members.text("id")?.map(id).transpose()?;
        Ok(())
    }

    fn add_paths(&mut self, list: &str, texts: Vec<String>) -> Result<(), BodyError> {
        self.check_room(texts.len())?;
        let mut seen = HashSet::with_capacity(texts.len());
        for (at, text) in texts.into_iter().enumerate() {
            if (at + 1).is_multiple_of(READ_AT_ONCE) {
                background::step_back();
            }
            let target = target(&format_args!("{list}[{at}]"), &text, self.record.host.as_ref())?;
            if seen.insert(target.clone()) {
                self.record.paths.push(target);
                self.named.push(text);
            }
        }
        Ok(())
    }

    fn add_prefixes(&mut self, list: &str, texts: &[String]) -> Result<(), BodyError> {
        self.check_room(texts.len())?;
        let targets = texts.iter().enumerate().map(|(at, text)| {
            let target = target(&format_args!("{list}[{at}]"), text, self.record.host.as_ref())?;
            Ok(Target { path: without_end_slash(target.path), ..target })
        });
        self.record.prefixes = unique(targets)?;
        Ok(())
    }

    fn add_tags(&mut self, list: &str, tags: Vec<String>) -> Result<(), BodyError> {
        self.check_room(tags.len())?;
        self.record.tags = unique(tags.into_iter().enumerate().map(|(at, tag)| match tag.len() {
            0 => Err(Fault::BadTag.because(format!("{list}[{at}] is empty; a tag has at least one character"))),
            1..=MAX_TAG_BYTES => Ok(tag.into()),
            bytes => {
                let detail = format!("{list}[{at}] has {bytes} bytes; at most {MAX_TAG_BYTES} are allowed");
                Err(Fault::BadTag.because(detail))
            }
        }))?;
        Ok(())
    }

    /// Everything of a host is everything at and below its root.
    fn add_origins(&mut self, selectors: &[String]) -> Result<(), BodyError> {
        self.check_room(selectors.len())?;
        let root: Arc<str> = "/".into();
        self.record.prefixes =
            unique(origins(selectors).map(|host| Ok(Target { host: Some(host?), path: root.clone() })))?;
        Ok(())
    }

    /// Groups belong to an origin (RFC 9875, section 2). A record has room for one host; the groups of several origins are
    /// invalidated on every host: more than was asked for, never less.
    fn add_groups(&mut self, selectors: &[String], groups: Vec<String>) -> Result<(), BodyError> {
        self.check_room(selectors.len() + groups.len())?;
        match unique(origins(selectors))?.as_slice() {
            [] => return Ok(()),
            [host] => self.record.host = Some(host.clone()),
            _ => self.record.host = None,
        }
        self.add_tags("groups", groups)
    }

    /// Lists are checked before they are walked.
    fn check_room(&self, more: usize) -> Result<(), BodyError> {
        let present = self.record.paths.len() + self.record.prefixes.len() + self.record.tags.len();
        if present + more <= MAX_SELECTORS {
            return Ok(());
        }
        let detail = format!("more than {MAX_SELECTORS} selectors; send several requests, or a prefix");
        Err(Fault::TooManySelectors.because(detail))
    }
}

/// A path or URL; query and fragment are dropped, a path stands for all its variants.
fn target(place: &std::fmt::Arguments<'_>, text: &str, default_host: Option<&Arc<str>>) -> Result<Target, BodyError> {
    let wrong = |error: PathError| {
        let hint = match error {
            PathError::NoLeadingSlash => format!("; write {}", shown(&format!("/{text}"))),
            _ => String::new(),
        };
        Fault::BadPath.because(format!("{place} is {}: {error}{hint}", shown(text)))
    };
    let (own_host, path) = split_url(text).map_err(wrong)?;
    let path = normalise(path).map_err(wrong)?;
    Ok(Target { host: own_host.map(Arc::from).or_else(|| default_host.cloned()), path: Arc::from(path) })
}

/// `/blog/` and `/blog` are one prefix.
fn without_end_slash(path: Arc<str>) -> Arc<str> {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(shorter) => shorter.into(),
    }
}

/// The hosts of origins such as `https://shop.example:443`.
fn origins(selectors: &[String]) -> impl Iterator<Item = Result<Arc<str>, BodyError>> {
    selectors.iter().enumerate().map(|(at, text)| match split_url(text) {
        Ok((Some(host), "/")) => Ok(host.into()),
        _ => {
            let detail = format!("selectors[{at}] is {}; give an origin: \"https://shop.example:443\"", shown(text));
            Err(Fault::BadHost.because(detail))
        }
    })
}

fn host(raw: &str) -> Result<Arc<str>, BodyError> {
    let host = normalise_host(raw).map_err(|error| {
        let detail = format!("`host` is {}: {error}; give a name such as \"shop.example\"", shown(raw));
        Fault::BadHost.because(detail)
    })?;
    Ok(host.into())
}

fn reason(text: String) -> Result<Arc<str>, BodyError> {
    if text.len() > MAX_REASON_BYTES {
        let detail = format!("`reason` has {} bytes; at most {MAX_REASON_BYTES} are allowed", text.len());
        return Err(Fault::BadReason.because(detail));
    }
    Ok(text.into())
}

fn id(text: String) -> Result<Arc<str>, BodyError> {
    if text.is_empty() || text.len() > MAX_ID_BYTES || text.chars().any(char::is_control) {
        let detail = format!("`id` is {}; give 1 to {MAX_ID_BYTES} bytes without control characters", shown(&text));
        return Err(Fault::BadId.because(detail));
    }
    Ok(text.into())
}

/// The first of each, in order, or the first mistake.
fn unique<T: Clone + Eq + Hash>(items: impl Iterator<Item = Result<T, BodyError>>) -> Result<Vec<T>, BodyError> {
    let mut seen = HashSet::new();
    let first = items.filter(|item| item.as_ref().map_or(true, |item| seen.insert(item.clone())));
    first.collect()
}

/// A caller's text in a message: quoted, and not longer than a message should be.
fn shown(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The known key that was probably meant.
fn closest(key: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // Longer than any known key and its mistakes: not worth a comparison.
    if key.len() > 16 {
        return None;
    }
    let near = known.map(|known| (edits(key, known), known)).filter(|(edits, known)| *edits <= known.len() / 2);
    near.min_by_key(|(edits, _)| *edits).map(|(_, known)| known)
}

/// Levenshtein's distance: characters to insert, delete or replace.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (above, a) in from.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (left, b) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[left + 1];
            row[left + 1] = replaced.min(diagonal + 1).min(row[left] + 1);
        }
    }
    row[row.len() - 1]
}
