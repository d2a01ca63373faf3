//! The caller of a request, as an entry of `callers` in the configuration knows it.

use std::sync::Arc;

use http::HeaderMap;
use serde_json::Value;

use super::credential::Credential;
use super::jwt::{claim_text, decode_claims, find_claim, numeric_date};
use super::token_kind::{NamedBy, TokenKind};
use crate::clock::Timestamp;

/// The way in which a route knows its callers: an entry of `callers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerSource {
    /// The name in `callers`.
    pub name: Arc<str>,
    /// The position among the entries.
    pub index: usize,
    /// The parts of a request that identify its caller.
    pub credentials: Vec<Credential>,
    /// All settings that decide who a caller is, as text.
    pub rules: Arc<str>,
    /// Whether callers have claims. If not, a service is asked, whose verdict on the same credentials may change.
    pub(crate) has_claims: bool,
}

/// A caller that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The caller's name: the token's `sub`, or the fields that `ask` takes from the answer.
    pub name: Option<Box<str>>,
    /// The claims that the configuration uses.
    pub(crate) claims: Vec<Claim>,
    /// Callers with tokens of other kinds share no response with this one.
    pub(crate) kind: TokenKind,
    /// Nothing is served to the caller from then on.
    pub expires_at: Option<Timestamp>,
}

/// A verified claim of a caller's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub path: Box<str>,
    /// The value as JSON, so that `1` and `"1"` differ.
    pub json: Box<str>,
    /// The value as part of a tag; `None` for a list or an object.
    pub text: Option<Box<str>>,
    /// Whether no other caller has the same value: see [`TokenKind::names_one_caller`].
    pub names_one_caller: bool,
}

/// The result of identifying the caller of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerVerdict {
    /// The caller, by the source.
    Known(Arc<Identity>),
    /// The source knows no such caller.
    Unknown(UnknownCaller),
    /// Another service has to be asked first.
    Pending,
}

/// Why a caller is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnknownCaller {
    /// The request has no credential.
    Anonymous,
    /// The credential is malformed, forged, or not accepted.
    Refused,
    /// The token is past its `exp`.
    Expired,
    /// The credential can't be verified now.
    Unverified,
}

impl UnknownCaller {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            UnknownCaller::Anonymous => "anonymous-caller",
            UnknownCaller::Refused => "refused-caller",
            UnknownCaller::Expired => "expired-caller",
            UnknownCaller::Unverified => "unverified-caller",
        }
    }
}

/// Identifies the caller of one request. The same request always has the same caller.
pub trait IdentifyCaller {
    /// Identifies the sender of the request by `source`.
    fn identify(&self, source: &CallerSource) -> CallerVerdict;

    /// Identifies the caller of a write, whose purges may name it. A former answer of a service does not count.
    fn identify_writer(&self, source: &CallerSource) -> CallerVerdict {
        self.identify(source)
    }
}

/// For routes without `callers`.
pub struct NoCallers;

impl IdentifyCaller for NoCallers {
    fn identify(&self, _: &CallerSource) -> CallerVerdict {
        CallerVerdict::Unknown(UnknownCaller::Unverified)
    }
}

/// The part of a caller that templates and keys may use.
#[derive(Clone, Copy, Debug, Default)]
pub enum CallerView<'a> {
    /// The route has no `callers`: claims are read from the bearer's token, unverified.
    #[default]
    NotAsked,
    /// Identified by the route's source.
    Known(&'a Identity),
    /// The route has `callers`, and this one is not known.
    Nobody,
    /// A write of somebody who has no hits: the tags of its purges may name it, and nothing else relies on it.
    Stated(&'a Identity),
    /// The route has `callers`, and it can't be found out now who sent this write.
    Uncertain,
}

/// Whom a write is taken to be from, for its purges alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WriteCaller {
    /// The route has no `callers`.
    NotAsked,
    Known(Arc<Identity>),
    /// By a token that has ended, or can't be verified: a purge for somebody else only costs misses.
    Stated(Arc<Identity>),
    Nobody,
    /// The credential can't be judged now.
    Uncertain,
}

impl WriteCaller {
    pub(crate) fn view(&self) -> CallerView<'_> {
        match self {
            WriteCaller::NotAsked => CallerView::NotAsked,
            WriteCaller::Known(identity) => CallerView::Known(identity),
            WriteCaller::Stated(identity) => CallerView::Stated(identity),
            WriteCaller::Nobody => CallerView::Nobody,
            WriteCaller::Uncertain => CallerView::Uncertain,
        }
    }
}

impl<'a> CallerView<'a> {
    pub(crate) fn known(self) -> Option<&'a Identity> {
        match self {
            CallerView::Known(identity) => Some(identity),
            _ => None,
        }
    }

    /// The part of the key that keeps tokens of different kinds apart, where callers are told apart by `per`.
    pub(super) fn token_kind_part(self, per: Option<&Credential>) -> Option<&'a [u8]> {
        let identity = self.known()?;
        let names_one = |path: &String| identity.claim(path).is_some_and(|claim| claim.names_one_caller);
        let named_by = match per {
            Some(Credential::Identity) => NamedBy::Sub,
            Some(Credential::Claims(paths)) if paths.iter().any(|path| path == "sub") => NamedBy::Sub,
            Some(Credential::Claims(paths)) if paths.iter().any(names_one) => NamedBy::OtherClaim,
            _ => NamedBy::Group,
        };
        identity.kind.key_part(named_by)
    }

    /// The caller by whose name tags are made.
    pub(crate) fn named(self) -> Option<&'a Identity> {
        match self {
            CallerView::Known(identity) | CallerView::Stated(identity) => Some(identity),
            CallerView::NotAsked | CallerView::Nobody | CallerView::Uncertain => None,
        }
    }
}

impl CallerVerdict {
    pub(crate) fn view(&self) -> CallerView<'_> {
        match self {
            CallerVerdict::Known(identity) => CallerView::Known(identity),
            CallerVerdict::Unknown(_) | CallerVerdict::Pending => CallerView::Nobody,
        }
    }
}

impl Identity {
    pub(crate) fn claim(&self, path: &str) -> Option<&Claim> {
        self.claims.iter().find(|claim| &*claim.path == path)
    }

    /// An estimate of the memory that the identity occupies, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let claim = |claim: &Claim| {
            let text = claim.text.as_ref().map_or(0, |text| text.len());
            size_of::<Claim>() + claim.path.len() + claim.json.len() + text
        };
        size_of::<Self>()
            + self.name.as_ref().map_or(0, |name| name.len())
            + self.claims.iter().map(claim).sum::<usize>()
    }
}

impl CallerSource {
    /// Whether the request has none of the credentials.
    pub(crate) fn is_anonymous(&self, headers: &HeaderMap) -> bool {
        !self.credentials.iter().any(|credential| credential.is_in(headers))
    }
}

impl Identity {
    /// The identity that a set of claims (RFC 7519 §4) states. `used`: the claims to keep. A claim with a number that is
    /// no integer of 64 bits counts as absent. `None`: `exp` is no time.
    pub(crate) fn from_claims(claims: &Value, used: &[String]) -> Option<Self> {
        let expires_at = match claims.get("exp") {
            None => None,
            Some(exp) => Some(numeric_date(exp)?),
        };
        let claim = |path: &String| {
            let value = find_claim(claims, path).filter(|value| !value.is_null() && is_exact(value))?;
            let text = claim_text(value).map(String::into_boxed_str);
            Some(Claim {
                path: path.as_str().into(),
                json: value.to_string().into(),
                text,
                names_one_caller: TokenKind::names_one_caller(path),
            })
        };
        Some(Self {
            name: claims
                .get("sub")
                .filter(|sub| is_exact(sub))
                .and_then(claim_text)
                .map(String::into_boxed_str),
            claims: used.iter().filter_map(claim).collect(),
            kind: TokenKind::default(),
            expires_at,
        })
    }

    /// The identity that a token states, with or without `Bearer`. Nothing is verified.
    pub(crate) fn from_unverified(token: &[u8], used: &[String]) -> Option<Self> {
        Self::from_claims(&decode_claims(token)?, used)
    }
}

/// Whether all numbers in the value are as they were sent. Numbers beyond 64 bits are rounded, and two become equal.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(members) => members.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}
