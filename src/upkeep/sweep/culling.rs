//! Are there too many? Then the oldest go, valid or not: `max_entries`, `max_bytes`, `cull_frequency`.

use super::ages::{Ages, surplus};
use super::run::Run;
use super::{Death, Problem};
use crate::store::s3::Class;

impl Run<'_> {
    /// A second listing, for only the first one tells which pages are the oldest. Returns how many went, and their bytes.
    pub(super) async fn cull(&self, ages: &Ages) -> Result<(u64, u64), Problem> {
        let terms = self.terms;
        let surplus = surplus(ages, terms.max_entries, terms.max_bytes, terms.cull_frequency);
        let Some((objects, bytes)) = surplus else { return Ok((0, 0)) };
        self.enter("cull");
        if self.is_dry {
            // The dead still lie among them: a second listing would count them twice.
            let mut tally = self.tally.lock();
            tally.dead.insert(Death::Culled.as_str(), objects);
            tally.dead_bytes += bytes;
            return Ok((0, 0));
        }
        let mut oldest = ages.oldest(objects, bytes);
        let (mut gone, mut freed, mut after) = (0, 0, None::<String>);
        loop {
            self.pace.wait(Class::List).await;
            let part = self.parties.store.part(after.as_deref()).await?;
            let taken = part.pages.into_iter().filter(|lying| oldest.take(lying.modified, lying.bytes));
            let dead: Vec<_> = taken.map(|lying| (lying, Death::Culled)).collect();
            let (objects, bytes) = self.bury(&dead).await?;
            (gone, freed) = (gone + objects, freed + bytes);
            match part.next {
                Some(next) => after = Some(next),
                None => return Ok((gone, freed)),
            }
        }
    }
}
