//! Explains how larder handles a hypothetical request and response, with the functions that the proxy uses.
//!
//! It decides nothing itself, and uses no socket and no store.

mod caller;
mod describe;
mod json;
mod overlay;
mod purging_routes;
mod request;
pub mod rules;
mod stored;
mod text;

use std::sync::Arc;
use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, Method, StatusCode};

use crate::clock::Timestamp;
use crate::config::{Config, Operation};
use crate::policy::cache_key::{KeyPart, describe_key};
use crate::policy::cache_status::CacheOutcome;
use crate::policy::caller::{CallerSource, CallerVerdict};
use crate::policy::classify::{CacheLookup, Caller, Classification, PassReason, classify};
use crate::policy::content::Content;
use crate::policy::credentials::field_outside_key;
use crate::policy::downstream_fields::describe_to_caches;
use crate::policy::freshness;
use crate::policy::freshness::ExchangeTimes;
use crate::policy::invalidation::{self, WriteExchange, WritePlan};
use crate::policy::lifetime::Lifetime;
use crate::policy::no_vary_search::SearchVariance;
use crate::policy::not_stored::NotStored;
use crate::policy::on_miss::{OnMiss, decide_on_miss, requires_upstream};
use crate::policy::query::QueryRule;
use crate::policy::received_response::ReceivedResponse;
use crate::policy::response_admission::{self, RequestContext};
use crate::policy::routes::Routes;
use crate::policy::storing;
use crate::policy::tag_lists::EntryTags;
use crate::policy::template::Template;
use crate::policy::vary::Vary;
use crate::policy::write_outcome::{ExchangeEnd, SentContent, WriteOutcome};
use crate::policy::{CacheKey, RequestHead, Route};
use crate::proxy::{Client, ClientHead};
use crate::purge::{Target, TargetId};
use crate::stored_response::{Terms, Variants};

pub use crate::callers::Callers;
pub(crate) use crate::callers::KeyStatus;
pub use caller::CallerTrust;
use caller::ExplainedCaller;
pub(crate) use caller::callers;
pub use json::to_json;
pub(crate) use overlay::ExplainedPart;
pub use purging_routes::PurgingRoute;
pub(crate) use purging_routes::{find_purging_routes, routes_with_tag};
pub(crate) use request::parse_fields;
pub use request::{ExplainRequest, ExplainResponse, parse_field};
pub use text::ExplanationText;

/// The handling of one request.
#[derive(Debug)]
pub struct Explanation {
    /// The method of the request.
    pub method: Method,
    /// The path and query of the request.
    pub target: String,
    /// The route that the path matches.
    pub route: Option<Arc<Route>>,
    /// The caller, on a route with `callers`.
    pub(crate) caller: Option<CallerVerdict>,
    /// The decision.
    pub verdict: Verdict,
}

/// The decision about a request.
#[derive(Debug)]
pub enum Verdict {
    /// larder answers with an error.
    Refused(String),
    /// Forwarded, neither stored nor answered from the store.
    Pass(PassReason),
    /// The service that knows callers is asked first.
    Identify,
    /// Looked up in the store.
    Lookup(Box<LookupExplanation>),
    /// Forwarded, and purged for.
    Write(Box<WriteExplanation>),
    /// A PURGE request.
    Purge(Vec<Target>),
    /// An operation of `admin_at`.
    Operation(Operation),
}

/// A GET or HEAD that is looked up.
#[derive(Debug)]
pub struct LookupExplanation {
    /// The key of the request, without the variant.
    pub primary: CacheKey,
    /// The key of the variant that the response selects.
    pub key: CacheKey,
    pub(crate) parts: Vec<KeyPart>,
    /// The path and query that the upstream receives.
    pub forwarded: String,
    /// The parameters that are neither in the key nor sent on, each with the listed name that it nearly has.
    pub(crate) left_out: Vec<(String, Option<String>)>,
    /// Which responses may be shared with the caller.
    pub caller: Caller,
    /// The first request field that identifies the caller and is not in the key.
    pub(crate) field_outside_key: Option<HeaderName>,
    /// The handling if nothing usable is stored.
    pub on_miss: OnMiss,
    /// How many seconds the response's `Date` lies in the past: the clock of the upstream is behind, or it was cached.
    pub(crate) clock_lag: Option<i64>,
    /// The status of the response.
    pub status: StatusCode,
    /// Whether the response of a fetch is stored.
    pub fetched: Result<StoreExplanation, NotStored>,
    /// The routes whose writes could purge the response by a tag.
    pub purging_routes: Vec<PurgingRoute>,
    /// On a route with `overlay`, the parts of the caller. All else is then about the part that all share.
    pub(crate) caller_parts: Vec<ExplainedPart>,
}

/// The storing of a response.
#[derive(Debug)]
pub struct StoreExplanation {
    /// The source of the freshness lifetime.
    pub lifetime: Lifetime,
    /// The terms without `jitter`.
    pub terms: Terms,
    /// The tags that are known.
    pub tags: Vec<String>,
    /// The response would have a stale window without its `s-maxage`.
    pub(crate) closed_by_s_maxage: bool,
    /// The differences between queries that the response says do not matter.
    pub(crate) equivalents: Option<SearchVariance>,
    /// Tags that need the response's content, which is unknown.
    pub(crate) unresolved_tags: Vec<Template>,
    /// All targets that purge the response.
    pub targets: Vec<TargetId>,
    /// The fields by which a hit tells other caches what to do with it, on a route with `downstream` or `list_tags`, unless
    /// they need the content.
    pub(crate) cache_fields: Vec<(HeaderName, String)>,
}

/// The purges of a write.
#[derive(Debug)]
pub struct WriteExplanation {
    /// The status of the response.
    pub status: StatusCode,
    /// Whether the write took effect.
    pub end: WriteOutcome,
    /// The purged targets.
    pub targets: Vec<Target>,
    /// The number of templates without a value, for which more is purged.
    pub(crate) widened_templates: usize,
}

/// Explains requests by the functions that `proxy` calls.
pub struct Explainer<'c> {
    config: &'c Config,
    routes: &'c Routes,
    trust: CallerTrust<'c>,
    now: Timestamp,
    /// The bound on hits of the route while a source of events is silent.
    pub fallback_ttl: Option<Duration>,
    /// The variants that are stored for the request, if there are any.
    pub variants: Option<Arc<Variants>>,
}

impl<'c> Explainer<'c> {
    /// Dates in the response are compared with `now`.
    pub fn new(config: &'c Config, routes: &'c Routes, trust: CallerTrust<'c>, now: Timestamp) -> Self {
        Self { config, routes, trust, now, fallback_ttl: None, variants: None }
    }

    /// Explains the handling of `input`, if the upstream answers with `response`.
    pub fn explain(&self, input: &ExplainRequest, response: &ExplainResponse) -> Explanation {
        let (method, target) = (input.method().clone(), input.target().to_owned());
        let (route, caller, verdict) = match self.read(input) {
            Ok(head) => {
                let (route, verdict) = self.classify(&head, input, response);
                (route, head.caller().cloned(), verdict)
            }
            Err(refused) => (None, None, Verdict::Refused(refused)),
        };
        Explanation { method, target, route, caller, verdict }
    }

    /// The fields that the upstream receives; `None` if larder refuses the request.
    pub fn forwarded_fields(&self, input: &ExplainRequest) -> Option<HeaderMap> {
        self.read(input).ok().map(|head| head.forwarded_fields())
    }

    /// Asks the service that knows the caller of the request. Its verdict is remembered.
    pub(crate) async fn ask_caller(&self, source: &CallerSource, input: &ExplainRequest) {
        if let (CallerTrust::Verify(callers), Ok(head)) = (self.trust, self.read(input)) {
            callers.ask(source, head.as_asked()).await;
        }
    }

    /// Interprets the request as the proxy does.
    fn read(&self, input: &ExplainRequest) -> Result<ClientHead, String> {
        let client = Client { peer: input.peer, is_tls: input.is_tls, refresh: None };
        let mut head =
            ClientHead::read(input.parts.clone(), client, self.config).map_err(|error| error.to_string())?;
        head.choose_language(self.routes);
        head.content = (!matches!(*input.method(), Method::GET | Method::HEAD)).then(|| input.body.clone());
        Ok(head)
    }

    fn classify_request(&self, head: &ClientHead, input: &ExplainRequest) -> Classification<'c> {
        let callers = ExplainedCaller { explainer: self, head };
        classify(self.routes, &head.as_policy(), !input.body.is_empty(), &self.config.credentials, &callers)
    }

    fn classify(
        &self,
        head: &ClientHead,
        input: &ExplainRequest,
        response: &ExplainResponse,
    ) -> (Option<Arc<Route>>, Verdict) {
        let request = head.as_policy();
        let dialects = self.config.purge.dialects;
        if invalidation::is_purge_method(request.method.as_str(), dialects) {
            let verdict = match invalidation::parse_purge_request(
                self.routes,
                &request,
                head.is_absolute_form,
                dialects,
            ) {
                Ok((targets, _)) => Verdict::Purge(targets),
                Err(error) => Verdict::Refused(error),
            };
            return (None, verdict);
        }
        let paths = self.config.admin_at.as_ref();
        if let Some(operation) = paths.and_then(|paths| paths.find(request.method, request.path)) {
            return (None, Verdict::Operation(operation));
        }
        match self.classify_request(head, input) {
            Classification::Lookup(lookup) => {
                let request = head.as_policy();
                let verdict = match requires_upstream(&request) {
                    Some(reason) => Verdict::Pass(reason),
                    None if let Some(part) = lookup.route.merged_part() => {
                        Verdict::Lookup(Box::new(self.explain_overlay(part, lookup.route, head, response)))
                    }
                    None => Verdict::Lookup(Box::new(self.explain_lookup(&lookup, &request, response))),
                };
                (Some(lookup.route.clone()), verdict)
            }
            // Explained requests come with their content.
            Classification::ContentRead { route } => {
                (Some(route.clone()), Verdict::Pass(PassReason::Content))
            }
            Classification::Pass { reason, route } => (route.cloned(), Verdict::Pass(reason)),
            Classification::Write { route } => {
                let writer = ExplainedCaller { explainer: self, head }.name_writer();
                let request = RequestHead { caller: writer.view(), ..head.as_policy() };
                (route.cloned(), Verdict::Write(Box::new(self.explain_write(&request, input, response))))
            }
            Classification::Identify { route } => (Some(route.clone()), Verdict::Identify),
        }
    }

    fn explain_lookup(
        &self,
        lookup: &CacheLookup<'_>,
        request: &RequestHead<'_>,
        response: &ExplainResponse,
    ) -> LookupExplanation {
        // Only the response to a GET is stored.
        let fetched = RequestHead { method: &Method::GET, ..*request };
        // `jitter` is random, so it is left out.
        let route = Route { jitter: 0, ..lookup.route.as_ref().clone() };
        let context =
            RequestContext { route: &route, caller: lookup.caller, primary: &lookup.key, request: &fetched };
        let outcome = self.explain_store(&context, lookup, response);
        let vary = match Vary::parse_ignoring(&response.headers, &route.ignore_vary) {
            Vary::Fields(fields) => Some(fields),
            Vary::Nothing | Vary::Everything => None,
        };
        let query = lookup.query.sent();
        let purgers = outcome.as_ref().map_or_else(
            |_| Vec::new(),
            |storing| {
                purging_routes::find_purging_routes(self.routes, &storing.tags, &storing.unresolved_tags)
            },
        );
        LookupExplanation {
            primary: lookup.key,
            key: context.select_variant_key(&response.headers).unwrap_or(lookup.key),
            parts: describe_key(lookup.route, request, query, vary.as_ref(), &self.config.credentials),
            forwarded: query
                .map_or_else(|| request.path.to_owned(), |query| format!("{}?{query}", request.path)),
            left_out: find_left_out(&lookup.route.query, request.query),
            caller: lookup.caller,
            field_outside_key: field_outside_key(lookup.route, request.headers, &self.config.credentials)
                .filter(|_| !lookup.caller.is_in_key())
                .cloned(),
            on_miss: decide_on_miss(lookup.route, request),
            clock_lag: freshness::clock_lag(&response.headers, self.now).filter(|lag| *lag > 0),
            status: response.status,
            fetched: outcome,
            purging_routes: purgers,
            caller_parts: Vec::new(),
        }
    }

    fn explain_store(
        &self,
        context: &RequestContext<'_>,
        lookup: &CacheLookup<'_>,
        response: &ExplainResponse,
    ) -> Result<StoreExplanation, NotStored> {
        let (route, request) = (context.route, context.request);
        let exchange = ExchangeTimes { requested_at: self.now, received_at: self.now };
        let (status, headers) = (response.status, &response.headers);
        let terms = context.admit_headers(status, headers, response.content_length(), exchange)?;
        let received = ReceivedResponse { status, headers, exchange };
        let lifetime = storing::select_lifetime(route, context.caller, request, received)?;
        let mut unread = Vec::new();
        let (tags, terms) = match &response.body {
            Some(body) if route.reads_content() => context.admit_content(terms, headers, body)?,
            body => {
                let late = route.tags.iter().filter(|tag| body.is_none() && tag.reads_response_content());
                unread.extend(late.cloned());
                (EntryTags::collect(route, request, headers, None)?, terms)
            }
        };
        // Fails if `Vary` has `*`.
        context.select_variant_key(headers)?;
        let mut targets =
            response_admission::response_targets(route, request, lookup.query.sent(), headers, &tags.all);
        targets.extend(response_admission::absence_targets(status, request.path));
        let equivalents = SearchVariance::parse(headers);
        let closed_by_s_maxage = storing::is_stale_window_closed_by_s_maxage(route, headers);
        let cache_fields = match unread.is_empty() || route.list_tags.is_empty() {
            true => find_cache_fields(route, (&tags, &targets), &terms, (status, headers)),
            false => Vec::new(),
        };
        Ok(StoreExplanation {
            lifetime,
            terms,
            closed_by_s_maxage,
            equivalents,
            cache_fields,
            tags: tags.all,
            unresolved_tags: unread,
            targets,
        })
    }

    fn explain_write(
        &self,
        request: &RequestHead<'_>,
        input: &ExplainRequest,
        response: &ExplainResponse,
    ) -> WriteExplanation {
        let routes = self.routes;
        let plan = WritePlan::new(routes, request, self.config.purge.related_paths());
        let kept = plan.content_to_buffer();
        let of_request =
            kept.request.and_then(|limit| Content::parse_request(request.headers, &input.body, limit).ok());
        let of_response = kept
            .response
            .zip(response.body.as_ref())
            .and_then(|(limit, body)| Content::parse_response(&response.headers, body, limit).ok());
        let exchanged = WriteExchange {
            request_content: of_request.as_ref(),
            response_headers: Some(&response.headers),
            response_content: of_response.as_ref(),
            upstream_host: self.config.upstream.host.replacement(),
        };
        let outcome =
            plan.outcome_rules().evaluate(ExchangeEnd::Answered(response.status), SentContent::Whole);
        let (end, written) = plan.finish(request, plan.head_targets(request), outcome, &exchanged);
        let end = if outcome == WriteOutcome::PurgeUrl { outcome } else { end };
        WriteExplanation {
            status: response.status,
            end,
            targets: written.targets.to_vec(),
            widened_templates: written.widened,
        }
    }
}

/// `Cache-Control` and the lists of tags of a hit.
fn find_cache_fields(
    route: &Route,
    (tags, targets): (&EntryTags, &[TargetId]),
    terms: &Terms,
    (status, headers): (StatusCode, &HeaderMap),
) -> Vec<(HeaderName, String)> {
    if route.downstream.is_none() && route.list_tags.is_empty() {
        return Vec::new();
    }
    let mut headers = headers.clone();
    tags.list_in(route, if route.lists_targets { targets } else { &[] }, &mut headers);
    let ttl = terms.freshness_lifetime.saturating_sub(terms.initial_age).as_secs();
    let hit = CacheOutcome::Hit { ttl: i64::try_from(ttl).unwrap_or(i64::MAX), detail: None };
    describe_to_caches(route, &hit, status, &mut headers);
    let names = [CACHE_CONTROL].into_iter().chain(route.list_tags.iter().cloned());
    let value = |name: HeaderName| {
        let value = headers.get(&name)?.to_str().ok()?.to_owned();
        Some((name, value))
    };
    names.filter_map(value).collect()
}

fn find_left_out(rule: &QueryRule, query: Option<&str>) -> Vec<(String, Option<String>)> {
    let names = rule.left_out(query).into_iter();
    names.map(|name| (name.to_string(), rule.listed_name(&name).map(str::to_owned))).collect()
}

impl Explanation {
    /// The lookup, if the verdict is one.
    pub fn lookup(&self) -> Option<&LookupExplanation> {
        match &self.verdict {
            Verdict::Lookup(reading) => Some(reading),
            _ => None,
        }
    }

    /// The explanation of the stored response, if it is stored.
    pub fn stored(&self) -> Option<&StoreExplanation> {
        let reading = self.lookup().filter(|reading| reading.on_miss == OnMiss::Fetch)?;
        reading.fetched.as_ref().ok()
    }

    /// The targets that the request purges.
    pub fn purge_targets(&self) -> &[Target] {
        match &self.verdict {
            Verdict::Write(writing) => &writing.targets,
            Verdict::Purge(targets) => targets,
            _ => &[],
        }
    }

    /// Whether this write purges the response that `read` would store.
    pub fn can_purge(&self, read: &Explanation) -> bool {
        let reached = read.stored().map_or(&[][..], |storing| &storing.targets);
        self.purge_targets().iter().any(|target| reached.contains(&target.id()))
    }
}
