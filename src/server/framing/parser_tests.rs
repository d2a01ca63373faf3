//! The scanner and hyper's parser read the same hostile bytes. Each request that the parser accepts is one that the
//! scanner read too, with the same content.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::config::{ClientShare, Limits};
use crate::memory_budget::MemoryBudget;
use crate::proxy::InterimQueue;
use crate::raw_target::{is_raw, percent_encode};
use crate::server::activity::ConnectionActivity;
use crate::server::client_stream::{ClientStream, Transport};
use crate::server::connection::protocol_builder;

/// The number of hostile connections; `LARDER_READINGS` sets another.
const READINGS: u64 = 3_000;

/// A request as a reader saw it: method and target, and its content if that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    asks: String,
    content: Option<Vec<u8>>,
}

#[tokio::test]
async fn the_parser_accepts_no_request_the_scanner_missed() {
    let readings =
        std::env::var("LARDER_READINGS").ok().and_then(|text| text.parse().ok()).unwrap_or(READINGS);
    let mut taken = 0;
    for seed in 1..=readings {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let bytes = hostile(&mut dice);
        let pieces = [1, 2, 3, 5, 16, 61, 4096][dice.below(7)];
        let ours = scanned(&bytes);
        let theirs = parsed(&bytes, pieces).await;
        taken += theirs.len();
        let shown = bytes.escape_ascii().to_string();
        assert!(theirs.len() <= ours.len(), "{seed}: {theirs:?} of {ours:?} in pieces of {pieces}: {shown}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.asks, theirs.asks, "{seed}: in pieces of {pieces}: {shown}");
            if theirs.content.is_some() {
                assert_eq!(ours.content, theirs.content, "{seed}: in pieces of {pieces}: {shown}");
            }
        }
    }
    assert!(taken as u64 > readings / 4, "most of it is refused at once: {taken}");
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % most
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

const LINES: [&str; 12] = [
    "GET /a?\"<`> HTTP/1.1",
    "PUT http://\"/<p HTTP/1.1",
    "GET /a HTTP/1.1",
    "POST /b HTTP/1.1",
    "POST /b?x=1 HTTP/1.0",
    "HEAD / HTTP/1.1",
    "PUT http://h/p HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "PRI * HTTP/2.0",
    "GET /a b HTTP/1.1",
    "GET /\u{e9} HTTP/1.1",
    "GET /a HTTP/1.1 ",
];

const FIELDS: [&str; 26] = [
    "Host: a",
    "Host: a",
    "Host: a",
    "Host : a",
    "Content-Length: 3",
    "Content-Length: 3",
    "content-length:\t7 ",
    "Content-Length: 0",
    "Content-Length: 3, 3",
    "Content-Length: 0x3",
    "Content-Length: \u{b}3",
    "Content-Length:\u{c}3",
    "Content-Length: 99999999999999999999",
    "Content-Length: 00003",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked",
    "transfer-encoding:\tChunked\t",
    "Transfer-Encoding:\u{c}chunked",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked;q=1",
    "Connection: keep-alive",
    "Connection: close, x",
    "Expect: 100-continue",
    "Upgrade: h2c",
    "X: \"a\r\n b\"",
    "X\u{7f}: 1",
];

const CONTENTS: [&str; 17] = [
    "",
    "",
    "abc",
    "abcdefg",
    "3\r\nabc\r\n0\r\n\r\n",
    "3\r\nabc\r\n0\r\n\r\n",
    "1;x=\"\r\"\r\na\r\n0\r\n\r\n",
    "1 ;x\r\na\r\n00\r\nX: 1\r\n\r\n",
    "1 x\r\na\r\n0\r\n\r\n",
    "10\r\n0123456789abcdef\r\n0\r\n\r\n",
    "2\t\r\nab\r\n0\r\nContent-Length: 5\r\nX:\r\n\r\n",
    "A\r\n0\r\n\r\nGET /\r\n0\r\n\r\n",
    "0\r\n\r",
    "3\r\nab\r\n\r\n0\r\n\r\n",
    "000000000000000000001\r\na\r\n0\r\n\r\n",
    "0\r\nX: 1\r\n folded\r\n\r\n",
    "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
];

const SPLINTERS: [&str; 16] = [
    "\r", "\n", "\r\n", "\r\n\r\n", "\n\n", " ", "\t", "\0", ":", ";", ",", "0", "\u{b}", "\u{c}", "\u{85}",
    "a",
];

/// A few requests one after another, some of them spoilt.
fn hostile(dice: &mut Dice) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..=dice.below(4) {
        if dice.below(8) == 0 {
            text.extend(dice.pick(&["\r\n", "\r\n\r\n", "\n", "\r"]).bytes());
        }
        let begins = text.len();
        // Mostly one that could be meant well.
        let sane = dice.below(3) > 0;
        let line = if sane { LINES[dice.below(5)] } else { dice.pick(&LINES) };
        text.extend(line.bytes().chain(*b"\r\n"));
        if sane {
            text.extend(b"Host: a\r\n");
        }
        let content = if sane {
            let (field, content) = [
                ("", ""),
                ("Content-Length: 3\r\n", "abc"),
                ("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
                ("Transfer-Encoding: chunked\r\n", CONTENTS[dice.below(CONTENTS.len())]),
            ][dice.below(4)];
            text.extend(field.bytes());
            content
        } else {
            for _ in 0..dice.below(5) {
                text.extend(dice.pick(&FIELDS).bytes().chain(*b"\r\n"));
            }
            dice.pick(&CONTENTS)
        };
        text.extend(b"\r\n");
        text.extend(content.bytes());
        if dice.below(3) == 0 {
            let at = begins + dice.below(text.len() - begins + 1);
            let splinter: Vec<u8> = dice.pick(&SPLINTERS).bytes().collect();
            let instead = dice.below(2).min(text.len() - at);
            text.splice(at..at + instead, splinter);
        }
    }
    text
}

/// Requests that the scanner reads, one byte at a time, up to the first fault.
fn scanned(bytes: &[u8]) -> Vec<Seen> {
    let mut scanner = FramingScanner::new(8192);
    let (mut seen, mut begins, mut content) = (Vec::<Seen>::new(), 0, Vec::new());
    for (at, byte) in bytes.iter().enumerate() {
        let (within_head, within_body) = (scanner.is_within_head(), scanner.request_within_body().is_some());
        if !within_head {
            begins = if within_body { begins } else { at };
        }
        if scanner.feed(&[*byte]).is_err() || scanner.is_http2() {
            break;
        }
        if within_body {
            content.push(*byte);
        } else if scanner.is_within_head() || at + 1 - begins <= 2 {
            continue;
        } else {
            let head = String::from_utf8_lossy(&bytes[begins..at]).into_owned();
            let mut words = head.split(' ');
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            // The parser's spelling.
            let raw =
                (0..target.len()).filter(|at| target.starts_with('/') && is_raw(target.as_bytes()[*at]));
            let target = String::from_utf8(percent_encode(target.as_bytes(), raw)).expect("text");
            let target = target.parse::<Uri>().map_or(target, |target| target.to_string());
            let asks = format!("{method} {target}");
            seen.push(Seen { asks, content: None });
        }
        if scanner.request_within_body().is_none()
            && let Some(last) = seen.last_mut()
        {
            let raw = std::mem::take(&mut content);
            let head = &bytes[begins..];
            let head = &head[..memchr::memmem::find(head, b"\r\n\r\n").unwrap_or(head.len())];
            let is_chunked =
                memchr::memmem::find(&head.to_ascii_lowercase(), b"\r\ntransfer-encoding:").is_some();
            last.content = Some(if is_chunked { unchunked(&raw) } else { raw });
        }
    }
    seen
}

/// By the grammar, of what is known to be whole.
fn unchunked(mut raw: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let Some(end) = memchr::memmem::find(raw, b"\r\n") else { return content };
        let digits = raw[..end].split(|byte| !byte.is_ascii_hexdigit()).next().unwrap_or_default();
        let size = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        match size {
            None | Some(0) => return content,
            Some(size) => {
                content.extend_from_slice(&raw[end + 2..end + 2 + size]);
                raw = &raw[end + 2 + size + 2..];
            }
        }
    }
}

/// Requests that the parser accepts, configured as for clients.
async fn parsed(bytes: &[u8], pieces: usize) -> Vec<Seen> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let its = seen.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = its.clone();
        async move {
            let (parts, body) = request.into_parts();
            let at = {
                let mut seen = seen.lock();
                seen.push(Seen { asks: format!("{} {}", parts.method, parts.uri), content: None });
                seen.len() - 1
            };
            if let Ok(whole) = body.collect().await {
                seen.lock()[at].content = Some(whole.to_bytes().to_vec());
            }
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
        }
    });
    let wire = Wire { bytes: bytes.to_vec(), at: 0, pieces };
    let activity = ConnectionActivity::new();
    let strict = ClientStream::new(
        wire,
        &limits(),
        activity,
        InterimQueue::default(),
        MemoryBudget::new(0).open_account(None),
    );
    let builder = protocol_builder(&limits(), MemoryBudget::new(0));
    // How it ends says nothing here.
    let _ended = builder.serve_connection_with_upgrades(TokioIo::new(strict), service).await;
    seen.lock().clone()
}

fn limits() -> Limits {
    let long = Duration::from_secs(60);
    Limits {
        connections: 1,
        purge_targets_per_client: 0,
        cut_writes_per_client: 0,
        unsent_bytes_per_client: 0,
        connections_per_client: ClientShare::Off,
        min_rate: 0,
        header_bytes: 8192,
        header_count: 100,
        header_timeout: long,
        body_timeout: long,
        idle_timeout: long,
        half_close: false,
        tunnel_idle: long,
        drain: long,
    }
}

/// A client that sends in pieces, takes whatever comes, and then goes.
struct Wire {
    bytes: Vec<u8>,
    at: usize,
    pieces: usize,
}

impl Transport for Wire {
    async fn readable(&self) -> io::Result<()> {
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        0
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let end = self.bytes.len().min(self.at + self.pieces.min(buf.remaining()));
        buf.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
