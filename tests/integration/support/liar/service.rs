//! One request of S3, path style.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use super::buckets::{Buckets, Condition, Object, PRECONDITION_FAILED, Refused};
use super::{LOSING_PAUSE, Lie, chunked, xml};

type Answered = Result<Response<Bytes>, Refused>;

const INCOMPLETE: Refused = Refused(400, "IncompleteBody", "The body is not as long as was said");
const INVALID: Refused = Refused(400, "InvalidArgument", "Invalid Argument");
const NOT_ALLOWED: Refused = Refused(405, "MethodNotAllowed", "The specified method is not allowed");
const UNSATISFIABLE: Refused = Refused(416, "InvalidRange", "The requested range is not satisfiable");

/// Fields of a write that come back with each read.
const KEPT_FIELDS: [&str; 6] =
    ["content-type", "content-encoding", "cache-control", "content-disposition", "content-language", "expires"];

/// Where a request goes to.
struct Target {
    bucket: String,
    key: String,
    query: HashMap<String, String>,
}

impl Target {
    fn of(head: &Parts) -> Self {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let path = head.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let pairs = head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(&value.replace('+', " ")))
        };
        Target { bucket: decoded(bucket), key: decoded(key), query: pairs.map(pair).collect() }
    }

    fn says(&self, name: &str) -> bool {
        self.query.contains_key(name)
    }

    fn text(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

pub(super) async fn answer(
    request: Request<Incoming>,
    buckets: Arc<Buckets>,
    lie: Lie,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let target = Target::of(&head);
    let answered = match whole(&head, body).await {
        Ok(body) if target.key.is_empty() => of_bucket(&head, &target, &body, &buckets),
        Ok(body) => of_object(&head, &target, body, &buckets, lie).await,
        Err(refused) => Err(refused),
    };
    let answer = answered.unwrap_or_else(|refused| {
        let body = if head.method == Method::HEAD { Bytes::new() } else { xml::error(refused).into() };
        let answer = Response::builder().status(refused.0).header("content-type", "application/xml");
        answer.body(body).expect("a status and a field that exist")
    });
    Ok(answer.map(Full::new))
}

async fn whole(head: &Parts, body: Incoming) -> Result<Bytes, Refused> {
    let body = body.collect().await.map_err(|_| INCOMPLETE)?.to_bytes();
    let signed = head.headers.get("x-amz-content-sha256").map_or(&b""[..], |value| value.as_bytes());
    if signed.starts_with(b"STREAMING-") { chunked::decoded(body).ok_or(INCOMPLETE) } else { Ok(body) }
}

fn of_bucket(head: &Parts, target: &Target, body: &Bytes, buckets: &Buckets) -> Answered {
    let bucket = &target.bucket;
    match head.method {
        Method::PUT => buckets.create(bucket).map(|()| plain(200, "")),
        Method::HEAD => buckets.with(bucket, |_| Ok(plain(200, ""))),
        Method::DELETE => buckets.remove(bucket).map(|()| plain(204, "")),
        Method::POST if target.says("delete") => {
            let keys = xml::texts(&String::from_utf8_lossy(body), "Key");
            buckets.with(bucket, |content| {
                content.objects.retain(|key, _| !keys.contains(key));
                Ok(plain(200, xml::deleted(&keys)))
            })
        }
        Method::GET if target.says("uploads") => {
            buckets.with(bucket, |content| Ok(plain(200, xml::uploads(bucket, target.text("prefix"), content))))
        }
        Method::GET => {
            let limit = target.query.get("max-keys").map_or(Ok(1000), |limit| limit.parse()).map_err(|_| INVALID)?;
            let token = hex::decode(target.text("continuation-token")).map_err(|_| INVALID)?;
            let token = String::from_utf8(token).map_err(|_| INVALID)?;
            let after = if token.is_empty() { target.text("start-after") } else { &token };
            let prefix = target.text("prefix");
            buckets.with(bucket, |content| {
                let (found, is_truncated) = content.list(prefix, after, limit.min(1000));
                Ok(plain(200, xml::listing(bucket, prefix, &found, is_truncated)))
            })
        }
        _ => Err(NOT_ALLOWED),
    }
}

async fn of_object(head: &Parts, target: &Target, body: Bytes, buckets: &Buckets, lie: Lie) -> Answered {
    let (bucket, key) = (&target.bucket, &target.key);
    let upload = target.text("uploadId");
    match head.method {
        Method::GET | Method::HEAD => {
            let object = buckets.with(bucket, |content| content.get(key))?;
            read(head, &object, lie)
        }
        Method::PUT if target.says("uploadId") => {
            let number = target.text("partNumber").parse().map_err(|_| INVALID)?;
            let etag = buckets.with(bucket, |content| content.put_part(upload, number, body))?;
            Ok(with_etag(plain(200, ""), &etag))
        }
        Method::PUT => {
            let etag = write(head, target, Object::new(body, kept_fields(&head.headers)), buckets, lie).await?;
            Ok(with_etag(plain(200, ""), &etag))
        }
        Method::POST if target.says("uploads") => buckets.with(bucket, |content| {
            let id = content.begin_upload(key, kept_fields(&head.headers));
            Ok(plain(200, xml::upload_begun(bucket, key, &id)))
        }),
        Method::POST if target.says("uploadId") => {
            let numbers = xml::texts(&String::from_utf8_lossy(&body), "PartNumber");
            let numbers: Result<Vec<u32>, _> = numbers.iter().map(|number| number.parse()).collect();
            let numbers = numbers.map_err(|_| INVALID)?;
            let (_, object) = buckets.with(bucket, |content| content.join_parts(upload, &numbers))?;
            let etag = write(head, target, object, buckets, lie).await?;
            Ok(plain(200, xml::upload_completed(bucket, key, &etag)))
        }
        Method::DELETE => buckets.with(bucket, |content| {
            if target.says("uploadId") {
                content.uploads.remove(upload);
            } else {
                content.objects.remove(key);
            }
            Ok(plain(204, ""))
        }),
        _ => Err(NOT_ALLOWED),
    }
}

/// Writes as truthfully as the lie allows.
async fn write(head: &Parts, target: &Target, object: Object, buckets: &Buckets, lie: Lie) -> Result<String, Refused> {
    let condition = condition(&head.headers)?;
    let condition = match lie {
        Lie::None | Lie::SendsUnchanged | Lie::HidesChanges => condition,
        Lie::IgnoresConditions => Condition::Always,
        Lie::LosesRaces => {
            if !matches!(condition, Condition::Always) {
                let present = |content: &mut super::buckets::Bucket| Ok(content.objects.get(&target.key).cloned());
                condition.check(buckets.with(&target.bucket, present)?.as_deref())?;
                tokio::time::sleep(LOSING_PAUSE).await;
            }
            Condition::Always
        }
    };
    buckets.with(&target.bucket, |content| content.put(&target.key, object, &condition))
}

fn condition(headers: &HeaderMap) -> Result<Condition, Refused> {
    match (text(headers, "if-match"), text(headers, "if-none-match")) {
        (None, None) => Ok(Condition::Always),
        (None, Some("*")) => Ok(Condition::Absent),
        (Some(etag), None) => Ok(Condition::Is(etag.to_owned())),
        _ => Err(INVALID),
    }
}

fn read(head: &Parts, object: &Object, lie: Lie) -> Answered {
    if text(&head.headers, "if-match").is_some_and(|wanted| wanted != object.etag) {
        return Err(PRECONDITION_FAILED);
    }
    let is_the_same = |known| known == object.etag || known == "*" || lie == Lie::HidesChanges;
    let is_known = text(&head.headers, "if-none-match").is_some_and(is_the_same) && lie != Lie::SendsUnchanged;
    let length = object.bytes.len();
    let range = text(&head.headers, "range").map(|range| span(range, length)).transpose()?;
    let mut answer = match range {
        _ if is_known => plain(304, ""),
        Some(span) => {
            let said = format!("bytes {}-{}/{length}", span.start, span.end - 1);
            let mut answer = plain(206, object.bytes.slice(span));
            answer.headers_mut().insert("content-range", said.parse().expect("a range is a value"));
            answer
        }
        None => plain(200, object.bytes.clone()),
    };
    let sent = answer.body().len();
    let headers = answer.headers_mut();
    headers.extend(object.fields.clone());
    headers.insert("accept-ranges", "bytes".parse().expect("a word is a value"));
    let modified = httpdate::fmt_http_date(object.modified.to_system_time());
    headers.insert("last-modified", modified.parse().expect("a date is a value"));
    if head.method == Method::HEAD {
        headers.insert("content-length", sent.into());
        *answer.body_mut() = Bytes::new();
    }
    Ok(with_etag(answer, &object.etag))
}

/// Of `bytes=1-2`, `bytes=1-` and `bytes=-2` (RFC 9110, section 14.1.2).
fn span(range: &str, length: usize) -> Result<Range<usize>, Refused> {
    let (first, last) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or(INVALID)?;
    let number = |text: &str| text.parse::<usize>().map_err(|_| INVALID);
    let span = match (first, last) {
        ("", count) => length.saturating_sub(number(count)?)..length,
        (first, "") => number(first)?..length,
        (first, last) => number(first)?..number(last)?.saturating_add(1).min(length),
    };
    if span.is_empty() { Err(UNSATISFIABLE) } else { Ok(span) }
}

fn kept_fields(headers: &HeaderMap) -> HeaderMap {
    let kept = |name: &str| KEPT_FIELDS.contains(&name) || name.starts_with("x-amz-meta-");
    let fields = headers.iter().filter(|(name, value)| kept(name.as_str()) && value.as_bytes() != b"aws-chunked");
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn plain(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder().status(status).body(body.into()).expect("a status that exists")
}

fn with_etag(mut answer: Response<Bytes>, etag: &str) -> Response<Bytes> {
    answer.headers_mut().insert("etag", etag.parse().expect("digits in quotes are a value"));
    answer
}
