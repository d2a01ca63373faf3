//! A client of the admin listener.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::response::Parts;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::config::Listen;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminAddress {
    /// host:port
    Tcp(String),
    Unix(PathBuf),
}

#[derive(Debug)]
pub(crate) struct AdminClient {
    address: AdminAddress,
    token: Option<String>,
    /// An answer has shown that the address is that of an admin listener.
    is_identified: AtomicBool,
}

/// The field of every answer of an admin listener.
const LISTENER_FIELD: HeaderName = HeaderName::from_static("larder-listener");

/// The first words of its `GET /`.
const INDEX_TITLE: &[u8] = b"larder admin API\n";

/// The timeout of a whole exchange, from connecting to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeouts of a stream of events: to connect, and to the next bytes. larder sends a comment each 15 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(45);

const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

impl AdminClient {
    pub(crate) fn new(address: AdminAddress, token: Option<String>) -> Self {
        Self { address, token, is_identified: AtomicBool::new(false) }
    }

    /// Sends a request. Returns the JSON of a 200, or a message with the fix.
    pub(crate) fn send(&self, method: Method, path: &str, content: Option<&Value>) -> Result<Value, String> {
        new_runtime()?.block_on(self.send_async(method, path, content))
    }

    pub(crate) async fn send_async(
        &self,
        method: Method,
        path: &str,
        content: Option<&Value>,
    ) -> Result<Value, String> {
        if self.token.is_some() || method != Method::GET {
            self.identify(path).await?;
        }
        let request =
            self.request(method, path, content).map_err(|error| format!("invalid request: {error}"))?;
        let (head, content) = self.exchange(request).await?;
        let status = head.status;
        if !is_of_admin_listener(&head) {
            self.identify(path).await.map_err(|_| self.describe_stranger(status))?;
        }
        let not_larder = || self.describe_stranger(status);
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

    /// Fails unless the address is that of an admin listener. A server that is not gets neither a token nor a command.
    async fn identify(&self, path: &str) -> Result<(), RequestError> {
        if self.is_identified.load(Ordering::Relaxed) {
            return Ok(());
        }
        let probe = |method: Method, path: &str| {
            Request::builder()
                .method(method)
                .uri(path)
                .header(HOST, self.address.host())
                .body(Full::default())
        };
        let invalid = |error| RequestError::Refused(format!("invalid request: {error}"));
        // The same path: a proxy in between may pass on no other.
        let path = path.split('?').next().unwrap_or(path);
        let (head, _) = self.exchange(probe(Method::HEAD, path).map_err(invalid)?).await?;
        if !is_of_admin_listener(&head) {
            // Release 0.1.0 has no such field.
            let (index, content) = self.exchange(probe(Method::GET, "/").map_err(invalid)?).await?;
            if index.status != StatusCode::OK || !content.starts_with(INDEX_TITLE) {
                return Err(RequestError::Refused(self.describe_stranger(head.status)));
            }
        }
        self.is_identified.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn describe_stranger(&self, status: StatusCode) -> String {
        format!(
            "{} answers ({status}), but not as larder's admin listener: it may be the API, or the listener for clients\n\
             give the address of `admin.listen` with --admin; no token and no command was sent",
            self.address
        )
    }

    /// Sends a request, and hands its answer's head and each server-sent event to `on_event`. Returns when the stream ends,
    /// or `on_event` returns false.
    pub(crate) fn follow(
        &self,
        method: Method,
        path: &str,
        content: Option<&Value>,
        on_event: impl FnMut(StreamEvent<'_>) -> bool,
    ) -> Result<(), RequestError> {
        let refuse = RequestError::Refused;
        let request = self.request(method, path, content);
        let mut request = request.map_err(|error| refuse(format!("invalid request: {error}")))?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let runtime = new_runtime().map_err(refuse)?;
        runtime.block_on(self.identify(path))?;
        // The stream may end with larder, and another server may have the address for the next one.
        self.is_identified.store(false, Ordering::Relaxed);
        let followed = runtime.block_on(async {
            match &self.address {
                AdminAddress::Tcp(address) => {
                    follow(connect(TcpStream::connect(address)).await?, request, on_event).await
                }
                AdminAddress::Unix(path) => {
                    follow(connect(UnixStream::connect(path)).await?, request, on_event).await
                }
            }
        });
        let (status, content) = followed.map_err(|error| error.describe(&self.address))?;
        if status == StatusCode::OK {
            return Ok(());
        }
        let answer: Value = serde_json::from_slice(&content).unwrap_or_default();
        let message = match (answer["error"].as_str(), answer["fix"].as_str()) {
            (Some(error), Some(fix)) => format!("{error} ({status})\n{fix}"),
            _ => format!("{} answered {status}: {}", self.address, String::from_utf8_lossy(&content)),
        };
        // It starts, stops, or has too many readers for the moment.
        Err(if status == StatusCode::SERVICE_UNAVAILABLE {
            RequestError::Lost(message)
        } else {
            refuse(message)
        })
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

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(Parts, Bytes), RequestError> {
        let exchanged = async {
            match &self.address {
                AdminAddress::Tcp(address) => {
                    exchange(TcpStream::connect(address).await.map_err(ClientError::Connect)?, request).await
                }
                AdminAddress::Unix(path) => {
                    exchange(UnixStream::connect(path).await.map_err(ClientError::Connect)?, request).await
                }
            }
        };
        let address = &self.address;
        let answer = match timeout(REQUEST_TIMEOUT, exchanged).await {
            Ok(answer) => answer.map_err(|error| error.describe(address)),
            Err(_) => {
                let limit = REQUEST_TIMEOUT.as_secs();
                Err(RequestError::Lost(format!("{address} did not answer within {limit} s")))
            }
        };
        if answer.is_err() {
            // Another server may have the address now.
            self.is_identified.store(false, Ordering::Relaxed);
        }
        answer
    }
}

fn is_of_admin_listener(head: &Parts) -> bool {
    head.headers.contains_key(LISTENER_FIELD)
}

fn new_runtime() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|error| format!("can't start: {error}"))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(Parts, Bytes), ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::Http)?;
    let answer = async {
        let (head, content) = sender.send_request(request).await.map_err(ClientError::Http)?.into_parts();
        let content =
            Limited::new(content, MAX_RESPONSE_BYTES).collect().await.map_err(|_| ClientError::CutShort)?;
        Ok((head, content.to_bytes()))
    };
    // The connection must be polled for the exchange to proceed. It ends with the exchange, or breaks it.
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

async fn connect<S>(connecting: impl Future<Output = io::Result<S>>) -> Result<S, ClientError> {
    let connected = timeout(CONNECT_TIMEOUT, connecting).await;
    connected.unwrap_or_else(|elapsed| Err(elapsed.into())).map_err(ClientError::Connect)
}

/// Reads the events of a 200. Returns the status, and the content of any other.
async fn follow<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    mut on_event: impl FnMut(StreamEvent<'_>) -> bool,
) -> Result<(StatusCode, Bytes), ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::Http)?;
    let reading = async {
        let answer = timeout(READ_TIMEOUT, sender.send_request(request)).await;
        let (head, mut content) =
            answer.map_err(|_| ClientError::silent())?.map_err(ClientError::Http)?.into_parts();
        if head.status != StatusCode::OK {
            let content = Limited::new(content, MAX_RESPONSE_BYTES).collect().await;
            return Ok((head.status, content.map_err(|_| ClientError::CutShort)?.to_bytes()));
        }
        if !on_event(StreamEvent::Open) {
            return Ok((head.status, Bytes::new()));
        }
        let mut unread = Vec::new();
        while let Some(frame) =
            timeout(READ_TIMEOUT, content.frame()).await.map_err(|_| ClientError::silent())?
        {
            let frame = frame.map_err(|error| ClientError::Lost(error.to_string()))?;
            unread.extend_from_slice(frame.data_ref().map_or(&[][..], Bytes::as_ref));
            while let Some(end) = unread.windows(2).position(|pair| pair == b"\n\n") {
                let event = String::from_utf8_lossy(&unread[..end]).into_owned();
                unread.drain(..end + 2);
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(name), Some(data)) = (field("event: "), field("data: "))
                    && !on_event(StreamEvent::Event(name, data))
                {
                    return Ok((head.status, Bytes::new()));
                }
            }
            if unread.len() > MAX_RESPONSE_BYTES {
                return Err(ClientError::CutShort);
            }
        }
        Ok((head.status, Bytes::new()))
    };
    tokio::pin!(reading);
    tokio::select! {
        read = &mut reading => read,
        _ = connection => reading.await,
    }
}

/// A part of a stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEvent<'e> {
    /// The answer begins.
    Open,
    /// The name of an event, and its data.
    Event(&'e str, &'e str),
}

/// Why a request failed, as a message.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// It is not answered as it should be, and would not be the next time.
    Refused(String),
    /// There is no connection, or none any more.
    Lost(String),
}

impl From<RequestError> for String {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(message) | RequestError::Lost(message) => message,
        }
    }
}

enum ClientError {
    Connect(io::Error),
    Http(hyper::Error),
    CutShort,
    /// The connection broke while events were read.
    Lost(String),
}

impl ClientError {
    fn silent() -> Self {
        Self::Lost(format!("nothing came for {} s", READ_TIMEOUT.as_secs()))
    }

    fn describe(self, address: &AdminAddress) -> RequestError {
        let is_final = match &self {
            // Anything else than a wrong answer may be because larder ended.
            ClientError::Http(error) => error.is_parse(),
            ClientError::Connect(error) => error.kind() == io::ErrorKind::PermissionDenied,
            ClientError::CutShort | ClientError::Lost(_) => false,
        };
        let message = self.message(address);
        if is_final { RequestError::Refused(message) } else { RequestError::Lost(message) }
    }

    fn message(self, address: &AdminAddress) -> String {
        match self {
            ClientError::Connect(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) =>
            {
                format!("nothing listens on {address}: is larder running, and is this its `admin.listen`?")
            }
            ClientError::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                format!("this user may not open {address}: {error}")
            }
            ClientError::Connect(error) => format!("{address} can't be reached: {error}"),
            ClientError::Http(error) => {
                format!("{address} does not speak HTTP ({error}): is it the address of `admin.listen`?")
            }
            ClientError::Lost(reason) => format!("the connection to {address} was lost: {reason}"),
            ClientError::CutShort => format!("{address} sent an incomplete answer"),
        }
    }
}

impl AdminAddress {
    /// The address to connect to. Listeners on all addresses are reached by loopback.
    pub(crate) fn from_listen(listen: &Listen) -> Self {
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
                AdminAddress::Tcp(address.to_string())
            }
            Listen::Unix(path) => AdminAddress::Unix(path.clone()),
        }
    }

    fn host(&self) -> &str {
        match self {
            AdminAddress::Tcp(address) => address,
            AdminAddress::Unix(_) => "localhost",
        }
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(AdminAddress::Unix(path.into()));
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
        Ok(address
            .parse()
            .map_or(AdminAddress::Tcp(address), |address| AdminAddress::from_listen(&Listen::Tcp(address))))
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminAddress::Tcp(address) => f.write_str(address),
            AdminAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests;
