//! What larder asks for itself, to have it stored before a client asks: the way of a client's request, from its one
//! reading through the same key, policy and collapse to the store. Nobody gets the answer, and no client is counted.
//!
//! Only what can be looked up is asked for: a request that would pass is refused, not forwarded.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};

use super::forwarding::OF_ADDRESS;
use super::handling::within;
use super::intake::{ClientHead, ClientRequest, FORWARDED, of_address};
use super::{Answer, Client, Worker};
use crate::policy::cache_status::{Detail, Outcome};
use crate::policy::classify::{Class, Lookup};
use crate::policy::route::Mode;
use crate::policy::vary::Vary;
use crate::stored_response::{Asked, StoredHead};

/// How long what is stored is to be fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// It is left alone, unless less than that is left of it, and less than half of its lifetime.
    Keep(Duration),
    /// Whatever has less left than that is fetched anew.
    Renew(Duration),
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// The upstream was asked, and what it said is stored.
    Fetched,
    /// There was nothing to be done, or another fetch did it.
    Fresh,
    /// The upstream's answer may not be stored.
    NotStored(&'static str),
    /// It can't be answered from the store, so the upstream was not asked.
    Refused(&'static str),
    /// The upstream failed.
    Failed(String),
}

/// Fields that choose between variants, wherever they do.
const CHOOSING: [HeaderName; 3] = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE];

impl Worker {
    pub async fn carry(&self, asked: &Asked, errand: Errand) -> Carried {
        let request = match self.errand(asked, errand) {
            Ok(request) => request,
            Err(error) => return Carried::Failed(error),
        };
        let lookup = match self.classify(&request.head, false) {
            Class::Lookup(lookup) if lookup.route.mode == Mode::On => lookup,
            Class::Lookup(_) => return Carried::Refused("observe"),
            Class::Pass { reason, .. } => return Carried::Refused(reason.as_str()),
            Class::Write { .. } => return Carried::Refused("method"),
        };
        let answer = within(Some(lookup.route), self.look_up(Box::new(request), lookup, None)).await;
        let carried = Carried::of(&answer);
        match drain(answer).await {
            Ok(()) => carried,
            Err(error) => Carried::Failed(error),
        }
    }

    /// The content of a 200 to a GET, which may pass as well as be looked up.
    pub async fn obtain(&self, asked: &Asked, limit: usize) -> Result<(HeaderMap, Bytes), String> {
        let request = self.errand(asked, Errand::Keep(Duration::ZERO))?;
        let answer = match self.classify(&request.head, false) {
            Class::Lookup(lookup) => {
                within(Some(lookup.route), self.look_up(Box::new(request), lookup, None)).await
            }
            Class::Pass { reason, route } => {
                within(route, self.pass(Box::new(request), route, Outcome::pass(reason))).await
            }
            Class::Write { .. } => return Err("it is no GET".into()),
        };
        let (parts, body) = answer.response.into_parts();
        if parts.status != StatusCode::OK {
            return Err(format!("it was answered {}", parts.status));
        }
        let whole = Limited::new(body, limit).collect().await.map_err(|error| error.to_string())?;
        Ok((parts.headers, whole.to_bytes()))
    }

    fn errand(&self, asked: &Asked, errand: Errand) -> Result<ClientRequest, String> {
        let mut request = Request::new(None);
        *request.uri_mut() = asked.uri.clone();
        *request.headers_mut() = asked.headers.clone();
        let client = Client { peer: None, is_tls: false, errand: Some(errand) };
        ClientRequest::accept(request, client, &self.proxy.config).map_err(|error| error.to_string())
    }

    /// How many more requests the upstream takes at this moment, of how many.
    pub fn upstream_room(&self) -> (usize, usize) {
        self.upstream.destination().room()
    }
}

impl Carried {
    fn of(answer: &Answer) -> Self {
        match answer.outcome {
            Some(Outcome::Hit { .. } | Outcome::Forwarded { collapsed: true, .. }) => Carried::Fresh,
            Some(Outcome::Forwarded { stored: true, .. }) => Carried::Fetched,
            Some(Outcome::Forwarded { detail: Some(Detail::StaleIfError), .. }) => {
                Carried::Failed("the upstream failed".into())
            }
            Some(Outcome::Forwarded { detail, .. }) => {
                Carried::NotStored(detail.map_or("unknown", Detail::as_str))
            }
            None => Carried::Failed(format!("it was answered {}", answer.response.status())),
        }
    }

    /// For metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Carried::Fetched => "fetched",
            Carried::Fresh => "fresh",
            Carried::NotStored(_) => "not-stored",
            Carried::Refused(_) => "refused",
            Carried::Failed(_) => "failed",
        }
    }
}

/// To its end: that is when it is stored.
async fn drain(answer: Answer) -> Result<(), String> {
    let mut body = answer.response.into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(|error| error.to_string())?;
    }
    Ok(())
}

impl ClientHead {
    /// The same request as larder can send it. `None` where the answer belongs to one caller, or a credential stands in
    /// the key: larder does not keep or repeat what identifies a client.
    pub(super) fn without_its_client(
        &self,
        lookup: &Lookup<'_>,
        stored: &StoredHead,
        credentials: &[HeaderName],
    ) -> Option<Asked> {
        let route = lookup.route;
        let is_credential = |name: &HeaderName| credentials.contains(name);
        let is_one_s = route.per.is_some()
            || !route.cookies.is_empty()
            || route.headers.iter().any(is_credential)
            || (!route.shared && credentials.iter().any(|name| self.has(name)));
        if is_one_s {
            return None;
        }
        let mut headers = HeaderMap::new();
        if !self.host.is_empty() {
            headers.insert(HOST, HeaderValue::from_str(&self.host).ok()?);
        }
        if self.scheme == "https" {
            headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        }
        let vary = match stored.vary() {
            Vary::Fields(fields) => fields.names().to_vec(),
            Vary::Nothing | Vary::Everything => Vec::new(),
        };
        let front = self.trusted.then_some(OF_ADDRESS.iter().cloned()).into_iter().flatten();
        for name in route.headers.iter().cloned().chain(vary).chain(CHOOSING).chain(front) {
            if is_credential(&name) {
                return None;
            }
            if !headers.contains_key(&name) {
                for value in self.parts.headers.get_all(&name) {
                    // A copy: the value itself keeps the connection's read buffer.
                    headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?);
                }
            }
        }
        for value in self.parts.headers.get_all(FORWARDED).iter().filter(|_| self.trusted) {
            let said = of_address(value.as_bytes());
            // It may still say who the client is.
            if said.contains(&b'"') {
                return None;
            }
            if !said.is_empty() {
                headers.append(FORWARDED, HeaderValue::from_bytes(&said).ok()?);
            }
        }
        let uri = Uri::try_from(self.parts.uri.path_and_query()?.as_str()).ok()?;
        Some(Asked { uri, headers })
    }

    pub(super) fn note_use(&self, lookup: &Lookup<'_>, stored: &Arc<StoredHead>, credentials: &[HeaderName]) {
        if self.errand.is_none() {
            stored.usage.used(|| self.without_its_client(lookup, stored, credentials));
        }
    }
}
