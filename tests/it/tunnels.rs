//! Upgraded connections: they count, they drain, and a WebSocket is told that larder stops.

use crate::support::{Larder, Raw, Upstream};

const WS: &str = "GET /ws HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn echoing() -> Upstream {
    let upstream = Upstream::start();
    upstream.take_over("/ws", |mut wire| async move {
        let switched = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        _ = wire.write(switched).await;
        loop {
            let bytes = wire.read().await;
            if bytes.is_empty() || wire.write(&bytes).await.is_err() {
                return;
            }
        }
    });
    upstream
}

async fn open(larder: &Larder) -> Raw {
    let mut raw = larder.raw().await;
    raw.send(WS).await;
    assert_eq!(raw.status().await, 101);
    raw
}

/// A text frame of a server with one letter, which the upstream echoes.
const FRAME: &[u8] = &[0x81, 1, b'a'];

#[tokio::test]
async fn tunnels_count_as_connections_until_they_end() {
    let upstream = echoing();
    let larder = Larder::with("limits: {connections_per_client: 2}\nroutes: []", &upstream);
    let first = open(&larder).await;
    let mut second = open(&larder).await;
    larder.metric_becomes("larder_connections", 2.0).await;
    let mut third = larder.raw().await;
    third.send(WS).await;
    assert_eq!(third.status().await, 503);
    second.send(FRAME).await;
    assert_eq!(second.exactly(3).await, FRAME);
    drop((first, second));
    larder.metric_becomes("larder_connections", 0.0).await;
    open(&larder).await;
}

#[tokio::test]
async fn a_tunnel_goes_on_while_larder_drains_and_is_told_at_the_end() {
    let upstream = echoing();
    let mut larder = Larder::with("limits: {drain: 3s}\nroutes: []", &upstream);
    let mut tunnel = open(&larder).await;
    tunnel.send(FRAME).await;
    assert_eq!(tunnel.exactly(3).await, FRAME);
    larder.shut_down();
    // A connection that is refused shows that the shutdown has begun.
    crate::support::eventually("nobody new gets in", || async { larder.get("/a").attempt().await.err() })
        .await;
    tunnel.send(FRAME).await;
    assert_eq!(tunnel.exactly(3).await, FRAME);
    // The close frame of a server with the code 1001, and the end.
    assert_eq!(tunnel.exactly(4).await, [0x88, 2, 0x03, 0xe9]);
    tunnel.is_closed().await;
    larder.stopped().await.expect("stopped");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_tunnels_that_end() {
    let upstream = echoing();
    let mut larder = Larder::with("limits: {drain: 1h}\nroutes: []", &upstream);
    let tunnel = open(&larder).await;
    larder.shut_down();
    drop(tunnel);
    larder.stopped().await.expect("stopped");
}
