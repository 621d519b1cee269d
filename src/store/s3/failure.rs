//! WHY DID S3 NOT DO IT? A request that failed, read once: what kind of failure it is. [`advice`] says it to people.

pub(super) mod advice;

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::bucket::S3ErrorKind;

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: S3ErrorKind,
    /// Of the answer, if one came.
    pub(super) status: Option<u16>,
    /// S3's word for it (S3 API reference, "List of error codes"); may be empty.
    pub(super) code: String,
    /// What S3 or the connection said.
    pub(super) message: String,
    /// Where the bucket lies, when S3 says so.
    pub(super) region: Option<String>,
    /// The server's clock: the answer's `Date`.
    pub(super) date: Option<String>,
}

impl Failure {
    /// Reads what the SDK says.
    #[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
    pub(super) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match &error {
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or_default();
                let unread = || chain(&error);
                let message = service.err().message().map_or_else(unread, str::to_owned);
                Failure::answered(service.raw(), code, &message)
            }
            SdkError::ResponseError(response) => {
                Failure::answered(response.raw(), "", &format!("what came is no answer of S3: {}", chain(&error)))
            }
            SdkError::TimeoutError(_) => Failure::said(S3ErrorKind::Timeout, chain(&error)),
            SdkError::DispatchFailure(dispatch) => {
                let kind = if is_of_credentials(&error) {
                    S3ErrorKind::Credentials
                } else if dispatch.is_timeout() {
                    S3ErrorKind::Timeout
                } else if dispatch.is_user() {
                    S3ErrorKind::Other
                } else {
                    S3ErrorKind::Unreachable
                };
                Failure::said(kind, chain(&error))
            }
            _ if is_of_credentials(&error) => Failure::said(S3ErrorKind::Credentials, chain(&error)),
            _ => Failure::said(S3ErrorKind::Other, chain(&error)),
        }
    }

    /// A failure without an answer of S3.
    pub(super) fn said(kind: S3ErrorKind, message: impl Into<String>) -> Self {
        Failure { kind, status: None, code: String::new(), message: message.into(), region: None, date: None }
    }

    fn answered(raw: &HttpResponse, code: &str, message: &str) -> Self {
        let status = raw.status().as_u16();
        let body = raw.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
        let header = |name| raw.headers().get(name).map(str::to_owned);
        let region = header("x-amz-bucket-region").or_else(|| element(&body, "Region"));
        Failure {
            kind: kind(status, code, region.is_some()),
            status: Some(status),
            code: code.to_owned(),
            message: message.to_owned(),
            region,
            date: header("date"),
        }
    }

    /// Does it say that S3 itself is not well?
    pub(super) fn is_of_the_service(&self) -> bool {
        matches!(
            self.kind,
            S3ErrorKind::Unreachable | S3ErrorKind::Timeout | S3ErrorKind::Throttled | S3ErrorKind::Server
        )
    }

    /// 404 that is about the object, not about the bucket.
    pub(super) fn is_absent(&self) -> bool {
        self.status == Some(404) && self.kind != S3ErrorKind::NoBucket
    }

    /// 412: the condition does not hold.
    pub(super) fn is_condition(&self) -> bool {
        self.status == Some(412)
    }

    /// In a few words, for logs and for the breaker's reason.
    pub(super) fn in_short(&self) -> String {
        match (self.status, self.code.is_empty()) {
            (Some(status), false) => format!("{status} {}", self.code),
            (Some(status), true) => format!("status {status}"),
            (None, _) => self.message.clone(),
        }
    }
}

/// The kind of an answer. Codes say more than the status: 400 may be a slow connection, 403 a wrong clock.
fn kind(status: u16, code: &str, names_region: bool) -> S3ErrorKind {
    match code {
        "NoSuchBucket" => return S3ErrorKind::NoBucket,
        "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException" => {
            return S3ErrorKind::WrongRegion;
        }
        "AuthorizationHeaderMalformed" if names_region => return S3ErrorKind::WrongRegion,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "AuthorizationHeaderMalformed"
        | "InvalidSecurity"
        | "NotSignedUp" => return S3ErrorKind::Credentials,
        "RequestTimeTooSkewed" | "RequestExpired" => return S3ErrorKind::Clock,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "BandwidthLimitExceeded" => return S3ErrorKind::Throttled,
        "RequestTimeout" => return S3ErrorKind::Timeout,
        _ => {}
    }
    match status {
        301 | 307 => S3ErrorKind::WrongRegion,
        401 | 403 => S3ErrorKind::Forbidden,
        408 => S3ErrorKind::Timeout,
        429 => S3ErrorKind::Throttled,
        501 => S3ErrorKind::Other,
        500.. => S3ErrorKind::Server,
        _ => S3ErrorKind::Other,
    }
}

/// The text of an element of S3's error body.
fn element(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once("</")?;
    (!text.is_empty()).then(|| text.to_owned())
}

fn is_of_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The error and what caused it, each once. None of the SDK's errors holds a secret: its credentials do not print.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said.push_str(": ");
            said.push_str(&text);
        }
        next = cause.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_more_than_the_status() {
        assert_eq!(kind(400, "RequestTimeout", false), S3ErrorKind::Timeout);
        assert_eq!(kind(403, "RequestTimeTooSkewed", false), S3ErrorKind::Clock);
        assert_eq!(kind(403, "SignatureDoesNotMatch", false), S3ErrorKind::Credentials);
        assert_eq!(kind(400, "AuthorizationHeaderMalformed", true), S3ErrorKind::WrongRegion);
        assert_eq!(kind(503, "SlowDown", false), S3ErrorKind::Throttled);
        assert_eq!(kind(404, "NoSuchBucket", false), S3ErrorKind::NoBucket);
    }

    #[test]
    fn without_a_code_the_status_decides() {
        assert_eq!(kind(301, "", false), S3ErrorKind::WrongRegion);
        assert_eq!(kind(403, "", false), S3ErrorKind::Forbidden);
        assert_eq!(kind(503, "", false), S3ErrorKind::Server);
        assert_eq!(kind(501, "", false), S3ErrorKind::Other);
        assert_eq!(kind(418, "", false), S3ErrorKind::Other);
    }

    #[test]
    fn the_region_is_found_in_the_body() {
        assert_eq!(element("<Error><Region>eu-west-1</Region></Error>", "Region").as_deref(), Some("eu-west-1"));
        assert_eq!(element("<Error><Region></Region></Error>", "Region"), None);
        assert_eq!(element("<Error/>", "Region"), None);
    }
}
