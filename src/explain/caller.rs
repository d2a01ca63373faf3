//! Identifies the caller of a hypothetical request.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use super::Explainer;
use crate::callers::Callers;
use crate::clock::Clock;
use crate::config::Config;
use crate::policy::caller::{
    CallerSource, CallerVerdict, Claim, IdentifyCaller, Identity, UnknownCaller, WriteCaller,
};
use crate::policy::credential::{credential_value, whole_value};
use crate::proxy::ClientHead;

/// How the callers of routes with `callers` are identified.
#[derive(Clone, Copy)]
pub enum CallerTrust<'c> {
    /// Verifies the caller as the proxy does.
    Verify(&'c Callers),
    /// Takes a request's word for its caller, for tests of a configuration.
    Assume,
}

/// The callers of a configuration, with the keys that need no network.
///
/// # Errors
/// If TLS to one of the URLs can't be set up.
pub(crate) fn callers(config: &Config, clock: Clock) -> io::Result<Arc<Callers>> {
    Callers::new(&config.callers, clock)
}

/// The caller of one request, which is kept with it.
pub(super) struct ExplainedCaller<'a> {
    pub(super) explainer: &'a Explainer<'a>,
    pub(super) head: &'a ClientHead,
}

impl IdentifyCaller for ExplainedCaller<'_> {
    fn identify(&self, source: &CallerSource) -> CallerVerdict {
        let headers = &self.head.parts.headers;
        let verdict = match self.explainer.trust {
            CallerTrust::Verify(callers) => callers.identify(source, self.head.as_asked()),
            CallerTrust::Assume if source.is_anonymous(headers) => {
                CallerVerdict::Unknown(UnknownCaller::Anonymous)
            }
            CallerTrust::Assume => self.assume(source),
        };
        self.head.set_caller(source, verdict.clone());
        verdict
    }
}

impl ExplainedCaller<'_> {
    /// Whom a write is from, once it is classified.
    pub(super) fn name_writer(&self) -> WriteCaller {
        let Some((index, verdict)) = self.head.caller_of_entry() else { return WriteCaller::NotAsked };
        match (self.explainer.trust, verdict) {
            (CallerTrust::Verify(callers), _) => {
                callers.name_writer(index, verdict, &self.head.parts.headers)
            }
            (CallerTrust::Assume, CallerVerdict::Known(identity)) => WriteCaller::Known(identity.clone()),
            (CallerTrust::Assume, CallerVerdict::Unknown(UnknownCaller::Expired)) => {
                let source = self.explainer.config.callers.get(index).map(|entry| entry.source(index));
                let identity = source.and_then(|source| self.stated_identity(&source));
                identity.map_or(WriteCaller::Nobody, |identity| WriteCaller::Stated(Arc::new(identity)))
            }
            (CallerTrust::Assume, _) => WriteCaller::Nobody,
        }
    }

    fn assume(&self, source: &CallerSource) -> CallerVerdict {
        match self.stated_identity(source) {
            None => CallerVerdict::Unknown(UnknownCaller::Refused),
            Some(identity) if identity.expires_at.is_some_and(|end| self.explainer.now >= end) => {
                CallerVerdict::Unknown(UnknownCaller::Expired)
            }
            Some(identity) => CallerVerdict::Known(Arc::new(identity)),
        }
    }

    /// Whom the request says to be from.
    fn stated_identity(&self, source: &CallerSource) -> Option<Identity> {
        let headers = &self.head.parts.headers;
        let value = |credential| match source.has_claims {
            true => credential_value(credential, headers).map(Cow::Borrowed),
            false => whole_value(credential, headers),
        };
        let presented: Vec<u8> = source.credentials.iter().filter_map(value).collect::<Vec<_>>().join(&0);
        if !source.has_claims {
            let name = Some(String::from_utf8_lossy(&presented).into_owned().into());
            return Some(Identity { name, claims: Vec::new(), kind: Default::default(), expires_at: None });
        }
        let claims = self.explainer.config.callers.get(source.index).map_or(&[][..], |entry| &entry.claims);
        Identity::from_unverified(&presented, claims)
    }
}

/// The caller in words, with the claims that the configuration uses.
pub(super) fn describe_caller(caller: &CallerVerdict) -> String {
    match caller {
        CallerVerdict::Known(identity) => {
            let name = identity.name.as_deref().map_or_else(|| "without a name".to_owned(), str::to_owned);
            let claims = identity.claims.iter().map(|Claim { path, json, .. }| format!("{path}={json}"));
            let until = identity.expires_at.map(|end| format!("until {}", end.to_rfc3339(0)));
            let more: Vec<String> = claims.chain(until).collect();
            match more.is_empty() {
                true => format!("known: {name}"),
                false => format!("known: {name} ({})", more.join(", ")),
            }
        }
        CallerVerdict::Unknown(why) => match why {
            UnknownCaller::Anonymous => "anonymous: no credential that `callers` reads".to_owned(),
            UnknownCaller::Refused => "not known: the credential is not accepted".to_owned(),
            UnknownCaller::Expired => "not known: the token is past its `exp`".to_owned(),
            UnknownCaller::Unverified => {
                "not known: no key fits, or the service in `ask` did not answer; with keys from a URL ask a running \
                 larder (`--now`)"
                    .to_owned()
            }
        },
        CallerVerdict::Pending => "to be asked for".to_owned(),
    }
}
