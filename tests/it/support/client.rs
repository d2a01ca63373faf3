//! A client that says what it got: each request on a connection of its own, unless told otherwise.

use std::fmt::Display;
use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::{Raw, Reply, eventually, with_deadline};

/// Sends requests to one address.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn get(&self, target: &str) -> Request {
        self.request("GET", target)
    }

    pub fn request(&self, method: &str, target: &str) -> Request {
        Request {
            address: self.address,
            method: method.parse().expect("a method"),
            target: target.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            http2: false,
        }
    }

    /// A connection for bytes as they are.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// A connection for several requests, one after the other.
    pub async fn connection(&self) -> Connection {
        let stream = connect(self.address).await.expect("connected");
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        let guard = Guard(tokio::spawn(async move { drop(connection.await) }).abort_handle());
        Connection { sender, address: self.address, _guard: guard }
    }
}

/// A request to come; `.await` sends it and reads the whole reply.
#[derive(Clone, Debug)]
pub struct Request {
    address: SocketAddr,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
    http2: bool,
}

impl Request {
    /// `host` takes the place of the one that is sent by default: the listener's address.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a field name");
        self.headers.append(name, HeaderValue::from_str(value).expect("a field value"));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub fn over_http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Sends it, and returns when the head of the reply is there.
    pub async fn start(self) -> Streaming {
        self.try_start().await.expect("a response")
    }

    /// Like [`Request::start`], for replies that may never come.
    pub async fn try_start(self) -> Result<Streaming, String> {
        let what = format!("a response to {} {}", self.method, self.target);
        with_deadline(&what, self.exchange()).await
    }

    /// The whole reply, or what went wrong.
    pub async fn attempt(self) -> Result<Reply, String> {
        self.try_start().await?.whole().await
    }

    /// Sends it from a task of its own, so that the story can go on meanwhile.
    pub fn spawn(self) -> tokio::task::JoinHandle<Reply> {
        tokio::spawn(self.into_future())
    }

    async fn exchange(self) -> Result<Streaming, String> {
        let stream = TokioIo::new(connect(self.address).await?);
        let (response, guard) = if self.http2 {
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
            let (mut sender, connection) = handshake.await.map_err(message)?;
            let guard = Guard(tokio::spawn(async move { drop(connection.await) }).abort_handle());
            (sender.send_request(self.for_http2()).await, guard)
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(stream).await.map_err(message)?;
            let guard = Guard(tokio::spawn(async move { drop(connection.await) }).abort_handle());
            (sender.send_request(self.for_http1()).await, guard)
        };
        Ok(Streaming::new(response.map_err(message)?, Some(guard)))
    }

    fn for_http1(self) -> http::Request<Full<Bytes>> {
        let mut request = http::Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target.parse().expect("a target");
        *request.headers_mut() = self.headers;
        let host = HeaderValue::from_str(&self.address.to_string()).expect("an address");
        request.headers_mut().entry("host").or_insert(host);
        request
    }

    fn for_http2(mut self) -> http::Request<Full<Bytes>> {
        let host = self.headers.remove("host");
        let host = host.map_or_else(|| self.address.to_string(), |host| host.to_str().unwrap().to_owned());
        self.target = format!("http://{host}{}", self.target);
        let mut request = self.for_http1();
        request.headers_mut().remove("host");
        *request.version_mut() = http::Version::HTTP_2;
        request
    }
}

impl IntoFuture for Request {
    type Output = Reply;
    type IntoFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let what = format!("{} {}", self.method, self.target);
            self.attempt().await.unwrap_or_else(|error| panic!("{what}: {error}"))
        })
    }
}

/// One connection that is kept.
pub struct Connection {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    address: SocketAddr,
    _guard: Guard,
}

impl Connection {
    pub async fn get(&mut self, target: &str) -> Reply {
        with_deadline("the connection is ready", self.sender.ready()).await.expect("open");
        let request = Client::new(self.address).get(target).for_http1();
        let response =
            with_deadline("a response", self.sender.send_request(request)).await.expect("a response");
        Streaming::new(response, None).whole().await.expect("a whole response")
    }

    /// Waits until the other side closes it.
    pub async fn closed(&self) {
        let sender = &self.sender;
        eventually("the connection is closed", || async { sender.is_closed().then_some(()) }).await;
    }
}

/// A reply whose content is still coming. Dropped, it is a client that goes away.
pub struct Streaming {
    pub status: u16,
    pub headers: HeaderMap,
    body: Incoming,
    trailers: Option<HeaderMap>,
    _guard: Option<Guard>,
}

impl Streaming {
    fn new(response: Response<Incoming>, guard: Option<Guard>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status.as_u16(), headers: parts.headers, body, trailers: None, _guard: guard }
    }

    /// The next part of the content; `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        while let Some(frame) = with_deadline("the next part", self.body.frame()).await {
            match frame.map_err(message)?.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        Ok(None)
    }

    /// Reads until the content so far ends with `part`.
    pub async fn read_until(&mut self, part: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(part.as_bytes()) {
            let next = self.next().await.expect("no break");
            read.extend_from_slice(&next.unwrap_or_else(|| panic!("ended before {part:?}: {read:?}")));
        }
        String::from_utf8(read).expect("text")
    }

    /// Reads to the end.
    pub async fn whole(mut self) -> Result<Reply, String> {
        let mut body = Vec::new();
        while let Some(part) = self.next().await? {
            body.extend_from_slice(&part);
        }
        Ok(Reply { status: self.status, headers: self.headers, body: body.into(), trailers: self.trailers })
    }

    /// Reads until the reply breaks off, and fails if it ends as if it were whole.
    pub async fn broken_off(mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(part)) => body.extend_from_slice(&part),
                Ok(None) => panic!("a cut reply looks whole: {:?}", String::from_utf8_lossy(&body)),
                Err(_) => return body,
            }
        }
    }
}

/// Ends the task that serves a connection, and with it the connection.
struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).await.map_err(message)?;
    stream.set_nodelay(true).map_err(message)?;
    Ok(stream)
}

fn message(error: impl Display) -> String {
    error.to_string()
}
