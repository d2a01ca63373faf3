//! ANSWERS. The pooled client to the one upstream; knows nothing of caching.
//!
//! Bounds what hyper's client leaves unbounded: connections, the time to connect, to answer, and between two parts
//! of a body.

mod body;
mod breaker;
mod connect;
mod destination;
mod failure;
mod lane;
mod pool;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout};

pub use body::{BodyCopy, BodyError, RequestBody, UpstreamBody};
use connect::{Connector, Wire};
pub use destination::Destination;
use failure::Failure;
use pool::{Loan, Pool};

use crate::config::UpstreamHost;

/// One worker's client. Workers share the limit on connections, not the connections.
#[derive(Clone)]
pub struct Upstream {
    means: Means,
    destination: Arc<Destination>,
}

#[derive(Clone)]
enum Means {
    /// HTTP/1.1, one request at a time on each connection.
    Lanes(Arc<Pool>),
    /// HTTP/2.
    Streams(Box<Client<Connector, RequestBody>>),
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
        let means = if destination.settings.http2 {
            Means::Streams(Box::new(streams(&destination)))
        } else {
            Means::Lanes(Pool::new(
                destination.connector.clone(),
                destination.origin(),
                destination.settings.idle_timeout,
            ))
        };
        Self { means, destination }
    }

    pub fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    /// Sends one request. `request` has its path and query, its fields and its body; the address and, if the
    /// configuration says so, the `Host` are filled in here.
    ///
    /// A GET or HEAD without content is sent once more if a reused connection died before a byte of the answer:
    /// the upstream closed it while it was idle.
    // A request is large, and handed on from future to future: so it comes in a box.
    pub async fn send(
        &self,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        if !self.destination.breaker.admits() {
            return Err(UpstreamError::Resting);
        }
        let slots = &self.destination.slots;
        let slot = match slots.clone().try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                match timeout(self.destination.settings.queue_timeout, slots.clone().acquire_owned()).await {
                    Ok(Ok(slot)) => slot,
                    Ok(Err(_)) | Err(_) => return Err(UpstreamError::Busy),
                }
            }
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
        let (mut response, loan) = result?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS && !may_switch {
            // RFC 9110 §15.2.2.
            return Err(UpstreamError::Invalid("101 unasked".into()));
        }
        frame_once(&mut response)?;
        Ok(UpstreamBody::of(response, loan, slot, self.destination.settings.response_timeout))
    }

    async fn send_once(&self, request: Box<Request<RequestBody>>) -> Result<Answer, Failure> {
        let progress = request.body().progress();
        let answer = async {
            match &self.means {
                Means::Lanes(pool) => by_lane(pool, request).await,
                Means::Streams(client) => by_stream(client, request).await,
            }
        };
        tokio::pin!(answer);
        let (began, limit) = (Instant::now(), self.destination.settings.response_timeout);
        let mut patience = limit;
        loop {
            match timeout(patience, &mut answer).await {
                Ok(answer) => return answer,
                Err(_) => patience = progress.patience(limit, began),
            }
            if patience.is_zero() {
                return Err(Failure::because(match progress.is_complete() {
                    true => UpstreamError::Timeout,
                    false => UpstreamError::RequestCut,
                }));
            }
        }
    }

    fn address(&self, request: &mut Request<RequestBody>) -> Result<(), UpstreamError> {
        let invalid = |error: &dyn std::fmt::Display| UpstreamError::Invalid(error.to_string());
        if self.destination.settings.http2 {
            let mut uri = std::mem::take(request.uri_mut()).into_parts();
            uri.scheme = Some(self.destination.scheme.clone());
            uri.authority = Some(self.destination.authority.clone());
            *request.uri_mut() = Uri::from_parts(uri).map_err(|error| invalid(&error))?;
        }
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

/// The head of an answer, and what its body comes over.
type Answer = (Response<Incoming>, Option<Loan>);

async fn by_lane(pool: &Arc<Pool>, mut request: Box<Request<RequestBody>>) -> Result<Answer, Failure> {
    let progress = request.body().progress();
    loop {
        let (mut lane, is_new) = match pool.take() {
            Some(lane) => (lane, false),
            // In a box: connecting takes a lot of room, and happens rarely.
            None => {
                let connected = Box::pin(pool.connect()).await;
                (connected.map_err(|error| Failure::unreachable(&*error))?, true)
            }
        };
        match lane.send(*request).await {
            Ok(response) => {
                let loan = Loan::new(lane, progress.is_complete(), pool.clone());
                return Ok((response, Some(loan)));
            }
            Err(mut error) => match error.take_message() {
                // It closed while it idled, and nothing was sent.
                Some(unsent) if !is_new => *request = unsent,
                _ => return Err(Failure::of(&error.into_error(), lane.wire().died_idle(), &progress)),
            },
        }
    }
}

fn streams(destination: &Destination) -> Client<Connector, RequestBody> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(destination.settings.idle_timeout)
        .http2_only(destination.scheme == http::uri::Scheme::HTTP)
        .http2_keep_alive_interval(Some(Duration::from_secs(20)))
        .http2_adaptive_window(true)
        .set_host(false)
        .build(destination.connector.clone())
}

async fn by_stream(
    client: &Client<Connector, RequestBody>,
    mut request: Box<Request<RequestBody>>,
) -> Result<Answer, Failure> {
    let connection = capture_connection(&mut request);
    let progress = request.body().progress();
    let answer = client.request(*request).await;
    if let Ok(response) = &answer
        && !progress.is_complete()
        && response.version() < Version::HTTP_2
    {
        // As in a `Loan`.
        connection.connection_metadata().iter().for_each(Connected::poison);
    }
    answer.map(|response| (response, None)).map_err(|error| {
        let wire = connection.connection_metadata().as_ref().and_then(Wire::of);
        match error.is_connect() {
            true => Failure::unreachable(&error),
            false => Failure::of(&error, wire.is_some_and(|wire| wire.died_idle()), &progress),
        }
    })
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

fn repeatable(request: &Request<RequestBody>) -> bool {
    let safe = *request.method() == http::Method::GET || *request.method() == http::Method::HEAD;
    safe && request.body().is_empty() && !request.headers().contains_key(UPGRADE)
}

fn copy_of_head(request: &Request<RequestBody>) -> Box<Request<RequestBody>> {
    let mut copy = Box::new(Request::new(RequestBody::empty()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
