//! One thread's access to the upstream and to the state that all threads share.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use http::StatusCode;

use super::client_request::ClientHead;
use super::sender_budgets::{client_network, sender_network};
use super::state::Proxy;
use crate::callers::{CallerRequest, Callers};
use crate::config::Limits;
use crate::memory_budget::{ClientMemory, MemoryBudget};
use crate::metrics::NonCacheReply;
use crate::policy::caller::{CallerSource, CallerVerdict, IdentifyCaller, WriteCaller};
use crate::policy::classify::{
    CacheLookup, Caller, Classification, classify, find_overlay, look_up_shared_part,
};
use crate::policy::methods::is_safe;
use crate::policy::no_vary_search::{LookupQuery, SearchVariance};
use crate::policy::route::SharedPart;
use crate::policy::{CacheKey, RequestHead, Route};
use crate::upstream::{ClientNetwork, Upstream};

/// The present configuration, and all state that depends on it.
pub(crate) type SharedProxy = Arc<ArcSwap<Proxy>>;

/// The context that a request is handled in: the shared state and this thread's upstream client.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(super) proxy: Arc<Proxy>,
    pub(super) upstream: Upstream,
}

/// One thread's [`Worker`], replaced when the configuration is. A request keeps the worker that it began with.
pub(crate) struct WorkerHandle {
    proxy: SharedProxy,
    worker: ArcSwap<Worker>,
}

impl WorkerHandle {
    pub(crate) fn new(proxy: SharedProxy) -> Arc<Self> {
        let present = proxy.load_full();
        let upstream = Upstream::new(present.destination.clone());
        Arc::new(Self { proxy, worker: ArcSwap::from_pointee(Worker { proxy: present, upstream }) })
    }

    pub(crate) fn worker(&self) -> Guard<Arc<Worker>> {
        let worker = self.worker.load();
        let proxy = self.proxy.load();
        if Arc::ptr_eq(&worker.proxy, &proxy) {
            return worker;
        }
        // Connections to an unchanged upstream are kept.
        let upstream = match Arc::ptr_eq(worker.upstream.destination(), &proxy.destination) {
            true => worker.upstream.clone(),
            false => Upstream::new(proxy.destination.clone()),
        };
        self.worker.store(Arc::new(Worker { proxy: Guard::into_inner(proxy), upstream }));
        self.worker.load()
    }
}

/// The caller of a request, which is kept with it.
struct HeadCaller<'a> {
    callers: &'a Callers,
    head: &'a ClientHead,
}

impl IdentifyCaller for HeadCaller<'_> {
    fn identify(&self, source: &CallerSource) -> CallerVerdict {
        if let Some(known) = self.head.caller() {
            return known.clone();
        }
        let verdict = self.callers.identify(source, self.head.as_asked());
        self.head.set_caller(source, verdict.clone());
        verdict
    }

    fn identify_writer(&self, source: &CallerSource) -> CallerVerdict {
        if self.head.caller().is_none() {
            self.callers.forget(source, self.head.as_asked());
        }
        self.identify(source)
    }
}

impl Worker {
    /// Whether this peer's `X-Forwarded-*` fields are believed. A peer on a unix socket is trusted.
    pub(crate) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        let trusted = &self.proxy.config.trusted_proxies;
        peer.is_none_or(|peer| trusted.iter().any(|net| net.contains(&peer)))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.proxy.config.limits
    }

    pub(crate) fn memory(&self) -> &Arc<MemoryBudget> {
        &self.proxy.memory
    }

    /// The memory that this client may use.
    pub(super) fn client_memory(&self, head: &ClientHead) -> ClientMemory {
        self.memory().open_account(sender_network(head))
    }

    /// The memory that the client of a connection may use, before its requests name another one.
    pub(crate) fn peer_memory(&self, peer: Option<IpAddr>) -> ClientMemory {
        let peer = peer.filter(|_| !self.trusts(peer));
        self.memory().open_account(peer.map(client_network))
    }

    /// Counts and logs an answer that the parser gave in place of a request.
    pub(crate) fn record_unread_request(&self, peer: Option<IpAddr>, status: StatusCode) {
        let Proxy { metrics, access_log, clock, .. } = &*self.proxy;
        metrics.record_request(None, &Err(NonCacheReply::Error), status, Duration::ZERO);
        if let Some(log) = access_log {
            log.write_unread(peer, clock.now(), status);
        }
    }

    /// Tells all tunnels to close, at the end of a drain.
    pub(crate) fn close_tunnels(&self) {
        self.proxy.tunnels.send_replace(true);
    }

    /// How many more requests the upstream takes now, and how many at most.
    pub(crate) fn upstream_capacity(&self) -> (usize, usize) {
        self.upstream.destination().capacity()
    }

    /// Classifies a request by the route rules, under the present fallback lifetimes.
    pub(super) fn classify(&self, head: &ClientHead, has_content: bool) -> Classification<'_> {
        let hint = self.proxy.search_hints.find(head);
        self.classify_with(head, has_content, hint.as_deref())
    }

    /// The lookup of the query as the client sent it, where the one by the hint found nothing for it.
    pub(super) fn look_up_as_asked(&self, head: &ClientHead) -> Option<CacheLookup<'_>> {
        match self.classify_with(head, false, None) {
            Classification::Lookup(lookup) => Some(lookup),
            _ => None,
        }
    }

    fn classify_with(
        &self,
        head: &ClientHead,
        has_content: bool,
        search_hint: Option<&SearchVariance>,
    ) -> Classification<'_> {
        let proxy = &self.proxy;
        let callers = HeadCaller { callers: &proxy.callers, head };
        let request = RequestHead { search_hint, ..head.as_policy() };
        let mut class = classify(&proxy.routes, &request, has_content, &proxy.config.credentials, &callers);
        if let Classification::Lookup(lookup) = &mut class {
            lookup.fallback_ttl = proxy.fallbacks.find(lookup.route.index);
        }
        class
    }

    /// Classifies a read, after its caller is asked for where that takes time.
    pub(super) async fn classify_after_asking(&self, head: &ClientHead) -> Classification<'_> {
        match self.classify(head, false) {
            Classification::Identify { route } => {
                self.ask_caller(route, head).await;
                self.classify(head, false)
            }
            class => class,
        }
    }

    /// Classifies an internal request. On a route with `overlay` it is one for the shared part, and loses all credentials.
    pub(super) async fn classify_internal(&self, head: &mut ClientHead) -> Classification<'_> {
        let Some(part) = find_overlay(&self.proxy.routes, &head.as_policy()) else {
            return self.classify_after_asking(head).await;
        };
        *head = head.for_shared_part(part, &self.proxy.config.credentials);
        Classification::Lookup(self.look_up_shared(part, head))
    }

    /// The lookup of a shared part. `head`: [`ClientHead::for_shared_part`].
    pub(super) fn look_up_shared<'r>(&self, part: &'r SharedPart, head: &ClientHead) -> CacheLookup<'r> {
        let fallback_ttl = self.proxy.fallbacks.find(part.route.index);
        CacheLookup {
            fallback_ttl,
            ..look_up_shared_part(part, &head.as_policy(), &self.proxy.config.credentials)
        }
    }

    /// Identifies the caller, as far as that takes no time.
    pub(super) fn identify_caller(&self, source: &CallerSource, head: &ClientHead) -> CallerVerdict {
        let caller = HeadCaller { callers: &self.proxy.callers, head };
        if is_safe(&head.parts.method) { caller.identify(source) } else { caller.identify_writer(source) }
    }

    /// Whom a write is from, for its purges. It may be a caller who is none any more.
    pub(super) fn name_writer(&self, head: &ClientHead) -> WriteCaller {
        let Some((index, verdict)) = head.caller_of_entry() else { return WriteCaller::NotAsked };
        self.proxy.callers.name_writer(index, verdict, &head.parts.headers)
    }

    /// Asks who the caller is, where that takes time.
    pub(super) async fn ask_caller(&self, route: &Route, head: &ClientHead) {
        if let Some(source) = &route.callers {
            let asked = CallerRequest { network: sender_network(head).map(ClientNetwork), ..head.as_asked() };
            head.set_caller(source, self.proxy.callers.ask(source, asked).await);
        }
    }

    /// Restores an earlier classification, under the present fallback lifetimes.
    pub(super) fn cache_lookup<'r>(
        &self,
        route: &'r Arc<Route>,
        key: CacheKey,
        query: LookupQuery,
        caller: Caller,
    ) -> CacheLookup<'r> {
        CacheLookup { route, key, query, caller, fallback_ttl: self.proxy.fallbacks.find(route.index) }
    }
}
