//! The section `callers`.

use super::{check_wrong, right};
use crate::config::{CallerMethod, JwtAlgorithm, KeyLocation};
use crate::policy::credential::Credential;
use crate::policy::route::Shared;

#[test]
fn an_entry_says_how_callers_are_known() {
    let config = right(
        "callers:\n  app: {jwt: {issuer: us, keys: 'https://id.example/a?b=c', from: cookie.t}}\n  \
         own: {jwt: {secret: 0123456789abcdef0123456789abcdef}}\n  \
         session: {ask: {url: 'http://127.0.0.1:1/check', forward: [cookie.sid, cookie], identity: [header.X-User]}}\n\
         routes:\n  - {path: /a, callers: app, per: [jwt.sub, jwt.org.id], tags: ['u:{jwt.team}']}\n  \
         - {path: /b, callers: session, per: identity}\n  - {path: /c, callers: own, shared: signed-in}",
    );
    let [app, own, session] = &config.callers[..] else { panic!("{:?}", config.callers) };
    let CallerMethod::Jwt(jwt) = &app.method else { panic!("{app:?}") };
    let Some(KeyLocation::Url(url)) = &jwt.keys else { panic!("{jwt:?}") };
    assert_eq!((url.target.as_str(), &jwt.from), ("/a?b=c", &Credential::Cookie("t".into())));
    assert_eq!(jwt.algorithms, [JwtAlgorithm::RS256, JwtAlgorithm::ES256, JwtAlgorithm::EdDSA]);
    assert_eq!(app.claims, ["sub", "org.id", "team"]);
    let CallerMethod::Jwt(jwt) = &own.method else { panic!("{own:?}") };
    assert_eq!(jwt.algorithms, [JwtAlgorithm::HS256]);
    let CallerMethod::Ask(ask) = &session.method else { panic!("{session:?}") };
    assert_eq!((ask.url.target.as_str(), ask.forward.len(), ask.identity.len()), ("/check", 2, 1));
    let sources = config.routes.iter().map(|route| &*route.callers.as_ref().unwrap().name);
    assert_eq!(sources.collect::<Vec<_>>(), ["app", "session", "own"]);
    assert_eq!(config.routes[2].shared, Shared::SignedIn);
}

#[test]
fn responses_under_other_settings_are_others() {
    let fingerprint = |callers: &str, route: &str| {
        let text = format!("callers: {{app: {callers}}}\nroutes: [{{path: /a, ttl: 1m, {route}}}]");
        right(&text).routes[0].fingerprint
    };
    let (jwt, route) = ("{jwt: {issuer: us, keys: k.json}}", "callers: app, per: jwt.sub");
    let all = [
        fingerprint(jwt, ""),
        fingerprint(jwt, route),
        fingerprint("{jwt: {issuer: them, keys: k.json}}", route),
        fingerprint("{jwt: {issuer: us, keys: other.json}}", route),
        fingerprint(jwt, "callers: app, per: jwt.id"),
        fingerprint(jwt, "callers: app, per: identity"),
        fingerprint(jwt, "callers: app, per: jwt.sub, anonymous: share"),
        fingerprint(jwt, "callers: app, shared: true"),
        fingerprint(jwt, "callers: app, shared: signed-in"),
        fingerprint(jwt, "callers: app"),
        fingerprint(jwt, "callers: app, per: authorization | cookie.s"),
        fingerprint(jwt, "callers: app, per: authorization | cookie.t"),
        fingerprint("{jwt: {secret: 0123456789abcdef0123456789abcdef}}", route),
        fingerprint("{jwt: {secret: 0123456789abcdef0123456789abcdeg}}", route),
    ];
    let different: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
}

/// No request has `X_Auth`, and to CGI-like upstreams it is `X-Auth`.
#[test]
fn names_are_those_that_arrive() {
    let config = right(
        "credentials: {also: [X_Shop_Z], not: [X_Session_Hint]}\n\
         routes: [{path: /a, per: header.X_Auth, credentials: {not: [X_Csrf_Token]}}]",
    );
    let name = |name| http::HeaderName::from_static(name);
    assert!(config.credentials.identify(&name("x-shop-z")));
    assert!(!config.credentials.identify(&name("x-session-hint")));
    assert_eq!(config.routes[0].per, Some(Credential::Header(name("x-auth"))));
    assert_eq!(config.routes[0].exempt, [name("x-csrf-token")]);
    let underscores = "underscores: pass\n";
    for (wrong, message, dashed) in [
        ("routes: [{path: /a, headers: [X_Zone]}]", "`headers` names `x_zone`", "`x-zone`"),
        ("routes: [{path: /a, rate: {limit: 5/s, by: header.X~Key}}]", "`rate` names `x~key`", "`x-key`"),
        (
            "callers: {s: {ask: {url: 'http://h/c', forward: [header.X_Sid]}}}",
            "`forward` names `x_sid`",
            "`x-sid`",
        ),
        (
            "callers: {s: {jwt: {secret: 0123456789abcdef0123456789abcdef, from: header.X_T}}}",
            "`from` names `x_t`",
            "`x-t`",
        ),
    ] {
        check_wrong(wrong, &[message, dashed]);
        right(&format!("{underscores}{wrong}"));
    }
}

#[test]
fn credentials_of_which_one_is_sent_are_fields_and_cookies() {
    let route = |per: &str| format!("routes: [{{path: /a, ttl: 1m, {per}}}]");
    let any_of = Credential::AnyOf(vec![Credential::Authorization, Credential::Cookie("sid".into())]);
    for per in ["per: authorization | cookie.sid", "per: [authorization|cookie.sid]"] {
        assert_eq!(right(&route(per)).routes[0].per.as_ref(), Some(&any_of));
    }
    assert_eq!(any_of.to_string(), "authorization | cookie.sid");
    for (per, part) in [
        ("per: authorization | jwt.sub", "`jwt.sub` is not sent beside another credential"),
        ("per: authorization | identity", "`identity` is not sent beside"),
        ("per: authorization | Authorization", "`Authorization` occurs twice"),
        ("per: 'authorization |'", "`` names no credential"),
        ("per: [authorization]", "`authorization` is no claim"),
        ("per: [authorization | cookie.a, jwt.b]", "`authorization | cookie.a` is no claim"),
        ("per: authorization | cookie.a, own_url: caller", "knows one caller by several credentials"),
        ("per: authorization, own_url: caller", "knows one caller by several tokens"),
    ] {
        check_wrong(&route(per), &[part]);
    }
}

#[test]
fn what_can_t_verify_anybody_is_refused() {
    for (entry, part) in [
        ("{}", "either `jwt` or `ask`"),
        ("{jwt: {keys: a}, ask: {url: 'http://a/b'}}", "either `jwt` or `ask`"),
        ("{jwt: {issuer: a}}", "either `keys` or `secret`"),
        ("{jwt: {keys: a, secret: 0123456789abcdef0123456789abcdef}}", "either `keys` or `secret`"),
        ("{jwt: {secret: short}}", "shorter than 32"),
        ("{jwt: {keys: a, algorithms: [none]}}", "`none` is not accepted"),
        ("{jwt: {keys: a, algorithms: [HS256]}}", "does not fit the key"),
        ("{jwt: {keys: 'ftp://a/b'}}", "absolute URL"),
        ("{ask: {url: /check}}", "absolute URL"),
        ("{ask: {url: 'http://a/b', every: 0s}}", "zero"),
        ("{ask: {url: 'http://a/b', identity: [cookie.a]}}", "no field of an answer"),
    ] {
        check_wrong(&format!("callers: {{app: {entry}}}"), &[part]);
    }
}
