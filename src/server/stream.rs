//! A visitor's stream: when does the runtime watch it? Not before it has to wait, which a visitor with one small request never makes it.
//!
//! To watch a stream and to let go of it are two system calls, as many as it takes to read a request and to answer it. A connection is accepted when its
//! first bytes are there (`listening`), so the first read is made at once, and writes are made as long as the system takes them. From the second read
//! on, or the first wait, it is a stream of the runtime.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, TcpStream as Unwatched};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream as Watched;

use crate::proxy::wire::Socket;

/// A stream that does not block.
#[derive(Debug)]
pub(super) struct Stream {
    watched: Option<Watched>,
    /// Until it is watched.
    unwatched: Option<Unwatched>,
    has_read: bool,
}

impl Stream {
    /// The stream must not block.
    pub(super) fn new(stream: Unwatched) -> Self {
        Stream { watched: None, unwatched: Some(stream), has_read: false }
    }

    /// From now on the runtime watches it.
    ///
    /// # Errors
    /// The system watches no more streams for us.
    fn watched(&mut self) -> io::Result<Pin<&mut Watched>> {
        if let Some(stream) = self.unwatched.take() {
            self.watched = Some(Watched::from_std(stream)?);
        }
        self.watched.as_mut().map(Pin::new).ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// What comes of it at once, if it is not watched; `None`: it is to be watched.
    fn at_once<T>(&mut self, work: impl FnOnce(&mut Unwatched) -> io::Result<T>) -> Option<io::Result<T>> {
        let done = work(self.unwatched.as_mut()?);
        let must_wait = |error: &io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
        if done.as_ref().is_err_and(must_wait) { None } else { Some(done) }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_read, true)
            && let Some(read) = self.at_once(|stream| stream.read(buffer.initialize_unfilled()))
        {
            return Poll::Ready(read.map(|bytes| buffer.advance(bytes)));
        }
        self.watched()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.at_once(|stream| stream.write(bytes)) {
            Some(written) => Poll::Ready(written),
            None => self.watched()?.poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.at_once(|stream| stream.write_vectored(slices)) {
            Some(written) => Poll::Ready(written),
            None => self.watched()?.poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is kept here.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.at_once(|stream| stream.shutdown(Shutdown::Write)) {
            Some(done) => Poll::Ready(done),
            None => self.watched()?.poll_shutdown(context),
        }
    }
}

impl Socket for Stream {
    fn poll_write_last(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.at_once(|stream| write_last(stream, slices)) {
            Some(written) => Poll::Ready(written),
            None => self.poll_write_vectored(context, slices),
        }
    }
}

/// The last bytes wait for the end of the stream, and go out in one segment with it.
#[cfg(target_os = "linux")]
fn write_last(stream: &Unwatched, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
    Ok(sendmsg(stream, slices, &mut SendAncillaryBuffer::default(), SendFlags::MORE | SendFlags::NOSIGNAL)?)
}

#[cfg(not(target_os = "linux"))]
fn write_last(mut stream: &Unwatched, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    stream.write_vectored(slices)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Visitor};
    use std::thread;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pair() -> (Visitor, Stream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let visitor = Visitor::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (visitor, Stream::new(stream))
    }

    #[tokio::test]
    async fn one_request_and_its_answer_are_not_watched() {
        let (mut visitor, mut stream) = pair();
        visitor.write_all(b"request").unwrap();
        let mut buffer = [0; 100];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 7);
        stream.write_all(b"answer, ").await.unwrap();
        let slices = [IoSlice::new(b"and "), IoSlice::new(b"the end")];
        let written = std::future::poll_fn(|context| Pin::new(&mut stream).poll_write_last(context, &slices)).await;
        assert_eq!(written.unwrap(), 11);
        assert!(stream.watched.is_none());
        drop(stream);
        let mut answer = String::new();
        visitor.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer, and the end");
    }

    #[tokio::test]
    async fn who_says_more_is_watched() {
        let (mut visitor, mut stream) = pair();
        let mut buffer = [0; 100];
        for number in 0..3 {
            visitor.write_all(b"request").unwrap();
            assert_eq!(stream.read(&mut buffer).await.unwrap(), 7);
            assert_eq!(stream.watched.is_some(), number > 0);
            stream.write_all(b"answer").await.unwrap();
            visitor.read_exact(&mut buffer[..6]).unwrap();
        }
        drop(visitor);
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn who_says_nothing_yet_is_waited_for() {
        let (mut visitor, mut stream) = pair();
        let mut buffer = [0; 100];
        let (read, ()) = tokio::join!(stream.read(&mut buffer), async { visitor.write_all(b"request").unwrap() });
        assert_eq!(read.unwrap(), 7);
        assert!(stream.watched.is_some());
    }

    #[tokio::test]
    async fn who_reads_slowly_gets_all() {
        const BYTES: usize = 16 << 20;
        let (mut visitor, mut stream) = pair();
        let reader = thread::spawn(move || {
            let mut answer = Vec::new();
            visitor.read_to_end(&mut answer).map(|_| answer)
        });
        let answer: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
        let mut sent = 0;
        while sent < BYTES {
            let slices = [IoSlice::new(&answer[sent..]), IoSlice::new(&[])];
            sent +=
                std::future::poll_fn(|context| Pin::new(&mut stream).poll_write_last(context, &slices)).await.unwrap();
        }
        assert!(stream.watched.is_some(), "the system does not take so much at once");
        stream.shutdown().await.unwrap();
        assert!(reader.join().unwrap().unwrap() == answer);
    }
}
