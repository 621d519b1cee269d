//! WHAT LIES THERE? Reads of objects, whole, in ranges and on condition; a body that breaks off goes on where it broke.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_smithy_types::body::SdkBody;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt as _};
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::{Fetched, Inner, Look, Opened, S3Error, S3ErrorKind, Version, refused};
use crate::page::large::Pieces;
use crate::store::s3::call::Sending;
use crate::store::s3::failure::Failure;
use crate::store::s3::failure::advice::Attempt;
use crate::store::s3::requests::Class;

/// Memory that is set aside before the first byte came, at most: a length is only a claim.
const RESERVE_MAX: u64 = 1 << 20;

pub(super) async fn get(inner: &Arc<Inner>, key: &str, most: u64) -> Result<Option<Fetched>, S3Error> {
    let key = inner.key(key)?;
    let attempt = reading(&key);
    match answer(inner, &key, Asked::default()).await {
        Ok((answer, _slot)) => whole(inner, &key, answer, most).await.map(Some),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(inner.explain(failure, attempt)),
    }
}

pub(super) async fn look(inner: &Arc<Inner>, key: &str, known: &Version, most: u64) -> Result<Look, S3Error> {
    let key = inner.key(key)?;
    let asked = Asked { unless: Some(known), ..Asked::default() };
    match answer(inner, &key, asked).await {
        // Some servers ignore the condition and send the object again.
        Ok((answer, _slot)) if answer.version == *known => Ok(Look::Unchanged),
        Ok((answer, _slot)) => whole(inner, &key, answer, most).await.map(Look::Changed),
        Err(failure) if failure.status == Some(304) => Ok(Look::Unchanged),
        Err(failure) if failure.is_absent() => Ok(Look::Absent),
        Err(failure) => Err(inner.explain(failure, reading(&key))),
    }
}

/// Does the server say 304 to who knows this version, and send nothing?
pub(super) async fn is_spared(inner: &Arc<Inner>, key: &str, known: &Version) -> Result<bool, S3Error> {
    let key = inner.key(key)?;
    let asked = Asked { unless: Some(known), ..Asked::default() };
    match answer(inner, &key, asked).await {
        Ok(_) => Ok(false),
        Err(failure) if failure.status == Some(304) => Ok(true),
        Err(failure) => Err(inner.explain(failure, reading(&key))),
    }
}

pub(super) async fn open_range(
    inner: &Arc<Inner>,
    key: &str,
    range: Range<u64>,
    only: Option<&Version>,
) -> Result<Option<Opened>, S3Error> {
    let key = inner.key(key)?;
    let asked = Asked { range: Some(range.clone()), only, unless: None };
    let found = if range.is_empty() { Err(None) } else { answer(inner, &key, asked).await.map_err(Some) };
    match found {
        Ok((answer, _slot)) => Ok(Some(opened(inner, key, answer, range))),
        // 416 says nothing about the object: it is empty or shorter.
        Err(failure) if failure.as_ref().is_none_or(|failure| failure.status == Some(416)) => {
            nothing_of(inner, &key, only).await
        }
        Err(Some(failure)) if failure.is_absent() => Ok(None),
        Err(Some(failure)) => Err(not_read(inner, &key, failure)),
        Err(None) => Ok(None),
    }
}

/// What the object is, without any of its bytes; `None`: nothing lies there.
async fn nothing_of(inner: &Arc<Inner>, key: &str, only: Option<&Version>) -> Result<Option<Opened>, S3Error> {
    match facts(inner, key).await {
        Ok((version, _)) if only.is_some_and(|only| *only != version) => Err(replaced(inner, key)),
        Ok((version, total_bytes)) => Ok(Some(Opened { version, total_bytes, pieces: Box::pin(stream::empty()) })),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(not_read(inner, key, failure)),
    }
}

/// Version and size of an object, without reading it.
pub(super) async fn facts(inner: &Arc<Inner>, key: &str) -> Result<(Version, u64), Failure> {
    let send = || -> Sending<'_, _> {
        let request = inner.client.head_object().bucket(&inner.place.bucket).key(key);
        let request = request.set_expected_bucket_owner(inner.said.owner.clone());
        let request = request.set_request_payer(inner.said.payer.clone());
        Box::pin(async move { request.send().await.map_err(Failure::of) })
    };
    let (output, _slot) = inner.calls.read(Class::Get, send).await?;
    let total = output.content_length().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
    Ok((version(output.e_tag())?, total))
}

fn reading(key: &str) -> Attempt<'_> {
    Attempt { verb: "read", right: "s3:GetObject", key: Some(key) }
}

fn not_read(inner: &Inner, key: &str, failure: Failure) -> S3Error {
    if failure.is_condition() { replaced(inner, key) } else { inner.explain(failure, reading(key)) }
}

fn replaced(inner: &Inner, key: &str) -> S3Error {
    refused(format!("{key} in the bucket {} was replaced while it was read: read it anew", inner.place.bucket))
}

/// What a GET asks for.
#[derive(Clone, Debug, Default)]
struct Asked<'a> {
    range: Option<Range<u64>>,
    only: Option<&'a Version>,
    unless: Option<&'a Version>,
}

/// What a GET brought: the head, and a body that begins at `starts_at`.
struct Answer {
    version: Version,
    total_bytes: u64,
    starts_at: u64,
    body: SdkBody,
}

async fn answer(inner: &Inner, key: &str, asked: Asked<'_>) -> Result<(Answer, OwnedSemaphorePermit), Failure> {
    let send = || -> Sending<'_, GetObjectOutput> {
        let range = asked.range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let request = inner.client.get_object().bucket(&inner.place.bucket).key(key).set_range(range);
        let request = request.set_if_match(asked.only.map(|version| version.0.to_string()));
        let request = request.set_if_none_match(asked.unless.map(|version| version.0.to_string()));
        let request = request.set_expected_bucket_owner(inner.said.owner.clone());
        let request = request.set_request_payer(inner.said.payer.clone());
        Box::pin(async move { request.send().await.map_err(Failure::of) })
    };
    let (output, slot) = match asked.unless {
        None => inner.calls.read(Class::Get, send).await?,
        Some(_) => inner.calls.read(Class::Get, send).await?,
    };
    let version = version(output.e_tag())?;
    if asked.only.is_some_and(|only| *only != version) {
        // The server ignores conditions.
        let mut failure = Failure::said(S3ErrorKind::Other, "another version came than the one asked for");
        failure.status = Some(412);
        return Err(failure);
    }
    let length = output.content_length().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
    let (starts_at, total_bytes) = match output.content_range() {
        None => (0, length),
        Some(text) => content_range(text).ok_or_else(|| {
            Failure::said(S3ErrorKind::Other, format!("the server answered with Content-Range: {text}"))
        })?,
    };
    Ok((Answer { version, total_bytes, starts_at, body: output.body.into_inner() }, slot))
}

/// First byte and size of the whole, of `bytes 0-99/1234` (RFC 9110, section 14.4).
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()?))
}

pub(super) fn version(etag: Option<&str>) -> Result<Version, Failure> {
    match etag {
        Some(etag) if !etag.is_empty() => Ok(Version(etag.into())),
        _ => Err(Failure::said(S3ErrorKind::Other, "the server answered without an ETag")),
    }
}

async fn whole(inner: &Arc<Inner>, key: &str, answer: Answer, most: u64) -> Result<Fetched, S3Error> {
    if answer.total_bytes > most {
        return Err(refused(format!(
            "{key} in the bucket {} has {} bytes, more than the {most} expected",
            inner.place.bucket, answer.total_bytes
        )));
    }
    let (version, total) = (answer.version.clone(), answer.total_bytes);
    let mut pieces = opened(inner, key.to_owned(), answer, 0..total).pieces;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            let kind =
                if error.kind() == io::ErrorKind::TimedOut { S3ErrorKind::Timeout } else { S3ErrorKind::Unreachable };
            inner.explain(Failure::said(kind, error.to_string()), reading(key))
        })?;
        // A small object comes in one piece, and need not be copied.
        if first.is_empty() && rest.is_empty() {
            first = piece;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(usize::try_from(total.min(RESERVE_MAX)).expect("it is small"));
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&piece);
    }
    let bytes = if rest.is_empty() { first } else { rest.freeze() };
    Ok(Fetched { version, bytes })
}

fn opened(inner: &Arc<Inner>, key: String, answer: Answer, range: Range<u64>) -> Opened {
    let Answer { version, total_bytes, starts_at, body } = answer;
    let reading = Reading {
        inner: Arc::clone(inner),
        key,
        version: version.clone(),
        next: range.start,
        end: range.end.min(total_bytes),
        body_at: starts_at,
        body,
        resumptions: 0,
    };
    let pieces: Pieces = Box::pin(stream::try_unfold(reading, Reading::piece));
    Opened { version, total_bytes, pieces }
}

/// A body on its way.
struct Reading {
    inner: Arc<Inner>,
    key: String,
    version: Version,
    /// The next byte of the object that is asked for, and the one after the last.
    next: u64,
    end: u64,
    /// Where in the object `body` goes on: before `next` when a server ignored the range.
    body_at: u64,
    body: SdkBody,
    resumptions: u32,
}

impl Reading {
    async fn piece(mut self) -> io::Result<Option<(Bytes, Self)>> {
        while self.next < self.end {
            let limit = self.inner.calls.read_timeout();
            let broken = match timeout(limit, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if let Some(piece) = self.wanted(data) {
                        return Ok(Some((piece, self)));
                    }
                    continue;
                }
                Ok(Some(Err(error))) => io::Error::other(format!("the body broke off: {error}")),
                Ok(None) => io::Error::new(io::ErrorKind::UnexpectedEof, "the body ended too early"),
                Err(_) => io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no piece of the body within {} ms", limit.as_millis()),
                ),
            };
            self.resume(broken).await?;
        }
        Ok(None)
    }

    /// The part of a piece that was asked for.
    fn wanted(&mut self, mut data: Bytes) -> Option<Bytes> {
        let bytes = |length: usize| u64::try_from(length).expect("a piece lies in memory");
        let begins = self.body_at;
        self.body_at += bytes(data.len());
        if self.body_at <= self.next {
            return None;
        }
        let skipped = usize::try_from(self.next - begins).expect("it is less than the piece");
        data = data.split_off(skipped);
        data.truncate(usize::try_from(self.end - self.next).unwrap_or(usize::MAX));
        self.next += bytes(data.len());
        Some(data)
    }

    /// Asks for the rest, of the same version, as often as an operation may be tried in all.
    async fn resume(&mut self, broken: io::Error) -> io::Result<()> {
        self.resumptions += 1;
        if self.resumptions >= self.inner.calls.attempts() {
            return Err(broken);
        }
        let asked = Asked { range: Some(self.next..self.end), only: Some(&self.version), unless: None };
        let found = answer(&self.inner, &self.key, asked).await;
        let (answer, _slot) = found.map_err(|failure| {
            let error = not_read(&self.inner, &self.key, failure);
            io::Error::new(broken.kind(), format!("{broken}; it could not go on: {error}"))
        })?;
        self.body_at = answer.starts_at;
        self.body = answer.body;
        if self.body_at > self.next {
            return Err(io::Error::other(format!("{broken}; the server goes on at another place than asked for")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_names_its_first_byte_and_the_whole() {
        assert_eq!(content_range("bytes 3-4/5"), Some((3, 5)));
        assert_eq!(content_range("bytes 0-0/1"), Some((0, 1)));
        for text in ["", "bytes */5", "bytes 3-4/*", "items 3-4/5", "bytes 3/5"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
