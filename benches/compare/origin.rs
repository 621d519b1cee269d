//! The app behind: answers at once, with the fields that an app gives its pages, and counts.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::pages::Pages;

/// What is said with each page, `ETag` and `Content-Length` aside.
pub(crate) const FIELDS: [(&str, &str); 6] = [
    ("content-type", "text/html; charset=utf-8"),
    ("last-modified", "Mon, 06 Jan 2025 10:00:00 GMT"),
    ("cache-control", "public, max-age=31536000"),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
];

/// An origin that listens, for as long as the program runs.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Origin {
    pub(crate) async fn start(pages: Arc<Pages>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no free port on loopback")?;
        let (address, requests) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let (pages, counter) = (Arc::clone(&pages), Arc::clone(&counter));
                let service = service_fn(move |request: Request<Incoming>| {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let answer = answer(&pages, request.uri().path());
                    async { Ok::<_, Infallible>(answer) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Origin { address, requests })
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn answer(pages: &Pages, path: &str) -> Response<Full<Bytes>> {
    let Some(body) = pages.body(path) else {
        let mut nothing = Response::new(Full::default());
        *nothing.status_mut() = StatusCode::NOT_FOUND;
        return nothing;
    };
    let mut answer = Response::builder().header("etag", etag(path)).header("content-length", body.len());
    for (name, value) in FIELDS {
        answer = answer.header(name, value);
    }
    answer.body(Full::new(body)).expect("fields that exist")
}

fn etag(path: &str) -> String {
    format!("\"{}\"", path.trim_start_matches('/').replace('/', "-"))
}
