//! Who asks a node for pages, reads all of the answer, and has it checked.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everpage::proxy::body::{Body, BoxError};
use everpage::proxy::handler::Handler;
use everpage::proxy::visit::Visitor;
use http::header::{CONTENT_LENGTH, HOST, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::checker::{Asked, Floors};
use super::gate::Gate;
use super::line;
use super::origin::{VARIANT, rendering_number};
use super::site::Place;
use super::world::World;

/// A request to be made.
#[derive(Clone, Debug)]
pub struct Visit {
    pub number: u64,
    pub method: Method,
    pub host: &'static str,
    pub target: String,
    pub variant: Option<String>,
    pub etag: Option<usize>,
    pub leaves_after: Option<Duration>,
}

/// The way in: one node's handler.
#[derive(Clone)]
pub struct Reader {
    pub world: Arc<World>,
    pub handler: Arc<Handler>,
    pub gate: Arc<Gate>,
    /// No head may take longer, and what the app cannot be blamed for is a violation; `None`: the node itself may stand still.
    pub bound: Option<Duration>,
    /// What this node alone has promised, as long as it lives.
    pub own: Arc<Mutex<Floors>>,
}

impl Reader {
    /// The answer of the handler itself, without a connection.
    pub async fn handle(&self, visit: &Visit) -> Response<Body> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = visit.method.clone();
        *request.uri_mut() = visit.target.parse().unwrap();
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static(visit.host));
        if let Some(variant) = &visit.variant {
            headers.insert(VARIANT, variant.parse().unwrap());
        }
        if let Some(number) = visit.etag {
            headers.insert(IF_NONE_MATCH, format!("\"r{number}\"").parse().unwrap());
        }
        self.handler.handle(request, &Visitor::at(Ipv4Addr::LOCALHOST.into())).await
    }

    /// Asks, reads all, and has the answer checked. What `Cache-Status` said, and the version that came.
    pub async fn visit(&self, visit: &Visit) -> Option<(String, u64)> {
        match visit.leaves_after {
            None => self.read(visit).await,
            Some(patience) => {
                let read = tokio::time::timeout(patience, self.read(visit)).await;
                if read.is_err() {
                    self.world.note(format_args!("visitor {}: leaves", visit.number));
                    self.world.count("visitors who left");
                }
                read.ok().flatten()
            }
        }
    }

    async fn read(&self, visit: &Visit) -> Option<(String, u64)> {
        let world = &self.world;
        let place = Place::read(visit.host, &visit.target).expect("visitors know the site");
        let started = Instant::now();
        world.tick();
        let mut asked = world.state().checker.ask(visit.number, place, visit.variant.clone().unwrap_or_default());
        asked.raise(&self.own.lock());
        world.note(format_args!(
            "visitor {}: {} {}{} {:?}",
            visit.number, visit.method, visit.host, visit.target, visit.variant
        ));
        self.gate.pass().await;
        // Either way leads to the same pages, but each has its own order of lease and look-up.
        let by_line = world.below(2) == 0;
        let response = if by_line { line::ask(&self.handler, visit).await } else { Ok(self.handle(visit).await) };
        self.gate.pass().await;
        if self.bound.is_some_and(|bound| started.elapsed() > bound) {
            world.state().checker.complain(format!("visitor {}: waited for {:?}", visit.number, started.elapsed()));
        }
        let (parts, body) = response.map_err(|error| self.broken(visit, &error)).ok()?.into_parts();
        let status_field = parts.headers.get("cache-status").map_or("", |value| value.to_str().unwrap()).to_owned();
        let number = rendering_number(&parts.headers);
        world.note(format_args!("visitor {}: {} rendering {number:?}, {status_field}", visit.number, parts.status));
        let word = word_for(&status_field);
        world.count(word);
        if by_line && word == "memory hits" {
            world.count("memory hits by a line");
        }
        if asked.is_after_invalidation() && word.ends_with("hits") {
            world.count("hits after an invalidation");
        }
        let Some(number) = number else {
            self.check_failure(&asked, parts.status);
            return None;
        };
        world.state().checker.head(&asked, number);
        let version = world.state().checker.renderings[number].version;
        self.read_body(visit, &asked, number, parts.status, &parts.headers, body).await?;
        Some((status_field, version))
    }

    async fn read_body(
        &self,
        visit: &Visit,
        asked: &Asked,
        number: usize,
        status: StatusCode,
        headers: &HeaderMap,
        mut body: Body,
    ) -> Option<()> {
        let world = &self.world;
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => whole.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(error) => {
                    self.broken(visit, &error);
                    return None;
                }
            }
            world.pause().await;
        }
        let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let checker = &mut world.state().checker;
        if visit.method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
            announced.into_iter().for_each(|announced| checker.length(asked, number, announced));
            if !whole.is_empty() {
                checker.complain(format!("visitor {}: a body where none may be", visit.number));
            }
        } else {
            checker.body(asked, number, &whole);
            if announced.is_some_and(|announced| announced != whole.len() as u64) {
                checker.complain(format!("visitor {}: announced {announced:?}, got {}", visit.number, whole.len()));
            }
        }
        Some(())
    }

    /// The connection ends in the middle: only where the app's does.
    fn broken(&self, visit: &Visit, error: &BoxError) {
        let world = &self.world;
        world.note(format_args!("visitor {}: broken: {error}", visit.number));
        let weather = world.weather;
        if self.bound.is_some() && weather.origin_cuts + weather.origin_stalls == 0 {
            world.state().checker.complain(format!("visitor {}: {error}, but the app is well", visit.number));
        }
    }

    /// The proxy's own page: only where something did go wrong.
    fn check_failure(&self, asked: &Asked, status: StatusCode) {
        let world = &self.world;
        world.count("failures told");
        let weather = world.weather;
        if self.bound.is_some() && weather.origin_fails + weather.origin_stalls + weather.origin_cuts == 0 {
            world.state().checker.complain(format!("visitor {}: {status}, but the app is well", asked.visitor));
        }
    }
}

fn word_for(status: &str) -> &'static str {
    let words = [
        ("detail=memory", "memory hits"),
        ("detail=simulated", "store hits"),
        ("detail=soft", "soft hits"),
        ("detail=journal-outage", "passed on in an outage"),
        ("collapsed", "collapsed"),
        ("; stored", "misses"),
    ];
    words.iter().find(|(field, _)| status.contains(field)).map_or("other answers", |(_, word)| word)
}
