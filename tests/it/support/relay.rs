//! A wire between larder and Redis that the test can slow down, cut, or let go dead.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A dead line takes no more than this.
const MAX_HELD: usize = 1 << 20;

/// How what Redis says arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Whole,
    /// Each piece this much later.
    Late(Duration),
    /// Byte by byte, with this pause.
    Trickling(Duration),
    /// After so many bytes of a connection, a reset.
    ResetAfter(usize),
    /// Nothing arrives, in either direction, and nobody is told.
    Dead,
    /// This instead of everything that Redis says.
    Garbage(&'static [u8]),
    /// Every connection ends, and no other one lasts.
    Cut,
}

pub struct Relay {
    address: SocketAddr,
    target: Arc<watch::Sender<SocketAddr>>,
    line: Arc<watch::Sender<Line>>,
    /// Bytes held back on their way to Redis since the connection went dead.
    held: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let line = Arc::new(watch::Sender::new(Line::Whole));
        let held = Arc::<Mutex<Vec<u8>>>::default();
        let (its_line, its_held) = (line.clone(), held.clone());
        let (target, target_now) = watch::channel(target);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (line, held, target) = (its_line.subscribe(), its_held.clone(), *target_now.borrow());
                tokio::spawn(async move {
                    let mut cut = line.clone();
                    tokio::select! {
                        result = carry(client, target, line, held) => drop(result),
                        _ = cut.wait_for(|line| *line == Line::Cut) => {}
                    }
                });
            }
        });
        Self { address, target: Arc::new(target), line, held }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Connections that are made from now on lead there.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    pub fn set(&self, line: Line) {
        self.held.lock().unwrap().clear();
        self.line.send_replace(line);
    }

    /// Whether this is among what larder has sent since the line went dead.
    pub fn holds(&self, text: &str) -> bool {
        self.held.lock().unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

async fn carry(
    client: TcpStream,
    target: SocketAddr,
    line: watch::Receiver<Line>,
    held: Arc<Mutex<Vec<u8>>>,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    let (mut client_in, client_out) = client.into_split();
    let (server_in, mut server_out) = server.into_split();
    let asking_line = line.clone();
    let asking = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let mut length = client_in.read(&mut buffer).await?;
            let mut waits = buffer[..length].to_vec();
            if *asking_line.borrow() == Line::Dead {
                held.lock().unwrap().extend_from_slice(&waits);
                // Later bytes must be visible, whatever came before them.
                while length > 0 && waits.len() < MAX_HELD {
                    tokio::select! {
                        () = alive(&asking_line) => break,
                        read = client_in.read(&mut buffer) => length = read?,
                    }
                    waits.extend_from_slice(&buffer[..length]);
                    held.lock().unwrap().extend_from_slice(&buffer[..length]);
                }
            }
            alive(&asking_line).await;
            server_out.write_all(&waits).await?;
            if length == 0 {
                return Ok(());
            }
        }
    };
    tokio::select! {
        result = asking => result,
        result = answering(server_in, client_out, line) => result,
    }
}

async fn answering(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    line: watch::Receiver<Line>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut carried = 0;
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        alive(&line).await;
        let piece = &buffer[..length];
        let now = *line.borrow();
        match now {
            Line::Whole | Line::Dead | Line::Cut => to.write_all(piece).await?,
            Line::Late(by) => {
                tokio::time::sleep(by).await;
                to.write_all(piece).await?;
            }
            Line::Trickling(pause) => {
                for (sent, byte) in piece.iter().enumerate() {
                    if *line.borrow() != now {
                        to.write_all(&piece[sent..]).await?;
                        break;
                    }
                    to.write_all(&[*byte]).await?;
                    tokio::time::sleep(pause).await;
                }
            }
            Line::ResetAfter(limit) => {
                carried += length;
                if carried >= limit {
                    to.write_all(&piece[..length / 2]).await?;
                    to.as_ref().set_zero_linger()?;
                    return Ok(());
                }
                to.write_all(piece).await?;
            }
            Line::Garbage(bytes) => to.write_all(bytes).await?,
        }
    }
}

/// Waits while the line is dead.
async fn alive(line: &watch::Receiver<Line>) {
    let mut line = line.clone();
    let _ = line.wait_for(|line| *line != Line::Dead).await;
}
