//! WHAT LIES THERE, and what may go? The few looks and deletions that upkeep needs, beside [`Store`](crate::store::Store).
//!
//! It never decides what goes, and it deletes nothing but what bears the name of a page.

use super::bucket::{Bucket, KeyListing, S3Error};
use super::object::{self, ReadError};
use super::{Failure, KEYS_MAX, S3Store};
use crate::clock::UnixMillis;
use crate::page::ObjectName;
use crate::page::stored::Head;

/// One object, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lying {
    /// Whose place it takes.
    pub name: ObjectName,
    /// All of the object.
    pub bytes: u64,
    /// When it was written, by the server's clock.
    pub modified: UnixMillis,
}

/// A thousand keys.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Those that bear the name of a page.
    pub pages: Vec<Lying>,
    /// Where the next part begins; `None`: this was the last.
    pub next: Option<String>,
}

/// What an object turned out to be.
#[derive(Clone, Debug)]
pub enum Seen {
    /// It is gone.
    Nothing,
    /// A page or a signpost.
    Head(Box<Head>),
    /// everpage's own, and of no use to anyone: torn, damaged or under the wrong name.
    Damaged,
    /// Not everpage's, or a newer one's.
    Foreign,
}

impl S3Store {
    /// The bucket that the pages lie in.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The pages whose keys come after `after`: one LIST.
    ///
    /// # Errors
    /// They could not be listed.
    pub async fn part(&self, after: Option<&str>) -> Result<Part, S3Error> {
        part(&self.bucket, &self.root, after).await
    }

    /// What lies there: one GET of its first bytes.
    ///
    /// # Errors
    /// S3 did not say.
    pub async fn look_at(&self, name: &ObjectName) -> Result<Seen, Failure> {
        match object::read_head(&self.bucket, &self.key(name), name).await {
            Ok(Some((head, _))) => Ok(Seen::Head(Box::new(head))),
            Ok(None) => Ok(Seen::Nothing),
            Err(ReadError::Content(error)) if error.is_worthless() => Ok(Seen::Damaged),
            Err(error) if error.is_content() => Ok(Seen::Foreign),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes at most 1,000 pages: one DELETE. Returns those that are still there.
    ///
    /// # Errors
    /// Some may still be there.
    pub async fn remove_many(&self, names: &[ObjectName]) -> Result<Vec<ObjectName>, S3Error> {
        let keys: Vec<String> = names.iter().take(KEYS_MAX).map(|name| self.key(name)).collect();
        let left = self.bucket.delete_many(&keys).await?;
        Ok(left.iter().filter_map(|key| self.name(key)).collect())
    }
}

/// As [`S3Store::part`], of any folder of pages: `<flavor>/<version>/pages/`.
///
/// # Errors
/// They could not be listed.
pub async fn part(bucket: &Bucket, folder: &str, after: Option<&str>) -> Result<Part, S3Error> {
    let KeyListing { keys, is_truncated } = bucket.list(folder, after, KEYS_MAX).await?;
    let next = keys.last().filter(|_| is_truncated).map(|listed| listed.key.clone());
    let pages = keys.iter().filter_map(|listed| {
        let name = listed.key.strip_prefix(folder)?.parse().ok()?;
        Some(Lying { name, bytes: listed.bytes, modified: listed.modified })
    });
    Ok(Part { pages: pages.collect(), next })
}
