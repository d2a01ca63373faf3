//! Interim responses go to the client whose request they are for, and into no store (RFC 9110 §15.2).

use crate::support::{Answer, Larder, Upstream};

const ROUTES: &str = "routes: [{path: /a, ttl: 60s}]";

const HINTS: &str =
    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
const FINAL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn hinted(upstream: &Upstream, paths: &[&str]) {
    for path in paths {
        upstream.on(path, Answer::raw(format!("HTTP/1.1 102 Processing\r\n\r\n{HINTS}{FINAL}")));
    }
}

async fn ask(larder: &Larder, request: &str) -> String {
    let mut raw = larder.raw().await;
    raw.send(format!("{request}\r\nHost: api\r\nConnection: close\r\n\r\n")).await;
    raw.rest().await
}

#[tokio::test]
async fn interim_responses_precede_every_final_response() {
    let upstream = Upstream::start();
    hinted(&upstream, &["/a", "/passes", "/write"]);
    let larder = Larder::with(ROUTES, &upstream);
    for request in ["GET /a HTTP/1.1", "GET /passes HTTP/1.1", "POST /write HTTP/1.1"] {
        let replies = ask(&larder, request).await;
        let (processing, rest) = replies.split_once("\r\n\r\n").expect("a head");
        let (hints, last) = rest.split_once("\r\n\r\n").expect("a head");
        assert_eq!(processing, "HTTP/1.1 102 Processing\r\nvia: 1.1 larder", "{request}");
        assert_eq!(
            hints, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nvia: 1.1 larder",
            "{request}"
        );
        assert!(last.starts_with("HTTP/1.1 200 OK\r\n") && last.ends_with("\r\n\r\nok"), "{request}: {last}");
        assert!(!last.contains("link:"), "{request}: {last}");
    }
}

#[tokio::test]
async fn nothing_of_them_is_stored() {
    let upstream = Upstream::start();
    hinted(&upstream, &["/a"]);
    let larder = Larder::with(ROUTES, &upstream);
    assert!(ask(&larder, "GET /a HTTP/1.1").await.contains("stored"));
    let hit = ask(&larder, "GET /a HTTP/1.1").await;
    assert!(hit.starts_with("HTTP/1.1 200 OK\r\n") && hit.contains("hit") && !hit.contains("link"), "{hit}");
}

#[tokio::test]
async fn http10_clients_get_no_interim_responses() {
    let upstream = Upstream::start();
    hinted(&upstream, &["/a"]);
    let larder = Larder::with(ROUTES, &upstream);
    let reply = ask(&larder, "GET /a HTTP/1.0").await;
    assert!(reply.starts_with("HTTP/1.0 200 OK\r\n") || reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    larder.request("PURGE", "/a").await;
    larder.get("/a").over_http2().await.assert_status(200).assert_text("ok");
}

#[tokio::test]
async fn on_one_connection_each_request_gets_its_own() {
    let upstream = Upstream::start();
    hinted(&upstream, &["/hinted"]);
    let larder = Larder::with(ROUTES, &upstream);
    let mut raw = larder.raw().await;
    for _ in 0..20 {
        raw.send("GET /hinted HTTP/1.1\r\nHost: api\r\n\r\nGET /plain HTTP/1.1\r\nHost: api\r\n\r\n").await;
        assert_eq!((raw.status().await, raw.status().await, raw.status().await), (102, 103, 200));
        raw.exactly(2).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        raw.read_until(&format!("GET /plain #{}", upstream.count("/plain"))).await;
    }
}
