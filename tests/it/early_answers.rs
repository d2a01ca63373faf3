//! Answers that come before the end of the request: a client that sends on reads all of its answer, and no reset comes
//! before (RFC 9112 §9.6).

use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use crate::http2;
use crate::support::{Certificates, Larder, Upstream, Wire, with_deadline};
use crate::tls;

const LENGTH: &str = "Content-Length: 100000000";
const CHUNKED: &str = "Transfer-Encoding: chunked";

/// An upstream that refuses uploads to `/up` before any content, and closes.
fn refusing() -> Upstream {
    let upstream = Upstream::start();
    upstream.take_over("/up", async |mut wire: Wire| {
        let answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
        _ = wire.write(answer).await;
    });
    upstream
}

fn part(framing: &str) -> Vec<u8> {
    let part = vec![b'x'; 16 * 1024];
    if framing == CHUNKED { [b"4000\r\n", &part[..], b"\r\n"].concat() } else { part }
}

/// Waits until the server has sent everything, without reading it.
async fn wait_for_end(stream: &TcpStream) {
    with_deadline("the end of the answer", async {
        while !stream.ready(Interest::READABLE).await.expect("open").is_read_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Sends a head and parts of content as a client does that reads only when it has sent all.
async fn upload(larder: &Larder, head: &str, framing: &str) -> String {
    let mut stream = TcpStream::connect(larder.address()).await.expect("connected");
    stream.write_all(head.as_bytes()).await.expect("sent");
    wait_for_end(&stream).await;
    // More than the buffers of both sockets hold.
    for number in 0..1000 {
        let sent = with_deadline("a part is taken", stream.write_all(&part(framing))).await;
        sent.unwrap_or_else(|error| panic!("part {number} after {head:.30}: {error}"));
    }
    let mut answer = Vec::new();
    with_deadline("the answer", stream.read_to_end(&mut answer)).await.expect("not reset");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_client_that_sends_on_reads_the_upstreams_answer() {
    let upstream = refusing();
    let larder = Larder::with("routes: []", &upstream);
    for framing in [LENGTH, CHUNKED] {
        let head = format!("POST /up HTTP/1.1\r\nHost: api\r\n{framing}\r\n\r\n");
        let answer = upload(&larder, &head, framing).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("\r\n\r\nbig"), "{framing}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_sends_on_reads_larders_own_answers() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /limited, rate: {limit: 1/d, burst: 1}}]", &upstream);
    larder.get("/limited").await.assert_status(200);
    let unreachable = Larder::with_upstream_url(&Upstream::nowhere(), "routes: []");
    let long = "x".repeat(40_000);
    for (larder, target, field, status) in [
        (&larder, "/limited", "Accept: text/plain", 429),
        (&unreachable, "/up", "Accept: text/plain", 502),
        (&larder, "/two-hosts", "Host: other", 400),
        (&larder, &*long, "Accept: text/plain", 414),
    ] {
        for framing in [LENGTH, CHUNKED] {
            let head = format!("POST {target} HTTP/1.1\r\nHost: api\r\n{field}\r\n{framing}\r\n\r\n");
            let answer = upload(larder, &head, framing).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{field}, {framing}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_client_that_sends_on_over_tls_reads_the_answer() {
    let (upstream, certificates) = (refusing(), Certificates::new());
    let larder = Larder::with(&tls::listen(&certificates, &["server"]), &upstream);
    let ca = certificates.path("ca.pem");
    let connecting = tls::connect(larder.address(), &ca, "localhost", &["http/1.1"]);
    let mut stream = connecting.await.expect("connected");
    let head = format!("POST /up HTTP/1.1\r\nHost: api\r\n{LENGTH}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.flush().await.expect("sent");
    wait_for_end(stream.get_ref().0).await;
    for _ in 0..1000 {
        with_deadline("a part is taken", stream.write_all(&part(LENGTH))).await.expect("not reset");
    }
    let mut answer = Vec::new();
    with_deadline("the answer", stream.read_to_end(&mut answer)).await.expect("not reset");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("\r\n\r\nbig"), "{answer}");
}

#[tokio::test]
async fn a_client_that_sends_on_makes_room_for_others() {
    let upstream = refusing();
    let larder = Larder::with("limits: {connections_per_client: 1}\nroutes: []", &upstream);
    let mut stream = TcpStream::connect(larder.address()).await.expect("connected");
    let head = format!("POST /up HTTP/1.1\r\nHost: api\r\n{LENGTH}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    wait_for_end(&stream).await;
    stream.write_all(&part(LENGTH)).await.expect("sent");
    larder.get("/other").await.assert_status(200);
    with_deadline("the connection is closed", async { while stream.write_all(b"x").await.is_ok() {} }).await;
}

/// RFC 9113 §8.1: the whole response, then RST_STREAM with NO_ERROR; what still comes takes no other stream's window.
#[tokio::test]
async fn over_http2_the_whole_answer_comes_before_the_reset() {
    let upstream = refusing();
    let larder = Larder::with("routes: []", &upstream);
    let mut sender = http2::connect(&larder, &Default::default()).await;
    for _ in 0..20 {
        poll_fn(|cx| sender.poll_ready(cx)).await.expect("open");
        let (response, mut body) = sender.send_request(http2::request("POST", "/up"), false).expect("sent");
        // Beyond the window, so that some of it has yet to be sent.
        body.send_data(vec![b'x'; 4 << 20].into(), false).expect("open");
        let response = with_deadline("a response", response).await.expect("a response");
        assert_eq!(response.status(), 413);
        let mut content = response.into_body();
        let part = with_deadline("its content", content.data()).await;
        assert_eq!(part.expect("a part").expect("no reset before"), "big");
        let reset = with_deadline("a reset", poll_fn(|cx| body.poll_reset(cx))).await.expect("a reset");
        assert_eq!(reset, h2::Reason::NO_ERROR);
    }
    assert_eq!(http2::ask(&mut sender, "GET", "/other").await.status(), 200);
    poll_fn(|cx| sender.poll_ready(cx)).await.expect("open");
    let (response, mut body) = sender.send_request(http2::request("POST", "/whole"), false).expect("sent");
    body.send_data(vec![b'x'; 4 << 20].into(), true).expect("open");
    assert_eq!(with_deadline("a response", response).await.expect("a response").status(), 200);
    assert_eq!(upstream.last("/whole").body.len(), 4 << 20);
}

/// Otherwise a client that has sent the rest meanwhile sends its next request over a connection that is closing.
#[tokio::test]
async fn an_early_answer_says_that_its_connection_closes() {
    let upstream = Upstream::start();
    let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
    upstream.take_over("/up", move |mut wire: Wire| {
        let ends = ends.clone();
        async move {
            _ = wire.write("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok").await;
            _ = ends.send(wire.read_body().await.is_ok());
        }
    });
    let larder = Larder::with("routes: []", &upstream);
    for (framing, first, rest) in [
        ("Content-Length: 100000", "x".repeat(50_000), "x".repeat(50_000)),
        (CHUNKED, "3\r\nabc\r\n".to_owned(), "0\r\n\r\n".to_owned()),
    ] {
        let mut raw = larder.raw().await;
        raw.send(format!("POST /up HTTP/1.1\r\nHost: api\r\n{framing}\r\n\r\n{first}")).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 202") && head.contains("connection: close\r\n"), "{head}");
        raw.exactly(2).await;
        // The upstream reads on.
        raw.send(rest).await;
        assert_eq!(with_deadline("the content", ended.recv()).await, Some(true), "{framing}");
        raw.is_closed().await;
    }
    let mut raw = larder.raw().await;
    for content in ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
    {
        raw.send(format!("POST /b HTTP/1.1\r\nHost: api\r\n{content}")).await;
        assert!(!raw.read_until("POST /b #").await.contains("connection: close"));
        raw.exactly(1).await;
    }
}
