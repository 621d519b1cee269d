//! What does a cached page of 2 KiB take beside its body? A million of them, each of its own path, through the ways by which real pages come into memory:
//! fetched from an origin, or read from the store. Buffers that are held unseen would show.

use std::mem::size_of;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use everpage::clock::Clock;
use everpage::config::Config;
use everpage::page::{Page, PageHead};
use everpage::store::Store;
use everpage::store::filesystem::{FilesystemStore, Limits};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::figures::{Findings, Table, digits};
use crate::gauge::resident_bytes;
use crate::proxy::{Proxy, page, request, runtime};

const PAGES: u64 = 1_000_000;
/// Each is a file.
const PAGES_IN_STORE: u64 = 100_000;
const BODY: usize = 2048;
/// Nothing is evicted.
const CAPACITY: u64 = 16 << 30;
/// Bytes beside the body and the text of the response's fields: more is too much.
const GOAL: f64 = 700.0;

/// The way into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    Origin,
    Store,
}

/// Bytes of a page.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) pages: u64,
    /// Resident memory, divided by pages.
    pub(crate) resident: f64,
    /// After a hit of each.
    pub(crate) after_hits: f64,
    /// As the tier counts them.
    pub(crate) counted: f64,
}

/// In a process of its own.
pub(crate) fn taken(pages: u64, from: From, folder: &Path) -> Taken {
    match from {
        From::Origin => runtime().block_on(async {
            let proxy = Proxy::new(CAPACITY, App::default());
            fill(&proxy, pages, "; stored").await
        }),
        From::Store => runtime().block_on(from_store(pages, folder)),
    }
}

/// Asks for each page, then for each again, and looks at memory before, between and after.
pub(crate) async fn fill(proxy: &Proxy, pages: u64, first: &str) -> Taken {
    let before = resident_bytes();
    for number in 0..pages {
        let status = proxy.get(request(&path(number), &[])).await;
        assert!(status.ends_with(first), "{status}");
    }
    let usage = proxy.memory.usage();
    assert_eq!(usage.entries, pages, "nothing was evicted");
    let resident = resident_bytes() - before;
    for number in 0..pages {
        let status = proxy.get(request(&path(number), &[])).await;
        assert!(status.ends_with("; hit; detail=memory"), "{status}");
    }
    let each = |bytes: f64| bytes / pages as f64;
    Taken {
        pages,
        resident: each(resident),
        after_hits: each(resident_bytes() - before),
        counted: each(usage.bytes as f64),
    }
}

async fn from_store(pages: u64, within: &Path) -> Taken {
    let folder = tempfile::tempdir_in(within).expect("the folder can be written to");
    let limits = Limits { max_bytes: 1 << 40, max_memory_bytes: 1 << 20 };
    let store = FilesystemStore::open(folder.path(), "", 1, limits, Clock::Wall).expect("the folder is new");
    let (store, config) = (Arc::new(store) as Arc<dyn Store>, Config::default());
    let first = Proxy::with(&config, 0, App::default(), Arc::clone(&store));
    for number in 0..pages {
        first.fill(request(&path(number), &[])).await;
        while first.handler.flights() > 16 {
            tokio::task::yield_now().await;
        }
    }
    first.handler.drain().await;
    let second = Proxy::knowing(Arc::clone(&first.invalidations), &config, CAPACITY, App::default(), store);
    fill(&second, pages, "; hit; detail=filesystem").await
}

pub(crate) fn path(number: u64) -> String {
    format!("/{BODY}/category-{}/product-{number:07}/", number % 1000)
}

pub(crate) fn measure(quick: bool, within: &Path) -> Findings {
    let folder = within.to_str().expect("the folder has a name");
    let (pages, in_store) = if quick { (PAGES / 20, PAGES_IN_STORE / 20) } else { (PAGES, PAGES_IN_STORE) };
    let fields = runtime().block_on(page(&path(0), Vec::new())).head.headers.lines().len();
    let mut table = Table::new(
        format!(
            "Memory of a page beside its body of {BODY} bytes, in bytes. {fields} of them are the text of the response's own fields; the goal for the rest \
             is {GOAL}"
        ),
        &["", "pages", "resident", "after a hit of each", "the rest", "as the tier counts"],
    );
    let mut missed = Vec::new();
    let ways =
        [("origin", pages, "fetched, in process"), ("store", in_store, "read from the filesystem store, in process")];
    for (from, pages, what) in ways {
        let taken: Taken = crate::child::run(&["memory", &pages.to_string(), from, folder]);
        let beside = |bytes: f64| digits(bytes - BODY as f64, 0);
        let rest = taken.after_hits - (BODY + fields) as f64;
        // Of few pages, what every process takes is a good part.
        if !quick && rest > GOAL {
            missed.push(format!("a page takes {rest:.0} bytes beside body and fields, {what}; the goal is {GOAL}"));
        }
        table.row([
            what.to_owned(),
            taken.pages.to_string(),
            beside(taken.resident),
            beside(taken.after_hits),
            digits(rest, 0),
            beside(taken.counted),
        ]);
    }
    let (before, after) = crate::visits::memory_of_a_server(in_store, BODY, within);
    table.row([
        "fetched, the program itself, its table of stored files included".to_owned(),
        in_store.to_string(),
        digits(before - BODY as f64, 0),
        digits(after - BODY as f64, 0),
        digits(after - (BODY + fields) as f64, 0),
        String::new(),
    ]);
    Findings { tables: vec![table, parts()], charts: Vec::new(), missed }
}

/// Where the bytes are.
fn parts() -> Table {
    let page = runtime().block_on(page(&path(0), Vec::new()));
    let head = &page.head;
    let mut table = Table::new("Of these, as far as the types say, in bytes", &["", "bytes", "what it is"]);
    let mut row = |what: &str, bytes: usize, why: &str| table.row([what.to_owned(), bytes.to_string(), why.to_owned()]);
    row("Page", size_of::<Page>(), "one allocation with two counters of 8 more");
    row("PageHead", size_of::<PageHead>(), "a part of it");
    row("PageHead::headers", std::mem::size_of_val(&head.headers), "a part of it, without what it points to");
    row("path", head.path.len() + 16, "an allocation with two counters, and of each page");
    row("host, journal", 0, "shared by all");
    row(
        "head.memory_bytes()",
        usize::try_from(head.memory_bytes()).expect("small"),
        "what the tier counts for the head's parts",
    );
    row("page.memory_bytes()", usize::try_from(page.memory_bytes()).expect("small"), "the body included");
    table
}
