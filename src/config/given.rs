//! What stands at a key before it means anything, and where it stands.
//!
//! Files give typed TOML values, variables and options give plain words: here they become one type. It never knows
//! which key it is about.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// A value as it was written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Of the environment or the command line: what they mean depends on the key.
    Words(String),
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Given>),
    /// What no key takes, by its name.
    Other(&'static str),
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A value: bytes of the file.
    File(Range<usize>),
    /// A name that is not known, so that nobody knows whether its value is a secret: bytes of the file.
    Name(Range<usize>),
    /// An environment variable.
    Variable(String),
    /// An option of the command line.
    Option(String),
}

/// What is wrong at a place, in one sentence, and what would be right.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) place: Place,
    pub(super) what: String,
    pub(super) expected: String,
}

/// All that is wrong with a value: a list may hold several mistakes.
pub(super) type Problems = Vec<Problem>;

impl Given {
    /// A value of a file.
    pub(super) fn from_file(value: &Spanned<DeValue<'_>>) -> Given {
        Given::from_toml(value, &Place::File)
    }

    /// Words of the environment or the command line.
    pub(super) fn from_words(words: &str, place: Place) -> Given {
        Given { value: Value::Words(words.trim().to_owned()), place }
    }

    /// The words as a TOML array. `None`: they do not look like one.
    pub(super) fn as_array(&self) -> Option<Result<Given, Problem>> {
        let Value::Words(words) = &self.value else { return None };
        words.starts_with('[').then(|| match DeValue::parse(words) {
            Ok(array) => Ok(Given::from_toml(&array, &|_| self.place.clone())),
            Err(error) => Err(Problem {
                place: self.place.clone(),
                what: format!("{} is not a TOML array: {}", quoted(words), error.message()),
                expected: r#"an array such as ["a", "b"], or a, b"#.to_owned(),
            }),
        })
    }

    /// The text of a value that is made of text.
    pub(super) fn text(&self, expected: &str) -> Result<&str, Problems> {
        match &self.value {
            Value::Words(text) | Value::Text(text) => Ok(text),
            _ => Err(self.mistyped(expected)),
        }
    }

    /// "This is wrong with it, and that would be right."
    pub(super) fn wrong(&self, what: impl Into<String>, expected: &str) -> Problems {
        vec![Problem { place: self.place.clone(), what: what.into(), expected: expected.to_owned() }]
    }

    /// "It is of another type."
    pub(super) fn mistyped(&self, expected: &str) -> Problems {
        self.wrong(format!("found {}", self.value.name()), expected)
    }

    fn from_toml(value: &Spanned<DeValue<'_>>, place: &dyn Fn(Range<usize>) -> Place) -> Given {
        let read = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map_or(Value::Other("an integer out of any range"), Value::Integer),
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Array(items) => Value::List(items.iter().map(|item| Given::from_toml(item, place)).collect()),
            DeValue::Float(_) => Value::Other("a float"),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Table(_) => Value::Other("a table"),
        };
        Given { value: read, place: place(value.span()) }
    }
}

impl Value {
    fn name(&self) -> &'static str {
        match self {
            Value::Words(_) | Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Boolean(_) => "a boolean",
            Value::List(_) => "a list",
            Value::Other(name) => name,
        }
    }
}

/// Text inside a message: in backticks, on one line, not endless.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 80;
    let mut shown: String = text.chars().take(MOST).map(printable).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// A terminal must not obey what a file says.
pub(super) fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        control if control.is_control() => '\u{fffd}',
        other => other,
    }
}
