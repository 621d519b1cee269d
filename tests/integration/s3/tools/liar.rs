//! Each lie is told, and none without being asked for.

use aws_sdk_s3::primitives::ByteStream;
use tokio::task::JoinSet;

use crate::support::{Liar, Lie, Server, TestBucket};

/// So many write at once.
const RACERS: usize = 8;

/// How many of those that race to create an object win, and how many of those that race to replace it.
async fn winners(bucket: &TestBucket) -> (usize, usize) {
    let created = race(bucket, None).await;
    let present = bucket.client.head_object().bucket(&bucket.name).key("k").send().await.unwrap();
    (created, race(bucket, present.e_tag()).await)
}

async fn race(bucket: &TestBucket, etag: Option<&str>) -> usize {
    let mut racers = JoinSet::new();
    for racer in 0..RACERS {
        let body = ByteStream::from(format!("{etag:?} {racer}").into_bytes());
        let put = bucket.client.put_object().bucket(&bucket.name).key("k").body(body);
        let put = match etag {
            Some(etag) => put.if_match(etag),
            None => put.if_none_match("*"),
        };
        racers.spawn(async move { put.send().await.is_ok() });
    }
    racers.join_all().await.into_iter().filter(|won| *won).count()
}

/// Status of a write to a key that is there, on condition that it is not; and on condition of a tag that it has not.
async fn refusals(bucket: &TestBucket) -> (u16, u16) {
    bucket.plant("there", "1").await;
    let put = || bucket.client.put_object().bucket(&bucket.name).key("there").body(ByteStream::from_static(b"2"));
    let status = |sent: Result<_, aws_sdk_s3::error::SdkError<_>>| match sent {
        Ok(_) => 200,
        Err(error) => error.raw_response().unwrap().status().as_u16(),
    };
    let absent = status(put().if_none_match("*").send().await);
    (absent, status(put().if_match("\"00000000000000000000000000000000\"").send().await))
}

async fn liar(lie: Lie) -> (Liar, TestBucket) {
    let liar = Liar::start(lie).await;
    let bucket = TestBucket::fresh(&liar.url()).await;
    (liar, bucket)
}

#[tokio::test]
async fn without_a_lie_one_racer_wins_and_conditions_hold() {
    let (_liar, bucket) = liar(Lie::None).await;
    assert_eq!(winners(&bucket).await, (1, 1));
    assert_eq!(refusals(&bucket).await, (412, 412));
    assert_eq!(bucket.read("there").await.unwrap(), "1");
}

#[tokio::test]
async fn moto_does_not_lie_either() {
    let bucket = Server::Moto.fresh_bucket().await;
    assert_eq!(winners(&bucket).await, (1, 1));
    assert_eq!(refusals(&bucket).await, (412, 412));
    bucket.destroy().await;
}

#[tokio::test]
async fn who_ignores_conditions_writes_whatever_they_say() {
    let (_liar, bucket) = liar(Lie::IgnoresConditions).await;
    assert_eq!(winners(&bucket).await, (RACERS, RACERS));
    assert_eq!(refusals(&bucket).await, (200, 200));
    assert_eq!(bucket.read("there").await.unwrap(), "2");
}

#[tokio::test]
async fn who_loses_races_is_honest_one_by_one_and_lets_several_win() {
    let (_liar, bucket) = liar(Lie::LosesRaces).await;
    assert_eq!(refusals(&bucket).await, (412, 412));
    let (created, replaced) = winners(&bucket).await;
    assert!(created > 1 && replaced > 1, "{created} {replaced}");
}

#[tokio::test]
async fn a_condition_on_nothing_is_refused() {
    let (_liar, bucket) = liar(Lie::None).await;
    let put = bucket.client.put_object().bucket(&bucket.name).key("nothing").if_match("\"0\"");
    assert_eq!(put.send().await.unwrap_err().raw_response().unwrap().status().as_u16(), 404);
    assert_eq!(bucket.keys().await, Vec::<String>::new());
}
