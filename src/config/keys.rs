//! Which settings are there? One line each, in the order of the file: where it goes and what may stand there.
//!
//! The only list of keys: the names, the errors, the suggestions, the variables and the JSON come from here.

use serde_json::Value as Json;

use super::given::{Given, Problems};
use super::kinds::{Choice, Count, DAY, HOUR, KIB, Kind, List, MIB, OneOrMore, Or, SECOND, Size, Switch, TIB, Time};
use super::words::{
    ADDRESS, CA_FILE, FLAVOR, FOLDER, GLOB, HOST, KEY_HEADER, LEVEL, METHOD, NETWORK, ORIGIN_URL, PATTERN, Status,
    TOKEN, TOKEN_FILE,
};
use super::{Config, Lifetime, LogFormat, QueryPolicy, StoreKind, UnkeyedHeaders};

/// A setting.
pub(super) struct Key {
    /// Sections and name, with dots between.
    pub(super) name: &'static str,
    /// Puts a value into its place, or says all that is wrong with it.
    pub(super) read: fn(&mut Config, &Given) -> Result<(), Problems>,
    /// As one would write it in a file; `None`: it is only another way to set another key.
    pub(super) show: fn(&Config) -> Option<Json>,
}

/// Sections that later versions will know.
pub(super) const LATER_SECTIONS: &[&str] = &[];

/// `http` reads no longer request target.
const LONGEST_TARGET: usize = u16::MAX as usize - 1;

/// From a path of fields and a kind to a [`Key`]: name and field cannot differ.
macro_rules! key {
    ($head:ident $(. $rest:ident)*, $kind:expr) => {
        Key {
            name: concat!(stringify!($head) $(, ".", stringify!($rest))*),
            read: |config, given| {
                config.$head $(.$rest)* = $kind.read(given)?;
                Ok(())
            },
            show: |config| Some($kind.show(&config.$head $(.$rest)*)),
        }
    };
}

/// The token again, from a file.
const ADMIN_TOKEN_FILE: Key = Key {
    name: "admin.token_file",
    read: |config, given| {
        if let Some(token) = TOKEN_FILE.read(given)? {
            config.admin.token = token;
        }
        Ok(())
    },
    show: |_| None,
};

/// All of them.
pub(super) const KEYS: &[Key] = &[
    key!(listen, ADDRESS),
    key!(hosts, list(HOST)),
    key!(purge_from, list(NETWORK)),
    key!(trusted_proxies, list(NETWORK)),
    key!(limits.connections, Count(1, 1_000_000)),
    // hyper's read buffer cannot be smaller.
    key!(limits.head_bytes, Size(8 * KIB as usize, MIB as usize)),
    key!(limits.head_fields, Count(1, 1000)),
    key!(limits.target_bytes, Size(1, LONGEST_TARGET)),
    key!(limits.body_bytes, Or { kind: Size(1, TIB), none: "unlimited" }),
    key!(limits.head_timeout, Time(1, HOUR)),
    key!(limits.idle_timeout, Time(1, DAY)),
    key!(limits.drain_timeout, Time(0, HOUR)),
    key!(origin.url, ORIGIN_URL),
    key!(origin.connect_timeout, Time(1, 300 * SECOND)),
    key!(origin.first_byte_timeout, Time(1, HOUR)),
    key!(origin.idle_timeout, Time(1, HOUR)),
    key!(origin.max_requests, Count(1, 100_000)),
    key!(origin.pool_idle, Count(0, 100_000)),
    key!(origin.pool_idle_timeout, Time(1, HOUR)),
    key!(origin.preserve_host, Switch),
    key!(origin.ca_file, CA_FILE),
    key!(origin.verify, Switch),
    key!(cache.ignore, OneOrMore(list(PATTERN))),
    key!(cache.methods, List { item: METHOD, least: 1 }),
    key!(cache.statuses, List { item: Status, least: 1 }),
    key!(cache.lifetime, LIFETIME),
    key!(cache.query, QUERY),
    key!(cache.ignored_params, list(GLOB)),
    key!(cache.bypass_cookies, list(GLOB)),
    key!(cache.key_headers, list(KEY_HEADER)),
    key!(cache.unkeyed_headers, UNKEYED_HEADERS),
    key!(cache.honor_reload, Switch),
    key!(cache.max_variants, Count(1, 10_000)),
    key!(cache.max_body, Size(1, 5 * TIB)),
    key!(cache.max_temporary_bytes, Size(1, 1024 * TIB)),
    key!(cache.max_fill_bytes, Size(1, TIB)),
    key!(cache.uncacheable_for, Time(0, DAY)),
    key!(cache.flavor, FLAVOR),
    key!(cache.version, Count(1, u32::MAX)),
    key!(store.kind, STORE_KIND),
    key!(store.filesystem.path, FOLDER),
    key!(store.filesystem.max_bytes, Size(MIB, 1024 * TIB)),
    key!(memory.capacity, Size(0, 16 * TIB)),
    key!(admin.listen, ADDRESS),
    key!(admin.token, TOKEN),
    ADMIN_TOKEN_FILE,
    key!(log.level, LEVEL),
    key!(log.format, LOG_FORMAT),
    key!(log.access, Switch),
];

const LIFETIME: Choice<Lifetime> =
    Choice { words: &[("forever", Lifetime::Forever), ("origin", Lifetime::Origin)], later: &[] };

const QUERY: Choice<QueryPolicy> = Choice {
    words: &[("include", QueryPolicy::Include), ("ignore", QueryPolicy::Ignore), ("bypass", QueryPolicy::Bypass)],
    later: &[],
};

const UNKEYED_HEADERS: Choice<UnkeyedHeaders> =
    Choice { words: &[("forward", UnkeyedHeaders::Forward), ("drop", UnkeyedHeaders::Drop)], later: &[] };

const STORE_KIND: Choice<StoreKind> = Choice {
    words: &[("filesystem", StoreKind::Filesystem), ("s3", StoreKind::S3), ("memory", StoreKind::Memory)],
    later: &[],
};

const LOG_FORMAT: Choice<LogFormat> =
    Choice { words: &[("text", LogFormat::Text), ("json", LogFormat::Json)], later: &[] };

const fn list<K>(item: K) -> List<K> {
    List { item, least: 0 }
}

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Are there keys below this name?
pub(super) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| is_below(key.name, name))
}

/// Is this, or what it lies in, a section of a later version?
pub(super) fn is_later(name: &str) -> bool {
    LATER_SECTIONS.iter().any(|section| name == *section || is_below(name, section))
}

fn is_below(name: &str, section: &str) -> bool {
    name.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// The candidate that was most likely meant: the same last word elsewhere, or few letters changed.
pub(super) fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    candidates
        .map(|candidate| (last(name) != last(candidate), distance(name, candidate), candidate))
        .filter(|(differs, distance, _)| !differs || *distance <= 1 + name.len() / 4)
        .min_by_key(|(differs, distance, _)| (*differs, *distance))
        .map(|(_, _, candidate)| candidate)
}

fn last(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

/// Letters to insert, delete or change (Levenshtein's distance), row by row.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in to.bytes().enumerate() {
            let changed = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}
