//! KNOWS CALLERS. Verifies tokens, and asks the service that knows sessions.
//!
//! A verdict on what a caller presented is remembered, so that a hit costs one lookup. A caller who can't be verified is
//! not known: the request is forwarded uncached, and the upstream decides.

mod ask;
mod jwt;
mod key_set;
mod key_store;
#[cfg(test)]
mod tests;
mod verdict_cache;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::COOKIE;

use ask::AskClient;
use jwt::JwtVerifier;
pub(crate) use key_store::KeyStatus;

use crate::clock::Clock;
use crate::config::{CallerMethod, CallerSettings};
use crate::policy::caller::{CallerSource, CallerVerdict, UnknownCaller, WriteCaller};
use crate::policy::cookies::are_cookies_plain;
use crate::policy::credential::Credential;
use crate::upstream::ClientNetwork;

/// The bytes that the remembered verdicts of one entry may occupy.
const MAX_VERDICT_BYTES: u64 = 16 * 1024 * 1024;

/// Sizes the cache's memory of recently evicted verdicts.
const EXPECTED_VERDICTS: usize = 16 * 1024;

/// The hash of what a caller presented.
type CredentialHash = [u8; 32];

/// The part of a request that says who its caller is.
#[derive(Clone, Copy)]
pub(crate) struct CallerRequest<'a> {
    /// The client, which has a share of the questions; `None`: it is not bounded, or nothing is asked for.
    pub network: Option<ClientNetwork>,
    pub headers: &'a HeaderMap,
    /// The authority and the scheme under which the client asked. The same session may be somebody else's under another.
    pub host: &'a str,
    pub scheme: &'a str,
    /// The client's address. The service may not let everybody in from everywhere.
    pub client: Option<IpAddr>,
}

/// All entries of `callers`.
pub struct Callers {
    entries: Vec<(CallerSettings, Arc<Entry>)>,
    clock: Clock,
}

enum Entry {
    Jwt(Box<JwtVerifier>),
    Ask(Box<AskClient>),
}

impl Default for Callers {
    /// No entries.
    fn default() -> Self {
        Self { entries: Vec::new(), clock: Clock::system() }
    }
}

impl Callers {
    /// # Errors
    /// If TLS to one of the URLs can't be set up.
    pub(crate) fn new(settings: &[CallerSettings], clock: Clock) -> io::Result<Arc<Self>> {
        Self { entries: Vec::new(), clock }.reconfigured(settings)
    }

    /// The entries of another configuration. Those that are the same keep their keys and verdicts.
    ///
    /// # Errors
    /// See [`Callers::new`].
    pub(crate) fn reconfigured(&self, settings: &[CallerSettings]) -> io::Result<Arc<Self>> {
        let entry = |settings: &CallerSettings| {
            let known = self.entries.iter().find(|(known, _)| known == settings);
            let entry = match (known, &settings.method) {
                (Some((_, entry)), _) => entry.clone(),
                (None, CallerMethod::Jwt(jwt)) => {
                    Arc::new(Entry::Jwt(Box::new(JwtVerifier::new(jwt, &settings.claims)?)))
                }
                (None, CallerMethod::Ask(ask)) => {
                    Arc::new(Entry::Ask(Box::new(AskClient::new(ask, self.clock.clone())?)))
                }
            };
            Ok((settings.clone(), entry))
        };
        let entries = settings.iter().map(entry).collect::<io::Result<_>>()?;
        Ok(Arc::new(Self { entries, clock: self.clock.clone() }))
    }

    /// Fetches keys from now on, on tasks of the current runtime.
    pub(crate) fn start(&self) {
        for (settings, entry) in &self.entries {
            if let Entry::Jwt(verifier) = &**entry {
                verifier.start(&settings.name);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads the files with keys again, also those of entries that have not changed.
    pub(crate) fn reread_key_files(&self) {
        for (_, entry) in &self.entries {
            if let Entry::Jwt(verifier) = &**entry {
                verifier.keys().reread_file();
            }
        }
    }

    /// The state of the keys that are read or fetched.
    pub(crate) fn key_statuses(&self) -> Vec<KeyStatus> {
        let status = |(settings, entry): &(CallerSettings, Arc<Entry>)| match &**entry {
            Entry::Jwt(verifier) => verifier.keys().status(&settings.name),
            Entry::Ask(_) => None,
        };
        self.entries.iter().filter_map(status).collect()
    }

    /// Reads or fetches all keys once.
    pub(crate) async fn load_keys(&self) {
        for (_, entry) in &self.entries {
            if let Entry::Jwt(verifier) = &**entry {
                verifier.keys().try_load().await;
            }
        }
    }

    /// Identifies the caller without waiting.
    pub(crate) fn identify(&self, source: &CallerSource, request: CallerRequest<'_>) -> CallerVerdict {
        if !is_readable(source, request.headers) {
            return CallerVerdict::Unknown(UnknownCaller::Refused);
        }
        match self.entry(source.index) {
            Some(Entry::Jwt(verifier)) => verifier.identify(request.headers, self.clock.now()),
            Some(Entry::Ask(client)) => client.peek(request),
            None => CallerVerdict::Unknown(UnknownCaller::Unverified),
        }
    }

    /// Identifies a caller whose verdict is pending.
    pub(crate) async fn ask(&self, source: &CallerSource, request: CallerRequest<'_>) -> CallerVerdict {
        match self.entry(source.index) {
            Some(Entry::Ask(client)) if is_readable(source, request.headers) => client.ask(request).await,
            _ => self.identify(source, request),
        }
    }

    /// Forgets what a service has answered about the request's caller. An answer that is under way is not remembered.
    pub(crate) fn forget(&self, source: &CallerSource, request: CallerRequest<'_>) {
        if let Some(Entry::Ask(client)) = self.entry(source.index) {
            client.forget(request);
        }
    }

    /// Forgets what a service has answered about all sessions of this caller.
    pub(crate) fn forget_identity(&self, source: &CallerSource, verdict: &CallerVerdict) {
        if let (Some(Entry::Ask(client)), CallerVerdict::Known(identity)) =
            (self.entry(source.index), verdict)
        {
            client.forget_identity(identity);
        }
    }

    /// The upstream has answered 401, at any path, to a caller whom an entry knows: it knows better. `known_by`: the entry
    /// by which the request was handled.
    pub(crate) fn leave_to_upstream(&self, known_by: Option<usize>, request: CallerRequest<'_>) {
        for (index, (_, entry)) in self.entries.iter().enumerate() {
            match &**entry {
                Entry::Jwt(verifier) => verifier.leave_to_upstream(request.headers),
                Entry::Ask(client) => {
                    // Unknown sessions would displace those that have ended.
                    if known_by == Some(index) || matches!(client.peek(request), CallerVerdict::Known(_)) {
                        client.forget(request);
                    }
                }
            }
        }
    }

    /// [`Callers::forget`] for all entries: a write may have ended the caller's session, or made it another's.
    pub(crate) fn forget_everywhere(&self, request: CallerRequest<'_>) {
        for (_, entry) in &self.entries {
            if let Entry::Ask(client) = &**entry {
                client.forget(request);
            }
        }
    }

    /// Whom a write is from that has this verdict, for its purges.
    pub(crate) fn name_writer(
        &self,
        index: usize,
        verdict: &CallerVerdict,
        headers: &HeaderMap,
    ) -> WriteCaller {
        let why = match verdict {
            CallerVerdict::Known(identity) => return WriteCaller::Known(identity.clone()),
            CallerVerdict::Unknown(why) => *why,
            CallerVerdict::Pending => UnknownCaller::Unverified,
        };
        match (self.entry(index), why) {
            (_, UnknownCaller::Anonymous) | (None, _) => WriteCaller::Nobody,
            (Some(Entry::Jwt(verifier)), _) => {
                verifier.named(headers).map_or(WriteCaller::Nobody, WriteCaller::Stated)
            }
            (Some(Entry::Ask(_)), UnknownCaller::Unverified) => WriteCaller::Uncertain,
            (Some(Entry::Ask(_)), UnknownCaller::Refused | UnknownCaller::Expired) => WriteCaller::Nobody,
        }
    }

    fn entry(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index).map(|(_, entry)| &**entry)
    }
}

/// Whether the upstream finds the same credential as larder, if it is a cookie.
fn is_readable(source: &CallerSource, headers: &HeaderMap) -> bool {
    let is_cookie = |credential: &Credential| match credential {
        Credential::Cookie(_) => true,
        Credential::Header(name) => *name == COOKIE,
        _ => false,
    };
    !source.credentials.iter().any(is_cookie) || are_cookies_plain(headers)
}
