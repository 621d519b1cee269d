//! The promise, attacked where it can break: a page that began to be rendered before an invalidation, and what becomes of it.
//!
//! Each test says which guard it proves: with the guard taken out, the test fails.

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{Answer, Ask, Asked, Gate, HOST, Origin, Proxy, Reply, Shelf, next_piece, on_each_store, origin};

on_each_store![
    a_page_that_was_being_rendered_is_not_served_from_memory,
    a_page_that_was_being_rendered_is_not_written,
    a_page_that_was_being_rendered_does_not_come_back_with_a_restart,
    whoever_comes_after_the_invalidation_does_not_wait_for_the_older_rendering,
    whoever_waited_before_the_invalidation_may_get_the_older_page_and_nobody_after,
    an_invalidation_in_the_middle_of_a_body_detaches_it,
    a_head_that_was_being_answered_is_dead_too,
    a_head_is_not_answered_from_an_invalidated_get,
    a_follower_of_another_variant_does_not_get_the_leaders,
    an_invalidated_path_takes_every_variant_with_it,
    a_variant_that_was_being_rendered_is_dead_too,
    nothing_survives_its_path,
    nothing_survives_a_prefix,
    nothing_survives_all,
    nothing_survives_all_of_its_host,
    nothing_survives_its_url,
    nothing_survives_its_path_in_another_spelling,
    a_follower_that_came_after_a_tags_invalidation_leaves_when_the_head_shows_the_tag,
    a_follower_that_came_before_a_tags_invalidation_may_get_the_older_page,
    a_follower_that_came_after_another_tags_invalidation_stays,
    whoever_comes_after_a_tags_invalidation_shares_a_new_fetch_while_the_old_body_is_sent,
    a_stored_page_dies_with_its_tag_and_stays_dead,
    an_invalidation_of_one_host_leaves_the_others_flight_and_pages,
];

fn plain(reply: Reply, _: &Asked) -> Reply {
    reply
}

fn tagged(reply: Reply, _: &Asked) -> Reply {
    reply.header("cache-tag", "ice")
}

/// An origin with one page, `/shop/ice/`, whose first rendering is held, and the proxy before it.
async fn held(shelf: &Shelf, dress: impl Fn(Reply, &Asked) -> Reply + Send + Sync + 'static) -> (Gate, Origin, Proxy) {
    let gate = Gate::default();
    let origin = origin().held(PAGE, &gate, dress).start().await;
    let proxy = shelf.proxy().origin(&origin).start().await;
    (gate, origin, proxy)
}

const PAGE: &str = "/shop/ice/";

/// A request that leads a flight: its page is being rendered.
async fn leader(proxy: &Proxy, gate: &Gate) -> tokio::task::JoinHandle<Answer> {
    let leader = proxy.ask(Method::GET, PAGE).start();
    gate.arrival().await;
    leader
}

/// A request that has joined a flight.
async fn follower(proxy: &Proxy, ask: Ask) -> tokio::task::JoinHandle<Answer> {
    let follower = ask.start();
    proxy.settle().await;
    follower
}

// --- a fill in flight ---

/// Fails when `fill::fly` takes `as_of` after the fetch: v1 is then as new as the record, and hit.
async fn a_page_that_was_being_rendered_is_not_served_from_memory(shelf: Shelf) {
    let (gate, _origin, proxy) = held(&shelf, plain).await;
    let leader = leader(&proxy, &gate).await;
    proxy.invalidate_path(PAGE).await;
    gate.open();
    assert_eq!(leader.await.unwrap().text(), "v1");
    proxy.assert_new(PAGE, "v2").await;
}

/// Fails when `Handler::keep_page` does not look at the index again: v1 is written.
async fn a_page_that_was_being_rendered_is_not_written(shelf: Shelf) {
    let (gate, _origin, proxy) = held(&shelf, plain).await;
    let leader = leader(&proxy, &gate).await;
    proxy.invalidate_path(PAGE).await;
    gate.open();
    leader.await.unwrap();
    let written = proxy.end().await.pages().await;
    assert!(written.is_empty(), "{written:?}");
}

/// Fails when `fill::fly` takes `as_of` after the fetch.
async fn a_page_that_was_being_rendered_does_not_come_back_with_a_restart(shelf: Shelf) {
    let (gate, origin, proxy) = held(&shelf, plain).await;
    let leader = leader(&proxy, &gate).await;
    proxy.invalidate_path(PAGE).await;
    gate.open();
    leader.await.unwrap();
    let proxy = proxy.restart(&origin).await;
    proxy.assert_new(PAGE, "v2").await;
}

// --- a follower ---

/// Fails when `Flights::board` ignores `admits`, and when `admits` lets everyone in while it is `Fetching`: the second request waits for v1.
async fn whoever_comes_after_the_invalidation_does_not_wait_for_the_older_rendering(shelf: Shelf) {
    let (gate, origin, proxy) = held(&shelf, plain).await;
    let leader = leader(&proxy, &gate).await;
    proxy.invalidate_path(PAGE).await;
    // v1 is still held: only a flight of its own can bring this.
    proxy.assert_new(PAGE, "v2").await;
    gate.open();
    assert_eq!(leader.await.unwrap().text(), "v1");
    let after = proxy.get(PAGE).await;
    assert_eq!((after.outcome(), after.text()), ("hit", "v2"));
    assert_eq!(origin.hits(PAGE), 2);
}

/// The other side of the guard: who overlaps with the invalidation need not fetch again. Fails when `Flights::board` admits nobody.
async fn whoever_waited_before_the_invalidation_may_get_the_older_page_and_nobody_after(shelf: Shelf) {
    let (gate, origin, proxy) = held(&shelf, plain).await;
    let leader = leader(&proxy, &gate).await;
    let follower = follower(&proxy, proxy.ask(Method::GET, PAGE)).await;
    proxy.invalidate_path(PAGE).await;
    gate.open();
    assert_eq!(leader.await.unwrap().text(), "v1");
    let follower = follower.await.unwrap();
    assert_eq!((follower.outcome(), follower.text()), ("collapsed", "v1"));
    assert_eq!(origin.hits(PAGE), 1);
    proxy.assert_new(PAGE, "v2").await;
}

// --- streaming ---

/// Fails when neither `Flight::admits` nor `Seat::was_overtaken` looks at the index: the second request reads along with v1.
async fn an_invalidation_in_the_middle_of_a_body_detaches_it(shelf: Shelf) {
    let (origin, feed) = origin().fed_first(PAGE, |reply| reply);
    let origin = origin.start().await;
    let proxy = shelf.proxy().origin(&origin).start().await;
    feed.data("v1 begins, ");
    let mut leader = proxy.ask(Method::GET, PAGE).open().await;
    assert_eq!(next_piece(&mut leader).await.unwrap(), "v1 begins, ");
    proxy.invalidate_path(PAGE).await;
    proxy.assert_new(PAGE, "v2").await;
    feed.data("v1 ends");
    drop(feed);
    let leader = Answer::read(leader).await;
    assert_eq!((leader.text(), leader.complete), ("v1 ends", true));
    let after = proxy.get(PAGE).await;
    assert_eq!((after.outcome(), after.text()), ("hit", "v2"));
    let proxy = proxy.restart(&origin).await;
    let after = proxy.get(PAGE).await;
    assert_eq!((after.outcome(), after.text()), ("hit", "v2"));
}

// --- HEAD ---

/// Fails when `Flights::board` ignores `admits`: the second HEAD waits for the first.
async fn a_head_that_was_being_answered_is_dead_too(shelf: Shelf) {
    let (gate, origin, proxy) = held(&shelf, plain).await;
    let leader = proxy.ask(Method::HEAD, PAGE).start();
    gate.arrival().await;
    proxy.invalidate_path(PAGE).await;
    let second = proxy.head(PAGE).await;
    assert_eq!((second.outcome(), second.header("render")), ("miss", Some("2")));
    gate.open();
    assert_eq!(leader.await.unwrap().header("render"), Some("1"));
    let third = proxy.head(PAGE).await;
    assert_eq!((third.outcome(), third.header("render")), ("hit", Some("2")));
    assert_eq!(origin.hits(PAGE), 2);
}

/// Fails when `Handler::find_at` does not ask `Invalidations::judge`, and when neither `Handler::look_in_store` nor
/// `Handler::disembark` does: HEAD looks for the GET there.
async fn a_head_is_not_answered_from_an_invalidated_get(shelf: Shelf) {
    let origin = origin().held(PAGE, &opened(), plain).start().await;
    let proxy = shelf.proxy().origin(&origin).start().await;
    proxy.get(PAGE).await;
    assert_eq!(proxy.head(PAGE).await.header("render"), Some("1"));
    proxy.written(1).await;
    proxy.invalidate(json!({"prefixes": [PAGE]})).await;
    let proxy = proxy.restart(&origin).await;
    let head = proxy.head(PAGE).await;
    assert_eq!((head.outcome(), head.header("render")), ("miss", Some("2")));
    assert_eq!(proxy.get(PAGE).await.text(), "v3");
    proxy.invalidate(json!({"prefixes": [PAGE]})).await;
    assert_eq!(proxy.head(PAGE).await.header("render"), Some("4"));
}

fn opened() -> Gate {
    let gate = Gate::default();
    gate.open();
    gate
}

// --- variants ---

/// `en1`, `de2`, ...: the language asked for, and how often the page was rendered.
fn by_language(_: Reply, asked: &Asked) -> Reply {
    let language = asked.header("accept-language").unwrap_or("none");
    Reply::new(format!("{language}{}", asked.number)).header("vary", "Accept-Language")
}

fn in_language(proxy: &Proxy, language: &str) -> Ask {
    proxy.ask(Method::GET, PAGE).header("accept-language", language)
}

/// Fails when `Handler::disembark` does not compare the head's variant with the request's: the second visitor gets English.
async fn a_follower_of_another_variant_does_not_get_the_leaders(shelf: Shelf) {
    let (gate, origin, proxy) = held(&shelf, by_language).await;
    let english = in_language(&proxy, "en").start();
    gate.arrival().await;
    let german = follower(&proxy, in_language(&proxy, "de")).await;
    let english_too = follower(&proxy, in_language(&proxy, "en")).await;
    gate.open();
    assert_eq!(english.await.unwrap().text(), "en1");
    assert_eq!(english_too.await.unwrap().text(), "en1");
    assert_eq!(german.await.unwrap().text(), "de2");
    assert_eq!(origin.hits(PAGE), 2);
    assert_eq!(in_language(&proxy, "en").send().await.text(), "en1");
    assert_eq!(in_language(&proxy, "de").send().await.text(), "de2");
}

/// Fails when the index compares variants instead of paths, or `Handler::find_at` does not judge.
async fn an_invalidated_path_takes_every_variant_with_it(shelf: Shelf) {
    let origin = origin().held(PAGE, &opened(), by_language).start().await;
    let proxy = shelf.proxy().origin(&origin).start().await;
    assert_eq!(in_language(&proxy, "en").send().await.text(), "en1");
    assert_eq!(in_language(&proxy, "de").send().await.text(), "de2");
    // Two variants, and the signpost to them.
    proxy.written(3).await;
    proxy.invalidate_path(PAGE).await;
    assert_eq!(in_language(&proxy, "de").send().await.text(), "de3");
    let proxy = proxy.restart(&origin).await;
    assert_eq!(in_language(&proxy, "en").send().await.text(), "en4");
    let kept = in_language(&proxy, "de").send().await;
    assert_eq!((kept.outcome(), kept.text()), ("hit", "de3"));
}

/// Fails when `Flights::board` ignores `admits`, under the key of a variant as under any other.
async fn a_variant_that_was_being_rendered_is_dead_too(shelf: Shelf) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = origin().route(PAGE, move |asked| {
        let gate = held.clone();
        async move {
            let reply = by_language(Reply::new(""), &asked);
            if asked.number == 2 {
                gate.pass().await;
            }
            reply
        }
    });
    let origin = origin.start().await;
    let proxy = shelf.proxy().origin(&origin).start().await;
    // From now on it is known that languages select.
    in_language(&proxy, "en").send().await;
    let leader = in_language(&proxy, "de").start();
    gate.arrival().await;
    proxy.invalidate_path(PAGE).await;
    assert_eq!(in_language(&proxy, "de").send().await.text(), "de3");
    gate.open();
    assert_eq!(leader.await.unwrap().text(), "de2");
    let after = in_language(&proxy, "de").send().await;
    assert_eq!((after.outcome(), after.text()), ("hit", "de3"));
}

// --- the other selectors ---

/// Whatever names the page: it is gone from memory, from the store, from the flight, and after a restart.
async fn assert_nothing_survives(shelf: &Shelf, body: Value) {
    let (gate, origin, proxy) = held(shelf, plain).await;
    // In flight.
    let leader = leader(&proxy, &gate).await;
    proxy.invalidate(body.clone()).await;
    proxy.assert_new(PAGE, "v2").await;
    gate.open();
    assert_eq!(leader.await.unwrap().text(), "v1");
    assert_eq!(proxy.get(PAGE).await.text(), "v2");
    // In memory and in the store.
    proxy.written(1).await;
    proxy.invalidate(body.clone()).await;
    proxy.assert_new(PAGE, "v3").await;
    // In the store alone, by a record of an earlier life.
    let proxy = proxy.restart(&origin).await;
    assert_eq!(proxy.get(PAGE).await.text(), "v3");
    proxy.invalidate(body).await;
    let proxy = proxy.restart(&origin).await;
    proxy.assert_new(PAGE, "v4").await;
}

async fn nothing_survives_its_path(shelf: Shelf) {
    assert_nothing_survives(&shelf, json!({"paths": [PAGE]})).await;
}

/// Fails when `Names::newest_of` does not look at ancestors.
async fn nothing_survives_a_prefix(shelf: Shelf) {
    assert_nothing_survives(&shelf, json!({"prefixes": ["/shop"]})).await;
}

/// Fails when `Names::newest_of` begins with 0 instead of `all`.
async fn nothing_survives_all(shelf: Shelf) {
    assert_nothing_survives(&shelf, json!({"all": true})).await;
}

/// Fails when `Names::newest_of` does not look at hosts.
async fn nothing_survives_all_of_its_host(shelf: Shelf) {
    assert_nothing_survives(&shelf, json!({"all": true, "host": HOST})).await;
}

async fn nothing_survives_its_url(shelf: Shelf) {
    assert_nothing_survives(&shelf, json!({"paths": [format!("https://{HOST}{PAGE}?any#where")]})).await;
}

/// Fails when paths are compared as they were spelled.
async fn nothing_survives_its_path_in_another_spelling(shelf: Shelf) {
    assert_nothing_survives(&shelf, json!({"paths": ["/shop/./%69ce/"]})).await;
}

// --- tags: known only when the head arrives ---

/// Fails when `Seat::was_overtaken` says no: the follower gets v1, rendered before the invalidation that was answered before it came.
async fn a_follower_that_came_after_a_tags_invalidation_leaves_when_the_head_shows_the_tag(shelf: Shelf) {
    let (gate, origin, proxy) = held(&shelf, tagged).await;
    let leader = leader(&proxy, &gate).await;
    proxy.invalidate(json!({"tags": ["ice"]})).await;
    let follower = follower(&proxy, proxy.ask(Method::GET, PAGE)).await;
    assert_eq!(origin.hits(PAGE), 1, "nobody can know yet that the page has this tag");
    gate.open();
    assert_eq!(leader.await.unwrap().text(), "v1");
    assert_eq!(follower.await.unwrap().text(), "v2");
    let after = proxy.get(PAGE).await;
    assert_eq!((after.outcome(), after.text()), ("hit", "v2"));
}

/// The other side of the guard. Fails when `Seat::was_overtaken` does not look at when its owner came.
async fn a_follower_that_came_before_a_tags_invalidation_may_get_the_older_page(shelf: Shelf) {
    let (gate, origin, proxy) = held(&shelf, tagged).await;
    let leader = leader(&proxy, &gate).await;
    let follower = follower(&proxy, proxy.ask(Method::GET, PAGE)).await;
    proxy.invalidate(json!({"tags": ["ice"]})).await;
    gate.open();
    assert_eq!(leader.await.unwrap().text(), "v1");
    let follower = follower.await.unwrap();
    assert_eq!((follower.outcome(), follower.text()), ("collapsed", "v1"));
    assert_eq!(origin.hits(PAGE), 1);
    proxy.assert_new(PAGE, "v2").await;
}

/// Another tag's invalidation keeps nobody out. Fails when `was_overtaken` is content with any newer record.
async fn a_follower_that_came_after_another_tags_invalidation_stays(shelf: Shelf) {
    let (gate, origin, proxy) = held(&shelf, tagged).await;
    let leader = leader(&proxy, &gate).await;
    proxy.invalidate(json!({"tags": ["cake"]})).await;
    let follower = follower(&proxy, proxy.ask(Method::GET, PAGE)).await;
    gate.open();
    leader.await.unwrap();
    assert_eq!(follower.await.unwrap().outcome(), "collapsed");
    assert_eq!((proxy.get(PAGE).await.outcome(), origin.hits(PAGE)), ("hit", 1));
}

/// Fails when `Flight::admits` lets everyone in while it is `Streaming`, or forgets the head's tags then: each newcomer boards the old flight, has to
/// leave it, and in the end flies alone.
async fn whoever_comes_after_a_tags_invalidation_shares_a_new_fetch_while_the_old_body_is_sent(shelf: Shelf) {
    let gate = Gate::default();
    let (held, (first, feed)) = (gate.clone(), Reply::fed());
    let first = Mutex::new(Some(first));
    let origin = origin().route(PAGE, move |asked| {
        let (gate, first) = (held.clone(), first.lock().take());
        async move {
            if asked.number == 2 {
                gate.pass().await;
            }
            tagged(first.unwrap_or_else(|| Reply::new(format!("v{}", asked.number))), &asked)
        }
    });
    let origin = origin.start().await;
    let proxy = shelf.proxy().origin(&origin).start().await;
    feed.data("v1");
    let old = proxy.ask(Method::GET, PAGE).open().await;
    proxy.invalidate(json!({"tags": ["ice"]})).await;
    let leader = leader(&proxy, &gate).await;
    let follower = follower(&proxy, proxy.ask(Method::GET, PAGE)).await;
    gate.open();
    assert_eq!(leader.await.unwrap().text(), "v2");
    let follower = follower.await.unwrap();
    assert_eq!((follower.outcome(), follower.text()), ("collapsed", "v2"));
    drop(feed);
    assert_eq!(Answer::read(old).await.text(), "v1");
    assert_eq!((proxy.get(PAGE).await.text(), origin.hits(PAGE)), ("v2", 2));
}

/// Fails when `Names::newest_of` does not look at tags.
async fn a_stored_page_dies_with_its_tag_and_stays_dead(shelf: Shelf) {
    let origin = origin().held(PAGE, &opened(), tagged).start().await;
    let proxy = shelf.proxy().origin(&origin).start().await;
    proxy.get(PAGE).await;
    proxy.written(1).await;
    proxy.invalidate(json!({"tags": ["ice"]})).await;
    let proxy = proxy.restart(&origin).await;
    proxy.assert_new(PAGE, "v2").await;
    proxy.invalidate(json!({"tags": ["ice"]})).await;
    proxy.assert_new(PAGE, "v3").await;
}

// --- hosts ---

/// Fails when `Names::newest_of` leaves the host out, or `Flight::admits` does: the other host's follower is sent away.
async fn an_invalidation_of_one_host_leaves_the_others_flight_and_pages(shelf: Shelf) {
    let (gate, origin, proxy) = held(&shelf, plain).await;
    let leader = leader(&proxy, &gate).await;
    proxy.invalidate(json!({"all": true, "host": "other.example"})).await;
    proxy.invalidate(json!({"paths": [format!("http://other.example{PAGE}")]})).await;
    let follower = follower(&proxy, proxy.ask(Method::GET, PAGE)).await;
    gate.open();
    leader.await.unwrap();
    let follower = follower.await.unwrap();
    assert_eq!((follower.outcome(), follower.text()), ("collapsed", "v1"));
    assert_eq!(proxy.get(PAGE).await.outcome(), "hit");
    let other = proxy.ask(Method::GET, PAGE).host("other.example").send().await;
    assert_eq!((other.outcome(), other.text()), ("miss", "v2"));
    assert_eq!(origin.hits(PAGE), 2);
}
