//! One fetch that may be shared and stored: asked for whole, told to all who wait as soon as its header section is
//! there, and remembered once the last byte has come.

use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, AGE, CONTENT_LENGTH, DATE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, Method, Response, StatusCode};
use tokio::sync::oneshot;

use super::collapsing::{Landing, Leader, MARK, SharedResponse};
use super::error::ProxyError;
use super::finding::{Miss, Stale};
use super::intake::ClientHead;
use super::passing::upstream_request;
use super::shared_body::Reader;
use super::{Body, Worker, forwarding, identity, replying};
use crate::policy::arrival::{self, Asked};
use crate::policy::classify::{Caller, Lookup};
use crate::policy::content;
use crate::policy::route::{Collapse, Mode};
use crate::policy::storing::{Exchange, NotStored, may_answer_all};
use crate::policy::validation::{Validated, after_validation, conditional_fields};
use crate::policy::{CacheKey, RequestHead, Route, http_date, tags};
use crate::purge::{FoundValid, Stamp};
use crate::store::{Ended, Fill, Lease};
use crate::stored_response::{JudgedBy, StoredFields, StoredHead, Terms};
use crate::upstream::{RequestBody, UpstreamBody, UpstreamError};

/// For the one who fetches, and nobody else.
#[expect(clippy::large_enum_variant, reason = "one for each fetch, and it is moved once")]
pub(super) enum Own {
    /// A place at the start of the shared body.
    Reader { shared: Arc<SharedResponse>, reader: Reader },
    /// The response is not to be shared.
    Response { response: Response<Body>, not_stored: NotStored },
}

pub(super) struct Fetch {
    pub(super) worker: Worker,
    pub(super) head: Arc<ClientHead>,
    pub(super) route: Arc<Route>,
    pub(super) caller: Caller,
    pub(super) query: Option<String>,
    /// The key of the request, whatever the variant.
    pub(super) primary: CacheKey,
    pub(super) stale: Option<Stale>,
    pub(super) fill: Fill,
    /// The other replicas wait for this fetch.
    pub(super) lease: Option<Lease>,
}

/// The upstream's answer, with the fields that go on.
pub(super) struct Arrived {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: UpstreamBody,
    pub exchange: Exchange,
}

impl Fetch {
    /// From here on the fetch counts as begun: what is purged from now on is not in it.
    pub fn new(worker: &Worker, head: &Arc<ClientHead>, lookup: &Lookup<'_>, miss: &Miss) -> Self {
        let mut fetch = Self {
            worker: worker.clone(),
            head: head.clone(),
            route: lookup.route.clone(),
            caller: lookup.caller,
            query: lookup.query.clone(),
            primary: lookup.key,
            stale: miss.stale.clone(),
            fill: worker.proxy.store.permit(&miss.key),
            lease: None,
        };
        fetch.begin();
        fetch
    }

    /// It begins now, not earlier.
    pub(super) fn begin(&mut self) {
        let store = self.worker.proxy.store.as_ref();
        self.fill = store.permit(self.fill.key());
        if self.route.collapse == Collapse::Replicas {
            self.fill.yields();
        }
        // Only now, so that no purge falls between: one that is not seen here comes after what the fill carries.
        self.stale = self.stale.as_ref().and_then(|stale| stale.as_of_now(store));
    }

    pub fn start(self, leader: Leader) -> oneshot::Receiver<Own> {
        let (own, receiver) = oneshot::channel();
        let tasks = self.worker.proxy.tasks.clone();
        tasks.spawn(self.run(leader, own));
        receiver
    }

    async fn run(mut self, leader: Leader, own: oneshot::Sender<Own>) {
        #[cfg(test)]
        super::panic_tests::trap(&self.head, "fetch");
        if !self.has_its_turn(&leader).await {
            return;
        }
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
        let Some(stale) = &self.stale else { return Ok((self.ask_whole().await?, None)) };
        let condition = conditional_fields(&stale.response.head);
        // What was purged softly comes back to life only if its content is known to be the one of now.
        if condition.is_empty() || (stale.soft_purged && !condition.contains_key(IF_NONE_MATCH)) {
            return Ok((self.ask_whole().await?, None));
        }
        let arrived = self.ask(condition).await?;
        match after_validation(&stale.response.head, arrived.status, &arrived.headers) {
            // It may have died while the upstream was asked.
            Validated::Freshened { .. } if !stale.is_of_use(arrived.exchange.received_at) => {
                Ok((self.ask_whole().await?, None))
            }
            Validated::Freshened { strong } if strong || !stale.soft_purged => {
                Ok((arrived, Some((stale.clone(), strong))))
            }
            Validated::Freshened { .. } | Validated::Mismatch => Ok((self.ask_whole().await?, None)),
            Validated::Replaced | Validated::Failed => Ok((arrived, None)),
        }
    }

    /// Without a condition, so that a 304 says nothing.
    async fn ask_whole(&self) -> Result<Arrived, ProxyError> {
        let arrived = self.ask(HeaderMap::new()).await?;
        match arrived.status {
            StatusCode::NOT_MODIFIED => Err(UpstreamError::Invalid("304 unasked".into()).into()),
            _ => Ok(arrived),
        }
    }

    async fn ask(&self, condition: HeaderMap) -> Result<Arrived, ProxyError> {
        let headers = self.head.parts.headers.clone();
        let mut request = upstream_request(&self.head, headers, self.query.as_deref(), RequestBody::empty());
        *request.method_mut() = Method::GET;
        for name in [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE] {
            request.headers_mut().remove(name);
        }
        request.headers_mut().extend(condition);
        if self.route.reads_content()
            && self.route.mode == Mode::On
            && let Some(coding) = content::readable_coding(request.headers())
        {
            request.headers_mut().insert(ACCEPT_ENCODING, coding);
        }
        let requested_at = self.worker.proxy.clock.now();
        let (mut parts, body) = self.worker.send(request, &self.head).await?.into_parts();
        let exchange = Exchange { requested_at, received_at: self.worker.proxy.clock.now() };
        forwarding::to_client(&mut parts.headers, parts.version);
        Ok(Arrived { status: parts.status, headers: parts.headers, body, exchange })
    }

    /// What policy sees: a HEAD that sets off a fetch is a GET here.
    pub(super) fn request(&self) -> RequestHead<'_> {
        RequestHead { method: &Method::GET, ..self.head.as_policy() }
    }

    pub(super) fn asked<'a>(&'a self, request: &'a RequestHead<'a>) -> Asked<'a> {
        Asked { route: &self.route, caller: self.caller, primary: &self.primary, request }
    }

    /// The header section is here: whose is it, and is it to be remembered?
    async fn arrive(mut self, arrived: Arrived, leader: Leader, own: oneshot::Sender<Own>) {
        let Arrived { status, headers, exchange, .. } = &arrived;
        let length = content_length(headers);
        let terms = self.asked(&self.request()).terms(*status, headers, length, *exchange);
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
            && may_answer_all(&self.route, arrived.status, &arrived.headers)
    }

    fn head_of(&self, arrived: &Arrived, terms: Terms, stamp: Stamp) -> Result<StoredHead, NotStored> {
        let tags = tags::of_response(&self.route, &self.request(), &arrived.headers, None)?;
        let mut headers = arrived.headers.clone();
        headers.remove(AGE);
        // What is stored has no trailers (RFC 9110 §6.5.1 lets an intermediary drop them).
        self.stored_head(arrived.status, headers, terms, stamp, tags)
    }

    pub(super) fn stored_head(
        &self,
        status: StatusCode,
        mut headers: HeaderMap,
        terms: Terms,
        stamp: Stamp,
        tags: Vec<String>,
    ) -> Result<StoredHead, NotStored> {
        identity::forget(&mut headers);
        // RFC 9110 §6.6.1: without one, a recipient that stores a response records when it came.
        headers.entry(DATE).or_insert_with(|| http_date::format(terms.received_at));
        let request = self.request();
        Ok(StoredHead {
            key: self.asked(&request).key(&headers)?,
            fingerprint: self.route.fingerprint,
            status,
            fields: StoredFields::new(&headers, &tags),
            terms: terms.into(),
            stamp,
            targets: arrival::targets(&request, self.query.as_deref(), &tags).into(),
            found_valid: FoundValid::default(),
            judged_by: JudgedBy::rules(self.route.lifetimes),
            usage: Default::default(),
        })
    }

    /// It is for the one who asked; the others ask for themselves.
    pub(super) fn refuse(
        &mut self,
        response: Response<Body>,
        not_stored: NotStored,
        leader: &Leader,
        own: oneshot::Sender<Own>,
    ) {
        self.worker.proxy.metrics.filled(self.route.index, Err(not_stored));
        if not_stored.is_by_nature() {
            leader.mark_unshareable(MARK, None);
            self.tell_replicas(Ended::NotShareable(MARK));
        }
        self.tell_replicas(Ended::FAILED);
        leader.close();
        // Nobody receives it if the client has gone: then it is dropped, and the upstream's connection with it.
        let _gone = own.send(Own::Response { response, not_stored });
        leader.land(Landing::NotShareable);
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
