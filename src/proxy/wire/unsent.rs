//! What of the fast lane's answer is left to be sent, when a connection does not take it at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

use super::Socket;
use crate::proxy::lane::Answer;

/// The rest of a head and of a body. The body is shared with the page.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    head: Bytes,
    body: Bytes,
}

impl Unsent {
    /// What is left of an answer of which `taken` bytes have been sent.
    pub(super) fn after(taken: usize, head: &[u8], answer: &Answer) -> Self {
        let of_head = taken.min(head.len());
        let body = if answer.has_body { answer.page.body.slice(taken - of_head..) } else { Bytes::new() };
        Unsent { head: Bytes::copy_from_slice(&head[of_head..]), body }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.body.is_empty()
    }

    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// So many bytes more have been sent.
    pub(super) fn advance(&mut self, taken: usize) {
        let of_head = taken.min(self.head.len());
        self.head.advance(of_head);
        self.body.advance(taken - of_head);
    }
}

/// One write of both.
///
/// # Errors
/// The stream's; it takes nothing any more.
pub(super) fn poll_write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    head: &[u8],
    body: &[u8],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    let taken = if body.is_empty() {
        ready!(stream.poll_write(context, head))?
    } else {
        ready!(stream.poll_write_vectored(context, &[IoSlice::new(head), IoSlice::new(body)]))?
    };
    Poll::Ready(some(taken))
}

/// One write of both, where the stream is closed once all is taken, and the visitor has said that nothing follows the request: whoever said more
/// would have the connection reset, and lose what the stream keeps until it is closed.
///
/// # Errors
/// The stream's; it takes nothing any more.
pub(super) fn poll_write_last<S: Socket>(
    stream: &mut S,
    context: &mut Context<'_>,
    head: &[u8],
    body: &[u8],
) -> Poll<io::Result<usize>> {
    let slices = [IoSlice::new(head), IoSlice::new(body)];
    Poll::Ready(some(ready!(Pin::new(stream).poll_write_last(context, &slices))?))
}

/// Not nothing.
fn some(taken: usize) -> io::Result<usize> {
    if taken == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(taken) }
}
