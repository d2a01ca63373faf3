//! One fetch that may be shared and stored: asked for whole, told to all who wait as soon as its header section is
//! there, and remembered once the last byte has come.

use std::sync::Arc;

use http::header::{
    AGE, CONTENT_LENGTH, DATE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    RANGE, TRAILER,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use super::collapsing::{Landing, Leader, SharedResponse};
use super::error::ProxyError;
use super::finding::{Miss, Stale};
use super::intake::ClientHead;
use super::passing::upstream_request;
use super::shared_body::{Reader, SharedBody, SharedBodyError};
use super::{Body, Worker, forwarding, replying};
use crate::policy::classify::{Caller, Lookup};
use crate::policy::storing::{Exchange, NotStored, may_answer_all, may_store};
use crate::policy::validation::{
    Validated, after_validation, conditional_fields, freshened_headers, freshened_terms,
};
use crate::policy::vary::Vary;
use crate::policy::{CacheKey, RequestHead, Route, tags};
use crate::purge::{FoundValid, LoosePath, Stamp, Target};
use crate::store::Fill;
use crate::stored_response::{Stored, StoredHead, StoredResponse, Terms, Variants};
use crate::upstream::{RequestBody, UpstreamBody};

/// How many kinds of `Vary` are remembered for one key.
const VARIANT_KINDS: usize = 4;

/// For the one who fetches, and nobody else.
pub(super) enum Own {
    /// A place at the start of the shared body.
    Reader(Reader),
    /// The response is not to be shared.
    Response { response: Response<Body>, not_stored: NotStored },
}

pub(super) struct Fetch {
    worker: Worker,
    head: Arc<ClientHead>,
    route: Arc<Route>,
    caller: Caller,
    query: Option<String>,
    /// The key of the request, whatever the variant.
    primary: CacheKey,
    stale: Option<Stale>,
    fill: Fill,
}

/// The upstream's answer, with the fields that go on.
struct Arrived {
    status: StatusCode,
    headers: HeaderMap,
    body: UpstreamBody,
    exchange: Exchange,
}

impl Fetch {
    /// From here on the fetch counts as begun: what is purged from now on is not in it.
    pub fn new(worker: &Worker, head: &Arc<ClientHead>, lookup: &Lookup<'_>, miss: &Miss) -> Self {
        Self {
            worker: worker.clone(),
            head: head.clone(),
            route: lookup.route.clone(),
            caller: lookup.caller,
            query: lookup.query.clone(),
            primary: lookup.key,
            stale: miss.stale.clone(),
            fill: worker.proxy.store.permit(&miss.key),
        }
    }

    pub fn start(self, leader: Leader) -> oneshot::Receiver<Own> {
        let (own, receiver) = oneshot::channel();
        let tasks = self.worker.proxy.tasks.clone();
        tasks.spawn(self.run(leader, own));
        receiver
    }

    async fn run(self, leader: Leader, own: oneshot::Sender<Own>) {
        match self.exchange().await {
            Ok((arrived, Some((stale, strong)))) => self.freshen(arrived, &stale, strong, &leader, own).await,
            Ok((arrived, None)) => self.arrive(arrived, leader, own).await,
            Err(error) => {
                leader.close();
                leader.land(Landing::Failed(error));
            }
        }
    }

    /// Asks the upstream: with the condition of what is stored, if that can be validated (RFC 9111 §4.3). The
    /// answer comes with what it freshens, if it does.
    async fn exchange(&self) -> Result<(Arrived, Option<(Stale, bool)>), ProxyError> {
        let Some(stale) = &self.stale else { return Ok((self.ask(HeaderMap::new()).await?, None)) };
        let condition = conditional_fields(&stale.response.head);
        // What was purged softly comes back to life only if its content is known to be the one of now.
        if condition.is_empty() || (stale.soft_purged && !condition.contains_key(IF_NONE_MATCH)) {
            return Ok((self.ask(HeaderMap::new()).await?, None));
        }
        let arrived = self.ask(condition).await?;
        match after_validation(&stale.response.head, arrived.status, &arrived.headers) {
            Validated::Freshened { strong } if strong || !stale.soft_purged => {
                Ok((arrived, Some((stale.clone(), strong))))
            }
            Validated::Freshened { .. } | Validated::Mismatch => {
                Ok((self.ask(HeaderMap::new()).await?, None))
            }
            Validated::Replaced | Validated::Failed => Ok((arrived, None)),
        }
    }

    async fn ask(&self, condition: HeaderMap) -> Result<Arrived, ProxyError> {
        let mut request = upstream_request(&self.head, self.query.as_deref(), RequestBody::empty());
        *request.method_mut() = Method::GET;
        for name in [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE] {
            request.headers_mut().remove(name);
        }
        request.headers_mut().extend(condition);
        let requested_at = self.worker.proxy.clock.now();
        let (mut parts, body) = self.worker.send(request).await?.into_parts();
        let exchange = Exchange { requested_at, received_at: self.worker.proxy.clock.now() };
        forwarding::to_client(&mut parts.headers, parts.version);
        Ok(Arrived { status: parts.status, headers: parts.headers, body, exchange })
    }

    /// What policy sees: a HEAD that sets off a fetch is a GET here.
    fn request(&self) -> RequestHead<'_> {
        RequestHead { method: &Method::GET, ..self.head.as_policy() }
    }

    /// The header section is here: whose is it, and is it to be remembered?
    async fn arrive(self, arrived: Arrived, leader: Leader, own: oneshot::Sender<Own>) {
        let Arrived { status, headers, exchange, .. } = &arrived;
        let terms = may_store(&self.route, self.caller, &self.request(), *status, headers, *exchange);
        let length = content_length(headers);
        let terms = match length {
            Some(length) if length > self.route.max_size => terms.and(Err(NotStored::TooLarge)),
            _ => terms,
        };
        match terms.and_then(|terms| self.head_of(&arrived, terms, self.fill.stamp())) {
            Ok(head) => self.share(head, arrived.body, length, None, leader, own).await,
            Err(not_stored) if self.answers_all(&arrived, not_stored) => {
                let terms = Terms::unstored(exchange.requested_at, exchange.received_at);
                match self.head_of(&arrived, terms, self.fill.stamp()) {
                    Ok(head) => self.share(head, arrived.body, length, Some(not_stored), leader, own).await,
                    Err(_) => self.refuse(arrived.into_response(), not_stored, &leader, own),
                }
            }
            Err(not_stored) => self.refuse(arrived.into_response(), not_stored, &leader, own),
        }
    }

    /// A failing upstream is asked once for all who wait; but what is meant for one caller stays with that caller.
    fn answers_all(&self, arrived: &Arrived, not_stored: NotStored) -> bool {
        self.caller == Caller::InKey
            && not_stored == NotStored::Status
            && may_answer_all(arrived.status, &arrived.headers)
    }

    fn head_of(&self, arrived: &Arrived, terms: Terms, stamp: Stamp) -> Result<StoredHead, NotStored> {
        let tags = tags::of_response(&self.route, &self.request(), &arrived.headers)
            .map_err(|_| NotStored::TooManyTags)?;
        let mut headers = arrived.headers.clone();
        headers.remove(AGE);
        // What is stored has no trailers (RFC 9110 §6.5.1 lets an intermediary drop them).
        headers.remove(TRAILER);
        if !headers.contains_key(DATE) {
            // RFC 9110 §6.6.1: a recipient that stores a response without one records when it came.
            let received = httpdate::fmt_http_date(terms.received_at.to_system_time());
            HeaderValue::try_from(received).ok().and_then(|received| headers.insert(DATE, received));
        }
        self.stored_head(arrived.status, headers, terms, stamp, tags)
    }

    fn stored_head(
        &self,
        status: StatusCode,
        headers: HeaderMap,
        terms: Terms,
        stamp: Stamp,
        tags: Vec<String>,
    ) -> Result<StoredHead, NotStored> {
        let request = self.request();
        let key = match Vary::of(&headers) {
            Vary::Nothing => self.primary,
            Vary::Fields(fields) => self.primary.variant(&fields, &request),
            Vary::Everything => return Err(NotStored::VaryStar),
        };
        let path = LoosePath::new(request.path);
        let query = self.query.as_deref().unwrap_or_default();
        Ok(StoredHead {
            key,
            fingerprint: self.route.fingerprint,
            status,
            headers,
            terms,
            stamp,
            targets: Target::all_of(request.host, &path, query, tags.iter().map(String::as_str)).into(),
            tags: tags.into(),
            found_valid: FoundValid::default(),
        })
    }

    /// It is for the one who asked; the others ask for themselves.
    fn refuse(
        &self,
        response: Response<Body>,
        not_stored: NotStored,
        leader: &Leader,
        own: oneshot::Sender<Own>,
    ) {
        self.worker.proxy.metrics.filled(self.route.index, Err(not_stored));
        if not_stored.is_by_nature() {
            leader.mark_unshareable();
        }
        leader.close();
        // Nobody receives it if the client has gone: then it is dropped, and the upstream's connection with it.
        let _gone = own.send(Own::Response { response, not_stored });
        leader.land(Landing::NotShareable);
    }

    /// Tells all who wait, and passes on the body as it comes. `not_stored`: an error, for those who wait alone.
    async fn share(
        self,
        head: StoredHead,
        body: UpstreamBody,
        length: Option<u64>,
        not_stored: Option<NotStored>,
        leader: Leader,
        own: oneshot::Sender<Own>,
    ) {
        let head = Arc::new(head);
        let shared = SharedBody::new(length);
        match (not_stored, head.terms.is_fresh(head.terms.received_at)) {
            (Some(_), _) => leader.close(),
            (None, true) => leader.unmark(),
            // It can be stored, but only to be validated each time: there is nothing to wait for.
            (None, false) => leader.mark_unshareable(),
        }
        if not_stored.is_none() {
            self.announce_variant(&head, &leader);
        }
        if let Some(reader) = shared.reader() {
            let _gone = own.send(Own::Reader(reader));
        }
        let response = SharedResponse {
            head: head.clone(),
            body: shared.clone(),
            is_error: not_stored.is_some(),
            not_stored,
        };
        leader.land(Landing::Shared(Arc::new(response)));
        match self.pump(body, &shared, &leader).await {
            Err(error) => {
                shared.finish(Err(error));
                self.worker.proxy.metrics.filled(self.route.index, Err(NotStored::Incomplete));
            }
            Ok(trailers) => match not_stored.is_none().then(|| shared.whole()).flatten() {
                None => {
                    shared.finish(Ok(trailers));
                    self.worker
                        .proxy
                        .metrics
                        .filled(self.route.index, Err(not_stored.unwrap_or(NotStored::TooLarge)));
                }
                Some(whole) => {
                    let fill = self.fill.for_variant(head.key);
                    // Remembered before the last reader sees the end, so that whoever asks next finds it.
                    let stored = self.remember(fill, StoredResponse { head, body: whole });
                    shared.finish(Ok(trailers));
                    stored.await;
                }
            },
        }
    }

    /// Where responses for one key differ by request fields, those who come look for their own variant from now on.
    fn announce_variant(&self, head: &StoredHead, leader: &Leader) {
        let Vary::Fields(fields) = &Vary::of(&head.headers) else { return };
        let store = &self.worker.proxy.store;
        let before = match store.recall_here(&self.primary).map(|found| found.stored) {
            Some(Stored::Variants(variants)) => Some(variants),
            _ => None,
        };
        let known =
            before.iter().flat_map(|variants| variants.fields.iter()).filter(|known| *known != fields);
        let fields = std::iter::once(fields).chain(known).take(VARIANT_KINDS).cloned().collect();
        let latest = before.as_ref().map_or(head.terms.expires_at, |variants| variants.expires_at);
        let expires_at = latest.max(head.terms.expires_at);
        let variants = Stored::Variants(Arc::new(Variants { fields, expires_at }));
        let announced = store.insert(self.fill.for_variant(self.primary), variants, expires_at);
        tokio::spawn(announced);
        leader.rekey(head.key);
    }

    /// Everything up to the end; past the route's `max_size` only as fast as somebody reads.
    async fn pump(
        &self,
        mut body: UpstreamBody,
        shared: &SharedBody,
        leader: &Leader,
    ) -> Result<Option<HeaderMap>, SharedBodyError> {
        let mut overflown = false;
        let mut trailers = None;
        loop {
            if overflown && !shared.wanted().await {
                return Err(SharedBodyError::Upstream("nobody reads it any more".into()));
            }
            match body.frame().await {
                None => return Ok(trailers),
                Some(Err(error)) => {
                    tracing::warn!(%error, "the upstream failed in the middle of a response");
                    return Err(SharedBodyError::Upstream(error.to_string()));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let arrived = shared.append(data);
                        if !overflown && arrived > self.route.max_size {
                            overflown = true;
                            leader.mark_unshareable();
                            leader.close();
                            shared.overflow(self.route.max_size);
                        }
                    }
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    /// 304: what is stored is still good (RFC 9111 §4.3.4).
    async fn freshen(
        &self,
        arrived: Arrived,
        stale: &Stale,
        strong: bool,
        leader: &Leader,
        own: oneshot::Sender<Own>,
    ) {
        let before = &stale.response.head;
        let headers = freshened_headers(&before.headers, &arrived.headers);
        let request = self.request();
        let terms = may_store(&self.route, self.caller, &request, before.status, &headers, arrived.exchange);
        // Only a strong validator says that the content is the one of now.
        let stamp = if strong { self.fill.stamp() } else { before.stamp };
        let head = terms.and_then(|terms| {
            let terms = freshened_terms(&before.terms, terms, arrived.exchange);
            let mut tags =
                tags::of_response(&self.route, &request, &headers).map_err(|_| NotStored::TooManyTags)?;
            tags.extend(before.tags.iter().filter(|tag| !tags.contains(tag)).cloned().collect::<Vec<_>>());
            let mut headers = headers.clone();
            headers.remove(AGE);
            self.stored_head(before.status, headers, terms, stamp, tags)
        });
        let body = stale.response.body.clone();
        match head {
            Ok(head) => {
                let freshened = Arc::new(StoredResponse { head: Arc::new(head), body });
                let fill = self.fill.for_variant(freshened.head.key);
                let stored = self.insert(fill, freshened.clone());
                leader.land(Landing::Freshened(freshened));
                stored.await;
            }
            Err(not_stored) => {
                let response = replying::whole(before.status, headers, Body::from(body));
                self.refuse(response, not_stored, leader, own);
            }
        }
    }

    fn remember(&self, fill: Fill, response: StoredResponse) -> impl Future<Output = ()> + use<> {
        self.insert(fill, Arc::new(response))
    }

    /// The first tier has it when this returns; the future is the rest.
    fn insert(&self, fill: Fill, response: Arc<StoredResponse>) -> impl Future<Output = ()> + use<> {
        let (metrics, route) = (self.worker.proxy.metrics.clone(), self.route.index);
        let (size, expires_at) = (response.body.len() as u64, response.head.terms.expires_at);
        let inserting = self.worker.proxy.store.insert(fill, Stored::Response(response), expires_at);
        async move {
            match inserting.await {
                Ok(()) => metrics.filled(route, Ok(size)),
                Err(error) => tracing::debug!(%error, "not stored"),
            }
        }
    }
}

impl Arrived {
    fn into_response(self) -> Response<Body> {
        replying::whole(self.status, self.headers, Body::Upstream(self.body))
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
