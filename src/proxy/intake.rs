//! How does a body come in? Into memory, into a temporary file when it is too large for that, and past both when it is too large to be kept.
//!
//! A body that does not say how long it is may turn out to be large, and so may all the others under way: when together they take much memory, those
//! that have grown go to files before they are too large.
//!
//! Whatever happens to the file, those who read along get every byte. A slow disk holds the origin up; a slow reader does so only where nothing is
//! kept. It never decides whether the body is whole: that is `policy::admission`.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use sha1::{Digest, Sha1};
use tokio::sync::OwnedSemaphorePermit;

use super::errand::Errand;
use super::flight::Flight;
use super::handler::Handler;
use super::origin::IncomingBody;
use crate::page::large::LargeBody;
use crate::policy::reason::Reason;
use crate::store::spool::{Spool, SpoolError};

/// Bytes that are written to the file at once, if they come that fast; what comes slowly is written as it comes.
const WRITE_BYTES: usize = 256 << 10;

/// Bytes of a body of unknown length that stay in memory in any case: a file for less is not worth its while.
const SPILL_BYTES: u64 = 1 << 20;

/// A body on its way in.
pub(super) struct Intake<'a> {
    handler: &'a Handler,
    flight: &'a Flight,
    errand: &'a Errand,
    is_length_known: bool,
    /// Once it does, it does so to its end: the file comes before what is in memory.
    goes_to_file: bool,
    received: u64,
    spool: Option<Spool>,
    /// What goes to the file next, and its share of `cache.max_fill_bytes`.
    unwritten: Vec<Bytes>,
    unwritten_bytes: usize,
    memory: Vec<OwnedSemaphorePermit>,
}

/// Nobody is left to read a body that is not kept.
struct Unwanted;

/// A whole body that is to be kept.
pub(super) enum Gathered {
    Memory(Bytes),
    /// With its crc32 and its sha1.
    Large(Arc<dyn LargeBody>, u32, [u8; 20]),
}

impl Gathered {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Gathered::Memory(body) => body.len() as u64,
            Gathered::Large(body, ..) => body.bytes(),
        }
    }

    pub(super) fn sha1(&self) -> [u8; 20] {
        match self {
            Gathered::Memory(body) => Sha1::digest(body).into(),
            Gathered::Large(_, _, sha1) => *sha1,
        }
    }
}

impl<'a> Intake<'a> {
    pub(super) fn new(handler: &'a Handler, flight: &'a Flight, errand: &'a Errand, announced: Option<u64>) -> Self {
        Intake {
            handler,
            flight,
            errand,
            is_length_known: announced.is_some(),
            goes_to_file: announced.is_some_and(|bytes| bytes > handler.settings.max_memory_size),
            received: 0,
            spool: None,
            unwritten: Vec::new(),
            unwritten_bytes: 0,
            memory: Vec::new(),
        }
    }

    /// Takes the body in to its end. Returns its trailers.
    pub(super) async fn receive(&mut self, mut body: IncomingBody) -> Result<Option<HeaderMap>, Reason> {
        let mut trailers = None;
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                // Nothing comes at once: nobody who reads along shall wait for more.
                () = std::future::ready(()), if self.unwritten_bytes > 0 => {
                    self.write().await.map_err(|Unwanted| Reason::TooLarge)?;
                    continue;
                }
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| {
                tracing::debug!(%error, "body broke off");
                Reason::CutShort
            })?;
            match frame.into_data() {
                Ok(data) => self.take(data).await.map_err(|Unwanted| Reason::TooLarge)?,
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        self.write().await.map_err(|Unwanted| Reason::TooLarge)?;
        Ok(trailers)
    }

    /// Bytes so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The whole body; only of a flight that is kept.
    pub(super) fn gather(self) -> Gathered {
        match self.spool {
            None => Gathered::Memory(self.flight.gather()),
            Some(spool) => {
                let (body, crc, sha1) = spool.finish();
                Gathered::Large(Arc::new(body), crc, sha1)
            }
        }
    }

    async fn take(&mut self, data: Bytes) -> Result<(), Unwanted> {
        self.received += data.len() as u64;
        let kib = u32::try_from(data.len().div_ceil(1024)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.handler.fill_memory).try_acquire_many_owned(kib).ok();
        if self.flight.is_kept() {
            if self.received > self.handler.settings.max_body {
                self.stop_keeping(Reason::TooLarge).await?;
            } else if memory.is_none() {
                self.stop_keeping(Reason::FillMemory).await?;
            }
        }
        self.goes_to_file |= self.is_too_large_for_memory();
        if !self.flight.is_kept() || !self.goes_to_file {
            let memory = memory.filter(|_| self.flight.is_kept());
            return if self.flight.push(data, memory).await { Ok(()) } else { Err(Unwanted) };
        }
        self.unwritten_bytes += data.len();
        self.unwritten.push(data);
        self.memory.extend(memory);
        if self.unwritten_bytes >= WRITE_BYTES { self.write().await } else { Ok(()) }
    }

    fn is_too_large_for_memory(&self) -> bool {
        let may_grow = !self.is_length_known && self.received > SPILL_BYTES;
        self.received > self.handler.settings.max_memory_size || (may_grow && self.handler.is_fill_memory_scarce())
    }

    /// Writes to the file what is not there yet: at first all that is in memory.
    async fn write(&mut self) -> Result<(), Unwanted> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let spool = self.spool.take();
        let mut pieces = if spool.is_none() { self.flight.chunks() } else { Vec::new() };
        pieces.extend(self.unwritten.iter().cloned());
        match self.handler.spools.write(spool, pieces).await {
            Ok(spool) => {
                self.flight.spill(spool.file(), spool.bytes());
                self.spool = Some(spool);
                self.unwritten.clear();
                self.memory.clear();
                self.unwritten_bytes = 0;
                Ok(())
            }
            Err(SpoolError::Full) => self.stop_keeping(Reason::FillDisk).await,
            Err(error) => {
                self.handler.note_store_failure(&error);
                self.stop_keeping(Reason::TemporaryFile).await
            }
        }
    }

    /// It goes on to those on board, and to nobody else.
    async fn stop_keeping(&mut self, reason: Reason) -> Result<(), Unwanted> {
        self.handler.note_refused(self.errand, reason);
        self.flight.stop_keeping();
        self.spool = None;
        self.memory.clear();
        self.unwritten_bytes = 0;
        for piece in std::mem::take(&mut self.unwritten) {
            if !self.flight.push(piece, None).await {
                return Err(Unwanted);
            }
        }
        Ok(())
    }
}
