//! Large pages in S3: on their way in, after a restart, in ranges, to visitors who leave, and when the bucket does not take them.

use bytes::Bytes;
use http::Method;

use super::machine::{Machine, stored, written};
use super::outage::{metric, until};
use crate::support::{Ask, Fault, Link, Origin, Refusal, Reply, Server, next_piece, origin, proxy, run_on_s3};

/// Memory that the whole process may ever take while it serves [`FILM`].
const MEMORY: u64 = 100_000_000;
const FILM: usize = 64 << 20;

/// Bytes that say something at each place.
fn bytes(count: usize) -> Bytes {
    (0..count as u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<u8>>().into()
}

async fn film(body: &Bytes) -> Origin {
    let body = body.clone();
    let film = move |_| {
        let body = body.clone();
        async move { Reply::new(body).header("content-type", "video/mp4") }
    };
    origin().counted("/").route("/film", film).start().await
}

/// Fails when `Intake::take` pushes all of a body into the flight, when an upload holds more than its parts, or a look into S3 reads it whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_takes_little_memory_and_comes_back_from_the_bucket() {
    let bucket = Server::Rgw.fresh_bucket().await;
    let body = bytes(FILM);
    let origin = film(&body).await;
    let first = Machine::start(&bucket, &origin, &[]);
    let answer = first.server.get("/film").await;
    assert_eq!((answer.outcome(), answer.complete, answer.body == body), ("miss", true, true));
    written(&bucket, 1).await;
    let peak = first.server.peak_memory_bytes();
    assert!(peak < MEMORY, "{peak} bytes of memory");
    first.kill();
    let second = Machine::start(&bucket, &origin, &[]);
    let public = second.server.public;
    // One who leaves in the middle.
    let mut leaver = Ask::new(public, Method::GET, "/film").open().await;
    assert!(next_piece(&mut leaver).await.is_some());
    drop(leaver);
    let (one, other) = tokio::join!(second.server.get("/film"), second.server.get("/film"));
    for hit in [one, other] {
        assert_eq!((hit.detail(), hit.complete, hit.body == body), (Some("s3"), true, true));
    }
    let middle = FILM / 2..FILM / 2 + 1000;
    let range = format!("bytes={}-{}", middle.start, middle.end - 1);
    let part = Ask::new(public, Method::GET, "/film").header("range", &range).send().await;
    assert_eq!((part.status.as_u16(), part.body == body[middle]), (206, true));
    let last = Ask::new(public, Method::GET, "/film").header("range", "bytes=-10,0-9").send().await;
    assert_eq!(last.status, 206);
    assert!(last.header("content-type").unwrap().starts_with("multipart/byteranges"));
    let head = Ask::new(public, Method::HEAD, "/film").send().await;
    assert_eq!((head.outcome(), head.header("content-length")), ("hit", Some(FILM.to_string().as_str())));
    assert_eq!(origin.hits("/film"), 1);
    let peak = second.server.peak_memory_bytes();
    assert!(peak < MEMORY, "{peak} bytes of memory");
    second.stop();
    assert!(bucket.uploads().await.is_empty());
    bucket.destroy().await;
}

/// Whoever was first leaves; the page is fetched to its end and stored all the same.
#[test]
fn a_visitor_who_leaves_does_not_keep_a_film_from_the_bucket() {
    run_on_s3(Server::Rgw, async |bucket| {
        let body = bytes(12 << 20);
        let origin = film(&body).await;
        let proxy = proxy().origin(&origin).on_s3(&bucket).start().await;
        let mut leaver = proxy.ask(Method::GET, "/film").open().await;
        assert!(next_piece(&mut leaver).await.is_some());
        drop(leaver);
        written(&bucket, 1).await;
        let hit = proxy.revisit("/film").await;
        assert_eq!((hit.detail(), hit.body == body, origin.hits("/film")), (Some("s3"), true, 1));
        assert!(bucket.uploads().await.is_empty());
    });
}

/// Fails when an upload that has failed is not aborted.
#[test]
fn an_upload_that_fails_leaves_nothing_behind() {
    run_on_s3(Server::Rgw, async |bucket| {
        let body = bytes(20 << 20);
        let (origin, link) = (film(&body).await, Link::to(&bucket.endpoint).await);
        let proxy = proxy().origin(&origin).on_s3_through(&bucket, &link).start().await;
        link.next(1, |passing| passing.is("PUT", "partNumber=2"), Fault::Refuse(Refusal::AccessDenied));
        let answer = proxy.get("/film").await;
        assert_eq!((answer.outcome(), answer.complete, answer.body == body), ("miss", true, true));
        until("it has failed", async || metric(&proxy, "everpage_store_errors_total").await == 1).await;
        until("it is aborted", async || bucket.uploads().await.is_empty()).await;
        assert!(stored(&bucket).await.is_empty());
        assert!(link.count(|passing| passing.is("PUT", "partNumber=1")) > 0, "it was an upload in parts");
        // The next visitor brings it there.
        assert_eq!(proxy.revisit("/film").await.outcome(), "miss");
        written(&bucket, 1).await;
        let hit = proxy.revisit("/film").await;
        assert_eq!((hit.detail(), hit.body == body), (Some("s3"), true));
    });
}

/// The connection to S3 breaks while a visitor reads: he gets the whole all the same. Fails when a body is not gone on with where it broke.
#[test]
fn a_film_whose_connection_breaks_on_the_way_comes_whole() {
    run_on_s3(Server::Rgw, async |bucket| {
        let body = bytes(12 << 20);
        let (origin, link) = (film(&body).await, Link::to(&bucket.endpoint).await);
        let proxy = proxy().origin(&origin).on_s3_through(&bucket, &link).start().await;
        proxy.get("/film").await;
        written(&bucket, 1).await;
        link.next(2, |passing| passing.is("GET", "/pages/"), Fault::ResetBody { after: 1 << 20 });
        let hit = proxy.revisit("/film").await;
        assert_eq!((hit.detail(), hit.complete, hit.body == body), (Some("s3"), true, true));
    });
}
