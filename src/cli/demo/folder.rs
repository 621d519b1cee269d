//! Where does the demo keep its pages? In the folder that was named, or in one that goes when the demo ends.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A folder; a temporary one is removed with this value.
pub(super) enum Folder {
    Named(PathBuf),
    Temporary(PathBuf),
}

impl Folder {
    pub(super) fn new(named: Option<PathBuf>) -> io::Result<Self> {
        if let Some(path) = named {
            return Ok(Folder::Named(path));
        }
        let path = std::env::temp_dir().join(format!("everpage-demo-{}", Uuid::new_v4()));
        // It fails if somebody was there first.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Folder::Temporary(path))
    }

    pub(super) fn path(&self) -> &Path {
        let (Folder::Named(path) | Folder::Temporary(path)) = self;
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Folder::Temporary(path) = self
            && let Err(error) = std::fs::remove_dir_all(&*path)
        {
            tracing::warn!(%error, folder = %path.display(), "the demo's pages could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_temporary_folder_goes() {
        let outer = tempfile::tempdir().unwrap();
        drop(Folder::new(Some(outer.path().to_owned())).unwrap());
        assert!(outer.path().is_dir());
        let folder = Folder::new(None).unwrap();
        let path = folder.path().to_owned();
        std::fs::write(path.join("page"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
