//! A load at a fixed rate, whatever the server does: hits on some connections, each request at its time. What waits for a free connection waits in the
//! measure too.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use rustix::event::epoll;
use rustix::fs::Timespec;

use crate::reply::{Reply, request};
use crate::report::percentile;

/// Requests that may wait for a free connection: a second of any load here. More is no longer a measure.
const QUEUE_MAX: usize = 20_000;
const READ_BYTES: usize = 64 << 10;
/// For the last answers.
const GRACE: Duration = Duration::from_secs(10);

/// What is asked for.
pub(crate) struct Load {
    pub(crate) at: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) per_second: u32,
    pub(crate) time: Duration,
    /// Pages, in turn, all with this body.
    pub(crate) paths: Vec<String>,
    pub(crate) body: Bytes,
}

/// What came of it.
pub(crate) struct Steady {
    /// In µs, from the moment at which a request was due and this program ran, in order.
    pub(crate) times: Vec<f64>,
    /// How much later than due this program ran, at p99, in µs: what is not the server's.
    pub(crate) late_p99_us: f64,
}

struct Line<'a> {
    stream: TcpStream,
    under_way: Option<(Instant, Reply<'a>)>,
}

impl Load {
    /// Runs it, in this thread.
    ///
    /// # Errors
    /// An answer is no hit or another page, or the server falls far behind.
    pub(crate) fn run(&self) -> Result<Steady> {
        let requests: Vec<Vec<u8>> = self.paths.iter().map(|path| request(path)).collect();
        let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut lines = Vec::new();
        for place in 0..self.connections {
            let stream = TcpStream::connect(self.at)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&watch, &stream, epoll::EventData::new_u64(place as u64), epoll::EventFlags::IN)?;
            lines.push(Line { stream, under_way: None });
        }
        let mut free: Vec<usize> = (0..lines.len()).collect();
        let (mut queue, mut times, mut late) = (VecDeque::new(), Vec::new(), Vec::new());
        let (mut events, mut buffer) = (Vec::with_capacity(self.connections), vec![0; READ_BYTES]);
        let total = (f64::from(self.per_second) * self.time.as_secs_f64()) as usize;
        let (gap, started) = (Duration::from_secs(1) / self.per_second, Instant::now());
        let (mut asked, mut due) = (0, started);
        while times.len() < total {
            let now = Instant::now();
            ensure!(now < started + self.time + GRACE, "{} answers of {total} came in time", times.len());
            while due <= now && late.len() < total {
                late.push((now - due).as_secs_f64() * 1e6);
                queue.push_back(now);
                due += gap;
            }
            ensure!(queue.len() < QUEUE_MAX, "everpage falls behind: {} requests wait", queue.len());
            while !queue.is_empty()
                && let Some(place) = free.pop()
            {
                let since = queue.pop_front().expect("it is not empty");
                lines[place].ask(&requests[asked % requests.len()], since, &self.body)?;
                asked += 1;
            }
            let pause = if late.len() < total { due.saturating_duration_since(Instant::now()) } else { GRACE };
            let pause = Timespec::try_from(pause).context("it is short")?;
            events.clear();
            epoll::wait(&watch, rustix::buffer::spare_capacity(&mut events), Some(&pause))?;
            for event in &events {
                let place = usize::try_from(event.data.u64()).context("it is the number of a connection")?;
                if let Some(taken) = lines[place].read(&mut buffer)? {
                    times.push(taken.as_secs_f64() * 1e6);
                    free.push(place);
                }
            }
        }
        times.sort_by(f64::total_cmp);
        late.sort_by(f64::total_cmp);
        Ok(Steady { times, late_p99_us: percentile(&late, 0.99) })
    }
}

impl<'a> Line<'a> {
    fn ask(&mut self, request: &[u8], since: Instant, body: &'a Bytes) -> Result<()> {
        let sent = self.stream.write(request).context("a request was not taken")?;
        ensure!(sent == request.len(), "a request was taken in part");
        self.under_way = Some((since, Reply::wanted(body)));
        Ok(())
    }

    /// How long the answer took, if this is all of it.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<Duration>> {
        let count = match self.stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            read => read.context("an answer broke off")?,
        };
        let (since, mut reply) = self.under_way.take().context("everpage speaks without being asked, or leaves")?;
        if !reply.take(&buffer[..count])? {
            self.under_way = Some((since, reply));
            return Ok(None);
        }
        let taken = since.elapsed();
        let head = reply.finish(200)?;
        ensure!(head.cache.contains("; hit"), "no hit: {head:?}");
        Ok(Some(taken))
    }
}
