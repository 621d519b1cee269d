//! A connection that ends with its answer, on a real socket: every byte comes, and then the end, which is no reset.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::support::{Proxy, Reply, origin, proxy};

use super::line::get;

/// For bytes or the end to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Pages by the length of their bodies. The last is more than the system takes at once for somebody who does not read.
const SIZES: [usize; 4] = [2 << 10, 64 << 10, 1 << 20, 12 << 20];

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

fn closing(request: &str) -> String {
    request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
}

/// A proxy that has all pages at hand.
async fn filled() -> Proxy {
    let mut app = origin();
    for size in SIZES {
        app = app.route(&format!("/{size}"), move |_| async move { Reply::new(body(size)).header("etag", "\"x\"") });
    }
    let app = app.start().await;
    let large = |config: &mut everpage::config::Config| {
        config.cache.max_memory_size = 16 << 20;
        config.memory.capacity = 1 << 30;
    };
    let proxy = proxy().origin(&app).set(large).start().await;
    for size in SIZES {
        // A large one is let into memory when it is asked for again.
        for _ in 0..3 {
            proxy.revisit(&format!("/{size}")).await;
        }
        assert_eq!(proxy.revisit(&format!("/{size}")).await.detail(), Some("memory"), "{size}");
    }
    proxy
}

/// A visitor whose system takes little that he has not read.
async fn narrow(proxy: &Proxy) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(proxy.address).await.unwrap()
}

/// Everything up to the end, and a pause before each of the first pieces.
async fn whole(visitor: &mut TcpStream, pause: Duration) -> (String, Vec<u8>) {
    let mut answer = Vec::new();
    for _ in 0..8 {
        sleep(pause).await;
        let mut piece = vec![0; 1000];
        let count = timeout(PATIENCE, visitor.read(&mut piece)).await.expect("bytes or the end").expect("no reset");
        answer.extend_from_slice(&piece[..count]);
    }
    timeout(PATIENCE, visitor.read_to_end(&mut answer)).await.expect("the end").expect("it is no reset");
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a whole head") + 4;
    let body = answer.split_off(head);
    (String::from_utf8(answer).unwrap(), body)
}

#[tokio::test]
async fn who_asks_for_the_end_gets_all_bytes_and_the_end() {
    let proxy = filled().await;
    for size in SIZES {
        for hits_before in [0, 1] {
            for is_slow in [false, true] {
                let mut visitor =
                    if is_slow { narrow(&proxy).await } else { TcpStream::connect(proxy.address).await.unwrap() };
                let target = format!("/{size}");
                let case = format!("{size} after {hits_before} hits, slow: {is_slow}");
                for _ in 0..hits_before {
                    visitor.write_all(get("/2048").as_bytes()).await.unwrap();
                    let mut last = Vec::new();
                    while !last.ends_with(&body(2 << 10)) {
                        assert!(timeout(PATIENCE, visitor.read_buf(&mut last)).await.expect("bytes").unwrap() > 0);
                    }
                }
                visitor.write_all(closing(&get(&target)).as_bytes()).await.unwrap();
                let pause = Duration::from_millis(10) * u32::from(is_slow);
                let (head, got) = whole(&mut visitor, pause).await;
                assert!(head.contains("; hit; detail=memory\r\n"), "{case}: {head}");
                assert!(head.contains("\r\nconnection: close\r\n"), "{case}: {head}");
                assert!(got == body(size), "{case}: {} bytes", got.len());
            }
        }
    }
}

#[tokio::test]
async fn an_answer_without_a_body_ends_too() {
    let proxy = filled().await;
    let known = get("/2048").replace("\r\n\r\n", "\r\nIf-None-Match: \"x\"\r\n\r\n");
    for (request, status) in [(get("/2048").replacen("GET", "HEAD", 1), "200 OK"), (known, "304 Not Modified")] {
        let mut visitor = TcpStream::connect(proxy.address).await.unwrap();
        visitor.write_all(closing(&request).as_bytes()).await.unwrap();
        let (head, got) = whole(&mut visitor, Duration::ZERO).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        assert_eq!(got, b"", "{request}");
    }
}
