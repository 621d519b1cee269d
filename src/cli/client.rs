//! How do the client commands speak HTTP? One request, one bounded answer, a time limit, and errors that say what to do.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::uri::Scheme;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value as Json;

use super::Failure;
use super::output::harmless;
use crate::config::{self, Config, Secret};
use crate::proxy::origin::tls;

/// From the start of a call to the end of its answer.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// An invalidation that names 10,000 paths may answer as many unmatched ones.
const ANSWER_BYTES: usize = 64 << 20;
/// What is shown of an answer that is not understood.
const SHOWN_CHARACTERS: usize = 500;

/// A pool of connections to one server.
pub(super) type Pool = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The admin API of one everpage.
pub(super) struct Client {
    /// Without a slash at the end.
    url: String,
    authorization: Option<HeaderValue>,
    pool: Pool,
}

impl Client {
    pub(super) fn new(url: &str, token: &Secret) -> Result<Self, Failure> {
        let uri = server_url("--admin-url", url)?;
        let authorization = match token.reveal() {
            "" => None,
            token => {
                let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| Failure::usage("the token has characters that no header may have"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Client { url: uri.to_string().trim_end_matches('/').to_owned(), authorization, pool: pool(&uri)? })
    }

    /// `target`: path and query.
    pub(super) async fn get(&self, target: &str) -> Result<Json, Failure> {
        self.call(Method::GET, target, Bytes::new()).await
    }

    pub(super) async fn post(&self, target: &str, body: &Json) -> Result<Json, Failure> {
        self.call(Method::POST, target, body.to_string().into()).await
    }

    async fn call(&self, method: Method, target: &str, body: Bytes) -> Result<Json, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{target}", self.url));
        request = request.header(ACCEPT, "application/json").header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request =
            request.body(Full::new(body)).map_err(|error| Failure::usage(format_args!("{target}: {error}")))?;
        let (status, body) = tokio::time::timeout(TIME_LIMIT, self.exchange(request)).await.map_err(|_| {
            let seconds = TIME_LIMIT.as_secs();
            Failure::failed(format_args!("{} did not answer within {seconds} seconds", self.url))
        })??;
        let json = serde_json::from_slice(&body).ok();
        match json {
            Some(json) if status.is_success() => Ok(json),
            json => Err(self.refused(status, json.as_ref(), &body)),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        let response = self.pool.request(request).await.map_err(|error| unanswered(&self.url, &error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body =
            body.map_err(|error| Failure::failed(format_args!("the answer of {} ended early: {error}", self.url)))?;
        Ok((status, body.to_bytes()))
    }

    /// An answer that is none, in the words of the server where it has some.
    fn refused(&self, status: StatusCode, json: Option<&Json>, body: &[u8]) -> Failure {
        let said = json.and_then(|json| json["detail"].as_str().or_else(|| json["error"].as_str())).map(harmless);
        let url = &self.url;
        match (status, said) {
            (StatusCode::UNAUTHORIZED, _) if self.authorization.is_some() => {
                Failure::failed(format_args!("{url} refuses this token"))
            }
            (StatusCode::UNAUTHORIZED, _) => Failure::failed(format_args!(
                "{url} asks for a token: give it in EVERPAGE_TOKEN or in a file named by --token-file"
            )),
            (StatusCode::BAD_REQUEST, Some(said)) => Failure::usage(said),
            (_, Some(said)) => Failure::failed(format_args!("{url} answered {status}: {said}")),
            (_, None) => {
                let shown: String = String::from_utf8_lossy(body).chars().take(SHOWN_CHARACTERS).collect();
                let shown = harmless(shown.trim());
                Failure::failed(format_args!("what answers at {url} is not everpage's admin API: {status} {shown}"))
            }
        }
    }
}

/// Scheme and authority, nothing else. `option`: who said so.
pub(super) fn server_url(option: &str, url: &str) -> Result<Uri, Failure> {
    let wrong = || Failure::usage(format_args!("{option}: {url:?} is not a URL such as http://127.0.0.1:8081"));
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let is_http = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    let is_bare = uri.path() == "/" && uri.query().is_none();
    let names_nobody = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if is_http && is_bare && names_nobody { Ok(uri) } else { Err(wrong()) }
}

/// Connections to this server; over https, certificates are checked against the system's authorities.
pub(super) fn pool(server: &Uri) -> Result<Pool, Failure> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(TIME_LIMIT / 3));
    tcp.set_nodelay(true);
    let trust = config::Origin { url: server.clone(), ..Config::default().origin };
    let tls = match tls::client(&trust)? {
        Some(tls) => tls,
        None => ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
    };
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    Ok(legacy::Client::builder(TokioExecutor::new()).build(connector))
}

/// Nobody there, or somebody who hung up.
pub(super) fn unanswered(url: &str, error: &legacy::Error) -> Failure {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_connect() {
        Failure::failed(format_args!(
            "no everpage answers at {url}: {cause}; is it running? `everpage serve` starts it"
        ))
    } else {
        Failure::failed(format_args!("{url} hung up: {cause}"))
    }
}
