//! 1xx answers of the origin on their way to the visitor: 103 (Early Hints) above all (RFC 9110, section 15.2; RFC 8297).
//!
//! hyper reads them but has no way to send them, so they are written to the visitor's connection beside it, by the guard (`wire`): only where
//! hyper has nothing half-written, and only before the final answer has begun. What comes too late is dropped, as a proxy may.
//!
//! 100 and 101 are not here: the gate of an upload waits for the one (`pass`), and the other is a final answer.

use std::io::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;

use http::{HeaderMap, Request, StatusCode};
use parking_lot::Mutex;

use crate::policy::fields;

/// Bytes of 1xx answers that may wait for a visitor; further ones are dropped.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// Where a connection's interim answers wait.
#[derive(Debug, Default)]
pub struct Interim {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// The request that is being answered, counted, if its visitor understands interim answers.
    open_to: Option<u64>,
    requests: u64,
    waker: Option<Waker>,
}

/// One request's ear for interim answers.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    interim: Arc<Interim>,
    number: u64,
}

impl Listener {
    /// Passes on the interim answers to this request, as long as the final one has not begun; `seen` learns the status of each.
    pub(super) fn attend<B>(self, request: &mut Request<B>, seen: impl Fn(StatusCode) + Send + Sync + 'static) {
        hyper::ext::on_informational(request, move |response| {
            seen(response.status());
            if !matches!(response.status(), StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
                self.interim.push(self.number, response.status(), response.headers());
            }
        });
    }
}

impl Interim {
    /// An ear for the request that is being answered now.
    pub(super) fn listen(self: &Arc<Self>) -> Listener {
        let mut waiting = self.waiting.lock();
        waiting.requests += 1;
        waiting.open_to = Some(waiting.requests);
        Listener { interim: Arc::clone(self), number: waiting.requests }
    }

    fn push(&self, number: u64, status: StatusCode, headers: &HeaderMap) {
        let mut headers = headers.clone();
        fields::remove_hop_by_hop(&mut headers);
        let mut waiting = self.waiting.lock();
        if waiting.open_to != Some(number) || waiting.bytes.len() > WAITING_BYTES_MAX {
            return;
        }
        let bytes = &mut waiting.bytes;
        write!(bytes, "HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default())
            .expect("a Vec takes every byte");
        for (name, value) in &headers {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
    }

    /// Waits for the final answer. Whenever an interim one comes meanwhile, the connection's task runs, and flushes.
    pub(super) async fn until<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = pin!(answer);
        let answered = std::future::poll_fn(|context| {
            let polled = answer.as_mut().poll(context);
            if polled.is_pending() {
                self.waiting.lock().waker = Some(context.waker().clone());
            }
            polled
        });
        let answered = answered.await;
        let mut waiting = self.waiting.lock();
        waiting.open_to = None;
        waiting.bytes.clear();
        waiting.waker = None;
        answered
    }

    /// The bytes that wait.
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.waiting.lock().bytes)
    }
}
