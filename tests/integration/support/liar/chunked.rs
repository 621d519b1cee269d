//! The chunks of `Content-Encoding: aws-chunked`, in which the SDK sends bodies with a checksum behind them:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>

use bytes::{Buf, Bytes, BytesMut};

/// The bytes that were meant; `None` if they are not in chunks.
pub(super) fn decoded(mut body: Bytes) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(&body[..end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        body.advance(end + 2);
        if size == 0 {
            return Some(whole.freeze());
        }
        if body.len() < size + 2 {
            return None;
        }
        whole.extend_from_slice(&body[..size]);
        body.advance(size + 2);
    }
}
