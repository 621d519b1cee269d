//! Visitors of the program itself: a connection each, one request after the other. And what it takes in memory after they were there.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::memory::path;
use crate::origin::Origin;
use crate::process::Everpage;

/// Pages by which the server is warm.
const WARM: u64 = 1000;
const VISITORS: u64 = 8;

/// One connection.
pub(crate) struct Visitor(BufReader<TcpStream>);

impl Visitor {
    pub(crate) fn connect(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).expect("everpage listens");
        stream.set_nodelay(true).expect("it is a TCP connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("it is a TCP connection");
        Visitor(BufReader::new(stream))
    }

    /// `Cache-Status` of the page, and how long it took.
    ///
    /// # Panics
    /// It is not 200, or its body is not as long as the path says.
    pub(crate) fn get(&mut self, path: &str) -> (String, Duration) {
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\n");
        for (name, value) in crate::browser::FIELDS {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let started = Instant::now();
        self.0.get_mut().write_all(request.as_bytes()).expect("everpage reads");
        let (mut cache_status, mut length, mut line) = (String::new(), 0, String::new());
        self.0.read_line(&mut line).expect("an answer comes");
        assert!(line.starts_with("HTTP/1.1 200 "), "{path}: {line}");
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("an answer comes");
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "cache-status" => value.clone_into(&mut cache_status),
                "content-length" => length = value.parse().expect("a number"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body comes");
        let took = started.elapsed();
        assert_eq!(length, crate::app::body_bytes(path));
        (cache_status, took)
    }
}

/// Of a server with so many pages fetched over HTTP: bytes of resident memory a page, before and after a hit of each.
pub(crate) fn memory_of_a_server(pages: u64, body: usize, within: &Path) -> (f64, f64) {
    let origin = Origin::start();
    let folder = tempfile::tempdir_in(within).expect("the folder can be written to");
    let capacity = (pages + WARM) * (body as u64 + 8192);
    let config = format!("[origin]\nurl = \"http://{}\"\n[memory]\ncapacity = \"{capacity} B\"\n", origin.address);
    let everpage = Everpage::start_in(folder.path(), &config);
    ask(everpage.public, pages..pages + WARM, "; stored");
    settle(&everpage);
    let before = everpage.memory_mib();
    ask(everpage.public, 0..pages, "; stored");
    settle(&everpage);
    let filled = everpage.memory_mib();
    ask(everpage.public, 0..pages, "; hit; detail=memory");
    let each = |mib: f64| (mib - before) * f64::from(1 << 20) / pages as f64;
    (each(filled), each(everpage.memory_mib()))
}

/// Waits until it has nothing more to do, such as to write what it fetched or to count what lies on the disk.
pub(crate) fn settle(everpage: &Everpage) {
    let patience = Instant::now() + Duration::from_secs(120);
    loop {
        let before = everpage.cpu_seconds();
        thread::sleep(Duration::from_millis(300));
        if everpage.cpu_seconds() - before < 0.015 {
            return;
        }
        assert!(Instant::now() < patience, "everpage does not come to rest");
    }
}

/// Asks for each page once.
fn ask(at: SocketAddr, pages: std::ops::Range<u64>, expected: &str) {
    thread::scope(|scope| {
        for first in 0..VISITORS {
            let numbers = pages.clone().skip(first as usize).step_by(VISITORS as usize);
            scope.spawn(move || {
                let mut visitor = Visitor::connect(at);
                for number in numbers {
                    let (status, _) = visitor.get(&path(number));
                    assert!(status.ends_with(expected), "{number}: {status}");
                }
            });
        }
    });
}
