//! When has an answer's body come to its end? hyper drops it then, with the last piece in its own hands.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::proxy::body::{Body, BoxError};

/// A body that counts its end.
#[derive(Debug)]
pub struct Ending {
    body: Body,
    ended: Arc<AtomicU64>,
}

impl Ending {
    /// Raises `ended` when the body is dropped.
    #[must_use]
    pub fn new(body: Body, ended: Arc<AtomicU64>) -> Self {
        Ending { body, ended }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.ended.fetch_add(1, Ordering::Release);
    }
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
