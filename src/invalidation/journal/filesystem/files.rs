//! Which files make up a journal, and how are they written so that a crash leaves the old state or the new one?

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::page::Sequence;

/// Which journal it is, and in which format.
pub(super) const IDENTITY: &str = "identity";
/// Held while the journal is open.
pub(super) const LOCK: &str = "lock";
/// More than there will ever be; whoever counts on from here does not overflow.
const MAX_SEQUENCE: u64 = u64::MAX / 2;
/// How a file is called until it is complete.
const ASIDE: &str = ".new";

/// Our files in a folder, in the order of their numbers. Others are none of our business.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) identity: bool,
    /// By the number of their first record.
    pub(super) segments: Vec<Sequence>,
    /// By the number they stand for.
    pub(super) snapshots: Vec<Sequence>,
    /// Names of files that were never completed.
    pub(super) incomplete: Vec<PathBuf>,
}

/// Looks at the names, at nothing else.
pub(super) fn list(folder: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Some(complete) = name.strip_suffix(ASIDE) {
            if complete == IDENTITY || number(complete, "log-").is_some() || number(complete, "snapshot-").is_some() {
                listing.incomplete.push(entry.path());
            }
        } else if let Some(first) = number(&name, "log-") {
            listing.segments.push(first);
        } else if let Some(sequence) = number(&name, "snapshot-") {
            listing.snapshots.push(sequence);
        } else if name == IDENTITY {
            listing.identity = true;
        }
    }
    listing.segments.sort_unstable();
    listing.snapshots.sort_unstable();
    Ok(listing)
}

/// `log-<first sequence>`: records from there on.
pub(super) fn segment(folder: &Path, first: Sequence) -> PathBuf {
    folder.join(format!("log-{:020}", first.0))
}

/// `snapshot-<sequence>`: stands for everything up to there.
pub(super) fn snapshot(folder: &Path, sequence: Sequence) -> PathBuf {
    folder.join(format!("snapshot-{:020}", sequence.0))
}

fn number(name: &str, prefix: &str) -> Option<Sequence> {
    let digits = name.strip_prefix(prefix).filter(|digits| digits.len() == 20)?;
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    (1..=MAX_SEQUENCE).contains(&number).then_some(Sequence(number))
}

/// Puts a whole file in place of what lies there, if anything: durable when it returns. After an error either may be there.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(bytes))
}

/// As [`replace`], for content that depends on the file which it is written to: the same file ends in place.
pub(super) fn replace_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(ASIDE);
    let mut file = File::create(&aside)?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    sync_folder(path.parent().expect("our files lie in a folder"))
}

/// Makes creations, renames and removals in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
