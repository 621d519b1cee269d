//! Bodies of answers on their way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::wire::Signals;

type Broken = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Carried = UnsyncBoxBody<Bytes, Broken>;

/// Slow bodies come in so many pieces a second.
const PIECES_A_SECOND: u32 = 20;

pub(super) fn whole(bytes: Bytes) -> Carried {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn unchanged(body: Incoming) -> Carried {
    body.map_err(Broken::from).boxed_unsync()
}

pub(super) fn slow(body: Incoming, bytes_per_second: u64) -> Carried {
    let piece =
        usize::try_from((bytes_per_second / u64::from(PIECES_A_SECOND)).max(1)).expect("an address space has 64 bits");
    Slow { body, piece, left: Bytes::new(), pause: None }.boxed_unsync()
}

pub(super) fn reset_after(body: Incoming, bytes: u64, signals: Arc<Signals>) -> Carried {
    ResetAfter { body, left: bytes, signals, is_short: false }.boxed_unsync()
}

struct Slow {
    body: Incoming,
    piece: usize,
    /// Read from the server, and not yet passed on.
    left: Bytes,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Body for Slow {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        if let Some(pause) = &mut this.pause {
            std::task::ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        while this.left.is_empty() {
            match std::task::ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.left = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
        let piece = this.left.split_to(this.piece.min(this.left.len()));
        this.pause = Some(Box::pin(tokio::time::sleep(Duration::from_secs(1) / PIECES_A_SECOND)));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        // The head says how long it is, or the body is chunked.
        let known = self.body.size_hint().exact().map(|left| left + self.left.len() as u64);
        known.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

struct ResetAfter {
    body: Incoming,
    left: u64,
    signals: Arc<Signals>,
    /// A part of what came was left out.
    is_short: bool,
}

impl Body for ResetAfter {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        if this.left == 0 {
            if !this.is_short && this.body.is_end_stream() {
                return Poll::Ready(None);
            }
            // The client shall have what comes before the reset.
            std::task::ready!(this.signals.poll_flushed(context));
            this.signals.end_with_reset();
            return Poll::Ready(Some(Err("told to reset".into())));
        }
        match std::task::ready!(Pin::new(&mut this.body).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(mut data) => {
                    this.is_short = data.len() as u64 > this.left;
                    data.truncate(usize::try_from(this.left)?);
                    this.left -= data.len() as u64;
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Err(trailers) => Poll::Ready(Some(Ok(trailers))),
            },
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        // As long as the server said: the client is to miss what does not come.
        self.body.size_hint()
    }
}
