//! Answers of S3 that say no: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>

use std::time::Duration;

use bytes::Bytes;
use everpage::clock::Clock;
use http::Response;

/// An error that the link answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    SlowDown,
    InternalError,
    ServiceUnavailable,
    /// By a server whose clock is an hour ahead.
    RequestTimeTooSkewed,
    ExpiredToken,
    AccessDenied,
    NoSuchBucket,
    /// 409: another conditional write to the key is under way.
    ConditionalRequestConflict,
    /// 412.
    PreconditionFailed,
}

impl Refusal {
    fn status_code_message(self) -> (u16, &'static str, &'static str) {
        match self {
            Refusal::SlowDown => (503, "SlowDown", "Please reduce your request rate."),
            Refusal::InternalError => (500, "InternalError", "We encountered an internal error. Please try again."),
            Refusal::ServiceUnavailable => (503, "ServiceUnavailable", "Service is unable to handle request."),
            Refusal::RequestTimeTooSkewed => (
                403,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            ),
            Refusal::ExpiredToken => (400, "ExpiredToken", "The provided token has expired."),
            Refusal::AccessDenied => (403, "AccessDenied", "Access Denied"),
            Refusal::NoSuchBucket => (404, "NoSuchBucket", "The specified bucket does not exist"),
            Refusal::ConditionalRequestConflict => (
                409,
                "ConditionalRequestConflict",
                "The conditional request cannot succeed due to a conflicting operation against this resource.",
            ),
            Refusal::PreconditionFailed => {
                (412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
            }
        }
    }

    pub(super) fn response(self) -> Response<Bytes> {
        let (status, code, message) = self.status_code_message();
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
             <RequestId>LINK</RequestId><HostId>link</HostId></Error>"
        );
        let ahead = if self == Refusal::RequestTimeTooSkewed { Duration::from_secs(3600) } else { Duration::ZERO };
        let date = Clock::Wall.now().to_system_time() + ahead;
        Response::builder()
            .status(status)
            .header("content-type", "application/xml")
            .header("date", httpdate::fmt_http_date(date))
            .body(body.into())
            .expect("a status and a field that exist")
    }
}
