//! A separate connection to a port whose failure is ambiguous: does it speak TLS, plain Redis, or nothing at all?
//!
//! It sends no login: a `PING` or a TLS ClientHello, nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failure_reason::PortFinding;
use crate::config::RedisHost;

/// For connecting, and again for the first byte of the answer.
const STEP_TIMEOUT: Duration = Duration::from_millis(300);

/// First bytes of TLS records: an alert, and a part of the handshake.
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];

/// Tries the protocol that larder does not use on this port. `None`: the port can't be reached, or answers otherwise.
pub(super) async fn probe_port(host: &RedisHost, uses_tls: bool) -> Option<PortFinding> {
    let hello = if uses_tls { b"PING\r\n".to_vec() } else { client_hello(&host.host).ok()? };
    match (first_byte(host, &hello).await, uses_tls) {
        (Some(Ok(b'+' | b'-')), true) => Some(PortFinding::SpeaksPlainRedis),
        (Some(Ok(byte)), false) if TLS_RECORDS.contains(&byte) => Some(PortFinding::SpeaksTls),
        (Some(Err(())), _) => Some(PortFinding::Silent),
        _ => None,
    }
}

/// The first byte of the answer; `Err` if none came in time, `None` if there is no connection or it ended.
async fn first_byte(host: &RedisHost, hello: &[u8]) -> Option<Result<u8, ()>> {
    let connect = TcpStream::connect((host.host.as_str(), host.port));
    let mut stream = timeout(STEP_TIMEOUT, connect).await.ok()?.ok()?;
    stream.write_all(hello).await.ok()?;
    match timeout(STEP_TIMEOUT, stream.read_u8()).await {
        Ok(byte) => byte.ok().map(Ok),
        Err(_) => Some(Err(())),
    }
}

fn client_hello(host: &str) -> io::Result<Vec<u8>> {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    Ok(hello)
}
