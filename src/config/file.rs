//! Which settings does a file hold? TOML text becomes keys and values; what is no setting becomes a problem.
//!
//! It never judges a value.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::{Given, Place, Problem, quoted};
use super::keys::{self, KEYS, Key};

/// The settings of a text. After a mistake in the TOML itself nothing else of the text is believed.
pub(super) fn from_text(text: &str) -> (Vec<(&'static Key, Given)>, Vec<Problem>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut file = Settings::default();
    if errors.is_empty() {
        file.walk("", table.get_ref());
    }
    file.problems.extend(errors.into_iter().map(|error| Problem {
        place: Place::File(error.span().unwrap_or_default()),
        what: format!("this is not TOML: {}", error.message()),
        expected: String::new(),
    }));
    (file.settings, file.problems)
}

#[derive(Default)]
struct Settings {
    settings: Vec<(&'static Key, Given)>,
    problems: Vec<Problem>,
}

impl Settings {
    /// Recursion ends with the sections that are known: what is unknown is not entered.
    fn walk(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path =
                if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
            if let Some(key) = keys::find(&path) {
                self.settings.push((key, Given::from_file(value)));
            } else if !keys::is_section(&path) {
                self.unknown(&path, name);
            } else if let DeValue::Table(table) = value.get_ref() {
                self.walk(&path, table);
            } else {
                let what = format!("`{path}` is a section, not a value");
                self.problem(name, what, format!("[{path}] and its keys below"));
            }
        }
    }

    fn unknown<T>(&mut self, path: &str, name: &Spanned<T>) {
        let sections = KEYS.iter().filter_map(|key| key.name.rsplit_once('.').map(|(section, _)| section));
        let meant = keys::closest(path, KEYS.iter().map(|key| key.name).chain(sections));
        let hint = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        self.problem(name, format!("unknown key {}{hint}", quoted(path)), String::new());
    }

    fn problem<T>(&mut self, name: &Spanned<T>, what: String, expected: String) {
        self.problems.push(Problem { place: Place::Name(name.span()), what, expected });
    }
}
