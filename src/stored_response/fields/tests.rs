use proptest::prelude::*;

use http::HeaderName;
use http::header::CONTENT_TYPE;

use super::*;

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

fn stored(headers: &HeaderMap) -> StoredFields {
    StoredFields::new(headers, &[""; 0])
}

fn read(fields: &StoredFields) -> Option<StoredFields> {
    let (shape, tags_at, text) = fields.encoded_parts();
    StoredFields::decode(shape, tags_at, Bytes::copy_from_slice(text))
}

#[test]
fn what_is_kept_of_a_read_buffer_does_not_keep_all_of_it() {
    let buffer = Bytes::from(vec![b'x'; 8192]);
    let mut headers = HeaderMap::new();
    for (name, end) in [("a", 3), ("b", 0), ("a", 5), ("content-type", 2)] {
        let value = HeaderValue::from_maybe_shared(buffer.slice(..end)).expect("a value");
        headers.append(HeaderName::from_static(name), value);
    }
    let fields = stored(&headers);
    assert_eq!(fields.to_map(), headers);
    drop(headers);
    assert!(buffer.is_unique());
}

#[test]
fn neither_is_a_buffer_kept_once_no_more_is_kept_for_ever() {
    for n in 0..10 {
        let names: String = (0..500).map(|m| format!("x-for-ever-{n}-{m}\n")).collect();
        assert!(
            StoredFields::decode(
                names.as_bytes(),
                500 * LENGTH_PREFIX_BYTES as u32,
                Bytes::from(vec![0; 500 * LENGTH_PREFIX_BYTES])
            )
            .is_some()
        );
    }
    let buffer = Bytes::from(vec![b'z'; 8192]);
    let value = HeaderValue::from_maybe_shared(buffer.slice(..9)).expect("a value");
    let stored = stored(&HeaderMap::from_iter([(CONTENT_TYPE, value)]));
    assert_eq!(stored.to_map(), headers(&[("content-type", "zzzzzzzzz")]));
    assert!(buffer.is_unique());
}

#[test]
fn the_age_is_that_of_now_and_never_that_of_before() {
    let fields = stored(&headers(&[("age", "7"), ("etag", "\"1\"")]));
    assert_eq!(fields.to_map(), headers(&[("etag", "\"1\"")]));
    assert!(fields.contains(&http::header::ETAG) && !fields.contains(&AGE));
    let with_age = fields.with_age(HeaderValue::from_static("9"));
    assert_eq!(with_age, headers(&[("etag", "\"1\""), ("age", "9"), ("cache-status", "")]));
}

#[test]
fn a_cache_status_of_another_cache_stays_and_gets_no_place() {
    let of_another = headers(&[("cache-status", "cdn; hit"), ("etag", "\"1\"")]);
    for (all, is_stored) in [(of_another, true), (headers(&[("etag", "\"1\"")]), false)] {
        let fields = stored(&all);
        assert_eq!((fields.to_map(), fields.contains(&CACHE_STATUS)), (all, is_stored));
        let with_age = fields.with_age(HeaderValue::from_static("9"));
        assert_eq!(with_age.get_all(CACHE_STATUS).iter().count(), 1);
        assert_eq!(with_age[CACHE_STATUS].is_empty(), !is_stored);
    }
}

#[test]
fn what_many_have_in_common_is_kept_once() {
    let one = stored(&headers(&[("x-kept-once", "1"), ("etag", "\"1\"")]));
    let other = stored(&headers(&[("x-kept-once", "22"), ("etag", "")]));
    assert!(Arc::ptr_eq(&one.shape, &other.shape));
    assert!(one.weight() > other.weight(), "the shape counts as the first one's");
    let reordered = stored(&headers(&[("etag", "\"1\""), ("x-kept-once", "1")]));
    assert!(!Arc::ptr_eq(&one.shape, &reordered.shape));

    let of_type = |content_type| stored(&headers(&[("content-type", content_type), ("etag", "1")]));
    let (html, json) = (of_type("text/html"), of_type("application/json"));
    assert!(Arc::ptr_eq(&html.shape, &of_type("text/html").shape));
    assert!(!Arc::ptr_eq(&html.shape, &json.shape));
    assert_eq!((html.text.len(), json.text.len()), (5, 5), "only the entity tag is each one's own");
}

#[test]
fn what_is_unusually_large_is_no_example_to_others() {
    let mut headers = HeaderMap::new();
    for n in 0..70 {
        headers.insert(
            HeaderName::try_from(format!("x-one-of-many-{n}")).expect("a name"),
            HeaderValue::from(n),
        );
    }
    let (one, other) = (stored(&headers), stored(&headers));
    assert_eq!((one.to_map(), one.weight()), (headers, other.weight()), "each has its own, and it counts");
    assert!(!Arc::ptr_eq(&one.shape, &other.shape));
}

#[test]
fn what_can_not_be_fields_is_not_read() {
    let (names, values) = (&b"a\nb\n"[..], &b"\x01\0\0\0\x02\0\0\0xyy"[..]);
    let read = |names: &[u8], values: &[u8]| {
        StoredFields::decode(names, values.len() as u32, Bytes::copy_from_slice(values))
    };
    assert_eq!(read(names, values).map(|fields| fields.to_map()), Some(headers(&[("a", "x"), ("b", "yy")])));
    for names in [
        &b"a\n"[..],
        b"a\nb",
        b"a\nb\nc\n",
        b"a\n\n",
        b"a\nb \n",
        b"a\nage\n",
        b"a\nb: yy\n",
        b"a\nvary: \n",
        b"",
    ] {
        assert!(read(names, values).is_none(), "{names:?}");
    }
    let huge = b"\xff\xff\xff\xff\x02\0\0\0xyy";
    for values in [&values[..10], &b"\x01\0\0\0"[..], b"", b"\x01\0\0\0\x02\0\0\0x\ny", huge] {
        assert!(read(names, values).is_none(), "{values:?}");
    }
    let (fields, text) = (values.len() as u32, [values, b"a\n"].concat());
    let read = |tags_at, text: &[u8]| StoredFields::decode(names, tags_at, Bytes::copy_from_slice(text));
    assert!(read(fields, &text).is_some());
    for tags_at in [0, 8, fields - 1, fields + 1, fields + 3, u32::MAX] {
        assert!(read(tags_at, &text).is_none(), "{tags_at}");
    }
    for tags in [&b"a"[..], b"\xff\n"] {
        assert!(read(fields, &[values, tags].concat()).is_none(), "{tags:?}");
    }
}

#[test]
fn tags_are_told_apart() {
    for tags in [&[][..], &[""], &["a"], &["a", "", "b:1"]] {
        let stored = StoredFields::new(&headers(&[("etag", "1")]), tags);
        for stored in [&stored, &read(&stored).expect("what was written")] {
            assert_eq!(stored.tags().collect::<Vec<_>>(), tags);
            assert_eq!(stored.to_map(), headers(&[("etag", "1")]));
        }
    }
}

#[test]
fn more_fields_than_a_map_takes_are_not_read() {
    let names: String = (0..40_000).map(|n| format!("x-{n}\n")).collect();
    assert!(
        StoredFields::decode(
            names.as_bytes(),
            40_000 * LENGTH_PREFIX_BYTES as u32,
            Bytes::from(vec![0; 40_000 * LENGTH_PREFIX_BYTES])
        )
        .is_none()
    );
}

/// RFC 7541 §6.2.3: never-indexed fields keep that property.
#[test]
fn a_sensitive_value_stays_one() {
    let mut all =
        headers(&[("content-type", "text/html"), ("x-signature", "s"), ("x-empty", ""), ("etag", "1")]);
    let is_sensitive = |map: &HeaderMap| map.values().map(HeaderValue::is_sensitive).collect::<Vec<_>>();
    all.values_mut().take(3).for_each(|value| value.set_sensitive(true));
    let stored = stored(&all);
    let read = read(&stored).expect("what was written");
    for fields in [&stored, &read] {
        assert_eq!(fields.to_map(), all);
        assert_eq!(is_sensitive(&fields.to_map()), [true, true, true, false]);
        let with_age = fields.with_age(HeaderValue::from_static("1"));
        assert_eq!(is_sensitive(&with_age), [true, true, true, false, false, false]);
    }
    all.values_mut().for_each(|value| value.set_sensitive(false));
    assert_eq!(is_sensitive(&super::tests::stored(&all).to_map()), [false; 4]);
}

proptest! {
    #[test]
    fn any_fields_come_back_in_their_order(
        fields in proptest::collection::vec(("[a-d][a-z0-9-]{0,2}|vary|content-type", "[\t -~\u{80}-\u{ff}]{0,40}"), 0..40),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &fields {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value);
        }
        headers.remove(AGE);
        let stored = stored(&headers);
        let read = read(&stored).expect("what was written");
        let in_order = |map: HeaderMap| map.iter().map(|(n, v)| (n.clone(), v.clone())).collect::<Vec<_>>();
        prop_assert_eq!(in_order(stored.to_map()), in_order(headers.clone()));
        prop_assert_eq!(in_order(read.to_map()), in_order(headers));
    }
}
