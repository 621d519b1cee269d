//! What operators and callers see of several nodes on one bucket: who acknowledged an invalidation, who was waited out, who serves, and what fails.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use everpage::config::Config;
use http::Method;
use serde_json::{Value, json};

use super::machine::Machine;
use super::outage::{metric, until};
use crate::cli::process::run;
use crate::support::{Ask, Fault, Link, Origin, Proxy, Refusal, Server, TestBucket, origin, proxy, run_on_s3};

/// Others wait for a node that does not answer as long as this.
const LEASE: Duration = Duration::from_millis(300);

async fn app() -> Origin {
    origin().counted("/").counted("/other").start().await
}

async fn node(bucket: &TestBucket, app: &Origin, change: impl FnOnce(&mut Config)) -> Proxy {
    proxy().origin(app).on_s3(bucket).set(change).start().await
}

/// One that must answer within its lease, or be waited for.
fn impatient(config: &mut Config) {
    config.cluster.lease = LEASE;
}

fn url(node: &Proxy) -> String {
    format!("http://{}", node.admin)
}

async fn status(node: &Proxy) -> Value {
    serde_json::from_slice(&node.admin("/status").await.body).unwrap()
}

/// Who was asked and what they said: nodes, acknowledged, waited out.
fn told(answer: &Value) -> [&Value; 3] {
    let took = answer["took_ms"].as_f64().expect("it says how long it took");
    assert!(took > 0.0, "{answer}");
    [&answer["nodes"], &answer["acknowledged"], &answer["waited_out"]]
}

/// Fails when `Batch::answer` counts those who were silent as well, or `ring` takes every node for one that has answered.
#[test]
fn an_answer_names_who_acknowledged_and_who_was_waited_out() {
    run_on_s3(Server::Rgw, async |bucket| {
        let app = app().await;
        let here = node(&bucket, &app, |_| {}).await;
        assert_eq!(told(&here.invalidate_path("/").await), [&json!(1), &json!(0), &json!([])], "it is alone");
        let there = node(&bucket, &app, |_| {}).await;
        assert_eq!(told(&here.invalidate_path("/").await), [&json!(2), &json!(1), &json!([])]);
        // Nobody listens where this one says that it can be rung.
        let deaf = node(&bucket, &app, |config| {
            impatient(config);
            config.cluster.node_url = Some("http://127.0.0.1:1".parse().unwrap());
        });
        let deaf = deaf.await;
        let answer = there.invalidate_path("/").await;
        assert_eq!(told(&answer), [&json!(3), &json!(1), &json!(["http://127.0.0.1:1"])]);
        assert!(answer["took_ms"].as_f64().unwrap() >= 300.0, "it was waited for: {answer}");
        for node in [here, there, deaf] {
            node.stop().await;
        }
    });
}

/// Fails when `commit::tell` does not count rings, `commit::write` no waits, or `Shared::look` no looks.
#[test]
fn what_nodes_did_stands_in_status_and_metrics() {
    run_on_s3(Server::Rgw, async |bucket| {
        let app = app().await;
        let here = node(&bucket, &app, |_| {}).await;
        let there = node(&bucket, &app, |_| {}).await;
        let deaf = |config: &mut Config| {
            impatient(config);
            config.cluster.node_url = Some("http://127.0.0.1:1".parse().unwrap());
        };
        let deaf = node(&bucket, &app, deaf).await;
        here.invalidate_path("/").await;
        // It is passed over behind the answer, and does not look: nobody visits it.
        let passed_over = async || metric(&here, "everpage_journal_nodes_passed_over").await == 1;
        until("the silent one is passed over", passed_over).await;
        let cluster = status(&here).await["cluster"].clone();
        let mut members: Vec<_> = cluster["members"].as_array().unwrap().iter().map(member).collect();
        members.sort();
        let mut expected = [
            (url(&here), true, "serves".to_owned()),
            (url(&there), false, "serves".to_owned()),
            ("http://127.0.0.1:1".to_owned(), false, "passed-over".to_owned()),
        ];
        expected.sort();
        assert_eq!(members, expected);
        assert_eq!((&cluster["lease_seconds"], &cluster["records_behind"]), (&json!(10.0), &json!(0)));
        let (lag, left) = (&cluster["lag_seconds"], &cluster["lease_remaining_seconds"]);
        let (lag, left) = (lag.as_f64().unwrap(), left.as_f64().unwrap());
        assert!((lag + left - 10.0).abs() < 0.002, "both count from the last look: {lag} {left}");
        assert_eq!((&cluster["lease_waits"], &cluster["ring_calls"]["unreachable"]), (&json!(1), &json!(1)));
        for (name, value) in [
            ("everpage_journal_nodes", 2),
            ("everpage_ring_calls_total{result=\"acknowledged\"}", 1),
            ("everpage_ring_calls_total{result=\"unreachable\"}", 1),
            ("everpage_ring_calls_total{result=\"silent\"}", 0),
            ("everpage_invalidation_lease_waits_total", 1),
            ("everpage_invalidation_seconds_count", 1),
            ("everpage_invalidation_seconds_bucket{le=\"0.256\"}", 0),
            ("everpage_journal_sequence", 1),
            ("everpage_journal_records_behind", 0),
        ] {
            assert_eq!(metric(&here, name).await, value, "{name}");
        }
        // The one that was rung has looked, and seen it.
        assert_eq!(metric(&there, "everpage_journal_looks_total{result=\"news\"}").await, 1);
        let lag = gauge(&here, "everpage_journal_lag_seconds").await;
        let left = gauge(&here, "everpage_journal_lease_remaining_seconds").await;
        assert!(lag >= 0.3 && (0.0..9.71).contains(&left), "a lease was waited for meanwhile: {lag} {left}");
        for node in [here, there, deaf] {
            node.stop().await;
        }
    });
}

fn member(member: &Value) -> (String, bool, String) {
    let text = |key: &str| member[key].as_str().unwrap().to_owned();
    assert!(!text("id").is_empty() && !text("epoch").is_empty() && text("joined_at").ends_with('Z'), "{member}");
    (text("url"), member["this"].as_bool().unwrap(), text("state"))
}

async fn gauge(node: &Proxy, name: &str) -> f64 {
    let metrics = node.admin("/metrics").await;
    let value = metrics.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
    value.unwrap_or_else(|| panic!("no {name} in {}", metrics.text())).parse().unwrap()
}

/// Two nodes that write at the same time: one swap of the head is lost, and tried again. Fails when `S3Journal::change` does not note it.
#[test]
fn a_lost_race_at_the_head_is_counted() {
    run_on_s3(Server::Rgw, async |bucket| {
        let (app, link) = (app().await, Link::to(&bucket.endpoint).await);
        let here = proxy().origin(&app).on_s3_through(&bucket, &link).start().await;
        link.next(1, |passing| passing.is("PUT", "/journal/head"), Fault::Refuse(Refusal::PreconditionFailed));
        assert_eq!(here.invalidate_path("/").await["sequence"], 1);
        assert_eq!(metric(&here, "everpage_journal_swap_conflicts_total").await, 1);
        assert_eq!(status(&here).await["cluster"]["swap_conflicts"], 1);
    });
}

/// Fails when `heed` forgets of what it was told, or failed looks are not counted.
#[test]
fn a_node_that_is_rung_while_it_cannot_look_is_behind_and_says_so() {
    run_on_s3(Server::Rgw, async |bucket| {
        let (app, link) = (app().await, Link::to(&bucket.endpoint).await);
        let here = node(&bucket, &app, |_| {}).await;
        let there = proxy().origin(&app).on_s3_through(&bucket, &link).set(impatient).start().await;
        link.set(Fault::Cut).await;
        let answer = here.invalidate_path("/").await;
        assert_eq!(told(&answer), [&json!(2), &json!(0), &json!([url(&there)])]);
        assert_eq!(metric(&there, "everpage_journal_records_behind").await, 1);
        assert_eq!(gauge(&there, "everpage_journal_lease_remaining_seconds").await.to_bits(), 0, "it has run out");
        let failed = async || {
            let looks = status(&there).await["cluster"]["looks"].clone();
            looks["failed"].as_u64().unwrap() > 0
        };
        until("a look has failed", failed).await;
        assert!(status(&there).await["cluster"]["outage_seconds"].is_u64());
        // It was asked, and had to say no; or it had not got around to it when its lease was over.
        let calls = status(&here).await["cluster"]["ring_calls"].clone();
        assert_eq!(calls["journal-outage"].as_u64().unwrap() + calls["silent"].as_u64().unwrap(), 1, "{calls}");
        link.set(Fault::None).await;
        let caught_up = async || metric(&there, "everpage_journal_records_behind").await == 0;
        until("it has caught up", caught_up).await;
        until("the outage is over", async || status(&there).await["cluster"]["outage_seconds"].is_null()).await;
        here.stop().await;
        there.stop().await;
    });
}

/// A node with a journal of its own has nobody to be told of.
#[tokio::test]
async fn a_lone_folder_has_no_cluster_and_says_nothing_of_a_lease() {
    let app = app().await;
    let alone = proxy().origin(&app).start().await;
    assert_eq!(told(&alone.invalidate_path("/").await), [&json!(1), &json!(0), &json!([])]);
    assert!(status(&alone).await["cluster"].is_null());
    let metrics = alone.admin("/metrics").await;
    assert!(!metrics.text().contains("lease_remaining"), "{}", metrics.text());
    assert_eq!(metric(&alone, "everpage_invalidation_seconds_count").await, 1);
}

/// The write has arrived, its answer has not, and then S3 is gone for longer than anybody tries: 503. The retry finds the record by its id.
/// Fails when `hear_of_ids` does not look, or goes on when it could not.
#[test]
fn a_retry_after_a_lost_answer_is_the_invalidation_that_was_made() {
    run_on_s3(Server::Rgw, async |bucket| {
        let (app, link) = (app().await, Link::to(&bucket.endpoint).await);
        let second = |config: &mut Config| config.cluster.lease = Duration::from_secs(1);
        let here = proxy().origin(&app).on_s3_through(&bucket, &link).set(second).start().await;
        let there = node(&bucket, &app, second).await;
        there.get("/").await;
        let old = there.revisit("/").await;
        assert_eq!(old.outcome(), "hit");
        // The look for the id passes.
        link.next(1, |passing| passing.is("GET", "/journal/head"), Fault::None);
        link.next(1, |passing| passing.is("PUT", "/journal/head"), Fault::LoseAnswer);
        link.next(usize::MAX, |passing| passing.target.contains("/journal/"), Fault::Cut);
        let body = json!({"paths": ["/"], "id": "order-7"});
        let refused = here.post_invalidate(body.clone()).await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, Some("1")), "{}", refused.text());
        link.forget_plans();
        let answer = retried(&here, &body).await;
        assert_eq!((&answer["sequence"], &answer["repeated"]), (&json!(1), &json!(true)), "{answer}");
        // The other one may not have known it: it was told now.
        let [nodes, acknowledged, waited_out] = told(&answer);
        assert_eq!((nodes, acknowledged == &json!(1)), (&json!(2), waited_out == &json!([])), "{answer}");
        for node in [&there, &here] {
            assert_ne!(node.get("/").await.text(), old.text());
            let again = node.invalidate(body.clone()).await;
            assert_eq!((&again["sequence"], &again["repeated"]), (&json!(1), &json!(true)), "{again}");
            let made: Value = serde_json::from_slice(&node.admin("/invalidations").await.body).unwrap();
            assert_eq!(made["invalidations"].as_array().unwrap().len(), 1, "{made}");
        }
        here.stop().await;
        there.stop().await;
    });
}

/// As a client does it that was told to.
async fn retried(node: &Proxy, body: &Value) -> Value {
    let mut said = Value::Null;
    until("it is durable", async || {
        let answer = node.post_invalidate(body.clone()).await;
        said = serde_json::from_slice(&answer.body).unwrap();
        answer.status == 200
    })
    .await;
    said
}

/// What a command prints that asks this machine.
fn client(machine: &Machine, words: &[&str]) -> String {
    run(Path::new("/"), &[words, &["--admin-url", &machine.server.admin_url()]].concat()).fine()
}

/// Real processes: one is stopped, which nobody can tell from one that is dead. Fails when `everpage status` or `invalidate` leaves out who was waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_names_the_node_that_does_not_answer() {
    let bucket = Server::Rgw.fresh_bucket().await;
    let app = app().await;
    let lease = "cluster.lease = \"300ms\"";
    let (here, there) = (Machine::start(&bucket, &app, &[lease]), Machine::start(&bucket, &app, &[lease]));
    let silent = there.server.admin_url();
    there.server.signal("STOP");
    let said = client(&here, &["invalidate", "/"]);
    assert!(said.starts_with("invalidated on 2 nodes in "), "{said}");
    assert!(said.contains(&format!("did not answer, and their leases were waited for:\n  {silent}\n")), "{said}");
    until("it is passed over", async || {
        let status = client(&here, &["status"]);
        status.contains(&format!("{silent}: passed over"))
    })
    .await;
    let status = client(&here, &["status"]);
    assert!(status.contains(&format!("{}, this one: serves", here.server.admin_url())), "{status}");
    assert!(status.contains("1 invalidation waited for a lease"), "{status}");
    there.server.signal("CONT");
    let ask = Ask::new(there.server.public, Method::GET, "/").send().await;
    assert_eq!(ask.status, 200);
    let answer: Value = serde_json::from_str(&client(&here, &["invalidate", "/", "--json"])).unwrap();
    assert_eq!(told(&answer), [&json!(2), &json!(1), &json!([])]);
    here.stop();
    there.stop();
    bucket.destroy().await;
}

/// What the README and the alarms name is there to be seen, on a node that has done a little of everything. Fails when a metric gets another name.
#[test]
fn every_metric_that_is_documented_is_shown() {
    run_on_s3(Server::Rgw, async |bucket| {
        let app = app().await;
        let here = node(&bucket, &app, |config| config.store.s3.export = true).await;
        here.get("/").await;
        here.written(1).await;
        here.invalidate_path("/").await;
        let mut unknown = Vec::new();
        for file in ["README.md", "deploy/prometheus-rules.yaml"] {
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
            let named = names(&text);
            assert!(named.len() > 3, "{file}: {named:?}");
            let shown = here.admin("/metrics").await;
            let shown = names(shown.text());
            unknown.extend(named.difference(&shown).map(|name| format!("{file}: {name}")));
        }
        assert!(unknown.is_empty(), "no such metric: {unknown:#?}");
        here.stop().await;
    });
}

/// The metrics that a text names.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_';
    let words = text.split(|character| !is_part(character));
    let words = words.filter(|word| word.starts_with("everpage_") && !word.ends_with('_'));
    words.map(str::to_owned).collect()
}
