//! The hit path in-process, without the kernel. Time and allocations per request: of the whole way, from a request's bytes to the answer's, and of the
//! part that hyper leaves to the handler when the fast lane does not take a request.
//!
//! `cargo bench --bench hit_path`

#![expect(dead_code, reason = "the other scenarios are counted in instructions only")]

#[path = "shared/browser.rs"]
mod browser;
#[path = "instructions/scenarios/mod.rs"]
mod scenarios;

use bytes::Bytes;
use divan::{AllocProfiler, Bencher};
use http::Request;
use http_body_util::Empty;

use self::scenarios::proxy::Proxy;
use self::scenarios::{Conversation, HEAD, HIT_2_KIB, HIT_16_KIB, INVALIDATED, NOT_MODIFIED, Visit};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Asks the same again and again on one connection; an answer of another length fails.
fn converse(bencher: Bencher<'_, '_>, visit: &Visit) {
    let proxy = Proxy::start();
    let mut conversation = Conversation::about(visit, &proxy);
    bencher.bench_local(|| {
        conversation.ask();
        conversation.hear();
    });
    conversation.end();
}

#[divan::bench]
fn hit_of_2_kib(bencher: Bencher<'_, '_>) {
    converse(bencher, &HIT_2_KIB);
}

#[divan::bench]
fn hit_of_16_kib(bencher: Bencher<'_, '_>) {
    converse(bencher, &HIT_16_KIB);
}

#[divan::bench]
fn not_modified(bencher: Bencher<'_, '_>) {
    converse(bencher, &NOT_MODIFIED);
}

#[divan::bench]
fn head(bencher: Bencher<'_, '_>) {
    converse(bencher, &HEAD);
}

/// A hit that is looked up in the index, because an invalidation of something else came before it: that is part of what is timed.
#[divan::bench]
fn invalidation_and_hit(bencher: Bencher<'_, '_>) {
    let proxy = Proxy::start();
    let mut conversation = Conversation::about(&INVALIDATED, &proxy);
    bencher.bench_local(|| {
        proxy.invalidate_another();
        conversation.ask();
        conversation.hear();
    });
    conversation.end();
}

/// What a request costs that the lane leaves to hyper, without hyper.
#[divan::bench(args = ["bytes=100-199", "bytes=0-0,-1"])]
fn range(bencher: Bencher<'_, '_>, range: &str) {
    let proxy = Proxy::start();
    proxy.warm("/16384/");
    let request = || {
        let request = Request::get("/16384/").header("host", "shop.example").header("range", range);
        request.body(Empty::<Bytes>::new()).expect("a request")
    };
    bencher.with_inputs(request).bench_local_values(|request| {
        let answer = proxy.answer(request);
        assert_eq!(answer.status(), 206);
    });
}
