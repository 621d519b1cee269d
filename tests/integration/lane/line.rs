//! A visitor's end of a connection that is a pipe, and the house behind it: the data plane with the pages of this behaviour.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everpage::config::{Config, Limits};
use everpage::proxy::connection;
use everpage::proxy::drain::Draining;
use everpage::proxy::origin::{IncomingBody, OutgoingBody};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::io::{AsyncWriteExt, duplex};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::support::{Ear, Early, Inside, inside};

/// Bytes of the body of `/big`.
pub(super) const BIG: usize = 1 << 20;
/// A connection that does nothing any more, and has no timer left either, is noticed at once: the clock goes on to this.
const NEVER: Duration = Duration::from_secs(3600);

pub(super) struct House {
    pub(super) inside: Inside,
    limits: Limits,
    draining: Draining,
}

impl House {
    pub(super) fn new(change: impl Fn(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let inside = inside(|config| change(config), app);
        House { inside, limits: config.limits, draining: Draining::default() }
    }

    /// The house of these who are inside.
    pub(super) fn of(inside: Inside) -> Self {
        House { inside, limits: Config::default().limits, draining: Draining::default() }
    }

    /// Fetches these pages, until they are at hand.
    pub(super) async fn fill(&self, targets: &[&str]) {
        for target in targets {
            self.inside.get(target).await;
            self.inside.settled().await;
            assert_eq!(self.inside.get(target).await.outcome(), "hit", "{target}");
        }
    }

    /// A connection that holds so many bytes each way.
    pub(super) fn connect(&self, holding: usize) -> Line {
        let (stream, other) = duplex(holding);
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (handler, limits) = (Arc::clone(&self.inside.handler), self.limits.clone());
        let address = Ipv4Addr::LOCALHOST.into();
        let task = tokio::spawn(connection::serve(handler, other, address, limits, self.draining.clone(), slot));
        Line { ear: Ear::new(stream), task }
    }

    pub(super) fn drain(&self) {
        self.draining.begin();
    }
}

/// The app: a page with all kinds of fields, pages of other statuses, and what takes its time.
async fn app(request: Request<OutgoingBody>) -> Response<IncomingBody> {
    let (parts, body) = request.into_parts();
    let says = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let reply = Response::builder().header("content-type", "text/html");
    let (reply, text): (_, Bytes) = match parts.uri.path() {
        "/page" | "/p" => (
            reply
                .header("ETag", "\"v1\"")
                .header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")
                .header("link", "</a.css>; rel=preload")
                .header("content-language", "de")
                .header("link", "</b.js>; rel=preload")
                .header("x-latin", http::HeaderValue::from_bytes(b"gr\xfc\xdf").unwrap())
                .header("cache-status", "front; hit"),
            "the page".into(),
        ),
        "/vary" => {
            let text = format!("{} {}", says("accept-encoding"), says("x-theme"));
            (reply.header("vary", "accept-encoding, x-theme"), text.into())
        }
        "/big" => (reply, vec![b'b'; BIG].into()),
        "/gone" => (reply.status(410), "gone".into()),
        "/moved" => (reply.status(301).header("location", "/page"), "moved".into()),
        "/none" => (reply.status(204).header("content-length", "0"), Bytes::new()),
        "/odd" => (reply.status(299), "odd".into()),
        "/slow" | "/admin/slow" => {
            sleep(Duration::from_secs(1)).await;
            (reply, "slow".into())
        }
        "/admin/streamed" => {
            let words = futures_util::stream::unfold(0, |number| async move {
                sleep(Duration::from_millis(20)).await;
                let word = ["one ", "two ", "three"].get(number)?;
                Some((Ok(Frame::data(Bytes::from(*word))), number + 1))
            });
            return reply.body(StreamBody::new(words).boxed_unsync()).unwrap();
        }
        "/admin/echo" => (reply, body.collect().await.map(|body| body.to_bytes()).unwrap_or_default()),
        path => (reply, format!("{} {path}", parts.method).into()),
    };
    let text = if parts.method == Method::HEAD { Bytes::new() } else { text };
    reply.body(Full::new(text).map_err(|never| match never {}).boxed_unsync()).unwrap()
}

/// GET, plain.
pub(super) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n")
}

/// An answer as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

pub(super) struct Line {
    ear: Ear,
    task: JoinHandle<()>,
}

impl Line {
    /// Sends; whoever has closed the other end does not want it.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(NEVER, self.ear.send(bytes.as_ref())).await.expect("the other side takes the bytes");
    }

    /// No more will be sent.
    pub(super) async fn finish(&mut self) {
        let _ = self.ear.stream.shutdown().await;
    }

    /// The next answer, to a request with this method; interim ones are passed over.
    pub(super) async fn answer(&mut self, method: &str) -> Told {
        let answer = async {
            let (head, mut rest) = self.ear.head(method).await?;
            let mut body = Vec::new();
            while let Some(piece) = self.ear.piece(&mut rest).await? {
                body.extend(piece);
            }
            Ok::<_, Early>(Told { head, body })
        };
        let answer = timeout(NEVER, answer).await.expect("something or the end comes");
        answer.unwrap_or_else(|early| panic!("closed in the middle: {early}"))
    }

    /// Reads until so many bytes are there, so many at a time, and waits before each; they are still to be taken.
    pub(super) async fn read_slowly(&mut self, bytes: usize, pause: Duration, each: usize) {
        let aim = self.ear.unread.len() + bytes;
        while self.ear.unread.len() < aim {
            sleep(pause).await;
            let next = aim.min(self.ear.unread.len() + each);
            while self.ear.unread.len() < next {
                assert!(self.read().await > 0, "the rest comes after {} bytes", self.ear.unread.len());
            }
        }
    }

    /// Everything until the other side closes.
    pub(super) async fn rest(&mut self) -> String {
        while self.read().await > 0 {}
        String::from_utf8_lossy(&std::mem::take(&mut self.ear.unread)).into_owned()
    }

    /// The other side serves this connection no longer.
    pub(super) fn is_closed(&self) -> bool {
        self.task.is_finished()
    }

    /// Until it is so, while nothing is taken.
    pub(super) async fn ended(&mut self) {
        timeout(NEVER, &mut self.task).await.expect("the connection is given up").unwrap();
    }

    /// Closes this end without a word, and waits until the other side has noticed.
    pub(super) async fn leave(self) {
        drop(self.ear);
        timeout(NEVER, self.task).await.expect("the connection is given up").unwrap();
    }

    /// So many bytes were read; 0 is the end.
    async fn read(&mut self) -> usize {
        timeout(NEVER, self.ear.read()).await.expect("something or the end comes")
    }
}
