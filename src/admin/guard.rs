//! Who may ask? Holders of the token; without a token, whoever is on this machine, but not every page that a browser here has open.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::Control;
use super::answer::Failure;

/// What the dashboard may do: talk to this server. It shows paths and tags that anybody can put into the cache.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

/// On every answer.
const SECURITY_FIELDS: [(HeaderName, &str); 5] = [
    (CACHE_CONTROL, "no-store"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
];

/// What browsers say of where a request comes from (W3C Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets a request through, or says why not.
pub(super) async fn guard(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    let token = control.parties.config.admin.token.reveal();
    let admitted = if token.is_empty() { check_neighbour(&request) } else { check_token(request.headers(), token) };
    match admitted {
        Ok(()) => next.run(request).await,
        Err(no) => {
            let mut response = no.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                let scheme = HeaderValue::from_static("Bearer realm=\"everpage\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            }
            response
        }
    }
}

/// The comparison takes as long for a wrong token as for the right one; only its length shows.
fn check_token(headers: &HeaderMap, token: &str) -> Result<(), Failure> {
    let no = |detail: &str| Err(Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", detail));
    let Some(given) = headers.get(AUTHORIZATION) else { return no("send `Authorization: Bearer <admin.token>`") };
    let (scheme, given) = given.as_bytes().split_at_checked(7).unwrap_or_default();
    if scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(given.ct_eq(token.as_bytes())) {
        return Ok(());
    }
    no("this is not the token of `admin.token`")
}

/// Without a token the listener's loopback address is the protection, and a browser on this machine is the hole in it:
///
/// - DNS rebinding: a name of a foreign site can be made to point here, and its page then reads the answers as its own. Such a request carries
///   the foreign name in `Host`, which an address or `localhost` never is.
/// - A forged request: any page may send a "simple" POST (`text/plain`) here without reading the answer, and empty the cache. Browsers say
///   where it comes from; programs say nothing.
fn check_neighbour(request: &Request) -> Result<(), Failure> {
    let headers = request.headers();
    let no = |error, detail: &str| Err(Failure::new(StatusCode::FORBIDDEN, error, detail));
    let from_url = request.uri().authority().map(|authority| authority.as_str());
    let host = from_url.or_else(|| headers.get(HOST)?.to_str().ok()).unwrap_or_default();
    if !is_address_or_localhost(host) {
        return no("foreign-host", "without `admin.token`, Host must be an IP address or localhost");
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let is_foreign_site = headers.get(SEC_FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none");
    let is_foreign_origin = headers.get(ORIGIN).is_some_and(|origin| !is_origin_of(origin, host));
    if is_foreign_site || is_foreign_origin {
        return no("foreign-origin", "without `admin.token`, pages of other sites may not send this");
    }
    Ok(())
}

fn is_address_or_localhost(host: &str) -> bool {
    let name = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => &host[..colon],
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

fn is_origin_of(origin: &HeaderValue, host: &str) -> bool {
    let authority = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Adds what keeps browsers from doing more than is meant.
pub(super) async fn add_security_fields(mut response: Response) -> Response {
    for (name, value) in SECURITY_FIELDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
