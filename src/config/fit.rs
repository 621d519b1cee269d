//! Do the values fit together? One rule for each pair that may not.
//!
//! It sees only values that are right by themselves.

use std::net::{IpAddr, SocketAddr};

use super::{AddressingStyle, Config, S3Store, StoreKind};

/// Values that must fit together.
pub(super) struct Rule {
    /// Whose: the mistake is told at the first that was given.
    pub(super) keys: &'static [&'static str],
    /// What is wrong and what would be right; `None`: all is well.
    pub(super) broken: fn(&Config) -> Option<(String, &'static str)>,
}

/// All of them. The defaults keep them.
pub(super) const RULES: &[Rule] = &[
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
            let larger = larger && config.store.kind == StoreKind::Filesystem;
            larger.then_some((what, "at most store.filesystem.max_bytes"))
        },
    },
    Rule {
        keys: &["store.kind", "store.s3.bucket"],
        broken: |config| {
            let missing = config.store.kind == StoreKind::S3 && config.store.s3.bucket.is_empty();
            let what = "there is no bucket".to_owned();
            missing.then_some((what, "`bucket = \"...\"` in [store.s3], or EVERPAGE_STORE__S3__BUCKET"))
        },
    },
    Rule { keys: KEY_PAIR, broken: |config| half_a_pair(&config.store.s3) },
    Rule {
        keys: &["store.s3.session_token", "store.s3.session_token_file", "store.s3.access_key"],
        broken: |config| {
            let S3Store { session_token, access_key, .. } = &config.store.s3;
            let lonely = !session_token.reveal().is_empty() && access_key.reveal().is_empty();
            let what = "a session token is part of temporary keys, and store.s3.access_key is not set".to_owned();
            lonely.then_some((what, "access_key, secret_key and session_token, or none of them"))
        },
    },
    Rule {
        keys: &["store.s3.profile", "store.s3.access_key", "store.s3.access_key_file"],
        broken: |config| {
            let both = !config.store.s3.profile.is_empty() && !config.store.s3.access_key.reveal().is_empty();
            let what = "the keys are set as well (store.s3.access_key), and would hide those of the profile".to_owned();
            both.then_some((what, "one of the two"))
        },
    },
    Rule {
        keys: &["store.s3.ca_file", "store.s3.verify"],
        broken: |config| {
            let idle = config.store.s3.ca_file.is_some() && !config.store.s3.verify;
            let what = "no certificate is checked (store.s3.verify = false), so nobody asks these".to_owned();
            idle.then_some((what, "one of the two"))
        },
    },
    Rule {
        keys: &["store.s3.bucket_acl", "store.s3.create_bucket"],
        broken: |config| {
            let idle = !config.store.s3.bucket_acl.is_empty() && !config.store.s3.create_bucket;
            let what = "only a bucket that everpage makes gets it, and store.s3.create_bucket is false".to_owned();
            idle.then_some((what, "\"\", or create_bucket = true"))
        },
    },
    Rule {
        keys: &["store.s3.kms_key_id", "store.s3.encryption"],
        broken: |config| {
            let S3Store { kms_key_id, encryption, .. } = &config.store.s3;
            let idle = !kms_key_id.is_empty() && !encryption.starts_with("aws:kms");
            let what = format!("`{encryption}` (store.s3.encryption) has no key of KMS");
            idle.then_some((what, "\"\", or encryption = \"aws:kms\" or \"aws:kms:dsse\""))
        },
    },
    Rule {
        keys: &["store.s3.bucket", "store.s3.endpoint_url", "store.s3.addressing_style", "store.s3.create_bucket"],
        broken: |config| {
            let S3Store { bucket, endpoint_url, addressing_style, create_bucket, .. } = &config.store.s3;
            let other = [
                (endpoint_url.is_some(), "store.s3.endpoint_url"),
                (*addressing_style == AddressingStyle::Path, "store.s3.addressing_style = \"path\""),
                (*create_bucket, "store.s3.create_bucket"),
            ];
            let (_, other) = other.into_iter().find(|(is_set, _)| *is_set && bucket.starts_with("arn:"))?;
            Some((format!("an access point has its own address, so {other} is not possible"), "one of the two"))
        },
    },
    Rule {
        keys: &["store.s3.addressing_style", "store.s3.endpoint_url"],
        broken: |config| {
            let S3Store { addressing_style, endpoint_url, .. } = &config.store.s3;
            let host = endpoint_url.as_ref()?.host()?;
            let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
            let what = format!("no name of a bucket can stand before the address `{host}` (store.s3.endpoint_url)");
            (is_address && *addressing_style == AddressingStyle::Virtual).then_some((what, "\"auto\" or \"path\""))
        },
    },
];

const KEY_PAIR: &[&str] =
    &["store.s3.access_key", "store.s3.access_key_file", "store.s3.secret_key", "store.s3.secret_key_file"];

/// One key without the other is forgotten or misspelt: keys from somewhere else would be a surprise.
fn half_a_pair(s3: &S3Store) -> Option<(String, &'static str)> {
    let missing = match (s3.access_key.reveal().is_empty(), s3.secret_key.reveal().is_empty()) {
        (true, false) => "access_key",
        (false, true) => "secret_key",
        _ => return None,
    };
    let what = format!("store.s3.{missing} is missing beside it");
    Some((what, "both, or none: then they come from where AWS tools find them"))
}

/// Would the second of two listeners fail to bind?
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: SocketAddr, narrow: SocketAddr| {
        wide.ip() == narrow.ip() || wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one.port() != 0 && one.port() == other.port() && (covers(one, other) || covers(other, one))
}
