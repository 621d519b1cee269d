//! `[store.s3]` and `[cluster]` as typed data.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// `[store.s3]`: pages in a bucket. Every text setting may be empty: then nothing is said, and the bucket's own default holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Store {
    /// The bucket; required.
    pub bucket: String,
    /// Everything lies below this prefix, without slashes at its ends; empty: the bucket belongs to everpage alone.
    pub location: String,
    /// Empty: from the environment or the profile.
    pub region: String,
    /// Another S3 server than Amazon's; its scheme says whether TLS is used.
    pub endpoint_url: Option<http::Uri>,
    /// Where the bucket's name stands in a URL.
    pub addressing_style: AddressingStyle,
    /// Keys in the configuration; otherwise they come from wherever AWS tools find them.
    pub access_key: Secret,
    /// Beside `access_key`.
    pub secret_key: Secret,
    /// Of temporary keys.
    pub session_token: Secret,
    /// A profile of the AWS configuration files.
    pub profile: String,
    /// PEM file of certificate authorities instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Check the server's certificate.
    pub verify: bool,
    /// An HTTP proxy on the way to S3.
    pub proxy: Option<http::Uri>,
    /// The account that must own the bucket: 12 digits.
    pub expected_bucket_owner: String,
    /// Make the bucket if it does not exist.
    pub create_bucket: bool,
    /// Canned ACL of a bucket that is made.
    pub bucket_acl: String,
    /// Canned ACL of each object.
    pub default_acl: String,
    /// Storage class of each page.
    pub storage_class: String,
    /// `AES256`, `aws:kms`, `aws:kms:dsse`.
    pub encryption: String,
    /// Of `aws:kms`.
    pub kms_key_id: String,
    /// How bodies are compressed at rest.
    pub compress: Compression,
    /// Content types that are; `text/*` stands for all below it.
    pub compress_types: Vec<String>,
    /// To connect, TLS included.
    pub connect_timeout: Duration,
    /// From the sent request to the first byte of the answer, and between two pieces of a body.
    pub read_timeout: Duration,
    /// Tries of one operation, the first included; conditional writes are tried once.
    pub attempts: u32,
    /// Requests at the same time.
    pub max_requests: usize,
    /// Bytes of a part of a multipart upload; larger bodies are uploaded in parts.
    pub part_size: u64,
    /// Pages that may lie there; `None`: any number.
    pub max_entries: Option<u64>,
    /// Bytes that they may take; `None`: any number.
    pub max_bytes: Option<u64>,
    /// When there are too many, one in so many goes.
    pub cull_frequency: u64,
    /// Between two runs of the sweeper; zero: it never runs by itself.
    pub sweep_interval: Duration,
    /// Requests that the sweeper makes in a second at most.
    pub sweep_rate: u32,
    /// How old a page of another `cache.version` must be before the sweeper removes it: nodes of that version may still run.
    pub sweep_old_versions_after: Duration,
    /// Keep a plain copy of each page for a bucket website.
    pub export: bool,
    /// Where, below the folder of the flavor.
    pub export_prefix: String,
    /// The domain under which the export is seen, for messages.
    pub custom_domain: String,
    /// `[store.s3.object_parameters]`
    pub object_parameters: ObjectParameters,
    /// `[store.s3.disk_cache]`
    pub disk_cache: DiskCache,
}

/// `store.s3.addressing_style`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressingStyle {
    /// By path where `endpoint_url` is set, else by host.
    Auto,
    /// `https://endpoint/bucket/key`
    Path,
    /// `https://bucket.endpoint/key`
    Virtual,
}

/// `store.s3.compress`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard (RFC 8878).
    Zstd,
    /// RFC 1952.
    Gzip,
    /// As it came.
    Off,
}

/// `[store.s3.object_parameters]`: what is said with each stored page; empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectParameters {
    /// `Cache-Control`
    pub cache_control: String,
    /// `Content-Disposition`
    pub content_disposition: String,
    /// `Content-Language`
    pub content_language: String,
    /// Tags, as `key=value&key=value`.
    pub tagging: String,
    /// `requester`: who reads pays.
    pub request_payer: String,
}

/// `[store.s3.disk_cache]`: a folder between memory and S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCache {
    /// The folder; `None`: no such tier.
    pub path: Option<PathBuf>,
    /// Bytes; the least recently used pages go first.
    pub max_bytes: u64,
}

/// `[cluster]`: nodes that share a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// How long a node may serve without having looked at the journal.
    pub lease: Duration,
    /// What happens when the lease has run out and the journal cannot be looked at.
    pub on_store_outage: OnStoreOutage,
    /// Where other nodes reach this node's admin listener; `None`: at its own address, as far as that can be told.
    pub node_url: Option<http::Uri>,
}

/// `cluster.on_store_outage`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreOutage {
    /// Requests go to the origin: nothing stale is served.
    Origin,
    /// What is at hand is served, however old: availability over freshness.
    Serve,
}

/// Types that become smaller: those that django-storages compresses, and what else is text at heart.
/// Images, sound, video, archives and WOFF are compressed already.
const COMPRESS_TYPES: &[&str] = &[
    "text/*",
    "application/javascript",
    "application/x-javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/xml",
    "application/xhtml+xml",
    "application/rss+xml",
    "application/atom+xml",
    "application/rdf+xml",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "image/svg+xml",
    "image/bmp",
    "image/x-icon",
    "image/vnd.microsoft.icon",
];

impl Default for S3Store {
    fn default() -> Self {
        S3Store {
            bucket: String::new(),
            location: String::new(),
            region: String::new(),
            endpoint_url: None,
            addressing_style: AddressingStyle::Auto,
            access_key: Secret::default(),
            secret_key: Secret::default(),
            session_token: Secret::default(),
            profile: String::new(),
            ca_file: None,
            verify: true,
            proxy: None,
            expected_bucket_owner: String::new(),
            create_bucket: false,
            bucket_acl: String::new(),
            default_acl: String::new(),
            storage_class: String::new(),
            encryption: String::new(),
            kms_key_id: String::new(),
            compress: Compression::Zstd,
            compress_types: COMPRESS_TYPES.iter().map(|&name| name.to_owned()).collect(),
            connect_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(5),
            attempts: 3,
            max_requests: 128,
            part_size: 8 << 20,
            max_entries: None,
            max_bytes: None,
            cull_frequency: 3,
            sweep_interval: Duration::from_secs(3600),
            sweep_rate: 10,
            sweep_old_versions_after: Duration::from_secs(7 * 24 * 3600),
            export: false,
            export_prefix: "export".to_owned(),
            custom_domain: String::new(),
            object_parameters: ObjectParameters::default(),
            disk_cache: DiskCache { path: None, max_bytes: 10 << 30 },
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster { lease: Duration::from_secs(2), on_store_outage: OnStoreOutage::Origin, node_url: None }
    }
}
