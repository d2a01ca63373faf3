//! Many slow readers of one fetch: what larder holds is the response once, and little for each reader.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Answer, Process, Upstream, content, eventually, one_crowd, with_deadline};

/// The operating system's buffers are not larder's, but they are this machine's.
const RECEIVE_BUFFER: u32 = 16 * 1024;

/// With `LARDER_LONG=1` two thousand readers of 32 MiB.
#[tokio::test]
async fn readers_of_one_fetch_however_slow_share_one_buffer() {
    let long = std::env::var("LARDER_LONG").is_ok_and(|long| long == "1");
    let (count, length) = if long { (2000, 32 << 20) } else { (200, 8 << 20) };
    let _only = one_crowd(count).await;
    let upstream = Upstream::start();
    upstream.on("/large", Answer::generated(length));
    let yaml = "upstream: {url: \"${UPSTREAM}\", response_timeout: 10m}\n\
                limits: {body_timeout: 10m, connections: 5000, connections_per_client: off}\n\
                routes: [{path: /large, ttl: 1h, max_size: 40MiB}, {path: /small, ttl: 1h}]";
    let larder = Process::with(yaml, &upstream).await;
    larder.get("/small").await.assert_stored();
    let idle = larder.memory_now();
    let held = upstream.hold("/large");
    let mut readers = Vec::with_capacity(count);
    for _ in 0..count {
        readers.push(ask(larder.address()).await);
    }
    held.arrived().await;
    eventually("all have asked", || async {
        (larder.metric("larder_connections").await >= count as f64).then_some(())
    })
    .await;
    held.release();
    let fills = "larder_fills_total{route=\"/large\"}";
    eventually("the response is whole", || async { (larder.metric(fills).await == 1.0).then_some(()) }).await;
    // A little by each, again and again: all stand at different places.
    for turn in 0..4 {
        for (number, reader) in readers.iter_mut().enumerate() {
            with_deadline("a part", reader.take(1 + (number * 997 + turn) % 40_000)).await;
        }
    }
    let (now, peak) = (larder.memory_now().saturating_sub(idle), larder.peak_memory().saturating_sub(idle));
    let each = now.saturating_sub(length) / count as u64;
    println!(
        "{count} readers of {} MiB: {} MiB more than idle, {} MiB at most",
        length >> 20,
        now >> 20,
        peak >> 20
    );
    println!("{} KiB for each reader beside the one buffer", each >> 10);
    assert!(peak <= 3 * length + count as u64 * 32 * 1024, "{peak} bytes for {count} readers");
    // Some read to the end, and the others go: whoever stays gets every byte.
    let some: Vec<_> = readers.into_iter().step_by(count / 10).collect();
    for reader in some {
        with_deadline("the whole", reader.read_on(length)).await;
    }
    assert_eq!(upstream.count("/large"), 1);
}

struct Reader {
    stream: TcpStream,
    read: Vec<u8>,
}

async fn ask(address: SocketAddr) -> Reader {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(RECEIVE_BUFFER).expect("a smaller buffer");
    let mut stream = socket.connect(address).await.expect("connected");
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n").await.expect("sent");
    Reader { stream, read: Vec::new() }
}

impl Reader {
    async fn take(&mut self, bytes: usize) {
        let from = self.read.len();
        self.read.resize(from + bytes, 0);
        self.stream.read_exact(&mut self.read[from..]).await.expect("it goes on");
    }

    /// Reads the rest, and checks all of it.
    async fn read_on(mut self, length: u64) {
        self.stream.read_to_end(&mut self.read).await.expect("a whole reply");
        let body = content(&self.read);
        assert!(body.len() as u64 == length, "{} bytes", body.len());
        assert!((0..length).map(Answer::generated_byte).eq(body.iter().copied()), "other bytes");
    }
}
