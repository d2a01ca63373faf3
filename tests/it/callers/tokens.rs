//! `callers` with `jwt`.

use serde_json::json;

use super::{SECRET, token, token_signed_with};
use crate::support::{Answer, Issuer, Larder, Received, Reply, START, Scratch, Upstream, eventually};

const ROUTES: &str = "
routes:
  - {path: /members, ttl: 60s, callers: app, shared: true, stale_if_error: 60s}
  - {path: /both, ttl: 60s, callers: app, shared: signed-in, anonymous: share}
  - {path: /mine, ttl: 60s, callers: app, per: jwt.sub, tags: ['user:{jwt.sub}', 'by:{caller}'], own_url: caller}
  - {path: /cohort, ttl: 60s, callers: app, per: [jwt.tenant, jwt.role]}
  - {path: /logout, callers: app, purges: ['by:{caller}']}
  - {path: /password, callers: app, purges: ['user:{jwt.sub}']}
";

const PATHS: [&str; 4] = ["/members", "/both", "/mine", "/cohort"];

fn start() -> (Upstream, Larder) {
    let upstream = Upstream::start();
    for path in PATHS {
        upstream.on(path, |request: &Received| Answer::ok(format!("#{}", request.nth)));
    }
    let larder =
        Larder::with(&format!("callers: {{app: {{jwt: {{secret: '{SECRET}'}}}}}}\n{ROUTES}"), &upstream);
    (upstream, larder)
}

fn claims(sub: &str, tenant: &str, expires_in: u64) -> String {
    json!({"sub": sub, "tenant": tenant, "role": "member", "exp": START.as_secs() + expires_in}).to_string()
}

async fn get(larder: &Larder, path: &str, token: &str) -> Reply {
    larder.get(path).header("authorization", &format!("Bearer {token}")).await
}

#[tokio::test]
async fn only_a_known_caller_gets_a_hit() {
    let (_upstream, larder) = start();
    let ann = token(&claims("ann", "t", 100));
    let forged = token_signed_with("another secret of more than 32 bytes..", &claims("ann", "t", 100));
    let expired = token(&claims("ann", "t", 0));
    for path in PATHS {
        get(&larder, path, &ann).await.assert_stored();
        get(&larder, path, &ann).await.assert_hit();
        get(&larder, path, &forged).await.assert_detail("refused-caller");
        get(&larder, path, &expired).await.assert_detail("expired-caller");
        larder.get(path).header("authorization", "Basic YTpi").await.assert_detail("refused-caller");
    }
    for path in ["/members", "/mine", "/cohort"] {
        larder.get(path).await.assert_detail("anonymous-caller");
    }
    // Anonymous requests have a response of their own.
    larder.get("/both").await.assert_stored();
    larder.get("/both").await.assert_hit();
    assert_ne!(larder.get("/both").await.text(), get(&larder, "/both", &ann).await.assert_hit().text());
    // A request with another credential is not one of them.
    assert!(!larder.get("/both").header("x-api-key", "k").await.is_hit());
}

fn start_with(callers: &str, route: &str, answer: Answer) -> (Upstream, Larder) {
    let upstream = Upstream::start();
    upstream.on("/a", answer);
    let jwt = format!("callers: {{app: {{jwt: {{secret: '{SECRET}', from: {callers}}}}}}}");
    let larder = Larder::with(&format!("{jwt}\nroutes: [{{path: /a, callers: app, {route}}}]"), &upstream);
    (upstream, larder)
}

#[tokio::test]
async fn nobody_gets_what_was_made_for_a_known_caller() {
    let ann = token(&claims("ann", "t", 100));
    let public = || Answer::ok("a").header("cache-control", "public, max-age=60");
    for key in ["shared: true", "shared: signed-in", "per: header.X-Tenant", "headers: [X-Tenant]"] {
        let (upstream, larder) = start_with("header.X-Proof", &format!("{key}, anonymous: share"), public());
        let get = || larder.get("/a").header("x-tenant", "5");
        get().header("x-proof", &ann).await.assert_stored();
        get().header("x-proof", &ann).await.assert_hit();
        get().await.assert_stored();
        get().await.assert_hit();
        assert_eq!(upstream.count("/a"), 2, "{key}");
    }
}

/// A cookie beside the one with the token may be another session of the API.
#[tokio::test]
async fn anonymous_callers_with_other_cookies_share_nothing() {
    for key in ["per: jwt.sub", "per: [jwt.tenant, jwt.sub]", "shared: signed-in"] {
        let route = format!("ttl: 60s, {key}, anonymous: share");
        let (_upstream, larder) = start_with("cookie.token", &route, Answer::ok("a"));
        let get = |cookie: &str| larder.get("/a").header("cookie", cookie);
        get("sid=ann").await.assert_detail("credentials");
        larder.get("/a").await.assert_stored();
        get("sid=bob").await.assert_detail("other-caller");
        larder.get("/a").await.assert_hit();
        let token = format!("sid=ann; token={}", token(&claims("ann", "t", 100)));
        get(&token).await.assert_stored();
        get(&token).await.assert_hit();
    }
}

#[tokio::test]
async fn a_token_in_any_field_keeps_responses_from_being_shared() {
    let (upstream, larder) = start_with("header.X-Proof", "ttl: 60s", Answer::ok("a"));
    for sub in ["ann", "bob", "ann"] {
        let reply = larder.get("/a").header("x-proof", &token(&claims(sub, "t", 100))).await;
        assert!(!reply.is_hit(), "{reply}");
    }
    assert_eq!(upstream.count("/a"), 3);
}

/// The response is shared, and the token is not in the key.
#[tokio::test]
async fn nothing_stale_outlives_a_token_outside_the_key() {
    let answer = Answer::ok("a").header("cache-control", "public, max-age=1, stale-if-error=60");
    let (upstream, larder) = start_with("authorization", "shared: false", answer);
    get(&larder, "/a", &token(&claims("bob", "t", 50))).await.assert_stored();
    larder.after(2);
    upstream.on("/a", Answer::status(500));
    let held = upstream.hold("/a");
    let short = token(&claims("ann", "t", 20));
    let waiting = larder.get("/a").header("authorization", &format!("Bearer {short}")).spawn();
    held.arrived().await;
    larder.after(20);
    held.release();
    waiting.await.unwrap().assert_status(500);
    get(&larder, "/a", &token(&claims("bob", "t", 50))).await.assert_detail("stale-if-error");
}

#[tokio::test]
async fn nothing_is_served_after_the_callers_own_exp() {
    let (upstream, larder) = start();
    let (short, long) = (token(&claims("ann", "t", 20)), token(&claims("ann", "t", 50)));
    for path in PATHS {
        get(&larder, path, &long).await.assert_stored();
        get(&larder, path, &short).await.assert_hit();
    }
    larder.after(20);
    for path in PATHS {
        upstream.once(path, Answer::status(401));
        get(&larder, path, &short).await.assert_status(401).assert_detail("expired-caller");
        get(&larder, path, &long).await.assert_hit();
    }
    larder.after(45);
    upstream.on("/members", Answer::status(503));
    get(&larder, "/members", &long).await.assert_status(503);
}

/// The API knows a token that it has revoked; larder learns of it by the API's answer.
#[tokio::test]
async fn a_token_that_the_api_refuses_gets_no_hit() {
    let (upstream, larder) = start();
    let (laptop, phone) = (token(&claims("ann", "t", 90)), token(&claims("ann", "t", 91)));
    upstream.once("/mine", Answer::status(401));
    get(&larder, "/mine", &laptop).await.assert_status(401);
    get(&larder, "/mine", &phone).await.assert_stored();
    get(&larder, "/mine", &laptop).await.assert_detail("refused-caller");
    get(&larder, "/mine", &phone).await.assert_hit();
    // Another status says nothing about the token.
    upstream.once("/cohort", Answer::status(403));
    get(&larder, "/cohort", &phone).await.assert_status(403);
    get(&larder, "/mine", &phone).await.assert_hit();
}

/// RFC 9449 and RFC 8705: without the proof of its key it is nobody's.
#[tokio::test]
async fn a_token_that_is_bound_to_a_key_is_left_to_the_api() {
    let (_upstream, larder) = start();
    let bound = json!({"sub": "ann", "exp": START.as_secs() + 90, "cnf": {"jkt": "0ZcOCORZNYy"}}).to_string();
    get(&larder, "/mine", &token(&bound)).await.assert_detail("refused-caller");
    // It names whom a write is from.
    let phone = token(&claims("ann", "t", 91));
    get(&larder, "/mine", &phone).await.assert_stored();
    let logout = larder.request("POST", "/logout");
    logout.header("authorization", &format!("Bearer {}", token(&bound))).await.assert_status(200);
    get(&larder, "/mine", &phone).await.assert_stored();
}

/// The one who waited is not served with what came after the token's end.
/// An API refuses a refresh token, one from before the second factor, and one with too little scope.
#[tokio::test]
async fn a_token_of_another_kind_gets_nothing_of_the_same_user() {
    let (upstream, larder) = start();
    let token_with = |more: serde_json::Value| {
        let mut claims: serde_json::Value = serde_json::from_str(&claims("ann", "t", 100)).expect("claims");
        claims.as_object_mut().expect("claims").extend(more.as_object().expect("claims").clone());
        token(&claims.to_string())
    };
    let access = token_with(json!({"type": "access", "scope": "all", "jti": "1"}));
    for path in PATHS {
        get(&larder, path, &access).await.assert_stored();
        get(&larder, path, &token_with(json!({"type": "access", "scope": "all", "jti": "2"})))
            .await
            .assert_hit();
        for other in [json!({"type": "refresh"}), json!({"mfa": "pending"}), json!({"scope": "email"})] {
            upstream.once(path, Answer::status(403));
            get(&larder, path, &token_with(other)).await.assert_status(403);
        }
        get(&larder, path, &access).await.assert_hit();
    }
    // Roles select among the responses of one user, and not of those who share one.
    let admin = token_with(json!({"type": "access", "scope": "all", "roles": ["admin"]}));
    get(&larder, "/mine", &admin).await.assert_stored();
    get(&larder, "/cohort", &admin).await.assert_hit();
}

#[tokio::test]
async fn tokens_that_differ_in_what_is_ignored_share_a_response() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::ok("a"));
    let jwt = format!("callers: {{app: {{jwt: {{secret: '{SECRET}', ignore: [azp]}}}}}}");
    let larder = Larder::with(
        &format!("{jwt}\nroutes: [{{path: /a, ttl: 60s, callers: app, per: jwt.sub}}]"),
        &upstream,
    );
    let by = |app: &str| token(&json!({"sub": "ann", "azp": app}).to_string());
    get(&larder, "/a", &by("web")).await.assert_stored();
    get(&larder, "/a", &by("phone")).await.assert_hit();
}

/// To some frameworks `bearer` is no scheme, and the request an anonymous one.
#[tokio::test]
async fn a_token_behind_an_unusual_scheme_fills_nothing_of_others() {
    let (_upstream, larder) = start();
    let ann = token(&claims("ann", "t", 100));
    for path in ["/members", "/mine"] {
        for scheme in ["bearer", "BEARER", "Bearer "] {
            larder.get(path).header("authorization", &format!("{scheme} {ann}")).await.assert_stored();
        }
        get(&larder, path, &ann).await.assert_stored();
        get(&larder, path, &ann).await.assert_hit();
    }
}

/// Servers differ in what they read beside a cookie that breaks the grammar.
#[tokio::test]
async fn a_token_among_odd_cookies_is_left_to_the_api() {
    let (_upstream, larder) = start_with("cookie.token", "ttl: 60s, shared: true", Answer::ok("a"));
    let token = format!("token={}", token(&claims("ann", "t", 100)));
    let get = |cookie: String| larder.get("/a").header("cookie", &cookie);
    get(format!("_ga=GA1.2.3,4; {token}; theme=\"dark\"")).await.assert_stored();
    let many = "a=1; ".repeat(250);
    for odd in [
        "lost; ",
        "a=b c; ",
        "a=\"b; ",
        "path=/; ",
        "=x; ",
        "a b=c; ",
        "$Version=2; ",
        "TOKEN=x; ",
        "%74oken=x; ",
        &many,
    ] {
        get(format!("{odd}{token}")).await.assert_detail("refused-caller");
    }
}

/// The API takes the request for one of nobody, and answers it.
#[tokio::test]
async fn a_response_to_a_token_that_has_expired_is_not_stored() {
    let (upstream, larder) = start();
    let (short, long) = (token(&claims("ann", "t", 20)), token(&claims("ann", "t", 100)));
    for path in ["/members", "/mine"] {
        let held = upstream.hold(path);
        let waiting = larder.get(path).header("authorization", &format!("Bearer {short}")).spawn();
        held.arrived().await;
        larder.after(30);
        held.release();
        waiting.await.unwrap().assert_detail("expired-caller");
        get(&larder, path, &long).await.assert_stored();
        larder.after(0);
    }
}

#[tokio::test]
async fn a_token_that_expires_while_waiting_gets_nothing_of_another() {
    let (upstream, larder) = start();
    let (short, long) = (token(&claims("ann", "t", 20)), token(&claims("bob", "t", 50)));
    let held = upstream.hold("/members");
    let leader = larder.get("/members").header("authorization", &format!("Bearer {long}")).spawn();
    held.arrived().await;
    let follower = larder.get("/members").header("authorization", &format!("Bearer {short}")).spawn();
    larder.metric_becomes("larder_followers", 1.0).await;
    larder.after(20);
    held.release();
    leader.await.unwrap().assert_text("#1");
    follower.await.unwrap().assert_text("#2");
}

#[tokio::test]
async fn responses_are_the_users_and_not_the_tokens() {
    let (upstream, larder) = start();
    let devices: Vec<String> = (40..43).map(|end| token(&claims("ann", "t", end))).collect();
    let bob = token(&claims("bob", "t", 40));
    for device in &devices {
        get(&larder, "/mine", device).await.assert_text("#1");
    }
    get(&larder, "/mine", &bob).await.assert_text("#2");
    // Bob is in the same cohort.
    get(&larder, "/cohort", &devices[0]).await.assert_text("#1");
    get(&larder, "/cohort", &bob).await.assert_hit();
    get(&larder, "/cohort", &token(&claims("bob", "other", 40))).await.assert_text("#2");
    get(&larder, "/cohort", &token(r#"{"sub":"bob","tenant":"t"}"#)).await.assert_detail("no-credential");
    assert_eq!(upstream.count("/mine"), 2);
}

#[tokio::test]
async fn a_logout_purges_the_responses_of_its_caller_alone() {
    for path in ["/logout", "/password", "/mine"] {
        let (_upstream, larder) = start();
        let (ann, bob) = (token(&claims("ann", "t", 40)), token(&claims("bob", "t", 40)));
        for one in [&ann, &bob] {
            get(&larder, "/mine", one).await.assert_stored();
        }
        let post = larder.request("POST", path).header("authorization", &format!("Bearer {ann}"));
        post.await.assert_status(200);
        get(&larder, "/mine", &bob).await.assert_hit();
        get(&larder, "/mine", &ann).await.assert_stored();
    }
}

/// The API may take a logout or a new password with a token that has just ended: it says whose responses change.
#[tokio::test]
async fn a_write_with_a_token_past_its_exp_purges_for_its_caller() {
    let (upstream, larder) = start();
    let (ended, later) = (token(&claims("ann", "t", 5)), token(&claims("ann", "t", 50)));
    let bob = token(&claims("bob", "t", 50));
    larder.after(10);
    for token in [&later, &bob] {
        get(&larder, "/mine", token).await.assert_stored();
    }
    let logout =
        |token: &str| larder.request("POST", "/logout").header("authorization", &format!("Bearer {token}"));
    // Refused by the API: nothing has changed.
    upstream.on("/logout", Answer::status(401));
    logout(&ended).await.assert_status(401);
    get(&larder, "/mine", &later).await.assert_hit();
    upstream.on("/logout", Answer::status(204));
    // A token that nobody issued names nobody.
    let forged = token_signed_with("another secret of more than 32 bytes..", &claims("ann", "t", 50));
    logout(&forged).await.assert_status(204);
    get(&larder, "/mine", &later).await.assert_hit();
    logout(&ended).await.assert_status(204);
    get(&larder, "/mine", &bob).await.assert_hit();
    get(&larder, "/mine", &later).await.assert_stored();
    // And it has no hit itself.
    get(&larder, "/mine", &ended).await.assert_detail("expired-caller");
    // The URL of such a write is purged for all: whom it is from is no longer sure.
    larder
        .request("POST", "/mine")
        .header("authorization", &format!("Bearer {ended}"))
        .await
        .assert_status(200);
    get(&larder, "/mine", &bob).await.assert_stored();
}

/// A claim is used only verified: a forged token purges what the write could name, not what it says.
#[tokio::test]
async fn a_forged_token_names_nobody() {
    let (upstream, larder) = start();
    let bob = token(&claims("bob", "t", 40));
    get(&larder, "/mine", &bob).await.assert_stored();
    let forged = token_signed_with("another secret of more than 32 bytes..", &claims("bob", "t", 40));
    upstream.on("/logout", Answer::status(401));
    larder.request("POST", "/logout").header("authorization", &format!("Bearer {forged}")).await;
    get(&larder, "/mine", &bob).await.assert_hit();
}

fn key_set(issuers: &[&Issuer]) -> Answer {
    Answer::ok(Issuer::key_set(issuers))
}

fn token_by(issuer: &Issuer, sub: &str) -> String {
    issuer.token(&json!({"sub": sub, "iss": "us"}))
}

#[tokio::test]
async fn keys_are_fetched_ahead_and_kept_while_they_cannot_be_fetched() {
    let upstream = Upstream::start();
    let (first, unknown) = (Issuer::new("a"), Issuer::new("b"));
    upstream.on("/keys", key_set(&[&first]));
    let larder = Larder::with(
        "callers: {app: {jwt: {issuer: us, keys: '${UPSTREAM}/keys'}}}\n\
         routes: [{path: /mine, ttl: 60s, callers: app, per: jwt.sub}]",
        &upstream,
    );
    upstream.has_received("/keys", 1).await;
    let ann = token_by(&first, "ann");
    let has_keys = async || get(&larder, "/mine", &ann).await.cache_status("detail").is_none().then_some(());
    eventually("the keys are there", has_keys).await;
    get(&larder, "/mine", &ann).await.assert_hit();
    upstream.on("/keys", Answer::status(500));
    get(&larder, "/mine", &token_by(&unknown, "ann")).await.assert_detail("unverified-caller");
    get(&larder, "/mine", &ann).await.assert_hit();
}

/// A token of a key that was not fetched yet may be right: what it states is purged, though never served.
#[tokio::test]
async fn a_write_with_an_unknown_key_purges_for_whom_it_states() {
    let upstream = Upstream::start();
    let (first, new) = (Issuer::new("a"), Issuer::new("b"));
    let scratch = Scratch::new();
    let file = scratch.file("keys.json", &Issuer::key_set(&[&first])).display().to_string();
    let larder = Larder::with(
        &format!(
            "callers: {{app: {{jwt: {{issuer: us, keys: {file}}}}}}}\n\
             defaults: {{callers: app}}\n\
             routes: [{{path: /mine, ttl: 60s, per: jwt.sub, tags: ['by:{{caller}}']}}, {{path: /logout, purges: ['by:{{jwt.sub}}']}}]"
        ),
        &upstream,
    );
    upstream.on("/logout", Answer::status(204));
    let logout =
        |token: String| larder.request("POST", "/logout").header("authorization", &format!("Bearer {token}"));
    for sub in ["ann", "bob"] {
        get(&larder, "/mine", &token_by(&first, sub)).await.assert_stored();
    }
    logout(new.token(&json!({"sub": "ann", "iss": "others"}))).await.assert_status(204);
    get(&larder, "/mine", &token_by(&first, "ann")).await.assert_hit();
    logout(token_by(&new, "ann")).await.assert_status(204);
    get(&larder, "/mine", &token_by(&first, "bob")).await.assert_hit();
    get(&larder, "/mine", &token_by(&first, "ann")).await.assert_stored();
}

#[tokio::test]
async fn keys_of_a_file_replace_each_other() {
    let (first, second) = (Issuer::new("a"), Issuer::new("b"));
    let scratch = Scratch::new();
    let file =
        |name: &str, issuer: &Issuer| scratch.file(name, &Issuer::key_set(&[issuer])).display().to_string();
    let yaml = |file: &str| {
        format!(
            "callers: {{app: {{jwt: {{keys: {file}}}}}}}\nroutes: [{{path: /mine, ttl: 60s, callers: app, per: jwt.sub}}]"
        )
    };
    let upstream = Upstream::start();
    let larder = Larder::with(&yaml(&file("a.json", &first)), &upstream);
    get(&larder, "/mine", &token_by(&first, "ann")).await.assert_stored();
    get(&larder, "/mine", &token_by(&second, "ann")).await.assert_detail("unverified-caller");
    larder.reconfigure(&yaml(&file("b.json", &second))).await;
    get(&larder, "/mine", &token_by(&first, "ann")).await.assert_detail("unverified-caller");
    get(&larder, "/mine", &token_by(&second, "ann")).await.assert_stored();
}

#[tokio::test]
async fn keys_that_are_missing_are_told() {
    let upstream = Upstream::start();
    upstream.on("/keys", Answer::status(500));
    let larder = Larder::with(
        "callers: {app: {jwt: {issuer: us, keys: '${UPSTREAM}/keys'}}, file: {jwt: {keys: /nowhere.json}}}\n\
         routes: [{path: /mine, ttl: 60s, callers: app, per: jwt.sub}]",
        &upstream,
    );
    let status = async || {
        let ready = larder.admin.get("/readyz").await.assert_status(200).json();
        (ready["status"].clone(), ready["callers"]["app"].clone())
    };
    eventually("it says so", || async {
        let (ready, app) = status().await;
        let trouble = app["trouble"].as_str()?;
        (trouble.contains("500") && app["status"] == "no-keys" && ready == "degraded").then_some(())
    })
    .await;
    assert_eq!(larder.metric("larder_caller_keys{callers=\"app\"}").await, 0.0);
    assert_eq!(larder.metric("larder_caller_keys_up{callers=\"app\"}").await, 0.0);
    assert_eq!(larder.metric("larder_caller_keys_up{callers=\"file\"}").await, 0.0);
}
