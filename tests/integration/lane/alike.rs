//! The same request by the lane and by hyper: the same answer, the same end of the connection, the same count, the same line in the access log.
//!
//! An empty line before a request changes nothing of it (RFC 9112, section 2.2), but the lane never takes such a one.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tracing::level_filters::LevelFilter;

use super::line::{House, get};

const REQUESTS: u64 = 1500;

const METHODS: &[&str] =
    &["GET", "GET", "GET", "GET", "GET", "HEAD", "HEAD", "HEAD", "POST", "OPTIONS", "get", "GETS", "HEA"];

const TARGETS: &[&str] = &[
    "/page",
    "/page",
    "/page",
    "/page",
    "/gone",
    "/moved",
    "/none",
    "/odd",
    "/vary",
    "/vary",
    "/soft",
    "/page?",
    "/page?x=1",
    "/page?utm_source=a",
    "/page?a=/?&b=%zz",
    "/page?x=1&utm_source=2",
    "//page",
    "/p%61ge",
    "/./page",
    "/x/../page",
    "/page/",
    "/page;v=1",
    "/page%zz",
    "/%50age",
    "/page%2Fx",
    "/page#x",
    "/p?ä",
    "/pägé",
    "/page\"",
    "/page?q=\"{|}\"",
    "/page\\",
    "/pa\u{7f}ge",
    "/pa\tge",
    "/page x",
    "",
    "*",
    "page",
    "http://shop.example/page",
    "https://shop.example/page",
    "shop.example:80",
    "/admin/1",
];

const VERSIONS: &[&str] = &[
    "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2",
    "HTTP/2.0", "http/1.1", "",
];

const HOSTS: &[&str] = &[
    "Host: shop.example\r\n",
    "Host: shop.example\r\n",
    "Host: shop.example\r\n",
    "Host: shop.example\r\n",
    "Host: shop.example\r\n",
    "hOST:shop.example  \r\n",
    "Host: SHOP.Example:80\r\n",
    "Host: shop.example:443\r\n",
    "Host: shop.example.\r\n",
    "Host: other.example\r\n",
    "",
    "Host:\r\n",
    "Host: a b\r\n",
    "Host: shop.example\r\nhost: shop.example\r\n",
];

/// Fields that come beside `Host`, right and wrong.
const FIELDS: &[&str] = &[
    "Accept: */*",
    "Accept-Encoding: gzip",
    "accept-encoding: br, gzip",
    "Accept-Encoding:",
    "X-Theme: dark",
    "x-theme: light\r\nX-THEME: dark",
    "Cookie: theme=dark",
    "Cookie: sessionid=x",
    "Cookie: a=b; sessionid=x",
    "Cookie: a=b\r\nCookie: sessionid=1",
    "cookie: \u{e4}=b",
    "Cookie: =; ;",
    "If-None-Match: \"v1\"",
    "If-None-Match: W/\"v1\", \"x\"",
    "If-None-Match: *",
    "If-None-Match: \"x\"",
    "if-none-match: v1",
    "If-None-Match:",
    "If-None-Match: \"x\"\r\nIf-None-Match: \"v1\"",
    "If-Match: \"v1\"",
    "If-Match: W/\"v1\"",
    "If-Match: *",
    "If-Match: \"x\"",
    "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT",
    "If-Modified-Since: yesterday",
    "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT",
    "Range: bytes=0-1",
    "Range: bytes=99-",
    "range: x",
    "If-Range: \"v1\"",
    "Connection: close",
    "Connection: Close",
    "connection: keep-alive",
    "Connection: keep-alive, close",
    "Connection: close\r\nConnection: keep-alive",
    "Connection: keep-alive\r\nConnection: close",
    "Connection: x-theme",
    "Connection: close, x-theme",
    "Connection: cookie",
    "Connection:",
    "Connection: Upgrade",
    "Connection: closed",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: close",
    "TE: trailers",
    "Via: 1.1 front",
    "Max-Forwards: 0",
    "Content-Length: 0",
    "Content-Length:",
    "Content-Length: +0",
    "Content-Length: 0\r\nContent-Length: 0",
    "Expect: 100-continue",
    "Expect: x",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Proto: https, http",
    "Authorization: Basic x",
    "Cache-Control: no-cache",
    "Cache-Control: only-if-cached",
    "Pragma: no-cache",
    "Upgrade-Insecure-Requests: 1",
    "X-Latin: gr\u{fc}\u{df}",
    "X-Odd: \t a\tb \t ",
    "X-Empty:",
    "X-Nul: a\0b",
    "X-Control: a\u{1}b",
    "X-Bare: a\rb",
    "X-Delete: a\u{7f}b",
    "X-Fold: a\r\n b",
    "X-Fold: a\r\n\tb",
    "X-Bare: a\nX-Next: b",
    "No colon",
    "Space : a",
    " Space: a",
    ": a",
    "X(: a",
    "X-\u{e4}: a",
];

fn request(random: &mut StdRng) -> (String, String) {
    let mut pick = |list: &[&'static str], often: u32| {
        if random.random_ratio(often, 10) { list[0] } else { *list.choose(random).unwrap() }
    };
    let method = pick(METHODS, 4);
    let target = pick(TARGETS, 2);
    let (version, host) = (pick(VERSIONS, 7), pick(HOSTS, 7));
    let mut request = format!("{method} {target} {version}\r\n{host}");
    for _ in 0..random.random_range(0..4) {
        request.push_str(FIELDS.choose(random).unwrap());
        request.push_str("\r\n");
    }
    if random.random_ratio(1, 40) {
        let count = [40, 63, 64, 65, 90, 99, 101].choose(random).unwrap();
        request.push_str(&"X-Many: 1\r\n".repeat(*count));
    }
    request.push_str(if random.random_ratio(1, 60) { "\n" } else { "\r\n" });
    (method.to_owned(), request)
}

/// All that a request leaves.
#[derive(Debug, PartialEq)]
struct Seen {
    status_line: String,
    fields: Vec<String>,
    body: Vec<u8>,
    /// What the connection answers afterwards: nothing, if it was closed.
    then: String,
    counted: BTreeMap<&'static str, u64>,
    logged: Vec<String>,
}

async fn see(house: &House, log: &Log, method: &str, request: &str) -> Seen {
    let before = house.inside.metrics.requests_by_outcome();
    log.0.lock().clear();
    let mut line = house.connect(64 << 10);
    line.send(request).await;
    let answer = line.answer(method).await;
    house.inside.settled().await;
    let counted = house.inside.metrics.requests_by_outcome();
    let counted = counted.into_iter().map(|(name, count)| (name, count - before.get(name).unwrap_or(&0)));
    let logged = log.lines();
    line.send(get("/page").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
    let (status_line, fields) = answer.head.split_once("\r\n").unwrap();
    let mut fields: Vec<_> = fields.lines().map(undated).collect();
    fields.sort();
    let then = line.rest().await.lines().map(undated).collect::<Vec<_>>().join("\n");
    Seen { status_line: status_line.into(), fields, body: answer.body, then, counted: counted.collect(), logged }
}

/// Without the time of refusals, which hyper takes from the system's clock.
fn undated(line: &str) -> String {
    line.strip_prefix("date: ").map_or(line, |_| "date").to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_lane_answers_as_hyper_does() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let house = House::new(|config| {
        config.log.access = true;
        config.hosts = vec!["shop.example".into()];
        config.cache.key_headers = vec![http::HeaderName::from_static("x-key")];
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.cache.statuses.extend([204, 299, 301, 410].map(|status| http::StatusCode::from_u16(status).unwrap()));
    });
    house.fill(&["/page", "/gone", "/moved", "/none", "/odd", "/vary"]).await;
    let mut answered = BTreeMap::<String, u64>::new();
    for seed in 0..REQUESTS {
        let mut random = StdRng::seed_from_u64(seed);
        let (method, request) = request(&mut random);
        let after_an_empty_line = format!("\r\n{request}");
        // Fetches what is to be fetched.
        see(&house, &log, &method, &after_an_empty_line).await;
        let by_hyper = see(&house, &log, &method, &after_an_empty_line).await;
        let as_it_is = see(&house, &log, &method, &request).await;
        assert_eq!(as_it_is, by_hyper, "seed {seed}: {request:?}");
        let outcome = by_hyper.counted.iter().find(|(_, count)| **count > 0).map_or("none", |(name, _)| *name);
        *answered.entry(format!("{outcome} {}", &by_hyper.status_line[9..12])).or_default() += 1;
    }
    // The requests are not all of one kind.
    for (kind, least) in [
        ("hit 200", 100),
        ("hit 304", 10),
        ("hit 412", 3),
        ("hit 410", 3),
        ("hit 301", 3),
        ("none 400", 50),
        ("bypass 200", 50),
    ] {
        assert!(answered.get(kind).is_some_and(|count| *count >= least), "{kind}: {answered:?}");
    }
}

/// The lines of the access log in this test's thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + 'static {
        let log = self.clone();
        let lines = tracing_subscriber::fmt().with_max_level(LevelFilter::INFO).without_time().with_ansi(false);
        lines.with_writer(move || log.clone()).finish()
    }

    /// Without how long it took.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.0.lock()).into_owned();
        let lines = text.lines().filter(|line| line.contains("everpage::access"));
        lines
            .map(|line| line.split(' ').filter(|word| !word.starts_with("microseconds=")).collect::<Vec<_>>().join(" "))
            .collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
