//! Whatever is wrong with the settings is told at start, with what to do.

use std::time::Duration;

use everpage::config::{S3Store, Secret};
use everpage::store::s3::bucket::{Bucket, S3Error, S3ErrorKind};

use super::below;
use super::trouble::answering;
use crate::support::{Server, TestBucket, on_each_server};

on_each_server![a_bucket_that_does_not_exist_is_named, a_plain_port_does_not_speak_tls];

async fn refused(settings: S3Store) -> S3Error {
    Bucket::open(&settings).await.expect_err("it must not open")
}

#[track_caller]
fn assert_says(error: &S3Error, kind: S3ErrorKind, words: &[&str]) {
    assert_eq!(error.kind, kind, "{error}");
    for word in words {
        assert!(error.advice.contains(word), "{word:?} is missing in: {error}");
    }
    assert!(!error.advice.contains("SECRET"), "{error}");
}

async fn a_bucket_that_does_not_exist_is_named(bucket: TestBucket) {
    let error = refused(S3Store { bucket: "everpage-absent".to_owned(), ..bucket.settings() }).await;
    let endpoint = bucket.endpoint.as_str();
    assert_says(&error, S3ErrorKind::NoBucket, &["everpage-absent", "store.s3.bucket", "create_bucket", endpoint]);
}

async fn a_plain_port_does_not_speak_tls(bucket: TestBucket) {
    let https = bucket.endpoint.replace("http://", "https://").parse().unwrap();
    for verify in [true, false] {
        let endpoint_url = Some(Clone::clone(&https));
        let error = refused(S3Store { endpoint_url, verify, ..bucket.settings() }).await;
        assert_says(&error, S3ErrorKind::Unreachable, &["should begin with http://"]);
    }
}

#[tokio::test]
async fn an_unknown_access_key_is_told() {
    let bucket = Server::Rgw.fresh_bucket().await;
    let error = refused(S3Store { access_key: Secret::new("NOBODY".to_owned()), ..bucket.settings() }).await;
    assert_says(&error, S3ErrorKind::Credentials, &["unknown", "store.s3.access_key"]);
    bucket.destroy().await;
}

#[tokio::test]
async fn a_wrong_secret_key_is_told() {
    let bucket = Server::Rgw.fresh_bucket().await;
    let error = refused(S3Store { secret_key: Secret::new("WRONGSECRET".to_owned()), ..bucket.settings() }).await;
    assert_says(&error, S3ErrorKind::Credentials, &["store.s3.secret_key"]);
    bucket.destroy().await;
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_told() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = refused(elsewhere(&format!("http://{free}"))).await;
    assert_says(&error, S3ErrorKind::Unreachable, &["nothing listens there", "store.s3.endpoint_url"]);
}

#[tokio::test]
async fn a_name_that_is_not_resolved_is_told() {
    let error = refused(elsewhere("http://s3.invalid:1")).await;
    assert_says(&error, S3ErrorKind::Unreachable, &["not resolved", "store.s3.endpoint_url"]);
}

#[tokio::test]
async fn the_region_of_the_bucket_is_named() {
    let server = answering(
        "HTTP/1.1 301 Moved Permanently\r\nx-amz-bucket-region: eu-central-1\r\nContent-Length: 62\r\n\r\n\
         <Error><Code>PermanentRedirect</Code><Message></Message></Error>",
    );
    let error = refused(elsewhere(&server.await)).await;
    assert_says(&error, S3ErrorKind::WrongRegion, &["store.s3.region = \"eu-central-1\""]);
    let server = answering(
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 97\r\n\r\n\
         <Error><Code>AuthorizationHeaderMalformed</Code><Message/><Region>eu-central-1</Region></Error>  ",
    );
    let error = refused(elsewhere(&server.await)).await;
    assert_says(&error, S3ErrorKind::WrongRegion, &["store.s3.region = \"eu-central-1\""]);
}

#[tokio::test]
async fn a_wrong_clock_an_expired_token_and_a_missing_permission_are_told() {
    let code = async |code: &str| {
        let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
        let date = "Date: Thu, 01 Jan 2026 00:00:00 GMT";
        let head = format!("HTTP/1.1 403 Forbidden\r\n{date}\r\nContent-Length: {}\r\n\r\n", body.len());
        refused(elsewhere(&answering(&(head + &body)).await)).await
    };
    let error = code("RequestTimeTooSkewed").await;
    assert_says(&error, S3ErrorKind::Clock, &["ahead of the server's"]);
    let error = code("ExpiredToken").await;
    assert_says(&error, S3ErrorKind::Credentials, &["have expired", "session_token"]);
    let error = code("AccessDenied").await;
    assert_says(&error, S3ErrorKind::Forbidden, &["s3:ListBucket", "store.s3.access_key"]);
}

#[tokio::test]
async fn a_region_is_needed_where_no_endpoint_is_named() {
    let settings = S3Store { endpoint_url: None, region: String::new(), ..elsewhere("http://127.0.0.1:1") };
    let error = refused(settings).await;
    assert_says(&error, S3ErrorKind::WrongRegion, &["store.s3.region", "AWS_REGION"]);
}

#[tokio::test]
async fn a_profile_that_does_not_exist_is_named() {
    let none = Secret::new(String::new());
    let profile = "everpage-has-no-such-profile".to_owned();
    let settings = S3Store { profile, access_key: none.clone(), secret_key: none, ..elsewhere("http://127.0.0.1:1") };
    let error = refused(settings).await;
    assert_says(&error, S3ErrorKind::Credentials, &["everpage-has-no-such-profile", "looked in"]);
}

#[tokio::test]
async fn a_file_of_authorities_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    for path in [empty, folder.path().join("absent.pem")] {
        let name = path.display().to_string();
        let error = refused(S3Store { ca_file: Some(path), ..elsewhere("https://127.0.0.1:1") }).await;
        assert_says(&error, S3ErrorKind::Other, &["store.s3.ca_file", &name]);
    }
}

fn elsewhere(endpoint: &str) -> S3Store {
    let bucket = TestBucket { name: "pages".to_owned(), ..TestBucket::at(endpoint) };
    S3Store { read_timeout: Duration::from_secs(10), ..below(&bucket, "site") }
}
