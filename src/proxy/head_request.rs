//! HEAD requests that are forwarded, and what their responses say of the stored GET (RFC 9111 §4.3.5).

use std::sync::Arc;

use super::answer::Answer;
use super::client_request::ClientHead;
use super::fetch::{CostBearer, Fetch};
use super::lookup::{CacheRequest, Miss};
use super::upstream_request;
use super::worker::Worker;
use crate::policy::cache_status::CacheOutcome;
use crate::policy::classify::CacheLookup;
use crate::policy::compression::compress_response;
use crate::policy::freshness::ExchangeTimes;
use crate::policy::validation::is_freshened_by_head;
use crate::upstream::RequestBody;

/// Forwards a HEAD for which nothing fresh is stored. A fresh response answers HEAD itself.
pub(super) async fn forward_head(
    worker: &Worker,
    head: &Arc<ClientHead>,
    lookup: &CacheLookup<'_>,
    miss: &Miss,
) -> Answer {
    let cached = CacheRequest { worker, head, lookup };
    let fetch = Fetch::new(worker, head, lookup, miss, CostBearer::for_request(head));
    let (headers, query) = (head.parts.headers.clone(), lookup.query.sent());
    let mut forwarded = upstream_request::build(head, headers, query, RequestBody::empty());
    upstream_request::restore_condition(&mut forwarded);
    let requested_at = worker.proxy.clock.now();
    let response = match upstream_request::send(worker, forwarded, head).await {
        Ok(response) => response,
        Err(error) => return miss.answer_error(&cached, &error),
    };
    if response.status().is_server_error()
        && let Some(answer) = miss.stale_if_error(&cached, Some(response.status()))
    {
        return answer;
    }
    let times = ExchangeTimes { requested_at, received_at: worker.proxy.clock.now() };
    let mut response = upstream_request::client_response(response);
    let status = response.status();
    fetch.withdraw_by_head(status);
    // HEAD says what GET would (RFC 9110 §9.3.2), whose content larder compresses.
    let has_room = worker.memory().has_room();
    compress_response(lookup.route, &head.parts.headers, status, response.headers_mut(), has_room);
    let headers = response.headers();
    // HEAD tells nothing of the content, so it does not bring a soft-purged response back.
    let stale = miss.stale.as_ref().filter(|stale| {
        let stored = &stale.response;
        stale.soft_purged.is_none()
            && is_freshened_by_head(&stored.head, stored.body.len() as u64, status, headers)
    });
    let is_stored = match stale {
        Some(stale) => fetch.freshen_by_head(stale, headers, times).await,
        None => false,
    };
    let outcome = CacheOutcome::head(miss.fwd, is_stored).because(miss.reason);
    Answer::new(response, outcome, Some(lookup.route))
}
