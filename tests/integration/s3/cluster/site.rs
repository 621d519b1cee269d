//! The site: pages that show its version, an app that takes its time, and what can be said of several pages at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::http::Uri;
use axum::response::IntoResponse as _;
use rand::prelude::*;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Shops with so many pages each.
const SHOPS: usize = 3;
const PAGES_OF_A_SHOP: usize = 4;
pub(super) const PAGES: usize = SHOPS * PAGES_OF_A_SHOP;

/// How long rendering takes: seldom longer than a lease.
const QUICK_MS: u64 = 40;
const LONG_MS: u64 = 1200;
const LONG_IN: u32 = 40;

/// Where a page lies.
pub(super) fn path(page: usize) -> String {
    format!("/shop{}/page{page}", page % SHOPS)
}

/// A tag goes across the shops.
fn tag(page: usize) -> String {
    format!("kind{}", page / SHOPS)
}

/// What a save hook says.
pub(super) struct Selector {
    pub(super) kind: &'static str,
    pub(super) body: Value,
    /// What it names.
    pub(super) pages: Vec<usize>,
}

impl Selector {
    pub(super) fn any(chance: &mut StdRng) -> Self {
        let page = chance.random_range(0..PAGES);
        match chance.random_range(0..40) {
            0..26 => Selector { kind: "path", body: json!({"paths": [path(page)]}), pages: vec![page] },
            26..32 => {
                let pages = (0..PAGES).filter(|other| other % SHOPS == page % SHOPS).collect();
                Selector { kind: "prefix", body: json!({"prefixes": [format!("/shop{}", page % SHOPS)]}), pages }
            }
            32..39 => {
                let pages = (0..PAGES).filter(|other| tag(*other) == tag(page)).collect();
                Selector { kind: "tag", body: json!({"tags": [tag(page)]}), pages }
            }
            _ => Selector::all(),
        }
    }

    pub(super) fn all() -> Self {
        Selector { kind: "all", body: json!({"all": true}), pages: (0..PAGES).collect() }
    }
}

/// The app. It ends with this value.
pub(super) struct App {
    pub(super) version: Arc<AtomicU64>,
    pub(super) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl App {
    pub(super) async fn start() -> Self {
        let version = Arc::new(AtomicU64::new(1));
        let shown = Arc::clone(&version);
        let render = move |uri: Uri| {
            // What the database says when the rendering begins.
            let version = shown.load(SeqCst);
            async move {
                let takes = rand::rng().random_range(0..QUICK_MS);
                let takes = if rand::rng().random_ratio(1, LONG_IN) { takes * LONG_MS / QUICK_MS } else { takes };
                tokio::time::sleep(Duration::from_millis(takes)).await;
                let page = uri.path().rsplit_once("page").and_then(|(_, number)| number.parse().ok());
                ([("cache-tag", tag(page.unwrap_or_default()))], version.to_string()).into_response()
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async move { axum::serve(listener, Router::new().fallback(render)).await.unwrap() };
        App { version, address, serving: tokio::spawn(serving) }
    }

    /// It has changed. Returns the version that it has now.
    pub(super) fn change(&self) -> u64 {
        self.version.fetch_add(1, SeqCst);
        self.version.load(SeqCst)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
