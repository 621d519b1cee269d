//! A start that cannot succeed: the real binary ends soon, with a sentence that names the setting and what to do. And never says a secret.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use http::Method;
use tokio::io::AsyncWriteExt as _;

use super::machine::{Machine, configuration, disk};
use crate::cli::process::run;
use crate::support::{Ask, Fault, Link, Refusal, Server, TestBucket, origin, raw_origin};

/// Nobody waits longer for a start that fails.
const SOON: Duration = Duration::from_secs(12);

/// `everpage serve` with this `config.toml` ends with exit code 1 and these words on standard error.
async fn assert_not_started(configuration: String, words: &[&str]) {
    let (told, took) = tokio::task::spawn_blocking(move || {
        let disk = disk(&configuration);
        // The origin is not asked.
        let serve = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--origin", "http://127.0.0.1:9"];
        let started = Instant::now();
        (run(disk.path(), &serve).failed(1), started.elapsed())
    })
    .await
    .unwrap();
    assert!(told.starts_with("not started: "), "{told}");
    for word in words {
        assert!(told.contains(word), "{word:?} is missing in: {told}");
    }
    assert_eq!(told.trim_end().lines().count(), 1, "one sentence: {told}");
    assert!(!told.contains("SECRET"), "{told}");
    assert!(took < SOON, "it took {took:?}: {told}");
}

fn of(bucket: &TestBucket, more: &[&str]) -> String {
    configuration(&bucket.name, &bucket.endpoint, more)
}

fn at(endpoint: &str, more: &[&str]) -> String {
    configuration("pages", endpoint, more)
}

/// A configuration in which a line is another.
fn but(configuration: &str, key: &str, value: &str) -> String {
    let lines = configuration.lines().filter(|line| !line.starts_with(key));
    lines.chain([format!("{key} = {value:?}").as_str()]).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_bucket_or_key_is_named() {
    for server in [Server::Moto, Server::Rgw] {
        let absent = configuration("everpage-absent", &server.endpoint(), &[]);
        assert_not_started(absent, &["everpage-absent", "store.s3.bucket", "create_bucket = true"]).await;
    }
    // moto checks no keys.
    let bucket = Server::Rgw.fresh_bucket().await;
    let usual = of(&bucket, &[]);
    let unknown = but(&usual, "store.s3.access_key", "NOBODY");
    assert_not_started(unknown, &[&bucket.name, "is unknown there", "store.s3.access_key"]).await;
    let wrong = but(&usual, "store.s3.secret_key", "NOTTHESECRET");
    assert_not_started(wrong, &[&bucket.name, "does not belong to the access key", "store.s3.secret_key"]).await;
    bucket.destroy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_endpoint_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_not_started(at(&format!("http://{free}"), &[]), &["nothing listens there", "store.s3.endpoint_url"]).await;
    let tls = Server::Rgw.endpoint().replace("http://", "https://");
    assert_not_started(at(&tls, &[]), &["does not speak TLS", "store.s3.endpoint_url", "http://"]).await;
    assert_not_started(at("http://absent.invalid", &[]), &["not resolved", "store.s3.endpoint_url"]).await;
    let link = Link::to(&Server::Rgw.endpoint()).await;
    link.set(Fault::BlackHole).await;
    let short = ["store.s3.read_timeout = \"1s\""];
    assert_not_started(at(&link.url(), &short), &["no answer in time", "store.s3.endpoint_url"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_region_clock_or_token_is_named() {
    let moved = raw_origin(|mut stream, _| async move {
        let answer = b"HTTP/1.1 301 Moved Permanently\r\nx-amz-bucket-region: eu-west-1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(answer).await;
    })
    .await;
    assert_not_started(at(&format!("http://{moved}"), &[]), &["store.s3.region = \"eu-west-1\""]).await;
    let link = Link::to(&Server::Rgw.endpoint()).await;
    for (refusal, words) in [
        (Refusal::RequestTimeTooSkewed, ["clock", "set it right"]),
        (Refusal::ExpiredToken, ["have expired", "store.s3.session_token"]),
        (Refusal::AccessDenied, ["s3:ListBucket", "store.s3.bucket"]),
    ] {
        link.set(Fault::Refuse(refusal)).await;
        assert_not_started(at(&link.url(), &[]), &words).await;
    }
}

#[test]
fn what_a_configuration_itself_shows_to_be_wrong_is_wrong_usage() {
    for command in ["serve", "check"] {
        let authorities = ["store.s3.ca_file = \"absent.pem\""];
        let told = run(disk(&at("https://localhost:1", &authorities)).path(), &[command]).failed(64);
        assert!(told.contains("absent.pem") && told.contains("store.s3.ca_file"), "{told}");
        let told = run(disk("store.kind = \"s3\"\n").path(), &[command]).failed(64);
        assert!(told.contains("store.kind: there is no bucket") && told.contains("[store.s3]"), "{told}");
    }
}

/// Not even a log that tells everything says it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_is_said_nowhere() {
    let bucket = Server::Rgw.fresh_bucket().await;
    let origin = origin().counted("/").start().await;
    let disk = disk(&of(&bucket, &["log.level = \"trace\"", "store.s3.session_token = \"\""]));
    for more in [&["check"][..], &["check", "--json"]] {
        let said = run(disk.path(), more).fine();
        assert!(said.contains(&bucket.name) && !said.contains("SECRET"), "{said}");
    }
    let mut machine = Machine::on(disk, &origin);
    assert_eq!(machine.server.get("/").await.outcome(), "miss");
    for target in ["/status", "/metrics", "/readyz", "/pages", "/"] {
        let answer = Ask::new(machine.server.admin, Method::GET, target).host("localhost").send().await;
        assert_eq!(answer.status, 200);
        assert!(!answer.text().contains("SECRET"), "{target}: {}", answer.text());
    }
    machine.server.signal("TERM");
    assert_eq!(machine.server.wait().code(), Some(0));
    let log = machine.server.log();
    assert!(log.contains("TRACE"), "it tells everything");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("SECRET")).collect();
    assert!(lines.is_empty(), "{lines:#?}");
    bucket.destroy().await;
}
