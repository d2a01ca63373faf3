//! A proxy in front of Redis that refuses some commands, as Envoy's and those of cloud providers do.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// The commands that a proxy refuses, in upper case.
#[derive(Clone, Copy, Debug)]
pub enum Refuse {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

pub struct RespProxy(SocketAddr);

impl RespProxy {
    pub async fn start(target: SocketAddr, refuse: Refuse) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(async move { drop(relay(client, target, refuse).await) });
            }
        });
        Self(address)
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.0)
    }
}

async fn relay(client: TcpStream, target: SocketAddr, refuse: Refuse) -> std::io::Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    tokio::select! {
        result = forward(from_client, to_server, refuse) => result,
        copied = tokio::io::copy(&mut from_server, &mut to_client) => copied.map(drop),
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, refuse: Refuse) -> std::io::Result<()> {
    let mut pending = Vec::new();
    while from.read_buf(&mut pending).await? > 0 {
        while let Some((length, name)) = parse_command(&pending) {
            let command: Vec<u8> = pending.drain(..length).collect();
            match refuse.has(&name.to_uppercase()) {
                // Redis itself refuses this name, so the error comes in the order of the replies.
                true => {
                    let name = format!("{name}' ");
                    to.write_all(format!("*1\r\n${}\r\n{name}\r\n", name.len()).as_bytes()).await?;
                }
                false => to.write_all(&command).await?,
            }
        }
    }
    Ok(())
}

impl Refuse {
    fn has(self, name: &str) -> bool {
        match self {
            Refuse::Only(names) => names.contains(&name),
            Refuse::AllBut(names) => !names.contains(&name),
        }
    }
}

/// The length of the first command and its name; `None` until it is there whole. HELLO comes as a line.
fn parse_command(bytes: &[u8]) -> Option<(usize, String)> {
    if bytes.first().is_some_and(|first| *first != b'*') {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let line = String::from_utf8_lossy(&bytes[..end]);
        return Some((end + 2, line.split(' ').next().unwrap_or_default().to_owned()));
    }
    let (words, mut at) = parse_number(bytes, 0, b'*')?;
    let mut name = None;
    for _ in 0..words {
        let (length, start) = parse_number(bytes, at, b'$')?;
        let word = bytes.get(start..start + length)?;
        name = name.or_else(|| Some(String::from_utf8_lossy(word).into_owned()));
        at = start + length + 2;
    }
    (at <= bytes.len()).then_some((at, name?))
}

/// The number of a line that begins with `kind`, and where the next line begins.
fn parse_number(bytes: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let line = bytes.get(at..)?.strip_prefix(&[kind])?;
    let end = line.windows(2).position(|pair| pair == b"\r\n")?;
    let number = std::str::from_utf8(&line[..end]).ok()?.parse().ok()?;
    Some((number, at + 1 + end + 2))
}
