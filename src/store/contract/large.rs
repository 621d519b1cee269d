//! The sentences about pages whose bodies are too large for memory.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

use super::{Fresh, HEALTHY, assert_same, get, page, put};
use crate::page::large::{LargeBody, LargePage, PIECE_BYTES, Pieces, next_piece};
use crate::page::{JournalId, Object, ObjectName, Sequence};

/// Bytes of a body that is too large for memory.
const LARGE: usize = (9 << 20) + 5;

/// A body that is given out in pieces, and may break off.
#[derive(Debug)]
struct Given {
    bytes: Bytes,
    /// Where it breaks off.
    breaks_at: usize,
}

/// Pieces that are at hand.
struct Ready(std::vec::IntoIter<io::Result<Bytes>>);

impl Stream for Ready {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        Poll::Ready(self.0.next())
    }
}

#[async_trait]
impl LargeBody for Given {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn read(&self, range: Range<u64>) -> io::Result<Pieces> {
        let index = |byte: u64| usize::try_from(byte).expect("it lies in memory").min(self.breaks_at);
        let wanted = self.bytes.slice(index(range.start)..index(range.end));
        // Of a length that fits nothing.
        let mut pieces: Vec<_> = wanted.chunks(100_003).map(|piece| Ok(wanted.slice_ref(piece))).collect();
        if range.end > self.breaks_at as u64 {
            pieces.push(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Ok(Box::pin(Ready(pieces.into_iter())))
    }
}

/// A page of `path` whose body is too large for memory, that body, told apart by `seed`, and where it breaks off.
fn large(path: &str, seed: u32, breaks_at: usize) -> (ObjectName, Object, Bytes) {
    let (name, Object::Page(small)) = page(path, b"") else { panic!("a page") };
    let number = |n: u32| (n.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8;
    let bytes: Bytes = (0..).map(number).take(LARGE).collect::<Vec<u8>>().into();
    let (body_crc, body) = (crc32fast::hash(&bytes), Arc::new(Given { bytes: bytes.clone(), breaks_at }));
    let page = LargePage { head: small.head.clone(), body, body_crc, path_id: name.path };
    (name, Object::Large(Arc::new(page)), bytes)
}

/// These bytes of a page's body, however the store holds it.
async fn read(object: &Object, range: Range<usize>) -> Bytes {
    match object {
        Object::Page(page) => page.body.slice(range),
        Object::Large(page) => {
            let mut pieces = page.body.read(range.start as u64..range.end as u64).await.expect(HEALTHY);
            let mut bytes = Vec::new();
            while let Some(piece) = next_piece(&mut pieces).await {
                let piece = piece.expect(HEALTHY);
                assert!(!piece.is_empty() && piece.len() as u64 <= PIECE_BYTES, "a piece of {} bytes", piece.len());
                bytes.extend_from_slice(&piece);
            }
            bytes.into()
        }
        Object::Variants(_) => panic!("a page was put"),
    }
}

pub async fn a_large_body_comes_back_in_pieces_and_in_ranges(store: Fresh) {
    let (name, object, bytes) = large("/large/", 0, LARGE);
    put(&store, &(name.clone(), object.clone())).await;
    let got = get(&store, &name).await.expect("it was put");
    let (expected, found) = (object.page().expect("a page"), got.page().expect("a page"));
    assert_eq!(found, expected);
    let mib = 1 << 20;
    for range in [0..LARGE, 0..1, LARGE - 1..LARGE, mib - 1..mib + 1, 3 * mib + 7..8 * mib, 0..0, 0..LARGE] {
        assert!(read(&got, range.clone()).await == bytes[range.clone()], "{range:?}");
    }
}

pub async fn a_large_body_outlives_its_replacement(store: Fresh) {
    let (name, object, bytes) = large("/large/", 0, LARGE);
    put(&store, &(name.clone(), object)).await;
    let old = get(&store, &name).await.expect("it was put");
    let (_, newer, newer_bytes) = large("/large/", 1, LARGE);
    let Object::Large(page) = &old else {
        // In memory, where nothing can happen to it.
        return assert!(read(&old, 0..LARGE).await == bytes);
    };
    let mut pieces = page.body.read(0..LARGE as u64).await.expect(HEALTHY);
    let mut read_bytes = next_piece(&mut pieces).await.expect("it is not empty").expect(HEALTHY).to_vec();
    put(&store, &(name.clone(), newer)).await;
    let newer = get(&store, &name).await.expect("it was put");
    assert!(read(&newer, 0..LARGE).await == newer_bytes);
    store.remove(&name).await.expect(HEALTHY);
    // Whole, or an error: never a mix, never less.
    loop {
        match next_piece(&mut pieces).await {
            Some(Ok(piece)) => read_bytes.extend_from_slice(&piece),
            Some(Err(_)) => break,
            None => break assert!(read_bytes == bytes),
        }
    }
}

pub async fn a_large_page_is_listed_and_takes_the_place_of_a_small_one_and_back(store: Fresh) {
    let ((name, large, _), (_, small)) = (large("/page/", 0, LARGE), page("/page/", b"small"));
    for (object, body_bytes) in [(&small, 5), (&large, LARGE as u64), (&small, 5), (&large, LARGE as u64)] {
        put(&store, &(name.clone(), object.clone())).await;
        assert_eq!(get(&store, &name).await.expect("it was put").page(), object.page());
        let listing = store.list("/page/", None, 10).await.expect(HEALTHY);
        let [listed] = &listing.pages[..] else { panic!("one page: {listing:?}") };
        assert_eq!((&listed.name, listed.body_bytes), (&name, body_bytes));
        assert_eq!(store.under(&name.path).await.expect(HEALTHY)[0].body_bytes, body_bytes);
    }
    assert_eq!(store.remove_older(&name.path, &JournalId("j".into()), Sequence(9)).await.expect(HEALTHY), 1);
    assert!(get(&store, &name).await.is_none());
}

pub async fn a_large_body_that_breaks_off_is_not_kept(store: Fresh) {
    let (name, small) = page("/page/", b"small");
    put(&store, &(name.clone(), small.clone())).await;
    for breaks_at in [0, 100, LARGE - 1] {
        let (_, broken, _) = large("/page/", 0, breaks_at);
        store.put(&name, &broken).await.expect_err("it was never whole");
        assert_same(&small, &get(&store, &name).await.expect("what lay there before still does"));
    }
}
