//! A crowd that waits for one page which has just been invalidated: one fetch, the new page for everyone, and one body in memory.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::cli::process::{PATIENCE, Server};
use crate::support::{Ask, Gate, HOST, Reply, origin};

const WAITERS: usize = 500;
const BODY_BYTES: usize = 1 << 20;
/// What the kernel takes for a client who does not read: far less than the body, so that the rest is everpage's to keep.
const RECEIVE_BYTES: u32 = 16 << 10;
/// What memory may grow by while they come and are answered: the body a few times, and some ten KiB for each. A body for each would be 500 MiB.
const GROWTH_BYTES: u64 = 64 << 20;

/// Another one each time, and something else at each place.
fn body(rendering: usize) -> Bytes {
    let byte = |place: usize| (place.wrapping_mul(2_654_435_761).wrapping_add(rendering * 97) >> 13) as u8;
    (0..BODY_BYTES).map(byte).collect::<Vec<u8>>().into()
}

/// A client who has asked, and takes what comes only when told to.
struct Waiter {
    stream: TcpStream,
    /// What came with the head.
    read: Vec<u8>,
}

impl Waiter {
    async fn ask(at: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVE_BYTES).unwrap();
        let mut stream = socket.connect(at).await.unwrap();
        stream.write_all(format!("GET /page HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        Waiter { stream, read: Vec::new() }
    }

    /// Until the head is there; returns it.
    async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|end| end == b"\r\n\r\n") {
                let body = self.read.split_off(end + 4);
                return String::from_utf8(std::mem::replace(&mut self.read, body)).unwrap();
            }
            let count =
                timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await.expect("an answer comes").unwrap();
            assert!(count > 0, "the connection ended before the answer");
        }
    }

    /// The rest, which must be this.
    async fn body(mut self, wanted: Bytes) {
        let mut rest = vec![0; wanted.len() - self.read.len()];
        timeout(PATIENCE, self.stream.read_exact(&mut rest)).await.expect("the body ends").unwrap();
        assert!(self.read == wanted[..self.read.len()] && rest == wanted[self.read.len()..], "another body");
    }
}

async fn until_shown(server: &Server, wanted: impl Fn(&str) -> bool) {
    let shown = async || Ask::new(server.admin, Method::GET, "/metrics").host("localhost").send().await;
    let waiting = async {
        while !shown().await.text().lines().any(&wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the metrics show it");
}

/// Fails when `Flights::board` lets everyone lead, and when each seat gets a body of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_on_an_invalidated_page_makes_one_fetch_and_shares_one_body() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = origin().route("/page", move |asked| {
        let gate = held.clone();
        async move {
            if asked.number == 2 {
                gate.pass().await;
            }
            Reply::new(body(asked.number))
        }
    });
    let (origin, folder) = (origin.start().await, TempDir::new().unwrap());
    let server = Server::start(folder.path(), &origin, &[]);
    assert_eq!(server.get("/page").await.outcome(), "miss");
    let invalidate = Ask::new(server.admin, Method::POST, "/invalidate").host("localhost");
    assert_eq!(invalidate.body(json!(["/page"]).to_string()).send().await.status, 200);

    let before = server.peak_memory_bytes();
    let mut waiters = vec![Waiter::ask(server.public).await];
    gate.arrival().await;
    waiters.extend(join_all((1..WAITERS).map(|_| Waiter::ask(server.public))).await);
    let open = |line: &str| line.strip_prefix("everpage_connections ").is_some_and(|open| open == WAITERS.to_string());
    until_shown(&server, open).await;
    gate.open();
    let heads = join_all(waiters.iter_mut().map(Waiter::head)).await;
    let led = heads.iter().filter(|head| head.contains("; stored")).count();
    assert_eq!((led, origin.hits("/page")), (1, 2));
    for head in &heads {
        // Whoever is let in late finds it kept.
        let is_shared = ["; stored", "; collapsed", "; hit"].iter().any(|word| head.contains(word));
        assert!(head.starts_with("HTTP/1.1 200 ") && is_shared, "{head}");
    }
    // Nobody has taken his body yet: it waits, once.
    let growth = server.peak_memory_bytes() - before;
    assert!(growth < GROWTH_BYTES, "{growth} bytes for {WAITERS} who wait");
    let wanted = body(2);
    join_all(waiters.into_iter().map(|waiter| waiter.body(wanted.clone()))).await;
    until_shown(&server, |line| line == "everpage_flights 0").await;
    assert_eq!((server.get("/page").await.outcome(), origin.hits("/page")), ("hit", 2));
}
