//! An app whose pages say which version of the data they show. It reads the data at some moment between the request and the response.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use everpage::proxy::origin::{IncomingBody, Origin, OriginError, OutgoingBody};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, ETAG, HOST, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;

use super::checker::Floor;
use super::site::{LARGE, PATHS, Place, Rendering};
use super::world::{Breach, World};

/// `origin.first_byte_timeout`
pub const FIRST_BYTE: Duration = Duration::from_millis(2000);
/// `origin.idle_timeout`
pub const IDLE: Duration = Duration::from_millis(1000);
/// Which rendering a response is.
pub const RENDERING: &str = "x-rendering";
/// When a POST changed the data, and the version that it made.
pub const SAVED: &str = "x-saved";
/// What pages vary by.
pub const VARIANT: &str = "x-variant";

pub fn rendering_number(headers: &HeaderMap) -> Option<usize> {
    headers.get(RENDERING)?.to_str().ok()?.parse().ok()
}

#[derive(Debug)]
pub struct App {
    world: Arc<World>,
    at_work: AtWork,
}

impl App {
    /// A new process of the proxy opens new connections; what it had asked before is of no interest any more.
    pub fn new(world: &Arc<World>) -> Self {
        App { world: Arc::clone(world), at_work: Arc::default() }
    }

    /// Changes the data of a page.
    pub fn save(world: &World, path: usize) -> Floor {
        let made = world.tick();
        let version = {
            let versions = &mut world.state().checker.versions;
            versions[path] += 1;
            versions[path]
        };
        world.note(format_args!("app: {} is now version {version}", PATHS[path].0));
        Floor { made, version }
    }

    async fn mishap(&self) -> Result<(), OriginError> {
        let weather = self.world.weather;
        if self.world.chance(weather.origin_stalls) {
            self.world.count("origin stalls");
            tokio::time::sleep(FIRST_BYTE).await;
            return Err(OriginError::Timeout { waited_for: "the response's head", limit: FIRST_BYTE });
        }
        if self.world.chance(weather.origin_fails) {
            return Err(match self.world.below(3) {
                0 => OriginError::Unreachable("simulated".into()),
                1 => OriginError::Busy,
                _ => OriginError::Broken("simulated".into()),
            });
        }
        Ok(())
    }

    async fn post(&self, place: Place) -> Result<Response<IncomingBody>, OriginError> {
        self.mishap().await?;
        self.world.pause().await;
        let saved = App::save(&self.world, place.path);
        self.world.pause().await;
        self.mishap().await?;
        let mut response = Response::new(Pieces::body(&self.world, ["saved\n".to_owned()], None, None));
        *response.status_mut() = *self.world.pick(&[StatusCode::OK, StatusCode::SEE_OTHER]);
        if self.world.chance(10) {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        let saved = format!("{} {}", saved.made, saved.version);
        response.headers_mut().insert(SAVED, saved.parse().unwrap());
        Ok(response)
    }

    async fn page(
        &self,
        place: Place,
        method: Method,
        asked: Option<String>,
    ) -> Result<Response<IncomingBody>, OriginError> {
        let began = self.world.tick();
        let desk = Desk::sit_down(&self.at_work, (place.clone(), method.clone(), asked.clone()));
        if desk.has_neighbour {
            self.world.count("fetches beside another");
        }
        let early = self.world.state().checker.versions[place.path];
        self.mishap().await?;
        self.world.pause().await;
        let mut version = self.world.state().checker.versions[place.path];
        if self.world.breach == Breach::OriginIsStale && self.world.chance(5) {
            version = early.saturating_sub(1);
        }
        self.world.pause().await;
        let status = if self.world.chance(self.world.weather.origin_private) {
            *self.world.pick(&[
                StatusCode::OK,
                StatusCode::OK,
                StatusCode::OK,
                StatusCode::NOT_FOUND,
                StatusCode::INTERNAL_SERVER_ERROR,
            ])
        } else {
            StatusCode::OK
        };
        let is_large = self.world.weather.large && place.path == LARGE;
        // Some versions of a page vary, others do not.
        let varies = !(version + place.path as u64).is_multiple_of(3);
        let mut headers = HeaderMap::new();
        if varies {
            headers.insert(VARY, HeaderValue::from_static(VARIANT));
        }
        let shareable = !self.make_private(&mut headers) && status == StatusCode::OK;
        let rendering = Rendering {
            place,
            variant: varies.then(|| asked.unwrap_or_default()),
            version,
            began,
            shareable,
            seen: 0,
            lines: if is_large { 60 } else { 1 + usize::try_from(version % 4).unwrap() },
        };
        Ok(self.respond(&rendering, &method, status, headers, desk))
    }

    /// Is this one for its visitor only?
    fn make_private(&self, headers: &mut HeaderMap) -> bool {
        if !self.world.chance(self.world.weather.origin_private) {
            return false;
        }
        match self.world.below(3) {
            0 => headers.insert(SET_COOKIE, HeaderValue::from_static("theme=dark")),
            1 => headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store")),
            _ => headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=60")),
        };
        true
    }

    fn respond(
        &self,
        rendering: &Rendering,
        method: &Method,
        status: StatusCode,
        mut headers: HeaderMap,
        desk: Desk,
    ) -> Response<IncomingBody> {
        let (path, body) = (rendering.place.path, rendering.body());
        let number = {
            let renderings = &mut self.world.state().checker.renderings;
            renderings.push(rendering.clone());
            renderings.len() - 1
        };
        self.world.note(format_args!("app: rendering {number} is {method} {status} {rendering:?}"));
        headers.insert(RENDERING, number.into());
        headers.insert("cache-tag", HeaderValue::from_str(&PATHS[path].1.join(",")).unwrap());
        if self.world.chance(50) {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }
        if self.world.chance(50) {
            headers.insert(ETAG, HeaderValue::from_str(&format!("\"r{number}\"")).unwrap());
        }
        let cut =
            (*method == Method::GET && self.world.chance(self.world.weather.origin_cuts)).then(|| self.world.below(3));
        let pieces = if *method == Method::HEAD { Vec::new() } else { self.tear(&body) };
        let mut response = Response::new(Pieces::body(&self.world, pieces, cut, Some(desk)));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    fn tear(&self, body: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let most = (rest.len() / 2).max(20) as u64;
            let (piece, after) = rest.split_at(rest.len().min(1 + usize::try_from(self.world.below(most)).unwrap()));
            pieces.push(piece.to_owned());
            rest = after;
        }
        pieces
    }
}

#[async_trait]
impl Origin for App {
    async fn send(&self, request: Request<OutgoingBody>) -> Result<Response<IncomingBody>, OriginError> {
        let (parts, body) = request.into_parts();
        let field = |name| parts.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
        let host = field(HOST.as_str()).expect("the proxy sends Host");
        let target = parts.uri.path_and_query().expect("an origin-form target").as_str();
        let place = Place::read(&host, target).expect("the proxy asks only for what it was asked for");
        self.world.note(format_args!("app: asked for {} {target} {:?}", parts.method, field(VARIANT)));
        if parts.method == Method::POST {
            body.collect().await.map_err(OriginError::Upload)?;
            return self.post(place).await;
        }
        self.page(place, parts.method, field(VARIANT)).await
    }
}

type AtWork = Arc<parking_lot::Mutex<Vec<(Place, Method, Option<String>)>>>;

/// Somebody is at work on a page.
struct Desk {
    at_work: AtWork,
    page: (Place, Method, Option<String>),
    has_neighbour: bool,
}

impl Desk {
    fn sit_down(at_work: &AtWork, page: (Place, Method, Option<String>)) -> Self {
        let mut list = at_work.lock();
        let has_neighbour = list.contains(&page);
        list.push(page.clone());
        Desk { at_work: Arc::clone(at_work), page, has_neighbour }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let mut list = self.at_work.lock();
        if let Some(at) = list.iter().position(|page| *page == self.page) {
            list.remove(at);
        }
    }
}

/// A body in pieces, with pauses between; it may break off.
struct Pieces {
    world: Arc<World>,
    pieces: VecDeque<String>,
    /// After how many pieces it breaks off.
    cut: Option<u64>,
    pause: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    _desk: Option<Desk>,
}

impl Pieces {
    fn body(
        world: &Arc<World>,
        pieces: impl IntoIterator<Item = String>,
        cut: Option<u64>,
        desk: Option<Desk>,
    ) -> IncomingBody {
        let pieces = pieces.into_iter().collect();
        Pieces { world: Arc::clone(world), pieces, cut, pause: None, _desk: desk }.boxed_unsync()
    }
}

/// True: the origin stalled.
async fn between(world: Arc<World>) -> bool {
    world.pause().await;
    let stalls = world.chance(world.weather.origin_stalls);
    if stalls {
        tokio::time::sleep(IDLE).await;
    }
    stalls
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = OriginError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        let world = Arc::clone(&self.world);
        let pause = self.pause.get_or_insert_with(|| Box::pin(between(world)));
        let stalled = ready!(pause.as_mut().poll(context));
        self.pause = None;
        if stalled {
            return Poll::Ready(Some(Err(OriginError::Timeout {
                waited_for: "the next part of the body",
                limit: IDLE,
            })));
        }
        if let Some(left) = &mut self.cut {
            if *left == 0 {
                self.world.count("bodies cut short");
                return Poll::Ready(Some(Err(OriginError::Broken("simulated".into()))));
            }
            *left -= 1;
        }
        Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece.into()))))
    }
}
