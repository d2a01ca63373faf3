//! Request collapsing: one fetch serves all requests for the same response at the same time (RFC 9111 §4).

use std::sync::Arc;
use std::time::Instant;

use http::header::{IF_RANGE, RANGE, TRAILER};
use http::{HeaderMap, Response, StatusCode};
use tokio::time::timeout_at;

use super::answer::Answer;
use super::body::Body;
use super::client_request::ClientHead;
use super::error::ProxyError;
use super::fetch::{CostBearer, Fetch, FetchTarget, LeaderResult, request_targets};
use super::lookup::{CacheHit, CacheRequest, LookupOutcome, Miss};
use super::requester::Requester;
use super::single_flight::{FetchOutcome, InFlightFetch, InFlightResponse, Join, Leader, collapse_patience};
use super::unsent_bytes::is_over_budget;
use super::worker::Worker;
use super::{reply, upstream_request};
use crate::policy::CacheKey;
use crate::policy::cache_status::CacheOutcome;
use crate::policy::classify::{CacheLookup, PassReason};
use crate::policy::compression::select_coding;
use crate::policy::lifetime_limits;
use crate::policy::route::Collapse;
use crate::purge::Validity;
use crate::upstream::{RequestBody, UpstreamError};

/// How many fetches in a row a request joins before it fetches alone.
const MAX_JOINS: usize = 4;

/// A request that nothing stored answers.
#[derive(Clone, Copy)]
pub(super) struct MissedRequest<'a> {
    pub worker: &'a Worker,
    pub head: &'a Arc<ClientHead>,
    pub lookup: &'a CacheLookup<'a>,
}

/// The events that a request has waited for.
struct Waited {
    since: Instant,
    /// The last fetch that did not serve it.
    refused: Option<Arc<InFlightFetch>>,
    /// The fetch that takes too long, beside which another one goes on.
    overdue: Option<Arc<InFlightFetch>>,
    /// How many errors and uncacheable responses of other requests were not for this one.
    refused_errors: usize,
    /// It does not try again after a timeout.
    has_retried: bool,
}

/// The response is not for the query that the client sent (`No-Vary-Search`), which is to be looked up as it came.
pub(super) struct OtherQuery;

/// The next step of a request whose fetch has ended.
#[expect(clippy::large_enum_variant, reason = "it is matched at once")]
enum Next {
    Answer(Answer),
    LookUpAgain,
    FetchAlone,
    OtherQuery,
}

impl<'a> MissedRequest<'a> {
    fn cached(&self) -> CacheRequest<'a> {
        CacheRequest { worker: self.worker, head: self.head, lookup: self.lookup }
    }

    /// Fetches, or waits for another request's fetch if its response would be a hit.
    pub(super) async fn fetch_or_join(&self, mut miss: Miss) -> Result<Answer, OtherQuery> {
        if is_over_budget(self.worker, self.head) {
            return Ok(self.pass_as_asked(PassReason::UnsentBytes).await);
        }
        if !self.lookup.caller.is_in_key() || self.lookup.route.collapse == Collapse::No {
            return self.fetch_alone(&miss).await;
        }
        let (table, requester) = (&self.worker.proxy.collapse_table, || Requester::new(&miss.key, self.head));
        if table.is_failing(&miss.key, self.cached().caller_kind(), requester)
            && let Some(hit) = miss.stale_hit(&self.cached())
        {
            return Ok(hit.into_answer(&self.cached()));
        }
        let mut waited = Waited::new();
        for _ in 0..MAX_JOINS {
            match self.lead_or_follow(&miss, &mut waited).await {
                Next::Answer(answer) => return Ok(answer),
                Next::OtherQuery => return Err(OtherQuery),
                Next::FetchAlone => break,
                Next::LookUpAgain => {}
            }
            match self.cached().look_up().await {
                LookupOutcome::Fresh(hit) | LookupOutcome::Stale(hit, _) => {
                    return Ok(hit.into_answer(&self.cached()));
                }
                LookupOutcome::Miss(again) if again.is_of_other_query() => return Err(OtherQuery),
                LookupOutcome::Miss(again) => miss = again,
            }
        }
        match self.may_pass_range() {
            true => Ok(self.pass_as_asked(PassReason::Range).await),
            false => self.fetch_alone(&miss).await,
        }
    }

    /// Fetches for all requests with this key, or waits for the one that does.
    async fn lead_or_follow(&self, miss: &Miss, waited: &mut Waited) -> Next {
        let (table, caller) = (&self.worker.proxy.collapse_table, self.cached().caller_kind());
        // The first error of another request may be a bad request's. The second one is left to requests like this one.
        let refuses = waited.refused_errors > 1;
        let among = refuses.then(|| self.head.key_of_fields(&miss.key));
        if table.is_uncacheable(&miss.key, caller, || self.head.key_of_fields(&miss.key)) {
            return Next::FetchAlone;
        }
        let (fetch, leads) = match self.join(&miss.key, waited.refused.as_ref(), among) {
            Join::Follower(fetch) => (fetch, false),
            // It may wait for others of its client, so it fetches alone.
            Join::Leader(leader) if self.is_share_used_up() => {
                leader.finish(FetchOutcome::Retry);
                return Next::FetchAlone;
            }
            Join::Leader(leader) => {
                let _turn = match refuses {
                    true => table.take_turn(self.lookup.route.collapse_timeout).await,
                    false => None,
                };
                if let Some(hit) = self.find_again(miss).await {
                    leader.finish(FetchOutcome::Retry);
                    return Next::Answer(hit.into_answer(&self.cached()));
                }
                let fetch = leader.fetch().clone();
                match self.lead(leader, miss, waited).await {
                    Some(Ok(answer)) => return Next::Answer(answer),
                    Some(Err(OtherQuery)) => return Next::OtherQuery,
                    None => (fetch, true),
                }
            }
        };
        let next = self.wait(&fetch, leads, miss, waited).await;
        if matches!(next, Next::LookUpAgain) {
            waited.refused = Some(fetch);
        }
        next
    }

    /// Joins the fetch under way, or starts one: also beside a fetch that a purge has doomed. One in the place of a fetch
    /// that did not serve this request is the second of two, too, as long as the first one waits.
    fn join(&self, key: &CacheKey, refused: Option<&Arc<InFlightFetch>>, among: Option<CacheKey>) -> Join {
        let (table, caller) = (&self.worker.proxy.collapse_table, self.cached().caller_kind());
        let (join, beside) = match table.join(key, caller, refused, among) {
            Join::Follower(fetch) if !fetch.start.is_one_of_two() && self.is_doomed(&fetch) => {
                (table.join(key, caller, Some(&fetch), among), Some(fetch.start.clone()))
            }
            join => (join, refused.and_then(|refused| refused.start.still_waiting())),
        };
        if let (Join::Leader(leader), Some(beside)) = (&join, &beside) {
            leader.fetch().start.set_beside(beside);
        }
        join
    }

    /// Whether a purge since the fetch began names what this request tells of the response: its URL, and tags that need no
    /// response.
    fn is_doomed(&self, fetch: &InFlightFetch) -> bool {
        let (store, Some(at)) = (&self.worker.proxy.store, fetch.start.read_version()) else { return false };
        let bearer = CostBearer::for_request(self.head);
        let targets = || request_targets(&FetchTarget::new(self.worker, self.head, self.lookup, bearer));
        store.latest_version() > at.version && store.was_purged_since(at, &targets())
    }

    fn is_share_used_up(&self) -> bool {
        let client = upstream_request::network(self.head);
        client.is_some_and(|client| self.worker.upstream.is_share_used_up(client))
    }

    /// Whether the upstream's part continues the whole that the client would get. A date in `If-Range` does not tell the
    /// compressed content from the upstream's.
    fn may_pass_range(&self) -> bool {
        self.head.has(&RANGE) && select_coding(self.lookup.route, &self.head.parts.headers).is_none()
    }

    /// Forwards a request for a range, or with a condition, as it is: the whole response is not for the store. The whole is
    /// asked for where a part of it would not continue the client's.
    pub(super) async fn pass_as_asked(&self, reason: PassReason) -> Answer {
        let (mut headers, query) = (self.head.parts.headers.clone(), self.head.parts.uri.query());
        if !self.may_pass_range() {
            [RANGE, IF_RANGE].iter().for_each(|name| drop(headers.remove(name)));
        }
        let mut request = upstream_request::build(self.head, headers, query, RequestBody::empty());
        upstream_request::restore_condition(&mut request);
        let route = Some(self.lookup.route);
        match upstream_request::send(self.worker, request, self.head).await {
            Ok(response) => {
                let outcome = CacheOutcome::pass(reason);
                Answer::new(upstream_request::client_response(response), outcome, route)
            }
            Err(error) => Answer::from_error(&error, route),
        }
    }

    /// Fetches without letting others join.
    pub(super) async fn fetch_alone(&self, miss: &Miss) -> Result<Answer, OtherQuery> {
        let caller = self.cached().caller_kind();
        let leader = self.worker.proxy.collapse_table.lead_unshared(&miss.key, caller);
        let fetch = leader.fetch().clone();
        let mut waited = Waited::new();
        if let Some(answer) = self.lead(leader, miss, &mut waited).await {
            return answer;
        }
        match self.settle(fetch.outcome().await, &fetch, miss, &mut waited) {
            Next::Answer(answer) => Ok(answer),
            Next::OtherQuery => Err(OtherQuery),
            Next::LookUpAgain | Next::FetchAlone => {
                Ok(miss.answer_error(&self.cached(), &ProxyError::Interrupted))
            }
        }
    }

    /// Looks once more as the new leader: a fetch that ended meanwhile may have stored the response.
    async fn find_again(&self, miss: &Miss) -> Option<CacheHit> {
        match self.head.refresh {
            Some(_) => self.cached().find_remote(miss).await,
            None => self.cached().find_local(miss.key),
        }
    }

    /// Runs the fetch as a task of its own: if this client goes away, it goes on for the followers and for the store.
    /// `None`: the leader has no response of its own, and gets the outcome that everyone gets.
    async fn lead(
        &self,
        leader: Leader,
        miss: &Miss,
        waited: &mut Waited,
    ) -> Option<Result<Answer, OtherQuery>> {
        let request = self.cached();
        let now = || self.worker.proxy.clock.now();
        let bearer = CostBearer::for_request(self.head);
        let mut own = Fetch::new(self.worker, self.head, self.lookup, miss, bearer).start(leader);
        let result = match waited.overdue.take() {
            None => own.await,
            Some(overdue) => tokio::select! {
                result = &mut own => result,
                outcome = overdue.outcome() => {
                    match self.settle_overdue(outcome, &overdue, miss, waited) {
                        Some(answer) => return Some(Ok(answer)),
                        None => own.await,
                    }
                }
            },
        };
        let result = result.ok()?;
        if !self.answers_client(&result) {
            // An error says nothing of the path's other queries.
            if result.status().is_success() {
                self.worker.proxy.search_hints.forget(self.head);
            }
            return Some(Err(OtherQuery));
        }
        let (response, outcome) = match result {
            LeaderResult::Reader { shared, reader } => {
                let now = now();
                let outcome = match shared.not_stored.or(shared.predicted_uncacheable) {
                    Some(reason) => miss.not_stored(reason),
                    None => {
                        // The content, which may name an earlier end, is still to come.
                        let is_known = !lifetime_limits::needs_content(self.lookup.route);
                        let ttl = is_known.then(|| shared.head.terms().ttl(now));
                        CacheOutcome::stored(miss.fwd, ttl).because(miss.reason)
                    }
                };
                let mut response = reply::from_in_flight(&shared.head, reader, self.head, now);
                add_fields(&mut response, &shared.dropped);
                (response, outcome)
            }
            LeaderResult::Freshened { stored, dropped } => {
                let now = now();
                let outcome = CacheOutcome::freshened(miss.fwd, stored.head.terms().ttl(now));
                let mut answer = CacheHit { stored, now, outcome }.into_answer(&request);
                add_fields(&mut answer.response, &dropped);
                return Some(Ok(answer));
            }
            LeaderResult::Response { response, .. }
                if response.status() == StatusCode::OK && self.may_pass_range() =>
            {
                response.into_body().drain(&self.worker.proxy.tasks);
                return Some(Ok(self.pass_as_asked(PassReason::Range).await));
            }
            LeaderResult::Response { response, not_stored } => {
                let (response, unsent) = reply::from_upstream(response, self.head, now());
                unsent.into_iter().for_each(|body| body.drain(&self.worker.proxy.tasks));
                (response, miss.not_stored(not_stored))
            }
        };
        let failed = response.status().is_server_error().then(|| response.status());
        let stale = failed.and_then(|status| miss.stale_if_error(&request, Some(status)));
        Some(Ok(stale.unwrap_or_else(|| Answer::new(response, outcome, Some(self.lookup.route)))))
    }

    /// Whether the response answers the query that the client sent. An error says that the upstream failed, whatever it was
    /// asked.
    fn answers_client(&self, result: &LeaderResult) -> bool {
        match result {
            LeaderResult::Reader { shared, .. } => {
                shared.head.status.is_server_error() || self.lookup.covers_query(&shared.head)
            }
            LeaderResult::Freshened { stored, .. } => self.lookup.covers_query(&stored.head),
            LeaderResult::Response { response, .. } => {
                response.status().is_server_error() || self.lookup.query.accepts(response.headers())
            }
        }
    }

    /// Waits for the outcome of a fetch, and answers with it if it is for this request. If it takes too long, one more
    /// request goes to the upstream, and the first outcome counts.
    async fn wait(&self, fetch: &Arc<InFlightFetch>, leads: bool, miss: &Miss, waited: &mut Waited) -> Next {
        let _follower = (!leads).then(|| self.worker.proxy.metrics.start_following());
        let outcome = match waited.overdue.take() {
            _ if leads => fetch.outcome().await,
            Some(overdue) => tokio::select! {
                outcome = fetch.outcome() => outcome,
                outcome = overdue.outcome() => {
                    match self.settle_overdue(outcome, &overdue, miss, waited) {
                        Some(answer) => return Next::Answer(answer),
                        None => fetch.outcome().await,
                    }
                }
            },
            None if waited.has_retried => fetch.outcome().await,
            None => match timeout_at(self.patience_with(fetch), fetch.outcome()).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    waited.has_retried = true;
                    waited.overdue = Some(fetch.clone());
                    return Next::LookUpAgain;
                }
            },
        };
        // Once it reads the content, it depends on the fetch to the end. A part may be there already.
        if let (false, FetchOutcome::Streaming(shared)) = (leads || self.head.has(&RANGE), &outcome) {
            shared.body.wait_for_short(self.lookup.route.collapse_timeout).await;
        }
        // Only a follower tries again.
        waited.has_retried |= leads;
        self.settle(outcome, fetch, miss, waited)
    }

    /// When another request than the leader goes to the upstream.
    fn patience_with(&self, fetch: &InFlightFetch) -> tokio::time::Instant {
        (fetch.started_at() + collapse_patience(self.lookup.route)).into()
    }

    /// The answer by a fetch that took too long, unless another one is still under way that may bring a better one.
    fn settle_overdue(
        &self,
        outcome: FetchOutcome,
        fetch: &InFlightFetch,
        miss: &Miss,
        waited: &mut Waited,
    ) -> Option<Answer> {
        if matches!(outcome, FetchOutcome::Failed(_) | FetchOutcome::Interrupted) {
            return None;
        }
        match self.settle(outcome, fetch, miss, waited) {
            Next::Answer(answer) => Some(answer),
            Next::LookUpAgain | Next::FetchAlone | Next::OtherQuery => None,
        }
    }

    /// Answers with the outcome of a fetch if it is for this request.
    fn settle(&self, outcome: FetchOutcome, fetch: &InFlightFetch, miss: &Miss, waited: &mut Waited) -> Next {
        if !self.answers_query(&outcome) {
            return Next::OtherQuery;
        }
        let request = self.cached();
        match outcome {
            FetchOutcome::Streaming(shared) => match self.follow(&shared, fetch, miss, waited) {
                Some(answer) => Next::Answer(answer),
                None => Next::LookUpAgain,
            },
            FetchOutcome::Complete(stored) | FetchOutcome::StoredElsewhere(stored) => {
                if !request.is_hit(&stored.head, miss.key) {
                    return Next::LookUpAgain;
                }
                let now = self.worker.proxy.clock.now();
                let outcome =
                    CacheOutcome::collapsed(miss.fwd, stored.head.terms().ttl(now)).because(miss.reason);
                Next::Answer(CacheHit { stored, now, outcome }.into_answer(&request))
            }
            FetchOutcome::Retry => Next::LookUpAgain,
            // A response to a caller of the other kind says nothing of this one's.
            FetchOutcome::Uncacheable if fetch.caller != request.caller_kind() => Next::LookUpAgain,
            // Neither does one to a request with other fields, which may be what made it uncacheable.
            FetchOutcome::Uncacheable if !waited.accepts_error(fetch, self.head, true) => Next::LookUpAgain,
            FetchOutcome::Uncacheable => Next::FetchAlone,
            FetchOutcome::Failed(error) => self.settle_failed(&error, fetch, miss, waited),
            FetchOutcome::Interrupted => Next::Answer(miss.answer_error(&request, &ProxyError::Interrupted)),
        }
    }

    /// Whether an outcome with a response is for the query that the client sent.
    fn answers_query(&self, outcome: &FetchOutcome) -> bool {
        match outcome {
            FetchOutcome::Streaming(shared) => {
                shared.error_status().is_some() || self.lookup.covers_query(&shared.head)
            }
            FetchOutcome::Complete(stored) | FetchOutcome::StoredElsewhere(stored) => {
                self.lookup.covers_query(&stored.head)
            }
            _ => true,
        }
    }

    fn settle_failed(
        &self,
        error: &ProxyError,
        fetch: &InFlightFetch,
        miss: &Miss,
        waited: &mut Waited,
    ) -> Next {
        if let Some(answer) = miss.stale_if_error(&self.cached(), None) {
            return Next::Answer(answer);
        }
        let is_timeout = *error == ProxyError::Upstream(UpstreamError::Timeout);
        if !waited.accepts_error(fetch, self.head, error.may_depend_on_request())
            || (is_timeout && !waited.has_retried)
        {
            waited.has_retried = true;
            return Next::LookUpAgain;
        }
        Next::Answer(Answer::from_error(error, Some(self.lookup.route)))
    }

    /// Joins the response in flight if it would be a hit were it stored now, and its content arrives. An error answers
    /// those whose forwarded fields are the leader's.
    fn follow(
        &self,
        shared: &InFlightResponse,
        fetch: &InFlightFetch,
        miss: &Miss,
        waited: &mut Waited,
    ) -> Option<Answer> {
        let request = self.cached();
        // Those who have joined read on; this one asks the upstream once more.
        if fetch.has_stalled(self.lookup.route) {
            return None;
        }
        // No purge that was acknowledged before this request is missing from a fetch that began later.
        let validity = match fetch.started_at() > waited.since {
            true => Validity::Valid,
            false => request.validity_in_flight(shared),
        };
        let is_usable = match shared.error_status() {
            Some(_) => validity != Validity::Dead,
            None => request.is_reusable(&shared.head, validity, miss.key),
        };
        if !is_usable {
            return None;
        }
        if let Some(status) = shared.error_status() {
            if let Some(answer) = miss.stale_if_error(&request, Some(status)) {
                return Some(answer);
            }
            if !waited.accepts_error(fetch, self.head, true) {
                return None;
            }
        }
        let reader = shared.body.new_reader()?.without_trailers();
        let now = self.worker.proxy.clock.now();
        let outcome = CacheOutcome::collapsed(miss.fwd, shared.head.terms().ttl(now)).because(miss.reason);
        let mut response = reply::from_in_flight(&shared.head, reader, self.head, now);
        response.headers_mut().remove(TRAILER);
        Some(Answer::new(response, outcome, Some(self.lookup.route)))
    }
}

/// Adds the fields that only the leader gets.
fn add_fields(response: &mut Response<Body>, fields: &HeaderMap) {
    for (name, value) in fields {
        response.headers_mut().append(name.clone(), value.clone());
    }
}

impl Waited {
    fn new() -> Self {
        Self { since: Instant::now(), refused: None, overdue: None, refused_errors: 0, has_retried: false }
    }

    /// Whether the error of a fetch answers this request: its leader forwarded the same fields.
    fn accepts_error(&mut self, fetch: &InFlightFetch, head: &ClientHead, depends_on_request: bool) -> bool {
        let accepts = !depends_on_request || fetch.forwards_same_fields(head);
        self.refused_errors += usize::from(!accepts);
        accepts
    }
}
