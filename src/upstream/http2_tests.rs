//! Requests over the HTTP/2 connections of one pool, against a real socket.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Destination, RequestBody, Timeouts, Upstream, UpstreamBody, UpstreamError};
use crate::config::Config;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

const TIMEOUTS: Timeouts = Timeouts { response: LONG, idle: LONG, stream_idle: LONG };

const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(Clone)]
struct Server {
    upstream: Upstream,
    /// Connections so far.
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Serves connections of so many streams at a time each.
    async fn start(max_streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let upstream = upstream(&listener, "http", "");
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, max_streams));
            }
        });
        Self { upstream, connections }
    }

    async fn try_send(&self, method: &str, path: &str) -> Result<Response<UpstreamBody>, UpstreamError> {
        let request = Request::builder().method(method).uri(path).header("host", "api.test");
        let request = request.body(RequestBody::empty()).expect("a request");
        timeout(LONG, self.upstream.send(Box::new(request), TIMEOUTS)).await.expect("in time")
    }

    async fn send(&self, method: &str, path: &str) -> Response<UpstreamBody> {
        self.try_send(method, path).await.expect("an answer")
    }

    async fn ask(&self, method: &str) {
        let body = self.send(method, "/").await.into_body();
        assert_eq!(body.collect().await.expect("the whole").to_bytes(), "ok");
    }

    /// Sends `count` requests at once.
    async fn send_all(&self, count: usize, path: &'static str) -> Vec<Response<UpstreamBody>> {
        all(count, || {
            let server = self.clone();
            async move { server.send("GET", path).await }
        })
        .await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn all<F: Future<Output: Send> + Send + 'static>(count: usize, run: impl Fn() -> F) -> Vec<F::Output> {
    let tasks: Vec<_> = (0..count).map(|_| tokio::spawn(run())).collect();
    let mut outputs = Vec::new();
    for task in tasks {
        outputs.push(task.await.expect("no panic"));
    }
    outputs
}

fn upstream(listener: &TcpListener, scheme: &str, more: &str) -> Upstream {
    let address = listener.local_addr().expect("bound");
    let yaml = format!(
        "upstream: {{url: '{scheme}://{address}', http2: true, idle_timeout: 1h{more}}}\nroutes: []\n"
    );
    let config = Config::parse(&yaml, "proxy.yaml", &|_| None, &Default::default()).expect("valid");
    Upstream::new(Destination::new(&config.upstream).expect("a destination"))
}

/// Answers `/stream` without an end, `/fields/{count}/{length}` with such fields, and the rest with `ok`.
async fn serve(stream: TcpStream, max_streams: u32) {
    let mut builder = h2::server::Builder::new();
    let mut connection = builder.max_concurrent_streams(max_streams).handshake(stream).await.expect("HTTP/2");
    let mut endless = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let mut response = Response::new(());
        let path: Vec<&str> = request.uri().path().split('/').skip(1).collect();
        if let ["fields", count, length] = path[..] {
            let value = HeaderValue::try_from("v".repeat(length.parse().expect("a length"))).expect("valid");
            for number in 0..count.parse().expect("a count") {
                let name = HeaderName::try_from(format!("x-{number}")).expect("valid");
                response.headers_mut().insert(name, value.clone());
            }
        }
        let Ok(mut body) = respond.send_response(response, false) else { continue };
        match path[0] {
            "stream" => endless.push(body),
            _ => body.send_data(Bytes::from_static(b"ok"), true).expect("sent"),
        }
    }
}

#[tokio::test]
async fn beyond_the_limit_on_streams_another_connection_is_made() {
    let server = Server::start(2).await;
    let _streams = [server.send("GET", "/stream").await, server.send("GET", "/stream").await];
    for _ in 0..3 {
        server.ask("GET").await;
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_connection_is_shared_once_its_stream_limit_is_known() {
    let server = Server::start(2).await;
    let _streams = server.send_all(5, "/stream").await;
    server.send_all(5, "/").await;
    assert!(server.connections() >= 3);
    let server = Server::start(200).await;
    server.send_all(50, "/").await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_header_section_may_be_as_large_as_over_http1() {
    let server = Server::start(100).await;
    for (count, length) in [(20, 1000), (120, 1000), (500, 20), (1, 100_000)] {
        let response = server.send("GET", &format!("/fields/{count}/{length}")).await;
        assert_eq!(response.headers().len(), count);
    }
    for (count, length) in [(140, 1000), (400, 1000), (520, 20)] {
        let error = server.try_send("GET", &format!("/fields/{count}/{length}")).await.err();
        assert_eq!(error, Some(UpstreamError::HeaderTooLarge), "{count} of {length}");
    }
}

#[tokio::test]
async fn a_write_goes_over_no_connection_that_may_be_closing() {
    let server = Server::start(100).await;
    server.ask("GET").await;
    let stream = server.send("GET", "/stream").await;
    let idle_for = async |time: Duration| {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    };
    idle_for(IDLE_TIMEOUT / 2).await;
    // It has a stream.
    server.ask("POST").await;
    assert_eq!(server.connections(), 1);
    drop(stream);
    idle_for(IDLE_TIMEOUT / 2).await;
    server.ask("GET").await;
    server.ask("POST").await;
    assert_eq!(server.connections(), 1);
    idle_for(IDLE_TIMEOUT / 2).await;
    server.ask("POST").await;
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn requests_that_wait_for_the_same_connection_share_its_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let tls = ", connect_timeout: 200ms, tls: {dangerously_accept_any_certificate: true}";
    let upstream = upstream(&listener, "https", tls);
    let connections = Arc::new(AtomicUsize::new(0));
    let server = Server { upstream, connections: connections.clone() };
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::Relaxed);
            open.push(stream);
        }
    });
    let try_send = || {
        let server = server.clone();
        async move { server.try_send("GET", "/").await }
    };
    let answers = all(8, try_send).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(UpstreamError::Unreachable(_)))));
    assert_eq!(server.connections(), 1);
}
