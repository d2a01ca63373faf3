//! What is known of one request, gathered as it is answered; the line is due when the last byte has gone, or nobody
//! waits for it any more.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::header::{REFERER, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};

use super::AccessLog;
use crate::clock::Timestamp;
use crate::policy::cache_status::Outcome;

/// All that a line can say. Nothing is copied for it but handles.
#[derive(Debug)]
pub struct Facts {
    pub at: Timestamp,
    pub client: Option<IpAddr>,
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub referer: Option<HeaderValue>,
    pub user_agent: Option<HeaderValue>,
    pub request_id: Option<HeaderValue>,
    pub trace_id: Option<HeaderValue>,
    /// `None`: the client went away before there was an answer.
    pub answered: Option<Answered>,
    /// Bytes of content.
    pub bytes: u64,
    /// All of the content went out.
    pub whole: bool,
    pub first_byte: Option<Duration>,
    pub took: Duration,
    pub upstream: UpstreamTime,
}

#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    /// The route's name.
    pub route: Option<Arc<str>>,
    pub outcome: Option<Outcome>,
}

impl Facts {
    /// As nginx says it of a client that went away.
    const GONE: u16 = 499;

    pub fn status(&self) -> u16 {
        self.answered.as_ref().map_or(Self::GONE, |answered| answered.status.as_u16())
    }

    pub fn is_error(&self) -> bool {
        self.status() >= Self::GONE || !self.whole
    }

    pub fn outcome(&self) -> Option<Outcome> {
        self.answered.as_ref()?.outcome
    }

    /// The target as the client wrote it.
    pub fn target(&self) -> String {
        match self.uri.path_and_query() {
            // HTTP/2 has no target; its authority is not part of what stands here for HTTP/1.1.
            Some(target) if self.version == Version::HTTP_2 => target.to_string(),
            _ => self.uri.to_string(),
        }
    }
}

/// How long the upstream took until its header section; shared with whoever asks it.
#[derive(Clone, Debug)]
pub struct UpstreamTime(Arc<AtomicU64>);

impl UpstreamTime {
    const NOT_ASKED: u64 = u64::MAX;

    /// Asked once more, the times add up.
    pub fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(Self::NOT_ASKED - 1);
        let before = self.get().map_or(0, |before| u64::try_from(before.as_micros()).unwrap_or_default());
        self.0.store(micros.saturating_add(before).min(Self::NOT_ASKED - 1), Ordering::Relaxed);
    }

    /// `None`: it was not asked.
    pub fn get(&self) -> Option<Duration> {
        let micros = self.0.load(Ordering::Relaxed);
        (micros != Self::NOT_ASKED).then(|| Duration::from_micros(micros))
    }
}

impl Default for UpstreamTime {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(Self::NOT_ASKED)))
    }
}

/// A line to come: due when this is dropped.
pub struct Entry {
    /// Taken in the end.
    facts: Option<Box<Facts>>,
    began: Instant,
    log: Arc<AccessLog>,
}

impl AccessLog {
    pub fn begin<B>(self: &Arc<Self>, request: &Request<B>, peer: Option<IpAddr>, at: Timestamp) -> Entry {
        let field = |name| request.headers().get(name).cloned();
        let facts = Facts {
            at,
            client: peer,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            referer: field(REFERER),
            user_agent: field(USER_AGENT),
            request_id: None,
            trace_id: None,
            answered: None,
            bytes: 0,
            whole: false,
            first_byte: None,
            took: Duration::ZERO,
            upstream: UpstreamTime::default(),
        };
        Entry { facts: Some(Box::new(facts)), began: Instant::now(), log: self.clone() }
    }
}

impl Entry {
    pub fn upstream(&self) -> Option<UpstreamTime> {
        self.facts.as_ref().map(|facts| facts.upstream.clone())
    }

    /// By which names the request is known elsewhere.
    pub fn named(&mut self, request_id: Option<HeaderValue>, trace_id: Option<HeaderValue>) {
        let Some(facts) = &mut self.facts else { return };
        (facts.request_id, facts.trace_id) = (request_id, trace_id);
    }

    /// Who asks, behind proxies that are believed.
    pub fn sent_by(&mut self, sender: Option<IpAddr>) {
        let Some(facts) = &mut self.facts else { return };
        facts.client = sender.or(facts.client);
    }

    /// The header section is ready.
    pub fn answered(&mut self, answered: Answered) {
        let Some(facts) = &mut self.facts else { return };
        facts.answered = Some(answered);
        facts.first_byte = Some(self.began.elapsed());
    }

    pub fn sent(&mut self, bytes: usize) {
        let Some(facts) = &mut self.facts else { return };
        facts.bytes += bytes as u64;
    }

    /// Nothing is missing, or something is.
    pub fn ended(&mut self, whole: bool) {
        let Some(facts) = &mut self.facts else { return };
        facts.whole = whole;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(mut facts) = self.facts.take() else { return };
        facts.took = self.began.elapsed();
        self.log.take(facts);
    }
}
