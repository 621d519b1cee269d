//! The app behind: answers at once, or when it is told to, and counts. Every path is a page; each rendering of a held one is another.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::origin::FIELDS;
use crate::pages::Pages;

/// How far into the text the next rendering begins: a number that no repetition of the text has.
const STRIDE: usize = 7;
/// Renderings after which the first comes again: as many as the text has room for beside a page of a MiB.
const RENDERINGS: u64 = 100_000;

/// An app that listens, for as long as the program runs. `/page/<bytes>/...` is a page of this size; `/held/<bytes>/...` one that waits while doors are
/// shut, and that is another one each time.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    inside: Arc<Inside>,
}

struct Inside {
    pages: Pages,
    requests: AtomicU64,
    renderings: Mutex<HashMap<String, u64>>,
    is_open: watch::Sender<bool>,
}

impl App {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no free port on loopback")?;
        let inside = Inside {
            pages: Pages::new(),
            requests: AtomicU64::new(0),
            renderings: Mutex::default(),
            is_open: watch::Sender::new(true),
        };
        let app = App { address: listener.local_addr()?, inside: Arc::new(inside) };
        let serving = app.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let app = serving.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let app = app.clone();
                    async move { Ok::<_, Infallible>(app.answer(request.uri().path()).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(app)
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> u64 {
        self.inside.requests.load(Ordering::Relaxed)
    }

    /// From now on, requests for held pages wait.
    pub(crate) fn shut(&self) {
        self.inside.is_open.send_replace(false);
    }

    /// They need wait no longer.
    pub(crate) fn open(&self) {
        self.inside.is_open.send_replace(true);
    }

    /// The body of a page of this size, as it is rendered for this time, which counts from 1.
    pub(crate) fn body(&self, bytes: usize, rendering: u64) -> Bytes {
        let begin = usize::try_from(rendering % RENDERINGS).expect("it is small") * STRIDE;
        self.inside.pages.body(&format!("/page/{}", begin + bytes)).expect("the text is long enough").slice(begin..)
    }

    /// How often a held page was rendered.
    pub(crate) fn renderings(&self, path: &str) -> u64 {
        self.inside.renderings.lock().get(path).copied().unwrap_or_default()
    }

    async fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        self.inside.requests.fetch_add(1, Ordering::Relaxed);
        let mut parts = path.trim_start_matches('/').split('/');
        let (kind, bytes) = (parts.next(), parts.next().and_then(|bytes| bytes.parse().ok()).unwrap_or_default());
        let rendering = if kind == Some("held") {
            let rendering = {
                let mut renderings = self.inside.renderings.lock();
                let rendering = renderings.entry(path.to_owned()).or_default();
                *rendering += 1;
                *rendering
            };
            let mut is_open = self.inside.is_open.subscribe();
            is_open.wait_for(|is_open| *is_open).await.expect("it lives as long as this");
            rendering
        } else {
            0
        };
        let body = self.body(bytes, rendering);
        let mut answer = Response::builder().header("etag", format!("\"{bytes}-{rendering}\""));
        for (name, value) in FIELDS {
            answer = answer.header(name, value);
        }
        answer.header("content-length", body.len()).body(Full::new(body)).expect("fields that exist")
    }
}
