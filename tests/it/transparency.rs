//! Real clients and servers can't tell that larder is between them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Answer, Larder, Upstream, eventually, with_deadline};

const ROUTES: &str = "routes: [{path: '/a', ttl: 60s}]";

#[tokio::test]
async fn an_offer_of_another_http_is_ignored() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    // Java's HttpClient and `curl --http2` send this.
    let h2c = || {
        let request = larder.get("/a").header("connection", "Upgrade, HTTP2-Settings");
        request.header("upgrade", "h2c").header("http2-settings", "AAEAAEAAAAIAAAAB")
    };
    h2c().await.assert_stored();
    h2c().await.assert_hit();
    larder.get("/a").header("upgrade", "websocket").await.assert_hit();
    let received = upstream.last("/a");
    assert_eq!((received.header("upgrade"), received.header("http2-settings")), (None, None));
    larder.get("/b").header("upgrade", "TLS/1.2").header("connection", "upgrade").await.assert_status(200);
    assert_eq!(upstream.last("/b").header("upgrade"), None);
}

#[tokio::test]
async fn cookies_in_pieces_count_as_one_field() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let crumbs: Vec<String> = (0..110).map(|number| format!("c{number}=v")).collect();
    let mut request = larder.get("/b").over_http2();
    for crumb in &crumbs {
        request = request.header("cookie", crumb);
    }
    request.await.assert_status(200);
    assert_eq!(upstream.last("/b").header("cookie").as_deref(), Some(&*crumbs.join("; ")));
}

#[tokio::test]
async fn an_empty_post_says_its_length() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for method in ["POST", "PUT", "PATCH"] {
        larder.request(method, "/b").over_http2().await.assert_status(200);
        assert_eq!(upstream.last("/b").header("content-length").as_deref(), Some("0"), "{method}");
    }
}

#[tokio::test]
async fn content_of_a_get_arrives_whole() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for method in ["GET", "DELETE", "OPTIONS", "POST", "QUERY"] {
        for path in ["/a", "/b"] {
            let mut raw = larder.raw().await;
            let head = format!("{method} {path} HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n");
            raw.send(format!("{head}3\r\nabc\r\n0\r\n\r\n")).await;
            assert_eq!(raw.status().await, 200, "{method} {path}");
            assert_eq!(upstream.last(path).body, b"abc", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn many_response_fields_pass() {
    let upstream = Upstream::start();
    let mut answer = Answer::ok("many");
    for number in 0..200 {
        answer = answer.header(&format!("x-field-{number}"), "value");
    }
    upstream.on("/b", answer);
    let larder = Larder::with(ROUTES, &upstream);
    let mut raw = larder.raw().await;
    raw.send("GET /b HTTP/1.1\r\nHost: api\r\n\r\n").await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("x-field-199: value"), "{head}");
}

#[tokio::test]
async fn a_write_avoids_a_connection_that_the_upstream_may_be_closing() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::ok("a").header("keep-alive", "timeout=1"));
    upstream.on("/b", Answer::ok("b").header("keep-alive", "timeout=1"));
    let larder = Larder::with("routes: []", &upstream);
    let mut connection = larder.connection().await;
    connection.get("/a").await.assert_status(200);
    // Apache announces its time-out only to a client that asks.
    assert_eq!(upstream.last("/a").header("connection").as_deref(), Some("keep-alive"));
    // More than half of what the upstream announced. The pool measures it by tokio's time, and no metric shows the age
    // of a connection. A longer sleep changes nothing: then the connection is not used at all.
    tokio::time::sleep(Duration::from_millis(700)).await;
    larder.request("POST", "/b").await.assert_status(200);
    assert_ne!(upstream.last("/a").connection, upstream.last("/b").connection);
}

const LARGE: usize = 7_900_000;

async fn stalled_reader(larder: &Larder, number: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    let mut stream = socket.connect(larder.address()).await.expect("connected");
    let request = format!("GET /large?{number} HTTP/1.1\r\nHost: api\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut begin = [0; 12];
    with_deadline("a response", stream.read_exact(&mut begin)).await.expect("read");
    assert_eq!(&begin, b"HTTP/1.1 200");
    stream
}

#[tokio::test]
async fn slow_readers_of_evicted_responses_give_their_memory_back() {
    let upstream = Upstream::start();
    upstream.on("/large", Answer::ok(vec![b'x'; LARGE]));
    let yaml = "store: {memory: 16MiB}\nroutes: [{path: /large, ttl: 60s}]";
    let larder = Larder::with(yaml, &upstream);
    let mut readers = Vec::new();
    for number in 0..12 {
        readers.push(stalled_reader(&larder, number).await);
    }
    // The bound is 32 MiB, and a reader holds 8 MB: some responses were only passed on.
    eventually("fetches are only passed on", || async {
        larder.admin.get("/metrics").await.text().contains("\"memory\"").then_some(())
    })
    .await;
    // The slowest are disconnected, and then responses are stored again.
    eventually("there is room again", || async {
        let reply = larder.get("/large?new").await.assert_status(200);
        (reply.cache_status("stored").is_some() || reply.is_hit()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reason_phrase_arrives_as_it_was_sent() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for (sent, stored) in [
        ("200 Everything Fine", "200 OK"),
        ("200 ", "200 OK"),
        ("404 Gone Fishing", "404 Gone Fishing"),
        ("499 Client Closed Request", "499 Client Closed Request"),
        ("299 ", "299 "),
        ("520 Web Server Returned an Unknown Error", "520 "),
    ] {
        let answer = format!("HTTP/1.1 {sent}\r\nContent-Length: 2\r\n\r\nok");
        upstream.on("/a", Answer::raw(answer.clone())).on("/b", Answer::raw(answer));
        for (method, path, expected) in
            [("GET", "/b", sent), ("HEAD", "/b", sent), ("POST", "/b", sent), ("GET", "/a", stored)]
        {
            let mut raw = larder.raw().await;
            raw.send(format!("{method} {path} HTTP/1.1\r\nHost: api\r\nContent-Length: 0\r\n\r\n")).await;
            let head = raw.head().await;
            assert_eq!(head.lines().next(), Some(&*format!("HTTP/1.1 {expected}")), "{method} {path}");
        }
        larder.after(100);
    }
}
