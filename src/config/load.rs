//! Which value holds? Default, file, environment, command line: the later one. And do the values fit together?
//!
//! It never stops at the first mistake.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::given::{Given, Place, Problem, Value};
use super::keys::{KEYS, Key};
use super::{Config, ConfigError, ConfigErrors, environment, file};

/// The file that is taken from the current folder, if it is there.
const USUAL_FILE: &str = "config.toml";

/// More would help nobody.
const MOST_MISTAKES: usize = 100;

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file of `--config`, which must exist. `None`: `config.toml` of the current folder if there is one.
    pub file: Option<PathBuf>,
    /// Names and values, usually [`super::variables`].
    pub environment: Vec<(String, String)>,
    /// From the command line: keys with their sections (`origin.url`) and values.
    pub overrides: Vec<(&'static str, String)>,
}

/// A configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Default, then file, then environment, then command line.
    ///
    /// # Errors
    /// All mistakes of all sources at once (the first 100); exit code 64.
    pub fn load(sources: Sources) -> Result<Loaded, ConfigErrors> {
        let Sources { file, environment, overrides } = sources;
        let is_optional = file.is_none();
        let path = file.unwrap_or_else(|| PathBuf::from(USUAL_FILE));
        let text = match environment::read(&path) {
            Ok(text) => Some(text),
            Err(error) if is_optional && error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(ConfigErrors(vec![ConfigError::unreadable(&path, &error)])),
        };
        let config = assemble(text.as_deref().map(|text| (path.as_path(), text)), &environment, &overrides)?;
        Ok(Loaded { config, file: text.map(|_| path) })
    }

    /// As `config.toml` would say it, secrets as `"…"`.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut root = Json::Object(serde_json::Map::new());
        for key in KEYS {
            if let Some(value) = (key.show)(self) {
                let place = key.name.split('.').fold(&mut root, |object, name| &mut object[name]);
                *place = value;
            }
        }
        root
    }
}

/// [`Config::load`] after the file has been read. `document`: its path, for messages, and its text.
pub(super) fn assemble(
    document: Option<(&Path, &str)>,
    variables: &[(String, String)],
    overrides: &[(&'static str, String)],
) -> Result<Config, ConfigErrors> {
    let mut layers = Layers::default();
    if let Some((_, text)) = document {
        layers.put(file::from_text(text));
    }
    layers.put(environment::from_variables(variables));
    layers.put(environment::from_options(overrides));
    // A name that is not known, or a text that is not TOML, may be what a comparison would miss.
    if layers.problems.iter().all(|(key, _)| key.is_some()) {
        layers.compare();
    }
    layers.problems.truncate(MOST_MISTAKES);
    if layers.problems.is_empty() {
        return Ok(layers.config);
    }
    let errors = layers.problems.into_iter().map(|(key, problem)| ConfigError::new(key, problem, document));
    let mut errors: Vec<ConfigError> = errors.collect();
    errors.sort_by_key(ConfigError::order);
    Err(ConfigErrors(errors))
}

#[derive(Default)]
struct Layers {
    config: Config,
    /// Where the value that holds was given.
    places: HashMap<&'static str, Place>,
    /// Keys with a mistake: nothing is compared with them.
    failed: HashSet<&'static str>,
    problems: Vec<(Option<&'static str>, Problem)>,
}

impl Layers {
    /// One layer over those that are there, in the order of [`KEYS`], so that a token's file comes after the token.
    fn put(&mut self, (settings, problems): (Vec<(&'static Key, Given)>, Vec<Problem>)) {
        self.problems.extend(problems.into_iter().map(|problem| (None, problem)));
        self.problems.extend(two_tokens(&settings));
        for key in KEYS {
            for (_, given) in settings.iter().filter(|(given, _)| given.name == key.name) {
                self.places.insert(key.name, given.place.clone());
                if let Err(problems) = (key.read)(&mut self.config, given) {
                    self.failed.insert(key.name);
                    self.problems.extend(problems.into_iter().map(|problem| (Some(key.name), problem)));
                }
            }
        }
    }

    /// Are there values that do not fit together?
    fn compare(&mut self) {
        for rule in RULES {
            if rule.keys.iter().any(|key| self.failed.contains(key)) {
                continue;
            }
            let Some((what, expected)) = (rule.broken)(&self.config) else { continue };
            // Defaults fit together, so at least one of the keys was given.
            if let Some((key, place)) = rule.keys.iter().find_map(|key| self.places.get_key_value(key)) {
                self.problems.push((Some(key), Problem { place: place.clone(), what, expected: expected.to_owned() }));
            }
        }
    }
}

fn two_tokens(settings: &[(&'static Key, Given)]) -> Option<(Option<&'static str>, Problem)> {
    let is_set = |given: &Given| !matches!(&given.value, Value::Text(text) | Value::Words(text) if text.is_empty());
    let find = |name: &str| settings.iter().find(|(key, given)| key.name == name && is_set(given));
    find("admin.token")?;
    let (key, given) = find("admin.token_file")?;
    let what = "`admin.token` is set as well".to_owned();
    Some((Some(key.name), Problem { place: given.place.clone(), what, expected: "one of the two".to_owned() }))
}

/// Values that must fit together.
struct Rule {
    /// Whose: the mistake is told at the first that was given.
    keys: &'static [&'static str],
    /// What is wrong and what would be right; `None`: all is well.
    broken: fn(&Config) -> Option<(String, &'static str)>,
}

const RULES: &[Rule] = &[
    Rule {
        keys: &["admin.listen", "admin.token", "admin.token_file"],
        broken: |config| {
            let open = !config.admin.listen.ip().is_loopback() && config.admin.token.reveal().is_empty();
            let what = format!("`{}` can be reached from outside, and there is no token", config.admin.listen);
            open.then_some((what, "admin.token, admin.token_file or a loopback address"))
        },
    },
    Rule {
        keys: &["admin.listen", "listen"],
        broken: |config| {
            let what = format!("`{}` (listen) and `{}` (admin.listen) collide", config.listen, config.admin.listen);
            collide(config.listen, config.admin.listen).then_some((what, "two ports"))
        },
    },
    Rule {
        keys: &["origin.url", "listen"],
        broken: |config| {
            let authority = config.origin.url.authority()?.as_str().replace("localhost", "127.0.0.1");
            let origin: SocketAddr = authority.parse().ok()?;
            let what = format!("`{origin}` is where everpage itself listens");
            collide(config.listen, origin).then_some((what, "the address of the app behind"))
        },
    },
    Rule {
        keys: &["limits.target_bytes", "limits.head_bytes"],
        broken: |config| {
            let what = "a target longer than a whole head (limits.head_bytes)".to_owned();
            (config.limits.target_bytes > config.limits.head_bytes).then_some((what, "at most limits.head_bytes"))
        },
    },
    Rule {
        keys: &["cache.max_memory_size", "cache.max_fill_bytes"],
        broken: |config| {
            let what = "a body in memory larger than all fills together (cache.max_fill_bytes)".to_owned();
            let largest = config.cache.max_memory_size.min(config.cache.max_body);
            (largest > config.cache.max_fill_bytes).then_some((what, "at most cache.max_fill_bytes"))
        },
    },
    Rule {
        keys: &["cache.max_body", "cache.max_temporary_bytes"],
        broken: |config| {
            let what = "a body larger than all temporary files together (cache.max_temporary_bytes)".to_owned();
            let (largest, room) = (config.cache.max_body, config.cache.max_temporary_bytes);
            (largest > config.cache.max_memory_size && largest > room)
                .then_some((what, "at most cache.max_temporary_bytes"))
        },
    },
    Rule {
        keys: &["cache.max_body", "store.filesystem.max_bytes"],
        broken: |config| {
            let what = "a body larger than the whole store (store.filesystem.max_bytes)".to_owned();
            let larger = config.cache.max_body > config.store.filesystem.max_bytes;
            larger.then_some((what, "at most store.filesystem.max_bytes"))
        },
    },
];

/// Would the second of two listeners fail to bind?
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: SocketAddr, narrow: SocketAddr| {
        wide.ip() == narrow.ip() || wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one.port() != 0 && one.port() == other.port() && (covers(one, other) || covers(other, one))
}
