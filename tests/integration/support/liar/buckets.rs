//! What lies in the buckets, and when it may be written.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use everpage::clock::{Clock, UnixMillis};
use http::HeaderMap;
use parking_lot::Mutex;
use sha1::{Digest, Sha1};

/// An object.
pub(super) struct Object {
    pub(super) bytes: Bytes,
    /// With its quotes. Equal bytes have equal tags, as on AWS.
    pub(super) etag: String,
    pub(super) modified: UnixMillis,
    /// What is said with it: `content-type`, `x-amz-meta-…` and the like.
    pub(super) fields: HeaderMap,
}

impl Object {
    pub(super) fn new(bytes: Bytes, fields: HeaderMap) -> Self {
        let etag = format!("\"{}\"", &hex::encode(Sha1::digest(&bytes))[..32]);
        Object { bytes, etag, modified: Clock::Wall.now(), fields }
    }
}

/// When a write may take place.
#[derive(Clone, Debug, Default)]
pub(super) enum Condition {
    #[default]
    Always,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match`
    Is(String),
}

/// Why something cannot be done: status, code, message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused(pub(super) u16, pub(super) &'static str, pub(super) &'static str);

pub(super) const NO_BUCKET: Refused = Refused(404, "NoSuchBucket", "The specified bucket does not exist");
pub(super) const NO_KEY: Refused = Refused(404, "NoSuchKey", "The specified key does not exist.");
pub(super) const NO_UPLOAD: Refused = Refused(404, "NoSuchUpload", "The specified upload does not exist.");
pub(super) const PRECONDITION_FAILED: Refused =
    Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold");
const BUCKET_EXISTS: Refused = Refused(409, "BucketAlreadyOwnedByYou", "You own it already.");
const BUCKET_NOT_EMPTY: Refused = Refused(409, "BucketNotEmpty", "The bucket you tried to delete is not empty");
const INVALID_PART: Refused = Refused(400, "InvalidPart", "One or more of the specified parts could not be found.");

impl Condition {
    pub(super) fn check(&self, present: Option<&Object>) -> Result<(), Refused> {
        match (self, present) {
            (Condition::Always, _) | (Condition::Absent, None) => Ok(()),
            (Condition::Is(etag), Some(object)) if *etag == object.etag => Ok(()),
            (Condition::Is(_), None) => Err(NO_KEY),
            _ => Err(PRECONDITION_FAILED),
        }
    }
}

/// An upload in parts.
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) begun: UnixMillis,
    fields: HeaderMap,
    parts: BTreeMap<u32, Object>,
}

#[derive(Default)]
pub(super) struct Bucket {
    pub(super) objects: BTreeMap<String, Arc<Object>>,
    pub(super) uploads: BTreeMap<String, Upload>,
}

/// All buckets.
#[derive(Default)]
pub(super) struct Buckets(Mutex<HashMap<String, Bucket>>);

impl Buckets {
    /// Does something with a bucket, while nobody else does anything.
    pub(super) fn with<T>(
        &self,
        bucket: &str,
        act: impl FnOnce(&mut Bucket) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        act(self.0.lock().get_mut(bucket).ok_or(NO_BUCKET)?)
    }

    pub(super) fn create(&self, bucket: &str) -> Result<(), Refused> {
        let mut buckets = self.0.lock();
        if buckets.contains_key(bucket) {
            return Err(BUCKET_EXISTS);
        }
        buckets.insert(bucket.to_owned(), Bucket::default());
        Ok(())
    }

    pub(super) fn remove(&self, bucket: &str) -> Result<(), Refused> {
        let mut buckets = self.0.lock();
        if !buckets.get(bucket).ok_or(NO_BUCKET)?.objects.is_empty() {
            return Err(BUCKET_NOT_EMPTY);
        }
        buckets.remove(bucket);
        Ok(())
    }
}

impl Bucket {
    pub(super) fn get(&self, key: &str) -> Result<Arc<Object>, Refused> {
        self.objects.get(key).cloned().ok_or(NO_KEY)
    }

    /// Writes it if the condition holds; both at once. Returns its tag.
    pub(super) fn put(&mut self, key: &str, object: Object, condition: &Condition) -> Result<String, Refused> {
        condition.check(self.objects.get(key).map(Arc::as_ref))?;
        let etag = object.etag.clone();
        self.objects.insert(key.to_owned(), Arc::new(object));
        Ok(etag)
    }

    /// At most `limit` objects whose keys start with `prefix`, those after `after`; and whether there are more.
    pub(super) fn list(&self, prefix: &str, after: &str, limit: usize) -> (Vec<(&String, &Arc<Object>)>, bool) {
        let start = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let all = self.objects.range::<str, _>((start, Bound::Unbounded));
        let mut found: Vec<_> = all.take_while(|(key, _)| key.starts_with(prefix)).take(limit + 1).collect();
        let is_truncated = found.len() > limit;
        found.truncate(limit);
        (found, is_truncated)
    }

    pub(super) fn begin_upload(&mut self, key: &str, fields: HeaderMap) -> String {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let upload = Upload { key: key.to_owned(), begun: Clock::Wall.now(), fields, parts: BTreeMap::new() };
        self.uploads.insert(id.clone(), upload);
        id
    }

    pub(super) fn put_part(&mut self, id: &str, number: u32, bytes: Bytes) -> Result<String, Refused> {
        let part = Object::new(bytes, HeaderMap::new());
        let etag = part.etag.clone();
        self.uploads.get_mut(id).ok_or(NO_UPLOAD)?.parts.insert(number, part);
        Ok(etag)
    }

    /// Joins the parts of these numbers, in this order. Returns the object and its key; the upload is over.
    pub(super) fn join_parts(&mut self, id: &str, numbers: &[u32]) -> Result<(String, Object), Refused> {
        let upload = self.uploads.get(id).ok_or(NO_UPLOAD)?;
        let mut bytes = BytesMut::new();
        for number in numbers {
            bytes.extend_from_slice(&upload.parts.get(number).ok_or(INVALID_PART)?.bytes);
        }
        let upload = self.uploads.remove(id).ok_or(NO_UPLOAD)?;
        Ok((upload.key, Object::new(bytes.freeze(), upload.fields)))
    }
}
