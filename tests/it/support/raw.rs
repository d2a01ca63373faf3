//! A connection for bytes as they are: hostile requests, upgrades, pipelines, uploads in pieces.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::with_deadline;

pub struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("a socket");
        Self { stream: BufReader::new(stream) }
    }

    /// A connection that may be closed by the other side before all is sent is no failure: what it answered says more.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
        self
    }

    /// The head of a response, with its empty line; what there is of it when the connection ends before.
    pub async fn head(&mut self) -> String {
        let mut head = Vec::new();
        with_deadline("the head of a response", async {
            while !head.ends_with(b"\r\n\r\n") {
                if self.stream.read_until(b'\n', &mut head).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        })
        .await;
        String::from_utf8_lossy(&head).into_owned()
    }

    /// The status of the next response, whose head is read; 0 if the connection ends instead.
    pub async fn status(&mut self) -> u16 {
        self.head().await.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub async fn exactly(&mut self, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        with_deadline("bytes", self.stream.read_exact(&mut read)).await.expect("bytes");
        read
    }

    /// Everything up to and with `end`.
    pub async fn read_until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            read.extend(self.exactly(1).await);
        }
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Everything until the other side closes.
    pub async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = with_deadline("the end of the connection", self.stream.read_to_end(&mut rest)).await;
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// The other side closes without another byte.
    pub async fn is_closed(&mut self) {
        assert_eq!(self.rest().await, "");
    }

    /// Leaves for certain: the other side can take a mere end for that of a client that still listens.
    pub fn reset(self) {
        self.stream.get_ref().set_zero_linger().expect("a socket");
    }

    /// Sends no more, and still listens.
    pub async fn half_close(&mut self) {
        let _ = self.stream.get_mut().shutdown().await;
    }
}
