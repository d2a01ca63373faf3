//! Characters of a target that RFC 3986 wants percent-encoded, and that clients send as they are.

use crate::support::{Answer, Larder, Upstream};

const YAML: &str = "
upstream: { url: '${UPSTREAM}' }
routes:
  - path: /cached/{name}
    ttl: 10m
";

/// The bytes that arrive encoded, and how.
const ENCODED: [(&[u8], &str); 6] = [
    (b"\"", "%22"),
    (b"<", "%3C"),
    (b">", "%3E"),
    (b"`", "%60"),
    (b"\xC3\xA9", "%C3%A9"),
    // Latin-1.
    (b"\xE9", "%E9"),
];

async fn ask(larder: &Larder, method: &str, target: &[u8]) -> (u16, String) {
    let mut raw = larder.raw().await;
    let fields = format!("Host: {}\r\nContent-Length: 0\r\nConnection: close\r\n", larder.address());
    raw.send([method.as_bytes(), b" ", target, b" HTTP/1.1\r\n", fields.as_bytes(), b"\r\n"].concat()).await;
    let text = raw.rest().await;
    (text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0), text)
}

#[tokio::test]
async fn each_character_reaches_the_upstream() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for (raw, encoded) in ENCODED {
        for method in ["GET", "POST"] {
            for (before, after) in [("/b", "c"), ("/b?q=", "&r=s"), ("/b?", ""), ("/cached/x?", "=1")] {
                let target = [before.as_bytes(), raw, after.as_bytes()].concat();
                let (status, text) = ask(&larder, method, &target).await;
                assert_eq!(status, 200, "{method} {before}{encoded}: {text}");
                let expected = format!("\r\n\r\n{method} {before}{encoded}{after} #");
                assert!(text.contains(&expected), "{expected}: {text}");
            }
        }
    }
    // Nothing refuses these, so they are forwarded as they are.
    for raw in ["|", "{", "}", "\\", "^", "'", "[", "]", "%zz"] {
        for target in [format!("/b{raw}c"), format!("/b?q={raw}")] {
            let (status, text) = ask(&larder, "GET", target.as_bytes()).await;
            assert!(status == 200 && text.contains(&format!("GET {target} #")), "{target}: {text}");
        }
    }
}

/// RFC 9112 §3.2: no target has a fragment. Some recipients cut it off, and others take it for a part of the path.
#[tokio::test]
async fn a_fragment_is_refused() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for target in ["/b#c", "/b?q=#c", "/cached/x#.png", "http://api/b#c", "/b\"#c"] {
        for method in ["GET", "POST"] {
            let (status, text) = ask(&larder, method, target.as_bytes()).await;
            assert_eq!(status, 400, "{method} {target}: {text}");
        }
    }
    assert_eq!(upstream.total(), 0);
    let (status, text) = ask(&larder, "GET", b"/b%23c").await;
    assert!(status == 200 && text.contains("GET /b%23c #"), "{text}");
}

/// The upstream gets the same bytes for both, so they have one key.
#[tokio::test]
async fn both_spellings_are_one_resource() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for (raw, encoded) in ENCODED {
        let is_latin1 = raw == b"\xE9";
        for before in ["/cached/b", "/cached/b?q="] {
            // A path that is not UTF-8 has two readings, and passes.
            let is_cached = !is_latin1 || before.contains('?');
            let raw = [before.as_bytes(), raw].concat();
            let encoded = format!("{before}{encoded}");
            ask(&larder, "GET", &raw).await;
            assert_eq!(larder.get(&encoded).await.is_hit(), is_cached, "{encoded}");
            let (_, text) = ask(&larder, "GET", &raw).await;
            assert_eq!(text.contains("larder; hit"), is_cached, "{encoded}: {text}");
            // A purge of either reaches both.
            for purged in [encoded.as_bytes(), &raw] {
                ask(&larder, "GET", &raw).await;
                let (status, text) = ask(&larder, "PUT", purged).await;
                assert_eq!(status, 200, "{text}");
                assert!(!larder.get(&encoded).await.is_hit(), "{encoded}");
            }
            let body = serde_json::json!({ "urls": [encoded] }).to_string();
            larder.admin.request("POST", "/purge").body(body).await.assert_status(200);
            let (_, text) = ask(&larder, "GET", &raw).await;
            assert!(!text.contains("larder; hit"), "{encoded}: {text}");
        }
    }
}

#[tokio::test]
async fn a_purge_names_raw_characters_too() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for url in ["/cached/b\"", "/cached/<b>", "/cached/é", "/cached/b?q=\"<é>\""] {
        ask(&larder, "GET", url.as_bytes()).await;
        let (_, text) = ask(&larder, "GET", url.as_bytes()).await;
        assert!(text.contains("larder; hit"), "{url}: {text}");
        let body = serde_json::json!({ "urls": [url] }).to_string();
        larder.admin.request("POST", "/purge").body(body).await.assert_status(200);
        let (_, text) = ask(&larder, "GET", url.as_bytes()).await;
        assert!(!text.contains("larder; hit"), "{url}: {text}");
    }
}

#[tokio::test]
async fn over_http2_what_arrives_has_the_same_key() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for (raw, encoded) in [("/cached/b\"", "/cached/b%22"), ("/cached/b?`é", "/cached/b?%60%C3%A9")] {
        larder.get(raw).over_http2().await.assert_status(200).assert_stored();
        larder.get(encoded).await.assert_hit();
        let (_, text) = ask(&larder, "GET", raw.as_bytes()).await;
        assert!(text.contains("larder; hit"), "{raw}: {text}");
        assert_eq!(upstream.last(encoded.split('?').next().unwrap()).target, encoded);
    }
}

/// Encoded bytes that have no room wait, and nothing overtakes them.
#[tokio::test]
async fn however_they_arrive_requests_stay_apart() {
    let upstream = Upstream::start();
    let larder = Larder::with("limits: {header_bytes: 64KiB}\nroutes: []", &upstream);
    for count in [1, 300, 3000, 9000] {
        for piece in [usize::MAX, 1009] {
            let quotes = "\"".repeat(count);
            let get = format!("GET /get?{quotes} HTTP/1.1\r\nHost: api\r\n\r\n");
            let content = "<\"é>".repeat(count);
            let length = content.len();
            let post = format!(
                "POST /post?<é> HTTP/1.1\r\nHost: api\r\nX-Quotes: {quotes}\r\nContent-Length: {length}\r\n\r\n\
                 {content}"
            );
            // Two fields of hosts are one too many, whatever waits before them.
            let bad =
                "GET /bad?\" HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
            let mut raw = larder.raw().await;
            for part in format!("{get}{post}\r\n{get}{bad}").as_bytes().chunks(piece) {
                raw.send(part).await;
            }
            let rest = raw.rest().await;
            let statuses: Vec<_> = rest.lines().filter_map(|line| line.split_once("HTTP/1.1 ")).collect();
            let statuses: Vec<_> = statuses.iter().map(|(_, status)| &status[..3]).collect();
            assert_eq!(statuses, ["200", "200", "200", "400"], "{count} in pieces of {piece}: {rest}");
            assert_eq!(upstream.last("/get").target, format!("/get?{}", "%22".repeat(count)));
            let posted = upstream.last("/post");
            assert_eq!(posted.target, "/post?%3C%C3%A9%3E");
            assert_eq!(posted.header("x-quotes"), Some(quotes));
            assert_eq!(posted.body, content.as_bytes());
        }
    }
    assert_eq!(upstream.count("/smuggled") + upstream.count("/bad"), 0);
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_stays_refused() {
    let upstream = Upstream::start();
    upstream.on("/b", Answer::ok("b"));
    let larder = Larder::with(YAML, &upstream);
    for target in [
        &b"/b?a b"[..],
        b"/b?\x01",
        b"/b\x7F",
        b"/b?\0",
        b"b<c",
        b"http://a<b/c",
        b"http://\"@a/c",
        b"/b?\"\t",
        b"\"/b",
    ] {
        let (status, text) = ask(&larder, "GET", target).await;
        assert_eq!(status, 400, "{:?}: {text}", String::from_utf8_lossy(target));
    }
    assert_eq!(upstream.total(), 0);
}
