//! No client address can take all connections, or hold one by dripping bytes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Larder, Raw, Upstream, with_deadline};

const GET: &str = "GET /held HTTP/1.1\r\nHost: api\r\n\r\n";

/// A connection from another address of this machine.
async fn connect_from(address: &str, larder: &Larder) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{address}:0").parse().expect("an address")).expect("bound");
    socket.connect(larder.address()).await.expect("connected")
}

async fn status_from(address: &str, larder: &Larder) -> String {
    let mut stream = connect_from(address, larder).await;
    stream.write_all(b"GET /quick HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    with_deadline("an answer", stream.read_to_string(&mut answer)).await.expect("read");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn beyond_its_limit_a_client_is_refused_and_others_are_served() {
    let upstream = Upstream::start();
    let larder = Larder::with("limits: {connections_per_client: 3}\nroutes: []", &upstream);
    let held = upstream.hold_every("/held");
    let mut busy = Vec::new();
    for _ in 0..3 {
        let mut raw = larder.raw().await;
        raw.send(GET).await;
        busy.push(raw);
    }
    held.arrived_times(3).await;
    let mut refused = larder.raw().await;
    refused.send(GET).await;
    assert_eq!(refused.status().await, 503);
    assert_eq!(status_from("127.0.0.2", &larder).await, "HTTP/1.1 200 OK");
    larder.metric("larder_connections_refused_total{by=\"client-limit\"}").await;
    held.release();
    for raw in &mut busy {
        assert_eq!(raw.status().await, 200);
    }
}

#[tokio::test]
async fn an_idle_connection_of_the_client_makes_room_for_a_new_one() {
    let upstream = Upstream::start();
    let larder = Larder::with("limits: {connections_per_client: 2}\nroutes: []", &upstream);
    let mut idle = larder.connection().await;
    idle.get("/a").await.assert_status(200);
    let held = upstream.hold("/held");
    let mut busy = larder.raw().await;
    busy.send(GET).await;
    held.arrived().await;
    larder.get("/b").await.assert_status(200);
    idle.closed().await;
    held.release();
    assert_eq!(busy.status().await, 200);
}

#[tokio::test]
async fn proxies_that_are_trusted_are_not_bounded() {
    let upstream = Upstream::start();
    let yaml = "trusted_proxies: [127.0.0.0/8]\nlimits: {connections_per_client: 1}\nroutes: []";
    let larder = Larder::with(yaml, &upstream);
    let held = upstream.hold_every("/held");
    let mut all: Vec<Raw> = Vec::new();
    for _ in 0..5 {
        let mut raw = larder.raw().await;
        raw.send(GET).await;
        all.push(raw);
    }
    held.arrived_times(5).await;
    held.release();
    for raw in &mut all {
        assert_eq!(raw.status().await, 200);
    }
}

#[tokio::test]
async fn idle_connections_make_room_when_all_slots_are_taken() {
    let upstream = Upstream::start();
    let larder = Larder::with("limits: {connections: 2}\nroutes: []", &upstream);
    let (mut first, mut second) = (larder.connection().await, larder.connection().await);
    first.get("/a").await.assert_status(200);
    second.get("/a").await.assert_status(200);
    assert_eq!(status_from("127.0.0.2", &larder).await, "HTTP/1.1 200 OK");
}

/// The parser of a connection is released after a second, and no timer is due for an hour.
#[tokio::test]
async fn a_connection_without_a_parser_makes_room() {
    let upstream = Upstream::start();
    let limits = "{connections: 2, idle_timeout: 1h, header_timeout: 1h, body_timeout: 1h}";
    let larder = Larder::with(&format!("limits: {limits}\nroutes: []"), &upstream);
    let (mut first, mut second) = (larder.connection().await, larder.connection().await);
    first.get("/a").await.assert_status(200);
    second.get("/a").await.assert_status(200);
    // The first makes room, so the second has been idle for as long.
    assert_eq!(status_from("127.0.0.2", &larder).await, "HTTP/1.1 200 OK");
    first.closed().await;
    let held = upstream.hold("/held");
    let mut busy = larder.raw().await;
    busy.send(GET).await;
    held.arrived().await;
    assert_eq!(status_from("127.0.0.2", &larder).await, "HTTP/1.1 200 OK");
    second.closed().await;
    held.release();
    assert_eq!(busy.status().await, 200);
}

#[tokio::test]
async fn a_dripping_upload_is_ended() {
    let upstream = Upstream::start();
    let limits = "limits: {body_timeout: 500ms, min_rate: 100KiB}";
    for buffered in ["0", "64KiB"] {
        let yaml = format!(
            "upstream: {{url: \"${{UPSTREAM}}\", buffer_requests: {buffered}}}\n{limits}\nroutes: []"
        );
        let larder = Larder::with(&yaml, &upstream);
        let stream = TcpStream::connect(larder.address()).await.expect("connected");
        let (mut read, mut write) = stream.into_split();
        write
            .write_all(b"POST /up HTTP/1.1\r\nHost: api\r\nContent-Length: 60000\r\n\r\n")
            .await
            .expect("sent");
        let dripping = tokio::spawn(async move {
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut answer = [0; 12];
        with_deadline("an answer", read.read_exact(&mut answer)).await.expect("read");
        assert_eq!(&answer, b"HTTP/1.1 408", "{buffered}");
        with_deadline("the connection is closed", dripping).await.expect("ended");
    }
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_sends() {
    let upstream = Upstream::start();
    upstream.take_over("/up", |mut wire| async move {
        let answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
        _ = wire.write(answer).await;
    });
    let larder = Larder::with("routes: []", &upstream);
    for _ in 0..10 {
        let mut stream = TcpStream::connect(larder.address()).await.expect("connected");
        let head = "POST /up HTTP/1.1\r\nHost: api\r\nContent-Length: 30000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("sent");
        // The client reads only when it has sent everything, or can't send any more.
        let part = vec![0; 64 * 1024];
        for _ in 0..400 {
            if with_deadline("a part is sent", stream.write_all(&part)).await.is_err() {
                break;
            }
        }
        let mut answer = Vec::new();
        with_deadline("the answer", stream.read_to_end(&mut answer)).await.expect("not reset");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("big"), "{answer}");
    }
}
