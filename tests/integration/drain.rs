//! What is left of a connection when it has ended, and of the server's time when it has to end.

use std::thread;
use std::time::Duration;

use everpage::config::Config;
use everpage::server::Server;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{advance, pause};
use tokio_util::sync::CancellationToken;

use crate::support::{Ask, Proxy, Wire, proxy};

/// While this lives, the runtime's clock goes on only by `advance`.
struct StoppedClock {
    _until: std::sync::mpsc::Sender<()>,
}

fn stop_the_clock() -> StoppedClock {
    pause();
    let (until, dropped) = std::sync::mpsc::channel();
    // The clock does not go on by itself while work blocks.
    tokio::task::spawn_blocking(move || dropped.recv());
    StoppedClock { _until: until }
}

const STEPS: u32 = 50;

/// What comes of the work while the clock goes on by so much, in steps, and then stands still.
async fn within<T>(time: Duration, work: JoinHandle<T>, _clock: &StoppedClock) -> T {
    for step in 0..4000 {
        if step < STEPS {
            advance(time / STEPS).await;
        }
        if work.is_finished() {
            break;
        }
        // Of everybody's time: threads of the server may be at work.
        tokio::task::spawn_blocking(|| thread::sleep(Duration::from_millis(5))).await.unwrap();
    }
    assert!(work.is_finished(), "it takes longer");
    work.await.unwrap()
}

struct Running {
    server: JoinHandle<anyhow::Result<()>>,
    ends: CancellationToken,
    public: std::net::SocketAddr,
    admin: std::net::SocketAddr,
    _folder: tempfile::TempDir,
}

async fn running(drain_timeout: Duration) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
    config.admin.listen = config.listen;
    config.store.filesystem.path = folder.path().join("data");
    config.limits.drain_timeout = drain_timeout;
    let server = Server::bind(config).await.unwrap();
    let (public, admin) = (server.address().unwrap(), server.admin_address().unwrap());
    let ends = CancellationToken::new();
    let server = tokio::spawn(server.run(ends.clone().cancelled_owned()));
    Running { server, ends, public, admin, _folder: folder }
}

#[tokio::test]
async fn a_drain_that_has_no_time_takes_none() {
    let running = running(Duration::ZERO).await;
    let clock = stop_the_clock();
    running.ends.cancel();
    // Timers count milliseconds, and are late by one each.
    within(Duration::from_millis(50), running.server, &clock).await.unwrap();
    assert!(TcpStream::connect(running.public).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn a_drain_is_over_in_its_time_with_that_for_those_on_their_way() {
    // Less than any other bound.
    const TIME: Duration = Duration::from_secs(10);
    let running = running(TIME).await;
    // A head that never ends.
    let visitor = Wire::asking(running.public, "GET /admin/ HTTP/1.1\r\n").await;
    let is_counted = async || {
        let metrics = Ask::new(running.admin, http::Method::GET, "/metrics").host("localhost").send().await;
        metrics.text().lines().any(|line| line == "everpage_connections 1")
    };
    while !is_counted().await {}
    let clock = stop_the_clock();
    running.ends.cancel();
    while Ask::new(running.admin, http::Method::GET, "/readyz").host("localhost").send().await.status != 503 {}
    advance(TIME).await;
    // The journal's leave, and the last words of the admin API.
    within(Duration::from_secs(5), running.server, &clock).await.unwrap();
    drop(visitor);
}

async fn counted(proxy: &Proxy, line: &str) -> bool {
    let metrics = proxy.admin("/metrics").await;
    metrics.text().lines().any(|counted| counted == line)
}

/// Connects and closes without a byte, politely or not.
async fn check(address: std::net::SocketAddr, is_rude: bool) {
    let visitor = TcpStream::connect(address).await.unwrap();
    if is_rude {
        // No time to linger: the end is a reset.
        visitor.set_zero_linger().unwrap();
    }
    drop(visitor);
}

#[tokio::test]
async fn a_health_check_that_says_nothing_leaves_no_trace() {
    let app = crate::support::origin().page("/", "page").start().await;
    let proxy = proxy().origin(&app).set(|config| config.limits.connections = 3).start().await;
    for number in 0..60 {
        check(proxy.address, number % 2 == 0).await;
        check(proxy.admin, number % 2 == 0).await;
    }
    // All places are free again: that of somebody who stays, of the next one, and of one more.
    let mut stays = Wire::asking(proxy.address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stays.until("page").await;
    assert_eq!(proxy.get("/").await.text(), "page");
    for _ in 0..2000 {
        if counted(&proxy, "everpage_connections 1").await {
            proxy.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("only one connection is open");
}
