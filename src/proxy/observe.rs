//! `mode: observe`: forwards every request, says what the cache would have done, and sketches the traffic.

use std::sync::Arc;

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};
use http::{HeaderName, Method};

use super::answer::Answer;
use super::client_request::{ClientHead, ClientRequest};
use super::collapse::MissedRequest;
use super::error::ProxyError;
use super::lookup::{LookupOutcome, Miss};
use super::pass_through::pass;
use super::state::Proxy;
use super::worker::Worker;
use crate::observation::ReadRecorder;
use crate::policy::Route;
use crate::policy::cache_status::{CacheOutcome, Detail, Fwd};
use crate::policy::classify::CacheLookup;
use crate::policy::no_vary_search::LookupQuery;
use crate::policy::route::RouteMode;

/// The fields by which a GET does not ask for the whole response.
const PARTIAL: [HeaderName; 3] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE];

/// Begins to sketch a read on an observed route.
pub(super) fn begin(proxy: &Proxy, head: &ClientHead, route: Option<&Route>) -> Option<ReadRecorder> {
    let sketch = proxy.observed.as_ref()?;
    let is_whole = head.parts.method == Method::GET && !PARTIAL.iter().any(|name| head.has(name));
    if !is_whole || route.is_none_or(|route| route.mode != RouteMode::Observe) {
        return None;
    }
    sketch.begin_read((&head.host, &head.parts.uri), &head.parts.headers, proxy.clock.now())
}

/// Sketches the answer while it is sent.
pub(super) fn sketch(proxy: &Proxy, recorder: Option<ReadRecorder>, mut answer: Answer) -> Answer {
    let (status, now) = (answer.response.status(), proxy.clock.now());
    let recorder = recorder.and_then(|recorder| recorder.with_answer(status, answer.response.headers(), now));
    if let Some(recorder) = recorder {
        answer.response = answer.response.map(|body| body.observed(recorder));
    }
    answer
}

pub(super) async fn observe(
    worker: &Worker,
    request: Box<ClientRequest>,
    lookup: &CacheLookup<'_>,
    found: LookupOutcome,
) -> Answer {
    let bypass = |detail| CacheOutcome::forwarded(Fwd::Bypass, Some(detail));
    let head = &request.head;
    let is_conditional = PARTIAL.iter().any(|name| head.has(name));
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
