//! HOW MANY REQUESTS WERE MADE, and how did they end? They are what S3 bills.
//!
//! Each try counts. Knows nothing of the metrics that export it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::bucket::S3ErrorKind;

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// GET and HEAD of an object.
    Get,
    /// PUT of an object.
    Put,
    /// PUT with a condition.
    Swap,
    /// A page of a listing, of objects or of uploads.
    List,
    /// DELETE of one object or of up to 1,000.
    Delete,
    /// The begin, a part, the end of a multipart upload.
    Multipart,
    /// The bucket itself was made.
    Bucket,
}

impl Class {
    /// All of them, in the order of the metrics.
    pub const ALL: [Class; 7] =
        [Class::Get, Class::Put, Class::Swap, Class::List, Class::Delete, Class::Multipart, Class::Bucket];

    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Get => "get",
            Class::Put => "put",
            Class::Swap => "swap",
            Class::List => "list",
            Class::Delete => "delete",
            Class::Multipart => "multipart",
            Class::Bucket => "bucket",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    Absent,
    Unchanged,
    Condition,
    Failed(S3ErrorKind),
}

/// The names of the endings in metrics, by [`Ending::index`].
const RESULTS: [&str; 15] = [
    "ok",
    "absent",
    "unchanged",
    "condition",
    "no-bucket",
    "wrong-region",
    "credentials",
    "forbidden",
    "clock",
    "unreachable",
    "timeout",
    "throttled",
    "server",
    "breaker",
    "other",
];

impl Ending {
    fn index(self) -> usize {
        match self {
            Ending::Done => 0,
            Ending::Absent => 1,
            Ending::Unchanged => 2,
            Ending::Condition => 3,
            Ending::Failed(S3ErrorKind::NoBucket) => 4,
            Ending::Failed(S3ErrorKind::WrongRegion) => 5,
            Ending::Failed(S3ErrorKind::Credentials) => 6,
            Ending::Failed(S3ErrorKind::Forbidden) => 7,
            Ending::Failed(S3ErrorKind::Clock) => 8,
            Ending::Failed(S3ErrorKind::Unreachable) => 9,
            Ending::Failed(S3ErrorKind::Timeout) => 10,
            Ending::Failed(S3ErrorKind::Throttled) => 11,
            Ending::Failed(S3ErrorKind::Server) => 12,
            Ending::Failed(S3ErrorKind::Open) => 13,
            Ending::Failed(S3ErrorKind::Other) => 14,
        }
    }
}

/// How often requests of a class ended in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestCount {
    /// What they were for.
    pub class: Class,
    /// `ok`, `absent` (404), `unchanged` (304), `condition` (412, 409), `breaker` (not asked), or the kind of the failure.
    pub result: &'static str,
    /// Since the start.
    pub count: u64,
}

/// Counters of a bucket.
#[derive(Debug, Default)]
pub(super) struct Requests([[AtomicU64; RESULTS.len()]; Class::ALL.len()]);

impl Requests {
    pub(super) fn count(&self, class: Class, ending: Ending) {
        self.0[class as usize][ending.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// All that are not zero.
    pub(super) fn snapshot(&self) -> Vec<RequestCount> {
        let mut counts = Vec::new();
        for class in Class::ALL {
            for (result, count) in RESULTS.iter().zip(&self.0[class as usize]) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    counts.push(RequestCount { class, result, count });
                }
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_counts_for_itself() {
        let requests = Requests::default();
        requests.count(Class::Get, Ending::Done);
        requests.count(Class::Get, Ending::Done);
        requests.count(Class::Bucket, Ending::Failed(S3ErrorKind::Other));
        let expected = [
            RequestCount { class: Class::Get, result: "ok", count: 2 },
            RequestCount { class: Class::Bucket, result: "other", count: 1 },
        ];
        assert_eq!(requests.snapshot(), expected);
    }
}
