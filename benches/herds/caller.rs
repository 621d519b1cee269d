//! One connection that asks and waits, without a runtime in the way: what a client adds to a time is a system call.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::reply::Reply;

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 256 << 10;

/// A connection.
pub(crate) struct Caller {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Caller {
    pub(crate) fn connect(at: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(at).with_context(|| format!("nobody listens on {at}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Caller { stream, buffer: vec![0; READ_BYTES] })
    }

    /// Sends the request and takes all of the answer.
    pub(crate) fn ask(&mut self, request: &[u8], reply: &mut Reply<'_>) -> Result<()> {
        self.stream.write_all(request).context("the request was not taken")?;
        loop {
            let count = self.stream.read(&mut self.buffer).with_context(|| format!("no answer in {PATIENCE:?}"))?;
            ensure!(count > 0, "the connection ended before the answer");
            if reply.take(&self.buffer[..count])? {
                return Ok(());
            }
        }
    }
}
