//! The proxy under test: the real server, in this process, on the embedded store in a temporary folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use everpage::config::Config;
use everpage::server::Server;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Answer, Ask, Origin};

/// Builds a proxy.
pub fn proxy() -> Builder {
    let mut config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
    config.admin.listen = "127.0.0.1:0".parse().unwrap();
    Builder { config, folder: None }
}

pub struct Builder {
    config: Config,
    folder: Option<TempDir>,
}

impl Builder {
    pub fn origin(self, origin: &Origin) -> Self {
        self.origin_at(&origin.url())
    }

    pub fn origin_at(mut self, url: &str) -> Self {
        self.config.origin.url = url.parse().unwrap();
        self
    }

    /// Changes any setting.
    pub fn set(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// On the folder that an earlier proxy left.
    pub fn folder(mut self, folder: TempDir) -> Self {
        self.folder = Some(folder);
        self
    }

    pub async fn start(mut self) -> Proxy {
        let folder = self.folder.unwrap_or_else(|| TempDir::new().unwrap());
        self.config.store.filesystem.path = folder.path().join("data");
        let server = Server::bind(self.config).await.unwrap();
        let (address, admin) = (server.address().unwrap(), server.admin_address().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async {
            // A proxy that is dropped without `stop` ends with the test's runtime.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Proxy { address, admin, folder, stop, task }
    }
}

pub struct Proxy {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub folder: TempDir,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Proxy {
    pub fn ask(&self, method: Method, target: &str) -> Ask {
        Ask::new(self.address, method, target)
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.ask(Method::GET, target).send().await
    }

    pub async fn head(&self, target: &str) -> Answer {
        self.ask(Method::HEAD, target).send().await
    }

    /// `POST /invalidate`; panics unless it is answered 200.
    pub async fn invalidate(&self, body: Value) -> Value {
        let answer = self.post_invalidate(body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub async fn invalidate_path(&self, path: &str) -> Value {
        self.invalidate(json!({"paths": [path]})).await
    }

    pub async fn post_invalidate(&self, body: Value) -> Answer {
        let ask = Ask::new(self.admin, Method::POST, "/invalidate").host("localhost");
        ask.header("content-type", "application/json").body(body.to_string()).send().await
    }

    /// `PURGE` on the public listener; `purge_from` must allow it.
    pub async fn purge(&self, target: &str) -> Answer {
        self.ask(Method::from_bytes(b"PURGE").unwrap(), target).send().await
    }

    pub async fn post(&self, target: &str) -> Answer {
        self.ask(Method::POST, target).send().await
    }

    /// Until every request that was started before has been taken up, and has joined or leads a flight. All runs on one thread and in turn, so a later
    /// request that is answered at once has passed through the same steps after them.
    pub async fn settle(&self) {
        let answer = self.ask(Method::OPTIONS, "/").header("max-forwards", "0").send().await;
        assert_eq!(answer.status, 200);
    }

    pub async fn admin(&self, target: &str) -> Answer {
        Ask::new(self.admin, Method::GET, target).host("localhost").send().await
    }

    /// Asks when the fetch under way has ended: its page may be written to the store while further visitors read along.
    pub async fn revisit(&self, target: &str) -> Answer {
        self.revisit_with(|| self.ask(Method::GET, target)).await
    }

    /// As [`Proxy::revisit`], with any request.
    pub async fn revisit_with(&self, ask: impl Fn() -> Ask) -> Answer {
        self.landed().await;
        ask().send().await
    }

    /// Until no fetch is under way: then everything is written, too.
    async fn landed(&self) {
        for _ in 0..2000 {
            let metrics = self.admin("/metrics").await;
            if metrics.text().lines().any(|line| line == "everpage_flights 0") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("the fetch does not end");
    }

    /// Drains and stops; the folder can be given to another proxy.
    pub async fn stop(self) -> TempDir {
        // It may have ended by itself.
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
        // What the server leaves running ends with the process; here the folder must be let go before.
        for lock in ["data/lock", "data/default/journal/lock"] {
            released(&self.folder.path().join(lock)).await;
        }
        self.folder
    }

    /// Stops, and starts again with the same folder and otherwise default settings.
    pub async fn restart(self, origin: &Origin) -> Proxy {
        proxy().origin(origin).folder(self.stop().await).start().await
    }

    /// What a page says to a visitor who comes now is this, fetched for him; the next one finds it in the cache.
    pub async fn assert_new(&self, target: &str, text: &str) {
        let answer = self.get(target).await;
        assert_eq!((answer.outcome(), answer.text()), ("miss", text), "{target}");
        let answer = self.get(target).await;
        assert_eq!((answer.outcome(), answer.text()), ("hit", text), "{target}");
    }

    /// The files of pages in the store.
    pub fn pages(&self) -> Vec<PathBuf> {
        stored_files(&self.folder)
    }

    /// Waits until so many files of pages are written: nobody waits for a write but the drain.
    pub async fn written(&self, pages: usize) {
        for _ in 0..4000 {
            if self.pages().len() >= pages {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        panic!("{pages} pages were not written, but {:?}", self.pages());
    }

    /// Waits until a page that is fetched in the background is served.
    pub async fn renewed(&self, target: &str, text: &str) {
        for _ in 0..4000 {
            if self.get(target).await.text() == text {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        panic!("{target} did not become {text:?}");
    }

    /// What kill -9 at this moment leaves, in a folder of its own, as if it had always been there.
    pub fn snapshot(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        for file in files(self.folder.path()) {
            let to = copy.path().join(file.strip_prefix(self.folder.path()).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            match std::fs::copy(&file, &to) {
                Ok(_) => {}
                // Removed or renamed meanwhile: so it is with a crash.
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", file.display()),
            }
        }
        make_at_home(&copy.path().join("data/default/journal/identity"));
        copy
    }

    /// Waits until a page is written to the store: a write that nobody waits for.
    pub async fn stored(&self, pages: u64) {
        for _ in 0..2000 {
            let text = self.admin("/metrics").await;
            let line = text.text().lines().find_map(|line| line.strip_prefix("everpage_store_objects "));
            if line.is_some_and(|objects| objects.parse::<u64>().unwrap() >= pages) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{pages} pages were not written");
    }
}

/// Makes a copied journal the one that began here. A crash leaves the very files, which a test cannot have while the proxy lives on; as a mere copy
/// the journal would not be trusted, and no page with it, whatever its records say.
fn make_at_home(identity: &Path) {
    // Not there yet: so it is with a crash.
    let Ok(bytes) = std::fs::read(identity) else { return };
    let mut journal: Value = serde_json::from_slice(&bytes).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(identity).unwrap());
    journal["file"] = json!({"inode": inode, "born": null});
    // In place, so that the file keeps its inode.
    std::fs::write(identity, journal.to_string()).unwrap();
}

async fn released(lock: &Path) {
    let Ok(file) = std::fs::File::open(lock) else { return };
    for _ in 0..4000 {
        if file.try_lock().is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("{} is still locked", lock.display());
}

/// The files of stored objects in a folder that a proxy has or had, in no order.
pub fn stored_files(folder: &TempDir) -> Vec<PathBuf> {
    files(&folder.path().join("data/default/1/pages"))
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
