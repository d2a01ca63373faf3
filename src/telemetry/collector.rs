//! Posts to the OpenTelemetry collector: a minimal blocking HTTP/1.1 client, used by the exporting thread every few seconds.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use http::{StatusCode, Uri};

/// Timeout of each step: connect, write, read.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// Only the status line of a response is used, so the rest is read up to this bound.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024;

/// The path for spans, if the URL has none.
const TRACES_PATH: &str = "/v1/traces";

pub(super) struct Collector {
    host: String,
    port: u16,
    /// The field `Host`.
    authority: String,
    /// The path of the URL.
    path: String,
}

impl Collector {
    pub(super) fn new(url: &Uri) -> Self {
        Self {
            host: url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
            port: url.port_u16().unwrap_or(80),
            authority: url.authority().map_or("", |authority| authority.as_str()).to_owned(),
            path: url.path().trim_end_matches('/').to_owned(),
        }
    }

    /// The URL may name the path for spans; the others are then beside it.
    fn target(&self, path: &str) -> String {
        match self.path.strip_suffix(TRACES_PATH) {
            _ if path == TRACES_PATH && !self.path.is_empty() => self.path.clone(),
            Some(base) => format!("{base}{path}"),
            None => format!("{}{path}", self.path),
        }
    }

    /// Posts a message.
    ///
    /// # Errors
    /// It did not arrive, or was refused.
    pub(super) fn post(&self, path: &str, message: &[u8]) -> io::Result<()> {
        let address = (self.host.as_str(), self.port).to_socket_addrs()?.next();
        let address =
            address.ok_or_else(|| io::Error::other(format!("{} resolves to no address", self.host)))?;
        let mut stream = TcpStream::connect_timeout(&address, STEP_TIMEOUT)?;
        stream.set_read_timeout(Some(STEP_TIMEOUT))?;
        stream.set_write_timeout(Some(STEP_TIMEOUT))?;
        let (target, length) = (self.target(path), message.len());
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-protobuf\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n",
            self.authority
        );
        stream.write_all(&[head.as_bytes(), message].concat())?;
        let mut answer = Vec::new();
        stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut answer)?;
        let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let status =
            line.split(|byte| *byte == b' ').nth(1).and_then(|code| StatusCode::from_bytes(code).ok());
        match status {
            Some(status) if status.is_success() => Ok(()),
            Some(status) => Err(io::Error::other(format!("the collector answered {status} to {target}"))),
            None => Err(io::Error::other("the collector's response is not HTTP")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_has_its_path() {
        for (url, traces, metrics) in [
            ("http://a:4318", "/v1/traces", "/v1/metrics"),
            ("http://a:4318/", "/v1/traces", "/v1/metrics"),
            ("http://a/otlp/v1/traces", "/otlp/v1/traces", "/otlp/v1/metrics"),
            ("http://a/spans", "/spans", "/spans/v1/metrics"),
        ] {
            let collector = Collector::new(&url.parse().expect("a URL"));
            assert_eq!(collector.target("/v1/traces"), traces, "{url}");
            assert_eq!(collector.target("/v1/metrics"), metrics, "{url}");
        }
    }
}
