//! A fetch whose response may be shared and stored.
//!
//! It asks the upstream for the whole response, gives it to all who wait as soon as its header section is there, and stores
//! it once the last byte has come. It runs as a task of its own: a client that goes away does not end it.

mod entry;
mod insert;
mod leader_result;
mod lease;
mod pump;
mod target;
mod withdraw;

use std::sync::Arc;

use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderMap, Response, StatusCode};
use tokio::sync::oneshot;

use super::body::Body;
use super::client_request::ClientHead;
use super::content_parser::ContentParser;
use super::first_notices::{FieldEffect, FieldSender};
use super::lookup::{Miss, StaleResponse};
use super::refresh_failures::RefreshFailure;
use super::reply;
use super::sender_budgets::sender_network;
use super::shared_body::SharedBody;
use super::single_flight::{FetchOutcome, InFlightResponse, Leader, Uncacheable};
use super::unsent_bytes::UnsentBytes;
use super::worker::Worker;
use crate::policy::classify::{CacheLookup, Caller};
use crate::policy::credentials::field_outside_key;
use crate::policy::freshness::ExchangeTimes;
use crate::policy::lifetime_limits;
use crate::policy::no_vary_search::{NO_VARY_SEARCH, SearchVariance};
use crate::policy::not_stored::NotStored;
use crate::policy::response_admission::too_large_reason;
use crate::policy::route::{Collapse, Shared};
use crate::policy::storing::may_share_error;
use crate::policy::validation::merge_headers;
use crate::store::{FetchToken, LeaseOutcome};
use crate::stored_response::{StoredEntry, StoredHead, StoredResponse, Terms};
use entry::is_fresh;
pub(super) use entry::{content_length, request_targets};
pub(super) use leader_result::LeaderResult;
use lease::{HeldLease, LeaseResult};
use pump::{FinishOnDrop, pump};
pub(super) use target::{CostBearer, FetchTarget};
use target::{Fetched, UpstreamResponse, refresh_failure};
use withdraw::{find_withdrawal, find_withdrawal_by_head, withdraw, withdraw_other_variants};

pub(super) struct Fetch {
    target: FetchTarget,
    stale: Option<StaleResponse>,
    token: FetchToken,
    lease: HeldLease,
}

impl Fetch {
    /// The fetch counts as begun from here on: it does not contain what is purged later.
    pub(super) fn new(
        worker: &Worker,
        head: &Arc<ClientHead>,
        lookup: &CacheLookup<'_>,
        miss: &Miss,
        cost_bearer: CostBearer,
    ) -> Self {
        let target = FetchTarget::new(worker, head, lookup, cost_bearer);
        let token = target.begin_fetch(&miss.key);
        let mut fetch = Self { target, stale: miss.stale.clone(), token, lease: HeldLease::default() };
        fetch.recheck_stale();
        fetch
    }

    pub(super) fn start(self, leader: Leader) -> oneshot::Receiver<LeaderResult> {
        leader.set_head(&self.target.head);
        let (own, receiver) = oneshot::channel();
        let tasks = self.target.proxy().tasks.clone();
        tasks.spawn(self.run(leader, own));
        receiver
    }

    async fn run(mut self, leader: Leader, own: oneshot::Sender<LeaderResult>) {
        #[cfg(test)]
        super::panic_tests::trap(&self.target.head, "fetch");
        match lease::acquire(&self.target, *self.token.key(), self.stale.as_ref(), &leader).await {
            LeaseResult::NotNeeded => {}
            LeaseResult::Fetch(lease) => {
                self.lease = lease;
                // Time has passed: the fetch begins only now.
                self.token = self.target.begin_fetch(self.token.key());
                self.recheck_stale();
            }
            LeaseResult::Uncacheable(lasts) => {
                leader.mark_hit_for_miss_for(lasts);
                return leader.finish(FetchOutcome::Uncacheable);
            }
            LeaseResult::Stored(stored) => return leader.finish(FetchOutcome::StoredElsewhere(stored)),
        }
        leader.fetch().start.record(self.token.began_at());
        let fetched = self.target.fetch(self.stale.as_ref()).await;
        if let Some(failure) = refresh_failure(&fetched) {
            self.record_refresh_failure(&leader, failure);
        }
        let has_same_caller = fetched.is_err() || self.target.has_same_caller().await;
        match fetched {
            Ok(fetched) if !has_same_caller => {
                // A response to this caller says nothing about those to the other one.
                (self.stale, self.target.caller) = (None, Caller::Credentialed { until: None });
                let reason = NotStored::ChangedCaller;
                match self.target.without_validation(fetched).await {
                    Ok(response) => self.finish_unstored(response.into_response(), reason, &leader, own),
                    Err(error) => leader.finish(FetchOutcome::Failed(error)),
                }
            }
            Ok(Fetched::Response(response)) => self.handle_response(response, leader, own).await,
            Ok(Fetched::NotModified { update, stale, strong }) => {
                self.freshen(update, &stale, strong, &leader, own).await;
            }
            Err(error) => leader.finish(FetchOutcome::Failed(error)),
        }
    }

    /// Drops the stale response if it was purged. To be called after the token is taken, so that no purge falls between.
    fn recheck_stale(&mut self) {
        if self.target.route.collapse == Collapse::Replicas {
            self.token.yield_to_newer();
        }
        let store = self.target.proxy().store.as_ref();
        self.stale = self.stale.as_ref().and_then(|stale| stale.recheck(store));
    }

    /// The header section is there: decides who gets the response, and whether it is stored.
    async fn handle_response(
        mut self,
        response: UpstreamResponse,
        leader: Leader,
        own: oneshot::Sender<LeaderResult>,
    ) {
        let UpstreamResponse { status, headers, times, .. } = &response;
        let length = content_length(headers);
        let version = self.token.read_version();
        let target = &self.target;
        let request = target.request();
        let admitted = match response.has_stray_content {
            true => Err(NotStored::StrayContent),
            false => target.context(&request).admit_headers(*status, headers, length, *times),
        };
        let admitted = admitted.and_then(|terms| entry::head_of_response(target, &response, terms, version));
        let (head, not_stored) = match admitted {
            Ok(head) => (Ok(head), None),
            Err(reason) if self.is_shared_error(&response, reason) => {
                let terms = Terms::unstored(times.requested_at, times.received_at);
                let head = entry::head_of_response(target, &response, terms, version);
                (head.map_err(|_| reason), Some(reason))
            }
            Err(reason) => (Err(reason), None),
        };
        match head {
            Ok(head) => {
                self.announce(&head, not_stored, &leader);
                if not_stored.is_none() && self.target.route.shared != Shared::No {
                    self.record_credential(FieldEffect::Shared);
                }
                let dropped = self.drop_fields(&response.headers);
                let shared = in_flight(head, (length, dropped), not_stored, &self.target, &leader);
                self.stream_to_all(shared, response.body, leader, own).await;
            }
            Err(reason) => self.finish_unstored(response.into_response(), reason, &leader, own),
        }
    }

    /// Tells the collapse table, the store and the other replicas what the header section says.
    fn announce(&mut self, head: &StoredHead, not_stored: Option<NotStored>, leader: &Leader) {
        if not_stored.is_some() {
            self.record_unstored_refresh(head.status, leader);
            leader.close();
            return self.lease.release(LeaseOutcome::FAILED);
        }
        self.learn_variance(head);
        if !is_fresh(head) && head.terms().stale_while_revalidate.is_zero() {
            // Each request has to validate it, so there is nothing to wait for.
            self.lease.release_marked(leader.mark_hit_for_miss(Uncacheable::AlwaysStale));
        } else if !self.target.route.reads_content() {
            leader.clear_hit_for_miss();
        }
        if head.key != self.target.primary {
            insert::announce_variant(&self.target, &self.token, head);
            leader.rekey(head.key);
        }
    }

    /// Whether an error answers all who wait for it. A response to one caller's credentials stays with that caller.
    fn is_shared_error(&self, response: &UpstreamResponse, reason: NotStored) -> bool {
        self.target.caller.is_in_key()
            && reason == NotStored::Status
            && may_share_error(&self.target.route, response.status, &response.headers)
    }

    /// Gives the response to all who wait, and passes the content on as it comes.
    async fn stream_to_all(
        mut self,
        response: Arc<InFlightResponse>,
        mut body: Body,
        leader: Leader,
        own: oneshot::Sender<LeaderResult>,
    ) {
        let InFlightResponse { body: shared, not_stored, has_all_tags, .. } = &*response;
        let _finish = FinishOnDrop(shared.clone());
        leader.set_content(shared);
        if let Some(reader) = shared.new_reader() {
            let _gone = own.send(LeaderResult::Reader { shared: response.clone(), reader });
        }
        if *has_all_tags || !lifetime_limits::needs_content(&self.target.route) {
            leader.complete(FetchOutcome::Streaming(response.clone()));
        }
        #[cfg(test)]
        super::panic_tests::trap(&self.target.head, "fill");
        let mut overflown = *not_stored;
        let pumped = {
            let (target, lease, is_refresh) = (&self.target, &mut self.lease, self.stale.is_some());
            let overflow = |reason: NotStored| {
                overflown = Some(reason);
                if reason == NotStored::Memory {
                    // Recorded now: a slow reader may take long to end it.
                    target.proxy().metrics.record_fill(target.route.index, Err(reason));
                    lease.release(LeaseOutcome::FAILED);
                } else {
                    lease.release_marked(leader.mark_hit_for_miss(Uncacheable::ByContent(reason)));
                }
                if is_refresh {
                    leader.record_refresh_failure(&target.head, RefreshFailure::NotStored);
                }
                leader.finish(FetchOutcome::Uncacheable);
            };
            pump(target, &mut body, shared, overflow).await
        };
        if pumped.is_err() {
            self.record_unstored_refresh(response.head.status, &leader);
            leader.finish(FetchOutcome::Retry);
        }
        // The connection ends after the fetch, which no request joins any more.
        drop(body);
        match pumped {
            Err(error) => {
                shared.finish(Err(error));
                if overflown != Some(NotStored::Memory) {
                    self.record_not_stored(NotStored::Incomplete);
                }
            }
            Ok(trailers) => match not_stored.is_none().then(|| shared.whole()).flatten() {
                None => {
                    self.withdraw_stale(response.head.status, &leader);
                    shared.finish(Ok(trailers));
                    match overflown {
                        Some(NotStored::Memory) => {}
                        reason => {
                            let reason = reason.unwrap_or(too_large_reason(&self.target.route));
                            self.record_not_stored(reason);
                        }
                    }
                }
                Some(content) => {
                    let content = self.target.proxy().memory.count(content);
                    shared.read_from(&content);
                    self.store_completed(&response, content, trailers, &leader).await;
                }
            },
        }
    }

    /// The content is complete: parses it where the route asks for that, and stores the response.
    async fn store_completed(
        &mut self,
        response: &InFlightResponse,
        content: Bytes,
        trailers: Option<HeaderMap>,
        leader: &Leader,
    ) {
        let shared = &response.body;
        let reads_content = self.target.route.reads_content();
        if reads_content && !ContentParser::is_inline(content.len()) {
            // No client waits for the parser; requests that come meanwhile still join.
            shared.finish(Ok(trailers.clone()));
        }
        match entry::complete(&self.target, response.head.clone(), content).await {
            Ok(complete) => {
                if reads_content && is_fresh(&complete.head) {
                    leader.clear_hit_for_miss();
                }
                // Stored before the last reader sees the end, so that its next request finds it.
                let stored = insert::insert(&self.target, &self.token, complete.clone());
                leader.clear_refresh_failures(*self.token.key());
                withdraw_other_variants(&self.target, &self.token, &complete.head);
                leader.complete(FetchOutcome::Complete(complete));
                shared.finish(Ok(trailers));
                self.lease.release(stored.await);
            }
            Err(reason) => {
                self.lease.release_marked(leader.mark_hit_for_miss(Uncacheable::ByContent(reason)));
                self.withdraw_stale(response.head.status, leader);
                leader.finish(FetchOutcome::Uncacheable);
                shared.finish(Ok(trailers));
                tracing::debug!(reason = reason.as_str(), "response not stored because of its content");
                self.record_not_stored(reason);
            }
        }
    }

    /// 304: the stored response is still good (RFC 9111 §4.3.4).
    async fn freshen(
        &mut self,
        update: UpstreamResponse,
        stale: &StaleResponse,
        strong: bool,
        leader: &Leader,
        own: oneshot::Sender<LeaderResult>,
    ) {
        let before = &stale.response.head;
        // Only a strong validator says that the content is the present one.
        let version = if strong { self.token.read_version() } else { before.stamp };
        let body = stale.response.body.clone();
        match entry::freshened_head(&self.target, &stale.response, &update.headers, update.times, version)
            .await
        {
            Ok(head) => {
                self.learn_variance(&head);
                let dropped = self.drop_fields(&update.headers);
                let freshened = StoredResponse { head: Arc::new(head), body };
                let stored = insert::insert(&self.target, &self.token, freshened.clone());
                leader.clear_refresh_failures(*self.token.key());
                let _gone = own.send(LeaderResult::Freshened { stored: freshened.clone(), dropped });
                leader.complete(FetchOutcome::Complete(freshened));
                self.lease.release(stored.await);
            }
            Err(reason) => {
                // It still answers this request; it is only not stored.
                let mut headers = merge_headers(&before.fields.to_map(), &update.headers);
                for cookie in update.headers.get_all(SET_COOKIE) {
                    headers.append(SET_COOKIE, cookie.clone());
                }
                let response = reply::with_body(before.status, headers, Body::from(body));
                self.finish_unstored(response, reason, leader, own);
            }
        }
    }

    /// 200 to a HEAD that describes the stored response (§4.3.5): freshens it, under its old read version. Whether it is
    /// stored.
    pub(super) async fn freshen_by_head(
        self,
        stale: &StaleResponse,
        update: &HeaderMap,
        times: ExchangeTimes,
    ) -> bool {
        let (target, stored) = (&self.target, &stale.response);
        if !target.has_same_caller().await {
            return false;
        }
        let Ok(head) = entry::freshened_head(target, stored, update, times, stored.head.stamp).await else {
            return false;
        };
        // A GET may have replaced it meanwhile; the newer one stays.
        let present = target.proxy().store.get_local(&head.key).map(|found| found.stored);
        if !present.is_some_and(|present| present.ptr_eq(&StoredEntry::Response(stored.clone()))) {
            return false;
        }
        let freshened = StoredResponse { head: Arc::new(head), body: stored.body.clone() };
        let inserting = insert::insert(target, &self.token, freshened);
        target.proxy().tasks.spawn(async move { _ = inserting.await });
        true
    }

    /// The response is for the leader alone; the others fetch for themselves.
    fn finish_unstored(
        &mut self,
        response: Response<Body>,
        not_stored: NotStored,
        leader: &Leader,
        own: oneshot::Sender<LeaderResult>,
    ) {
        self.record_not_stored(not_stored);
        if not_stored.predicts_uncacheable() {
            self.lease.release_marked(leader.mark_hit_for_miss(Uncacheable::ByHeaders(not_stored)));
        }
        self.withdraw_stale(response.status(), leader);
        self.lease.release(LeaseOutcome::FAILED);
        leader.close();
        // If the client has gone, the response is dropped, and with it the upstream connection.
        let _gone = own.send(LeaderResult::Response { response, not_stored });
        leader.complete(FetchOutcome::Uncacheable);
    }

    /// Remembers which queries the response answers, for later requests.
    fn learn_variance(&self, head: &StoredHead) {
        let target = &self.target;
        if target.route.no_vary_search
            && head.fields.contains(&NO_VARY_SEARCH)
            && let Some(variance) = SearchVariance::parse(&head.fields.to_map())
        {
            target.proxy().search_hints.learn(&target.head, variance);
        }
    }

    /// The response with this status is not stored: where it says that the resource is gone or has changed, the stored one
    /// is not served stale any more.
    fn withdraw_stale(&self, status: StatusCode, leader: &Leader) {
        let withdrawal = find_withdrawal(&self.target, status);
        match withdraw(&self.target, &self.token, self.stale.as_ref(), withdrawal) {
            true => leader.clear_refresh_failures(*self.token.key()),
            false => self.record_unstored_refresh(status, leader),
        }
    }

    /// The same for the status of a response that is not to be stored: to a HEAD, or to a request with a condition.
    pub(super) fn withdraw_by_head(&self, status: StatusCode) {
        let withdrawal = find_withdrawal_by_head(&self.target, status);
        withdraw(&self.target, &self.token, self.stale.as_ref(), withdrawal);
    }

    /// The fields of a response that are for its own client alone.
    fn drop_fields(&self, headers: &HeaderMap) -> HeaderMap {
        let route = &self.target.route;
        let dropped = route.drop_response.select_from(headers);
        dropped.keys().for_each(|name| self.target.proxy().first_notices.record_dropped(route, name));
        dropped
    }

    /// Says what the request's first field outside the key does to the response.
    fn record_credential(&self, effect: FieldEffect) {
        let (proxy, head) = (self.target.proxy(), &self.target.head);
        let (route, fields) = (&self.target.route, &proxy.config.credentials);
        let headers = &head.parts.headers;
        if let Some(field) = field_outside_key(route, headers, fields) {
            let client = sender_network(head);
            let sender = FieldSender { is_named: fields.is_named(field), client };
            proxy.first_notices.record_credential(route, (effect, field), sender);
        }
    }

    /// The response with this status does not replace the stale one. A 5xx is recorded already.
    fn record_unstored_refresh(&self, status: StatusCode, leader: &Leader) {
        if !status.is_server_error() {
            self.record_refresh_failure(leader, RefreshFailure::NotStored);
        }
    }

    fn record_refresh_failure(&self, leader: &Leader, failure: RefreshFailure) {
        if self.stale.is_some() {
            leader.record_refresh_failure(&self.target.head, failure);
        }
    }

    fn record_not_stored(&self, reason: NotStored) {
        let (proxy, route) = (self.target.proxy(), &self.target.route);
        if reason == NotStored::Credentials {
            self.record_credential(FieldEffect::NotShared);
        }
        proxy.metrics.record_fill(route.index, Err(reason));
    }
}

fn in_flight(
    head: StoredHead,
    (length, dropped): (Option<u64>, HeaderMap),
    not_stored: Option<NotStored>,
    target: &FetchTarget,
    leader: &Leader,
) -> Arc<InFlightResponse> {
    let has_all_tags = not_stored.is_some() || !target.route.reads_content();
    Arc::new(InFlightResponse {
        head: Arc::new(head),
        body: SharedBody::new(length, target.unsent_bytes().map(UnsentBytes::into_charge)),
        dropped,
        not_stored,
        has_all_tags,
        predicted_uncacheable: if has_all_tags { None } else { leader.predict_uncacheable() },
    })
}
