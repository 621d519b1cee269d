//! What did lower versions leave behind? `<flavor>/<version>/pages/...` with a lower `cache.version` than ours, once it is old enough.
//!
//! Nodes of a lower version may still run, and serve pages that were stored long ago: so nothing of theirs goes before ours has been there for as long.

use super::run::Run;
use super::{Death, Problem};
use crate::clock::UnixMillis;
use crate::page::canonical;
use crate::store::s3::Class;
use crate::store::s3::housekeeping;

/// Folders and stray objects that are looked at beside our own: a flavor has a handful.
const FOLDERS_MAX: usize = 1000;

impl Run<'_> {
    /// `now`, when we were here first, and the ages are told by the same clock.
    pub(super) async fn sweep_old_versions(&self, now: UnixMillis, first_here: UnixMillis) -> Result<(), Problem> {
        self.enter("old-versions");
        let after = u64::try_from(self.terms.old_versions_after.as_millis()).unwrap_or(u64::MAX);
        let before = UnixMillis(now.0.saturating_sub(after));
        if first_here > before {
            return Ok(());
        }
        for version in self.old_versions().await? {
            self.sweep_old_version(version, before).await?;
        }
        Ok(())
    }

    /// The lower versions that have a folder: one LIST for each folder of the flavor, however much lies in it.
    async fn old_versions(&self) -> Result<Vec<u32>, Problem> {
        let flavor = format!("{}/", self.terms.flavor);
        let (mut versions, mut after) = (Vec::new(), None::<String>);
        for _ in 0..FOLDERS_MAX {
            self.pace.wait(Class::List).await;
            let next = self.bucket().list(&flavor, after.as_deref(), 1).await?;
            let Some(rest) = next.keys.first().and_then(|listed| listed.key.strip_prefix(&flavor)) else { break };
            after = Some(match rest.split_once('/') {
                Some((folder, _)) => {
                    versions.extend(canonical::<u32>(folder).filter(|version| *version < self.terms.version));
                    // `0` is the character after `/`: all that lies in the folder comes before.
                    format!("{flavor}{folder}0")
                }
                None => format!("{flavor}{rest}"),
            });
        }
        Ok(versions)
    }

    async fn sweep_old_version(&self, version: u32, before: UnixMillis) -> Result<(), Problem> {
        let folder = format!("{}/{version}/pages/", self.terms.flavor);
        let mut after = None::<String>;
        loop {
            self.pace.wait(Class::List).await;
            let part = housekeeping::part(self.bucket(), &folder, after.as_deref()).await?;
            self.tally.lock().looked_at += part.pages.len() as u64;
            let old: Vec<_> = part.pages.iter().filter(|lying| lying.modified < before).collect();
            old.iter().for_each(|lying| self.note_dead(Death::OldVersion, lying.bytes));
            if !self.is_dry && !old.is_empty() {
                let keys: Vec<String> = old.iter().map(|lying| format!("{folder}{}", lying.name)).collect();
                self.pace.wait(Class::Delete).await;
                let left = self.bucket().delete_many(&keys).await?;
                let gone = old.iter().zip(&keys).filter(|(_, key)| !left.contains(key));
                self.note_gone(gone.map(|(lying, _)| (lying.bytes, Death::OldVersion)));
            }
            match part.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}
