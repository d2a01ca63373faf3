//! Caches between larder and its clients: the lists of tags that they purge by, and how long they may keep a response.

use crate::support::{Answer, Larder, Received, Reply, Upstream, bearer};

const LISTS: &str = "
routes:
  - path: /courses/{id}
    ttl: 60s
    shared: true
    tags: [courses, \"course:{id}\"]
    list_tags: [Surrogate-Key, Cache-Tag]
  - path: /seen/{id}
    ttl: 60s
    shared: true
    tags: [\"course:{id}\", \"u:{jwt.sub}\"]
    list_tags: [Cache-Tag]
  - path: /content/{id}
    ttl: 60s
    tags: [\"item:{response.json:$.items[*]}\"]
    list_tags: [Surrogate-Key]
  - path: /validated
    ttl: 10s
    tags: [\"item:{response.json:$.items[*]}\"]
    list_tags: [Surrogate-Key]
  - path: /hidden
    ttl: 60s
    tags: [all]
    list_tags: [Cache-Tag]
    hide_tags: true
  - path: /never/{*rest}
    ttl: never
    list_tags: [Surrogate-Key]
";

const PUBLIC: &str = "public, max-age=9";
const NOBODY: &str = "private, no-cache";

fn open(request: &Received) -> Answer {
    Answer::numbered(request).header("cache-control", PUBLIC)
}

#[tokio::test]
async fn each_cached_response_lists_its_tags() {
    let upstream = Upstream::start();
    upstream.on("/courses/7", |request: &Received| {
        open(request)
            .header("etag", "\"1\"")
            .header("surrogate-key", "own more")
            .header("cdn-cache-control", "max-age=1")
    });
    let larder = Larder::with(LISTS, &upstream);
    let lists = |reply: Reply, status: u16| {
        reply
            .assert_status(status)
            .assert_header("surrogate-key", "courses course:7 own more")
            .assert_header("cache-tag", "courses,course:7,own,more")
            .assert_header("cache-control", PUBLIC)
            .assert_header("cdn-cache-control", "max-age=1")
    };
    let ask = |method: &str| larder.request(method, "/courses/7");
    lists(ask("GET").await, 200).assert_stored();
    lists(ask("GET").await, 200).assert_hit();
    lists(ask("HEAD").await, 200).assert_hit();
    lists(ask("GET").header("if-none-match", "\"1\"").await, 304).assert_hit();
    lists(ask("GET").header("range", "bytes=0-1").await, 206).assert_hit();
}

#[tokio::test]
async fn a_tag_of_the_caller_keeps_a_response_from_other_caches() {
    let upstream = Upstream::start();
    upstream.on("/seen/7", |request: &Received| open(request).header("cache-tag", "own"));
    let larder = Larder::with(LISTS, &upstream);
    let ann = bearer(r#"{"sub":"ann"}"#);
    for _ in 0..2 {
        let reply = larder.get("/seen/7").header("authorization", &ann).await;
        reply.assert_header("cache-tag", None).assert_header("cache-control", NOBODY);
    }
    larder.request("PURGE", "/").header("cache-tag", "u:ann").await.assert_status(200);
    let reply = larder.get("/seen/7").await.assert_stored();
    reply.assert_header("cache-tag", "course:7,own").assert_header("cache-control", PUBLIC);
}

#[tokio::test]
async fn what_does_not_list_all_its_tags_is_for_no_shared_cache() {
    let upstream = Upstream::start();
    let content = || Answer::json(r#"{"items":[1,2]}"#).header("cache-control", "max-age=60");
    upstream.on("/content/1", content().header("surrogate-control", "max-age=9"));
    upstream.on("/content/2", content().header("set-cookie", "a=b"));
    upstream.on("/courses/8", Answer::status(500).header("cache-control", PUBLIC));
    upstream.on("/courses/9", Answer::ok("").header("cache-control", "private, max-age=5"));
    upstream.on("/never/1", open);
    let larder = Larder::with(LISTS, &upstream);
    // Its content is still to come.
    let first = larder.get("/content/1").await.assert_header("surrogate-key", None);
    first.assert_header("cache-control", NOBODY).assert_header("surrogate-control", None);
    let hit = larder.get("/content/1").await.assert_hit().assert_header("surrogate-key", "item:1 item:2");
    hit.assert_header("cache-control", "max-age=60").assert_header("surrogate-control", "max-age=9");
    larder.get("/content/2").await.assert_not_stored("set-cookie").assert_header("cache-control", NOBODY);
    larder.get("/courses/8").await.assert_status(500).assert_header("cache-control", NOBODY);
    larder.get("/courses/9").await.assert_header("cache-control", "private, max-age=5");
    larder.get("/never/1").await.assert_header("cache-control", PUBLIC);
    larder.request("POST", "/courses/9").await.assert_header("cache-control", "private, max-age=5");
}

#[tokio::test]
async fn a_response_that_is_still_good_keeps_its_list() {
    let upstream = Upstream::start();
    let first = Answer::json(r#"{"items":[1,2]}"#).header("etag", "\"1\"");
    upstream.once("/validated", first.header("surrogate-key", "old"));
    upstream.on("/validated", Answer::status(304).header("etag", "\"1\"").header("surrogate-key", "new"));
    let larder = Larder::with(LISTS, &upstream);
    larder.get("/validated").await.assert_stored();
    larder.get("/validated").await.assert_hit().assert_header("surrogate-key", "item:1 item:2 old");
    larder.after(10);
    let confirmed = larder.get("/validated").await.assert_fwd("stale");
    confirmed.assert_header("surrogate-key", "new item:1 item:2 old").assert_header("cache-control", None);
    for (tag, is_hit) in [("other", true), ("new", false)] {
        larder.request("PURGE", "/").header("cache-tag", tag).await.assert_status(200);
        assert_eq!(larder.get("/validated").await.is_hit(), is_hit, "{tag}");
    }
}

#[tokio::test]
async fn lists_of_larder_stay_where_those_of_the_api_are_hidden() {
    let upstream = Upstream::start();
    upstream.on("/hidden", |request: &Received| open(request).header("cache-tag", "own").header("xkey", "x"));
    let larder = Larder::with(LISTS, &upstream);
    for _ in 0..2 {
        larder.get("/hidden").await.assert_header("cache-tag", "all,own,x").assert_header("xkey", None);
    }
    // This one is not larder's.
    let passed = larder.get("/hidden").header("if-match", "\"1\"").await;
    passed
        .assert_detail("precondition")
        .assert_header("cache-tag", None)
        .assert_header("cache-control", NOBODY);
}

#[tokio::test]
async fn what_was_stored_without_a_list_is_fetched_anew() {
    let routes = |more: &str| format!("routes: [{{path: /a, ttl: 60s, tags: [all]{more}}}]");
    let upstream = Upstream::start();
    let larder = Larder::with(&routes(""), &upstream);
    larder.get("/a").await.assert_stored();
    larder.get("/a").await.assert_hit();
    larder.reconfigure(&routes(", list_tags: [xkey]")).await;
    let again = larder.get("/a").await;
    assert!(!again.is_hit());
    again.assert_header("xkey", "all");
}

const DOWNSTREAM: &str = "
defaults:
  ttl: 60s
  downstream: {max_age: 20s, s_maxage: 10m}
routes:
  - {path: /shared, shared: true}
  - {path: /mine, per: authorization}
  - {path: /stale, ttl: 10s, stale_while_revalidate: 1m}
  - {path: /private, downstream: {max_age: 5s, scope: private}}
  - {path: /own, downstream: none}
";

#[tokio::test]
async fn clients_see_the_terms_of_the_route_and_larder_keeps_its_own() {
    let upstream = Upstream::start();
    upstream.on("/shared", |request: &Received| {
        let answer = Answer::numbered(request).header("etag", "\"1\"").header("expires", "0");
        answer.header("cache-control", "max-age=30").header("cdn-cache-control", "max-age=9999")
    });
    upstream.on("/own", open);
    let larder = Larder::with(DOWNSTREAM, &upstream);
    let check = |reply: Reply, status: u16, value: &str| {
        let reply = reply.assert_status(status).assert_header("cache-control", value);
        reply.assert_header("expires", None).assert_header("cdn-cache-control", None)
    };
    check(larder.get("/shared").await, 200, "max-age=20, s-maxage=600").assert_stored();
    larder.after(12);
    let older = "max-age=32, s-maxage=612";
    let hit = check(larder.get("/shared").await, 200, older).assert_hit().assert_header("age", "12");
    assert_eq!(hit.remaining_ttl(), 18);
    check(larder.request("HEAD", "/shared").await, 200, older).assert_hit().assert_header("age", "12");
    let conditional = larder.get("/shared").header("if-none-match", "\"1\"").await;
    check(conditional, 304, older).assert_hit().assert_header("age", "12");
    larder.after(18);
    check(larder.get("/shared").await, 200, "max-age=20, s-maxage=600").assert_fwd("stale");
    larder.get("/own").await.assert_header("cache-control", PUBLIC);
    larder.get("/private").await.assert_header("cache-control", "private, max-age=5");
}

#[tokio::test]
async fn nothing_of_one_caller_and_nothing_unstored_becomes_public() {
    let upstream = Upstream::start();
    for path in ["/mine", "/stale"] {
        upstream.on(path, |request: &Received| {
            Answer::numbered(request).header("cdn-cache-control", "max-age=9")
        });
    }
    let larder = Larder::with(DOWNSTREAM, &upstream);
    let value = |reply: Reply, value: &str| {
        reply.assert_header("cache-control", value).assert_header("cdn-cache-control", None)
    };
    for _ in 0..2 {
        value(larder.get("/mine").header("authorization", "Bearer a").await, "private, max-age=20");
    }
    value(larder.get("/mine").await.assert_detail("no-credential"), NOBODY);
    value(larder.get("/stale").header("if-match", "\"1\"").await.assert_detail("precondition"), NOBODY);
    value(larder.request("HEAD", "/stale").await, NOBODY);
    larder.get("/stale").await.assert_stored();
    larder.after(10);
    value(larder.get("/stale").await.assert_hit().assert_detail("stale-while-revalidate"), NOBODY);
    upstream.on("/shared", Answer::ok("").header("cache-control", "no-store"));
    value(larder.get("/shared").await.assert_not_stored("no-store"), "no-store");
    upstream.on("/shared", Answer::ok("").header("set-cookie", "a=b").header("cache-control", PUBLIC));
    value(larder.get("/shared").await.assert_not_stored("set-cookie"), NOBODY);
}
