//! HOW DOES A LARGE OBJECT COME TO LIE THERE? In parts, with a bound on the memory that all uploads take together.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::said::say;
use super::write::{self, Content, writing};
use super::{Attributes, Inner, S3Error, S3ErrorKind, refused, remove};
use crate::page::large::{LargeBody, Pieces};
use crate::store::s3::call::Sending;
use crate::store::s3::failure::Failure;
use crate::store::s3::requests::Class;

/// Bytes of a part but the last, at least (S3 user guide, "Amazon S3 multipart upload limits").
pub(super) const PART_MIN_BYTES: u64 = 5 << 20;
/// Parts of an upload, at most (the same place).
const PARTS_MAX: u64 = 10_000;
/// MiB of parts in memory, of all uploads: sixteen parts of the default size, which keep a fast line busy.
pub(super) const PART_MEMORY_MIB: usize = 128;
/// Parts of one upload that are under way at once, so that one upload leaves room for others.
const PARTS_AT_ONCE: usize = 2;
/// For a piece of a body, from wherever it lies: longer than the bounds of every source.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn upload(
    inner: &Arc<Inner>,
    key: &str,
    head: Bytes,
    body: Arc<dyn LargeBody>,
    attributes: &Attributes,
) -> Result<(), S3Error> {
    let full = inner.key(key)?;
    let bytes = u64::try_from(head.len()).expect("it lies in memory") + body.bytes();
    let part_bytes = part_bytes(bytes, inner.part_size).ok_or_else(|| {
        refused(format!("{key} has {bytes} bytes, more than {PARTS_MAX} parts of {PART_MEMORY_MIB} MiB hold"))
    })?;
    let pieces = body.read(0..body.bytes()).await.map_err(|error| not_read(key, &error.to_string()))?;
    let mut source = Source { key: key.to_owned(), pieces, rest: head, left: bytes };
    if bytes <= part_bytes {
        let memory = memory(inner, bytes).await;
        let pieces = source.part(bytes).await?;
        source.end().await?;
        write::put(inner, key, pieces, attributes).await?;
        drop(memory);
        return Ok(());
    }
    let upload = begin(inner, &full, attributes).await?;
    let mut unfinished = Unfinished { inner: Arc::clone(inner), key: full, upload: Some(upload) };
    match in_parts(inner, &unfinished, source, part_bytes).await {
        Ok(()) => {
            unfinished.upload = None;
            Ok(())
        }
        Err(error) => {
            unfinished.abort().await;
            Err(error)
        }
    }
}

/// Bytes of each part; `None`: the object is too large for parts that fit into memory.
fn part_bytes(bytes: u64, part_size: u64) -> Option<u64> {
    const MIB: u64 = 1 << 20;
    let needed = bytes.div_ceil(PARTS_MAX).max(part_size);
    let rounded = needed.div_ceil(MIB) * MIB;
    (rounded <= PART_MEMORY_MIB as u64 * MIB).then_some(rounded)
}

/// A place in memory for so many bytes. It is given back by drop.
async fn memory(inner: &Inner, bytes: u64) -> OwnedSemaphorePermit {
    let mib = u32::try_from(bytes.div_ceil(1 << 20)).expect("a part is no larger than all of the memory for parts");
    // Whoever holds a place reads or sends one part, and both have a bound: so this wait has one.
    let acquired = Arc::clone(&inner.part_memory).acquire_many_owned(mib).await;
    acquired.expect("nobody closes it")
}

fn not_read(key: &str, why: &str) -> S3Error {
    refused(format!("{key} was not written, for its body could not be read: {why}"))
}

/// Head and body, to be cut into parts.
struct Source {
    key: String,
    pieces: Pieces,
    rest: Bytes,
    left: u64,
}

impl Source {
    /// The next part, of so many bytes or as many as are left.
    async fn part(&mut self, bytes: u64) -> Result<Vec<Bytes>, S3Error> {
        let mut wanted = bytes.min(self.left);
        let mut part = Vec::new();
        while wanted > 0 {
            if self.rest.is_empty() {
                self.rest = match self.piece().await? {
                    Some(piece) => piece,
                    None => return Err(not_read(&self.key, "it is shorter than it said")),
                };
                continue;
            }
            let take = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.rest.len());
            part.push(self.rest.split_to(take));
            let taken = u64::try_from(take).expect("it lies in memory");
            wanted -= taken;
            self.left -= taken;
        }
        Ok(part)
    }

    /// Reads to the end: the error of a body with a wrong checksum comes last.
    async fn end(&mut self) -> Result<(), S3Error> {
        while self.rest.is_empty() {
            match self.piece().await? {
                Some(piece) => self.rest = piece,
                None => return Ok(()),
            }
        }
        Err(not_read(&self.key, "it is longer than it said"))
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, S3Error> {
        match timeout(SOURCE_TIMEOUT, self.pieces.next()).await {
            Ok(Some(Ok(piece))) => Ok(Some(piece)),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => Err(not_read(&self.key, &error.to_string())),
            Err(_) => Err(not_read(&self.key, &format!("nothing came for {} s", SOURCE_TIMEOUT.as_secs()))),
        }
    }
}

async fn begin(inner: &Inner, key: &str, attributes: &Attributes) -> Result<String, S3Error> {
    let said = inner.said.with(attributes);
    let send = || -> Sending<'_, String> {
        let request = inner.client.create_multipart_upload().bucket(&inner.place.bucket).key(key);
        let request = say!(said.clone(), request);
        Box::pin(async move {
            let output = request.send().await.map_err(Failure::of)?;
            let upload = output.upload_id().map(str::to_owned);
            upload.ok_or_else(|| Failure::said(S3ErrorKind::Other, "the server began an upload without a name"))
        })
    };
    let begun = inner.calls.write(Class::Multipart, 0, send).await;
    begun.map_err(|failure| inner.explain(failure, writing(key)))
}

async fn in_parts(
    inner: &Arc<Inner>,
    unfinished: &Unfinished,
    mut source: Source,
    part_bytes: u64,
) -> Result<(), S3Error> {
    let (key, upload) = (&unfinished.key, unfinished.upload.as_deref().expect("it has begun"));
    let mut sending: JoinSet<Result<CompletedPart, Failure>> = JoinSet::new();
    let mut parts = Vec::new();
    let mut number = 0;
    while source.left > 0 {
        if sending.len() == PARTS_AT_ONCE {
            parts.push(sent(inner, key, &mut sending).await?);
        }
        let memory = memory(inner, part_bytes.min(source.left)).await;
        let content = Content::new(source.part(part_bytes).await?);
        number += 1;
        let (inner, key, upload) = (Arc::clone(inner), key.clone(), upload.to_owned());
        sending.spawn(async move {
            let part = send_part(&inner, &key, &upload, number, &content).await;
            drop((content, memory));
            part
        });
    }
    source.end().await?;
    while !sending.is_empty() {
        parts.push(sent(inner, key, &mut sending).await?);
    }
    parts.sort_by_key(CompletedPart::part_number);
    complete(inner, key, upload, parts).await.map_err(|failure| inner.explain(failure, writing(key)))
}

async fn sent(
    inner: &Inner,
    key: &str,
    sending: &mut JoinSet<Result<CompletedPart, Failure>>,
) -> Result<CompletedPart, S3Error> {
    let joined = sending.join_next().await.expect("there is one");
    let part = joined.map_err(|error| refused(format!("{key} was not written: {error}")))?;
    part.map_err(|failure| inner.explain(failure, writing(key)))
}

async fn send_part(
    inner: &Inner,
    key: &str,
    upload: &str,
    number: i32,
    content: &Content,
) -> Result<CompletedPart, Failure> {
    let send = || -> Sending<'_, CompletedPart> {
        let request = inner.client.upload_part().bucket(&inner.place.bucket).key(key);
        let request = request.upload_id(upload).part_number(number);
        let request = request.content_length(content.length()).body(content.stream());
        let request = request.set_expected_bucket_owner(inner.said.owner.clone());
        let request = request.set_request_payer(inner.said.payer.clone());
        Box::pin(async move {
            let output = request.send().await.map_err(Failure::of)?;
            Ok(CompletedPart::builder().part_number(number).set_e_tag(output.e_tag).build())
        })
    };
    inner.calls.write(Class::Multipart, content.bytes, send).await
}

/// A second try of a completion whose answer was lost says that there is no such upload: then nobody knows, as after any lost answer.
async fn complete(inner: &Inner, key: &str, upload: &str, parts: Vec<CompletedPart>) -> Result<(), Failure> {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let send = || -> Sending<'_, ()> {
        let request = inner.client.complete_multipart_upload().bucket(&inner.place.bucket).key(key);
        let request = request.upload_id(upload).multipart_upload(parts.clone());
        let request = request.set_expected_bucket_owner(inner.said.owner.clone());
        let request = request.set_request_payer(inner.said.payer.clone());
        Box::pin(async move {
            match request.send().await {
                // An emulator names the element otherwise than S3 does, and the SDK cannot read it. S3 can say 200 and then fail, but says so.
                Err(SdkError::ServiceError(odd)) if odd.raw().status().as_u16() == 200 && !is_error(odd.raw()) => {
                    Ok(())
                }
                completed => completed.map(drop).map_err(Failure::of),
            }
        })
    };
    inner.calls.write(Class::Multipart, 0, send).await
}

fn is_error(answer: &HttpResponse) -> bool {
    let body = answer.body().bytes().unwrap_or_default();
    body.is_empty() || memchr::memmem::find(body, b"<Error").is_some()
}

/// An upload that has begun. Dropped before it is complete, its parts are removed behind everyone's back: they cost money and nobody sees them.
struct Unfinished {
    inner: Arc<Inner>,
    key: String,
    upload: Option<String>,
}

impl Unfinished {
    async fn abort(&mut self) {
        if let Some(upload) = mem::take(&mut self.upload) {
            abort(&self.inner, &self.key, &upload).await;
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let (Some(upload), Ok(runtime)) = (mem::take(&mut self.upload), tokio::runtime::Handle::try_current()) {
            let (inner, key) = (Arc::clone(&self.inner), mem::take(&mut self.key));
            runtime.spawn(async move { abort(&inner, &key, &upload).await });
        }
    }
}

async fn abort(inner: &Inner, key: &str, upload: &str) {
    if let Err(failure) = remove::abort(inner, key, upload).await {
        let why = failure.in_short();
        tracing::warn!(
            key,
            why,
            "S3 store: parts of an upload that failed are left; they are removed with the next sweep"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_with_the_object_and_never_number_more_than_s3_takes() {
        const GIB: u64 = 1 << 30;
        let part = 8 << 20;
        assert_eq!(part_bytes(100 << 20, part), Some(part));
        for bytes in [78 * GIB, 79 * GIB, 500 * GIB, 1249 * GIB] {
            let chosen = part_bytes(bytes, part).unwrap();
            assert!(bytes.div_ceil(chosen) <= PARTS_MAX, "{bytes}");
        }
        assert_eq!(part_bytes(2000 * GIB, part), None);
    }
}
