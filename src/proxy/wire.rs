//! Which bytes may reach the parser? A guard before hyper against requests that two parsers could read in two ways (request smuggling).
//!
//! hyper takes a bare LF for a line's end, and drops Content-Length beside Transfer-Encoding. Both are legal leniency (RFC 9112, sections 2.2 and 6.3) and
//! both have let requests through that another server saw differently. The guard reads the heads of requests as they come and, at the first
//! offence, puts a NUL in the place of the offending line end: the one parser then answers 400 and closes, as for any other broken head. Nothing
//! is ever rewritten into something valid.
//!
//! Offences: a line that ends in a bare LF, a line that starts with white space (obs-fold, RFC 9112, section 5.2), Content-Length together with
//! Transfer-Encoding, more than one Content-Length or Transfer-Encoding, a Content-Length that is no plain number, a Transfer-Encoding other than
//! `chunked` alone (whatever else was encoded would reach the origin without its name), and either of the two in a line longer than is looked at.
//!
//! The guard counts bodies by Content-Length to find the next head. Where a body is chunked or the request asks for another protocol it does not
//! count: it looks no further, and the connection ends after that answer ([`Guard::last_request`]).

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use super::interim::Interim;
use super::origin::Stall;

/// Bytes of a line that are looked at: enough for the names, a number, and some white space.
const LINE_HEAD_BYTES: usize = 64;

/// A visitor's connection, guarded, and with a bound on how long it may refuse to take bytes.
#[derive(Debug)]
pub struct Guard<S> {
    stream: S,
    reader: Reader,
    last_request: Arc<AtomicBool>,
    unsent: Stall,
    interim: Arc<Interim>,
    /// Bytes of interim answers that the stream has yet to take: nothing may come between them.
    interim_bytes: VecDeque<u8>,
    /// hyper has nothing half-written.
    between_answers: bool,
    /// Its place among `limits.connections`: a tunnel takes it along.
    _slot: OwnedSemaphorePermit,
}

impl<S> Guard<S> {
    /// Guards the stream; a write that makes no progress for `idle` fails. The slot is given back when the stream is closed.
    pub fn new(stream: S, idle: Duration, slot: OwnedSemaphorePermit) -> Self {
        Guard {
            stream,
            reader: Reader::default(),
            last_request: Arc::default(),
            unsent: Stall::new(idle),
            interim: Arc::default(),
            interim_bytes: VecDeque::new(),
            between_answers: true,
            _slot: slot,
        }
    }

    /// True once a request came whose end was not counted: no further one may be read from this connection.
    pub fn last_request(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.last_request)
    }

    /// Where interim answers for this visitor go.
    pub fn interim(&self) -> Arc<Interim> {
        Arc::clone(&self.interim)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.reader.state, State::Poisoned) {
            // The end of the head, in case it has not come yet: the parser looks only at whole heads, and shall answer now.
            let end = &b"\r\n\r\n"[..buffer.remaining().min(4)];
            buffer.put_slice(end);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let this = &mut *self;
        this.reader.inspect(&mut buffer.filled_mut()[before..]);
        if matches!(this.reader.state, State::Uncounted) {
            this.last_request.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    fn bounded<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.unsent.moved();
        } else if self.unsent.poll_expired(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the visitor takes no bytes")));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    /// Writes interim answers, where they may stand: hyper has flushed all it had, and the final answer has not begun.
    fn poll_interim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.between_answers && self.interim_bytes.is_empty() {
            self.interim_bytes = self.interim.take().into();
        }
        while !self.interim_bytes.is_empty() {
            let (bytes, _) = self.interim_bytes.as_slices();
            let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
            let written = std::task::ready!(self.bounded(polled, context))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim_bytes.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_interim(context))?;
        self.between_answers = false;
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_interim(context))?;
        self.between_answers = false;
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bounded(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the stream only when its own buffer is empty.
        self.between_answers = true;
        std::task::ready!(self.poll_interim(context))?;
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.bounded(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bounded(polled, context)
    }
}

/// Where in the stream of requests the reader is.
#[derive(Debug, Default)]
struct Reader {
    state: State,
    /// The beginning of the current line, where it came in an earlier piece.
    line: Vec<u8>,
    /// The last byte of the current line so far.
    last: u8,
    /// What the head has said so far.
    head: HeadSays,
}

#[derive(Debug, Default)]
enum State {
    /// In a request line, or in the empty lines before it.
    #[default]
    RequestLine,
    /// In the fields.
    Fields,
    /// In a body of so many more bytes.
    Body(u64),
    /// An offence was found, and hyper will see it.
    Poisoned,
    /// Anything may come, and no further request will be read.
    Uncounted,
}

#[derive(Debug, Default)]
struct HeadSays {
    content_length: Option<u64>,
    transfer_encoding: bool,
    upgrade: bool,
}

/// The offending line gets a NUL in the place of its end.
struct Offence;

impl Reader {
    fn inspect(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Body(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::RequestLine;
                    }
                    bytes = &mut bytes[taken..];
                }
                State::RequestLine | State::Fields => bytes = self.line(bytes),
                State::Poisoned | State::Uncounted => return,
            }
        }
    }

    /// Takes one line, or what there is of it; returns the rest.
    fn line<'a>(&mut self, bytes: &'a mut [u8]) -> &'a mut [u8] {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.remember(bytes);
            return &mut [];
        };
        let before_end = if end == 0 { self.last } else { bytes[end - 1] };
        let (line, rest) = bytes.split_at_mut(end + 1);
        let judged = if before_end != b'\r' {
            Err(Offence)
        } else if self.line.is_empty() {
            self.end_line(&line[..end])
        } else {
            self.remember(&line[..end]);
            let whole = std::mem::take(&mut self.line);
            self.end_line(&whole)
        };
        self.line.clear();
        self.last = 0;
        if judged.is_err() {
            line[end] = 0;
            self.state = State::Poisoned;
        }
        rest
    }

    fn remember(&mut self, bytes: &[u8]) {
        let room = LINE_HEAD_BYTES.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..room.min(bytes.len())]);
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    /// Judges a line without its LF. Of a long line that came in pieces only the beginning is there.
    fn end_line(&mut self, line: &[u8]) -> Result<(), Offence> {
        let is_empty = line == b"\r";
        match self.state {
            // hyper skips empty lines before a request (RFC 9112, section 2.2).
            State::RequestLine if is_empty => Ok(()),
            State::RequestLine => {
                self.head = HeadSays::default();
                self.state = State::Fields;
                Ok(())
            }
            _ if is_empty => self.end_head(),
            _ => self.field(line),
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Offence> {
        // Had it come in pieces, its end might be lost.
        let is_long = line.len() >= LINE_HEAD_BYTES;
        match line.first() {
            Some(b' ' | b'\t') => Err(Offence),
            Some(b'c' | b'C') => match value_of(line, b"content-length") {
                Some(value) if self.head.content_length.is_none() && !is_long => {
                    self.head.content_length = Some(number(value).ok_or(Offence)?);
                    Ok(())
                }
                Some(_) => Err(Offence),
                None => Ok(()),
            },
            Some(b't' | b'T') => match value_of(line, b"transfer-encoding") {
                Some(value) => {
                    let repeated = std::mem::replace(&mut self.head.transfer_encoding, true);
                    if repeated || is_long || !value.eq_ignore_ascii_case(b"chunked") { Err(Offence) } else { Ok(()) }
                }
                None => Ok(()),
            },
            Some(b'u' | b'U') if value_of(line, b"upgrade").is_some() => {
                self.head.upgrade = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end_head(&mut self) -> Result<(), Offence> {
        self.state = match &self.head {
            HeadSays { content_length: Some(_), transfer_encoding: true, .. } => return Err(Offence),
            HeadSays { transfer_encoding: true, .. } | HeadSays { upgrade: true, .. } => State::Uncounted,
            HeadSays { content_length: Some(length), .. } if *length > 0 => State::Body(*length),
            _ => State::RequestLine,
        };
        Ok(())
    }
}

/// The value of the line's field, if it is this one. White space before the colon is the parser's to refuse.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    if !start.eq_ignore_ascii_case(name) {
        return None;
    }
    let value = rest.trim_ascii_start().strip_prefix(b":")?;
    Some(value.trim_ascii())
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What hyper would see, and how the reader ended, whatever the pieces.
    fn read(pieces: &[&[u8]]) -> (Vec<u8>, String) {
        let mut reader = Reader::default();
        let mut seen = Vec::new();
        for piece in pieces {
            let mut piece = piece.to_vec();
            reader.inspect(&mut piece);
            seen.extend(piece);
        }
        (seen, format!("{:?}", reader.state))
    }

    const GOOD: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na\nb\nc",
        b"GET / HTTP/1.1\r\nCookie: content-length: 4\r\nTransfer: x\r\n\r\n",
    ];

    const BAD: &[&[u8]] = &[
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length:5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length:                                                15\r\n\r\na",
        b"POST / HTTP/1.1\r\nTransfer-Encoding:                                             chunked\r\n\r\n0\r\n\r\n",
    ];

    #[test]
    fn good_requests_pass_untouched() {
        for request in GOOD {
            assert_eq!(read(&[request]), (request.to_vec(), "RequestLine".into()), "{}", request.escape_ascii());
        }
    }

    #[test]
    fn bad_requests_are_poisoned() {
        for request in BAD {
            let (seen, state) = read(&[request]);
            assert_eq!(state, "Poisoned", "{}", request.escape_ascii());
            assert_eq!(seen.iter().filter(|byte| **byte == 0).count(), 1);
        }
    }

    #[test]
    fn an_offence_after_a_counted_body_is_found() {
        let (_, state) = read(&[b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n\n\nGET / HTTP/1.1\r\nHost: a\n\r\n"]);
        assert_eq!(state, "Poisoned");
    }

    #[test]
    fn where_a_body_ends_unknown_nothing_more_is_read() {
        for request in [
            &b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        ] {
            assert_eq!(read(&[request]).1, "Uncounted");
        }
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(which in 0..GOOD.len() + BAD.len(), cuts in prop::collection::vec(0usize..200, 0..6)) {
            let request = GOOD.iter().chain(BAD).nth(which).unwrap();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(request.len())).collect();
            cuts.extend([0, request.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &request[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[request]));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_only_line_ends_change(bytes in prop::collection::vec(prop::sample::select(b"\r\n: aC0-".to_vec()), 0..200)) {
            let (seen, _) = read(&[&bytes]);
            for (before, after) in bytes.iter().zip(&seen) {
                prop_assert!(before == after || (*before == b'\n' && *after == 0));
            }
        }
    }
}
