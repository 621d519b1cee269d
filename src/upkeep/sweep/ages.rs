//! WHICH PAGES ARE THE OLDEST? How many were written when, in bounded memory whatever their number.
//!
//! Pure. Times fall into buckets of equal width; where there would be too many buckets, the width doubles. So the answer is exact for few
//! pages and off by less than a five-hundredth of the whole span for many.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;

/// Buckets at most: twenty kilobytes of the state object.
const BUCKETS_MAX: usize = 512;

/// How many pages were written when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ages {
    width_millis: u64,
    /// Number of the bucket; objects, bytes.
    buckets: BTreeMap<u64, (u64, u64)>,
}

/// The oldest pages: all that were written before `from`, and of those written from then until `to` as many as are still missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Oldest {
    from: UnixMillis,
    to: UnixMillis,
    missing_objects: u64,
    missing_bytes: u64,
}

impl Default for Ages {
    fn default() -> Self {
        Ages { width_millis: 1, buckets: BTreeMap::new() }
    }
}

impl Ages {
    pub(super) fn add(&mut self, modified: UnixMillis, bytes: u64) {
        let bucket = self.buckets.entry(modified.0 / self.width_millis.max(1)).or_default();
        *bucket = (bucket.0 + 1, bucket.1.saturating_add(bytes));
        while self.buckets.len() > BUCKETS_MAX {
            self.width_millis *= 2;
            let mut wider: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            for (number, (objects, bytes)) in &self.buckets {
                let bucket = wider.entry(number / 2).or_default();
                *bucket = (bucket.0 + objects, bucket.1.saturating_add(*bytes));
            }
            self.buckets = wider;
        }
    }

    pub(super) fn objects(&self) -> u64 {
        self.buckets.values().map(|(objects, _)| objects).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.buckets.values().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// The oldest pages that together are at least so many and so many bytes.
    pub(super) fn oldest(&self, objects: u64, bytes: u64) -> Oldest {
        let (mut missing_objects, mut missing_bytes, mut end) = (objects, bytes, 0);
        for (number, (objects, bytes)) in &self.buckets {
            let begin = number * self.width_millis;
            end = begin + self.width_millis;
            if *objects >= missing_objects && *bytes >= missing_bytes {
                return Oldest { from: UnixMillis(begin), to: UnixMillis(end), missing_objects, missing_bytes };
            }
            missing_objects = missing_objects.saturating_sub(*objects);
            missing_bytes = missing_bytes.saturating_sub(*bytes);
        }
        Oldest { from: UnixMillis(end), to: UnixMillis(end), missing_objects: 0, missing_bytes: 0 }
    }
}

impl Oldest {
    /// Whether a page that was written then is one of them. To be asked once for each page.
    pub(super) fn take(&mut self, modified: UnixMillis, bytes: u64) -> bool {
        if modified < self.from {
            return true;
        }
        if modified >= self.to || (self.missing_objects == 0 && self.missing_bytes == 0) {
            return false;
        }
        self.missing_objects = self.missing_objects.saturating_sub(1);
        self.missing_bytes = self.missing_bytes.saturating_sub(bytes);
        true
    }
}

/// How many objects and bytes must go; `None`: there is room. One in `frequency` of all, as in django's caches, and more where that is not enough.
pub(super) fn surplus(
    ages: &Ages,
    max_entries: Option<u64>,
    max_bytes: Option<u64>,
    frequency: u64,
) -> Option<(u64, u64)> {
    let (objects, bytes) = (ages.objects(), ages.bytes());
    let (objects_over, bytes_over) =
        (objects.saturating_sub(max_entries.unwrap_or(objects)), bytes.saturating_sub(max_bytes.unwrap_or(bytes)));
    if objects_over == 0 && bytes_over == 0 {
        return None;
    }
    Some((objects.div_ceil(frequency.max(1)).max(objects_over), bytes_over))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(ages: &Ages, pages: &[(u64, u64)], objects: u64, bytes: u64) -> Vec<u64> {
        let mut oldest = ages.oldest(objects, bytes);
        let is_taken = |(at, bytes): &&(u64, u64)| oldest.take(UnixMillis(*at), *bytes);
        pages.iter().filter(is_taken).map(|(at, _)| *at).collect()
    }

    fn ages(pages: &[(u64, u64)]) -> Ages {
        let mut ages = Ages::default();
        pages.iter().for_each(|(at, bytes)| ages.add(UnixMillis(*at), *bytes));
        ages
    }

    #[test]
    fn the_oldest_go_and_no_more_than_asked_for() {
        // Pages come in the order of their keys, not of their ages.
        let pages = [(50, 1), (10, 1), (40, 1), (20, 1), (30, 1), (20, 1)];
        assert_eq!(taken(&ages(&pages), &pages, 2, 0), [10, 20]);
        assert_eq!(taken(&ages(&pages), &pages, 3, 0), [10, 20, 20]);
        assert_eq!(taken(&ages(&pages), &pages, 0, 4), [10, 20, 30, 20]);
        assert_eq!(taken(&ages(&pages), &pages, 100, 0).len(), 6);
        assert!(taken(&ages(&pages), &pages, 0, 0).is_empty());
    }

    #[test]
    fn any_number_of_pages_takes_bounded_memory_and_nearly_the_oldest_go() {
        let pages: Vec<(u64, u64)> =
            (0..100_000).map(|n| (1_700_000_000_000 + n * 7919 % 1_000_003 * 50, 10)).collect();
        let ages = ages(&pages);
        assert!(ages.buckets.len() <= BUCKETS_MAX);
        assert_eq!((ages.objects(), ages.bytes()), (100_000, 1_000_000));
        let gone = taken(&ages, &pages, 33_334, 0);
        assert_eq!(gone.len(), 33_334);
        let mut all: Vec<u64> = pages.iter().map(|(at, _)| *at).collect();
        all.sort_unstable();
        let youngest = gone.iter().max().unwrap();
        assert!(*youngest <= all[33_333] + ages.width_millis, "{youngest} against {}", all[33_333]);
        assert_eq!(serde_json::from_str::<Ages>(&serde_json::to_string(&ages).unwrap()).unwrap(), ages);
    }

    #[test]
    fn one_in_so_many_goes_and_more_if_that_is_not_enough() {
        let ages = ages(&[(1, 10); 9]);
        assert_eq!(surplus(&ages, Some(9), Some(90), 3), None);
        assert_eq!(surplus(&ages, Some(8), None, 3), Some((3, 0)));
        assert_eq!(surplus(&ages, Some(2), None, 3), Some((7, 0)));
        assert_eq!(surplus(&ages, None, Some(85), 3), Some((3, 5)));
        assert_eq!(surplus(&ages, Some(8), None, 1), Some((9, 0)));
    }
}
