//! Machines come and go, the bucket stays: the real binary, killed with all it had, and a new one with an empty disk.

use http::Method;
use serde_json::{Value, json};

use super::machine::{DISK_CACHE, Machine, stored, written};
use crate::cli::process::Server as Process;
use crate::support::{Answer, Ask, Asked, Fault, Gate, Link, Origin, Reply, Server, TestBucket, origin};

/// Pages of a site; the last is in two languages.
const PAGES: [&str; 6] = ["/", "/shop/", "/shop/ice/", "/shop/ice/?flavour=mint", "/about", "/news/"];
const LANGUAGES: [&str; 2] = ["en", "de"];

/// A machine that was killed is waited for by the next invalidation: not for long here.
const LEASE: &str = "cluster.lease = \"400ms\"";

/// Every page says how often its path was rendered, and belongs to a tag.
async fn site() -> Origin {
    let page = |asked: Asked| async move {
        let language = asked.header("accept-language").unwrap_or_default();
        let page = Reply::new(format!("{} v{} {language}", asked.target, asked.number)).header("cache-tag", "site");
        if asked.target == "/news/" { page.header("vary", "Accept-Language") } else { page }
    };
    origin().otherwise(page).start().await
}

/// One visit of each page.
async fn visit_all(server: &Process) -> Vec<Answer> {
    let mut answers = Vec::new();
    for page in PAGES {
        let languages = if page == "/news/" { &LANGUAGES[..] } else { &LANGUAGES[..1] };
        for language in languages {
            let ask = Ask::new(server.public, Method::GET, page).header("accept-language", language);
            answers.push(ask.send().await);
        }
    }
    answers
}

async fn post_invalidate(server: &Process, body: Value) -> Answer {
    let ask = Ask::new(server.admin, Method::POST, "/invalidate").host("localhost");
    ask.header("content-type", "application/json").body(body.to_string()).send().await
}

/// All pages, and the signpost to the languages.
const OBJECTS: usize = PAGES.len() + 2;

async fn assert_survives(bucket: TestBucket, settings: &[&str]) {
    let origin = site().await;
    let first = Machine::start(&bucket, &origin, settings);
    let before = visit_all(&first.server).await;
    assert!(before.iter().all(|answer| answer.outcome() == "miss"), "{before:?}");
    written(&bucket, OBJECTS).await;
    drop(first.kill());
    let asked = origin.asked().len();
    let second = Machine::start(&bucket, &origin, settings);
    for detail in ["s3", "memory"] {
        let after = visit_all(&second.server).await;
        for (answer, before) in after.iter().zip(&before) {
            assert_eq!((answer.text(), answer.outcome(), answer.detail()), (before.text(), "hit", Some(detail)));
        }
    }
    assert_eq!(origin.asked().len(), asked, "the origin was asked: {:?}", origin.last());
    // HEAD is answered by the GET that is there, and a condition by the tag that was given before.
    assert_eq!(Ask::new(second.server.public, Method::HEAD, "/about").send().await.outcome(), "hit");
    let hit = second.server.get("/").await;
    let etag = hit.header("etag").unwrap();
    let same = Ask::new(second.server.public, Method::GET, "/").header("if-none-match", etag).send().await;
    assert_eq!((same.status.as_u16(), origin.asked().len()), (304, asked));
    second.stop();
}

/// Fails when `opening::open_bucket` gives the store another version, or pages another journal than the node that reads them.
async fn a_new_machine_answers_every_page_without_the_origin(bucket: TestBucket) {
    assert_survives(bucket, &[]).await;
}

async fn a_new_machine_with_a_disk_cache_answers_every_page_without_the_origin(bucket: TestBucket) {
    assert_survives(bucket, &[DISK_CACHE]).await;
}

/// The answer is there, and in the same moment the machine is gone. Fails when `commit` answers before `Journal::append` has been carried out, and when
/// `Invalidations::judge` says yes to everything.
async fn what_was_invalidated_before_a_kill_does_not_come_back(bucket: TestBucket) {
    let origin = site().await;
    let selectors =
        [json!({"paths": PAGES}), json!({"prefixes": ["/"]}), json!({"tags": ["site"]}), json!({"all": true})];
    // The disk of the machine before, and its pages of before.
    let mut disk = None;
    for (round, selector) in selectors.into_iter().enumerate() {
        let machine = match disk {
            Some(disk) => Machine::on(disk, &origin),
            None => Machine::start(&bucket, &origin, &[DISK_CACHE, LEASE]),
        };
        visit_all(&machine.server).await;
        written(&bucket, OBJECTS).await;
        let answer = post_invalidate(&machine.server, selector.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let left = machine.kill();
        // Alternately with the old disk and with an empty one.
        let next = if round % 2 == 0 {
            Machine::on(left, &origin)
        } else {
            Machine::start(&bucket, &origin, &[DISK_CACHE, LEASE])
        };
        let asked = origin.asked().len();
        let after = visit_all(&next.server).await;
        assert!(after.iter().all(|answer| answer.outcome() == "miss"), "{selector}: {after:?}");
        assert_eq!(origin.asked().len(), asked + after.len());
        disk = Some(next.kill());
    }
}

/// A page is on its way to the bucket when its machine is killed, and arrives long after the page that took its place. Fails when
/// `Invalidations::look_up` does not compare with `as_of`.
async fn a_page_that_arrives_after_its_invalidation_is_not_served(bucket: TestBucket) {
    let (origin, link) = (origin().counted("/").start().await, Link::to(&bucket.endpoint).await);
    let late = Machine::start_through(&bucket, &link.url(), &origin, &[LEASE]);
    let gate = Gate::default();
    link.next(1, |passing| passing.is("PUT", "/pages/"), Fault::HoldRequest(gate.clone()));
    assert_eq!(late.server.get("/").await.text(), "v1");
    gate.arrival().await;
    late.kill();
    let next = Machine::start(&bucket, &origin, &[]);
    let answer = post_invalidate(&next.server, json!({"paths": ["/"]})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(next.server.get("/").await.text(), "v2");
    written(&bucket, 1).await;
    let key = stored(&bucket).await.pop().unwrap();
    let newer = bucket.read(&key).await;
    gate.open();
    for _ in 0..2000 {
        if bucket.read(&key).await != newer {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_ne!(bucket.read(&key).await, newer, "the old page has arrived");
    assert_eq!(next.server.get("/").await.text(), "v2");
    drop(next.kill());
    let last = Machine::start(&bucket, &origin, &[]);
    let answer = last.server.get("/").await;
    assert_eq!((answer.outcome(), answer.text()), ("miss", "v3"));
}

/// Makes a test of each, with the real binary and an origin beside it, on this server.
macro_rules! with_processes {
    ($module:ident, $server:ident, $($sentence:ident),+ $(,)?) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $sentence() {
                    let bucket = super::Server::$server.fresh_bucket().await;
                    super::$sentence(bucket.clone()).await;
                    bucket.destroy().await;
                }
            )+
        }
    };
}

with_processes![
    on_moto,
    Moto,
    a_new_machine_answers_every_page_without_the_origin,
    what_was_invalidated_before_a_kill_does_not_come_back,
];
with_processes![
    on_rgw,
    Rgw,
    a_new_machine_answers_every_page_without_the_origin,
    a_new_machine_with_a_disk_cache_answers_every_page_without_the_origin,
    what_was_invalidated_before_a_kill_does_not_come_back,
    a_page_that_arrives_after_its_invalidation_is_not_served,
];
