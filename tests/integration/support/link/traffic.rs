//! Connections of clients, and the requests on them.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::body::{self, Carried};
use super::wire::{Signals, Wire};
use super::{Fault, Passing, Shared};

type Broken = Box<dyn std::error::Error + Send + Sync>;

/// A port of loopback that stays ours while nobody listens at it.
pub(super) struct Port {
    address: SocketAddr,
    /// Bound, and never listening: without a listener beside it, the system refuses connections.
    _keeper: TcpSocket,
}

impl Port {
    pub(super) fn reserve() -> Self {
        let keeper = Port::socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        Port { address: keeper.local_addr().unwrap(), _keeper: keeper }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn listen(&self) -> TcpListener {
        Port::socket(self.address).listen(1024).expect("nobody else listens at a port of ours")
    }

    fn socket(address: SocketAddr) -> TcpSocket {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        socket
    }
}

/// Takes connections until it is aborted; they end with it. Says when the port is as a fault wants it.
pub(super) async fn carry(
    port: Port,
    shared: Arc<Shared>,
    mut faults: watch::Receiver<Fault>,
    holds: watch::Sender<usize>,
) {
    let mut connections = JoinSet::new();
    let mut listener = None;
    faults.mark_changed();
    loop {
        if faults.has_changed().unwrap_or(false) {
            let is_cut = matches!(*faults.borrow_and_update(), Fault::Cut);
            match (&listener, is_cut) {
                (Some(_), true) => listener = None,
                (None, false) => listener = Some(port.listen()),
                _ => {}
            }
            holds.send_modify(|count| *count += 1);
        }
        tokio::select! {
            stream = accepted(listener.as_ref()) => {
                connections.spawn(connection(stream, Arc::clone(&shared), faults.clone()));
            }
            changed = faults.changed() => match changed {
                // It is looked at above.
                Ok(()) => faults.mark_changed(),
                Err(_) => return,
            },
            // Ended connections are not gathered.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accepted(listener: Option<&TcpListener>) -> TcpStream {
    match listener {
        Some(listener) => listener.accept().await.expect("a listener accepts").0,
        None => pending().await,
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, mut faults: watch::Receiver<Fault>) {
    let signals = Arc::new(Signals::default());
    let wire = TokioIo::new(Wire::new(stream, Arc::clone(&signals)));
    let service = {
        let signals = Arc::clone(&signals);
        service_fn(move |request| pass(request, Arc::clone(&shared), Arc::clone(&signals)))
    };
    let mut http = pin!(hyper::server::conn::http1::Builder::new().serve_connection(wire, service));
    loop {
        let fault = faults.borrow_and_update().clone();
        match fault {
            Fault::Cut => return signals.end_with_reset(),
            // What nobody polls neither reads nor writes.
            Fault::BlackHole => {
                if faults.changed().await.is_err() {
                    return;
                }
            }
            _ => tokio::select! {
                // An error is a fault that was told, or a client that went.
                _ = &mut http => return,
                changed = faults.changed() => if changed.is_err() { return },
            },
        }
    }
}

/// One request. An error ends its connection without an answer.
async fn pass(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    signals: Arc<Signals>,
) -> Result<Response<Carried>, Broken> {
    let fault = shared.take(passing(&request));
    match fault {
        Fault::Cut => {
            signals.end_with_reset();
            Err("told to cut".into())
        }
        Fault::BlackHole => pending().await,
        Fault::Refuse(refusal) => {
            // The client has sent all of it: answers that come earlier are another fault.
            request.into_body().collect().await?;
            Ok(refusal.response().map(body::whole))
        }
        Fault::LoseAnswer => {
            forward(request, shared.server()).await?.into_body().collect().await?;
            Err("told to lose the answer".into())
        }
        Fault::HoldRequest(gate) => {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            // A task of its own: the server gets what the client sent even if the client has gone since.
            let late = tokio::spawn(async move {
                gate.pass().await;
                forward(Request::from_parts(head, body::whole(body)), shared.server()).await
            });
            Ok(late.await??.map(body::unchanged))
        }
        Fault::HoldAnswer(gate) => {
            let (head, body) = forward(request, shared.server()).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            gate.pass().await;
            Ok(Response::from_parts(head, body::whole(body)))
        }
        Fault::Slow { first_byte, bytes_per_second } => {
            let answer = forward(request, shared.server()).await?;
            tokio::time::sleep(first_byte).await;
            Ok(answer.map(|body| body::slow(body, bytes_per_second)))
        }
        Fault::Late(delay) => {
            let answer = forward(request, shared.server()).await?;
            tokio::time::sleep(delay).await;
            Ok(answer.map(body::unchanged))
        }
        Fault::ResetBody { after } => {
            let answer = forward(request, shared.server()).await?;
            Ok(answer.map(|body| body::reset_after(body, after, signals)))
        }
        Fault::SkewDate(seconds) => {
            let mut answer = forward(request, shared.server()).await?;
            skew(answer.headers_mut(), seconds);
            Ok(answer.map(body::unchanged))
        }
        Fault::None => Ok(forward(request, shared.server()).await?.map(body::unchanged)),
    }
}

fn passing(request: &Request<Incoming>) -> Passing {
    let said = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    Passing {
        method: request.method().clone(),
        target: request.uri().to_string(),
        terms: ["range", "if-match", "if-none-match"].map(said),
    }
}

/// Sends it to the server on a connection of its own.
async fn forward<B>(mut request: Request<B>, server: Option<SocketAddr>) -> Result<Response<Incoming>, Broken>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Broken>,
{
    end_hop(request.headers_mut());
    let stream = TcpStream::connect(server.ok_or("leads nowhere yet")?).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with its answer, or when the client's connection does.
    tokio::spawn(connection);
    let mut answer = sender.send_request(request).await?;
    end_hop(answer.headers_mut());
    Ok(answer)
}

/// What is said of one connection is not said of the next (RFC 9110, section 7.6.1).
fn end_hop(headers: &mut HeaderMap) {
    for name in ["connection", "keep-alive"] {
        headers.remove(name);
    }
}

fn skew(headers: &mut HeaderMap, seconds: i64) {
    let date = headers.get("date").and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let date = date.expect("an S3 server says what time it is");
    let step = std::time::Duration::from_secs(seconds.unsigned_abs());
    let skewed = if seconds < 0 { date - step } else { date + step };
    let skewed = HeaderValue::try_from(httpdate::fmt_http_date(skewed)).expect("a date is a value");
    headers.insert("date", skewed);
}
