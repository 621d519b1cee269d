//! Which bytes may reach the parser? A guard before hyper against requests that two parsers could read in two ways (request smuggling).
//!
//! hyper takes a bare LF for a line's end, and drops Content-Length beside Transfer-Encoding. Both are legal leniency (RFC 9112, sections 2.2 and 6.3) and
//! both have let requests through that another server saw differently. The guard reads the heads of requests as they come and, at the first
//! offence, puts a NUL in the place of the offending line end: the one parser then answers 400 and closes, as for any other broken head. Nothing
//! is ever rewritten into something valid.
//!
//! Offences: a line that ends in a bare LF, a line that starts with white space (obs-fold, RFC 9112, section 5.2), Content-Length together with
//! Transfer-Encoding, more than one Content-Length or Transfer-Encoding, a Content-Length that is no plain number, a Transfer-Encoding other than
//! `chunked` alone (whatever else was encoded would reach the origin without its name), and either of the two in a line longer than is looked at.
//!
//! The guard counts bodies by Content-Length to find the next head. Where a body is chunked or the request asks for another protocol it does not
//! count: it looks no further, and the connection ends after that answer ([`Guard::last_request`]).

mod reader;

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use self::reader::Reader;
use super::interim::Interim;
use super::origin::Stall;

/// A visitor's connection, guarded, and with a bound on how long it may refuse to take bytes.
#[derive(Debug)]
pub struct Guard<S> {
    stream: S,
    reader: Reader,
    last_request: Arc<AtomicBool>,
    unsent: Stall,
    interim: Arc<Interim>,
    /// Bytes of interim answers that the stream has yet to take: nothing may come between them.
    interim_bytes: VecDeque<u8>,
    /// hyper has nothing half-written.
    between_answers: bool,
    /// Its place among `limits.connections`: a tunnel takes it along.
    _slot: OwnedSemaphorePermit,
}

impl<S> Guard<S> {
    /// Guards the stream; a write that makes no progress for `idle` fails. The slot is given back when the stream is closed.
    pub fn new(stream: S, idle: Duration, slot: OwnedSemaphorePermit) -> Self {
        Guard {
            stream,
            reader: Reader::default(),
            last_request: Arc::default(),
            unsent: Stall::new(idle),
            interim: Arc::default(),
            interim_bytes: VecDeque::new(),
            between_answers: true,
            _slot: slot,
        }
    }

    /// True once a request came whose end was not counted: no further one may be read from this connection.
    pub fn last_request(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.last_request)
    }

    /// Where interim answers for this visitor go.
    pub fn interim(&self) -> Arc<Interim> {
        Arc::clone(&self.interim)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.reader.is_poisoned() {
            // The end of the head, in case it has not come yet: the parser looks only at whole heads, and shall answer now.
            let end = &b"\r\n\r\n"[..buffer.remaining().min(4)];
            buffer.put_slice(end);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let this = &mut *self;
        this.reader.inspect(&mut buffer.filled_mut()[before..]);
        if this.reader.is_uncounted() {
            this.last_request.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    fn bounded<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.unsent.moved();
        } else if self.unsent.poll_expired(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the visitor takes no bytes")));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    /// Writes interim answers, where they may stand: hyper has flushed all it had, and the final answer has not begun.
    fn poll_interim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.between_answers && self.interim_bytes.is_empty() {
            self.interim_bytes = self.interim.take().into();
        }
        while !self.interim_bytes.is_empty() {
            let (bytes, _) = self.interim_bytes.as_slices();
            let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
            let written = std::task::ready!(self.bounded(polled, context))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim_bytes.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_interim(context))?;
        self.between_answers = false;
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_interim(context))?;
        self.between_answers = false;
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bounded(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the stream only when its own buffer is empty.
        self.between_answers = true;
        std::task::ready!(self.poll_interim(context))?;
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.bounded(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bounded(polled, context)
    }
}
