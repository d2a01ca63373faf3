//! ANSWERS. The pooled client to the one upstream; knows nothing of caching.
//!
//! Bounds what hyper's client leaves unbounded: connections, the time to connect, to answer, and between two parts
//! of a body.

mod body;
mod breaker;
mod connect;
mod destination;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use body::Progress;
pub use body::{BodyCopy, BodyError, RequestBody, UpstreamBody};
use connect::{Connector, Wire};
pub use destination::Destination;

use crate::config::UpstreamHost;

/// One worker's client. Workers share the limit on connections, not the connections.
#[derive(Clone)]
pub struct Upstream {
    client: Client<Connector, RequestBody>,
    destination: Arc<Destination>,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum UpstreamError {
    #[error("all connections to the upstream are in use")]
    Busy,
    #[error("the upstream is not asked for the moment: it failed again and again")]
    Resting,
    #[error("the upstream can't be reached: {0}")]
    Unreachable(String),
    #[error("the upstream did not answer in time")]
    Timeout,
    #[error("the upstream closed the connection before it answered")]
    Closed,
    #[error("the upstream's answer is not valid HTTP: {0}")]
    Invalid(String),
    #[error("the client stopped sending its request")]
    RequestCut,
}

impl UpstreamError {
    /// Whether the upstream may have acted on the request, or may still.
    pub fn may_have_happened(&self) -> bool {
        !matches!(self, UpstreamError::Busy | UpstreamError::Resting | UpstreamError::Unreachable(_))
    }

    /// For metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            UpstreamError::Busy => "busy",
            UpstreamError::Resting => "resting",
            UpstreamError::Unreachable(_) => "unreachable",
            UpstreamError::Timeout => "timeout",
            UpstreamError::Closed => "closed",
            UpstreamError::Invalid(_) => "invalid",
            UpstreamError::RequestCut => "request-cut",
        }
    }
}

impl Upstream {
    pub fn new(destination: Arc<Destination>) -> Self {
        let settings = &destination.settings;
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_timeout)
            .pool_max_idle_per_host(settings.max_connections)
            .http2_only(settings.http2 && destination.scheme == http::uri::Scheme::HTTP)
            .http2_keep_alive_interval(Some(Duration::from_secs(20)))
            .http2_adaptive_window(true)
            .set_host(false)
            .build(destination.connector.clone());
        Self { client, destination }
    }

    pub fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    /// Sends one request. `request` has its path and query, its fields and its body; the address and, if the
    /// configuration says so, the `Host` are filled in here.
    ///
    /// A GET or HEAD without content is sent once more if a reused connection died before a byte of the answer:
    /// the upstream closed it while it was idle.
    pub async fn send(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let slots = self.destination.slots.clone();
        if !self.destination.breaker.admits() {
            return Err(UpstreamError::Resting);
        }
        let slot = match timeout(self.destination.settings.queue_timeout, slots.acquire_owned()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_)) | Err(_) => return Err(UpstreamError::Busy),
        };
        self.address(&mut request)?;
        let may_switch = request.headers().contains_key(UPGRADE);
        let again = repeatable(&request).then(|| copy_of_head(&request));
        let result = match (self.send_once(request).await, again) {
            (Err(Failure { stale_connection: true, .. }), Some(again)) => self.send_once(again).await,
            (result, _) => result,
        };
        let result = result.map_err(|failure| failure.error);
        match &result {
            Ok(_) => self.destination.breaker.succeeded(),
            Err(UpstreamError::Unreachable(_) | UpstreamError::Timeout) => self.destination.breaker.failed(),
            // It is there, whatever it does.
            Err(_) => {}
        }
        let mut response = result?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS && !may_switch {
            // RFC 9110 §15.2.2.
            return Err(UpstreamError::Invalid("101 unasked".into()));
        }
        frame_once(&mut response)?;
        Ok(UpstreamBody::of(response, slot, self.destination.settings.response_timeout))
    }

    async fn send_once(&self, mut request: Request<RequestBody>) -> Result<Response<Incoming>, Failure> {
        let connection = capture_connection(&mut request);
        let progress = request.body().progress();
        let answer = self.client.request(request);
        tokio::pin!(answer);
        loop {
            let patience = progress.patience(self.destination.settings.response_timeout);
            match timeout(patience, &mut answer).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => {
                    let wire = connection.connection_metadata().as_ref().and_then(Wire::of);
                    return Err(Failure::from(error, wire, &progress));
                }
                Err(_) if !progress.patience(self.destination.settings.response_timeout).is_zero() => {}
                Err(_) if progress.is_complete() => return Err(Failure::because(UpstreamError::Timeout)),
                Err(_) => return Err(Failure::because(UpstreamError::RequestCut)),
            }
        }
    }

    fn address(&self, request: &mut Request<RequestBody>) -> Result<(), UpstreamError> {
        let invalid = |error: &dyn std::fmt::Display| UpstreamError::Invalid(error.to_string());
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(self.destination.scheme.clone());
        uri.authority = Some(self.destination.authority.clone());
        *request.uri_mut() = Uri::from_parts(uri).map_err(|error| invalid(&error))?;
        *request.version_mut() =
            if self.destination.settings.http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let host = match &self.destination.settings.host {
            UpstreamHost::Preserve if request.headers().contains_key(http::header::HOST) => None,
            UpstreamHost::Preserve => Some(self.destination.authority.as_str()),
            UpstreamHost::Set(host) => Some(host.as_str()),
        };
        if let Some(host) = host {
            let host = HeaderValue::from_str(host).map_err(|error| invalid(&error))?;
            request.headers_mut().insert(http::header::HOST, host);
        }
        Ok(())
    }
}

/// RFC 9112 §6.3: whatever the upstream said of the length of its content, it goes on with one meaning.
fn frame_once(response: &mut Response<Incoming>) -> Result<(), UpstreamError> {
    let status = response.status();
    let headers = response.headers_mut();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_coded = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        // hyper leaves other codings in the content, and nobody after larder would know.
        _ => return Err(UpstreamError::Invalid("a transfer coding other than chunked".into())),
    };
    if headers.contains_key(CONTENT_LENGTH) {
        match (is_coded || status == StatusCode::NO_CONTENT, length_of(headers)) {
            (false, Some(length)) => drop(headers.insert(CONTENT_LENGTH, length.into())),
            _ => drop(headers.remove(CONTENT_LENGTH)),
        }
    }
    Ok(())
}

/// `None` if it is no number, or several that differ (only possible where there is no content).
fn length_of(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all(CONTENT_LENGTH).iter();
    let mut lengths = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let read = |length: &[u8]| std::str::from_utf8(length.trim_ascii()).ok()?.parse::<u64>().ok();
    let first = read(lengths.next()?)?;
    lengths.all(|length| read(length) == Some(first)).then_some(first)
}

struct Failure {
    error: UpstreamError,
    /// The connection had served before, and died without a byte of an answer to this request.
    stale_connection: bool,
}

impl Failure {
    fn because(error: UpstreamError) -> Self {
        Self { error, stale_connection: false }
    }

    fn from(error: ClientError, wire: Option<Wire>, progress: &Progress) -> Self {
        let cause = innermost(&error);
        if error.is_connect() {
            let is_ours = std::iter::successors(error.source(), |&error| error.source()).any(out_of_room);
            let error = if is_ours { UpstreamError::Busy } else { UpstreamError::Unreachable(cause) };
            return Self::because(error);
        }
        if !progress.is_complete() && progress.is_cut() {
            return Self::because(UpstreamError::RequestCut);
        }
        let hyper = error.source().and_then(|source| source.downcast_ref::<hyper::Error>());
        let error = match hyper {
            Some(hyper) if hyper.is_parse() => UpstreamError::Invalid(cause),
            _ => UpstreamError::Closed,
        };
        let stale_connection = error == UpstreamError::Closed && wire.is_some_and(|wire| wire.died_idle());
        Self { error, stale_connection }
    }
}

/// ENFILE and EMFILE, on every Unix; the standard library has no name for them.
const OUT_OF_FILES: [i32; 2] = [23, 24];

/// This machine has no port or file left for another connection. That says nothing of the upstream.
fn out_of_room(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
            || error.raw_os_error().is_some_and(|error| OUT_OF_FILES.contains(&error))
    })
}

fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn repeatable(request: &Request<RequestBody>) -> bool {
    let safe = *request.method() == http::Method::GET || *request.method() == http::Method::HEAD;
    safe && request.body().is_empty() && !request.headers().contains_key(UPGRADE)
}

fn copy_of_head(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
