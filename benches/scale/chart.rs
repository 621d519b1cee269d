//! Pictures: lines over a logarithmic scale, as SVG, legible on light and dark pages.

use std::fmt::Write as _;

use serde::Serialize;

/// Lines in one picture.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Chart {
    /// Of the file, without its ending.
    pub(crate) name: &'static str,
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) scale: Scale,
    pub(crate) lines: Vec<Line>,
    /// What is meant to be reached, drawn dashed.
    pub(crate) goal: Option<f64>,
}

/// How the numbers below are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Scale {
    Logarithmic,
    Linear,
}

/// One line, and the points it goes through.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
/// Right of the lines stand their names.
const RIGHT: f64 = 190.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 50.0;
/// Names of lines are no closer than this.
const NAME_HEIGHT: f64 = 15.0;

/// Told apart by those who see no red or green, too (Okabe and Ito), on white and on black.
const COLOURS: [&str; 7] = ["#1a80c0", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#888888"];

const STYLE: &str = "<style>.ground{fill:#fff}.text{fill:#222}.soft{fill:#666}.axis{stroke:#222}.grid{stroke:#ddd}\
@media (prefers-color-scheme:dark){.ground{fill:#0d1117}.text{fill:#e6edf3}.soft{fill:#9aa4af}.axis{stroke:#e6edf3}.grid{stroke:#30363d}}</style>";

impl Chart {
    /// The picture. Nothing to draw is an empty one.
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter().copied());
        let (first, last) = points().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| (low.min(x), high.max(x)));
        let highest = points().map(|(_, y)| y).chain(self.goal).fold(f64::MIN_POSITIVE, f64::max);
        let step = step(highest);
        let steps = (highest / step).ceil();
        let place = |x: f64, y: f64| {
            let share = match self.scale {
                Scale::Logarithmic => (x / first).ln() / (last / first).ln(),
                Scale::Linear => (x - first) / (last - first),
            };
            let share = if share.is_finite() { share } else { 0.5 };
            let across = LEFT + share * (WIDTH - LEFT - RIGHT);
            (across, HEIGHT - BOTTOM - y / (steps * step) * (HEIGHT - TOP - BOTTOM))
        };
        let mut picture = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
{STYLE}<rect class="ground" width="100%" height="100%"/>
<text class="text" x="16" y="24" font-size="16" font-weight="bold">{}</text>
<text class="soft" x="16" y="42">{}</text>
"##,
            escape(&self.title),
            escape(self.y)
        );
        self.draw_axes(&mut picture, &place, (first, last), (steps, step));
        if let Some(goal) = self.goal {
            let (end, y) = (WIDTH - RIGHT, place(first, goal).1);
            put(
                &mut picture,
                format_args!(r##"<path class="axis" d="M{LEFT} {y:.1}H{end}" stroke-dasharray="5 4"/>"##),
            );
            let below = y + 15.0;
            put(
                &mut picture,
                format_args!(r##"<text class="soft" x="76" y="{below:.1}">goal: {}</text>"##, short(goal)),
            );
        }
        self.draw_lines(&mut picture, &place);
        picture.push_str("</svg>\n");
        picture
    }

    fn draw_axes(
        &self,
        picture: &mut String,
        place: &impl Fn(f64, f64) -> (f64, f64),
        (first, last): (f64, f64),
        (steps, step): (f64, f64),
    ) {
        let end = WIDTH - RIGHT;
        for number in 0..=steps as usize {
            let value = number as f64 * step;
            let (y, class) = (place(first, value).1, if number == 0 { "axis" } else { "grid" });
            put(picture, format_args!(r##"<path class="{class}" d="M{LEFT} {y:.1}H{end}"/>"##));
            let (at, value) = (y + 4.0, short(value));
            put(picture, format_args!(r##"<text class="text" x="62" y="{at:.1}" text-anchor="end">{value}</text>"##));
        }
        let mut marks: Vec<f64> = self.lines.iter().flat_map(|line| line.points.iter().map(|(x, _)| *x)).collect();
        if self.scale == Scale::Linear {
            let step = crate::chart::step(last);
            marks = (0..=(last / step) as usize).map(|number| number as f64 * step).filter(|x| *x >= first).collect();
        }
        marks.sort_by(f64::total_cmp);
        let mut free_from = f64::MIN;
        for mark in marks {
            let (x, y) = (place(mark, 0.0).0, HEIGHT - BOTTOM + 18.0);
            if x < free_from {
                continue;
            }
            free_from = x + 34.0;
            let mark = short(mark);
            put(picture, format_args!(r##"<text class="text" x="{x:.1}" y="{y}" text-anchor="middle">{mark}</text>"##));
        }
        let (middle, y) = (f64::midpoint(LEFT, end), HEIGHT - 12.0);
        let x = escape(self.x);
        put(picture, format_args!(r##"<text class="soft" x="{middle}" y="{y}" text-anchor="middle">{x}</text>"##));
    }

    fn draw_lines(&self, picture: &mut String, place: &impl Fn(f64, f64) -> (f64, f64)) {
        let mut ends = Vec::new();
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let mut path = String::new();
            for (at, (x, y)) in line.points.iter().enumerate() {
                let ((x, y), command) = (place(*x, *y), if at == 0 { 'M' } else { 'L' });
                write!(path, "{command}{x:.1} {y:.1}").expect("a string can be written to");
                if line.points.len() < 15 {
                    put(picture, format_args!(r##"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{colour}"/>"##));
                }
            }
            put(picture, format_args!(r##"<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>"##));
            if let Some((x, y)) = line.points.last() {
                ends.push((place(*x, *y).1, *y, line, colour));
            }
        }
        ends.sort_by(|one, other| one.0.total_cmp(&other.0));
        // Names that would cover each other move down; what would fall below the axis pushes the others up.
        let room = HEIGHT - BOTTOM - NAME_HEIGHT * ends.len().saturating_sub(1) as f64;
        let mut free_from = f64::MIN;
        for (number, (y, value, line, colour)) in ends.into_iter().enumerate() {
            let y = y.min(room + NAME_HEIGHT * number as f64).max(free_from);
            free_from = y + NAME_HEIGHT;
            let (x, y, name, value) = (WIDTH - RIGHT + 10.0, y + 4.0, escape(&line.name), short(value));
            put(picture, format_args!(r##"<text x="{x}" y="{y:.1}" fill="{colour}">{name}: {value}</text>"##));
        }
    }
}

/// A round number, of which five or so make up the height.
fn step(highest: f64) -> f64 {
    let ten = 10f64.powf((highest / 5.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|times| times * ten).into_iter().find(|step| highest / step <= 6.0).unwrap_or(10.0 * ten)
}

/// 1500 is 1.5k.
pub(crate) fn short(number: f64) -> String {
    let (number, unit) = match number.abs() {
        1e6.. => (number / 1e6, "M"),
        1e4.. => (number / 1e3, "k"),
        _ => (number, ""),
    };
    let digits = if number.abs() >= 100.0 || number.fract() == 0.0 {
        0
    } else if number.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{number:.digits$}{unit}")
}

fn put(picture: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(picture, "{text}").expect("a string can be written to");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
