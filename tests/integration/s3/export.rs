//! The last good site: plain copies of pages beside the pages themselves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everpage::page::large::{LargeBody, LargePage};
use everpage::page::{Object, Page, PageHead};
use everpage::store::Store;
use everpage::store::s3::export::{Exporter, ExportingStore};
use everpage::upkeep::export::Export;
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;

use super::upkeep::{Node, name, page, with};
use crate::support::{Fault, Link, Refusal, TestBucket, on_each_server};

on_each_server!(
    each_stored_page_has_a_plain_copy_as_visitors_get_it,
    a_page_that_is_compressed_at_rest_is_exported_as_it_was,
    what_no_file_can_stand_for_has_no_copy,
    with_several_hosts_each_has_a_folder,
    an_invalidated_page_keeps_its_last_good_copy_until_the_next_fill,
    a_copy_that_fails_costs_no_page,
    the_whole_site_is_exported_once,
    a_large_page_is_copied_whole,
);

fn exporter(node: &Node, hosts: &[&str]) -> Exporter {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let bucket = node.parties.store.bucket().clone();
    Exporter::new(bucket, &node.settings, "", &hosts, Arc::clone(&node.parties.metrics))
}

fn store(node: &Node) -> ExportingStore {
    ExportingStore::new(Arc::clone(&node.parties.store) as Arc<dyn Store>, exporter(node, &["shop.example"]))
}

async fn put(store: &ExportingStore, page: Page) {
    store.put(&name(&page.head), &Object::Page(Arc::new(page))).await.unwrap();
}

/// A field of an object, as a web server before the bucket would send it.
async fn said(bucket: &TestBucket, key: &str) -> [Option<String>; 3] {
    let object = bucket.client.get_object().bucket(&bucket.name).key(key).send().await.unwrap();
    [object.content_type, object.content_encoding, object.cache_control]
}

async fn exports(bucket: &TestBucket) -> Vec<String> {
    let prefix = "site/default/export/";
    bucket.keys().await.iter().filter_map(|key| Some(key.strip_prefix(prefix)?.to_owned())).collect()
}

fn insert(head: &mut PageHead, fields: &[(&'static str, &'static str)]) {
    let mut headers = head.headers.to_map();
    for (name, value) in fields {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    head.headers = headers.into();
}

async fn each_stored_page_has_a_plain_copy_as_visitors_get_it(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    let store = store(&node);
    put(&store, page("/", 0)).await;
    let packed = with(&page("/caf%C3%A9/menu.css", 0), |head| {
        insert(head, &[("content-type", "text/css"), ("content-encoding", "gzip"), ("cache-control", "max-age=60")]);
        head.varied_by = vec![(ACCEPT_ENCODING, "gzip, br".to_owned())];
    });
    put(&store, packed).await;
    assert_eq!(exports(&bucket).await, ["caf\u{e9}/menu.css", "index.html"]);
    assert_eq!(bucket.read("site/default/export/index.html").await.unwrap(), "<h1>/</h1>");
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(said(&bucket, "site/default/export/index.html").await, [some("text/html; charset=utf-8"), None, None]);
    let key = "site/default/export/caf\u{e9}/menu.css";
    assert_eq!(said(&bucket, key).await, [some("text/css"), some("gzip"), some("max-age=60")]);
    assert_eq!(node.parties.metrics.exported("written").get(), 2);
}

async fn a_page_that_is_compressed_at_rest_is_exported_as_it_was(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    let text = "ice cream, ".repeat(1000);
    let plain = page("/long/", 0);
    let long = Page::new(plain.head.clone(), Bytes::from(text.clone()), plain.path_id);
    put(&store(&node), long).await;
    let kept = bucket.read(&format!("site/{}", node.parties.store.key(&name(&plain.head)))).await.unwrap();
    assert!(kept.len() < text.len() / 2, "it lies compressed: {}", kept.len());
    assert_eq!(bucket.read("site/default/export/long/index.html").await.unwrap(), text);
    bucket.remove("site/default/export/long/index.html").await;
    let export = Export::new(node.parties.clone(), exporter(&node, &["shop.example"]), 10_000);
    assert_eq!(export.export().await["exported"], 1);
    assert_eq!(bucket.read("site/default/export/long/index.html").await.unwrap(), text);
    assert_eq!(said(&bucket, "site/default/export/long/index.html").await[1], None);
}

async fn what_no_file_can_stand_for_has_no_copy(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    let store = store(&node);
    let long = format!("/{}", "x".repeat(1100));
    let pages = [
        with(&page("/a", 0), |head| head.query = Some("q=1".into())),
        with(&page("/b", 0), |head| head.varied_by = vec![(ACCEPT_LANGUAGE, "de".to_owned())]),
        with(&page("/c", 0), |head| {
            insert(head, &[("content-encoding", "br")]);
            head.varied_by = vec![(ACCEPT_ENCODING, "br".to_owned())];
        }),
        with(&page("/d", 0), |head| head.status = StatusCode::NOT_FOUND),
        with(&page("/e", 0), |head| head.method = Method::HEAD),
        page("//f", 0),
        page("/g/..%2f..%2fetc", 0),
        page(&long, 0),
    ];
    for page in pages {
        put(&store, page).await;
    }
    assert!(exports(&bucket).await.is_empty(), "{:?}", exports(&bucket).await);
    for (word, times) in [("query", 1), ("variant", 2), ("status", 1), ("method", 1), ("path", 3), ("failed", 0)] {
        assert_eq!(node.parties.metrics.exported(word).get(), times, "{word}");
    }
    put(&store, with(&page("/plain", 0), |head| head.varied_by = vec![(ACCEPT_LANGUAGE, String::new())])).await;
    assert_eq!(exports(&bucket).await, ["plain"]);
}

async fn with_several_hosts_each_has_a_folder(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    for hosts in [&[] as &[&str], &["shop.example", "other.example"]] {
        let exporter = exporter(&node, hosts);
        for host in ["shop.example", "other.example"] {
            let page = with(&page("/", 0), |head| head.host = host.into());
            assert_eq!(exporter.export(&Object::Page(Arc::new(page))).await.unwrap(), None);
        }
        assert_eq!(exports(&bucket).await, ["other.example/index.html", "shop.example/index.html"]);
    }
}

async fn an_invalidated_page_keeps_its_last_good_copy_until_the_next_fill(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    let store = store(&node);
    put(&store, page("/a", 0)).await;
    node.invalidate("/a").await;
    assert_eq!(node.sweep().await["deleted"], 1);
    assert_eq!(bucket.read("site/default/export/a").await.unwrap(), "<h1>/a</h1>");
    let old = page("/a", 1);
    put(&store, Page::new(old.head.clone(), "new".into(), old.path_id)).await;
    assert_eq!(bucket.read("site/default/export/a").await.unwrap(), "new");
}

async fn a_copy_that_fails_costs_no_page(bucket: TestBucket) {
    let link = Link::to(&bucket.endpoint).await;
    let node = Node::new(&TestBucket { endpoint: link.url(), ..bucket.clone() }).await;
    link.next(100, |asked| asked.is("PUT", "/export/a"), Fault::Refuse(Refusal::SlowDown));
    put(&store(&node), page("/a", 0)).await;
    assert!(node.has(&name(&page("/a", 0).head)).await);
    assert!(exports(&bucket).await.is_empty());
    assert_eq!(node.parties.metrics.exported("failed").get(), 1);
}

async fn the_whole_site_is_exported_once(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    for number in 0..5 {
        node.keep(&format!("/{number}")).await;
    }
    node.keep_page(with(&page("/q", 0), |head| head.query = Some("q".into()))).await;
    node.keep("/dead").await;
    node.invalidate("/dead").await;
    let export = Export::new(node.parties.clone(), exporter(&node, &["shop.example"]), 10_000);
    assert!(export.order());
    while export.state()["last"].is_null() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let last = &export.state()["last"];
    assert_eq!((&last["result"], &last["exported"]), (&json!("done"), &json!(5)), "{last}");
    assert_eq!(last["skipped"], json!({"query": 1, "invalidated": 1}));
    assert_eq!(last["requests"], json!({"list": 1, "get": 7, "put": 6}));
    assert_eq!(exports(&bucket).await, ["0", "1", "2", "3", "4"]);
}

/// A body in memory that pretends to be large.
#[derive(Debug)]
struct Body(Bytes);

#[async_trait::async_trait]
impl LargeBody for Body {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&self, range: std::ops::Range<u64>) -> std::io::Result<everpage::page::large::Pieces> {
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let pieces: Vec<_> =
            self.0.slice(range).chunks(1 << 20).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Ok(Box::pin(futures_util::stream::iter(pieces)))
    }
}

async fn a_large_page_is_copied_whole(bucket: TestBucket) {
    let node = Node::new(&bucket).await;
    let (body, plain) = (Bytes::from(vec![b'x'; 12 << 20]), page("/large.bin", 0));
    let large = LargePage {
        head: plain.head.clone(),
        body: Arc::new(Body(body.clone())),
        body_crc: crc32fast::hash(&body),
        path_id: plain.path_id,
    };
    store(&node).put(&name(&plain.head), &Object::Large(Arc::new(large))).await.unwrap();
    assert_eq!(bucket.read("site/default/export/large.bin").await.unwrap(), body);
}
