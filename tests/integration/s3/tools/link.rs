//! Each fault of the link, as a client sees it, and what the server makes of it.

use std::io::ErrorKind;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::{Fault, Gate, Liar, Lie, Link, Refusal, TestBucket, s3_client};

/// A bucket, a link to its server, and a client at the link's end.
struct Line {
    _liar: Liar,
    bucket: TestBucket,
    link: Link,
    far: Client,
}

impl Line {
    async fn new() -> Self {
        let liar = Liar::start(Lie::None).await;
        let bucket = TestBucket::fresh(&liar.url()).await;
        let link = Link::to(&liar.url()).await;
        let far = s3_client(&link.url());
        Line { _liar: liar, bucket, link, far }
    }

    fn put(&self, key: &str) -> aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder {
        self.far.put_object().bucket(&self.bucket.name).key(key).body(ByteStream::from_static(b"new"))
    }

    fn get(&self, key: &str) -> aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder {
        self.far.get_object().bucket(&self.bucket.name).key(key)
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect(self.link.url().strip_prefix("http://").unwrap()).await
    }
}

#[tokio::test]
async fn a_cut_link_resets_what_is_open_and_refuses_what_is_new() {
    let line = Line::new().await;
    let mut open = line.connect().await.unwrap();
    // An answer shows that the link has taken the connection.
    tokio::io::AsyncWriteExt::write_all(&mut open, b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut bytes = [0; 4096];
    assert_ne!(open.read(&mut bytes).await.unwrap(), 0);
    line.link.set(Fault::Cut).await;
    assert_eq!(open.read(&mut bytes).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(line.connect().await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(matches!(line.put("k").send().await.unwrap_err(), SdkError::DispatchFailure(_)));
    line.link.set(Fault::None).await;
    line.put("k").send().await.unwrap();
    assert_eq!(line.bucket.read("k").await.unwrap(), "new");
}

#[tokio::test]
async fn a_black_hole_answers_nobody_until_it_closes() {
    let line = Line::new().await;
    line.link.set(Fault::BlackHole).await;
    let mut waiting = tokio::spawn(line.put("k").send());
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    assert_eq!(line.bucket.read("k").await, None);
    line.link.set(Fault::None).await;
    waiting.await.unwrap().unwrap();
    assert_eq!(line.bucket.read("k").await.unwrap(), "new");
}

#[tokio::test]
async fn a_slow_link_is_late_and_then_slow() {
    let line = Line::new().await;
    line.bucket.plant("k", vec![b'x'; 1000]).await;
    let (first_byte, bytes_per_second) = (Duration::from_millis(150), 4000);
    line.link.set(Fault::Slow { first_byte, bytes_per_second }).await;
    let asked = tokio::time::Instant::now();
    let found = line.get("k").send().await.unwrap();
    assert!(asked.elapsed() >= first_byte);
    assert_eq!(found.body.collect().await.unwrap().into_bytes().len(), 1000);
    // The last piece is not waited for.
    assert!(asked.elapsed() >= first_byte + Duration::from_millis(200));
}

#[tokio::test]
async fn a_body_is_reset_after_as_many_bytes_as_told() {
    let line = Line::new().await;
    line.bucket.plant("large", vec![b'x'; 1 << 20]).await;
    line.bucket.plant("small", "0123456789").await;
    for (key, after) in [("large", 40_000), ("small", 4), ("small", 0)] {
        line.link.next(1, |_| true, Fault::ResetBody { after });
        let mut body = line.get(key).send().await.unwrap().body;
        let mut come = 0;
        let end = loop {
            match body.next().await.expect("a reset is no end") {
                Ok(piece) => come += piece.len() as u64,
                Err(error) => break format!("{:?}", std::error::Error::source(&error)),
            }
        };
        assert_eq!(come, after, "{key}");
        assert!(end.contains("ConnectionReset"), "{key}: {end}");
    }
    line.link.next(1, |_| true, Fault::ResetBody { after: 10 });
    let small = line.get("small").send().await.unwrap().body.collect().await;
    assert_eq!(small.unwrap().into_bytes(), "0123456789", "it has no more than that");
}

#[tokio::test]
async fn a_lost_answer_is_of_a_request_that_was_carried_out() {
    let line = Line::new().await;
    line.link.next(1, |passing| passing.is("PUT", "/k"), Fault::LoseAnswer);
    let lost = line.put("k").if_none_match("*").send().await.unwrap_err();
    assert!(matches!(lost, SdkError::DispatchFailure(_)), "{lost:?}");
    assert_eq!(line.bucket.read("k").await.unwrap(), "new");
    assert_eq!(line.link.requests().len(), 1);
}

#[tokio::test]
async fn a_request_that_is_cut_was_not_carried_out() {
    let line = Line::new().await;
    line.link.next(1, |passing| passing.is("PUT", "/k"), Fault::Cut);
    let cut = line.put("k").send().await.unwrap_err();
    assert!(matches!(cut, SdkError::DispatchFailure(_)), "{cut:?}");
    assert_eq!(line.bucket.read("k").await, None);
    line.put("k").send().await.unwrap();
}

#[tokio::test]
async fn a_refusal_speaks_as_s3_does_and_the_server_hears_nothing() {
    let line = Line::new().await;
    let refusals = [
        (Refusal::SlowDown, "SlowDown", 503),
        (Refusal::InternalError, "InternalError", 500),
        (Refusal::ServiceUnavailable, "ServiceUnavailable", 503),
        (Refusal::RequestTimeTooSkewed, "RequestTimeTooSkewed", 403),
        (Refusal::ExpiredToken, "ExpiredToken", 400),
        (Refusal::AccessDenied, "AccessDenied", 403),
        (Refusal::NoSuchBucket, "NoSuchBucket", 404),
        (Refusal::ConditionalRequestConflict, "ConditionalRequestConflict", 409),
        (Refusal::PreconditionFailed, "PreconditionFailed", 412),
    ];
    for (refusal, code, status) in refusals {
        line.link.set(Fault::Refuse(refusal)).await;
        let refused = line.put("k").send().await.unwrap_err();
        assert_eq!(refused.code(), Some(code));
        assert_eq!(refused.raw_response().unwrap().status().as_u16(), status);
    }
    assert_eq!(line.bucket.read("k").await, None);
}

#[tokio::test]
async fn only_the_next_requests_that_match_suffer() {
    let line = Line::new().await;
    line.link.next(2, |passing| passing.is("PUT", "/k"), Fault::Refuse(Refusal::SlowDown));
    line.put("other").send().await.unwrap();
    assert!(line.put("k").send().await.is_err());
    assert!(line.get("other").send().await.is_ok());
    assert!(line.put("k").send().await.is_err());
    line.put("k").send().await.unwrap();
    assert_eq!(line.link.count(|passing| passing.is("PUT", "/k")), 3);
    line.link.next(1, |_| true, Fault::Cut);
    line.link.forget_plans();
    line.put("k").if_match("\"0\"").send().await.unwrap_err();
    assert_eq!(line.link.requests().last().unwrap().terms, ["", "\"0\"", ""]);
}

#[tokio::test]
async fn the_date_of_an_answer_differs_as_told() {
    let line = Line::new().await;
    let date = async || {
        let absent = line.get("nothing").send().await.unwrap_err();
        httpdate::parse_http_date(absent.raw_response().unwrap().headers().get("date").unwrap()).unwrap()
    };
    let honest = date().await;
    line.link.set(Fault::SkewDate(-3600)).await;
    let early = date().await;
    assert!(honest.duration_since(early).unwrap() > Duration::from_secs(3000));
    line.link.set(Fault::SkewDate(3600)).await;
    assert!(date().await.duration_since(honest).unwrap() >= Duration::from_secs(3600));
}

#[tokio::test]
async fn a_held_request_reaches_the_server_late_even_if_its_client_has_gone() {
    let line = Line::new().await;
    let gate = Gate::default();
    line.link.next(1, |passing| passing.is("PUT", "/k"), Fault::HoldRequest(gate.clone()));
    let impatient = tokio::spawn(line.put("k").send());
    gate.arrival().await;
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    assert_eq!(line.bucket.read("k").await, None);
    gate.release();
    while line.bucket.read("k").await.is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_held_answer_is_of_a_request_that_was_carried_out() {
    let line = Line::new().await;
    let gate = Gate::default();
    line.link.next(1, |passing| passing.is("PUT", "/k"), Fault::HoldAnswer(gate.clone()));
    let waiting = tokio::spawn(line.put("k").send());
    gate.arrival().await;
    assert_eq!(line.bucket.read("k").await, Some(Bytes::from_static(b"new")));
    assert!(!waiting.is_finished());
    gate.release();
    waiting.await.unwrap().unwrap();
}
