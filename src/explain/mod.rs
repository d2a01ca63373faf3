//! EXPLAINS. What larder makes of a request, and why: by the functions that the proxy itself asks, of a request that
//! nobody sent and a response that nobody gave.
//!
//! Never decides anything of its own, and never touches a socket or a store.

mod json;
mod purgers;
mod question;
pub mod rules;
mod stored;

mod text;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::clock::Timestamp;
use crate::config::Config;
use crate::policy::arrival::{self, Asked};
use crate::policy::cache_key::{KeyPart, described};
use crate::policy::classify::{Caller, Class, Lookup, PassReason, classify};
use crate::policy::content::Content;
use crate::policy::invalidation::{self, Exchanged, WriteEnd};
use crate::policy::lifetime::Lifetime;
use crate::policy::miss::{OnMiss, on_miss, passes_unseen};
use crate::policy::routes::Routes;
use crate::policy::storing::{self, Exchange, NotStored};
use crate::policy::template::Template;
use crate::policy::vary::Vary;
use crate::policy::{CacheKey, RequestHead, Route, tags};
use crate::proxy::{Client, ClientHead};
use crate::purge::{Target, TargetId};
use crate::stored_response::Terms;

pub use json::told;
pub use purgers::{Purger, carriers};
pub use question::{Question, Reply, field, fields};

#[derive(Debug)]
pub struct Explanation {
    pub method: Method,
    pub target: String,
    pub route: Option<Arc<Route>>,
    pub verdict: Verdict,
}

#[derive(Debug)]
pub enum Verdict {
    /// larder answers it itself, with an error.
    Refused(String),
    Pass(PassReason),
    Lookup(Box<Reading>),
    Write(Box<Writing>),
    /// The method PURGE.
    Purge(Vec<Target>),
}

/// A GET or HEAD that is looked up.
#[derive(Debug)]
pub struct Reading {
    /// Of the request, whatever the variant.
    pub primary: CacheKey,
    /// Of the response, as far as it is known.
    pub key: CacheKey,
    pub parts: Vec<KeyPart>,
    /// What the upstream is asked for.
    pub forwarded: String,
    pub caller: Caller,
    pub on_miss: OnMiss,
    /// Of the response.
    pub status: StatusCode,
    /// What becomes of the response of a fetch.
    pub fetched: Result<Storing, NotStored>,
    /// How a write could reach the response by a tag.
    pub purgers: Vec<Purger>,
}

#[derive(Debug)]
pub struct Storing {
    pub lifetime: Lifetime,
    /// Before chance takes its part.
    pub terms: Terms,
    pub tags: Vec<String>,
    /// Tags that stand in a content that is not known.
    pub unread: Vec<Template>,
    /// All by which a purge reaches it.
    pub targets: Vec<TargetId>,
}

#[derive(Debug)]
pub struct Writing {
    pub status: StatusCode,
    pub end: WriteEnd,
    /// What is purged, if anything is.
    pub targets: Vec<Target>,
    /// Templates that found no value.
    pub widened: usize,
}

pub struct Explainer<'c> {
    config: &'c Config,
    routes: &'c Routes,
    now: Timestamp,
    /// Of the route that is looked at, while a source of change events is silent.
    pub fallback_ttl: Option<Duration>,
}

impl<'c> Explainer<'c> {
    /// `now`: what dates in the response are compared with.
    pub fn new(config: &'c Config, routes: &'c Routes, now: Timestamp) -> Self {
        Self { config, routes, now, fallback_ttl: None }
    }

    /// What becomes of `question`, if the upstream answers it with `reply`.
    pub fn explain(&self, question: &Question, reply: &Reply) -> Explanation {
        let (method, target) = (question.method().clone(), question.target().to_owned());
        let (route, verdict) = match self.read(question) {
            Ok(head) => self.judge(&head, question, reply),
            Err(refused) => (None, Verdict::Refused(refused)),
        };
        Explanation { method, target, route, verdict }
    }

    /// The one reading of it that the proxy has.
    fn read(&self, question: &Question) -> Result<ClientHead, String> {
        let client = Client { peer: question.peer, is_tls: question.is_tls, errand: None };
        ClientHead::read(question.parts.clone(), client, self.config).map_err(|error| error.to_string())
    }

    fn judge(&self, head: &ClientHead, question: &Question, reply: &Reply) -> (Option<Arc<Route>>, Verdict) {
        let request = head.as_policy();
        if request.method.as_str() == "PURGE" {
            let verdict = match invalidation::of_purge_request(self.routes, &request, head.absolute) {
                Ok((targets, _)) => Verdict::Purge(targets),
                Err(error) => Verdict::Refused(error),
            };
            return (None, verdict);
        }
        let has_content = !question.body.is_empty();
        match classify(self.routes, &request, has_content, &self.config.credentials) {
            Class::Lookup(lookup) => {
                let verdict = match passes_unseen(&request) {
                    Some(reason) => Verdict::Pass(reason),
                    None => Verdict::Lookup(Box::new(self.reading(&lookup, &request, reply))),
                };
                (Some(lookup.route.clone()), verdict)
            }
            Class::Pass { reason, route } => (route.cloned(), Verdict::Pass(reason)),
            Class::Write { route } => {
                (route.cloned(), Verdict::Write(Box::new(self.writing(&request, question, reply))))
            }
        }
    }

    fn reading(&self, lookup: &Lookup<'_>, request: &RequestHead<'_>, reply: &Reply) -> Reading {
        // What is stored is what a GET was answered with.
        let fetched = RequestHead { method: &Method::GET, ..*request };
        // How much chance takes is known only then.
        let route = Route { jitter: 0, ..lookup.route.as_ref().clone() };
        let asked = Asked { route: &route, caller: lookup.caller, primary: &lookup.key, request: &fetched };
        let outcome = self.fetched(&asked, lookup, reply);
        let vary = match Vary::of(&reply.headers) {
            Vary::Fields(fields) => Some(fields),
            Vary::Nothing | Vary::Everything => None,
        };
        let query = lookup.query.as_deref();
        let purgers = outcome
            .as_ref()
            .map_or_else(|_| Vec::new(), |storing| purgers::of(self.routes, &storing.tags, &storing.unread));
        Reading {
            primary: lookup.key,
            key: asked.key(&reply.headers).unwrap_or(lookup.key),
            parts: described(lookup.route, request, query, vary.as_ref(), &self.config.credentials),
            forwarded: query
                .map_or_else(|| request.path.to_owned(), |query| format!("{}?{query}", request.path)),
            caller: lookup.caller,
            on_miss: on_miss(lookup.route, request),
            status: reply.status,
            fetched: outcome,
            purgers,
        }
    }

    fn fetched(&self, asked: &Asked<'_>, lookup: &Lookup<'_>, reply: &Reply) -> Result<Storing, NotStored> {
        let (route, request) = (asked.route, asked.request);
        let exchange = Exchange { requested_at: self.now, received_at: self.now };
        let (status, headers) = (reply.status, &reply.headers);
        let terms = asked.terms(status, headers, reply.length(), exchange)?;
        let lifetime = storing::lifetime(route, asked.caller, request, status, headers, exchange)?;
        let mut unread = Vec::new();
        let (tags, terms) = match &reply.body {
            Some(body) if route.reads_content() => asked.whole(terms, headers, body)?,
            body => {
                let late = route.tags.iter().filter(|tag| body.is_none() && tag.reads_response_content());
                unread.extend(late.cloned());
                (tags::of_response(route, request, headers, None)?, terms)
            }
        };
        // A `Vary` that no other request can match is found here, as it is when it is stored.
        asked.key(headers)?;
        let targets = arrival::targets(request, lookup.query.as_deref(), &tags);
        Ok(Storing { lifetime, terms, tags, unread, targets })
    }

    fn writing(&self, request: &RequestHead<'_>, question: &Question, reply: &Reply) -> Writing {
        let routes = self.routes;
        let written = invalidation::of_write(routes, request, self.config.purge.parents);
        let kept = invalidation::kept_of_write(routes, request);
        let of_request =
            kept.request.and_then(|limit| Content::of_request(request.headers, &question.body, limit).ok());
        let of_response = kept
            .response
            .zip(reply.body.as_ref())
            .and_then(|(limit, body)| Content::of_response(&reply.headers, body, limit).ok());
        let exchanged = Exchanged {
            request_content: of_request.as_ref(),
            response_headers: Some(&reply.headers),
            response_content: of_response.as_ref(),
        };
        let end = WriteEnd::of(reply.status);
        let (end, written) = invalidation::at_end(routes, request, written, end, &exchanged);
        let (targets, widened) = match end {
            WriteEnd::Nothing => (Vec::new(), 0),
            WriteEnd::Purge | WriteEnd::PurgeInDoubt => (written.targets, written.widened),
        };
        Writing { status: reply.status, end, targets, widened }
    }
}

impl Explanation {
    pub fn reading(&self) -> Option<&Reading> {
        match &self.verdict {
            Verdict::Lookup(reading) => Some(reading),
            _ => None,
        }
    }

    /// What would be stored, if it would.
    pub fn stored(&self) -> Option<&Storing> {
        let reading = self.reading().filter(|reading| reading.on_miss == OnMiss::Fetch)?;
        reading.fetched.as_ref().ok()
    }

    /// What it purges.
    pub fn purged(&self) -> &[Target] {
        match &self.verdict {
            Verdict::Write(writing) => &writing.targets,
            Verdict::Purge(targets) => targets,
            _ => &[],
        }
    }

    /// Whether this, a write, purges the response that `read` would have stored.
    pub fn purges(&self, read: &Explanation) -> bool {
        let reached = read.stored().map_or(&[][..], |storing| &storing.targets);
        self.purged().iter().any(|target| reached.contains(&target.id()))
    }
}
