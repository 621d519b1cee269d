//! After `101 Switching Protocols`: bytes both ways, until one side ends or nothing moves for too long.

use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes read at a time, each way.
const BUFFER_BYTES: usize = 16 << 10;

/// Carries bytes between a visitor and the origin. A direction that is still for `idle` ends the tunnel only if the other is still too.
pub(super) async fn run(visitor: OnUpgrade, origin: OnUpgrade, idle: Duration) {
    let (visitor, origin) = match tokio::try_join!(visitor, origin) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "the tunnel was not opened"),
    };
    let moved = Moved::default();
    let (visitor_read, visitor_write) = tokio::io::split(TokioIo::new(visitor));
    let (origin_read, origin_write) = tokio::io::split(TokioIo::new(origin));
    let both = async {
        tokio::join!(carry(visitor_read, origin_write, &moved), carry(origin_read, visitor_write, &moved));
    };
    tokio::select! {
        () = both => {}
        () = moved.stands_still(idle) => tracing::debug!("the tunnel stood still"),
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, moved: &Moved) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(bytes) if to.write_all(&buffer[..bytes]).await.is_err() => break,
            Ok(_) => moved.note(),
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

/// When bytes last moved.
#[derive(Debug)]
struct Moved(parking_lot::Mutex<tokio::time::Instant>);

impl Default for Moved {
    fn default() -> Self {
        Moved(parking_lot::Mutex::new(tokio::time::Instant::now()))
    }
}

impl Moved {
    fn note(&self) {
        *self.0.lock() = tokio::time::Instant::now();
    }

    async fn stands_still(&self, idle: Duration) {
        loop {
            let until = *self.0.lock() + idle;
            if until <= tokio::time::Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}
