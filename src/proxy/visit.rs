//! Who asks for what? The request line, `Host` and the peer become one visit, or a refusal.
//!
//! The request has been parsed; here it is checked against what a request cannot do.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, Method, StatusCode, Version};
use ipnet::IpNet;

use super::interim::Interim;
use crate::config::Config;
use crate::policy::host::normalise_host;
use crate::policy::request_fields::{RequestFields, text};
use crate::policy::rules;

/// How a trusted proxy says by which scheme the visitor came.
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

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

/// What a request says of itself, wherever its parts lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub method: &'a Method,
    pub version: Version,
    /// Of an absolute URL.
    pub scheme: Option<&'a str>,
    /// Of an absolute URL, as it was sent.
    pub authority: Option<&'a str>,
    /// As it was sent, without the query; `*` too.
    pub path: &'a str,
    /// As it was sent, without `?`.
    pub query: Option<&'a str>,
    /// Path and query in one.
    pub target: &'a str,
    pub fields: RequestFields<'a>,
}

impl<'a> Asked<'a> {
    fn of(parts: &'a Parts) -> Self {
        Asked {
            method: &parts.method,
            version: parts.version,
            scheme: parts.uri.scheme_str(),
            authority: parts.uri.authority().map(Authority::as_str),
            path: parts.uri.path(),
            query: parts.uri.query(),
            target: parts.uri.path_and_query().map_or("", PathAndQuery::as_str),
            fields: (&parts.headers).into(),
        }
    }

    /// The request as the rules see it, with what was found when it was let in.
    pub(super) fn request(&self, https: bool, host: &'a str) -> rules::Request<'a> {
        rules::Request { method: self.method, https, host, path: self.path, query: self.query, headers: self.fields }
    }
}

/// What is known of a request that was let in.
#[derive(Debug, PartialEq)]
pub(super) struct Admitted<'a> {
    /// Lower case, without a default port.
    pub host: Cow<'a, str>,
    /// The scheme by which the visitor came.
    pub https: bool,
    /// The peer is a trusted proxy.
    pub trusted: bool,
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
        let Admitted { host, https, trusted } = self.admit(&Asked::of(parts), visitor)?;
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

    /// Whether this request is let in. Allocates only where the host is not spelled as it is kept.
    ///
    /// # Errors
    /// Each [`Refusal`] but for [`Refusal::Loop`] and [`Refusal::Purge`].
    pub(super) fn admit<'a>(&'a self, asked: &Asked<'a>, visitor: &Visitor) -> Result<Admitted<'a>, Refusal> {
        if asked.method == Method::CONNECT {
            return Err(Refusal::Connect);
        }
        if asked.target.len() > self.target_bytes {
            return Err(Refusal::LongTarget);
        }
        let is_asterisk = asked.method == Method::OPTIONS && asked.target == "*";
        if !(asked.path.starts_with('/') || is_asterisk) {
            return Err(Refusal::BadTarget);
        }
        let is_scheme = |known: &str| asked.scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(known));
        if asked.scheme.is_some() && !is_scheme("http") && !is_scheme("https") {
            return Err(Refusal::BadTarget);
        }
        self.check_length(asked.fields)?;
        let trusted = !self.trusted.is_empty() && contains(&self.trusted, visitor.address);
        let https = if visitor.is_inside {
            is_scheme("https")
        } else {
            trusted && last_item(asked.fields, &X_FORWARDED_PROTO) == Some("https")
        };
        let host = self.host(asked)?;
        if !self.hosts.is_empty() && !self.hosts.iter().any(|served| served == without_port(&host)) {
            return Err(Refusal::ForeignHost);
        }
        Ok(Admitted { host, https, trusted })
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
    fn host<'a>(&'a self, asked: &Asked<'a>) -> Result<Cow<'a, str>, Refusal> {
        let mut lines = asked.fields.all(&HOST);
        let line = lines.next();
        if lines.next().is_some() {
            return Err(Refusal::BadHost);
        }
        let raw = match (asked.authority, line) {
            (Some(authority), _) => authority,
            (None, Some(line)) => text(line).ok_or(Refusal::BadHost)?,
            (None, None) if asked.version < Version::HTTP_11 => &self.default_host,
            (None, None) => return Err(Refusal::BadHost),
        };
        normalise_host(raw).map_err(|_| Refusal::BadHost)
    }

    fn check_length(&self, fields: RequestFields<'_>) -> Result<(), Refusal> {
        let mut lines = fields.all(&CONTENT_LENGTH);
        let Some(line) = lines.next() else { return Ok(()) };
        if lines.next().is_some() {
            return Err(Refusal::BadLength);
        }
        let length: u64 = text(line).and_then(|line| line.parse().ok()).ok_or(Refusal::BadLength)?;
        if self.body_bytes.is_some_and(|limit| length > limit) { Err(Refusal::LargeBody) } else { Ok(()) }
    }
}

impl Visit<'_> {
    /// The request as the rules see it.
    pub(super) fn request(&self) -> rules::Request<'_> {
        Asked::of(self.parts).request(self.https, &self.host)
    }

    /// What the visitor sent.
    pub(super) fn fields(&self) -> RequestFields<'_> {
        (&self.parts.headers).into()
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

fn last_item<'a>(fields: RequestFields<'a>, name: &HeaderName) -> Option<&'a str> {
    text(fields.all(name).next_back()?)?.rsplit(',').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Request};
    use proptest::prelude::*;

    use super::*;
    use crate::policy::request_fields::tests::{both_ways, sent};

    const NAMES: &[&str] = &["host", "content-length", "x-forwarded-proto", "x-else"];
    const VALUES: &str = "(Shop[.]example:80|b[.]example|http|https|, |1|4096|99999999| ){1,2}|";

    fn front(served: bool, trusting: bool) -> Front {
        let mut config = Config {
            hosts: if served { vec!["shop.example".into()] } else { Vec::new() },
            trusted_proxies: if trusting { vec!["10.0.0.0/8".parse().unwrap()] } else { Vec::new() },
            ..Config::default()
        };
        config.limits.body_bytes = Some(4096);
        Front::new(&config)
    }

    proptest! {
        #[test]
        fn who_is_let_in_does_not_depend_on_where_the_fields_lie(
            sent in sent(NAMES, VALUES),
            method in prop::sample::select(vec![Method::GET, Method::OPTIONS, Method::CONNECT]),
            uri in prop::sample::select(vec!["/", "/a?b", "*", "http://b.example/a", "HTTPS://Shop.example?b", "ftp://a/", "shop.example:80"]),
            is_old: bool, is_inside: bool, served: bool, trusting: bool,
        ) {
            let front = front(served, trusting);
            let visitor = Visitor { is_inside, ..Visitor::at([10, 0, 0, 1].into()) };
            let version = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
            let (mut parts, ()) = Request::builder().method(method).uri(uri).version(version).body(()).unwrap().into_parts();
            let answers = both_ways(&sent, |fields| {
                let asked = Asked { fields, ..Asked::of(&parts) };
                let admitted = front.admit(&asked, &visitor);
                admitted.map(|Admitted { host, https, trusted }| (host.into_owned(), https, trusted))
            });
            prop_assert_eq!(&answers[0], &answers[1]);
            parts.headers = HeaderMap::from_iter(sent.iter().map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), http::HeaderValue::from_bytes(value).unwrap())
            }));
            let visit = front.read(&parts, &visitor).map(|visit| (visit.host.into_owned(), visit.https, visit.trusted));
            prop_assert_eq!(&visit, &answers[1]);
        }
    }
}
