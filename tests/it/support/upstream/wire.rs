//! One connection of the upstream: HTTP/1.1 as bytes.

use std::io;
use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::answer::{Answer, Content, End, Fed};
use super::book::Received;

const PIECE: usize = 64 * 1024;

/// A connection whose request head was read.
pub struct Wire {
    pub head: Received,
    stream: BufReader<TcpStream>,
}

type Written = io::Result<()>;

impl Wire {
    pub(super) fn new(stream: TcpStream, connection: u64) -> Self {
        Self { head: Received { connection, ..Received::default() }, stream: BufReader::new(stream) }
    }

    /// Reads up to the end of the next request's head; `None` when the connection is over.
    pub(super) async fn next_head(&mut self) -> Option<()> {
        let mut words = self.line().await?.split(' ').map(str::to_owned).collect::<Vec<_>>().into_iter();
        let connection = self.head.connection;
        let (method, target) = (words.next()?, words.next()?);
        let headers = self.fields().await?;
        self.head = Received { method, target, headers, connection, ..Received::default() };
        Some(())
    }

    /// Reads the request's content and trailers.
    pub async fn read_body(&mut self) -> io::Result<()> {
        if self.head.header("transfer-encoding").is_some() {
            return self.read_chunked().await;
        }
        let length = self.head.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        self.head.body.resize(length, 0);
        self.stream.read_exact(&mut self.head.body).await.map(drop)
    }

    async fn read_chunked(&mut self) -> io::Result<()> {
        while let Some(chunk) = self.read_chunk().await? {
            self.head.body.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// One chunk of the request's content; `None` after the last, when the trailers are there too.
    pub async fn read_chunk(&mut self) -> io::Result<Option<Bytes>> {
        let line = self.line().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
            .map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 {
            self.head.trailers = self.fields().await.ok_or(io::ErrorKind::UnexpectedEof)?;
            return Ok(None);
        }
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).await?;
        chunk.truncate(size);
        Ok(Some(chunk.into()))
    }

    /// Some bytes as they come; empty at the end of the connection.
    pub async fn read(&mut self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(PIECE);
        let _ = self.stream.read_buf(&mut bytes).await;
        bytes.freeze()
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Written {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Answers, and says whether the connection may carry another request.
    pub(super) async fn answer(&mut self, answer: Answer) -> ControlFlow<()> {
        let closes = self.head.header("connection").is_some_and(|value| value.contains("close"));
        let goes_on = match self.write_answer(&answer).await {
            Ok(()) => match answer.end {
                End::Proper => !closes && !matches!(answer.content, Content::UntilClose(_) | Content::Raw(_)),
                End::Silent | End::SilentAfter(_) => {
                    while !self.read().await.is_empty() {}
                    false
                }
                End::ResetAfter(_) => {
                    let _ = self.stream.get_ref().set_zero_linger();
                    false
                }
                End::CutAfter(_) | End::HangUp => false,
            },
            Err(_) => false,
        };
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    async fn write_answer(&mut self, answer: &Answer) -> Written {
        match (answer.end, &answer.content) {
            (End::HangUp | End::Silent, _) => return Ok(()),
            (_, Content::Raw(bytes)) => return self.write(bytes).await,
            _ => self.write(format_head(answer)).await?,
        }
        if answer.head_only {
            return Ok(());
        }
        match &answer.content {
            Content::Raw(_) => Ok(()),
            Content::Whole(body) | Content::UntilClose(body) => {
                self.write(&body[..up_to(answer.end, body.len())]).await
            }
            Content::Chunked(chunks) => self.write_chunks(answer, chunks).await,
            Content::Generated(length) => self.write_generated(*length).await,
            Content::Fed(parts) => {
                let parts = parts.lock().expect("not poisoned").take();
                self.write_fed(parts.expect("a fed answer is for one request"), has_length(answer)).await
            }
        }
    }

    async fn write_chunks(&mut self, answer: &Answer, chunks: &[Bytes]) -> Written {
        let mut room = up_to(answer.end, usize::MAX);
        for chunk in chunks {
            if room < chunk.len() {
                // The chunk is announced whole, and only its beginning comes.
                self.write(format!("{:x}\r\n", chunk.len())).await?;
                return self.write(&chunk[..room]).await;
            }
            room -= chunk.len();
            self.write_chunk(chunk).await?;
        }
        if answer.end == End::Proper { self.write_last_chunk(&answer.trailers).await } else { Ok(()) }
    }

    async fn write_generated(&mut self, length: u64) -> Written {
        let pattern: Vec<u8> = (0..2 * PIECE as u64).map(Answer::generated_byte).collect();
        let mut sent = 0;
        while sent < length {
            let size = (length - sent).min(PIECE as u64) as usize;
            let from = (sent % Answer::GENERATED_PERIOD) as usize;
            self.write_chunk(&pattern[from..from + size]).await?;
            sent += size as u64;
        }
        self.write_last_chunk(&[]).await
    }

    async fn write_fed(&mut self, mut parts: tokio::sync::mpsc::Receiver<Fed>, has_length: bool) -> Written {
        let mut trailers = vec![];
        loop {
            let mut nothing_expected = [0];
            let part = tokio::select! {
                part = parts.recv() => part,
                // The other side went away: dropping the receiver tells the feed.
                _ = self.stream.read(&mut nothing_expected) => None,
            };
            match part {
                Some(Fed::Part(part)) if has_length => self.write(&part).await?,
                Some(Fed::End) if has_length => return Ok(()),
                Some(Fed::Part(part)) => self.write_chunk(&part).await?,
                Some(Fed::Trailer(name, value)) => trailers.push((name, value)),
                Some(Fed::End) => return self.write_last_chunk(&trailers).await,
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
    }

    async fn write_chunk(&mut self, chunk: &[u8]) -> Written {
        let mut bytes = format!("{:x}\r\n", chunk.len()).into_bytes();
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        self.write(bytes).await
    }

    async fn write_last_chunk(&mut self, trailers: &[(String, String)]) -> Written {
        let trailers: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.write(format!("0\r\n{trailers}\r\n")).await
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = vec![];
        self.stream.read_until(b'\n', &mut line).await.ok()?;
        let line = line.strip_suffix(b"\r\n")?;
        Some(String::from_utf8_lossy(line).into_owned())
    }

    async fn fields(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = vec![];
        loop {
            let line = self.line().await?;
            match line.split_once(':') {
                Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
                None if line.is_empty() => return Some(fields),
                None => return None,
            }
        }
    }
}

fn up_to(end: End, whole: usize) -> usize {
    match end {
        End::CutAfter(bytes) | End::ResetAfter(bytes) | End::SilentAfter(bytes) => bytes.min(whole),
        _ => whole,
    }
}

fn has_length(answer: &Answer) -> bool {
    answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"))
}

fn format_head(answer: &Answer) -> String {
    let reason = http::StatusCode::from_u16(answer.status).ok().and_then(|it| it.canonical_reason());
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason.unwrap_or_default());
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let framed = has_length(answer);
    head += &match &answer.content {
        _ if framed || matches!(answer.status, 204 | 304) => String::new(),
        Content::Whole(body) => format!("content-length: {}\r\n", body.len()),
        Content::UntilClose(_) => "connection: close\r\n".to_owned(),
        _ => "transfer-encoding: chunked\r\n".to_owned(),
    };
    head + "\r\n"
}
