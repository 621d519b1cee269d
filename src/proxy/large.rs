//! The body of an answer from a page that memory does not hold: read from where it lies, as fast as this visitor takes it.
//!
//! It has exactly the bytes that were announced, or ends in an error, which closes the visitor's connection.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::BoxError;
use crate::page::large::{LargeBody, LargePage, Pieces};

/// What an answer's body consists of.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// What stands between ranges.
    Text(Bytes),
    /// These bytes of the page's body.
    Range(Range<u64>),
}

impl Part {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Part::Text(text) => text.len() as u64,
            Part::Range(range) => range.end - range.start,
        }
    }
}

/// Parts, one after the other.
pub(super) struct LargeStream {
    path: Arc<str>,
    body: Arc<dyn LargeBody>,
    parts: VecDeque<Part>,
    state: State,
    /// Bytes that have not been sent.
    left_bytes: u64,
}

enum State {
    Between,
    Opening(Pin<Box<dyn Future<Output = io::Result<Pieces>> + Send>>, u64),
    /// And how many bytes it still owes.
    Reading(Pieces, u64),
    Failed,
}

impl LargeStream {
    /// The first part is opened at once, so that a body which is gone is known before an answer is begun.
    pub(super) async fn open(page: &LargePage, parts: VecDeque<Part>) -> io::Result<Self> {
        let left_bytes = parts.iter().map(Part::bytes).sum();
        let (path, body) = (Arc::clone(&page.head.path), Arc::clone(&page.body));
        let mut stream = LargeStream { path, body, parts, state: State::Between, left_bytes };
        if let Some(Part::Range(range)) = stream.parts.front().cloned() {
            stream.parts.pop_front();
            stream.state = State::Reading(stream.body.read(range.clone()).await?, range.end - range.start);
        }
        Ok(stream)
    }

    /// `None`: the part has ended.
    fn poll_pieces(
        pieces: &mut Pieces,
        left: &mut u64,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, io::Error>> {
        match ready!(pieces.as_mut().poll_next(context)) {
            Some(Ok(piece)) if piece.len() as u64 <= *left => {
                *left -= piece.len() as u64;
                Poll::Ready(Ok(Some(piece)))
            }
            Some(Ok(_)) => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes than asked for"))),
            Some(Err(error)) => Poll::Ready(Err(error)),
            None if *left == 0 => Poll::Ready(Ok(None)),
            None => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match &mut self.state {
                State::Between => match self.parts.pop_front() {
                    None => return Poll::Ready(None),
                    Some(Part::Text(text)) => return Poll::Ready(Some(Ok(text))),
                    Some(Part::Range(range)) => {
                        let (body, bytes) = (Arc::clone(&self.body), range.end - range.start);
                        let opening = async move { body.read(range).await };
                        self.state = State::Opening(Box::pin(opening), bytes);
                    }
                },
                State::Opening(opening, bytes) => match ready!(opening.as_mut().poll(context)) {
                    Ok(pieces) => self.state = State::Reading(pieces, *bytes),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
                State::Reading(pieces, left) => match ready!(Self::poll_pieces(pieces, left, context)) {
                    Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                    Ok(None) => self.state = State::Between,
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
                State::Failed => return Poll::Ready(None),
            }
        }
    }
}

impl Body for LargeStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(match ready!(self.poll_next(context)) {
            Some(Ok(piece)) => {
                self.left_bytes -= piece.len() as u64;
                Some(Ok(Frame::data(piece)))
            }
            Some(Err(error)) => {
                tracing::warn!(path = &*self.path, %error, "a stored page cannot be read on: its visitor's connection is closed");
                self.state = State::Failed;
                Some(Err(error.into()))
            }
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}
