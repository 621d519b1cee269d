//! `config.toml` as typed data, in the order of the file: parsed and validated, nothing else.
//!
//! The only module that reads settings from files and the environment. It never opens a socket or a store.
//!
//! Each setting is one line in `keys`; `kinds`, `words` and `s3_words` say how a value is read, checked and shown;
//! `load` puts the layers on top of each other: default, file, environment, command line; `fit` compares values with each other.

mod defaults;
mod environment;
mod error;
mod file;
mod fit;
mod given;
mod keys;
mod kinds;
mod load;
mod s3;
mod s3_words;
#[cfg(test)]
mod tests;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use environment::variables;
pub use error::{ConfigError, ConfigErrors, Excerpt, Location};
pub use load::{Loaded, Sources};
pub use s3::{AddressingStyle, Cluster, Compression, DiskCache, ObjectParameters, OnStoreOutage, S3Store};

/// The whole configuration, valid: every regex compiles, every address parses, every limit makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address of the public listener.
    pub listen: SocketAddr,
    /// Names that are served, lower case, without a port; empty: any.
    pub hosts: Vec<String>,
    /// Networks that may send `PURGE` on the public listener.
    pub purge_from: Vec<IpNet>,
    /// Networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `[limits]`
    pub limits: Limits,
    /// `[origin]`
    pub origin: Origin,
    /// `[cache]`
    pub cache: Cache,
    /// `[store]`
    pub store: Store,
    /// `[memory]`
    pub memory: Memory,
    /// `[admin]`
    pub admin: Admin,
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[log]`
    pub log: Log,
}

/// `[limits]`: what a client may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections; further ones wait in the listener's backlog.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Fields in a request's head.
    pub head_fields: usize,
    /// Bytes of a request's target.
    pub target_bytes: usize,
    /// Bytes of a request's body; `None`: any number, they only pass through.
    pub body_bytes: Option<u64>,
    /// How long a whole request head may take, an idle connection's wait for it included.
    pub head_timeout: Duration,
    /// How long a client may take to send or to accept the next bytes.
    pub idle_timeout: Duration,
    /// How long in-flight requests and writes may take after SIGTERM.
    pub drain_timeout: Duration,
}

/// `[origin]`: the app behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Scheme and authority: `http://127.0.0.1:8000`, `https://app.internal`.
    pub url: http::Uri,
    /// For TCP and TLS.
    pub connect_timeout: Duration,
    /// From the sent request to the response's head.
    pub first_byte_timeout: Duration,
    /// Between two pieces of the response's body.
    pub idle_timeout: Duration,
    /// Requests at the origin at the same time; further ones wait at most `connect_timeout`.
    pub max_requests: usize,
    /// Idle connections kept for the next request.
    pub pool_idle: usize,
    /// How long an idle connection is kept; every new connection resolves the name again.
    pub pool_idle_timeout: Duration,
    /// Send the visitor's `Host`; otherwise the one of `url`.
    pub preserve_host: bool,
    /// PEM file of certificate authorities instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Check the origin's certificate.
    pub verify: bool,
}

/// `[cache]`: what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Regexes matched at the start of the path; a path that matches is never kept.
    pub ignore: Vec<String>,
    /// Methods that may be kept: `GET`, `HEAD`.
    pub methods: Vec<http::Method>,
    /// Statuses that are kept.
    pub statuses: Vec<http::StatusCode>,
    /// How long a page is fresh.
    pub lifetime: Lifetime,
    /// What a query means.
    pub query: QueryPolicy,
    /// Globs of parameters that are dropped.
    pub ignored_params: Vec<String>,
    /// Globs of cookies that send a request past the cache.
    pub bypass_cookies: Vec<String>,
    /// Request fields that select a variant.
    pub key_headers: Vec<http::HeaderName>,
    /// What happens to request fields that are not part of the key.
    pub unkeyed_headers: UnkeyedHeaders,
    /// Obey a visitor's `Cache-Control: no-cache` and `Pragma: no-cache`.
    pub honor_reload: bool,
    /// Variants (`Vary`) kept of one page.
    pub max_variants: usize,
    /// Bytes of the largest body that is kept.
    pub max_body: u64,
    /// Bytes of the largest body that is held in memory; a larger one lies in a temporary file on its way, and is read from the store each time.
    pub max_memory_size: u64,
    /// Where temporary files lie; `None`: in the folder of the filesystem store, otherwise where the system has them.
    pub temporary_folder: Option<PathBuf>,
    /// Bytes that all temporary files may take together.
    pub max_temporary_bytes: u64,
    /// Bytes of memory that all fills in flight may hold together.
    pub max_fill_bytes: u64,
    /// How long it is remembered that a page could not be kept.
    pub uncacheable_for: Duration,
    /// How long after its invalidation a page is not kept, for an origin that reads from a replica; nothing: it is kept at once.
    pub settle: Duration,
    /// newcache: dev, staging, prod in one place.
    pub flavor: String,
    /// newcache: raise it to leave all old pages behind.
    pub version: u32,
}

/// `cache.lifetime`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is invalidated.
    Forever,
    /// As the origin says (RFC 9111, section 4.2).
    Origin,
}

/// `cache.query`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryPolicy {
    /// Part of the key.
    Include,
    /// Dropped, as django-dumper does.
    Ignore,
    /// A request with a query goes past the cache.
    Bypass,
}

/// `cache.unkeyed_headers`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnkeyedHeaders {
    /// They reach the origin, but for those that name a visitor, a client or another URL.
    Forward,
    /// Only `key_headers` and a fixed list reach the origin.
    Drop,
}

/// `[store]`: where pages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Which of them.
    pub kind: StoreKind,
    /// `[store.filesystem]`
    pub filesystem: FilesystemStore,
    /// `[store.s3]`
    pub s3: S3Store,
}

/// `store.kind`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// A folder.
    Filesystem,
    /// A bucket.
    S3,
    /// This process: for tests and for trying things out; a restart forgets all.
    Memory,
}

/// `[store.filesystem]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesystemStore {
    /// The folder.
    pub path: PathBuf,
    /// Bytes of all pages; the least recently used go first.
    pub max_bytes: u64,
}

/// `[memory]`: the pages at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes; 0 switches the tier off.
    pub capacity: u64,
}

/// `[admin]`: the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Address of the admin listener.
    pub listen: SocketAddr,
    /// Bearer token; empty: none, which only a loopback address allows.
    pub token: Secret,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,everpage::proxy=debug`.
    pub level: String,
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// One line for each request.
    pub access: bool,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// A value that never prints.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    #[must_use]
    pub fn new(value: String) -> Self {
        Secret(value)
    }

    /// The value itself: for comparing and sending only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"…\"" })
    }
}
