//! Answers of a route with `overlay`: a shared part, and parts of the caller, which take the way of any cached request,
//! side by side. They are merged for this request alone, and the result is not stored.
//!
//! A request whose parts can't be merged for certain is forwarded whole, as the client sent it.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{CACHE_STATUS, CONTENT_ENCODING, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::BodyExt;

use super::answer::{Answer, remove_cache_status_place};
use super::body::Body;
use super::cached_request::{answer_cached, pass_miss, with_route_timeout};
use super::client_request::{ClientHead, ClientRequest, timeouts};
use super::fetch::content_length;
use super::merged_validators::MergedValidator;
use super::reply;
use super::worker::Worker;
use crate::memory_budget::MemoryBudget;
use crate::policy::Route;
use crate::policy::cache_control::CacheControl;
use crate::policy::cache_status::{CacheOutcome, Detail};
use crate::policy::caller::UnknownCaller;
use crate::policy::classify::{CacheLookup, Caller, Classification, PassReason};
use crate::policy::content::Content;
use crate::policy::credentials::is_anonymous;
use crate::policy::next_page::has_next_link;
use crate::policy::on_miss::requires_upstream;
use crate::policy::overlay::{Mismatch, OnPartError, merge};
use crate::policy::overlay_fields::{MergedContent, merged_fields, merged_tag};
use crate::policy::route::SharedPart;

/// A request on a route with `overlay`.
#[derive(Clone, Copy)]
struct OverlayRequest<'a> {
    worker: &'a Worker,
    head: &'a ClientHead,
    route: &'a Arc<Route>,
}

/// A complete part.
#[derive(Clone)]
struct Part {
    headers: HeaderMap,
    body: Bytes,
    outcome: CacheOutcome,
}

/// A part of the caller.
#[derive(Clone)]
enum CallerPart {
    /// `caller`: until when it may be used.
    Read { part: Part, caller: Caller },
    /// The caller is nobody.
    Anonymous,
    /// The upstream failed, or the response is none that can be read.
    Failed,
}

/// Why nothing is merged.
enum Unmerged {
    Pass(PassReason),
    /// The answer to the request for the shared part is that to this one.
    Answer(Box<Answer>),
}

impl From<PassReason> for Unmerged {
    fn from(reason: PassReason) -> Self {
        Unmerged::Pass(reason)
    }
}

/// `caller`: the caller of the request, as its route knows it.
pub(super) async fn answer_with_overlay(
    worker: &Worker,
    request: Box<ClientRequest>,
    route: &Arc<Route>,
    caller: Caller,
) -> Answer {
    let merging = OverlayRequest { worker, head: &request.head, route };
    let reason = match Box::pin(merging.answer(caller)).await {
        Ok(answer) => return answer,
        Err(Unmerged::Answer(answer)) => return *answer,
        Err(Unmerged::Pass(reason)) => reason,
    };
    Box::pin(pass_miss(worker, request, route, reason)).await
}

impl OverlayRequest<'_> {
    async fn answer(&self, caller: Caller) -> Result<Answer, Unmerged> {
        if let Some(reason) = requires_upstream(&self.head.as_policy()) {
            return Err(reason.into());
        }
        let part = self.route.shared_part.as_ref().ok_or(PassReason::SharedPart)?;
        let urls = self.route.caller_parts();
        let parts = urls.iter().map(|url| Box::pin(self.fetch_caller_part(url)) as _).collect();
        let (shared, parts) = tokio::join!(Box::pin(self.fetch_shared_part(part)), join_all(parts));
        let (shared, parts) = (shared?, parts.into_iter().collect::<Result<Vec<_>, _>>()?);
        let validators = &self.worker.proxy.merged_validators;
        let key = validators.key(self.route.index, describe_parts(&shared, &parts));
        if let Some(known) = validators.find(&key)
            && let Some(answer) = self.answer_with(caller, (&shared, &parts), (known, None))?
        {
            return Ok(answer);
        }
        let (content, detail) = self.merge(&shared, &parts).await?;
        let tag = merged_tag(&shared.headers, &content);
        let validator = MergedValidator { tag, length: content.len(), detail };
        validators.learn(key, validator.clone());
        let content = self.worker.memory().count(content);
        let answer = self.answer_with(caller, (&shared, &parts), (validator, Some(content)))?;
        answer.ok_or(PassReason::SharedPart.into())
    }

    /// The answer with the merged content. `None`: that is needed, and not there.
    fn answer_with(
        &self,
        caller: Caller,
        (shared, parts): (&Part, &[CallerPart]),
        (merged, content): (MergedValidator, Option<Bytes>),
    ) -> Result<Option<Answer>, Unmerged> {
        let now = self.worker.proxy.clock.now();
        let is_over =
            |part: &CallerPart| matches!(part, CallerPart::Read { caller, .. } if caller.has_expired(now));
        if caller.has_expired(now) || parts.iter().any(is_over) {
            return Err(PassReason::Caller(UnknownCaller::Expired).into());
        }
        let of_caller: Vec<&HeaderMap> =
            parts.iter().filter_map(CallerPart::part).map(|it| &it.headers).collect();
        let MergedValidator { tag, length, detail } = &merged;
        let fields = MergedContent { tag: tag.as_ref(), shared: &shared.headers, of_caller: &of_caller };
        let mut headers = merged_fields(self.route, fields);
        let mut outcome = shared.outcome;
        headers.extend(shared.outcome.to_part_value("shared-part", None).map(|value| (CACHE_STATUS, value)));
        let urls = self.route.caller_parts();
        for (url, part) in urls.iter().zip(parts).filter_map(|(url, part)| Some((url, part.part()?))) {
            outcome = outcome.merged_with(part.outcome);
            if let Some(value) = part.outcome.to_part_value("caller-part", Some(&url.to_string())) {
                headers.append(CACHE_STATUS, value);
            }
        }
        let response = reply::from_merged((*length, content), headers, self.head, now);
        Ok(response.map(|response| Answer::new(response, outcome.detailed(*detail), Some(self.route))))
    }

    async fn fetch_shared_part(&self, part: &SharedPart) -> Result<Part, Unmerged> {
        let head = self.head.for_shared_part(part, &self.worker.proxy.config.credentials);
        let lookup = self.worker.look_up_shared(part, &head);
        let mut answer = self.fetch_part(head, lookup).await;
        let status = answer.response.status();
        if answer.outcome.is_err() || status.is_server_error() {
            // A cookie would be one of nobody.
            answer.response.headers_mut().remove(SET_COOKIE);
            if self.head.parts.method == Method::HEAD {
                answer.response = answer.response.map(|_| Body::empty());
            }
            return Err(Unmerged::Answer(Box::new(answer)));
        }
        if status != StatusCode::OK || CacheControl::parse(answer.response.headers()).no_transform {
            return Err(PassReason::SharedPart.into());
        }
        let part = self.read(answer, self.route.max_json).await;
        part.ok_or(Unmerged::Pass(PassReason::SharedPart))
    }

    /// `Err`: it is not known who the caller is, or the API refuses the caller.
    async fn fetch_caller_part(&self, url: &Uri) -> Result<CallerPart, Unmerged> {
        let head = self.head.for_caller_part(url, &self.worker.proxy.routes);
        let lookup = match self.worker.classify_after_asking(&head).await {
            // A credential that the part's key lacks may select another list, too.
            Classification::Lookup(lookup) if lookup.caller.is_in_key() => lookup,
            Classification::Pass {
                reason: PassReason::NoCredential | PassReason::Caller(UnknownCaller::Anonymous),
                route: Some(route),
            } if is_anonymous(route, &self.head.parts.headers, &self.worker.proxy.config.credentials) => {
                return Ok(CallerPart::Anonymous);
            }
            _ => return Err(PassReason::CallerPart.into()),
        };
        let (caller, limit) = (lookup.caller, lookup.route.max_json);
        let answer = self.fetch_part(head, lookup).await;
        if answer.outcome.is_err() && answer.response.status() == StatusCode::TOO_MANY_REQUESTS {
            // Passed on, the request would cost the upstream more than what was refused.
            return Err(Unmerged::Answer(Box::new(answer)));
        }
        match answer.response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(PassReason::CallerPart.into()),
            StatusCode::OK => {
                let part = self.read(answer, limit).await;
                Ok(part.map_or(CallerPart::Failed, |part| CallerPart::Read { part, caller }))
            }
            _ => Ok(CallerPart::Failed),
        }
    }

    async fn fetch_part(&self, mut head: ClientHead, lookup: CacheLookup<'_>) -> Answer {
        let route = lookup.route;
        head.route_timeouts = Some(timeouts(&self.worker.proxy.config, Some(route)));
        let request = Box::new(ClientRequest { head, body: None });
        with_route_timeout(Some(route), answer_cached(self.worker, request, lookup, None)).await
    }

    /// Reads the content of a part. `None`: it is cut short, larger than `limit`, or there is no memory for it.
    async fn read(&self, answer: Answer, limit: u64) -> Option<Part> {
        let outcome = answer.outcome.ok()?;
        let (parts, body) = answer.response.into_parts();
        if content_length(&parts.headers).is_some_and(|length| length > limit) {
            return None;
        }
        let body = read_counted(body, limit, self.worker.memory()).await?;
        let mut headers = parts.headers;
        remove_cache_status_place(&mut headers);
        Some(Part { headers, body, outcome })
    }

    /// The merged content.
    async fn merge(&self, shared: &Part, parts: &[CallerPart]) -> Result<(Bytes, Detail), Unmerged> {
        let (route, shared, of_caller) = (self.route.clone(), shared.clone(), parts.to_vec());
        let read_bytes = parts.iter().filter_map(CallerPart::part).map(|part| part.body.len());
        let mut headers = parts.iter().filter_map(CallerPart::part).map(|part| &part.headers);
        let is_coded = |headers: &HeaderMap| headers.contains_key(CONTENT_ENCODING);
        let length = match is_coded(&shared.headers) || headers.any(is_coded) {
            true => usize::try_from(route.max_json).unwrap_or(usize::MAX),
            false => shared.body.len() + read_bytes.sum::<usize>(),
        };
        self.worker.proxy.metrics.record_merge();
        let merging = move || merge_all(&route, &shared, &of_caller);
        let merged = self.worker.proxy.content_parser.run(length, merging).await;
        match merged.unwrap_or(Err(MergeError::Shared(Mismatch::Malformed))) {
            Ok((content, detail)) => Ok((content.into(), detail)),
            Err(MergeError::Shared(mismatch)) => {
                self.worker.proxy.first_notices.record_unmerged(self.route, mismatch);
                Err(PassReason::SharedPart.into())
            }
            Err(MergeError::Caller) => Err(PassReason::CallerPart.into()),
        }
    }
}

impl CallerPart {
    fn part(&self) -> Option<&Part> {
        match self {
            CallerPart::Read { part, .. } => Some(part),
            CallerPart::Anonymous | CallerPart::Failed => None,
        }
    }
}

/// Describes the parts by all that their merge depends on.
fn describe_parts<'p>(
    shared: &'p Part,
    parts: &'p [CallerPart],
) -> impl Iterator<Item = Result<(&'p HeaderMap, &'p Bytes), &'static str>> {
    let describe = |part: &'p Part| Ok((&part.headers, &part.body));
    let of_caller = parts.iter().map(move |part| match part {
        CallerPart::Read { part, .. } => describe(part),
        CallerPart::Anonymous => Err("anonymous"),
        CallerPart::Failed => Err("failed"),
    });
    std::iter::once(describe(shared)).chain(of_caller)
}

enum MergeError {
    Shared(Mismatch),
    Caller,
}

/// `parts`: those of [`Route::caller_parts`].
fn merge_all(route: &Route, shared: &Part, parts: &[CallerPart]) -> Result<(String, Detail), MergeError> {
    let text = Content::response_text(&shared.headers, &shared.body, route.max_json);
    let mut text = text.map_err(|_| MergeError::Shared(Mismatch::Malformed))?;
    let read = |part: &CallerPart| {
        // A page does not say what the others select.
        let part = part.part().filter(|part| !has_next_link(&part.headers))?;
        Content::parse_response(&part.headers, &part.body, route.max_json).ok()
    };
    let contents: Vec<Option<Content>> = parts.iter().map(read).collect();
    let (urls, mut detail) = (route.caller_parts(), Detail::OverlayAnonymous);
    for overlay in &route.overlay {
        let at = urls.iter().position(|url| **url == overlay.from);
        // `None`: the part failed, or is not JSON with such values.
        let select = |at: usize| overlay.select(contents.get(at)?.as_ref()?);
        let selected = match at.and_then(|at| parts.get(at)) {
            Some(CallerPart::Anonymous) => HashSet::new(),
            _ => match (at.and_then(select), overlay.on_error) {
                (Some(selected), _) => {
                    if detail != Detail::OverlayFailed {
                        detail = Detail::Overlay;
                    }
                    selected
                }
                (None, OnPartError::Default) => {
                    detail = Detail::OverlayFailed;
                    HashSet::new()
                }
                (None, OnPartError::Pass) => return Err(MergeError::Caller),
            },
        };
        text = merge(&text, &selected, overlay).map_err(MergeError::Shared)?;
    }
    Ok((text, detail))
}

/// The whole content, which counts until it is dropped. `None`: it fails, is larger than `limit`, or there is no memory.
async fn read_counted(mut body: Body, limit: u64, memory: &Arc<MemoryBudget>) -> Option<Bytes> {
    let (mut chunks, mut length, mut reservation) = (Vec::new(), 0, memory.reserve());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        length += data.len() as u64;
        reservation.grow(data.len() as u64);
        if length > limit || !memory.admits(length) {
            return None;
        }
        chunks.push(data);
    }
    let content = if chunks.len() == 1 { chunks.swap_remove(0) } else { chunks.concat().into() };
    Some(if content.is_empty() { content } else { reservation.attach(content) })
}

/// Waits for all of a few futures.
async fn join_all<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> Vec<T> {
    let mut outputs: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(ready) = future.as_mut().poll(cx) {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
