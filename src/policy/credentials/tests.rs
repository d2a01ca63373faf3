use super::*;
use crate::policy::fixtures::{CREDENTIALS, fields, route};

#[test]
fn the_credential_of_a_route_is_given_once_or_not_at_all() {
    let header = Credential::Header(HeaderName::from_static("x-api-key"));
    let session = Credential::Cookie("session".to_owned());
    let authorization = Credential::Authorization;
    for (credential, lines, expected) in [
        (&authorization, &[][..], None),
        (&authorization, &[("authorization", "Bearer a")], Some("Bearer a")),
        (&authorization, &[("authorization", "")], None),
        (&authorization, &[("authorization", "a"), ("authorization", "b")], None),
        (&authorization, &[("authorization", "a"), ("authorization", "a")], None),
        (&header, &[("authorization", "a")], None),
        (&header, &[("x-api-key", "k")], Some("k")),
        (&session, &[("cookie", "session=s1")], Some("s1")),
        (&session, &[("cookie", "a=b;session=s=1; c=d")], Some("s=1")),
        (&session, &[("cookie", "a=b"), ("cookie", "session=s1")], Some("s1")),
        (&session, &[("cookie", "session=s1; session=s2")], None),
        (&session, &[("cookie", "session=s1"), ("cookie", "session=s1")], None),
        (&session, &[("cookie", "session=")], None),
        (&session, &[("cookie", "session")], None),
        (&session, &[("cookie", "session =s1")], None),
        (&session, &[("cookie", "session =s1; session=s2")], None),
        (&session, &[("cookie", "Session=s1; xsession=s2")], None),
    ] {
        let value = value_of(credential, &fields(lines)).map(<[u8]>::to_vec);
        assert_eq!(value.as_deref(), expected.map(str::as_bytes), "{lines:?}");
    }
}

#[test]
fn every_credential_that_is_sent_must_stand_in_the_key() {
    let plain = route("/a");
    let authorization = Route { per: Some(Credential::Authorization), ..route("/a") };
    let session = Route { per: Some(Credential::Cookie("session".to_owned())), ..route("/a") };
    let key = Route { per: Some(Credential::Header(HeaderName::from_static("x-api-key"))), ..route("/a") };
    let with_cookie = Route { cookies: vec!["theme".to_owned()], ..authorization.clone() };
    let with_field = Route { headers: vec![header::COOKIE], ..authorization.clone() };
    let both = &[("authorization", "a"), ("cookie", "theme=x")][..];
    for (route, lines, expected) in [
        (&plain, &[][..], true),
        (&plain, &[("accept", "a")], true),
        (&plain, &[("authorization", "a")], false),
        (&plain, &[("cookie", "a=1")], false),
        (&plain, &[("x-api-key", "a")], false),
        (&authorization, &[("authorization", "a")], true),
        (&authorization, both, false),
        (&authorization, &[("authorization", "a"), ("x-api-key", "k")], false),
        (&with_cookie, both, true),
        (&with_cookie, &[("authorization", "a"), ("cookie", "theme=x; role=y")], false),
        (&with_cookie, &[("authorization", "a"), ("cookie", "theme=x"), ("cookie", "role=y")], false),
        (&with_field, both, true),
        (&session, &[("cookie", "session=s")], true),
        (&session, &[("cookie", "session=s; other=1")], true),
        (&session, &[("cookie", "session=s; other")], true),
        (&session, &[("cookie", "session=s"), ("authorization", "a")], false),
        (&key, &[("x-api-key", "k")], true),
        (&key, &[("x-api-key", "k"), ("authorization", "a")], false),
    ] {
        assert_eq!(all_in_key(route, &fields(lines), &CREDENTIALS), expected, "{lines:?}");
    }
}

#[test]
fn what_is_presented_is_told_by_the_configured_fields() {
    assert!(presented(&fields(&[("cookie", "")]), &CREDENTIALS));
    assert!(!presented(&fields(&[("x-token", "a")]), &CREDENTIALS));
    assert!(!presented(&fields(&[("cookie", "a=b")]), &[]));
}

#[test]
fn a_cookie_that_is_sent_twice_has_no_one_value() {
    let headers = fields(&[("cookie", "a=1; b=2; b=3")]);
    assert_eq!(cookie(&headers, "a"), Some("1"));
    assert_eq!(cookie(&headers, "b"), None);
    assert_eq!(cookie(&headers, "c"), None);
    assert_eq!(cookie_values(&headers, "b").collect::<Vec<_>>(), [b"2", b"3"]);
}

#[test]
fn claims_are_read_from_a_bearers_token() {
    // {"sub":"u7","org":{"id":42,"x.y":"z"},"https://a.example/team":"red","n":-1.5,"ok":false,"no":null,"l":[1]}
    const PAYLOAD: &str = "eyJzdWIiOiJ1NyIsIm9yZyI6eyJpZCI6NDIsIngueSI6InoifSwiaHR0cHM6Ly9hLmV4YW1wbGUvdGVhbSI6InJ\
                           lZCIsIm4iOi0xLjUsIm9rIjpmYWxzZSwibm8iOm51bGwsImwiOlsxXX0";
    let token = format!("Bearer e30.{PAYLOAD}.sig");
    for (claim, expected) in [
        ("sub", Some("u7")),
        ("org.id", Some("42")),
        ("org.x.y", Some("z")),
        ("https://a.example/team", Some("red")),
        ("n", Some("-1.5")),
        ("ok", Some("false")),
        ("no", None),
        ("l", None),
        ("org", None),
        ("org.", None),
        ("", None),
        ("sub.x", None),
        ("missing", None),
    ] {
        assert_eq!(jwt_claim(&fields(&[("authorization", &token)]), claim).as_deref(), expected, "{claim}");
    }
    let padded = format!("bearer  e30.{PAYLOAD}=.sig");
    assert_eq!(jwt_claim(&fields(&[("authorization", &padded)]), "sub").as_deref(), Some("u7"));
}

#[test]
fn what_is_not_a_token_has_no_claims() {
    let long = format!("Bearer e30.{}.x", "e30".repeat(3000));
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer abc",
        "Bearer a.b",
        "Bearer e30.e30.x",
        "Bearer e30.!!!.x",
        "Bearer e30.a.x",
        "Bearer e30.ew.x",
        "Basic e30.eyJzdWIiOiJ1NyJ9.x",
        &long,
    ] {
        assert_eq!(jwt_claim(&fields(&[("authorization", value)]), "sub"), None, "{value}");
    }
    let valid = ("authorization", "Bearer e30.eyJzdWIiOiJ1NyJ9.x");
    assert!(jwt_claim(&fields(&[valid]), "sub").is_some());
    assert_eq!(jwt_claim(&fields(&[valid, valid]), "sub"), None);
}
