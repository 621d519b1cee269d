//! A connection without a kernel: one request's bytes in, the answer's bytes out.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use everpage::proxy::connection;
use everpage::proxy::drain::Draining;
use everpage::proxy::wire::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;

use super::proxy::Proxy;

/// The server's end. It takes every write whole, as a socket with room in its buffer does.
#[derive(Clone, Debug)]
struct Line(Arc<Mutex<Ends>>);

#[derive(Debug, Default)]
struct Ends {
    unread: Bytes,
    answered: usize,
    /// The bytes themselves, while they are wanted: to copy them is work that a socket leaves to the kernel.
    answer: Option<Vec<u8>>,
    reader: Option<Waker>,
}

impl Ends {
    fn take(&mut self, bytes: &[u8]) {
        self.answered += bytes.len();
        if let Some(answer) = &mut self.answer {
            answer.extend_from_slice(bytes);
        }
    }
}

impl Line {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.ends();
        if ends.unread.is_empty() {
            ends.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let bytes = ends.unread.len().min(buffer.remaining());
        buffer.put_slice(&ends.unread.split_to(bytes));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.ends().take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, _: &mut Context<'_>, all: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut ends = self.ends();
        all.iter().for_each(|bytes| ends.take(bytes));
        Poll::Ready(Ok(all.iter().map(|bytes| bytes.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Socket for Line {}

/// A visitor's connection to the proxy.
pub(crate) struct Connection<'a> {
    proxy: &'a Proxy,
    line: Line,
    serving: Pin<Box<dyn Future<Output = ()>>>,
}

impl<'a> Connection<'a> {
    /// Opens it. Nothing has been read yet.
    pub(crate) fn open(proxy: &'a Proxy) -> Self {
        let line = Line(Arc::default());
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("the first");
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let serving = connection::serve(
            Arc::clone(&proxy.handler),
            line.clone(),
            address,
            proxy.limits.clone(),
            Draining::default(),
            slot,
        );
        Connection { proxy, line, serving: Box::pin(serving) }
    }

    /// Puts the request on the line; nobody has read it yet.
    pub(crate) fn send(&self, request: &Bytes) {
        let mut ends = self.line.ends();
        ends.answered = 0;
        ends.unread = request.clone();
        if let Some(reader) = ends.reader.take() {
            reader.wake();
        }
    }

    /// Sends the request; the answer, from its first byte until it is whole.
    pub(crate) fn ask(&mut self, request: &Bytes, is_whole: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        self.line.ends().answer = Some(Vec::new());
        self.send(request);
        self.serve_until(|ends| ends.answer.as_ref().is_some_and(|answer| is_whole(answer)));
        self.line.ends().answer.take().expect("it was wanted")
    }

    /// Serves until so many bytes are answered.
    pub(crate) fn serve(&mut self, answer_bytes: usize) {
        self.serve_until(|ends| ends.answered >= answer_bytes);
    }

    /// Time passes only where nothing else can happen, so a proxy that does not answer ends the connection soon.
    fn serve_until(&mut self, is_done: impl Fn(&Ends) -> bool) {
        let Connection { proxy, line, serving } = self;
        proxy.runtime.block_on(std::future::poll_fn(|context| {
            let has_ended = serving.as_mut().poll(context).is_ready();
            let is_done = is_done(&line.ends());
            assert!(!has_ended || is_done, "the connection ended before the answer did");
            if is_done { Poll::Ready(()) } else { Poll::Pending }
        }));
    }

    /// Serves until the proxy ends the connection, as a visitor who wants no second answer asks it to.
    pub(crate) fn serve_to_the_end(&mut self) {
        self.proxy.runtime.block_on(&mut self.serving);
    }

    /// Bytes of the answer so far.
    pub(crate) fn answered_bytes(&self) -> usize {
        self.line.ends().answered
    }
}
