//! One connection from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::interim::WithInterims;
use super::lent::lend;
use super::pace::{Pace, UnderWay};
use super::streams::{Streams, Tracked};
use super::strict::Strict;
use crate::config::Limits;
use crate::proxy::{Begun, Body as Answer, Client, Desk, InterimQueue, Later};

/// HTTP/2 requests at a time on one connection.
const MAX_STREAMS: u32 = 200;

/// What a client may waste on one connection.
const RESETS: usize = 64;

/// Of one stream's answer, beyond what its client has room for.
const SEND_BUFFER: usize = 64 * 1024;

/// So long a connection without a request stays open when larder stops: who was about to ask is answered, and told
/// that this was the last time. Nobody asks into a connection that closes at that moment.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// The parser's default.
const USUAL_FIELDS: usize = 100;

/// Serves until the peer goes, is too slow, or `stopping` turns true and no request is under way.
pub async fn serve<S: Quiet>(stream: S, hello: Hello, desk: Arc<Desk>, stopping: watch::Receiver<bool>) {
    let Hello { peer, is_tls } = hello;
    let pace = Pace::new();
    let mut stream = Strict::new(stream, desk.worker().limits().header_bytes, pace.clone());
    let (its_desk, its_pace, its_stopping) = (desk.clone(), pace.clone(), stopping.clone());
    let interims = InterimQueue::default();
    let its_interims = interims.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let version = request.version();
        let under_way = its_pace.request(!request.body().is_end_stream());
        let stopping = its_stopping.clone();
        match its_desk.worker().begin(request, Client { peer, is_tls, errand: None }) {
            Begun::Answered(response) => Answering::Now(Some(sent(response, version, under_way, &stopping))),
            Begun::Later(later) => {
                let (pace, interims) = (its_pace.clone(), its_interims.clone());
                // In a box, so that the connection has no room for it when it idles.
                Answering::Later(Box::pin(async move {
                    let response = match later.from_store().await {
                        Ok(response) => response,
                        Err(later) => Box::pin(answer(later, version, &interims)).await,
                    };
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        pace.becomes_tunnel();
                    }
                    sent(response, version, under_way, &stopping)
                }))
            }
        }
    });
    let mut watch = Watch::new(pace, desk.clone(), stopping);
    loop {
        let builder = protocol(desk.worker().limits());
        let (home, lent) = lend(stream);
        let connection = builder.serve_connection_with_upgrades(
            TokioIo::new(WithInterims::new(lent, interims.clone())),
            service.clone(),
        );
        let mut connection = Box::pin(connection.into_owned());
        let verdict = poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Err(ended));
            }
            watch.poll(cx, true).map(Ok)
        });
        match verdict.await {
            Err(Ok(())) => return,
            Err(Err(error)) => return tracing::debug!(%error, "a connection ended early"),
            Ok(Verdict::Late) => return tracing::debug!("a connection was closed: it took too long"),
            Ok(Verdict::Goodbye) => {
                connection.as_mut().graceful_shutdown();
                _ = connection.await;
                return;
            }
            Ok(Verdict::Rest) => {
                drop(connection);
                let Some(back) = home.take() else { return };
                stream = back;
            }
        }
        // At rest: a socket and this task, and no more.
        let spoken = {
            let mut readable = pin!(stream.stream().readable());
            poll_fn(|cx| match readable.as_mut().poll(cx) {
                Poll::Ready(spoken) => Poll::Ready(spoken.is_ok()),
                Poll::Pending => watch.poll(cx, false).map(|_| false),
            })
            .await
        };
        if !spoken {
            return;
        }
    }
}

async fn answer(later: Box<Later>, version: Version, interims: &InterimQueue) -> Response<Answer> {
    // RFC 9110 §15.2: never to HTTP/1.0; and HTTP/2 answers requests side by side.
    if version != Version::HTTP_11 {
        return later.answer(None).await;
    }
    interims.relay(|interims| later.answer(Some(interims))).await
}

/// The answer on its way: the request is under way until it is there.
fn sent(
    mut response: Response<Answer>,
    version: Version,
    under_way: UnderWay,
    stopping: &watch::Receiver<bool>,
) -> Response<Tracked<Answer>> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if !switches && version < Version::HTTP_2 && *stopping.borrow() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| Tracked::new(body, under_way))
}

/// What hyper waits for.
#[expect(clippy::large_enum_variant, reason = "a hit is not to be in a box")]
enum Answering<F> {
    /// Until it is taken.
    Now(Option<Response<Tracked<Answer>>>),
    Later(Pin<Box<F>>),
}

impl<F: Future<Output = Response<Tracked<Answer>>>> Future for Answering<F> {
    type Output = Result<Response<Tracked<Answer>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Answering::Now(response) => response.take().map_or(Poll::Pending, Poll::Ready),
            Answering::Later(answer) => answer.as_mut().poll(cx),
        }
        .map(|response| Ok(response.map(Tracked::in_its_stream)))
    }
}

/// What is known of a connection before its first request.
#[derive(Clone, Copy, Debug)]
pub struct Hello {
    /// The client's address; `None` on a unix socket.
    pub peer: Option<IpAddr>,
    pub is_tls: bool,
}

/// A stream that can say that something is there to be read, without reading it.
pub trait Quiet: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Late,
    /// larder stops, and HTTP/2 has a word for it: no request that is not answered is lost.
    Goodbye,
    Rest,
}

/// The clock over one connection.
struct Watch {
    pace: Arc<Pace>,
    desk: Arc<Desk>,
    stopping: watch::Receiver<bool>,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// When larder was told to stop.
    stopped: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
    /// What the alarm was set for: whether it idles, may rest, and has its parser.
    seen: Option<(bool, bool, bool)>,
}

impl Watch {
    fn new(pace: Arc<Pace>, desk: Arc<Desk>, stopping: watch::Receiver<bool>) -> Self {
        let mut told = stopping.clone();
        let stop = Box::pin(async move { drop(told.wait_for(|stop| *stop).await) });
        let alarm = Box::pin(sleep_until(Instant::now()));
        Self { pace, desk, stopping, stop, stopped: None, alarm, seen: None }
    }

    /// When it is late, if it goes on as it is, and when to look again at the latest.
    fn deadlines(&self) -> (Option<Instant>, Instant) {
        let worker = self.desk.worker();
        let limits = worker.limits();
        let by_pace = self.pace.deadline(limits);
        let by_stop = self.stopped.filter(|_| self.pace.is_idle()).map(|at| at + FAREWELL);
        let look = match self.stopped {
            Some(_) => FAREWELL / 10,
            None => limits.idle_timeout.min(limits.header_timeout).min(limits.body_timeout),
        };
        (by_pace.into_iter().chain(by_stop).min(), Instant::now() + look)
    }

    /// `awake`: it has its parser.
    fn poll(&mut self, cx: &mut Context<'_>, awake: bool) -> Poll<Verdict> {
        // Nearly always it goes on as it did: what began since the alarm was set is not late before it rings. Both futures
        // have the waker of this task, which is the only one that ever polls them.
        let goes_on = Some((self.pace.is_idle(), self.pace.may_rest(), awake));
        let calm = self.stopped.is_none() && !self.stopping.has_changed().unwrap_or(true);
        // An alarm for the time when it may rest is early enough for all that comes before that.
        let is_early = self.seen == goes_on || self.seen == Some((true, true, awake));
        if calm && is_early && !self.alarm.is_elapsed() {
            return Poll::Pending;
        }
        self.seen = goes_on;
        if self.stopped.is_none() && self.stop.as_mut().poll(cx).is_ready() {
            self.stopped = Some(Instant::now());
        }
        if self.stopped.is_some() && self.pace.is_http2() {
            return Poll::Ready(Verdict::Goodbye);
        }
        loop {
            let (late, look) = self.deadlines();
            let rest = self.pace.rests_from().filter(|_| awake);
            let now = Instant::now();
            if late.is_some_and(|late| late <= now) {
                return Poll::Ready(Verdict::Late);
            }
            if rest.is_some_and(|rest| rest <= now) {
                return Poll::Ready(Verdict::Rest);
            }
            let look = late.into_iter().chain(rest).fold(look, Instant::min);
            // Mostly the alarm is early enough as it is.
            if look < self.alarm.deadline() || self.alarm.is_elapsed() {
                self.alarm.as_mut().reset(look);
            }
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

pub(super) fn protocol(limits: &Limits) -> Builder<Streams> {
    let mut builder = Builder::new(Streams { patience: limits.body_timeout });
    builder
        .http1()
        .timer(TokioTimer::new())
        // The time for a head is measured by `Pace`, from its first byte.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes.max(8 * 1024))
        // Not `pipeline_flush`: with it hyper takes a whole body in, however slowly the client reads.
        .half_close(false);
    if limits.header_count != USUAL_FIELDS {
        builder.http1().max_headers(limits.header_count);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        // Reset before they were looked at, and refused by us: more of them end the connection.
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.header_timeout)
        .adaptive_window(true);
    builder
}
