//! Answers a request on a route that caches: from the store, by a fetch, or by passing it on.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, LARDER_POSITION};
use super::background_refresh::refresh_in_background;
use super::client_request::{ClientHead, ClientRequest};
use super::collapse::{MissedRequest, OtherQuery};
use super::error::ProxyError;
use super::fetch::{CostBearer, Fetch};
use super::lookup::{CacheRequest, LookupOutcome, LookupStep};
use super::rate_limit::refuse_miss;
use super::worker::Worker;
use super::{head_request, observe, pass_through};
use crate::policy::Route;
use crate::policy::cache_status::CacheOutcome;
use crate::policy::classify::{CacheLookup, PassReason};
use crate::policy::on_miss::{OnMiss, decide_on_miss, requires_upstream};
use crate::policy::route::RouteMode;

/// Answers a request on a route that caches: from the store, or by a fetch. Futures that wait for the upstream are
/// boxed, so that waiting for the store takes little memory.
pub(super) async fn answer_cached(
    worker: &Worker,
    request: Box<ClientRequest>,
    lookup: CacheLookup<'_>,
    step: Option<LookupStep>,
) -> Answer {
    if let Some(reason) = reason_to_forward(worker, &request.head, lookup.route).await {
        if reason == PassReason::Precondition && may_withdraw(&request.head, &lookup) {
            return Box::pin(forward_conditional(worker, &Arc::new(request.head), &lookup)).await;
        }
        return Box::pin(pass_miss(worker, request, lookup.route, reason)).await;
    }
    let cached = CacheRequest { worker, head: &request.head, lookup: &lookup };
    let step = step.unwrap_or_else(|| cached.look_up_sync());
    let found = cached.finish(step).await;
    let is_observed = lookup.route.mode == RouteMode::Observe;
    let on_miss = decide_on_miss(lookup.route, &request.head.as_policy());
    if matches!(found, LookupOutcome::Miss(_))
        && (is_observed || on_miss != OnMiss::OnlyIfCached)
        && let Some(refusal) = refuse_miss(worker, &request.head, lookup.route).await
    {
        return refusal;
    }
    if is_observed {
        return Box::pin(observe::observe(worker, request, &lookup, found)).await;
    }
    if let LookupOutcome::Fresh(hit) = found {
        return hit.into_answer(&cached);
    }
    let head = Arc::new(request.head);
    if let Ok(answer) = answer_found(worker, &head, (&lookup, found), on_miss).await {
        return answer;
    }
    match worker.look_up_as_asked(&head) {
        Some(lookup) => Box::pin(answer_as_asked(worker, &head, lookup, on_miss)).await,
        None => Answer::from_error(&ProxyError::Interrupted, Some(lookup.route)),
    }
}

/// Answers by what the lookup found, or by a fetch.
async fn answer_found(
    worker: &Worker,
    head: &Arc<ClientHead>,
    (lookup, found): (&CacheLookup<'_>, LookupOutcome),
    on_miss: OnMiss,
) -> Result<Answer, OtherQuery> {
    let missed = MissedRequest { worker, head, lookup };
    match found {
        LookupOutcome::Fresh(hit) => Ok(hit.into_answer(&CacheRequest { worker, head, lookup })),
        LookupOutcome::Stale(_, miss) if head.refresh.is_some() => Box::pin(missed.fetch_or_join(miss)).await,
        LookupOutcome::Stale(hit, miss) => {
            refresh_in_background(worker, head, lookup, miss);
            Ok(hit.into_answer(&CacheRequest { worker, head, lookup }))
        }
        LookupOutcome::Miss(miss) if miss.is_of_other_query() => Err(OtherQuery),
        LookupOutcome::Miss(miss) => match on_miss {
            OnMiss::Fetch => Box::pin(missed.fetch_or_join(miss)).await,
            // Only a GET asks the upstream for another query than the client's.
            _ if lookup.query.is_simplified() => Err(OtherQuery),
            OnMiss::OnlyIfCached => Ok(Answer::from_error(&ProxyError::OnlyIfCached, Some(lookup.route))),
            OnMiss::Head => Ok(Box::pin(head_request::forward_head(worker, head, lookup, &miss)).await),
        },
    }
}

/// Answers by the query as the client sent it.
async fn answer_as_asked(
    worker: &Worker,
    head: &Arc<ClientHead>,
    lookup: CacheLookup<'_>,
    on_miss: OnMiss,
) -> Answer {
    let found = CacheRequest { worker, head, lookup: &lookup }.look_up().await;
    let answered = answer_found(worker, head, (&lookup, found), on_miss).await;
    answered.unwrap_or_else(|OtherQuery| Answer::from_error(&ProxyError::Interrupted, Some(lookup.route)))
}

/// The positions that a request may bring: of several writes, or of several larders in a row.
const MAX_POSITIONS: usize = 8;

/// Why a request on a route that caches goes to the upstream whatever is stored.
async fn reason_to_forward(worker: &Worker, head: &ClientHead, route: &Route) -> Option<PassReason> {
    if let Some(reason) = requires_upstream(&head.as_policy()) {
        return Some(reason);
    }
    if !route.read_your_writes || !head.has(&LARDER_POSITION) {
        return None;
    }
    let lines = head.parts.headers.get_all(LARDER_POSITION).iter();
    let positions = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    for (number, position) in positions.map(str::trim).filter(|position| !position.is_empty()).enumerate() {
        if number >= MAX_POSITIONS || !worker.proxy.store.sync_to(position).await {
            return Some(PassReason::Position);
        }
    }
    None
}

/// Whether a response that says that the resource is gone holds for what the lookup finds.
fn may_withdraw(head: &ClientHead, lookup: &CacheLookup<'_>) -> bool {
    head.content.is_none() && lookup.route.mode == RouteMode::On && !lookup.query.is_simplified()
}

/// Forwards a request whose condition only the upstream can evaluate. If the response says that the resource is gone, the
/// stored one is not served stale any more.
async fn forward_conditional(worker: &Worker, head: &Arc<ClientHead>, lookup: &CacheLookup<'_>) -> Answer {
    if let Some(refusal) = refuse_miss(worker, head, lookup.route).await {
        return refusal;
    }
    let miss = CacheRequest { worker, head, lookup }.look_up().await.into_miss();
    let fetch = Fetch::new(worker, head, lookup, &miss, CostBearer::for_request(head));
    let answer = MissedRequest { worker, head, lookup }.pass_as_asked(PassReason::Precondition).await;
    fetch.withdraw_by_head(answer.response.status());
    answer
}

/// Forwards a request that is not answered from the store, unless it is over the limit of its route.
pub(super) async fn pass_miss(
    worker: &Worker,
    request: Box<ClientRequest>,
    route: &Arc<Route>,
    reason: PassReason,
) -> Answer {
    match refuse_miss(worker, &request.head, route).await {
        Some(refusal) => refusal,
        None => pass_through::pass(worker, request, Some(route), CacheOutcome::pass(reason)).await,
    }
}

/// The route's `timeout`, of a request that changes nothing.
pub(super) async fn with_route_timeout(
    route: Option<&Arc<Route>>,
    answer: impl Future<Output = Answer>,
) -> Answer {
    let Ok(answer) = try_with_route_timeout(route, async { Ok::<_, Infallible>(answer.await) }).await;
    answer
}

/// The same for a request that may turn out to change something, which is an error here.
pub(super) async fn try_with_route_timeout<E>(
    route: Option<&Arc<Route>>,
    answer: impl Future<Output = Result<Answer, E>>,
) -> Result<Answer, E> {
    let Some(limit) = route.and_then(|route| route.timeout) else { return answer.await };
    let deadline = Instant::now() + limit;
    match timeout_at(deadline, answer).await {
        Ok(Ok(mut answer)) => {
            answer.response = answer.response.map(|body| body.with_deadline(deadline));
            Ok(answer)
        }
        Ok(Err(other)) => Err(other),
        Err(_) => Ok(Answer::from_error(&ProxyError::RouteTimeout, route)),
    }
}
