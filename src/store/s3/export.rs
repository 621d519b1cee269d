//! THE LAST GOOD SITE: each page once more as a plain object, for a bucket website or a CDN when everything else is down.
//!
//! `<location>/<flavor>/<export_prefix>/<path>`: the body as visitors get it (never compressed for the store), `Content-Type`,
//! `Content-Encoding` and `Cache-Control` as the page has them. A path that ends in a slash is its `index.html`. Unless `hosts` names
//! exactly one site, the host comes before the path.
//!
//! An invalidated page keeps its last good copy until the next one takes its place: that is what it is for. Copies are never read by everpage, never
//! swept, and never make a visitor wait.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::bucket::{Attributes, Bucket, S3Error};
use crate::config;
use crate::metrics::Metrics;
use crate::page::{JournalId, Object, ObjectName, PageHead, PathId, Sequence};
use crate::store::{Accept, Found, Listed, Listing, Place, Store, StoreError, Usage};

/// Bytes of the longest key, `location` included (S3 user guide, "Naming Amazon S3 objects").
const KEY_MAX_BYTES: usize = 1024;

/// Why a page has no plain copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It is a signpost to variants, and no page.
    Signpost,
    /// Another method than GET.
    Method,
    /// Another status than 200.
    Status,
    /// It belongs to a query, which no file name has.
    Query,
    /// It is one of several variants, and not the plain one.
    Variant,
    /// Its path is no safe file name, or too long.
    Path,
}

impl Skip {
    /// All of them.
    pub const ALL: [Skip; 6] = [Skip::Signpost, Skip::Method, Skip::Status, Skip::Query, Skip::Variant, Skip::Path];

    /// Its name in metrics and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Skip::Signpost => "signpost",
            Skip::Method => "method",
            Skip::Status => "status",
            Skip::Query => "query",
            Skip::Variant => "variant",
            Skip::Path => "path",
        }
    }
}

/// Writes plain copies.
#[derive(Clone)]
pub struct Exporter {
    bucket: Bucket,
    /// `<flavor>/<export_prefix>/`
    root: String,
    /// Bytes of the longest key below the location.
    key_max_bytes: usize,
    has_hosts: bool,
    custom_domain: String,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Exporter {
    /// An empty flavor is `default`. `hosts`: the sites that are served, empty for any.
    #[must_use]
    pub fn new(
        bucket: Bucket,
        settings: &config::S3Store,
        flavor: &str,
        hosts: &[String],
        metrics: Arc<Metrics>,
    ) -> Self {
        let flavor = if flavor.is_empty() { "default" } else { flavor };
        Exporter {
            bucket,
            root: format!("{flavor}/{}/", settings.export_prefix),
            key_max_bytes: KEY_MAX_BYTES.saturating_sub(settings.location.len() + 1),
            has_hosts: hosts.len() != 1,
            custom_domain: settings.custom_domain.clone(),
            metrics,
        }
    }

    /// Where the copies lie and where they are seen, for people.
    #[must_use]
    pub fn place(&self) -> String {
        let host = if self.has_hosts { "<host>/" } else { "" };
        let seen = match self.custom_domain.as_str() {
            "" => String::new(),
            domain => format!(", seen at https://{domain}/"),
        };
        format!("{}{host} below store.s3.location{seen}", self.root)
    }

    /// The key of a page's copy, below the location.
    ///
    /// # Errors
    /// It has none.
    pub fn key(&self, head: &PageHead) -> Result<String, Skip> {
        may_be_exported(head)?;
        let path = file_of(&head.path).ok_or(Skip::Path)?;
        let host =
            if self.has_hosts { format!("{}/", file_safe(&head.host).ok_or(Skip::Path)?) } else { String::new() };
        let key = format!("{}{host}{path}", self.root);
        if key.len() <= self.key_max_bytes { Ok(key) } else { Err(Skip::Path) }
    }

    /// Writes the copy; `Some`: it has none, and why.
    ///
    /// # Errors
    /// It was not written; an older copy may lie there.
    pub async fn export(&self, object: &Object) -> Result<Option<Skip>, S3Error> {
        let result = self.write(object).await;
        let word = match &result {
            Ok(None) => "written",
            Ok(Some(skip)) => skip.as_str(),
            Err(_) => "failed",
        };
        self.metrics.exported(word).inc();
        result
    }

    async fn write(&self, object: &Object) -> Result<Option<Skip>, S3Error> {
        let Some((head, _)) = object.page() else { return Ok(Some(Skip::Signpost)) };
        let key = match self.key(head) {
            Ok(key) => key,
            Err(skip) => return Ok(Some(skip)),
        };
        let said = |name: &HeaderName| head.headers.text(name).map(str::to_owned);
        let attributes = Attributes {
            content_type: said(&CONTENT_TYPE),
            content_encoding: said(&CONTENT_ENCODING),
            cache_control: said(&CACHE_CONTROL),
            metadata: Vec::new(),
            is_page: true,
        };
        match object {
            Object::Page(page) => self.bucket.put(&key, vec![page.body.clone()], &attributes).await.map(drop)?,
            Object::Large(page) => {
                self.bucket.upload(&key, Bytes::new(), Arc::clone(&page.body), &attributes).await?;
            }
            Object::Variants(_) => return Ok(Some(Skip::Signpost)),
        }
        Ok(None)
    }
}

/// Is this what a visitor without cookies and wishes gets?
fn may_be_exported(head: &PageHead) -> Result<(), Skip> {
    if head.method != Method::GET {
        return Err(Skip::Method);
    }
    if head.status != StatusCode::OK {
        return Err(Skip::Status);
    }
    if head.query.is_some() {
        return Err(Skip::Query);
    }
    // Every browser takes gzip, and many apps vary by nothing else: without that there would be no site.
    let is_common = head.headers.get(&CONTENT_ENCODING).is_none_or(|coding| coding == b"gzip");
    let is_plain = |(name, value): &(HeaderName, String)| {
        if *name == http::header::ACCEPT_ENCODING { is_common } else { value.is_empty() }
    };
    if head.varied_by.iter().all(is_plain) { Ok(()) } else { Err(Skip::Variant) }
}

/// The file of a normalised path: decoded, for that is how a web server asks for it. `None`: two paths could share the file, or it could mean something
/// outside.
fn file_of(path: &str) -> Option<String> {
    let path = path.strip_prefix('/')?;
    let (folders, is_folder) = match path.strip_suffix('/') {
        Some(folders) => (folders, true),
        None => (path, path.is_empty()),
    };
    let mut file = String::new();
    for segment in folders.split('/').filter(|_| !folders.is_empty()) {
        file.push_str(&file_safe(segment)?);
        file.push('/');
    }
    if path == "/" {
        return None;
    }
    if is_folder {
        file.push_str("index.html");
    } else {
        file.pop();
    }
    Some(file)
}

fn file_safe(segment: &str) -> Option<String> {
    let decoded = percent_decode_str(segment).decode_utf8().ok()?;
    let is_harmless = |character: char| !character.is_control() && !matches!(character, '/' | '\\');
    let is_safe = !matches!(&*decoded, "" | "." | "..") && decoded.chars().all(is_harmless);
    is_safe.then(|| decoded.into_owned())
}

/// A store that makes a plain copy of each page that it keeps. A copy that fails is counted and warned of, and the page is kept all the same.
#[derive(Debug)]
pub struct ExportingStore {
    inner: Arc<dyn Store>,
    exporter: Exporter,
}

impl ExportingStore {
    /// `inner`, with copies.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, exporter: Exporter) -> Self {
        tracing::info!("each stored page is also written as a plain object: {}", exporter.place());
        ExportingStore { inner, exporter }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for ExportingStore {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Object>, StoreError> {
        self.inner.get(name).await
    }

    async fn get_accepted(&self, name: &ObjectName, accept: Accept<'_>) -> Result<Option<Found>, StoreError> {
        self.inner.get_accepted(name, accept).await
    }

    async fn put(&self, name: &ObjectName, object: &Object) -> Result<(), StoreError> {
        self.inner.put(name, object).await?;
        if let Err(error) = self.exporter.export(object).await {
            tracing::warn!(path = object.path(), %error, "the page is kept, but its plain copy for the bucket website is not");
        }
        Ok(())
    }

    async fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.remove(name).await
    }

    async fn remove_older(&self, path: &PathId, journal: &JournalId, before: Sequence) -> Result<u64, StoreError> {
        self.inner.remove_older(path, journal, before).await
    }

    async fn remove_older_each(
        &self,
        paths: &[PathId],
        journal: &JournalId,
        before: Sequence,
    ) -> Result<u64, StoreError> {
        self.inner.remove_older_each(paths, journal, before).await
    }

    async fn pages_each(&self, places: &[Place]) -> Option<Vec<u64>> {
        self.inner.pages_each(places).await
    }

    async fn under(&self, path: &PathId) -> Result<Vec<Listed>, StoreError> {
        self.inner.under(path).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, StoreError> {
        self.inner.list(prefix, after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn trouble(&self) -> Option<String> {
        self.inner.trouble()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_the_file_that_a_web_server_asks_for() {
        for (path, file) in [
            ("/", "index.html"),
            ("/blog/", "blog/index.html"),
            ("/blog", "blog"),
            ("/blog/a.html", "blog/a.html"),
            ("/caf%C3%A9/", "caf\u{e9}/index.html"),
            ("/a%20b", "a b"),
            ("/a%3Fb", "a?b"),
        ] {
            assert_eq!(file_of(path).as_deref(), Some(file), "{path}");
        }
    }

    #[test]
    fn a_path_that_is_no_safe_file_has_none() {
        for path in [
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/a/../b",
            "/%2E%2E/a",
            "/a%2Fb",
            "/a%5C..%5Cb",
            "/a%00",
            "/%FF",
            "/a%0A",
            "*",
            "",
        ] {
            assert_eq!(file_of(path), None, "{path}");
        }
    }
}
