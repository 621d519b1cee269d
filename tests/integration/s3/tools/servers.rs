//! What the SDK gets from S3, the same from the real servers and from the stand-in that does not lie.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use crate::support::{Liar, Lie, Link, TestBucket, on_each_server, s3_client};

on_each_server![
    what_was_planted_is_read_and_listed,
    a_range_and_a_known_tag_are_answered,
    fields_come_back,
    a_listing_goes_on_where_it_broke_off,
    an_upload_in_parts_becomes_one_object,
    a_bucket_is_gone_with_all_it_held,
    everything_passes_through_a_link,
];

mod on_the_stand_in {
    use super::{Liar, Lie, TestBucket};

    macro_rules! sentences {
        ($($sentence:ident),+ $(,)?) => {$(
            #[tokio::test]
            async fn $sentence() {
                let liar = Liar::start(Lie::None).await;
                super::$sentence(TestBucket::fresh(&liar.url()).await).await;
            }
        )+};
    }

    sentences![
        what_was_planted_is_read_and_listed,
        a_range_and_a_known_tag_are_answered,
        fields_come_back,
        a_listing_goes_on_where_it_broke_off,
        an_upload_in_parts_becomes_one_object,
        a_bucket_is_gone_with_all_it_held,
        everything_passes_through_a_link,
    ];
}

async fn what_was_planted_is_read_and_listed(bucket: TestBucket) {
    for key in ["b", "a/ä &<>'\"+%2F ~", "a"] {
        bucket.plant(key, key.to_owned()).await;
    }
    assert_eq!(bucket.keys().await, ["a", "a/ä &<>'\"+%2F ~", "b"]);
    assert_eq!(bucket.read("a/ä &<>'\"+%2F ~").await.unwrap(), "a/ä &<>'\"+%2F ~".as_bytes());
    assert_eq!(bucket.read("c").await, None);
    bucket.remove("b").await;
    bucket.remove("b").await;
    assert_eq!(bucket.read("b").await, None);
}

async fn a_range_and_a_known_tag_are_answered(bucket: TestBucket) {
    bucket.plant("digits", "0123456789").await;
    let get = || bucket.client.get_object().bucket(&bucket.name).key("digits");
    for (range, bytes) in [("bytes=2-4", "234"), ("bytes=8-", "89"), ("bytes=-3", "789"), ("bytes=8-99", "89")] {
        let found = get().range(range).send().await.unwrap();
        assert_eq!(found.body.collect().await.unwrap().into_bytes(), bytes, "{range}");
    }
    let beyond = get().range("bytes=10-12").send().await.unwrap_err();
    assert_eq!(beyond.raw_response().unwrap().status().as_u16(), 416);
    let etag = get().send().await.unwrap().e_tag.unwrap();
    let known = get().if_none_match(&etag).send().await.unwrap_err();
    assert_eq!(known.raw_response().unwrap().status().as_u16(), 304);
    bucket.plant("digits", "9876543210").await;
    let other = get().if_match(&etag).send().await.unwrap_err();
    assert_eq!(other.raw_response().unwrap().status().as_u16(), 412);
    assert!(get().if_none_match(&etag).send().await.is_ok(), "it has changed");
}

async fn fields_come_back(bucket: TestBucket) {
    let body = ByteStream::from_static(b"page");
    let put = bucket.client.put_object().bucket(&bucket.name).key("k").body(body);
    let put = put.content_type("text/html").content_encoding("zstd").cache_control("max-age=5");
    put.metadata("path", "/ice-cream/").send().await.unwrap();
    let found = bucket.client.head_object().bucket(&bucket.name).key("k").send().await.unwrap();
    assert_eq!(found.content_length, Some(4));
    assert_eq!(found.content_type.as_deref(), Some("text/html"));
    assert_eq!(found.content_encoding.as_deref(), Some("zstd"));
    assert_eq!(found.cache_control.as_deref(), Some("max-age=5"));
    assert_eq!(found.metadata.unwrap()["path"], "/ice-cream/");
}

async fn a_listing_goes_on_where_it_broke_off(bucket: TestBucket) {
    for key in ["p/1", "p/2", "p/3", "q/1"] {
        bucket.plant(key, key).await;
    }
    let list = || bucket.client.list_objects_v2().bucket(&bucket.name).prefix("p/").max_keys(2);
    let first = list().send().await.unwrap();
    let keys = |page: &aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output| -> Vec<String> {
        page.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
    };
    assert_eq!((keys(&first), first.is_truncated), (vec!["p/1".to_owned(), "p/2".to_owned()], Some(true)));
    let rest = list().continuation_token(first.next_continuation_token.unwrap()).send().await.unwrap();
    assert_eq!((keys(&rest), rest.is_truncated), (vec!["p/3".to_owned()], Some(false)));
    assert_eq!(keys(&list().start_after("p/2").send().await.unwrap()), ["p/3"]);
}

async fn an_upload_in_parts_becomes_one_object(bucket: TestBucket) {
    // All parts but the last have at least 5 MiB.
    let parts = [Bytes::from(vec![b'a'; 5 << 20]), Bytes::from_static(b"end")];
    let begun = bucket.client.create_multipart_upload().bucket(&bucket.name).key("large").send().await.unwrap();
    let id = begun.upload_id.unwrap();
    assert_eq!(bucket.uploads().await, [("large".to_owned(), id.clone())]);
    let mut done = Vec::new();
    for (number, part) in (1..).zip(&parts) {
        let put = bucket.client.upload_part().bucket(&bucket.name).key("large").upload_id(&id).part_number(number);
        let tag = put.body(part.clone().into()).send().await.unwrap().e_tag.unwrap();
        done.push(CompletedPart::builder().part_number(number).e_tag(tag).build());
    }
    assert_eq!(bucket.read("large").await, None);
    let done = CompletedMultipartUpload::builder().set_parts(Some(done)).build();
    let complete = bucket.client.complete_multipart_upload().bucket(&bucket.name).key("large").upload_id(&id);
    complete.multipart_upload(done).send().await.unwrap();
    assert_eq!(bucket.read("large").await.unwrap(), parts.concat());
    assert_eq!(bucket.uploads().await, []);
}

async fn a_bucket_is_gone_with_all_it_held(bucket: TestBucket) {
    bucket.plant("a", "a").await;
    bucket.client.create_multipart_upload().bucket(&bucket.name).key("left").send().await.unwrap();
    bucket.destroy().await;
    let put = bucket.client.put_object().bucket(&bucket.name).key("a").send().await;
    assert_eq!(put.unwrap_err().raw_response().unwrap().status().as_u16(), 404);
}

/// The signature covers `Host`, which is the link's; RGW checks it.
async fn everything_passes_through_a_link(bucket: TestBucket) {
    let link = Link::to(&bucket.endpoint).await;
    let far = TestBucket { client: s3_client(&link.url()), ..bucket.clone() };
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    far.plant("large", large.clone()).await;
    far.plant("empty", "").await;
    assert_eq!(far.read("large").await.unwrap(), large);
    assert_eq!(far.read("empty").await.unwrap(), "");
    assert_eq!(far.read("nothing").await, None);
    assert_eq!(far.keys().await, ["empty", "large"]);
    assert!(far.client.head_object().bucket(&far.name).key("large").send().await.is_ok());
    assert_eq!(link.count(|passing| passing.is("PUT", "/large")), 1);
    assert_eq!(link.count(|passing| passing.is("HEAD", "/large")), 1);
}
