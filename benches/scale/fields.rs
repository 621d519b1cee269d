//! What does a field more cost, of the response and of the request?

use crate::app::{App, FIELDS};
use crate::chart::{Chart, Line, Scale};
use crate::figures::{Findings, Table, digits};
use crate::proxy::{Proxy, request, runtime};

const COUNTS: [usize; 5] = [8, 16, 32, 64, 100];
const HITS: usize = 50_000;
const PATH: &str = "/2048/a-page/";
/// Fields that the app says with each page, `ETag` and `Content-Length` included.
const OWN: usize = FIELDS.len() + 2;
/// Fields that a browser says with each request, `Host` and `Cookie` included.
const BROWSERS: usize = crate::browser::FIELDS.len() + 2;

pub(crate) fn measure(quick: bool) -> Findings {
    let hits = if quick { HITS / 10 } else { HITS };
    let mut table =
        Table::new("Hit, by number of fields: CPU time, nanoseconds", &["fields", "of the response", "of the request"]);
    let (mut of_response, mut of_request) = (Vec::new(), Vec::new());
    for count in COUNTS {
        let response = hit_nanoseconds(count - OWN, 0, hits);
        let request = hit_nanoseconds(0, count - BROWSERS, hits);
        table.row([count.to_string(), digits(response, 0), digits(request, 0)]);
        of_response.push((count as f64, response));
        of_request.push((count as f64, request));
    }
    let line = |name: &str, points| Line { name: name.to_owned(), points };
    let chart = Chart {
        name: "fields",
        title: "Hit, by number of fields".to_owned(),
        x: "fields",
        y: "CPU time without parsing and writing, nanoseconds",
        scale: Scale::Linear,
        lines: vec![line("of the response", of_response), line("of the request", of_request)],
        goal: None,
    };
    Findings { tables: vec![table], charts: vec![chart], missed: Vec::new() }
}

fn hit_nanoseconds(more_of_response: usize, more_of_request: usize, hits: usize) -> f64 {
    let fields = |count: usize| (0..count).map(|number| (format!("x-field-{number}"), format!("{number:030}")));
    let more: Vec<(String, String)> = fields(more_of_request).collect();
    let more: Vec<(&str, &str)> = more.iter().map(|(name, value)| (&**name, &**value)).collect();
    runtime().block_on(async {
        let proxy = Proxy::new(1 << 20, App { more: fields(more_of_response).collect() });
        proxy.fill(request(PATH, &more)).await;
        proxy.hit_nanoseconds(hits, || request(PATH, &more)).await
    })
}
