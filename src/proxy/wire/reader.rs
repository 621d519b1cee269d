//! Reads the heads of requests as their bytes come, and finds the first offence.

/// Bytes of a line that are looked at: enough for the names, a number, and some white space.
const LINE_HEAD_BYTES: usize = 64;

/// Where in the stream of requests the reader is.
#[derive(Debug, Default)]
pub(super) struct Reader {
    state: State,
    /// The beginning of the current line, where it came in an earlier piece.
    line: Vec<u8>,
    /// The last byte of the current line so far.
    last: u8,
    /// What the head has said so far.
    head: HeadSays,
    /// Heads that have come to their end.
    heads: u64,
    /// An empty line stands before the request to come: the parser holds it until then.
    has_skipped: bool,
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
    /// An offence was found: nothing that comes after it is read.
    pub(super) fn is_poisoned(&self) -> bool {
        matches!(self.state, State::Poisoned)
    }

    /// A request came whose end is not counted.
    pub(super) fn is_uncounted(&self) -> bool {
        matches!(self.state, State::Uncounted)
    }

    /// Heads that have come to their end.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// What comes next is the first byte of a request, and nothing of it has been passed on.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(self.state, State::RequestLine) && self.line.is_empty() && !self.has_skipped
    }

    /// What comes next belongs to a body.
    pub(super) fn is_in_body(&self) -> bool {
        matches!(self.state, State::Body(_) | State::Uncounted)
    }

    /// Takes bytes as they come. At the first offence the end of the offending line becomes a NUL.
    pub(super) fn inspect(&mut self, mut bytes: &mut [u8]) {
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
            State::RequestLine if is_empty => {
                self.has_skipped = true;
                Ok(())
            }
            State::RequestLine => {
                self.has_skipped = false;
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
        self.heads += 1;
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
