//! What cannot be trusted any more, and what comes in its place.

use super::*;

#[tokio::test]
async fn damage_is_named_and_begins_another_journal() {
    type Harm = fn(&Folder);
    let swapped = Reason::WrongNumber { expected: Sequence(5), found: Sequence(6) };
    let early = Reason::WrongNumber { expected: Sequence(3), found: Sequence(4) };
    let cases: [(Harm, &str, Option<u64>, Reason); 14] = [
        (|f| change(f.segment(4), |b| b[30] ^= 1), "log-", Some(1), Reason::BadLine),
        (|f| change(f.segment(4), |b| b.push(b'\n')), "log-", Some(4), Reason::BadLine),
        (|f| change(f.segment(4), |b| drop(b.drain(line_two(b)))), "log-", Some(2), swapped),
        (|f| remove(f.segment(4)), "log-", None, Reason::MissingSegment(Sequence(4))),
        (|f| remove(f.snapshot(3)), "log-", None, Reason::MissingSegment(Sequence(1))),
        (|f| rename(f.segment(4), f.segment(5)), "log-", None, Reason::MissingSegment(Sequence(4))),
        (|f| rename(f.segment(4), f.segment(3)), "log-", Some(1), early),
        (|f| change(f.snapshot(3), |b| b[12] ^= 1), "snapshot-", None, Reason::BadSnapshot),
        (|f| rename(f.snapshot(3), f.snapshot(4)), "snapshot-", None, Reason::BadSnapshot),
        (|f| change(f.identity(), |b| b.truncate(9)), "identity", None, Reason::BadIdentity),
        (|f| fs::write(f.identity(), r#"{"format":2,"name":"x"}"#).unwrap(), "identity", None, Reason::NewerFormat(2)),
        (|f| remove(f.identity()), "identity", None, Reason::NoIdentity),
        (replace_by_copy, "identity", None, Reason::Copied),
        (unpack_over, "identity", None, Reason::Copied),
    ];
    for (harm, file, line, reason) in cases {
        let folder = folded_at_three().await;
        harm(&folder);
        let damage = folder.damage();
        assert_eq!((damage.line, &damage.reason), (line, &reason), "{damage}");
        assert!(damage.to_string().contains(file), "{damage}");
        let (journal, recovered) = folder.open();
        assert_eq!(&*journal.id().0, "journal-2", "{damage}");
        assert_eq!(recovered, Recovered::default(), "{damage}");
        assert_eq!(folder.names(), ["damaged-1", "identity", "lock", "log-00000000000000000001"], "{damage}");
        append(&journal, 1..=1).await;
        drop(journal);
        let (journal, recovered) = folder.open();
        assert_eq!(&*journal.id().0, "journal-2", "{damage}");
        assert_eq!(numbers(&recovered), [1]);
    }
}

/// A copy takes the folder's place. It was made while the original existed, so its files have other inodes.
fn replace_by_copy(folder: &Folder) {
    let (journal, copy) = (folder.journal(), folder.dir.path().join("copy"));
    copy_folder(&journal, &copy);
    fs::remove_dir_all(&journal).unwrap();
    rename(copy, journal);
}

/// Each file is removed and written anew, as tar does: many a file system gives the new file the inode of the removed one.
fn unpack_over(folder: &Folder) {
    for name in folder.names() {
        let path = folder.journal().join(name);
        let bytes = fs::read(&path).unwrap();
        remove(path.clone());
        fs::write(path, bytes).unwrap();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn line_two(bytes: &[u8]) -> std::ops::Range<usize> {
    let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    ends.next().unwrap()..ends.next().unwrap()
}

#[tokio::test]
async fn a_copied_folder_is_not_trusted_and_the_copied_one_still_is() {
    let folder = folded_at_three().await;
    let copy = Folder::new();
    copy_folder(&folder.journal(), &copy.journal());
    assert_eq!(copy.damage().reason, Reason::Copied);
    copy.begun.store(7, Ordering::Relaxed);
    let (journal, recovered) = copy.open();
    assert_eq!((&*journal.id().0, recovered), ("journal-8", Recovered::default()));
    let (journal, recovered) = folder.open();
    assert_eq!((&*journal.id().0, numbers(&recovered)), ("journal-1", vec![4, 5, 6]));
}

#[tokio::test]
async fn a_folder_that_is_renamed_or_moved_keeps_its_identity() {
    let folder = folded_at_three().await;
    let (renamed, moved) = (folder.dir.path().join("elsewhere"), Folder::new());
    rename(folder.journal(), renamed.clone());
    rename(renamed, moved.journal());
    let (journal, recovered) = moved.open();
    assert_eq!((&*journal.id().0, numbers(&recovered)), ("journal-1", vec![4, 5, 6]));
}

#[tokio::test]
async fn records_below_the_snapshot_that_are_missing_at_the_end_are_damage() {
    let folder = Folder::new();
    let (journal, _) = folder.open();
    append(&journal, 1..=4).await;
    journal.fold(Sequence(2), b"two".to_vec()).await.unwrap();
    drop(journal);
    remove(folder.segment(5));
    change(folder.segment(1), |bytes| bytes.truncate(20));
    assert_eq!(folder.damage().reason, Reason::EndsEarly(Sequence(1)));
}

#[tokio::test]
async fn a_record_of_a_later_version_is_not_half_understood() {
    let folder = Folder::new();
    drop(folder.open());
    let mut line = Vec::new();
    line::encode(&mut line, Sequence(1), br#"{"at":1,"paths":[{"path":"/a"}],"regexes":["/b.*"]}"#);
    line.push(b'\n');
    fs::write(folder.segment(1), line).unwrap();
    assert!(matches!(folder.damage().reason, Reason::BadRecord(why) if why.contains("regexes")));
}

#[tokio::test]
async fn damaged_journals_are_kept_in_a_bounded_number() {
    let folder = Folder::new();
    for _ in 0..MAX_DAMAGED + 3 {
        drop(folder.open());
        change(folder.identity(), Vec::clear);
    }
    let damaged = folder.names().iter().filter(|name| name.starts_with("damaged-")).count();
    assert_eq!(damaged, MAX_DAMAGED as usize);
}
