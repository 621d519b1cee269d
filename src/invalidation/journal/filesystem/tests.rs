use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU32;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::contract::{self, Place, record};
use super::recovery::Reason;
use super::*;

mod damage;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// A folder, and a name for each journal that begins in it: `journal-1`, `journal-2`, ...
struct Folder {
    dir: TempDir,
    begun: AtomicU32,
}

impl Folder {
    fn new() -> Folder {
        Folder { dir: TempDir::new().unwrap(), begun: AtomicU32::new(0) }
    }

    fn open(&self) -> (FilesystemJournal, Recovered) {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<(FilesystemJournal, Recovered), OpenError> {
        open(self.dir.path(), NOW, || {
            let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
            JournalId(format!("journal-{number}").into())
        })
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn identity(&self) -> PathBuf {
        self.journal().join(files::IDENTITY)
    }

    fn segment(&self, first: u64) -> PathBuf {
        files::segment(&self.journal(), Sequence(first))
    }

    fn snapshot(&self, sequence: u64) -> PathBuf {
        files::snapshot(&self.journal(), Sequence(sequence))
    }

    /// Names of the files, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.journal()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn damage(&self) -> recovery::Damage {
        match recovery::read(&self.journal()).unwrap() {
            Found::Damaged(damage) => damage,
            other => panic!("not damaged: {other:?}"),
        }
    }
}

#[async_trait]
impl Place for Folder {
    async fn open(&self) -> (Arc<dyn Journal>, Recovered) {
        let (journal, recovered) = Folder::open(self);
        (Arc::new(journal), recovered)
    }
}

async fn append(journal: &FilesystemJournal, numbers: std::ops::RangeInclusive<u64>) -> Sequence {
    journal.append(&numbers.map(record).collect::<Vec<_>>()).await.unwrap().last
}

fn numbers(recovered: &Recovered) -> Vec<u64> {
    for (sequence, found) in &recovered.records {
        assert_eq!(*found, record(found.at.0), "{sequence}");
    }
    recovered.records.iter().map(|(_, record)| record.at.0).collect()
}

/// A folder with records 1 to 6: 1 to 3 folded, 4 to 6 not.
async fn folded_at_three() -> Folder {
    let folder = Folder::new();
    let (journal, _) = folder.open();
    append(&journal, 1..=3).await;
    journal.fold(Sequence(3), b"three".to_vec()).await.unwrap();
    append(&journal, 4..=6).await;
    folder
}

#[tokio::test]
async fn it_keeps_the_contract_of_every_journal() {
    contract::every_journal(Folder::new).await;
}

#[tokio::test]
async fn it_keeps_the_contract_of_a_durable_journal() {
    contract::durable_journal(Folder::new).await;
}

#[tokio::test]
async fn a_fold_leaves_one_snapshot_and_one_segment() {
    let folder = folded_at_three().await;
    assert_eq!(folder.names(), ["identity", "lock", "log-00000000000000000004", "snapshot-00000000000000000003"]);
    let (journal, _) = folder.open();
    journal.fold(Sequence(6), b"six".to_vec()).await.unwrap();
    assert_eq!(folder.names(), ["identity", "lock", "log-00000000000000000007", "snapshot-00000000000000000006"]);
}

#[tokio::test]
async fn a_folder_has_one_user_at_a_time() {
    let folder = Folder::new();
    let (journal, _) = folder.open();
    assert!(matches!(folder.try_open(), Err(OpenError::InUse { .. })));
    drop(journal);
    folder.open();
}

#[tokio::test]
async fn a_line_that_was_cut_off_is_dropped_and_its_number_used_again() {
    let folder = Folder::new();
    let (journal, _) = folder.open();
    append(&journal, 1..=2).await;
    drop(journal);
    let mut file = OpenOptions::new().append(true).open(folder.segment(1)).unwrap();
    file.write_all(b"0badcafe 3 {\"at\":").unwrap();
    let (journal, recovered) = folder.open();
    assert_eq!(numbers(&recovered), [1, 2]);
    assert_eq!(append(&journal, 3..=3).await, Sequence(3));
    drop(journal);
    let (journal, recovered) = folder.open();
    assert_eq!(numbers(&recovered), [1, 2, 3]);
    assert_eq!(&*journal.id().0, "journal-1");
}

#[test]
fn a_journal_that_was_cut_off_opens_the_same_again_and_again() {
    let (identity, segment, _) = sample();
    let folder = folder_with(&identity, &[(1, segment[..segment.len() - 1].to_vec())]);
    for _ in 0..3 {
        let (journal, recovered) = folder.open();
        assert_eq!(&*journal.id().0, "sample");
        assert_eq!(numbers(&recovered), [1, 2, 3, 4, 5]);
    }
}

#[tokio::test]
async fn a_crash_anywhere_in_a_fold_leaves_a_readable_journal() {
    let expected_snapshot = Some((Sequence(3), b"three".to_vec()));
    let full = Folder::new();
    let (journal, _) = full.open();
    append(&journal, 1..=2).await;
    journal.fold(Sequence(2), b"two".to_vec()).await.unwrap();
    append(&journal, 3..=3).await;
    let before: Vec<_> =
        [full.segment(3), full.snapshot(2)].map(|path| (path.clone(), fs::read(path).unwrap())).into_iter().collect();
    journal.fold(Sequence(3), b"three".to_vec()).await.unwrap();
    drop(journal);
    let snapshot = fs::read(full.snapshot(3)).unwrap();
    let restore = || {
        before.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let _ = fs::remove_file(full.snapshot(3));
    };

    // The new segment has been made, and then half of the snapshot.
    for half in [None, Some(&snapshot[..snapshot.len() / 2])] {
        restore();
        if let Some(half) = half {
            fs::write(full.snapshot(3).with_extension("new"), half).unwrap();
        }
        let (_, recovered) = full.open();
        assert_eq!(recovered.snapshot, Some((Sequence(2), b"two".to_vec())));
        assert_eq!(numbers(&recovered), [3]);
        assert!(!full.names().iter().any(|name| name.ends_with(".new")), "{:?}", full.names());
    }
    // The snapshot is in place; of the old files all, some or none have been removed.
    for gone in [&[][..], &[full.segment(3)], &[full.snapshot(2)], &[full.segment(3), full.snapshot(2)]] {
        restore();
        fs::write(full.snapshot(3), &snapshot).unwrap();
        gone.iter().for_each(|path| fs::remove_file(path).unwrap());
        let (journal, recovered) = full.open();
        assert_eq!(recovered, Recovered { snapshot: expected_snapshot.clone(), ..Recovered::default() });
        assert_eq!(full.names(), ["identity", "lock", "log-00000000000000000004", "snapshot-00000000000000000003"]);
        assert_eq!(&*journal.id().0, "journal-1");
        assert_eq!(journal.append(&[]).await.unwrap().last, Sequence(3));
    }
}

#[tokio::test]
async fn a_journal_whose_beginning_was_cut_off_begins_again() {
    let folder = Folder::new();
    drop(folder.open());
    remove(folder.identity());
    fs::write(folder.journal().join("identity.new"), b"{\"form").unwrap();
    let (journal, _) = folder.open();
    assert_eq!(&*journal.id().0, "journal-2");
    assert_eq!(folder.names(), ["identity", "lock", "log-00000000000000000001"], "nothing was damaged");
}

/// Puts a file in the place of the segment that refuses what the test wants refused.
async fn swap_file(journal: &FilesystemJournal, file: File) {
    journal.writer.lock().await.file = file;
}

#[tokio::test]
async fn after_a_failed_write_nothing_of_the_batch_remains_and_the_next_one_is_kept() {
    let folder = Folder::new();
    let (journal, _) = folder.open();
    append(&journal, 1..=2).await;
    swap_file(&journal, File::open(folder.segment(1)).unwrap()).await;
    let error = journal.append(&[record(10), record(11)]).await.unwrap_err();
    assert!(error.to_string().contains("cannot append 2 records"), "{error}");
    assert_eq!(append(&journal, 3..=4).await, Sequence(4), "no number was taken");
    drop(journal);
    let (journal, recovered) = folder.open();
    assert_eq!(numbers(&recovered), [1, 2, 3, 4]);
    assert_eq!(&*journal.id().0, "journal-1");
}

#[tokio::test]
async fn after_a_failed_fsync_the_segment_is_not_written_again() {
    let folder = Folder::new();
    let (journal, _) = folder.open();
    append(&journal, 1..=2).await;
    // A pipe takes the bytes and refuses the fsync.
    let (mut reader, pipe) = std::io::pipe().unwrap();
    swap_file(&journal, File::from(OwnedFd::from(pipe))).await;
    journal.append(&[record(10)]).await.unwrap_err();
    let mut written = Vec::new();
    reader.read_to_end(&mut written).unwrap();
    assert!(written.ends_with(b"\n"), "the write itself went well");
    // What the kernel may still bring to the disk, although it said no.
    let mut old = OpenOptions::new().append(true).open(folder.segment(1)).unwrap();
    old.write_all(&written).unwrap();
    assert_eq!(append(&journal, 3..=3).await, Sequence(3));
    drop(journal);
    let (_, recovered) = folder.open();
    assert_eq!(numbers(&recovered), [1, 2, 3], "record 3 is the acknowledged one");
}

#[tokio::test]
async fn a_failure_in_an_empty_segment_puts_another_in_its_place() {
    let folder = Folder::new();
    let (journal, _) = folder.open();
    for _ in 0..3 {
        swap_file(&journal, File::open(folder.segment(1)).unwrap()).await;
        journal.append(&[record(10)]).await.unwrap_err();
    }
    append(&journal, 1..=1).await;
    assert_eq!(folder.names(), ["identity", "lock", "log-00000000000000000001"]);
    drop(journal);
    assert_eq!(numbers(&folder.open().1), [1]);
}

#[tokio::test]
async fn nothing_is_acknowledged_until_the_journal_is_mended() {
    let folder = Folder::new();
    let (journal, _) = folder.open();
    append(&journal, 1..=2).await;
    // A folder where the new segment would be prepared.
    let obstacle = folder.journal().join("log-00000000000000000003.new");
    fs::create_dir(&obstacle).unwrap();
    swap_file(&journal, File::open(folder.segment(1)).unwrap()).await;
    journal.append(&[record(10)]).await.unwrap_err();
    swap_file(&journal, OpenOptions::new().append(true).open(folder.segment(1)).unwrap()).await;
    for _ in 0..2 {
        journal.append(&[record(11)]).await.unwrap_err();
        journal.fold(Sequence(2), b"two".to_vec()).await.unwrap_err();
    }
    fs::remove_dir(obstacle).unwrap();
    assert_eq!(append(&journal, 3..=3).await, Sequence(3));
    journal.fold(Sequence(2), b"two".to_vec()).await.unwrap();
    drop(journal);
    let (_, recovered) = folder.open();
    assert_eq!(recovered.snapshot, Some((Sequence(2), b"two".to_vec())));
    assert_eq!(numbers(&recovered), [3]);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_half_batch_and_no_second_writer() {
    let folder = Folder::new();
    let (journal, _) = folder.open();
    tokio::select! {
        biased;
        _ = async { journal.append(&[record(1), record(2)]).await } => unreachable!("a write takes longer than one poll"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(append(&journal, 3..=3).await, Sequence(3));
    drop(journal);
    assert_eq!(numbers(&folder.open().1), [1, 2, 3]);
}

#[tokio::test]
async fn a_record_that_is_too_long_is_refused_and_the_journal_goes_on() {
    let folder = Folder::new();
    let (journal, _) = folder.open();
    let long = Record { reason: Some("x".repeat(line::MAX_LINE_BYTES).into()), ..Record::default() };
    journal.append(&[record(1), Arc::new(long)]).await.unwrap_err();
    assert_eq!(append(&journal, 1..=1).await, Sequence(1));
}

fn change(path: PathBuf, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(&path).unwrap();
    how(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn remove(path: PathBuf) {
    fs::remove_file(path).unwrap();
}

fn rename(from: PathBuf, to: PathBuf) {
    fs::rename(from, to).unwrap();
}

/// Makes an identity that a test wrote the one that began here: as it is, it would count as a copy, and nothing else in the folder
/// would be looked at. Leaves alone what is no identity.
fn make_at_home(folder: &Folder) {
    let Ok(mut identity) = serde_json::from_slice::<Identity>(&fs::read(folder.identity()).unwrap()) else { return };
    // Written in place, the file keeps its mark.
    identity.file = Birthmark::of(&File::open(folder.identity()).unwrap()).unwrap();
    fs::write(folder.identity(), serde_json::to_vec(&identity).unwrap()).unwrap();
}

/// A folder with these bytes in it, as somebody else left them.
fn folder_with(identity: &[u8], segments: &[(u64, Vec<u8>)]) -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.journal()).unwrap();
    fs::write(folder.identity(), identity).unwrap();
    make_at_home(&folder);
    for (first, bytes) in segments {
        fs::write(folder.segment(*first), bytes).unwrap();
    }
    folder
}

/// The bytes of `identity`, and of a segment with records 1 to 6, with the length after each.
fn sample() -> (Vec<u8>, Vec<u8>, Vec<usize>) {
    let file = Birthmark::of(&tempfile::tempfile().unwrap()).unwrap();
    let identity = Identity { format: FORMAT, id: JournalId("sample".into()), created: NOW, file };
    let (mut segment, mut ends) = (Vec::new(), Vec::new());
    for number in 1..=6 {
        line::encode(&mut segment, Sequence(number), &serde_json::to_vec(&*record(number)).unwrap());
        segment.push(b'\n');
        ends.push(segment.len());
    }
    (serde_json::to_vec(&identity).unwrap(), segment, ends)
}

/// Of any bytes, and of a journal that is sound.
fn segment_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..80), Just(sample().1)]
}

proptest! {
    #[test]
    fn a_kill_at_any_byte_leaves_the_whole_lines_before_it(cut: prop::sample::Index) {
        let (identity, segment, ends) = sample();
        let cut = cut.index(segment.len() + 1);
        let folder = folder_with(&identity, &[(1, segment[..cut].to_vec())]);
        let Found::Journal(found) = recovery::read(&folder.journal()).unwrap() else { panic!("{cut}") };
        let whole = ends.iter().filter(|end| **end <= cut).count();
        prop_assert_eq!(&*found.id.0, "sample");
        prop_assert_eq!(numbers(&found.recovered), (1..=whole as u64).collect::<Vec<_>>());
        prop_assert_eq!(found.torn_bytes as usize, cut - whole.checked_sub(1).map_or(0, |last| ends[last]));
    }

    #[test]
    fn a_changed_byte_never_hides_an_invalidation(at: prop::sample::Index, with: u8) {
        let (identity, mut segment, _) = sample();
        let at = at.index(segment.len());
        let changed = segment[at] != with;
        segment[at] = with;
        let last_byte = at + 1 == segment.len();
        let folder = folder_with(&identity, &[(1, segment)]);
        match recovery::read(&folder.journal()).unwrap() {
            Found::Journal(found) if changed => {
                prop_assert!(last_byte, "a line without its end is one that was cut off");
                prop_assert_eq!(numbers(&found.recovered), [1, 2, 3, 4, 5]);
            }
            Found::Journal(found) => prop_assert_eq!(numbers(&found.recovered), [1, 2, 3, 4, 5, 6]),
            Found::Damaged(_) => prop_assert!(changed),
            Found::Nothing => prop_assert!(false),
        }
    }
}

proptest! {
    // Each case opens a journal twice, and each opening waits for the disk.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn arbitrary_files_never_panic_and_leave_a_journal_that_works(
        identity in prop_oneof![prop::collection::vec(any::<u8>(), 0..40), Just(sample().0)],
        segments in prop::collection::vec((0..4_u64, segment_bytes()), 0..3),
        snapshot in prop::option::of((1..4_u64, prop::collection::vec(any::<u8>(), 0..40))),
    ) {
        let folder = folder_with(&identity, &segments);
        if let Some((sequence, bytes)) = snapshot {
            fs::write(folder.snapshot(sequence), bytes).unwrap();
        }
        let (journal, recovered) = folder.open();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let next = runtime.block_on(journal.append(&[record(9)])).unwrap().last;
        prop_assert_eq!(next, Sequence(recovered.last().0 + 1));
        drop((journal, runtime));
        prop_assert_eq!(folder.open().1.last(), next);
    }
}
