use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::clock::UnixMillis;
use crate::page::{Key, PathId};

fn name(method: Method) -> ObjectName {
    ObjectName { path: PathId([7; 20]), method, key: Key([9; 20]) }
}

fn small_page() -> Object {
    let head = PageHead {
        method: Method::GET,
        host: "h".into(),
        path: "/".into(),
        query: None,
        status: StatusCode::OK,
        headers: HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("\"x\""))]).into(),
        stored_at: UnixMillis(1),
        age_seconds: 0,
        fresh_seconds: None,
        as_of: Sequence(3),
        journal: JournalId("j".into()),
        tags: vec!["t".into()],
        varied_by: vec![],
    };
    Object::Page(Arc::new(Page::new(head, Bytes::from_static(b"hello"), PathId([7; 20]))))
}

fn signpost() -> Object {
    Object::Variants(Arc::new(Variants {
        fields: vec![http::header::ACCEPT_LANGUAGE],
        known: vec![Key([1; 20]), Key([2; 20])],
        host: "shop.example".into(),
        path: "/blog/".into(),
        as_of: Sequence(4),
        journal: JournalId("j".into()),
    }))
}

fn whole(name: &ObjectName, object: &Object) -> Bytes {
    let Encoded { head, body } = encode(name, object).unwrap();
    [head, body].concat().into()
}

fn assert_same(left: &Object, right: &Object) {
    match (left, right) {
        (Object::Page(left), Object::Page(right)) => {
            assert_eq!((&left.head, &left.body, left.path_id), (&right.head, &right.body, right.path_id));
        }
        (Object::Variants(left), Object::Variants(right)) => assert_eq!(left, right),
        _ => panic!("a page and a signpost: {left:?} {right:?}"),
    }
}

#[test]
fn the_stored_form_is_this_and_stays_this() {
    let path = "07".repeat(20);
    let key = "09".repeat(20);
    let head = format!(
        r#"{{"name":"{path}/GET-{key}","host":"h","path":"/","query":null,"status":200,"headers":[["etag","\"x\""]],"stored_at":1,"age_seconds":0,"fresh_seconds":null,"as_of":3,"journal":"j","tags":["t"],"varied_by":[]}}"#
    );
    let expected = format!("everpage/1 page 276 {:08x} 5 3610a686\n{head}\nhello", crc32fast::hash(head.as_bytes()));
    assert_eq!(String::from_utf8(whole(&name(Method::GET), &small_page()).into()).unwrap(), expected);
}

#[test]
fn a_signpost_comes_back_as_it_was() {
    let name = name(Method::HEAD);
    assert_same(&signpost(), &decode(&name, &whole(&name, &signpost())).unwrap());
}

#[test]
fn a_large_body_is_not_copied() {
    let name = name(Method::GET);
    let Object::Page(small) = small_page() else { unreachable!() };
    for (bytes, is_shared) in
        [(5, false), (1 << 10, false), (16 << 10, true), (block::own_bytes(), false), (1 << 20, true)]
    {
        let page = Page::new(small.head.clone(), Bytes::from(vec![b'x'; bytes]), small.path_id);
        let body = page.body.as_ptr();
        let encoded = encode(&name, &Object::Page(Arc::new(page))).unwrap();
        assert_eq!(encoded.body.as_ptr(), body);
        let stored = Bytes::from([&encoded.head[..], &encoded.body].concat());
        let Object::Page(decoded) = decode(&name, &stored).unwrap() else { unreachable!() };
        assert_eq!(stored.as_ptr_range().contains(&decoded.body.as_ptr()), is_shared, "{bytes}");
    }
}

#[test]
fn the_head_is_read_without_the_body() {
    let name = name(Method::GET);
    let Encoded { head, .. } = encode(&name, &small_page()).unwrap();
    let (Head::Page(found), 5) = decode_head(&name, &head).unwrap() else { panic!("a page of 5 bytes") };
    assert_eq!(&*found.path, "/");
    for end in 0..head.len() {
        decode_head(&name, &head[..end]).unwrap_err();
    }
}

#[test]
fn every_truncation_is_torn() {
    for object in [small_page(), signpost()] {
        let stored = whole(&name(Method::GET), &object);
        for end in 0..stored.len() {
            let error = decode(&name(Method::GET), &stored.slice(..end)).unwrap_err();
            assert!(matches!(error, DecodeError::Unfinished | DecodeError::Torn { .. }), "{end}: {error}");
        }
    }
}

#[test]
fn a_byte_too_many_is_torn() {
    let stored = whole(&name(Method::GET), &small_page());
    let longer = Bytes::from([&stored[..], b"x"].concat());
    assert!(matches!(decode(&name(Method::GET), &longer), Err(DecodeError::Torn { .. })));
}

#[test]
fn every_flipped_bit_is_refused() {
    for object in [small_page(), signpost()] {
        let stored = whole(&name(Method::GET), &object);
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&name(Method::GET), &damaged.into()).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn an_object_under_another_name_is_misplaced() {
    let right = name(Method::GET);
    let stored = whole(&right, &small_page());
    let other_path = ObjectName { path: PathId([8; 20]), ..right.clone() };
    let other_key = ObjectName { key: Key([8; 20]), ..right.clone() };
    for wrong in [other_path, other_key, name(Method::HEAD)] {
        assert_eq!(decode(&wrong, &stored).unwrap_err(), DecodeError::Misplaced(right.clone()));
    }
}

#[test]
fn a_page_is_not_encoded_under_a_name_that_is_not_its_own() {
    assert_eq!(encode(&name(Method::HEAD), &small_page()).unwrap_err(), EncodeError::Misplaced);
    let elsewhere = ObjectName { path: PathId([8; 20]), ..name(Method::GET) };
    assert_eq!(encode(&elsewhere, &small_page()).unwrap_err(), EncodeError::Misplaced);
    let method = Method::from_bytes(b"PROPFIND").unwrap();
    assert_eq!(encode(&name(method), &small_page()).unwrap_err(), EncodeError::Method);
}

#[test]
fn each_refusal_has_its_name() {
    let refused = |bytes: &[u8]| decode(&name(Method::GET), &Bytes::copy_from_slice(bytes)).unwrap_err();
    assert_eq!(refused(b"<html>"), DecodeError::Foreign);
    assert_eq!(refused(&[0; 4096]), DecodeError::Unfinished);
    assert_eq!(refused(b""), DecodeError::Unfinished);
    assert_eq!(refused(b"everpage/2 whatever comes then\n"), DecodeError::Newer(2));
    assert_eq!(refused(format!("everpage/3 {}", "x".repeat(200)).as_bytes()), DecodeError::Newer(3));
    assert_eq!(refused(format!("everpage/1 {}", "x".repeat(200)).as_bytes()), DecodeError::FirstLine);
    assert_eq!(refused(b"everpage/1 page 2 00000000 5497558138881 00000000\n{}\n"), DecodeError::FirstLine);
    assert_eq!(refused(b"everpage/1 page 4194305 00000000 0 00000000\n{}\n"), DecodeError::FirstLine);
    assert_eq!(refused(b"everpage/1 page 02 00000000 0 00000000\n{}\n"), DecodeError::FirstLine);
    assert_eq!(refused(b"everpage/1 page 2 00000000 0 00000000\n{}\n"), DecodeError::HeadChecksum);
    let line = format!("everpage/1 page 2 {:08x} 0 00000000\n{{}}\n", crc32fast::hash(b"{}"));
    assert!(matches!(refused(line.as_bytes()), DecodeError::Head(_)));
    let mut body = whole(&name(Method::GET), &small_page()).to_vec();
    *body.last_mut().unwrap() = b'!';
    assert_eq!(refused(&body), DecodeError::BodyChecksum);
}

fn arbitrary_header() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    let value =
        prop::collection::vec(any::<u8>().prop_filter("no control", |b| *b == 9 || (*b >= 32 && *b != 127)), 0..40);
    ("[a-z][a-z0-9-]{0,12}", value)
        .prop_map(|(n, v)| (HeaderName::try_from(n).unwrap(), HeaderValue::from_bytes(&v).unwrap()))
}

prop_compose! {
    fn arbitrary_head()(
        (host, path, query) in (".{0,20}", "/.{0,40}", prop::option::of(".{0,20}")),
        status in 100_u16..1000,
        headers in prop::collection::vec(arbitrary_header(), 0..8),
        (stored_at, age_seconds, fresh_seconds, as_of) in any::<(u64, u64, Option<u64>, u64)>(),
        journal in ".{0,40}",
        tags in prop::collection::vec(".{0,20}", 0..4),
        varied_by in prop::collection::vec(("[a-z-]{1,12}", ".{0,20}"), 0..3),
    ) -> PageHead {
        let mut fields = HeaderMap::new();
        headers.into_iter().for_each(|(name, value)| { fields.append(name, value); });
        PageHead {
            method: Method::GET,
            host: host.into(),
            path: path.into(),
            query: query.map(Into::into),
            status: StatusCode::from_u16(status).unwrap(),
            headers: fields.into(),
            stored_at: UnixMillis(stored_at),
            age_seconds,
            fresh_seconds,
            as_of: Sequence(as_of),
            journal: JournalId(journal.into()),
            tags: tags.into_iter().map(Into::into).collect(),
            varied_by: varied_by.into_iter().map(|(n, v)| (HeaderName::try_from(n).unwrap(), v)).collect(),
        }
    }
}

proptest! {
    #[test]
    fn any_page_comes_back_as_it_was(head in arbitrary_head(), body: Vec<u8>, path: [u8; 20], key: [u8; 20]) {
        let name = ObjectName { path: PathId(path), method: Method::GET, key: Key(key) };
        let page = Object::Page(Arc::new(Page::new(head, body.into(), name.path)));
        assert_same(&page, &decode(&name, &whole(&name, &page)).unwrap());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, line in "everpage/[0-9]{1,2} (page|variants) [0-9]{1,9} [0-9a-f]{8} [0-9]{1,9} [0-9a-f]{8}\n.{0,40}") {
        prop_assert!(decode(&name(Method::GET), &bytes.into()).is_err());
        prop_assert!(decode(&name(Method::GET), &line.into()).is_err());
    }

    #[test]
    fn any_json_under_a_right_checksum_never_panics(json in "\\{(\"[a-z]{1,9}\":([0-9]{1,30}|\"[^\"\\\\]{0,9}\"|\\[\\]),?){0,14}\\}") {
        for kind in ["page", "variants"] {
            let line = format!("everpage/1 {kind} {} {:08x} 0 00000000\n{json}\n", json.len(), crc32fast::hash(json.as_bytes()));
            prop_assert!(decode(&name(Method::GET), &line.into()).is_err());
        }
    }

    #[test]
    fn a_name_is_shown_and_parsed_alike(path: [u8; 20], key: [u8; 20], method in prop::sample::select(&crate::page::METHODS[..])) {
        let name = ObjectName { path: PathId(path), method, key: Key(key) };
        prop_assert_eq!(name.to_string().parse::<ObjectName>(), Ok(name));
    }
}

#[test]
fn what_is_no_name_is_refused() {
    let digits = "ab".repeat(20);
    for text in [
        String::new(),
        digits.clone(),
        format!("{digits}/{digits}"),
        format!("{digits}/get-{digits}"),
        format!("{digits}/../GET-{digits}"),
        format!("../GET-{digits}"),
        format!("{digits}/GET-{}", digits.to_uppercase()),
        format!("{digits}/PROPFIND-{digits}"),
    ] {
        assert!(text.parse::<ObjectName>().is_err(), "{text}");
    }
}
