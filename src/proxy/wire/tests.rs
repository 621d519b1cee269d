//! The guard as the parser behind it sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::Semaphore;

use super::{Guard, Patience};
use crate::proxy::lane::tests::lane;

const HIT: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

async fn guard() -> (DuplexStream, Guard<DuplexStream>) {
    let (visitor, stream) = duplex(64 << 10);
    let patience = Patience { head: Duration::from_secs(60), idle: Duration::from_secs(60) };
    let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    (visitor, Guard::new(stream, lane().await, patience, slot))
}

/// What the parser gets, so many bytes at a time.
async fn read(guard: &mut Guard<DuplexStream>, bytes: usize, at_once: usize) -> String {
    let mut seen = Vec::new();
    while seen.len() < bytes {
        let mut piece = vec![0; at_once.min(bytes - seen.len())];
        let count = guard.read(&mut piece).await.unwrap();
        assert!(count > 0, "no end comes before the {bytes} bytes");
        seen.extend_from_slice(&piece[..count]);
    }
    String::from_utf8(seen).unwrap()
}

#[tokio::test(start_paused = true)]
async fn only_what_comes_while_the_parser_has_nothing_to_do_is_answered_here() {
    for at_once in [1, 3, 8192] {
        let (mut visitor, mut guard) = guard().await;
        visitor.write_all(UPLOAD.as_bytes()).await.unwrap();
        assert_eq!(read(&mut guard, UPLOAD.len(), at_once).await, UPLOAD);
        // Its answer is still to come.
        visitor.write_all(HIT.as_bytes()).await.unwrap();
        assert_eq!(read(&mut guard, HIT.len(), at_once).await, HIT);
        // Both answers have ended, but bytes of them may still lie with the parser.
        guard.ended().fetch_add(2, Ordering::Release);
        visitor.write_all(HIT.as_bytes()).await.unwrap();
        assert_eq!(read(&mut guard, HIT.len(), at_once).await, HIT);
        guard.ended().fetch_add(1, Ordering::Release);
        guard.flush().await.unwrap();
        visitor.write_all(HIT.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let answered = async {
            while !answer.ends_with(b"\r\n\r\nhello") {
                visitor.read_buf(&mut answer).await.unwrap();
            }
        };
        let mut piece = [0];
        tokio::select! {
            biased;
            read = guard.read(&mut piece) => panic!("the parser gets {read:?}: {piece:?}"),
            () = answered => {}
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        visitor.write_all(UPLOAD.as_bytes()).await.unwrap();
        assert_eq!(read(&mut guard, UPLOAD.len(), at_once).await, UPLOAD);
    }
}

#[tokio::test(start_paused = true)]
async fn an_offence_is_seen_however_little_is_read_at_once() {
    for at_once in [1, 3, 8192] {
        let (mut visitor, mut guard) = guard().await;
        visitor.write_all(b"GET / HTTP/1.1\r\nHost: a\nX: y").await.unwrap();
        // What stands behind the offence is of no consequence.
        let seen = read(&mut guard, 28, at_once).await;
        assert!(seen.starts_with("GET / HTTP/1.1\r\nHost: a\0"), "{seen:?}");
        assert!(read(&mut guard, 4, at_once).await.contains(['\r', '\n']));
    }
}
