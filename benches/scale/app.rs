//! The app behind, in this process: gives its pages the fields that Django gives, in memory as hyper leaves it. All that was read of a response lies in one
//! buffer of several KiB, of which body and field values are slices: what keeps a slice keeps all of it.

use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use everpage::proxy::origin::{IncomingBody, Origin, OriginError, OutgoingBody};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};

/// What is said with each page, `ETag` and `Content-Length` aside: as in `benches/compare`.
pub(crate) const FIELDS: [(&str, &str); 6] = [
    ("content-type", "text/html; charset=utf-8"),
    ("last-modified", "Mon, 06 Jan 2025 10:00:00 GMT"),
    ("cache-control", "public, max-age=31536000"),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
];

/// Bytes of hyper's first read buffer.
const BUFFER: usize = 8 << 10;

/// An origin of pages `/<bytes>/...`, with some more fields.
#[derive(Debug, Default)]
pub(crate) struct App {
    pub(crate) more: Vec<(String, String)>,
}

#[async_trait]
impl Origin for App {
    async fn send(&self, request: Request<OutgoingBody>) -> Result<Response<IncomingBody>, OriginError> {
        Ok(self.answer(request.uri().path()))
    }
}

impl App {
    pub(crate) fn answer(&self, path: &str) -> Response<IncomingBody> {
        let bytes = body_bytes(path);
        let etag = format!("\"{}\"", path.trim_start_matches('/').replace('/', "-"));
        let length = bytes.to_string();
        let own = [("etag", &*etag), ("content-length", &*length)];
        let more = self.more.iter().map(|(name, value)| (&**name, &**value));
        let fields: Vec<(&str, &str)> = FIELDS.into_iter().chain(own).chain(more).collect();
        let mut read = BytesMut::with_capacity((bytes + 1024).max(BUFFER));
        fields.iter().for_each(|(_, value)| read.put(value.as_bytes()));
        read.put_bytes(b'x', bytes);
        let mut read = read.freeze();
        let mut response = Response::new(());
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("it is a name");
            let value = HeaderValue::from_maybe_shared(read.split_to(value.len())).expect("it is a value");
            response.headers_mut().append(name, value);
        }
        response.map(|()| body(read))
    }
}

/// `/2048/...` is 2048.
pub(crate) fn body_bytes(path: &str) -> usize {
    path.trim_start_matches('/').split('/').next().and_then(|bytes| bytes.parse().ok()).expect("a path of this bench")
}

fn body(bytes: Bytes) -> IncomingBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
