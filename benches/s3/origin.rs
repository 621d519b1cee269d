//! The app behind: answers at once.
//!
//! `/<bytes>/...` is a page of so many bytes, `/stream/<bytes>/...` comes in pieces with its length, `/chunked/<bytes>/...` without. Each page begins
//! with its version, which `save` raises.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rand::prelude::*;
use tokio::net::TcpListener;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Bytes of a piece.
const PIECE: usize = 64 << 10;

/// The origin's data: how often each page was saved.
#[derive(Clone, Default)]
pub(crate) struct Origin(Arc<Mutex<HashMap<String, u64>>>);

impl Origin {
    /// The version that a page has now.
    pub(crate) fn version(&self, path: &str) -> u64 {
        self.0.lock().get(path).copied().unwrap_or_default()
    }

    /// Changes a page; returns its new version.
    pub(crate) fn save(&self, path: &str) -> u64 {
        let mut versions = self.0.lock();
        let version = versions.entry(path.to_owned()).or_default();
        *version += 1;
        *version
    }

    /// Listens, for as long as the program runs.
    pub(crate) async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let (origin, text) = (self.clone(), prose(1 << 20));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let (origin, text) = (origin.clone(), text.clone());
                let service = service_fn(move |request| {
                    let answer = origin.answer(&request, &text);
                    async { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        address
    }

    fn answer(&self, request: &Request<Incoming>, text: &Bytes) -> Response<Body> {
        let path = request.uri().path();
        let (kind, sized) = match path.trim_start_matches('/').split_once('/') {
            Some((kind @ ("stream" | "chunked"), rest)) => (kind, rest),
            _ => ("", path.trim_start_matches('/')),
        };
        let bytes: usize = sized.split('/').next().and_then(|bytes| bytes.parse().ok()).unwrap_or_default();
        let answer = Response::builder().header("content-type", "text/html; charset=utf-8");
        let answer = if kind == "chunked" { answer } else { answer.header("content-length", bytes) };
        let version = format!("{:<16}", self.version(path));
        let body = if kind.is_empty() {
            let mut page = Vec::with_capacity(bytes);
            page.extend_from_slice(version.as_bytes());
            page.extend(text.iter().cycle().take(bytes.saturating_sub(page.len())));
            page.truncate(bytes);
            Full::new(page.into()).boxed_unsync()
        } else {
            streamed(version, bytes, text.clone())
        };
        answer.body(body).expect("fields that exist")
    }
}

fn streamed(version: String, bytes: usize, text: Bytes) -> Body {
    let pieces = stream::unfold((Bytes::from(version), bytes), move |(next, left)| {
        let piece = next.slice(..next.len().min(left));
        let (left, text) = (left - piece.len(), text.slice(..PIECE));
        async move { (!piece.is_empty()).then(|| (Ok(Frame::data(piece)), (text, left))) }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Words in lines with markup: it compresses about as well as a page does.
fn prose(bytes: usize) -> Bytes {
    let mut chance = StdRng::seed_from_u64(1);
    let words: Vec<String> = (0..2000)
        .map(|_| (0..chance.random_range(2..10)).map(|_| char::from(chance.random_range(b'a'..=b'z'))).collect())
        .collect();
    let mut text = String::with_capacity(bytes + 100);
    while text.len() < bytes {
        let word = words.choose(&mut chance).expect("there are words");
        text.push_str(word);
        text.push_str(if chance.random_ratio(1, 12) { "</p>\n<p class=\"text\">" } else { " " });
    }
    text.into()
}
