//! The fast lane before hyper: whoever is answered by it cannot tell, nothing is lost, doubled or turned round between the two, and each wait has its
//! bound in both.
//!
//! The connection is a pipe that holds as much as the test says, and the clock stands still while anything moves.

mod alike;
mod closing;
mod line;
mod order;
mod sockets;

use std::sync::atomic::Ordering;
use std::time::Duration;

use everpage::invalidation::selector::{Record, Target};
use tokio::time::{Instant, sleep};

use self::line::{BIG, House, Line, get};
use crate::leases::one_node;
use crate::support::LEASE;

/// How a connection begins: by itself, by a hit, or by a request that only hyper answers. Later hits go by the lane in each of them.
const BEGINNINGS: [&[&str]; 3] = [&[], &["/page"], &["/admin/passed"]];

async fn begun(house: &House, holding: usize, beginning: &[&str]) -> Line {
    let mut line = house.connect(holding);
    for target in beginning {
        line.send(get(target)).await;
        assert!(line.answer("GET").await.head.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    line
}

const HEAD_TIMEOUT: Duration = Duration::from_millis(200);
const IDLE_TIMEOUT: Duration = Duration::from_millis(300);

/// A house with these bounds, with the pages at hand.
async fn impatient() -> House {
    let house = House::new(|config| {
        config.limits.head_timeout = HEAD_TIMEOUT;
        config.limits.idle_timeout = IDLE_TIMEOUT;
    });
    house.fill(&["/page", "/big"]).await;
    house
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_closed_when_nothing_came_for_a_while_after_its_last_answer() {
    let house = impatient().await;
    for beginning in BEGINNINGS {
        let mut line = begun(&house, 64 << 10, beginning).await;
        let mut last = Instant::now();
        for _ in 0..5 {
            sleep(HEAD_TIMEOUT * 3 / 4).await;
            line.send(get("/page")).await;
            assert!(line.answer("GET").await.body.starts_with(b"the page"));
            last = Instant::now();
        }
        assert_eq!(line.rest().await, "", "{beginning:?}");
        let waited = last.elapsed();
        assert!(waited >= HEAD_TIMEOUT && waited < HEAD_TIMEOUT * 5 / 4, "{beginning:?}: {waited:?}");

        for target in ["/page", "/big", "/admin/passed", "/admin/streamed", "/admin/slow", "/slow?2"] {
            let mut line = begun(&house, 64 << 10, beginning).await;
            line.send(get(target)).await;
            line.answer("GET").await;
            let last = Instant::now();
            assert_eq!(line.rest().await, "", "{beginning:?} {target}");
            let waited = last.elapsed();
            assert!(waited >= HEAD_TIMEOUT && waited < HEAD_TIMEOUT * 5 / 4, "{beginning:?} {target}: {waited:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_dribbles_in_is_cut_off_wherever_it_begins() {
    let house = impatient().await;
    for beginning in BEGINNINGS {
        for start in ["G", "\r\n", "\r", "GET / HTTP/1.1\r\nHost: shop", "POST / HTTP/1.1\r\n"] {
            let mut line = begun(&house, 64 << 10, beginning).await;
            let begun = Instant::now();
            line.send(start).await;
            while begun.elapsed() < HEAD_TIMEOUT * 2 && !line.is_closed() {
                sleep(HEAD_TIMEOUT / 20).await;
                line.send(if start == "\r\n" { "\r\n" } else { "x" }).await;
            }
            let waited = begun.elapsed();
            assert!(waited < HEAD_TIMEOUT * 5 / 4, "{beginning:?} {start:?}: {waited:?}");
            assert!(waited >= HEAD_TIMEOUT || start == "\r", "{beginning:?} {start:?}: {waited:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_takes_a_page_slowly_gets_all_of_it_and_may_ask_again() {
    let house = impatient().await;
    for beginning in BEGINNINGS {
        let mut line = begun(&house, 16 << 10, beginning).await;
        let began = Instant::now();
        line.send(get("/big")).await;
        line.read_slowly(BIG, IDLE_TIMEOUT / 2, 64 << 10).await;
        assert!(began.elapsed() > HEAD_TIMEOUT * 4, "longer than a head may take");
        sleep(HEAD_TIMEOUT / 2).await;
        line.send(get("/page")).await;
        let big = line.answer("GET").await;
        assert_eq!((big.body.len(), line.answer("GET").await.body), (BIG, b"the page".to_vec()), "{beginning:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_takes_no_bytes_of_a_page_at_hand_is_left() {
    let house = impatient().await;
    for beginning in BEGINNINGS {
        let mut line = begun(&house, 16 << 10, beginning).await;
        let began = Instant::now();
        line.send(get("/big")).await;
        line.ended().await;
        let waited = began.elapsed();
        assert!(waited >= IDLE_TIMEOUT && waited < IDLE_TIMEOUT * 2, "{beginning:?}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_long_is_waited_for_between_hits() {
    let house = impatient().await;
    for beginning in BEGINNINGS {
        let mut line = begun(&house, 64 << 10, beginning).await;
        for target in ["/page", "/slow?1", "/page", "/admin/slow", "/page"] {
            line.send(get(target)).await;
            assert!(line.answer("GET").await.head.starts_with("HTTP/1.1 200 OK\r\n"), "{beginning:?} {target}");
        }
    }
    // What was fetched slowly may come while the next is on its way.
    let mut line = begun(&house, 64 << 10, &[]).await;
    line.send(get("/admin/slow")).await;
    sleep(HEAD_TIMEOUT / 2).await;
    line.send("GET /page HTT").await;
    assert_eq!(line.answer("GET").await.body, b"slow");
    line.send("P/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(line.answer("GET").await.body, b"the page");
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_idle_connections_at_once() {
    for beginning in BEGINNINGS {
        let house = impatient().await;
        let mut line = begun(&house, 64 << 10, beginning).await;
        sleep(HEAD_TIMEOUT / 4).await;
        let began = Instant::now();
        house.drain();
        assert_eq!(line.rest().await, "", "{beginning:?}");
        // Where nothing has come yet, a request may be on its way.
        assert!(began.elapsed() < HEAD_TIMEOUT && (beginning.is_empty() || began.elapsed().is_zero()), "{beginning:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_sent_when_a_drain_began_is_answered_and_is_the_last() {
    for target in ["/page", "/big", "/admin/1", "/admin/slow"] {
        let house = impatient().await;
        let mut line = house.connect(16 << 10);
        sleep(HEAD_TIMEOUT / 4).await;
        house.drain();
        sleep(HEAD_TIMEOUT / 4).await;
        line.send(get(target)).await;
        let answer = line.answer("GET").await;
        assert!(answer.head.contains("\r\nconnection: close\r\n"), "{target}: {}", answer.head);
        assert_eq!((answer.body.is_empty(), &*line.rest().await), (false, ""), "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_with_a_request_during_a_drain_is_told_that_it_is_the_last() {
    for target in ["/page", "/big", "/admin/1", "/admin/slow"] {
        let house = impatient().await;
        house.drain();
        let mut line = house.connect(16 << 10);
        line.send(get(target)).await;
        let answer = line.answer("GET").await;
        assert!(answer.head.contains("\r\nconnection: close\r\n"), "{target}: {}", answer.head);
        assert_eq!((answer.body.is_empty(), &*line.rest().await), (false, ""), "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_a_page_at_hand_be_taken_to_its_end_and_no_further_request_begin() {
    for beginning in BEGINNINGS {
        let house = impatient().await;
        let mut line = begun(&house, 16 << 10, beginning).await;
        line.send(get("/big")).await;
        sleep(IDLE_TIMEOUT / 2).await;
        house.drain();
        line.read_slowly(BIG, IDLE_TIMEOUT / 2, 256 << 10).await;
        line.send(get("/page")).await;
        assert_eq!(line.answer("GET").await.body.len(), BIG, "{beginning:?}");
        assert_eq!(line.rest().await, "", "{beginning:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_under_way_at_the_drain_is_answered_and_is_the_last() {
    for beginning in BEGINNINGS {
        for start in ["\r\n", "GET /page HT"] {
            let house = impatient().await;
            let mut line = begun(&house, 64 << 10, beginning).await;
            line.send(start).await;
            sleep(HEAD_TIMEOUT / 4).await;
            house.drain();
            sleep(HEAD_TIMEOUT / 4).await;
            line.send(&get("/page")[if start == "\r\n" { 0 } else { start.len() }..]).await;
            sleep(HEAD_TIMEOUT / 4).await;
            line.send(get("/page")).await;
            let answers = line.rest().await;
            assert!(answers.matches("HTTP/1.1 200 OK").count() <= 1, "{beginning:?} {start:?}: {answers}");
            assert!(answers.is_empty() || answers.contains("connection: close\r\n"), "{beginning:?}: {answers}");
            // hyper takes a connection for idle after its own answer, whatever has come of the next head.
            let is_idle = beginning == ["/admin/passed"];
            assert!(is_idle || !answers.is_empty(), "{beginning:?} {start:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_the_connection_to_end_or_ends_it_gets_the_whole_page_first() {
    let house = impatient().await;
    let last = get("/big").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    for beginning in BEGINNINGS {
        let mut line = begun(&house, 16 << 10, beginning).await;
        line.send(&last).await;
        let answer = line.answer("GET").await;
        assert!(answer.head.contains("\r\nconnection: close\r\n"), "{beginning:?}: {}", answer.head);
        assert_eq!((answer.body.len(), &*line.rest().await), (BIG, ""), "{beginning:?}");

        let mut line = begun(&house, 16 << 10, beginning).await;
        line.send(get("/big")).await;
        line.finish().await;
        let answer = line.answer("GET").await;
        assert_eq!((answer.body.len(), &*line.rest().await), (BIG, ""), "{beginning:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_goes_away_in_the_middle_of_a_page_is_forgotten() {
    let house = impatient().await;
    for beginning in BEGINNINGS {
        let mut line = begun(&house, 16 << 10, beginning).await;
        line.send(get("/big")).await;
        sleep(IDLE_TIMEOUT / 2).await;
        let began = Instant::now();
        line.leave().await;
        assert_eq!(began.elapsed(), Duration::ZERO, "{beginning:?}");
    }
}

/// Small bounds go before what the lane can do.
#[tokio::test(start_paused = true)]
async fn a_head_beyond_the_limits_is_refused_for_a_page_at_hand_too() {
    let house = House::new(|config| {
        config.limits.head_bytes = 8 << 10;
        config.limits.head_fields = 10;
        config.limits.target_bytes = 1000;
    });
    house.fill(&["/page"]).await;
    let many = |count| get("/page").replace("\r\n\r\n", &format!("\r\n{}\r\n", "x: y\r\n".repeat(count)));
    let long = |count: usize| many(1).replace("x: y", &format!("x: {}", "y".repeat(count - many(1).len() + 1)));
    let target = |count| get(&format!("/page?utm_source={}", "a".repeat(count)));
    for (request, status) in [
        (many(9), 200),
        (many(10), 431),
        (long(8 << 10), 200),
        (long((8 << 10) + 1), 431),
        (target(983), 200),
        (target(984), 414),
    ] {
        let mut line = house.connect(64 << 10);
        line.send(&request).await;
        let head = line.answer("GET").await.head;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{}: {head}", request.len());
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_counts_from_the_next_request_on() {
    let house = impatient().await;
    for beginning in BEGINNINGS {
        let mut line = begun(&house, 64 << 10, beginning).await;
        for soft in [false, true] {
            let said = ["; stored\r\n", "; hit; detail=soft\r\n"][usize::from(soft)];
            for expected in ["; hit; detail=memory\r\n", said] {
                line.send(get("/page")).await;
                let head = line.answer("GET").await.head;
                assert!(head.contains(expected), "{beginning:?} soft {soft}: {head}");
                house.inside.settled().await;
                let paths = vec![Target { host: None, path: "/page".into() }];
                house.inside.invalidations.submit(Record { paths, soft, ..Record::default() }).await.unwrap();
            }
            house.inside.invalidate("/page").await;
            house.fill(&["/page"]).await;
        }
    }
}

/// Others may have invalidated what is at hand: the journal is asked first, and if it cannot be, the app.
#[tokio::test(start_paused = true)]
async fn a_node_that_has_not_heard_of_the_journal_for_long_serves_nothing_by_the_lane() {
    let (ledger, inside) = one_node(|_| {});
    let house = House::of(inside);
    house.fill(&["/"]).await;
    let mut line = house.connect(64 << 10);
    for (is_gone, expected) in [(false, "; hit; detail=memory\r\n"), (true, "detail=journal-outage\r\n")] {
        ledger.is_gone.store(is_gone, Ordering::SeqCst);
        sleep(LEASE * 5).await;
        let looks = ledger.looks();
        line.send(get("/")).await;
        let head = line.answer("GET").await.head;
        assert!(head.contains(expected), "{head}");
        assert!(is_gone || ledger.looks() > looks, "it was asked");
    }
}
