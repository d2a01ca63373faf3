//! Record of one request, filled while it is answered and written when its response body ends or is dropped.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::header::{REFERER, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};

use super::AccessLog;
use crate::clock::Timestamp;
use crate::policy::cache_status::CacheOutcome;
use crate::policy::secret_parameters::mask_parameters;

/// Longest field of a line that a client chooses, in bytes.
const MAX_FIELD_BYTES: usize = 1024;

/// The end of a field that was cut.
const CUT_MARK: &[u8] = b"...";

/// All fields of a line.
#[derive(Debug)]
pub(crate) struct AccessRecord {
    pub at: Timestamp,
    pub client: Option<IpAddr>,
    /// `None` if the parser could not read the request.
    pub line: Option<RequestLine>,
    pub referer: Option<ClientText>,
    pub user_agent: Option<ClientText>,
    pub request_id: Option<ClientText>,
    pub trace_id: Option<ClientText>,
    /// Name of the route of a request that has to wait, until there is a response.
    pub route: Option<Arc<str>>,
    /// `None` if the client disconnected before there was a response.
    pub response: Option<ResponseInfo>,
    /// Body bytes sent.
    pub bytes: u64,
    /// The whole body was sent.
    pub complete: bool,
    pub first_byte: Option<Duration>,
    pub duration: Duration,
    pub upstream: UpstreamTime,
}

/// The request line, or what stands for it in HTTP/2.
#[derive(Debug)]
pub(crate) struct RequestLine {
    pub method: ClientText,
    /// The request target as sent by the client, without the credentials in it.
    pub target: ClientText,
    pub version: Version,
}

/// A copy of what a client sent, at most [`MAX_FIELD_BYTES`]. A handle would keep the whole header section in memory while
/// the line waits.
#[derive(Debug)]
pub(crate) struct ClientText(Box<[u8]>);

impl ClientText {
    pub(super) fn copy(bytes: &[u8]) -> Self {
        if bytes.len() <= MAX_FIELD_BYTES {
            return Self(bytes.into());
        }
        Self([&bytes[..MAX_FIELD_BYTES - CUT_MARK.len()], CUT_MARK].concat().into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[derive(Debug)]
pub(crate) struct ResponseInfo {
    pub status: StatusCode,
    /// Name of the route.
    pub route: Option<Arc<str>>,
    pub outcome: Option<CacheOutcome>,
}

impl AccessRecord {
    /// nginx's status for a client that closed the connection.
    const CLIENT_CLOSED_REQUEST: u16 = 499;

    pub(crate) fn status(&self) -> u16 {
        self.response.as_ref().map_or(Self::CLIENT_CLOSED_REQUEST, |answered| answered.status.as_u16())
    }

    pub(crate) fn is_error(&self) -> bool {
        self.status() >= Self::CLIENT_CLOSED_REQUEST || !self.complete
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let fields =
            [&self.referer, &self.user_agent, &self.request_id, &self.trace_id].into_iter().flatten();
        let line = self.line.iter().flat_map(|line| [&line.method, &line.target]);
        let texts: usize = fields.chain(line).map(|text| text.as_bytes().len()).sum();
        size_of::<Self>() + texts
    }

    pub(crate) fn route(&self) -> Option<&str> {
        match &self.response {
            Some(answered) => answered.route.as_deref(),
            None => self.route.as_deref(),
        }
    }

    pub(crate) fn outcome(&self) -> Option<CacheOutcome> {
        self.response.as_ref()?.outcome
    }
}

impl RequestLine {
    pub(super) fn new(method: &Method, uri: &Uri, version: Version) -> Self {
        let target = match uri.path_and_query() {
            // HTTP/2 has no request target; for HTTP/1.1 it has no authority.
            Some(target) if version == Version::HTTP_2 || uri.scheme().is_none() => {
                ClientText::copy(mask_parameters(target.as_str()).as_bytes())
            }
            _ => ClientText::copy(mask_parameters(&uri.to_string()).as_bytes()),
        };
        Self { method: ClientText::copy(method.as_str().as_bytes()), target, version }
    }
}

/// Time until the upstream's response head, shared with the fetch.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamTime(Arc<AtomicU64>);

impl UpstreamTime {
    const UNSET: u64 = u64::MAX;

    /// Adds the time of another attempt.
    pub(crate) fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(Self::UNSET - 1);
        let before = self.get().map_or(0, |before| u64::try_from(before.as_micros()).unwrap_or_default());
        self.0.store(micros.saturating_add(before).min(Self::UNSET - 1), Ordering::Relaxed);
    }

    /// `None` if the upstream was not asked.
    pub(crate) fn get(&self) -> Option<Duration> {
        let micros = self.0.load(Ordering::Relaxed);
        (micros != Self::UNSET).then(|| Duration::from_micros(micros))
    }
}

impl Default for UpstreamTime {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(Self::UNSET)))
    }
}

/// A pending line, written on drop.
pub(crate) struct AccessLogEntry {
    /// Taken on drop.
    record: Option<Box<AccessRecord>>,
    started: Instant,
    log: Arc<AccessLog>,
}

impl AccessLog {
    pub(crate) fn start_entry<B>(
        self: &Arc<Self>,
        request: &Request<B>,
        peer: Option<IpAddr>,
        at: Timestamp,
    ) -> AccessLogEntry {
        let field = |name| request.headers().get(name).map(copy_field);
        let facts = AccessRecord {
            line: Some(RequestLine::new(request.method(), request.uri(), request.version())),
            referer: request.headers().get(REFERER).map(|referer| match referer.to_str() {
                Ok(url) => ClientText::copy(mask_parameters(url).as_bytes()),
                Err(_) => copy_field(referer),
            }),
            user_agent: field(USER_AGENT),
            ..AccessRecord::new(peer, at)
        };
        AccessLogEntry { record: Some(Box::new(facts)), started: Instant::now(), log: self.clone() }
    }

    /// Writes the line of a request that the parser could not read, and answered with `status` and no content.
    pub(crate) fn write_unread(&self, peer: Option<IpAddr>, at: Timestamp, status: StatusCode) {
        let response = Some(ResponseInfo { status, route: None, outcome: None });
        self.write(Box::new(AccessRecord { response, complete: true, ..AccessRecord::new(peer, at) }));
    }
}

impl AccessRecord {
    fn new(client: Option<IpAddr>, at: Timestamp) -> Self {
        Self {
            at,
            client,
            line: None,
            referer: None,
            user_agent: None,
            request_id: None,
            trace_id: None,
            route: None,
            response: None,
            bytes: 0,
            complete: false,
            first_byte: None,
            duration: Duration::ZERO,
            upstream: UpstreamTime::default(),
        }
    }
}

impl AccessLogEntry {
    pub(crate) fn upstream_time(&self) -> Option<UpstreamTime> {
        self.record.as_ref().map(|facts| facts.upstream.clone())
    }

    /// Sets the ids that other systems know the request by.
    pub(crate) fn set_ids(&mut self, request_id: Option<HeaderValue>, trace_id: Option<HeaderValue>) {
        let Some(facts) = &mut self.record else { return };
        facts.request_id = request_id.as_ref().map(copy_field);
        facts.trace_id = trace_id.as_ref().map(copy_field);
    }

    /// Sets the client's address as forwarded by trusted proxies.
    pub(crate) fn set_client(&mut self, sender: Option<IpAddr>) {
        let Some(facts) = &mut self.record else { return };
        facts.client = sender.or(facts.client);
    }

    /// Sets the route of a request that has to wait.
    pub(crate) fn set_route(&mut self, name: Arc<str>) {
        let Some(facts) = &mut self.record else { return };
        facts.route = Some(name);
    }

    /// Records the response head.
    pub(crate) fn set_response(&mut self, answered: ResponseInfo) {
        let Some(facts) = &mut self.record else { return };
        facts.response = Some(answered);
        facts.first_byte = Some(self.started.elapsed());
    }

    pub(crate) fn add_bytes(&mut self, bytes: usize) {
        let Some(facts) = &mut self.record else { return };
        facts.bytes += bytes as u64;
    }

    /// Records whether the whole body was sent.
    pub(crate) fn set_complete(&mut self, whole: bool) {
        let Some(facts) = &mut self.record else { return };
        facts.complete = whole;
    }
}

fn copy_field(value: &HeaderValue) -> ClientText {
    ClientText::copy(value.as_bytes())
}

impl Drop for AccessLogEntry {
    fn drop(&mut self) {
        let Some(mut facts) = self.record.take() else { return };
        facts.duration = self.started.elapsed();
        self.log.write(facts);
    }
}
