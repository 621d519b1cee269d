//! Who is compared, and how is each set up? The configurations are here to be read: each as its makers advise for pages that are all in memory.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::limit::Manner;
use crate::process::{Process, free_port};
use crate::visitor::Answer;

/// What each may keep, in bytes: more than the mix has.
const CAPACITY_BYTES: u64 = 2 << 30;
/// Files that nginx keeps open: all pages, and room for connections.
const OPEN_FILES: u64 = 110_000;

/// In the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Everpage,
    /// Another binary of it.
    Beside,
    /// Tuned, without sendfile: its best up to some ten KiB.
    Nginx,
    /// Tuned, with sendfile: its best for large pages.
    NginxSendfile,
    /// As Debian sets it up, and a cache as most guides show it.
    NginxUsual,
    Varnish,
    /// The bare responder.
    Limit,
}

impl Peer {
    /// Those that keep pages.
    pub(crate) const CACHES: [Peer; 5] =
        [Peer::Everpage, Peer::Nginx, Peer::NginxSendfile, Peer::NginxUsual, Peer::Varnish];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Everpage => "everpage",
            Peer::Beside => "beside",
            Peer::Nginx => "nginx",
            Peer::NginxSendfile => "nginx, sendfile",
            Peer::NginxUsual => "nginx, as usual",
            Peer::Varnish => "Varnish",
            Peer::Limit => "limit",
        }
    }

    /// Whether it says that the answer came from its cache.
    pub(crate) fn is_hit(self, answer: &Answer) -> bool {
        match self {
            Peer::Everpage | Peer::Beside => answer.field("cache-status").contains("; hit"),
            Peer::Nginx | Peer::NginxSendfile | Peer::NginxUsual => answer.field("x-cache") == "HIT",
            // Of a hit, the request that fetched the page is named too.
            Peer::Varnish => answer.field("x-varnish").split_whitespace().count() == 2,
            Peer::Limit => true,
        }
    }
}

/// What is done for nginx.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tuning {
    /// What Debian's file says of sending; files are opened for each answer.
    None,
    /// All pages are kept open and copied out, and connections are accepted with their first bytes.
    Copies,
    /// The same, and the kernel copies.
    Sendfile,
}

impl Tuning {
    /// How files are sent, how they are kept open, and what stands behind the address.
    fn lines(self, open_files: u64) -> (&'static str, String, &'static str) {
        let kept = format!(
            "open_file_cache max={open_files} inactive=1h;\n    open_file_cache_valid 1h;\n    open_file_cache_min_uses 1;"
        );
        let sendfile = "sendfile on;\n    tcp_nopush on;";
        match self {
            Tuning::None => (sendfile, String::new(), ""),
            Tuning::Copies => ("sendfile off;", kept, " deferred"),
            Tuning::Sendfile => (sendfile, kept, " deferred"),
        }
    }
}

/// Where they run: in a folder for each, removed with this value.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) everpage: PathBuf,
    pub(crate) beside: Option<PathBuf>,
    origin: String,
}

impl Place {
    /// Before this origin (an authority), with this binary of everpage; files are kept in memory where the system has a folder for that.
    pub(crate) fn new(origin: String, everpage: PathBuf) -> Result<Self> {
        let in_memory = Path::new("/dev/shm");
        let folder = if in_memory.is_dir() { TempDir::new_in(in_memory) } else { TempDir::new() };
        Ok(Place { folder: folder.context("no folder for temporary files")?, everpage, beside: None, origin })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a cache on these cores.
    pub(crate) fn start(&self, peer: Peer, cores: &str) -> Result<Process> {
        let port = free_port()?;
        let folder = TempDir::new_in(self.path()).context("no folder for a server")?.keep();
        let command = match peer {
            Peer::Everpage => self.everpage(&self.everpage, &folder, port)?,
            Peer::Beside => self.everpage(self.beside.as_deref().context("no other binary")?, &folder, port)?,
            Peer::Nginx => self.nginx(&folder, port, Tuning::Copies)?,
            Peer::NginxSendfile => self.nginx(&folder, port, Tuning::Sendfile)?,
            Peer::NginxUsual => self.nginx(&folder, port, Tuning::None)?,
            Peer::Varnish => self.varnish(&folder, port),
            Peer::Limit => anyhow::bail!("the limit is no cache"),
        };
        Process::start(cores, &command, port, &folder.join("log"))
    }

    /// Starts the bare responder on these cores.
    pub(crate) fn start_limit(&self, manner: Manner, bytes: usize, cores: &str) -> Result<Process> {
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        let manner = manner.to_possible_value().expect("none is skipped");
        command.args(["limit", &port.to_string(), manner.get_name(), &bytes.to_string()]);
        Process::start(cores, &command, port, &self.path().join("limit.log"))
    }

    fn everpage(&self, binary: &Path, folder: &Path, port: u16) -> Result<Command> {
        let (origin, pages) = (&self.origin, folder.join("pages"));
        let config = format!(
            "[origin]\nurl = \"http://{origin}\"\n[store.filesystem]\npath = {pages:?}\n[memory]\ncapacity = \"{CAPACITY_BYTES} B\"\n"
        );
        let file = folder.join("config.toml");
        fs::write(&file, config)?;
        let (listen, admin) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", free_port()?));
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", &listen, "--admin", &admin, "--config"]).arg(file);
        Ok(command)
    }

    fn nginx(&self, folder: &Path, port: u16, tuning: Tuning) -> Result<Command> {
        let (origin, here) = (&self.origin, folder.display());
        let is_root = owner_is_root(folder);
        // Where the system allows fewer, nginx opens the other files at each hit.
        let open_files = OPEN_FILES.min(descriptors(OPEN_FILES + 2000).saturating_sub(2000));
        let (sending, open_file_cache, deferred) = tuning.lines(open_files);
        let mut config = String::new();
        if is_root {
            // Workers must reach the folder, which is ours alone.
            config += "user root;\n";
        }
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|kind| format!("    {kind}_temp_path {here}/{kind};\n")).concat();
        write!(
            config,
            r#"daemon off;
worker_processes 1;
worker_rlimit_nofile {limit};
pid {here}/pid;
error_log {here}/log warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    {sending}
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    {open_file_cache}
{temporary}    proxy_cache_path {here}/cache levels=1:2 keys_zone=pages:64m max_size={CAPACITY_BYTES} inactive=365d use_temp_path=off;
    upstream origin {{ server {origin}; keepalive 32; }}
    server {{
        listen 127.0.0.1:{port}{deferred};
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_cache pages;
            add_header X-Cache $upstream_cache_status;
        }}
    }}
}}
"#,
            limit = open_files + 2000,
        )?;
        let file = folder.join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-e").arg(folder.join("log")).arg("-c").arg(file);
        Ok(command)
    }

    /// Its own VCL; how long a page lives is said by the origin.
    fn varnish(&self, folder: &Path, port: u16) -> Command {
        let mut command = Command::new("varnishd");
        command.arg("-F").arg("-n").arg(folder.join("varnish"));
        command.args(["-j", "none", "-T", "none", "-b", &self.origin, "-a", &format!("127.0.0.1:{port}")]);
        command.args(["-s", &format!("malloc,{CAPACITY_BYTES}"), "-p", "thread_pools=1"]);
        command
    }
}

fn owner_is_root(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(folder).is_ok_and(|folder| folder.uid() == 0)
}

/// Descriptors that a process of ours may have: as many as are wanted, if the system lets us raise its limit, which root is not allowed everywhere.
fn descriptors(wanted: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    let raised = now.maximum.map_or(wanted, |maximum| maximum.max(wanted));
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: Some(raised) }) {
        Ok(()) => raised,
        Err(_) => now.maximum.unwrap_or(wanted),
    }
}
