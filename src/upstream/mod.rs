//! ANSWERS. The pooled client to the one upstream; knows nothing of caching.
//!
//! Bounds what hyper's client leaves unbounded: connections, the time to connect, to answer, and between two parts
//! of a body.

mod body;
mod breaker;
mod connect;
mod destination;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use body::Progress;
pub use body::{BodyError, RequestBody, UpstreamBody};
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
        let response = result?;
        Ok(response.map(|body| UpstreamBody::new(body, slot, self.destination.settings.response_timeout)))
    }

    async fn send_once(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<hyper::body::Incoming>, Failure> {
        let connection = capture_connection(&mut request);
        let progress = request.body().progress();
        let answer = self.client.request(request);
        tokio::pin!(answer);
        loop {
            let patience = progress.look_after(self.destination.settings.response_timeout);
            match timeout(patience, &mut answer).await {
                Ok(Ok(response)) if has_unknown_coding(response.headers()) => {
                    let what = "a transfer coding other than chunked";
                    return Err(Failure::because(UpstreamError::Invalid(what.to_owned())));
                }
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => {
                    let wire = connection.connection_metadata().as_ref().and_then(Wire::of);
                    return Err(Failure::from(error, wire, &progress));
                }
                Err(_) if !progress.patience(self.destination.settings.response_timeout).is_zero() => {}
                Err(_) if progress.is_clients_turn() => {
                    return Err(Failure::because(UpstreamError::RequestCut));
                }
                Err(_) => return Err(Failure::because(UpstreamError::Timeout)),
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
            return Self::because(UpstreamError::Unreachable(cause));
        }
        if !progress.is_complete() && progress.is_cut() {
            return Self::because(UpstreamError::RequestCut);
        }
        let hyper =
            std::error::Error::source(&error).and_then(|source| source.downcast_ref::<hyper::Error>());
        let error = match hyper {
            Some(hyper) if hyper.is_parse() => UpstreamError::Invalid(cause),
            _ => UpstreamError::Closed,
        };
        let stale_connection = error == UpstreamError::Closed && wire.is_some_and(|wire| wire.died_idle());
        Self { error, stale_connection }
    }
}

/// RFC 9112 §7: what is left of it, once `chunked` is undone, is not the content; and where its framing is anyone's guess
/// (§6.3), so is where the answer ends.
fn has_unknown_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(http::header::TRANSFER_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn repeatable(request: &Request<RequestBody>) -> bool {
    let safe = *request.method() == http::Method::GET || *request.method() == http::Method::HEAD;
    safe && request.body().is_empty() && !request.headers().contains_key(http::header::UPGRADE)
}

fn copy_of_head(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
