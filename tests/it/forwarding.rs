//! Fields that cross the proxy, and fields that do not, in both directions.

use crate::support::{Answer, Larder, Received, Upstream, Wire};

const ROUTES: &str = "
routes:
  - {path: /a, ttl: 60s}
";

#[tokio::test]
async fn a_write_arrives_as_it_was_sent() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for method in ["POST", "PUT", "PATCH", "DELETE", "REPORT"] {
        let body = vec![b'x'; 300_000];
        let request = larder.request(method, "/up?x=1").header("x-mine", "1").header("x-mine", "2");
        request.body(body.clone()).await.assert_status(200);
        let seen = upstream.last("/up");
        assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, "/up?x=1"));
        assert_eq!(seen.header("x-mine").as_deref(), Some("1, 2"));
        assert!(seen.body == body);
    }
}

#[tokio::test]
async fn fields_for_one_hop_stay_behind_both_ways() {
    let upstream = Upstream::start();
    let one_hop = [
        ("connection", "x-named, keep-alive"),
        ("x-named", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authorization", "Basic x"),
    ];
    let with_fields =
        one_hop.iter().fold(Answer::ok("").header("x-stays", "1"), |answer, (n, v)| answer.header(n, v));
    upstream.on("/a", with_fields.clone()).on("/other", with_fields);
    let larder = Larder::with(ROUTES, &upstream);
    for path in ["/a", "/a", "/other"] {
        let request = larder.get(path).header("te", "gzip").header("x-stays", "1");
        let request = one_hop.iter().fold(request, |request, (name, value)| request.header(name, value));
        let reply = request.await.assert_header("x-stays", "1");
        let seen = upstream.last(path);
        assert_eq!(seen.header("x-stays").as_deref(), Some("1"));
        assert_eq!(seen.header("te"), None);
        for (name, _) in one_hop {
            let own = (name == "connection").then(|| "keep-alive".to_owned());
            assert_eq!(seen.header(name), own, "{name} to the upstream");
            assert_eq!(reply.header(name), None, "{name} to the client");
        }
    }
    larder.get("/a").await;
    let hit = larder.get("/a").await.assert_hit();
    assert!(one_hop.iter().all(|(name, _)| hit.header(name).is_none()), "{hit}");
}

#[tokio::test]
async fn larder_says_who_asked_and_believes_no_stranger() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let lies = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-port", "1"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("via", "1.0 front"),
    ];
    let request = larder.get("/other").header("host", "api.test:8080");
    let request = lies.iter().fold(request, |request, (name, value)| request.header(name, value));
    let reply = request.await;
    let seen = upstream.last("/other");
    for (name, value) in [
        ("host", Some("api.test:8080")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("api.test:8080")),
        ("x-forwarded-port", None),
        ("forwarded", None),
        ("x-real-ip", None),
        ("via", Some("1.0 front, 1.1 larder")),
    ] {
        assert_eq!(seen.header(name).as_deref(), value, "{name}");
    }
    reply.assert_header("via", "1.1 larder");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let upstream = Upstream::start();
    let larder = Larder::with(&format!("trusted_proxies: [127.0.0.0/8]\n{ROUTES}"), &upstream);
    let ask = |scheme: &'static str| {
        let request =
            larder.get("/a").header("x-forwarded-for", "1.2.3.4").header("x-forwarded-proto", scheme);
        request.header("x-forwarded-host", "public.test")
    };
    ask("https").await.assert_fwd("uri-miss");
    let seen = upstream.last("/a");
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(seen.header("x-forwarded-host").as_deref(), Some("public.test"));
    ask("https").await.assert_hit();
    ask("http").await.assert_fwd("uri-miss");
}

#[tokio::test]
async fn the_upstreams_host_is_the_clients_unless_it_is_set() {
    let upstream = Upstream::start();
    let yaml = "upstream: {url: \"${UPSTREAM}\", host: internal.test}\nroutes: []";
    Larder::with(yaml, &upstream).get("/x").header("host", "api.test").await.assert_status(200);
    let seen = upstream.last("/x");
    assert_eq!(seen.header("host").as_deref(), Some("internal.test"));
    assert_eq!(seen.header("x-forwarded-host").as_deref(), Some("api.test"));
}

#[tokio::test]
async fn every_response_field_arrives_and_repeats_stay_separate() {
    let upstream = Upstream::start();
    let answer =
        Answer::status(418).header("set-cookie", "a=1").header("set-cookie", "b=2").header("x-m", "\u{e9}");
    upstream.on("/other", answer.header("date", "Thu, 20 Nov 2025 11:00:00 GMT"));
    let larder = Larder::with(ROUTES, &upstream);
    let reply = larder.get("/other").await.assert_status(418);
    let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    reply.assert_header("x-m", "\u{e9}").assert_header("date", "Thu, 20 Nov 2025 11:00:00 GMT");
}

#[tokio::test]
async fn head_and_answers_without_content_keep_their_fields() {
    let upstream = Upstream::start();
    upstream.on("/head", Answer::ok("12345").header("etag", "\"1\""));
    upstream.on("/empty", Answer::status(204)).on("/same", Answer::status(304).header("etag", "\"1\""));
    let larder = Larder::with(ROUTES, &upstream);
    let mut connection = larder.connection().await;
    let head = larder.request("HEAD", "/head").await.assert_text("").assert_header("content-length", "5");
    head.assert_header("etag", "\"1\"");
    assert_eq!(connection.get("/empty").await.assert_status(204).header("content-length"), None);
    connection.get("/same").await.assert_status(304).assert_header("etag", "\"1\"");
    connection.get("/head").await.assert_text("12345");
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let mut raw = larder.raw().await;
    raw.send("POST /up HTTP/1.1\r\nHost: api\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    assert_eq!(raw.status().await, 100);
    raw.send("body").await;
    assert_eq!(raw.status().await, 200);
    assert_eq!(upstream.last("/up").body, b"body");
    assert_eq!(upstream.last("/up").header("expect"), None);
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let upstream = Upstream::start();
    upstream.take_over("/ws", async |mut wire: Wire| {
        assert_eq!(wire.head.header("upgrade").as_deref(), Some("websocket"));
        let accept = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: yes\r\n\r\n";
        let _ = wire.write(format!("HTTP/1.1 101 Switching Protocols\r\n{accept}")).await;
        loop {
            let bytes = wire.read().await;
            if bytes.is_empty() || wire.write(bytes.to_ascii_uppercase()).await.is_err() {
                return;
            }
        }
    });
    let larder = Larder::with("routes: [{path: /ws, ttl: 60s}]", &upstream);
    let mut raw = larder.raw().await;
    let key =
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n";
    raw.send(format!("GET /ws HTTP/1.1\r\nHost: api\r\n{key}\r\n")).await;
    let head = raw.head().await.to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 101 ") && head.contains("\r\nsec-websocket-accept: yes\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\nupgrade: websocket\r\n") && head.contains("\r\nconnection: upgrade\r\n"),
        "{head}"
    );
    for (sent, received) in [("ping", "PING"), ("more", "MORE")] {
        raw.send(sent).await;
        assert_eq!(raw.exactly(4).await, received.as_bytes());
    }
    raw.half_close().await;
    raw.is_closed().await;
}

#[tokio::test]
async fn an_upgrade_that_the_upstream_refuses_is_an_ordinary_answer() {
    let upstream = Upstream::start();
    upstream.on("/ws", Answer::status(426).header("upgrade", "h2c"));
    let larder = Larder::with(ROUTES, &upstream);
    let mut raw = larder.raw().await;
    raw.send("GET /ws HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(raw.status().await, 426);
}

#[tokio::test]
async fn an_early_final_answer_reaches_the_client_during_its_upload() {
    let upstream = Upstream::start();
    upstream.take_over("/up", async |mut wire: Wire| {
        let _ = wire.write("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        while !wire.read().await.is_empty() {}
    });
    let larder = Larder::with(ROUTES, &upstream);
    let mut raw = larder.raw().await;
    raw.send("POST /up HTTP/1.1\r\nHost: api\r\nContent-Length: 1000000\r\n\r\nsome").await;
    assert_eq!(raw.status().await, 413);
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_order() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold("/slow");
    let mut raw = larder.raw().await;
    raw.send(
        "GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /quick HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    held.arrived().await;
    held.release();
    let replies = raw.rest().await;
    let (slow, quick) = (replies.find("GET /slow #1"), replies.find("GET /quick #1"));
    assert!(slow.is_some() && slow < quick, "{replies}");
}

#[tokio::test]
async fn connections_to_the_upstream_are_used_again() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let mut connection = larder.connection().await;
    for _ in 0..5 {
        connection.get("/other").await;
    }
    let used: Vec<_> = upstream
        .received("/other")
        .iter()
        .map(|request: &std::sync::Arc<Received>| request.connection)
        .collect();
    assert_eq!(used, [0; 5]);
}

#[tokio::test]
async fn an_upstream_on_a_unix_socket_is_reached() {
    let scratch = crate::support::Scratch::new();
    let path = scratch.path().join("api.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let answering = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let larder = Larder::with_upstream_url(&format!("unix:{}", path.display()), ROUTES);
    larder.get("/a").header("host", "api.test").await.assert_text("hi").assert_stored();
    let head = answering.join().unwrap();
    assert!(head.starts_with("GET /a HTTP/1.1\r\n") && head.contains("host: api.test"), "{head}");
}

#[tokio::test]
async fn forwarded_addresses_of_trusted_proxies_are_in_the_key() {
    let upstream = Upstream::start();
    let larder = Larder::with("trusted_proxies: [127.0.0.0/8]\nroutes: [{path: /a, ttl: 60s}]", &upstream);
    for name in ["x-forwarded-prefix", "x-forwarded-port", "x-forwarded-host"] {
        let get = |value: &'static str| larder.get("/a").header("host", "api.test").header(name, value);
        get("1").await.assert_fwd("uri-miss");
        get("1").await.assert_hit();
        get("2").await.assert_fwd("uri-miss");
    }
    // Also in the one field for all of it, whatever it says of clients.
    let get = |value: &'static str| larder.get("/a").header("host", "api.test").header("forwarded", value);
    get("for=192.0.2.1;host=a.test;proto=https").await.assert_fwd("uri-miss");
    get("For=\"[2001:db8::1]:80\" ; host=a.test;proto=https").await.assert_hit();
    get("for=192.0.2.1;host=b.test;proto=https").await.assert_fwd("uri-miss");
    get("for=192.0.2.1;host=a.test;proto=http").await.assert_fwd("uri-miss");
    get("for=\"x;host=b.test;proto=https\"").await.assert_fwd("uri-miss");
    // An unknown client's words are not passed on, so they tell nothing apart.
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s}]", &upstream);
    larder.get("/a").header("x-forwarded-prefix", "/evil").await.assert_fwd("uri-miss");
    larder.get("/a").await.assert_hit();
    assert_eq!(upstream.last("/a").header("x-forwarded-prefix"), None);
}

/// Fields by which upstreams believe their proxy, and that ordinary proxies pass on as clients send them.
const OVERRIDES: [&str; 18] = [
    "front-end-https",
    "x-envoy-original-path",
    "x-forwarded-base",
    "x-forwarded-path",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-host",
    "x-http-method-override",
    "x-ingress-path",
    "x-invoke-path",
    "x-original-uri",
    "x-original-url",
    "x-scheme",
    "x-script-name",
    "x-url-scheme",
];

/// A response that the upstream built from one client's fields reaches no other client.
#[tokio::test]
async fn what_some_take_for_another_address_is_in_the_key_or_not_sent() {
    let upstream = Upstream::start();
    upstream.on("/a", |request: &Received| {
        let said: Vec<_> = OVERRIDES.iter().filter_map(|name| request.header(name)).collect();
        Answer::ok(format!("for {}", said.join(",")))
    });
    let routes = "routes: [{path: /a, ttl: 60s}]";
    let open = Larder::with(routes, &upstream);
    let behind = Larder::with(&format!("trusted_proxies: [127.0.0.0/8]\n{routes}"), &upstream);
    let named = OVERRIDES.join(", ");
    let yaml = format!("trusted_proxies: [127.0.0.0/8]\ntrusted_fields: [{named}]\n{routes}");
    let trusting = Larder::with(&yaml, &upstream);
    for name in OVERRIDES {
        for larder in [&open, &behind] {
            if name != "x-http-method-override" {
                larder.request("POST", "/a").header(name, "evil").await.assert_text("for ");
            }
            larder.get("/a").header(name, "evil").await.assert_text("for ");
            larder.get("/a").await.assert_text("for ").assert_hit();
        }
        trusting.get("/a").header(name, "evil").await.assert_text("for evil");
        trusting.get("/a").await.assert_text("for ");
        trusting.get("/a").header(name, "evil").await.assert_text("for evil");
    }
    let by_prefix = || trusting.get("/a").header("x-script-name", "/shop");
    by_prefix().await.assert_stored();
    by_prefix().await.assert_hit();
}

/// nginx passes a client's `X-Forwarded-Host` on: an upstream that reads `Host` alone is not told another.
#[tokio::test]
async fn the_host_of_a_trusted_proxy_is_its_own() {
    let upstream = Upstream::start();
    let larder = Larder::with(&format!("trusted_proxies: [127.0.0.0/8]\n{ROUTES}"), &upstream);
    for method in ["GET", "POST"] {
        let request = larder.request(method, "/a").header("host", "shop.test");
        request.header("x-forwarded-host", "evil.test").await.assert_status(200);
        let seen = upstream.last("/a");
        assert_eq!(seen.header("host").as_deref(), Some("shop.test"));
        assert_eq!(seen.header("x-forwarded-host").as_deref(), Some("evil.test"));
    }
    larder.get("/a").header("host", "evil.test").await.assert_fwd("uri-miss");
    larder.get("/a").header("host", "shop.test").await.assert_fwd("uri-miss");
    // A purge reaches a response by both names, and an absolute `Location` is of the API by both.
    for host in ["shop.test", "evil.test"] {
        let get = || larder.get("/a").header("host", "shop.test").header("x-forwarded-host", "evil.test");
        get().await;
        get().await.assert_hit();
        upstream.on("/made", Answer::status(201).header("location", &format!("http://{host}/a")));
        let write = larder.request("POST", "/made").header("host", "shop.test");
        write.header("x-forwarded-host", "evil.test").await.assert_status(201);
        get().await.assert_fwd("uri-miss");
        let purge =
            larder.admin.request("POST", "/purge").body(format!(r#"{{"urls": ["http://{host}/a"]}}"#));
        purge.await.assert_status(200);
        get().await.assert_fwd("uri-miss");
    }
}

#[tokio::test]
async fn a_purge_through_trusted_proxies_has_the_first_client() {
    let upstream = Upstream::start();
    let yaml = "trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]\npurge: {allow: [192.0.2.7/32]}\nroutes: [{path: /a, ttl: 60s}]";
    let larder = Larder::with(yaml, &upstream);
    for (chain, status) in [
        ("192.0.2.7", 200),
        ("192.0.2.7, 10.0.0.9", 200),
        ("192.0.2.7, 198.51.100.1", 403),
        ("198.51.100.1, 10.0.0.9", 403),
        ("10.0.0.9", 403),
        ("nonsense", 403),
    ] {
        let purged = larder.request("PURGE", "/a").header("x-forwarded-for", chain).await;
        assert_eq!(purged.status, status, "{chain}");
    }
}

/// RFC 9110 §7.6.2.
#[tokio::test]
async fn max_forwards_of_options_and_trace_is_counted_down() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: []", &upstream);
    for (method, sent, forwarded) in [
        ("OPTIONS", "5", Some("4")),
        ("TRACE", "1", Some("0")),
        ("OPTIONS", "many", Some("many")),
        ("GET", "0", Some("0")),
        ("OPTIONS", "0", None),
        ("TRACE", "0", None),
    ] {
        let before = upstream.total();
        let reply = larder.request(method, "/a").header("max-forwards", sent).await;
        match forwarded {
            Some(field) => assert_eq!(upstream.last("/a").header("max-forwards").as_deref(), Some(field)),
            None => {
                assert_eq!(upstream.total(), before, "{method}");
                assert!(reply.header("allow").is_some_and(|allow| allow.contains("OPTIONS")), "{method}");
            }
        }
    }
}
