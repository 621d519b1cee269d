//! Does a hit cost more the more variants a path has? And what happens to more of them than are kept?

use std::sync::Arc;

use bytes::Bytes;
use everpage::config::Config;
use http::Request;
use http_body_util::Empty;

use crate::app::App;
use crate::chart::{Chart, Line, Scale};
use crate::figures::{Findings, Table, digits};
use crate::gauge::{Chance, cpu_nanoseconds};
use crate::no_store::NoStore;
use crate::proxy::{Proxy, request, runtime};

const VARIANTS: [u64; 6] = [1, 4, 16, 64, 256, 1024];
/// More than are kept.
const BEYOND: [u64; 3] = [96, 128, 256];
const HITS: usize = 50_000;
const PATH: &str = "/2048/a-page/";
const CAPACITY: u64 = 1 << 30;

pub(crate) fn measure(quick: bool) -> Findings {
    let hits = if quick { HITS / 10 } else { HITS };
    let mut table = Table::new(
        "Variants of one path, all kept (cache.max_variants is as large): CPU time, nanoseconds",
        &["variants", "hit", "fill of one more"],
    );
    let mut points = Vec::new();
    for variants in VARIANTS {
        let (hit, fill) = runtime().block_on(all_kept(variants, hits));
        table.row([variants.to_string(), digits(hit, 0), digits(fill, 0)]);
        points.push((variants as f64, hit));
    }
    let most = Config::default().cache.max_variants;
    let mut beyond = Table::new(
        format!("More variants than are kept ({most}), each asked for as often as any"),
        &["variants", "hits, per cent", "pages in memory"],
    );
    for variants in BEYOND {
        let (share, entries) = runtime().block_on(too_many(variants, hits / 10));
        assert!(entries <= most as u64, "{entries} pages are kept");
        beyond.row([variants.to_string(), digits(share * 100.0, 0), entries.to_string()]);
    }
    let chart = Chart {
        name: "variants",
        title: "Hit, by variants of its path".to_owned(),
        x: "variants",
        y: "CPU time, nanoseconds. Flat is good.",
        scale: Scale::Logarithmic,
        lines: vec![Line { name: "hit".to_owned(), points }],
        goal: None,
    };
    Findings { tables: vec![table, beyond], charts: vec![chart], missed: Vec::new() }
}

fn proxy(max_variants: usize) -> Proxy {
    let mut config = Config::default();
    config.cache.max_variants = max_variants;
    let app = App { more: vec![("vary".to_owned(), "x-variant".to_owned())] };
    Proxy::with(&config, CAPACITY, app, Arc::new(NoStore::default()))
}

fn variant(number: u64) -> Request<Empty<Bytes>> {
    request(PATH, &[("x-variant", &number.to_string())])
}

/// Nanoseconds of a hit, and of the last fills.
async fn all_kept(variants: u64, hits: usize) -> (f64, f64) {
    const MORE: u64 = 32;
    let proxy = proxy((variants + MORE) as usize);
    for number in 0..variants {
        proxy.fill(variant(number)).await;
    }
    let mut chance = Chance::new(variants);
    let hit = proxy.hit_nanoseconds(hits, || variant(chance.below(variants))).await;
    let started = cpu_nanoseconds();
    for number in variants..variants + MORE {
        proxy.fill(variant(number)).await;
    }
    (hit, (cpu_nanoseconds() - started) / MORE as f64)
}

/// The share of hits, and how many pages there are at the end.
async fn too_many(variants: u64, requests: usize) -> (f64, u64) {
    let proxy = proxy(Config::default().cache.max_variants);
    let mut chance = Chance::new(variants);
    let mut hits = 0;
    for _ in 0..requests {
        let status = proxy.get(variant(chance.below(variants))).await;
        hits += usize::from(status.contains("; hit"));
    }
    proxy.handler.drain().await;
    (hits as f64 / requests as f64, proxy.memory.usage().entries)
}
