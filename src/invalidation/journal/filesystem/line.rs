//! One record, or a snapshot, as bytes that tell whether they are whole: `<crc32> <sequence> <payload>`.
//!
//! The checksum covers the number and the payload. A record ends with a line feed, a snapshot with its file.

use std::io::Write;

use crate::page::Sequence;

/// Bytes of the longest line. The largest body of a request has 10 MiB; percent-encoding triples it, and each of its paths may get
/// the request's host beside it.
pub(super) const MAX_LINE_BYTES: usize = 64 << 20;

/// Bytes of the checksum and the space after it.
const CHECKSUM_BYTES: usize = 9;

/// Appends to `out`, without a line feed.
pub(super) fn encode(out: &mut Vec<u8>, sequence: Sequence, payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&[b' '; CHECKSUM_BYTES]);
    write!(out, "{sequence} ").expect("a Vec takes any number of bytes");
    out.extend_from_slice(payload);
    let checksum = format!("{:08x}", crc32fast::hash(&out[start + CHECKSUM_BYTES..]));
    out[start..start + checksum.len()].copy_from_slice(checksum.as_bytes());
}

/// The number and the payload; `None`: these are not the bytes that were written.
pub(super) fn decode(bytes: &[u8]) -> Option<(Sequence, &[u8])> {
    let (checksum, rest) = bytes.split_at_checked(CHECKSUM_BYTES)?;
    if checksum != format!("{:08x} ", crc32fast::hash(rest)).as_bytes() {
        return None;
    }
    let space = rest.iter().position(|byte| *byte == b' ')?;
    let sequence = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
    Some((Sequence(sequence), &rest[space + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(sequence: u64, payload: Vec<u8>) {
            let mut bytes = Vec::new();
            encode(&mut bytes, Sequence(sequence), &payload);
            prop_assert_eq!(decode(&bytes), Some((Sequence(sequence), &payload[..])));
        }

        #[test]
        fn a_changed_bit_is_noticed(payload: Vec<u8>, at: prop::sample::Index, bit in 0..8_u32) {
            let mut bytes = Vec::new();
            encode(&mut bytes, Sequence(7), &payload);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(decode(&bytes), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
