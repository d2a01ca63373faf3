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

#[tokio::test]
async fn once_it_is_known_to_vary_each_variants_crowd_is_one_request_of_its_own() {
    let upstream = Upstream::start();
    upstream.on("/a", by_language);
    let larder = Larder::with(A, &upstream);
    larder.get("/a").header("accept-language", "en").await;
    let held = upstream.hold_every("/a");
    let crowd: Vec<_> = ["de", "fr", "en"]
        .into_iter()
        .cycle()
        .take(60)
        .map(|language| (language, larder.get("/a").header("accept-language", language).spawn()))
        .collect();
    // Both are at the upstream at the same time: no variant waits for another.
    held.arrived_times(2).await;
    larder.metric_becomes("larder_connections", 40.0).await;
    held.release();
    let mut texts = vec![];
    for (language, reply) in crowd {
        let reply = reply.await.unwrap();
        assert!(reply.text().starts_with(language), "{reply}");
        texts.push(reply.text().to_owned());
    }
    texts.sort();
    texts.dedup();
    assert_eq!((texts.len(), upstream.count("/a")), (3, 3));
}

#[tokio::test]
async fn several_kinds_of_vary_are_known_at_a_time_and_no_more_than_four() {
    let upstream = Upstream::start();
    upstream.on("/a", |request: &Received| {
        let by = request.header("by").unwrap_or_default();
        Answer::numbered(request).header("vary", &format!("by, {by}"))
    });
    let larder = Larder::with(A, &upstream);
    let ask = |by: &str| larder.get("/a").header("by", by);
    for by in ["x-1", "x-2", "x-3", "x-4"] {
        ask(by).await.assert_stored();
    }
    for by in ["x-1", "x-2", "x-3", "x-4"] {
        ask(by).await.assert_hit();
    }
    ask("x-5").await.assert_fwd("vary-miss").assert_stored();
    ask("x-5").await.assert_hit();
    // The oldest kind is forgotten, and with it the way to its responses.
    ask("x-1").await.assert_fwd("vary-miss");
}
