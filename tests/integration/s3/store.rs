//! The store in a bucket, on real servers: its contract, alone and behind a disk, and what it makes of objects that are not its own.

use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use everpage::clock::{Clock, UnixMillis};
use everpage::config::{Compression, S3Store as Settings};
use everpage::page::large::{LargePage, next_piece};
use everpage::page::stored;
use everpage::page::{JournalId, Object, ObjectName, Page, PageHead, Sequence};
use everpage::store::Store;
use everpage::store::contract::{assert_same, page, page_as_of, signpost};
use everpage::store::filesystem::{FilesystemStore, Limits};
use everpage::store::s3::S3Store;
use everpage::store::s3::bucket::Bucket;
use everpage::store::tiered::TieredStore;
use tempfile::TempDir;

use crate::support::{Server, TestBucket, on_each_server, s3_client};

on_each_server!(
    a_page_lies_where_the_documentation_says_and_says_what_it_is,
    a_text_lies_compressed_and_comes_back_as_it_was,
    what_is_foreign_torn_newer_or_tampered_with_is_a_miss,
    nothing_but_pages_is_touched_whatever_is_done,
    a_head_of_any_size_comes_back,
    a_large_body_that_is_replaced_while_it_is_read_is_never_mixed,
    a_large_body_that_was_tampered_with_never_ends_well,
    what_would_take_too_much_memory_is_not_decompressed,
    a_listing_reads_on_behind_what_is_not_ours,
    the_sweeper_says_how_full_it_is,
    without_its_bucket_it_is_an_error_and_the_disk_goes_on,
);

const MEBIBYTE: u64 = 1 << 20;

/// Bytes of the largest body that is read into memory here.
const MAX_MEMORY: u64 = 8 * MEBIBYTE;

fn settings(bucket: &TestBucket) -> Settings {
    let compress_types = vec!["text/*".to_owned()];
    Settings { location: "site".to_owned(), compress_types, ..bucket.settings() }
}

fn uncompressed(bucket: &TestBucket) -> Settings {
    Settings { compress: Compression::Off, ..settings(bucket) }
}

async fn store_with(settings: &Settings, max_memory: u64) -> S3Store {
    let bucket = Bucket::open(settings).await.unwrap();
    S3Store::new(bucket, settings, "", 1, max_memory)
}

async fn store(bucket: &TestBucket) -> S3Store {
    store_with(&settings(bucket), MAX_MEMORY).await
}

/// Removes its bucket when the test has ended, however it did.
struct Keep(Server, String, Option<TempDir>);

impl Drop for Keep {
    fn drop(&mut self) {
        let endpoint = self.0.endpoint();
        let bucket = TestBucket { name: self.1.clone(), client: s3_client(&endpoint), endpoint };
        // The runtime of the test may be ending.
        let clear = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(bucket.destroy());
        };
        assert!(thread::spawn(clear).join().is_ok());
    }
}

async fn fresh(server: Server) -> (Arc<dyn Store>, Keep) {
    let bucket = server.fresh_bucket().await;
    // RGW answers 500 now and then to who reads an object that sixteen are writing.
    let settings = Settings { attempts: 10, ..settings(&bucket) };
    (Arc::new(store_with(&settings, MAX_MEMORY).await), Keep(server, bucket.name, None))
}

async fn behind_a_disk(server: Server) -> (Arc<dyn Store>, Keep) {
    let (back, mut keep) = fresh(server).await;
    let folder = TempDir::new().unwrap();
    let front = disk(&folder);
    keep.2 = Some(folder);
    (Arc::new(TieredStore::new(front, back)), keep)
}

fn disk(folder: &TempDir) -> Arc<FilesystemStore> {
    let limits = Limits { max_bytes: 64 * MEBIBYTE, max_memory_bytes: MAX_MEMORY };
    Arc::new(FilesystemStore::open(folder.path(), "", 1, limits, Clock::Wall).unwrap())
}

macro_rules! contract_on {
    ($module:ident, $place:ident, $server:ident) => {
        mod $module {
            async fn fresh() -> (std::sync::Arc<dyn everpage::store::Store>, super::Keep) {
                super::$place(crate::support::Server::$server).await
            }

            everpage::store_contract!(fresh);
        }
    };
}

contract_on!(contract_on_moto, fresh, Moto);
contract_on!(contract_on_rgw, fresh, Rgw);
contract_on!(contract_behind_a_disk_on_moto, behind_a_disk, Moto);
contract_on!(contract_behind_a_disk_on_rgw, behind_a_disk, Rgw);

async fn found(store: &dyn Store, name: &ObjectName) -> Object {
    store.get(name).await.unwrap().expect("it was put")
}

/// Where it lies in the bucket.
fn key(name: &ObjectName) -> String {
    format!("site/default/1/pages/{name}")
}

/// Puts the page of `/large/` with a body that `seed` tells apart.
async fn put_large(store: &dyn Store, bytes: usize, seed: u8) -> (ObjectName, Bytes) {
    let body: Bytes = (0..bytes).map(|n| (n as u8).wrapping_mul(7).wrapping_add(seed)).collect::<Vec<u8>>().into();
    let (name, object) = page("/large/", &body);
    store.put(&name, &object).await.unwrap();
    (name, body)
}

fn large(object: Object) -> Arc<LargePage> {
    match object {
        Object::Large(page) => page,
        other => panic!("it is in memory: {other:?}"),
    }
}

async fn a_page_lies_where_the_documentation_says_and_says_what_it_is(bucket: TestBucket) {
    let store = store(&bucket).await;
    let (name, object) = page_as_of("/caf%C3%A9/", "q=1", b"hello", "j", 7);
    store.put(&name, &object).await.unwrap();
    assert_eq!(bucket.keys().await, [key(&name)]);
    let head = bucket.client.head_object().bucket(&bucket.name).key(key(&name)).send().await.unwrap();
    assert_eq!(head.content_type(), Some("application/vnd.everpage.page"));
    let said = head.metadata().unwrap();
    let expected =
        [("method", "GET"), ("host", "shop.example"), ("path", "/caf%C3%A9/"), ("query", "q=1"), ("as-of", "7")];
    for (field, value) in expected {
        assert_eq!(said.get(field).map(String::as_str), Some(value), "{said:?}");
    }
    let bytes = bucket.read(&key(&name)).await.unwrap();
    assert!(bytes.starts_with(b"everpage/1 page ") && bytes.ends_with(b"\nhello"));
    assert_same(&object, &stored::decode(&name, &bytes).unwrap());
    let opened = Bucket::open(&settings(&bucket)).await.unwrap();
    S3Store::new(opened, &settings(&bucket), "x", 2, MAX_MEMORY).put(&name, &object).await.unwrap();
    assert!(bucket.keys().await.contains(&format!("site/x/2/pages/{name}")));
}

async fn a_text_lies_compressed_and_comes_back_as_it_was(bucket: TestBucket) {
    let body = "vanilla and chocolate, ".repeat(10_000);
    let kinds = [(Compression::Zstd, "page+zstd"), (Compression::Gzip, "page+gzip"), (Compression::Off, "page")];
    for (compress, kind) in kinds {
        let store = store_with(&Settings { compress, ..settings(&bucket) }, MAX_MEMORY).await;
        let (name, object) = page("/text/", body.as_bytes());
        store.put(&name, &object).await.unwrap();
        let lies = bucket.read(&key(&name)).await.unwrap();
        assert!(lies.starts_with(format!("everpage/1 {kind} ").as_bytes()));
        assert_eq!(lies.len() < body.len() / 10, compress != Compression::Off);
        assert_same(&object, &found(&store, &name).await);
        assert_eq!(store.under(&name.path).await.unwrap()[0].body_bytes, body.len() as u64);
    }
}

async fn what_is_foreign_torn_newer_or_tampered_with_is_a_miss(bucket: TestBucket) {
    let store = store(&bucket).await;
    let (name, object) = page("/blog/", &b"vanilla and chocolate, ".repeat(100));
    store.put(&name, &object).await.unwrap();
    let whole = bucket.read(&key(&name)).await.unwrap();
    let mut tampered = whole.to_vec();
    *tampered.last_mut().unwrap() ^= 1;
    let (elsewhere, other) = page("/elsewhere/", b"hello");
    store.put(&elsewhere, &other).await.unwrap();
    let misplaced = bucket.read(&key(&elsewhere)).await.unwrap();
    let planted: [(&str, Bytes); 8] = [
        ("foreign", "<html>hello</html>".into()),
        ("empty", Bytes::new()),
        ("cut in its line", whole.slice(..20)),
        ("cut in its head", whole.slice(..200)),
        ("cut in its body", whole.slice(..whole.len() - 1)),
        ("newer", "everpage/9 whatever\n".into()),
        ("tampered", tampered.into()),
        ("misplaced", misplaced),
    ];
    for (what, bytes) in planted {
        bucket.plant(&key(&name), bytes).await;
        assert!(store.get(&name).await.unwrap().is_none(), "{what}");
        let listing = store.list("/", None, 10).await.unwrap();
        let is_listed = listing.pages.iter().any(|listed| listed.name == name);
        assert_eq!(is_listed, what == "tampered", "{what}: a listing reads heads alone");
        store.put(&name, &object).await.unwrap();
        assert_same(&object, &found(&store, &name).await);
    }
}

async fn nothing_but_pages_is_touched_whatever_is_done(bucket: TestBucket) {
    let store = store(&bucket).await;
    let (name, object) = page("/blog/", b"hello");
    let path = name.path;
    let planted = [
        // Outside the location, and beside it.
        name.to_string(),
        format!("default/1/pages/{name}"),
        format!("sites/default/1/pages/{name}"),
        // Beside this version's pages.
        format!("site/default/journal/{name}"),
        format!("site/default/2/pages/{name}"),
        format!("site/default/1/pages-old/{name}"),
        // Among the pages, under no name of a page.
        format!("site/default/1/pages/{path}/README"),
        format!("site/default/1/pages/{path}/get-{}", name.key),
        format!("site/default/1/pages/{path}/GET-{}/x", name.key),
        format!("site/default/1/pages/{path}x/GET-{}", name.key),
        "site/default/1/pages/notes.txt".to_owned(),
    ];
    for key in &planted {
        bucket.plant(key, "everpage/1 page: somebody else's").await;
    }
    // A foreign object in the place of a page is left alone by housekeeping.
    let (foreign, _) = page_as_of("/blog/", "foreign", b"", "j", 1);
    bucket.plant(&key(&foreign), "somebody else's").await;
    store.put(&name, &object).await.unwrap();
    store.put(&page_as_of("/blog/", "v", b"", "j", 5).0, &signpost("/blog/", "j", 5)).await.unwrap();
    store.get(&name).await.unwrap().expect("it was put");
    assert_eq!(store.under(&path).await.unwrap().len(), 1);
    assert_eq!(store.list("", None, 100).await.unwrap().pages.len(), 1);
    assert_eq!(store.remove_older(&path, &JournalId("j".into()), Sequence(9)).await.unwrap(), 2);
    store.put(&name, &object).await.unwrap();
    store.remove(&name).await.unwrap();
    store.check().await.unwrap();
    let mut expected: Vec<String> = planted.into_iter().chain([key(&foreign)]).collect();
    expected.sort();
    assert_eq!(bucket.keys().await, expected);
}

async fn a_head_of_any_size_comes_back(bucket: TestBucket) {
    let store = store_with(&uncompressed(&bucket), MAX_MEMORY).await;
    let frugal = store_with(&uncompressed(&bucket), 8000).await;
    for bytes in [7000, 9000, 70_000, 300_000] {
        let (name, Object::Page(small)) = page("/tags/", &[b'x'; 9000]) else { panic!("a page") };
        let tags = (0..bytes / 10).map(|n| format!("{n:08}").into()).collect();
        let head = PageHead { tags, ..small.head.clone() };
        let object = Object::Page(Arc::new(Page::new(head, small.body.clone(), small.path_id)));
        store.put(&name, &object).await.unwrap();
        assert_same(&object, &found(&store, &name).await);
        assert_eq!(&store.under(&name.path).await.unwrap()[0].head, object.page().unwrap().0);
        assert_eq!(found(&frugal, &name).await.page(), object.page());
    }
}

async fn a_large_body_that_is_replaced_while_it_is_read_is_never_mixed(bucket: TestBucket) {
    let store = store_with(&uncompressed(&bucket), MEBIBYTE).await;
    let (name, old) = put_large(&store, 24 << 20, 0).await;
    let page = large(found(&store, &name).await);
    let mut pieces = page.body.read(0..old.len() as u64).await.unwrap();
    let mut read = next_piece(&mut pieces).await.unwrap().unwrap().to_vec();
    let (_, new) = put_large(&store, 24 << 20, 1).await;
    // What is on its way may come to its end; a new read of the old page may not begin.
    loop {
        match next_piece(&mut pieces).await {
            Some(Ok(piece)) => read.extend_from_slice(&piece),
            Some(Err(_)) => break,
            None => break assert!(read == old),
        }
    }
    assert!(read[..] == old[..read.len()]);
    for range in [0..1, 5..old.len() as u64, 0..old.len() as u64] {
        let error = page.body.read(range).await.err().expect("it is another page now").to_string();
        assert!(error.contains("replaced"), "{error}");
    }
    let page = large(found(&store, &name).await);
    let mut pieces = page.body.read(23 << 20..24 << 20).await.unwrap();
    let mut end = Vec::new();
    while let Some(piece) = next_piece(&mut pieces).await {
        end.extend_from_slice(&piece.unwrap());
    }
    assert!(end[..] == new[23 << 20..]);
    store.remove(&name).await.unwrap();
    assert!(page.body.read(0..1).await.is_err());
}

async fn a_large_body_that_was_tampered_with_never_ends_well(bucket: TestBucket) {
    let store = store_with(&uncompressed(&bucket), MEBIBYTE).await;
    let (name, body) = put_large(&store, 3 << 20, 0).await;
    let mut bytes = bucket.read(&key(&name)).await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bucket.plant(&key(&name), bytes).await;
    let page = large(found(&store, &name).await);
    let mut pieces = page.body.read(0..body.len() as u64).await.unwrap();
    let mut received = 0;
    let error = loop {
        match next_piece(&mut pieces).await.expect("it does not end as if it were whole") {
            Ok(piece) => received += piece.len(),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("checksum"), "{error}");
    assert!(received < body.len(), "whoever counts bytes must see that it is not the whole");
}

async fn what_would_take_too_much_memory_is_not_decompressed(bucket: TestBucket) {
    let (name, object) = page("/zeros/", &vec![b'0'; 4 << 20]);
    store(&bucket).await.put(&name, &object).await.unwrap();
    let frugal = store_with(&settings(&bucket), MEBIBYTE).await;
    assert!(frugal.get(&name).await.unwrap().is_none());
    assert_same(&object, &found(&store(&bucket).await, &name).await);
}

async fn a_listing_reads_on_behind_what_is_not_ours(bucket: TestBucket) {
    let store = store(&bucket).await;
    let (name, object) = page("/blog/", b"hello");
    store.put(&name, &object).await.unwrap();
    // More than one LIST brings; some of it in a folder that no path could have.
    let mut planting = tokio::task::JoinSet::new();
    for part in 0..11 {
        let folder = if part < 6 { "0".repeat(40) } else { "+".to_owned() };
        let bucket = bucket.clone();
        planting.spawn(async move {
            for n in 0..200 {
                bucket.plant(&format!("site/default/1/pages/{folder}/x{part}-{n}"), "x").await;
            }
        });
    }
    planting.join_all().await;
    let (mut after, mut pages) = (None, Vec::new());
    for part in 0.. {
        assert!(part < 5, "it comes to an end");
        let listing = store.list("", after.as_ref(), 10).await.unwrap();
        pages.extend(listing.pages);
        after = listing.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages.len(), 1);
}

async fn the_sweeper_says_how_full_it_is(bucket: TestBucket) {
    let store = store_with(&Settings { max_bytes: Some(1 << 40), ..settings(&bucket) }, MAX_MEMORY).await;
    assert_eq!((store.usage().exact, store.usage().limit_bytes, store.counted_at()), (false, Some(1 << 40), None));
    store.note_usage(3, 5000, UnixMillis(7));
    let usage = store.usage();
    assert_eq!((usage.objects, usage.bytes, usage.exact), (3, 5000, true));
    assert_eq!(store.counted_at(), Some(UnixMillis(7)));
}

async fn without_its_bucket_it_is_an_error_and_the_disk_goes_on(bucket: TestBucket) {
    let (folder, back) = (TempDir::new().unwrap(), Arc::new(store(&bucket).await));
    let tiers = TieredStore::new(disk(&folder), back.clone());
    let (name, object) = page("/blog/", b"hello");
    tiers.put(&name, &object).await.unwrap();
    bucket.destroy().await;
    let error = back.get(&name).await.unwrap_err().to_string();
    assert!(error.starts_with("s3 store: cannot read") && error.contains(&bucket.name), "{error}");
    back.put(&name, &object).await.unwrap_err();
    back.check().await.unwrap_err();
    assert_same(&object, &found(&tiers, &name).await);
    tiers.get(&page("/absent/", b"").0).await.unwrap_err();
}
