//! When does a server end? At the first SIGTERM or SIGINT it drains, at the second it ends at once.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::server::Server;

/// The signals that end a server, from now on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Runs the server to its end, or to the second signal.
    pub(super) async fn run(mut self, server: Server) -> Result<(), Failure> {
        let drain = CancellationToken::new();
        let mut running = std::pin::pin!(server.run(drain.clone().cancelled_owned()));
        tokio::select! {
            ended = &mut running => return Ok(ended?),
            () = self.next() => drain.cancel(),
        }
        tokio::select! {
            ended = running => Ok(ended?),
            () = self.next() => Err(Failure::failed("ended by a second signal: what was under way is cut off")),
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
