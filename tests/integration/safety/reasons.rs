//! Each "no" has its name, and each name is met here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use everpage::config::{Config, Lifetime, QueryPolicy};
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::Recovered;
use everpage::page::{JournalId, ObjectName, PathId, Sequence};
use everpage::policy::reason::Reason;
use everpage::proxy::origin::OriginError;
use everpage::store::memory::MemoryStore;
use everpage::store::{Listed, Listing, Object, Store, StoreError, Usage};
use tokio::io::AsyncWriteExt;

use crate::support::{
    Gate, HOST, Inside, LEASE, Pieces, Reply, inside, inside_settling, inside_with, journal, origin, pieces, proxy,
    raw_origin, raw_until_closed,
};

/// Where a reason is met.
enum Met {
    /// In this exchange, in `detail=`.
    Here(Case),
    /// In this test of this file.
    Test(&'static str),
}

/// A request, an answer of the origin and a setting: the answer of the proxy names the reason, and nothing is kept.
struct Case {
    request: &'static str,
    response: &'static str,
    change: fn(&mut Config),
}

/// One line for each reason: a new one does not compile before it is met.
fn met(reason: Reason) -> Met {
    match reason {
        Reason::Method => asked("OPTIONS / HTTP/1.1\r\n"),
        Reason::Ignored => asked("GET /admin/x HTTP/1.1\r\n"),
        Reason::Authorization => asked("GET / HTTP/1.1\r\nAuthorization: Basic eDp5\r\n"),
        Reason::BypassCookie => asked("GET / HTTP/1.1\r\nCookie: a=b; sessionid=1\r\n"),
        Reason::Query => set(asked("GET /?a=b HTTP/1.1\r\n"), |config| config.cache.query = QueryPolicy::Bypass),
        Reason::MalformedPath => asked("GET /%zz HTTP/1.1\r\n"),
        Reason::JournalOutage => Met::Test("a_journal_out_of_reach_is_named"),
        Reason::RequestBody => asked("GET / HTTP/1.1\r\nContent-Length: 0000\r\n"),
        Reason::Upgrade => asked("GET / HTTP/1.1\r\nUpgrade: h2c\r\n"),
        Reason::Reload => {
            set(asked("GET / HTTP/1.1\r\nPragma: no-cache\r\n"), |config| config.cache.honor_reload = true)
        }
        Reason::Status => answered("404 Not Found", "Content-Length: 1\r\n"),
        Reason::SetCookie => answered("200 OK", "Content-Length: 1\r\nSet-Cookie: a=b\r\n"),
        Reason::NoStore => answered("200 OK", "Content-Length: 1\r\nCache-Control: x=\"a, b\", NO-STORE\r\n"),
        Reason::Private => {
            answered("200 OK", "Content-Length: 1\r\nCache-Control: max-age=60\r\nCache-Control: private\r\n")
        }
        Reason::NoCache => answered("200 OK", "Content-Length: 1\r\nCache-Control: no-cache=\"set-cookie\"\r\n"),
        Reason::VaryStar => answered("200 OK", "Content-Length: 1\r\nVary: accept\r\nVary: cookie , *\r\n"),
        Reason::Partial => answered("206 Partial Content", "Content-Length: 1\r\nContent-Range: bytes 0-0/1\r\n"),
        Reason::Empty => Met::Test("what_shows_only_with_the_body_is_counted_and_not_kept"),
        Reason::TooLarge => set(answered("200 OK", "Content-Length: 1\r\n"), |config| config.cache.max_body = 0),
        Reason::CutShort => Met::Test("what_shows_only_with_the_body_is_counted_and_not_kept"),
        Reason::NotFresh => {
            set(answered("200 OK", "Content-Length: 1\r\nCache-Control: max-age=60\r\nAge: 60\r\n"), |config| {
                config.cache.lifetime = Lifetime::Origin;
            })
        }
        Reason::TooManyTags => answered("200 OK", "Content-Length: 1\r\nCache-Groups: no-string\r\n"),
        Reason::Invalidated => Met::Test("what_was_invalidated_while_it_was_rendered_is_counted_and_not_kept"),
        Reason::Settling => Met::Test("what_is_fetched_too_soon_after_its_invalidation_is_counted_and_not_kept"),
        Reason::FillMemory => Met::Test("what_shows_only_with_the_body_is_counted_and_not_kept"),
        Reason::FillDisk => Met::Test("what_shows_only_with_the_body_is_counted_and_not_kept"),
        Reason::TemporaryFile => Met::Test("what_shows_only_with_the_body_is_counted_and_not_kept"),
        Reason::StoreBusy => Met::Test("pages_that_wait_to_be_written_are_bounded_in_number_and_in_bytes"),
        Reason::OriginUnreachable => Met::Test("an_origin_that_fails_is_named"),
        Reason::OriginTimeout => Met::Test("an_origin_that_fails_is_named"),
        Reason::OriginBroken => Met::Test("an_origin_that_fails_is_named"),
        Reason::OriginBusy => Met::Test("an_origin_that_has_no_room_is_named"),
    }
}

fn asked(request: &'static str) -> Met {
    Met::Here(Case { request, response: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n", change: |_| {} })
}

fn answered(status: &'static str, fields: &'static str) -> Met {
    let response = Box::leak(format!("HTTP/1.1 {status}\r\n{fields}").into_boxed_str());
    Met::Here(Case { request: "GET / HTTP/1.1\r\n", response, change: |_| {} })
}

fn set(met: Met, change: fn(&mut Config)) -> Met {
    match met {
        Met::Here(case) => Met::Here(Case { change, ..case }),
        elsewhere => elsewhere,
    }
}

#[tokio::test]
async fn each_reason_is_named_in_cache_status_and_keeps_nothing() {
    for reason in Reason::ALL {
        match met(reason) {
            Met::Here(case) => assert_named(reason, case).await,
            Met::Test(name) => assert!(include_str!("reasons.rs").contains(&format!("fn {name}(")), "{name}"),
        }
    }
}

/// The second time is like the first: nothing was kept.
async fn assert_named(reason: Reason, case: Case) {
    let response = case.response;
    let speak = move |mut stream: tokio::net::TcpStream, _| async move {
        // The proxy may have left.
        let _ = stream.write_all(format!("{response}Connection: close\r\n\r\nx").as_bytes()).await;
    };
    let origin = raw_origin(speak).await;
    let proxy = proxy().origin_at(&format!("http://{origin}")).set(case.change).start().await;
    for _ in 0..2 {
        let request = format!("{}Host: {HOST}\r\nConnection: close\r\n\r\n", case.request);
        let answer = raw_until_closed(proxy.address, request.as_bytes()).await;
        let status = answer.lines().find(|line| line.starts_with("cache-status: ")).unwrap_or(&answer);
        assert!(status.ends_with(&format!("; detail={}", reason.as_str())), "{reason:?}: {status}");
        assert!(answer.ends_with("\r\n\r\nx"), "{reason:?}: {answer}");
    }
    assert_eq!(crate::support::stored_files(&proxy.stop().await).len(), 0, "{reason:?}");
}

fn site(change: impl FnOnce(&mut Config), length: Option<u64>, body: fn() -> Pieces) -> Inside {
    inside(change, move |_| async move {
        let mut response = http::Response::builder();
        if let Some(length) = length {
            response = response.header("content-length", length);
        }
        pieces(response, body())
    })
}

#[tokio::test]
async fn what_shows_only_with_the_body_is_counted_and_not_kept() {
    let small = |config: &mut Config| config.cache.max_body = 3;
    let full = |config: &mut Config| config.cache.max_fill_bytes = 1024;
    let crowded = |config: &mut Config| (config.cache.max_memory_size, config.cache.max_temporary_bytes) = (3, 1);
    let nowhere = |config: &mut Config| {
        (config.cache.max_memory_size, config.cache.temporary_folder) = (3, Some("/nowhere/at/all".into()));
    };
    let cases: [(Reason, Inside, bool, &str); 10] = [
        (Reason::Empty, site(|_| {}, None, Vec::new), true, ""),
        (Reason::CutShort, site(|_| {}, Some(10), || vec![Ok("hello")]), false, "hello"),
        (Reason::CutShort, site(|_| {}, Some(2), || vec![Ok("hello")]), false, "hello"),
        (
            Reason::CutShort,
            site(|_| {}, None, || vec![Ok("hello"), Err(OriginError::Broken("a reset".into()))]),
            false,
            "hello",
        ),
        (Reason::TooLarge, site(small, None, || vec![Ok("hel"), Ok("lo")]), true, "hello"),
        (Reason::FillMemory, site(full, None, || vec![Ok("hel"), Ok("lo")]), true, "hello"),
        (Reason::FillDisk, site(crowded, None, || vec![Ok("hel"), Ok("lo")]), true, "hello"),
        (Reason::FillDisk, site(crowded, Some(5), || vec![Ok("hel"), Ok("lo")]), true, "hello"),
        (Reason::TemporaryFile, site(nowhere, None, || vec![Ok("hel"), Ok("lo")]), true, "hello"),
        (Reason::TemporaryFile, site(nowhere, Some(5), || vec![Ok("hel"), Ok("lo")]), true, "hello"),
    ];
    for (reason, inside, complete, text) in cases {
        for time in 1..=2 {
            let answer = inside.get("/").await;
            assert_eq!((answer.outcome(), answer.text()), ("miss", text), "{reason:?}");
            assert_eq!(answer.complete, complete, "{reason:?}");
            assert_eq!(inside.refused(reason.as_str()), time, "{reason:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_fetched_too_soon_after_its_invalidation_is_counted_and_not_kept() {
    let settle = Duration::from_secs(5);
    let origin = |_| async { pieces(http::Response::builder(), vec![Ok("page")]) };
    let inside = inside_settling(settle, origin);
    inside.invalidate("/").await;
    for count in 1..=2 {
        let answer = inside.get("/").await;
        assert_eq!((answer.outcome(), answer.detail()), ("refused", Some("settling")));
        assert_eq!((answer.text(), inside.refused("settling")), ("page", count));
    }
    tokio::time::sleep(settle * 2).await;
    assert_eq!(inside.get("/").await.outcome(), "miss", "it is not remembered as a page that cannot be kept");
    assert_eq!(inside.get("/").await.outcome(), "hit");
}

#[tokio::test]
async fn what_was_invalidated_while_it_was_rendered_is_counted_and_not_kept() {
    let gate = Gate::default();
    let held = gate.clone();
    let inside = inside(
        |_| {},
        move |_| {
            let gate = held.clone();
            async move {
                gate.pass().await;
                pieces(http::Response::builder(), vec![Ok("old")])
            }
        },
    );
    let (answer, ()) = tokio::join!(inside.get("/"), async {
        gate.arrival().await;
        inside.invalidate("/").await;
        gate.open();
    });
    assert_eq!((answer.text(), inside.refused("invalidated")), ("old", 1));
    assert_eq!(inside.get("/").await.outcome(), "miss");
    assert_eq!(inside.get("/").await.outcome(), "hit");
}

#[tokio::test(start_paused = true)]
async fn a_journal_out_of_reach_is_named() {
    let (ledger, inside) = crate::leases::one_node(|_| {});
    assert_eq!(inside.get("/").await.outcome(), "miss");
    ledger.is_gone.store(true, std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(2 * LEASE).await;
    let answer = inside.get("/").await;
    assert_eq!((answer.outcome(), answer.detail()), ("bypass", Some("journal-outage")));
    assert_eq!(inside.metrics.bypassed("journal-outage").get(), 1);
}

#[tokio::test]
async fn an_origin_that_fails_is_named() {
    let hangs = raw_origin(|stream, _| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    });
    let garbage = raw_origin(|mut stream, _| async move { stream.write_all(b"SSH-2.0\r\n\r\n").await.unwrap() });
    let closes = raw_origin(|_, _| async {});
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = nobody.local_addr().unwrap();
    drop(nobody);
    for (address, reason, status) in [
        (hangs.await, Reason::OriginTimeout, 504),
        (garbage.await, Reason::OriginBroken, 502),
        (closes.await, Reason::OriginBroken, 502),
        (closed, Reason::OriginUnreachable, 502),
    ] {
        let quick = |config: &mut Config| config.origin.first_byte_timeout = Duration::from_millis(30);
        let proxy = proxy().origin_at(&format!("http://{address}")).set(quick).start().await;
        for (path, field) in [("/", "fwd=uri-miss"), ("/admin/", "fwd=bypass")] {
            let answer = proxy.get(path).await;
            let expected = format!("everpage; {field}; detail={}", reason.as_str());
            assert_eq!((answer.status.as_u16(), answer.cache_status()), (status, &*expected), "{path}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
        assert_eq!(crate::support::stored_files(&proxy.stop().await).len(), 0);
    }
}

#[tokio::test]
async fn an_origin_that_has_no_room_is_named() {
    let gate = Gate::default();
    let origin = origin().gated("/slow", &gate).otherwise(|_| async { Reply::new("x") }).start().await;
    let narrow = |config: &mut Config| {
        config.origin.max_requests = 1;
        config.origin.connect_timeout = Duration::from_millis(30);
    };
    let proxy = proxy().origin(&origin).set(narrow).start().await;
    let (slow, ()) = tokio::join!(proxy.get("/slow"), async {
        gate.arrival().await;
        let answer = proxy.get("/other").await;
        assert_eq!((answer.status.as_u16(), answer.detail()), (503, Some("origin-busy")));
        assert!(answer.header("retry-after").is_some());
        gate.open();
    });
    assert_eq!(slow.status, 200);
}

/// A store that never gets done with a write.
#[derive(Debug)]
struct Stuck(MemoryStore);

#[async_trait]
impl Store for Stuck {
    fn kind(&self) -> &'static str {
        "stuck"
    }

    async fn get(&self, name: &ObjectName) -> Result<Option<Object>, StoreError> {
        self.0.get(name).await
    }

    async fn put(&self, _: &ObjectName, _: &Object) -> Result<(), StoreError> {
        std::future::pending().await
    }

    async fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.0.remove(name).await
    }

    async fn remove_older(&self, path: &PathId, journal: &JournalId, before: Sequence) -> Result<u64, StoreError> {
        self.0.remove_older(path, journal, before).await
    }

    async fn under(&self, path: &PathId) -> Result<Vec<Listed>, StoreError> {
        self.0.under(path).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Listing, StoreError> {
        self.0.list(prefix, after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.0.check().await
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }
}

#[tokio::test]
async fn pages_that_wait_to_be_written_are_bounded_in_number_and_in_bytes() {
    let stuck = |change: fn(&mut Config)| {
        let store = Arc::new(Stuck(MemoryStore::new(1 << 20)));
        inside_with(store, Invalidations::start(journal(), Recovered::default()), change, |_| async {
            pieces(http::Response::builder(), vec![Ok("hello")])
        })
    };
    let crowd = stuck(|_| {});
    for number in 0..256 {
        crowd.get(&format!("/{number}")).await;
    }
    assert_eq!(crowd.refused("store-busy"), 0);
    assert_eq!(crowd.get("/one-more").await.text(), "hello");
    assert_eq!((crowd.refused("store-busy"), crowd.metrics.store_errors.get()), (1, 1));
    assert_eq!(crowd.get("/one-more").await.detail(), Some("memory"), "at hand as long as there is room");
    let heavy = stuck(|config| config.cache.max_fill_bytes = 4096);
    for number in 0..4 {
        heavy.get(&format!("/{number}")).await;
    }
    assert_eq!(heavy.refused("fill-memory"), 0);
    assert_eq!(heavy.get("/one-more").await.text(), "hello");
    assert_eq!(heavy.refused("fill-memory"), 1);
}
