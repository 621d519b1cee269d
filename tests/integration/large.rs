//! Pages whose bodies are too large for memory: on their way in, in the store, and on their way out, as often as somebody asks.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everpage::config::Config;
use everpage::proxy::origin::OriginError;
use futures_util::future::join_all;
use futures_util::stream;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tempfile::TempDir;
use tokio::sync::Barrier;

use crate::cli::process::Server;
use crate::storing::SmallDisk;
use crate::support::{
    Answer, Ask, Gate, Origin, Proxy, Reply, gather_warnings, inside, inside_on, next_piece, origin, pieces, proxy,
    stored_files, warnings_with,
};

/// What memory may hold here.
const MEMORY: usize = 64 << 10;
/// A body that it may not.
const LARGE: usize = 3 << 20;

fn little_memory(config: &mut Config) {
    config.cache.max_memory_size = MEMORY as u64;
}

/// Bytes that say something at each place.
fn bytes(count: usize) -> Bytes {
    (0..count as u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<u8>>().into()
}

/// An origin with one page under every path.
async fn site(body: &Bytes) -> Origin {
    let body = body.clone();
    let page = move |_| {
        let body = body.clone();
        async move { Reply::new(body).header("content-type", "video/mp4") }
    };
    origin().otherwise(page).start().await
}

async fn before(origin: &Origin) -> Proxy {
    proxy().origin(origin).set(little_memory).start().await
}

/// Fails when `Intake::take` pushes all of a body into the flight, or `file::read` reads it whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_megabytes_take_little_memory_and_come_back_from_disk_even_after_a_restart() {
    const BYTES: usize = 200_000_000;
    const BOUND: u64 = 120_000_000;
    let body = bytes(BYTES);
    let origin = site(&body).await;
    let folder = TempDir::new().unwrap();
    let first = Server::start(folder.path(), &origin, &[]);
    let answer = first.get("/film").await;
    assert_eq!((answer.outcome(), answer.complete, answer.body == body), ("miss", true, true));
    let metrics = async || Ask::new(first.admin, Method::GET, "/metrics").host("localhost").send().await;
    while !metrics().await.text().lines().any(|line| line == "everpage_flights 0") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (one, other) = tokio::join!(first.get("/film"), first.get("/film"));
    for hit in [one, other] {
        assert_eq!((hit.detail(), hit.complete, hit.body == body), (Some("filesystem"), true, true));
    }
    let peak = first.peak_memory_bytes();
    assert!(peak < BOUND, "{peak} bytes of memory");
    first.stop();
    let second = Server::start(folder.path(), &origin, &[]);
    let hit = second.get("/film").await;
    assert_eq!((hit.detail(), hit.complete, hit.body == body), (Some("filesystem"), true, true));
    let peak = second.peak_memory_bytes();
    assert!(peak < BOUND, "{peak} bytes of memory");
    assert_eq!(origin.hits("/film"), 1);
}

/// What an answer says, but for what differs from answer to answer.
fn essence(answer: &Answer) -> (u16, Vec<(String, String)>, Bytes) {
    let boundary = answer.header("content-type").and_then(|kind| kind.split_once("boundary=")).map(|(_, name)| name);
    let text = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
    let unbounded = |text: String| boundary.map_or(text.clone(), |boundary| text.replace(boundary, "boundary"));
    let mut headers: Vec<_> =
        answer.headers.iter().map(|(name, value)| (name.to_string(), unbounded(text(value.as_bytes())))).collect();
    headers.retain(|(name, _)| !["age", "date", "cache-status"].contains(&&**name));
    headers.sort();
    (answer.status.as_u16(), headers, unbounded(text(&answer.body)).into())
}

/// Request fields.
type Fields<'a> = &'a [(&'a str, &'a str)];

/// Fails when `from_large` and `from_page` do not decide by the same rules.
#[tokio::test]
async fn a_large_page_answers_every_request_as_one_in_memory_does() {
    let body = bytes(LARGE);
    let origin = site(&body).await;
    let (large, small) = (before(&origin).await, proxy().origin(&origin).start().await);
    for proxy in [&large, &small] {
        assert_eq!(proxy.get("/").await.outcome(), "miss");
    }
    let etag = large.revisit("/").await.header("etag").unwrap().to_owned();
    small.revisit("/").await;
    let (last, beyond) = (format!("bytes={}-", LARGE - 1), format!("bytes={LARGE}-"));
    let requests: [(Method, Fields<'_>, u16); 15] = [
        (Method::GET, &[], 200),
        (Method::HEAD, &[], 200),
        (Method::GET, &[("range", "bytes=0-0")], 206),
        (Method::GET, &[("range", "bytes=262000-1048600")], 206),
        (Method::GET, &[("range", &last)], 206),
        (Method::GET, &[("range", "bytes=-70000")], 206),
        (Method::GET, &[("range", "bytes=5-9,2000000-2500000,-1")], 206),
        (Method::GET, &[("range", &beyond)], 416),
        (Method::HEAD, &[("range", "bytes=0-0")], 200),
        (Method::GET, &[("if-none-match", &etag)], 304),
        (Method::HEAD, &[("if-none-match", &etag)], 304),
        (Method::GET, &[("if-none-match", "\"another\"")], 200),
        (Method::GET, &[("if-match", "\"another\"")], 412),
        (Method::GET, &[("range", "bytes=1-3"), ("if-range", &etag)], 206),
        (Method::GET, &[("range", "bytes=1-3"), ("if-range", "\"another\"")], 200),
    ];
    for (method, fields, status) in requests {
        let ask = |proxy: &Proxy| {
            let ask = proxy.ask(method.clone(), "/");
            fields.iter().fold(ask, |ask, (name, value)| ask.header(name, value))
        };
        let (one, other) = (ask(&large).send().await, ask(&small).send().await);
        assert_eq!((one.status.as_u16(), one.complete), (status, true), "{method} {fields:?}");
        assert_eq!((one.detail(), other.outcome()), (Some("filesystem"), "hit"), "{method} {fields:?}");
        let (one, other) = (essence(&one), essence(&other));
        assert_eq!((one.0, one.1), (other.0, other.1), "{method} {fields:?}");
        assert!(one.2 == other.2, "{method} {fields:?}");
    }
    assert!(large.get("/").await.body == body);
    assert_eq!(origin.hits("/"), 2);
    let listed: serde_json::Value = serde_json::from_slice(&large.admin("/pages").await.body).unwrap();
    assert_eq!(listed["pages"][0]["bytes"], LARGE);
}

/// Fails when the last piece of a whole read is given out before the checksum is known.
#[tokio::test]
async fn a_damaged_byte_of_a_stored_body_never_arrives_in_a_complete_answer() {
    gather_warnings();
    let body = bytes(LARGE);
    for at in [0, LARGE as u64 / 2, LARGE as u64 - 1] {
        let origin = site(&body).await;
        let proxy = before(&origin).await;
        proxy.get("/").await;
        assert_eq!(proxy.revisit("/").await.outcome(), "hit");
        let [file] = &proxy.pages()[..] else { panic!("one page") };
        let head_bytes = fs::metadata(file).unwrap().len() - LARGE as u64;
        let open = fs::File::options().write(true).open(file).unwrap();
        open.write_all_at(&[body[usize::try_from(at).unwrap()] ^ 1], head_bytes + at).unwrap();
        let answer = proxy.get("/").await;
        assert!(!answer.complete && answer.body.len() < LARGE, "{at}: {} bytes", answer.body.len());
        assert_eq!(warnings_with(&[&file.display().to_string(), "damaged"]).len(), 1, "{at}");
        assert_eq!(proxy.pages().len(), 0, "{at}: the file is of no use");
        let answer = proxy.get("/").await;
        assert_eq!((answer.outcome(), answer.complete, answer.body == body), ("miss", true, true), "{at}");
        assert_eq!(proxy.revisit("/").await.outcome(), "hit", "{at}");
    }
}

/// Fails when `Flight::join` refuses, or a reader begins elsewhere than at the first byte of the file.
#[tokio::test]
async fn whoever_comes_while_a_large_page_is_fetched_reads_along_from_its_first_byte() {
    let body = bytes(LARGE);
    let (origin, feed) = origin().fed_first("/", |reply| reply);
    let origin = origin.start().await;
    let proxy = before(&origin).await;
    let mut readers = Vec::new();
    for part in body.chunks(LARGE / 8 + 1) {
        let mut reader = proxy.ask(Method::GET, "/").open().await;
        feed.data(body.slice_ref(part));
        // It has all that came before, and sees this part come in: nothing is held back until there is more.
        let mut read = 0;
        let upto = part.as_ptr() as usize + part.len() - body.as_ptr() as usize;
        while read < upto {
            let piece = next_piece(&mut reader).await.expect("what has come");
            assert!(piece == body.slice(read..read + piece.len()));
            read += piece.len();
        }
        readers.push((read, reader));
    }
    let late: Vec<_> = (0..50).map(|_| proxy.ask(Method::GET, "/").start()).collect();
    proxy.settle().await;
    drop(feed);
    for (number, (read, reader)) in readers.into_iter().enumerate() {
        let rest = Answer::read(reader).await;
        assert!(rest.complete && read + rest.body.len() == LARGE, "reader {number}");
    }
    for late in late {
        let late = late.await.unwrap();
        assert_eq!((late.outcome(), late.complete, late.body == body), ("collapsed", true, true));
    }
    assert_eq!(proxy.revisit("/").await.detail(), Some("filesystem"));
    assert_eq!(origin.hits("/"), 1);
}

/// Fails when `Cabin::spill` leaves a reader where the chunks were.
#[tokio::test]
async fn a_reader_who_is_behind_when_memory_is_full_goes_on_in_the_file() {
    let words = ["one ", "two ", "three ", "four ", "five"];
    for memory in 0..24 {
        let inside = inside(
            |config| config.cache.max_memory_size = memory,
            move |_| async move { pieces(http::Response::builder(), words.iter().map(|word| Ok(*word)).collect()) },
        );
        let answer = inside.get("/").await;
        assert_eq!((answer.outcome(), answer.complete, answer.text()), ("miss", true, &*words.concat()), "{memory}");
        inside.settled().await;
        let answer = inside.get("/").await;
        assert_eq!((answer.detail(), answer.text()), (Some("memory"), &*words.concat()), "{memory}");
    }
}

#[tokio::test]
async fn a_slow_reader_holds_nobody_up() {
    let body = bytes(24 << 20);
    let origin = site(&body).await;
    let proxy = before(&origin).await;
    let mut slow = proxy.ask(Method::GET, "/").open().await;
    let begun = next_piece(&mut slow).await.unwrap();
    let fast = proxy.get("/").await;
    assert_eq!((fast.complete, fast.body == body), (true, true));
    let mut slow_hit = proxy.revisit_with(|| proxy.ask(Method::HEAD, "/")).await;
    assert_eq!(slow_hit.detail(), Some("filesystem"));
    let mut stored = proxy.ask(Method::GET, "/").open().await;
    let read = next_piece(&mut stored).await.unwrap();
    slow_hit = proxy.get("/").await;
    assert_eq!((slow_hit.detail(), slow_hit.body == body), (Some("filesystem"), true));
    for (begun, reader) in [(begun, slow), (read, stored)] {
        let rest = Answer::read(reader).await;
        assert!(rest.complete && [&begun[..], &rest.body].concat() == body);
    }
    assert_eq!(origin.hits("/"), 1);
}

#[tokio::test]
async fn a_visitor_who_leaves_midway_costs_nobody_the_page() {
    let body = bytes(24 << 20);
    let origin = site(&body).await;
    let proxy = before(&origin).await;
    for _ in 0..3 {
        let mut visitor = proxy.ask(Method::GET, "/").open().await;
        next_piece(&mut visitor).await.unwrap();
        drop(visitor);
    }
    let answer = proxy.revisit("/").await;
    assert_eq!((answer.detail(), answer.complete, answer.body == body), (Some("filesystem"), true, true));
    assert_eq!(origin.hits("/"), 1);
}

/// Files anywhere in the proxy's folder that are neither pages nor its own.
fn leftovers(folder: &TempDir) -> usize {
    let count = |path: &str| fs::read_dir(folder.path().join(path)).unwrap().count();
    // In `data`: the lock and the flavor; in it: the journal and the version; in that: pages and temporary files.
    count("data") - 2 + count("data/default") - 2 + count("data/default/1/tmp")
}

#[tokio::test]
async fn an_origin_that_breaks_off_leaves_nothing_behind() {
    let body = bytes(LARGE);
    let (origin, feed) = origin().fed_first("/", |reply| reply);
    let origin = origin.start().await;
    let proxy = before(&origin).await;
    let mut visitor = proxy.ask(Method::GET, "/").open().await;
    feed.data(body.slice(..LARGE / 2));
    let mut read = 0;
    while read < LARGE / 2 {
        read += next_piece(&mut visitor).await.unwrap().len();
    }
    feed.break_off();
    let rest = Answer::read(visitor).await;
    assert!(!rest.complete && rest.body.is_empty());
    assert_eq!(proxy.revisit("/").await.text(), "v2");
    assert_eq!(proxy.revisit("/").await.outcome(), "hit");
    let folder = proxy.stop().await;
    assert_eq!((stored_files(&folder).len(), leftovers(&folder)), (1, 0));
}

/// Fails when `keep_page` does not ask for newer records.
#[tokio::test]
async fn a_large_page_that_is_invalidated_while_it_comes_in_is_neither_stored_nor_served() {
    let body = bytes(LARGE);
    let (origin, feed) = origin().fed_first("/", |reply| reply);
    let origin = origin.start().await;
    let on_disk_alone = |config: &mut Config| {
        little_memory(config);
        config.memory.capacity = 0;
    };
    let proxy = proxy().origin(&origin).set(on_disk_alone).start().await;
    let mut visitor = proxy.ask(Method::GET, "/").open().await;
    feed.data(body.clone());
    let begun = next_piece(&mut visitor).await.unwrap();
    proxy.invalidate_path("/").await;
    let newer = proxy.get("/").await;
    assert_eq!((newer.outcome(), newer.text()), ("miss", "v2"), "nobody joins a fetch from before");
    proxy.written(1).await;
    drop(feed);
    let rest = Answer::read(visitor).await;
    assert!(rest.complete && [&begun[..], &rest.body].concat() == body, "whoever was there before may have it");
    let newer = proxy.revisit("/").await;
    assert_eq!(
        (newer.detail(), newer.text()),
        (Some("filesystem"), "v2"),
        "it did not take the place of the newer one"
    );
}

/// Fails when neither `look_in_store` nor `disembark` judges.
#[tokio::test]
async fn an_invalidation_kills_a_large_page_in_the_store() {
    let origin = origin().otherwise(|asked| async move { Reply::new(format!("v{}", asked.number).repeat(LARGE)) });
    let origin = origin.start().await;
    let proxy = before(&origin).await;
    proxy.get("/").await;
    assert_eq!(proxy.revisit("/").await.outcome(), "hit");
    proxy.invalidate(serde_json::json!({"prefixes": ["/"]})).await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.outcome(), answer.body.starts_with(b"v2"), answer.body.len()), ("miss", true, 2 * LARGE));
    assert_eq!(proxy.revisit("/").await.outcome(), "hit");
}

/// Fails when what could not be written is not pushed, or a reader who is still in the file misses the way out of it.
#[tokio::test]
async fn a_temporary_file_that_cannot_go_on_costs_no_reader_a_byte() {
    let body = bytes(24 << 20);
    let sent = body.clone();
    let gate = Gate::default();
    let held = gate.clone();
    let (first, feed) = Reply::fed();
    let first = parking_lot::Mutex::new(Some(first));
    let origin = origin().route("/", move |_| {
        let reply = first.lock().take().unwrap_or_else(|| Reply::new(sent.clone()));
        let gate = held.clone();
        async move {
            gate.pass().await;
            reply
        }
    });
    let origin = origin.start().await;
    gate.open();
    let scarce = |config: &mut Config| {
        little_memory(config);
        config.cache.max_temporary_bytes = 1 << 20;
    };
    let proxy = proxy().origin(&origin).set(scarce).start().await;
    feed.data(body.slice(..200_000));
    let mut slow = proxy.ask(Method::GET, "/").open().await;
    let begun = next_piece(&mut slow).await.unwrap();
    let fast = proxy.ask(Method::GET, "/").start();
    proxy.settle().await;
    for part in body.slice(200_000..).chunks(100_003) {
        feed.data(body.slice_ref(part));
    }
    drop(feed);
    let rest = Answer::read(slow).await;
    assert!(rest.complete && [&begun[..], &rest.body].concat() == body);
    let fast = fast.await.unwrap();
    assert_eq!((fast.outcome(), fast.complete, fast.body == body), ("collapsed", true, true));
    let metrics = proxy.admin("/metrics").await;
    assert!(metrics.text().contains("everpage_refused_total{reason=\"fill-disk\"} 1\n"), "{}", metrics.text());
    let again = proxy.revisit("/").await;
    assert_eq!((again.outcome(), again.body == body), ("miss", true));
    let folder = proxy.stop().await;
    assert_eq!((stored_files(&folder).len(), leftovers(&folder)), (0, 0));
}

#[tokio::test]
async fn a_full_disk_costs_no_visitor_of_a_large_page_an_answer() {
    let folder = TempDir::new().unwrap();
    let disk = match SmallDisk::mount(&folder.path().join("small")) {
        Ok(disk) => disk,
        Err(reason) => {
            eprintln!("not tested, for no small file system can be mounted here: {reason}");
            return;
        }
    };
    let body = bytes(LARGE);
    let origin = site(&body).await;
    let on_small_disk = |config: &mut Config| {
        little_memory(config);
        config.cache.temporary_folder = Some(folder.path().join("small"));
    };
    let proxy = proxy().origin(&origin).set(on_small_disk).start().await;
    for time in 1..=2 {
        let answer = proxy.get("/").await;
        assert_eq!((answer.outcome(), answer.complete, answer.body == body), ("miss", true, true));
        let metrics = proxy.revisit_with(|| Ask::new(proxy.admin, Method::GET, "/metrics").host("localhost")).await;
        let counted = format!("everpage_refused_total{{reason=\"temporary-file\"}} {time}\n");
        assert!(metrics.text().contains(&counted), "{}", metrics.text());
    }
    assert_eq!(stored_files(&proxy.stop().await).len(), 0);
    drop(disk);
}

#[tokio::test]
async fn each_variant_of_a_large_page_is_found_again_after_a_restart() {
    let origin = origin().otherwise(|asked| async move {
        let language = asked.header("accept-language").unwrap_or("en").to_owned();
        Reply::new(language.repeat(MEMORY)).header("vary", "accept-language")
    });
    let origin = origin.start().await;
    let first = before(&origin).await;
    let ask = |proxy: &Proxy, language: &'static str| proxy.ask(Method::GET, "/").header("accept-language", language);
    for language in ["de", "fr"] {
        assert_eq!(ask(&first, language).send().await.outcome(), "miss");
    }
    let second = proxy().origin(&origin).set(little_memory).folder(first.stop().await).start().await;
    for language in ["de", "fr", "de"] {
        let answer = ask(&second, language).send().await;
        assert_eq!((answer.detail(), answer.text()), (Some("filesystem"), &*language.repeat(MEMORY)));
    }
    assert_eq!(origin.hits("/"), 2);
}

/// Fails when `Intake::is_too_large_for_memory` looks at `cache.max_memory_size` alone.
#[tokio::test]
async fn bodies_of_unknown_length_that_come_at_once_go_to_files_before_they_fill_the_memory() {
    const BODIES: usize = 6;
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 48;
    let meeting = Arc::new(Barrier::new(BODIES));
    // Together twice as large as fills may be in memory; before the last piece they wait for each other.
    let memory = |config: &mut Config| config.cache.max_fill_bytes = (BODIES * PIECES * PIECE / 2) as u64;
    let folder = TempDir::new().unwrap();
    let node = inside_on(folder.path(), memory, move |_| {
        let meeting = Arc::clone(&meeting);
        async move {
            let body = stream::unfold(0, move |number| {
                let meeting = Arc::clone(&meeting);
                async move {
                    if number == PIECES - 1 {
                        meeting.wait().await;
                    }
                    let piece = Bytes::from(vec![number as u8; PIECE]);
                    (number < PIECES).then(|| (Ok::<_, OriginError>(Frame::data(piece)), number + 1))
                }
            });
            http::Response::new(StreamBody::new(body).boxed_unsync())
        }
    });
    let paths: [_; BODIES] = std::array::from_fn(|number| format!("/{number}"));
    for answer in join_all(paths.iter().map(|path| node.get(path))).await {
        assert_eq!((answer.complete, answer.body.len()), (true, PIECES * PIECE));
    }
    node.settled().await;
    assert_eq!(node.refused("fill-memory"), 0);
    for path in paths {
        let answer = node.get(&path).await;
        assert_eq!((answer.outcome(), answer.detail()), ("hit", Some("filesystem")), "{path}");
        assert!((0..PIECES).all(|number| answer.body[number * PIECE] == number as u8), "in order");
    }
}
