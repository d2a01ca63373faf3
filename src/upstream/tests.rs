//! Connections that idle and requests that are sent again, against a real socket.

use std::net::IpAddr;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::pool::{Checkout, Http1Guard, PooledConnection, RequestKind, RequestRest};
use super::protocols::Protocols;
use super::{Destination, RequestBody, Timeouts, Upstream};
use crate::config::Config;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

const TIMEOUTS: Timeouts = Timeouts { response: LONG, idle: LONG, stream_idle: LONG };

async fn upstream(idle_timeout: &str) -> (Upstream, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let yaml = format!("upstream: {{url: 'http://{address}', idle_timeout: {idle_timeout}}}\nroutes: []\n");
    let config = Config::parse(&yaml, "proxy.yaml", &|_| None, &Default::default()).expect("a configuration");
    (Upstream::new(Destination::new(&config.upstream).expect("a destination")), listener)
}

/// One request, and its whole answer.
async fn ask(upstream: &Upstream) -> Vec<u8> {
    let request = Request::get("/a").body(RequestBody::empty()).expect("a request");
    let answer = upstream.send(Box::new(request), TIMEOUTS).await.expect("an answer");
    answer.into_body().collect().await.expect("the whole").to_bytes().to_vec()
}

async fn answer(stream: &mut TcpStream, with: &str) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut read).await.expect("a request"), 0, "{read:?}");
    }
    stream.write_all(with.as_bytes()).await.expect("taken");
}

const KNOWN_LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn requests_one_after_another_go_over_one_connection() {
    let (upstream, listener) = upstream("1h").await;
    let answering = async {
        let mut stream = listener.accept().await.expect("a connection").0;
        for with in [KNOWN_LENGTH, CHUNKED, EMPTY, KNOWN_LENGTH] {
            answer(&mut stream, with).await;
        }
    };
    let asking = async {
        for expected in ["ab", "ab", "", "ab"] {
            assert_eq!(ask(&upstream).await, expected.as_bytes());
        }
    };
    timeout(LONG, async { tokio::join!(answering, asking) })
        .await
        .expect("no second connection is waited for");
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_closed_at_once() {
    let (upstream, listener) = upstream("1h").await;
    let accepting = async {
        let mut stream = listener.accept().await.expect("a connection").0;
        answer(&mut stream, KNOWN_LENGTH).await;
        stream
    };
    let (mut stream, _) = tokio::join!(accepting, ask(&upstream));
    stream.shutdown().await.expect("closed");
    let read = timeout(LONG, stream.read_u8()).await.expect("closed on the other side too");
    assert_eq!(read.expect_err("no byte").kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn what_idles_for_too_long_is_closed() {
    let (upstream, listener) = upstream("20ms").await;
    let accepting = async {
        let mut stream = listener.accept().await.expect("a connection").0;
        answer(&mut stream, KNOWN_LENGTH).await;
        stream
    };
    let (mut stream, _) = tokio::join!(accepting, ask(&upstream));
    let read = timeout(LONG, stream.read_u8()).await.expect("closed");
    assert_eq!(read.expect_err("no byte").kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_to_its_end_ends_its_connection() {
    let (upstream, listener) = upstream("1h").await;
    let answering = async {
        let mut first = listener.accept().await.expect("a connection").0;
        answer(&mut first, "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\nthe beginning").await;
        let mut second = listener.accept().await.expect("another connection").0;
        answer(&mut second, KNOWN_LENGTH).await;
        let read = first.read_u8().await;
        assert_eq!(read.expect_err("no byte").kind(), std::io::ErrorKind::UnexpectedEof);
    };
    let asking = async {
        let request = Request::get("/a").body(RequestBody::empty()).expect("a request");
        drop(upstream.send(Box::new(request), TIMEOUTS).await.expect("an answer"));
        assert_eq!(ask(&upstream).await, b"ab");
    };
    timeout(LONG, async { tokio::join!(answering, asking) }).await.expect("in time");
}

#[tokio::test]
async fn a_declined_connection_is_not_given_out_while_connecting() {
    let (upstream, _listener) = upstream("1h, http2: true").await;
    let pool = upstream.balancer().member(0).pool.clone();
    let kind = RequestKind { is_repeatable: true, has_content: true, is_storable: true };
    let Ok(Checkout::Http1 { connection, .. }) = pool.connect(Protocols::Http1, kind).await else {
        panic!("it is to speak HTTP/1.1");
    };
    PooledConnection::Http1(Http1Guard::new(connection, RequestRest::Nothing, pool.clone())).release(None);
    let without_content = RequestKind { has_content: false, ..kind };
    let Some(Checkout::Http1 { connection, .. }) = pool.checkout_idle(Protocols::Http2, without_content)
    else {
        panic!("it is idle");
    };
    PooledConnection::Http1(Http1Guard::new(connection, RequestRest::Nothing, pool.clone())).release(None);
    let checkout = pool.connect(Protocols::Http2, kind).await;
    assert!(matches!(checkout, Ok(Checkout::Http2 { .. })), "it is of its own");
}

/// The upstream closes a connection while a write is on its way, so later writes take no connection that idled for half of
/// that time.
#[tokio::test]
async fn a_close_that_crosses_a_write_tells_of_a_time_out() {
    let (upstream, listener) = upstream("1h").await;
    let write = async || {
        let request = Request::post("/a").body(RequestBody::empty()).expect("a request");
        let answer = upstream.send(Box::new(request), TIMEOUTS).await.ok()?;
        answer.into_body().collect().await.ok()
    };
    let pass = async |seconds| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    };
    let answering = async {
        let mut first = listener.accept().await.expect("a connection").0;
        answer(&mut first, KNOWN_LENGTH).await;
        answer(&mut first, "").await;
        drop(first);
        let mut second = listener.accept().await.expect("another connection").0;
        answer(&mut second, KNOWN_LENGTH).await;
        let mut third = listener.accept().await.expect("a third connection").0;
        answer(&mut third, KNOWN_LENGTH).await;
    };
    let writing = async {
        assert!(write().await.is_some());
        pass(10).await;
        assert!(write().await.is_none(), "it may have arrived");
        assert!(write().await.is_some());
        pass(6).await;
        assert!(write().await.is_some(), "over a connection of its own");
    };
    timeout(10 * LONG, async { tokio::join!(answering, writing) }).await.expect("in time");
}

#[tokio::test]
async fn a_content_that_is_sent_again_is_captured_once() {
    let mut body = RequestBody::from_content("id=1".into());
    let (captured, again) = (body.capture(100), body.replay(0).expect("known content"));
    let progress = body.progress();
    body.collect().await.expect("the content");
    assert!(progress.is_complete());
    again.begin_again();
    assert!(!progress.is_complete() && captured.complete_content().is_none());
    again.collect().await.expect("the content");
    assert_eq!(captured.complete_content().expect("whole"), "id=1");
}

/// A name with the addresses 127.0.0.1 and 127.0.0.2, and then others.
#[tokio::test]
async fn each_address_of_a_name_is_an_instance() {
    let first = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = first.local_addr().expect("an address").port();
    let second = TcpListener::bind(("127.0.0.2", port)).await.expect("a port");
    let yaml = format!("upstream: {{url: 'http://api.test:{port}', resolve_every: 1s}}\nroutes: []\n");
    let config = Config::parse(&yaml, "proxy.yaml", &|_| None, &Default::default()).expect("a configuration");
    let destination = Destination::new(&config.upstream).expect("a destination");
    let upstream = Upstream::new(destination.clone());
    let resolve = |addresses: &'static [&'static str]| {
        let lookup = move |name: String| async move {
            assert_eq!(name, format!("api.test:{port}"));
            Ok(addresses
                .iter()
                .map(|address| (address.parse::<IpAddr>().expect("one"), port).into())
                .collect())
        };
        let destination = destination.clone();
        async move { destination.resolve(lookup).await }
    };
    let names = || destination.health().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let named = |address: &str| format!("http://api.test:{port} ({address}:{port})");

    resolve(&["127.0.0.2", "127.0.0.1", "127.0.0.2"]).await;
    assert_eq!(names(), [named("127.0.0.1"), named("127.0.0.2")]);
    let mut connections = vec![];
    let asking = async { (ask(&upstream).await, ask(&upstream).await) };
    let answering = async {
        for listener in [&first, &second] {
            let mut stream = listener.accept().await.expect("each is asked").0;
            answer(&mut stream, KNOWN_LENGTH).await;
            connections.push(stream);
        }
    };
    timeout(LONG, async { tokio::join!(asking, answering) }).await.expect("both answer");

    // The first address goes away: the connection to the second is used on.
    resolve(&["127.0.0.2"]).await;
    assert_eq!(names(), [named("127.0.0.2")]);
    let answering = answer(&mut connections[1], KNOWN_LENGTH);
    timeout(LONG, async { tokio::join!(ask(&upstream), answering) }).await.expect("it answers");

    // No address, or no answer: those of before stay.
    resolve(&[]).await;
    let fail = || destination.resolve(|_| async { Err(std::io::ErrorKind::TimedOut.into()) });
    fail().await;
    assert_eq!(names(), [named("127.0.0.2")]);

    // But not for ever: they may be another's by then.
    for _ in 0..8 {
        fail().await;
    }
    assert_eq!(names(), [format!("http://api.test:{port}")]);
    resolve(&["127.0.0.1"]).await;
    assert_eq!(names(), [named("127.0.0.1")]);
}

#[tokio::test]
async fn an_address_missing_from_some_answers_keeps_its_health() {
    let yaml = "upstream: {url: 'http://api.test:9', resolve_every: 1s}\nroutes: []\n";
    let config = Config::parse(yaml, "proxy.yaml", &|_| None, &Default::default()).expect("a configuration");
    let destination = Destination::new(&config.upstream).expect("a destination");
    let resolve = |last: &'static [u8]| {
        let found = last.iter().map(|last| (IpAddr::from([127, 0, 0, *last]), 9).into()).collect();
        destination.resolve(move |_| std::future::ready(Ok(Vec::clone(&found))))
    };
    let are_up = || destination.health().into_iter().map(|(_, is_up)| is_up).collect::<Vec<_>>();
    resolve(&[1, 2]).await;
    let instances = destination.instances();
    let breaker = &instances[1].breaker;
    breaker.record_unreachable(breaker.begin_request(Duration::from_secs(30)));
    assert_eq!(are_up(), [true, false]);
    // Nine answers without it, and one with it.
    for missed in 1..10 {
        resolve(&[1, 3]).await;
        assert_eq!(are_up(), [true, true], "{missed}");
    }
    resolve(&[1, 2]).await;
    assert_eq!(are_up(), [true, false]);
    // After ten it is another's.
    for _ in 0..10 {
        resolve(&[1]).await;
    }
    resolve(&[1, 2]).await;
    assert_eq!(are_up(), [true, true]);
}

async fn write(upstream: &Upstream) -> u16 {
    let request = Request::post("/a").body(RequestBody::empty()).expect("a request");
    let answer = upstream.send(Box::new(request), TIMEOUTS).await.expect("an answer");
    answer.status().as_u16()
}

#[tokio::test]
async fn a_write_goes_over_no_connection_whose_close_has_arrived() {
    let (upstream, listener) = upstream("1h").await;
    let accepting = async {
        let mut stream = listener.accept().await.expect("a connection").0;
        answer(&mut stream, KNOWN_LENGTH).await;
        stream
    };
    let (stream, _) = tokio::join!(accepting, ask(&upstream));
    // The runtime can't see it while its thread is held.
    drop(stream);
    std::thread::sleep(Duration::from_millis(15));
    let accepting = async {
        let mut stream = listener.accept().await.expect("another connection").0;
        answer(&mut stream, KNOWN_LENGTH).await;
    };
    let ((), status) = tokio::join!(accepting, write(&upstream));
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_write_avoids_what_was_idle_as_long_as_a_closed_connection() {
    let (upstream, listener) = upstream("1h").await;
    let idle = Duration::from_millis(200);
    let accept_and_answer = async || {
        let mut stream = listener.accept().await.expect("a connection").0;
        answer(&mut stream, KNOWN_LENGTH).await;
        stream
    };
    let (mut first, _) = tokio::join!(accept_and_answer(), ask(&upstream));
    // The upstream's time-out.
    tokio::time::sleep(idle).await;
    first.shutdown().await.expect("closed");
    let read = timeout(LONG, first.read_u8()).await.expect("closed on the other side too");
    assert_eq!(read.expect_err("no byte").kind(), std::io::ErrorKind::UnexpectedEof);

    let (second, _) = tokio::join!(accept_and_answer(), ask(&upstream));
    tokio::time::sleep(idle).await;
    let (_third, status) = timeout(LONG, async { tokio::join!(accept_and_answer(), write(&upstream)) })
        .await
        .expect("another connection");
    assert_eq!(status, 200);
    drop(second);
}
