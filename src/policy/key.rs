//! What selects a page? Method, scheme, host, normalised path, query, key headers, and the fields that the page varies by.
//!
//! Pure. Whether the page may be kept at all is asked in `rules`.

use http::header::ACCEPT_ENCODING;
use http::{HeaderName, Method};
use sha1::{Digest, Sha1};

use super::fields;
use super::request_fields::RequestFields;
use crate::page::Key;

/// The key of a request, before `Vary` has its say. No part of it can hold a zero byte, which separates them.
#[must_use]
pub fn base(
    method: &Method,
    https: bool,
    host: &str,
    path: &str,
    query: Option<&str>,
    selected: &[HeaderName],
    request: RequestFields<'_>,
) -> Key {
    let mut sha1 = Sha1::new();
    sha1.update(method.as_str());
    sha1.update(if https { b"\0https\0" as &[u8] } else { b"\0http\0" });
    sha1.update(host);
    sha1.update(b"\0");
    sha1.update(path);
    if let Some(query) = query {
        sha1.update(b"?");
        sha1.update(query);
    }
    for name in selected {
        add_field(&mut sha1, name, request);
    }
    Key(sha1.finalize().into())
}

/// The key of one variant of the page with this key (RFC 9111, section 4.1): from the visitor's request.
#[must_use]
pub fn variant(base: &Key, fields: &[HeaderName], request: RequestFields<'_>) -> Key {
    let mut sha1 = Sha1::new();
    sha1.update(base.0);
    for name in fields {
        add_field(&mut sha1, name, request);
    }
    Key(sha1.finalize().into())
}

/// As the origin sees the field, so without what `Connection` takes away. One that is absent differs from one that is empty; several lines count in their order.
fn add_field(sha1: &mut Sha1, name: &HeaderName, request: RequestFields<'_>) {
    sha1.update(b"\0\0");
    sha1.update(name.as_str());
    if name == ACCEPT_ENCODING {
        sha1.update(fields::accepted_codings(request));
        return;
    }
    if fields::is_listed_in_connection(request, name) {
        return;
    }
    for value in request.all(name) {
        sha1.update(b"\0");
        sha1.update(value);
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, ACCEPT_LANGUAGE};
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use crate::policy::request_fields::tests::{both_ways, sent};

    #[test]
    fn every_part_selects() {
        let none = HeaderMap::new();
        let key = |method, https, host, path, query| base(&method, https, host, path, query, &[], (&none).into());
        let page = key(Method::GET, false, "a", "/p", None);
        assert_eq!(page, key(Method::GET, false, "a", "/p", None));
        for other in [
            key(Method::HEAD, false, "a", "/p", None),
            key(Method::GET, true, "a", "/p", None),
            key(Method::GET, false, "b", "/p", None),
            key(Method::GET, false, "a", "/q", None),
            key(Method::GET, false, "a", "/p", Some("")),
            key(Method::GET, false, "a", "/p", Some("x")),
        ] {
            assert_ne!(page, other);
        }
    }

    fn fields(values: &[Option<&str>]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in [ACCEPT, ACCEPT_LANGUAGE].iter().zip(values) {
            if let Some(value) = value {
                map.append(name, HeaderValue::from_str(value).unwrap());
            }
        }
        map
    }

    proptest! {
        #[test]
        fn variants_differ_exactly_where_their_fields_do(
            a in prop::array::uniform2(prop::option::of("[ -~]{0,5}")),
            b in prop::array::uniform2(prop::option::of("[ -~]{0,5}")),
        ) {
            let page = base(&Method::GET, false, "h", "/", None, &[], (&HeaderMap::new()).into());
            let key = |values: &[Option<String>; 2]| {
                let values: Vec<_> = values.iter().map(Option::as_deref).collect();
                variant(&page, &[ACCEPT, ACCEPT_LANGUAGE], (&fields(&values)).into())
            };
            prop_assert_eq!(key(&a) == key(&b), a == b);
        }

        #[test]
        fn a_variant_does_not_depend_on_where_the_fields_lie(
            sent in sent(&["accept", "accept-language", "accept-encoding", "connection"], "(gzip|br|accept|;q=0|, |[a-z ]){0,3}"),
        ) {
            let page = base(&Method::GET, false, "h", "/", None, &[], (&HeaderMap::new()).into());
            let [map, lines] = both_ways(&sent, |fields| variant(&page, &[ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE], fields));
            prop_assert_eq!(map, lines);
        }

        #[test]
        fn no_path_and_query_are_taken_for_others(path in "/[a-z]{0,3}", query in prop::option::of("[a-z=&]{0,4}"), host in "[a-z]{1,3}",
            path2 in "/[a-z]{0,3}", query2 in prop::option::of("[a-z=&]{0,4}"), host2 in "[a-z]{1,3}") {
            let none = HeaderMap::new();
            let key = |host: &str, path: &str, query: &Option<String>| base(&Method::GET, false, host, path, query.as_deref(), &[], (&none).into());
            prop_assert_eq!(
                key(&host, &path, &query) == key(&host2, &path2, &query2),
                (host, path, query) == (host2, path2, query2)
            );
        }
    }
}
