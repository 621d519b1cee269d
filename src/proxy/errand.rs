//! What a trip is for, and what the origin is asked: everything of the request that outlives its visitor.

use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::BodyExt;

use super::handler::Handler;
use super::interim::{Interim, Listener};
use super::origin::OutgoingBody;
use super::visit::Visit;
use crate::config::UnkeyedHeaders;
use crate::invalidation::index::Subject;
use crate::page::shared::shared;
use crate::page::{Key, ObjectName, PathId};
use crate::policy::fields::{self, Told};
use crate::policy::key;
use crate::policy::rules::Target;

/// What the trip is for: everything of the request that it needs, owned.
pub(super) struct Errand {
    pub(super) method: Method,
    pub(super) host: Arc<str>,
    pub(super) path: Arc<str>,
    pub(super) query: Option<Arc<str>>,
    pub(super) path_id: PathId,
    /// The key before `Vary` has its say.
    pub(super) base: Key,
    /// The key of the flight.
    pub(super) place: Key,
    /// The fields that are known to select the page.
    pub(super) fields: Vec<HeaderName>,
    /// The visitor's fields, for `Vary`.
    pub(super) client: HeaderMap,
    /// The fields for the origin.
    pub(super) outgoing: HeaderMap,
    /// Where interim answers of the origin go: to the visitor who leads.
    pub(super) interim: Option<Listener>,
    /// Where the page may lie in the store, in the order to look, and the fields that are known to have led there; empty: do not look.
    pub(super) names: Vec<(ObjectName, Vec<HeaderName>)>,
}

impl Errand {
    pub(super) fn new(
        handler: &Handler,
        visit: &Visit<'_>,
        target: &Target<'_>,
        place: Key,
        fields: Vec<HeaderName>,
        path_id: PathId,
        look: bool,
    ) -> Self {
        let client = visit.parts.headers.clone();
        let only = match handler.rules.unkeyed_headers() {
            UnkeyedHeaders::Forward => None,
            UnkeyedHeaders::Drop => Some(handler.rules.key_headers()),
        };
        let told = Told { host: &visit.host, https: visit.https, client: None };
        let mut outgoing = fields::for_fill(&client, &told, only);
        outgoing.insert(HOST, handler.host_for_origin(&visit.host));
        let mut names = Vec::new();
        if look {
            if target.method == Method::HEAD {
                let base = handler.rules.as_get(target, (&client).into()).key;
                let fields = handler.memory.signpost(&base).map(|signpost| signpost.fields.clone()).unwrap_or_default();
                let key = if fields.is_empty() { base } else { key::variant(&base, &fields, (&client).into()) };
                names.push((ObjectName { path: path_id, method: Method::GET, key }, fields));
            }
            names.push((ObjectName { path: path_id, method: target.method.clone(), key: place }, fields.clone()));
        }
        Errand {
            method: target.method.clone(),
            host: shared(target.host),
            path: target.path.as_ref().into(),
            query: target.query.as_deref().map(Arc::from),
            path_id,
            base: target.key,
            place,
            fields,
            client,
            outgoing,
            interim: visit.interim.map(Interim::listen),
            names,
        }
    }

    pub(super) fn request(&self) -> Request<OutgoingBody> {
        let target = match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_string(),
        };
        let mut request = Request::new(http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::try_from(target).expect("a normalised path and a parsed query are a target");
        *request.headers_mut() = self.outgoing.clone();
        if let Some(listener) = self.interim.clone() {
            listener.attend(&mut request, |_| {});
        }
        request
    }

    pub(super) fn subject<'a>(&'a self, tags: &'a [Arc<str>]) -> Subject<'a> {
        Subject { host: &self.host, path: &self.path, path_id: &self.path_id, tags }
    }

    pub(super) fn name(&self, key: Key) -> ObjectName {
        ObjectName { path: self.path_id, method: self.method.clone(), key }
    }
}

impl Handler {
    pub(super) fn host_for_origin(&self, visited: &str) -> HeaderValue {
        let host = if self.settings.preserve_host { visited } else { &self.settings.origin_authority };
        HeaderValue::try_from(host).expect("a normalised host is a field value")
    }
}
