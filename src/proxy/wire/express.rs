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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::IoSlice;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use tokio::io::AsyncRead;
    use tokio::sync::Semaphore;

    use super::Heard::{End, Request};
    use super::*;
    use crate::proxy::lane::tests::lane;
    use crate::proxy::wire::Patience;

    const PLAIN: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const CLOSES: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Write {
        Plain,
        Last,
    }
    use Write::{Last, Plain};

    /// A stream that says this, and then no more.
    #[derive(Debug)]
    struct Recorder {
        says: &'static str,
        /// In one write.
        takes: usize,
        writes: Vec<Write>,
        taken: Vec<u8>,
    }

    impl Recorder {
        fn take(&mut self, write: Write, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(self.takes).collect();
            self.writes.push(write);
            self.taken.extend(&bytes);
            Poll::Ready(Ok(bytes.len()))
        }
    }

    impl AsyncRead for Recorder {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buffer.put_slice(std::mem::take(&mut self.says).as_bytes());
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Recorder {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.take(Plain, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.take(Plain, slices)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Socket for Recorder {
        fn poll_write_last(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.take(Last, slices)
        }
    }

    /// What the lane hears, and the writes that come of it, if the server closes after the answer or not.
    async fn heard(says: &'static str, server_closes: bool, takes: usize) -> (Heard, Vec<Write>, String) {
        let recorder = Recorder { says, takes, writes: Vec::new(), taken: Vec::new() };
        let patience = Patience { head: Duration::from_secs(60), idle: Duration::from_secs(60) };
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut guard = Guard::new(recorder, lane().await, patience, slot);
        guard.last_request.store(server_closes, Ordering::Relaxed);
        let heard = poll_fn(|context| guard.poll_lane(context)).await.unwrap();
        (heard, guard.stream.writes, String::from_utf8(guard.stream.taken).unwrap())
    }

    /// Who has not said that nothing follows may be sending already, and would lose what the stream keeps.
    #[tokio::test]
    async fn the_last_bytes_are_kept_for_the_end_only_where_the_visitor_asked_for_it() {
        for (says, server_closes, write) in
            [(PLAIN, false, Plain), (PLAIN, true, Plain), (CLOSES, false, Last), (CLOSES, true, Last)]
        {
            let (heard, writes, answer) = heard(says, server_closes, usize::MAX).await;
            assert_eq!((heard, &*writes), (End, &[write][..]), "{says:?} {server_closes}");
            let closes = says == CLOSES || server_closes;
            assert_eq!(answer.contains("\r\nconnection: close\r\n"), closes, "{says:?} {server_closes}: {answer}");
            assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
        }
    }

    #[tokio::test]
    async fn what_one_write_does_not_take_follows_in_plain_ones() {
        for (says, first) in [(PLAIN, Plain), (CLOSES, Last)] {
            let (_, _, whole) = heard(says, false, usize::MAX).await;
            for takes in [1, 7, whole.len() - 6, whole.len() - 5, whole.len() - 1] {
                let (heard, writes, answer) = heard(says, false, takes).await;
                assert_eq!((heard, writes[0], &*answer), (End, first, &*whole), "{takes}");
                assert!(writes.len() > 1 && writes[1..].iter().all(|write| *write == Plain), "{takes}: {writes:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_for_hyper_is_not_answered_by_any_write() {
        let missed = "GET /other HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert_eq!(heard(missed, false, usize::MAX).await, (Request, Vec::new(), String::new()));
    }
}
