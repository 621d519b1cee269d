//! An S3 server in memory that lies about conditional writes, or does not: then it is a quick emulator for benches.
//!
//! As much of S3 as everpage uses: buckets, objects, ranges, conditions, listings, deletes in batches, uploads in parts. It takes any keys
//! and checks nothing. Uses nothing of the other support, so that benches can have it, too:
//! `#[path = "../tests/integration/support/liar/mod.rs"] mod liar;`, with `#[expect(dead_code, reason = "benches want no lies")]`.

mod buckets;
mod chunked;
mod service;
mod xml;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
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
}

/// Between check and write of one that loses races: longer than racing requests take to arrive.
const LOSING_PAUSE: Duration = Duration::from_millis(100);

/// A server on loopback. It ends with its handle.
pub(crate) struct Liar {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Liar {
    /// An empty server.
    pub(crate) async fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let buckets = Arc::new(buckets::Buckets::default());
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.expect("a listener accepts"),
                    // Ended connections are not gathered.
                    Some(_) = connections.join_next() => continue,
                };
                let _ = stream.set_nodelay(true);
                let buckets = Arc::clone(&buckets);
                let service = service_fn(move |request| service::answer(request, Arc::clone(&buckets), lie));
                let http = hyper::server::conn::http1::Builder::new();
                connections.spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Liar { address, serving }
    }

    /// Where it listens, as an endpoint.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
