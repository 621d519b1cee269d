use std::os::unix::fs::symlink;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::clock::UnixMillis;
use crate::page::Key;
use crate::page::large::read_whole;
use crate::store::contract::{assert_same, name, page};

const MEBIBYTE: u64 = 1 << 20;

async fn fresh() -> (Arc<dyn Store>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(open(&folder, 64 * MEBIBYTE)), folder)
}

crate::store_contract!(fresh);

fn limits(max_bytes: u64) -> Limits {
    Limits { max_bytes, max_memory_bytes: 8 * MEBIBYTE }
}

fn open(folder: &TempDir, max_bytes: u64) -> FilesystemStore {
    FilesystemStore::open(folder.path(), "", 1, limits(max_bytes), Clock::Wall).unwrap()
}

/// Opened, with the count finished: it would remove empty folders while a test makes them.
fn open_counted(folder: &TempDir, max_bytes: u64) -> FilesystemStore {
    let mut store = open(folder, max_bytes);
    store.scan.take().unwrap().join().unwrap();
    assert!(store.usage().exact);
    store
}

fn root(folder: &TempDir) -> PathBuf {
    folder.path().join("default/1")
}

fn file_of(folder: &TempDir, name: &ObjectName) -> PathBuf {
    root(folder).join("pages").join(name.to_string())
}

/// Writes something in the place of an object.
fn plant(folder: &TempDir, name: &ObjectName, content: &[u8]) -> PathBuf {
    let path = file_of(folder, name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

fn temporaries(folder: &TempDir) -> usize {
    fs::read_dir(root(folder).join("tmp")).unwrap().count()
}

#[tokio::test]
async fn a_page_lies_where_the_documentation_says() {
    let folder = tempfile::tempdir().unwrap();
    let store = FilesystemStore::open(folder.path(), "staging", 7, limits(MEBIBYTE), Clock::Wall).unwrap();
    let (name, object) = page("/blog/", b"hello");
    store.put(&name, &object).await.unwrap();
    let file = folder.path().join(format!("staging/7/pages/{}/GET-{}", name.path, name.key));
    let text = String::from_utf8(fs::read(file).unwrap()).unwrap();
    assert!(text.starts_with("everpage/1 page ") && text.ends_with("\nhello"), "{text}");
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_counted(&folder, MEBIBYTE);
    let error = FilesystemStore::open(folder.path(), "other", 2, limits(MEBIBYTE), Clock::Wall).unwrap_err();
    let expected = format!("{} is in use by process {}", folder.path().display(), std::process::id());
    assert!(error.to_string().contains(&expected), "{error}");
    drop(store);
    open(&folder, MEBIBYTE);
}

#[tokio::test]
async fn pages_survive_a_restart_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let pages: Vec<_> = (0..30).map(|n| page(&format!("/{n}/"), b"hello")).collect();
    let store = open_counted(&folder, MEBIBYTE);
    for (name, object) in &pages {
        store.put(name, object).await.unwrap();
    }
    let before = Usage { exact: true, ..store.usage() };
    drop(store);
    let store = open_counted(&folder, MEBIBYTE);
    assert_eq!(store.usage(), before);
    for (name, object) in &pages {
        assert_same(object, &store.get(name).await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn flavors_and_versions_do_not_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (name, object) = page("/blog/", b"hello");
    let places = [("", 1), ("", 2), ("staging", 1)];
    for (flavor, version) in places {
        let store = FilesystemStore::open(folder.path(), flavor, version, limits(MEBIBYTE), Clock::Wall).unwrap();
        assert!(store.get(&name).await.unwrap().is_none());
        store.put(&name, &object).await.unwrap();
    }
    for (flavor, version) in places {
        let store = FilesystemStore::open(folder.path(), flavor, version, limits(MEBIBYTE), Clock::Wall).unwrap();
        assert!(store.get(&name).await.unwrap().is_some());
    }
}

#[test]
fn a_flavor_cannot_lead_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    for flavor in ["..", ".", "a/b", "/etc", "lock", "a\\b", "a b", "é"] {
        let error = FilesystemStore::open(folder.path(), flavor, 1, limits(MEBIBYTE), Clock::Wall).unwrap_err();
        assert!(matches!(error, OpenError::Flavor(_)), "{flavor}: {error}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "").unwrap();
    let error = FilesystemStore::open(&path.join("below"), "", 1, limits(MEBIBYTE), Clock::Wall).unwrap_err();
    assert!(error.to_string().contains("file/below"), "{error}");
}

#[tokio::test]
async fn what_a_killed_process_left_half_written_is_removed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder, MEBIBYTE));
    let temporary = root(&folder).join("tmp");
    for name in ["put-0", "put-17", "notes.txt", "put-me"] {
        fs::write(temporary.join(name), "half").unwrap();
    }
    let store = open_counted(&folder, MEBIBYTE);
    let mut left: Vec<_> = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["notes.txt", "put-me"]);
    let (name, object) = page("/blog/", b"hello");
    store.put(&name, &object).await.unwrap();
    assert_eq!(temporaries(&folder), 2);
}

#[tokio::test]
async fn a_torn_page_is_a_miss_until_it_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (name, object) = page("/blog/", b"hello");
    let store = open_counted(&folder, MEBIBYTE);
    store.put(&name, &object).await.unwrap();
    let whole = fs::read(file_of(&folder, &name)).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for torn in [&whole[..whole.len() - 1], &whole[..50], &whole[..3], b"", &[0; 4096], &flipped] {
        plant(&folder, &name, torn);
        assert!(store.get(&name).await.unwrap().is_none());
        store.put(&name, &object).await.unwrap();
        assert_same(&object, &store.get(&name).await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn what_everpage_did_not_write_is_a_miss_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_counted(&folder, MEBIBYTE);
    let (foreign, newer) = (name(http::Method::GET, "/blog/", "1"), name(http::Method::GET, "/blog/", "2"));
    let files = [plant(&folder, &foreign, b"<html>"), plant(&folder, &newer, b"everpage/2 of a later version\n")];
    let stranger = files[0].with_file_name("README");
    fs::write(&stranger, "mine").unwrap();
    for name in [&foreign, &newer] {
        assert!(store.get(name).await.unwrap().is_none());
    }
    assert_eq!(store.list("", None, 10).await.unwrap().pages.len(), 0);
    let journal = JournalId("j".into());
    assert_eq!(store.remove_older(&foreign.path, &journal, Sequence(9)).await.unwrap(), 0);
    assert!(files.iter().chain([&stranger]).all(|file| file.exists()));
    assert_eq!(store.usage().objects, 0);
}

#[tokio::test]
async fn eviction_leaves_foreign_files_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder, MEBIBYTE));
    let foreign: Vec<_> = (0..20)
        .map(|n| plant(&folder, &name(http::Method::GET, &format!("/foreign/{n}/"), ""), &[b'x'; 100_000]))
        .collect();
    let store = open_counted(&folder, MEBIBYTE);
    assert!(store.usage().bytes <= MEBIBYTE);
    assert!(foreign.iter().all(|file| file.exists()));
}

#[tokio::test]
async fn what_is_no_file_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_counted(&folder, MEBIBYTE);
    let (name, object) = page("/blog/", b"hello");
    let path = file_of(&folder, &name);
    // A folder in the place of the file; then a link; then a file in the place of the folder.
    fs::create_dir_all(&path).unwrap();
    assert!(store.get(&name).await.unwrap().is_none());
    let error = store.put(&name, &object).await.unwrap_err().to_string();
    assert!(error.contains("/blog/"), "{error}");
    assert_eq!(temporaries(&folder), 0);
    fs::remove_dir(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    assert!(store.get(&name).await.unwrap().is_none());
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path.parent().unwrap(), "").unwrap();
    assert!(store.get(&name).await.unwrap().is_none());
    let (kept, object) = page("/kept/", b"hello");
    store.put(&kept, &object).await.unwrap();
    let folder = file_of(&folder, &kept).parent().unwrap().to_owned();
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    let place = Place { path: kept.path, host: None };
    assert_eq!(store.pages_each(std::slice::from_ref(&place)).await, None, "nobody knows");
}

#[tokio::test]
async fn a_page_in_the_folder_of_another_path_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_counted(&folder, MEBIBYTE);
    let (name, object) = page("/blog/", b"hello");
    store.put(&name, &object).await.unwrap();
    let elsewhere = ObjectName { path: PathId([1; 20]), ..name.clone() };
    plant(&folder, &elsewhere, &fs::read(file_of(&folder, &name)).unwrap());
    let renamed = ObjectName { key: Key([1; 20]), ..name.clone() };
    plant(&folder, &renamed, &fs::read(file_of(&folder, &name)).unwrap());
    for wrong in [elsewhere, renamed] {
        assert!(store.get(&wrong).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_write_that_fails_loses_nothing_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_counted(&folder, MEBIBYTE);
    let (name, object) = page("/blog/", b"hello");
    store.put(&name, &object).await.unwrap();
    let temporary = root(&folder).join("tmp");
    fs::remove_dir(&temporary).unwrap();
    fs::write(&temporary, "in the way").unwrap();
    let (_, other) = page("/blog/", b"a newer one");
    let error = store.put(&name, &other).await.unwrap_err().to_string();
    assert!(error.starts_with("filesystem store: cannot write the page of /blog/ as "), "{error}");
    store.check().await.unwrap_err();
    assert_same(&object, &store.get(&name).await.unwrap().unwrap());
}

#[tokio::test]
async fn a_folder_that_was_emptied_by_hand_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_counted(&folder, MEBIBYTE);
    fs::remove_dir_all(folder.path().join("default")).unwrap();
    let (name, object) = page("/blog/", b"hello");
    assert!(store.get(&name).await.unwrap().is_none());
    assert_eq!(store.list("", None, 10).await.unwrap().pages.len(), 0);
    store.put(&name, &object).await.unwrap();
    assert!(store.get(&name).await.unwrap().is_some());
}

#[tokio::test]
async fn the_bound_holds_and_what_is_read_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_counted(&folder, MEBIBYTE);
    let (wanted, object) = page("/wanted/", b"hello");
    store.put(&wanted, &object).await.unwrap();
    for n in 0..300 {
        let (name, object) = page(&format!("/{n}/"), &[b'x'; 10_000]);
        store.put(&name, &object).await.unwrap();
        assert!(store.usage().bytes <= MEBIBYTE);
        store.get(&wanted).await.unwrap().expect("used all the time");
    }
    let usage = store.usage();
    assert!(usage.bytes > MEBIBYTE * 9 / 10, "{usage:?}");
    let folders = fs::read_dir(root(&folder).join("pages")).unwrap().count();
    assert_eq!(folders as u64, usage.objects, "no empty folders are left");
    drop(store);
    assert_eq!(open_counted(&folder, MEBIBYTE).usage(), usage);
}

#[tokio::test]
async fn a_smaller_bound_takes_effect_at_the_next_start_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, 64 * MEBIBYTE);
    let pages: Vec<_> = (0..100).map(|n| page(&format!("/{n}/"), &[b'x'; 100_000])).collect();
    for (n, (name, object)) in (1_u64..).zip(&pages) {
        store.put(name, object).await.unwrap();
        let used = UnixMillis(n * 1_000_000).to_system_time();
        fs::File::open(file_of(&folder, name)).unwrap().set_modified(used).unwrap();
    }
    drop(store);
    let store = open_counted(&folder, 5 * MEBIBYTE);
    assert!(store.usage().bytes <= 5 * MEBIBYTE);
    let (mut old, mut new) = (0, 0);
    for (n, (name, _)) in pages.iter().enumerate() {
        let count = store.under(&name.path).await.unwrap().len();
        if n < 50 { old += count } else { new += count }
    }
    assert!(new >= 38 && old + new > 45, "{old} of the older half, {new} of the younger");
}

#[tokio::test]
async fn a_page_larger_than_the_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_counted(&folder, MEBIBYTE);
    let (name, object) = page("/large/", &vec![0; 2 * MEBIBYTE as usize]);
    let error = store.put(&name, &object).await.unwrap_err();
    assert!(error.to_string().contains("the whole store may take 1048576"), "{error}");
    assert_eq!((store.usage().objects, temporaries(&folder)), (0, 0));
}

#[tokio::test]
async fn a_listing_looks_at_a_bounded_number_of_objects() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, 64 * MEBIBYTE);
    for n in 0..=folder::MAX_LOOKED_AT {
        let (name, object) = page(&format!("/{n}/"), b"");
        store.put(&name, &object).await.unwrap();
    }
    let first = store.list("/nothing/", None, 10).await.unwrap();
    assert_eq!((first.pages.len(), first.next.is_some()), (0, true));
    let second = store.list("/nothing/", first.next.as_ref(), 10).await.unwrap();
    assert_eq!((second.pages.len(), second.next), (0, None));
}

/// A page whose body is not read into memory, and that body.
async fn stored_large(store: &FilesystemStore) -> (ObjectName, Vec<u8>, Object) {
    let bytes: Vec<u8> = (0..9 * MEBIBYTE).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (name, object) = page("/large/", &bytes);
    store.put(&name, &object).await.unwrap();
    (name.clone(), bytes, store.get(&name).await.unwrap().unwrap())
}

#[tokio::test]
async fn a_large_body_can_be_read_on_when_its_file_is_replaced_removed_and_the_store_closed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_counted(&folder, 64 * MEBIBYTE);
    let (name, bytes, object) = stored_large(&store).await;
    let Object::Large(large) = object else { panic!("larger than memory may hold") };
    store.put(&name, &page("/large/", b"small").1).await.unwrap();
    assert!(read_whole(&*large.body).await.unwrap() == bytes);
    store.remove(&name).await.unwrap();
    assert!(read_whole(&*large.body).await.unwrap() == bytes);
    drop(store);
    open(&folder, MEBIBYTE);
    assert!(read_whole(&*large.body).await.unwrap() == bytes);
}

#[tokio::test]
async fn a_damaged_large_body_goes_and_what_has_taken_its_place_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_counted(&folder, 64 * MEBIBYTE);
    for is_replaced in [false, true] {
        let (name, _, object) = stored_large(&store).await;
        let file = fs::File::options().write(true).open(file_of(&folder, &name)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 5 * MEBIBYTE).unwrap();
        if is_replaced {
            store.put(&name, &page("/large/", b"small").1).await.unwrap();
        }
        let Object::Large(large) = object else { panic!("larger than memory may hold") };
        read_whole(&*large.body).await.unwrap_err();
        assert_eq!(store.get(&name).await.unwrap().is_some(), is_replaced);
        assert_eq!(store.usage().objects, u64::from(is_replaced));
    }
}

#[tokio::test]
async fn a_large_page_that_was_not_written_to_its_end_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_counted(&folder, 64 * MEBIBYTE);
    let (name, _, object) = stored_large(&store).await;
    let Object::Large(large) = object else { panic!("larger than memory may hold") };
    fs::File::options().write(true).open(file_of(&folder, &name)).unwrap().set_len(6 * MEBIBYTE).unwrap();
    store.put(&name, &Object::Large(large)).await.unwrap_err();
    assert_eq!(temporaries(&folder), 0);
    assert!(store.get(&name).await.unwrap().is_none(), "torn");
}
