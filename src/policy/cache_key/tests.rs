use super::*;
use crate::policy::fixtures::{Request, fields, route};

fn keyed() -> Route {
    Route {
        headers: vec![HeaderName::from_static("x-a"), HeaderName::from_static("x-b")],
        cookies: vec!["c".to_owned(), "d".to_owned()],
        ..route("/a")
    }
}

fn key(request: &Request, credential: Option<&[u8]>) -> CacheKey {
    CacheKey::new(&keyed(), &request.head(), request.query.as_deref(), credential)
}

#[test]
fn whatever_tells_two_requests_apart_is_in_the_key() {
    let get = || Request::get("/a");
    let requests = [
        get(),
        Request { scheme: "https", ..get() },
        Request { host: "b.example".to_owned(), ..get() },
        Request::get("/a/"),
        Request::get("/a?"),
        Request::get("/a?x"),
        Request { host: "api.example/a".to_owned(), path: String::new(), ..get() },
        get().with("x-a", ""),
        get().with("x-a", "1"),
        get().with("x-b", "1"),
        get().with("x-a", "1").with("x-a", "2"),
        get().with("x-a", "2").with("x-a", "1"),
        get().with("x-a", "1, 2"),
        get().with("x-a", "12"),
        get().with("x-a", "1").with("x-b", "2"),
        get().with("cookie", "c"),
        get().with("cookie", "c="),
        get().with("cookie", "c=1"),
        get().with("cookie", "d=1"),
        get().with("cookie", "c=1; c=2"),
        get().with("cookie", "c=1; d=1"),
    ];
    for (at, one) in requests.iter().enumerate() {
        assert_eq!(key(one, None), key(one, None));
        assert_ne!(key(one, None), key(one, Some(b"")));
        assert_ne!(key(one, Some(b"me")), key(one, Some(b"you")));
        for other in &requests[..at] {
            assert_ne!(key(one, None), key(other, None), "{one:?} {other:?}");
        }
    }
}

#[test]
fn what_the_route_does_not_tell_apart_is_not_in_the_key() {
    let plain = key(&Request::get("/a").with("cookie", "c=1"), None);
    for same in [
        Request::new("HEAD", "/a").with("cookie", "c=1"),
        Request::get("/a").with("cookie", "other=1; c=1"),
        Request::get("/a").with("cookie", "other=1").with("cookie", "c=1"),
        Request::get("/a").with("cookie", "c=1").with("accept", "text/plain"),
    ] {
        assert_eq!(key(&same, None), plain, "{same:?}");
    }
}

#[test]
fn each_selecting_field_is_in_the_key() {
    let plain = || Request::get("/a").with("host", "a").with("authorization", "Bearer x");
    for name in crate::policy::selecting_fields::names() {
        let with = |value: &str| key(&plain().with(name.as_str(), value), None);
        assert!(with("1") != key(&plain(), None) && with("1") != with("2"), "{name}");
    }
}

#[test]
fn a_variant_is_told_by_its_fields_values() {
    let names = [HeaderName::from_static("accept"), HeaderName::from_static("x")];
    let variant = |lines: &[(&'static str, &str)]| {
        CacheKey([0; 32]).variant_key_by_names(&names, &fields(lines), Negotiated::Plain)
    };
    assert_ne!(variant(&[]), variant(&[("accept", "")]));
    assert_ne!(variant(&[("accept", "a")]), variant(&[("accept", "b")]));
    assert_ne!(variant(&[("accept", "a")]), variant(&[("x", "a")]));
    assert_ne!(variant(&[("accept", "a, b")]), variant(&[("accept", "b, a")]));
    assert_ne!(variant(&[("accept", "\"a, b\"")]), variant(&[("accept", "\"a,b\"")]));
    assert_ne!(variant(&[("accept", "A")]), variant(&[("accept", "a")]));
    assert_eq!(variant(&[("accept", "a, b")]), variant(&[("accept", "a ,b ")]));
    assert_eq!(variant(&[("accept", "a, b")]), variant(&[("accept", "a"), ("accept", "b")]));
    assert_eq!(variant(&[("other", "a")]), variant(&[]));
    let other = CacheKey([1; 32]).variant_key_by_names(&names, &fields(&[]), Negotiated::Plain);
    assert_ne!(variant(&[]), other);
}
