//! Refuses requests over the `rate` of their route with 429.
//!
//! Each replica has a table of budgets. With a shared store the store decides, and the table holds its last answers: a
//! caller who is refused costs the store nothing. A store that can't be asked is never an error; the table then decides
//! alone.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::Method;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, RETRY_AFTER};

use super::answer::Answer;
use super::client_request::ClientHead;
use super::error::ProxyError;
use super::rate_budgets::RateFields;
use super::sender_budgets::client_network;
use super::worker::Worker;
use crate::clock::Moment;
use crate::metrics::OverRate;
use crate::policy::caller::{CallerVerdict, CallerView};
use crate::policy::classify::Classification;
use crate::policy::rate_budget::{BudgetId, find_strictest};
use crate::policy::rate_limit::{Charge, CountedRequests, RateLimit};
use crate::policy::routes::Routes;
use crate::policy::{RequestHead, Route};

/// A request on a route with `rate`, before it is charged.
pub(super) struct RatedRequest<'r> {
    route: &'r Arc<Route>,
    limit: &'r RateLimit,
    budget: BudgetId,
    /// It counts for the address of a trusted proxy, since its client's can't be read.
    is_unidentified: bool,
}

/// The route whose limit counts the request before the lookup. A path that may mean several routes counts for the
/// strictest; the path of a possible hit means one.
pub(super) fn find_rated_route<'r>(
    routes: &'r Routes,
    head: &ClientHead,
    class: &Classification<'r>,
) -> Option<&'r Arc<Route>> {
    let route = match class {
        Classification::Lookup(_) | Classification::ContentRead { .. } => class.route(),
        _ => find_strictest(routes, head.parts.uri.path()),
    }?;
    let limit = route.rate.as_ref()?;
    // A browser sends it by itself, and a script can't see why it failed.
    if is_preflight(head) {
        return None;
    }
    let is_counted = match class {
        Classification::Pass { .. } | Classification::Write { .. } => true,
        Classification::Identify { .. } if limit.by.needs_caller() => false,
        _ => limit.counted == CountedRequests::All,
    };
    is_counted.then_some(route)
}

/// Whether a browser asks whether a page of another site may send a request (CORS).
fn is_preflight(head: &ClientHead) -> bool {
    head.parts.method == Method::OPTIONS && head.has(&ORIGIN) && head.has(&ACCESS_CONTROL_REQUEST_METHOD)
}

/// Whether the limit of `rated` counts by the caller, and another service has to be asked who that is. A caller is
/// identified in one way only: on a path that may mean routes with different `callers`, the address counts.
pub(super) fn is_caller_pending(
    worker: &Worker,
    head: &ClientHead,
    class: &Classification<'_>,
    rated: &Route,
) -> bool {
    let Some(source) = rated.callers.as_ref().filter(|_| needs_caller(head, rated)) else { return false };
    class.route().is_none_or(|route| route.callers.as_ref() == Some(source))
        && worker.identify_caller(source, head) == CallerVerdict::Pending
}

/// Charges a request without waiting. `None`: the store has to be asked.
pub(super) fn charge_locally(worker: &Worker, rated: &RatedRequest<'_>) -> Option<Charge> {
    let (RatedRequest { limit, budget, .. }, now) = (rated, Moment::now());
    let budgets = &worker.proxy.rate_budgets;
    if !limit.is_shared || worker.proxy.config.store.redis.is_none() {
        return Some(budgets.charge(*budget, limit, now));
    }
    Some(budgets.quote(*budget, limit, now)).filter(|charge| !charge.is_granted)
}

/// Charges a request in the shared store.
pub(super) async fn charge(worker: &Worker, rated: &RatedRequest<'_>) -> Charge {
    let RatedRequest { limit, budget, .. } = rated;
    if let Some(charge) = charge_locally(worker, rated) {
        return charge;
    }
    let charged = worker.proxy.store.charge(*budget, limit.price(), limit.capacity()).await;
    let (budgets, now) = (&worker.proxy.rate_budgets, Moment::now());
    match charged {
        Ok(charge) => {
            budgets.learn(*budget, charge.owed, now);
            charge
        }
        Err(_) => budgets.charge(*budget, limit, now),
    }
}

/// The answer to a request that is over its limit; otherwise the fields to add to its response.
#[expect(clippy::result_large_err, reason = "it is moved once")]
pub(super) fn judge(
    worker: &Worker,
    rated: &RatedRequest<'_>,
    charge: Charge,
) -> Result<Option<RateFields>, Answer> {
    let RatedRequest { route, limit, is_unidentified, .. } = rated;
    let is_enforced = limit.is_enforced_on(route);
    let fields = is_enforced.then(|| RateFields::new(limit, limit.name(route), charge)).flatten();
    if charge.is_granted {
        return Ok(fields);
    }
    let result = match (is_enforced, is_unidentified) {
        (false, _) => OverRate::Observed,
        (true, false) => OverRate::Refused,
        (true, true) => OverRate::Unidentified,
    };
    worker.proxy.metrics.record_over_rate(route.index, result);
    if !is_enforced {
        return Ok(None);
    }
    let mut answer = Answer::from_error(&ProxyError::OverRate, Some(route));
    let headers = answer.response.headers_mut();
    headers.insert(RETRY_AFTER, limit.retry_after(charge).into());
    fields.iter().for_each(|fields| fields.add_to(headers));
    Err(answer)
}

/// The answer to a request that is no hit, if its route counts only those and it is over the limit.
pub(super) async fn refuse_miss(worker: &Worker, head: &ClientHead, route: &Arc<Route>) -> Option<Answer> {
    let counted = route.rate.as_ref()?.counted;
    if counted != CountedRequests::Misses {
        return None;
    }
    if needs_caller(head, route) {
        worker.ask_caller(route, head).await;
    }
    let rated = rate_request(head, route)?;
    let charge = charge(worker, &rated).await;
    judge(worker, &rated, charge).err()
}

fn needs_caller(head: &ClientHead, route: &Route) -> bool {
    route.rate.as_ref().is_some_and(|limit| limit.by.needs_caller()) && head.caller().is_none()
}

/// `None`: the request is larder's own, or comes from a trusted proxy that forwards it for nobody.
pub(super) fn rate_request<'r>(head: &ClientHead, route: &'r Arc<Route>) -> Option<RatedRequest<'r>> {
    let limit = route.rate.as_ref().filter(|_| head.refresh.is_none())?;
    let verdict = route.callers.as_ref().and_then(|source| head.find_caller(source));
    let caller = verdict.map_or(CallerView::NotAsked, CallerVerdict::view);
    let request = RequestHead { caller, ..head.as_policy() };
    if let Some(budget) = limit.value_budget(route, &request) {
        return Some(RatedRequest { route, limit, budget, is_unidentified: false });
    }
    let is_unidentified = head.client_ip.is_none() && (head.is_trusted || head.peer.is_none());
    let address = match is_unidentified {
        true => head.peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        false => head.untrusted_address()?,
    };
    let budget = limit.address_budget(route, &client_network(address).to_string());
    Some(RatedRequest { route, limit, budget, is_unidentified })
}
