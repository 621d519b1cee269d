//! One object, one file: reading it, whole or as far as memory allows, and writing it.
//!
//! A page is written beside its place and renamed into it, so nobody ever opens half a page. It is not synced: after a
//! power loss a file may be cut or zeroed, which its checksums show, and a lost page is a miss.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::page::stored::{self, DecodeError, FirstLine, Head, MAX_FIRST_LINE_BYTES};
use crate::page::{Object, ObjectName, PageHead, block};
use crate::store::file_body::{FileBody, OpenFile};

/// Why a file gives no object.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// There is none.
    #[error("there is no such file")]
    Absent,
    /// A folder, a link, a device: nothing that everpage put there.
    #[error("not a regular file")]
    NotAFile,
    /// This process may not read it.
    #[error("{0}")]
    Forbidden(io::Error),
    /// It holds something else.
    #[error(transparent)]
    Content(#[from] DecodeError),
    /// The system failed.
    #[error("{0}")]
    System(io::Error),
}

impl ReadError {
    /// Whether the file is everpage's own and of no use to anyone.
    pub(super) fn is_worthless(&self) -> bool {
        matches!(self, ReadError::Content(error) if error.is_worthless())
    }

    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => ReadError::Absent,
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => ReadError::NotAFile,
            io::ErrorKind::PermissionDenied => ReadError::Forbidden(error),
            _ => ReadError::System(error),
        }
    }
}

/// What a file holds.
pub(super) enum Content {
    /// The object, and its file.
    Whole(Object, File),
    /// A page whose body is too large for memory: its head, and where its body lies.
    Large(Box<PageHead>, FileBody, u32),
}

/// The whole object, unless its body is larger than `max_memory_bytes`.
pub(super) fn read(path: &Path, name: &ObjectName, max_memory_bytes: u64) -> Result<Content, ReadError> {
    let Opened { file, line, mut bytes } = open(path)?;
    if line.body_bytes() > max_memory_bytes {
        fill(&file, &mut bytes, line.head_end())?;
        let (Head::Page(head), _) = stored::decode_head(name, &bytes)? else {
            return Err(DecodeError::FirstLine.into());
        };
        let (place, crc) = (line.head_end() as u64..line.total_bytes(), line.body_crc());
        let body = FileBody::new(Arc::new(OpenFile::new(file)), place, crc);
        return Ok(Content::Large(Box::new(head), body, crc));
    }
    let total = usize::try_from(line.total_bytes()).expect("bounded by what memory may hold");
    if block::is_own(total - line.head_end()) && !line.is_compressed() {
        let object = read_apart(&file, line, bytes, name)?;
        return Ok(Content::Whole(object, file));
    }
    fill(&file, &mut bytes, total)?;
    Ok(Content::Whole(stored::decode(name, &Bytes::from(bytes))?, file))
}

/// The object whose body gets memory of its own: it is read straight into it. `start` is what has been read.
fn read_apart(file: &File, line: FirstLine, mut start: Vec<u8>, name: &ObjectName) -> Result<Object, ReadError> {
    let (end, total) = (line.head_end(), line.total_bytes());
    let begun = start.split_off(end.min(start.len()));
    fill(file, &mut start, end)?;
    let bytes = usize::try_from(line.body_bytes()).expect("bounded by what memory may hold");
    let body = match block::read(begun.chain(file), bytes) {
        // Somebody cut the file meanwhile.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            let found = file.metadata().map_err(ReadError::of)?.len();
            return Err(DecodeError::Torn { declared: total, found }.into());
        }
        other => other.map_err(ReadError::of)?,
    };
    Ok(stored::decode_parts(name, &start, body)?)
}

/// The head alone, and the bytes of the body.
pub(super) fn read_head(path: &Path, name: &ObjectName) -> Result<(Head, u64), ReadError> {
    let Opened { file, line, mut bytes } = open(path)?;
    fill(&file, &mut bytes, line.head_end())?;
    Ok(stored::decode_head(name, &bytes)?)
}

/// Whether everpage wrote it, in any version: only such files are removed.
pub(super) fn is_own(path: &Path) -> Result<(), ReadError> {
    match open(path) {
        Err(ReadError::Content(error)) if error != DecodeError::Foreign => Ok(()),
        other => other.map(drop),
    }
}

/// A file whose length is what its first line says.
struct Opened {
    file: File,
    line: FirstLine,
    /// Its beginning, as far as it has been read.
    bytes: Vec<u8>,
}

fn open(path: &Path) -> Result<Opened, ReadError> {
    // Opening a pipe would wait for its writer.
    if !fs::symlink_metadata(path).map_err(ReadError::of)?.is_file() {
        return Err(ReadError::NotAFile);
    }
    let file = File::open(path).map_err(ReadError::of)?;
    let length = file.metadata().map_err(ReadError::of)?.len();
    let mut bytes = Vec::with_capacity(MAX_FIRST_LINE_BYTES);
    fill(&file, &mut bytes, MAX_FIRST_LINE_BYTES)?;
    let line = FirstLine::parse(&bytes)?;
    line.check_length(length)?;
    Ok(Opened { file, line, bytes })
}

/// Reads on until there are `total` bytes or the file ends.
fn fill(file: &File, bytes: &mut Vec<u8>, total: usize) -> Result<(), ReadError> {
    let missing = total.saturating_sub(bytes.len());
    bytes.reserve_exact(missing);
    file.take(missing as u64).read_to_end(bytes).map_err(ReadError::of)?;
    bytes.truncate(total);
    Ok(())
}

/// A file on its way to its place; dropped before that, it is removed.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    file: File,
    bytes: u64,
    moved: bool,
}

/// What the names of temporary files begin with.
const TEMPORARY: &str = "put-";

impl Temporary {
    /// Begins a new file in `folder`.
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Self> {
        let path = folder.join(format!("{TEMPORARY}{number}"));
        let file = match File::create_new(&path) {
            // Someone emptied the store's folder by hand.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder)?;
                File::create_new(&path)?
            }
            other => other?,
        };
        Ok(Temporary { path, file, bytes: 0, moved: false })
    }

    /// Writes on.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Bytes that have been written.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Moves it to its place, over what lies there.
    pub(super) fn rename(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        self.moved = true;
        Ok(())
    }

    /// Removes what an earlier process left behind, and nothing else.
    pub(super) fn remove_leftovers(folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(TEMPORARY));
            if number.is_some_and(|number| number.parse::<u64>().is_ok()) && entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.moved {
            // Should this fail too, the next start removes it.
            _ = fs::remove_file(&self.path);
        }
    }
}
