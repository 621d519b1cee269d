//! The binary as a process. It blocks: tests with an origin beside it run on several threads.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use http::Method;

use crate::support::{Answer, Ask, Origin};

/// Far more than any step takes: a test that hangs shall fail.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// `everpage` in this folder, without the settings of whoever runs the tests.
pub fn everpage(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everpage"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    for (name, _) in everpage::config::variables() {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Ran {
    Ran::from(everpage(folder, arguments).output().unwrap())
}

/// How a command ended, and what it printed.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ran {
    /// It went well and said nothing on standard error.
    #[track_caller]
    pub fn fine(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// It failed with this code and said nothing on standard output.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{self:?}");
        self.err
    }
}

/// A running `everpage serve`; it ends with this value.
pub struct Server {
    child: Child,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Mutex<String>>,
}

/// Free ports, and the pages in `pages`.
fn usual(origin: &str) -> [&str; 9] {
    ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", "pages", "--origin", origin]
}

impl Server {
    /// On free ports, with the pages in `folder/pages`, before `origin`.
    pub fn start(folder: &Path, origin: &Origin, more: &[&str]) -> Self {
        Server::start_before(folder, &origin.url(), more)
    }

    /// The same, before whatever answers there.
    pub fn start_before(folder: &Path, origin: &str, more: &[&str]) -> Self {
        Server::spawn(everpage(folder, &[&usual(origin)[..], more].concat()))
    }

    /// The same, started by a shell that has set limits by this command.
    pub fn start_limited(folder: &Path, origin: &Origin, limit: &str) -> Self {
        let program = everpage(folder, &usual(&origin.url()));
        let mut shell = Command::new("sh");
        shell.current_dir(folder).stdin(Stdio::null()).arg("-c").arg(format!("{limit} && exec \"$0\" \"$@\""));
        shell.arg(program.get_program()).args(program.get_args());
        for (name, _) in program.get_envs() {
            shell.env_remove(name);
        }
        Server::spawn(shell)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (ready, addresses) = channel();
        follow(child.stderr.take().unwrap(), Arc::clone(&log), ready);
        let Ok((public, admin)) = addresses.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            panic!("not ready:\n{}", log.lock().unwrap());
        };
        Server { child, public, admin, log }
    }

    pub async fn get(&self, path: &str) -> Answer {
        get(self.public, path).await
    }

    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// What the system lets it have at most: the soft and the hard limit.
    pub fn open_files(&self) -> (String, String) {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    }

    /// Bytes of memory that it ever had at once.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Until this stands in the log.
    pub fn logged(&self, words: &str) {
        until(words, || self.log().contains(words));
    }

    /// Drains and starts again with the same pages.
    pub fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.wait().code(), Some(0), "{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

pub fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Keeps what is logged, and finds the addresses in it.
fn follow(log: ChildStderr, into: Arc<Mutex<String>>, ready: Sender<(SocketAddr, SocketAddr)>) {
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let addresses = addresses(&line);
            let mut text = into.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
            drop(text);
            if let Some(addresses) = addresses {
                let _ = ready.send(addresses);
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

pub async fn get(at: SocketAddr, path: &str) -> Answer {
    Ask::new(at, Method::GET, path).send().await
}
