//! One caller's response never goes to another.

use crate::support::{Answer, Larder, Received, Upstream, bearer};

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

#[tokio::test]
async fn the_list_of_credentials_can_be_longer() {
    let upstream = Upstream::start();
    let larder =
        Larder::with("credentials: [authorization, x-user]\nroutes: [{path: /a, ttl: 60s}]", &upstream);
    larder.get("/a").header("x-user", "ann").await.assert_not_stored("credentials");
    larder.get("/a").header("cookie", "theme=dark").await.assert_stored();
}
