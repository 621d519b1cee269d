//! WHAT SHOULD SOMEBODY DO ABOUT IT? A failure in one sentence that names the setting, and never a secret.

use std::time::SystemTime;

use super::super::bucket::{S3Error, S3ErrorKind};
use super::Failure;

/// Where requests go and in whose name; for messages.
#[derive(Clone, Debug)]
pub(in crate::store::s3) struct Place {
    pub(in crate::store::s3) bucket: String,
    /// `http://127.0.0.1:9000`; `None`: Amazon's.
    pub(in crate::store::s3) endpoint: Option<String>,
    pub(in crate::store::s3) region: String,
    /// Where the keys come from, in words.
    pub(in crate::store::s3) keys_from: String,
}

/// What was tried.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::s3) struct Attempt<'a> {
    /// `read`, `write`, `list`, ...
    pub(in crate::store::s3) verb: &'static str,
    /// The permission it takes (S3 user guide, "Required permissions for Amazon S3 API operations").
    pub(in crate::store::s3) right: &'static str,
    /// The key, if it is about one.
    pub(in crate::store::s3) key: Option<&'a str>,
}

impl Failure {
    /// As an error for people.
    pub(in crate::store::s3) fn advise(self, place: &Place, attempt: Attempt<'_>, now: SystemTime) -> S3Error {
        let what = match attempt.key {
            Some(key) => format!("cannot {} {key} in the bucket {}", attempt.verb, place.bucket),
            None => format!("cannot {} the bucket {}", attempt.verb, place.bucket),
        };
        let at = match &place.endpoint {
            Some(endpoint) => format!("at {endpoint}"),
            None => format!("in Amazon's region {}", place.region),
        };
        let why = self.why(place, attempt, now);
        S3Error { advice: format!("S3 store: {what} {at}: {why}"), kind: self.kind }
    }

    fn why(&self, place: &Place, attempt: Attempt<'_>, now: SystemTime) -> String {
        match self.kind {
            S3ErrorKind::NoBucket => "there is no such bucket here: check store.s3.bucket, store.s3.region and \
                store.s3.endpoint_url, or set store.s3.create_bucket = true"
                .to_owned(),
            S3ErrorKind::WrongRegion => self.other_region(place),
            S3ErrorKind::Credentials => self.credentials(place),
            S3ErrorKind::Forbidden => format!(
                "the keys from {} may not do it ({}): they need {}{}",
                place.keys_from,
                self.in_short(),
                attempt.right,
                if attempt.right == "s3:ListBucket" {
                    ", on the bucket itself; the bucket may also belong to somebody else: check store.s3.bucket"
                } else {
                    ", on everything below store.s3.location"
                }
            ),
            S3ErrorKind::Clock => self.skew(now),
            S3ErrorKind::Unreachable | S3ErrorKind::Timeout | S3ErrorKind::Throttled | S3ErrorKind::Server => {
                self.in_words()
            }
            S3ErrorKind::Open => format!("it was not asked, for it failed several times in a row: {}", self.message),
            S3ErrorKind::Other => match (self.message.is_empty(), self.status) {
                (false, Some(_)) => format!("{}: {}", self.in_short(), self.message),
                _ => self.in_short(),
            },
        }
    }

    /// What is wrong with a service that fails, and what to do, whatever was asked of it.
    pub(in crate::store::s3) fn in_words(&self) -> String {
        let short = self.in_short();
        match self.kind {
            S3ErrorKind::Unreachable => unreachable_because(&self.message),
            S3ErrorKind::Timeout => format!(
                "no answer in time ({short}): check the network and store.s3.endpoint_url, or raise store.s3.read_timeout"
            ),
            S3ErrorKind::Throttled => {
                format!("it is asked more often than it likes ({short}): lower store.s3.max_requests")
            }
            S3ErrorKind::Server => format!("the server failed ({short})"),
            _ => short,
        }
    }

    fn other_region(&self, place: &Place) -> String {
        match &self.region {
            Some(region) if *region != place.region => format!(
                "the bucket lies in another region: set store.s3.region = {region:?} (it is {:?})",
                place.region
            ),
            _ => format!(
                "the bucket lies in another region than {:?} ({}): set store.s3.region to its own",
                place.region,
                self.in_short()
            ),
        }
    }

    fn credentials(&self, place: &Place) -> String {
        let from = &place.keys_from;
        match self.code.as_str() {
            "InvalidAccessKeyId" => format!("the access key from {from} is unknown there: check store.s3.access_key"),
            "SignatureDoesNotMatch" => {
                format!("the secret key from {from} does not belong to the access key: check store.s3.secret_key")
            }
            "ExpiredToken" | "TokenRefreshRequired" => format!(
                "the temporary keys from {from} have expired: renew them, store.s3.session_token included, or leave the keys to a role"
            ),
            "InvalidToken" => format!("the session token from {from} is not valid: check store.s3.session_token"),
            "" => format!(
                "no keys were found in {from} ({}): set store.s3.access_key and secret_key, store.s3.profile, or one of the sources of AWS tools",
                self.message
            ),
            code => format!("the keys from {from} are refused ({code}): check store.s3.access_key and secret_key"),
        }
    }

    fn skew(&self, now: SystemTime) -> String {
        let seconds = self.date.as_deref().and_then(|date| httpdate::parse_http_date(date).ok()).map(|there| match now
            .duration_since(there)
        {
            Ok(ahead) => format!("{} s ahead of", ahead.as_secs()),
            Err(behind) => format!("{} s behind", behind.duration().as_secs()),
        });
        let by = seconds.unwrap_or_else(|| "too far from".to_owned());
        format!("this machine's clock is {by} the server's: set it right, by NTP for example")
    }
}

/// What a broken connection means, read from the words of the resolver, the system and the TLS library: they have no codes.
fn unreachable_because(message: &str) -> String {
    let lower = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let advice = if has(&["dns error", "failed to lookup", "name or service not known"]) {
        "the name is not resolved: check store.s3.endpoint_url and store.s3.region; where the name begins with the bucket, \
         store.s3.addressing_style = \"path\" may help"
    } else if has(&["unknownissuer", "invalid peer certificate", "certificate"]) {
        "its certificate is not trusted: name its authority in store.s3.ca_file, or, for a test, set store.s3.verify = false"
    } else if has(&["corrupt message", "invalidcontenttype", "received fatal alert"]) {
        "it does not speak TLS as expected: check whether store.s3.endpoint_url should begin with http://"
    } else if has(&["invalid http version", "invalid uri", "http version parsed", "parse"]) {
        "it does not speak plain HTTP: check whether store.s3.endpoint_url should begin with https://"
    } else if has(&["tunnel", "proxy"]) {
        "the proxy does not let it through: check store.s3.proxy"
    } else if has(&["connection refused"]) {
        "nothing listens there: check store.s3.endpoint_url and whether the server runs"
    } else {
        "the connection failed: check store.s3.endpoint_url and the network"
    };
    format!("{advice} ({message})")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ATTEMPT: Attempt<'static> = Attempt { verb: "read", right: "s3:GetObject", key: Some("a/b") };

    fn place() -> Place {
        Place {
            bucket: "pages".to_owned(),
            endpoint: None,
            region: "us-east-1".to_owned(),
            keys_from: "store.s3.access_key".to_owned(),
        }
    }

    fn advice(kind: S3ErrorKind, change: impl FnOnce(&mut Failure)) -> String {
        let mut failure = Failure::said(kind, "");
        failure.status = Some(400);
        change(&mut failure);
        failure.advise(&place(), ATTEMPT, SystemTime::UNIX_EPOCH + Duration::from_secs(1000)).advice
    }

    #[test]
    fn it_says_what_and_where() {
        let said = advice(S3ErrorKind::Forbidden, |_| {});
        assert!(
            said.starts_with("S3 store: cannot read a/b in the bucket pages in Amazon's region us-east-1: "),
            "{said}"
        );
        assert!(said.contains("s3:GetObject"), "{said}");
    }

    #[test]
    fn the_right_region_is_named() {
        let said = advice(S3ErrorKind::WrongRegion, |failure| failure.region = Some("eu-west-1".to_owned()));
        assert!(said.contains("store.s3.region = \"eu-west-1\""), "{said}");
    }

    #[test]
    fn a_wrong_clock_is_measured() {
        let date = |text: &str| Some(text.to_owned());
        let said = advice(S3ErrorKind::Clock, |failure| failure.date = date("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert!(said.contains("1000 s ahead of the server's"), "{said}");
        let said = advice(S3ErrorKind::Clock, |failure| failure.date = date("Thu, 01 Jan 1970 01:00:00 GMT"));
        assert!(said.contains("2600 s behind the server's"), "{said}");
    }

    #[test]
    fn each_wrong_key_has_its_own_advice() {
        for (code, setting) in [
            ("InvalidAccessKeyId", "check store.s3.access_key"),
            ("SignatureDoesNotMatch", "check store.s3.secret_key"),
            ("ExpiredToken", "have expired"),
            ("", "no keys were found in store.s3.access_key"),
        ] {
            let said = advice(S3ErrorKind::Credentials, |failure| code.clone_into(&mut failure.code));
            assert!(said.contains(setting), "{said}");
        }
    }

    #[test]
    fn a_connection_that_fails_has_its_own_advice() {
        for (message, setting) in [
            ("dns error: failed to lookup address information", "not resolved"),
            ("invalid peer certificate: UnknownIssuer", "store.s3.ca_file"),
            ("received corrupt message of type InvalidContentType", "should begin with http://"),
            ("invalid HTTP version parsed", "should begin with https://"),
            ("tcp connect error: Connection refused (os error 111)", "nothing listens there"),
            ("reset", "the connection failed"),
        ] {
            let said = advice(S3ErrorKind::Unreachable, |failure| message.clone_into(&mut failure.message));
            assert!(said.contains(setting), "{said}");
        }
    }
}
