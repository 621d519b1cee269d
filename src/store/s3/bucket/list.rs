//! WHICH OBJECTS ARE THERE? Listings, one page at a time.

use super::{Inner, KeyListing, ListedKey, S3Error};
use crate::clock::UnixMillis;
use crate::store::s3::call::Sending;
use crate::store::s3::failure::Failure;
use crate::store::s3::failure::advice::Attempt;
use crate::store::s3::requests::Class;

/// Keys in one answer, by S3's documentation (`ListObjectsV2`, `max-keys`).
const PAGE_MAX: usize = 1000;

pub(super) const LISTING: Attempt<'static> = Attempt { verb: "list", right: "s3:ListBucket", key: None };

pub(super) async fn list(
    inner: &Inner,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<KeyListing, S3Error> {
    let prefix = inner.location.prefix(prefix).map_err(super::refused)?;
    let after = after.map(|after| inner.key(after)).transpose()?;
    let limit = i32::try_from(limit.clamp(1, PAGE_MAX)).expect("it is at most 1,000");
    let send = || -> Sending<'_, _> {
        let request = inner.client.list_objects_v2().bucket(&inner.place.bucket).max_keys(limit);
        let request = request.set_prefix((!prefix.is_empty()).then(|| prefix.clone()));
        let request = request.set_start_after(after.clone());
        let request = request.set_expected_bucket_owner(inner.said.owner.clone());
        let request = request.set_request_payer(inner.said.payer.clone());
        Box::pin(async move { request.send().await.map_err(Failure::of) })
    };
    let listed = inner.calls.read(Class::List, send).await;
    let (output, _slot) = listed.map_err(|failure| inner.explain(failure, LISTING))?;
    let mut listing = KeyListing { keys: Vec::new(), is_truncated: output.is_truncated() == Some(true) };
    for object in output.contents() {
        // A server that ignores the prefix shows more than belongs to us.
        let Some(full) = object.key().filter(|key| key.starts_with(&prefix)) else { continue };
        let Some(key) = inner.location.relative(full) else { continue };
        listing.keys.push(ListedKey {
            key: key.to_owned(),
            bytes: object.size().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
            modified: object.last_modified().map(millis).unwrap_or_default(),
        });
    }
    Ok(listing)
}

pub(super) fn millis(time: &aws_sdk_s3::primitives::DateTime) -> UnixMillis {
    UnixMillis(time.to_millis().ok().and_then(|millis| u64::try_from(millis).ok()).unwrap_or_default())
}
