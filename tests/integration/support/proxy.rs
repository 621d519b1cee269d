//! The proxy under test: the real server, in this process, on the embedded store in a temporary folder, or on a bucket with a temporary folder for its
//! disk cache.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use everpage::config::{Config, StoreKind};
use everpage::server::Server;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Answer, Ask, Link, Origin, Server as S3Server, TestBucket, s3_client};

/// Builds a proxy.
pub fn proxy() -> Builder {
    let mut config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
    config.admin.listen = "127.0.0.1:0".parse().unwrap();
    Builder { config, folder: None, bucket: None }
}

/// How long a node on a bucket may serve without a look, if a test says nothing else: no look shall come between its steps. A node that did not take
/// leave would hold up the next invalidation for as long, and be noticed.
const LONG_LEASE: Duration = Duration::from_secs(10);

pub struct Builder {
    config: Config,
    folder: Option<TempDir>,
    bucket: Option<TestBucket>,
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

    /// With its pages in this bucket.
    pub fn on_s3(mut self, bucket: &TestBucket) -> Self {
        self.config.store.s3 = bucket.settings();
        self.config.store.kind = StoreKind::S3;
        self.config.cluster.lease = LONG_LEASE;
        self.bucket = Some(bucket.clone());
        self
    }

    /// The same, at the end of a link.
    pub fn on_s3_through(mut self, bucket: &TestBucket, link: &Link) -> Self {
        self = self.on_s3(bucket);
        self.config.store.s3 = bucket.settings_through(&link.url());
        self
    }

    /// With its folder as a tier before the bucket; after `on_s3`.
    pub fn disk_cache(mut self) -> Self {
        // `start` says where.
        self.config.store.s3.disk_cache.path = Some(PathBuf::new());
        self
    }

    pub async fn start(mut self) -> Proxy {
        let folder = self.folder.unwrap_or_else(|| TempDir::new().unwrap());
        self.config.store.filesystem.path = folder.path().join("data");
        if let Some(path) = &mut self.config.store.s3.disk_cache.path {
            *path = folder.path().join("data");
        }
        let server = Server::bind(self.config).await.unwrap();
        let (address, admin) = (server.address().unwrap(), server.admin_address().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async {
            // A proxy that is dropped without `stop` ends with the test's runtime.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Proxy { address, admin, folder, bucket: self.bucket, stop, task }
    }
}

/// Where the proxies of a test keep their pages, one after the other.
#[derive(Clone, Debug)]
pub enum Shelf {
    /// A folder for each; the next gets that of the one before.
    Folder,
    /// The same bucket for all; nothing else is handed on: each is a new machine.
    Bucket(TestBucket),
}

impl Shelf {
    pub fn proxy(&self) -> Builder {
        match self {
            Shelf::Folder => proxy(),
            Shelf::Bucket(bucket) => proxy().on_s3(bucket),
        }
    }
}

/// Runs a test on a bucket. When it has passed, whatever it left running is gone before the bucket is: no page comes late.
pub fn run_on_s3(server: S3Server, test: impl AsyncFnOnce(TestBucket)) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let running = runtime();
    let bucket = running.block_on(async {
        let bucket = server.fresh_bucket().await;
        test(bucket.clone()).await;
        bucket
    });
    drop(running);
    // Its connections have ended with the runtime.
    let TestBucket { name, endpoint, .. } = bucket;
    runtime().block_on(TestBucket { name, client: s3_client(&endpoint), endpoint }.destroy());
}

/// Makes two tests of every sentence, which is an `async fn(Shelf)` of this module: `on_filesystem::…` and `on_s3::…`. The servers of
/// S3 differ in conditional writes, and those are proved elsewhere: one of them is enough here.
macro_rules! on_each_store {
    ($($sentence:ident),+ $(,)?) => {
        mod on_filesystem {
            $(
                #[tokio::test]
                async fn $sentence() {
                    super::$sentence($crate::support::Shelf::Folder).await;
                }
            )+
        }
        mod on_s3 {
            $(
                #[test]
                fn $sentence() {
                    $crate::support::run_on_s3($crate::support::Server::Rgw, async |bucket| {
                        super::$sentence($crate::support::Shelf::Bucket(bucket)).await;
                    });
                }
            )+
        }
    };
}

pub(crate) use on_each_store;

/// What a proxy that has ended leaves.
pub struct Remains {
    pub folder: TempDir,
    bucket: Option<TestBucket>,
}

impl Remains {
    /// What is stored: keys, or files.
    pub async fn pages(&self) -> Vec<String> {
        pages(&self.folder, self.bucket.as_ref()).await
    }

    /// What there is of the journal.
    pub async fn journal(&self) -> Vec<String> {
        match &self.bucket {
            Some(bucket) => bucket.keys().await.into_iter().filter(|key| key.contains("/journal/")).collect(),
            None => {
                let journal = files(&self.folder.path().join("data/default/journal"));
                journal.iter().map(|file| file.display().to_string()).collect()
            }
        }
    }

    /// The bytes of one of them.
    pub async fn read(&self, name: &str) -> Bytes {
        match &self.bucket {
            Some(bucket) => bucket.read(name).await.expect("it is there"),
            None => std::fs::read(name).unwrap().into(),
        }
    }

    /// Puts other bytes in its place.
    pub async fn write(&self, name: &str, bytes: impl Into<Bytes>) {
        match &self.bucket {
            Some(bucket) => bucket.plant(name, bytes).await,
            None => std::fs::write(name, bytes.into()).unwrap(),
        }
    }

    pub async fn remove(&self, name: &str) {
        match &self.bucket {
            Some(bucket) => bucket.remove(name).await,
            None => std::fs::remove_file(name).unwrap(),
        }
    }

    /// A proxy that goes on with them: with the folder, or with an empty one on the bucket.
    pub fn proxy(self) -> Builder {
        match &self.bucket {
            Some(bucket) => proxy().on_s3(bucket),
            None => proxy().folder(self.folder),
        }
    }
}

async fn pages(folder: &TempDir, bucket: Option<&TestBucket>) -> Vec<String> {
    match bucket {
        Some(bucket) => bucket.keys().await.into_iter().filter(|key| key.contains("/pages/")).collect(),
        None => stored_files(folder).iter().map(|file| file.display().to_string()).collect(),
    }
}

pub struct Proxy {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub folder: TempDir,
    bucket: Option<TestBucket>,
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
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the fetch does not end");
    }

    /// Drains and stops; the folder can be given to another proxy.
    pub async fn stop(self) -> TempDir {
        self.end().await.folder
    }

    /// As [`Proxy::stop`], for a test on any store.
    pub async fn end(self) -> Remains {
        // It may have ended by itself.
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
        // What the server leaves running ends with the process; here the folder must be let go before.
        for lock in ["data/lock", "data/default/journal/lock"] {
            released(&self.folder.path().join(lock)).await;
        }
        Remains { folder: self.folder, bucket: self.bucket }
    }

    /// Stops, and starts again with the same folder, or with an empty one on the same bucket, and otherwise default settings.
    pub async fn restart(self, origin: &Origin) -> Proxy {
        self.end().await.proxy().origin(origin).start().await
    }

    /// What a page says to a visitor who comes now is this, fetched for him; the next one finds it in the cache.
    pub async fn assert_new(&self, target: &str, text: &str) {
        let answer = self.get(target).await;
        assert_eq!((answer.outcome(), answer.text()), ("miss", text), "{target}");
        let answer = self.get(target).await;
        assert_eq!((answer.outcome(), answer.text()), ("hit", text), "{target}");
    }

    /// The files of pages in the store, or in the disk cache.
    pub fn pages(&self) -> Vec<PathBuf> {
        stored_files(&self.folder)
    }

    /// Waits until so many pages are written: nobody waits for a write but the drain.
    pub async fn written(&self, pages: usize) {
        for _ in 0..4000 {
            if self::pages(&self.folder, self.bucket.as_ref()).await.len() >= pages {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("{pages} pages were not written, but {:?}", self.pages());
    }

    /// Waits until a page that is fetched in the background is served.
    pub async fn renewed(&self, target: &str, text: &str) {
        for _ in 0..4000 {
            if self.get(target).await.text() == text {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("{target} did not become {text:?}");
    }

    /// A proxy as it starts after kill -9 at this moment: on the same bucket, or on what is in the folder now.
    pub fn left_by_a_crash(&self) -> Builder {
        match &self.bucket {
            Some(bucket) => proxy().on_s3(bucket),
            None => proxy().folder(self.snapshot()),
        }
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
            tokio::time::sleep(Duration::from_millis(5)).await;
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
        tokio::time::sleep(Duration::from_millis(1)).await;
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
