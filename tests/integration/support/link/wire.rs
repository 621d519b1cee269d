//! The client's end of a connection, which can be reset instead of closed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What a body and the connection it is sent on tell each other.
#[derive(Default)]
pub(super) struct Signals {
    /// When the connection ends, it is reset.
    reset: AtomicBool,
    /// A body that waits until all it gave has been handed to the kernel.
    waiting: Mutex<Option<Waker>>,
    flushed: AtomicBool,
}

impl Signals {
    /// The end of the connection will be a reset.
    pub(super) fn end_with_reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// Ready when everything was handed to the kernel that was given before the first call.
    pub(super) fn poll_flushed(&self, context: &Context<'_>) -> Poll<()> {
        // hyper flushes when a body has nothing at the moment, and tells the socket only after all was written to it.
        *self.waiting.lock() = Some(context.waker().clone());
        if self.flushed.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn flush(&self) {
        if let Some(waker) = self.waiting.lock().take() {
            self.flushed.store(true, Ordering::Release);
            waker.wake();
        }
    }
}

pub(super) struct Wire {
    stream: TcpStream,
    signals: Arc<Signals>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, signals: Arc<Signals>) -> Self {
        // Answers of a few bytes go out at once.
        let _ = stream.set_nodelay(true);
        Wire { stream, signals }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.signals.reset.load(Ordering::Relaxed) {
            // Lingering for no time means: closing sends a reset.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if let Poll::Ready(Ok(())) = flushed {
            self.signals.flush();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.signals.reset.load(Ordering::Relaxed) {
            // A goodbye before the reset would be an orderly end.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
