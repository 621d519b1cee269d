//! A visitor's body on its way to the origin: piece by piece, as the origin takes it, and not before it is wanted.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::body::{Body, BoxError};
use super::notice;
use super::origin::Stall;
use super::outcome;
use super::visit::Refusal;

/// How long a visitor's body waits for the origin's 100 (Continue) before it is sent anyway (RFC 9110, section 10.1.1).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// The answer to a visitor whose body did not arrive.
pub(super) fn upload_failed(error: &(dyn std::error::Error + 'static)) -> Response<Body> {
    let mut source = Some(error);
    while let Some(cause) = source {
        if cause.is::<http_body_util::LengthLimitError>() {
            return notice::refusal(Refusal::LargeBody);
        }
        source = cause.source();
    }
    let text = "The request's body broke off or stalled.";
    notice::notice(StatusCode::REQUEST_TIMEOUT, text, outcome::rejected("upload"))
}

/// The visitor's body: it fails when it stalls, and waits at the gate where the visitor waits for 100 (Continue).
pub(super) struct Upload<B> {
    body: Pin<Box<B>>,
    gate: Gate,
    stall: Stall,
}

/// Shut until the origin says 100 (Continue), or for [`CONTINUE_TIMEOUT`], and for good if it answers at once. As long as it is shut hyper tells
/// the visitor nothing either.
pub(super) enum Gate {
    Open,
    /// Resolves to whether it opens.
    Shut(Pin<Box<dyn Future<Output = bool> + Send>>),
}

impl<B> Upload<B> {
    /// The body, not before the gate opens; it fails when the visitor sends nothing for `idle`.
    pub(super) fn new(body: B, gate: Gate, idle: Duration) -> Self {
        Upload { body: Box::pin(body), gate, stall: Stall::new(idle) }
    }
}

impl Gate {
    pub(super) fn open() -> Self {
        Gate::Open
    }

    pub(super) fn shut(signal: oneshot::Receiver<()>, ended: CancellationToken) -> Self {
        Gate::Shut(Box::pin(async move {
            // Nobody can signal any more once the answer is there.
            let is_refused = matches!(tokio::time::timeout(CONTINUE_TIMEOUT, signal).await, Ok(Err(_)));
            if is_refused {
                // An upload that fails takes its connection along: not before the answer has been read.
                ended.cancelled_owned().await;
            }
            !is_refused
        }))
    }
}

impl<B> http_body::Body for Upload<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Gate::Shut(signal) = &mut self.gate {
            if !std::task::ready!(signal.as_mut().poll(context)) {
                return Poll::Ready(Some(Err("the origin did not ask for the body".into())));
            }
            self.gate = Gate::Open;
        }
        match self.body.as_mut().poll_frame(context) {
            Poll::Ready(frame) => {
                self.stall.moved();
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending if self.stall.poll_expired(context).is_ready() => {
                Poll::Ready(Some(Err("the visitor sent nothing within limits.idle_timeout".into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
