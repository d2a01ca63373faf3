//! Asks a service who a caller is, as nginx's `auth_request` does.
//!
//! Requests with the same credentials wait for one answer, and share it for `every`.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use super::key_store::fetch;
use super::{CallerRequest, CredentialHash, EXPECTED_VERDICTS, MAX_VERDICT_BYTES};
use crate::clock::{Clock, Timestamp};
use crate::config::AskSettings;
use crate::hex;
use crate::policy::caller::{CallerVerdict, Identity, UnknownCaller};
use crate::policy::cookies::credential_pairs;
use crate::policy::credential::Credential;
use crate::policy::forwarding_fields::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::upstream::{ClientNetwork, Destination, Upstream};

/// How long the service is not asked again after it failed.
const FAILURE_INTERVAL: Duration = Duration::from_secs(1);

/// The content of an answer is not used.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A longer name is not used.
const MAX_NAME_BYTES: usize = 1024;

pub(super) struct AskClient {
    settings: AskSettings,
    upstream: Upstream,
    /// For credentials that were somebody's before: questions about invented ones do not take their connections.
    upstream_of_known: Upstream,
    /// The credentials that were somebody's.
    once_known: Cache<CredentialHash, ()>,
    clock: Clock,
    verdicts: Cache<Question, Answered, AnswerWeigher>,
    /// Counts the questions and the ends of verdicts, in their order.
    sequence: AtomicU64,
    /// Credentials, and callers by the hash of their name, whose verdicts of an earlier number are forgotten.
    ended: Cache<CredentialHash, u64>,
}

/// The request that the service judges. It may let a caller in from one address and not from another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Question {
    credentials: CredentialHash,
    client: Option<IpAddr>,
}

#[derive(Clone)]
struct Answered {
    verdict: CallerVerdict,
    /// The hash of the caller's name.
    name: Option<CredentialHash>,
    /// The number of the question.
    number: u64,
    until: Timestamp,
}

#[derive(Clone)]
struct AnswerWeigher;

impl Weighter<Question, Answered> for AnswerWeigher {
    fn weight(&self, _: &Question, answered: &Answered) -> u64 {
        let identity = answered.verdict.view().known().map_or(0, Identity::weight);
        (size_of::<Question>() + size_of::<Answered>() + identity + 64) as u64
    }
}

impl AskClient {
    pub(super) fn new(settings: &AskSettings, clock: Clock) -> io::Result<Self> {
        Ok(Self {
            upstream: Upstream::new(Destination::new(&settings.url.upstream)?),
            upstream_of_known: Upstream::new(Destination::new(&settings.url.upstream)?),
            once_known: Cache::new(EXPECTED_VERDICTS),
            settings: settings.clone(),
            clock,
            verdicts: Cache::with_weighter(EXPECTED_VERDICTS, MAX_VERDICT_BYTES, AnswerWeigher),
            sequence: AtomicU64::new(0),
            ended: Cache::new(EXPECTED_VERDICTS),
        })
    }

    /// The remembered verdict.
    pub(super) fn peek(&self, request: CallerRequest<'_>) -> CallerVerdict {
        let Some((question, _)) = self.question(request) else {
            return CallerVerdict::Unknown(UnknownCaller::Anonymous);
        };
        let known = self.verdicts.get(&question).filter(|known| !self.is_over(&question, known));
        known.map_or(CallerVerdict::Pending, |known| known.verdict)
    }

    pub(super) async fn ask(&self, request: CallerRequest<'_>) -> CallerVerdict {
        let Some((question, mut fields)) = self.question(request) else {
            return CallerVerdict::Unknown(UnknownCaller::Anonymous);
        };
        if let Some(Ok(address)) = request.client.map(|client| HeaderValue::try_from(client.to_string())) {
            fields.insert(X_FORWARDED_FOR, address);
        }
        loop {
            drop(self.verdicts.remove_if(&question, |known| self.is_over(&question, known)));
            // If this request goes away, the next one that waits asks.
            match self.verdicts.get_value_or_guard_async(&question).await {
                Ok(known) if self.is_over(&question, &known) => {}
                Ok(known) => return known.verdict,
                Err(guard) => {
                    let number = self.sequence.fetch_add(1, Ordering::Relaxed);
                    let (verdict, lasts) = self.send((fields, request.network), &question.credentials).await;
                    let until = self.clock.now().plus(lasts);
                    let name =
                        verdict.view().known().and_then(|caller| caller.name.as_deref()).map(hash_name);
                    let _forgotten = guard.insert(Answered { verdict: verdict.clone(), name, number, until });
                    return verdict;
                }
            }
        }
    }

    /// Forgets the verdicts on these credentials, wherever they come from, and those that are asked for now: these answer
    /// the requests that wait for them already.
    pub(super) fn forget(&self, request: CallerRequest<'_>) {
        if let Some((question, _)) = self.question(request) {
            drop(self.verdicts.remove(&question));
            self.end(question.credentials);
        }
    }

    /// Forgets the verdicts on all sessions of this caller, and those that are asked for now.
    pub(super) fn forget_identity(&self, identity: &Identity) {
        if let Some(name) = &identity.name {
            self.end(hash_name(name));
        }
    }

    fn end(&self, hash: CredentialHash) {
        self.ended.insert(hash, self.sequence.fetch_add(1, Ordering::Relaxed));
    }

    fn is_over(&self, question: &Question, answered: &Answered) -> bool {
        let has_ended = |hash: &CredentialHash| self.ended.get(hash).is_some_and(|end| answered.number < end);
        self.clock.now() >= answered.until
            || !self.ended.is_empty()
                && (has_ended(&question.credentials) || answered.name.as_ref().is_some_and(has_ended))
    }

    /// The verdict of the service, and how long it counts.
    async fn send(
        &self,
        question: (HeaderMap, Option<ClientNetwork>),
        hash: &CredentialHash,
    ) -> (CallerVerdict, Duration) {
        let AskSettings { url, every, .. } = &self.settings;
        let upstream = match self.once_known.get(hash) {
            Some(()) => &self.upstream_of_known,
            None => &self.upstream,
        };
        match fetch(upstream, url, question, MAX_ANSWER_BYTES).await {
            Ok((status, fields, _)) if status.is_success() => match self.name(&fields, hash) {
                Some(name) => {
                    self.once_known.insert(*hash, ());
                    let identity = Identity {
                        name: Some(name.into()),
                        claims: Vec::new(),
                        kind: Default::default(),
                        expires_at: None,
                    };
                    (CallerVerdict::Known(Arc::new(identity)), *every)
                }
                None => {
                    tracing::warn!(url = %url.target.path(), "`callers.ask` response lacks an `identity` field");
                    (CallerVerdict::Unknown(UnknownCaller::Unverified), FAILURE_INTERVAL.min(*every))
                }
            },
            Ok((StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, ..)) => {
                (CallerVerdict::Unknown(UnknownCaller::Refused), *every)
            }
            failed => {
                let error =
                    failed.map_or_else(|error| error, |(status, ..)| format!("it was answered {status}"));
                tracing::warn!(url = %url.target.path(), error, "`callers.ask` request failed");
                (CallerVerdict::Unknown(UnknownCaller::Unverified), FAILURE_INTERVAL.min(*every))
            }
        }
    }

    /// The caller's name by the fields of the answer; `None` if one is absent, repeated or too long.
    fn name(&self, fields: &HeaderMap, hash: &CredentialHash) -> Option<String> {
        let names = self.settings.identity.iter().filter_map(Credential::field);
        let values: Option<Vec<String>> = names
            .map(|name| {
                let mut values = fields.get_all(name).iter();
                let (Some(value), None) = (values.next(), values.next()) else { return None };
                value.to_str().ok().map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned)
            })
            .collect();
        match values?.as_slice() {
            [] => Some(hex::encode(&hash[..16])),
            [one] => Some(one.clone()),
            // Values with the separator can't stand for others.
            several => Some(
                several
                    .iter()
                    .map(|value| value.replace('%', "%25").replace(':', "%3A"))
                    .collect::<Vec<_>>()
                    .join(":"),
            ),
        }
        .filter(|name| name.len() <= MAX_NAME_BYTES)
    }

    /// The question about a request, and its fields but for the client's address: the credentials, and where the request
    /// was sent. `None`: it has no credential.
    fn question(
        &self,
        CallerRequest { headers, host, scheme, client, .. }: CallerRequest<'_>,
    ) -> Option<(Question, HeaderMap)> {
        let mut forwarded = HeaderMap::new();
        let mut copy = |name: HeaderName| {
            for value in headers.get_all(&name) {
                forwarded.append(name.clone(), value.clone());
            }
        };
        let mut cookies = Vec::new();
        for credential in &self.settings.forward {
            match credential {
                Credential::Authorization => copy(AUTHORIZATION),
                Credential::Header(name) => copy(name.clone()),
                Credential::Cookie(name) => cookies.extend(credential_pairs(headers, name)),
                Credential::AnyOf(_) | Credential::Claims(_) | Credential::Identity => {}
            }
        }
        if let Ok(cookie) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
            && !cookie.is_empty()
        {
            forwarded.append(COOKIE, cookie);
        }
        if forwarded.is_empty() {
            return None;
        }
        for (name, value) in [(X_FORWARDED_HOST, host), (X_FORWARDED_PROTO, scheme)] {
            forwarded.insert(name, HeaderValue::from_str(value).ok()?);
        }
        Some((Question { credentials: hash_fields(&forwarded), client }, forwarded))
    }
}

fn hash_name(name: &str) -> CredentialHash {
    Sha256::digest(name.as_bytes()).into()
}

/// A hash over all fields, each with its length.
fn hash_fields(fields: &HeaderMap) -> CredentialHash {
    let mut hash = Sha256::new();
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}
