//! Who asks for what? The request line, `Host` and the peer become one visit, or a refusal.
//!
//! hyper has parsed the request; here it is checked against what a request cannot do.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, Method, StatusCode, Version};
use ipnet::IpNet;

use super::interim::Interim;
use crate::config::Config;
use crate::policy::host::normalise_host;
use crate::policy::rules;

/// What is known of a visitor's connection.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The peer's address.
    pub address: IpAddr,
    /// Set when the connection must end after the answer, because where the request's body ends was not counted (`wire`).
    pub last_request: Arc<AtomicBool>,
    /// Where interim answers of the origin go.
    pub interim: Arc<Interim>,
    /// Not a visitor but everpage itself, which fetches a page anew: the scheme of its URLs counts, and a page that was softly invalidated will not do.
    pub is_inside: bool,
}

impl Visitor {
    /// A visitor at this address.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Visitor { address, last_request: Arc::default(), interim: Arc::default(), is_inside: false }
    }

    /// everpage itself.
    #[must_use]
    pub fn inside() -> Self {
        Visitor { is_inside: true, ..Visitor::at(std::net::Ipv4Addr::LOCALHOST.into()) }
    }

    pub(super) fn must_close(&self) -> bool {
        self.last_request.load(Ordering::Relaxed)
    }
}

/// Which requests are let in.
#[derive(Debug)]
pub(super) struct Front {
    hosts: Vec<String>,
    trusted: Vec<IpNet>,
    purgers: Vec<IpNet>,
    target_bytes: usize,
    body_bytes: Option<u64>,
    /// For HTTP/1.0 requests without `Host`.
    default_host: String,
}

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    pub parts: &'a Parts,
    pub host: Cow<'a, str>,
    pub https: bool,
    pub address: IpAddr,
    /// The peer is a trusted proxy.
    pub trusted: bool,
    /// Where interim answers go; `None` where the visitor does not understand them.
    pub interim: Option<&'a Arc<Interim>>,
    /// As in [`Visitor`].
    pub is_inside: bool,
}

/// A request that was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// CONNECT: this is no forward proxy.
    Connect,
    /// The target is longer than `limits.target_bytes`.
    LongTarget,
    /// No `Host`, several, or one that names no host.
    BadHost,
    /// The target is neither a path nor an absolute URL.
    BadTarget,
    /// `Host` is not one of `hosts`.
    ForeignHost,
    /// Several Content-Length fields, or one that is no number.
    BadLength,
    /// The announced body is larger than `limits.body_bytes`.
    LargeBody,
    /// It went through this kind of proxy too often: a loop.
    Loop,
    /// PURGE from an address outside `purge_from`.
    Purge,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Refusal::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::LongTarget => StatusCode::URI_TOO_LONG,
            Refusal::BadHost | Refusal::BadTarget | Refusal::BadLength => StatusCode::BAD_REQUEST,
            Refusal::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Refusal::LargeBody => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Loop => StatusCode::LOOP_DETECTED,
            Refusal::Purge => StatusCode::FORBIDDEN,
        }
    }

    /// One word for the log and `Cache-Status`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Refusal::Connect => "connect",
            Refusal::LongTarget => "long-target",
            Refusal::BadHost => "bad-host",
            Refusal::BadTarget => "bad-target",
            Refusal::ForeignHost => "foreign-host",
            Refusal::BadLength => "bad-length",
            Refusal::LargeBody => "large-body",
            Refusal::Loop => "loop",
            Refusal::Purge => "purge-forbidden",
        }
    }

    /// A sentence for whoever sent it.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Refusal::Connect => "CONNECT is not offered here.",
            Refusal::LongTarget => "The URL is too long.",
            Refusal::BadHost => "The request needs exactly one Host field that names a host.",
            Refusal::BadTarget => "The request's target must be a path or an http URL.",
            Refusal::ForeignHost => "This host is not served here.",
            Refusal::BadLength => "The request needs at most one Content-Length, a number.",
            Refusal::LargeBody => "The request's body is too large.",
            Refusal::Loop => "The request goes round in circles: the origin's address leads back here.",
            Refusal::Purge => "PURGE is not allowed from this address.",
        }
    }
}

impl Front {
    pub(super) fn new(config: &Config) -> Self {
        Front {
            hosts: config.hosts.clone(),
            trusted: config.trusted_proxies.clone(),
            purgers: config.purge_from.clone(),
            target_bytes: config.limits.target_bytes,
            body_bytes: config.limits.body_bytes,
            default_host: config.origin.url.authority().map(ToString::to_string).unwrap_or_default(),
        }
    }

    pub(super) fn read<'a>(&'a self, parts: &'a Parts, visitor: &'a Visitor) -> Result<Visit<'a>, Refusal> {
        if parts.method == Method::CONNECT {
            return Err(Refusal::Connect);
        }
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        if target.len() > self.target_bytes {
            return Err(Refusal::LongTarget);
        }
        let is_asterisk = parts.method == Method::OPTIONS && target == "*";
        if !(parts.uri.path().starts_with('/') || is_asterisk) {
            return Err(Refusal::BadTarget);
        }
        if parts.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
            return Err(Refusal::BadTarget);
        }
        self.check_length(&parts.headers)?;
        let trusted = !self.trusted.is_empty() && contains(&self.trusted, visitor.address);
        let https = if visitor.is_inside {
            parts.uri.scheme_str() == Some("https")
        } else {
            trusted && last_item(&parts.headers, "x-forwarded-proto").is_some_and(|proto| proto == "https")
        };
        let host = self.host(parts)?;
        if !self.hosts.is_empty() && !self.hosts.iter().any(|served| served == without_port(&host)) {
            return Err(Refusal::ForeignHost);
        }
        let interim = (parts.version >= Version::HTTP_11).then_some(&visitor.interim);
        Ok(Visit {
            parts,
            host,
            https,
            address: visitor.address.to_canonical(),
            trusted,
            interim,
            is_inside: visitor.is_inside,
        })
    }

    /// Whether PURGE is more than an ordinary method here.
    pub(super) fn purges(&self) -> bool {
        !self.purgers.is_empty()
    }

    pub(super) fn may_purge(&self, visitor: &Visitor) -> bool {
        contains(&self.purgers, visitor.address)
    }

    pub(super) fn body_limit(&self) -> Option<u64> {
        self.body_bytes
    }

    /// The URL's authority, else `Host` (RFC 9112, section 3.2.2).
    fn host<'a>(&'a self, parts: &'a Parts) -> Result<Cow<'a, str>, Refusal> {
        let mut lines = parts.headers.get_all(HOST).iter();
        let line = lines.next();
        if lines.next().is_some() {
            return Err(Refusal::BadHost);
        }
        let raw = match (parts.uri.authority(), line) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(line)) => line.to_str().map_err(|_| Refusal::BadHost)?,
            (None, None) if parts.version < Version::HTTP_11 => &self.default_host,
            (None, None) => return Err(Refusal::BadHost),
        };
        normalise_host(raw).map_err(|_| Refusal::BadHost)
    }

    fn check_length(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut lines = headers.get_all(CONTENT_LENGTH).iter();
        let Some(line) = lines.next() else { return Ok(()) };
        if lines.next().is_some() {
            return Err(Refusal::BadLength);
        }
        let length: u64 = line.to_str().ok().and_then(|line| line.parse().ok()).ok_or(Refusal::BadLength)?;
        if self.body_bytes.is_some_and(|limit| length > limit) { Err(Refusal::LargeBody) } else { Ok(()) }
    }
}

impl Visit<'_> {
    /// The request as the rules see it.
    pub(super) fn request(&self) -> rules::Request<'_> {
        rules::Request {
            method: &self.parts.method,
            https: self.https,
            host: &self.host,
            path: self.parts.uri.path(),
            query: self.parts.uri.query(),
            headers: &self.parts.headers,
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

fn last_item<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get_all(name).iter().next_back()?.to_str().ok()?.rsplit(',').next().map(str::trim)
}
