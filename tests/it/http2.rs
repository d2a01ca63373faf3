//! HTTP/2, frame by frame: what a client could do without end, and what it may do slowly.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::Request;
use tokio::net::TcpStream;

use crate::support::{Answer, Larder, Upstream, eventually, with_deadline};

pub(crate) async fn connect(larder: &Larder, builder: &client::Builder) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(larder.address()).await.expect("connected");
    let (sender, connection) = builder.handshake::<_, Bytes>(stream).await.expect("a connection");
    tokio::spawn(connection);
    with_deadline("ready", sender.ready()).await.expect("open")
}

pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://api{path}")).body(()).expect("a request")
}

/// Asks without content.
pub(crate) async fn ask(
    sender: &mut SendRequest<Bytes>,
    method: &str,
    path: &str,
) -> http::Response<h2::RecvStream> {
    poll_fn(|cx| sender.poll_ready(cx)).await.expect("open");
    let (response, _) = sender.send_request(request(method, path), true).expect("sent");
    with_deadline("a response", response).await.expect("a response")
}

#[tokio::test]
async fn an_empty_data_frame_is_no_content() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s}]", &upstream);
    let mut sender = connect(&larder, &client::Builder::new()).await;
    larder.get("/a").header("host", "api").await.assert_stored();
    for length in [None, Some("0")] {
        let mut request = request("GET", "/a");
        length.into_iter().for_each(|value| {
            request.headers_mut().insert("content-length", http::HeaderValue::from_static(value));
        });
        poll_fn(|cx| sender.poll_ready(cx)).await.expect("open");
        let (response, mut body) = sender.send_request(request, false).expect("sent");
        body.send_data(Bytes::new(), false).expect("sent");
        body.send_data(Bytes::new(), true).expect("sent");
        let response = with_deadline("a response", response).await.expect("a response");
        let status = response.headers()["cache-status"].to_str().expect("text");
        assert!(status.contains("hit"), "{length:?}: {status}");
    }
    poll_fn(|cx| sender.poll_ready(cx)).await.expect("open");
    let (response, mut body) = sender.send_request(request("GET", "/a"), false).expect("sent");
    body.send_data(Bytes::from_static(b"some"), false).expect("sent");
    body.send_data(Bytes::from_static(b" content"), true).expect("sent");
    with_deadline("a response", response).await.expect("a response");
    assert_eq!(upstream.last("/a").body, b"some content");
}

#[tokio::test]
async fn a_host_that_differs_from_the_authority_is_refused() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s}]", &upstream);
    let mut sender = connect(&larder, &client::Builder::new()).await;
    for (host, status) in
        [("api", 200), ("API", 200), ("api:80", 200), ("other", 400), ("api:81", 400), ("", 400)]
    {
        let mut request = request("GET", "/a");
        request.headers_mut().insert("host", host.parse().expect("a value"));
        poll_fn(|cx| sender.poll_ready(cx)).await.expect("open");
        let (response, _) = sender.send_request(request, true).expect("sent");
        assert_eq!(
            with_deadline("a response", response).await.expect("a response").status(),
            status,
            "{host}"
        );
    }
    assert_eq!(upstream.count("/a"), 1);
}

#[tokio::test]
async fn a_stalled_client_loses_its_stream_not_the_connection() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::ok(vec![b'x'; 300_000]));
    upstream.on("/b", Answer::generated(50_000_000));
    let larder = Larder::with("limits: {body_timeout: 300ms}\nroutes: [{path: /a, ttl: 60s}]", &upstream);
    let mut sender = connect(&larder, client::Builder::new().initial_window_size(0)).await;
    for path in ["/a", "/a", "/b"] {
        let mut body = ask(&mut sender, "GET", path).await.into_body();
        let error =
            with_deadline("an end", body.data()).await.expect("no whole body").expect_err("no part fits");
        assert!(error.is_reset() && error.is_remote(), "{error}");
    }
    // Requests that need no flow-control window are served all the while on the same connection.
    assert_eq!(ask(&mut sender, "HEAD", "/a").await.status(), 200);
    upstream.is_left_alone().await;
}

#[tokio::test]
async fn a_window_that_opens_and_closes_gets_as_much_as_it_opens() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::ok(vec![b'x'; 100_000]));
    let larder = Larder::with("limits: {body_timeout: 300ms}\nroutes: [{path: /a, ttl: 60s}]", &upstream);
    let mut sender = connect(&larder, client::Builder::new().initial_window_size(1000)).await;
    let mut body = ask(&mut sender, "GET", "/a").await.into_body();
    let mut taken = 0;
    while let Some(Ok(part)) = with_deadline("a part or an end", body.data()).await {
        taken += part.len();
    }
    assert_eq!(taken, 1000, "and then it was reset");
}

#[tokio::test]
async fn a_slow_reader_gets_the_whole_body() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::ok(vec![b'x'; 600_000]));
    let yaml = "limits: {idle_timeout: 200ms, header_timeout: 200ms}\nroutes: [{path: /a, ttl: 60s}]";
    let larder = Larder::with(yaml, &upstream);
    larder.get("/a").await.assert_stored();
    let mut sender = connect(&larder, client::Builder::new().initial_window_size(16_384)).await;
    let mut body = ask(&mut sender, "GET", "/a").await.into_body();
    let mut taken = 0;
    while let Some(part) = with_deadline("a part", body.data()).await {
        let part = part.expect("no reset");
        taken += part.len();
        body.flow_control().release_capacity(part.len()).expect("open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(taken, 600_000);
}

#[tokio::test]
async fn streams_at_a_time_are_bounded_and_each_is_answered() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: []", &upstream);
    let mut sender = connect(&larder, &client::Builder::new()).await;
    assert_eq!(ask(&mut sender, "GET", "/first").await.status(), 200);
    assert_eq!(sender.current_max_send_streams(), 200);
    let mut waiting = Vec::new();
    for number in 0..300 {
        sender = with_deadline("room", sender.ready()).await.expect("open");
        waiting.push(sender.send_request(request("GET", &format!("/{number}")), true).expect("sent").0);
    }
    for response in waiting {
        assert_eq!(with_deadline("a response", response).await.expect("a response").status(), 200);
    }
}

#[tokio::test]
async fn oversized_fields_are_refused_on_a_kept_connection() {
    let upstream = Upstream::start();
    let larder = Larder::with("limits: {header_bytes: 16KiB}\nroutes: []", &upstream);
    let mut sender = connect(&larder, &client::Builder::new()).await;
    assert_eq!(ask(&mut sender, "GET", "/first").await.status(), 200);
    let mut long = request("GET", "/long");
    for number in 0..10 {
        let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
        long.headers_mut().insert(name, "x".repeat(4000).parse().unwrap());
    }
    sender = with_deadline("room", sender.ready()).await.expect("open");
    let (response, _) = sender.send_request(long, true).expect("sent");
    match with_deadline("an answer", response).await {
        Ok(response) => assert_eq!(response.status(), 431),
        Err(error) => assert!(error.is_reset(), "{error}"),
    }
    assert_eq!(ask(&mut sender, "GET", "/last").await.status(), 200);
    assert_eq!(upstream.count("/long"), 0);
}

#[tokio::test]
async fn who_asks_and_takes_back_without_end_is_closed() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: []", &upstream);
    let mut sender = connect(&larder, &client::Builder::new()).await;
    let mut sent = 0;
    let closed = with_deadline("an end", async {
        loop {
            if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
                return error;
            }
            match sender.send_request(request("GET", "/flood"), true) {
                Ok((_, mut stream)) => stream.send_reset(h2::Reason::CANCEL),
                Err(error) => return error,
            }
            sent += 1;
            assert!(sent < 1_000_000, "it goes on and on");
            tokio::task::yield_now().await;
        }
    });
    assert!(closed.await.is_io() || sent > 0);
    larder.get("/other").await.assert_status(200);
    larder.metric_becomes("larder_connections", 0.0).await;
}

/// A frame by hand: the crate above sends none that is not whole.
fn frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("short");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], content].concat()
}

#[tokio::test]
async fn header_timeout_holds_beside_a_running_request() {
    let upstream = Upstream::start();
    let larder = Larder::with("limits: {header_timeout: 300ms}\nroutes: []", &upstream);
    let held = upstream.hold("/");
    let mut raw = larder.raw().await;
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.send(frame(4, 0, 0, b"")).await;
    // GET http://a/ by the static table; END_STREAM and END_HEADERS.
    let get = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    raw.send(frame(1, 5, 1, &get)).await;
    held.arrived().await;
    // The next one begins, and never ends.
    raw.send(frame(1, 1, 3, &get[..3])).await;
    let began = std::time::Instant::now();
    raw.rest().await;
    assert!(began.elapsed() < Duration::from_secs(20), "it was not closed for that");
    eventually("it is closed", || async { (larder.metric("larder_connections").await == 0.0).then_some(()) })
        .await;
    held.release();
}

#[tokio::test]
async fn who_answers_no_ping_is_let_go() {
    let upstream = Upstream::start();
    let limits = "limits: {idle_timeout: 200ms, header_timeout: 300ms}";
    let larder = Larder::with(&format!("{limits}\nroutes: []"), &upstream);
    let held = upstream.hold("/");
    let mut raw = larder.raw().await;
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.send(frame(4, 0, 0, b"")).await;
    raw.send(frame(1, 5, 1, &[0x82, 0x86, 0x84, 0x41, 1, b'a'])).await;
    held.arrived().await;
    raw.rest().await;
    held.release();
    upstream.is_left_alone().await;
}
