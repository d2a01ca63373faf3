use super::*;
use crate::policy::fixtures::fields;

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
        assert_eq!(read_claim(&fields(&[("authorization", &token)]), claim).as_deref(), expected, "{claim}");
    }
    let padded = format!("bearer  e30.{PAYLOAD}=.sig");
    assert_eq!(read_claim(&fields(&[("authorization", &padded)]), "sub").as_deref(), Some("u7"));
}

/// Some send header and payload in one cookie, and the signature in another.
#[test]
fn a_token_ends_by_its_payload() {
    let ends = |claims: &str, rest: &str| {
        let base64 = |text: &str| base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, text);
        read_expiry(format!("e30.{}{rest}", base64(claims)).as_bytes())
    };
    let end = Some(Timestamp::from_secs(1_763_640_000));
    for claims in [r#"{"exp":1763640000}"#, r#"{"exp":"1763640000"}"#, r#"{"exp":" 1763640000.5 "}"#] {
        assert_eq!((ends(claims, ".sig"), ends(claims, "")), (end, end), "{claims}");
    }
    for claims in [r#"{"exp":"soon"}"#, r#"{"exp":""}"#, r#"{"exp":null}"#, "{}", "1"] {
        assert_eq!(ends(claims, ""), None, "{claims}");
    }
    assert_eq!(read_expiry(b"e30"), None);
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
        assert_eq!(read_claim(&fields(&[("authorization", value)]), "sub"), None, "{value}");
    }
    let valid = ("authorization", "Bearer e30.eyJzdWIiOiJ1NyJ9.x");
    assert!(read_claim(&fields(&[valid]), "sub").is_some());
    assert_eq!(read_claim(&fields(&[valid, valid]), "sub"), None);
}
