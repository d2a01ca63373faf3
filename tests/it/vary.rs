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
async fn concurrent_requests_collapse_by_variant() {
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
async fn known_variants_are_fetched_once_each() {
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
    larder.metric_becomes("larder_followers", 38.0).await;
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
async fn at_most_four_kinds_of_vary_are_kept() {
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

/// RFC 9111 §4.1; the common CORS libraries send `Vary: Origin` only where they allow the origin.
#[tokio::test]
async fn a_response_without_vary_leaves_the_variants_alone() {
    let upstream = Upstream::start();
    upstream.on("/a", |request: &Received| match request.header("origin") {
        Some(origin) if origin != "evil" => {
            Answer::numbered(request).header("vary", "origin").header("access-control-allow-origin", &origin)
        }
        _ => Answer::numbered(request),
    });
    let larder = Larder::with("routes: [{path: /a, ttl: 60s}]", &upstream);
    let from = |origin: &str| larder.get("/a").header("origin", origin);
    from("a").await.assert_text("GET /a #1");
    larder.get("/a").await.assert_text("GET /a #2");
    from("evil").await.assert_text("GET /a #3");
    from("b").await.assert_text("GET /a #4").assert_header("access-control-allow-origin", "b");
    from("a").await.assert_hit().assert_text("GET /a #1").assert_header("access-control-allow-origin", "a");
    larder.get("/a").await.assert_hit().assert_text("GET /a #2");
    from("evil").await.assert_hit().assert_text("GET /a #3");
    from("b").await.assert_hit();
}

/// Compresses as Express does: by what the field says, with brotli before gzip.
fn compressing(request: &Received) -> Answer {
    let accepted = request.header("accept-encoding").unwrap_or_default();
    let coding = ["br", "gzip"].into_iter().find(|coding| accepted.contains(coding));
    let answer = Answer::ok(format!("{} #{}", coding.unwrap_or("plain"), request.nth));
    match coding {
        Some(coding) => answer.header("content-encoding", coding),
        None => answer,
    }
}

/// `Accept-Encoding` of twelve kinds of clients, and the coding that suits them.
const CLIENTS: [(Option<&str>, Option<&str>); 12] = [
    (Some("gzip, deflate, br, zstd"), Some("br")),
    (Some("gzip, deflate, br"), Some("br")),
    (Some("gzip, deflate"), Some("gzip")),
    (Some("gzip, compress, deflate, br"), Some("br")),
    (Some("gzip"), Some("gzip")),
    (Some("deflate, gzip, br, zstd"), Some("br")),
    (Some("gzip, deflate, zstd"), Some("gzip")),
    (Some("gzip"), Some("gzip")),
    (None, None),
    (Some("gzip, deflate"), Some("gzip")),
    (Some("gzip,deflate"), Some("gzip")),
    (Some("gzip;q=1.0,deflate;q=0.6,identity;q=0.3"), Some("gzip")),
];

#[tokio::test]
async fn twelve_spellings_of_accept_encoding_are_three_fetches() {
    for vary in [Some("Accept-Encoding"), None] {
        let upstream = Upstream::start();
        upstream.on("/a", move |request: &Received| match vary {
            Some(vary) => compressing(request).header("vary", vary),
            None => compressing(request),
        });
        let larder = Larder::with(A, &upstream);
        for round in 0..2 {
            for (accepted, coding) in CLIENTS {
                let mut request = larder.get("/a");
                if let Some(accepted) = accepted {
                    request = request.header("accept-encoding", accepted);
                }
                let reply = request.await;
                assert_eq!(reply.header("content-encoding").as_deref(), coding, "{round} {accepted:?}");
            }
            assert_eq!(upstream.count("/a"), 3);
        }
    }
}

#[tokio::test]
async fn a_coded_response_without_vary_is_for_those_who_accept_it() {
    let upstream = Upstream::start();
    upstream.on("/a", compressing);
    let larder = Larder::with(A, &upstream);
    let ask = |accepted: &'static str| larder.get("/a").header("accept-encoding", accepted);
    ask("gzip").await.assert_text("gzip #1");
    ask("identity").await.assert_fwd("vary-miss").assert_text("plain #2");
    larder.get("/a").await.assert_hit().assert_text("plain #2");
    // This upstream looks for the name alone, so what is refused is not sent to it.
    ask("gzip;q=0, zstd").await.assert_text("plain #3");
    ask("deflate, gzip;q=0.5").await.assert_hit().assert_text("gzip #1");
    ask("gzip, *;q=0").await.assert_hit().assert_text("gzip #1");
}

/// This upstream looks for the name alone, and gets it beside a `*`: the answer counts for that field.
#[tokio::test]
async fn an_odd_accept_encoding_changes_nothing_for_the_others() {
    let upstream = Upstream::start();
    upstream.on("/a", compressing);
    let larder = Larder::with(A, &upstream);
    let ask = |accepted: &str| larder.get("/a").header("accept-encoding", accepted);
    ask("gzip").await.assert_text("gzip #1");
    ask("identity").await.assert_text("plain #2");
    for odd in ["gzip;q=0, *", "gzip;q=0, *;q=0.5", "*, gzip;q=0"] {
        ask(odd).await.assert_status(200);
        ask("gzip, deflate, br").await.assert_hit().assert_text("gzip #1");
        ask("identity").await.assert_hit().assert_text("plain #2");
    }
}

#[tokio::test]
async fn an_upstream_that_stops_compressing_is_asked_once_more() {
    let upstream = Upstream::start();
    upstream.once("/a", Answer::ok("gzip #1").header("content-encoding", "gzip"));
    upstream.on("/a", |request: &Received| Answer::ok(format!("plain #{}", request.nth)));
    let larder = Larder::with(A, &upstream);
    let ask = |accepted: &'static str| larder.get("/a").header("accept-encoding", accepted);
    ask("gzip").await.assert_text("gzip #1");
    larder.after(61);
    ask("gzip").await.assert_text("plain #2");
    ask("gzip, br").await.assert_hit().assert_text("plain #2");
}

#[tokio::test]
async fn a_coding_of_another_kind_is_selected_by_the_field_as_it_is() {
    for coding in ["dcb", "gzip, br", "made-up"] {
        let upstream = Upstream::start();
        upstream.on("/a", Answer::ok("x").header("content-encoding", coding));
        let larder = Larder::with(A, &upstream);
        for accepted in ["dcb, gzip", "gzip"] {
            larder.get("/a").header("accept-encoding", accepted).await.assert_stored();
            larder.get("/a").header("accept-encoding", accepted).await.assert_hit();
        }
    }
}

/// Not all frameworks read language tags without case, as RFC 5646 §2.1.1 asks: who writes `DE` may get another language.
#[tokio::test]
async fn a_language_in_another_case_selects_for_itself() {
    let upstream = Upstream::start();
    upstream.on("/a", by_language);
    let larder = Larder::with(A, &upstream);
    for (language, text) in
        [("en-GB, de", "en-GB, de #1"), ("EN-gb,DE", "EN-gb,DE #2"), ("en-GB,de", "en-GB, de #1")]
    {
        larder.get("/a").header("accept-language", language).await.assert_text(text);
    }
}

/// Few APIs name these in `Vary`, and frameworks answer by them.
#[tokio::test]
async fn fields_that_select_are_part_of_the_key() {
    for (name, value) in [
        ("content-type", "application/json; charset=utf-16le"),
        ("content-encoding", "bogus"),
        ("accept-version", "2"),
        ("x-api-version", "2024-01-01"),
        ("prefer", "return=minimal"),
        ("revision", "2024-10-15"),
        ("x-fields", "{id,name}"),
        ("x-github-api-version", "2022-11-28"),
        ("x-ms-version", "2.0"),
        ("accept", "application/vnd.shop.v2+json"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ] {
        let upstream = Upstream::start();
        upstream.on("/a", move |request: &Received| Answer::ok(request.header(name).unwrap_or_default()));
        let larder = Larder::with(A, &upstream);
        for _ in 0..2 {
            larder.get("/a").header(name, value).await.assert_text(value);
            larder.get("/a").await.assert_text("");
        }
        assert_eq!(upstream.count("/a"), 2, "{name}");
        larder.request("PURGE", "/a").await.assert_status(200);
        larder.get("/a").header(name, value).await.assert_stored();
    }
}

/// Clients of JSON write `Accept` in many ways, and an API without another format answers all of them alike.
#[tokio::test]
async fn clients_of_json_share_whatever_they_accept() {
    let upstream = Upstream::start();
    upstream.on("/a", |request: &Received| Answer::ok(request.header("accept").unwrap_or_default()));
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await.assert_stored();
    for accepted in [
        "*/*",
        "application/json",
        "Application/JSON;q=0.9",
        "application/json, text/plain, */*",
        "application/json, text/javascript, */*; q=0.01",
        "application/problem+json,application/*+json , text/json;q=0.5",
        "",
    ] {
        larder.get("/a").header("accept", accepted).await.assert_hit();
    }
    for accepted in [
        "application/xml",
        "application/json;version=2",
        "application/json;odata=verbose, */*",
        "application/json; profile=\"a, b\"",
        "application/json, text/html",
        "application/hal+json",
        "image/webp,*/*",
        "json",
    ] {
        larder.get("/a").header("accept", accepted).await.assert_stored().assert_text(accepted);
        larder.get("/a").header("accept", accepted).await.assert_hit();
    }
    larder.get("/a").header("accept", "application/json").header("accept", "text/html").await.assert_hit();
    larder.request("PURGE", "/a").await.assert_status(200);
    larder.get("/a").header("accept", "application/xml").await.assert_stored();
}

/// The languages of a dozen browsers, and an API that speaks two.
#[tokio::test]
async fn a_route_with_languages_has_one_response_for_each() {
    let upstream = Upstream::start();
    upstream.on("/a", by_language);
    let larder = Larder::with("routes: [{path: /a, ttl: 60s, languages: [en, de]}]", &upstream);
    for (languages, chosen) in [
        (&["en-US,en;q=0.9", "en-GB,en;q=0.9,de;q=0.8", "en, de", "de, en", "*", "EN"][..], "en"),
        (&["de-DE,de;q=0.9,en;q=0.8", "de", "fr,de;q=0.1", "en;q=0.3, de-AT"], "de"),
        (&["fr", "", "ja,zh;q=0.5"], ""),
    ] {
        let nth = upstream.count("/a") + 1;
        for language in languages {
            let reply = larder.get("/a").header("accept-language", language).await;
            reply.assert_text(&format!("{chosen} #{nth}"));
        }
    }
    larder.get("/a").await.assert_hit().assert_text(" #3");
    // A request that is forwarded uncached asks for the same language.
    larder
        .get("/a")
        .header("if-match", "\"x\"")
        .header("accept-language", "de-CH")
        .await
        .assert_text("de #4");
    larder.request("POST", "/a").header("accept-language", "de-CH").await.assert_text("de-CH #5");
}

#[tokio::test]
async fn the_latest_of_all_kinds_of_vary_is_used() {
    let upstream = Upstream::start();
    upstream.on("/a", |request: &Received| {
        let vary = if request.nth % 2 == 1 { "X-A, X-B" } else { "X-A" };
        Answer::numbered(request).header("vary", vary)
    });
    let larder = Larder::with(A, &upstream);
    let ask = |a: &'static str, b: &'static str| larder.get("/a").header("x-a", a).header("x-b", b);
    ask("1", "1").await.assert_text("GET /a #1");
    larder.after(1);
    ask("1", "2").await.assert_text("GET /a #2");
    ask("1", "1").await.assert_hit().assert_text("GET /a #2");
    // Another request brings the first kind of `Vary` to the front.
    ask("2", "1").await.assert_text("GET /a #3");
    ask("1", "1").await.assert_hit().assert_text("GET /a #2");
    ask("2", "1").await.assert_hit().assert_text("GET /a #3");
    assert_eq!(upstream.count("/a"), 3);
}

/// Which language a response has is told by the request alone.
#[tokio::test]
async fn languages_are_in_the_key_without_vary() {
    let upstream = Upstream::start();
    upstream.on("/a", |request: &Received| {
        let language = request.header("accept-language").unwrap_or_default();
        Answer::ok(format!("{language} #{}", request.nth))
    });
    let larder = Larder::with("routes: [{path: /a, ttl: 60s, languages: [en, de]}]", &upstream);
    for (language, expected) in
        [("en-GB", "en #1"), ("de", "de #2"), ("fr", " #3"), ("de-CH, en;q=0.1", "de #2"), ("en", "en #1")]
    {
        larder.get("/a").header("accept-language", language).await.assert_text(expected);
    }
}

#[tokio::test]
async fn a_field_that_the_route_ignores_selects_no_variant() {
    let upstream = Upstream::start();
    for path in ["/all", "/own", "/obeyed"] {
        upstream.on(path, |request: &Received| {
            Answer::ok(format!("#{}", request.nth)).header("vary", "Accept-Language, Cookie")
        });
    }
    let larder = Larder::with(
        "routes:
  - {path: /all, ttl: 60s, shared: true, ignore_vary: [Cookie]}
  - {path: /own, ttl: 60s, per: cookie.sid, ignore_vary: [Cookie]}
  - {path: /obeyed, ttl: 60s, shared: true}",
        &upstream,
    );
    let get = |path: &str, cookie: &str| larder.get(path).header("cookie", cookie);
    get("/all", "sid=1; _ga=1").await.assert_stored();
    let hit = get("/all", "_ga=2").await.assert_hit();
    assert_eq!(hit.header("vary").as_deref(), Some("Accept-Language, Cookie"), "others still see it");
    larder.get("/all").await.assert_hit();
    get("/all", "_ga=1").header("accept-language", "de").await.assert_fwd("vary-miss");
    get("/own", "sid=1; _ga=1").await.assert_stored();
    get("/own", "sid=1; _ga=2").await.assert_hit();
    get("/own", "sid=2; _ga=2").await.assert_fwd("uri-miss").assert_text("#2");
    get("/obeyed", "_ga=1").await.assert_stored();
    get("/obeyed", "_ga=2").await.assert_fwd("vary-miss");
}

/// A response that was stored for all values of a field is no hit once the route stops ignoring it. Once it begins to, it
/// stores one for all, although variants are known.
#[tokio::test]
async fn a_route_begins_and_ends_to_ignore_a_field() {
    let upstream = Upstream::start();
    upstream.on("/a", |request: &Received| Answer::ok(format!("#{}", request.nth)).header("vary", "Cookie"));
    let obeyed = "routes: [{path: /a, ttl: 60s, shared: true}]";
    let ignored = "routes: [{path: /a, ttl: 60s, shared: true, ignore_vary: [Cookie]}]";
    let larder = Larder::with(obeyed, &upstream);
    let get = |cookie: &str| larder.get("/a").header("cookie", cookie);
    get("a=1").await.assert_text("#1");
    larder.reconfigure(ignored).await;
    get("a=2").await.assert_text("#2");
    get("a=3").await.assert_hit().assert_text("#2");
    larder.reconfigure(obeyed).await;
    get("a=4").await.assert_text("#3");
    get("a=5").await.assert_text("#4");
}
