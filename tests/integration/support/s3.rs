//! The S3 servers that `tests/s3/up` starts, and buckets on them, seen without everpage: by the SDK alone.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::Bytes;
use everpage::config::{AddressingStyle, S3Store, Secret};

/// Both servers know these.
pub const ACCESS_KEY: &str = "AKIAX";
/// Beside it.
pub const SECRET_KEY: &str = "SECRETX";
/// The one that all S3 servers take.
pub const REGION: &str = "us-east-1";

/// No test waits longer for a server.
const PATIENCE: Duration = Duration::from_secs(20);

/// A real S3 server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// An emulator of AWS: never checks a signature.
    Moto,
    /// Ceph's gateway: checks each.
    Rgw,
}

impl Server {
    /// Where it listens.
    ///
    /// # Panics
    /// It was not started.
    #[expect(clippy::disallowed_methods, reason = "whoever started the servers says in the environment where they are")]
    pub fn endpoint(self) -> String {
        let variable = match self {
            Server::Moto => "TEST_S3_MOTO",
            Server::Rgw => "TEST_S3_RGW",
        };
        std::env::var(variable).expect("start the S3 servers: eval \"$(tests/s3/up)\"")
    }

    /// What `[store.s3]` says for a bucket of this server.
    pub fn settings(self, bucket: &str) -> S3Store {
        settings(&self.endpoint(), bucket)
    }

    /// The SDK, connected straight to it.
    pub fn client(self) -> Client {
        client(&self.endpoint())
    }

    /// An empty bucket that nobody else uses.
    pub async fn fresh_bucket(self) -> TestBucket {
        TestBucket::fresh(&self.endpoint()).await
    }
}

/// What `[store.s3]` says for a bucket at this endpoint: short times, but none that a busy machine could miss.
pub fn settings(endpoint: &str, bucket: &str) -> S3Store {
    S3Store {
        bucket: bucket.to_owned(),
        region: REGION.to_owned(),
        endpoint_url: Some(endpoint.parse().expect("an endpoint is a URL")),
        addressing_style: AddressingStyle::Path,
        access_key: Secret::new(ACCESS_KEY.to_owned()),
        secret_key: Secret::new(SECRET_KEY.to_owned()),
        connect_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_secs(5),
        ..S3Store::default()
    }
}

/// The SDK as a test wants it: no retries behind its back.
pub fn client(endpoint: &str) -> Client {
    let config = Builder::new()
        .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests"))
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .timeout_config(aws_sdk_s3::config::timeout::TimeoutConfig::builder().operation_timeout(PATIENCE).build())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

/// A bucket of one test.
#[derive(Clone, Debug)]
pub struct TestBucket {
    pub name: String,
    /// Where its server listens.
    pub endpoint: String,
    pub client: Client,
}

impl TestBucket {
    /// An empty bucket that nobody else uses, on whatever listens there.
    pub async fn fresh(endpoint: &str) -> Self {
        let name = format!("everpage-{}", uuid::Uuid::new_v4());
        let client = client(endpoint);
        client.create_bucket().bucket(&name).send().await.expect("a bucket can be made");
        TestBucket { name, endpoint: endpoint.to_owned(), client }
    }

    /// One that nobody has made.
    pub fn at(endpoint: &str) -> Self {
        TestBucket { name: "pages".to_owned(), endpoint: endpoint.to_owned(), client: client(endpoint) }
    }

    /// What `[store.s3]` says for it.
    pub fn settings(&self) -> S3Store {
        settings(&self.endpoint, &self.name)
    }

    /// The same, but on the way through something: a `Link`.
    pub fn settings_through(&self, endpoint: &str) -> S3Store {
        settings(endpoint, &self.name)
    }

    /// Puts an object there.
    pub async fn plant(&self, key: &str, bytes: impl Into<Bytes>) {
        let body = ByteStream::from(bytes.into());
        self.client.put_object().bucket(&self.name).key(key).body(body).send().await.expect("an object is written");
    }

    /// The bytes of an object; `None`: nothing lies there.
    pub async fn read(&self, key: &str) -> Option<Bytes> {
        match self.client.get_object().bucket(&self.name).key(key).send().await {
            Ok(found) => Some(found.body.collect().await.expect("a body comes whole").into_bytes()),
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 404) => None,
            Err(error) => panic!("{key} cannot be read: {error:?}"),
        }
    }

    /// Removes an object.
    pub async fn remove(&self, key: &str) {
        self.client.delete_object().bucket(&self.name).key(key).send().await.expect("an object is removed");
    }

    /// All keys, in order.
    pub async fn keys(&self) -> Vec<String> {
        let mut pages = self.client.list_objects_v2().bucket(&self.name).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.expect("a bucket can be listed");
            keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        }
        keys
    }

    /// Multipart uploads that were begun and neither completed nor aborted: key and upload id. At most 1,000.
    pub async fn uploads(&self) -> Vec<(String, String)> {
        let listed = self.client.list_multipart_uploads().bucket(&self.name).send().await.expect("uploads are listed");
        let names = |upload: &aws_sdk_s3::types::MultipartUpload| {
            Some((upload.key()?.to_owned(), upload.upload_id()?.to_owned()))
        };
        listed.uploads().iter().filter_map(names).collect()
    }

    /// Removes it with all it holds, at the end of a test or while everpage uses it; nothing, if it is gone already.
    pub async fn destroy(&self) {
        if self.client.head_bucket().bucket(&self.name).send().await.is_err() {
            return;
        }
        for (key, id) in self.uploads().await {
            let abort = self.client.abort_multipart_upload().bucket(&self.name).key(key).upload_id(id);
            abort.send().await.expect("an upload is aborted");
        }
        for keys in self.keys().await.chunks(1000) {
            let all = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build().expect("it has a key"));
            let delete = Delete::builder().set_objects(Some(all.collect())).quiet(true).build().expect("it has keys");
            self.client.delete_objects().bucket(&self.name).delete(delete).send().await.expect("objects are removed");
        }
        self.client.delete_bucket().bucket(&self.name).send().await.expect("an empty bucket is removed");
    }
}

/// Makes a test on each server of every sentence, which is an `async fn(TestBucket)` of this module:
///
/// ```text
/// on_each_server![what_was_put_is_read_again, a_key_of_nobody_is_absent];
/// ```
///
/// They are called `on_moto::what_was_put_is_read_again` and `on_rgw::…`; the bucket is fresh, and removed when the test has passed.
macro_rules! on_each_server {
    ($($sentence:ident),+ $(,)?) => {
        $crate::support::on_server!(on_moto, Moto, $($sentence),+);
        $crate::support::on_server!(on_rgw, Rgw, $($sentence),+);
    };
}

macro_rules! on_server {
    ($module:ident, $server:ident, $($sentence:ident),+) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $sentence() {
                    let bucket = $crate::support::Server::$server.fresh_bucket().await;
                    super::$sentence(bucket.clone()).await;
                    bucket.destroy().await;
                }
            )+
        }
    };
}

pub(crate) use {on_each_server, on_server};
