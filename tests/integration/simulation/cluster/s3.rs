//! S3 as a server that is slow, fails, and loses answers: before the write, or after it, or the write comes later than anybody waits for.
//!
//! It keeps S3's own promises: each write takes place at one moment, a read that begins after it shows it, and of several swaps of one version one wins.
//! Below it is the real bucket client, with the real SDK: only the connection is replaced.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::config::{StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::sleep;

use super::head;
use super::storm::{Lie, Storm};
use crate::simulation::gate::Gate;
use crate::simulation::world::World;

/// How late a write is that nobody waits for any more, in milliseconds.
const LATE: u64 = 3000;
/// What a slow request takes at most.
const SLOW: u64 = 1500;

/// The bucket's name.
pub const BUCKET: &str = "pages";

#[derive(Debug)]
pub struct S3 {
    pub world: Arc<World>,
    pub storm: Storm,
    lie: Lie,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    /// What lay there before the last write.
    before: BTreeMap<String, Bytes>,
    /// Writes on their way, by when they land and in which order they left.
    late: BTreeMap<(u64, u64), Asked>,
    outage_until: u64,
    cut_until: BTreeMap<usize, u64>,
}

/// One request.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    key: String,
    if_match: Option<String>,
    if_none_match: Option<String>,
    body: Bytes,
}

/// An answer: status, entity tag, body.
struct Reply(u16, Option<String>, Bytes);

/// How a node reaches it.
#[derive(Clone, Debug)]
struct Line {
    s3: Arc<S3>,
    node: usize,
    gate: Arc<Gate>,
}

impl S3 {
    pub fn new(world: &Arc<World>, storm: Storm, lie: Lie) -> Self {
        S3 { world: Arc::clone(world), storm, lie, state: Mutex::default() }
    }

    /// A node's client.
    pub fn client(self: &Arc<Self>, node: usize, gate: &Arc<Gate>) -> Client {
        let line = Line { s3: Arc::clone(self), node, gate: Arc::clone(gate) };
        let connector = SharedHttpConnector::new(line);
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .endpoint_url("http://s3.simulated")
            .force_path_style(true)
            .allow_no_auth()
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Client::from_conf(config)
    }

    /// Nobody reaches it for so long.
    pub fn fail_for(&self, milliseconds: u64) {
        self.state.lock().outage_until = self.world.milliseconds() + milliseconds;
    }

    /// One node does not.
    pub fn cut_off(&self, node: usize, milliseconds: u64) {
        self.state.lock().cut_until.insert(node, self.world.milliseconds() + milliseconds);
    }

    /// All is well from now on.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.outage_until = 0;
        state.cut_until.clear();
    }

    fn is_out(&self, node: usize) -> bool {
        let now = self.world.milliseconds();
        let state = self.state.lock();
        state.outage_until > now || state.cut_until.get(&node).is_some_and(|until| *until > now)
    }

    /// Carries out what is due.
    fn settle(&self) {
        let now = self.world.milliseconds();
        while let Some(asked) = {
            let mut state = self.state.lock();
            let due = state.late.first_entry().filter(|entry| entry.key().0 <= now);
            due.map(std::collections::btree_map::OccupiedEntry::remove)
        } {
            let Reply(status, ..) = self.carry_out(&asked, None);
            self.world.note(format_args!("s3: late {} {}: {status}", asked.method, asked.key));
            if status == 200 {
                self.world.count("late writes in S3");
            }
        }
    }

    fn carry_out(&self, asked: &Asked, node: Option<usize>) -> Reply {
        match asked.method.as_str() {
            "GET" if asked.key.is_empty() => self.list(),
            "GET" | "HEAD" => self.read(asked, node),
            "PUT" => self.write(asked),
            "DELETE" => {
                self.state.lock().objects.remove(&asked.key);
                Reply(204, None, Bytes::new())
            }
            "POST" => self.remove_many(&asked.body),
            method => panic!("{method} {} is not simulated", asked.key),
        }
    }

    /// All keys: only one prefix is ever listed here, and everything lies below it.
    fn list(&self) -> Reply {
        let line = |key: &String| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><Size>1</Size></Contents>"
            )
        };
        let contents: String = self.state.lock().objects.keys().map(line).collect();
        let listing = format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>");
        Reply(200, None, listing.into())
    }

    fn read(&self, asked: &Asked, node: Option<usize>) -> Reply {
        let lags = self.lie == Lie::LooksLag && self.world.chance(30);
        let state = self.state.lock();
        let from = if lags && state.before.contains_key(&asked.key) { &state.before } else { &state.objects };
        let Some(object) = from.get(&asked.key).cloned() else { return refused(404, "NoSuchKey") };
        drop(state);
        let tag = entity_tag(&object);
        if asked.if_none_match.as_ref() == Some(&tag) {
            return Reply(304, Some(tag), Bytes::new());
        }
        let object = match node {
            Some(node) if self.lie == Lie::NoRejoin && asked.key.ends_with("/head") => {
                head::without_marks(&object, node)
            }
            _ => object,
        };
        Reply(200, Some(tag), object)
    }

    fn write(&self, asked: &Asked) -> Reply {
        let races = self.lie == Lie::SwapsRace && self.world.chance(30);
        let mut state = self.state.lock();
        let known = state.objects.get(&asked.key).cloned();
        let tag = known.as_ref().map(entity_tag);
        let holds = asked.if_none_match.is_none() || tag.is_none();
        let holds = holds && (asked.if_match.is_none() || asked.if_match == tag);
        if !holds && !races {
            drop(state);
            self.world.count("swaps lost");
            return if tag.is_none() { refused(404, "NoSuchKey") } else { refused(412, "PreconditionFailed") };
        }
        if let Some(known) = known.clone() {
            state.before.insert(asked.key.clone(), known);
        }
        state.objects.insert(asked.key.clone(), asked.body.clone());
        drop(state);
        if asked.key.ends_with("/head") {
            head::note_changes(&self.world, known.as_ref(), &asked.body);
        }
        Reply(200, Some(entity_tag(&asked.body)), Bytes::new())
    }

    fn remove_many(&self, body: &Bytes) -> Reply {
        let text = String::from_utf8_lossy(body);
        let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        let mut state = self.state.lock();
        for (key, _) in keys {
            state.objects.remove(key);
        }
        drop(state);
        self.world.count("objects of the journal removed");
        Reply(200, None, Bytes::from_static(b"<DeleteResult/>"))
    }
}

impl Line {
    async fn exchange(self, asked: Asked) -> Result<HttpResponse, ConnectorError> {
        let Line { s3, node, gate } = &self;
        let S3 { world, storm, .. } = &**s3;
        gate.pass().await;
        self.travel().await;
        if s3.is_out(*node) {
            world.count("requests in an outage");
            return self.nothing().await;
        }
        s3.settle();
        if world.chance(storm.s3_fails) {
            world.count("S3 failures");
            return match world.below(4) {
                0 => Ok(answer(refused(503, "SlowDown"))),
                1 if asked.method == "PUT" => Ok(answer(refused(409, "ConditionalRequestConflict"))),
                2 => Ok(answer(refused(500, "InternalError"))),
                _ => self.nothing().await,
            };
        }
        if asked.method == "PUT" && world.chance(storm.s3_late) {
            let due = (world.milliseconds() + 1 + world.below(LATE), world.tick());
            world.note(format_args!("s3: node {node} {} {} will be late", asked.method, asked.key));
            s3.state.lock().late.insert(due, asked);
            return self.nothing().await;
        }
        let reply = s3.carry_out(&asked, Some(*node));
        world.note(format_args!("s3: node {node} {} {}: {}", asked.method, asked.key, reply.0));
        if asked.method == "PUT" && reply.0 == 200 && world.chance(storm.s3_loses) {
            world.count("answers of S3 lost");
            return self.nothing().await;
        }
        self.travel().await;
        if s3.is_out(*node) {
            return self.nothing().await;
        }
        gate.pass().await;
        Ok(answer(reply))
    }

    async fn travel(&self) {
        let S3 { world, storm, .. } = &*self.s3;
        let most = if world.chance(storm.s3_slow) { SLOW } else { storm.s3_delay };
        let milliseconds = if world.is_calm() { 1 } else { world.below(most) };
        sleep(Duration::from_millis(milliseconds)).await;
    }

    /// What is heard when no answer comes: an error soon, or nothing at all.
    async fn nothing(&self) -> Result<HttpResponse, ConnectorError> {
        match self.s3.world.below(3) {
            0 => std::future::pending().await,
            1 => {
                self.gate.pass().await;
                Ok(answer(refused(500, "InternalError")))
            }
            _ => {
                self.gate.pass().await;
                Err(ConnectorError::io("simulated".into()))
            }
        }
    }
}

impl HttpConnector for Line {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let line = self.clone();
        HttpConnectorFuture::new(async move {
            let header = |name| request.headers().get(name).map(str::to_owned);
            let path = request.uri().split_once("s3.simulated/").expect("the endpoint").1;
            let path = path.split('?').next().unwrap();
            let key = path.strip_prefix(BUCKET).expect("the bucket").trim_start_matches('/').to_owned();
            let (if_match, if_none_match) = (header("if-match"), header("if-none-match"));
            let method = request.method().to_owned();
            let body = ByteStream::new(request.into_body()).collect().await;
            let body = body.map_err(|error| ConnectorError::user(error.into()))?.into_bytes();
            line.exchange(Asked { method, key, if_match, if_none_match, body }).await
        })
    }
}

/// Of the content, as S3's are.
fn entity_tag(object: &Bytes) -> String {
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn refused(status: u16, code: &str) -> Reply {
    let body = format!("<Error><Code>{code}</Code><Message>simulated</Message></Error>");
    Reply(status, None, body.into())
}

fn answer(Reply(status, tag, body): Reply) -> HttpResponse {
    let mut response = http::Response::builder().status(status).header("content-length", body.len());
    if let Some(tag) = tag {
        response = response.header("etag", tag);
    }
    response.body(SdkBody::from(body)).unwrap().try_into().unwrap()
}
