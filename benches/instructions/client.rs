//! Asks one thing after another over one connection, and the upstream that answers the misses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::Failure;

pub struct Client {
    stream: BufReader<TcpStream>,
    /// Lines of each request's header section.
    fields: &'static str,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream: BufReader::new(stream), fields: "" })
    }

    /// With these lines in each GET.
    pub fn with_fields(self, fields: &'static str) -> Self {
        Self { fields, ..self }
    }

    /// Sends a GET with the nine fields that a browser sends.
    pub fn get(&mut self, path: &str) -> Result<String, Failure> {
        let fields = self.fields;
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
             Accept: application/json\r\nAccept-Language: en\r\nAccept-Encoding: gzip, br\r\n\
             Referer: https://example.com/courses\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-site\r\n\
             X-Request-Id: 0123456789abcdef\r\n{fields}\r\n"
        ))
    }

    pub fn post(&mut self, path: &str, json: &str) -> Result<String, Failure> {
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n\
             {json}",
            json.len()
        ))
    }

    /// The head of the answer.
    fn send(&mut self, request: &str) -> Result<String, Failure> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        let head = head(&mut self.stream)?.ok_or("the connection ended before the answer")?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("not a 200: {head}").into());
        }
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        std::io::copy(&mut (&mut self.stream).take(length.unwrap_or(0)), &mut std::io::sink())?;
        Ok(head)
    }
}

/// Answers each GET with 1 KiB that can be kept, and as many tags as the last segment of the path says.
pub fn upstream() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drop(answer_all(stream)));
        }
    });
    Ok(address)
}

fn answer_all(stream: TcpStream) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(head) = head(&mut reader)? {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let tags: usize = path.rsplit('/').next().and_then(|last| last.parse().ok()).unwrap_or(1);
        let tags = (0..tags).map(|n| format!("tag-{n}")).collect::<Vec<_>>().join(",");
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
             ETag: \"v1\"\r\nCache-Control: max-age=86400\r\nCache-Tag: {tags}\r\nContent-Length: 1024\r\n\r\n{}",
            "x".repeat(1024)
        );
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// Up to the empty line; `None` at the end of the connection.
fn head(reader: &mut impl BufRead) -> Result<Option<String>, Failure> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}
