//! A connection of its own for one request: its bytes go in where those of the network do, and what comes out is read as it was sent.
//!
//! The connection is no task: whoever reads the answer drives it, so that the order in which things move stays the seed's, and leaving ends it at once.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use everpage::config::Limits;
use everpage::proxy::body::{Body, BoxError};
use everpage::proxy::connection;
use everpage::proxy::drain::Draining;
use everpage::proxy::handler::Handler;
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::io::duplex;
use tokio::sync::Semaphore;

use super::origin::VARIANT;
use super::visitor::Visit;
use crate::support::{Ear, Rest};

/// Bytes that are under way at once, each way: heads and most pages fit.
const HOLDING: usize = 4096;

struct Line {
    ear: Ear,
    /// `None`: it has closed the connection.
    served: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Asks, and waits for the head of the answer; its body comes as it is read. The connection may be closed before: a body that breaks at once takes the
/// head with it that is not sent yet.
pub async fn ask(handler: &Arc<Handler>, visit: &Visit) -> Result<Response<Body>, BoxError> {
    let (stream, other) = duplex(HOLDING);
    let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let (handler, address) = (Arc::clone(handler), Ipv4Addr::LOCALHOST.into());
    let served = connection::serve(handler, other, address, Limits::default(), Draining::default(), slot);
    let mut line = Line { ear: Ear::new(stream), served: Some(Box::pin(served)) };
    let heard = line.drive(async |ear| {
        ear.send(written(visit).as_bytes()).await;
        ear.head(visit.method.as_str()).await
    });
    let (head, rest) = heard.await?;
    // What should not be there is read as well.
    let rest = if line.ear.unread.is_empty() || rest != Rest::Bytes(0) { rest } else { Rest::All };
    let pieces = futures_util::stream::unfold(Some((line, rest)), |reading| async {
        let (mut line, mut rest) = reading?;
        match line.drive(async |ear| ear.piece(&mut rest).await).await {
            Ok(piece) => piece.map(|piece| (Ok(Frame::data(Bytes::from(piece))), Some((line, rest)))),
            Err(early) => Some((Err::<_, BoxError>(early.into()), None)),
        }
    });
    Ok(read(&head).body(Body::stream(StreamBody::new(pieces)))?)
}

impl Line {
    /// Does this at the visitor's end while the other one is served.
    async fn drive<T>(&mut self, deed: impl AsyncFnOnce(&mut Ear) -> T) -> T {
        let mut deed = std::pin::pin!(deed(&mut self.ear));
        std::future::poll_fn(|context| {
            // First, so that an answer which is ready at once is there at once.
            loop {
                if let Poll::Ready(done) = deed.as_mut().poll(context) {
                    return Poll::Ready(done);
                }
                let Some(served) = &mut self.served else { return Poll::Pending };
                if served.as_mut().poll(context).is_pending() {
                    return deed.as_mut().poll(context);
                }
                self.served = None;
            }
        })
        .await
    }
}

/// The request's bytes.
fn written(visit: &Visit) -> String {
    let mut request = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", visit.method, visit.target, visit.host);
    if let Some(variant) = &visit.variant {
        write!(request, "{VARIANT}: {variant}\r\n").unwrap();
    }
    if let Some(number) = visit.etag {
        write!(request, "If-None-Match: \"r{number}\"\r\n").unwrap();
    }
    request + "\r\n"
}

/// A head's status and fields.
fn read(head: &str) -> http::response::Builder {
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let fields = lines.filter_map(|line| line.split_once(": "));
    fields.fold(Response::builder().status(status), |reply, (name, value)| reply.header(name, value))
}
