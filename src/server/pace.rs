//! How long a connection may take for what it is at: a head, idling between requests, taking an answer. Requests that
//! are being answered have no bound here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;

/// What one connection is at; told by its stream and its requests, asked by the clock over it.
#[derive(Debug)]
pub struct Pace {
    opened: Instant,
    requests: AtomicU32,
    /// No request was answered yet.
    fresh: AtomicBool,
    /// These two in milliseconds since it was opened; [`NEVER`]: not now.
    idle_since: AtomicU64,
    head_since: AtomicU64,
    stuck: AtomicBool,
    /// The last request had content, which may come, or wait in the parser, long after the answer.
    content: AtomicBool,
    http2: AtomicBool,
    tunnel: AtomicBool,
}

const NEVER: u64 = u64::MAX;

/// Whoever asks again within this time finds the parser ready.
const REST_AFTER: Duration = Duration::from_secs(1);

impl Pace {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            requests: AtomicU32::new(0),
            fresh: AtomicBool::new(true),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(NEVER),
            stuck: AtomicBool::new(false),
            content: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
        })
    }

    /// A part of a head is there, and not all of it; or no part.
    pub fn within_head(&self, within: bool) {
        if !within {
            self.head_since.store(NEVER, Ordering::Relaxed);
        } else if self.head_since.load(Ordering::Relaxed) == NEVER {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The peer takes nothing of what is to be sent; or it does. How long it may, the stream itself knows.
    pub fn stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Relaxed);
    }

    pub fn speaks_http2(&self) {
        self.http2.store(true, Ordering::Relaxed);
    }

    pub fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// Both sides agreed on another protocol.
    pub fn becomes_tunnel(&self) {
        self.tunnel.store(true, Ordering::Relaxed);
    }

    pub fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Relaxed)
    }

    /// A request has come; it is under way until what this returns is dropped.
    pub fn request(self: &Arc<Self>, has_content: bool) -> UnderWay {
        self.content.store(has_content, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.fresh.store(false, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    pub fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0 && !self.is_tunnel()
    }

    /// Its parser has nothing to do until the next request. Another parser would take the rest of a content for that.
    pub fn may_rest(&self) -> bool {
        let nothing_begun = self.head_since.load(Ordering::Relaxed) == NEVER
            && !self.stuck.load(Ordering::Relaxed)
            && !self.content.load(Ordering::Relaxed);
        self.is_idle() && !self.is_http2() && nothing_begun
    }

    /// When its parser is not needed any more until the next request; `None` while it is.
    pub fn rests_from(&self) -> Option<Instant> {
        self.may_rest().then(|| self.at(self.idle_since.load(Ordering::Relaxed), REST_AFTER))
    }

    /// When it will have taken too long, if it goes on as it is.
    pub fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let head_since = Some(self.head_since.load(Ordering::Relaxed)).filter(|at| *at != NEVER);
        if !self.is_idle() {
            // Side by side with others, a request has its time as well.
            let begun = head_since.filter(|_| self.is_http2());
            return begun.map(|begun| self.at(begun, limits.header_timeout));
        }
        let idle_since = self.idle_since.load(Ordering::Relaxed);
        let next = match head_since {
            // What was sent ahead waits for the answer before it, and is not late by that.
            Some(begun) => self.at(begun.max(idle_since), limits.header_timeout),
            None if self.fresh.load(Ordering::Relaxed) => self.at(0, limits.header_timeout),
            None => self.at(idle_since, limits.idle_timeout),
        };
        Some(next)
    }

    fn at(&self, millis: u64, limit: Duration) -> Instant {
        self.opened + Duration::from_millis(millis) + limit
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }
}

/// A request that is not answered to the end yet.
pub struct UnderWay(Arc<Pace>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
