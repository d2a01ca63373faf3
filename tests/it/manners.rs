//! The expectations of clients beside a response: content that the upstream wants, a half that is closed, a switch of
//! protocols with content, a target that is too long, and a client that leaves.

use tokio::sync::mpsc;

use crate::support::{Larder, Raw, Upstream, Wire, with_deadline};

async fn begin(larder: &Larder, head: &str) -> Raw {
    let mut raw = larder.raw().await;
    raw.send(head).await;
    raw
}

#[tokio::test]
async fn the_upstream_says_whether_it_wants_content() {
    let upstream = Upstream::start();
    upstream.take_over("/wanted", async |mut wire: Wire| {
        assert_eq!(wire.head.header("expect").as_deref(), Some("100-continue"));
        let _ = wire.write("HTTP/1.1 100 Continue\r\n\r\n").await;
        wire.read_body().await.expect("the content");
        let text = String::from_utf8(wire.head.body.clone()).expect("text");
        let length = text.len();
        let _ = wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}")).await;
    });
    let (sent, mut content) = mpsc::unbounded_channel();
    upstream.take_over("/refused", move |mut wire: Wire| {
        let sent = sent.clone();
        async move {
            let _ = wire.write("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await;
            let _ = sent.send(wire.read().await);
        }
    });
    let yaml = "upstream: {url: \"${UPSTREAM}\", expect: forward}\n\
                routes: [{path: /refused, purges: []}, {path: /answered, expect: answer}]";
    let larder = Larder::with(yaml, &upstream);
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: api\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    };
    let mut wanted = begin(&larder, &head("/wanted")).await;
    assert_eq!(wanted.status().await, 100);
    wanted.send("body").await;
    assert_eq!(wanted.status().await, 200);
    assert_eq!(wanted.exactly(4).await, b"body");
    let mut refused = begin(&larder, &head("/refused")).await;
    assert_eq!(refused.status().await, 413);
    assert_eq!(content.recv().await.expect("what the upstream read"), "", "no content is sent");
    // An upstream that says nothing gets the content after a while.
    let mut ignored = begin(&larder, &head("/ignored")).await;
    assert_eq!(ignored.status().await, 100);
    ignored.send("body").await;
    assert_eq!(ignored.status().await, 200);
    assert_eq!(upstream.last("/ignored").body, b"body");
    let mut answered = begin(&larder, &head("/answered")).await;
    assert_eq!(answered.status().await, 100);
    assert_eq!(upstream.count("/answered"), 0, "larder answers by itself");
    answered.send("body").await;
    assert_eq!(answered.status().await, 200);
    assert_eq!(upstream.last("/answered").header("expect"), None);
}

#[tokio::test]
async fn a_route_forwards_an_expectation_by_itself() {
    let upstream = Upstream::start();
    let (sent, mut content) = mpsc::unbounded_channel();
    upstream.take_over("/refused", move |mut wire: Wire| {
        let sent = sent.clone();
        async move {
            let _ = wire.write("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await;
            let _ = sent.send(wire.read().await);
        }
    });
    for mode in ["purges: []", "tags: [a]"] {
        let larder =
            Larder::with(&format!("routes: [{{path: /refused, expect: forward, {mode}}}]"), &upstream);
        let head = "POST /refused HTTP/1.1\r\nHost: api\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        let mut refused = begin(&larder, head).await;
        assert_eq!(refused.status().await, 413, "{mode}");
        assert_eq!(content.recv().await.expect("what the upstream read"), "", "no content is sent: {mode}");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_half_gets_its_response_where_it_may() {
    for (limits, passed) in [("{half_close: true}", 200), ("{}", 0)] {
        let upstream = Upstream::start();
        let larder = Larder::with(&format!("limits: {limits}\nroutes: [{{path: /a, ttl: 60s}}]"), &upstream);
        for (path, status) in [("/a", 200), ("/b", passed)] {
            let held = upstream.hold(path);
            let mut raw = begin(&larder, &format!("GET {path} HTTP/1.1\r\nHost: api\r\n\r\n")).await;
            held.arrived().await;
            raw.half_close().await;
            if status == 0 {
                raw.is_closed().await;
                held.release();
            } else {
                held.release();
                assert_eq!(raw.status().await, status, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_no_write_that_purges() {
    let upstream = Upstream::start();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for path in ["/passed", "/search"] {
        let tell = tell.clone();
        upstream.take_over(path, move |mut wire: Wire| {
            let tell = tell.clone();
            async move {
                tell.send("arrived").expect("the test runs");
                assert_eq!(wire.read().await, "");
                tell.send("closed").expect("the test runs");
            }
        });
    }
    let larder = Larder::with("routes: [{path: /search, purges: []}]", &upstream);
    let head = |start: &str| format!("{start} HTTP/1.1\r\nHost: api\r\nContent-Length: 0\r\n\r\n");
    for start in ["GET /passed", "POST /search"] {
        let client = begin(&larder, &head(start)).await;
        assert_eq!(told.recv().await, Some("arrived"));
        drop(client);
        let closed = with_deadline("the exchange is cancelled", told.recv()).await;
        assert_eq!(closed, Some("closed"), "{start}");
    }
    for route in ["other", "/search"] {
        let left =
            format!("larder_requests_total{{route=\"{route}\",outcome=\"error\",status_class=\"4xx\"}}");
        larder.metric_becomes(&left, 1.0).await;
    }
    let held = upstream.hold("/write");
    let client = begin(&larder, &head("POST /write")).await;
    held.arrived().await;
    drop(client);
    held.release();
    larder.metric_becomes("larder_purges_total{source=\"write\"}", 1.0).await;
}

#[tokio::test]
async fn a_post_becomes_a_tunnel_where_it_purges_nothing() {
    let upstream = Upstream::start();
    for path in ["/exec", "/write"] {
        upstream.take_over(path, async |mut wire: Wire| {
            wire.read_body().await.expect("the content");
            assert_eq!(wire.head.body, b"{\"Tty\": true}");
            let answer = match wire.head.header("upgrade").as_deref() {
                Some("tcp") => "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            };
            let _ = wire.write(answer).await;
            let command = wire.read().await;
            let _ = wire.write(command).await;
        });
    }
    let larder = Larder::with("routes: [{path: /exec, purges: []}]", &upstream);
    for (path, status) in [("/exec", 101), ("/write", 200)] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n");
        let head = format!("{head}Content-Length: 13\r\n\r\n{{\"Tty\": true}}");
        let mut raw = begin(&larder, &head).await;
        assert_eq!(raw.status().await, status, "{path}");
        if status == 101 {
            raw.send("ls").await;
            assert_eq!(raw.exactly(2).await, b"ls");
        }
    }
}

#[tokio::test]
async fn a_target_that_is_too_long_is_a_414() {
    let upstream = Upstream::start();
    let larder = Larder::with("limits: {header_bytes: 16KiB}\nroutes: [{path: '/{x}', ttl: 60s}]", &upstream);
    let ends = [" HTTP/1.1\r\nHost: api\r\n\r\n", "#fragment HTTP/1.1\r\nHost: api\r\n\r\n", ""];
    for (length, end, status) in [
        (15_000, ends[0], 200),
        (15_900, ends[0], 414),
        (17_000, ends[0], 414),
        (100_000, ends[0], 414),
        (100_000, ends[1], 414),
        (100_000, ends[2], 414),
    ] {
        let mut raw = begin(&larder, &format!("GET /{}{end}", "a".repeat(length))).await;
        assert_eq!(raw.status().await, status, "{length} {end:?}");
    }
    // A line that goes on after a short target is refused, too, and so is the method of a purge.
    for begin_of_line in ["GET /a", "GET http://api/a", "DELETE http://api/a", "PURGE http://api/a"] {
        for end in [ends[0], ends[2]] {
            let line = format!("{begin_of_line}#{}{end}", "x".repeat(20_000));
            assert_eq!(begin(&larder, &line).await.status().await, 400, "{begin_of_line}");
        }
    }
    assert_eq!(upstream.total(), 1);
}
