//! Visitors: connections that ask, one request after the other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::FIELDS;

/// One connection.
pub(crate) struct Visitor(SendRequest<Full<Bytes>>);

/// What came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Cache-Status`
    pub(crate) cache_status: String,
    pub(crate) first_byte: Duration,
    /// The first piece of the body.
    pub(crate) begin: Bytes,
    /// Of the body.
    pub(crate) bytes: usize,
}

impl Answer {
    /// From the store, which is S3.
    pub(crate) fn is_from_s3(&self) -> bool {
        self.status == 200 && self.cache_status.ends_with("; hit; detail=s3")
    }
}

impl Visitor {
    pub(crate) async fn connect(at: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Visitor(sender))
    }

    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn send(&mut self, method: Method, path: &str, body: Bytes) -> io::Result<Answer> {
        self.0.ready().await.map_err(io::Error::other)?;
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in FIELDS {
            request = request.header(name, value);
        }
        let started = Instant::now();
        let request = request.body(Full::new(body)).map_err(io::Error::other)?;
        let mut response = self.0.send_request(request).await.map_err(io::Error::other)?;
        let first_byte = started.elapsed();
        let cache_status = response.headers().get("cache-status").and_then(|value| value.to_str().ok());
        let (status, cache_status) = (response.status().as_u16(), cache_status.unwrap_or_default().to_owned());
        let (mut begin, mut bytes) = (Bytes::new(), 0);
        while let Some(frame) = response.body_mut().frame().await {
            let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
            bytes += data.len();
            if begin.is_empty() {
                begin = data;
            }
        }
        Ok(Answer { status, cache_status, first_byte, begin, bytes })
    }
}

/// Asks for `path(0)`, `path(1)`, ... on so many connections, each waiting for its answer, until the time is over. Returns how many answers came.
///
/// # Panics
/// An answer is none that `is_right`.
pub(crate) async fn rush(
    at: SocketAddr,
    connections: usize,
    time: Duration,
    path: impl Fn(u64) -> String + Clone + Send + 'static,
    is_right: fn(&Answer) -> bool,
) -> u64 {
    let (next, end) = (Arc::new(AtomicU64::new(0)), Instant::now() + time);
    let mut visitors = JoinSet::new();
    for _ in 0..connections {
        let (next, path) = (Arc::clone(&next), path.clone());
        visitors.spawn(async move {
            let mut visitor = Visitor::connect(at).await.expect("everpage listens");
            let mut answers = 0;
            while Instant::now() < end {
                let path = path(next.fetch_add(1, Ordering::Relaxed));
                let answer = visitor.get(&path).await.expect("an answer comes");
                assert!(is_right(&answer), "{path}: {answer:?}");
                answers += 1;
            }
            answers
        });
    }
    visitors.join_all().await.into_iter().sum()
}
