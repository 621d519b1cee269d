//! What does an object say about itself to people who look into the bucket? Nothing in here is ever read back.

use std::fmt::Write as _;

use http::Method;

use super::CONTENT_TYPE;
use super::bucket::Attributes;
use crate::page::{Object, PageHead, Variants};

/// Characters of a path, and of the query; S3 takes 2 KB of user metadata in all, names included.
const LONG: usize = 600;

/// Characters of a host and of a journal's identity: what a host name may have.
const SHORT: usize = 255;

/// What is said with an object.
pub(super) fn attributes(method: &Method, object: &Object) -> Attributes {
    let metadata = match (object, object.page()) {
        (_, Some((head, _))) => of_page(head),
        (Object::Variants(variants), None) => of_signpost(method, variants),
        (_, None) => Vec::new(),
    };
    Attributes { content_type: Some(CONTENT_TYPE.to_owned()), metadata, is_page: true, ..Attributes::default() }
}

fn of_page(head: &PageHead) -> Vec<(&'static str, String)> {
    let mut said = vec![
        ("kind", "page".to_owned()),
        ("method", head.method.to_string()),
        ("host", ascii(&head.host, SHORT)),
        ("path", ascii(&head.path, LONG)),
        ("status", head.status.as_u16().to_string()),
        ("stored-at", httpdate::fmt_http_date(head.stored_at.to_system_time())),
        ("as-of", head.as_of.to_string()),
        ("journal", ascii(&head.journal.0, SHORT)),
        ("tags", head.tags.len().to_string()),
    ];
    if let Some(query) = &head.query {
        said.push(("query", ascii(query, LONG)));
    }
    said
}

fn of_signpost(method: &Method, variants: &Variants) -> Vec<(&'static str, String)> {
    let fields: Vec<&str> = variants.fields.iter().map(http::HeaderName::as_str).collect();
    vec![
        ("kind", "variants".to_owned()),
        ("method", method.to_string()),
        ("host", ascii(&variants.host, SHORT)),
        ("path", ascii(&variants.path, LONG)),
        ("vary", ascii(&fields.join(","), LONG)),
        ("as-of", variants.as_of.to_string()),
        ("journal", ascii(&variants.journal.0, SHORT)),
    ]
}

/// Visible ASCII, the rest percent-encoded; what is too long ends in three dots.
fn ascii(text: &str, most: usize) -> String {
    let mut said = String::with_capacity(text.len().min(most));
    for byte in text.bytes() {
        let before = said.len();
        if byte.is_ascii_graphic() {
            said.push(char::from(byte));
        } else {
            write!(said, "%{byte:02X}").expect("a string takes everything");
        }
        if said.len() > most - 3 {
            said.truncate(before);
            said.push_str("...");
            break;
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::page::{JournalId, Page};
    use crate::store::contract;

    #[test]
    fn metadata_is_short_visible_ascii_whatever_the_page_is() {
        let (_, Object::Page(page)) = contract::page("/blog/", b"") else { panic!("a page") };
        let long = "\u{1f368} ".repeat(2000);
        let head = PageHead {
            host: long.as_str().into(),
            path: long.as_str().into(),
            query: Some(long.as_str().into()),
            journal: JournalId(long.as_str().into()),
            ..page.head.clone()
        };
        let page = Object::Page(Arc::new(Page::new(head, page.body.clone(), page.path_id)));
        for object in [page, contract::signpost(&long, &long, 5)] {
            let said = attributes(&Method::OPTIONS, &object).metadata;
            let bytes: usize = said.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(bytes <= 2048, "{bytes} bytes");
            assert!(said.iter().all(|(_, value)| value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')));
        }
    }

    #[test]
    fn it_says_what_the_page_is() {
        let (name, page) = contract::page_as_of("/caf\u{e9}/", "q=1", b"hello", "j", 5);
        let said = attributes(&name.method, &page).metadata;
        let expected = [
            ("kind", "page"),
            ("method", "GET"),
            ("host", "shop.example"),
            ("path", "/caf%C3%A9/"),
            ("status", "200"),
            ("stored-at", "Tue, 14 Nov 2023 22:13:20 GMT"),
            ("as-of", "5"),
            ("journal", "j"),
            ("tags", "2"),
            ("query", "q=1"),
        ];
        assert_eq!(said.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(), expected);
    }
}
