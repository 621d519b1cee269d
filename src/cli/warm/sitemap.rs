//! Which pages does a sitemap name (sitemaps.org, protocol 0.9)?
//!
//! Pure: it reads text and fetches nothing.

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::Event;

/// URLs in one sitemap: the protocol's own bound.
pub(super) const URLS_MAX: usize = 50_000;
/// Elements within each other; a sitemap needs three.
const DEPTH_MAX: usize = 32;

/// What a file is.
#[derive(Debug, PartialEq)]
pub(super) enum Sitemap {
    /// The URLs of pages.
    Pages(Vec<String>),
    /// The URLs of further sitemaps.
    Index(Vec<String>),
}

/// Why a text is no sitemap.
#[derive(Debug, thiserror::Error)]
pub(super) enum SitemapError {
    /// It is broken.
    #[error("it is not XML: {0}")]
    Xml(#[from] quick_xml::Error),
    /// A reference to what does not exist.
    #[error("it is not XML: {0}")]
    Escape(#[from] quick_xml::escape::EscapeError),
    /// Something else.
    #[error("it is no sitemap: its root is neither <urlset> nor <sitemapindex>")]
    Root,
    /// The end is missing.
    #[error("it ends too early")]
    CutShort,
    /// More than the protocol allows.
    #[error("it names more than {URLS_MAX} URLs")]
    TooLong,
    /// Built to exhaust its reader.
    #[error("its elements lie too deep in each other")]
    TooDeep,
}

/// Reads a sitemap or an index of sitemaps. The `<loc>` of images and videos are no pages.
pub(super) fn read(text: &str) -> Result<Sitemap, SitemapError> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<String> = Vec::new();
    let mut root = None;
    let (mut urls, mut url) = (Vec::new(), String::new());
    loop {
        let is_url = matches!(&open[..], [_, entry, loc] if (entry == "url" || entry == "sitemap") && loc == "loc");
        match reader.read_event()? {
            Event::Start(_) if open.len() == DEPTH_MAX => return Err(SitemapError::TooDeep),
            Event::Start(start) => open.push(start.local_name().as_ref().to_owned()),
            Event::Text(part) if is_url => url.push_str(&part.xml10_content()),
            Event::CData(part) if is_url => url.push_str(&part.xml10_content()),
            Event::GeneralRef(name) if is_url => url.push_str(&unescape(&format!("&{};", name.xml10_content()))?),
            Event::End(_) => {
                let found = std::mem::take(&mut url);
                if !found.trim().is_empty() {
                    if urls.len() == URLS_MAX {
                        return Err(SitemapError::TooLong);
                    }
                    urls.push(found.trim().to_owned());
                }
                root = open.pop();
            }
            Event::Eof if open.is_empty() => break,
            Event::Eof => return Err(SitemapError::CutShort),
            _ => {}
        }
    }
    match root.as_deref() {
        Some("urlset") => Ok(Sitemap::Pages(urls)),
        Some("sitemapindex") => Ok(Sitemap::Index(urls)),
        _ => Err(SitemapError::Root),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pages_are_named_by_loc_alone() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
              <url><loc> https://shop.example/?a=1&amp;b=2 </loc><lastmod>2026-01-01</lastmod>
                <image:image><image:loc>https://shop.example/a.png</image:loc></image:image></url>
              <url><loc><![CDATA[https://shop.example/?a&b]]></loc></url>
              <url><loc/></url>
            </urlset>"#;
        let urls = ["https://shop.example/?a=1&b=2", "https://shop.example/?a&b"].map(str::to_owned);
        assert_eq!(read(text).unwrap(), Sitemap::Pages(urls.to_vec()));
    }

    #[test]
    fn an_index_names_sitemaps() {
        let text = "<sitemapindex><sitemap><loc>http://a/1.xml</loc></sitemap></sitemapindex>";
        assert_eq!(read(text).unwrap(), Sitemap::Index(vec!["http://a/1.xml".to_owned()]));
    }

    #[test]
    fn what_is_no_sitemap_is_told() {
        let deep = "<a>".repeat(100);
        for (text, why) in [
            ("<html></html>", "it is no sitemap: its root is neither <urlset> nor <sitemapindex>"),
            ("", "it is no sitemap: its root is neither <urlset> nor <sitemapindex>"),
            ("<urlset><url>", "it ends too early"),
            (&deep, "its elements lie too deep in each other"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), why);
        }
        assert!(read("<urlset></a>").is_err());
        let long = format!("<urlset>{}</urlset>", "<url><loc>/</loc></url>".repeat(URLS_MAX + 1));
        assert!(matches!(read(&long), Err(SitemapError::TooLong)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(<urlset>|<url>|<loc>|</loc>|</url>|</urlset>|&amp;|&#0;|&x;|<!\\[CDATA\\[|\\]\\]>|[ -~]){0,30}") {
            let _ = read(&text);
        }
    }
}
