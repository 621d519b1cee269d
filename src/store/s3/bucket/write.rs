//! HOW DOES AN OBJECT COME TO LIE THERE? Writes in one request, with and without a condition.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::said::say;
use super::{Attributes, Condition, Inner, S3Error, Swap, Version, read};
use crate::store::s3::call::Sending;
use crate::store::s3::failure::Failure;
use crate::store::s3::failure::advice::Attempt;
use crate::store::s3::requests::Class;

pub(super) fn writing(key: &str) -> Attempt<'_> {
    Attempt { verb: "write", right: "s3:PutObject", key: Some(key) }
}

pub(super) async fn put(
    inner: &Inner,
    key: &str,
    pieces: Vec<Bytes>,
    attributes: &Attributes,
) -> Result<Version, S3Error> {
    let key = inner.key(key)?;
    let content = Content::new(pieces);
    let said = inner.said.with(attributes);
    let send = || -> Sending<'_, Version> {
        let request = inner.client.put_object().bucket(&inner.place.bucket).key(&key);
        let request = say!(said.clone(), request).content_length(content.length()).body(content.stream());
        Box::pin(async move {
            let output = request.send().await.map_err(Failure::of)?;
            read::version(output.e_tag())
        })
    };
    inner.calls.write(Class::Put, content.bytes, send).await.map_err(|failure| inner.explain(failure, writing(&key)))
}

pub(super) async fn put_once(inner: &Inner, key: &str, bytes: Bytes) -> Result<Version, S3Error> {
    let key = inner.key(key)?;
    send_once(inner, &key, bytes, |request| request).await.map_err(|failure| inner.explain(failure, writing(&key)))
}

pub(super) async fn swap(inner: &Arc<Inner>, key: &str, bytes: Bytes, condition: &Condition) -> Result<Swap, S3Error> {
    let key = inner.key(key)?;
    let form = inner.etag_form.now();
    let mut result = conditional_put(inner, &key, bytes.clone(), condition, form).await;
    if let Condition::Is(version) = condition {
        if matches!(result, Ok(Swap::Lost)) && inner.etag_form.is_unknown() {
            // RGW 16 compares If-Match with the bare ETag, so that the quoted one never fits. Where the object still is the version that the
            // condition names, the refusal was about the form. The second try carries the condition too: it cannot overwrite another version.
            let is_there = matches!(read::facts(inner, &key).await, Ok((found, _)) if found == *version);
            if is_there {
                let other = form.other();
                result = conditional_put(inner, &key, bytes, condition, other).await;
                if matches!(result, Ok(Swap::Done(_))) {
                    inner.etag_form.fits(other);
                }
            }
        } else if matches!(result, Ok(Swap::Done(_))) {
            inner.etag_form.fits(form);
        }
    }
    result.map_err(|failure| inner.explain(failure, writing(&key)))
}

/// Tried once. 412, 409 (a write at the same time), and 404 to `If-Match` mean that nothing was written; of anything else nobody knows.
async fn conditional_put(
    inner: &Inner,
    key: &str,
    bytes: Bytes,
    condition: &Condition,
    form: Form,
) -> Result<Swap, Failure> {
    let with_condition = |request: PutObjectFluentBuilder| match condition {
        Condition::Absent => request.if_none_match("*"),
        Condition::Is(version) => request.if_match(form.of(version)),
    };
    match send_once(inner, key, bytes, with_condition).await {
        Ok(version) => Ok(Swap::Done(version)),
        Err(failure) if matches!(failure.status, Some(409 | 412)) => Ok(Swap::Lost),
        Err(failure) if failure.is_absent() && matches!(condition, Condition::Is(_)) => Ok(Swap::Lost),
        Err(failure) => Err(failure),
    }
}

async fn send_once(
    inner: &Inner,
    key: &str,
    bytes: Bytes,
    with_condition: impl FnOnce(PutObjectFluentBuilder) -> PutObjectFluentBuilder,
) -> Result<Version, Failure> {
    let content = Content::new(vec![bytes]);
    let request = inner.client.put_object().bucket(&inner.place.bucket).key(key);
    let request = say!(inner.said.with(&Attributes::default()), request);
    let request = with_condition(request.content_length(content.length()).body(content.stream()));
    let send: Sending<'_, Version> = Box::pin(async move {
        let output = request.send().await.map_err(Failure::of)?;
        read::version(output.e_tag())
    });
    inner.calls.once(Class::Swap, content.bytes, send).await
}

/// How this server wants an ETag in `If-Match`; learned from it.
#[derive(Debug, Default)]
pub(super) struct EtagForm {
    known: AtomicU8,
}

/// `"…"` as it came (RFC 9110, section 8.8.3), or without the quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Quoted,
    Bare,
}

impl Form {
    fn other(self) -> Self {
        match self {
            Form::Quoted => Form::Bare,
            Form::Bare => Form::Quoted,
        }
    }

    fn of(self, version: &Version) -> String {
        match self {
            Form::Quoted => version.0.to_string(),
            Form::Bare => version.0.trim_matches('"').to_owned(),
        }
    }
}

impl EtagForm {
    const QUOTED: u8 = 1;
    const BARE: u8 = 2;

    /// The form that fitted, or the one of the RFC.
    pub(super) fn now(&self) -> Form {
        if self.known.load(Ordering::Relaxed) == Self::BARE { Form::Bare } else { Form::Quoted }
    }

    fn fits(&self, form: Form) {
        let known = if form == Form::Bare { Self::BARE } else { Self::QUOTED };
        self.known.store(known, Ordering::Relaxed);
    }

    /// Whether none has fitted yet: then it may be why a condition did not hold. Only at the start, where a wrong ETag is tried as well: a form that the
    /// server overlooks would overwrite whatever lies there.
    fn is_unknown(&self) -> bool {
        self.known.load(Ordering::Relaxed) == 0
    }
}

/// What is written: pieces that are shared with every try.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pieces: Arc<[Bytes]>,
    pub(super) bytes: u64,
}

impl Content {
    pub(super) fn new(pieces: Vec<Bytes>) -> Self {
        let bytes = pieces.iter().map(|piece| u64::try_from(piece.len()).expect("a piece lies in memory")).sum();
        Content { pieces: pieces.into(), bytes }
    }

    pub(super) fn length(&self) -> i64 {
        i64::try_from(self.bytes).expect("it lies in memory")
    }

    /// A body that can be sent again, without a copy.
    pub(super) fn stream(&self) -> ByteStream {
        let content = self.clone();
        ByteStream::new(SdkBody::retryable(move || {
            SdkBody::from_body_1_x(Sent { next: 0, left: content.bytes, pieces: Arc::clone(&content.pieces) })
        }))
    }
}

struct Sent {
    pieces: Arc<[Bytes]>,
    next: usize,
    left: u64,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(piece) = self.pieces.get(self.next).cloned() {
            self.next += 1;
            if !piece.is_empty() {
                self.left -= u64::try_from(piece.len()).expect("a piece lies in memory");
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_of_pieces_can_be_sent_again() {
        let content = Content::new(vec![Bytes::from("a"), Bytes::new(), Bytes::from("bc")]);
        assert_eq!(content.length(), 3);
        for _ in 0..2 {
            let body = content.stream().into_inner();
            assert_eq!(body.content_length(), Some(3));
            assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        }
    }

    #[test]
    fn a_form_that_fitted_is_never_doubted() {
        let form = EtagForm::default();
        assert!(form.is_unknown());
        form.fits(Form::Bare);
        assert_eq!((form.now(), form.is_unknown()), (Form::Bare, false));
    }

    #[test]
    fn the_bare_form_has_no_quotes() {
        let version = Version("\"abc-2\"".into());
        assert_eq!((Form::Quoted.of(&version).as_str(), Form::Bare.of(&version).as_str()), ("\"abc-2\"", "abc-2"));
    }
}
