//! WHAT GOES AWAY? Objects, one or a thousand in a request, and uploads that nobody will complete.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::list::millis;
use super::{Inner, S3Error, refused};
use crate::clock::UnixMillis;
use crate::store::s3::call::Sending;
use crate::store::s3::failure::Failure;
use crate::store::s3::failure::advice::Attempt;
use crate::store::s3::requests::Class;

/// Keys in one request, by S3's documentation (`DeleteObjects`).
const BATCH: usize = 1000;
/// Answers of 1,000 uploads that one call reads: what is left after a million comes the next time.
const UPLOAD_PAGES: usize = 1000;

fn deleting(key: Option<&str>) -> Attempt<'_> {
    Attempt { verb: "delete", right: "s3:DeleteObject", key }
}

fn clearing(key: Option<&str>) -> Attempt<'_> {
    Attempt { verb: "end uploads in", right: "s3:ListBucketMultipartUploads and s3:AbortMultipartUpload", key }
}

pub(super) async fn delete(inner: &Inner, key: &str) -> Result<(), S3Error> {
    let key = inner.key(key)?;
    let send = || -> Sending<'_, _> {
        let request = inner.client.delete_object().bucket(&inner.place.bucket).key(&key);
        let request = request.set_expected_bucket_owner(inner.said.owner.clone());
        let request = request.set_request_payer(inner.said.payer.clone());
        Box::pin(async move { request.send().await.map_err(Failure::of) })
    };
    match inner.calls.write(Class::Delete, 0, send).await {
        Ok(_) => Ok(()),
        // S3 answers 204 whether it was there or not; some servers do not.
        Err(failure) if failure.is_absent() => Ok(()),
        Err(failure) => Err(inner.explain(failure, deleting(Some(&key)))),
    }
}

pub(super) async fn delete_many(inner: &Inner, keys: &[String]) -> Result<Vec<String>, S3Error> {
    // All are looked at before the first goes.
    let full = keys.iter().map(|key| inner.key(key)).collect::<Result<Vec<_>, _>>()?;
    let mut left = Vec::new();
    for batch in full.chunks(BATCH) {
        left.extend(delete_batch(inner, batch).await?);
    }
    Ok(left)
}

async fn delete_batch(inner: &Inner, keys: &[String]) -> Result<Vec<String>, S3Error> {
    let identifiers = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build());
    let objects = identifiers.collect::<Result<Vec<_>, _>>().map_err(|error| refused(error.to_string()))?;
    let batch = Delete::builder().set_objects(Some(objects)).quiet(true).build();
    let batch = batch.map_err(|error| refused(error.to_string()))?;
    let send = || -> Sending<'_, _> {
        let request = inner.client.delete_objects().bucket(&inner.place.bucket).delete(batch.clone());
        let request = request.set_expected_bucket_owner(inner.said.owner.clone());
        let request = request.set_request_payer(inner.said.payer.clone());
        Box::pin(async move { request.send().await.map_err(Failure::of) })
    };
    let output = inner.calls.write(Class::Delete, 0, send).await;
    let output = output.map_err(|failure| inner.explain(failure, deleting(None)))?;
    if let Some(first) = output.errors().first() {
        let (code, message) = (first.code().unwrap_or_default(), first.message().unwrap_or_default());
        tracing::warn!(count = output.errors().len(), code, message, "S3 store: objects could not be deleted");
    }
    let left = output.errors().iter().filter_map(|error| inner.location.relative(error.key()?));
    Ok(left.map(str::to_owned).collect())
}

/// An answer to `ListMultipartUploads` goes on where the last one ended.
#[derive(Clone, Debug, Default)]
struct Marker {
    key: Option<String>,
    upload: Option<String>,
}

pub(super) async fn abort_uploads(inner: &Inner, before: UnixMillis) -> Result<u64, S3Error> {
    let prefix = inner.location.prefix("").map_err(refused)?;
    let mut marker = Marker::default();
    let mut ended = 0;
    for _ in 0..UPLOAD_PAGES {
        let (uploads, next) = uploads(inner, &prefix, &marker).await?;
        for (key, upload, began) in uploads {
            // A server that ignores the prefix shows more than belongs to us.
            if began >= before || inner.location.relative(&key).is_none() {
                continue;
            }
            match abort(inner, &key, &upload).await {
                Ok(()) => ended += 1,
                Err(failure) => return Err(inner.explain(failure, clearing(Some(&key)))),
            }
        }
        match next {
            Some(next) => marker = next,
            None => break,
        }
    }
    Ok(ended)
}

type Upload = (String, String, UnixMillis);

async fn uploads(inner: &Inner, prefix: &str, after: &Marker) -> Result<(Vec<Upload>, Option<Marker>), S3Error> {
    let send = || -> Sending<'_, _> {
        let request = inner.client.list_multipart_uploads().bucket(&inner.place.bucket);
        let request = request.set_prefix((!prefix.is_empty()).then(|| prefix.to_owned()));
        let request = request.set_key_marker(after.key.clone()).set_upload_id_marker(after.upload.clone());
        let request = request.set_expected_bucket_owner(inner.said.owner.clone());
        Box::pin(async move { request.send().await.map_err(Failure::of) })
    };
    let listed = inner.calls.read(Class::List, send).await;
    let (output, _slot) = listed.map_err(|failure| inner.explain(failure, clearing(None)))?;
    let found = output.uploads().iter().filter_map(|upload| {
        // Without a beginning it could be one that is under way.
        Some((upload.key()?.to_owned(), upload.upload_id()?.to_owned(), millis(upload.initiated()?)))
    });
    let next = Marker {
        key: output.next_key_marker().map(str::to_owned),
        upload: output.next_upload_id_marker().map(str::to_owned),
    };
    let goes_on = output.is_truncated() == Some(true) && next.key.is_some();
    Ok((found.collect(), goes_on.then_some(next)))
}

/// Ends one upload; one that is not there is ended.
pub(super) async fn abort(inner: &Inner, key: &str, upload: &str) -> Result<(), Failure> {
    let send = || -> Sending<'_, _> {
        let request = inner.client.abort_multipart_upload().bucket(&inner.place.bucket).key(key).upload_id(upload);
        let request = request.set_expected_bucket_owner(inner.said.owner.clone());
        let request = request.set_request_payer(inner.said.payer.clone());
        Box::pin(async move { request.send().await.map_err(Failure::of) })
    };
    match inner.calls.write(Class::Multipart, 0, send).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_absent() => Ok(()),
        Err(failure) => Err(failure),
    }
}
