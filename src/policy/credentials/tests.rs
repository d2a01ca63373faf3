use super::*;
use crate::policy::caller::CallerSource;
use crate::policy::fixtures::{caller_fields, fields, route};

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
        let value = credential_value(credential, &fields(lines)).map(<[u8]>::to_vec);
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
        assert_eq!(are_credentials_in_key(route, &fields(lines), &caller_fields()), expected, "{lines:?}");
    }
}

#[test]
fn a_field_that_callers_read_is_a_credential() {
    let proof = || Credential::Header(HeaderName::from_static("x-proof"));
    let with = |credentials: Vec<Credential>, per: Option<Credential>| {
        let (name, rules) = ("app".into(), "".into());
        let source = CallerSource { name, index: 0, credentials, rules, has_claims: true };
        Route { callers: Some(source), per, ..route("/a") }
    };
    let (tenant, cookie) =
        (Credential::Header(HeaderName::from_static("x-tenant")), Credential::Cookie("sid".into()));
    let keyed = Route { cookies: vec!["sid".into()], ..with(vec![cookie.clone()], None) };
    for (route, lines, expected) in [
        (&with(vec![proof()], None), &[("x-proof", "a")][..], false),
        (&with(vec![proof()], None), &[], true),
        (&with(vec![proof()], Some(tenant)), &[("x-proof", "a"), ("x-tenant", "5")], false),
        (&with(vec![proof()], Some(proof())), &[("x-proof", "a")], true),
        (&with(vec![proof()], Some(Credential::Identity)), &[("x-proof", "a")], true),
        (&with(vec![cookie], None), &[("cookie", "sid=1")], false),
        (&keyed, &[("cookie", "sid=1; other=2")], true),
    ] {
        let authorization = CallerFields::only(vec![header::AUTHORIZATION]);
        assert_eq!(are_credentials_in_key(route, &fields(lines), &authorization), expected, "{lines:?}");
    }
}

#[test]
fn what_is_presented_is_told_by_the_configured_fields() {
    let finds = |fields_of: CallerFields, lines| fields_of.find_in(&fields(lines)).next().is_some();
    assert!(finds(caller_fields(), &[("cookie", "")]));
    assert!(!finds(caller_fields(), &[("x-token", "a")]));
    assert!(finds(CallerFields::default(), &[("x-token", "a")]));
    assert!(!finds(CallerFields::only(Vec::new()), &[("cookie", "a=b")]));
}
