//! Which bytes may reach the parser, who answers them, and how long is waited? A guard between a visitor's stream and hyper: against requests that two
//! parsers could read in two ways (request smuggling), with the fast lane's way past hyper (`express`), and with bounds on how long a head may take to
//! come and how long the visitor may refuse to take bytes.
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
//! count: it looks no further, and the connection ends after that answer (`Visitor::last_request`).
//!
//! While hyper has nothing to do, requests are shown to the fast lane first. What it answers never reaches hyper, for which the connection is still
//! then; what it does not answer is handed on untouched. hyper has nothing to do when each head that went to it has been answered, the answer's
//! body has come to its end ([`Ending`]), and hyper has flushed after that.

mod desk;
mod ending;
mod express;
mod reader;
mod socket;
#[cfg(test)]
mod tests;
mod unsent;
mod waiting;

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

pub use self::ending::Ending;
pub(super) use self::express::Heard;
use self::reader::Reader;
pub use self::socket::Socket;
use self::unsent::Unsent;
use self::waiting::HeadWait;
use super::interim::Interim;
use super::lane::Lane;
use super::origin::Stall;

/// A visitor's connection, guarded, with its fast lane, and with bounds on how long a head may take to come and how long it may refuse to take bytes.
#[derive(Debug)]
pub struct Guard<S> {
    stream: S,
    reader: Reader,
    last_request: Arc<AtomicBool>,
    stall: Stall,
    head_wait: HeadWait,
    interim: Arc<Interim>,
    /// Bytes of interim answers that the stream has yet to take: nothing may come between them.
    interim_bytes: VecDeque<u8>,
    /// hyper has nothing half-written.
    between_answers: bool,
    /// `None` once nothing more can be for it: a tunnel shall not hold the handler.
    lane: Option<Lane>,
    /// What of the fast lane's answer the stream has yet to take.
    unsent: Unsent,
    /// The fast lane's answer was the last.
    is_last: bool,
    /// Nothing has come yet.
    is_fresh: bool,
    /// Bytes for hyper, which the fast lane has read.
    handed: Bytes,
    /// hyper's answers whose bodies have come to their end.
    ended: Arc<AtomicU64>,
    /// Those of them that the stream has taken whole.
    settled: u64,
    /// Its place among `limits.connections`: a tunnel takes it along.
    _slot: OwnedSemaphorePermit,
}

/// How long what may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a head to come.
    pub head: Duration,
    /// For a write to make progress.
    pub idle: Duration,
}

impl<S> Guard<S> {
    /// Guards the stream. The slot is given back when the stream is closed.
    pub(super) fn new(stream: S, lane: Lane, patience: Patience, slot: OwnedSemaphorePermit) -> Self {
        Guard {
            stream,
            reader: Reader::default(),
            last_request: Arc::clone(&lane.visitor().last_request),
            stall: Stall::new(patience.idle),
            head_wait: HeadWait::new(patience.head),
            interim: Arc::clone(&lane.visitor().interim),
            interim_bytes: VecDeque::new(),
            between_answers: true,
            lane: Some(lane),
            unsent: Unsent::default(),
            is_last: false,
            is_fresh: true,
            handed: Bytes::new(),
            ended: Arc::default(),
            settled: 0,
            _slot: slot,
        }
    }

    /// To be raised at the end of each of hyper's answers.
    pub fn ended(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.ended)
    }

    /// Nothing has come yet.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Every request that hyper got is answered, and it has no part of a further one.
    fn is_idle(&self) -> bool {
        self.settled == self.reader.heads() && self.reader.is_between_requests()
    }
}

impl<S: Socket> AsyncRead for Guard<S> {
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
        let this = &mut *self;
        if this.handed.is_empty() && this.is_idle() && ready!(this.poll_lane(context))? == Heard::End {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if !this.handed.is_empty() {
            let bytes = this.handed.len().min(buffer.remaining());
            buffer.put_slice(&this.handed[..bytes]);
            this.handed.advance(bytes);
            if this.handed.is_empty() {
                // Its memory.
                this.handed = Bytes::new();
            }
        } else if Pin::new(&mut this.stream).poll_read(context, buffer)?.is_pending() {
            let waits_for_head = this.settled == this.reader.heads() && !this.reader.is_in_body();
            return if waits_for_head { this.head_wait.poll(context).map(Err) } else { Poll::Pending };
        }
        this.reader.inspect(&mut buffer.filled_mut()[before..]);
        if this.reader.is_uncounted() {
            this.last_request.store(true, Ordering::Relaxed);
            this.lane = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    fn bounded<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stall.moved();
        } else if self.stall.poll_expired(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the visitor takes no bytes")));
        }
        polled
    }

    /// Writes interim answers, where they may stand: hyper has flushed all it had, and the final answer has not begun.
    fn poll_interim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.between_answers && self.interim_bytes.is_empty() {
            self.interim_bytes = self.interim.take().into();
        }
        while !self.interim_bytes.is_empty() {
            let (bytes, _) = self.interim_bytes.as_slices();
            let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
            let written = ready!(self.bounded(polled, context))?;
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
        ready!(self.poll_interim(context))?;
        self.between_answers = false;
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(context))?;
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
        // Before the flush, which would count as progress of a visitor who takes nothing.
        ready!(self.poll_unsent(context))?;
        ready!(self.poll_interim(context))?;
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        ready!(self.bounded(polled, context))?;
        let ended = self.ended.load(Ordering::Acquire);
        if self.settled != ended {
            self.settled = ended;
            self.head_wait.restart();
            // hyper may have asked for bytes before, and will not again until some come.
            if let Poll::Ready(error) = self.head_wait.poll(context) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(context))?;
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bounded(polled, context)
    }
}
