//! A write: forwarded, and its targets are purged *before* the first byte of the response goes back.

mod abandonment;
mod budget;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::ACCEPT_ENCODING;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::answer::{Answer, LARDER_POSITION};
use super::body::Body;
use super::client_request::{ClientHead, ClientRequest};
use super::error::ProxyError;
use super::pending_writes::{PendingWrite, UnconfirmedWrite};
use super::request_fields::DroppedUnderscores;
use super::sender_budgets::{Sender, sender_network};
use super::streamed_write::{WritePurge, is_streamed};
use super::tunnel::{ClientUpgrade, TunnelLimits};
use super::worker::Worker;
use super::write_guard::{WriteGuard, is_guarded};
use super::{tunnel, upstream_request};
use crate::audit::AcknowledgedWrite;
use crate::clock::Timestamp;
use crate::metrics::NonCacheReply;
use crate::observation::WriteRecorder;
use crate::policy::cache_status::{CacheOutcome, Fwd};
use crate::policy::content::{Content, restrict_accept_encoding};
use crate::policy::invalidation::{BufferedContent, WriteExchange, WritePlan, WriteTargets, purges_nothing};
use crate::policy::write_outcome::{ExchangeEnd, SentContent, WriteOutcome};
use crate::policy::{RequestHead, Route};
use crate::purge::{Purge, PurgeVersion, Target};
use crate::upstream::{CapturedBody, RequestBody, RequestProgress, UpstreamBody};
use abandonment::ClientTimeout;

/// The default of `accepted_settle`, for a write that no route matches.
const UNROUTED_ACCEPTED_SETTLE: Duration = Duration::from_secs(10);

/// Forwards a write on a task of its own: a client that goes away stops neither the write nor its purge. A write that
/// purges nothing may become a tunnel, and ends when its client leaves.
pub(super) async fn write(worker: &Worker, mut request: ClientRequest, route: Option<&Arc<Route>>) -> Answer {
    let deadline = route.and_then(|route| route.timeout).map(|limit| Instant::now() + limit);
    let span = request.head.span();
    let is_cancellable = is_cancellable(worker, &request.head, route);
    let may_be_tunnel = purges_nothing(&worker.proxy.routes, &request.head.as_policy());
    let upgrade = may_be_tunnel.then(|| ClientUpgrade::take(&mut request.head)).flatten();
    let ClientRequest { head, body } = request;
    let pending = worker.proxy.pending_writes.register();
    let (worker, cut) = (worker.clone(), Notify::new());
    let write = Arc::new(Write {
        worker,
        head,
        route: route.cloned(),
        pending,
        cut,
        is_marked: false.into(),
        reserved_targets: 0.into(),
        sender: OnceLock::new(),
    });
    let (answer, timed_out) = oneshot::channel();
    let timeout = ClientTimeout { deadline, is_cancellable, answer };
    let exchange = run(write.clone(), (body, upgrade), timeout).instrument(span);
    let exchange = write.worker.proxy.tasks.spawn(exchange);
    let result = tokio::select! {
        biased;
        ended = exchange => ended.unwrap_or(Err(ProxyError::Interrupted)),
        Ok(()) = timed_out => Err(ProxyError::RouteTimeout),
    };
    let mut answer = match result {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Answer::without_cache(response, NonCacheReply::Tunnel, route)
        }
        Ok(response) => Answer::new(response, CacheOutcome::forwarded(Fwd::Method, None), route),
        Err(error) => Answer::from_error(&error, route),
    };
    if let Some(deadline) = deadline {
        answer.response = answer.response.map(|body| body.with_deadline(deadline));
    }
    answer
}

/// Whether the write ends when its client leaves: it purges nothing, and waits for no intent.
pub(super) fn is_cancellable(worker: &Worker, head: &ClientHead, route: Option<&Arc<Route>>) -> bool {
    !is_guarded(route) && purges_nothing(&worker.proxy.routes, &head.as_policy())
}

/// Runs the write so that its purge comes before its response, and is not lost even if the write panics.
async fn run(
    write: Arc<Write>,
    received: (Option<Incoming>, Option<ClientUpgrade>),
    timeout: ClientTimeout,
) -> Result<Response<Body>, ProxyError> {
    match tokio::spawn(write.clone().forward(received, timeout).in_current_span()).await {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(%error, "write interrupted");
            write.pending.purge_as_in_doubt(&write.worker.proxy.purger()).await;
            Err(ProxyError::Interrupted)
        }
    }
}

struct Write {
    worker: Worker,
    head: ClientHead,
    route: Option<Arc<Route>>,
    pending: PendingWrite,
    /// Breaks the exchange off: the client is answered and the upstream does not have the whole request, or the client has
    /// left and the write is cancelled.
    cut: Notify,
    /// A purge intent stands for it.
    is_marked: AtomicBool,
    /// The targets that other writes wait for already.
    reserved_targets: AtomicUsize,
    /// The owner of the budgets that it is charged to.
    sender: OnceLock<Sender>,
}

/// The targets of a write as far as its head names them, and the content that names more.
struct PlannedWrite<'a> {
    plan: WritePlan<'a>,
    request: RequestHead<'a>,
    written: WriteTargets,
    progress: RequestProgress,
    buffered: BufferedContent,
    captured: Option<CapturedBody>,
}

/// The contents that templates read, as far as they could be parsed.
#[derive(Default)]
struct Contents {
    request: Option<Content>,
    response: Option<Content>,
}

fn exchange_end(
    result: &Result<Response<UpstreamBody>, ProxyError>,
    progress: &RequestProgress,
) -> ExchangeEnd {
    match result {
        Ok(response) => ExchangeEnd::Answered(response.status()),
        Err(ProxyError::Upstream(error)) if !error.may_have_happened() => ExchangeEnd::NotSent,
        Err(_) if !progress.is_handed_over() => ExchangeEnd::NotSent,
        Err(_) => ExchangeEnd::Unanswered,
    }
}

fn sent_content(progress: &RequestProgress) -> SentContent {
    match progress.is_complete() {
        true => SentContent::Whole,
        false if progress.is_cut() => SentContent::Cut,
        false => SentContent::Running,
    }
}

impl Write {
    async fn forward(
        self: Arc<Self>,
        (body, upgrade): (Option<Incoming>, Option<ClientUpgrade>),
        mut client: ClientTimeout,
    ) -> Result<Response<Body>, ProxyError> {
        let head = &self.head;
        let writer = self.worker.name_writer(head);
        let request = RequestHead { caller: writer.view(), ..head.as_policy() };
        let plan = self.plan(&request);
        let written = plan.head_targets(&request);
        let mut body = upstream_request::body(&self.worker, head, self.route.as_deref(), body);
        let progress = body.track();
        let buffered = plan.content_to_buffer();
        let captured = buffered.request.map(|limit| body.capture(limit));
        let planned = PlannedWrite { plan, request, written, progress, buffered, captured };
        let mut exchange = pin!(self.exchange(&planned, body, upgrade));
        tokio::select! {
            biased;
            ended = &mut exchange => return ended,
            () = self.abandon(&mut client, &planned) => {}
        }
        // The client may have left.
        _ = client.answer.send(());
        exchange.await
    }

    fn plan<'a>(&'a self, request: &RequestHead<'_>) -> WritePlan<'a> {
        let proxy = &self.worker.proxy;
        WritePlan::new(&proxy.routes, request, proxy.config.purge.related_paths())
    }

    /// The exchange with the upstream, and the write's purge.
    async fn exchange(
        self: &Arc<Self>,
        planned: &PlannedWrite<'_>,
        mut body: RequestBody,
        upgrade: Option<ClientUpgrade>,
    ) -> Result<Response<Body>, ProxyError> {
        let (proxy, head) = (&self.worker.proxy, &self.head);
        let PlannedWrite { plan, request, written, progress, .. } = planned;
        // No intent stands while a slow client sends a small content.
        upstream_request::buffer_content(&self.worker, head, &mut body).await?;
        self.wait_for_turn(written.targets.len()).await?;
        let in_doubt_for = self.in_doubt_period(written.settle);
        let end = if self.holds_end(plan, written, &body) { body.hold_end() } else { None };
        let mut acquire = Box::pin(self.acquire_guard(planned, in_doubt_for));
        let guard = if end.is_none() { acquire.as_mut().await? } else { None };
        let (mut headers, query) = (head.parts.headers.clone(), head.parts.uri.query());
        if planned.buffered.response.is_some()
            && let Some(coding) = restrict_accept_encoding(&headers)
        {
            headers.insert(ACCEPT_ENCODING, coding);
        }
        let mut forwarded = upstream_request::build(head, headers, query, body);
        if let Some(upgrade) = &upgrade {
            upgrade.add_fields(forwarded.headers_mut());
        }
        let (rules, cause) = (Some(proxy.routes.rules()), Some(head.purge_reason()));
        let purge = Purge { in_doubt_for, rules, cause, ..Purge::hard(written.named()) };
        let by_content = self.content_targets(planned);
        if !self.pending.mark_sent(UnconfirmedWrite { purge, route: self.route.clone(), by_content }) {
            guard.into_iter().for_each(|guard| guard.abort(proxy));
            return Err(ProxyError::RouteTimeout);
        }
        let sent_at = proxy.clock.now();
        let observed = self.begin_observing();
        self.report_dropped_fields();
        let write = self.until_cut(upstream_request::send(&self.worker, forwarded, head));
        let (result, guard) = match end {
            Some(end) => WriteGuard::send_before_end(write, end, acquire).await,
            None => {
                drop(acquire);
                WriteGuard::send(guard, write).await
            }
        };
        // It may have ended its caller's session, or made it somebody else's.
        proxy.callers.forget_everywhere(head.as_asked());
        self.end_verdicts_on_caller();
        let outcome = plan.outcome_rules().evaluate(exchange_end(&result, progress), sent_content(progress));
        let outcome = self.limit_cut(outcome);
        let mut result = result.map(|response| self.client_response(response, upgrade));
        let contents = match outcome {
            WriteOutcome::Nothing | WriteOutcome::PurgeUrl | WriteOutcome::PurgeUrlOfCut => {
                Contents::default()
            }
            WriteOutcome::Purge | WriteOutcome::PurgeInDoubt => {
                self.parse_contents(planned, &mut result).await
            }
        };
        let exchange = WriteExchange {
            request_content: contents.request.as_ref(),
            response_headers: result.as_ref().ok().map(Response::headers),
            response_content: contents.response.as_ref(),
            upstream_host: proxy.config.upstream.host.replacement(),
        };
        let (mut outcome, mut written) = plan.finish(request, written.clone(), outcome, &exchange);
        if outcome != WriteOutcome::Nothing {
            self.pending.name_targets(written.targets.to_vec());
        }
        let is_limited = self.limit_to_budget(outcome, &mut written);
        if is_limited {
            outcome = WriteOutcome::Purge;
        }
        if result.as_ref().is_ok_and(|response| response.status() == StatusCode::ACCEPTED) {
            let of_route = self.route.as_ref().map(|route| route.accepted_settle);
            let accepted = of_route.unwrap_or(UNROUTED_ACCEPTED_SETTLE);
            written.settle = written.settle.max(accepted);
        }
        #[cfg(test)]
        super::panic_tests::trap(head, "write");
        let purges = outcome != WriteOutcome::Nothing && !written.targets.is_empty();
        let is_streamed = match &mut result {
            Ok(response) if purges => is_streamed(response, self.worker.memory()).await,
            _ => false,
        };
        if !purges {
            guard.into_iter().for_each(|guard| guard.abort(proxy));
            self.record_end(sent_at, &result, observed);
            self.pending.settle();
            return Ok(self.with_position(result?, None));
        }
        proxy.metrics.record_widened(written.widened);
        let in_doubt_for = self.in_doubt_period(written.settle);
        let (route, cause) = (self.route.clone(), head.purge_reason());
        let purge = WritePurge { proxy: proxy.clone(), route, cause, written, in_doubt_for };
        let intent = guard.map(WriteGuard::into_intent);
        // A mark stands until the write has ended, if it does not expire before that.
        let (now, at_end) = if is_streamed { (None, intent) } else { (intent, None) };
        let position = purge.record(outcome, now).await;
        self.record_end(sent_at, &result, observed);
        // A position says that everything the write changed is purged.
        let is_whole = outcome == WriteOutcome::Purge
            && purge.written.widened == 0
            && !is_limited
            && !is_streamed
            && purge.written.targets.are_hard_and_at_once();
        let position = position.filter(|_| is_whole);
        if !is_streamed {
            // Also if nothing was answered: the purge above is all that there is to do.
            self.pending.settle();
            return Ok(self.with_position(result?, position));
        }
        let response = self.with_position(result?, position);
        let unseen = if is_limited { WriteOutcome::Purge } else { WriteOutcome::PurgeInDoubt };
        Ok(purge.repeat_at_end(response, self.pending.clone(), (unseen, at_end)))
    }

    async fn acquire_guard(
        &self,
        PlannedWrite { plan, request, written, .. }: &PlannedWrite<'_>,
        in_doubt_for: Duration,
    ) -> Result<Option<WriteGuard>, ProxyError> {
        let (proxy, route) = (&self.worker.proxy, self.route.as_ref());
        let intended = || self.intent_targets(plan, request, written);
        let guard = WriteGuard::acquire(proxy, &self.head, route, in_doubt_for, intended).await?;
        self.is_marked.store(guard.is_some(), Ordering::Release);
        Ok(guard)
    }

    /// Whether the intent is recorded before the end of the content goes out. A small content is whole already, and some
    /// upstreams act on a part: then it stands for as long as the client sends, and is charged to its sender's budget.
    fn holds_end(&self, plan: &WritePlan<'_>, written: &WriteTargets, body: &RequestBody) -> bool {
        if !is_guarded(self.route.as_ref()) || !body.is_streamed() {
            return false;
        }
        let is_at_once =
            plan.outcome_rules().partial_is_unclear && self.charge_budget(written.targets.len().max(1));
        if plan.outcome_rules().partial_is_unclear && !is_at_once {
            self.record_overrun();
        }
        !is_at_once
    }

    /// The response as it goes on to the client, who switches protocols with the upstream's consent.
    fn client_response(
        &self,
        response: Response<UpstreamBody>,
        upgrade: Option<ClientUpgrade>,
    ) -> Response<Body> {
        match upgrade {
            Some(upgrade) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                tunnel::open(upgrade, response, TunnelLimits::new(&self.worker))
            }
            _ => upstream_request::client_response(response),
        }
    }

    /// The API may take the write for another one without a field that `underscores` dropped.
    fn report_dropped_fields(&self) {
        let Some(DroppedUnderscores(names)) = self.head.parts.extensions.get() else { return };
        let (proxy, client) = (&self.worker.proxy, sender_network(&self.head));
        names.iter().for_each(|name| proxy.first_notices.record_underscored(name, client));
        proxy.metrics.record_write_fields_dropped(names.len());
    }

    fn begin_observing(&self) -> Option<WriteRecorder> {
        let proxy = &self.worker.proxy;
        let sketch = proxy.observed.as_ref()?;
        Some(WriteRecorder::begin(sketch, &self.head.parts, &proxy.clock))
    }

    /// The write may have ended other sessions of its caller, too, if it is one that purges what the caller has.
    fn end_verdicts_on_caller(&self) {
        let purging =
            self.route.as_ref().filter(|route| route.purges.as_ref().is_some_and(|it| !it.is_empty()));
        if let Some(source) = purging.and_then(|route| route.callers.as_ref())
            && let Some(verdict) = self.head.find_caller(source)
        {
            self.worker.proxy.callers.forget_identity(source, verdict);
        }
    }

    /// Keeps the write as a possible cause of changes, unless it failed. It is kept before it counts as settled.
    fn record_end(
        &self,
        sent_at: Timestamp,
        result: &Result<Response<Body>, ProxyError>,
        mut observed: Option<WriteRecorder>,
    ) {
        let has_failed = result.as_ref().is_ok_and(|response| response.status().is_client_error());
        if has_failed {
            observed.iter_mut().for_each(WriteRecorder::set_failed);
            return;
        }
        let Some(audit) = &self.worker.proxy.audit else { return };
        let parts = &self.head.parts;
        let times = (sent_at, self.worker.proxy.clock.now());
        audit.record_write(AcknowledgedWrite::new(
            &parts.method,
            parts.uri.path(),
            self.route.as_deref(),
            times,
        ));
    }

    fn with_position(&self, mut response: Response<Body>, version: Option<PurgeVersion>) -> Response<Body> {
        response.headers_mut().remove(LARDER_POSITION);
        let position = version.map(|version| self.worker.proxy.store.position(version));
        if let Some(position) = position.and_then(|position| HeaderValue::try_from(position).ok()) {
            response.headers_mut().insert(LARDER_POSITION, position);
        }
        response
    }

    /// The targets of the purge intent: all that the write may purge; beyond the sender's budget, those named in full.
    fn intent_targets(
        &self,
        plan: &WritePlan<'_>,
        request: &RequestHead<'_>,
        written: &WriteTargets,
    ) -> Vec<Target> {
        let (possible, named) = (plan.possible_targets(request), written.named());
        let widened = possible.len().saturating_sub(named.len());
        if widened == 0 || self.charge_budget(widened) {
            return possible;
        }
        self.record_overrun();
        named
    }

    async fn parse_contents(
        &self,
        planned: &PlannedWrite<'_>,
        result: &mut Result<Response<Body>, ProxyError>,
    ) -> Contents {
        let request = self.parse_request_content(planned.captured.as_ref()).await;
        let mut contents = Contents { request, response: None };
        if let (Some(limit), Ok(response)) = (planned.buffered.response, result)
            && Content::is_expected(response.headers()).is_ok()
        {
            let timeout = self.head.timeouts(&self.worker.proxy.config).idle;
            let content = response.body_mut().buffer(limit, timeout, self.worker.memory()).await;
            if let Some(content) = content {
                let (headers, length) = (response.headers().clone(), content.len());
                let parse = move || Content::parse_response(&headers, &content, limit).ok();
                contents.response = self.parse(length, parse).await;
            }
        }
        contents
    }

    async fn parse_request_content(&self, captured: Option<&CapturedBody>) -> Option<Content> {
        let (content, limit) = (captured?.complete_content()?, captured?.limit());
        let (headers, length) = (self.head.parts.headers.clone(), content.len());
        self.parse(length, move || Content::parse_request(&headers, &content, limit).ok()).await
    }

    async fn parse(
        &self,
        length: usize,
        parse: impl FnOnce() -> Option<Content> + Send + 'static,
    ) -> Option<Content> {
        self.worker.proxy.content_parser.run(length, parse).await.flatten()
    }

    /// How long an upstream may still answer from before a write whose outcome is unknown: the write takes effect late,
    /// and after that copies lag. A route's shorter time-out ends the wait, and not the write.
    fn in_doubt_period(&self, settle: Duration) -> Duration {
        let config = &self.worker.proxy.config;
        settle + self.head.timeouts(config).response.max(config.upstream.response_timeout)
    }
}
