//! `callers` with `ask`: another service knows who a caller is.

use std::sync::{Arc, Mutex};

use crate::support::{Answer, Larder, Received, Redis, Replica, Upstream, eventually};

const YAML: &str = "
callers:
  session: {ask: {url: '${UPSTREAM}/check', forward: [cookie.sid], every: 10s, identity: [header.X-User]}}
routes:
  - {path: /mine, ttl: 60s, callers: session, per: identity, tags: ['by:{caller}']}
  - {path: /logout, callers: session, purges: ['by:{caller}']}
  - {path: /public, ttl: 60s, tags: [all]}
";

/// Knows sessions that begin with the user's name.
fn start() -> (Upstream, Larder) {
    let upstream = start_service();
    let larder = Larder::with(YAML, &upstream);
    (upstream, larder)
}

fn start_service() -> Upstream {
    let upstream = Upstream::start();
    know_sessions(&upstream);
    upstream.on("/mine", |request: &Received| Answer::ok(format!("#{}", request.nth)));
    upstream
}

fn know_sessions(upstream: &Upstream) {
    upstream.on("/check", |request: &Received| {
        match request.header("cookie").unwrap_or_default().trim_start_matches("sid=").split_once('-') {
            Some((user @ ("ann" | "bob"), _)) => Answer::status(204).header("x-user", user),
            _ => Answer::status(401),
        }
    });
}

fn mine(larder: &Larder, session: &str) -> crate::support::Request {
    larder.get("/mine").header("cookie", &format!("theme=dark; sid={session}"))
}

#[tokio::test]
async fn the_service_says_whose_a_session_is() {
    let (upstream, larder) = start();
    mine(&larder, "ann-1").await.assert_stored();
    mine(&larder, "ann-1").await.assert_hit();
    // Another device of the same user.
    mine(&larder, "ann-2").await.assert_hit();
    mine(&larder, "bob-1").await.assert_text("#2");
    mine(&larder, "eve-1").await.assert_detail("refused-caller");
    mine(&larder, "eve-1").await.assert_detail("refused-caller");
    larder.get("/mine").header("cookie", "theme=dark").await.assert_detail("anonymous-caller");
    // Each session once, refused or not, and again after a fetch; of the cookies the session alone was sent on.
    assert_eq!(upstream.count("/check"), 6);
    assert_eq!(upstream.last("/check").header("cookie").as_deref(), Some("sid=eve-1"));
    larder.after(10);
    mine(&larder, "ann-1").await.assert_hit();
    assert_eq!(upstream.count("/check"), 7);
}

#[tokio::test]
async fn the_service_gets_the_parts_of_a_cookie() {
    let (upstream, larder) = start();
    upstream.on("/check", |request: &Received| match request.header("cookie").as_deref() {
        Some("sid=ann; sid.sig=A" | "sid.0=a; sid.1=nn") => Answer::status(204).header("x-user", "ann"),
        _ => Answer::status(401),
    });
    let mine = |cookies: &str| larder.get("/mine").header("cookie", cookies);
    mine("theme=dark; sid=ann; sid.sig=A").await.assert_stored();
    mine("sid.0=a; sid.1=nn; lang=de").await.assert_hit();
    mine("sid=ann").await.assert_detail("refused-caller");
    mine("sid=ann; sid.sig=B").await.assert_detail("refused-caller");
    mine("sid.sig=A").await.assert_detail("anonymous-caller");
}

#[tokio::test]
async fn requests_of_one_caller_wait_for_one_answer() {
    let (upstream, larder) = start();
    let held = upstream.hold("/check");
    let waiting: Vec<_> = (0..8).map(|_| mine(&larder, "ann-1").spawn()).collect();
    held.arrived().await;
    larder.metric_becomes("larder_connections", 8.0).await;
    held.release();
    for reply in waiting {
        reply.await.unwrap().assert_text("#1");
    }
    assert_eq!((upstream.count("/check"), upstream.count("/mine")), (2, 1));
}

#[tokio::test]
async fn nobody_is_known_while_the_service_fails() {
    for failure in [Answer::status(500), Answer::status(302), Answer::hang_up(), Answer::status(200)] {
        let (upstream, larder) = start();
        mine(&larder, "ann-1").await.assert_stored();
        larder.after(10);
        upstream.on("/check", failure);
        mine(&larder, "ann-1").await.assert_detail("unverified-caller").assert_text("#2");
        upstream.on("/check", Answer::status(204).header("x-user", "ann"));
        larder.after(1);
        mine(&larder, "ann-1").await.assert_hit().assert_text("#1");
    }
}

#[tokio::test]
async fn a_logout_ends_the_responses_of_its_user() {
    let (upstream, larder) = start();
    mine(&larder, "ann-1").await.assert_stored();
    mine(&larder, "bob-1").await.assert_stored();
    upstream.on("/logout", Answer::status(204));
    larder.request("POST", "/logout").header("cookie", "sid=ann-2").await.assert_status(204);
    mine(&larder, "bob-1").await.assert_hit();
    mine(&larder, "ann-1").await.assert_stored();
}

/// Whose dashboard a write changes is not known while the service fails: everybody's is fetched again, and nothing else.
#[tokio::test]
async fn a_write_while_the_service_fails_purges_for_all_callers() {
    let (upstream, larder) = start();
    upstream.on("/logout", Answer::status(204));
    let logout = |cookie: &str| larder.request("POST", "/logout").header("cookie", cookie);
    let stored = || async {
        for session in ["ann-1", "bob-1"] {
            mine(&larder, session).await.assert_status(200);
            mine(&larder, session).await.assert_hit();
        }
        larder.get("/public").await.assert_status(200);
        larder.get("/public").await.assert_hit();
    };
    for failure in [Answer::status(500), Answer::hang_up()] {
        stored().await;
        // No session, and one that the service refuses, are nobody's.
        logout("theme=dark").await.assert_status(204);
        logout("sid=eve-1").await.assert_status(204);
        mine(&larder, "bob-1").await.assert_hit();
        let works = Answer::status(204).header("x-user", "ann");
        upstream.on("/check", failure);
        logout("sid=ann-9").await.assert_status(204);
        upstream.on("/check", works);
        larder.get("/public").await.assert_hit();
        mine(&larder, "ann-1").await.assert_stored();
        know_sessions(&upstream);
        larder.after(10);
        mine(&larder, "bob-1").await.assert_stored();
    }
    assert_eq!(larder.metric("larder_widened_total").await, 6.0);
}

/// A session that was refused a moment ago has begun since, under the same cookie.
#[tokio::test]
async fn a_write_of_a_refused_session_is_asked_about_again() {
    let (upstream, larder) = start();
    upstream.on("/logout", Answer::status(204));
    let logout = || larder.request("POST", "/logout").header("cookie", "sid=new-1");
    mine(&larder, "ann-1").await.assert_stored();
    mine(&larder, "new-1").await.assert_detail("refused-caller");
    let asked = upstream.count("/check");
    logout().await.assert_status(204);
    mine(&larder, "ann-1").await.assert_hit();
    upstream.on("/check", Answer::status(204).header("x-user", "ann"));
    logout().await.assert_status(204);
    mine(&larder, "ann-1").await.assert_stored();
    mine(&larder, "new-1").await.assert_hit();
    assert_eq!(upstream.count("/check"), asked + 5);
}

/// An API with sessions that change hands: `sid=s` is whose `session` says.
fn start_with_session(routes: &str) -> (Upstream, Arc<Mutex<String>>, Larder) {
    let upstream = Upstream::start();
    let session = Arc::new(Mutex::new("ann".to_owned()));
    let whose = {
        let session = session.clone();
        move |request: &Received| match request.header("cookie").as_deref() {
            Some("sid=s") => session.lock().unwrap().clone(),
            Some("sid=ann-2") => "ann".to_owned(),
            Some("sid=bob-2") => "bob".to_owned(),
            _ => String::new(),
        }
    };
    let name = whose.clone();
    upstream.on("/check", move |request: &Received| match name(request) {
        user if user.is_empty() => Answer::status(401),
        user => Answer::status(204).header("x-user", &user),
    });
    for path in ["/mine", "/prices"] {
        let name = whose.clone();
        upstream.on(path, move |request: &Received| {
            Answer::ok(format!("for {}", name(request))).header("etag", "\"1\"")
        });
    }
    let switched = session.clone();
    upstream.on("/switch", move |request: &Received| {
        *switched.lock().unwrap() = request.header("x-to").unwrap_or_default();
        Answer::status(204)
    });
    let yaml = "
callers:
  session: {ask: {url: '${UPSTREAM}/check', forward: [cookie.sid], every: 10s, identity: [header.X-User]}}
routes:
";
    let larder = Larder::with(&format!("{yaml}{routes}"), &upstream);
    (upstream, session, larder)
}

const SWITCHED: &str = "  - {path: /mine, ttl: 60s, callers: session, per: identity, tags: ['by:{caller}']}
  - {path: /prices, ttl: 60s, callers: session, shared: signed-in, anonymous: share}
  - {path: /switch, callers: session, purges: ['by:{caller}']}
";

fn as_session(larder: &Larder, path: &str, session: &str) -> crate::support::Request {
    larder.get(path).header("cookie", &format!("sid={session}"))
}

#[tokio::test]
async fn a_session_that_becomes_anothers_fills_nothing_of_its_user() {
    let (_upstream, session, larder) = start_with_session(SWITCHED);
    as_session(&larder, "/mine", "s").await.assert_stored().assert_text("for ann");
    // Elsewhere, so that no write passes here.
    *session.lock().unwrap() = "bob".to_owned();
    larder.request("PURGE", "/mine").await.assert_status(200);
    as_session(&larder, "/mine", "s").await.assert_not_stored("changed-caller").assert_text("for bob");
    as_session(&larder, "/mine", "ann-2").await.assert_stored().assert_text("for ann");
    // By now larder knows whose the session is.
    as_session(&larder, "/mine", "s").await.assert_stored().assert_text("for bob");
    as_session(&larder, "/mine", "ann-2").await.assert_hit().assert_text("for ann");
}

/// Two callers' responses have the same tag.
#[tokio::test]
async fn a_validation_by_anothers_session_does_not_confirm() {
    let (upstream, session, larder) = start_with_session(SWITCHED);
    as_session(&larder, "/mine", "ann-2").await.assert_stored().assert_text("for ann");
    larder.after(59);
    as_session(&larder, "/mine", "s").await.assert_hit();
    larder.after(2);
    *session.lock().unwrap() = "bob".to_owned();
    upstream.on("/mine", |request: &Received| match request.header("if-none-match") {
        Some(_) => Answer::status(304).header("etag", "\"1\""),
        None => Answer::ok("for bob"),
    });
    as_session(&larder, "/mine", "s").await.assert_not_stored("changed-caller").assert_text("for bob");
}

#[tokio::test]
async fn a_session_that_ended_fills_nothing_for_who_is_signed_in() {
    let (_upstream, session, larder) = start_with_session(SWITCHED);
    as_session(&larder, "/mine", "s").await.assert_stored();
    session.lock().unwrap().clear();
    as_session(&larder, "/prices", "s").await.assert_not_stored("changed-caller").assert_text("for ");
    as_session(&larder, "/prices", "bob-2").await.assert_stored().assert_text("for bob");
    as_session(&larder, "/prices", "s").await.assert_detail("refused-caller");
}

#[tokio::test]
async fn a_write_purges_for_its_present_caller_and_ends_the_verdict() {
    let (_upstream, _, larder) = start_with_session(SWITCHED);
    let switch = |to: &str| larder.request("POST", "/switch").header("cookie", "sid=s").header("x-to", to);
    as_session(&larder, "/mine", "s").await.assert_stored();
    switch("bob").await.assert_status(204);
    // No verdict outlives the write: the session is bob's.
    as_session(&larder, "/mine", "s").await.assert_stored().assert_text("for bob");
    as_session(&larder, "/mine", "bob-2").await.assert_hit();
    as_session(&larder, "/mine", "ann-2").await.assert_stored();
    // It is bob's write.
    switch("bob").await.assert_status(204);
    as_session(&larder, "/mine", "bob-2").await.assert_stored();
    as_session(&larder, "/mine", "ann-2").await.assert_hit();
    switch("").await.assert_status(204);
    as_session(&larder, "/mine", "s").await.assert_detail("refused-caller");
}

/// Another replica's write has made the session bob's within `every`.
#[tokio::test]
async fn a_write_asks_anew_who_its_caller_is() {
    let (_upstream, session, larder) = start_with_session(SWITCHED);
    as_session(&larder, "/mine", "bob-2").await.assert_stored();
    as_session(&larder, "/mine", "s").await.assert_stored();
    *session.lock().unwrap() = "bob".to_owned();
    larder
        .request("POST", "/switch")
        .header("cookie", "sid=s")
        .header("x-to", "bob")
        .await
        .assert_status(204);
    as_session(&larder, "/mine", "bob-2").await.assert_stored();
    as_session(&larder, "/mine", "ann-2").await.assert_hit();
}

/// "Sign out everywhere", sent by another session of the same user.
#[tokio::test]
async fn a_write_that_purges_its_caller_ends_all_verdicts_on_it() {
    let (_upstream, session, larder) = start_with_session(SWITCHED);
    as_session(&larder, "/mine", "s").await.assert_stored();
    as_session(&larder, "/mine", "bob-2").await.assert_stored();
    session.lock().unwrap().clear();
    let everywhere = larder.request("POST", "/switch").header("cookie", "sid=ann-2");
    everywhere.await.assert_status(204);
    as_session(&larder, "/mine", "ann-2").await.assert_stored();
    as_session(&larder, "/mine", "s").await.assert_detail("refused-caller").assert_text("for ");
    as_session(&larder, "/mine", "bob-2").await.assert_hit();
}

/// Credentials cost nothing to invent.
#[tokio::test]
async fn questions_about_invented_sessions_hold_up_no_others() {
    let upstream = start_service();
    let larder = Larder::with(&format!("trusted_proxies: [127.0.0.0/8]\n{YAML}"), &upstream);
    let from = |client: &str, session: &str| mine(&larder, session).header("x-forwarded-for", client);
    from("192.0.2.1", "ann-1").await.assert_stored();
    larder.after(10);
    // The service is asked 32 questions at once, 8 of them for one client.
    let (asked, held) = (upstream.count("/check"), upstream.hold_several("/check", 8));
    let invented: Vec<_> = (0..100).map(|number| from("192.0.2.66", &format!("x{number}")).spawn()).collect();
    eventually("its share is asked", || async { (upstream.count("/check") == asked + 8).then_some(()) })
        .await;
    from("192.0.2.1", "ann-1").await.assert_hit();
    from("192.0.2.2", "bob-1").await.assert_stored();
    from("192.0.2.66", "ann-1").await.assert_hit();
    held.release();
    for reply in invented {
        reply.await.unwrap();
    }
    // The service is asked many questions at once of many clients.
    let (asked, held) = (upstream.count("/check"), upstream.hold_several("/check", 32));
    let client = |number: usize| format!("198.51.100.{number}");
    let many: Vec<_> = (0..40).map(|number| from(&client(number), &format!("y{number}")).spawn()).collect();
    eventually("all are asked", || async { (upstream.count("/check") == asked + 32).then_some(()) }).await;
    from("192.0.2.1", "ann-1").await.assert_hit();
    held.release();
    for reply in many {
        reply.await.unwrap();
    }
}

/// Tenants are hosts: a session of one is none of another.
#[tokio::test]
async fn a_session_counts_for_the_host_that_knows_it() {
    let (upstream, larder) = start();
    upstream.on("/check", |request: &Received| match request.header("x-forwarded-host").as_deref() {
        Some("a.example") => Answer::status(204).header("x-user", "ann"),
        _ => Answer::status(401),
    });
    let at = |host: &str| mine(&larder, "ann-1").header("host", host);
    at("a.example").await.assert_stored();
    at("a.example").await.assert_hit();
    at("b.example").await.assert_detail("refused-caller");
    assert_eq!(upstream.last("/check").header("x-forwarded-proto").as_deref(), Some("http"));
}

/// The budgets are in Redis: a request is charged first and identified then, or the other way round.
#[tokio::test]
async fn a_session_counts_for_the_address_that_it_comes_from() {
    let upstream = start_service();
    upstream.on("/check", |request: &Received| match request.header("x-forwarded-for").as_deref() {
        Some("10.0.0.1" | "10.0.0.2") => Answer::status(204).header("x-user", "ann"),
        _ => Answer::status(401),
    });
    let larder = Larder::with(&format!("trusted_proxies: [127.0.0.1]\n{YAML}"), &upstream);
    let mine = |address: &str| mine(&larder, "ann-1").header("x-forwarded-for", address);
    mine("10.0.0.1").await.assert_stored();
    mine("10.0.0.2").await.assert_hit();
    mine("192.0.2.1").await.assert_detail("refused-caller");
    // A write ends the verdicts for all addresses.
    upstream.on("/check", Answer::status(401));
    mine("10.0.0.2").await.assert_hit();
    let logout =
        larder.request("POST", "/logout").header("cookie", "sid=ann-1").header("x-forwarded-for", "10.0.0.1");
    logout.await.assert_status(200);
    mine("10.0.0.2").await.assert_detail("refused-caller");
}

#[tokio::test]
async fn a_rate_by_caller_asks_first_and_one_by_address_does_not() {
    let upstream = start_service();
    let redis = Redis::start().await;
    let routes = "
callers:
  session: {ask: {url: '${UPSTREAM}/check', forward: [cookie.sid], every: 10s, identity: [header.X-User]}}
defaults: {callers: session}
routes:
  - {path: /chat, ttl: never, rate: {limit: 1/d, by: caller}}
  - {path: /mine, ttl: 60s, per: identity, rate: {limit: 2/d}}
";
    let larder = Replica::start_alone(&redis.url(), &upstream, "", routes);
    let ask = |path: &str, session: &str| larder.get(path).header("cookie", &format!("sid={session}"));
    for (session, status) in [("ann-1", 200), ("bob-1", 200), ("ann-2", 429), ("bob-1", 429)] {
        ask("/chat", session).await.assert_status(status);
    }
    assert_eq!(upstream.count("/check"), 3);
    for (session, status) in [("ann-1", 200), ("bob-2", 200), ("ann-3", 429), ("ann-4", 429)] {
        ask("/mine", session).await.assert_status(status);
    }
    // Each fetch is followed by a question.
    assert_eq!(upstream.count("/check"), 6, "a refused request asks nobody");
}
