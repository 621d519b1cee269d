//! Is this one plain request, whole? httparse, the parser that hyper uses, reads the head; here stands what is plain.
//!
//! Whoever is in doubt says no: hyper reads the same bytes then, and answers.

use std::mem::MaybeUninit;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
    RANGE, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Version};

use crate::policy::request_fields::RequestFields;
use crate::proxy::visit::Asked;

/// Fields of a head that are read without hyper. Browsers send some twenty.
const FIELDS_MAX: usize = 64;

/// What follows a head, or decides how it is answered: none of them is plain.
const NOT_PLAIN: [HeaderName; 5] = [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, UPGRADE, RANGE];

/// RFC 9110, section 13.
const CONDITIONS: [HeaderName; 4] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE];

/// A plain request.
pub(super) struct Plain<'a> {
    pub(super) asked: Asked<'a>,
    /// It has preconditions.
    pub(super) has_condition: bool,
    /// The visitor wants the connection to end after the answer.
    pub(super) closes: bool,
}

/// Lets `answer` see the request, if these bytes are exactly one that is plain.
pub(super) fn read<T>(bytes: &[u8], fields_max: usize, answer: impl FnOnce(&Plain<'_>) -> Option<T>) -> Option<T> {
    let method = match bytes {
        [b'G', b'E', b'T', b' ', b'/', ..] => &Method::GET,
        [b'H', b'E', b'A', b'D', b' ', b'/', ..] => &Method::HEAD,
        _ => return None,
    };
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut fields).ok()?;
    let is_one_whole_head = parsed == httparse::Status::Complete(bytes.len());
    if !is_one_whole_head || request.version != Some(1) || request.headers.len() > fields_max || !has_strict_ends(bytes)
    {
        return None;
    }
    let target = request.path?;
    if !target.bytes().all(|byte| IS_PLAIN[usize::from(byte)]) {
        return None;
    }
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let fields = RequestFields::from(&*request.headers);
    if NOT_PLAIN.iter().any(|name| fields.contains(name)) {
        return None;
    }
    let asked = Asked { method, version: Version::HTTP_11, scheme: None, authority: None, path, query, target, fields };
    let has_condition = CONDITIONS.iter().any(|name| fields.contains(name));
    answer(&Plain { asked, has_condition, closes: closes(fields)? })
}

/// Every line ends in CR LF: httparse takes a bare LF too, and the guard does not (RFC 9112, section 2.2).
fn has_strict_ends(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).all(|end| end > 0 && head[end - 1] == b'\r')
}

/// Whether `Connection` says close; `None`: it says something else than that or keep-alive.
fn closes(fields: RequestFields<'_>) -> Option<bool> {
    let mut closes = false;
    for line in fields.all(&CONNECTION) {
        if line.eq_ignore_ascii_case(b"close") {
            closes = true;
        } else if !line.eq_ignore_ascii_case(b"keep-alive") {
            return None;
        }
    }
    Some(closes)
}

/// The characters of a target (RFC 3986, sections 3.3 and 3.4), which any parser takes as they are. A `#`, which ends a target for some, is not among them.
const IS_PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/%?";
    let mut index = 0;
    while index < plain.len() {
        table[plain[index] as usize] = true;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, query, whether there is a condition, whether the connection is to end.
    type Seen = (String, Option<String>, bool, bool);

    fn seen(head: &str) -> Option<Seen> {
        read(head.as_bytes(), FIELDS_MAX, |plain| {
            assert_eq!(plain.asked.method.as_str(), head.split(' ').next().unwrap());
            let query = plain.asked.query.map(str::to_owned);
            Some((plain.asked.path.to_owned(), query, plain.has_condition, plain.closes))
        })
    }

    #[test]
    fn what_browsers_send_is_plain() {
        let browser = "Host: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\nAccept-Language: de,en-US;q=0.7\r\n\
            Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://shop.example/?a#b\r\nConnection: keep-alive\r\nCookie: theme=dark; _ga=1\r\n\
            Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nPriority: u=0, i\r\nTE: trailers\r\nX-Name: M\u{fc}ller\r\n";
        let head = format!("GET /a/b%20c/?q=1&r=/?;%C3%A4 HTTP/1.1\r\n{browser}\r\n");
        assert_eq!(seen(&head), Some(("/a/b%20c/".into(), Some("q=1&r=/?;%C3%A4".into()), false, false)));
        let head = format!("HEAD / HTTP/1.1\r\n{browser}if-NONE-match: *\r\nconnection: Close\r\n\r\n");
        assert_eq!(seen(&head), Some(("/".into(), None, true, true)));
    }

    #[test]
    fn what_is_not_plain_is_left_to_hyper() {
        assert!(seen("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").is_some());
        for head in [
            "",
            "GET /a HTTP/1.1\r\nHost: a\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\n\r",
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\nG",
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
            "\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET  /a HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /a HTTP/1.1\r\nHost: a\r\n\r\n",
            "get /a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a# HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a\u{1} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a\" HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(seen(head), None, "{head:?}");
        }
        for field in [
            "Content-Length: 0",
            "transfer-encoding: chunked",
            "EXPECT: 100-continue",
            "Upgrade: h2c",
            "Range: bytes=0-",
            "Connection: close, x",
            "Connection: upgrade",
            "Connection:",
            "Connection: close\r\nConnection: x",
            "X: a\nY: b",
            "X: a\0",
            "X: a\rb",
            "X : a",
            " X: a",
            "X: a\r\n b",
            "X",
        ] {
            let head = format!("GET /a HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
            assert_eq!(seen(&head), None, "{head:?}");
        }
    }

    #[test]
    fn more_fields_than_allowed_are_left_to_hyper() {
        let head = format!("GET /a HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5));
        assert_eq!(read(head.as_bytes(), 5, |_| Some(())), Some(()));
        assert_eq!(read(head.as_bytes(), 4, |_| Some(())), None);
        let head = head.replace("X: y\r\n", &"X: y\r\n".repeat(FIELDS_MAX));
        assert_eq!(read(head.as_bytes(), 1000, |_| Some(())), None);
    }
}
