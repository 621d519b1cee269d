//! What does the configuration do with a request, and why? The answer for people and programs, without a server.
//!
//! Pure: it asks the same [`Rules`] as the data plane, and adds only words. What is stored it does not know.

use http::header::{HOST, InvalidHeaderName, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;

use super::host::normalise_host;
use super::path::{PathError, split_url};
use super::reason::Reason;
use super::rules::{Lookup, Request, Rules};
use crate::config::Config;
use crate::page::{Key, ObjectName};

/// A request that nobody sent.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its method.
    pub method: Method,
    /// The scheme by which the visitor would come.
    pub https: bool,
    /// Lower case, without a default port.
    pub host: String,
    /// As it would be sent, without the query.
    pub path: String,
    /// As it would be sent, without `?`.
    pub query: Option<String>,
    /// Its fields, without `Host`.
    pub headers: HeaderMap,
}

/// Why nobody could send such a request.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// The method is no token.
    #[error("{0:?} is not a method; give one such as GET")]
    Method(String),
    /// Neither a path nor a URL.
    #[error("{url:?} is not a path or URL: {source}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// No colon in it.
    #[error("{0:?} is not a field; write it as \"Name: value\"")]
    Field(String),
    /// The name is no token.
    #[error("{0:?} does not begin with the name of a field")]
    FieldName(String, #[source] InvalidHeaderName),
    /// The value has control characters.
    #[error("{0:?} has a value that no field can have")]
    FieldValue(String, #[source] InvalidHeaderValue),
}

impl QuestionError {
    /// The reason's name.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            QuestionError::Method(_) => "bad-method",
            QuestionError::Url { .. } => "bad-url",
            QuestionError::Field(_) | QuestionError::FieldName(..) | QuestionError::FieldValue(..) => "bad-header",
        }
    }
}

impl Question {
    /// A request for `url`, a URL or a path, with `fields` such as `Accept-Language: de`. The host of a path is that of a `Host` field, else
    /// `default_host`.
    ///
    /// # Errors
    /// Nobody could send it.
    pub fn new(method: &str, url: &str, fields: &[String], default_host: &str) -> Result<Self, QuestionError> {
        let method = method.parse().map_err(|_| QuestionError::Method(method.to_owned()))?;
        let wrong = |source: PathError| QuestionError::Url { url: url.to_owned(), source };
        let mut headers = HeaderMap::new();
        for field in fields {
            let (name, value) = read_field(field)?;
            headers.append(name, value);
        }
        let host_field = headers.remove(HOST).and_then(|host| host.to_str().map(str::to_owned).ok());
        let (url_host, path) = split_url(url).map_err(wrong)?;
        let host = match url_host {
            Some(host) => host,
            None => normalise_host(host_field.as_deref().unwrap_or(default_host))
                .map_err(|error| wrong(error.into()))?
                .into_owned(),
        };
        let without_fragment = url.split('#').next().unwrap_or(url);
        Ok(Question {
            method,
            https: url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")),
            host,
            path: path.to_owned(),
            query: without_fragment.split_once('?').map(|(_, query)| query.to_owned()),
            headers,
        })
    }

    /// As the rules see it.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            https: self.https,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers: (&self.headers).into(),
        }
    }
}

fn read_field(field: &str) -> Result<(HeaderName, HeaderValue), QuestionError> {
    let (name, value) = field.split_once(':').ok_or_else(|| QuestionError::Field(field.to_owned()))?;
    let name = name.trim().parse().map_err(|error| QuestionError::FieldName(field.to_owned(), error))?;
    let value = value.trim().parse().map_err(|error| QuestionError::FieldValue(field.to_owned(), error))?;
    Ok((name, value))
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It is looked up, and what the origin answers may be kept.
    LookUp,
    /// It goes past the cache, and nothing of it is kept.
    Bypass,
    /// It is not let in.
    Reject,
}

/// What the configuration does with a request, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// What happens.
    pub decision: Decision,
    /// The word for it in `Cache-Status`, logs and metrics; none for a request that is looked up.
    pub reason: Option<&'static str>,
    /// The same as a sentence.
    pub because: &'static str,
    /// The rules of `cache.ignore` that match, as they were written.
    pub ignored_by: Vec<String>,
    /// The request's method.
    #[serde(serialize_with = "as_text")]
    pub method: Method,
    /// `http` or `https`: a part of the key.
    pub scheme: &'static str,
    /// Lower case, without a default port.
    pub host: String,
    /// Normalised: what the key says and what the origin is asked for. As it was given where it has no normal form.
    pub path: String,
    /// What is left of the query in the key, without `?`; none of a request that is not looked up.
    pub query: Option<String>,
    /// The key, before `Vary` has its say.
    pub key: Option<Key>,
    /// Where the page lies in a store, before `Vary` has its say.
    pub object: Option<ObjectName>,
    /// `cache.key_headers` with the request's values.
    pub key_headers: Vec<(String, String)>,
}

/// Explains.
#[must_use]
pub fn explain(config: &Config, rules: &Rules, question: &Question) -> Explanation {
    let ignored_by = rules.matching_rules(&question.path);
    let normal = super::path::normalise(&question.path).map(std::borrow::Cow::into_owned);
    let mut explanation = Explanation {
        decision: Decision::LookUp,
        reason: None,
        because: "It is looked up; what the origin answers is kept, unless the response forbids it.",
        ignored_by: ignored_by.iter().filter_map(|place| config.cache.ignore.get(*place).cloned()).collect(),
        method: question.method.clone(),
        scheme: if question.https { "https" } else { "http" },
        host: question.host.clone(),
        path: normal.unwrap_or_else(|_| question.path.clone()),
        query: None,
        key: None,
        object: None,
        key_headers: super::vary::values(rules.key_headers(), &question.headers)
            .into_iter()
            .map(|(name, value)| (name.to_string(), value))
            .collect(),
    };
    if !config.hosts.is_empty() && !config.hosts.contains(&question.host) {
        explanation.decision = Decision::Reject;
        explanation.reason = Some("foreign-host");
        explanation.because = "The host is not one of `hosts`: it is answered 421.";
        return explanation;
    }
    match rules.lookup(&question.request()) {
        Lookup::Use(target) => {
            explanation.key = Some(target.key);
            explanation.object = Some(target.object_name());
            explanation.query = target.query.map(std::borrow::Cow::into_owned);
        }
        Lookup::Bypass(reason) => {
            explanation.decision = Decision::Bypass;
            explanation.reason = Some(reason.as_str());
            explanation.because = because(reason);
        }
    }
    explanation
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::Method => "The method is not one of `cache.methods`.",
        Reason::Ignored => "A rule of `cache.ignore` matches the path.",
        Reason::Authorization => "The request carries Authorization: the answer is for one visitor.",
        Reason::BypassCookie => "The request carries one of `cache.bypass_cookies`: the visitor has a session.",
        Reason::Query => "The request has a query, and `cache.query` is \"bypass\".",
        Reason::MalformedPath => "The path cannot be normalised: it is passed on as it came.",
        Reason::RequestBody => "The request has a body: what it asks for is not in its URL alone.",
        Reason::Upgrade => "The request asks for another protocol.",
        Reason::Reload => "The visitor asks for a fresh page, and `cache.honor_reload` allows it.",
        _ => "It is not looked up.",
    }
}

fn as_text<S: serde::Serializer>(method: &Method, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(method.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, url: &str, fields: &[&str]) -> Explanation {
        let config = Config { hosts: vec!["shop.example".to_owned()], ..Config::default() };
        let rules = Rules::new(&config.cache).unwrap();
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        explain(&config, &rules, &Question::new(method, url, &fields, "shop.example").unwrap())
    }

    #[test]
    fn a_page_that_is_looked_up_has_a_normal_path_and_a_key() {
        let page = ask("GET", "https://SHOP.example:443/%62log/../ice/?utm_source=x&page=2#top", &[]);
        assert_eq!((page.decision, page.reason), (Decision::LookUp, None));
        assert_eq!((page.scheme, &*page.host, &*page.path), ("https", "shop.example", "/ice/"));
        assert_eq!(page.query.as_deref(), Some("page=2"));
        assert_eq!(page.object.unwrap().key, page.key.unwrap());
    }

    #[test]
    fn the_rule_that_matches_is_named_whatever_the_spelling() {
        for path in ["/admin/", "//admin/", "/%61dmin/login", "/x/../admin/"] {
            let page = ask("GET", path, &[]);
            assert_eq!((page.decision, page.reason), (Decision::Bypass, Some("ignored")), "{path}");
            assert_eq!(page.ignored_by, ["^/admin/"], "{path}");
            assert!(page.key.is_none());
        }
    }

    #[test]
    fn fields_of_the_request_count() {
        assert_eq!(ask("GET", "/", &["Cookie: sessionid=1"]).reason, Some("bypass-cookie"));
        assert_eq!(ask("GET", "/", &["authorization: Basic eA=="]).reason, Some("authorization"));
        assert_eq!(ask("POST", "/", &[]).reason, Some("method"));
        assert_eq!(ask("GET", "/", &["Host: other.example"]).reason, Some("foreign-host"));
        assert_eq!(ask("GET", "/%zz", &[]).reason, Some("malformed-path"));
    }

    #[test]
    fn what_nobody_could_send_is_an_error() {
        let wrong = |method: &str, url: &str, field: &str| {
            Question::new(method, url, &[field.to_owned()], "shop.example").unwrap_err().as_str()
        };
        assert_eq!(wrong("G T", "/", "a: b"), "bad-method");
        assert_eq!(wrong("GET", "blog", "a: b"), "bad-url");
        assert_eq!(wrong("GET", "ftp://a/", "a: b"), "bad-url");
        assert_eq!(wrong("GET", "/", "no colon"), "bad-header");
        assert_eq!(wrong("GET", "/", "a b: c"), "bad-header");
        assert_eq!(wrong("GET", "/", "a: b\u{7}c"), "bad-header");
    }
}
