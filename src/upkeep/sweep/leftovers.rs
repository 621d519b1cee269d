//! What did nodes write for the journal, and nobody names it? Once it is so old that nobody can be about to name it.

use super::run::Run;
use super::{Death, Problem};
use crate::clock::UnixMillis;
use crate::invalidation::journal::s3::leftovers::{Named, folders};
use crate::store::s3::Class;
use crate::store::s3::bucket::ListedKey;

/// Keys in one listing.
const LISTED_MAX: usize = 1000;

impl Run<'_> {
    /// `now` and the ages are told by the same clock.
    pub(super) async fn sweep_leftovers(&self, now: UnixMillis) -> Result<(), Problem> {
        self.enter("leftovers");
        let after = u64::try_from(self.terms.leftovers_after.as_millis()).unwrap_or(u64::MAX);
        let before = UnixMillis(now.0.saturating_sub(after));
        for folder in folders(&self.terms.flavor) {
            let mut after = None::<String>;
            loop {
                self.pace.wait(Class::List).await;
                let listing = self.bucket().list(&folder, after.as_deref(), LISTED_MAX).await?;
                after = listing.keys.last().map(|listed| listed.key.clone()).filter(|_| listing.is_truncated);
                // One without a time may be new.
                let is_old = |listed: &ListedKey| listed.modified > UnixMillis(0) && listed.modified < before;
                self.bury_leftovers(listing.keys.into_iter().filter(is_old).collect()).await?;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn bury_leftovers(&self, old: Vec<ListedKey>) -> Result<(), Problem> {
        if old.is_empty() {
            return Ok(());
        }
        // After the listing: whatever has been named since stands in it.
        self.pace.wait(Class::Get).await;
        let Some(named) = Named::read(self.bucket(), &self.terms.flavor).await? else { return Ok(()) };
        let dead: Vec<_> = old.into_iter().filter(|listed| !named.may_need(&listed.key)).collect();
        dead.iter().for_each(|listed| self.note_dead(Death::Leftover, listed.bytes));
        if self.is_dry || dead.is_empty() {
            return Ok(());
        }
        let keys: Vec<String> = dead.iter().map(|listed| listed.key.clone()).collect();
        self.pace.wait(Class::Delete).await;
        let left = self.bucket().delete_many(&keys).await?;
        let gone = dead.iter().filter(|listed| !left.contains(&listed.key));
        self.note_gone(gone.map(|listed| (listed.bytes, Death::Leftover)));
        Ok(())
    }
}
