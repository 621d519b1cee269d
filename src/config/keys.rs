//! Which settings are there? One line each, in the order of the file: where it goes and what may stand there.
//!
//! The only list of keys: the names, the errors, the suggestions, the variables and the JSON come from here.

use serde_json::Value as Json;

use super::given::{Given, Problems};
use super::kinds::{
    Choice, Count, DAY, GIB, HOUR, KIB, Kind, List, MIB, OneOrMore, Or, SECOND, Size, Switch, TIB, Time,
};
use super::s3_words::{
    ACCESS_KEY, ACCOUNT, ADDRESSING_STYLES, BUCKET, BUCKET_ACL, COMPRESSIONS, DOMAIN, ENCRYPTION, ENDPOINT,
    EXPORT_PREFIX, FIELD_VALUE, KMS_KEY, LOCATION, MEDIA_TYPE, NODE_URL, OBJECT_ACL, OUTAGES, PROFILE, PROXY, REGION,
    REQUEST_PAYER, SECRET_KEY, SESSION_TOKEN, STORAGE_CLASS, TAGGING,
};
use super::words::{
    ADDRESS, CA_FILE, FLAVOR, FOLDER, GLOB, HOST, KEY_HEADER, LEVEL, METHOD, NETWORK, OPTIONAL_FOLDER, ORIGIN_URL,
    PATTERN, SecretFile, Status, TOKEN,
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

/// A secret again, from a file: `token` from `token_file`.
macro_rules! file_of {
    ($head:ident $(. $rest:ident)*, $kind:expr) => {
        Key {
            name: concat!(stringify!($head) $(, ".", stringify!($rest))*, "_file"),
            read: |config, given| {
                if let Some(secret) = SecretFile($kind).read(given)? {
                    config.$head $(.$rest)* = secret;
                }
                Ok(())
            },
            show: |_| None,
        }
    };
}

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
    key!(cache.max_memory_size, Size(64 * KIB, 4 * GIB)),
    key!(cache.max_temporary_bytes, Size(1, 1024 * TIB)),
    key!(cache.temporary_folder, OPTIONAL_FOLDER),
    key!(cache.max_fill_bytes, Size(1, TIB)),
    key!(cache.uncacheable_for, Time(0, DAY)),
    // A page that is invalidated more often is never kept: longer is a mistake, not a replica.
    key!(cache.settle, Time(0, 600 * SECOND)),
    key!(cache.flavor, FLAVOR),
    key!(cache.version, Count(1, u32::MAX)),
    key!(store.kind, STORE_KIND),
    key!(store.filesystem.path, FOLDER),
    key!(store.filesystem.max_bytes, Size(MIB, 1024 * TIB)),
    key!(store.s3.bucket, BUCKET),
    key!(store.s3.location, LOCATION),
    key!(store.s3.region, REGION),
    key!(store.s3.endpoint_url, ENDPOINT),
    key!(store.s3.addressing_style, choice(ADDRESSING_STYLES)),
    key!(store.s3.access_key, ACCESS_KEY),
    file_of!(store.s3.access_key, ACCESS_KEY),
    key!(store.s3.secret_key, SECRET_KEY),
    file_of!(store.s3.secret_key, SECRET_KEY),
    key!(store.s3.session_token, SESSION_TOKEN),
    file_of!(store.s3.session_token, SESSION_TOKEN),
    key!(store.s3.profile, PROFILE),
    key!(store.s3.ca_file, CA_FILE),
    key!(store.s3.verify, Switch),
    key!(store.s3.proxy, PROXY),
    key!(store.s3.expected_bucket_owner, ACCOUNT),
    key!(store.s3.create_bucket, Switch),
    key!(store.s3.bucket_acl, BUCKET_ACL),
    key!(store.s3.default_acl, OBJECT_ACL),
    key!(store.s3.storage_class, STORAGE_CLASS),
    key!(store.s3.encryption, ENCRYPTION),
    key!(store.s3.kms_key_id, KMS_KEY),
    key!(store.s3.compress, choice(COMPRESSIONS)),
    key!(store.s3.compress_types, list(MEDIA_TYPE)),
    key!(store.s3.connect_timeout, Time(1, 300 * SECOND)),
    key!(store.s3.read_timeout, Time(1, 300 * SECOND)),
    key!(store.s3.attempts, Count(1, 10)),
    key!(store.s3.max_requests, Count(1, 10_000)),
    // S3 takes no smaller part; parts are held in memory.
    key!(store.s3.part_size, Size(5 * MIB, 128 * MIB)),
    key!(store.s3.max_entries, Or { kind: Count(1, 1_000_000_000_000), none: "unlimited" }),
    key!(store.s3.max_bytes, Or { kind: Size(MIB, 1024 * TIB), none: "unlimited" }),
    key!(store.s3.cull_frequency, Count(1, 1_000_000)),
    key!(store.s3.sweep_interval, Time(0, 365 * DAY)),
    // More deletions in a second are more than S3 takes below one prefix.
    key!(store.s3.sweep_rate, Count(1, 3500)),
    key!(store.s3.sweep_old_versions_after, Time(0, 3650 * DAY)),
    key!(store.s3.export, Switch),
    key!(store.s3.export_prefix, EXPORT_PREFIX),
    key!(store.s3.custom_domain, DOMAIN),
    key!(store.s3.object_parameters.cache_control, FIELD_VALUE),
    key!(store.s3.object_parameters.content_disposition, FIELD_VALUE),
    key!(store.s3.object_parameters.content_language, FIELD_VALUE),
    key!(store.s3.object_parameters.tagging, TAGGING),
    key!(store.s3.object_parameters.request_payer, REQUEST_PAYER),
    key!(store.s3.disk_cache.path, OPTIONAL_FOLDER),
    key!(store.s3.disk_cache.max_bytes, Size(MIB, 1024 * TIB)),
    key!(memory.capacity, Size(0, 16 * TIB)),
    key!(admin.listen, ADDRESS),
    key!(admin.token, TOKEN),
    file_of!(admin.token, TOKEN),
    // Whoever invalidates may have to wait so long, and clients have limits.
    key!(cluster.lease, Time(100, 10 * SECOND)),
    key!(cluster.on_store_outage, choice(OUTAGES)),
    key!(cluster.node_url, NODE_URL),
    key!(log.level, LEVEL),
    key!(log.format, LOG_FORMAT),
    key!(log.access, Switch),
];

const LIFETIME: Choice<Lifetime> = Choice { words: &[("forever", Lifetime::Forever), ("origin", Lifetime::Origin)] };

const QUERY: Choice<QueryPolicy> = Choice {
    words: &[("include", QueryPolicy::Include), ("ignore", QueryPolicy::Ignore), ("bypass", QueryPolicy::Bypass)],
};

const UNKEYED_HEADERS: Choice<UnkeyedHeaders> =
    Choice { words: &[("forward", UnkeyedHeaders::Forward), ("drop", UnkeyedHeaders::Drop)] };

const STORE_KIND: Choice<StoreKind> =
    Choice { words: &[("filesystem", StoreKind::Filesystem), ("s3", StoreKind::S3), ("memory", StoreKind::Memory)] };

const LOG_FORMAT: Choice<LogFormat> = Choice { words: &[("text", LogFormat::Text), ("json", LogFormat::Json)] };

const fn choice<T>(words: &'static [(&'static str, T)]) -> Choice<T> {
    Choice { words }
}

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
