//! How is a value read, checked and shown? Numbers, sizes, times, choices and lists; text is in `words`.
//!
//! A kind knows nothing of keys: its bounds come from the table of keys.

use std::fmt::Display;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::given::{Given, Problem, Problems, Value, quoted};

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const TIB: u64 = 1 << 40;

/// Entries of the longest list: each of them is looked at for each request.
const MOST_ENTRIES: usize = 1000;

/// How a value is read and shown; what is shown can be read again.
pub(super) trait Kind {
    /// What it becomes.
    type Value;

    /// What would be right, to complete "expected: ".
    fn expected(&self) -> String;

    /// The value, or everything that is wrong with it.
    fn read(&self, given: &Given) -> Result<Self::Value, Problems>;

    /// As one would write it in a file.
    fn show(&self, value: &Self::Value) -> Json;
}

/// Yes or no.
pub(super) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn expected(&self) -> String {
        "true or false".to_owned()
    }

    fn read(&self, given: &Given) -> Result<bool, Problems> {
        match &given.value {
            Value::Boolean(boolean) => Ok(*boolean),
            Value::Words(words) => words
                .parse()
                .map_err(|_| given.wrong(format!("{} is neither true nor false", quoted(words)), &self.expected())),
            _ => Err(given.mistyped(&self.expected())),
        }
    }

    fn show(&self, value: &bool) -> Json {
        json!(value)
    }
}

/// A whole number, both bounds included.
pub(super) struct Count<T>(pub(super) T, pub(super) T);

impl<T> Kind for Count<T>
where
    T: Copy + Display + PartialOrd + Serialize + TryFrom<i64>,
{
    type Value = T;

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.0, self.1)
    }

    fn read(&self, given: &Given) -> Result<T, Problems> {
        let number = match &given.value {
            Value::Integer(number) => *number,
            Value::Words(words) => words.parse().map_err(|_| {
                given.wrong(format!("{} is not a whole number in range", quoted(words)), &self.expected())
            })?,
            _ => return Err(given.mistyped(&self.expected())),
        };
        T::try_from(number)
            .ok()
            .filter(|value| (self.0..=self.1).contains(value))
            .ok_or_else(|| given.wrong(format!("{number} is out of range"), &self.expected()))
    }

    fn show(&self, value: &T) -> Json {
        json!(value)
    }
}

/// A number of bytes, both bounds included. Only 0 needs no unit: `max_body = 64` may mean anything.
pub(super) struct Size<T>(pub(super) T, pub(super) T);

impl<T> Kind for Size<T>
where
    T: Copy + PartialOrd + TryFrom<u64> + TryInto<u64>,
{
    type Value = T;

    fn expected(&self) -> String {
        format!("a size from \"{}\" to \"{}\"", show_size(self.0), show_size(self.1))
    }

    fn read(&self, given: &Given) -> Result<T, Problems> {
        let text = match &given.value {
            Value::Integer(0) => "0",
            Value::Integer(_) => return Err(given.wrong("the unit is missing", &self.expected())),
            _ => given.text(&self.expected())?,
        };
        if text != "0" && text.ends_with(|last: char| last.is_ascii_digit()) {
            return Err(given.wrong(format!("the unit of {} is missing", quoted(text)), &self.expected()));
        }
        let size: ByteSize =
            text.parse().map_err(|_| given.wrong(format!("{} is not a size", quoted(text)), &self.expected()))?;
        T::try_from(size.as_u64())
            .ok()
            .filter(|value| (self.0..=self.1).contains(value))
            .ok_or_else(|| given.wrong(format!("{} is out of range", quoted(text)), &self.expected()))
    }

    fn show(&self, value: &T) -> Json {
        Json::from(show_size(*value))
    }
}

/// In the largest binary unit that leaves no remainder: exact, and what [`Size`] reads.
fn show_size<T: TryInto<u64>>(size: T) -> String {
    let bytes: u64 = size.try_into().unwrap_or(u64::MAX);
    [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes} B"), |(unit, name)| format!("{} {name}", bytes / unit))
}

/// A kind, or one word for "none".
pub(super) struct Or<K> {
    pub(super) kind: K,
    pub(super) none: &'static str,
}

impl<K: Kind> Kind for Or<K> {
    type Value = Option<K::Value>;

    fn expected(&self) -> String {
        format!("\"{}\", or {}", self.none, self.kind.expected())
    }

    fn read(&self, given: &Given) -> Result<Self::Value, Problems> {
        match &given.value {
            Value::Words(text) | Value::Text(text) if text == self.none => Ok(None),
            _ => self.kind.read(given).map(Some).map_err(|problems| {
                problems.into_iter().map(|problem| Problem { expected: self.expected(), ..problem }).collect()
            }),
        }
    }

    fn show(&self, value: &Self::Value) -> Json {
        value.as_ref().map_or_else(|| json!(self.none), |value| self.kind.show(value))
    }
}

/// A duration in milliseconds, both bounds included.
pub(super) struct Time(pub(super) u64, pub(super) u64);

pub(super) const SECOND: u64 = 1000;
pub(super) const HOUR: u64 = 3600 * SECOND;
pub(super) const DAY: u64 = 24 * HOUR;

impl Kind for Time {
    type Value = Duration;

    fn expected(&self) -> String {
        let [low, high] = [self.0, self.1].map(|bound| humantime::format_duration(Duration::from_millis(bound)));
        format!("a duration from \"{low}\" to \"{high}\"")
    }

    fn read(&self, given: &Given) -> Result<Duration, Problems> {
        let text = given.text(&self.expected())?;
        let duration = humantime::parse_duration(text)
            .map_err(|error| given.wrong(format!("{} is not a duration: {error}", quoted(text)), &self.expected()))?;
        (Duration::from_millis(self.0)..=Duration::from_millis(self.1))
            .contains(&duration)
            .then_some(duration)
            .ok_or_else(|| given.wrong(format!("{} is out of range", quoted(text)), &self.expected()))
    }

    fn show(&self, value: &Duration) -> Json {
        Json::from(humantime::format_duration(*value).to_string())
    }
}

/// One of a few words.
pub(super) struct Choice<T: 'static> {
    pub(super) words: &'static [(&'static str, T)],
}

impl<T: Copy + PartialEq> Kind for Choice<T> {
    type Value = T;

    fn expected(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let (last, others) = words.split_last().expect("a choice has words");
        format!("{} or {last}", others.join(", "))
    }

    fn read(&self, given: &Given) -> Result<T, Problems> {
        let text = given.text(&self.expected())?;
        self.words
            .iter()
            .find_map(|(word, value)| (*word == text).then_some(*value))
            .ok_or_else(|| given.wrong(format!("unknown word {}", quoted(text)), &self.expected()))
    }

    fn show(&self, value: &T) -> Json {
        self.words.iter().find(|(_, known)| known == value).map_or(Json::Null, |(word, _)| json!(word))
    }
}

/// Any number of a kind, within a bound; in words: an array as in TOML, or separated by commas.
pub(super) struct List<K> {
    pub(super) item: K,
    pub(super) least: usize,
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn expected(&self) -> String {
        format!("a list; each entry: {}", self.item.expected())
    }

    fn read(&self, given: &Given) -> Result<Self::Value, Problems> {
        let parsed;
        let items = match (&given.value, given.as_array()) {
            (Value::List(items), _) => items,
            (_, Some(array)) => match array.map_err(|problem| vec![problem])?.value {
                Value::List(items) => {
                    parsed = items;
                    &parsed
                }
                _ => return Err(given.mistyped(&self.expected())),
            },
            (Value::Words(words), None) => {
                let entries = words.split(',').map(str::trim).filter(|entry| !entry.is_empty());
                parsed = entries.map(|entry| Given::from_words(entry, given.place.clone())).collect();
                &parsed
            }
            _ => return Err(given.mistyped(&self.expected())),
        };
        if !(self.least..=MOST_ENTRIES).contains(&items.len()) {
            let expected = format!("from {} to {MOST_ENTRIES} entries", self.least);
            return Err(given.wrong(format!("{} entries", items.len()), &expected));
        }
        collect(items.iter().map(|item| self.item.read(item)))
    }

    fn show(&self, values: &Self::Value) -> Json {
        values.iter().map(|value| self.item.show(value)).collect()
    }
}

/// All values, or the problems of all that have some.
fn collect<T>(results: impl Iterator<Item = Result<T, Problems>>) -> Result<Vec<T>, Problems> {
    let (mut values, mut problems) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

/// A list, or one entry without brackets. One entry in words is never split: a comma may be part of it.
pub(super) struct OneOrMore<K>(pub(super) List<K>);

impl<K: Kind> Kind for OneOrMore<K> {
    type Value = Vec<K::Value>;

    fn expected(&self) -> String {
        format!("one entry or a list; each entry: {}", self.0.item.expected())
    }

    fn read(&self, given: &Given) -> Result<Self::Value, Problems> {
        match &given.value {
            Value::Text(_) => Ok(vec![self.0.item.read(given)?]),
            Value::Words(words) if !words.is_empty() && !is_array_of_text(words) => Ok(vec![self.0.item.read(given)?]),
            Value::Words(_) | Value::List(_) => self.0.read(given),
            _ => Err(given.mistyped(&self.expected())),
        }
    }

    fn show(&self, values: &Self::Value) -> Json {
        self.0.show(values)
    }
}

/// `["a"]` and `[]`, but not the regex `[ab]`.
fn is_array_of_text(words: &str) -> bool {
    let inside = words.strip_prefix('[').map(str::trim_start);
    inside.is_some_and(|inside| inside.starts_with(['"', '\'', ']']))
}
