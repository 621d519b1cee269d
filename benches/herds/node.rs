//! everpage as a process on its core, with its admin API and its memory.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::caller::Caller;
use crate::process::{Process, free_port};
use crate::reply::Reply;

/// Until everything is written, or everyone waits.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// CPU time in a pause with which a process counts as idle: a look at its status costs less.
const IDLE_SECONDS: f64 = 0.002;
/// Idle pauses, one after the other, after which nothing is under way.
const IDLE_PAUSES: usize = 10;

/// A running everpage; it ends with this value, and its folder goes.
pub(crate) struct Node {
    process: Process,
    admin: SocketAddr,
    _folder: TempDir,
}

impl Node {
    /// With the settings in `more`, which begin with sections, on these cores.
    pub(crate) fn start(everpage: &Path, cores: &str, app: SocketAddr, folder: TempDir, more: &str) -> Result<Self> {
        let here = folder.path();
        let config =
            format!("[origin]\nurl = \"http://{app}\"\n[store.filesystem]\npath = {:?}\n{more}\n", here.join("pages"));
        let file = here.join("config.toml");
        fs::write(&file, config)?;
        let [port, admin] = [free_port()?, free_port()?];
        let mut command = Command::new(everpage);
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--admin", &format!("127.0.0.1:{admin}")]);
        command.arg("--config").arg(file);
        let process = Process::start(cores, &command, port, &here.join("log"))?;
        Ok(Node { process, admin: SocketAddr::from((Ipv4Addr::LOCALHOST, admin)), _folder: folder })
    }

    pub(crate) fn public(&self) -> SocketAddr {
        self.process.address
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.process.cpu_seconds()
    }

    /// Memory now, in KiB.
    pub(crate) fn memory_kib(&self) -> f64 {
        self.process.memory_mib() * 1024.0
    }

    /// The most memory at once since `forget_peak`, in KiB.
    pub(crate) fn peak_kib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("Linux tells the peak")?;
        Ok(peak.trim().trim_end_matches(" kB").parse()?)
    }

    /// From now on, only what comes counts (proc(5): 5 sets the peak back).
    pub(crate) fn forget_peak(&self) -> Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.process.pid()), "5").context("the peak cannot be set back")
    }

    /// `GET /status`
    pub(crate) fn status(&self) -> Result<Value> {
        let mut reply = Reply::any();
        Caller::connect(self.admin)?.ask(b"GET /status HTTP/1.1\r\nhost: localhost\r\n\r\n", &mut reply)?;
        let status = serde_json::from_slice(&reply.body)?;
        reply.finish(200)?;
        Ok(status)
    }

    /// `POST /invalidate`; it is done when this returns.
    pub(crate) fn invalidate(&self, path: &str) -> Result<()> {
        let mut reply = Reply::any();
        Caller::connect(self.admin)?.ask(&invalidation(std::iter::once(path)), &mut reply)?;
        reply.finish(200).map(drop)
    }

    /// Waits until so many pages are in the store.
    pub(crate) fn wait_kept(&self, pages: u64) -> Result<()> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let status = self.status()?;
            let kept = status["store"]["objects"].as_u64().context("the status tells it")?;
            let flights = status["now"]["flights"].as_u64().context("the status tells it")?;
            if kept == pages && flights == 0 {
                let errors = status["store_errors"].as_u64().context("the status tells it")?;
                ensure!(errors == 0, "{errors} pages were not written");
                return Ok(());
            }
            ensure!(kept < pages || flights > 0, "{kept} pages are kept, {pages} would be right");
            ensure!(Instant::now() < patience, "{kept} of {pages} pages are kept, and no more come: {status}");
            sleep(PAUSE);
        }
    }

    /// Waits until it has nothing to do: whatever was sent to it has been taken up.
    pub(crate) fn wait_idle(&self) -> Result<()> {
        let (patience, mut idle) = (Instant::now() + PATIENCE, 0);
        let mut spent = self.cpu_seconds();
        while idle < IDLE_PAUSES {
            sleep(PAUSE);
            let now = self.cpu_seconds();
            idle = if now - spent < IDLE_SECONDS { idle + 1 } else { 0 };
            spent = now;
            ensure!(Instant::now() < patience, "everpage does not come to rest");
        }
        Ok(())
    }
}

/// A request that invalidates these paths.
pub(crate) fn invalidation<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let body = serde_json::to_string(&paths.collect::<Vec<_>>()).expect("strings are JSON");
    let length = body.len();
    format!(
        "POST /invalidate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
