//! A bucket with pages, and those who tidy it: shared by the tests of the sweeper and of the export.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everpage::clock::{Clock, UnixMillis};
use everpage::config::S3Store as Settings;
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::Recovered;
use everpage::invalidation::journal::memory::MemoryJournal;
use everpage::invalidation::selector::{Record, Target};
use everpage::metrics::Metrics;
use everpage::page::{JournalId, Key, Object, ObjectName, Page, PageHead, Sequence};
use everpage::policy::path::path_id;
use everpage::store::Store as _;
use everpage::store::s3::bucket::Bucket;
use everpage::store::s3::{Class, S3Store};
use everpage::upkeep::Parties;
use everpage::upkeep::sweep::{Sweeper, Terms};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use sha1::{Digest as _, Sha1};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::TestBucket;

/// The journal of these tests.
pub(super) const JOURNAL: &str = "j";

/// One node of a site whose pages lie below `site/`.
pub(super) struct Node {
    pub(super) bucket: TestBucket,
    pub(super) settings: Settings,
    pub(super) parties: Parties,
    pub(super) terms: Terms,
}

impl Node {
    /// Version 2 of the flavor `default`.
    pub(super) async fn new(bucket: &TestBucket) -> Self {
        let settings = Settings { location: "site".to_owned(), ..bucket.settings() };
        let store = Arc::new(S3Store::new(Bucket::open(&settings).await.unwrap(), &settings, "", 2, 8 << 20));
        let journal = Arc::new(MemoryJournal::new(JournalId(JOURNAL.into())));
        let parties = Parties {
            store,
            invalidations: Arc::new(Invalidations::start(journal, Recovered::default())),
            metrics: Arc::new(Metrics::default()),
            clock: Clock::Wall,
            draining: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let terms = Terms {
            interval: Duration::ZERO,
            rate: 10_000,
            takeover_after: Duration::from_secs(2),
            ..Terms::new(&settings, "", 2)
        };
        Node { bucket: bucket.clone(), settings, parties, terms }
    }

    /// Another process on the same bucket that knows the same invalidations.
    pub(super) fn again(&self) -> Self {
        let parties = Parties { draining: CancellationToken::new(), ..self.parties.clone() };
        Node { bucket: self.bucket.clone(), settings: self.settings.clone(), parties, terms: self.terms.clone() }
    }

    /// A node of another version that shares the journal.
    pub(super) async fn beside(&self, version: u32) -> Self {
        let opened = Bucket::open(&self.settings).await.unwrap();
        let store = Arc::new(S3Store::new(opened, &self.settings, "", version, 8 << 20));
        let node = self.again();
        Node { parties: Parties { store, ..node.parties }, terms: Terms { version, ..node.terms }, ..node }
    }

    pub(super) fn sweeper(&self) -> Arc<Sweeper> {
        Sweeper::start(self.parties.clone(), self.terms.clone())
    }

    pub(super) async fn sweep(&self) -> serde_json::Value {
        self.sweeper().sweep(false).await
    }

    pub(super) fn applied(&self) -> u64 {
        self.parties.invalidations.applied().0
    }

    /// Stores a page as it would be kept now.
    pub(super) async fn keep(&self, path: &str) -> ObjectName {
        self.keep_page(page(path, self.applied())).await
    }

    pub(super) async fn keep_page(&self, page: Page) -> ObjectName {
        let name = name(&page.head);
        self.parties.store.put(&name, &Object::Page(Arc::new(page))).await.unwrap();
        name
    }

    pub(super) async fn invalidate(&self, path: &str) {
        self.submit(Record { paths: vec![Target { host: None, path: path.into() }], ..Record::default() }).await;
    }

    pub(super) async fn submit(&self, record: Record) {
        self.parties.invalidations.submit(record).await.unwrap();
    }

    pub(super) async fn has(&self, name: &ObjectName) -> bool {
        self.bucket.read(&format!("site/{}", self.parties.store.key(name))).await.is_some()
    }

    /// GETs that were made so far.
    pub(super) fn gets(&self) -> u64 {
        let counts = self.parties.store.bucket().requests();
        counts.iter().filter(|count| count.class == Class::Get).map(|count| count.count).sum()
    }
}

/// A page of `shop.example` with the tag `ice`.
pub(super) fn page(path: &str, as_of: u64) -> Page {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/html; charset=utf-8"));
    let head = PageHead {
        method: Method::GET,
        host: "shop.example".into(),
        path: path.into(),
        query: None,
        status: StatusCode::OK,
        headers: headers.into(),
        stored_at: UnixMillis(1_700_000_000_000),
        age_seconds: 0,
        fresh_seconds: None,
        as_of: Sequence(as_of),
        journal: JournalId(JOURNAL.into()),
        tags: vec!["ice".into()],
        varied_by: Vec::new(),
    };
    Page::new(head, Bytes::from(format!("<h1>{path}</h1>")), path_id(path))
}

/// As it is with another head.
pub(super) fn with(page: &Page, change: impl FnOnce(&mut PageHead)) -> Page {
    let mut head = page.head.clone();
    change(&mut head);
    Page::new(head, page.body.clone(), page.path_id)
}

pub(super) fn name(head: &PageHead) -> ObjectName {
    let text = format!("{} {} {} {:?} {:?}", head.method, head.host, head.path, head.query, head.varied_by);
    ObjectName { path: path_id(&head.path), method: head.method.clone(), key: Key(Sha1::digest(text).into()) }
}
