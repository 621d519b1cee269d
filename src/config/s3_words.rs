//! How is text about S3 read, checked and shown? Names of buckets and classes, prefixes, keys and what is said with an object.
//!
//! It asks no server: a name that is well-formed may still not exist.

use http::Uri;
use serde_json::Value as Json;

use super::given::{Given, Problems, quoted};
use super::kinds::Kind;
use super::words::{HOST, SiteReasons, Text, secret_of, show_secret, show_site, site};
use super::{AddressingStyle, Compression, OnStoreOutage, Secret};

/// Longest prefix, in bytes: a key has 1,024, and what lies below needs its share.
const LONGEST_PREFIX: usize = 512;

/// "Bucket naming rules" of the S3 user guide; or the ARN of an access point in one region.
pub(super) const BUCKET: Text<String> = Text {
    expected: r#"3 to 63 of a-z, 0-9, "." and "-", or the ARN of an access point"#,
    read: |text| match text {
        "" => Ok(String::new()),
        _ if text.starts_with("arn:") => access_point(text),
        _ => bucket(text),
    },
    show: String::clone,
};

fn bucket(text: &str) -> Result<String, String> {
    let name = quoted(text);
    if let Some(rest) = text.strip_prefix("s3://") {
        let bucket = rest.split('/').next().unwrap_or_default();
        return Err(format!("{name} is a URL; the bucket is {}", quoted(bucket)));
    }
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    if let Some(wrong) = text.chars().find(|&letter| !u8::try_from(letter).is_ok_and(fits)) {
        return Err(format!("{} cannot be in the name of a bucket", quoted(&wrong.to_string())));
    }
    if !(3..=63).contains(&text.len()) {
        return Err(format!("{name} has {} letters", text.len()));
    }
    if !ends(text.bytes().next()) || !ends(text.bytes().last()) || text.contains("..") {
        return Err(format!("{name} must begin and end with a letter or a digit, without two dots in a row"));
    }
    if text.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err(format!("{name} looks like an IP address"));
    }
    if text.ends_with("--x-s3") {
        return Err(format!("{name} is a directory bucket: it lists its keys in no order"));
    }
    match ["xn--", "sthree-", "amzn-s3-demo-"].iter().find(|start| text.starts_with(**start)) {
        Some(start) => Err(format!("{name} begins with {}, which S3 keeps for itself", quoted(start))),
        None => Ok(text.to_owned()),
    }
}

/// `arn:aws:s3:region:account:accesspoint/name`
fn access_point(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, "s3", region, account, resource] = parts[..] else {
        return Err(format!("{} is not the ARN of an access point", quoted(text)));
    };
    if account.is_empty() {
        return Err(format!("{} is the ARN of a bucket; its name is {}", quoted(text), quoted(resource)));
    }
    if region.is_empty() {
        return Err("a multi-region access point cannot be used: what was just written may not be read".to_owned());
    }
    let name = resource.strip_prefix("accesspoint/").unwrap_or_default();
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if partition.starts_with("aws") && [partition, region, name].into_iter().all(word) && is_account(account) {
        Ok(text.to_owned())
    } else {
        Err(format!("{} is not the ARN of an access point", quoted(text)))
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Letters that need no quoting in a URL, a shell or a policy ("Naming Amazon S3 objects" of the S3 user guide).
pub(super) const LOCATION: Text<String> = Text {
    expected: r#"a prefix such as "shop/pages": letters, digits, ".", "_", "-", with "/" between"#,
    read: |text| {
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.is_empty() { Ok(String::new()) } else { prefix(text) }
    },
    show: String::clone,
};

/// As [`LOCATION`], and never empty or a folder that holds something else: the plain copies lie beside the pages of the flavor.
pub(super) const EXPORT_PREFIX: Text<String> = Text {
    expected: r#"a prefix such as "export": letters, digits, ".", "_", "-", with "/" between"#,
    read: |text| {
        let text = text.strip_suffix('/').unwrap_or(text);
        let folder = text.split('/').next().unwrap_or_default();
        let is_version = !folder.is_empty() && folder.bytes().all(|byte| byte.is_ascii_digit());
        if is_version || matches!(folder, "journal" | "sweep") {
            return Err(format!("copies would lie among what everpage keeps in {}", quoted(folder)));
        }
        prefix(text)
    },
    show: String::clone,
};

fn prefix(text: &str) -> Result<String, String> {
    let shown = quoted(text);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    if text.len() > LONGEST_PREFIX {
        return Err(format!("a prefix of {} bytes leaves no room for keys", text.len()));
    }
    if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(format!("{shown} has a segment \".\" or \"..\": S3 keys have no folders to go up from"));
    }
    if text.split('/').any(str::is_empty) {
        return Err(format!("{shown} has an empty segment"));
    }
    if text.bytes().all(fits) { Ok(text.to_owned()) } else { Err(format!("{shown} cannot be a prefix of keys")) }
}

/// Amazon's regions, and what other servers call theirs.
pub(super) const REGION: Text<String> = Text {
    expected: r#"a region such as "eu-central-1""#,
    read: |text| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let valid = text.len() <= 64 && text.bytes().all(fits);
        if valid { Ok(text.to_owned()) } else { Err(format!("{} is not a region", quoted(text))) }
    },
    show: String::clone,
};

pub(super) const ENDPOINT: Text<Option<Uri>> = Text {
    expected: r#"scheme and authority, such as "https://minio.internal:9000"; http is without TLS"#,
    read: |text| {
        let reasons = SiteReasons {
            user: "keys do not belong into the URL: see access_key and secret_key",
            path: "the bucket stands in `bucket`, a prefix in `location`",
            query: "an S3 server has none",
        };
        if text.is_empty() { Ok(None) } else { site(text, &reasons).map(Some) }
    },
    show: |url| url.as_ref().map(show_site).unwrap_or_default(),
};

/// The admin listener speaks plain HTTP.
pub(super) const NODE_URL: Text<Option<Uri>> = Text {
    expected: r#"where other nodes reach this node's admin listener, such as "http://10.0.0.7:8081""#,
    read: |text| {
        let reasons = SiteReasons {
            user: "nodes know each other by a secret in the journal",
            path: "nodes know it",
            query: "nodes need none",
        };
        match text {
            "" => Ok(None),
            _ => match site(text, &reasons)? {
                url if url.scheme_str() == Some("http") => Ok(Some(url)),
                _ => Err("the admin listener speaks no TLS".to_owned()),
            },
        }
    },
    show: |url| url.as_ref().map(show_site).unwrap_or_default(),
};

pub(super) const PROXY: Text<Option<Uri>> = Text {
    expected: r#"scheme and authority, such as "http://proxy.internal:3128""#,
    read: |text| {
        let reasons = SiteReasons {
            user: "user name and password are not sent to a proxy",
            path: "a proxy has none",
            query: "a proxy has none",
        };
        if text.is_empty() { Ok(None) } else { site(text, &reasons).map(Some) }
    },
    show: |url| url.as_ref().map(show_site).unwrap_or_default(),
};

/// No more than a line, for it becomes a header.
pub(super) const ACCESS_KEY: Text<Secret> = Text {
    expected: "visible ASCII characters without spaces, at most 128",
    read: |text| key_of(text, 128),
    show: show_secret,
};

pub(super) const SECRET_KEY: Text<Secret> = Text {
    expected: "visible ASCII characters without spaces, at most 1024",
    read: |text| key_of(text, 1024),
    show: show_secret,
};

/// Amazon promises no longest one; typical are less than 4,096 bytes.
pub(super) const SESSION_TOKEN: Text<Secret> = Text {
    expected: "visible ASCII characters without spaces, at most 16384",
    read: |text| key_of(text, 16_384),
    show: show_secret,
};

/// What is wrong never says what it was.
fn key_of(text: &str, most: usize) -> Result<Secret, String> {
    secret_of(text, most).ok_or_else(|| "this cannot be sent in a request".to_owned())
}

pub(super) const PROFILE: Text<String> = Text {
    expected: "the name of a profile in ~/.aws/config or ~/.aws/credentials",
    read: |text| {
        let valid = text.len() <= 128 && !text.contains(|letter: char| letter.is_control() || "[]".contains(letter));
        if valid { Ok(text.to_owned()) } else { Err(format!("{} is not the name of a profile", quoted(text))) }
    },
    show: String::clone,
};

pub(super) const KMS_KEY: Text<String> = Text {
    expected: r#"the id, ARN or alias ("alias/pages") of a KMS key"#,
    read: |text| {
        let valid = text.len() <= 2048 && text.bytes().all(|byte| byte.is_ascii_graphic());
        if valid { Ok(text.to_owned()) } else { Err(format!("{} is not the name of a key", quoted(text))) }
    },
    show: String::clone,
};

pub(super) const ACCOUNT: Text<String> = Text {
    expected: r#"the 12 digits of an AWS account, in quotes, such as "123456789012""#,
    read: |text| match text {
        "" => Ok(String::new()),
        _ if is_account(text) => Ok(text.to_owned()),
        _ => Err(format!("{} is not an account", quoted(text))),
    },
    show: String::clone,
};

/// One of S3's own words, or empty: then nothing is said, and the bucket's default holds.
pub(super) struct Word {
    known: &'static [&'static str],
    /// S3 knows them, we do not take them: word and reason.
    refused: &'static [(&'static str, &'static str)],
}

impl Kind for Word {
    type Value = String;

    fn expected(&self) -> String {
        let words: Vec<String> = self.known.iter().map(|word| format!("\"{word}\"")).collect();
        format!("{}, or \"\" for the bucket's own", words.join(", "))
    }

    fn read(&self, given: &Given) -> Result<String, Problems> {
        let text = given.text(&self.expected())?;
        if text.is_empty() || self.known.contains(&text) {
            return Ok(text.to_owned());
        }
        let reason = self.refused.iter().find(|(word, _)| *word == text);
        let what = reason.map_or_else(
            || format!("unknown word {}", quoted(text)),
            |(word, reason)| format!("`{word}` is not possible: {reason}"),
        );
        Err(given.wrong(what, &self.expected()))
    }

    fn show(&self, value: &String) -> Json {
        Json::from(value.as_str())
    }
}

/// "Canned ACL" of the S3 user guide, those of buckets.
pub(super) const BUCKET_ACL: Word =
    Word { known: &["private", "public-read", "public-read-write", "authenticated-read"], refused: &[] };

/// "Canned ACL" of the S3 user guide, those of objects.
pub(super) const OBJECT_ACL: Word = Word {
    known: &[
        "private",
        "public-read",
        "authenticated-read",
        "aws-exec-read",
        "bucket-owner-read",
        "bucket-owner-full-control",
    ],
    refused: &[("public-read-write", "anybody could put a page of their own in the place of yours")],
};

const ARCHIVE: &str = "what is archived has to be restored before it can be read, which takes hours";

/// "x-amz-storage-class" of PutObject, in the S3 API reference.
pub(super) const STORAGE_CLASS: Word = Word {
    known: &["STANDARD", "INTELLIGENT_TIERING", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "REDUCED_REDUNDANCY"],
    refused: &[
        ("GLACIER", ARCHIVE),
        ("DEEP_ARCHIVE", ARCHIVE),
        ("EXPRESS_ONEZONE", "it is the class of directory buckets, which list their keys in no order"),
    ],
};

/// "x-amz-server-side-encryption" of PutObject, in the S3 API reference.
pub(super) const ENCRYPTION: Word = Word { known: &["AES256", "aws:kms", "aws:kms:dsse"], refused: &[] };

/// RFC 6838, section 4.2: type and subtype; `text/*` stands for all below it.
pub(super) const MEDIA_TYPE: Text<String> = Text {
    expected: r#"a content type such as "text/html", or "text/*" for all below it"#,
    read: |text| {
        let lower = text.to_ascii_lowercase();
        let name = |name: &str| {
            (1..=127).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
        };
        match lower.split_once('/') {
            Some((kind, subtype)) if name(kind) && (subtype == "*" || name(subtype)) => Ok(lower),
            _ => Err(format!("{} is not a content type", quoted(text))),
        }
    },
    show: String::clone,
};

/// RFC 9110, section 5.5, without what is beyond ASCII.
pub(super) const FIELD_VALUE: Text<String> = Text {
    expected: "visible ASCII characters with single spaces between, at most 1024",
    read: |text| {
        let fits = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        let valid = text.len() <= 1024 && text.bytes().all(fits) && text.trim() == text;
        if valid { Ok(text.to_owned()) } else { Err(format!("{} cannot be sent as a header", quoted(text))) }
    },
    show: String::clone,
};

/// "Categorizing your storage using tags" of the S3 user guide: at most ten, written as in a query.
pub(super) const TAGGING: Text<String> = Text {
    expected: r#"at most ten tags such as "team=shop&kind=cache", encoded as in a URL"#,
    read: |text| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%+*:/@".contains(&byte);
        let tag = |tag: &str| match tag.split_once('=') {
            Some((name, value)) => !name.is_empty() && name.bytes().chain(value.bytes()).all(fits),
            None => false,
        };
        let valid = text.len() <= 4096 && text.split('&').count() <= 10 && text.split('&').all(tag);
        if text.is_empty() || valid { Ok(text.to_owned()) } else { Err(format!("{} are no tags", quoted(text))) }
    },
    show: String::clone,
};

pub(super) const REQUEST_PAYER: Text<String> = Text {
    expected: r#""requester", or "" if the bucket's owner pays"#,
    read: |text| match text {
        "" | "requester" => Ok(text.to_owned()),
        _ => Err(format!("unknown word {}", quoted(text))),
    },
    show: String::clone,
};

pub(super) const DOMAIN: Text<String> = Text {
    expected: r#"a name such as "cdn.shop.example", without scheme, port and path"#,
    read: |text| if text.is_empty() { Ok(String::new()) } else { (HOST.read)(text) },
    show: String::clone,
};

pub(super) const ADDRESSING_STYLES: &[(&str, AddressingStyle)] =
    &[("auto", AddressingStyle::Auto), ("path", AddressingStyle::Path), ("virtual", AddressingStyle::Virtual)];

pub(super) const COMPRESSIONS: &[(&str, Compression)] =
    &[("zstd", Compression::Zstd), ("gzip", Compression::Gzip), ("off", Compression::Off)];

pub(super) const OUTAGES: &[(&str, OnStoreOutage)] =
    &[("origin", OnStoreOutage::Origin), ("serve", OnStoreOutage::Serve)];
