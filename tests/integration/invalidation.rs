//! What an invalidation reaches, in each of its forms; what it answers; and what happens when it cannot be made.

use std::sync::Arc;

use async_trait::async_trait;
use everpage::config::StoreKind;
use everpage::invalidation::Invalidations;
use everpage::invalidation::journal::memory::MemoryJournal;
use everpage::invalidation::journal::{Appended, Journal, JournalError, Recovered, random_identity};
use everpage::invalidation::selector::Record;
use everpage::page::{JournalId, Sequence};
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{Asked, Gate, Origin, Proxy, Reply, origin, proxy};

/// An origin that numbers the renderings of every page, and the proxy before it.
async fn shop() -> (Origin, Proxy) {
    let counted =
        |asked: Asked| async move { Reply::new(format!("v{}", asked.number)).header("cache-tag", "all, ice") };
    let origin = origin().otherwise(counted).start().await;
    let proxy = proxy().origin(&origin).set(|config| config.purge_from = vec!["127.0.0.0/8".parse().unwrap()]);
    let proxy = proxy.start().await;
    (origin, proxy)
}

async fn outcome(proxy: &Proxy, target: &str) -> &'static str {
    proxy.get(target).await.outcome()
}

fn sequence(answer: &Value) -> u64 {
    answer["sequence"].as_u64().unwrap()
}

// --- forms ---

#[tokio::test]
async fn every_form_reaches_its_page() {
    let (_origin, proxy) = shop().await;
    let forms = [
        json!(["/ice/vanilla/"]),
        json!({"paths": ["/elsewhere/", "/ice/vanilla/"]}),
        json!({"paths": ["/ice/vanilla/"], "host": "shop.example"}),
        json!({"paths": ["https://SHOP.example:443/ice/vanilla/"]}),
        json!({"paths": ["/ice/vanilla/?size=2#top"]}),
        json!({"prefixes": ["/ice/"]}),
        json!({"prefixes": ["/ice"], "host": "shop.example"}),
        json!({"tags": ["ice"]}),
        json!({"tags": ["ice"], "host": "shop.example"}),
        json!({"all": true}),
        json!({"all": true, "host": "shop.example"}),
        json!({"paths": [], "tags": ["none"], "prefixes": ["/ice/vanilla/"], "reason": "saved", "id": "one"}),
        json!({"type": "uri", "selectors": ["http://shop.example/ice/vanilla/"]}),
        json!({"type": "uri-prefix", "selectors": ["http://shop.example/ice"]}),
        json!({"type": "group", "selectors": ["ice"]}),
        json!({"type": "group", "selectors": ["http://shop.example"], "groups": ["ice"]}),
        json!({"type": "origin", "selectors": ["http://shop.example"]}),
    ];
    proxy.get("/ice/vanilla/").await;
    for (number, form) in (1..).zip(forms) {
        assert_eq!(outcome(&proxy, "/ice/vanilla/").await, "hit");
        let answer = proxy.invalidate(form.clone()).await;
        assert_eq!(sequence(&answer), number, "{form}");
        assert_eq!(outcome(&proxy, "/ice/vanilla/").await, "miss", "{form}");
    }
}

#[tokio::test]
async fn no_form_reaches_a_page_that_it_does_not_name() {
    let (_origin, proxy) = shop().await;
    proxy.get("/ice/vanilla/").await;
    let forms = [
        json!(["/ice/vanilla", "/ice/", "/ice/vanilla/x"]),
        json!({"prefixes": ["/ice/van", "/ic"]}),
        json!({"tags": ["ic", "Ice"]}),
        json!({"all": true, "host": "other.example"}),
        json!({"tags": ["ice"], "host": "other.example"}),
        json!({"prefixes": ["/"], "host": "other.example"}),
        json!([]),
        json!({"paths": []}),
        json!({"paths": ["/ice/vanilla/"], "all": true, "dry_run": true}),
    ];
    for form in forms {
        proxy.invalidate(form.clone()).await;
        assert_eq!(outcome(&proxy, "/ice/vanilla/").await, "hit", "{form}");
    }
}

#[tokio::test]
async fn a_body_with_a_mistake_does_nothing_at_all() {
    let (_origin, proxy) = shop().await;
    proxy.get("/").await;
    let mistakes = [
        json!({}),
        json!("/"),
        json!({"paths": "/"}),
        json!({"paths": ["/"], "tagz": []}),
        json!({"paths": ["/", "no-slash"]}),
        json!({"paths": ["/"], "tags": [""]}),
        json!({"paths": ["/", "/%zz"]}),
    ];
    for mistake in mistakes {
        assert_eq!(proxy.post_invalidate(mistake.clone()).await.status, 400, "{mistake}");
    }
    assert_eq!(outcome(&proxy, "/").await, "hit");
    assert_eq!(sequence(&proxy.invalidate_path("/").await), 1);
}

#[tokio::test]
async fn every_query_of_an_invalidated_path_goes() {
    let (_origin, proxy) = shop().await;
    for target in ["/ice/?page=1", "/ice/?page=2", "/ice/", "/ice/?"] {
        proxy.get(target).await;
    }
    proxy.invalidate_path("/ice/?page=1").await;
    for target in ["/ice/?page=1", "/ice/?page=2", "/ice/", "/ice/?"] {
        assert_eq!(outcome(&proxy, target).await, "miss", "{target}");
    }
}

#[tokio::test]
async fn a_path_means_every_host_and_a_url_only_its_own() {
    let (_origin, proxy) = shop().await;
    let ask = |host: &str| proxy.ask(Method::GET, "/ice/").host(host).send();
    ask("a.example").await;
    ask("b.example").await;
    proxy.invalidate_path("http://A.example/ice/").await;
    assert_eq!(ask("a.example").await.outcome(), "miss");
    assert_eq!(ask("b.example").await.outcome(), "hit");
    proxy.invalidate_path("/ice/").await;
    assert_eq!(ask("a.example").await.outcome(), "miss");
    assert_eq!(ask("b.example").await.outcome(), "miss");
}

/// Spellings that the app may answer with the same page. Fails when the index compares spellings instead of identities.
#[tokio::test]
async fn a_page_under_another_spelling_dies_with_it() {
    let (_origin, proxy) = shop().await;
    let spellings = ["/ice/vanilla/", "/ice/%76anilla/", "//ice/vanilla/", "/ice%2Fvanilla/", "/x/../ice//vanilla/"];
    for named in spellings {
        for asked in spellings {
            proxy.get(asked).await;
            assert_eq!(outcome(&proxy, asked).await, "hit", "{asked}");
        }
        proxy.invalidate_path(named).await;
        // Two spellings of one key are one page: it is asked for under the first.
        for asked in ["/ice/vanilla/", "//ice/vanilla/", "/ice%2fvanilla/", "/ice//vanilla/"] {
            assert_eq!(outcome(&proxy, asked).await, "miss", "{named} names {asked}");
        }
    }
    // The trailing slash counts: to the app it is another page.
    proxy.get("/ice/vanilla").await;
    proxy.invalidate_path("/ice/vanilla/").await;
    assert_eq!(outcome(&proxy, "/ice/vanilla").await, "hit");
}

// --- soft ---

/// Fails when a soft hit does not fetch, or when the old page counts as valid afterwards.
#[tokio::test]
async fn after_a_soft_invalidation_the_old_page_may_be_served_until_the_new_one_is_there() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = origin().route("/", move |asked| {
        let gate = held.clone();
        async move {
            if asked.number == 2 {
                gate.pass().await;
            }
            Reply::new(format!("v{}", asked.number))
        }
    });
    let origin = origin.start().await;
    let proxy = proxy().origin(&origin).start().await;
    proxy.get("/").await;
    proxy.invalidate(json!({"paths": ["/"], "soft": true})).await;
    for _ in 0..3 {
        let soft = proxy.get("/").await;
        assert_eq!((soft.cache_status(), soft.text()), ("everpage; hit; detail=soft", "v1"));
    }
    gate.arrival().await;
    gate.open();
    proxy.renewed("/", "v2").await;
    assert_eq!(origin.hits("/"), 2, "one fetch for all");
    // A hard one on top of a soft one is a hard one.
    proxy.invalidate(json!({"paths": ["/"], "soft": true})).await;
    proxy.invalidate_path("/").await;
    let after = proxy.get("/").await;
    assert_eq!((after.outcome(), after.text()), ("miss", "v3"));
}

/// Fails when `Handler::look_in_store` is content with a page that is not invalid: nobody would fetch a newer one.
#[tokio::test]
async fn a_page_that_only_the_store_has_is_not_served_after_a_soft_invalidation() {
    let (origin, proxy) = shop().await;
    proxy.get("/").await;
    proxy.written(1).await;
    proxy.invalidate(json!({"paths": ["/"], "soft": true})).await;
    let proxy = proxy.restart(&origin).await;
    proxy.assert_new("/", "v2").await;
}

// --- through the proxy ---

/// Fails when `Handler::send_and_invalidate` does not wait for the invalidation.
#[tokio::test]
async fn a_change_through_the_proxy_invalidates_its_own_path() {
    let (origin, proxy) = shop().await;
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        proxy.get("/ice/?page=2").await;
        assert_eq!(outcome(&proxy, "/ice/?page=2").await, "hit");
        assert_eq!(proxy.ask(method.clone(), "/ice/").body("name=mint").send().await.status, 200);
        assert_eq!(outcome(&proxy, "/ice/?page=2").await, "miss", "{method}");
    }
    let asked = origin.hits("/ice/");
    proxy.ask(Method::OPTIONS, "/ice/").send().await;
    assert_eq!((outcome(&proxy, "/ice/?page=2").await, origin.hits("/ice/")), ("hit", asked + 1));
}

/// Fails when `Flights::board` ignores `admits`.
#[tokio::test]
async fn a_page_that_was_being_rendered_during_a_change_is_dead_too() {
    let gate = Gate::default();
    let origin = origin().held("/", &gate, |reply, _| reply).start().await;
    let proxy = proxy().origin(&origin).start().await;
    let leader = proxy.ask(Method::GET, "/").start();
    gate.arrival().await;
    assert_eq!(proxy.post("/").await.text(), "v2");
    assert_eq!(proxy.get("/").await.text(), "v3");
    gate.open();
    assert_eq!(leader.await.unwrap().text(), "v1");
    let after = proxy.get("/").await;
    assert_eq!((after.outcome(), after.text()), ("hit", "v3"));
}

/// Fails when the invalidation is made by the visitor's own request: the origin has made the change, and the visitor is gone.
#[tokio::test]
async fn a_change_whose_visitor_left_invalidates_all_the_same() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = origin().route("/", move |asked| {
        let gate = held.clone();
        async move {
            if asked.method == Method::POST {
                gate.pass().await;
            }
            Reply::new(format!("v{}", asked.number))
        }
    });
    let origin = origin.start().await;
    let proxy = proxy().origin(&origin).start().await;
    proxy.get("/").await;
    let change = proxy.ask(Method::POST, "/").body("name=mint").start();
    gate.arrival().await;
    change.abort();
    proxy.settle().await;
    gate.open();
    // The drain waits for it.
    let proxy = proxy.restart(&origin).await;
    assert_eq!(outcome(&proxy, "/").await, "miss");
}

#[tokio::test]
async fn a_change_that_failed_invalidates_nothing() {
    let refuse = |asked: Asked| async move {
        let status = if asked.method == Method::GET { 200 } else { 422 };
        Reply::new("text").status(status)
    };
    let origin = origin().route("/", refuse).start().await;
    let proxy = proxy().origin(&origin).start().await;
    proxy.get("/").await;
    assert_eq!(proxy.post("/").await.status, 422);
    assert_eq!(outcome(&proxy, "/").await, "hit");
}

/// Fails when `Handler::own_path_to_invalidate` does not ask the ignore rules: every request of an admin would become a record.
#[tokio::test]
async fn a_change_under_an_ignored_path_makes_no_record() {
    let (_origin, proxy) = shop().await;
    assert_eq!(proxy.post("/admin/login/").await.status, 200);
    assert_eq!(proxy.post("//admin/login/").await.status, 200);
    assert_eq!(sequence(&proxy.invalidate_path("/").await), 1);
}

// --- PURGE ---

#[tokio::test]
async fn a_purger_may_purge() {
    let (origin, proxy) = shop().await;
    proxy.get("/ice/").await;
    let answer = proxy.purge("/ice/?any").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("number 1"), "{}", answer.text());
    assert_eq!(outcome(&proxy, "/ice/").await, "miss");
    assert!(origin.asked().iter().all(|asked| asked.method == Method::GET));
}

/// Fails when `Handler::purge` does not ask `may_purge`.
#[tokio::test]
async fn nobody_else_may_purge() {
    let origin = origin().page("/", "hello").start().await;
    let proxy = proxy().origin(&origin).set(|config| config.purge_from = vec!["10.0.0.0/8".parse().unwrap()]);
    let proxy = proxy.start().await;
    proxy.get("/").await;
    let answer = proxy.purge("/").await;
    assert_eq!((answer.status.as_u16(), answer.detail()), (403, Some("purge-forbidden")));
    assert_eq!((outcome(&proxy, "/").await, origin.hits("/")), ("hit", 1));
}

#[tokio::test]
async fn where_purge_is_off_it_is_the_origins_affair() {
    let origin = origin().counted("/").start().await;
    let proxy = proxy().origin(&origin).start().await;
    let answer = proxy.purge("/").await;
    assert_eq!((answer.outcome(), answer.text()), ("bypass", "v1"));
    assert_eq!(origin.last().method.as_str(), "PURGE");
}

// --- ids and numbers ---

#[tokio::test]
async fn the_same_id_is_one_invalidation_across_restarts() {
    let (origin, proxy) = shop().await;
    let body = json!({"paths": ["/"], "id": "order-7"});
    assert_eq!(sequence(&proxy.invalidate(body.clone()).await), 1);
    assert_eq!(sequence(&proxy.invalidate_path("/other").await), 2);
    proxy.get("/").await;
    assert_eq!(sequence(&proxy.invalidate(body.clone()).await), 1);
    assert_eq!(outcome(&proxy, "/").await, "hit");
    let proxy = proxy.restart(&origin).await;
    assert_eq!(sequence(&proxy.invalidate(body).await), 1);
    assert_eq!(outcome(&proxy, "/").await, "hit");
    assert_eq!(sequence(&proxy.invalidate_path("/").await), 3);
}

#[tokio::test]
async fn the_same_id_at_once_is_one_invalidation() {
    let (_origin, proxy) = shop().await;
    let requests = (0..20).map(|_| invalidating(&proxy, &json!({"paths": ["/"], "id": "order-7"})));
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap(), 1);
    }
    assert_eq!(sequence(&proxy.invalidate_path("/").await), 2);
}

/// `POST /invalidate` in a task of its own.
fn invalidating(proxy: &Proxy, body: &Value) -> tokio::task::JoinHandle<u64> {
    let ask = crate::support::Ask::new(proxy.admin, Method::POST, "/invalidate").host("localhost");
    let ask = ask.header("content-type", "application/json").body(body.to_string());
    tokio::spawn(async move {
        let answer = ask.send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        sequence(&serde_json::from_slice(&answer.body).unwrap())
    })
}

/// Makes these invalidations at once, each of one prefix; returns their numbers in order. Pages that are named by their paths would soon be removed.
async fn at_once(proxy: &Proxy, targets: &[String]) -> Vec<u64> {
    let requests: Vec<_> = targets.iter().map(|target| invalidating(proxy, &json!({"prefixes": [target]}))).collect();
    let mut numbers = Vec::new();
    for request in requests {
        numbers.push(request.await.unwrap());
    }
    numbers.sort_unstable();
    numbers
}

fn targets(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("/ice/{number}/")).collect()
}

/// Fails when two records of a batch share a number, or a batch is applied but for its last record.
#[tokio::test]
async fn two_hundred_invalidations_at_once_take_consecutive_numbers_and_all_work() {
    let origin = origin().otherwise(|_| async { Reply::new("ice") }).start().await;
    let proxy = proxy().origin(&origin).set(|config| config.store.kind = StoreKind::Memory).start().await;
    let targets = targets(200);
    for target in &targets {
        proxy.get(target).await;
    }
    assert_eq!(at_once(&proxy, &targets).await, (1..=200).collect::<Vec<_>>());
    for target in &targets {
        assert_eq!(outcome(&proxy, target).await, "miss", "{target}");
    }
}

/// Fails when `commit` answers before `Journal::append` has written.
#[tokio::test]
async fn of_invalidations_made_at_once_a_crash_after_the_answers_takes_none_back() {
    let (origin, proxy) = shop().await;
    let targets = targets(20);
    for target in &targets {
        proxy.get(target).await;
    }
    proxy.written(20).await;
    assert_eq!(at_once(&proxy, &targets).await, (1..=20).collect::<Vec<_>>());
    let left = crate::support::proxy().origin(&origin).folder(proxy.snapshot()).start().await;
    for target in &targets {
        assert_eq!(outcome(&left, target).await, "miss", "{target}");
    }
    assert_eq!(sequence(&left.invalidate_path("/").await), 21);
}

/// A journal whose first write is held, and which remembers how many records each write had.
#[derive(Debug)]
struct Slow {
    journal: MemoryJournal,
    gate: Gate,
    writes: Mutex<Vec<usize>>,
}

#[async_trait]
impl Journal for Slow {
    fn id(&self) -> JournalId {
        self.journal.id()
    }

    async fn append(&self, records: &[Arc<Record>]) -> Result<Appended, JournalError> {
        let number = {
            let mut writes = self.writes.lock();
            writes.push(records.len());
            writes.len()
        };
        if number == 1 {
            self.gate.pass().await;
        }
        self.journal.append(records).await
    }

    async fn fold(&self, sequence: Sequence, snapshot: Vec<u8>) -> Result<(), JournalError> {
        self.journal.fold(sequence, snapshot).await
    }

    fn tail_bytes(&self) -> u64 {
        self.journal.tail_bytes()
    }
}

/// A journal whose first write is held, and invalidations over it.
fn slow() -> (Gate, Arc<Slow>, Arc<Invalidations>) {
    let gate = Gate::default();
    let journal = MemoryJournal::new(random_identity());
    let journal = Arc::new(Slow { journal, gate: gate.clone(), writes: Mutex::default() });
    let invalidations = Invalidations::start(Arc::clone(&journal) as Arc<dyn Journal>, Recovered::default());
    (gate, journal, Arc::new(invalidations))
}

fn submit(invalidations: &Arc<Invalidations>, id: Option<&str>) -> tokio::task::JoinHandle<Sequence> {
    let record = Record { all: true, id: id.map(Arc::from), ..Record::default() };
    let invalidations = Arc::clone(invalidations);
    tokio::spawn(async move { invalidations.submit(record).await.unwrap().sequence })
}

/// Fails when `commit` takes one record at a time.
#[tokio::test]
async fn what_waits_for_the_journal_goes_into_it_in_one_write() {
    let (gate, journal, invalidations) = slow();
    let first = submit(&invalidations, None);
    gate.arrival().await;
    let others: Vec<_> = (0..199).map(|_| submit(&invalidations, None)).collect();
    // They run before this task goes on: one thread, in turn.
    tokio::task::yield_now().await;
    assert_eq!(invalidations.applied(), Sequence(0), "nothing is applied before it is durable");
    gate.open();
    assert_eq!(first.await.unwrap(), Sequence(1));
    for (number, other) in (2..).zip(others) {
        assert_eq!(other.await.unwrap(), Sequence(number));
    }
    assert_eq!(*journal.writes.lock(), [1, 199]);
}

/// Fails when `Batch::gather` does not look for the id among those that wait beside it.
#[tokio::test]
async fn the_same_id_in_one_write_is_one_invalidation() {
    let (gate, journal, invalidations) = slow();
    let first = submit(&invalidations, None);
    gate.arrival().await;
    let others: Vec<_> = [Some("a"), Some("b"), Some("a"), None, Some("a")].map(|id| submit(&invalidations, id)).into();
    tokio::task::yield_now().await;
    gate.open();
    first.await.unwrap();
    for (other, number) in others.into_iter().zip([2, 3, 2, 4, 2]) {
        assert_eq!(other.await.unwrap(), Sequence(number));
    }
    assert_eq!(*journal.writes.lock(), [1, 3]);
}
