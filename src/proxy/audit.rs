//! The audit's two ends at the proxy: a hit that is taken for a sample, and the request that asks for it again.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::body::Body;
use super::client_request::{Client, ClientHead, REQUEST_ID_FIELDS};
use super::content_parser::ContentParser;
use super::fetch::{CostBearer, FetchTarget};
use super::lookup::{CacheHit, CacheRequest};
use super::state::Proxy;
use super::worker::Worker;
use crate::audit::{
    Audit, AuditSample, Comparison, FreshAnswer, MAX_AUDITED_BYTES, Observed, SampledRequest,
};
use crate::metrics::BackgroundKind;
use crate::policy::CacheKey;
use crate::policy::cache_status::CacheOutcome;
use crate::policy::classify::Classification;
use crate::policy::credentials::are_credentials_in_key;

/// Takes the hit for a sample, if it is a plain one.
pub(super) fn sample_hit(audit: &Audit, request: &CacheRequest<'_>, hit: &CacheHit) {
    let CacheRequest { worker, head, lookup } = *request;
    let is_plain = head.parts.method == Method::GET
        && head.content.is_none()
        && head.refresh.is_none()
        && matches!(hit.outcome, CacheOutcome::Hit { detail: None, .. });
    if !is_plain {
        return;
    }
    let sample = AuditSample {
        request: sampled_request(request),
        route: lookup.route.clone(),
        key: lookup.key,
        stored: hit.stored.clone(),
        served_at: hit.now,
    };
    if !audit.submit(sample) {
        worker.proxy.metrics.record_background(BackgroundKind::Audit, "skipped");
    }
}

fn sampled_request(request: &CacheRequest<'_>) -> SampledRequest {
    let CacheRequest { worker, head, lookup } = *request;
    let mut headers = HeaderMap::with_capacity(head.parts.headers.len());
    let is_sent_again = |name: &HeaderName| !REQUEST_ID_FIELDS.contains(name);
    for (name, value) in head.parts.headers.iter().filter(|(name, _)| is_sent_again(name)) {
        // A copy: the value itself keeps the connection's read buffer.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.append(name.clone(), value);
        }
    }
    let caller_fields = &worker.proxy.config.credentials;
    let credentials = match are_credentials_in_key(lookup.route, &headers, caller_fields) {
        true => Vec::new(),
        false => caller_fields.find_in(&headers).cloned().collect(),
    };
    SampledRequest {
        uri: head.parts.uri.clone(),
        version: head.parts.version,
        headers,
        peer: head.peer,
        is_tls: head.scheme == "https",
        credentials,
    }
}

/// Asks the upstream as a fetch for this request would. The answer is not stored.
///
/// # Errors
/// The request has another key by now, the upstream failed, or the answer is too large.
pub(crate) async fn ask_again(
    worker: &Worker,
    sampled: &SampledRequest,
    key: CacheKey,
) -> Result<FreshAnswer, &'static str> {
    let mut request = Request::new(());
    *request.uri_mut() = sampled.uri.clone();
    *request.version_mut() = sampled.version;
    *request.headers_mut() = sampled.headers.clone();
    let client = Client { peer: sampled.peer, is_tls: sampled.is_tls, refresh: None };
    let mut head =
        ClientHead::read(request.into_parts().0, client, &worker.proxy.config).map_err(|_| "refused")?;
    let target = match worker.classify_internal(&mut head).await {
        _ if !worker.proxy.memory.admits(MAX_AUDITED_BYTES as u64) => return Err("skipped"),
        Classification::Lookup(lookup) if lookup.key == key => {
            FetchTarget::new(worker, &Arc::new(head), &lookup, CostBearer::Client)
        }
        _ => return Err("refused"),
    };
    let mut answer = target.ask().await.map_err(|_| "failed")?;
    for name in target.route.drop_response.select_from(&answer.headers).keys() {
        answer.headers.remove(name);
    }
    let body = read_content(&worker.proxy, answer.body).await?;
    let response = Observed { status: answer.status, headers: answer.headers, body };
    Ok(FreshAnswer { response, received_at: answer.times.received_at })
}

async fn read_content(proxy: &Proxy, body: Body) -> Result<Bytes, &'static str> {
    match Limited::new(body, MAX_AUDITED_BYTES).collect().await {
        Ok(content) => Ok(proxy.memory.count(content.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err("skipped"),
        Err(_) => Err("failed"),
    }
}

/// Compares two responses; one comparison runs at a time.
pub(crate) async fn compare_responses(
    proxy: &Proxy,
    audit: &Arc<Audit>,
    stored: &Observed,
    fresh: &Observed,
) -> Result<Comparison, &'static str> {
    compare(&proxy.content_parser, audit, stored, fresh).await.ok_or("failed")
}

async fn compare(
    parser: &ContentParser,
    audit: &Arc<Audit>,
    stored: &Observed,
    fresh: &Observed,
) -> Option<Comparison> {
    let _permit = audit.comparing.acquire().await.ok()?;
    let bytes = stored.parsed_bytes() + fresh.parsed_bytes();
    let (audit, stored, fresh) = (audit.clone(), stored.clone(), fresh.clone());
    parser.run(bytes, move || Comparison::new(&stored, &fresh, &audit.settings)).await
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};
    use std::thread;
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::config::{AuditSettings, Fraction};
    use crate::policy::fixtures;

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn large_contents_are_parsed_where_they_hold_up_no_client() {
        let settings = AuditSettings {
            sample: Fraction::new(1.0).unwrap(),
            ignored_json: Vec::new(),
            ignored_fields: Vec::new(),
            settle: Duration::ZERO,
            sees_all_writes: false,
        };
        let audit = Audit::new(&settings);
        let parser = Arc::new(ContentParser::new());
        // The threads for large contents are busy until `release` is gone.
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (release, gates): (Vec<_>, Vec<_>) = (0..cores).map(|_| mpsc::channel::<()>()).unzip();
        let mut busy = Vec::new();
        for gate in gates {
            let mut run = Box::pin({
                let parser = parser.clone();
                async move { parser.run(MAX_AUDITED_BYTES, move || gate.recv().is_err()).await }
            });
            assert_eq!(poll_once(run.as_mut()), Poll::Pending);
            busy.push(run);
        }
        let json = |length: usize, coding: &str| Observed {
            status: StatusCode::OK,
            headers: fixtures::fields(&[("content-type", "application/json"), ("content-encoding", coding)]),
            body: Bytes::from(format!("[{}1]", " ".repeat(length))),
        };
        let small = json(10, "identity");
        let at_once = poll_once(pin!(compare(&parser, &audit, &small, &small)));
        assert_eq!(at_once, Poll::Ready(Some(Comparison::Same)));
        let (coded, large) = (json(10, "gzip"), json(100_000, "identity"));
        assert_eq!(poll_once(pin!(compare(&parser, &audit, &coded, &small))), Poll::Pending);
        let mut waiting = pin!(compare(&parser, &audit, &small, &large));
        assert_eq!(poll_once(waiting.as_mut()), Poll::Pending);
        drop(release);
        for run in busy {
            assert_eq!(run.await, Some(true));
        }
        assert_eq!(waiting.await, Some(Comparison::Same));
    }
}
