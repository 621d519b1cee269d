//! An origin that answers as told, counts, remembers what it was asked, and can be held up.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::gate::Gate;

type Answering = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Route = Arc<dyn Fn(Asked) -> Answering + Send + Sync>;

/// A request as the origin saw it; its body is read to the end before the route is asked, unless the route is `streaming`.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The how-manieth request to this path it is, from 1.
    pub number: usize,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What the origin answers.
pub struct Reply(Response<UnsyncBoxBody<Bytes, std::io::Error>>);

impl Reply {
    pub fn new(body: impl Into<Bytes>) -> Self {
        Reply(Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()))
    }

    pub fn status(mut self, status: u16) -> Self {
        *self.0.status_mut() = StatusCode::from_u16(status).unwrap();
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0.headers_mut().append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    /// A body that is sent piece by piece as the test feeds it; it ends when the feed is dropped, and breaks off where the feed says so.
    pub fn fed() -> (Self, Feed) {
        let (send, mut pieces) = mpsc::unbounded_channel();
        let stream = stream_of(move |context| pieces.poll_recv(context));
        (Reply(Response::new(StreamBody::new(stream).boxed_unsync())), Feed(send))
    }
}

/// Feeds a body.
#[derive(Clone)]
pub struct Feed(mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>);

impl Feed {
    pub fn data(&self, piece: impl Into<Bytes>) {
        // The reader may be gone: that is what some tests want.
        let _ = self.0.send(Ok(Frame::data(piece.into())));
    }

    pub fn trailers(&self, name: &'static str, value: &'static str) {
        let trailers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
        let _ = self.0.send(Ok(Frame::trailers(trailers)));
    }

    pub fn break_off(&self) {
        let _ = self.0.send(Err(std::io::Error::other("told to break off")));
    }

    /// True when nobody reads any more.
    pub fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }

    pub async fn abandoned(&self) {
        self.0.closed().await;
    }
}

pub(super) fn stream_of<T>(
    poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Send + Unpin + 'static,
) -> impl futures_core::Stream<Item = T> + Send + Unpin {
    struct Polled<F>(F);
    impl<T, F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin> futures_core::Stream
        for Polled<F>
    {
        type Item = T;
        fn poll_next(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<T>> {
            (self.0)(context)
        }
    }
    Polled(poll)
}

#[derive(Default)]
pub struct Builder {
    routes: HashMap<String, Route>,
    fallback: Option<Route>,
}

impl Builder {
    /// A page that is always the same.
    pub fn page(self, path: &str, body: &'static str) -> Self {
        self.route(path, move |_| async move { Reply::new(body) })
    }

    /// A page whose body says how often it was rendered: `v1`, `v2`, ...
    pub fn counted(self, path: &str) -> Self {
        self.route(path, |asked| async move { Reply::new(format!("v{}", asked.number)) })
    }

    /// A counted page that waits at the gate *after* it was rendered.
    pub fn gated(self, path: &str, gate: &Gate) -> Self {
        let gate = gate.clone();
        self.route(path, move |asked| {
            let gate = gate.clone();
            async move {
                let reply = Reply::new(format!("v{}", asked.number));
                gate.pass().await;
                reply
            }
        })
    }

    /// A counted page whose *first* rendering waits at the gate; later ones pass. Its head says `render: 1`, `render: 2`, ..., and what `dress` adds.
    pub fn held(self, path: &str, gate: &Gate, dress: impl Fn(Reply, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let (gate, dress) = (gate.clone(), Arc::new(dress));
        self.route(path, move |asked| {
            let (gate, dress) = (gate.clone(), Arc::clone(&dress));
            async move {
                let reply = Reply::new(format!("v{}", asked.number)).header("render", &asked.number.to_string());
                let reply = dress(reply, &asked);
                if asked.number == 1 {
                    gate.pass().await;
                }
                reply
            }
        })
    }

    /// A page whose first body the test feeds; later ones are `v2`, `v3`, ...
    pub fn fed_first(self, path: &str, dress: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> (Self, Feed) {
        let (first, feed) = Reply::fed();
        let first = Mutex::new(Some(first));
        let builder = self.route(path, move |asked| {
            let reply = first.lock().take().unwrap_or_else(|| Reply::new(format!("v{}", asked.number)));
            std::future::ready(dress(reply))
        });
        (builder, feed)
    }

    /// A route by path, without query.
    pub fn route<F, A>(mut self, path: &str, answer: F) -> Self
    where
        F: Fn(Asked) -> A + Send + Sync + 'static,
        A: Future<Output = Reply> + Send + 'static,
    {
        self.routes.insert(path.to_owned(), Arc::new(move |asked| Box::pin(answer(asked))));
        self
    }

    /// What all other paths answer; 404 otherwise.
    pub fn otherwise<F, A>(mut self, answer: F) -> Self
    where
        F: Fn(Asked) -> A + Send + Sync + 'static,
        A: Future<Output = Reply> + Send + 'static,
    {
        self.fallback = Some(Arc::new(move |asked| Box::pin(answer(asked))));
        self
    }

    pub async fn start(self) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner { routes: self.routes, fallback: self.fallback, asked: Mutex::default() });
        let serving = Arc::clone(&inner);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(Arc::clone(&serving), stream));
            }
        });
        Origin { address, inner, task }
    }
}

struct Inner {
    routes: HashMap<String, Route>,
    fallback: Option<Route>,
    asked: Mutex<Vec<Asked>>,
}

async fn serve(inner: Arc<Inner>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let inner = Arc::clone(&inner);
        async move { Ok::<_, Infallible>(answer(&inner, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A broken connection is the proxy's to notice.
    let _ = connection.await;
}

async fn answer(inner: &Inner, request: http::Request<Incoming>) -> Response<UnsyncBoxBody<Bytes, std::io::Error>> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::from_static(b"(broken off)"),
    };
    let asked = {
        let mut all = inner.asked.lock();
        let earlier = all.iter().filter(|asked| path_of(&asked.target) == path).count();
        let asked = Asked {
            method: parts.method,
            target: parts.uri.to_string(),
            headers: parts.headers,
            body,
            number: earlier + 1,
        };
        all.push(asked.clone());
        asked
    };
    match inner.routes.get(&path).or(inner.fallback.as_ref()) {
        Some(route) => route(asked).await.0,
        None => Reply::new("no such page").status(404).0,
    }
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

pub struct Origin {
    pub address: SocketAddr,
    inner: Arc<Inner>,
    task: tokio::task::JoinHandle<()>,
}

impl Origin {
    /// How often a path was asked for, with any method.
    pub fn hits(&self, path: &str) -> usize {
        self.inner.asked.lock().iter().filter(|asked| path_of(&asked.target) == path).count()
    }

    /// What it was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.inner.asked.lock().clone()
    }

    pub fn last(&self) -> Asked {
        self.asked().pop().expect("the origin was asked")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An origin that speaks whatever the test writes: it gets each connection with what was read of the first request's head.
pub async fn raw_origin<F, A>(speak: F) -> SocketAddr
where
    F: Fn(TcpStream, Vec<u8>) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                use tokio::io::AsyncReadExt;
                let mut buffer = [0; 4096];
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(bytes) => head.extend_from_slice(&buffer[..bytes]),
                }
            }
            tokio::spawn(speak(stream, head));
        }
    });
    address
}
