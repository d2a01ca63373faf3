//! `compress`: larder compresses what its API does not.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::support::{Answer, Larder, Received, Reply, Request, Upstream};

const YAML: &str = "
routes:
  - {path: \"/items/{id}\", ttl: 60s, compress: [gzip], tags: [\"item:{id}\"]}
  - {path: /tagged, ttl: 60s, compress: [gzip], tags: [\"item:{response.json:$.items[*].id}\"]}
  - {path: /plain, ttl: 60s}
  - {path: \"/all/{id}\", ttl: 60s, compress: [zstd, br, gzip], tags: [\"item:{id}\"]}
  - {path: /all-tagged, ttl: 60s, compress: [zstd, gzip], tags: [\"item:{response.json:$.items[*].id}\"]}
  - {path: /observed, ttl: 60s, compress: [gzip], mode: observe}
";

fn content() -> String {
    format!("{{\"items\": [{}{{\"id\": 0}}]}}", "{\"id\": 7}, ".repeat(500))
}

fn json() -> Answer {
    Answer::json(content()).header("etag", "\"v1\"")
}

fn gzip(request: Request) -> Request {
    request.header("accept-encoding", "gzip, deflate, br")
}

fn unpacked(reply: &Reply) -> String {
    unpacked_as("gzip", reply)
}

fn unpacked_as(coding: &str, reply: &Reply) -> String {
    assert_eq!(reply.header("content-encoding").as_deref(), Some(coding), "{reply}");
    let mut text = String::new();
    let read = match coding {
        "gzip" => GzDecoder::new(&reply.body[..]).read_to_string(&mut text),
        "br" => brotli::Decompressor::new(&reply.body[..], 4096).read_to_string(&mut text),
        _ => zstd::stream::read::Decoder::new(&reply.body[..]).expect("zstd").read_to_string(&mut text),
    };
    read.unwrap_or_else(|error| panic!("{coding}: {error}"));
    text
}

#[tokio::test]
async fn what_a_client_accepts_is_compressed_once_and_stored() {
    let upstream = Upstream::start();
    upstream.on("/items/1", json());
    let larder = Larder::with(YAML, &upstream);
    let first = gzip(larder.get("/items/1")).await.assert_stored();
    assert_eq!(unpacked(&first), content());
    let hit = gzip(larder.get("/items/1")).await.assert_hit();
    assert_eq!((unpacked(&hit), &hit.body), (content(), &first.body));
    assert!(hit.body.len() * 10 < content().len(), "{}", hit.body.len());
    assert_eq!(hit.header("content-length"), Some(hit.body.len().to_string()));
    assert_eq!(hit.header("etag").as_deref(), Some("\"v1-larder-gzip\""));
    // Another spelling of the same.
    larder.get("/items/1").header("accept-encoding", "gzip").await.assert_hit();
    let head = gzip(larder.request("HEAD", "/items/1")).await.assert_hit();
    assert_eq!(head.header("content-encoding").as_deref(), Some("gzip"));
    // A client that accepts none has its own.
    let plain = larder.get("/items/1").await.assert_stored().assert_text(&content());
    assert_eq!((plain.header("etag").as_deref(), plain.header("content-encoding")), (Some("\"v1\""), None));
    assert_eq!(plain.header("vary").as_deref(), Some("accept-encoding"));
    larder.get("/items/1").await.assert_hit().assert_text(&content());
    gzip(larder.get("/items/1")).await.assert_hit();
    assert_eq!(upstream.count("/items/1"), 2);
    // Both go with the same purge.
    larder.request("PURGE", "/items/1").await.assert_status(200);
    gzip(larder.get("/items/1")).await.assert_stored();
    larder.get("/items/1").await.assert_stored();
}

#[tokio::test]
async fn a_cold_head_says_what_get_would() {
    let upstream = Upstream::start();
    upstream.on("/items/1", json());
    let larder = Larder::with(YAML, &upstream);
    let fields = ["etag", "content-encoding", "vary", "accept-ranges"];
    let said = |reply: &Reply| fields.map(|name| reply.header(name));
    let head = gzip(larder.request("HEAD", "/items/1")).await.assert_status(200);
    let get = gzip(larder.get("/items/1")).await.assert_stored();
    assert_eq!(said(&head), said(&get));
    assert_eq!(head.header("content-length"), None);
    // And it freshens what is stored, as the upstream's own fields would.
    larder.after(61);
    gzip(larder.request("HEAD", "/items/1")).await.assert_status(200);
    gzip(larder.get("/items/1")).await.assert_hit();
    let plain = larder.request("HEAD", "/items/1").await.assert_status(200);
    assert_eq!(said(&plain), said(&larder.get("/items/1").await.assert_stored()));
}

#[tokio::test]
async fn each_form_is_validated_by_its_own_tag() {
    let upstream = Upstream::start();
    upstream.on("/items/1", |request: &Received| match request.header("if-none-match").as_deref() {
        Some("\"v1\"") => Answer::status(304).header("etag", "\"v1\""),
        Some(_) => Answer::status(500),
        None => json(),
    });
    let larder = Larder::with(YAML, &upstream);
    gzip(larder.get("/items/1")).await.assert_stored();
    let with = |tag: &str| gzip(larder.get("/items/1")).header("if-none-match", tag);
    with("\"v1-larder-gzip\"").await.assert_status(304);
    with("\"v1\"").await.assert_status(200).assert_hit();
    // The API knows its own tag only.
    larder.after(61);
    let freshened = gzip(larder.get("/items/1")).await.assert_status(200);
    assert_eq!(unpacked(&freshened), content());
    assert_eq!(upstream.last("/items/1").header("if-none-match").as_deref(), Some("\"v1\""));
    with("\"v1-larder-gzip\"").await.assert_status(304).assert_hit();
    assert_eq!(upstream.count("/items/1"), 2);
    let put = larder.request("PUT", "/items/1").header("if-match", "\"v1-larder-gzip\", \"x\"");
    put.body("{}").await;
    assert_eq!(upstream.last("/items/1").header("if-match").as_deref(), Some("\"v1\", \"x\""));
    larder.request("PUT", "/items/1").header("if-none-match", "\"v1-larder-gzip\"").body("{}").await;
    assert_eq!(upstream.last("/items/1").header("if-none-match").as_deref(), Some("\"v1\""));
}

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// Two fetches may give different bytes for the same validators.
#[tokio::test]
async fn no_range_is_cut_from_compressed_content() {
    let upstream = Upstream::start();
    let answer = |answer: Answer| answer.header("accept-ranges", "bytes").header("last-modified", MODIFIED);
    upstream.on("/items/1", move |request: &Received| match request.header("if-none-match") {
        Some(_) => answer(Answer::status(304).header("etag", "\"v1\"")),
        None => answer(json()),
    });
    let larder = Larder::with(YAML, &upstream);
    gzip(larder.get("/items/1")).await.assert_stored().assert_header("accept-ranges", "none");
    let range =
        |request: Request, condition| request.header("range", "bytes=5-9").header("if-range", condition);
    for _ in 0..2 {
        for condition in ["\"v1-larder-gzip\"", MODIFIED] {
            let whole = range(gzip(larder.get("/items/1")), condition).await.assert_status(200).assert_hit();
            assert_eq!(unpacked(&whole), content());
        }
        larder.after(61);
        // The 304 says what ranges the API supports, not what is stored.
        gzip(larder.get("/items/1")).await.assert_header("accept-ranges", "none");
    }
    larder.get("/items/1").await.assert_stored();
    range(larder.get("/items/1"), "\"v1\"").await.assert_status(206).assert_text(&content()[5..=9]);
}

#[tokio::test]
async fn a_range_of_what_is_not_stored_has_the_form_of_the_client() {
    let upstream = Upstream::start();
    upstream.on("/items/1", |request: &Received| match request.header("range") {
        Some(_) => Answer::status(206).header("content-range", "bytes 5-9/9999").body("plain"),
        None => json().header("cache-control", "no-store").header("last-modified", MODIFIED),
    });
    let larder = Larder::with(YAML, &upstream);
    let range = |request: Request| request.header("range", "bytes=5-9").header("if-range", MODIFIED);
    for _ in 0..2 {
        let whole = range(gzip(larder.get("/items/1"))).await.assert_status(200);
        assert_eq!(unpacked(&whole), content());
        range(larder.get("/items/1")).await.assert_status(206).assert_text("plain");
    }
}

#[tokio::test]
async fn tags_are_read_of_what_is_compressed() {
    let upstream = Upstream::start();
    upstream.on("/tagged", json());
    let larder = Larder::with(YAML, &upstream);
    assert_eq!(unpacked(&gzip(larder.get("/tagged")).await.assert_stored()), content());
    gzip(larder.get("/tagged")).await.assert_hit();
    larder.request("PURGE", "/x").header("cache-tag", "item:7").await.assert_status(200);
    gzip(larder.get("/tagged")).await.assert_stored();
}

#[tokio::test]
async fn what_should_not_change_does_not() {
    let upstream = Upstream::start();
    upstream.on("/plain", json());
    upstream.on("/observed", json());
    upstream.on("/items/2", json().header("cache-control", "no-transform"));
    upstream.on("/items/3", Answer::json("{}"));
    upstream.on("/items/4", Answer::ok(content()).header("content-type", "image/png"));
    upstream.on("/items/5", json().header("content-encoding", "br"));
    let larder = Larder::with(YAML, &upstream);
    for (path, coding) in [
        ("/plain", None),
        ("/items/2", None),
        ("/items/3", None),
        ("/items/4", None),
        ("/items/5", Some("br")),
    ] {
        let first = gzip(larder.get(path)).await.assert_stored().assert_header("content-encoding", coding);
        let hit = gzip(larder.get(path)).await.assert_hit();
        assert_eq!(hit.body, first.body, "{path}");
    }
    let observed = gzip(larder.get("/observed")).await.assert_text(&content());
    observed.assert_header("etag", "\"v1\"").assert_header("vary", None);
}

/// A response that is not stored is compressed, too: its tag names the form that it has.
#[tokio::test]
async fn trailers_and_unstored_responses_keep_their_form() {
    let upstream = Upstream::start();
    upstream.on("/items/1", json().header("cache-control", "no-store"));
    let larder = Larder::with(YAML, &upstream);
    for _ in 0..2 {
        let reply = gzip(larder.get("/items/1")).await.assert_status(200);
        assert!(!reply.is_hit());
        assert_eq!(unpacked(&reply), content());
    }
}

#[tokio::test]
async fn each_client_gets_the_coding_that_it_likes_best() {
    let upstream = Upstream::start();
    upstream.on("/all/1", json());
    let larder = Larder::with(YAML, &upstream);
    let get = |accepted: &str| larder.get("/all/1").header("accept-encoding", accepted);
    // The first fetch of each coding is compressed and stored; all other spellings find it.
    for (accepted, coding, tag) in [
        ("gzip", "gzip", "\"v1-larder-gzip\""),
        ("gzip, deflate, br, zstd", "zstd", "\"v1-larder-zstd\""),
        ("gzip, deflate, br", "br", "\"v1-larder-br\""),
    ] {
        let first = get(accepted).await.assert_stored();
        assert_eq!(unpacked_as(coding, &first), content());
        let hit = get(accepted)
            .await
            .assert_hit()
            .assert_header("etag", tag)
            .assert_header("accept-ranges", "none");
        assert_eq!(
            (hit.header("content-length"), &hit.body),
            (Some(first.body.len().to_string()), &first.body)
        );
        assert!(hit.body.len() * 10 < content().len(), "{coding}: {}", hit.body.len());
        get(accepted).header("if-none-match", tag).await.assert_status(304).assert_hit();
    }
    for (accepted, coding) in [
        ("zstd, gzip", "zstd"),
        ("zstd;q=0.5, br;q=0.9, gzip;q=0.7", "br"),
        ("gzip, zstd;q=0", "gzip"),
        ("*", "zstd"),
        ("br, *;q=0.1", "br"),
    ] {
        assert_eq!(unpacked_as(coding, &get(accepted).await.assert_hit()), content(), "{accepted}");
    }
    larder.get("/all/1").await.assert_stored().assert_text(&content());
    get("identity, gzip;q=0.5").await.assert_hit().assert_text(&content());
    assert_eq!(upstream.count("/all/1"), 4);
    larder.request("PURGE", "/all/1").await.assert_status(200);
    for accepted in ["gzip", "br", "zstd"] {
        get(accepted).await.assert_stored();
    }
}

#[tokio::test]
async fn each_coding_is_validated_by_the_tag_of_the_api() {
    let upstream = Upstream::start();
    upstream.on("/all/1", |request: &Received| match request.header("if-none-match").as_deref() {
        Some("\"v1\"") => Answer::status(304).header("etag", "\"v1\""),
        Some(_) => Answer::status(500),
        None => json(),
    });
    let larder = Larder::with(YAML, &upstream);
    for coding in ["zstd", "br", "gzip"] {
        let get = || larder.get("/all/1").header("accept-encoding", coding);
        get().await.assert_stored();
        larder.after(61);
        let freshened = get().await.assert_status(200);
        assert_eq!(unpacked_as(coding, &freshened), content());
        let tag = format!("\"v1-larder-{coding}\"");
        get()
            .header("if-none-match", &tag)
            .await
            .assert_status(304)
            .assert_hit()
            .assert_header("etag", tag.as_str());
    }
}

/// The API would answer with all of it, if it were asked for a tag that it never gave.
#[tokio::test]
async fn a_condition_that_is_passed_has_the_tag_of_the_api() {
    let upstream = Upstream::start();
    upstream.on("/all/1", |request: &Received| match request.header("if-none-match").as_deref() {
        Some("\"v1\"" | "\"v0\", \"v1\"") => Answer::status(304).header("etag", "\"v1\""),
        _ => json().header("cache-control", "no-store"),
    });
    let larder = Larder::with(YAML, &upstream);
    let ask = |method: &str, tags: &str| {
        let request = larder.request(method, "/all/1").header("accept-encoding", "zstd");
        request.header("if-none-match", tags)
    };
    // `If-Match` makes it one for the API, and a cold HEAD is one.
    let passed = |tags| ask("GET", tags).header("if-match", "*");
    for tags in ["\"v1-larder-zstd\"", "\"v0\", \"v1-larder-zstd\""] {
        passed(tags).await.assert_status(304).assert_header("etag", "\"v1-larder-zstd\"");
        ask("HEAD", tags).await.assert_status(304).assert_header("etag", "\"v1-larder-zstd\"");
    }
    passed("\"v1\"").await.assert_status(304).assert_header("etag", "\"v1\"");
    passed("\"v2-larder-zstd\"").await.assert_status(200);
}

/// A coding that content is not read through would leave it without tags.
#[tokio::test]
async fn content_that_is_read_is_compressed_with_gzip() {
    let upstream = Upstream::start();
    upstream.on("/all-tagged", json());
    let larder = Larder::with(YAML, &upstream);
    let get = || larder.get("/all-tagged").header("accept-encoding", "zstd, gzip");
    assert_eq!(unpacked(&get().await.assert_stored()), content());
    get().await.assert_hit();
    larder.request("PURGE", "/x").header("cache-tag", "item:7").await.assert_status(200);
    get().await.assert_stored();
    larder.get("/all-tagged").header("accept-encoding", "zstd").await.assert_text(&content());
}

#[tokio::test]
async fn an_api_that_compresses_itself_is_not_asked_again() {
    let upstream = Upstream::start();
    upstream.on("/all/1", json().header("content-encoding", "gzip").header("vary", "accept-encoding"));
    let larder = Larder::with(YAML, &upstream);
    let get = |accepted: &str| larder.get("/all/1").header("accept-encoding", accepted);
    get("gzip, br, zstd").await.assert_stored().assert_header("content-encoding", "gzip");
    for accepted in ["gzip, br, zstd", "zstd, gzip", "gzip"] {
        get(accepted).await.assert_hit().assert_header("content-encoding", "gzip");
    }
    assert_eq!(upstream.count("/all/1"), 1);
}

/// All that has come leaves, however little it is.
#[tokio::test]
async fn a_slow_response_stays_a_stream_in_each_coding() {
    for coding in ["zstd", "br", "gzip"] {
        let upstream = Upstream::start();
        let (answer, feed) = Answer::fed();
        upstream.once(
            "/all/1",
            answer.header("content-type", "application/json").header("cache-control", "no-store"),
        );
        let larder = Larder::with(YAML, &upstream);
        let mut reply = larder.get("/all/1").header("accept-encoding", coding).start().await;
        feed.send("[1,").await;
        assert!(reply.next().await.expect("a part").is_some_and(|part| !part.is_empty()), "{coding}");
        feed.send("2]").await;
        feed.end().await;
        reply.whole().await.expect("the rest");
    }
}

/// An API that compresses for some clients, on a route that compresses for the others.
#[tokio::test]
async fn codings_of_the_api_and_of_larder_stay_side_by_side() {
    let upstream = Upstream::start();
    upstream.on("/all/1", |request: &Received| {
        let accepted = request.header("accept-encoding").unwrap_or_default();
        if !accepted.contains("gzip") {
            return json().header("vary", "accept-encoding");
        }
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, content().as_bytes()).expect("memory");
        let answer = Answer::ok(packed.finish().expect("memory")).header("content-type", "application/json");
        answer.header("content-encoding", "gzip").header("vary", "accept-encoding")
    });
    let larder = Larder::with(YAML, &upstream);
    let clients = [("br", "br"), ("zstd, gzip, br", "gzip"), ("zstd", "zstd"), ("gzip, br", "gzip")];
    let ask = async |(accepted, coding): (&str, &str)| {
        let reply = larder.get("/all/1").header("accept-encoding", accepted).await.assert_status(200);
        assert_eq!(unpacked_as(coding, &reply), content(), "{accepted}");
        reply
    };
    for client in clients {
        ask(client).await;
    }
    let fetched = upstream.count("/all/1");
    for client in clients.iter().chain(clients.iter().rev()).chain(&clients) {
        ask(*client).await.assert_hit();
    }
    assert_eq!((fetched, upstream.count("/all/1")), (3, 3));
    // The API stops compressing: larder does it for all.
    upstream.on("/all/1", json());
    larder.request("PURGE", "/all/1").await.assert_status(200);
    for (accepted, coding) in [("zstd, gzip, br", "zstd"), ("gzip", "gzip"), ("br", "br")] {
        ask((accepted, coding)).await;
        ask((accepted, coding)).await.assert_hit();
    }
}
