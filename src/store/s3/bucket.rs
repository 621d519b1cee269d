//! WHAT DOES S3 DO FOR US? The few operations everpage needs, on keys below one location, with bounds on every wait and retry.
//!
//! The only door to the bucket: every key is joined to `location` here, so nothing outside it can be read, listed or deleted.
//! Knows nothing of pages and journals.

mod list;
mod location;
mod opening;
mod probe;
mod read;
mod remove;
mod said;
mod upload;
mod write;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use bytes::Bytes;
use tokio::sync::Semaphore;

pub use self::probe::{ConditionalWrites, Probe};

use self::location::Location;
use self::said::Said;
use self::write::EtagForm;
use super::breaker::Health;
use super::call::Calls;
use super::client;
use super::failure::Failure;
use super::failure::advice::{Attempt, Place};
use super::requests::RequestCount;
use crate::clock::{Clock, UnixMillis};
use crate::config;
use crate::page::large::{LargeBody, Pieces};

/// The entity tag of an object, as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(Arc<str>);

/// An object that was read whole.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Which version it was.
    pub version: Version,
    /// All of it.
    pub bytes: Bytes,
}

/// An object that is being read.
pub struct Opened {
    /// Which version it is.
    pub version: Version,
    /// Bytes of the whole object, whatever range was asked for.
    pub total_bytes: u64,
    /// The bytes asked for.
    pub pieces: Pieces,
}

/// What a conditional read finds.
#[derive(Clone, Debug)]
pub enum Look {
    /// 304: still this version.
    Unchanged,
    /// Another version.
    Changed(Fetched),
    /// Nothing lies there.
    Absent,
}

/// When a write may take place.
#[derive(Clone, Debug)]
pub enum Condition {
    /// `If-None-Match: *`
    Absent,
    /// `If-Match`
    Is(Version),
}

/// What a conditional write did. An error of the call itself means: nobody knows; read, and look for your own token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It took place.
    Done(Version),
    /// 412, 409, or 404 to `If-Match`: somebody else was first. Nothing was written.
    Lost,
}

/// What is said with an object.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// `Content-Type`
    pub content_type: Option<String>,
    /// `Content-Encoding`
    pub content_encoding: Option<String>,
    /// `Cache-Control`; instead of the configured one.
    pub cache_control: Option<String>,
    /// User metadata, for people: ASCII.
    pub metadata: Vec<(&'static str, String)>,
    /// A page: storage class, ACL and parameters of the configuration apply. The journal's own objects take encryption alone.
    pub is_page: bool,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// Below the location.
    pub key: String,
    /// Bytes of the object.
    pub bytes: u64,
    /// When it was written, by the server's clock.
    pub modified: UnixMillis,
}

/// A part of a listing, in the order of the keys.
#[derive(Clone, Debug, Default)]
pub struct KeyListing {
    /// At most 1,000.
    pub keys: Vec<ListedKey>,
    /// Is there more after the last of them?
    pub is_truncated: bool,
}

/// Why S3 did not do it: what, where, and what would help.
#[derive(Debug, thiserror::Error)]
#[error("{advice}")]
pub struct S3Error {
    /// A sentence for people: what failed, on which bucket and key, and what to do.
    pub advice: String,
    /// For programs and metrics.
    pub kind: S3ErrorKind,
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum S3ErrorKind {
    /// The bucket does not exist.
    NoBucket,
    /// The bucket lies in another region.
    WrongRegion,
    /// The keys are unknown, wrong or expired.
    Credentials,
    /// The keys may not do this.
    Forbidden,
    /// This machine's clock differs too much from the server's.
    Clock,
    /// Nothing answers there: name, address, TLS, proxy.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// 503 SlowDown, 429 and the like.
    Throttled,
    /// 5xx.
    Server,
    /// The circuit breaker is open: S3 was not asked.
    Open,
    /// Anything else.
    Other,
}

/// A bucket, or what lies below a location in it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket(Arc<Inner>);

struct Inner {
    client: Client,
    place: Place,
    location: Location,
    said: Said,
    calls: Calls,
    etag_form: Arc<EtagForm>,
    part_size: u64,
    /// MiB that parts of uploads may take in memory, all uploads together.
    part_memory: Arc<Semaphore>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("place", &self.place).field("location", &self.location).finish_non_exhaustive()
    }
}

impl Inner {
    fn explain(&self, failure: Failure, attempt: Attempt<'_>) -> S3Error {
        failure.advise(&self.place, attempt, Clock::Wall.now().to_system_time())
    }

    /// The key in the bucket.
    fn key(&self, key: &str) -> Result<String, S3Error> {
        self.location.key(key).map_err(refused)
    }
}

/// Something that S3 was not even asked for; in words.
fn refused(mut why: String) -> S3Error {
    why.insert_str(0, "S3 store: ");
    S3Error { advice: why, kind: S3ErrorKind::Other }
}

impl Bucket {
    /// Connects, and tries at once what must work: credentials, region, bucket, permissions.
    ///
    /// # Errors
    /// Which of them does not, and what to do.
    pub async fn open(settings: &config::S3Store) -> Result<Self, S3Error> {
        let location = Location::new(&settings.location).map_err(refused)?;
        let (client, place) = Box::pin(client::connect(settings)).await?;
        let bucket = Bucket::new(client, place, location, settings);
        opening::prove(&bucket.0, settings).await?;
        Ok(bucket)
    }

    /// A bucket that is reached through a client made elsewhere, such as one whose other end is simulated. Nothing is asked; the client must not
    /// repeat requests by itself.
    ///
    /// # Errors
    /// `location` is no folder.
    pub fn behind(client: Client, settings: &config::S3Store) -> Result<Self, S3Error> {
        let location = Location::new(&settings.location).map_err(refused)?;
        let place = Place {
            bucket: settings.bucket.clone(),
            endpoint: None,
            region: client.config().region().map(ToString::to_string).unwrap_or_default(),
            keys_from: "the client".to_owned(),
        };
        Ok(Bucket::new(client, place, location, settings))
    }

    fn new(client: Client, place: Place, location: Location, settings: &config::S3Store) -> Self {
        Bucket(Arc::new(Inner {
            client,
            place,
            location,
            said: Said::new(settings),
            calls: Calls::new(settings),
            etag_form: Arc::default(),
            part_size: settings.part_size.max(upload::PART_MIN_BYTES),
            part_memory: Arc::new(Semaphore::new(upload::PART_MEMORY_MIB)),
        }))
    }

    /// The same bucket, for whoever must not wait behind others: with places and a breaker of its own, and reads that answer within `patience`.
    #[must_use]
    pub fn urgent(&self, patience: Duration) -> Self {
        let Inner { client, place, location, said, calls, etag_form, part_size, part_memory } = &*self.0;
        Bucket(Arc::new(Inner {
            client: client.clone(),
            place: place.clone(),
            location: location.clone(),
            said: said.clone(),
            calls: calls.urgent(patience),
            etag_form: Arc::clone(etag_form),
            part_size: *part_size,
            part_memory: Arc::clone(part_memory),
        }))
    }

    /// The whole object of at most `most` bytes; `None`: nothing lies there.
    ///
    /// # Errors
    /// It could not be read, or is larger.
    pub async fn get(&self, key: &str, most: u64) -> Result<Option<Fetched>, S3Error> {
        read::get(&self.0, key, most).await
    }

    /// Bytes of an object, from those `range` asks for as many as there are; `None`: nothing lies there. With a version: only of that.
    ///
    /// Whoever reads the pieces sets the pace: they take no place among `store.s3.max_requests`.
    ///
    /// # Errors
    /// It could not be read, or is another version by now.
    pub async fn open_range(
        &self,
        key: &str,
        range: Range<u64>,
        only: Option<&Version>,
    ) -> Result<Option<Opened>, S3Error> {
        read::open_range(&self.0, key, range, only).await
    }

    /// The object, unless it is still this version.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn look(&self, key: &str, known: &Version, most: u64) -> Result<Look, S3Error> {
        read::look(&self.0, key, known, most).await
    }

    /// Writes an object: the pieces, one after the other. The last writer wins.
    ///
    /// # Errors
    /// It was perhaps not written.
    pub async fn put(&self, key: &str, pieces: Vec<Bytes>, attributes: &Attributes) -> Result<Version, S3Error> {
        write::put(&self.0, key, pieces, attributes).await
    }

    /// Writes an object, whatever is there. Tried once: an earlier try that arrives late would overwrite what was written since.
    ///
    /// # Errors
    /// Nobody knows whether it was written.
    pub async fn put_once(&self, key: &str, bytes: Bytes) -> Result<Version, S3Error> {
        write::put_once(&self.0, key, bytes).await
    }

    /// Writes an object if the condition holds. Tried once.
    ///
    /// # Errors
    /// Nobody knows whether it was written.
    pub async fn swap(&self, key: &str, bytes: Bytes, condition: &Condition) -> Result<Swap, S3Error> {
        write::swap(&self.0, key, bytes, condition).await
    }

    /// Writes `head` and after it the body, in parts where it is larger than one; parts of an upload that fails are removed.
    ///
    /// # Errors
    /// It was perhaps not written.
    pub async fn upload(
        &self,
        key: &str,
        head: Bytes,
        body: Arc<dyn LargeBody>,
        attributes: &Attributes,
    ) -> Result<(), S3Error> {
        upload::upload(&self.0, key, head, body, attributes).await
    }

    /// Removes the object, if there is one.
    ///
    /// # Errors
    /// It may still be there.
    pub async fn delete(&self, key: &str) -> Result<(), S3Error> {
        remove::delete(&self.0, key).await
    }

    /// Removes objects, at most 1,000 in a request. Returns the keys that were not removed.
    ///
    /// # Errors
    /// Some may still be there.
    pub async fn delete_many(&self, keys: &[String]) -> Result<Vec<String>, S3Error> {
        remove::delete_many(&self.0, keys).await
    }

    /// At most `limit` (and 1,000) keys that start with `prefix`, those after `after`, in byte order.
    ///
    /// # Errors
    /// They could not be listed.
    pub async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<KeyListing, S3Error> {
        list::list(&self.0, prefix, after, limit).await
    }

    /// Ends multipart uploads below the location that began before `before` and were never completed; returns how many.
    ///
    /// # Errors
    /// Some may be left.
    pub async fn abort_uploads(&self, before: UnixMillis) -> Result<u64, S3Error> {
        remove::abort_uploads(&self.0, before).await
    }

    /// Does the server keep the conditions of writes, in races too? 25 small requests; leaves nothing behind.
    ///
    /// # Errors
    /// It could not be tried: that says nothing about the server's conditions.
    pub async fn probe(&self) -> Result<Probe, S3Error> {
        probe::probe(&self.0).await
    }

    /// Does S3 answer, with the rights needed? At most one small request.
    ///
    /// # Errors
    /// It does not, and why.
    pub async fn check(&self) -> Result<(), S3Error> {
        self.list("", None, 1).await.map(drop)
    }

    /// Is S3 asked at all, or is the circuit breaker open: since when, and why?
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.calls.health()
    }

    /// Is the circuit breaker open?
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.health(), Health::Open { .. })
    }

    /// How many requests were made since it was opened, and how they ended; each try counts.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestCount> {
        self.0.calls.requests()
    }
}
