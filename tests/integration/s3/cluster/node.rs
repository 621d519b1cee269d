//! A node: the real binary, its disk, and the two lines that can be cut: to the bucket, and the one on which others reach it.

use std::net::SocketAddr;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Mutex as Turn;

use super::LEASE;
use super::site::App;
use crate::cli::process::Server;
use crate::s3::machine::{DISK_CACHE, configuration, disk};
use crate::support::{Fault, Link, TestBucket};

pub(super) struct Node {
    pub(super) s3: Link,
    pub(super) ring: Link,
    /// Of several who would do something to it at the same time, one has his turn: with the process, the line to S3, the ring. To be taken in this order.
    pub(super) turns: [Turn<()>; 3],
    process: Mutex<Option<Server>>,
    disk: Mutex<TempDir>,
    configuration: String,
    app: String,
}

impl Node {
    /// Starts it. `has_disk`: pages lie on its disk too, and are there again after a kill.
    pub(super) async fn start(bucket: &TestBucket, app: &App, has_disk: bool) -> Self {
        let (s3, ring) = (Link::to(&bucket.endpoint).await, Link::to_nowhere_yet().await);
        let lease = format!("cluster.lease = \"{}ms\"", LEASE.as_millis());
        let url = format!("cluster.node_url = {:?}", ring.url());
        let mut more =
            vec![&lease[..], &url, "store.s3.connect_timeout = \"1s\"", "store.s3.read_timeout = \"1500ms\""];
        more.extend(has_disk.then_some(DISK_CACHE));
        let configuration = configuration(&bucket.name, &s3.url(), &more);
        let disk = Mutex::new(disk(&configuration));
        let app = format!("http://{}", app.address);
        let node = Node { s3, ring, turns: Default::default(), process: Mutex::default(), disk, configuration, app };
        node.rise();
        node
    }

    /// Where visitors and save hooks reach it; `None`: it is dead.
    pub(super) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.process.lock().as_ref().map(|process| (process.public, process.admin))
    }

    /// kill -9.
    pub(super) fn kill(&self) {
        let mut process = self.process.lock().take().expect("nobody else has killed it");
        process.signal("KILL");
        process.wait();
    }

    /// A process on the disk that is there. S3 must be in reach.
    pub(super) fn rise(&self) {
        let process = tokio::task::block_in_place(|| Server::start_before(self.disk.lock().path(), &self.app, &[]));
        self.ring.lead_to(process.admin);
        *self.process.lock() = Some(process);
    }

    /// Another machine in its place.
    pub(super) fn lose_disk(&self) {
        *self.disk.lock() = disk(&self.configuration);
    }

    /// SIGSTOP.
    pub(super) fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub(super) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        self.process.lock().as_ref().expect("it lives").signal(name);
    }

    /// Nothing keeps it from working any more.
    pub(super) async fn heal(&self) {
        for line in [&self.s3, &self.ring] {
            line.forget_plans();
            line.set(Fault::None).await;
        }
    }

    /// What it has logged since it was last started.
    pub(super) fn log(&self) -> String {
        self.process.lock().as_ref().map(Server::log).unwrap_or_default()
    }
}
