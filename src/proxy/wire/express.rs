//! What comes while hyper has nothing to do is shown to the fast lane (`lane`), and what the lane answers is sent from here.
//!
//! A whole answer goes out in one write where the stream takes it; what it does not take is kept ([`Unsent`]), and nothing is read until it has gone.
//! What the lane does not answer is handed on to hyper as it came: nothing is ever changed in it, or judged here. It never runs while a request that
//! hyper got has yet to be answered, and never writes between two parts of hyper's answers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncWrite, ReadBuf};

use super::desk::{self, Desk};
use super::unsent::{self, Unsent};
use super::{Guard, Socket};
use crate::proxy::lane::Answer;

/// What the fast lane has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Heard {
    /// Something that is for hyper.
    Request,
    /// Nothing more will come, or be answered.
    End,
}

impl<S: Socket> Guard<S> {
    /// Answers what the fast lane can, until something has come that is for hyper. To be asked only while hyper has nothing to do.
    ///
    /// # Errors
    /// The stream's; no head came in time; the visitor takes no bytes.
    pub(in crate::proxy) fn poll_lane(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Heard>> {
        loop {
            ready!(self.poll_unsent(context))?;
            if self.is_last {
                return Poll::Ready(Ok(Heard::End));
            }
            if let Some(heard) = ready!(desk::with(|desk| self.poll_request(context, desk)))? {
                return Poll::Ready(Ok(heard));
            }
        }
    }

    /// `None`: it was answered.
    fn poll_request(&mut self, context: &mut Context<'_>, desk: &mut Desk) -> Poll<io::Result<Option<Heard>>> {
        let mut buffer = ReadBuf::new(&mut desk.incoming);
        if Pin::new(&mut self.stream).poll_read(context, &mut buffer)?.is_pending() {
            return self.head_wait.poll(context).map(Err);
        }
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(Some(Heard::End)));
        }
        self.is_fresh = false;
        let answer = self.lane.as_ref().and_then(|lane| lane.answer(bytes, &mut desk.head));
        let Some(answer) = answer else {
            self.handed = Bytes::copy_from_slice(bytes);
            return Poll::Ready(Ok(Some(Heard::Request)));
        };
        self.is_last = answer.is_last;
        self.send(context, &desk.head, &answer)?;
        self.head_wait.restart();
        Poll::Ready(Ok(None))
    }

    /// Sends what the stream takes at once; the rest is kept.
    fn send(&mut self, context: &mut Context<'_>, head: &[u8], answer: &Answer) -> io::Result<()> {
        let body = answer.body();
        let polled = if answer.is_last_asked {
            unsent::poll_write_last(&mut self.stream, context, head, body)
        } else {
            unsent::poll_write(&mut self.stream, context, head, body)
        };
        let taken = match polled {
            Poll::Ready(taken) => taken?,
            Poll::Pending => 0,
        };
        if taken < head.len() + body.len() {
            self.unsent = Unsent::after(taken, head, answer);
        }
        Ok(())
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    /// Sends what is left of the fast lane's answer.
    ///
    /// # Errors
    /// The stream's; the visitor takes no bytes.
    #[inline]
    pub(in crate::proxy) fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() { Poll::Ready(Ok(())) } else { self.poll_rest(context) }
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let polled = unsent::poll_write(&mut self.stream, context, self.unsent.head(), self.unsent.body());
            let taken = ready!(self.bounded(polled, context))?;
            self.unsent.advance(taken);
        }
        // The page may be dropped, however long the connection is still from now on.
        self.unsent = Unsent::default();
        self.head_wait.restart();
        Poll::Ready(Ok(()))
    }
}
