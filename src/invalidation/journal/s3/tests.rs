//! Several nodes on one bucket whose requests take their time, as S3's do: what becomes of their turns. The clock is paused, so nothing of it depends on the machine.

mod crowding;
mod folding;
mod joining;
mod large;
mod silent;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::config::{StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::head::{Head, INLINE_BYTES};
use super::reading::parse_head;
use super::{OpenError, S3Journal, open};
use crate::chance;
use crate::clock::{Clock, UnixMillis};
use crate::config;
use crate::invalidation::Invalidations;
use crate::invalidation::journal::{Circle, Other, Recovered};
use crate::invalidation::ring::{Bell, Unheard};
use crate::invalidation::selector::{Record, Target};
use crate::page::{JournalId, Sequence};
use crate::store::s3::bucket::Bucket;

const LEASE: Duration = Duration::from_secs(2);
/// There, and back again: 40 to 56 ms.
const WAY: Duration = Duration::from_millis(20);
/// Bytes that go up in a millisecond.
const BYTES_PER_MILLISECOND: usize = 4_000;
const HEAD: &str = "default/journal/head";

/// A bucket that keeps what S3 promises.
#[derive(Debug, Default)]
struct S3 {
    objects: Mutex<Objects>,
    bell: Arc<Direct>,
}

#[derive(Debug, Default)]
struct Objects {
    by_key: BTreeMap<String, (u64, Bytes)>,
    versions: u64,
    /// Objects that were ever written, by the folder.
    written: BTreeMap<String, u64>,
    /// Swaps of the head, by the order in which the nodes were started.
    swaps: BTreeMap<usize, u64>,
    nodes: usize,
    /// Objects of records that hold more than a head may.
    large_records: usize,
}

impl S3 {
    fn new(seed: u64) -> Arc<Self> {
        chance::seed_this_thread(Some(seed));
        Arc::default()
    }

    async fn open(self: &Arc<Self>, url: Option<&str>) -> Result<(S3Journal, Recovered), OpenError> {
        let clock = Clock::Tokio { epoch: UnixMillis(1), started: Instant::now() };
        open(bucket(self), "", LEASE, url.map(Arc::from), clock).await
    }

    async fn journal(self: &Arc<Self>) -> Arc<S3Journal> {
        Arc::new(self.open(None).await.unwrap().0)
    }

    /// A node as it serves.
    async fn node(self: &Arc<Self>) -> Arc<Invalidations> {
        let url = chance::word();
        let (journal, recovered) = self.open(Some(&url)).await.unwrap();
        let bell = Arc::clone(&self.bell);
        let node = Arc::new(Invalidations::start_with(Arc::new(journal), recovered, Some(bell.clone())));
        bell.0.lock().insert(url, Arc::downgrade(&node));
        node
    }

    fn head(&self) -> Head {
        parse_head(&self.objects.lock().by_key[HEAD].1).unwrap()
    }

    /// Keys below the journal's folder.
    fn keys(&self, folder: &str) -> Vec<String> {
        let prefix = format!("default/journal/{folder}/");
        self.objects.lock().by_key.keys().filter(|key| key.starts_with(&prefix)).cloned().collect()
    }

    /// Objects that were ever written there.
    fn written(&self, folder: &str) -> u64 {
        self.objects.lock().written.get(folder).copied().unwrap_or_default()
    }
}

impl Objects {
    fn answer(&mut self, node: usize, request: &HttpRequest, body: &Bytes) -> HttpResponse {
        let header = |name| request.headers().get(name).map(str::to_owned);
        let (if_match, if_none_match) = (header("if-match"), header("if-none-match"));
        let (path, query) = request.uri().split_once('?').unwrap_or((request.uri(), ""));
        let key = path.split_once("s3.simulated/pages").unwrap().1.trim_start_matches('/').to_owned();
        let known = self.by_key.get(&key).cloned();
        let tag = known.as_ref().map(|(version, _)| format!("\"{version}\""));
        match request.method() {
            "GET" if key.is_empty() => {
                said(200, None, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
            }
            "POST" if query.contains("delete") => {
                let body = String::from_utf8_lossy(body);
                let keys = body.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
                keys.for_each(|(key, _)| drop(self.by_key.remove(key)));
                said(200, None, "<DeleteResult/>")
            }
            "GET" | "HEAD" => match known {
                None => said(404, None, "<Error><Code>NoSuchKey</Code></Error>"),
                Some(_) if if_none_match == tag => said(304, tag, ""),
                Some((_, bytes)) => said(200, tag, bytes),
            },
            "PUT" if if_none_match.is_some() && known.is_some() || if_match.is_some() && if_match != tag => {
                said(412, None, "<Error><Code>PreconditionFailed</Code></Error>")
            }
            "PUT" => {
                self.versions += 1;
                let folder = key.split('/').nth(2).unwrap_or_default().to_owned();
                *self.written.entry(folder.clone()).or_default() += 1;
                self.large_records += usize::from(folder == "records" && body.len() > 2 * INLINE_BYTES);
                if key == HEAD {
                    *self.swaps.entry(node).or_default() += 1;
                }
                self.by_key.insert(key, (self.versions, body.clone()));
                said(200, Some(format!("\"{}\"", self.versions)), "")
            }
            other => panic!("nobody expected {other} {key}"),
        }
    }
}

fn said(status: u16, tag: Option<String>, body: impl Into<Bytes>) -> HttpResponse {
    let body = body.into();
    let mut response = http::Response::builder().status(status).header("content-length", body.len());
    if let Some(tag) = tag {
        response = response.header("etag", tag);
    }
    response.body(SdkBody::from(body)).unwrap().try_into().unwrap()
}

#[derive(Debug, Clone)]
struct Line(Arc<S3>, usize);

impl HttpConnector for Line {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let (s3, node) = (Arc::clone(&self.0), self.1);
        HttpConnectorFuture::new(async move {
            let body = ByteStream::new(request.take_body()).collect().await;
            let body = body.map_err(|error| ConnectorError::user(error.into()))?.into_bytes();
            let upload = Duration::from_millis((body.len() / BYTES_PER_MILLISECOND) as u64);
            sleep(WAY + upload + Duration::from_millis(u64::from(chance::byte()) / 16)).await;
            let answer = s3.objects.lock().answer(node, &request, &body);
            sleep(WAY).await;
            Ok(answer)
        })
    }
}

fn bucket(s3: &Arc<S3>) -> Bucket {
    let node = s3.objects.lock().nodes;
    s3.objects.lock().nodes += 1;
    let connector = SharedHttpConnector::new(Line(Arc::clone(s3), node));
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url("http://s3.simulated")
        .force_path_style(true)
        .allow_no_auth()
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    let settings = config::S3Store { bucket: "pages".into(), ..config::S3Store::default() };
    Bucket::behind(Client::from_conf(config), &settings).unwrap()
}

/// A record of about so many bytes.
fn record(bytes: usize) -> Record {
    let paths = (0..(bytes / 100).max(1)).map(|n| Target { host: None, path: format!("/{n:086}").into() }).collect();
    Record { paths, ..Record::default() }
}

/// Rings nodes of the same process, at once; none that has no address.
#[derive(Debug, Default)]
struct Direct(Mutex<HashMap<String, Weak<Invalidations>>>);

#[async_trait]
impl Bell for Direct {
    async fn ring(
        &self,
        url: &str,
        _: &Other,
        _: &Circle,
        _: &JournalId,
        sequence: Sequence,
    ) -> Result<Sequence, Unheard> {
        let node = self.0.lock().get(url).and_then(Weak::upgrade).ok_or(Unheard::Unreachable)?;
        node.heed(sequence).await.map_err(|_| Unheard::JournalOutage)
    }
}
