//! `mode: observe`: forwards every request, and says what the cache would have done.

use std::sync::Arc;

use http::Method;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};

use super::answer::Answer;
use super::client_request::ClientRequest;
use super::collapse::MissedRequest;
use super::error::ProxyError;
use super::lookup::{LookupOutcome, Miss};
use super::pass_through::pass;
use super::worker::Worker;
use crate::policy::cache_status::{CacheOutcome, Detail, Fwd};
use crate::policy::classify::CacheLookup;
use crate::policy::no_vary_search::LookupQuery;

pub(super) async fn observe(
    worker: &Worker,
    request: Box<ClientRequest>,
    lookup: &CacheLookup<'_>,
    found: LookupOutcome,
) -> Answer {
    let bypass = |detail| CacheOutcome::forwarded(Fwd::Bypass, Some(detail));
    let head = &request.head;
    let is_conditional = [IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE].iter().any(|name| head.has(name));
    let miss = match found {
        LookupOutcome::Miss(miss) if head.parts.method == Method::GET && !is_conditional => {
            Miss { stale: None, ..miss }
        }
        LookupOutcome::Miss(_) => {
            return pass(worker, request, Some(lookup.route), bypass(Detail::WouldMiss)).await;
        }
        _ => return pass(worker, request, Some(lookup.route), bypass(Detail::WouldHit)).await,
    };
    // The query is forwarded as it came, with the parameters that the key leaves out.
    let query = LookupQuery::as_asked(head.parts.uri.query().map(Into::into));
    let lookup = &CacheLookup { query, ..lookup.with_key(lookup.key) };
    let request = MissedRequest { worker, head: &Arc::new(request.head), lookup };
    let Ok(mut answer) = request.fetch_alone(&miss).await else {
        // A query is forwarded as it came here.
        return Answer::from_error(&ProxyError::Interrupted, Some(lookup.route));
    };
    if let Ok(CacheOutcome::Forwarded { stored, detail, .. }) = answer.outcome {
        let detail = if stored { Some(Detail::WouldStore) } else { detail };
        answer.outcome = Ok(CacheOutcome::forwarded(Fwd::Bypass, detail));
    }
    answer
}
