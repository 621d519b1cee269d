//! How is text read, checked and shown? Addresses, names, patterns, paths and secrets.
//!
//! Nothing here connects or resolves; of files it reads only those that hold a secret.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use http::{HeaderName, Method, StatusCode, Uri};
use ipnet::IpNet;
use serde_json::{Value as Json, json};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::Secret;
use super::environment;
use super::given::{Given, Problems, quoted};
use super::kinds::{Count, Kind};

/// A kind that is made of text: what would be right, how it is read (or what is wrong), how it is shown.
pub(super) struct Text<T: 'static> {
    pub(super) expected: &'static str,
    pub(super) read: fn(&str) -> Result<T, String>,
    pub(super) show: fn(&T) -> String,
}

impl<T> Kind for Text<T> {
    type Value = T;

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn read(&self, given: &Given) -> Result<T, Problems> {
        (self.read)(given.text(self.expected)?).map_err(|what| given.wrong(what, self.expected))
    }

    fn show(&self, value: &T) -> Json {
        Json::from((self.show)(value))
    }
}

pub(super) const ADDRESS: Text<SocketAddr> = Text {
    expected: r#"an IP address and a port, such as "127.0.0.1:8080" or "[::]:8080""#,
    read: |text| text.parse().map_err(|_| format!("{} is not an address", quoted(text))),
    show: SocketAddr::to_string,
};

pub(super) const NETWORK: Text<IpNet> = Text {
    expected: r#"a network such as "10.0.0.0/8" or an address such as "10.0.0.1""#,
    read: |text| {
        let network = text.parse::<IpNet>().map(|network| network.trunc());
        let network = network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| format!("{} is not a network", quoted(text)))
    },
    show: IpNet::to_string,
};

pub(super) const HOST: Text<String> = Text {
    expected: r#"a name such as "shop.example", without scheme, port and path (names beyond ASCII as "xn--…")"#,
    read: host,
    show: String::clone,
};

/// RFC 9110, section 4.2.3: names are compared without regard to case.
fn host(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let address = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let valid = match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => lower.len() <= 253 && lower.split('.').all(label),
    };
    if valid { Ok(lower) } else { Err(format!("{} is not a host name", quoted(text))) }
}

pub(super) const ORIGIN_URL: Text<Uri> = Text {
    expected: r#"scheme and authority, such as "http://127.0.0.1:8000""#,
    read: |text| {
        let reasons = SiteReasons {
            user: "user name and password are not sent to the origin",
            path: "the origin is asked for the path of each request",
            query: "the origin is asked for the query of each request",
        };
        site(text, &reasons)
    },
    show: show_site,
};

/// Why a URL is no more than scheme and authority.
pub(super) struct SiteReasons {
    pub(super) user: &'static str,
    pub(super) path: &'static str,
    pub(super) query: &'static str,
}

/// `http` or `https`, a host, perhaps a port.
pub(super) fn site(text: &str, reasons: &SiteReasons) -> Result<Uri, String> {
    if text.contains('@') {
        return Err(reasons.user.to_owned());
    }
    let url: Uri = text.parse().map_err(|error| format!("{} is not a URL: {error}", quoted(text)))?;
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(format!("the scheme of {} is missing", quoted(text)));
    };
    if !matches!(scheme, "http" | "https") {
        return Err(format!("the scheme {} is not spoken here", quoted(scheme)));
    }
    if url.path() != "/" {
        return Err(format!("the path {} is not possible: {}", quoted(url.path()), reasons.path));
    }
    if text.contains(['?', '#']) {
        return Err(format!("a query or a fragment is not possible: {}", reasons.query));
    }
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    let port_is_valid = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok_and(|port| port != 0),
        None => port.is_empty(),
    };
    if authority.host().is_empty() || !port_is_valid {
        return Err(format!("{} is not a host and a port", quoted(authority.as_str())));
    }
    Ok(url)
}

pub(super) fn show_site(url: &Uri) -> String {
    url.to_string().trim_end_matches('/').to_owned()
}

pub(super) const METHOD: Text<Method> = Text {
    expected: r#""GET" or "HEAD""#,
    read: |text| match text {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        _ => Err(format!("answers to {} are never kept", quoted(text))),
    },
    show: Method::to_string,
};

pub(super) const PATTERN: Text<String> = Text {
    expected: "a regex, matched at the start of the path, such as '^/admin/'",
    read: pattern,
    show: String::clone,
};

fn pattern(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("an empty regex matches every path".to_owned());
    }
    match regex::Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) const GLOB: Text<String> = Text {
    expected: r#"a name in which * stands for anything, such as "utm_*""#,
    read: |text| match globset::Glob::new(text) {
        _ if text.is_empty() => Err("an empty glob matches nothing".to_owned()),
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{} is not a glob: {}", quoted(text), error.kind())),
    },
    show: String::clone,
};

/// Fields that cannot select a variant: in the key already, not sent on a fill, or our own there.
const NEVER_KEYS: &[&str] = &[
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "range",
    "transfer-encoding",
];

pub(super) const KEY_HEADER: Text<HeaderName> = Text {
    expected: r#"the name of a request field such as "accept-language""#,
    read: |text| {
        let name: HeaderName = text.parse().map_err(|_| format!("{} is not a field name", quoted(text)))?;
        if NEVER_KEYS.contains(&name.as_str()) {
            return Err(format!("{} cannot select a variant: no fill carries the visitor's", quoted(text)));
        }
        Ok(name)
    },
    show: HeaderName::to_string,
};

pub(super) const FLAVOR: Text<String> = Text {
    expected: "at most 64 of a-z, 0-9, _ and -",
    read: |text| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        let valid = text.len() <= 64 && text.bytes().all(fits);
        if valid { Ok(text.to_owned()) } else { Err(format!("{} cannot be part of a path", quoted(text))) }
    },
    show: String::clone,
};

pub(super) const FOLDER: Text<PathBuf> = Text {
    expected: "the path of a folder; a relative one is taken from where everpage is started",
    read: path,
    show: |path| path.display().to_string(),
};

pub(super) const CA_FILE: Text<Option<PathBuf>> = Text {
    expected: "the path of a PEM file",
    read: |text| {
        if text.is_empty() {
            return Ok(None);
        }
        let path = path(text)?;
        if path.is_file() { Ok(Some(path)) } else { Err(format!("there is no file {}", quoted(text))) }
    },
    show: |path| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
};

pub(super) const OPTIONAL_FOLDER: Text<Option<PathBuf>> = Text {
    expected: FOLDER.expected,
    read: |text| if text.is_empty() { Ok(None) } else { path(text).map(Some) },
    show: CA_FILE.show,
};

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        Err(format!("{} is not a path", quoted(text)))
    } else {
        Ok(text.into())
    }
}

pub(super) const TOKEN: Text<Secret> =
    Text { expected: "visible ASCII characters without spaces, at most 4096", read: token, show: show_secret };

/// RFC 6750, section 2.1, read generously. What is wrong never says what it was.
fn token(text: &str) -> Result<Secret, String> {
    secret_of(text, 4096).ok_or_else(|| "this cannot be sent as a bearer token".to_owned())
}

/// Visible ASCII, at most so many bytes.
pub(super) fn secret_of(text: &str, most: usize) -> Option<Secret> {
    let valid = text.len() <= most && text.bytes().all(|byte| byte.is_ascii_graphic());
    valid.then(|| Secret::new(text.to_owned()))
}

pub(super) fn show_secret(secret: &Secret) -> String {
    if secret.reveal().is_empty() { String::new() } else { "…".to_owned() }
}

/// A secret again, from a file that holds nothing else. An empty path: no file.
pub(super) struct SecretFile(pub(super) Text<Secret>);

impl Kind for SecretFile {
    type Value = Option<Secret>;

    fn expected(&self) -> String {
        "the path of a file that holds nothing but the secret".to_owned()
    }

    fn read(&self, given: &Given) -> Result<Option<Secret>, Problems> {
        let wrong = |what: String| given.wrong(what, &self.expected());
        let text = given.text(&self.expected())?;
        if text.is_empty() {
            return Ok(None);
        }
        let content = environment::read(&path(text).map_err(wrong)?)
            .map_err(|error| wrong(format!("cannot read {}: {error}", quoted(text))))?;
        let secret = content.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(wrong(format!("{} is empty", quoted(text))));
        }
        let expected = self.0.expected;
        (self.0.read)(secret).map(Some).map_err(|_| wrong(format!("what {} holds is not {expected}", quoted(text))))
    }

    fn show(&self, _: &Option<Secret>) -> Json {
        Json::Null
    }
}

pub(super) const LEVEL: Text<String> = Text {
    expected: r#""error", "warn", "info", "debug", "trace", "off", or a filter such as "info,everpage::proxy=debug""#,
    read: level,
    show: String::clone,
};

/// A lone word that is no level would be taken for a module, and silence all others.
fn level(text: &str) -> Result<String, String> {
    let known = |part: &str| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok();
    if let Some(part) = text.split(',').map(str::trim).find(|part| part.is_empty() || !known(part)) {
        return Err(format!("{} is not a level", quoted(part)));
    }
    EnvFilter::try_new(text).map_err(|error| format!("{} is not a filter: {error}", quoted(text)))?;
    Ok(text.to_owned())
}

/// A status that may be kept: final, and with a body of its own (RFC 9110, sections 15.2, 15.3.5, 15.3.7, 15.4.5).
pub(super) struct Status;

impl Kind for Status {
    type Value = StatusCode;

    fn expected(&self) -> String {
        "a status from 200 to 599 other than 206 and 304".to_owned()
    }

    fn read(&self, given: &Given) -> Result<StatusCode, Problems> {
        let number = Count(0_u16, u16::MAX).read(given).map_err(|problems| {
            let what = problems.into_iter().next().map(|problem| problem.what).unwrap_or_default();
            given.wrong(what, &self.expected())
        })?;
        StatusCode::from_u16(number)
            .ok()
            .filter(|_| matches!(number, 200..=599) && !matches!(number, 206 | 304))
            .ok_or_else(|| given.wrong(format!("{number} cannot be kept"), &self.expected()))
    }

    fn show(&self, value: &StatusCode) -> Json {
        json!(value.as_u16())
    }
}
