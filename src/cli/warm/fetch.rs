//! How is a page fetched ahead? As a browser would ask, over the public listener, with the site's name in `Host`.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HOST};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout};

use crate::cli::Failure;
use crate::cli::client::{Pool, pool, unanswered};
use crate::policy::host::normalise_host;
use crate::policy::reason::Reason;

/// For one page, its rendering included.
const TIME_LIMIT: Duration = Duration::from_secs(120);
/// Pauses between two tries of a page that is not kept so soon after its invalidation: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// How long they are gone on with: a little more than the most that `cache.settle` may be.
const SETTLE_LIMIT: Duration = Duration::from_secs(630);
/// Of a sitemap: the protocol's own bound.
const SITEMAP_BYTES: usize = 50 << 20;
/// What browsers take, as far as everpage tells the app: the variant that most visitors get.
const CODINGS: &str = "br, gzip";

/// A page of a site.
#[derive(Debug, PartialEq)]
pub(super) struct Page {
    pub(super) https: bool,
    host: String,
    /// Path and query.
    target: String,
}

/// What became of it.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// It was fetched from the app and is kept now.
    Kept,
    /// There was nothing to do.
    KeptAlready,
    /// It was answered, but is not kept: everpage's reason.
    NotKept(String),
    /// It was not answered, or with an error.
    Failed(String),
}

/// Fetches through one public listener.
pub(super) struct Fetcher {
    /// Without a slash at the end.
    url: String,
    pool: Pool,
}

impl Page {
    /// # Errors
    /// A sentence.
    pub(super) fn from_url(url: &str) -> Result<Self, String> {
        let wrong = || format!("{url:?} is no URL of a page: http:// or https://, a host and a path");
        let url = url.split('#').next().unwrap_or(url);
        let uri: Uri = encoded(url).parse().map_err(|_| wrong())?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?.as_str();
        let host = normalise_host(authority).map_err(|_| wrong())?.into_owned();
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Page { https, host, target })
    }
}

/// What no request line may have, as UTF-8 in percent triplets, as browsers do.
fn encoded(url: &str) -> String {
    url.chars().fold(String::with_capacity(url.len()), |mut text, character| {
        if character.is_ascii_graphic() {
            text.push(character);
        } else {
            let mut bytes = [0; 4];
            let bytes = character.encode_utf8(&mut bytes).as_bytes();
            text.extend(bytes.iter().map(|byte| percent_encoding::percent_encode_byte(*byte)));
        }
        text
    })
}

impl Display for Page {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host, self.target)
    }
}

impl Fetcher {
    pub(super) fn new(server: &Uri) -> Result<Self, Failure> {
        Ok(Fetcher { url: server.to_string().trim_end_matches('/').to_owned(), pool: pool(server)? })
    }

    /// Fetches the page; again and again where it settles (`cache.settle`), until it is kept.
    pub(super) async fn warm(&self, page: &Page) -> Outcome {
        let settling = Outcome::NotKept(Reason::Settling.as_str().to_owned());
        let started = Instant::now();
        let mut pause = PAUSES.0;
        loop {
            let outcome = self.fetch(page).await;
            if outcome != settling || started.elapsed() > SETTLE_LIMIT {
                return outcome;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Fetches the page and lets its body go by.
    async fn fetch(&self, page: &Page) -> Outcome {
        let fetch = async {
            let response = self.send(page, CODINGS).await.map_err(|failure| failure.to_string())?;
            let outcome = judge(&response);
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                frame.map_err(|error| format!("its body ended early: {error}"))?;
            }
            Ok(outcome)
        };
        match timeout(TIME_LIMIT, fetch).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(why)) => Outcome::Failed(why),
            Err(_) => Outcome::Failed(format!("no whole answer within {} seconds", TIME_LIMIT.as_secs())),
        }
    }

    /// A sitemap's text.
    pub(super) async fn text(&self, page: &Page) -> Result<String, Failure> {
        let failed = |why: &dyn Display| Failure::failed(format_args!("{page}: {why}"));
        let fetch = async {
            let response = self.send(page, "identity").await?;
            if response.status() != StatusCode::OK {
                return Err(failed(&response.status()));
            }
            let body = Limited::new(response.into_body(), SITEMAP_BYTES).collect().await;
            let bytes = body.map_err(|error| failed(&error))?.to_bytes();
            String::from_utf8(bytes.into()).map_err(|_| failed(&"it is not UTF-8 text (compressed files are not read)"))
        };
        let late = |_| failed(&format_args!("no whole answer within {} seconds", TIME_LIMIT.as_secs()));
        timeout(TIME_LIMIT, fetch).await.map_err(late)?
    }

    async fn send(&self, page: &Page, codings: &str) -> Result<Response<Incoming>, Failure> {
        let request = Request::get(format!("{}{}", self.url, page.target))
            .header(HOST, &page.host)
            .header(ACCEPT_ENCODING, codings)
            .header("x-forwarded-proto", if page.https { "https" } else { "http" })
            .body(Full::new(Bytes::new()))
            .map_err(|error| Failure::usage(format_args!("{page}: {error}")))?;
        self.pool.request(request).await.map_err(|error| unanswered(&self.url, &error))
    }
}

/// By what the response says of itself (RFC 9211).
fn judge(response: &Response<Incoming>) -> Outcome {
    let said = response.headers().get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let has = |word: &str| said.split(';').any(|part| part.trim() == word);
    let status = response.status();
    let reason = said.split(';').find_map(|part| part.trim().strip_prefix("detail="));
    if has("hit") {
        Outcome::KeptAlready
    } else if has("stored") || (has("collapsed") && reason.is_none()) {
        Outcome::Kept
    } else if status.is_client_error() || status.is_server_error() {
        Outcome::Failed(status.to_string())
    } else {
        Outcome::NotKept(reason.map_or_else(|| status.to_string(), ToOwned::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_asked_for_as_a_browser_would() {
        let page = Page::from_url("HTTPS://Shop.Example:443/über?q=a b#top").unwrap();
        assert_eq!(page.to_string(), "https://shop.example/%C3%BCber?q=a%20b");
        assert!(page.https);
        for wrong in ["", "/", "ftp://a/", "http://", "http://u@a/", "shop.example/a"] {
            assert!(Page::from_url(wrong).is_err(), "{wrong}");
        }
    }
}
