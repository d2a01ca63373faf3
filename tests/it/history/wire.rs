//! A client's connection, kept from one request to the next. By hand: the driver shares its machine with what it drives.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

pub struct Wire {
    address: SocketAddr,
    kept: Option<BufReader<TcpStream>>,
}

/// A whole reply; of its header section what matters here.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub is_hit: bool,
    pub has_position: bool,
    pub has_retry_after: bool,
    pub body: Vec<u8>,
}

impl Wire {
    pub fn to(address: SocketAddr) -> Self {
        Self { address, kept: None }
    }

    /// Sends a request and reads its reply. Given up, it takes the connection with it.
    pub async fn ask(&mut self, request: &str) -> Result<Answer, String> {
        let mut stream = match self.kept.take().filter(is_open) {
            Some(kept) => kept,
            None => {
                let stream = TcpStream::connect(self.address).await.map_err(message)?;
                stream.set_nodelay(true).map_err(message)?;
                BufReader::with_capacity(32 * 1024, stream)
            }
        };
        stream.write_all(request.as_bytes()).await.map_err(message)?;
        let (answer, stays) = read(&mut stream).await?;
        self.kept = stays.then_some(stream);
        Ok(answer)
    }
}

fn is_open(stream: &BufReader<TcpStream>) -> bool {
    let nothing_yet = |result: std::io::Result<usize>| {
        result.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    stream.buffer().is_empty() && nothing_yet(stream.get_ref().try_read(&mut [0]))
}

/// The reply, and whether the connection goes on.
async fn read(stream: &mut BufReader<TcpStream>) -> Result<(Answer, bool), String> {
    let status = line(stream).await?;
    let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut answer = Answer { status: status.ok_or("no status line")?, ..Answer::default() };
    let (mut length, mut stays) = (None, true);
    loop {
        let line = line(stream).await?;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { return Err(format!("no field: {line}")) };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse::<usize>().map_err(message)?),
            "connection" => stays = !value.eq_ignore_ascii_case("close"),
            "cache-status" => answer.is_hit = value.contains("larder; hit"),
            "larder-position" => answer.has_position = true,
            "retry-after" => answer.has_retry_after = true,
            _ => {}
        }
    }
    match length {
        Some(length) => {
            answer.body.resize(length, 0);
            stream.read_exact(&mut answer.body).await.map_err(message)?;
        }
        None => loop {
            let size = usize::from_str_radix(&line(stream).await?, 16).map_err(message)?;
            let begin = answer.body.len();
            answer.body.resize(begin + size, 0);
            stream.read_exact(&mut answer.body[begin..]).await.map_err(message)?;
            line(stream).await?;
            if size == 0 {
                break;
            }
        },
    }
    Ok((answer, stays))
}

async fn line(stream: &mut BufReader<TcpStream>) -> Result<String, String> {
    let mut line = String::new();
    stream.read_line(&mut line).await.map_err(message)?;
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| "the connection ended early".to_owned())
}

fn message(error: impl std::fmt::Display) -> String {
    error.to_string()
}
