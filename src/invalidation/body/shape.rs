//! Which members and lists does a JSON body have? Read in one pass, bounded, without building a tree.
//!
//! It knows nothing of invalidations. A value of the wrong kind is kept as the name of its kind, so that whoever asks for it can
//! say what stands there instead.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{BodyError, Fault, MAX_SELECTORS, READ_AT_ONCE, shown};
use crate::background;

/// More members than anybody needs; what comes after is only counted.
const MAX_MEMBERS: usize = 32;

/// A value, as far as an invalidation can make use of it.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    List(List),
    Object(Members),
    /// The name of a kind that no member has: "a number", "null".
    Other(&'static str),
}

/// A list that should hold strings only.
#[derive(Debug, Default)]
pub(super) struct List {
    /// At most one more than [`MAX_SELECTORS`].
    texts: Vec<String>,
    /// The first element that is not a string, and what it is.
    wrong: Option<(usize, &'static str)>,
}

/// The members of an object, each key once.
#[derive(Debug, Default)]
pub(super) struct Members {
    kept: Vec<(String, Value)>,
    twice: Option<String>,
    too_many: bool,
}

/// Reads the whole body.
pub(super) fn read(body: &[u8]) -> Result<Value, BodyError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = Depth::Body.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    value.map_err(|error| Fault::NotJson.because(format!("the body is not JSON: {error}")))
}

impl Value {
    /// With its article, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a string",
            Value::Flag(_) => "a boolean",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
            Value::Other(kind) => kind,
        }
    }
}

impl List {
    /// The strings; `place` names the list in messages.
    pub(super) fn into_texts(self, place: &str) -> Result<Vec<String>, BodyError> {
        if let Some((at, kind)) = self.wrong {
            return Err(Fault::NotAString.because(format!("{place}[{at}] is {kind}; a string belongs there")));
        }
        Ok(self.texts)
    }
}

impl Members {
    /// Keys that appear twice would silently win over each other, and the pages of the loser would stay.
    pub(super) fn check(&self) -> Result<(), BodyError> {
        if let Some(key) = &self.twice {
            let key = shown(key);
            return Err(Fault::DuplicateKey.because(format!("{key} appears twice; give all its values in one place")));
        }
        if self.too_many {
            return Err(Fault::TooManyKeys.because(format!("the object has more than {MAX_MEMBERS} keys")));
        }
        Ok(())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.kept.iter().any(|(kept, _)| kept == key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().map(|(key, _)| key.as_str())
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        let at = self.kept.iter().position(|(kept, _)| kept == key)?;
        Some(self.kept.swap_remove(at).1)
    }

    /// The strings of a list; `None`: no such key.
    pub(super) fn list(&mut self, key: &str) -> Result<Option<Vec<String>>, BodyError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::List(list)) => list.into_texts(key).map(Some),
            Some(Value::Text(text)) => {
                let text = shown(&text);
                Err(Fault::NotAList.because(format!("`{key}` is a string; write a list: \"{key}\": [{text}]")))
            }
            Some(other) => Err(Fault::NotAList.because(format!("`{key}` is {}; a list belongs there", other.kind()))),
        }
    }

    /// A string; `None`: no such key.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, BodyError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => {
                let kind = other.kind();
                Err(Fault::NotAString.because(format!("`{key}` is {kind}; give a string or leave it out")))
            }
        }
    }

    /// A boolean; no such key is false.
    pub(super) fn flag(&mut self, key: &str) -> Result<bool, BodyError> {
        match self.take(key) {
            None => Ok(false),
            Some(Value::Flag(flag)) => Ok(flag),
            Some(other) => Err(Fault::NotABoolean.because(format!("`{key}` is {}; give true or false", other.kind()))),
        }
    }
}

/// How deep a value stands. What could not be used there is skipped, not kept: memory stays in proportion to what is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// The body itself: a list or an object.
    Body,
    /// The value of a member: a list at most.
    Member,
    /// An element of a list: neither.
    Element,
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other("null"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        if self == Depth::Element {
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::Other("a list"));
        }
        let mut list = List::default();
        let mut at = 0;
        while let Some(element) = elements.next_element_seed(Depth::Element)? {
            match element {
                Value::Text(text) if list.texts.len() <= MAX_SELECTORS => list.texts.push(text),
                Value::Text(_) => {}
                other => list.wrong = list.wrong.or(Some((at, other.kind()))),
            }
            at += 1;
            if at.is_multiple_of(READ_AT_ONCE) {
                background::step_back();
            }
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        if self != Depth::Body {
            while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Value::Other("an object"));
        }
        let mut members = Members::default();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Depth::Member)?;
            if members.has(&key) {
                members.twice = Some(key);
            } else if members.kept.len() == MAX_MEMBERS {
                members.too_many = true;
            } else {
                members.kept.push((key, value));
            }
        }
        Ok(Value::Object(members))
    }
}
