//! Verifies JSON Web Tokens (RFC 7515, 7519) as RFC 8725 advises: the algorithm is the configuration's choice, not the
//! token's.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderMap;
use serde_json::{Map, Value};

use super::key_store::KeyStore;
use super::verdict_cache::{Token, VerdictCache};
use crate::clock::Timestamp;
use crate::config::JwtSettings;
use crate::policy::caller::{CallerVerdict, Identity, UnknownCaller};
use crate::policy::content::parse_strict_json;
use crate::policy::credential::Credential;
use crate::policy::credential::credential_value;
use crate::policy::jwt::{MAX_TOKEN_BYTES, bearer_token, numeric_date};
use crate::policy::token_kind::TokenKind;

pub(super) struct JwtVerifier {
    settings: JwtSettings,
    /// The claims that the configuration uses.
    claims: Vec<String>,
    keys: Arc<KeyStore>,
    verdicts: VerdictCache,
}

/// Why a token can't be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rejection {
    Invalid,
    /// No key fits, now.
    UnknownKey,
}

impl JwtVerifier {
    pub(super) fn new(settings: &JwtSettings, claims: &[String]) -> io::Result<Self> {
        Ok(Self {
            keys: KeyStore::new(settings)?,
            settings: settings.clone(),
            claims: claims.to_vec(),
            verdicts: VerdictCache::new(),
        })
    }

    pub(super) fn start(&self, name: &str) {
        self.keys.start(name);
    }

    pub(super) fn keys(&self) -> &KeyStore {
        &self.keys
    }

    pub(super) fn identify(&self, headers: &HeaderMap, now: Timestamp) -> CallerVerdict {
        let unknown = CallerVerdict::Unknown;
        let presented = match Presented::find(&self.settings.from, headers) {
            Ok(Some(presented)) => presented,
            Ok(None) => return unknown(UnknownCaller::Anonymous),
            Err(Rejection::Invalid | Rejection::UnknownKey) => return unknown(UnknownCaller::Refused),
        };
        match self.verified(presented) {
            Ok(Some(token)) => token.verdict_at(now, self.settings.leeway),
            Ok(None) => unknown(UnknownCaller::Refused),
            Err(_) => {
                self.keys.want_refresh();
                unknown(UnknownCaller::Unverified)
            }
        }
    }

    /// Whom a token names that proves nothing any more, or not yet: it is past its `exp`, or no key is there to verify it. A
    /// token with another signature, or for somebody else, names nobody.
    pub(super) fn named(&self, headers: &HeaderMap) -> Option<Arc<Identity>> {
        let presented = Presented::find(&self.settings.from, headers).ok()??;
        match self.verified(presented) {
            Ok(verified) => verified.map(|token| token.identity),
            Err(_) => {
                let payload = presented.token.split(|byte| *byte == b'.').nth(1)?;
                let claims = decode_object(payload).ok()?;
                self.accept(&Map::new(), claims, b"").ok().map(|token| token.identity)
            }
        }
    }

    /// Leaves a token that can be verified to the upstream from now on. Others get no hits, and would displace it.
    pub(super) fn leave_to_upstream(&self, headers: &HeaderMap) {
        if let Ok(Some(presented)) = Presented::find(&self.settings.from, headers)
            && let Ok(Some(_)) = self.verified(presented)
        {
            self.verdicts.leave_to_upstream(presented.value, presented.token, self.keys.generation());
        }
    }

    /// `Ok(None)`: the token is refused.
    fn verified(&self, presented: Presented<'_>) -> Result<Option<Token>, Rejection> {
        // Read before the keys are: a verdict under earlier keys is never taken for one under later ones.
        let generation = self.keys.generation();
        let Presented { value, token } = presented;
        self.verdicts.get_or_verify(value, token, generation, || match self.verify(presented) {
            Ok(token) => Ok(Some(token)),
            Err(Rejection::Invalid) => Ok(None),
            Err(Rejection::UnknownKey) => Err(Rejection::UnknownKey),
        })
    }

    fn verify(&self, presented: Presented<'_>) -> Result<Token, Rejection> {
        let token = presented.token;
        let mut sections = token.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (sections.next(), sections.next(), sections.next(), sections.next())
        else {
            return Err(Rejection::Invalid);
        };
        let signed = &token[..header.len() + 1 + payload.len()];
        let header = decode_object(header)?;
        let signature = str::from_utf8(signature).map_err(|_| Rejection::Invalid)?;
        // RFC 7515 §4.1.11: an extension that is not understood.
        if header.contains_key("crit") {
            return Err(Rejection::Invalid);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(|name| name.parse().ok());
        let algorithm = algorithm.filter(|algorithm| self.settings.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(Rejection::Invalid)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.as_str()),
            Some(_) => return Err(Rejection::Invalid),
        };
        match self.keys.present().verify(algorithm, key_id, signed, signature) {
            None => return Err(Rejection::UnknownKey),
            Some(false) => return Err(Rejection::Invalid),
            Some(true) => {}
        }
        self.accept(&header, decode_object(payload)?, presented.unusual_scheme(&self.settings.from))
    }

    /// Accepts the claims of a token with a valid signature. `scheme`: see [`Presented::unusual_scheme`].
    fn accept(
        &self,
        header: &Map<String, Value>,
        claims: Map<String, Value>,
        scheme: &[u8],
    ) -> Result<Token, Rejection> {
        let JwtSettings { issuer, audience, leeway, ignore, .. } = &self.settings;
        let is_issuer =
            issuer.as_ref().is_none_or(|issuer| claims.get("iss").and_then(Value::as_str) == Some(issuer));
        if !is_issuer || !is_audience(audience.as_deref(), claims.get("aud")) {
            return Err(Rejection::Invalid);
        }
        // RFC 7800: the token counts only with a proof of its key (RFC 9449 §7.2, RFC 8705 §3), which larder does not check.
        let is_left_to_upstream = claims.contains_key("cnf");
        let kind = TokenKind::new(header, &claims, ignore, scheme);
        let claims = Value::Object(claims);
        let mut identity = Identity::from_claims(&claims, &self.claims).ok_or(Rejection::Invalid)?;
        identity.kind = kind;
        identity.expires_at = identity.expires_at.map(|end| end.plus(*leeway));
        let not_before = match claims.get("nbf") {
            None => None,
            Some(start) => Some(numeric_date(start).ok_or(Rejection::Invalid)?),
        };
        Ok(Token { identity: Arc::new(identity), not_before, is_left_to_upstream })
    }
}

impl Token {
    fn verdict_at(self, now: Timestamp, leeway: Duration) -> CallerVerdict {
        if self.identity.expires_at.is_some_and(|end| now >= end) {
            CallerVerdict::Unknown(UnknownCaller::Expired)
        } else if self.is_left_to_upstream || self.not_before.is_some_and(|start| now.plus(leeway) < start) {
            CallerVerdict::Unknown(UnknownCaller::Refused)
        } else {
            CallerVerdict::Known(self.identity)
        }
    }
}

/// A token in a request.
#[derive(Clone, Copy)]
struct Presented<'h> {
    /// The whole value.
    value: &'h [u8],
    token: &'h [u8],
}

impl<'h> Presented<'h> {
    /// `None` if there is nothing where it should be.
    fn find(from: &Credential, headers: &'h HeaderMap) -> Result<Option<Self>, Rejection> {
        let Some(value) = credential_value(from, headers) else {
            return if from.is_in(headers) { Err(Rejection::Invalid) } else { Ok(None) };
        };
        let value = value.trim_ascii();
        let token = match from {
            Credential::Authorization => bearer_token(value).ok_or(Rejection::Invalid)?,
            Credential::Header(_) => bearer_token(value).unwrap_or(value),
            _ => value,
        };
        if token.len() > MAX_TOKEN_BYTES { Err(Rejection::Invalid) } else { Ok(Some(Self { value, token })) }
    }

    /// The text before the token, unless it is as most clients write it. The scheme has no case (RFC 9110 §11.1), and
    /// to some frameworks it does: `bearer TOKEN` is nobody's there.
    fn unusual_scheme(&self, from: &Credential) -> &'h [u8] {
        let scheme = &self.value[..self.value.len() - self.token.len()];
        if *from == Credential::Authorization && scheme == b"Bearer " { b"" } else { scheme }
    }
}

/// RFC 7519 §4.1.3: a token for somebody else is rejected.
fn is_audience(audience: Option<&str>, claim: Option<&Value>) -> bool {
    match (audience, claim) {
        (None, None) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some(audience), Some(Value::String(one))) => one == audience,
        (Some(audience), Some(Value::Array(all))) => all.iter().any(|one| one.as_str() == Some(audience)),
        (Some(_), Some(_)) => false,
    }
}

/// A JSON object without duplicate names.
fn decode_object(section: &[u8]) -> Result<Map<String, Value>, Rejection> {
    let section = BASE64_URL_SAFE_NO_PAD.decode(section).map_err(|_| Rejection::Invalid)?;
    match parse_strict_json(&section) {
        Some(Value::Object(object)) => Ok(object),
        _ => Err(Rejection::Invalid),
    }
}
