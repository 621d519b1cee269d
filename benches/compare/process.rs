//! A server as a process: started on its cores, looked at through `/proc`, ended together with its children.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The time that a start may take: Varnish runs a C compiler.
const START: Duration = Duration::from_secs(60);
/// The time that an end may take before it is forced.
const END: Duration = Duration::from_secs(10);
/// Of the fields that count CPU time in `/proc`: Linux says 100 on every machine.
pub(crate) const TICKS_A_SECOND: f64 = 100.0;
const NANOSECONDS_A_SECOND: f64 = 1e9;

/// A running server; it ends with this value.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// A port of loopback that nobody has now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
    Ok(listener.local_addr()?.port())
}

impl Process {
    /// Runs `command` on these cores and waits until it accepts connections on the port. What it prints goes to `log`.
    pub(crate) fn start(cores: &str, command: &Command, port: u16, log: &Path) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", cores]).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        for (variable, _) in everpage::config::variables() {
            pinned.env_remove(variable);
        }
        let file = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        pinned.stdout(file.try_clone()?).stderr(file);
        let child = pinned.spawn().with_context(|| format!("cannot start {name}"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut process = Process { child, address };
        let patience = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            let ended = process.child.try_wait()?;
            if ended.is_some() || Instant::now() > patience {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("{name} does not listen on {address}; it says:\n{said}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// Of the process itself, without those below it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// This process and all below it: workers count.
    fn family(&self) -> Vec<u32> {
        let mut family = vec![self.pid()];
        let parents = parents();
        let mut next = 0;
        while let Some(parent) = family.get(next).copied() {
            family.extend(parents.iter().filter(|(_, its)| **its == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        family
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        // The exact one forgets threads that ended, the coarse one does not: the larger is right.
        self.family().into_iter().map(|pid| exact_seconds(pid).unwrap_or_default().max(coarse_seconds(pid))).sum()
    }

    /// Memory now, in MiB: resident pages, those shared between parent and child twice.
    pub(crate) fn memory_mib(&self) -> f64 {
        self.family().into_iter().map(resident_mib).sum()
    }

    /// Waits until it has nothing more to do, such as to write what it fetched.
    pub(crate) async fn settle(&self) -> Result<()> {
        let patience = Instant::now() + Duration::from_secs(180);
        loop {
            let before = self.cpu_seconds();
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.cpu_seconds() - before < 0.03 {
                return Ok(());
            }
            if Instant::now() > patience {
                bail!("the server at {} does not come to rest", self.address);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let family = self.family();
        signal("TERM", &family[..1]);
        let patience = Instant::now() + END;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < patience {
            thread::sleep(Duration::from_millis(10));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            // The children first known: without their parent, they would be found no more.
            signal("KILL", &family);
            let _ = self.child.wait();
        }
    }
}

fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    let _ = Command::new("kill").arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status();
}

/// Each process of the machine with its parent.
fn parents() -> HashMap<u32, u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?))).collect()
}

/// The fields of `/proc/<pid>/stat` after the name, which may hold anything; the first one is the state, field 3 of proc(5).
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// utime and stime, the 14th and 15th field: as exact as the scheduler's clock, cut to ticks.
fn coarse_seconds(pid: u32) -> f64 {
    let Some(fields) = stat(pid) else { return 0.0 };
    fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_A_SECOND
}

/// Nanoseconds of each thread, where the kernel keeps them.
fn exact_seconds(pid: u32) -> Option<f64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let schedstats = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("schedstat")));
    let spent = schedstats.filter_map(|text| text.ok()?.split_whitespace().next()?.parse::<f64>().ok());
    Some(spent.sum::<f64>() / NANOSECONDS_A_SECOND)
}

fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}
