//! Where tags come from: a purge of the tag reaches the response, and none of its neighbours.

use crate::support::{Answer, Larder, Upstream, bearer};

const ROUTES: &str = "
routes:
  - path: /t/{a}/{b}
    ttl: 60s
    shared: true
    tags: [all, \"path:{a}:{b}\", \"query:{query.q}\", \"header:{header.X-Group}\", \"cookie:{cookie.c}\", \"claim:{jwt.sub}\", \"kind:{response.header.X-Kind}\"]
";

#[tokio::test]
async fn every_source_of_tags_is_purged_by() {
    let jwt = bearer(r#"{"sub":"ann","n":7}"#);
    for (tag, reaches) in [
        ("all", true),
        ("ALL", true),
        ("path:1:2", true),
        ("query:x", true),
        ("header:g", true),
        ("cookie:k", true),
        ("claim:ann", true),
        ("kind:news", true),
        ("one", true),
        ("two", true),
        ("three", true),
        ("four", true),
        ("five", true),
        ("path:1", false),
        ("path:1:3", false),
        ("query:", false),
        ("claim:bob", false),
        ("al", false),
    ] {
        let upstream = Upstream::start();
        let answer = Answer::ok("").header("x-kind", "news").header("surrogate-key", "one two");
        let answer = answer.header("cache-tag", "three, x").header("xkey", "four");
        upstream.on("/t/1/2", answer.header("edge-cache-tag", "five"));
        let larder = Larder::with(ROUTES, &upstream);
        let ask = || {
            let request = larder.get("/t/1/2?q=x").header("x-group", "g").header("cookie", "c=k");
            request.header("authorization", &jwt)
        };
        ask().await.assert_stored();
        ask().await.assert_hit();
        larder.request("PURGE", "/any").header("cache-tag", tag).await.assert_status(200);
        assert_eq!(ask().await.is_hit(), !reaches, "{tag}");
    }
}

#[tokio::test]
async fn a_value_is_data_and_never_more_than_one_literal_tag() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/t/x/y").await.assert_stored();
    larder.get("/t/a%2Cpath%3Ax%3Ay/b").await;
    larder.get("/t/%2A/%2A").await;
    larder.admin.request("DELETE", "/cache/tags/path:*:*").await.assert_status(200);
    larder.get("/t/x/y").await.assert_hit();
    let reply = larder.request("PURGE", "/any").header("cache-tag", "path:a,path:x:y:b").await;
    reply.assert_status(200);
    larder.get("/t/x/y").await.assert_hit();
}

#[tokio::test]
async fn a_tag_without_a_value_is_left_out_of_a_response() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/t/1/2").await.assert_stored();
    for tag in ["query:", "claim:", "kind:"] {
        larder.request("PURGE", "/any").header("cache-tag", tag).await.assert_status(200);
        larder.get("/t/1/2").await.assert_hit();
    }
}

const TREE: &str = "
routes:
  - path: /t/{tenant}/courses/{id}
    ttl: 60s
    tags: [\"tenant:{tenant}/courses/{id}\"]
  - path: /t/{tenant}/users/{id}
    ttl: 60s
    tags: [\"tenant:{tenant}/users/{id}\"]
  - path: /t/{tenant}/leave
    purges: [\"tenant:{tenant}\"]
";

/// An API finds the same resource by each spelling, wherever the write names it.
#[tokio::test]
async fn a_value_in_another_spelling_purges_the_same_tag() {
    const UUID: &str = "5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b";
    let routes = "
routes:
  - {path: '/p/{id}', ttl: 60s, tags: ['p:{id}']}
  - {path: /orders, purges: ['p:{request.json:$.product}']}
  - {path: /stock, purges: ['p:{query.product}']}
";
    for (id, spellings) in [
        ("7", ["07", "+7", "7.0"]),
        (UUID, [&*UUID.replace('-', ""), &UUID.to_uppercase(), &format!("urn:uuid:{UUID}")]),
    ] {
        let upstream = Upstream::start();
        let larder = Larder::with(routes, &upstream);
        let path = format!("/p/{id}");
        for spelling in spellings {
            larder.get(&path).await.assert_stored();
            let content = format!("{{\"product\": \"{spelling}\"}}");
            let order = larder.request("POST", "/orders").header("content-type", "application/json");
            order.body(content).await.assert_status(200);
            larder.get(&path).await.assert_stored();
            let stock = format!("/stock?product={}", spelling.replace('+', "%2B"));
            larder.request("POST", &stock).await.assert_status(200);
        }
        larder.get(&path).await.assert_stored();
    }
}

#[tokio::test]
async fn a_tag_is_purged_by_what_stands_above_it() {
    let upstream = Upstream::start();
    let larder = Larder::with(TREE, &upstream);
    let reads = ["/t/a/courses/7", "/t/a/courses/8", "/t/a/users/7", "/t/ab/courses/7"];
    let asked = async || {
        let mut asked = Vec::new();
        for read in reads {
            if !larder.get(read).await.is_hit() {
                asked.push(read);
            }
        }
        asked
    };
    asked().await;
    for (tag, expected) in [
        ("tenant:a/courses/7", &reads[..1]),
        ("tenant:a/courses", &reads[..2]),
        ("TENANT:a/", &reads[..3]),
        ("tenant", &[]),
        ("tenant:a/courses/7/x", &[]),
        ("tenant:a/c", &[]),
    ] {
        larder.request("PURGE", "/any").header("cache-tag", tag).await.assert_status(200);
        assert_eq!(asked().await, expected, "{tag}");
        larder.admin.request("DELETE", &format!("/cache/tags/{tag}")).await.assert_status(200);
        assert_eq!(asked().await, expected, "{tag}");
    }
    larder.request("POST", "/t/a/leave").await.assert_status(200);
    assert_eq!(asked().await, reads[..3]);
}

/// A field that a purge request may list tags in lists those of a response, too.
#[tokio::test]
async fn the_tag_fields_of_other_caches_are_read_and_purged_by() {
    let requests = [
        ("X-Cache-Tags", "BAN", "(^|,)(article-7)(,|$)"),
        ("Cache-Tags", "BAN", "article-7"),
        ("Purge-Cache-Tags", "PURGE", "article-7"),
        ("X-Cache-Tags", "PURGETAGS", "article-7"),
        ("Ykey", "PURGE", "article-7"),
        ("xkey", "PURGEKEYS", "article-7"),
        ("Cache-Tag", "PURGE", "article-7"),
        ("Surrogate-Key", "PURGE", "article-7"),
    ];
    for (field, method, tags) in requests {
        let upstream = Upstream::start();
        upstream.on("/t/1/2", Answer::ok("").header(field, "article-7"));
        let larder = Larder::with(&format!("{ROUTES}    hide_tags: true\n"), &upstream);
        larder.get("/t/1/2").await.assert_stored().assert_header(field, None);
        larder.get("/t/1/2").await.assert_hit();
        larder.request(method, "/").header(field, tags).await.assert_status(200);
        assert!(!larder.get("/t/1/2").await.is_hit(), "{method} {field}");
    }
}

/// No template renders these, and tags have no patterns: such a purge would reach nothing.
#[tokio::test]
async fn a_tag_like_a_pattern_is_refused_unless_a_response_has_it() {
    let upstream = Upstream::start();
    upstream.on("/t/1/2", Answer::ok("").header("surrogate-key", "odd*tag"));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/t/1/2").await.assert_stored();
    let refused = |reply: &crate::support::Reply, what: &str| {
        assert_eq!(reply.status, 400, "{what}: {}", reply.text());
        assert!(reply.text().contains("no response here carries the tag"), "{what}: {}", reply.text());
    };
    for tag in ["path:*", "path:.*", "path:{a}:{b}", "path:1:2|all", "odd*"] {
        for field in ["cache-tag", "surrogate-key", "xkey"] {
            refused(&larder.request("PURGE", "/").header(field, tag).await, tag);
        }
        refused(
            &larder.admin.request("DELETE", &format!("/cache/tags/{}", tag.replace('|', "%7C"))).await,
            tag,
        );
    }
    for tag in ["path:*", "path:1:2,all", "path:1:2\\n", "path:{a}"] {
        let json = format!("{{\"tags\": [\"{tag}\"]}}");
        refused(&larder.admin.request("POST", "/purge").body(json).await, tag);
    }
    larder.get("/t/1/2").await.assert_hit();
    larder.request("PURGE", "/").header("cache-tag", "odd*tag").await.assert_status(200);
    assert!(!larder.get("/t/1/2").await.is_hit());
}
