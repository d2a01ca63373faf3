//! One client connection from its first request to its last.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;

use super::activity::{ConnectionActivity, InFlightGuard};
use super::client_stream::{ClientStream, ReclaimHandle, Transport};
use super::http2_streams::{StreamExecutor, TrackedBody};
use super::linger::LingeringConnection;
pub(super) use super::watchdog::IDLE_DRAIN_GRACE;
use super::watchdog::{ConnectionWatchdog, TimeoutAction};
use crate::config::Limits;
use crate::memory_budget::MemoryBudget;
use crate::phase::{Phase, PhaseReceiver};
use crate::proxy::{Body, Client, Handled, InterimQueue, PendingRequest, WorkerHandle};

/// HTTP/2 requests at a time on one connection.
const MAX_CONCURRENT_STREAMS: u32 = 200;

/// Streams of one connection that may be reset before hyper has accepted them, or by hyper itself.
const MAX_STREAM_RESETS: usize = 64;

/// Bytes of one stream's response that are buffered beyond the client's window.
const STREAM_SEND_BUFFER_BYTES: usize = 64 * 1024;

/// hyper's default for the number of header fields. It allocates nothing for that many.
const HYPER_DEFAULT_MAX_HEADERS: usize = 100;

/// The client of a connection, as it is known before the first request.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionInfo {
    /// The client's address; `None` on a unix socket.
    pub peer: Option<IpAddr>,
    pub is_tls: bool,
}

/// Serves a connection until the peer closes it, a limit is exceeded, or a drain finds no request in flight.
pub(super) async fn serve<S: Transport>(
    transport: S,
    info: ConnectionInfo,
    activity: Arc<ConnectionActivity>,
    workers: Arc<WorkerHandle>,
    phase: PhaseReceiver,
) {
    let connection = Arc::new(Connection {
        info,
        workers: workers.clone(),
        activity: activity.clone(),
        interims: InterimQueue::default(),
        phase: phase.clone(),
    });
    let mut stream = {
        let worker = workers.worker();
        let (activity, interims) = (activity.clone(), connection.interims.clone());
        let memory = worker.peer_memory(info.peer);
        ClientStream::new(transport, worker.limits(), activity, interims, memory)
    };
    let mut watchdog = ConnectionWatchdog::new(activity.clone(), workers.clone(), phase.clone());
    let service = service_fn(move |request| connection.respond(request));
    loop {
        let reclaim = stream.reclaim_handle();
        let parser = {
            let worker = workers.worker();
            protocol_builder(worker.limits(), worker.memory().clone())
        };
        let parser = parser.serve_connection_with_upgrades(TokioIo::new(stream), service.clone());
        let mut parser = Box::pin(parser.into_owned());
        loop {
            let event = poll_fn(|cx| match parser.as_mut().poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Err(ended)),
                Poll::Pending => watchdog.poll(cx, true).map(Ok),
            });
            match event.await {
                Err(ended) => {
                    // The parser has ended, and still owns the stream.
                    drop(parser);
                    return Box::pin(finish(
                        ended,
                        reclaim,
                        &Closing { peer: info.peer, activity, workers, phase },
                    ))
                    .await;
                }
                Ok(TimeoutAction::Close) => return tracing::debug!("connection timed out"),
                Ok(TimeoutAction::Goaway) => parser.as_mut().graceful_shutdown(),
                Ok(TimeoutAction::ReleaseParser) => break,
            }
        }
        drop(parser);
        let Some(reclaimed) = reclaim.reclaim() else { return };
        stream = reclaimed;
        // While it is idle, a connection is its socket, this task and the stream's state.
        if !has_next_request(&stream, &mut watchdog).await {
            return;
        }
    }
}

/// The parts of a connection that outlive its parser.
struct Closing {
    peer: Option<IpAddr>,
    activity: Arc<ConnectionActivity>,
    workers: Arc<WorkerHandle>,
    phase: PhaseReceiver,
}

/// Waits for the end of a tunnel, and lingers after a response that came before the end of its request.
async fn finish<S: Transport>(
    ended: Result<(), Box<dyn Error + Send + Sync>>,
    reclaim: ReclaimHandle<S>,
    closing: &Closing,
) {
    let Closing { peer, activity, workers, phase } = closing;
    if let Err(error) = &ended {
        tracing::debug!(%error, "connection failed");
    }
    if activity.is_tunnel() {
        return reclaim.wait().await;
    }
    let refusal = ended.as_ref().err().and_then(|error| refusal_status(error.downcast_ref()?));
    if let Some(status) = refusal {
        workers.worker().record_unread_request(*peer, status);
    }
    let lingers = refusal.is_some() || ended.is_ok() && activity.had_content();
    if let Some(transport) = reclaim.reclaim().filter(|_| lingers).and_then(ClientStream::into_transport) {
        let (activity, phase) = (activity.clone(), phase.clone());
        let connection = LingeringConnection::new(transport, workers.worker().limits(), activity, phase);
        connection.run().await;
    }
}

/// The status that the parser answered with, if it could not read a head. It reports its error then, once the answer is
/// sent. Over HTTP/2 it reports nothing.
fn refusal_status(error: &hyper::Error) -> Option<StatusCode> {
    match error.is_parse() {
        false => None,
        true if !error.is_parse_too_large() => Some(StatusCode::BAD_REQUEST),
        // hyper tells the target from the fields by its text alone.
        true if error.to_string().starts_with("URI") => Some(StatusCode::URI_TOO_LONG),
        true => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    }
}

/// Waits without a parser; `false` if the connection is to be closed.
async fn has_next_request<S: Transport>(stream: &ClientStream<S>, watchdog: &mut ConnectionWatchdog) -> bool {
    let Some(transport) = stream.transport() else { return false };
    let mut readable = pin!(transport.readable());
    poll_fn(|cx| match readable.as_mut().poll(cx) {
        Poll::Ready(readable) => Poll::Ready(readable.is_ok()),
        Poll::Pending => watchdog.poll(cx, false).map(|_| false),
    })
    .await
}

/// The part of a connection that its requests use.
struct Connection {
    info: ConnectionInfo,
    workers: Arc<WorkerHandle>,
    activity: Arc<ConnectionActivity>,
    interims: InterimQueue,
    phase: PhaseReceiver,
}

impl Connection {
    fn respond(
        self: &Arc<Self>,
        request: Request<Incoming>,
    ) -> ServiceFuture<impl Future<Output = Response<TrackedBody<Body>>> + use<>> {
        let version = request.version();
        let in_flight = self.activity.begin_request(!request.body().is_end_stream());
        if self.activity.is_evicted() {
            // The connection closes without an answer, as if it had closed before the request came.
            return ServiceFuture::Ready(None);
        }
        let ConnectionInfo { peer, is_tls } = self.info;
        match self.workers.worker().handle(request, Client { peer, is_tls, refresh: None }) {
            Handled::Ready(response) => {
                self.activity.set_cancelled_by_end(false);
                ServiceFuture::Ready(Some(self.track_response(response, version, in_flight)))
            }
            Handled::Pending(pending) => {
                self.activity.set_cancelled_by_end(pending.is_cancellable());
                let connection = self.clone();
                // Boxed, so that an idle connection has no room for it.
                ServiceFuture::Pending(Box::pin(async move {
                    let response = match pending.respond_from_store().await {
                        Ok(response) => response,
                        Err(pending) => Box::pin(connection.respond_pending(pending, version)).await,
                    };
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        connection.activity.set_tunnel();
                    }
                    connection.track_response(response, version, in_flight)
                }))
            }
        }
    }

    /// Relays interim responses where the client can be sent any: not over HTTP/1.0 (RFC 9110 §15.2), and not over
    /// HTTP/2, where hyper's server sends none.
    async fn respond_pending(&self, pending: Box<PendingRequest>, version: Version) -> Response<Body> {
        match version {
            Version::HTTP_11 => self.interims.relay(|interims| pending.respond(Some(interims))).await,
            _ => pending.respond(None).await,
        }
    }

    /// Keeps the request in flight until its response has ended.
    fn track_response(
        &self,
        mut response: Response<Body>,
        version: Version,
        in_flight: InFlightGuard,
    ) -> Response<TrackedBody<Body>> {
        // hyper writes `<none>` for a status that it does not know.
        if response.status().canonical_reason().is_none()
            && response.extensions().get::<ReasonPhrase>().is_none()
        {
            response.extensions_mut().insert(ReasonPhrase::from_static(b""));
        }
        let has_no_length = response.body().size_hint().exact().is_none();
        // An endless response says nothing about its reader while it is quiet.
        if has_no_length {
            self.activity.set_cancelled_by_end(true);
        }
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        // A client that sent the rest would take the connection for one that is kept (RFC 9112 §9.3).
        let closes = has_no_length && version <= Version::HTTP_10
            || self.activity.is_within_content()
            || self.phase.has_reached(Phase::Draining);
        if !switches && version < Version::HTTP_2 && closes {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            // To a client of HTTP/1.0 hyper would say `keep-alive` beside it.
            *response.version_mut() = version;
        }
        response.map(|body| TrackedBody::new(body, in_flight))
    }
}

/// The future that hyper polls for a response.
#[expect(clippy::large_enum_variant, reason = "a hit is not boxed")]
enum ServiceFuture<F> {
    /// `None` once it was taken, or if there is none.
    Ready(Option<Response<TrackedBody<Body>>>),
    Pending(Pin<Box<F>>),
}

impl<F: Future<Output = Response<TrackedBody<Body>>>> Future for ServiceFuture<F> {
    type Output = Result<Response<TrackedBody<Body>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            ServiceFuture::Ready(response) => response.take().map_or(Poll::Pending, Poll::Ready),
            ServiceFuture::Pending(response) => response.as_mut().poll(cx),
        }
        .map(|response| Ok(response.map(TrackedBody::bind_to_stream)))
    }
}

/// Configures hyper's parser for both versions of HTTP.
pub(super) fn protocol_builder(limits: &Limits, memory: Arc<MemoryBudget>) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(StreamExecutor { write_timeout: limits.body_timeout, memory });
    builder
        .http1()
        .timer(TokioTimer::new())
        // `ConnectionActivity` bounds the time for a request head, from its first byte.
        .header_read_timeout(None)
        // Without `pipeline_flush`: with it hyper buffers a whole body, however slowly the client reads. Without `half_close`:
        // the stream decides when the end of a client is told.
        .max_buf_size(limits.header_bytes.max(8 * 1024));
    if limits.header_count != HYPER_DEFAULT_MAX_HEADERS {
        builder.http1().max_headers(limits.header_count);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        // More resets than these end the connection.
        .max_pending_accept_reset_streams(MAX_STREAM_RESETS)
        .max_local_error_reset_streams(MAX_STREAM_RESETS)
        .max_send_buf_size(STREAM_SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.header_timeout)
        .adaptive_window(true);
    builder
}
