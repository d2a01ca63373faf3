//! Tests of verification: what is signed rightly, for larder and now, is known, and nothing else.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::key_set::KeySet;
use super::*;
use crate::clock::Timestamp;
use crate::config::{Config, JwtAlgorithm};
use crate::policy::caller::Identity;

const SECRET: &str = "a secret of more than thirty-two bytes";
const NOW: Timestamp = Timestamp::from_secs(1_763_640_000);

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn token(header: &Value, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", base64(header.to_string()), base64(claims));
    format!("{signed}.{}", base64(sign(signed.as_bytes())))
}

fn hs256(secret: &str) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    move |signed| hmac::sign(&key, signed).as_ref().to_vec()
}

/// The callers of a configuration, and the source of its first route.
fn callers(jwt: &str) -> (Arc<Callers>, CallerSource, Clock) {
    let text = format!(
        "upstream: http://a\ncallers: {{app: {{jwt: {{{jwt}}}}}}}\n\
         routes: [{{path: /a, ttl: 1m, callers: app, per: [jwt.sub, jwt.org.id]}}]"
    );
    let config = Config::parse(&text, "", &|_| None, &Default::default()).unwrap_or_else(|e| panic!("{e}"));
    let clock = Clock::manual(NOW);
    let source = config.routes[0].callers.clone().unwrap();
    (Callers::new(&config.callers, clock.clone()).unwrap(), source, clock)
}

fn sent(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn bearer(token: &str) -> HeaderMap {
    sent(&[("authorization", &format!("Bearer {token}"))])
}

fn known(verdict: CallerVerdict) -> Identity {
    match verdict {
        CallerVerdict::Known(identity) => (*identity).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_caller_is_known_by_the_claims_in_use() {
    let (callers, source, clock) = callers(&format!("secret: '{SECRET}', issuer: us, audience: api"));
    let claims = json!({"iss": "us", "aud": ["x", "api"], "sub": "ann", "org": {"id": 7}, "more": "x", "exp": NOW.as_secs() + 9});
    let headers = bearer(&token(&json!({"alg": "HS256", "kid": "any"}), &claims.to_string(), hs256(SECRET)));
    // The second time it is remembered.
    for _ in 0..2 {
        let identity = known(callers.identify(&source, asked(&headers)));
        assert_eq!(identity.name.as_deref(), Some("ann"));
        let claims: Vec<_> = identity.claims.iter().map(|claim| (&*claim.path, &*claim.json)).collect();
        assert_eq!(claims, [("sub", "\"ann\""), ("org.id", "7")]);
        assert_eq!(identity.expires_at, Some(NOW.plus(Duration::from_secs(9))));
    }
    clock.advance(Duration::from_secs(9));
    assert_eq!(callers.identify(&source, asked(&headers)), CallerVerdict::Unknown(UnknownCaller::Expired));
    // Later settings with other keys don't know it.
    let other = callers_of_secret("another secret of more than 32 bytes..");
    let reconfigured = callers.reconfigured(&other).unwrap();
    assert_eq!(
        reconfigured.identify(&source, asked(&headers)),
        CallerVerdict::Unknown(UnknownCaller::Refused)
    );
}

/// Two numbers beyond 64 bits are equal once they are read.
#[test]
fn a_rounded_number_names_nobody() {
    let (callers, source, _) = callers(&format!("secret: '{SECRET}'"));
    for (value, expected) in [
        ("18446744073709551615", Some("18446744073709551615")),
        ("[-1, {\"a\": 2}]", Some("[-1,{\"a\":2}]")),
        ("340282366920938463463374607431768211455", None),
        ("[1, {\"a\": 340282366920938463463374607431768211455}]", None),
        ("7.5", None),
    ] {
        let claims = format!("{{\"sub\": {value}, \"org\": {{\"id\": {value}}}}}");
        let token = token(&json!({"alg": "HS256"}), &claims, hs256(SECRET));
        let identity = known(callers.identify(&source, asked(&bearer(&token))));
        assert_eq!(identity.claim("org.id").map(|claim| &*claim.json), expected);
        assert_eq!(identity.name.as_deref(), expected.filter(|text| !text.starts_with('[')), "{value}");
    }
}

fn asked(headers: &HeaderMap) -> CallerRequest<'_> {
    CallerRequest { network: None, headers, host: "api.example", scheme: "https", client: None }
}

fn callers_of_secret(secret: &str) -> Vec<CallerSettings> {
    let text = format!("upstream: http://a\ncallers: {{app: {{jwt: {{secret: '{secret}'}}}}}}");
    Config::parse(&text, "", &|_| None, &Default::default()).unwrap().callers
}

#[test]
fn whatever_is_not_right_is_refused() {
    let (callers, source, _) = callers(&format!("secret: '{SECRET}', issuer: us"));
    let head = json!({"alg": "HS256"});
    let good = json!({"iss": "us", "sub": "ann"}).to_string();
    let with = |header: Value, claims: &str| token(&header, claims, hs256(SECRET));
    let right = with(head.clone(), &good);
    known(callers.identify(&source, asked(&bearer(&right))));
    let unsigned = format!("{}.{}.", base64(json!({"alg": "none"}).to_string()), base64(&good));
    let (first, last) = right.rsplit_once('.').unwrap();
    for wrong in [
        unsigned.clone(),
        unsigned.replace("none", "None"),
        with(json!({"alg": "none"}), &good),
        with(json!({"alg": "HS384"}), &good),
        with(json!({"alg": "RS256"}), &good),
        with(json!({"alg": "hs256"}), &good),
        with(json!({}), &good),
        with(json!({"alg": "HS256", "crit": ["exp"], "exp": 1}), &good),
        with(json!({"alg": "HS256", "kid": 7}), &good),
        token(&head, &good, hs256("another secret of more than 32 bytes..")),
        format!("{first}."),
        format!("{first}.{last}A"),
        format!("{right}.x"),
        format!("{right}="),
        with(head.clone(), r#"{"iss":"us","sub":"ann","sub":"bob"}"#),
        with(head.clone(), r#"{"iss":"us","iss":"us"}"#),
        with(head.clone(), r#"["iss"]"#),
        with(head.clone(), "{}"),
        with(head.clone(), r#"{"iss":"them"}"#),
        with(head.clone(), r#"{"iss":["us"]}"#),
        with(head.clone(), r#"{"iss":"us","aud":"api"}"#),
        with(head.clone(), r#"{"iss":"us","exp":"soon"}"#),
        with(head.clone(), &json!({"iss": "us", "nbf": NOW.as_secs() + 1}).to_string()),
        with(head.clone(), &json!({"iss": "us", "x": "y".repeat(8192)}).to_string()),
    ] {
        let verdict = callers.identify(&source, asked(&bearer(&wrong)));
        assert_eq!(verdict, CallerVerdict::Unknown(UnknownCaller::Refused), "{wrong}");
    }
    let line = format!("Bearer {right}");
    for headers in [
        sent(&[("authorization", &right)]),
        sent(&[("authorization", "Basic YTpi")]),
        sent(&[("authorization", "")]),
        sent(&[("authorization", &line), ("authorization", &line)]),
    ] {
        assert_eq!(
            callers.identify(&source, asked(&headers)),
            CallerVerdict::Unknown(UnknownCaller::Refused)
        );
    }
    let elsewhere = sent(&[("cookie", &format!("token={right}"))]);
    assert_eq!(
        callers.identify(&source, asked(&elsewhere)),
        CallerVerdict::Unknown(UnknownCaller::Anonymous)
    );
}

#[test]
fn tokens_are_found_where_the_configuration_says() {
    let right = token(&json!({"alg": "HS256"}), r#"{"sub":"ann"}"#, hs256(SECRET));
    for (from, field, value, is_known) in [
        ("cookie.t", "cookie", format!("a=b; t={right}"), true),
        ("cookie.t", "cookie", format!("t={right}; t={right}"), false),
        ("header.x-token", "x-token", right.clone(), true),
        ("header.x-token", "x-token", format!("Bearer {right}"), true),
        ("authorization", "authorization", format!("bEARER  {right}"), true),
    ] {
        let (callers, source, _) = callers(&format!("secret: '{SECRET}', from: {from}"));
        let verdict = callers.identify(&source, asked(&sent(&[(field, &value)])));
        assert_eq!(verdict.view().known().is_some(), is_known, "{from} {value}");
    }
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A key pair: its JWK, and what it signs.
struct Pair {
    algorithm: JwtAlgorithm,
    jwk: Value,
    sign: Sign,
}

fn rsa(algorithm: JwtAlgorithm, encoding: &'static dyn RsaEncoding) -> Pair {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    // RFC 8017 §A.1.1: a sequence of the modulus, here of 256 bytes after a zero, and the exponent 65537.
    let public = pair.public_key().as_ref().to_vec();
    assert_eq!((public.len(), public[8]), (270, 0));
    Pair {
        algorithm,
        jwk: json!({
            "kty": "RSA",
            "n": base64(&public[9..265]),
            "e": base64(&public[267..]),
        }),
        sign: Box::new(move |signed| {
            let mut made = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &SystemRandom::new(), signed, &mut made).unwrap();
            made
        }),
    }
}

fn ecdsa(
    algorithm: JwtAlgorithm,
    signing: &'static signature::EcdsaSigningAlgorithm,
    curve: &str,
    length: usize,
) -> Pair {
    let pair = EcdsaKeyPair::generate(signing).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(length);
    Pair {
        algorithm,
        jwk: json!({"kty": "EC", "crv": curve, "x": base64(x), "y": base64(y)}),
        sign: Box::new(move |signed| pair.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec()),
    }
}

fn ed25519() -> Pair {
    let pair = Ed25519KeyPair::generate().unwrap();
    Pair {
        algorithm: JwtAlgorithm::EdDSA,
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": base64(pair.public_key().as_ref())}),
        sign: Box::new(move |signed| pair.sign(signed).as_ref().to_vec()),
    }
}

fn with(jwk: &Value, more: Value) -> Value {
    let mut jwk = jwk.clone();
    jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    jwk
}

#[test]
fn each_algorithm_is_verified_with_its_own_kind_of_key() {
    let pairs = [
        rsa(JwtAlgorithm::RS256, &RSA_PKCS1_SHA256),
        rsa(JwtAlgorithm::PS256, &RSA_PSS_SHA256),
        ecdsa(JwtAlgorithm::ES256, &ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", 32),
        ecdsa(JwtAlgorithm::ES384, &ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", 48),
        ed25519(),
    ];
    for Pair { algorithm, jwk, sign } in &pairs {
        let set = |jwk: Value| KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes());
        let keys = set(with(jwk, json!({"kid": "a", "use": "sig"}))).unwrap();
        let made = sign(b"text");
        let verify = |kid, text: &[u8], made: &[u8]| keys.verify(*algorithm, kid, text, &base64(made));
        assert_eq!(verify(Some("a"), b"text", &made), Some(true), "{algorithm:?}");
        assert_eq!(verify(None, b"text", &made), Some(true), "{algorithm:?}");
        assert_eq!(verify(Some("b"), b"text", &made), None, "{algorithm:?}");
        assert_eq!(verify(None, b"test", &made), Some(false), "{algorithm:?}");
        assert_eq!(verify(None, b"text", &made[1..]), Some(false), "{algorithm:?}");
        for other in pairs.iter().map(|pair| pair.algorithm).chain([JwtAlgorithm::HS256]) {
            let found = keys.verify(other, None, b"text", &base64(&made));
            assert!(other == *algorithm || found != Some(true), "{algorithm:?} as {other:?}");
        }
        for (purpose, is_usable) in [
            (json!({"use": "enc"}), false),
            (json!({"use": ["sig"]}), false),
            (json!({"key_ops": ["encrypt"]}), false),
            (json!({"key_ops": ["sign", "deriveKey"]}), false),
            (json!({"key_ops": []}), false),
            (json!({"key_ops": "verify"}), false),
            (json!({"use": "sig", "key_ops": ["wrapKey"]}), false),
            (json!({"use": "enc", "key_ops": ["verify"]}), false),
            (json!({"key_ops": ["encrypt", "verify"]}), true),
            (json!({"use": "sig", "key_ops": ["verify"]}), true),
        ] {
            assert_eq!(set(with(jwk, purpose.clone())).unwrap().len() == 1, is_usable, "{purpose}");
        }
        // A key for another algorithm only.
        let bound = set(with(jwk, json!({"alg": "RS512"}))).unwrap();
        assert_eq!(bound.verify(*algorithm, None, b"text", &base64(&made)), None, "{algorithm:?}");
    }
}

#[test]
fn a_set_without_usable_keys_withdraws_all_others() {
    for wrong in ["", "[]", "{}", r#"{"keys": {}}"#, r#"{"keys": [], "keys": []}"#] {
        assert!(KeySet::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    for empty in [r#"{"keys": []}"#, r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#, r#"{"keys": [7]}"#] {
        let keys = KeySet::parse(empty.as_bytes()).unwrap();
        assert!(keys.len() == 0 && keys.digest != KeySet::default().digest, "{empty}");
    }
}

#[test]
fn a_write_is_of_whom_its_token_names_also_past_its_end() {
    let (callers, source, _) = callers(&format!("secret: '{SECRET}', audience: api"));
    let claims = |aud: &str, more: &str| format!(r#"{{"aud":"{aud}","sub":"ann"{more}}}"#);
    let signed = |secret: &str, claims: &str| bearer(&token(&json!({"alg": "HS256"}), claims, hs256(secret)));
    let past = format!(r#","exp":{}"#, NOW.as_secs() - 9);
    let future = format!(r#","nbf":{}"#, NOW.as_secs() + 9);
    let unsigned = |claims: &str| bearer(&token(&json!({"alg": "none"}), claims, |_| Vec::new()));
    for (headers, name) in [
        (signed(SECRET, &claims("api", "")), Some("ann")),
        (signed(SECRET, &claims("api", &past)), Some("ann")),
        (signed(SECRET, &claims("api", &future)), Some("ann")),
        (signed(SECRET, &claims("other", &past)), None),
        (signed("another secret of more than 32 bytes..", &claims("api", "")), None),
        (unsigned(&claims("api", "")), None),
        (bearer("garbage"), None),
        (sent(&[]), None),
    ] {
        let verdict = callers.identify(&source, asked(&headers));
        let found = match callers.name_writer(source.index, &verdict, &headers) {
            WriteCaller::Known(identity) | WriteCaller::Stated(identity) => identity.name.clone(),
            WriteCaller::Nobody => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(found.as_deref(), name, "{headers:?}");
    }
}

/// The key of a token may be newer than the set that is known.
#[test]
fn a_write_with_an_unknown_key_is_of_whom_the_token_states() {
    let (callers, source, _) = callers("keys: 'http://127.0.0.1:9/keys', algorithms: [ES256], issuer: us");
    for (issuer, name) in [("us", Some("ann")), ("others", None)] {
        let claims = json!({"iss": issuer, "sub": "ann"}).to_string();
        let headers = bearer(&token(&json!({"alg": "ES256", "kid": "new"}), &claims, |_| vec![0; 64]));
        let verdict = callers.identify(&source, asked(&headers));
        assert_eq!(verdict, CallerVerdict::Unknown(UnknownCaller::Unverified));
        let found = callers.name_writer(source.index, &verdict, &headers);
        assert_eq!(found.view().named().and_then(|identity| identity.name.as_deref()), name);
    }
}
