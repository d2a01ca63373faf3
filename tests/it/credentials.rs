//! One caller's response never goes to another.

use crate::support::{Answer, Larder, Received, START, Upstream, bearer};

const ROUTES: &str = "
routes:
  - {path: /plain, ttl: 60s}
  - {path: /shared, ttl: 60s, shared: true}
  - {path: /mine, ttl: 60s, per: authorization}
  - {path: /session, ttl: 60s, per: cookie.sid}
  - {path: /tenant, ttl: 60s, per: header.X-Tenant}
";

fn greeting(request: &Received) -> Answer {
    let of = |name| request.header(name).unwrap_or_default();
    Answer::ok(format!("for {}{}{} #{}", of("authorization"), of("cookie"), of("x-tenant"), request.nth))
}

fn start() -> (Upstream, Larder) {
    let upstream = Upstream::start();
    for path in ["/plain", "/shared", "/mine", "/session", "/tenant"] {
        upstream.on(path, greeting);
    }
    let larder = Larder::with(ROUTES, &upstream);
    (upstream, larder)
}

#[tokio::test]
async fn credentials_neither_read_nor_fill_what_is_for_all() {
    for (field, value) in [("authorization", "Basic x"), ("cookie", "sid=1"), ("x-api-key", "k")] {
        let (upstream, larder) = start();
        let with = || larder.get("/plain").header(field, value);
        with().await.assert_not_stored("credentials");
        larder.get("/plain").await.assert_fwd("uri-miss").assert_text("for  #2");
        let own = with().await;
        assert!(!own.is_hit() && own.text().ends_with("#3"), "{field}: {own}");
        larder.get("/plain").await.assert_hit().assert_text("for  #2");
        assert_eq!(upstream.last("/plain").header(field).as_deref(), Some(value));
    }
}

#[tokio::test]
async fn a_response_that_says_it_is_for_all_is_shared() {
    for word in ["public, max-age=60", "s-maxage=60"] {
        let (upstream, larder) = start();
        upstream.on("/plain", Answer::ok("for all").header("cache-control", word));
        larder.get("/plain").header("authorization", "Basic x").await.assert_stored();
        larder.get("/plain").header("authorization", "Basic y").await.assert_hit();
        larder.get("/plain").await.assert_hit();
    }
}

#[tokio::test]
async fn a_shared_route_has_one_response_for_all_callers() {
    let (_upstream, larder) = start();
    larder.get("/shared").header("authorization", "Basic x").await.assert_stored();
    larder.get("/shared").header("cookie", "sid=1").await.assert_hit();
}

#[tokio::test]
async fn a_per_route_has_one_for_each_credential_and_none_without() {
    let (_upstream, larder) = start();
    let (ann, bob) = (bearer(r#"{"sub":"ann"}"#), bearer(r#"{"sub":"bob"}"#));
    // The same claims under another signature are another credential: a claim is never trusted.
    let forged = ann.replace("c2lnbmF0dXJl", "Zm9yZ2Vk");
    let table = [
        ("/mine", "authorization", ann.as_str()),
        ("/mine", "authorization", bob.as_str()),
        ("/mine", "authorization", forged.as_str()),
        ("/session", "cookie", "sid=ann"),
        ("/session", "cookie", "sid=bob"),
        ("/tenant", "x-tenant", "ann"),
        ("/tenant", "x-tenant", "bob"),
    ];
    for (path, field, value) in table {
        larder.get(path).header(field, value).await.assert_fwd("uri-miss").assert_stored();
    }
    for (path, field, value) in table {
        let hit = larder.get(path).header(field, value).await.assert_hit();
        assert!(hit.text().starts_with(&format!("for {value} ")), "{hit}");
    }
    // The route says which cookie tells callers apart: the others that a browser sends are the same caller's.
    larder.get("/session").header("cookie", "theme=dark; sid=ann").await.assert_hit();
    larder.get("/session").header("cookie", "lang=de").await.assert_not_stored("no-credential");
    larder.get("/session").header("cookie", "sid=ann; sid=bob").await.assert_not_stored("no-credential");
}

/// The user's name in one cookie, and its signature in another (Express, Koa); chunks of a long one (ASP.NET Core, Auth.js).
#[tokio::test]
async fn a_session_in_several_cookies_is_one_credential() {
    for (ann, others) in [
        ("sid=ann; sid.sig=A", &["sid=ann", "sid=ann; sid.sig=B", "sid=ann; sid.sig=", "sid.sig=A"][..]),
        ("sid=ann; sid_hmac=A", &["sid=ann", "sid=ann; sid_hmac=A; sid_hmac=B"]),
        ("sid=chunks-2; sidC1=a; sidC2=b", &["sid=chunks-2", "sid=chunks-2; sidC1=x; sidC2=b"]),
        ("sid.0=a; sid.1=b", &["sid.0=a", "sid.0=x; sid.1=b", "sid=; sid.0=a; sid.1=b"]),
    ] {
        let upstream = Upstream::start();
        upstream.on("/session", greeting).on("/either", greeting);
        let per = |path, per| format!("  - {{path: {path}, ttl: 60s, per: {per}}}\n");
        let routes = per("/session", "cookie.sid") + &per("/either", "authorization | cookie.sid");
        let larder = Larder::with(&format!("routes:\n{routes}"), &upstream);
        for path in ["/session", "/either"] {
            larder.get(path).header("cookie", ann).await.assert_stored();
            larder.get(path).header("cookie", ann).await.assert_hit();
            // In another order, beside others.
            let turned = ann.split("; ").collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("; ");
            larder.get(path).header("cookie", &format!("theme=dark; {turned}")).await.assert_hit();
            for other in others {
                let answer = larder.get(path).header("cookie", other).await;
                assert!(!answer.is_hit(), "{path} {other}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn a_route_may_be_read_with_one_credential_or_the_other() {
    let upstream = Upstream::start();
    upstream.on("/either", greeting);
    let larder = Larder::with(
        "routes: [{path: /either, ttl: 60s, per: [authorization | cookie.sid | header.X-Tenant]}]",
        &upstream,
    );
    let ask = |fields: &[(&str, &str)]| {
        fields.iter().fold(larder.get("/either"), |request, (name, value)| request.header(name, value))
    };
    let callers: &[&[(&str, &str)]] = &[
        &[("authorization", "ann")],
        &[("cookie", "sid=ann")],
        &[("x-tenant", "ann")],
        &[("authorization", "bob")],
        &[("authorization", "ann"), ("cookie", "sid=ann")],
        &[("authorization", "ann"), ("cookie", "sid=bob")],
        &[("authorization", "ann 1 3 bob")],
    ];
    let mut texts = Vec::new();
    for caller in callers {
        texts.push(ask(caller).await.assert_fwd("uri-miss").assert_stored().text().to_owned());
    }
    for (caller, text) in callers.iter().zip(&texts) {
        ask(caller).await.assert_hit().assert_text(text);
    }
    // Beside its session, a browser sends other cookies; beside a token they may be another caller's.
    ask(&[("cookie", "theme=dark; sid=ann")]).await.assert_hit();
    ask(&[("authorization", "ann"), ("cookie", "role=admin")]).await.assert_not_stored("other-caller");
    for caller in [
        &[("cookie", "theme=dark")][..],
        &[],
        &[("cookie", "sid=ann; sid=bob")],
        &[("authorization", "ann"), ("cookie", "sid=")],
        &[("authorization", "ann"), ("authorization", "bob"), ("cookie", "sid=ann")],
    ] {
        ask(caller).await.assert_not_stored("no-credential");
    }
}

#[tokio::test]
async fn a_response_ends_with_the_first_of_two_tokens() {
    let upstream = Upstream::start();
    upstream.on("/either", greeting);
    let larder =
        Larder::with("routes: [{path: /either, ttl: 60s, per: authorization | cookie.sid}]", &upstream);
    let token = |seconds: u64| bearer(&format!(r#"{{"exp":{}}}"#, START.as_secs() + seconds));
    let session = format!("sid={}", token(20).trim_start_matches("Bearer "));
    let ask = || larder.get("/either").header("authorization", &token(40)).header("cookie", &session);
    ask().await.assert_stored();
    larder.after(19);
    ask().await.assert_hit();
    larder.after(1);
    ask().await.assert_not_stored("expired-caller");
}

/// The `exp` is not verified: it only shortens what larder serves in the caller's name.
#[tokio::test]
async fn a_response_ends_with_its_callers_token() {
    let end = START.as_secs() + 20;
    for (path, field, name) in [("/mine", "authorization", ""), ("/session", "cookie", "sid=")] {
        let (upstream, larder) = start();
        let token = |claims: String| bearer(&claims);
        let value = |token: &str| match name {
            "" => token.to_owned(),
            name => format!("{name}{}", token.trim_start_matches("Bearer ")),
        };
        let lasting = value(&token(format!(r#"{{"sub":"ann","exp":{end}.5}}"#)));
        let expired = value(&token(format!(r#"{{"sub":"ann","exp":{}}}"#, START.as_secs())));
        larder.get(path).header(field, &lasting).await.assert_stored();
        larder.get(path).header(field, &expired).await.assert_not_stored("expired-caller");
        larder.after(19);
        larder.get(path).header(field, &lasting).await.assert_hit();
        upstream.on(path, Answer::status(401));
        larder.after(1);
        larder.get(path).header(field, &lasting).await.assert_status(401);
    }
}

#[tokio::test]
async fn the_list_of_credentials_can_be_longer() {
    let upstream = Upstream::start();
    let larder =
        Larder::with("credentials: [authorization, x-user]\nroutes: [{path: /a, ttl: 60s}]", &upstream);
    larder.get("/a").header("x-user", "ann").await.assert_not_stored("credentials");
    larder.get("/a").header("cookie", "theme=dark").await.assert_stored();
}

/// Fields that frameworks, identity proxies and clouds use to say who sends a request.
const CREDENTIAL_FIELDS: &[&str] = &[
    "x-auth-token",
    "access-token",
    "private-token",
    "ocp-apim-subscription-key",
    "x-forwarded-user",
    "remote-user",
    "cf-access-jwt-assertion",
    "x-session-id",
    "x-amzn-oidc-data",
    "x-ms-client-principal-id",
    "x-tenant-id",
    "x-consumer-id",
    "x-wx-unionid",
];

#[tokio::test]
async fn a_field_that_looks_like_a_credential_shares_nothing() {
    let upstream = Upstream::start();
    upstream.on("/plain", |request: &Received| {
        let name = CREDENTIAL_FIELDS.iter().find_map(|name| request.header(name));
        Answer::ok(format!("for {}", name.unwrap_or_default()))
    });
    let larder =
        Larder::with("trusted_proxies: [127.0.0.1/32]\nroutes: [{path: /plain, ttl: 60s}]", &upstream);
    for (turn, name) in CREDENTIAL_FIELDS.iter().enumerate() {
        // From the second turn on, what is stored is for others.
        let reason = if turn == 0 { "credentials" } else { "other-caller" };
        let first = larder.get("/plain").header(name, "alice").await;
        first.assert_text("for alice").assert_not_stored(reason);
        larder.get("/plain").header(name, "bob").await.assert_text("for bob");
        let also = larder.get("/plain").await;
        assert_eq!(also.text(), "for ", "{name}");
    }
}

#[tokio::test]
async fn a_route_or_the_list_can_say_that_a_field_is_none() {
    let upstream = Upstream::start();
    let yaml = "credentials: {not: [X-Csrf-Token], also: [X-Shop]}
routes: [{path: /a, ttl: 60s}, {path: /mine, ttl: 60s, per: authorization}]";
    let larder = Larder::with(yaml, &upstream);
    larder.get("/a").header("x-shop", "1").await.assert_not_stored("credentials");
    larder.get("/a").header("x-csrf-token", "1").await.assert_stored();
    let mine = || larder.get("/mine").header("authorization", "Bearer a").header("x-user-hint", "1");
    mine().await.assert_stored();
    mine().await.assert_hit();
}

#[tokio::test]
async fn beside_per_every_other_credential_is_in_the_key() {
    let upstream = Upstream::start();
    upstream.on("/mine", |request: &Received| {
        Answer::ok(format!("{:?} {:?}", request.header("authorization"), request.header("x-tenant-id")))
    });
    let yaml = "routes: [{path: /mine, ttl: 60s, per: authorization, credentials: {not: [X-Csrf-Token]}}]";
    let larder = Larder::with(yaml, &upstream);
    let mine = || larder.get("/mine").header("authorization", "Bearer a");
    let first = mine().header("x-tenant-id", "1").await;
    first.assert_text(r#"Some("Bearer a") Some("1")"#).assert_stored();
    mine().header("x-tenant-id", "2").await.assert_text(r#"Some("Bearer a") Some("2")"#);
    mine().await.assert_text(r#"Some("Bearer a") None"#);
    mine().header("x-tenant-id", "1").await.assert_text(r#"Some("Bearer a") Some("1")"#).assert_hit();
    // One that identifies nobody on this route.
    mine().header("x-csrf-token", "1").await.assert_hit();
    // The caller's own write reaches all of them.
    let write = larder.request("POST", "/mine").header("authorization", "Bearer a");
    write.await.assert_status(200);
    assert!(!mine().header("x-tenant-id", "1").await.is_hit());
}

#[tokio::test]
async fn a_cookie_that_php_takes_for_one_of_the_key_is_in_the_key() {
    let upstream = Upstream::start();
    upstream.on("/a", |request: &Received| Answer::ok(request.header("cookie").unwrap_or_default()));
    let yaml = "routes: [{path: /a, ttl: 60s, shared: true, cookies: [site_lang]}]";
    let larder = Larder::with(yaml, &upstream);
    for alias in ["site.lang=x", "site lang=x", "site[lang=x", "site_lang[]=x"] {
        let poison = format!("{alias}; site_lang=en");
        larder.get("/a").header("cookie", &poison).await.assert_text(&poison);
    }
    larder.get("/a").header("cookie", "site_lang=en").await.assert_text("site_lang=en");
}

#[tokio::test]
async fn fields_with_underscores_do_not_reach_the_upstream() {
    let upstream = Upstream::start();
    upstream.on("/a", |request: &Received| {
        let names = ["x_forwarded_host", "x_tenant", "x.original.url", "x!forwarded!host", "x~tenant"];
        Answer::ok(format!("{:?}", names.map(|name| request.header(name).is_some())))
    });
    let ask = |larder: &Larder| {
        larder
            .get("/a")
            .header("x_forwarded_host", "evil")
            .header("x_tenant", "evil")
            .header("x.original.url", "/x")
            .header("x!forwarded!host", "evil")
            .header("x~tenant", "evil")
    };
    let larder = Larder::with("routes: [{path: /a, ttl: 60s}]", &upstream);
    ask(&larder).await.assert_text("[false, false, false, false, false]").assert_stored();
    let refusing = Larder::with("underscores: refuse\nroutes: [{path: /a, ttl: 60s}]", &upstream);
    ask(&refusing).await.assert_status(400);
    // lighttpd's CGI reads all but letters and digits as `_`.
    for character in "!#$%&'*+^_`|~.".chars() {
        let name = format!("x{character}forwarded{character}host");
        refusing.get("/a").header(&name, "evil").await.assert_status(400);
    }
    // Fields that only proxies set are dropped here too; any other makes the request a pass.
    let passing = Larder::with("underscores: pass\nroutes: [{path: /a, ttl: 60s}]", &upstream);
    ask(&passing).await.assert_text("[false, true, false, false, true]").assert_not_stored("override-field");
}

#[tokio::test]
async fn fields_that_decide_what_is_shared_are_shown() {
    let upstream = Upstream::start();
    upstream.on("/shared", Answer::ok("x").header("x-session-id", "1"));
    let routes = "routes: [{path: /own, ttl: 60s}, {path: /shared, ttl: 60s, shared: true}]";
    let larder = Larder::with(routes, &upstream);
    // One client's odd names take no place from the fields of others.
    for number in 0..300 {
        larder.get("/own").header(&format!("x-token-{number}"), "1").await.assert_status(200);
    }
    larder.get("/own").header("authorization", "Bearer x").await.assert_status(200);
    larder.get("/shared").header("cookie", "a=b").await.assert_stored();
    let explain = async |path: &str| {
        let target = format!("/explain?url=http://a{path}");
        larder.admin.get(&target).await.json()["fieldNotices"].as_array().cloned().unwrap_or_default()
    };
    let notice = |field: &str, effect: &str| serde_json::json!({"field": field, "effect": effect});
    let own = explain("/own").await;
    assert!(own.contains(&notice("authorization", "not-shared")) && own.len() < 20, "{own:?}");
    let shared = [notice("cookie", "shared"), notice("x-session-id", "not-stored")];
    assert_eq!(explain("/shared").await, shared);
    let notes = larder.admin.get("/dashboard/data").await.json()["notes"].to_string();
    for part in
        ["`/own`: responses are not shared", "shared by requests with `cookie`", "without `x-session-id`"]
    {
        assert!(notes.contains(part), "{part}: {notes}");
    }
}

/// Fields that speak to one caller reach the one whose request was forwarded, and nobody else.
#[tokio::test]
async fn response_fields_for_one_caller_are_not_replayed() {
    let upstream = Upstream::start();
    let yaml = "
routes:
  - {path: /default, ttl: 60s}
  - {path: /cookie, ttl: 60s, drop_response: {also: [Set-Cookie], not: ['X-RateLimit-*']}}
  - {path: /none, ttl: 60s, drop_response: []}
";
    let larder = Larder::with(yaml, &upstream);
    let answer = |request: &Received| match request.header("if-none-match") {
        Some(_) => Answer::status(304).header("x-session-id", "second").header("set-cookie", "a=2"),
        None => Answer::ok("same").header("etag", "\"1\"").header("x-session-id", "first"),
    };
    for path in ["/default", "/cookie", "/none"] {
        upstream.on(path, move |request: &Received| answer(request).header("x-ratelimit-remaining", "9"));
    }
    for (path, session, limit) in
        [("/default", None, None), ("/cookie", None, Some("9")), ("/none", Some("first"), Some("9"))]
    {
        larder.get(path).await.assert_stored().assert_header("x-session-id", "first");
        let hit = larder.get(path).await.assert_hit();
        hit.assert_header("x-session-id", session).assert_header("x-ratelimit-remaining", limit);
    }
    larder.after(61);
    let freshened = larder.get("/cookie").await.assert_text("same");
    freshened.assert_header("set-cookie", "a=2").assert_header("x-session-id", "second");
    larder
        .get("/cookie")
        .await
        .assert_hit()
        .assert_header("set-cookie", None)
        .assert_header("x-session-id", None);
    let said = larder.log().matches("response field not stored").count();
    assert!(said >= 3, "{}", larder.log());
}

#[tokio::test]
async fn tenants_and_roles_share_nothing() {
    let (_upstream, larder) = start();
    larder.get("/plain").await.assert_stored();
    larder.get("/mine").header("authorization", "Basic x").await.assert_stored();
    for field in [
        "ProjectID",
        "X-RunAs",
        "X-Run-As",
        "X-Delegate",
        "X-AnchorMailbox",
        "Dropbox-API-Select-Admin",
        "X-Is-Admin",
        "X-Privilege",
        "X-Clearance",
        "X-Access-Level",
        "X-Claims",
        "X-Plan",
        "X-Tier",
        "X-Seller-Id",
        "X-Amzn-Requestcontext",
    ] {
        let answer = larder.get("/plain").header(field, "1").await;
        assert!(!answer.is_hit(), "{field}: {answer}");
        let mine = || larder.get("/mine").header("authorization", "Basic x").header(field, "1");
        let answer = mine().await;
        assert!(!answer.is_hit(), "{field}: {answer}");
        mine().await.assert_hit();
    }
}

/// `/users/me` is one user's, also where `/users/{id}` is for all.
#[tokio::test]
async fn a_parameter_that_names_the_caller_is_not_shared() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "
routes:
  - {path: '/users/{id}', ttl: 60s, shared: true}
  - {path: '/users/{id}/posts', ttl: 60s, shared: true}
  - {path: '/users/self', ttl: 60s, shared: true}
  - {path: '/files/{*rest}', ttl: 60s, shared: true}
  - {path: '/accounts/{id}:show', ttl: 60s, shared: true}
",
        &upstream,
    );
    let ask = |path: &'static str, caller: &'static str| larder.get(path).header("authorization", caller);
    for path in [
        "/users/me",
        "/users/@me",
        "/users/current",
        "/users/whoami/posts",
        "/users/viewer",
        "/files/7/me",
        "/accounts/me:show",
    ] {
        upstream
            .on(path, |request: &Received| Answer::ok(request.header("authorization").unwrap_or_default()));
        for caller in ["Basic ann", "Basic bob"] {
            ask(path, caller).await.assert_detail("path-spelling").assert_text(caller);
        }
        // Without a credential there is no caller.
        larder.get(path).await.assert_stored();
        larder.get(path).await.assert_hit();
        ask(path, "Basic ann").await.assert_detail("path-spelling").assert_text("Basic ann");
    }
    for path in ["/users/7", "/users/meg", "/users/self", "/users/7/posts", "/files/7/a"] {
        upstream.on(path, greeting);
        ask(path, "Basic ann").await.assert_stored();
        ask(path, "Basic bob").await.assert_hit();
    }
}

#[tokio::test]
async fn a_route_can_say_that_a_field_identifies_nobody() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "routes: [{path: /a, ttl: 60s, credentials: {not: [X-CSRF-Token]}}, {path: /b, ttl: 60s}]",
        &upstream,
    );
    larder.get("/a").header("x-csrf-token", "1").await.assert_stored();
    larder.get("/a").header("x-csrf-token", "2").await.assert_hit();
    larder.get("/a").header("x-auth-token", "2").await.assert_fwd("request");
    larder.get("/b").header("x-csrf-token", "1").await.assert_not_stored("credentials");
}
