//! What happens to stored pages: damage, full disks, limits, restarts. Whatever it is, visitors are answered.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use everpage::config::Config;
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::Recovered;
use everpage::page::{JournalId, ObjectName, PathId, Sequence};
use everpage::store::{Listed, Listing, Object, Store, StoreError, Usage};
use http::{HeaderValue, Method};
use tempfile::TempDir;

use crate::support::{
    Reply, gather_warnings, inside, inside_on, inside_with, journal, origin, pieces, proxy, stored_files, warnings_with,
};

/// Every hit comes from the store.
fn no_memory(config: &mut Config) {
    config.memory.capacity = 0;
}

/// Bytes that say something at each place.
fn bytes(count: u32) -> Vec<u8> {
    (0..count).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// What may happen to a file, and the word of the warning.
type Damage = (&'static str, fn(&Path), &'static str);

const DAMAGES: [Damage; 9] = [
    ("torn", |file| rewrite(file, |bytes| bytes.truncate(bytes.len() / 2)), "torn"),
    ("one byte short", |file| rewrite(file, |bytes| bytes.truncate(bytes.len() - 1)), "torn"),
    ("one byte long", |file| rewrite(file, |bytes| bytes.push(0)), "torn"),
    ("emptied", |file| rewrite(file, Vec::clear), "torn"),
    ("zeroed", |file| rewrite(file, |bytes| bytes.fill(0)), "torn"),
    ("a bit of the body flipped", |file| rewrite(file, |bytes| *bytes.last_mut().unwrap() ^= 4), "damaged"),
    ("a bit of the head flipped", |file| rewrite(file, |bytes| bytes[100] ^= 1), "damaged"),
    ("foreign", |file| fs::write(file, "somebody's notes").unwrap(), "foreign"),
    ("newer", |file| rewrite(file, |bytes| bytes[9] = b'7'), "newer"),
];

fn rewrite(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_a_miss_and_a_warning() {
    gather_warnings();
    let origin = origin().counted("/").start().await;
    let mut folder = proxy().origin(&origin).start().await.stop().await;
    for (number, (damage, apply, word)) in DAMAGES.into_iter().enumerate() {
        let before = proxy().origin(&origin).folder(folder).start().await;
        before.get("/").await;
        folder = before.stop().await;
        let [file] = &stored_files(&folder)[..] else { panic!("one page") };
        apply(file);
        let known = warnings_with(&[&file.display().to_string()]).len();
        let after = proxy().origin(&origin).folder(folder).set(no_memory).start().await;
        let version = format!("v{}", number + 2);
        let miss = after.get("/").await;
        assert_eq!((miss.outcome(), miss.text()), ("miss", &*version), "{damage}");
        let hit = after.revisit("/").await;
        assert_eq!((hit.detail(), hit.text()), (Some("filesystem"), &*version), "{damage}");
        let warnings = warnings_with(&[&file.display().to_string()]);
        assert_eq!(warnings.len(), known + 1, "{damage}: {warnings:#?}");
        assert!(warnings[known].contains(word), "{damage}: {}", warnings[known]);
        folder = after.stop().await;
    }
}

#[tokio::test]
async fn a_page_under_another_pages_name_is_never_served() {
    gather_warnings();
    let origin = origin().page("/a", "page a").page("/b", "page b").start().await;
    let before = proxy().origin(&origin).start().await;
    before.get("/a").await;
    let folder = before.stop().await;
    let [a] = &stored_files(&folder)[..] else { panic!("one page") };
    let before = proxy().origin(&origin).folder(folder).start().await;
    before.get("/b").await;
    let folder = before.stop().await;
    let b = stored_files(&folder).into_iter().find(|file| file != a).unwrap();
    fs::copy(a, &b).unwrap();
    let after = proxy().origin(&origin).folder(folder).start().await;
    assert_eq!(after.get("/b").await.text(), "page b");
    assert_eq!(after.get("/a").await.detail(), Some("filesystem"));
    assert_eq!(warnings_with(&[&b.display().to_string(), "misplaced"]).len(), 1);
}

#[tokio::test]
async fn a_folder_in_the_place_of_a_page_is_left_alone() {
    gather_warnings();
    let origin = origin().page("/in-the-way", "hello").start().await;
    let before = proxy().origin(&origin).start().await;
    before.get("/in-the-way").await;
    let folder = before.stop().await;
    let [file] = &stored_files(&folder)[..] else { panic!("one page") };
    fs::remove_file(file).unwrap();
    fs::create_dir(file).unwrap();
    fs::write(file.join("notes"), "mine").unwrap();
    let after = proxy().origin(&origin).folder(folder).set(no_memory).start().await;
    for _ in 0..3 {
        let answer = after.revisit("/in-the-way").await;
        assert_eq!((answer.status.as_u16(), answer.outcome(), answer.text()), (200, "miss", "hello"));
    }
    // Nobody looks there once the folder has been counted: no page was found.
    assert!(warnings_with(&[&file.display().to_string()]).len() <= 1);
    assert_eq!(warnings_with(&["not stored", "/in-the-way"]).len(), 1);
    let _folder = after.stop().await;
    assert_eq!(fs::read_to_string(file.join("notes")).unwrap(), "mine");
}

#[tokio::test]
async fn a_store_that_is_removed_under_way_is_made_again() {
    let origin = origin().otherwise(|asked| async move { Reply::new(format!("v{}", asked.number)) }).start().await;
    let proxy = proxy().origin(&origin).set(no_memory).start().await;
    proxy.get("/a").await;
    assert_eq!(proxy.revisit("/a").await.outcome(), "hit");
    fs::remove_dir_all(proxy.folder.path().join("data")).unwrap();
    for path in ["/a", "/b"] {
        assert_eq!(proxy.revisit(path).await.outcome(), "miss");
        assert_eq!(proxy.revisit(path).await.outcome(), "hit");
    }
    assert_eq!(proxy.get("/a").await.text(), "v2");
}

#[tokio::test]
async fn a_full_disk_costs_no_visitor_an_answer() {
    gather_warnings();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let disk = match SmallDisk::mount(&data) {
        Ok(disk) => disk,
        Err(reason) => {
            eprintln!("not tested, for no small file system can be mounted here: {reason}");
            return;
        }
    };
    let origin = origin()
        .otherwise(|asked| async move { Reply::new(format!("v{}", asked.number).repeat(10_000)) })
        .start()
        .await;
    let proxy = proxy().origin(&origin).folder(folder).set(no_memory).start().await;
    assert_eq!(proxy.get("/full-disk/kept").await.outcome(), "miss");
    assert_eq!(proxy.revisit("/full-disk/kept").await.outcome(), "hit");
    let filler = disk.fill();
    for number in 0..20 {
        let answer = proxy.get(&format!("/full-disk/{number}")).await;
        assert_eq!((answer.status.as_u16(), answer.complete, answer.body.len()), (200, true, 20_000));
    }
    assert_eq!(proxy.revisit("/full-disk/0").await.outcome(), "miss", "there is no room to keep it");
    assert_eq!(proxy.get("/full-disk/kept").await.outcome(), "hit", "what is there can be read");
    let warnings = warnings_with(&["not stored", "/full-disk/"]);
    assert!(matches!(&warnings[..], [one] if one.contains("No space left")), "{warnings:#?}");
    let metrics = proxy.admin("/metrics").await;
    let failed = metrics.text().lines().find_map(|line| line.strip_prefix("everpage_store_errors_total ")).unwrap();
    assert!(failed.parse::<u64>().unwrap() >= 20, "{failed}");
    // The change goes through, and is not forgotten though its record may not fit on the disk.
    assert_eq!(proxy.ask(Method::POST, "/full-disk/kept").send().await.status, 200);
    assert_eq!(proxy.get("/full-disk/kept").await.text()[..2], *"v3");
    fs::remove_file(filler).unwrap();
    assert_eq!(proxy.revisit("/full-disk/0").await.outcome(), "miss");
    assert_eq!(proxy.revisit("/full-disk/0").await.outcome(), "hit", "as soon as there is room it goes on");
    proxy.stop().await;
    drop(disk);
}

/// A file system of 1 MiB, until it is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `Err`: why it could not be mounted.
    pub fn mount(at: &Path) -> Result<Self, String> {
        fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at).output();
        match mount {
            Ok(output) if output.status.success() => Ok(SmallDisk(at.to_owned())),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Leaves no room; returns the file that takes it.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let full = fs::write(&filler, vec![0; 2 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that failed may still have files open there.
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} is still mounted", self.0.display());
    }
}

/// A store that can do nothing.
#[derive(Debug)]
struct Broken;

impl Broken {
    fn fail<T>() -> Result<T, StoreError> {
        Err(StoreError { store: "broken", action: "do anything for /broken-store/".into(), source: "told so".into() })
    }
}

#[async_trait]
impl Store for Broken {
    fn kind(&self) -> &'static str {
        "broken"
    }

    async fn get(&self, _: &ObjectName) -> Result<Option<Object>, StoreError> {
        Broken::fail()
    }

    async fn put(&self, _: &ObjectName, _: &Object) -> Result<(), StoreError> {
        Broken::fail()
    }

    async fn remove(&self, _: &ObjectName) -> Result<(), StoreError> {
        Broken::fail()
    }

    async fn remove_older(&self, _: &PathId, _: &JournalId, _: Sequence) -> Result<u64, StoreError> {
        Broken::fail()
    }

    async fn under(&self, _: &PathId) -> Result<Vec<Listed>, StoreError> {
        Broken::fail()
    }

    async fn list(&self, _: &str, _: Option<&ObjectName>, _: usize) -> Result<Listing, StoreError> {
        Broken::fail()
    }

    async fn check(&self) -> Result<(), StoreError> {
        Broken::fail()
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }
}

#[tokio::test(start_paused = true)]
async fn each_failure_of_the_store_is_counted_and_one_in_ten_seconds_is_warned_of() {
    gather_warnings();
    let invalidations = Invalidations::start(journal(), Recovered::default());
    let inside = inside_with(Arc::new(Broken), invalidations, no_memory, |_| async {
        pieces(http::Response::builder(), vec![Ok("hello")])
    });
    for _ in 0..5 {
        assert_eq!(inside.get("/").await.text(), "hello");
        inside.settled().await;
    }
    assert_eq!(inside.metrics.store_errors.get(), 10, "a read and a write each");
    assert_eq!(warnings_with(&["not stored", "/broken-store/"]).len(), 1);
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    inside.get("/").await;
    assert_eq!(warnings_with(&["not stored", "/broken-store/"]).len(), 2);
}

#[tokio::test]
async fn the_least_used_pages_make_room_while_visitors_are_served() {
    const LIMIT: u64 = 256 << 10;
    let origin = origin().otherwise(|asked| async move { Reply::new(asked.target.repeat(1500)) }).start().await;
    let limit = |config: &mut Config| {
        no_memory(config);
        config.store.filesystem.max_bytes = LIMIT;
    };
    let proxy = proxy().origin(&origin).set(limit).start().await;
    let mut largest = 0;
    for number in 0..100 {
        let path = format!("/{number:06}");
        let miss = proxy.revisit(&path).await;
        assert_eq!((miss.outcome(), miss.text()), ("miss", &*path.repeat(1500)));
        assert_eq!(proxy.revisit("/often").await.text(), "/often".repeat(1500));
        let bytes = bytes_in(&proxy.folder);
        largest = largest.max(bytes);
        // A page may be written before the one that goes for it is gone.
        assert!(bytes <= LIMIT + (16 << 10), "{bytes} bytes after {number} pages");
    }
    assert!(largest > LIMIT / 2, "it was full: {largest} bytes");
    assert_eq!(origin.hits("/often"), 1, "what is used stays");
    assert!(bytes_in(&proxy.stop().await) <= LIMIT);
}

fn bytes_in(folder: &TempDir) -> u64 {
    // One may go while they are counted.
    stored_files(folder).iter().map(|file| fs::metadata(file).map_or(0, |file| file.len())).sum()
}

#[tokio::test]
async fn a_large_page_comes_from_disk_as_it_was() {
    let body = bytes(8 << 20);
    let sent = bytes::Bytes::from(body.clone());
    let origin = origin()
        .otherwise(move |_| {
            let body = sent.clone();
            async move { Reply::new(body) }
        })
        .start()
        .await;
    let first = proxy().origin(&origin).start().await;
    assert!(first.get("/large").await.body == body);
    let second = proxy().origin(&origin).folder(first.stop().await).start().await;
    let answer = second.get("/large").await;
    assert_eq!((answer.detail(), answer.body == body), (Some("filesystem"), true));
    let part = second.ask(Method::GET, "/large").header("range", "bytes=-5").send().await;
    assert_eq!((part.status.as_u16(), &*part.body), (206, &body[body.len() - 5..]));
    assert_eq!(origin.hits("/large"), 1);
}

#[tokio::test]
async fn a_large_page_takes_memory_only_when_it_is_asked_for_again() {
    let large = bytes::Bytes::from(bytes(2 << 20));
    let origin = origin()
        .page("/small", "hello")
        .otherwise(move |_| {
            let large = large.clone();
            async move { Reply::new(large) }
        })
        .start()
        .await;
    let proxy = proxy().origin(&origin).start().await;
    proxy.get("/small").await;
    assert_eq!(proxy.get("/small").await.detail(), Some("memory"));
    assert_eq!(proxy.get("/large").await.outcome(), "miss");
    assert_eq!(proxy.revisit("/large").await.detail(), Some("filesystem"));
    assert_eq!(proxy.get("/large").await.detail(), Some("memory"));
    assert_eq!(origin.hits("/large"), 1);
}

/// Fails when `look_in_store` does not ask `has_room_for`.
#[tokio::test]
async fn a_large_stored_page_for_which_there_is_no_memory_comes_from_the_origin() {
    let large = bytes::Bytes::from(bytes(2 << 20));
    let body = large.clone();
    let origin = origin()
        .otherwise(move |_| {
            let body = body.clone();
            async move { Reply::new(body) }
        })
        .start()
        .await;
    let first = proxy().origin(&origin).start().await;
    assert_eq!(first.get("/large").await.outcome(), "miss");
    let scarce = |config: &mut Config| config.cache.max_fill_bytes = 1 << 20;
    let second = proxy().origin(&origin).folder(first.stop().await).set(scarce).start().await;
    let answer = second.get("/large").await;
    assert_eq!((answer.body == large, answer.complete), (true, true));
    assert_eq!(origin.hits("/large"), 2);
}

#[tokio::test]
async fn thousands_of_pages_are_found_after_a_restart() {
    const PAGES: usize = 5_000;
    let folder = TempDir::new().unwrap();
    let echo = |request: http::Request<_>| async move {
        let path: &'static str = Box::leak(request.uri().path().to_owned().into_boxed_str());
        pieces(http::Response::builder(), vec![Ok(path)])
    };
    let first = inside_on(folder.path(), no_memory, echo);
    for hundred in 0..PAGES / 100 {
        let mut visits = tokio::task::JoinSet::new();
        for number in hundred * 100..(hundred + 1) * 100 {
            let first = first.clone();
            visits.spawn(async move { first.get(&format!("/{number}")).await.outcome() });
        }
        assert!(visits.join_all().await.into_iter().all(|outcome| outcome == "miss"));
        first.settled().await;
    }
    first.handler.drain().await;
    assert_eq!(first.metrics.store_errors.get(), 0);
    drop(first);
    // The journal's task sees that nobody asks any more, and lets the folder go.
    tokio::task::yield_now().await;
    let second = inside_on(folder.path(), no_memory, |_| async { panic!("everything is stored") });
    while !second.store.usage().exact {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(second.store.usage().objects, PAGES as u64);
    for number in (0..PAGES).step_by(10) {
        let path = format!("/{number}");
        let answer = second.get(&path).await;
        assert_eq!((answer.cache_status(), answer.text()), ("everpage; hit; detail=filesystem", &*path));
    }
}

/// What a response was read into, and whoever wants to know whether it is still there.
struct Buffer {
    bytes: Vec<u8>,
    _held: Arc<()>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Fails when a page holds on to the buffer that its response was read into.
#[tokio::test]
async fn a_page_in_memory_keeps_nothing_of_the_response_but_its_own_bytes() {
    let buffers = Arc::new(());
    let held = Arc::clone(&buffers);
    let answer = move |_| {
        let buffer = Bytes::from_owner(Buffer { bytes: vec![b'a'; 8 << 10], _held: Arc::clone(&held) });
        let value = |range| HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap();
        let response = http::Response::builder().header("x-one", value(0..10)).header("x-one", value(10..30));
        async { pieces(response, vec![Ok("hello")]) }
    };
    let inside = inside(|_| {}, answer);
    inside.get("/").await;
    inside.settled().await;
    let answer = inside.get("/").await;
    assert_eq!(answer.cache_status(), "everpage; hit; detail=memory");
    let lines: Vec<_> = answer.headers.get_all("x-one").iter().map(HeaderValue::len).collect();
    assert_eq!(lines, [10, 20]);
    assert_eq!(Arc::strong_count(&buffers), 2, "the origin's and ours");
}
