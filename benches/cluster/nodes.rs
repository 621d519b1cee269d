//! A cluster on one machine: nodes as processes, each with a line of its own to the bucket.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::process::{Everpage, Place};
use crate::support::{ACCESS_KEY, Fault, Link, SECRET_KEY, TestBucket};
use crate::visitor::Visitor;

/// Nobody asks for a page here.
const NO_APP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);
/// Until everybody knows everybody again.
const SETTLES: usize = 100;

pub(crate) struct Cluster {
    bucket: TestBucket,
    /// To S3, with the latency; none, where none is added.
    link: Option<Link>,
    nodes: Vec<Everpage>,
}

impl Cluster {
    /// So many nodes on a bucket that held a journal before or not.
    pub(crate) async fn start(bucket: &TestBucket, count: usize, latency: Duration) -> Self {
        let mut link = None;
        if !latency.is_zero() {
            let slow = Link::to(&bucket.endpoint).await;
            slow.set(Fault::Late(latency)).await;
            link = Some(slow);
        }
        let mut cluster = Cluster { bucket: bucket.clone(), link, nodes: Vec::new() };
        for _ in 0..count {
            let node = cluster.node();
            cluster.nodes.push(node);
        }
        cluster
    }

    fn node(&self) -> Everpage {
        let endpoint = self.link.as_ref().map_or_else(|| self.bucket.endpoint.clone(), Link::url);
        let (bucket, access_key, secret_key) = (&*self.bucket.name, ACCESS_KEY, SECRET_KEY);
        let place = Place { endpoint: &endpoint, bucket, access_key, secret_key };
        tokio::task::block_in_place(|| Everpage::start(NO_APP, &place, ""))
    }

    pub(crate) fn admins(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.admin).collect()
    }

    /// One path at a time at the first node. Returns how long each took.
    pub(crate) async fn invalidate(&self, count: usize) -> Vec<Duration> {
        let mut client = Visitor::connect(self.nodes[0].admin).await.expect("it listens");
        let mut took = Vec::new();
        for number in 0..count {
            took.push(invalidate(&mut client, &json!({"paths": [format!("/ice-cream/{number}/")]})).await);
        }
        took
    }

    /// So many paths in each.
    pub(crate) async fn invalidate_many_paths(&self, count: usize, paths: usize) -> Vec<Duration> {
        let mut client = Visitor::connect(self.nodes[0].admin).await.expect("it listens");
        let mut took = Vec::new();
        for number in 0..count {
            let paths: Vec<_> = (0..paths).map(|path| format!("/ice-cream/{number}/{path}/")).collect();
            took.push(invalidate(&mut client, &json!({"paths": paths})).await);
        }
        took
    }

    /// kill -9 of the last node.
    pub(crate) async fn kill_last(&mut self) {
        self.nodes.pop().expect("there are nodes").end("KILL").await;
    }

    /// Another node, beside those that are left.
    pub(crate) fn replace(&mut self) {
        let node = self.node();
        self.nodes.push(node);
    }

    /// SIGSTOP of the last node.
    pub(crate) fn pause_last(&self) {
        self.nodes.last().expect("there are nodes").signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn resume_last(&self) {
        self.nodes.last().expect("there are nodes").signal("CONT");
    }

    /// Until invalidations are answered by all nodes, without waiting for one that is silent.
    pub(crate) async fn settle(&self) {
        for _ in 0..SETTLES {
            // A node that has been passed over comes back when somebody wants something of it.
            for node in &self.nodes {
                let mut client = Visitor::connect(node.admin).await.expect("it listens");
                invalidate(&mut client, &json!({"paths": ["/settled/"]})).await;
            }
            let mut client = Visitor::connect(self.nodes[0].admin).await.expect("it listens");
            let (began, body) = (Instant::now(), Bytes::from_static(b"[\"/settled/\"]"));
            let answer = client.send(Method::POST, "/invalidate", body).await.expect("an answer comes");
            let said: Value = serde_json::from_slice(&answer.begin).expect("JSON");
            if said["nodes"] == self.nodes.len() && began.elapsed() < Duration::from_secs(1) {
                return;
            }
        }
        panic!("the nodes do not find together");
    }

    /// All of them take leave.
    pub(crate) async fn end(self) {
        for node in self.nodes {
            assert!(node.end("TERM").await, "it ends well");
        }
    }
}

/// How long this took.
///
/// # Panics
/// It was not answered 200.
pub(crate) async fn invalidate(client: &mut Visitor, body: &Value) -> Duration {
    let (body, began) = (Bytes::from(body.to_string()), Instant::now());
    let answer = client.send(Method::POST, "/invalidate", body).await.expect("an answer comes");
    assert_eq!(answer.status, 200, "{answer:?}");
    began.elapsed()
}
