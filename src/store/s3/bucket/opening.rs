//! DOES IT WORK AT ALL? What must work is tried at start, so that a wrong setting is told then and not to the first visitor.

use std::sync::Arc;

use aws_sdk_s3::types::{BucketCannedAcl, BucketLocationConstraint, CreateBucketConfiguration};
use bytes::Bytes;

use super::list::{self, LISTING};
use super::write::Form;
use super::{Attributes, Condition, Inner, S3Error, S3ErrorKind, Swap, Version, read, refused, remove, write};
use crate::config;
use crate::store::s3::call::Sending;
use crate::store::s3::failure::Failure;
use crate::store::s3::failure::advice::Attempt;
use crate::store::s3::requests::Class;

const CHECKED: &[u8] = b"everpage was here, and removes this at once";

/// Lists, writes, reads and deletes below the location.
pub(super) async fn prove(inner: &Arc<Inner>, settings: &config::S3Store) -> Result<(), S3Error> {
    match list::list(inner, "", None, 1).await {
        Err(error) if error.kind == S3ErrorKind::NoBucket && settings.create_bucket => {
            create(inner, settings).await?;
            list::list(inner, "", None, 1).await?;
        }
        listed => drop(listed?),
    }
    let key = format!("everpage-check-{}", uuid::Uuid::new_v4().simple());
    let version = write::put(inner, &key, vec![Bytes::from_static(CHECKED)], &Attributes::default()).await?;
    let proven = prove_object(inner, &key, &version).await;
    let deleted = remove::delete(inner, &key).await;
    proven.and(deleted)
}

async fn prove_object(inner: &Arc<Inner>, key: &str, version: &Version) -> Result<(), S3Error> {
    let most = u64::try_from(CHECKED.len()).expect("it is short");
    match read::get(inner, key, most).await? {
        Some(found) if found.bytes == CHECKED => {}
        Some(_) => return Err(refused(format!("{key} was written, and something else is read: that is no S3 server"))),
        None => return Err(refused(format!("{key} was written, and is not there: that is no S3 server"))),
    }
    learn_etag_form(inner, key, version).await
}

/// A swap of an object that nobody else knows shows in which form this server wants an ETag. The bare one is believed only where a wrong bare one
/// is refused: a server that overlooks it would write whatever the condition says.
///
/// No error where swaps do not work: not every node needs them.
async fn learn_etag_form(inner: &Arc<Inner>, key: &str, version: &Version) -> Result<(), S3Error> {
    let content = Bytes::from_static(CHECKED);
    let learned = write::swap(inner, key, content.clone(), &Condition::Is(version.clone())).await;
    if matches!(learned, Ok(Swap::Done(_))) && inner.etag_form.now() == Form::Bare {
        let wrong = Version("\"00000000000000000000000000000000\"".into());
        if let Ok(Swap::Done(_)) = write::swap(inner, key, content, &Condition::Is(wrong)).await {
            return Err(refused(format!(
                "the server at {} takes a write on condition whatever the condition says",
                inner.place.endpoint.as_deref().unwrap_or("Amazon")
            )));
        }
    }
    Ok(())
}

async fn create(inner: &Inner, settings: &config::S3Store) -> Result<(), S3Error> {
    let attempt = Attempt { verb: "create", right: "s3:CreateBucket", ..LISTING };
    let place = &inner.place;
    // us-east-1 is what S3 means by no constraint at all, and refuses as a name (S3 API reference, CreateBucket).
    let constraint = (place.region != "us-east-1").then(|| {
        let region = BucketLocationConstraint::from(place.region.as_str());
        CreateBucketConfiguration::builder().location_constraint(region).build()
    });
    let acl = (!settings.bucket_acl.is_empty()).then(|| BucketCannedAcl::from(settings.bucket_acl.as_str()));
    let send = || -> Sending<'_, ()> {
        let request = inner.client.create_bucket().bucket(&place.bucket).set_acl(acl.clone());
        let request = request.set_create_bucket_configuration(constraint.clone());
        Box::pin(async move { request.send().await.map(drop).map_err(Failure::of) })
    };
    match inner.calls.write(Class::Bucket, 0, send).await {
        // Another node was faster.
        Err(failure) if failure.code == "BucketAlreadyOwnedByYou" => Ok(()),
        Err(failure) if failure.code == "BucketAlreadyExists" => Err(refused(format!(
            "the bucket {} belongs to somebody else: choose another name in store.s3.bucket",
            place.bucket
        ))),
        created => created.map_err(|failure| inner.explain(failure, attempt)),
    }
}
