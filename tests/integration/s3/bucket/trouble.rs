//! A server that fails: what is tried again, what goes on where it broke, and when nobody is asked any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use everpage::config::S3Store;
use everpage::store::s3::Health;
use everpage::store::s3::bucket::{Attributes, Bucket, Condition, S3ErrorKind};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{PATIENCE, all, put};
use crate::support::{TestBucket, on_each_server};

on_each_server![
    a_body_that_breaks_off_goes_on_where_it_broke,
    a_body_does_not_go_on_with_another_version,
    a_read_and_a_put_are_tried_again_and_a_swap_is_not,
    after_failures_in_a_row_nobody_is_asked_until_a_probe_succeeds,
];

/// A server that gives the same answer to everything; its URL.
pub(super) async fn answering(answer: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_head(&mut stream).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = String::new();
    let mut reader = BufReader::new(stream);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).await.unwrap_or(0) == 0 {
            break;
        }
    }
    head
}

/// A way to a server that can be cut.
struct Way {
    url: String,
    state: watch::Sender<State>,
    connections: Arc<AtomicUsize>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Nobody gets through.
    is_closed: bool,
    /// After so many bytes of answers the next connections are cut.
    cuts: Arc<Mutex<VecDeque<u64>>>,
}

impl Way {
    async fn to(bucket: &TestBucket) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let target = bucket.endpoint.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        let (state, seen) = watch::channel(State::default());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(passing(near, target.clone(), seen.clone()));
            }
        });
        Way { url, state, connections }
    }

    /// From now on: connections that are there are cut.
    fn set(&self, is_closed: bool, cuts: &[u64]) {
        self.state.send_replace(State { is_closed, cuts: Arc::new(Mutex::new(cuts.iter().copied().collect())) });
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The bucket, on this way.
    async fn open(&self, bucket: &TestBucket) -> Bucket {
        let endpoint_url = Some(self.url.parse().unwrap());
        Bucket::open(&S3Store { endpoint_url, attempts: 3, ..super::below(bucket, "site") }).await.unwrap()
    }
}

async fn passing(mut near: TcpStream, target: String, mut seen: watch::Receiver<State>) {
    let state = seen.borrow_and_update().clone();
    if state.is_closed {
        return;
    }
    let cut = state.cuts.lock().pop_front().unwrap_or(u64::MAX);
    let mut far = TcpStream::connect(target).await.unwrap();
    let (mut from_far, mut to_far) = far.split();
    let (mut from_near, mut to_near) = near.split();
    let mut back = (&mut from_far).take(cut);
    tokio::select! {
        _ = tokio::io::copy(&mut from_near, &mut to_far) => {}
        _ = tokio::io::copy(&mut back, &mut to_near) => {}
        _ = seen.changed() => {}
    }
}

fn counted(door: &Bucket, class: &str, result: &str) -> u64 {
    let counts = door.requests();
    counts.iter().find(|count| count.class.as_str() == class && count.result == result).map_or(0, |count| count.count)
}

async fn a_body_that_breaks_off_goes_on_where_it_broke(bucket: TestBucket) {
    let way = Way::to(&bucket).await;
    let content: Bytes = (0..3_000_000_u32).map(|place| u8::try_from(place % 251).unwrap()).collect();
    bucket.plant("site/large", content.clone()).await;
    let door = way.open(&bucket).await;
    way.set(false, &[1_500_000, 700_000]);
    let whole = door.get("large", 4_000_000).await.unwrap().unwrap();
    assert!(whole.bytes == content, "it is another body");
    way.set(false, &[1_500_000]);
    let range = door.open_range("large", 1000..2_900_000, None).await.unwrap().unwrap();
    assert!(all(range).await == content[1000..2_900_000], "it is another body");
    way.set(false, &[1_500_000; 3]);
    let begun = door.get("large", 4_000_000).await;
    assert!(begun.is_ok(), "the third connection brings the last of it");
    way.set(false, &[500_000; 3]);
    let error = door.get("large", 4_000_000).await.unwrap_err();
    assert!(error.advice.contains("site/large"), "{error}");
}

async fn a_body_does_not_go_on_with_another_version(bucket: TestBucket) {
    let way = Way::to(&bucket).await;
    bucket.plant("site/large", vec![b'1'; 8_000_000]).await;
    let door = way.open(&bucket).await;
    way.set(false, &[4_000_000]);
    let mut pieces = door.open_range("large", 0..u64::MAX, None).await.unwrap().unwrap().pieces;
    pieces.next().await.unwrap().unwrap();
    bucket.plant("site/large", vec![b'2'; 8_000_000]).await;
    let error = loop {
        match pieces.next().await.expect("it does not end as if it were whole") {
            Ok(piece) => assert!(piece.iter().all(|byte| *byte == b'1'), "two versions in one body"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("was replaced"), "{error}");
}

async fn a_read_and_a_put_are_tried_again_and_a_swap_is_not(bucket: TestBucket) {
    let way = Way::to(&bucket).await;
    let door = way.open(&bucket).await;
    let version = put(&door, "a", "x").await;
    // A kept connection that is dead by now may cost a try of its own.
    way.set(false, &[0]);
    assert_eq!(door.get("a", 9).await.unwrap().unwrap().bytes, "x");
    assert!((1..=2).contains(&counted(&door, "get", "unreachable")));
    way.set(false, &[0]);
    put(&door, "a", "x").await;
    assert!((1..=2).contains(&counted(&door, "put", "unreachable")));
    way.set(false, &[0]);
    let before = counted(&door, "swap", "ok");
    door.swap("a", Bytes::from("y"), &Condition::Is(version)).await.unwrap_err();
    assert_eq!(counted(&door, "swap", "unreachable"), 1);
    assert_eq!(counted(&door, "swap", "ok"), before, "nobody knows whether it was carried out: it is not sent twice");
}

async fn after_failures_in_a_row_nobody_is_asked_until_a_probe_succeeds(bucket: TestBucket) {
    let way = Way::to(&bucket).await;
    let door = way.open(&bucket).await;
    assert_eq!(door.health(), Health::Closed);
    way.set(true, &[]);
    for _ in 0..2 {
        door.put("a", vec![Bytes::from("x")], &Attributes::default()).await.unwrap_err();
    }
    let Health::Open { reason, .. } = door.health() else { panic!("five tries have failed") };
    assert!(!reason.is_empty());
    let before = way.connections();
    let error = door.get("a", 9).await.unwrap_err();
    assert_eq!(error.kind, S3ErrorKind::Open, "{error}");
    assert_eq!(way.connections(), before, "nobody was asked");
    way.set(false, &[]);
    tokio::time::timeout(PATIENCE, async {
        while door.get("a", 9).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it never closes");
    assert_eq!(door.health(), Health::Closed);
}
