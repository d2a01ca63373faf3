//! An upstream that speaks HTTP/2 gets requests as RFC 9113 wants them, and a request that it did not process again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Larder, Redis, Replica, eventually};

/// How the second request on a connection is answered; all others get 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    Ok,
    Reset(Reason),
    /// The stream is refused once so many bytes of its content have been read.
    RefuseAfter(usize),
    /// The connection is closed without GOAWAY.
    Close,
}

type Log<T> = Arc<Mutex<Vec<T>>>;

/// Bytes of a content that are sent before the upstream asks for more (RFC 9113 §6.9.2).
const FIRST_WINDOW: usize = 65_535;

struct Http2Upstream {
    address: SocketAddr,
    requests: Log<Request<()>>,
    /// The contents that arrived whole.
    contents: Log<Vec<u8>>,
}

impl Http2Upstream {
    async fn start(second: Second) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let contents = Arc::new(Mutex::new(Vec::new()));
        let (seen, total) = ((requests.clone(), contents.clone()), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(stream, second, seen.clone(), total.clone()));
            }
        });
        Self { address, requests, contents }
    }

    fn larder(&self) -> Larder {
        let url = format!("http://{}", self.address);
        let yaml =
            "upstream: {url: \"${UPSTREAM}\", http2: true}\nroutes: [{path: '/a/{x}', ttl: 60s}]".to_owned();
        Larder::with_upstream_url(&url, &yaml)
    }
}

async fn serve(
    stream: TcpStream,
    second: Second,
    (seen, contents): (Log<Request<()>>, Log<Vec<u8>>),
    total: Arc<AtomicUsize>,
) {
    let mut first = [0; 3];
    while stream.peek(&mut first).await.is_ok_and(|read| read < 3) {
        tokio::task::yield_now().await;
    }
    if &first != b"PRI" {
        return switch_protocols(stream).await;
    }
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    while let Some(accepted) = connection.accept().await {
        let Ok((request, mut respond)) = accepted else { return };
        let number = total.fetch_add(1, Ordering::Relaxed) + 1;
        let (parts, mut body) = request.into_parts();
        seen.lock().push(Request::from_parts(parts, ()));
        if (number, second) == (2, Second::Close) {
            return;
        }
        let contents = contents.clone();
        tokio::spawn(async move {
            let mut content = Vec::new();
            let refused_after = match (number, second) {
                (2, Second::RefuseAfter(bytes)) => bytes,
                _ => usize::MAX,
            };
            while content.len() < refused_after
                && let Some(Ok(data)) = body.data().await
            {
                // A stream that is refused soon gets no more than its first window.
                if refused_after > FIRST_WINDOW {
                    _ = body.flow_control().release_capacity(data.len());
                }
                content.extend_from_slice(&data);
            }
            if content.len() >= refused_after {
                return respond.send_reset(Reason::REFUSED_STREAM);
            }
            contents.lock().push(content);
            match (number, second) {
                (2, Second::Reset(reason)) => respond.send_reset(reason),
                _ => answer(&mut respond),
            }
        });
    }
}

fn answer(respond: &mut SendResponse<Bytes>) {
    let mut body = respond.send_response(Response::new(()), false).expect("sent");
    body.send_data(Bytes::from_static(b"ok"), true).expect("sent");
}

/// Answers an HTTP/1.1 upgrade, and echoes.
async fn switch_protocols(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    _ = stream.write_all(switched.as_bytes()).await;
    let (mut read, mut write) = stream.split();
    _ = tokio::io::copy(&mut read, &mut write).await;
}

#[tokio::test]
async fn authority_is_the_clients_host_and_there_is_no_host_field() {
    let upstream = Http2Upstream::start(Second::Ok).await;
    let larder = upstream.larder();
    larder.get("/a/1?q=2").header("host", "api.test:8080").await.assert_status(200).assert_text("ok");
    larder.get("/b").header("host", "other.test").over_http2().await.assert_status(200);
    let requests = upstream.requests.lock();
    assert_eq!(requests[0].uri(), "http://api.test:8080/a/1?q=2");
    assert_eq!(requests[1].uri(), "http://other.test/b");
    assert!(requests.iter().all(|request| !request.headers().contains_key("host")), "{requests:?}");
}

#[tokio::test]
async fn a_request_that_was_not_processed_is_sent_again_and_no_other() {
    for (second, retried) in [
        (Second::Reset(Reason::REFUSED_STREAM), true),
        (Second::Reset(Reason::CANCEL), false),
        (Second::Reset(Reason::INTERNAL_ERROR), false),
        (Second::Reset(Reason::HTTP_1_1_REQUIRED), false),
    ] {
        for method in ["GET", "POST"] {
            let upstream = Http2Upstream::start(second).await;
            let larder = upstream.larder();
            let mut statuses = Vec::new();
            for number in 0..3 {
                let request = larder.request(method, &format!("/b/{number}"));
                let request = if method == "POST" { request.body("abc") } else { request };
                statuses.push(request.await.status);
            }
            let second_status = if retried { 200 } else { 502 };
            assert_eq!(statuses, [200, second_status, 200], "{second:?} {method}");
            assert_eq!(upstream.requests.lock().len(), if retried { 4 } else { 3 });
            if !retried {
                let Second::Reset(reason) = second else { unreachable!() };
                let told = format!("the upstream reset the HTTP/2 stream of the request: {reason:?}");
                assert!(larder.log().contains(&told), "{}", larder.log());
                assert_eq!(larder.metric("larder_upstream_failures_total{reason=\"reset\"}").await, 1.0);
            }
        }
    }
}

fn long_content() -> String {
    (0..20_000).map(|number| format!("{number:09};")).collect()
}

#[tokio::test]
async fn an_upload_whose_beginning_is_kept_is_sent_again() {
    for (refused_after, is_kept) in [(0, true), (1000, true), (60_000, true), (150_000, false)] {
        let upstream = Http2Upstream::start(Second::RefuseAfter(refused_after)).await;
        let larder = upstream.larder();
        larder.get("/b/1").await.assert_status(200);
        let upload = larder.request("POST", "/b/2").body(long_content()).await;
        upload.assert_status(if is_kept { 200 } else { 502 });
        let arrived = upstream.contents.lock().last().cloned().expect("the first");
        assert_eq!(arrived == long_content().as_bytes(), is_kept, "{refused_after}");
        assert_eq!(upstream.requests.lock().len(), if is_kept { 3 } else { 2 });
    }
}

#[tokio::test]
async fn an_upload_that_was_refused_unread_is_sent_again() {
    let upstream = Http2Upstream::start(Second::RefuseAfter(0)).await;
    let larder = upstream.larder();
    larder.get("/b/1").await.assert_status(200);
    let mut raw = larder.raw().await;
    let content = long_content();
    raw.send(format!("POST /b/2 HTTP/1.1\r\nHost: api\r\nContent-Length: {}\r\n\r\n", content.len())).await;
    eventually("it is sent again", || async { (upstream.requests.lock().len() == 3).then_some(()) }).await;
    raw.send(&content).await;
    assert_eq!(raw.status().await, 200);
    assert_eq!(upstream.contents.lock().last().map(Vec::as_slice), Some(content.as_bytes()));
}

/// The end of the content waits for the purge intent, and so does that of the second attempt.
#[tokio::test]
async fn a_guarded_upload_that_was_refused_is_sent_again_whole() {
    let redis = Redis::start().await;
    let upstream = Http2Upstream::start(Second::RefuseAfter(60_000)).await;
    let yaml = format!(
        "upstream: {{url: 'http://{}', http2: true}}
store: {{redis: \"{}\"}}
routes:
  - {{path: '/a/{{x}}', ttl: 60s, tags: ['course:{{x}}']}}
  - {{path: '/b/{{x}}', purges: ['course:{{x}}']}}",
        upstream.address,
        redis.url()
    );
    let larder = Replica::new(Larder::with_environment(&yaml, &[]));
    larder.is_connected().await;
    larder.get("/a/1").await.assert_stored();
    let mut raw = larder.raw().await;
    let content = long_content();
    raw.send("POST /b/1 HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    raw.send(format!("{:x}\r\n{content}\r\n0\r\n\r\n", content.len())).await;
    assert_eq!(raw.status().await, 200);
    assert_eq!(upstream.contents.lock().last().map(Vec::as_slice), Some(content.as_bytes()));
    assert_eq!(upstream.requests.lock().len(), 3);
    assert_eq!(larder.misses(&["/a/1"]).await, ["/a/1"]);
}

#[tokio::test]
async fn a_read_on_a_closed_connection_is_sent_once_more() {
    let upstream = Http2Upstream::start(Second::Close).await;
    let larder = upstream.larder();
    // One connection is one worker's, which has one to the upstream.
    let mut client = larder.connection().await;
    for number in 0..3 {
        client.get(&format!("/b/{number}")).await.assert_status(200);
    }
    assert_eq!(upstream.requests.lock().len(), 4);
}

#[tokio::test]
async fn a_write_on_a_connection_that_is_closed_is_not_sent_again() {
    let upstream = Http2Upstream::start(Second::Close).await;
    let larder = upstream.larder();
    for status in [200, 502, 200] {
        larder.request("POST", "/b/1").body("abc").await.assert_status(status);
    }
    assert_eq!(upstream.requests.lock().len(), 3);
}

#[tokio::test]
async fn a_form_that_is_sent_again_purges_what_it_names_once() {
    let upstream = Http2Upstream::start(Second::Reset(Reason::REFUSED_STREAM)).await;
    let yaml = "upstream: {url: \"${UPSTREAM}\", http2: true}
routes:
  - {path: '/a/{x}', ttl: 60s, tags: ['course:{x}']}
  - {path: /form, purges: ['course:{request.form:id}']}";
    let larder = Larder::with_upstream_url(&format!("http://{}", upstream.address), yaml);
    larder.get("/a/1").await.assert_stored();
    let form = larder.request("POST", "/form").header("content-type", "application/x-www-form-urlencoded");
    form.body("id=1").await.assert_status(200);
    assert_eq!(upstream.requests.lock().len(), 3);
    assert_eq!(larder.misses(&["/a/1"]).await, ["/a/1"]);
}

/// The fields `:status: 204`, in HPACK's static table.
const NO_CONTENT: &[u8] = &[0x89];

/// Serves one connection by hand: one request is answered with these fields, and GOAWAY says that it was the last one.
async fn serve_one_and_go_away(mut stream: TcpStream, fields: &'static [u8]) -> Option<()> {
    const ACK: u8 = 1;
    const HEADERS_END: u8 = 5;
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags];
        frame.extend_from_slice(&id.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    };
    stream.read_exact(&mut [0; 24]).await.ok()?;
    stream.write_all(&frame(4, 0, 0, &[])).await.ok()?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await.ok()?;
        match (head[3], head[4], head[8]) {
            (4, flags, _) if flags & ACK == 0 => stream.write_all(&frame(4, ACK, 0, &[])).await.ok()?,
            (1, _, 1) => stream.write_all(&frame(1, HEADERS_END, 1, fields)).await.ok()?,
            (1, _, _) => {
                // The last stream is 1, and there is no error.
                stream.write_all(&frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])).await.ok()?;
                // A connection that is closed with content unread is reset.
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok()?;
                return Some(());
            }
            _ => {}
        }
    }
}

async fn with_upstream_by_hand(fields: &'static [u8]) -> Larder {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            tokio::spawn(serve_one_and_go_away(stream, fields));
        }
    });
    let yaml = "upstream: {url: \"${UPSTREAM}\", http2: true}\nroutes: []";
    Larder::with_upstream_url(&format!("http://{address}"), yaml)
}

#[tokio::test]
async fn a_malformed_response_is_told_as_such() {
    // `:status: 204` and a field whose name is an upper-case letter.
    let larder = with_upstream_by_hand(&[0x89, 0, 1, b'X', 1, b'1']).await;
    let reply = larder.get("/").await.assert_status(502);
    assert_eq!(reply.text(), "larder: the upstream's answer is not valid HTTP\n");
    assert!(larder.log().contains("not valid HTTP: HTTP/2 PROTOCOL_ERROR"), "{}", larder.log());
    assert_eq!(larder.metric("larder_upstream_failures_total{reason=\"invalid\"}").await, 1.0);
}

#[tokio::test]
async fn a_request_above_the_last_stream_of_goaway_is_sent_again() {
    let larder = with_upstream_by_hand(NO_CONTENT).await;
    for number in 0..5 {
        larder.get(&format!("/{number}")).await.assert_status(204);
        larder.request("POST", "/").body("abc").await.assert_status(204);
        larder.get("/").await.assert_status(204);
        larder.request("POST", "/").body(long_content()).await.assert_status(204);
    }
}

#[tokio::test]
async fn a_websocket_goes_over_http1() {
    let upstream = Http2Upstream::start(Second::Ok).await;
    let larder = upstream.larder();
    let mut raw = larder.raw().await;
    raw.send("GET /ws HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(raw.status().await, 101);
    raw.send("echo").await;
    assert_eq!(raw.exactly(4).await, b"echo");
    assert_eq!(upstream.requests.lock().len(), 0);
}

#[tokio::test]
async fn many_requests_share_one_connection_and_all_are_answered() {
    let upstream = Http2Upstream::start(Second::Ok).await;
    let larder = upstream.larder();
    let crowd: Vec<_> = (0..150).map(|number| larder.get(&format!("/b/{number}")).spawn()).collect();
    for reply in crowd {
        reply.await.unwrap().assert_status(200);
    }
    eventually("all arrived", || async { (upstream.requests.lock().len() == 150).then_some(()) }).await;
}
