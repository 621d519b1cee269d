//! What a visitor's connection is made of: bytes both ways, and an end that may go out with the last of them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

/// A stream that knows when it is about to be closed.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// As `poll_write_vectored`, where the stream is dropped as soon as all is taken: it may keep the last bytes until then.
    ///
    /// # Errors
    /// The stream's.
    fn poll_write_last(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, slices)
    }
}

/// Within one process.
impl Socket for DuplexStream {}
