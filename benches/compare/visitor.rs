//! A visitor who looks closely: is this answer a hit, and is it the right one?

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::browser;
use crate::pages::{MIX_PAGES, Pages};
use crate::peers::Peer;

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections that fill a cache.
const FILLERS: usize = 16;

/// One connection.
pub(crate) struct Visitor(SendRequest<Empty<Bytes>>);

/// What came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    fields: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The value of a field; empty if it is not there.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Visitor {
    pub(crate) async fn connect(at: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(at).await.with_context(|| format!("nobody listens on {at}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Visitor(sender))
    }

    /// Asks as a browser does, with these further fields. The name of the site has no port, as in `load`.
    pub(crate) async fn get(&mut self, path: &str, further: &[(String, String)]) -> Result<Answer> {
        let fields = browser::FIELDS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut request = Request::builder().uri(path).header("host", HOST);
        for (name, value) in fields.iter().chain(further) {
            request = request.header(name, value);
        }
        let answer = async {
            self.0.ready().await?;
            let (head, body) = self.0.send_request(request.body(Empty::new())?).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), fields: head.headers, body })
        };
        timeout(PATIENCE, answer).await.with_context(|| format!("no answer to {path} in {PATIENCE:?}"))?
    }
}

/// The name under which all know the pages.
pub(crate) const HOST: &str = "shop.example";

/// Has a cache fetch all pages of the mix.
pub(crate) async fn fill(at: SocketAddr, pages: &Arc<Pages>) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut fillers = JoinSet::new();
    for _ in 0..FILLERS {
        let (next, pages) = (Arc::clone(&next), Arc::clone(pages));
        fillers.spawn(async move {
            let mut visitor = Visitor::connect(at).await?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= MIX_PAGES {
                    return anyhow::Ok(());
                }
                let path = format!("/mix/{number}");
                let answer = visitor.get(&path, &[]).await?;
                ensure!(Some(answer.body) == pages.body(&path), "{at}: wrong body of {path}");
            }
        });
    }
    while let Some(filler) = fillers.join_next().await {
        filler??;
    }
    Ok(())
}

/// Makes sure that this cache answers with the right page, and that it has it at hand. Returns the ETag.
///
/// # Errors
/// It is no hit after the first request, or another page than the origin's.
pub(crate) async fn check(peer: Peer, at: SocketAddr, path: &str, pages: &Pages) -> Result<String> {
    let mut visitor = Visitor::connect(at).await?;
    let first = visitor.get(path, &[]).await?;
    let mut answer = first;
    // The first may be the one that fetches it, and the next may come before it is kept.
    for _ in 0..50 {
        if peer.is_hit(&answer) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer = visitor.get(path, &[]).await?;
    }
    ensure!(peer.is_hit(&answer), "{}: {path} is no hit: {answer:?}", peer.name());
    ensure!(answer.status == 200, "{}: {path}: {}", peer.name(), answer.status);
    ensure!(Some(&answer.body) == pages.body(path).as_ref(), "{}: wrong body of {path}", peer.name());
    Ok(answer.field("etag").to_owned())
}

/// Makes sure that this cache says 304 to whoever has the page.
///
/// # Errors
/// It says something else, or does not know it.
pub(crate) async fn check_not_modified(peer: Peer, at: SocketAddr, path: &str, etag: &str) -> Result<()> {
    let condition = [("if-none-match".to_owned(), etag.to_owned())];
    let answer = Visitor::connect(at).await?.get(path, &condition).await?;
    ensure!(answer.status == 304 && peer.is_hit(&answer), "{}: {path} with {etag}: {answer:?}", peer.name());
    Ok(())
}
