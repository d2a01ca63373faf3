//! ANSWERS. The pooled client to the upstream, of one instance or several; knows nothing of caching.
//!
//! Bounds what hyper's client leaves unbounded: connections, and the time to connect, to answer, and between two parts
//! of a body.

mod balancer;
mod body;
mod body_error;
mod breaker;
mod client_shares;
mod connect;
mod connect_attempt;
mod connection_login;
mod content_end;
mod continue_gate;
mod destination;
mod error_kind;
mod failure;
mod framing;
mod held_content;
mod http1_connection;
mod http2_connection;
#[cfg(test)]
mod http2_tests;
mod instance;
mod observed_keep_alive;
mod pool;
mod protocols;
mod request_body;
mod request_progress;
mod resolve;
mod slot;
mod slots;
mod stream_kind;
mod streamed_content;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, timeout};

use balancer::{Attempts, Balancer, Member};
pub(crate) use body::{CountCutResponses, UpstreamBody};
pub(crate) use body_error::BodyError;
pub(crate) use client_shares::ClientNetwork;
pub(crate) use content_end::ContentEnd;
pub(crate) use continue_gate::ContinueGate;
pub(crate) use destination::Destination;
use failure::{SendFailure, advice_on_alert, describe_reset};
pub(crate) use framing::StrayContent;
use framing::{frame_content, normalize_framing};
pub(crate) use held_content::CapturedBody;
use instance::Instance;
use pool::{Checkout, Http1Guard, PooledConnection, RequestKind, RequestRest};
use protocols::Protocols;
pub(crate) use request_body::RequestBody;
pub(crate) use request_progress::RequestProgress;
pub(crate) use resolve::keep_resolving;
use slot::Slot;
use stream_kind::{StreamKind, stream_kind};
pub(crate) use streamed_content::{TrailerVerdict, UploadLimits};

use crate::config::UpstreamHost;

/// One worker's client. Workers share the limit on connections, not the connections.
#[derive(Clone)]
pub(crate) struct Upstream {
    balancer: Arc<ArcSwap<Balancer>>,
    destination: Arc<Destination>,
}

/// The time-outs of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// From the end of the request to the response's head.
    pub response: Duration,
    /// Between two parts of the response's body.
    pub idle: Duration,
    /// Between two parts of an event stream, a gRPC response or lines of JSON.
    pub stream_idle: Duration,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    #[error("all connections to the upstream are in use")]
    Busy,
    #[error(
        "this client uses all connections to the upstream that one client may (`upstream.max_per_client`)"
    )]
    ClientBusy,
    #[error("upstream circuit breaker is open after repeated failures")]
    CircuitOpen,
    #[error("the upstream can't be reached: {0}")]
    Unreachable(String),
    #[error("the upstream did not answer in time")]
    Timeout,
    #[error("the upstream closed the connection before it answered")]
    Closed,
    #[error("{}", describe_reset(*.0))]
    Reset(h2::Reason),
    #[error("the upstream refused the TLS connection: {0}{advice}", advice = advice_on_alert(.0))]
    TlsRefused(String),
    #[error("the upstream's answer is not valid HTTP: {0}")]
    Invalid(String),
    #[error(
        "the upstream's header section is larger than larder takes: it has more fields than `upstream.header_count`, or more \
         bytes than `upstream.header_bytes`"
    )]
    HeaderTooLarge,
    #[error("the client stopped sending its request")]
    RequestCut,
    #[error("the client did not send all of its request, and nothing of it was forwarded")]
    RequestIncomplete,
    /// `is_sent`: a part of the request was forwarded.
    #[error("bad request: {fault}")]
    RequestMalformed { fault: &'static str, is_sent: bool },
}

impl UpstreamError {
    /// Returns whether the upstream may have acted on the request, or may still.
    pub(crate) fn may_have_happened(&self) -> bool {
        !matches!(
            self,
            UpstreamError::Busy
                | UpstreamError::ClientBusy
                | UpstreamError::CircuitOpen
                | UpstreamError::Unreachable(_)
                | UpstreamError::RequestIncomplete
                | UpstreamError::RequestMalformed { is_sent: false, .. }
        )
    }

    /// The label in metrics.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            UpstreamError::Busy => "busy",
            UpstreamError::ClientBusy => "client-busy",
            UpstreamError::CircuitOpen => "circuit-open",
            UpstreamError::Unreachable(_) => "unreachable",
            UpstreamError::Timeout => "timeout",
            UpstreamError::Closed => "closed",
            UpstreamError::Reset(_) => "reset",
            UpstreamError::TlsRefused(_) => "tls-refused",
            UpstreamError::Invalid(_) => "invalid",
            UpstreamError::HeaderTooLarge => "header-too-large",
            UpstreamError::RequestCut => "request-cut",
            UpstreamError::RequestIncomplete => "request-incomplete",
            UpstreamError::RequestMalformed { .. } => "request-malformed",
        }
    }
}

impl Upstream {
    pub(crate) fn new(destination: Arc<Destination>) -> Self {
        Self { balancer: Arc::new(ArcSwap::from_pointee(Balancer::new(&destination, None))), destination }
    }

    pub(crate) fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    fn balancer(&self) -> Arc<Balancer> {
        let balancer = self.balancer.load_full();
        if balancer.is_up_to_date_with(&self.destination) {
            return balancer;
        }
        let balancer = Arc::new(Balancer::new(&self.destination, Some(&balancer)));
        self.balancer.store(balancer.clone());
        balancer
    }

    /// Sends a request that has its path and query, its fields and its body, to one instance of the upstream. The
    /// upstream's address and, if the configuration says so, the `Host` are filled in.
    ///
    /// A request that the upstream certainly did not process is sent again if its content is known (RFC 9113 §8.7), or was
    /// forwarded up to `buffer_requests` at most. A GET or HEAD without content is also sent again when the upstream closed a reused connection without an answer, or, to
    /// another instance, when it closed any.
    // Boxed, because a request is large and moves through several futures.
    pub(crate) async fn send(
        &self,
        mut request: Box<Request<RequestBody>>,
        timeouts: Timeouts,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        if !self.balancer().may_send() {
            return Err(UpstreamError::CircuitOpen);
        }
        self.buffer_content(request.body_mut(), timeouts).await?;
        let is_upload = request.body().is_streamed();
        let client = request.extensions_mut().remove::<ClientNetwork>();
        let mut slot = self.destination.slots.acquire(client, is_upload).await?;
        let may_switch = request.headers().contains_key(UPGRADE);
        let (mut response, connection) = self.send_with_retries(request, timeouts, &mut slot).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS && !may_switch {
            // RFC 9110 §15.2.2.
            return Err(UpstreamError::Invalid("101 unasked".into()));
        }
        normalize_framing(&mut response)?;
        let (slot, idle_timeout) = match stream_kind(&response) {
            None => (slot, timeouts.idle),
            Some(kind) => match (self.destination.slots.move_to_streams(slot), kind) {
                (Ok(slot), _) | (Err((slot, _)), StreamKind::Mixed) => (slot, timeouts.stream_idle),
                (Err((_, error)), StreamKind::Endless) => return Err(error),
            },
        };
        let response = UpstreamBody::from_response(response, connection, slot, idle_timeout);
        self.destination.slots.register(response.body().held());
        Ok(response)
    }

    /// Whether a request of this client would wait for others of the same client.
    pub(crate) fn is_share_used_up(&self, client: ClientNetwork) -> bool {
        self.destination.slots.is_share_used_up(client)
    }

    /// Reads a content of up to `buffer_requests` whole, so that a slow client holds nothing while it sends.
    ///
    /// # Errors
    ///
    /// The client does not send all of it.
    pub(crate) async fn buffer_content(
        &self,
        content: &mut RequestBody,
        timeouts: Timeouts,
    ) -> Result<(), UpstreamError> {
        let limit = self.destination.settings.buffer_requests;
        content.buffer(limit, timeouts.response).await.map_err(|error| {
            tracing::debug!(%error, "request not forwarded");
            error.into()
        })
    }

    /// Sends to one instance after another, as long as the failures allow it.
    async fn send_with_retries(
        &self,
        mut request: Box<Request<RequestBody>>,
        timeouts: Timeouts,
        slot: &mut Slot,
    ) -> Result<ConnectionResponse, UpstreamError> {
        let balancer = self.balancer();
        let (mut attempts, mut error) = (Attempts::default(), UpstreamError::CircuitOpen);
        let began = Instant::now();
        let has_host = has_host(&request);
        while let Some(at) = balancer.choose(&mut attempts, &request) {
            let member = balancer.member(at);
            slot.assign(&member.instance);
            self.set_host(&mut request, has_host, &member.instance)?;
            let copy = self.copy_for_replay(&request);
            let sent = member.instance.breaker.begin_request(timeouts.response);
            let mut failure = match self.send_once(member, request, timeouts.response, began).await {
                Ok(response) => {
                    balancer.record_success(at);
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            balancer.record_failure((at, sent), &attempts, &failure);
            let again = balancer.retry(&mut attempts, at, &mut failure, copy);
            error = failure.error;
            match again.filter(|_| began.elapsed() < timeouts.response) {
                Some(again) => {
                    again.body().begin_again();
                    request = again;
                }
                None => break,
            }
        }
        Err(error)
    }

    /// Copies a request that may have to be sent again; over HTTP/1.1 that is one that is safe to repeat.
    fn copy_for_replay(&self, request: &Request<RequestBody>) -> Option<Box<Request<RequestBody>>> {
        if !self.destination.settings.http2 && !is_repeatable(request) {
            return None;
        }
        let mut copy =
            Box::new(Request::new(request.body().replay(self.destination.settings.buffer_requests)?));
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        *copy.extensions_mut() = request.extensions().clone();
        Some(copy)
    }

    /// `limit`: the time for the response, from `began` or from the client's last progress.
    async fn send_once(
        &self,
        member: &Member,
        request: Box<Request<RequestBody>>,
        limit: Duration,
        began: Instant,
    ) -> Result<ConnectionResponse, SendFailure> {
        let (progress, is_streamed) = (request.body().progress(), request.body().is_streamed());
        let mut response = std::pin::pin!(self.send_over_pool(member, request));
        let mut remaining = progress.remaining_time(limit, began);
        loop {
            match timeout(remaining, &mut response).await {
                Ok(response) => return response,
                Err(_) => remaining = progress.remaining_time(limit, began),
            }
            if remaining.is_zero() {
                // The client is not asked for its content before a connection has the request.
                let waits_for_client = is_streamed && progress.is_handed_over() && !progress.is_complete();
                return Err(SendFailure::new(match waits_for_client {
                    true => progress.cut_error(),
                    false => UpstreamError::Timeout,
                }));
            }
        }
    }

    /// Sends over an open connection or a new one. A request that was certainly not sent goes over the next one.
    async fn send_over_pool(
        &self,
        Member { instance, pool }: &Member,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<ConnectionResponse, SendFailure> {
        let progress = request.body().progress();
        // RFC 9113 §8.6: HTTP/2 has no Upgrade.
        let allowed = match request.headers().contains_key(UPGRADE) {
            true => Protocols::Http1,
            false => Protocols::Http2,
        };
        loop {
            let kind = RequestKind {
                is_repeatable: is_repeatable(&request),
                has_content: !request.body().is_empty(),
                is_storable: request.extensions().get::<StorableFetch>().is_some(),
            };
            let checkout = match pool.checkout_idle(allowed, kind) {
                Some(checkout) => checkout,
                // Boxed, because connecting takes much room, and is rare.
                None => match Box::pin(pool.connect(allowed, kind)).await {
                    Ok(checkout) => checkout,
                    Err(error) => return Err(SendFailure::unreachable(&*error, request)),
                },
            };
            let (failed, is_new, may_be_stale) = match checkout {
                Checkout::Http1 { mut connection, idle } => {
                    if !kind.is_repeatable && !connection.is_still_open(idle).await {
                        pool.record_close(idle);
                        continue;
                    }
                    to_http1(&mut request)?;
                    let is_exclusive = connection_login::is_exclusive(&request);
                    progress.set_handed_over(true);
                    let gate = request.body().continue_gate();
                    match connection.send(*request).await {
                        Ok(mut response) => {
                            connection.set_keep_alive(response.headers());
                            if response.status() == StatusCode::NO_CONTENT
                                && connection.has_stray_content(&response)
                            {
                                response.extensions_mut().insert(StrayContent);
                            }
                            let is_shared =
                                !is_exclusive && !connection_login::asks_for_login(response.headers());
                            let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                            let rest = match is_shared && progress.is_complete() {
                                true => RequestRest::Nothing,
                                false if !is_upgrade && gate.is_some_and(|gate| gate.refuse()) => {
                                    RequestRest::Unwanted
                                }
                                false => RequestRest::Sent,
                            };
                            let guard = Http1Guard::new(connection, rest, pool.clone());
                            return Ok((response, Some(PooledConnection::Http1(guard))));
                        }
                        Err(failed) => {
                            let is_stale = connection.stats().closed_while_idle();
                            pool.record_close(idle.filter(|_| is_stale));
                            (failed, idle.is_none(), is_stale)
                        }
                    }
                }
                Checkout::Http2 { mut connection, stream, is_new } => {
                    to_http2(&mut request, &instance.scheme)?;
                    progress.set_handed_over(true);
                    match connection.send(*request).await {
                        Ok(response) => {
                            connection.check_size(response.headers()).map_err(SendFailure::new)?;
                            return Ok((response, Some(PooledConnection::Http2 { _stream: stream })));
                        }
                        Err(failed) => (failed, is_new, !is_new),
                    }
                }
            };
            *request = unsent(failed, is_new, may_be_stale, &progress)?;
            progress.set_handed_over(false);
        }
    }

    /// Sets `Host` unless the client's own goes to the upstream. `has_host`: the client named one.
    fn set_host(
        &self,
        request: &mut Request<RequestBody>,
        has_host: bool,
        instance: &Instance,
    ) -> Result<(), UpstreamError> {
        let host = match &self.destination.settings.host {
            UpstreamHost::Preserve if has_host => return Ok(()),
            UpstreamHost::Preserve => instance.authority.as_str(),
            UpstreamHost::Set(host) => host.as_str(),
        };
        let host = HeaderValue::from_str(host).map_err(invalid)?;
        request.headers_mut().insert(HOST, host);
        Ok(())
    }
}

/// Returns whether it has `Host`, or the `:authority` that it was moved to.
fn has_host(request: &Request<RequestBody>) -> bool {
    request.headers().contains_key(HOST) || request.uri().authority().is_some()
}

/// Moves `Host` into `:authority` (RFC 9113 §8.3.1).
fn to_http2(request: &mut Request<RequestBody>, scheme: &Scheme) -> Result<(), SendFailure> {
    *request.version_mut() = Version::HTTP_2;
    // It may have been made for HTTP/1.1 before.
    request.headers_mut().remove(CONNECTION);
    if let Some(host) = request.headers_mut().remove(HOST) {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(scheme.clone());
        uri.authority = Some(host.as_bytes().try_into().map_err(|error| SendFailure::new(invalid(error)))?);
        *request.uri_mut() = Uri::from_parts(uri).map_err(|error| SendFailure::new(invalid(error)))?;
    }
    Ok(())
}

/// Moves `:authority` back into `Host`, if the request was made for HTTP/2.
fn to_http1(request: &mut Request<RequestBody>) -> Result<(), SendFailure> {
    *request.version_mut() = Version::HTTP_11;
    frame_content(request);
    // Apache announces its `Keep-Alive: timeout` only to a client that asks.
    if !request.headers().contains_key(CONNECTION) {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = uri.authority.take() {
        uri.scheme = None;
        // A `Host` was set since: the authority is that of a former attempt.
        if !request.headers().contains_key(HOST) {
            let host = HeaderValue::from_str(authority.as_str())
                .map_err(|error| SendFailure::new(invalid(error)))?;
            request.headers_mut().insert(HOST, host);
        }
    }
    *request.uri_mut() = Uri::from_parts(uri).map_err(|error| SendFailure::new(invalid(error)))?;
    Ok(())
}

fn invalid(error: impl std::fmt::Display) -> UpstreamError {
    UpstreamError::Invalid(error.to_string())
}

/// Returns the request if nothing of it was sent, because its connection had closed before.
fn unsent(
    mut failed: TrySendError<Request<RequestBody>>,
    is_new: bool,
    may_be_stale: bool,
    progress: &RequestProgress,
) -> Result<Request<RequestBody>, SendFailure> {
    match failed.take_message() {
        Some(request) if !is_new => Ok(request),
        _ => {
            let failure = SendFailure::classify(&failed.into_error(), may_be_stale, progress);
            Err(SendFailure { is_new_connection: is_new, ..failure })
        }
    }
}

/// The head of a response, and the connection that its body arrives over.
type ConnectionResponse = (Response<Incoming>, Option<PooledConnection>);

/// Marks a request whose response may be stored. With content, it goes over no connection that carried another's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StorableFetch;

/// Returns whether a second copy of the request does no harm.
fn is_repeatable(request: &Request<RequestBody>) -> bool {
    request.method().is_safe() && request.body().is_empty() && !request.headers().contains_key(UPGRADE)
}
