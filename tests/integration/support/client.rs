//! Visitors: one connection for each request, and raw bytes for what no client sends.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::HOST;

/// No test waits longer for anything: a hang is a failure.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A request in the making.
pub struct Ask {
    address: SocketAddr,
    request: Request<Bytes>,
}

impl Ask {
    pub fn new(address: SocketAddr, method: Method, target: &str) -> Self {
        let request = Request::builder().method(method).uri(target).header("host", HOST).body(Bytes::new()).unwrap();
        Ask { address, request }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request.headers_mut().append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.request.headers_mut().insert("host", HeaderValue::from_str(host).unwrap());
        self
    }

    /// Any bytes that a field may hold.
    pub fn header_bytes(mut self, name: &str, value: &[u8]) -> Self {
        let value = HeaderValue::from_bytes(value).unwrap();
        self.request.headers_mut().append(name.parse::<HeaderName>().unwrap(), value);
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        *self.request.body_mut() = body.into();
        self
    }

    /// Sends it and reads the whole answer.
    pub async fn send(self) -> Answer {
        let response = self.open().await;
        let answer = tokio::time::timeout(PATIENCE, Answer::read(response)).await;
        answer.expect("the answer's body ends")
    }

    /// Sends it to somebody who may be dead or hang; `None`: no whole answer has come within this time.
    pub async fn attempt(self, patience: Duration) -> Option<Answer> {
        let answer = async {
            let stream = TcpStream::connect(self.address).await.ok()?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
            tokio::spawn(connection);
            let response = sender.send_request(self.request.map(Full::new)).await.ok()?;
            Some(Answer::read(response).await).filter(|answer| answer.complete)
        };
        tokio::time::timeout(patience, answer).await.ok().flatten()
    }

    /// Sends it in a task of its own. See `Proxy::settle` for how to know that it has been taken up.
    pub fn start(self) -> JoinHandle<Answer> {
        tokio::spawn(self.send())
    }

    /// Sends it and returns the answer's head as soon as it is there; its body can be read piece by piece.
    pub async fn open(self) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.expect("somebody listens");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        // The connection ends with its last handle.
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(self.request.map(Full::new));
        tokio::time::timeout(PATIENCE, response).await.expect("an answer comes").expect("it is HTTP")
    }
}

/// The next piece of a body; what was read is not taken back.
pub async fn next_piece(response: &mut Response<Incoming>) -> Option<Bytes> {
    let frame = tokio::time::timeout(PATIENCE, response.body_mut().frame()).await.expect("a piece or an end");
    frame?.ok()?.into_data().ok()
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    /// The body ended as it should.
    pub complete: bool,
}

impl Answer {
    pub async fn read<B>(response: Response<B>) -> Self
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let (parts, mut body) = response.into_parts();
        let mut answer =
            Answer { status: parts.status, headers: parts.headers, body: Bytes::new(), trailers: None, complete: true };
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::from) {
                Ok(Frame::Data(data)) => bytes.extend_from_slice(&data),
                Ok(Frame::Trailers(trailers)) => answer.trailers = Some(trailers),
                Err(_) => {
                    answer.complete = false;
                    break;
                }
            }
        }
        answer.body = bytes.into();
        answer
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// everpage's own part of Cache-Status.
    pub fn cache_status(&self) -> &str {
        let lines = self.headers.get_all("cache-status").iter();
        lines
            .filter_map(|line| line.to_str().ok())
            .rfind(|line| line.starts_with("everpage"))
            .unwrap_or("(no Cache-Status)")
    }

    /// How it ended, in one word: `hit`, `miss` (and kept), `collapsed`, `refused` (a miss that is not kept), `bypass`, or `error`.
    pub fn outcome(&self) -> &'static str {
        let status = self.cache_status();
        match status {
            _ if status.contains("; hit") => "hit",
            _ if status.contains("; stored") => "miss",
            _ if status.contains("; collapsed") => "collapsed",
            _ if status.contains("fwd=bypass") || status.contains("fwd=method") || status.contains("fwd=request") => {
                "bypass"
            }
            _ if status.contains("fwd-status=") => "refused",
            _ => "error",
        }
    }

    /// `detail=` of Cache-Status.
    pub fn detail(&self) -> Option<&str> {
        self.cache_status().split("detail=").nth(1)?.split(';').next()
    }
}

enum Frame {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl From<http_body::Frame<Bytes>> for Frame {
    fn from(frame: http_body::Frame<Bytes>) -> Self {
        match frame.into_data() {
            Ok(data) => Frame::Data(data),
            Err(frame) => Frame::Trailers(frame.into_trailers().unwrap_or_default()),
        }
    }
}

/// Sends bytes and returns what has come when the answer's head is complete, and whatever came with it.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        match tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("an answer or an end") {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends bytes and returns all that comes until the other side closes.
pub async fn raw_until_closed(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    String::from_utf8_lossy(&answer).into_owned()
}
