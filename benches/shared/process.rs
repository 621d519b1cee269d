//! everpage as a process: started with settings, and looked at through `/proc`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// The time that a start may take, faults included.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of the fields that count CPU time in `/proc/<pid>/stat`: Linux says 100 on every machine.
const TICKS_A_SECOND: f64 = 100.0;

/// Where pages lie.
pub(crate) struct Place<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) bucket: &'a str,
    pub(crate) access_key: &'a str,
    pub(crate) secret_key: &'a str,
}

impl<'a> Place<'a> {
    /// For a server that takes any keys.
    pub(crate) fn new(endpoint: &'a str, bucket: &'a str) -> Self {
        Place { endpoint, bucket, access_key: "key", secret_key: "secret" }
    }
}

/// A running everpage; it is killed with this value.
pub(crate) struct Everpage {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    _folder: Option<TempDir>,
}

impl Everpage {
    /// Before this origin, with `store.kind = "s3"` and its pages in this place, and some more lines of `config.toml` that begin with sections.
    ///
    /// # Panics
    /// It does not start.
    pub(crate) fn start(origin: SocketAddr, place: &Place<'_>, more: &str) -> Self {
        let Place { endpoint, bucket, access_key, secret_key } = place;
        let folder = TempDir::new().expect("the system has a folder for temporary files");
        let config = format!(
            "[origin]\nurl = \"http://{origin}\"\n[store]\nkind = \"s3\"\n[store.s3]\nbucket = \"{bucket}\"\n\
             create_bucket = true\nregion = \"us-east-1\"\nendpoint_url = \"{endpoint}\"\naccess_key = \"{access_key}\"\n\
             secret_key = \"{secret_key}\"\n{more}\n"
        );
        let mut everpage = Self::start_in(folder.path(), &config);
        everpage._folder = Some(folder);
        everpage
    }

    /// With this `config.toml`, in a folder that stays when it ends.
    ///
    /// # Panics
    /// It does not start.
    pub(crate) fn start_in(folder: &Path, config: &str) -> Self {
        fs::write(folder.join("config.toml"), config).expect("a file can be written there");
        let mut command = Command::new(env!("CARGO_BIN_EXE_everpage"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).current_dir(folder);
        for (name, _) in everpage::config::variables() {
            command.env_remove(name);
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("everpage can be started");
        let (ready, addresses) = channel();
        follow(child.stderr.take().expect("it is piped"), ready);
        let Ok((public, admin)) = addresses.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            panic!("everpage did not start");
        };
        Everpage { child, public, admin, _folder: None }
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("everpage runs")
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = self.proc("stat");
        // The name before may hold anything; utime and stime are the 14th and 15th field (proc(5)).
        let (_, fields) = stat.rsplit_once(')').expect("it has a name");
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks.map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / TICKS_A_SECOND
    }

    fn status_mib(&self, name: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells");
        let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
        kib.parse::<f64>().expect("a number") / 1024.0
    }

    /// Memory now, in MiB.
    pub(crate) fn memory_mib(&self) -> f64 {
        self.status_mib("VmRSS")
    }

    /// The most memory that it ever had at once, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        self.status_mib("VmHWM")
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("everpage runs");
        folder.count()
    }

    /// Sends a signal: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "a signal can be sent");
    }

    /// Sends a signal, `TERM` or `KILL`, and waits for the end. Returns whether it ended well.
    pub(crate) async fn end(mut self, signal: &str) -> bool {
        self.signal(signal);
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.success();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Everpage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log, so that it never waits for us, and finds the addresses in it.
fn follow(log: ChildStderr, ready: Sender<(SocketAddr, SocketAddr)>) {
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            match addresses(&line) {
                Some(addresses) => drop(ready.send(addresses)),
                None if line.contains("ERROR") || line.contains("panicked") => println!("everpage: {line}"),
                None => {}
            }
        }
    });
}

fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (_, rest) = line.split_once(" answers on http://")?;
    let (public, rest) = rest.split_once('/')?;
    let (_, rest) = rest.split_once("dashboard on http://")?;
    Some((public.parse().ok()?, rest.split('/').next()?.parse().ok()?))
}
