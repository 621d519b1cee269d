//! Which request fields select this response? (RFC 9110, section 12.5.5; RFC 9111, section 4.1)

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST, VARY};
use http::{HeaderMap, HeaderName};

use super::{fields, reason::Reason};

/// The fields that `Vary` names, sorted, without those that the origin never sees and `Host`, which is in the key. An encoded response varies by
/// `Accept-Encoding` whether it says so or not.
///
/// # Errors
/// [`Reason::VaryStar`] for `*` in any place, and for what is no list of field names.
pub fn fields(response: &HeaderMap) -> Result<Vec<HeaderName>, Reason> {
    let mut names = Vec::new();
    for line in response.get_all(VARY) {
        for item in line.to_str().map_err(|_| Reason::VaryStar)?.split(',') {
            match item.trim() {
                "" => {}
                "*" => return Err(Reason::VaryStar),
                name => names.push(name.parse::<HeaderName>().map_err(|_| Reason::VaryStar)?),
            }
        }
    }
    if response.contains_key(CONTENT_ENCODING) {
        names.push(ACCEPT_ENCODING);
    }
    names.retain(|name| fields::reaches_origin_on_fill(name) && name != HOST);
    Ok(union(names, &[]))
}

/// Both sets of fields, sorted, each once.
#[must_use]
pub fn union(mut names: Vec<HeaderName>, others: &[HeaderName]) -> Vec<HeaderName> {
    names.extend_from_slice(others);
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}

/// The values of the fields in this request, as they are kept for people to read.
#[must_use]
pub fn values(names: &[HeaderName], request: &HeaderMap) -> Vec<(HeaderName, String)> {
    let value = |name: &HeaderName| {
        if name == ACCEPT_ENCODING {
            return fields::accepted_codings(request.into()).to_owned();
        }
        let lines: Vec<_> = request.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        lines.join(", ")
    };
    names.iter().map(|name| (name.clone(), value(name))).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn vary(lines: &[&str]) -> Result<Vec<HeaderName>, Reason> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(VARY, HeaderValue::from_str(line).unwrap());
        }
        super::fields(&headers)
    }

    #[test]
    fn names_are_gathered_from_all_lines() {
        let names = vary(&["Accept-Language, accept", "ACCEPT"]).unwrap();
        assert_eq!(names, ["accept", "accept-language"]);
    }

    #[test]
    fn a_star_anywhere_refuses() {
        for lines in [&["*"][..], &["accept", " * "], &["accept, *"], &["a b"]] {
            assert_eq!(vary(lines), Err(Reason::VaryStar), "{lines:?}");
        }
    }

    #[test]
    fn what_the_origin_never_sees_does_not_select() {
        assert_eq!(vary(&["Cookie, Authorization, Host, X-Forwarded-Proto"]).unwrap(), [] as [HeaderName; 0]);
    }

    #[test]
    fn an_encoded_response_varies_by_accept_encoding() {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
        assert_eq!(super::fields(&headers).unwrap(), ["accept-encoding"]);
    }

    proptest! {
        #[test]
        fn what_selects_is_sorted_and_reaches_the_origin(
            lines in prop::collection::vec("([A-Za-z-]{1,12}|Cookie|[*]|x-forwarded-for|[ ,;\u{e9}]){0,6}", 0..4),
            encoded: bool,
        ) {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append(VARY, HeaderValue::from_str(line).unwrap());
            }
            if encoded {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            match super::fields(&headers) {
                Ok(names) => {
                    prop_assert!(names.iter().all(fields::reaches_origin_on_fill));
                    prop_assert!(names.is_sorted_by(|a, b| a.as_str() < b.as_str()));
                    prop_assert!(!encoded || names.contains(&ACCEPT_ENCODING));
                    prop_assert!(!lines.iter().flat_map(|line| line.split(',')).any(|item| item.trim() == "*"));
                }
                Err(reason) => prop_assert_eq!(reason, Reason::VaryStar),
            }
        }
    }
}
