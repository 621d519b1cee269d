//! How is a head written as JSON? The only place that knows the names of its members.
//!
//! It never changes a value: what cannot be a head is an error.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Head;
use crate::clock::UnixMillis;
use crate::page::shared::shared;
use crate::page::{JournalId, Key, ObjectName, PageHead, Sequence, Variants};

/// [`PageHead`] as JSON. The method is that of the name.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredPage {
    name: ObjectName,
    host: Arc<str>,
    path: Arc<str>,
    query: Option<Arc<str>>,
    status: u16,
    headers: Vec<(String, String)>,
    stored_at: UnixMillis,
    age_seconds: u64,
    fresh_seconds: Option<u64>,
    as_of: Sequence,
    journal: JournalId,
    tags: Vec<Arc<str>>,
    varied_by: Vec<(String, String)>,
    /// Bytes of a body that is compressed where it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) decoded_bytes: Option<u64>,
}

impl StoredPage {
    pub(super) fn new(name: &ObjectName, head: &PageHead) -> Self {
        StoredPage {
            name: name.clone(),
            host: head.host.clone(),
            path: head.path.clone(),
            query: head.query.clone(),
            status: head.status.as_u16(),
            headers: head.headers.iter().map(|(field, value)| (field.to_owned(), to_latin1(value))).collect(),
            stored_at: head.stored_at,
            age_seconds: head.age_seconds,
            fresh_seconds: head.fresh_seconds,
            as_of: head.as_of,
            journal: head.journal.clone(),
            tags: head.tags.clone(),
            varied_by: head.varied_by.iter().map(|(field, value)| (field.to_string(), value.clone())).collect(),
            decoded_bytes: None,
        }
    }

    pub(super) fn into_head(self) -> Result<(ObjectName, Head), http::Error> {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (field, value) in &self.headers {
            headers.try_append(HeaderName::try_from(field)?, from_latin1(value)?)?;
        }
        let varied_by = self.varied_by.into_iter().map(|(field, value)| Ok((HeaderName::try_from(field)?, value)));
        let head = PageHead {
            method: self.name.method.clone(),
            host: shared(&self.host),
            path: self.path,
            query: self.query,
            status: StatusCode::from_u16(self.status)?,
            headers: headers.into(),
            stored_at: self.stored_at,
            age_seconds: self.age_seconds,
            fresh_seconds: self.fresh_seconds,
            as_of: self.as_of,
            journal: JournalId(shared(&self.journal.0)),
            tags: self.tags,
            varied_by: varied_by.collect::<Result<_, http::Error>>()?,
        };
        Ok((self.name, Head::Page(head)))
    }
}

/// [`Variants`] as JSON.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredVariants {
    name: ObjectName,
    host: Arc<str>,
    path: Arc<str>,
    fields: Vec<String>,
    known: Vec<Key>,
    as_of: Sequence,
    journal: JournalId,
}

impl StoredVariants {
    pub(super) fn new(name: &ObjectName, variants: &Variants) -> Self {
        StoredVariants {
            name: name.clone(),
            host: variants.host.clone(),
            path: variants.path.clone(),
            fields: variants.fields.iter().map(ToString::to_string).collect(),
            known: variants.known.clone(),
            as_of: variants.as_of,
            journal: variants.journal.clone(),
        }
    }

    pub(super) fn into_head(self) -> Result<(ObjectName, Head), http::Error> {
        let fields = self.fields.into_iter().map(|field| Ok(HeaderName::try_from(field)?));
        let variants = Variants {
            fields: fields.collect::<Result<_, http::Error>>()?,
            known: self.known,
            host: self.host,
            path: self.path,
            as_of: self.as_of,
            journal: self.journal,
        };
        Ok((self.name, Head::Variants(variants)))
    }
}

/// Its bytes.
pub(super) fn to_json(head: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(head).expect("strings and numbers only, under keys that are strings")
}

/// A field's value as text: each byte the character of the same number, so that any value survives and ASCII stays readable.
fn to_latin1(value: &[u8]) -> String {
    value.iter().copied().map(char::from).collect()
}

fn from_latin1(text: &str) -> Result<HeaderValue, http::Error> {
    // A character beyond Latin-1 becomes a NUL, which no value may hold.
    let bytes: Vec<u8> = text.chars().map(|character| u8::try_from(character).unwrap_or(0)).collect();
    Ok(HeaderValue::from_maybe_shared(Bytes::from(bytes))?)
}
