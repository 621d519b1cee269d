//! An S3 server in memory that lies about conditional writes, or does not: then it is a quick emulator for benches.
//!
//! As much of S3 as everpage uses: buckets, objects, ranges, conditions, listings, deletes in batches, uploads in parts. It takes any keys
//! and checks nothing. Uses nothing of the other support, so that benches can have it, too:
//! `#[path = "../tests/integration/support/liar/mod.rs"] mod liar;`, with `#[expect(dead_code, reason = "benches want no lies")]`.

mod buckets;
mod chunked;
mod service;
mod xml;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// What it lies about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing.
    None,
    /// Each write takes place and answers 200, whatever its condition, as Garage 2.5 does.
    IgnoresConditions,
    /// A condition is checked first, and the write done some time later, as s3s-fs 0.14 does: of several at once all win.
    LosesRaces,
    /// Nothing about writes; but it answers 200, with everything, to who asks for an object unless it is still what he knows, as s3s-fs 0.14 does.
    SendsUnchanged,
    /// Nothing about writes; but it answers 304 to whoever knows any version of an object, as a cache between may.
    HidesChanges,
}

/// Between check and write of one that loses races: longer than racing requests take to arrive.
const LOSING_PAUSE: Duration = Duration::from_millis(100);

/// A server on loopback. It ends with its handle.
pub(crate) struct Liar {
    address: SocketAddr,
    buckets: Arc<buckets::Buckets>,
    requests: Arc<Mutex<BTreeMap<String, u64>>>,
    serving: JoinHandle<()>,
}

impl Liar {
    /// An empty server.
    pub(crate) async fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let (buckets, requests) = (Arc::<buckets::Buckets>::default(), Arc::<Mutex<BTreeMap<_, _>>>::default());
        let (all, counts) = (Arc::clone(&buckets), Arc::clone(&requests));
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.expect("a listener accepts"),
                    // Ended connections are not gathered.
                    Some(_) = connections.join_next() => continue,
                };
                let _ = stream.set_nodelay(true);
                let (buckets, counts) = (Arc::clone(&all), Arc::clone(&counts));
                let service = service_fn(move |request: Request<Incoming>| {
                    *counts.lock().entry(kind(&request)).or_default() += 1;
                    service::answer(request, Arc::clone(&buckets), lie)
                });
                let http = hyper::server::conn::http1::Builder::new();
                connections.spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Liar { address, buckets, requests, serving }
    }

    /// Where it listens, as an endpoint.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts one object under each of these keys of a bucket that there is; they share its bytes.
    pub(crate) fn plant(&self, bucket: &str, keys: impl IntoIterator<Item = String>, bytes: Bytes) {
        let object = Arc::new(buckets::Object::new(bytes, HeaderMap::new()));
        let planted = self.buckets.with(bucket, |content| {
            content.objects.extend(keys.into_iter().map(|key| (key, Arc::clone(&object))));
            Ok(())
        });
        planted.expect("the bucket was made before");
    }

    /// How many requests of each method came so far; listings are `LIST`.
    pub(crate) fn requests(&self) -> BTreeMap<String, u64> {
        self.requests.lock().clone()
    }

    /// All keys, and the keys of uploads that were neither completed nor aborted.
    pub(crate) fn keys(&self, bucket: &str) -> (Vec<String>, Vec<String>) {
        let keys = self.buckets.with(bucket, |content| {
            let uploads = content.uploads.values().map(|upload| upload.key.clone());
            Ok((content.objects.keys().cloned().collect(), uploads.collect()))
        });
        keys.unwrap_or_default()
    }
}

fn kind(request: &Request<Incoming>) -> String {
    let is_of_bucket = !request.uri().path().trim_matches('/').contains('/');
    let is_list = is_of_bucket && *request.method() == Method::GET;
    if is_list { "LIST".to_owned() } else { request.method().to_string() }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
