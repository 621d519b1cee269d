//! What does a herd cost? Thousands of clients wait for one page that has just been invalidated, and the app holds its answer back until all of them do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::Bench;
use crate::node::Node;
use crate::reply::{Reply, request};
use crate::report::{Table, median, size, time};

const SIZES: [usize; 2] = [2 << 10, 1 << 20];
/// Beside those who wait: looks at the status, and the one that the bench finds out with that the port is open.
const OTHER_CONNECTIONS: usize = 100;
/// For the whole herd to be answered: 10 GB on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Memory of everpage that a waiter may take, whatever the page's size, beside what the page itself takes a few times: far more fails. A buffer for a
/// request and one for an answer are in it.
const WAITER_KIB: f64 = 64.0;
const PAGES_AT_ONCE: f64 = 16.0;
/// What all herds after the first may leave behind for each who waited, where half of them leave: the allocator grows, less with each herd, by 12 KiB
/// in all until it no longer does after twelve.
const LEFT_KIB: f64 = 16.0;
/// Of the one buffer that all clients read with: nothing of a body is kept.
const READ_BYTES: usize = 256 << 10;
/// Between two looks at the sockets' memory.
const LOOK: Duration = Duration::from_millis(20);
const PAGE_KIB: u64 = 4;

/// What one herd did. Memory is that of everpage and in KiB.
#[derive(Clone, Debug, Serialize)]
struct Herd {
    waiters: usize,
    answered: usize,
    /// Before, with their connections open and one answer had.
    idle_kib: f64,
    /// When all of them wait.
    waiting_kib: f64,
    /// At most, while they are answered.
    peak_kib: f64,
    /// When they have their answers.
    after_kib: f64,
    /// What the kernel kept at most in sockets, of both sides, while they are answered.
    sockets_kib: u64,
    /// From the app's answer to half of the clients having all of it, and to the last.
    half_us: f64,
    last_us: f64,
}

/// The clients: sockets that read with one buffer, for there may be ten thousand.
struct Clients {
    at: SocketAddr,
    request: Bytes,
    streams: Vec<TcpStream>,
    buffer: Arc<Mutex<Vec<u8>>>,
}

impl Clients {
    fn new(at: SocketAddr, path: &str) -> Self {
        let buffer = Arc::new(Mutex::new(vec![0; READ_BYTES]));
        Clients { at, request: request(path).into(), streams: Vec::new(), buffer }
    }

    /// Connects until there are so many; each has an answer, so that it is known to be let in.
    async fn gather(&mut self, count: usize, body: &Bytes) -> Result<()> {
        while self.streams.len() < count {
            let stream = TcpStream::connect(self.at).await.context("no further connection")?;
            stream.set_nodelay(true)?;
            send(&stream, &self.request)?;
            let (stream, said) = receive(stream, body.clone(), Arc::clone(&self.buffer)).await?;
            ensure!(said.contains("; hit"), "{said}");
            self.streams.push(stream);
        }
        Ok(())
    }

    /// All ask, the first one first: when it waits in the app, the others follow.
    async fn ask(&self, herd: &App<'_>) -> Result<()> {
        let rendered = herd.renderings();
        for (place, stream) in self.streams.iter().enumerate() {
            send(stream, &self.request)?;
            if place == 0 {
                timeout(PATIENCE, async {
                    while herd.renderings() == rendered {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                })
                .await
                .context("the first does not reach the app")?;
            }
        }
        Ok(())
    }

    /// Every second one goes, the first one included, whose request is the one that the app has.
    fn lose_half(&mut self) {
        let mut place = 0;
        self.streams.retain(|_| {
            place += 1;
            place % 2 == 0
        });
    }
}

/// The page as the app knows it.
struct App<'a> {
    bench: &'a Bench,
    path: String,
    bytes: usize,
}

impl App<'_> {
    fn renderings(&self) -> u64 {
        self.bench.app.renderings(&self.path)
    }

    fn body(&self) -> Bytes {
        self.bench.app.body(self.bytes, self.renderings())
    }
}

pub(crate) async fn measure(bench: &Bench) -> Result<Table> {
    let (waiters, rounds) = if bench.quick { (1_000, 2) } else { (10_000, 4) };
    let note = format!(
        "{waiters} clients wait for one page that was invalidated; medians of {rounds} herds; of the first one, everpage's memory for each client: \
         with an idle connection, more while it waits, more at most while it is answered; times from the app's answer"
    );
    let (mut rows, mut figures) = (Vec::new(), serde_json::Map::new());
    for bytes in SIZES {
        for half_leaves in [false, true] {
            let herds = herds(bench, bytes, waiters, rounds, half_leaves).await?;
            let name = format!("{}{}", size(bytes), if half_leaves { ", half of them leave" } else { "" });
            // Later ones find the memory that it left.
            let first = |of: fn(&Herd) -> f64| format!("{:.1} KiB", of(&herds[0]) / waiters as f64);
            let middle = |of: fn(&Herd) -> f64| median(herds.iter().map(of));
            rows.push(vec![
                name.clone(),
                "1".to_owned(),
                first(|herd| herd.idle_kib),
                first(|herd| herd.waiting_kib - herd.idle_kib),
                first(|herd| (herd.peak_kib - herd.waiting_kib).max(0.0)),
                format!("{:.0} MiB", middle(|herd| herd.peak_kib) / 1024.0),
                format!("{:+.1} MiB", (herds[rounds - 1].after_kib - herds[0].after_kib) / 1024.0),
                format!("{:.0} MiB", middle(|herd| herd.sockets_kib as f64) / 1024.0),
                time(middle(|herd| herd.half_us)),
                time(middle(|herd| herd.last_us)),
            ]);
            figures.insert(name, serde_json::to_value(&herds)?);
        }
    }
    let columns = vec![
        "",
        "fetches",
        "idle",
        "waits",
        "answered",
        "peak in all",
        "first to last herd",
        "sockets (kernel)",
        "half of them",
        "the last",
    ];
    Ok(Table { name: "Herds".to_owned(), note, columns, rows, figures: figures.into() })
}

async fn herds(bench: &Bench, bytes: usize, waiters: usize, rounds: usize, half_leaves: bool) -> Result<Vec<Herd>> {
    let node = bench.start_in_memory(&format!("[limits]\nconnections = {}", waiters + OTHER_CONNECTIONS))?;
    let app = App { bench, path: format!("/held/{bytes}/{half_leaves}/"), bytes };
    let empty = node.memory_kib();
    let mut clients = Clients::new(node.public(), &app.path);
    let mut herds: Vec<Herd> = Vec::new();
    // The page is in the cache: the app renders once.
    {
        let (stream, path) = (TcpStream::connect(node.public()).await?, request(&app.path));
        send(&stream, &path)?;
        receive(stream, app.bench.app.body(bytes, 1), Arc::clone(&clients.buffer)).await?;
        node.wait_kept(1)?;
    }
    for _ in 0..rounds {
        clients.gather(waiters, &app.body()).await?;
        let mut herd = herd(&node, &app, &mut clients, half_leaves).await?;
        herd.idle_kib -= empty;
        herd.waiting_kib -= empty;
        herd.peak_kib -= empty;
        herd.after_kib -= empty;
        herds.push(herd);
    }
    let left = herds[rounds - 1].after_kib - herds[0].after_kib;
    ensure!(left < LEFT_KIB * waiters as f64, "{rounds} herds left {left:.0} KiB behind: {herds:?}");
    drop(clients);
    node.wait_idle()?;
    let open = node.status()?["now"]["connections"].as_u64().context("the status tells it")?;
    ensure!(open == 0, "{open} connections are left");
    Ok(herds)
}

async fn herd(node: &Node, app: &App<'_>, clients: &mut Clients, half_leaves: bool) -> Result<Herd> {
    let (waiters, rendered) = (clients.streams.len(), app.renderings());
    let idle_kib = node.memory_kib();
    node.invalidate(&app.path)?;
    app.bench.app.shut();
    clients.ask(app).await?;
    node.wait_idle()?;
    let waiting_kib = node.memory_kib();
    if half_leaves {
        clients.lose_half();
        node.wait_idle()?;
    }
    let status = node.status()?;
    let (flights, open) = (status["now"]["flights"].as_u64(), status["now"]["connections"].as_u64());
    ensure!(flights == Some(1), "one fetch is under way, not {flights:?}");
    ensure!(open == Some(clients.streams.len() as u64), "{open:?} connections are left of {}", clients.streams.len());
    node.forget_peak()?;
    let Answered { times, led, sockets_kib } = release(app, clients).await?;
    let peak_kib = node.peak_kib()?;
    node.wait_kept(1)?;
    node.wait_idle()?;
    ensure!(app.renderings() == rendered + 1, "the app was asked {} times", app.renderings() - rendered);
    ensure!(led == usize::from(!half_leaves), "{led} answers say that the page was fetched for them");
    let answered = times.len();
    let body_kib = app.bytes as f64 / 1024.0;
    let bound = waiters as f64 * WAITER_KIB + PAGES_AT_ONCE * body_kib;
    ensure!(peak_kib - idle_kib < bound, "{:.0} KiB for {waiters} who wait", peak_kib - idle_kib);
    let after_kib = node.memory_kib();
    let (half_us, last_us) = (times[answered / 2], times[answered - 1]);
    Ok(Herd { waiters, answered, idle_kib, waiting_kib, peak_kib, after_kib, sockets_kib, half_us, last_us })
}

struct Answered {
    /// From the app's answer to each client's last byte, in µs, in order.
    times: Vec<f64>,
    /// So many answers say that they led.
    led: usize,
    sockets_kib: u64,
}

/// The app answers, and so everyone is.
async fn release(app: &App<'_>, clients: &mut Clients) -> Result<Answered> {
    let (body, mut reading) = (app.body(), JoinSet::new());
    let started = Instant::now();
    for stream in clients.streams.drain(..) {
        let (body, buffer) = (body.clone(), Arc::clone(&clients.buffer));
        reading.spawn(async move {
            let (stream, said) =
                timeout(PATIENCE, receive(stream, body, buffer)).await.context("no whole answer")??;
            anyhow::Ok((stream, said, Instant::now()))
        });
    }
    // All of them watch their sockets before it begins.
    tokio::task::yield_now().await;
    let settled = Instant::now();
    app.bench.app.open();
    let (mut times, mut led, mut sockets_kib, mut looks) = (Vec::new(), 0, 0, interval(LOOK));
    loop {
        tokio::select! {
            biased;
            _ = looks.tick() => sockets_kib = sockets_kib.max(socket_kib()),
            read = reading.join_next() => {
                let Some(read) = read else { break };
                let (stream, said, at) = read??;
                if said.ends_with("; stored") {
                    led += 1;
                } else {
                    ensure!(said.contains("; collapsed"), "somebody did not wait: {said}");
                }
                times.push((at - settled).as_secs_f64() * 1e6);
                clients.streams.push(stream);
            }
        }
    }
    ensure!(settled - started < PATIENCE, "the clients are too slow");
    times.sort_by(f64::total_cmp);
    Ok(Answered { times, led, sockets_kib })
}

/// A request is smaller than any socket's buffer.
fn send(stream: &TcpStream, request: &[u8]) -> Result<()> {
    let sent = stream.try_write(request).context("a request was not taken")?;
    ensure!(sent == request.len(), "a request was taken in part");
    Ok(())
}

/// Takes one answer with this body. Returns what it says of the cache.
async fn receive(stream: TcpStream, body: Bytes, buffer: Arc<Mutex<Vec<u8>>>) -> Result<(TcpStream, String)> {
    let mut reply = Reply::wanted(&body);
    loop {
        stream.readable().await?;
        let mut buffer = buffer.lock();
        match stream.try_read(&mut buffer) {
            Ok(0) => anyhow::bail!("the connection ended before the answer"),
            Ok(count) if reply.take(&buffer[..count])? => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("an answer broke off"),
        }
    }
    Ok((stream, reply.finish(200)?.cache))
}

/// What all TCP sockets of the machine have in the kernel.
fn socket_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let pages = line.split_whitespace().last().and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * PAGE_KIB
}
