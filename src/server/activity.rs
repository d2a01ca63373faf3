//! The state of a connection that its timeouts depend on: request head, keep-alive idle, blocked write. A request that
//! is being answered has no bound here.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::Limits;

/// The state of one connection. Its stream and its requests write it; its watchdog reads it.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    opened: Instant,
    requests: AtomicU32,
    is_new: AtomicBool,
    /// Milliseconds since `opened`, or [`NOT_SET`].
    idle_since: AtomicU64,
    /// Milliseconds since `opened`, or [`NOT_SET`].
    head_since: AtomicU64,
    write_blocked: AtomicBool,
    /// The request that was begun last is cancelled when its client closes its sending side and stays silent.
    cancelled_by_end: AtomicBool,
    /// The last request had content, which may arrive, or wait in the parser, long after the response.
    had_content: AtomicBool,
    /// The number of requests that were begun.
    begun: AtomicU64,
    /// The number of the request whose content has arrived in part, or 0.
    content_of: AtomicU64,
    /// The rest of a request was not read.
    unread: AtomicBool,
    http2: AtomicBool,
    tunnel: AtomicBool,
    /// Wakes the connection's task when the connection is evicted.
    waker: Mutex<Option<Waker>>,
}

const NOT_SET: u64 = u64::MAX;

/// The bit of `requests` that makes a connection refuse further requests.
const EVICTED: u32 = 1 << 31;

/// A connection that is idle for this long gives its parser and buffers back.
const PARSER_RELEASE_DELAY: Duration = Duration::from_secs(1);

impl ConnectionActivity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            requests: AtomicU32::new(0),
            is_new: AtomicBool::new(true),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(NOT_SET),
            write_blocked: AtomicBool::new(false),
            cancelled_by_end: AtomicBool::new(true),
            had_content: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            content_of: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            waker: Mutex::new(None),
        })
    }

    /// Records whether an incomplete request head has arrived.
    pub(super) fn set_within_head(&self, within: bool) {
        if !within {
            self.head_since.store(NOT_SET, Ordering::Relaxed);
        } else if self.head_since.load(Ordering::Relaxed) == NOT_SET {
            self.head_since.store(self.elapsed_millis(), Ordering::Relaxed);
        }
    }

    /// Records the request of the connection, counted from 1, whose incomplete content has arrived over HTTP/1.1.
    pub(super) fn set_within_content(&self, request: Option<u64>) {
        self.content_of.store(request.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether the request that was begun last has content of which a part has yet to arrive. Content that is pipelined
    /// behind it is another request's.
    pub(super) fn is_within_content(&self) -> bool {
        self.had_content.load(Ordering::Relaxed)
            && self.content_of.load(Ordering::Relaxed) == self.begun.load(Ordering::Relaxed)
    }

    /// Records whether the peer takes nothing of what is to be sent. The stream bounds for how long.
    pub(super) fn set_write_blocked(&self, blocked: bool) {
        self.write_blocked.store(blocked, Ordering::Relaxed);
    }

    pub(super) fn is_write_blocked(&self) -> bool {
        self.write_blocked.load(Ordering::Relaxed)
    }

    /// Sets whether the request that was begun last is cancelled when its client closes its sending side.
    pub(super) fn set_cancelled_by_end(&self, is_cancelled: bool) {
        self.cancelled_by_end.store(is_cancelled, Ordering::Relaxed);
    }

    pub(super) fn is_cancelled_by_end(&self) -> bool {
        self.cancelled_by_end.load(Ordering::Relaxed)
    }

    /// A request has no answer yet, or a part of the answer waits to be sent.
    pub(super) fn is_answering(&self) -> bool {
        !self.is_tunnel() && (!self.is_idle() || self.is_write_blocked())
    }

    pub(super) fn set_http2(&self) {
        self.http2.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// Records that both sides agreed on another protocol.
    pub(super) fn set_tunnel(&self) {
        self.tunnel.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped.
    pub(super) fn begin_request(self: &Arc<Self>, has_content: bool) -> InFlightGuard {
        self.had_content.store(has_content, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.is_new.store(false, Ordering::Relaxed);
        InFlightGuard(self.clone())
    }

    /// Makes an idle connection close, and take no further request. Returns whether it does.
    pub(super) fn evict(&self) -> bool {
        let evicts = !self.is_tunnel()
            && self.requests.compare_exchange(0, EVICTED, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if evicts {
            self.waker.lock().take().into_iter().for_each(Waker::wake);
        }
        evicts
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.requests.load(Ordering::Relaxed) & EVICTED != 0
    }

    /// Resolves when the connection is evicted.
    pub(super) async fn evicted(&self) {
        poll_fn(|cx| {
            self.set_waker(cx.waker());
            if self.is_evicted() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Sets the task that serves the connection.
    pub(super) fn set_waker(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }

    /// The time since the last request ended, or since the connection was opened; `None` while it is in use.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        let idle_since = Duration::from_millis(self.idle_since.load(Ordering::Relaxed));
        self.is_idle().then(|| self.opened.elapsed().saturating_sub(idle_since))
    }

    /// The time from which the connection has been idle, and took all that was sent to it; `None` while it is in use.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let idle_since = self.idle_since.load(Ordering::Relaxed);
        self.is_quiet().then(|| self.instant_after(idle_since, Duration::ZERO))
    }

    /// It is idle, no head of HTTP/1.1 has begun, and the client took all that was sent.
    fn is_quiet(&self) -> bool {
        let head_begun = self.head_since.load(Ordering::Relaxed) != NOT_SET && !self.is_http2();
        self.is_idle() && !head_begun && !self.is_write_blocked()
    }

    /// No request has begun yet.
    pub(super) fn is_new(&self) -> bool {
        self.is_new.load(Ordering::Relaxed)
    }

    /// The client may still be sending the content of a request that was answered.
    pub(super) fn had_content(&self) -> bool {
        self.had_content.load(Ordering::Relaxed) || self.unread.load(Ordering::Relaxed)
    }

    /// Records that the rest of a request is not read.
    pub(super) fn set_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0 && !self.is_tunnel()
    }

    /// The parser has nothing to do until the next request. A request with content keeps its parser: another one would
    /// take the rest of the content for a request.
    pub(super) fn can_release_parser(&self) -> bool {
        self.is_quiet() && !self.is_http2() && !self.had_content.load(Ordering::Relaxed)
    }

    /// The time from which the parser is not needed; `None` while it is in use.
    pub(super) fn parser_release_time(&self) -> Option<Instant> {
        let idle_since = self.idle_since.load(Ordering::Relaxed);
        self.can_release_parser().then(|| self.instant_after(idle_since, PARSER_RELEASE_DELAY))
    }

    /// The time at which the connection exceeds one of `limits` if nothing changes.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let head_since = Some(self.head_since.load(Ordering::Relaxed)).filter(|at| *at != NOT_SET);
        if !self.is_idle() {
            // On HTTP/2 a request head is bounded beside requests in flight. On HTTP/1.1 it is pipelined.
            let begun = head_since.filter(|_| self.is_http2());
            return begun.map(|begun| self.instant_after(begun, limits.header_timeout));
        }
        let idle_since = self.idle_since.load(Ordering::Relaxed);
        Some(match head_since {
            // The time of a pipelined head begins when the response before it has ended.
            Some(begun) => self.instant_after(begun.max(idle_since), limits.header_timeout),
            None if self.is_new() => self.instant_after(0, limits.header_timeout),
            None => self.instant_after(idle_since, limits.idle_timeout),
        })
    }

    fn instant_after(&self, millis: u64, limit: Duration) -> Instant {
        self.opened + Duration::from_millis(millis) + limit
    }

    fn elapsed_millis(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(NOT_SET - 1)
    }
}

/// A request whose response has not ended.
pub(super) struct InFlightGuard(Arc<ConnectionActivity>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.elapsed_millis(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
