//! One URL, several responses: each request gets the variant that was made for requests like it (RFC 9111 §4.1).

use crate::support::{Answer, Larder, Received, Upstream};

const A: &str = "routes: [{path: /a, ttl: 60s}]";

/// Says which language it was asked for, and that this matters.
fn by_language(request: &Received) -> Answer {
    let language = request.header("accept-language").unwrap_or_default();
    Answer::ok(format!("{language} #{}", request.nth)).header("vary", "Accept-Language")
}

#[tokio::test]
async fn a_request_gets_the_variant_of_its_own_fields() {
    let upstream = Upstream::start();
    upstream.on("/a", by_language);
    let larder = Larder::with(A, &upstream);
    let ask = |language: &'static str| larder.get("/a").header("accept-language", language);
    ask("de").await.assert_fwd("uri-miss").assert_stored().assert_text("de #1");
    ask("en").await.assert_fwd("vary-miss").assert_stored().assert_text("en #2");
    ask("de").await.assert_hit().assert_text("de #1");
    ask("en").await.assert_hit().assert_text("en #2");
    larder.get("/a").await.assert_fwd("vary-miss").assert_text(" #3");
    larder.get("/a").await.assert_hit().assert_text(" #3");
}

#[tokio::test]
async fn a_purge_of_the_url_reaches_every_variant() {
    let upstream = Upstream::start();
    upstream.on("/a", by_language);
    let larder = Larder::with(A, &upstream);
    let ask = |language: &'static str| larder.get("/a").header("accept-language", language);
    ask("de").await;
    ask("en").await;
    larder.request("PURGE", "/a").await.assert_status(200);
    ask("de").await.assert_text("de #3");
    ask("en").await.assert_text("en #4");
}

#[tokio::test]
async fn the_crowd_of_one_variant_is_one_request_and_no_variant_gets_anothers() {
    let upstream = Upstream::start();
    upstream.on("/a", by_language);
    let larder = Larder::with(A, &upstream);
    larder.get("/a").header("accept-language", "en").await;
    larder.after(60);
    let held = upstream.hold_every("/a");
    let crowd: Vec<_> = ["de", "fr"]
        .into_iter()
        .cycle()
        .take(40)
        .map(|language| (language, larder.get("/a").header("accept-language", language).spawn()))
        .collect();
    held.arrived().await;
    held.release();
    for (language, reply) in crowd {
        let reply = reply.await.unwrap();
        assert!(reply.text().starts_with(language), "{reply}");
    }
}

#[tokio::test]
async fn a_response_that_begins_to_vary_is_told_apart_from_then_on() {
    let upstream = Upstream::start();
    upstream.once("/a", Answer::ok("the same for all"));
    upstream.on("/a", by_language);
    let larder = Larder::with(A, &upstream);
    larder.get("/a").header("accept-language", "de").await.assert_text("the same for all");
    larder.after(60);
    larder.get("/a").header("accept-language", "de").await.assert_text("de #2");
    larder.get("/a").header("accept-language", "en").await.assert_text("en #3");
    larder.get("/a").header("accept-language", "de").await.assert_hit().assert_text("de #2");
}
