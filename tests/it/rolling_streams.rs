//! Rolling restarts while a WebSocket, an event stream, a gRPC call and an upload are open: the old process carries each to
//! its end, and the new one takes what comes.

use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::Request;
use tokio::net::TcpStream;

use crate::socket_handover::on;
use crate::support::{Answer, Client, Feed, Process, Raw, Upstream, Wire, eventually, with_deadline};

const RESTARTS: usize = 20;

/// `limits.drain` is longer than all of them take.
const YAML: &str = "limits: {drain: 1h}\nroutes: [{path: /call, purges: []}, {path: /ws}]";

const SWITCHED: &str = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const CALL_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n\
                         Transfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n";

fn upstream() -> Upstream {
    let upstream = Upstream::start();
    upstream.take_over("/ws", async |mut wire: Wire| {
        _ = wire.write(SWITCHED).await;
        loop {
            let bytes = wire.read().await;
            if bytes.is_empty() || wire.write(&bytes).await.is_err() {
                return;
            }
        }
    });
    upstream.take_over("/call", async |mut wire: Wire| {
        _ = wire.write(CALL_HEAD).await;
        while let Ok(Some(message)) = wire.read_chunk().await {
            let chunk = [format!("{:x}\r\n", message.len()).as_bytes(), &message, b"\r\n"].concat();
            _ = wire.write(chunk).await;
        }
        _ = wire.write("0\r\ngrpc-status: 0\r\n\r\n").await;
    });
    upstream
}

/// A call that streams both ways over HTTP/2.
struct Call {
    sent: SendStream<Bytes>,
    received: RecvStream,
}

impl Call {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        let (sender, connection) = h2::client::handshake(stream).await.expect("a connection");
        tokio::spawn(connection);
        let mut sender = with_deadline("ready", sender.ready()).await.expect("open");
        let request = Request::post("http://api/call").header("te", "trailers");
        let request = request.header("content-type", "application/grpc").body(()).expect("a request");
        let (response, sent) = sender.send_request(request, false).expect("sent");
        let response = with_deadline("a response", response).await.expect("a response");
        assert_eq!(response.status(), 200);
        Self { sent, received: response.into_body() }
    }

    async fn exchange(&mut self, message: &str) {
        self.sent.send_data(Bytes::copy_from_slice(message.as_bytes()), false).expect("open");
        let mut answer = Vec::new();
        while answer.len() < message.len() {
            let part = with_deadline("a message", self.received.data()).await;
            let part = part.expect("no end").expect("no reset");
            self.received.flow_control().release_capacity(part.len()).expect("open");
            answer.extend(part);
        }
        assert_eq!(answer, message.as_bytes());
    }

    async fn end(mut self) {
        self.sent.send_data(Bytes::new(), true).expect("open");
        assert!(with_deadline("the end", self.received.data()).await.is_none());
        let trailers = self.received.trailers().await.expect("no reset").expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
    }
}

/// One of each kind, on one process.
struct Streams {
    socket: Raw,
    events: Raw,
    feed: Feed,
    call: Call,
    upload: Raw,
    uploaded: usize,
}

impl Streams {
    async fn open(address: SocketAddr, upstream: &Upstream) -> Self {
        let client = Client::new(address);
        let mut socket = client.raw().await;
        socket
            .send("GET /ws HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        assert_eq!(socket.status().await, 101);
        let (answer, feed) = Answer::fed();
        upstream.once("/events", answer.header("content-type", "text/event-stream"));
        let mut events = client.raw().await;
        events.send("GET /events HTTP/1.1\r\nHost: api\r\nAccept: text/event-stream\r\n\r\n").await;
        assert_eq!(events.status().await, 200);
        let call = Call::open(address).await;
        let mut upload = client.raw().await;
        upload.send("POST /up HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        Self { socket, events, feed, call, upload, uploaded: 0 }
    }

    /// Each carries a message.
    async fn exchange(&mut self, message: &str) {
        // A text frame of a server, which the upstream echoes.
        let frame = [&[0x81, u8::try_from(message.len()).expect("short")], message.as_bytes()].concat();
        self.socket.send(&frame).await;
        assert_eq!(self.socket.exactly(frame.len()).await, frame);
        self.feed.send(format!("data: {message}\n\n")).await;
        self.events.read_until(&format!("data: {message}\n\n")).await;
        self.call.exchange(message).await;
        self.upload.send(format!("{:x}\r\n{message}\r\n", message.len())).await;
        self.uploaded += message.len();
    }

    async fn end(mut self, upstream: &Upstream) {
        self.feed.end().await;
        self.events.read_until("0\r\n\r\n").await;
        self.call.end().await;
        self.upload.send("0\r\n\r\n").await;
        assert_eq!(self.upload.status().await, 200);
        assert_eq!(upstream.last("/up").body.len(), self.uploaded);
    }
}

async fn is_draining(process: &Process) {
    eventually("it drains", || async {
        process.admin.get("/readyz").attempt().await.ok().filter(|reply| reply.status == 503)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_rolling_restarts_break_no_open_stream() {
    let upstream = upstream();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("an address");
    let mut process = on(&socket, &upstream, YAML).await;
    for restart in 0..RESTARTS {
        let mut streams = Streams::open(address, &upstream).await;
        streams.exchange("before").await;
        let next = on(&socket, &upstream, YAML).await;
        streams.exchange("beside the next").await;
        process.signal("TERM");
        is_draining(&process).await;
        for number in 0..3 {
            streams.exchange(&format!("restart {restart}, message {number}")).await;
        }
        // And those that come meanwhile are the next one's.
        Client::new(address).get("/a").await.assert_status(200);
        streams.end(&upstream).await;
        assert!(process.ended().await.success());
        process = next;
    }
}
