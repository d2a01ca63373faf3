//! One request to the admin listener and its answer.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::Listen;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// host:port
    Tcp(String),
    Unix(PathBuf),
}

#[derive(Debug)]
pub struct Client {
    address: Address,
    token: Option<String>,
}

/// For connecting, asking and the whole answer.
const TIMEOUT: Duration = Duration::from_secs(10);

const MAX_ANSWER: usize = 16 * 1024 * 1024;

impl Client {
    pub fn new(address: Address, token: Option<String>) -> Self {
        Self { address, token }
    }

    /// The JSON of a 200, or what is wrong and how to mend it.
    pub fn send(&self, method: Method, path: &str, content: Option<&Value>) -> Result<Value, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("could not start: {error}"))?;
        runtime.block_on(self.ask(method, path, content))
    }

    pub async fn ask(&self, method: Method, path: &str, content: Option<&Value>) -> Result<Value, String> {
        let address = &self.address;
        let request = self.request(method, path, content).map_err(|error| format!("can't ask: {error}"))?;
        let answer = match tokio::time::timeout(TIMEOUT, self.exchange(request)).await {
            Ok(answer) => answer.map_err(|trouble| trouble.explained(address))?,
            Err(_) => return Err(format!("{address} did not answer within {} s", TIMEOUT.as_secs())),
        };
        let (status, content) = answer;
        let not_larder =
            || format!("{address} answered {status}, and not as larder does: is it `admin.listen`?");
        let content: Value = serde_json::from_slice(&content).map_err(|_| not_larder())?;
        if status == StatusCode::OK {
            return Ok(content);
        }
        match (content["error"].as_str(), content["fix"].as_str(), content["status"].as_str()) {
            (Some(error), Some(fix), _) => Err(format!("{error} ({status})\n{fix}")),
            (_, _, Some(phase)) => Err(format!("not ready: {phase}")),
            _ => Err(not_larder()),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.address.host());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        match content {
            Some(content) => {
                request.header(CONTENT_TYPE, "application/json").body(Full::from(content.to_string()))
            }
            None => request.body(Full::default()),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Trouble> {
        match &self.address {
            Address::Tcp(address) => {
                exchange(TcpStream::connect(address).await.map_err(Trouble::Connect)?, request).await
            }
            Address::Unix(path) => {
                exchange(UnixStream::connect(path).await.map_err(Trouble::Connect)?, request).await
            }
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Trouble::Http)?;
    let answer = async {
        let (head, content) = sender.send_request(request).await.map_err(Trouble::Http)?.into_parts();
        let content = Limited::new(content, MAX_ANSWER).collect().await.map_err(|_| Trouble::CutShort)?;
        Ok((head.status, content.to_bytes()))
    };
    // The connection does the work; it ends when the answer is there and the sender is gone, or when it breaks, and
    // then the answer says so.
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

enum Trouble {
    Connect(io::Error),
    Http(hyper::Error),
    CutShort,
}

impl Trouble {
    fn explained(self, address: &Address) -> String {
        match self {
            Trouble::Connect(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) =>
            {
                format!("nothing listens on {address}: is larder running, and is `admin.listen` the same?")
            }
            Trouble::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                format!("{address} may not be opened by this user: {error}")
            }
            Trouble::Connect(error) => format!("{address} can't be reached: {error}"),
            Trouble::Http(error) => {
                format!("{address} does not answer as HTTP ({error}): is it `admin.listen`?")
            }
            Trouble::CutShort => format!("the answer of {address} broke off"),
        }
    }
}

impl Address {
    /// An address that stands for all of a machine's is reached by loopback.
    pub fn of(listen: &Listen) -> Self {
        match listen {
            Listen::Tcp(address) => {
                let mut address = *address;
                match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip([127, 0, 0, 1].into()),
                    IpAddr::V6(ip) if ip.is_unspecified() => {
                        address.set_ip(std::net::Ipv6Addr::LOCALHOST.into())
                    }
                    _ => {}
                }
                Address::Tcp(address.to_string())
            }
            Listen::Unix(path) => Address::Unix(path.clone()),
        }
    }

    fn host(&self) -> &str {
        match self {
            Address::Tcp(address) => address,
            Address::Unix(_) => "localhost",
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Address::Unix(path.into()));
        }
        if text.starts_with("https://") {
            return Err("the admin listener speaks http, not https".into());
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let refuse = || format!("write http://127.0.0.1:9090, 127.0.0.1:9090 or unix:/path, not {text:?}");
        let (host, port) = authority.rsplit_once(':').ok_or_else(refuse)?;
        let is_bare_ipv6 = host.contains(':') && !host.ends_with(']');
        if host.contains(['/', '@', '?']) || is_bare_ipv6 || port.parse::<u16>().is_err() {
            return Err(refuse());
        }
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        let address = format!("{host}:{port}");
        Ok(address.parse().map_or(Address::Tcp(address), |address| Address::of(&Listen::Tcp(address))))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => f.write_str(address),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests;
