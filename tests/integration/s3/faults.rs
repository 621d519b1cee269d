//! The bucket behind a link that breaks: slower, or an error in words, but never a wrong answer and never a second write.

use std::time::Duration;

use bytes::Bytes;
use everpage::store::s3::Health;
use everpage::store::s3::bucket::{Attributes, Bucket, Condition, S3Error, S3ErrorKind, Swap};

use crate::support::{Fault, Gate, Link, Refusal, TestBucket, on_each_server};

on_each_server![
    a_lost_answer_to_a_swap_is_unknown_and_never_a_second_write,
    a_late_answer_to_a_swap_is_unknown_and_never_a_second_write,
    a_failing_answer_to_a_swap_is_not_tried_again,
    a_swap_that_never_arrived_is_unknown_too,
    a_lost_answer_to_a_put_is_tried_again,
    a_body_that_is_reset_goes_on_where_it_broke_off,
    a_body_that_is_reset_again_and_again_is_never_a_short_object,
    an_object_replaced_between_the_pieces_is_never_mixed,
    slow_down_is_answered_by_waiting,
    an_outage_opens_the_breaker_which_closes_by_itself,
    a_refused_connection_is_said_in_words,
    a_server_that_says_nothing_is_given_up_in_time,
    a_wrong_clock_and_expired_keys_are_said_in_words,
    a_bucket_deleted_while_running_is_said_in_words,
];

/// No object of these tests is larger.
const MOST: u64 = 1 << 20;

/// A link to the bucket's server, and everpage at its end.
async fn far(bucket: &TestBucket) -> (Link, Bucket) {
    let link = Link::to(&bucket.endpoint).await;
    let far = Bucket::open(&bucket.settings_through(&link.url())).await.unwrap();
    (link, far)
}

/// The same, but an answer that takes longer than half a second does not count.
async fn impatient(bucket: &TestBucket) -> (Link, Bucket) {
    let link = Link::to(&bucket.endpoint).await;
    // Opening takes what it needs.
    let mut settings = bucket.settings_through(&link.url());
    settings.read_timeout = Duration::from_millis(500);
    let mut opened = Bucket::open(&settings).await;
    for _ in 0..5 {
        match opened {
            Err(error) if error.kind == S3ErrorKind::Timeout => opened = Bucket::open(&settings).await,
            _ => break,
        }
    }
    (link, opened.unwrap())
}

fn kind<T: std::fmt::Debug>(result: Result<T, S3Error>) -> S3ErrorKind {
    result.unwrap_err().kind
}

fn writes(link: &Link, key: &str) -> usize {
    link.count(|passing| passing.is("PUT", key))
}

async fn a_lost_answer_to_a_swap_is_unknown_and_never_a_second_write(bucket: TestBucket) {
    let (link, far) = far(&bucket).await;
    link.next(1, |passing| passing.is("PUT", "/head"), Fault::LoseAnswer);
    let lost = far.swap("head", Bytes::from_static(b"mine"), &Condition::Absent).await;
    assert_eq!(kind(lost), S3ErrorKind::Unreachable);
    assert_eq!(writes(&link, "/head"), 1);
    // Reading tells.
    let found = far.get("head", MOST).await.unwrap().unwrap();
    assert_eq!(found.bytes, "mine");
    link.next(1, |passing| passing.is("PUT", "/head"), Fault::LoseAnswer);
    let lost = far.swap("head", Bytes::from_static(b"mine again"), &Condition::Is(found.version.clone())).await;
    assert_eq!(kind(lost), S3ErrorKind::Unreachable);
    assert_eq!(writes(&link, "/head"), 2);
    assert_eq!(bucket.read("head").await.unwrap(), "mine again");
    let late = far.swap("head", Bytes::from_static(b"late"), &Condition::Is(found.version)).await;
    assert_eq!(late.unwrap(), Swap::Lost);
}

async fn a_late_answer_to_a_swap_is_unknown_and_never_a_second_write(bucket: TestBucket) {
    let (link, far) = impatient(&bucket).await;
    let gate = Gate::default();
    link.next(1, |passing| passing.is("PUT", "/head"), Fault::HoldAnswer(gate.clone()));
    let late = far.swap("head", Bytes::from_static(b"mine"), &Condition::Absent).await;
    assert_eq!(kind(late), S3ErrorKind::Timeout);
    gate.open();
    assert_eq!(writes(&link, "/head"), 1);
    assert_eq!(bucket.read("head").await.unwrap(), "mine");
}

async fn a_failing_answer_to_a_swap_is_not_tried_again(bucket: TestBucket) {
    let (link, far) = far(&bucket).await;
    let kinds = [(Refusal::InternalError, S3ErrorKind::Server), (Refusal::SlowDown, S3ErrorKind::Throttled)];
    for (sent, (refusal, expected)) in (1..).zip(kinds) {
        link.next(1, |passing| passing.is("PUT", "/head"), Fault::Refuse(refusal));
        assert_eq!(kind(far.swap("head", Bytes::from_static(b"mine"), &Condition::Absent).await), expected);
        assert_eq!(writes(&link, "/head"), sent);
    }
    for refusal in [Refusal::ConditionalRequestConflict, Refusal::PreconditionFailed] {
        link.next(1, |passing| passing.is("PUT", "/head"), Fault::Refuse(refusal));
        assert_eq!(far.swap("head", Bytes::from_static(b"mine"), &Condition::Absent).await.unwrap(), Swap::Lost);
    }
    assert_eq!(bucket.read("head").await, None);
}

async fn a_swap_that_never_arrived_is_unknown_too(bucket: TestBucket) {
    let (link, far) = far(&bucket).await;
    link.next(1, |passing| passing.is("PUT", "/head"), Fault::Cut);
    let lost = far.swap("head", Bytes::from_static(b"mine"), &Condition::Absent).await;
    assert_eq!(kind(lost), S3ErrorKind::Unreachable);
    assert_eq!(writes(&link, "/head"), 1);
    assert_eq!(bucket.read("head").await, None);
}

async fn a_lost_answer_to_a_put_is_tried_again(bucket: TestBucket) {
    let (link, far) = far(&bucket).await;
    link.next(1, |passing| passing.is("PUT", "/page"), Fault::LoseAnswer);
    far.put("page", vec![Bytes::from_static(b"page")], &Attributes::default()).await.unwrap();
    assert_eq!(writes(&link, "/page"), 2);
    assert_eq!(bucket.read("page").await.unwrap(), "page");
}

async fn a_body_that_is_reset_goes_on_where_it_broke_off(bucket: TestBucket) {
    let (link, far) = far(&bucket).await;
    let whole: Vec<u8> = (0..300_000_u32).map(|byte| (byte % 251) as u8).collect();
    bucket.plant("page", whole.clone()).await;
    link.next(1, |passing| passing.is("GET", "/page"), Fault::ResetBody { after: 100_000 });
    assert_eq!(far.get("page", MOST).await.unwrap().unwrap().bytes, whole);
    let asked = link.requests().into_iter().filter(|passing| passing.is("GET", "/page"));
    let terms: Vec<_> = asked.map(|passing| passing.terms).collect();
    assert_eq!(terms.len(), 2);
    assert!(terms[1][0].starts_with("bytes=") && terms[1][0] != "bytes=0-", "the rest, not all: {terms:?}");
    assert_ne!(terms[1][1], "", "the rest of this version: {terms:?}");
}

async fn a_body_that_is_reset_again_and_again_is_never_a_short_object(bucket: TestBucket) {
    let (link, far) = far(&bucket).await;
    bucket.plant("page", vec![b'x'; 300_000]).await;
    link.set(Fault::ResetBody { after: 0 }).await;
    assert_eq!(kind(far.get("page", MOST).await), S3ErrorKind::Unreachable);
    link.set(Fault::None).await;
    assert_eq!(far.get("page", MOST).await.unwrap().unwrap().bytes.len(), 300_000);
}

async fn an_object_replaced_between_the_pieces_is_never_mixed(bucket: TestBucket) {
    let (link, far) = far(&bucket).await;
    bucket.plant("page", vec![b'1'; 300_000]).await;
    let gate = Gate::default();
    link.next(1, |passing| passing.is("GET", "/page"), Fault::ResetBody { after: 100_000 });
    link.next(1, |passing| passing.is("GET", "/page"), Fault::HoldRequest(gate.clone()));
    let reading = tokio::spawn(async move { far.get("page", MOST).await });
    gate.arrival().await;
    bucket.plant("page", vec![b'2'; 300_000]).await;
    gate.release();
    match reading.await.unwrap() {
        Ok(found) => assert_eq!(found.unwrap().bytes, vec![b'2'; 300_000]),
        Err(error) => assert!(error.advice.contains("page"), "{error}"),
    }
}

async fn slow_down_is_answered_by_waiting(bucket: TestBucket) {
    let (link, far) = far(&bucket).await;
    link.next(2, |passing| passing.is("PUT", "/page"), Fault::Refuse(Refusal::SlowDown));
    far.put("page", vec![Bytes::from_static(b"page")], &Attributes::default()).await.unwrap();
    assert_eq!(writes(&link, "/page"), 3);
    link.next(2, |passing| passing.is("GET", "/page"), Fault::Refuse(Refusal::SlowDown));
    assert_eq!(far.get("page", MOST).await.unwrap().unwrap().bytes, "page");
    assert_eq!(far.health(), Health::Closed);
}

async fn an_outage_opens_the_breaker_which_closes_by_itself(bucket: TestBucket) {
    let (link, far) = far(&bucket).await;
    bucket.plant("page", "page").await;
    link.set(Fault::Refuse(Refusal::InternalError)).await;
    let mut tries = 0;
    while far.health() == Health::Closed {
        far.get("page", MOST).await.unwrap_err();
        tries += 1;
        assert!(tries < 10, "the breaker does not open");
    }
    let before = link.requests().len();
    assert_eq!(kind(far.get("page", MOST).await), S3ErrorKind::Open);
    assert_eq!(kind(far.swap("head", Bytes::new(), &Condition::Absent).await), S3ErrorKind::Open);
    assert_eq!(link.requests().len(), before, "nobody is asked");
    link.set(Fault::None).await;
    let recovery = async {
        while far.get("page", MOST).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), recovery).await.expect("it closes by itself");
    assert_eq!(far.health(), Health::Closed);
}

async fn a_refused_connection_is_said_in_words(bucket: TestBucket) {
    let (link, far) = far(&bucket).await;
    link.set(Fault::Cut).await;
    let refused = far.get("page", MOST).await.unwrap_err();
    assert_eq!(refused.kind, S3ErrorKind::Unreachable);
    assert!(refused.advice.contains("store.s3.endpoint_url"), "{refused}");
}

async fn a_server_that_says_nothing_is_given_up_in_time(bucket: TestBucket) {
    let (link, far) = impatient(&bucket).await;
    bucket.plant("page", "page").await;
    link.set(Fault::BlackHole).await;
    assert_eq!(kind(far.get("page", MOST).await), S3ErrorKind::Timeout);
    assert_eq!(kind(far.swap("head", Bytes::new(), &Condition::Absent).await), S3ErrorKind::Timeout);
}

async fn a_wrong_clock_and_expired_keys_are_said_in_words(bucket: TestBucket) {
    let (link, far) = far(&bucket).await;
    let faults = [
        (Refusal::RequestTimeTooSkewed, S3ErrorKind::Clock, "s behind the server's"),
        (Refusal::ExpiredToken, S3ErrorKind::Credentials, "have expired"),
        (Refusal::AccessDenied, S3ErrorKind::Forbidden, "s3:GetObject"),
    ];
    for (refusal, kind, words) in faults {
        link.set(Fault::Refuse(refusal)).await;
        let running = far.get("page", MOST).await.unwrap_err();
        assert_eq!(running.kind, kind);
        assert!(running.advice.contains(words), "{running}");
        // At the start as well.
        let starting = Bucket::open(&bucket.settings_through(&link.url())).await.unwrap_err();
        assert_eq!(starting.kind, kind, "{starting}");
    }
    assert_eq!(far.health(), Health::Closed, "S3 is well: it is we who are not");
}

async fn a_bucket_deleted_while_running_is_said_in_words(bucket: TestBucket) {
    let (_link, far) = far(&bucket).await;
    far.put("page", vec![Bytes::from_static(b"page")], &Attributes::default()).await.unwrap();
    bucket.destroy().await;
    let gone = far.get("page", MOST).await.unwrap_err();
    assert_eq!(gone.kind, S3ErrorKind::NoBucket);
    assert!(gone.advice.contains(&bucket.name), "{gone}");
    assert_eq!(kind(far.put("page", Vec::new(), &Attributes::default()).await), S3ErrorKind::NoBucket);
    assert_eq!(kind(far.swap("head", Bytes::new(), &Condition::Absent).await), S3ErrorKind::NoBucket);
    assert_eq!(kind(far.list("", None, 10).await), S3ErrorKind::NoBucket);
    bucket.client.create_bucket().bucket(&bucket.name).send().await.unwrap();
    assert!(far.get("page", MOST).await.unwrap().is_none(), "it goes on by itself");
}
