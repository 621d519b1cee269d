//! What lies in the store: crashes, late writes, a journal that is lost, and one that cannot write.

use std::fs::{self, File, OpenOptions};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::{Appended, Journal, JournalError, Recovered};
use everpage::invalidation::selector::Record;
use everpage::page::{JournalId, Sequence};
use everpage::proxy::visit::Visitor;
use everpage::store::memory::MemoryStore;
use http_body_util::Full;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Asked, HOST, Origin, Proxy, Remains, Reply, Shelf, inside_with, on_each_store, origin, pieces, stored_files,
};

on_each_store![
    a_page_written_long_after_its_invalidation_is_not_served,
    nothing_comes_back_after_a_crash_right_after_the_answer,
    without_its_journal_no_page_is_trusted,
    with_a_damaged_journal_no_page_is_trusted,
];

const PAGE: &str = "/shop/ice/";

/// An origin that numbers the renderings of every page, and the proxy before it, on a folder.
async fn counted() -> (Origin, Proxy) {
    counted_on(&Shelf::Folder).await
}

async fn counted_on(shelf: &Shelf) -> (Origin, Proxy) {
    let counted = |asked: Asked| async move { Reply::new(format!("v{}", asked.number)) };
    let origin = origin().otherwise(counted).start().await;
    let proxy = shelf.proxy().origin(&origin).set(|config| config.purge_from = vec!["127.0.0.0/8".parse().unwrap()]);
    let proxy = proxy.start().await;
    (origin, proxy)
}

// --- a late writer ---

/// A slow disk, a restored backup: v1's file turns up after all. Fails when neither `Handler::look_in_store` nor
/// `Handler::disembark` asks `Invalidations::judge`.
async fn a_page_written_long_after_its_invalidation_is_not_served(shelf: Shelf) {
    let (origin, proxy) = counted_on(&shelf).await;
    assert_eq!(proxy.get(PAGE).await.text(), "v1");
    proxy.written(1).await;
    let remains = proxy.end().await;
    let page = remains.pages().await.pop().unwrap();
    let old = remains.read(&page).await;
    let proxy = remains.proxy().origin(&origin).start().await;
    proxy.invalidate_path(PAGE).await;
    assert_eq!(proxy.get(PAGE).await.text(), "v2");
    let remains = proxy.end().await;
    assert_ne!(remains.read(&page).await, old);
    remains.write(&page, old).await;
    let proxy = remains.proxy().origin(&origin).start().await;
    proxy.assert_new(PAGE, "v3").await;
}

/// What kill -9 leaves at the moment of the answer. Fails when `commit` answers before `Journal::append` has written.
async fn nothing_comes_back_after_a_crash_right_after_the_answer(shelf: Shelf) {
    let (origin, proxy) = counted_on(&shelf).await;
    proxy.get(PAGE).await;
    proxy.written(1).await;
    // By its prefix: a page that is named by its path is soon removed, and then nobody needs the journal.
    proxy.invalidate(json!({"prefixes": [PAGE]})).await;
    let left = proxy.left_by_a_crash().origin(&origin).start().await;
    left.assert_new(PAGE, "v2").await;
}

// --- a lost journal ---

/// Stores v1, invalidates it, stores v2, lets `harm` the journal, and looks what is served then.
async fn assert_distrusted(shelf: &Shelf, harm: impl AsyncFnOnce(&Remains)) {
    let (origin, proxy) = counted_on(shelf).await;
    proxy.get("/untouched").await;
    proxy.get(PAGE).await;
    proxy.written(2).await;
    proxy.invalidate(json!({"prefixes": [PAGE]})).await;
    proxy.invalidate_path("/another").await;
    let remains = proxy.end().await;
    harm(&remains).await;
    let proxy = remains.proxy().origin(&origin).start().await;
    proxy.assert_new(PAGE, "v2").await;
    // Nobody knows what the lost records named.
    proxy.assert_new("/untouched", "v2").await;
    let proxy = proxy.restart(&origin).await;
    assert_eq!(proxy.get(PAGE).await.outcome(), "hit");
}

/// Fails when `Invalidations::judge` does not compare journals.
async fn without_its_journal_no_page_is_trusted(shelf: Shelf) {
    assert_distrusted(&shelf, async |remains| {
        for part in remains.journal().await {
            remains.remove(&part).await;
        }
    })
    .await;
}

/// Fails when `Invalidations::judge` does not compare journals.
async fn with_a_damaged_journal_no_page_is_trusted(shelf: Shelf) {
    assert_distrusted(&shelf, async |remains| {
        let is_main = |part: &&String| part.ends_with("log-00000000000000000001") || part.ends_with("head");
        let journal = remains.journal().await;
        let part = journal.iter().find(is_main).unwrap();
        let mut bytes = remains.read(part).await.to_vec();
        bytes[50] ^= 1;
        remains.write(part, bytes).await;
    })
    .await;
}

/// Fails when `Invalidations::judge` does not compare journals.
#[tokio::test]
async fn with_a_journal_that_lost_its_name_no_page_is_trusted() {
    assert_distrusted(&Shelf::Folder, async |remains| {
        fs::remove_file(remains.folder.path().join("data/default/journal/identity")).unwrap();
    })
    .await;
}

/// How an old copy of the journal comes back.
#[derive(Clone, Copy, Debug)]
enum Back {
    /// The copy itself is moved there.
    Moved,
    /// It is unpacked over the journal, which removes each file and writes it anew: the file system may give it the inode of the removed one.
    Unpacked,
}

/// A backup from before an answered invalidation knows the journal's name and all about it but that. Fails when `recovery` does not ask whether
/// the identity is a copy; with `Back::Unpacked` also, on file systems that use inodes again at once, when it does not ask when the file was born.
#[tokio::test]
async fn a_journal_that_is_put_back_from_a_copy_revives_no_page() {
    for back in [Back::Moved, Back::Unpacked] {
        let (origin, proxy) = counted().await;
        proxy.get("/untouched").await;
        proxy.get(PAGE).await;
        proxy.written(2).await;
        proxy.invalidate_path("/before").await;
        let data = proxy.folder.path().join("data/default");
        let (journal, copy) = (data.join("journal"), data.join("copy"));
        copy_folder(&journal, &copy);
        // By its prefix: the file of the page stays.
        proxy.invalidate(json!({"prefixes": [PAGE]})).await;
        let folder = proxy.stop().await;
        match back {
            Back::Moved => {
                fs::remove_dir_all(&journal).unwrap();
                fs::rename(copy, journal).unwrap();
            }
            Back::Unpacked => {
                for name in ["identity", "log-00000000000000000001"] {
                    fs::remove_file(journal.join(name)).unwrap();
                    fs::copy(copy.join(name), journal.join(name)).unwrap();
                }
            }
        }
        assert_eq!(stored_files(&folder).len(), 2, "{back:?}: the old pages are there");
        let proxy = crate::support::proxy().origin(&origin).folder(folder).start().await;
        proxy.assert_new(PAGE, "v2").await;
        proxy.assert_new("/untouched", "v2").await;
        let proxy = proxy.restart(&origin).await;
        assert_eq!(proxy.get(PAGE).await.outcome(), "hit", "{back:?}");
    }
}

/// Fails when a journal is known by its path.
#[tokio::test]
async fn a_folder_that_is_moved_keeps_its_pages() {
    let (origin, proxy) = counted().await;
    proxy.get(PAGE).await;
    let (folder, elsewhere) = (proxy.stop().await, TempDir::new().unwrap());
    fs::rename(folder.path().join("data"), elsewhere.path().join("data")).unwrap();
    let proxy = crate::support::proxy().origin(&origin).folder(elsewhere).start().await;
    assert_eq!(proxy.get(PAGE).await.outcome(), "hit");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

// --- a journal that cannot write ---

/// The journal's file becomes as large as the file system allows, so that nothing can be written to it, and a new one cannot be begun. Root cannot
/// either. Returns what stands in the way of the new one.
fn break_journal(proxy: &Proxy, newest: u64) -> std::path::PathBuf {
    let folder = proxy.folder.path().join("data/default/journal");
    let log = OpenOptions::new().write(true).open(folder.join("log-00000000000000000001")).unwrap();
    fill_up(&log);
    let obstacle = folder.join(format!("log-{:020}.new", newest + 1));
    fs::create_dir(&obstacle).unwrap();
    obstacle
}

/// Grows a file, without taking room, to the last byte that it may have.
fn fill_up(file: &File) {
    let (mut possible, mut impossible) = (file.metadata().unwrap().len(), 1 << 63);
    while possible + 1 < impossible {
        let middle = possible + (impossible - possible) / 2;
        if file.set_len(middle).is_ok() { possible = middle } else { impossible = middle }
    }
    file.set_len(possible).unwrap();
}

/// Fails when `commit` applies or numbers what was not made durable.
#[tokio::test]
async fn an_invalidation_that_cannot_be_made_durable_claims_nothing_and_can_be_tried_again() {
    let (origin, proxy) = counted().await;
    assert_eq!(proxy.invalidate_path("/first").await["sequence"], 1);
    proxy.get("/").await;
    let obstacle = break_journal(&proxy, 1);
    let body = json!({"paths": ["/"], "id": "order-7"});
    for _ in 0..2 {
        let answer = proxy.post_invalidate(body.clone()).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    let purge = proxy.purge("/").await;
    assert_eq!(purge.status, 503);
    assert_eq!(proxy.get("/").await.outcome(), "hit");
    fs::remove_dir(obstacle).unwrap();
    assert_eq!(proxy.invalidate(body).await["sequence"], 2);
    assert_eq!(proxy.get("/").await.outcome(), "miss");
    let proxy = proxy.restart(&origin).await;
    let kept = proxy.get("/").await;
    assert_eq!((kept.outcome(), kept.text()), ("hit", "v2"));
    assert_eq!(proxy.invalidate_path("/").await["sequence"], 3);
}

/// A change through the proxy has happened, whatever the journal says. Fails when `invalidate_own_path` calls `submit` instead of `submit_change`.
#[tokio::test]
async fn a_change_whose_invalidation_is_not_durable_is_still_seen_by_the_next_request() {
    let (_origin, proxy) = counted().await;
    proxy.invalidate_path("/first").await;
    proxy.get("/").await;
    proxy.get("/other").await;
    let obstacle = break_journal(&proxy, 1);
    assert_eq!(proxy.post("/").await.text(), "v2");
    assert_eq!(proxy.get("/").await.text(), "v3");
    assert_eq!(proxy.get("/other").await.outcome(), "hit");
    fs::remove_dir(obstacle).unwrap();
    proxy.invalidate_path("/unrelated").await;
    proxy.get("/").await;
    assert_eq!(proxy.get("/").await.outcome(), "hit");
}

/// A journal on a disk that hangs.
#[derive(Debug)]
struct Hanging;

#[async_trait]
impl Journal for Hanging {
    fn id(&self) -> JournalId {
        JournalId("hanging".into())
    }

    async fn append(&self, _: &[Arc<Record>]) -> Result<Appended, JournalError> {
        std::future::pending().await
    }

    async fn fold(&self, _: Sequence, _: Vec<u8>) -> Result<(), JournalError> {
        std::future::pending().await
    }

    fn tail_bytes(&self) -> u64 {
        0
    }
}

/// Fails when `Invalidations::submit_change` waits for the journal without a bound, or distrusts nothing then.
#[tokio::test(start_paused = true)]
async fn a_journal_that_hangs_holds_up_no_post_for_long_and_its_page_is_not_trusted() {
    let store = Arc::new(MemoryStore::new(1 << 20));
    let invalidations = Invalidations::start(Arc::new(Hanging), Recovered::default());
    let page = |_| async { pieces(http::Response::builder(), vec![Ok("page")]) };
    let inside = inside_with(store, invalidations, |_| {}, page);
    inside.get("/").await;
    assert_eq!(inside.get("/").await.outcome(), "hit");
    let post = http::Request::post("/").header("host", HOST).body(Full::new(Bytes::new())).unwrap();
    let visitor = Visitor::at(Ipv4Addr::LOCALHOST.into());
    let answer = tokio::time::timeout(Duration::from_secs(60), inside.handler.handle(post, &visitor)).await;
    assert_eq!(answer.expect("it is answered").status(), 200);
    assert_eq!(inside.get("/").await.outcome(), "miss");
}
