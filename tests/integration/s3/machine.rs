//! The real binary with its pages in a bucket: a machine that can be killed, and taken away with its disk.

use std::fmt::Write as _;

use tempfile::TempDir;

use crate::cli::process::Server;
use crate::support::{ACCESS_KEY, Origin, REGION, SECRET_KEY, TestBucket};

/// A machine: its disk, and everpage on it.
pub(super) struct Machine {
    disk: TempDir,
    pub(super) server: Server,
}

/// `config.toml` for this bucket at this endpoint, and further lines.
pub(super) fn configuration(bucket: &str, endpoint: &str, more: &[&str]) -> String {
    let mut text = format!(
        "store.kind = \"s3\"\nstore.s3.bucket = {bucket:?}\nstore.s3.endpoint_url = {endpoint:?}\nstore.s3.region = {REGION:?}\n\
         store.s3.access_key = {ACCESS_KEY:?}\nstore.s3.secret_key = {SECRET_KEY:?}\n"
    );
    for line in more {
        writeln!(text, "{line}").expect("a String takes every byte");
    }
    text
}

/// A folder with this `config.toml`.
pub(super) fn disk(configuration: &str) -> TempDir {
    let disk = TempDir::new().unwrap();
    std::fs::write(disk.path().join("config.toml"), configuration).unwrap();
    disk
}

/// So that pages lie on the machine's disk too.
pub(super) const DISK_CACHE: &str = "store.s3.disk_cache.path = \"near\"";

impl Machine {
    /// A new machine with an empty disk, and further lines in its `config.toml`.
    pub(super) fn start(bucket: &TestBucket, origin: &Origin, more: &[&str]) -> Self {
        Machine::start_through(bucket, &bucket.endpoint, origin, more)
    }

    /// The same, with the bucket at the end of a link.
    pub(super) fn start_through(bucket: &TestBucket, endpoint: &str, origin: &Origin, more: &[&str]) -> Self {
        Machine::on(disk(&configuration(&bucket.name, endpoint, more)), origin)
    }

    /// A machine with the disk of another.
    pub(super) fn on(disk: TempDir, origin: &Origin) -> Self {
        let server = Server::start(disk.path(), origin, &[]);
        Machine { disk, server }
    }

    /// kill -9; its disk is left.
    pub(super) fn kill(mut self) -> TempDir {
        self.server.signal("KILL");
        self.server.wait();
        self.disk
    }

    /// SIGTERM, and until it has ended well.
    pub(super) fn stop(self) {
        self.server.stop();
    }
}

/// Waits until so many pages lie in the bucket: nobody waits for a write.
pub(super) async fn written(bucket: &TestBucket, pages: usize) {
    for _ in 0..2000 {
        if stored(bucket).await.len() >= pages {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{pages} pages were not written, but {:?}", stored(bucket).await);
}

/// The keys of pages and signposts.
pub(super) async fn stored(bucket: &TestBucket) -> Vec<String> {
    bucket.keys().await.into_iter().filter(|key| key.contains("/pages/")).collect()
}
