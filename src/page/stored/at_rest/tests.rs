use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::clock::UnixMillis;
use crate::page::stored::json::{StoredPage, to_json};
use crate::page::stored::{DecodeError, Encoded, FirstLine, decode, decode_head, encode, encode_at_rest};
use crate::page::{JournalId, Key, Object, ObjectName, Page, PathId, Sequence};

type Fields = &'static [(&'static str, &'static str)];

const CODINGS: [(Compression, &str); 2] = [(Compression::Zstd, "page+zstd"), (Compression::Gzip, "page+gzip")];

fn types() -> Vec<String> {
    ["text/*", "Application/JSON"].map(str::to_owned).into()
}

fn name() -> ObjectName {
    ObjectName { path: PathId([7; 20]), method: Method::GET, key: Key([9; 20]) }
}

fn page(body: &[u8], fields: Fields) -> Arc<Page> {
    let fields = fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let head = PageHead {
        method: Method::GET,
        host: "h".into(),
        path: "/".into(),
        query: None,
        status: StatusCode::OK,
        headers: HeaderMap::from_iter(fields).into(),
        stored_at: UnixMillis(1),
        age_seconds: 0,
        fresh_seconds: None,
        as_of: Sequence(3),
        journal: JournalId("j".into()),
        tags: vec![],
        varied_by: vec![],
    };
    Arc::new(Page::new(head, Bytes::copy_from_slice(body), PathId([7; 20])))
}

/// A page with these fields, and what lies in its place.
fn lie(compression: Compression, body: &[u8], fields: Fields) -> (Arc<Page>, Bytes) {
    let page = page(body, fields);
    let at_rest = AtRest::new(compression, &types());
    let Encoded { head, body } = encode_at_rest(&name(), &Object::Page(Arc::clone(&page)), &at_rest).unwrap();
    (page, [head, body].concat().into())
}

fn assert_comes_back(page: &Page, stored: &Bytes) {
    let Object::Page(found) = decode(&name(), stored).unwrap() else { panic!("a page was put") };
    assert_eq!((&found.head, &found.body), (&page.head, &page.body));
}

fn is_compressed(stored: &[u8]) -> bool {
    FirstLine::parse(stored).unwrap().is_compressed()
}

const HTML: Fields = &[("content-type", "text/html; charset=utf-8")];

#[test]
fn a_long_text_lies_compressed_and_comes_back_as_it_was() {
    let body = b"vanilla and chocolate, ".repeat(1000);
    for (compression, kind) in CODINGS {
        let (page, stored) = lie(compression, &body, HTML);
        assert!(stored.starts_with(format!("everpage/1 {kind} ").as_bytes()));
        assert!(stored.len() < body.len() / 4, "{} bytes", stored.len());
        assert_comes_back(&page, &stored);
        assert_eq!(
            decode_head(&name(), &stored).unwrap().1,
            body.len() as u64,
            "a listing tells the body's own length"
        );
    }
}

#[test]
fn what_is_not_listed_encoded_already_short_or_random_lies_as_it_is() {
    let text = b"vanilla and chocolate, ".repeat(1000);
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..text.len()).map(|_| random()).collect();
    let short = &text[..MIN_COMPRESSED_BYTES - 1];
    let cases: [(&str, &[u8], Fields); 7] = [
        ("not listed", &text, &[("content-type", "image/svg+xml")]),
        ("no type", &text, &[]),
        ("another type that begins alike", &text, &[("content-type", "application/json-seq")]),
        ("no slash", &text, &[("content-type", "textual")]),
        ("encoded", &text, &[("content-type", "text/html"), ("content-encoding", "br")]),
        ("short", short, HTML),
        ("random", &noise, HTML),
    ];
    for (why, body, fields) in cases {
        for (compression, _) in CODINGS {
            let (page, stored) = lie(compression, body, fields);
            assert!(!is_compressed(&stored), "{why}");
            assert_comes_back(&page, &stored);
        }
    }
    let listed: [Fields; 3] = [HTML, &[("content-type", "TEXT/Plain")], &[("content-type", "application/json")]];
    for fields in listed {
        assert!(is_compressed(&lie(Compression::Gzip, &text, fields).1), "{fields:?}");
        assert!(!is_compressed(&lie(Compression::Off, &text, fields).1), "{fields:?}");
    }
}

#[test]
fn what_lies_as_it_is_has_the_form_it_always_had() {
    let page = Object::Page(page(b"short", HTML));
    let at_rest = AtRest::new(Compression::Zstd, &types());
    let (with, without) = (encode_at_rest(&name(), &page, &at_rest).unwrap(), encode(&name(), &page).unwrap());
    assert_eq!((with.head, with.body), (without.head, without.body));
}

/// An object whose checksums are right, whatever its head and body say.
fn forged(kind: &str, decoded_bytes: Option<u64>, body: &[u8]) -> Bytes {
    let mut json = StoredPage::new(&name(), &page(b"", &[]).head);
    json.decoded_bytes = decoded_bytes;
    let json = to_json(&json);
    let (head_crc, body_crc) = (crc32fast::hash(&json), crc32fast::hash(body));
    let line = format!("everpage/1 {kind} {} {head_crc:08x} {} {body_crc:08x}\n", json.len(), body.len());
    [line.as_bytes(), &json, b"\n", body].concat().into()
}

#[test]
fn a_body_that_grows_beyond_its_announcement_is_refused() {
    let bomb = vec![0; 2 << 20];
    for (coding, kind) in [(Coding::Zstd, "page+zstd"), (Coding::Gzip, "page+gzip")] {
        let compressed = coding.compress(&bomb).unwrap();
        for announced in [0, 1000, bomb.len() as u64 - 1, bomb.len() as u64 + 1] {
            let error = decode(&name(), &forged(kind, Some(announced), &compressed)).unwrap_err();
            assert!(matches!(error, DecodeError::Compressed(_)), "{kind} {announced}: {error}");
        }
        decode(&name(), &forged(kind, Some(bomb.len() as u64), &compressed)).unwrap();
        let too_much = decode(&name(), &forged(kind, Some(u64::MAX), &compressed));
        assert!(matches!(too_much, Err(DecodeError::Head(_))));
        // One byte more than announced is all that is ever decompressed.
        assert_eq!(read_bounded(io::repeat(0).take(1 << 20), 1000).unwrap().len(), 1001);
    }
}

#[test]
fn a_head_and_a_kind_that_contradict_each_other_are_damaged() {
    let contradictions = [("page", Some(5)), ("page+zstd", None), ("page+gzip", None)];
    for (kind, announced) in contradictions {
        let error = decode(&name(), &forged(kind, announced, b"hello")).unwrap_err();
        assert!(matches!(error, DecodeError::Head(_)), "{kind}: {error}");
    }
    let error = decode(&name(), &forged("page+brotli", Some(5), b"hello")).unwrap_err();
    assert_eq!(error, DecodeError::FirstLine, "an unknown kind is damaged, not guessed");
}

#[test]
fn every_truncation_and_every_flipped_bit_of_a_compressed_page_is_refused() {
    let body = b"vanilla and chocolate, ".repeat(30);
    for (compression, _) in CODINGS {
        let (_, stored) = lie(compression, &body, HTML);
        assert!(is_compressed(&stored));
        for end in 0..stored.len() {
            assert!(decode(&name(), &stored.slice(..end)).is_err(), "cut at {end}");
        }
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&name(), &damaged.into()).is_err(), "bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn any_body_comes_back(seed in prop::collection::vec(any::<u8>(), 0..300), times in 1_usize..50, gzip: bool) {
        let compression = if gzip { Compression::Gzip } else { Compression::Zstd };
        let (page, stored) = lie(compression, &seed.repeat(times), HTML);
        assert_comes_back(&page, &stored);
    }

    #[test]
    fn what_is_no_compressed_body_never_panics_and_is_never_another_body(
        mut compressed in prop::collection::vec(any::<u8>(), 0..200),
        announced in 0_u64..100_000,
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
        of_text: bool,
    ) {
            let text = b"vanilla and chocolate, ".repeat(100);
        for (coding, kind) in [(Coding::Zstd, "page+zstd"), (Coding::Gzip, "page+gzip")] {
            if of_text {
                compressed = coding.compress(&text).unwrap();
                let at = at.index(compressed.len());
                compressed[at] ^= flip;
            }
            // The checksums are right: it was tampered with by someone who knows how.
            if let Ok(Object::Page(page)) = decode(&name(), &forged(kind, Some(announced), &compressed)) {
                prop_assert_eq!(page.body.len() as u64, announced);
            }
        }
    }
}
