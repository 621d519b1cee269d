//! May this request be looked up, and under which key?
//!
//! The rules are compiled once from `[cache]`. Nothing here knows what is stored.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, COOKIE, PRAGMA, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, Method, StatusCode};
use regex::RegexSet;

use super::names::Names;
use super::reason::Reason;
use super::request_fields::RequestFields;
use super::{cache_control, key, path};
use crate::config::{self, Lifetime, QueryPolicy, UnkeyedHeaders};
use crate::page::{Key, ObjectName};

/// `[cache]`, compiled.
#[derive(Debug)]
pub struct Rules {
    ignore: RegexSet,
    methods: Vec<Method>,
    pub(super) statuses: Vec<StatusCode>,
    pub(super) lifetime: Lifetime,
    query: QueryPolicy,
    ignored_params: Names,
    bypass_cookies: Names,
    key_headers: Vec<HeaderName>,
    unkeyed_headers: UnkeyedHeaders,
    honor_reload: bool,
    pub(super) max_body: u64,
}

/// What to do with a request.
#[derive(Debug, PartialEq)]
pub enum Lookup<'a> {
    /// Look it up.
    Use(Target<'a>),
    /// Pass it on and keep nothing of it.
    Bypass(Reason),
}

/// The page that a request asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Target<'a> {
    /// GET or HEAD.
    pub method: &'a Method,
    /// The scheme by which the visitor came.
    pub https: bool,
    /// Lower case, without a default port.
    pub host: &'a str,
    /// Normalised.
    pub path: Cow<'a, str>,
    /// What belongs to the key, and what the origin is asked for.
    pub query: Option<Cow<'a, str>>,
    /// The key, before `Vary` has its say.
    pub key: Key,
}

impl Target<'_> {
    /// Where the page of this target lies, if `Vary` does not select another.
    #[must_use]
    pub fn object_name(&self) -> ObjectName {
        ObjectName { path: path::path_id(&self.path), method: self.method.clone(), key: self.key }
    }
}

/// A request as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a Method,
    /// The scheme by which the visitor came.
    pub https: bool,
    /// Lower case, without a default port.
    pub host: &'a str,
    /// As sent, with its leading slash, without the query.
    pub path: &'a str,
    /// As sent, without `?`.
    pub query: Option<&'a str>,
    /// Its fields.
    pub headers: RequestFields<'a>,
}

impl Rules {
    /// Compiles the rules.
    ///
    /// # Errors
    /// A pattern that [`config`] would have refused.
    pub fn new(cache: &config::Cache) -> anyhow::Result<Self> {
        Ok(Rules {
            ignore: RegexSet::new(cache.ignore.iter().map(|rule| anchored(rule)))?,
            methods: cache.methods.clone(),
            statuses: cache.statuses.clone(),
            lifetime: cache.lifetime,
            query: cache.query,
            ignored_params: Names::new(&cache.ignored_params)?,
            bypass_cookies: Names::new(&cache.bypass_cookies)?,
            key_headers: cache.key_headers.clone(),
            unkeyed_headers: cache.unkeyed_headers,
            honor_reload: cache.honor_reload,
            max_body: cache.max_body,
        })
    }

    /// May this request be looked up, and under which key?
    #[must_use]
    pub fn lookup<'a>(&self, request: &Request<'a>) -> Lookup<'a> {
        if let Some(reason) = self.refusal(request) {
            return Lookup::Bypass(reason);
        }
        let Ok(path) = path::normalise(request.path) else { return Lookup::Bypass(Reason::MalformedPath) };
        if self.ignores(request.path) {
            return Lookup::Bypass(Reason::Ignored);
        }
        if is_ambiguous(&path) {
            return Lookup::Bypass(Reason::MalformedPath);
        }
        let query = match (self.query, self.kept_query(request.query)) {
            (QueryPolicy::Ignore, _) => None,
            (QueryPolicy::Bypass, Some(_)) => return Lookup::Bypass(Reason::Query),
            (_, query) => query,
        };
        let key = key::base(
            request.method,
            request.https,
            request.host,
            &path,
            query.as_deref(),
            &self.key_headers,
            request.headers,
        );
        Lookup::Use(Target { method: request.method, https: request.https, host: request.host, path, query, key })
    }

    /// The same page under GET, for a HEAD that a stored GET may answer.
    #[must_use]
    pub fn as_get<'a>(&self, target: &Target<'a>, headers: RequestFields<'_>) -> Target<'a> {
        let key = key::base(
            &Method::GET,
            target.https,
            target.host,
            &target.path,
            target.query.as_deref(),
            &self.key_headers,
            headers,
        );
        Target { method: &GET, key, ..target.clone() }
    }

    /// Does an ignore rule match this path, in any form that the origin may see?
    #[must_use]
    pub fn ignores(&self, path_as_sent: &str) -> bool {
        !self.ignore.is_empty() && path::any_form(path_as_sent, |form| self.ignore.is_match(form))
    }

    /// The patterns that match this path, by their place in `cache.ignore`: for `explain`.
    #[must_use]
    pub fn matching_rules(&self, path_as_sent: &str) -> Vec<usize> {
        let mut matching = std::collections::BTreeSet::new();
        path::any_form(path_as_sent, |form| {
            matching.extend(self.ignore.matches(form));
            false
        });
        matching.into_iter().collect()
    }

    /// Whether request fields outside the key reach the origin.
    #[must_use]
    pub fn unkeyed_headers(&self) -> UnkeyedHeaders {
        self.unkeyed_headers
    }

    /// The request fields that select a page.
    #[must_use]
    pub fn key_headers(&self) -> &[HeaderName] {
        &self.key_headers
    }

    fn refusal(&self, request: &Request<'_>) -> Option<Reason> {
        let headers = request.headers;
        if !self.methods.contains(request.method) {
            return Some(Reason::Method);
        }
        if headers.contains(&AUTHORIZATION) {
            return Some(Reason::Authorization);
        }
        if headers.contains(&UPGRADE) {
            return Some(Reason::Upgrade);
        }
        if headers.contains(&TRANSFER_ENCODING) || headers.first(&CONTENT_LENGTH).is_some_and(|length| length != b"0") {
            return Some(Reason::RequestBody);
        }
        if self.has_bypass_cookie(headers) {
            return Some(Reason::BypassCookie);
        }
        (self.honor_reload && asks_for_reload(headers)).then_some(Reason::Reload)
    }

    fn has_bypass_cookie(&self, headers: RequestFields<'_>) -> bool {
        // Octets that are no text cannot be a session this proxy knows; the names before `=` still are compared.
        headers.all(&COOKIE).any(|line| {
            line.split(|byte| *byte == b';').any(|pair| {
                let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
                let name = String::from_utf8_lossy(name.trim_ascii());
                let name = name.trim();
                !name.is_empty() && self.bypass_cookies.contains(name)
            })
        })
    }

    /// The query without ignored parameters; `None` where nothing is left of it.
    fn kept_query<'a>(&self, query: Option<&'a str>) -> Option<Cow<'a, str>> {
        let query = query?;
        if self.ignored_params.is_empty() || !query.split('&').any(|pair| self.is_ignored_param(pair)) {
            return Some(Cow::Borrowed(query));
        }
        let kept: Vec<_> = query.split('&').filter(|pair| !self.is_ignored_param(pair)).collect();
        (!kept.is_empty()).then(|| Cow::Owned(kept.join("&")))
    }

    fn is_ignored_param(&self, pair: &str) -> bool {
        let name = pair.split('=').next().unwrap_or_default();
        self.ignored_params.contains(name)
    }
}

const GET: Method = Method::GET;

fn asks_for_reload(headers: RequestFields<'_>) -> bool {
    let control = cache_control::parse(headers.all(&CACHE_CONTROL));
    // RFC 9111, section 5.4: Pragma counts only where Cache-Control is absent.
    let pragma = !headers.contains(&CACHE_CONTROL)
        && headers.first(&PRAGMA).is_some_and(|value| value.eq_ignore_ascii_case(b"no-cache"));
    control.no_cache || control.no_store || control.max_age == Some(0) || pragma
}

/// Dot segments that only appear once `%2F` or `%5C` is decoded: which page they lead to depends on the app, so no invalidation could name it.
fn is_ambiguous(normal: &str) -> bool {
    normal.contains("..") && (normal.contains("%2F") || normal.contains("%5C"))
}

/// django-dumper matches with `re.match`: at the start of the path, whether the pattern says `^` or not.
fn anchored(pattern: &str) -> String {
    let wrapped = format!(r"\A(?:{pattern})");
    // A pattern in extended mode may end in a comment, which only a line's end ends.
    if regex::Regex::new(&wrapped).is_err() { format!("\\A(?:{pattern}\n)") } else { wrapped }
}
