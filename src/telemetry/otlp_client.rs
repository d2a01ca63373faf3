//! Minimal blocking HTTP/1.1 client, called by the exporting thread every few seconds.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response, StatusCode};
use opentelemetry_http::{Bytes, HttpClient, HttpError};

/// Timeout of each step: connect, write, read.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// Only the status line of a response is used, so the rest is read up to this bound.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct OtlpHttpClient;

#[async_trait]
impl HttpClient for OtlpHttpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let status = send(&request)?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status;
        Ok(response)
    }
}

fn send(request: &Request<Bytes>) -> io::Result<StatusCode> {
    let uri = request.uri();
    let host = uri.host().unwrap_or_default();
    let address = (host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80)).to_socket_addrs()?.next();
    let address = address.ok_or_else(|| io::Error::other(format!("{host} resolves to no address")))?;
    let mut stream = TcpStream::connect_timeout(&address, STEP_TIMEOUT)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    stream.write_all(&encode_request(request))?;
    let mut answer = Vec::new();
    stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut answer)?;
    let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let status = line.split(|byte| *byte == b' ').nth(1).and_then(|code| StatusCode::from_bytes(code).ok());
    status.ok_or_else(|| io::Error::other("the collector's response is not HTTP"))
}

fn encode_request(request: &Request<Bytes>) -> Vec<u8> {
    let uri = request.uri();
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut bytes = format!("{} {target} HTTP/1.1\r\nhost: {host}\r\n", request.method()).into_bytes();
    for (name, value) in request.headers() {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let length = request.body().len();
    bytes.extend(format!("content-length: {length}\r\nconnection: close\r\n\r\n").into_bytes());
    bytes.extend_from_slice(request.body());
    bytes
}
