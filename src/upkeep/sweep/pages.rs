//! Which pages of this version are dead? Asks the index for each name, and looks at those that it cannot acquit.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::run::Run;
use super::state::{State, Swept};
use super::{Death, Problem};
use crate::invalidation::index::Subject;
use crate::page::stored::Head;
use crate::page::{JournalId, PathId, Sequence};
use crate::store::s3::Class;
use crate::store::s3::housekeeping::{Lying, Seen};

/// Heads read at the same time: the round trips overlap, the rate stays.
const HEADS_AT_ONCE: usize = 16;

/// What is known of a page that may be dead.
enum Suspect {
    Gone,
    Alive,
    Damaged,
    Known(Witness),
}

/// What of a head decides: much smaller than the head.
struct Witness {
    journal: JournalId,
    as_of: Sequence,
    host: Arc<str>,
    path: Arc<str>,
    path_id: PathId,
    tags: Vec<Arc<str>>,
}

impl Run<'_> {
    /// From the cursor to the end; a thousand names at a time, and after each thousand the cursor is saved.
    pub(super) async fn sweep_pages(&self, state: &mut State) -> Result<(), Problem> {
        self.enter("pages");
        let (journal, to) = (self.parties.invalidations.journal_id(), self.parties.invalidations.applied());
        let last = state.last_of(journal, to).cloned();
        loop {
            let running = state.running.as_mut().expect("it was begun");
            self.pace.wait(Class::List).await;
            let part = self.parties.store.part(running.cursor.as_deref()).await?;
            let seen = part.pages.len() as u64;
            for lying in self.sweep_part(part.pages, last.as_ref()).await? {
                running.ages.add(lying.modified, lying.bytes);
            }
            self.tally.lock().looked_at += seen;
            match part.next {
                Some(next) => running.cursor = Some(next),
                None => return Ok(()),
            }
            self.save(state).await?;
        }
    }

    /// Removes the dead of these pages; returns the others.
    async fn sweep_part(&self, pages: Vec<Lying>, last: Option<&Swept>) -> Result<Vec<Lying>, Problem> {
        let (suspects, mut alive): (Vec<_>, Vec<_>) =
            pages.into_iter().partition(|lying| self.may_be_dead(lying, last));
        let looks = stream::iter(suspects).map(async |lying| {
            let suspect = self.look_at(&lying).await?;
            Ok::<_, Problem>((lying, suspect))
        });
        let looks: Vec<_> = looks.buffered(HEADS_AT_ONCE).collect().await;
        // The index of this moment decides, not the one of the look. Who is named once stays named.
        self.make_current().await?;
        let mut dead = Vec::new();
        for look in looks {
            let (lying, suspect) = look?;
            match self.judge(&suspect) {
                Judged::Gone => {}
                Judged::Stays => alive.push(lying),
                Judged::Dead(death) => dead.push((lying, death)),
            }
        }
        self.bury(&dead).await?;
        Ok(alive)
    }

    fn may_be_dead(&self, lying: &Lying, last: Option<&Swept>) -> bool {
        let invalidations = &self.parties.invalidations;
        let Some(last) = last else { return true };
        // A page that was written since may be older than it looks: its fetch began before.
        invalidations.may_name_since(&lying.name.path, last.to)
            || (lying.modified > last.began && invalidations.may_name_since(&lying.name.path, Sequence(0)))
    }

    async fn look_at(&self, lying: &Lying) -> Result<Suspect, Problem> {
        self.pace.wait(Class::Get).await;
        let seen = self.parties.store.look_at(&lying.name).await.map_err(Problem::Look)?;
        self.tally.lock().heads_read += 1;
        let path_id = lying.name.path;
        Ok(match seen {
            Seen::Nothing => Suspect::Gone,
            Seen::Foreign => Suspect::Alive,
            Seen::Damaged => Suspect::Damaged,
            Seen::Head(head) => Suspect::Known(match *head {
                Head::Page(head) => Witness {
                    journal: head.journal,
                    as_of: head.as_of,
                    host: head.host,
                    path: head.path,
                    path_id,
                    tags: head.tags,
                },
                // A signpost carries no tags: it goes with its path.
                Head::Variants(variants) => Witness {
                    journal: variants.journal,
                    as_of: variants.as_of,
                    host: variants.host,
                    path: variants.path,
                    path_id,
                    tags: Vec::new(),
                },
            }),
        })
    }

    fn judge(&self, suspect: &Suspect) -> Judged {
        let invalidations = &self.parties.invalidations;
        match suspect {
            Suspect::Gone => Judged::Gone,
            Suspect::Alive => Judged::Stays,
            Suspect::Damaged => Judged::Dead(Death::Damaged),
            Suspect::Known(page) if page.journal != *invalidations.journal_id() => Judged::Dead(Death::Journal),
            // Another node knows more than this one.
            Suspect::Known(page) if page.as_of > invalidations.applied() => Judged::Stays,
            Suspect::Known(Witness { as_of, host, path, path_id, tags, .. }) => {
                let newest = invalidations.newest(&Subject { host, path, path_id, tags });
                if newest.hard > *as_of { Judged::Dead(Death::Invalidated) } else { Judged::Stays }
            }
        }
    }
}

enum Judged {
    Gone,
    Stays,
    Dead(Death),
}
