//! One fetch for each page, however many ask at once; and nobody pays for another's failure, slowness or cookie.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

use crate::support::{Answer, Asked, Gate, Proxy, Reply, next_piece, origin, proxy, raw_origin};

const PIECE: Bytes = Bytes::from_static(&[b'x'; 64 << 10]);

fn plain(reply: Reply, _: &Asked) -> Reply {
    reply
}

fn start(proxy: &Proxy, target: &str) -> JoinHandle<Answer> {
    proxy.ask(Method::GET, target).start()
}

/// So many requests that all have joined a flight or lead one.
async fn crowd(proxy: &Proxy, target: &str, count: usize) -> Vec<JoinHandle<Answer>> {
    let crowd = (0..count).map(|_| start(proxy, target)).collect();
    proxy.settle().await;
    crowd
}

/// A route of which only the request with this number waits at the gate.
fn holding(number: usize, gate: &Gate, answer: fn(&Asked) -> Reply) -> impl Fn(Asked) -> Held + Send + Sync + 'static {
    let gate = gate.clone();
    move |asked| {
        let gate = gate.clone();
        Box::pin(async move {
            if asked.number == number {
                gate.pass().await;
            }
            answer(&asked)
        })
    }
}

type Held = std::pin::Pin<Box<dyn Future<Output = Reply> + Send>>;

#[tokio::test]
async fn fifty_requests_make_one_fetch() {
    let gate = Gate::default();
    let origin = origin().held("/", &gate, plain).start().await;
    let proxy = proxy().origin(&origin).start().await;
    let leader = start(&proxy, "/");
    gate.arrival().await;
    let followers = crowd(&proxy, "/", 49).await;
    gate.open();
    let answer = leader.await.unwrap();
    assert_eq!((answer.outcome(), answer.text()), ("miss", "v1"));
    for follower in followers {
        let answer = follower.await.unwrap();
        assert_eq!((answer.outcome(), answer.text()), ("collapsed", "v1"));
        assert_eq!(answer.cache_status(), "everpage; fwd=uri-miss; collapsed");
    }
    assert_eq!(origin.hits("/"), 1);
    assert_eq!(proxy.get("/").await.outcome(), "hit");
}

#[tokio::test]
async fn followers_stream_along_from_the_first_byte() {
    let (origin, feed) = origin().fed_first("/", |reply| reply);
    let origin = origin.start().await;
    let proxy = proxy().origin(&origin).start().await;
    feed.data("one ");
    let mut leader = proxy.ask(Method::GET, "/").open().await;
    assert_eq!(next_piece(&mut leader).await.unwrap(), "one ");
    feed.data("two ");
    assert_eq!(next_piece(&mut leader).await.unwrap(), "two ");
    let mut late = proxy.ask(Method::GET, "/").open().await;
    let mut begun = Vec::new();
    while begun.len() < 8 {
        begun.extend_from_slice(&next_piece(&mut late).await.unwrap());
    }
    assert_eq!(begun, b"one two ");
    feed.data("three");
    drop(feed);
    assert_eq!(Answer::read(leader).await.text(), "three");
    assert_eq!(Answer::read(late).await.text(), "three");
    let kept = proxy.get("/").await;
    assert_eq!((kept.outcome(), kept.text()), ("hit", "one two three"));
    assert_eq!(origin.hits("/"), 1);
}

/// Fails when the fetch runs in the leader's own request instead of a task.
#[tokio::test]
async fn a_leader_who_leaves_takes_nobody_down() {
    let gate = Gate::default();
    let origin = origin().held("/", &gate, plain).start().await;
    let proxy = proxy().origin(&origin).start().await;
    let leader = start(&proxy, "/");
    gate.arrival().await;
    let followers = crowd(&proxy, "/", 3).await;
    leader.abort();
    proxy.settle().await;
    gate.open();
    for follower in followers {
        let answer = follower.await.unwrap();
        assert_eq!((answer.outcome(), answer.text()), ("collapsed", "v1"));
    }
    assert_eq!(origin.hits("/"), 1);
}

/// Fails when the fetch runs in the leader's own request instead of a task.
#[tokio::test]
async fn a_page_whose_only_visitor_left_is_kept_all_the_same() {
    let (origin, feed) = origin().fed_first("/", |reply| reply);
    let origin = origin.start().await;
    let proxy = proxy().origin(&origin).start().await;
    feed.data("half, ");
    let mut leader = proxy.ask(Method::GET, "/").open().await;
    assert_eq!(next_piece(&mut leader).await.unwrap(), "half, ");
    drop(leader);
    proxy.settle().await;
    feed.data("whole");
    drop(feed);
    proxy.written(1).await;
    let kept = proxy.get("/").await;
    assert_eq!((kept.outcome(), kept.text()), ("hit", "half, whole"));
}

/// An origin that closes its first connections without a word; `gate` holds the first of them. Counts its connections.
async fn failing(first: usize, gate: &Gate) -> (String, Arc<AtomicUsize>) {
    let (gate, connections) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&connections);
    let address = raw_origin(move |mut stream, _| {
        let (gate, counted) = (gate.clone(), Arc::clone(&counted));
        async move {
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            if number == 1 {
                gate.pass().await;
            }
            if number > first {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
        }
    });
    (format!("http://{}", address.await), connections)
}

/// Fails when `Handler::disembark` gives a follower its leader's failure.
#[tokio::test]
async fn when_a_fetch_fails_the_others_try_again_together() {
    let gate = Gate::default();
    // The leader's connection and the one for its second try.
    let (url, connections) = failing(2, &gate).await;
    let proxy = proxy().origin_at(&url).start().await;
    let leader = start(&proxy, "/");
    gate.arrival().await;
    let followers = crowd(&proxy, "/", 5).await;
    gate.open();
    let failed = leader.await.unwrap();
    assert_eq!((failed.status.as_u16(), failed.outcome(), failed.detail()), (502, "error", Some("origin-broken")));
    for follower in followers {
        let answer = follower.await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok"));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn when_every_fetch_fails_everyone_learns_it_after_a_bounded_number_of_tries() {
    let gate = Gate::default();
    let (url, connections) = failing(usize::MAX, &gate).await;
    let proxy = proxy().origin_at(&url).start().await;
    let leader = start(&proxy, "/");
    gate.arrival().await;
    let followers = crowd(&proxy, "/", 9).await;
    gate.open();
    for request in followers.into_iter().chain([leader]) {
        assert_eq!(request.await.unwrap().status, 502);
    }
    // Two connections for each fetch, and no request makes more than one fetch.
    assert!(connections.load(Ordering::SeqCst) <= 20);
    assert!(proxy.pages().is_empty());
}

/// Fails when `Handler::keep` lands a flight whose body broke off.
#[tokio::test]
async fn a_body_that_breaks_off_breaks_off_for_all_on_board_and_is_not_kept() {
    let (origin, feed) = origin().fed_first("/", |reply| reply);
    let origin = origin.start().await;
    let proxy = proxy().origin(&origin).start().await;
    feed.data("half");
    let leader = proxy.ask(Method::GET, "/").open().await;
    let follower = proxy.ask(Method::GET, "/").open().await;
    feed.break_off();
    for answer in [Answer::read(leader).await, Answer::read(follower).await] {
        assert_eq!((answer.text(), answer.complete), ("half", false));
    }
    assert_eq!(proxy.get("/").await.text(), "v2");
    assert_eq!(origin.hits("/"), 2);
}

fn with_cookie(asked: &Asked) -> Reply {
    Reply::new(format!("v{}", asked.number)).header("set-cookie", &format!("visitor={}", asked.number))
}

/// Fails when `Handler::disembark` relays a response that cannot be shared to anyone but the leader.
#[tokio::test]
async fn nobody_gets_anothers_cookie() {
    let gate = Gate::default();
    let origin = origin().route("/", holding(1, &gate, with_cookie)).start().await;
    let proxy = proxy().origin(&origin).start().await;
    let leader = start(&proxy, "/");
    gate.arrival().await;
    let mut all = crowd(&proxy, "/", 4).await;
    gate.open();
    all.push(leader);
    let mut cookies = Vec::new();
    for request in all {
        let answer = request.await.unwrap();
        assert_eq!((answer.outcome(), answer.detail()), ("refused", Some("set-cookie")));
        cookies.push(answer.header("set-cookie").unwrap().to_owned());
    }
    cookies.sort_unstable();
    assert_eq!(cookies, ["visitor=1", "visitor=2", "visitor=3", "visitor=4", "visitor=5"]);
    assert!(proxy.pages().is_empty());
}

/// Fails when `Handler::board` does not ask `is_uncacheable`: the third request waits for the second.
#[tokio::test]
async fn requests_for_a_page_that_could_not_be_kept_do_not_wait_for_each_other() {
    let gate = Gate::default();
    let origin = origin().route("/", holding(2, &gate, with_cookie)).start().await;
    let proxy = proxy().origin(&origin).start().await;
    assert_eq!(proxy.get("/").await.text(), "v1");
    let second = start(&proxy, "/");
    gate.arrival().await;
    assert_eq!(proxy.get("/").await.text(), "v3");
    gate.open();
    assert_eq!(second.await.unwrap().text(), "v2");
}

/// Fails when a response that cannot be kept stays on the board while it is sent.
#[tokio::test]
async fn nobody_waits_for_the_body_of_a_page_that_cannot_be_kept() {
    let (origin, feed) = origin().fed_first("/", |reply| reply.header("set-cookie", "a=b"));
    let origin = origin.start().await;
    let proxy = proxy().origin(&origin).start().await;
    feed.data("v1 begins");
    let mut first = proxy.ask(Method::GET, "/").open().await;
    assert_eq!(next_piece(&mut first).await.unwrap(), "v1 begins");
    assert_eq!(proxy.get("/").await.text(), "v2");
    drop(feed);
    assert!(Answer::read(first).await.complete);
}

/// Fails when `Handler::is_uncacheable` does not look at the clock.
#[tokio::test]
async fn it_is_remembered_no_longer_than_uncacheable_for() {
    let gate = Gate::default();
    let origin = origin().route("/", holding(2, &gate, with_cookie)).page("/later", "later").start().await;
    let proxy = proxy().origin(&origin).set(|config| config.cache.uncacheable_for = Duration::ZERO).start().await;
    assert_eq!(proxy.get("/").await.text(), "v1");
    let second = start(&proxy, "/");
    gate.arrival().await;
    let third = crowd(&proxy, "/", 1).await;
    // Had the third gone to the origin, it would have been there before this.
    proxy.get("/later").await;
    assert_eq!(origin.hits("/"), 2, "the third waits for the second");
    gate.open();
    second.await.unwrap();
    for answer in third {
        assert_eq!(answer.await.unwrap().text(), "v3");
    }
}

/// Fails when a page that is kept stays in `Handler::uncacheable`.
#[tokio::test]
async fn a_page_that_can_be_kept_again_is_fetched_together_again() {
    let gate = Gate::default();
    let answer = |asked: &Asked| match asked.number {
        1 => with_cookie(asked),
        number => Reply::new(format!("v{number}")),
    };
    let origin = origin().route("/", holding(3, &gate, answer)).start().await;
    let proxy = proxy().origin(&origin).start().await;
    assert_eq!(proxy.get("/").await.outcome(), "refused");
    assert_eq!(proxy.get("/").await.outcome(), "miss");
    assert_eq!(proxy.get("/").await.outcome(), "hit");
    proxy.invalidate_path("/").await;
    let leader = start(&proxy, "/");
    gate.arrival().await;
    let followers = crowd(&proxy, "/", 3).await;
    gate.open();
    assert_eq!(leader.await.unwrap().outcome(), "miss");
    for follower in followers {
        assert_eq!(follower.await.unwrap().outcome(), "collapsed");
    }
    assert_eq!(origin.hits("/"), 3);
}

#[tokio::test]
async fn a_stalled_fetch_holds_up_nobody_beyond_its_timeout_and_no_other_page_at_all() {
    let gate = Gate::default();
    let origin = origin().held("/stalled", &gate, plain).page("/other", "other").start().await;
    let proxy = proxy().origin(&origin).set(|config| {
        config.origin.first_byte_timeout = Duration::from_millis(200);
        config.origin.connect_timeout = Duration::from_millis(50);
    });
    let proxy = proxy.start().await;
    let begun = Instant::now();
    let leader = start(&proxy, "/stalled");
    gate.arrival().await;
    assert_eq!(proxy.get("/other").await.text(), "other");
    let answer = leader.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.outcome(), answer.detail()), (504, "error", Some("origin-timeout")));
    assert!(begun.elapsed() < Duration::from_secs(5));
    // The next one does not inherit the stall.
    assert_eq!(proxy.get("/stalled").await.text(), "v2");
}

/// Two bounds hold: a flight's own, and `Handler::miss`'s deadline; either would do here.
#[tokio::test]
async fn a_follower_of_stalled_fetches_gives_up_in_time() {
    let gate = Gate::default();
    let origin = origin().gated("/", &gate).start().await;
    let proxy = proxy().origin(&origin).set(|config| {
        config.origin.first_byte_timeout = Duration::from_millis(200);
        config.origin.connect_timeout = Duration::from_millis(50);
    });
    let proxy = proxy.start().await;
    let leader = start(&proxy, "/");
    gate.arrival().await;
    let begun = Instant::now();
    let followers = crowd(&proxy, "/", 4).await;
    for request in followers.into_iter().chain([leader]) {
        assert_eq!(request.await.unwrap().status, 504);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "patience is first_byte_timeout and two connect_timeouts");
}

#[tokio::test]
async fn a_body_that_stalls_breaks_off_in_time() {
    let (origin, feed) = origin().fed_first("/", |reply| reply);
    let origin = origin.start().await;
    let proxy = proxy().origin(&origin).set(|config| config.origin.idle_timeout = Duration::from_millis(200));
    let proxy = proxy.start().await;
    feed.data("half");
    let leader = proxy.ask(Method::GET, "/").open().await;
    let follower = proxy.ask(Method::GET, "/").open().await;
    for answer in [Answer::read(leader).await, Answer::read(follower).await] {
        assert_eq!((answer.text(), answer.complete), ("half", false));
    }
    assert_eq!(proxy.get("/").await.text(), "v2");
    assert_eq!(proxy.get("/").await.outcome(), "hit");
}

/// A body of so many pieces, of a length that is not announced.
fn large(pieces: usize) -> Reply {
    let (reply, feed) = Reply::fed();
    (0..pieces).for_each(|_| feed.data(PIECE));
    reply
}

/// Fails when `Cabin::trim` drops what the slowest reader has not read. That `Flight::push` waits for him bounds memory, which no answer shows.
#[tokio::test]
async fn a_page_that_turns_out_too_large_reaches_a_fast_and_a_slow_reader_whole() {
    const PIECES: usize = 320;
    let (origin, feed) = origin().fed_first("/", |reply| reply);
    let origin = origin.start().await;
    let proxy = proxy().origin(&origin).set(|config| config.cache.max_body = 256 << 10).start().await;
    feed.data(PIECE);
    let mut slow = proxy.ask(Method::GET, "/").open().await;
    let begun = next_piece(&mut slow).await.unwrap().len();
    let fast = start(&proxy, "/");
    proxy.settle().await;
    (1..PIECES).for_each(|_| feed.data(PIECE));
    drop(feed);
    // It gets as far as buffers allow; then the slow one reads.
    proxy.settle().await;
    let slow = Answer::read(slow).await;
    let fast = fast.await.unwrap();
    assert_eq!((begun + slow.body.len(), slow.complete), (PIECES * PIECE.len(), true));
    assert_eq!((fast.outcome(), fast.body.len(), fast.complete), ("collapsed", PIECES * PIECE.len(), true));
    assert_eq!(origin.hits("/"), 1);
    assert_eq!(proxy.stop().await.path().join("data/default/1/pages").read_dir().map_or(0, Iterator::count), 0);
}

/// Fails when `note_refused` is not told of a body that grew too large: the third request waits for the second, and then for its reader.
#[tokio::test]
async fn a_page_that_was_too_large_is_remembered_so_that_no_slow_reader_holds_up_others() {
    let gate = Gate::default();
    let origin = origin().route("/", holding(2, &gate, |_| large(8))).start().await;
    let proxy = proxy().origin(&origin).set(|config| config.cache.max_body = 256 << 10).start().await;
    assert_eq!(proxy.get("/").await.body.len(), 8 * PIECE.len());
    let second = start(&proxy, "/");
    gate.arrival().await;
    assert_eq!(proxy.get("/").await.body.len(), 8 * PIECE.len());
    gate.open();
    assert_eq!(second.await.unwrap().body.len(), 8 * PIECE.len());
    assert_eq!(origin.hits("/"), 3);
}

/// Fails when `Intake::take` goes on keeping without a share of `max_fill_bytes`.
#[tokio::test]
async fn what_does_not_fit_into_the_memory_of_fills_is_served_and_not_kept() {
    let origin = origin().route("/large", |_| async { large(8) }).page("/small", "small").start().await;
    let proxy = proxy().origin(&origin).set(|config| config.cache.max_fill_bytes = 128 << 10).start().await;
    for hits in 1..=2 {
        let answer = proxy.get("/large").await;
        assert_eq!((answer.body.len(), answer.complete), (8 * PIECE.len(), true));
        assert_eq!(origin.hits("/large"), hits);
    }
    assert_eq!(proxy.get("/small").await.outcome(), "miss");
    assert_eq!(proxy.get("/small").await.outcome(), "hit");
}
