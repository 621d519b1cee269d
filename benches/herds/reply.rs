//! One answer as it comes from a socket: is it whole, and is it the right one? Nothing of a body that is known is kept.

use anyhow::{Context as _, Result, bail, ensure};

use crate::browser;
use crate::visitor::HOST;

/// More than any head here has.
const HEAD_FIELDS: usize = 64;

/// What the head says.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Of the body.
    bytes: usize,
    /// `Cache-Status`, or what nginx says in its place.
    pub(crate) cache: String,
}

/// An answer under way.
pub(crate) struct Reply<'a> {
    wanted: Option<&'a [u8]>,
    unparsed: Vec<u8>,
    head: Option<Head>,
    received: usize,
    /// Where the body was not known before.
    pub(crate) body: Vec<u8>,
}

impl<'a> Reply<'a> {
    /// One with this body.
    pub(crate) fn wanted(body: &'a [u8]) -> Self {
        Reply { wanted: Some(body), ..Reply::any() }
    }

    /// One with any body.
    pub(crate) fn any() -> Self {
        Reply { wanted: None, unparsed: Vec::new(), head: None, received: 0, body: Vec::new() }
    }

    /// Takes what came. Returns whether that was all of it.
    ///
    /// # Errors
    /// It is not HTTP, its length is not said, or it has another body.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        if self.head.is_some() {
            return self.take_body(bytes);
        }
        self.unparsed.extend_from_slice(bytes);
        let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS];
        let mut parsed = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(length) = parsed.parse(&self.unparsed).context("not an answer of HTTP")? else {
            return Ok(false);
        };
        let field = |name: &str| {
            let field = parsed.headers.iter().rfind(|field| field.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(field.value).ok()
        };
        let bytes = field("content-length").and_then(|value| value.parse().ok()).context("its length is not said")?;
        let cache = field("cache-status").or_else(|| field("x-cache")).unwrap_or_default().to_owned();
        self.head = Some(Head { status: parsed.code.unwrap_or_default(), bytes, cache });
        let body = self.unparsed.split_off(length);
        self.take_body(&body)
    }

    fn take_body(&mut self, bytes: &[u8]) -> Result<bool> {
        let whole = self.head().bytes;
        match self.wanted {
            Some(wanted) => {
                let there = wanted.get(self.received..self.received + bytes.len());
                ensure!(
                    there == Some(bytes) && whole == wanted.len(),
                    "another body than the origin's: {:?}",
                    self.head()
                );
            }
            None => self.body.extend_from_slice(bytes),
        }
        self.received += bytes.len();
        ensure!(self.received <= whole, "more than one answer");
        Ok(self.received == whole)
    }

    /// Once it has come.
    pub(crate) fn head(&self) -> &Head {
        self.head.as_ref().expect("the caller has seen that it came")
    }

    /// The head of a whole answer with this status.
    pub(crate) fn finish(self, status: u16) -> Result<Head> {
        let head = self.head.unwrap_or_default();
        if head.status != status {
            bail!("status {}: {}", head.status, String::from_utf8_lossy(&self.body));
        }
        Ok(head)
    }
}

/// A browser's request for this path.
pub(crate) fn request(path: &str) -> Vec<u8> {
    let fields: String = browser::FIELDS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{fields}\r\n").into_bytes()
}
