//! The picture for the README: CPU time per request, nginx's as 1, written as SVG.

use std::fmt::Write as _;

use crate::report::CaseReport;

const WIDTH: f64 = 760.0;
/// Where the bars begin: left of it are names.
const LEFT: f64 = 190.0;
/// Right of the longest bar is room for figures.
const RIGHT: f64 = 110.0;
const BAR: f64 = 14.0;
const GAP: f64 = 14.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 28.0;
/// Longer bars are cut, and say how long they are.
const MOST: f64 = 2.5;

/// Of text that may lie on the line of 1.
const OUTLINE: &str = r##"stroke="#fff" stroke-width="3" paint-order="stroke""##;

/// The unit of the bars.
const UNIT: &str = "nginx";

/// Bars of all cases in which nginx took part; none is an empty picture.
pub(crate) fn svg(cases: &[CaseReport], below: &str) -> String {
    let cases: Vec<(&CaseReport, f64)> = cases.iter().filter_map(|case| Some((case, unit(case)?))).collect();
    let bars: usize = cases.iter().map(|(case, _)| case.rows.len()).sum();
    let height = TOP + BAR * bars as f64 + GAP * cases.len() as f64 + BOTTOM;
    let ratios = cases.iter().flat_map(|(case, unit)| case.rows.iter().map(move |row| row.median.cpu_us / unit));
    let scale = (WIDTH - LEFT - RIGHT) / ratios.fold(1.0, f64::max).min(MOST);
    let mut picture = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#222">
<rect width="100%" height="100%" fill="#fff"/>
<text x="16" y="24" font-size="16" font-weight="bold">CPU time per request, compared with nginx</text>
<text x="16" y="42" fill="#666">Shorter is better. On each bar: microseconds, and how many times nginx's.</text>
"##
    );
    let (one, end) = (LEFT + scale, height - BOTTOM);
    line(&mut picture, format_args!(r##"<path d="M{one:.1} {TOP}V{end:.1}" stroke="#222" stroke-dasharray="2 3"/>"##));
    let mut y = TOP;
    for (case, unit) in &cases {
        let middle = y + BAR * case.rows.len() as f64 / 2.0 + 4.0;
        let name = escape(&case.name);
        line(&mut picture, format_args!(r##"<text x="16" y="{middle:.1}" font-weight="bold">{name}</text>"##));
        for row in &case.rows {
            bar(&mut picture, y, row.name, row.median.cpu_us, *unit, scale);
            y += BAR;
        }
        y += GAP;
    }
    let (below, at) = (escape(below), height - 10.0);
    line(&mut picture, format_args!(r##"<text x="16" y="{at:.1}" font-size="10" fill="#666">{below}</text>"##));
    picture.push_str("</svg>\n");
    picture
}

fn unit(case: &CaseReport) -> Option<f64> {
    let row = case.rows.iter().find(|row| row.name == UNIT)?;
    Some(row.median.cpu_us)
}

fn bar(picture: &mut String, y: f64, name: &str, cpu_us: f64, unit: f64, scale: f64) {
    let ratio = cpu_us / unit;
    let (length, colour) = (ratio.min(MOST) * scale, colour(name));
    let (thick, text_y) = (BAR - 2.0, y + BAR - 4.0);
    line(
        picture,
        format_args!(r##"<rect x="{LEFT}" y="{y:.1}" width="{length:.1}" height="{thick}" fill="{colour}"/>"##),
    );
    let beside = LEFT + length + 5.0;
    let figures = format!("{name} {cpu_us:.1} µs ({ratio:.2})");
    line(picture, format_args!(r##"<text x="{beside:.1}" y="{text_y:.1}" font-size="10" {OUTLINE}>{figures}</text>"##));
}

/// Told apart by those who see no red or green, too.
fn colour(name: &str) -> &'static str {
    match name {
        "everpage" => "#0072b2",
        "nginx" => "#888888",
        "nginx, sendfile" => "#aaaaaa",
        "nginx, as usual" => "#bbbbbb",
        "Varnish" => "#cccccc",
        _ => "#e69f00",
    }
}

fn line(picture: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(picture, "{text}").expect("a string can be written to");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
