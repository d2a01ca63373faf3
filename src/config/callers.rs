//! The section `callers`: how larder knows who sends a request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
/// A signature algorithm (RFC 7518 §3.1, RFC 8037).
pub(crate) use jsonwebtoken::Algorithm as JwtAlgorithm;
use jsonwebtoken::AlgorithmFamily;
use sha2::{Digest, Sha256};

use super::diagnostics::Diagnostics;
use super::fields::{Fields, Located, expand_short_form};
use super::keys::Reader;
use super::limits::ClientShare;
use super::route_callers::parse_credential;
use super::scalars::{
    DURATION, NON_EMPTY, POSITIVE_DURATION, distinct, entries, list, parsed, parsed_secret,
};
use super::section::Kind;
use super::settings::{Settings, mapping, settings};
use super::units::FieldError;
use super::upstream::UpstreamSettings;
use super::yaml::{Value, YamlNode};
use super::{Secret, UpstreamHost};
use crate::policy::caller::CallerSource;
use crate::policy::credential::Credential;
use crate::policy::token_kind::TokenKind;

/// An entry of `callers`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallerSettings {
    pub name: Arc<str>,
    pub method: CallerMethod,
    /// The claims that routes use.
    pub claims: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CallerMethod {
    Jwt(JwtSettings),
    Ask(Box<AskSettings>),
}

/// A URL that larder itself asks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RemoteUrl {
    pub upstream: UpstreamSettings,
    pub target: PathAndQuery,
}

/// The keys that signatures are verified with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KeyLocation {
    Url(Box<RemoteUrl>),
    File(PathBuf),
}

settings! {
    struct EntryFields = "an entry of `callers`" {
        /// Callers have a JSON Web Token, which larder verifies.
        jwt: JwtSettings = JWT, optional;
        /// Another service says who a caller is, as with nginx's `auth_request`.
        ask: AskSettings = ASK, optional;
    }
}

settings! {
    /// How tokens are verified (RFC 7519).
    pub(crate) struct JwtSettings = "jwt" {
        /// The `iss` of accepted tokens. Default: any.
        issuer: String = NON_EMPTY, optional;
        /// The `aud` that accepted tokens have, alone or among others. Default: tokens with an `aud` are refused.
        audience: String = NON_EMPTY, optional;
        /// The public keys as a JWKS (RFC 7517): a URL or a file. A URL is fetched ahead, every 5 minutes and for an unknown
        /// `kid`; its keys are kept for a day while it can't be reached.
        keys: KeyLocation = KEYS, optional;
        /// The secret of HS256, HS384 and HS512, at least 32 characters.
        secret: Secret = SECRET, optional;
        /// Accepted algorithms: HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA. Default:
        /// `[HS256]` with `secret`, `[RS256, ES256, EdDSA]` with `keys`. `none` is never accepted.
        algorithms: Vec<JwtAlgorithm> = ALGORITHMS, default "[]";
        /// Where the token is: `authorization` (as `Bearer`), `cookie.NAME` or `header.NAME`.
        from: Credential = FROM, default "authorization";
        /// Claims in which the tokens of one caller may differ and still get the same responses. By default those that say
        /// what a token is for (`scope`, `type`, `azp`, `amr` …) keep responses apart, and of one caller all but those of a
        /// sign-in (`iat`, `exp`, `jti`, `sid` …): see docs/callers.md.
        ignore: Vec<String> = CLAIM_NAMES, default "[]";
        /// How far the clocks may differ: a token is accepted this long after its `exp` and before its `nbf`.
        leeway: Duration = DURATION, default "0s";
    }
}

settings! {
    /// A service that knows callers.
    pub(crate) struct AskSettings = "ask" {
        /// The URL that a GET is sent to: a 2xx means that the caller is known, 401 and 403 that it is not. Any other
        /// answer, or none, means that nothing is known: the request is forwarded uncached.
        url: RemoteUrl = REMOTE_URL, required;
        /// The credentials that are sent on: `authorization`, `cookie.NAME`, `header.NAME`, or `cookie` for all cookies. A
        /// request with none of them is anonymous.
        forward: Vec<Credential> = FORWARD, default "[authorization, cookie]";
        /// How long an answer is remembered, also a negative one.
        every: Duration = POSITIVE_DURATION, default "10s";
        /// The fields of the answer that name the caller, for `per: identity` and `{caller}`. Default: each combination of
        /// credentials is a caller.
        identity: Vec<Credential> = IDENTITY, default "[]";
        /// How long an answer is waited for.
        timeout: Duration = POSITIVE_DURATION, default "2s";
    }
}

const CLAIM_NAMES: Reader<Vec<String>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    list(node, "[azp]", diagnostics, |node, diagnostics| {
        parsed(node, "the name of a claim", diagnostics, |name| match TokenKind::is_claim(name) {
            true => Ok(name.to_owned()),
            false => Err((
                format!("`{name}` keeps no responses apart"),
                "leave it out: it differs by sign-in, and never counts".into(),
            )),
        })
    })
});

const JWT: Reader<JwtSettings> = Reader::new(mapping::<JwtSettings>().kind, jwt);
const ASK: Reader<AskSettings> = Reader::new(mapping::<AskSettings>().kind, |node, diagnostics| {
    let mut ask = AskSettings::from_node(node, diagnostics)?;
    ask.url.upstream.response_timeout = ask.timeout;
    Some(ask)
});

pub(super) const CALLER_ENTRIES: Reader<Vec<CallerSettings>> =
    Reader::new(Kind::Names(&Kind::Mapping(EntryFields::SECTION)), |node, diagnostics| {
        const EXAMPLE: &str = "app: {jwt: {issuer: https://id.example, keys: https://id.example/jwks.json}}";
        let read = entries(node, EXAMPLE, diagnostics)?.iter().map(|(name, value)| {
            let name = NON_EMPTY.read(name, diagnostics);
            let method = method(value, diagnostics);
            Some(CallerSettings { name: name?.into(), method: method?, claims: Vec::new() })
        });
        read.collect::<Vec<_>>().into_iter().collect()
    });

fn method(node: &YamlNode, diagnostics: &Diagnostics) -> Option<CallerMethod> {
    let EntryFields { jwt, ask } = EntryFields::from_node(node, diagnostics)?;
    match (jwt, ask) {
        (Some(jwt), None) => Some(CallerMethod::Jwt(jwt)),
        (None, Some(ask)) => Some(CallerMethod::Ask(Box::new(ask))),
        _ => {
            diagnostics
                .error(node.location, "an entry of `callers` has either `jwt` or `ask`")
                .help("write `jwt: {…}` for tokens that larder verifies, or `ask: {url: …}` for a service that knows callers");
            None
        }
    }
}

fn jwt(node: &YamlNode, diagnostics: &Diagnostics) -> Option<JwtSettings> {
    let fields = Fields::open(node, JwtSettings::SECTION, diagnostics)?;
    let mut settings = JwtSettings::read(&fields)?;
    let is_symmetric = settings.secret.is_some();
    if is_symmetric == settings.keys.is_some() {
        diagnostics
            .error(node.location, "`jwt` needs either `keys` or `secret`")
            .help("write `keys: https://…/jwks.json`, or `secret: ${…}` for HS256");
        return None;
    }
    if settings.algorithms.is_empty() {
        settings.algorithms = match is_symmetric {
            true => vec![JwtAlgorithm::HS256],
            false => vec![JwtAlgorithm::RS256, JwtAlgorithm::ES256, JwtAlgorithm::EdDSA],
        };
    }
    if settings
        .algorithms
        .iter()
        .any(|algorithm| (algorithm.family() == AlgorithmFamily::Hmac) != is_symmetric)
    {
        diagnostics
            .error(fields.value_location("algorithms"), "an algorithm does not fit the key")
            .help("HS256, HS384 and HS512 need `secret`, the others `keys`");
        return None;
    }
    Some(settings)
}

const KEYS: Reader<KeyLocation> = Reader::new(Kind::Text, |node, diagnostics| match node.text() {
    Some(text) if text.contains("://") => {
        REMOTE_URL.read(node, diagnostics).map(|endpoint| KeyLocation::Url(Box::new(endpoint)))
    }
    _ => {
        let path = super::scalars::PATH.read(node, diagnostics)?;
        diagnostics.name_file_to_read(node.location, &path);
        Some(KeyLocation::File(path))
    }
});

pub(super) const REMOTE_URL: Reader<RemoteUrl> =
    Reader::new(Kind::Matching("^https?://"), |node, diagnostics| {
        let (base, target) = parsed(node, "a URL", diagnostics, split_url)?;
        let base = expand_short_form(&YamlNode::scalar(&*base, node.location), "url");
        let mut upstream = UpstreamSettings::from_node(&base, diagnostics)?;
        upstream.max_connections = MAX_CONNECTIONS;
        upstream.max_per_client = ClientShare::Count(MAX_PER_CLIENT);
        upstream.host = UpstreamHost::Preserve;
        Some(RemoteUrl { upstream, target })
    });

/// To a service that larder itself asks.
const MAX_CONNECTIONS: usize = 32;

/// Those that one client's questions use.
const MAX_PER_CLIENT: usize = 8;

fn split_url(text: &str) -> Result<(String, PathAndQuery), FieldError> {
    let wrong = || ("this is not an absolute URL".to_owned(), "write `http://host/path`".to_owned());
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    match (uri.scheme_str(), uri.authority(), uri.path_and_query()) {
        (Some(scheme @ ("http" | "https")), Some(authority), Some(target)) => {
            Ok((format!("{scheme}://{authority}"), target.clone()))
        }
        _ => Err(wrong()),
    }
}

const SECRET: Reader<Secret> = Reader::new(Kind::Text, |node, diagnostics| {
    // RFC 7518 §3.2: as long as the hash at least.
    const MIN_LENGTH: usize = 32;
    parsed_secret(node, "a secret", diagnostics, |text| match text.len() {
        ..MIN_LENGTH => Err((
            format!("the secret is shorter than {MIN_LENGTH} characters"),
            "generate one: `openssl rand -base64 48`".into(),
        )),
        _ => Ok(Secret::new(text)),
    })
});

const ALGORITHM_NAMES: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "EdDSA",
];

const ALGORITHMS: Reader<Vec<JwtAlgorithm>> =
    Reader::new(Kind::ListOf(&Kind::Word(ALGORITHM_NAMES)), |node, diagnostics| {
        list(node, "[RS256]", diagnostics, |node, diagnostics| {
            parsed(node, "an algorithm", diagnostics, |text| {
                text.parse().map_err(|_| {
                    (format!("`{text}` is not accepted"), format!("one of {}", ALGORITHM_NAMES.join(", ")))
                })
            })
        })
    });

const FROM: Reader<Credential> =
    Reader::new(Kind::Matching("^(authorization|cookie\\..+|header\\..+)$"), |node, diagnostics| {
        parsed(node, "`authorization`, `cookie.NAME` or `header.NAME`", diagnostics, parse_credential)
    });

const FORWARD: Reader<Vec<Credential>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    credentials(node, diagnostics, |text| match text {
        "cookie" => Ok(Credential::Header(http::header::COOKIE)),
        text => parse_credential(text),
    })
});

const IDENTITY: Reader<Vec<Credential>> =
    Reader::new(Kind::ListOf(&Kind::Matching("^header\\.")), |node, diagnostics| {
        credentials(node, diagnostics, |text| match parse_credential(text)? {
            field @ Credential::Header(_) => Ok(field),
            _ => Err((format!("`{text}` is no field of an answer"), "write `header.NAME`".into())),
        })
    });

fn credentials(
    node: &YamlNode,
    diagnostics: &Diagnostics,
    parse: impl Fn(&str) -> Result<Credential, FieldError>,
) -> Option<Vec<Credential>> {
    let read = list(node, "[authorization, cookie.NAME]", diagnostics, |node, diagnostics| {
        let value = parsed(node, "`authorization`, `cookie.NAME` or `header.NAME`", diagnostics, &parse)?;
        Some(Located { value, location: node.location })
    })?;
    if read.is_empty() && !matches!(node.value, Value::List(_)) {
        return None;
    }
    distinct(read, diagnostics)
}

impl CallerSettings {
    /// The entry as routes see it. Two entries with the same `rules` know a caller by the same name.
    pub(crate) fn source(&self, index: usize) -> CallerSource {
        let (credentials, rules, has_claims) = match &self.method {
            CallerMethod::Jwt(JwtSettings { issuer, audience, keys, secret, from, ignore, .. }) => {
                let keys = match keys {
                    Some(KeyLocation::Url(url)) => format!("{:?} {}", url.upstream.addresses, url.target),
                    keys => format!("{keys:?}"),
                };
                let secret = secret.as_ref().map(|secret| Sha256::digest(secret.expose()));
                let rules = format!("jwt {issuer:?} {audience:?} {keys} {secret:?} {from:?} {ignore:?}");
                (vec![from.clone()], rules, true)
            }
            CallerMethod::Ask(ask) => {
                let AskSettings { url, forward, identity, .. } = &**ask;
                let url = format!("{:?} {}", url.upstream.addresses, url.target);
                (forward.clone(), format!("ask {url} {forward:?} {identity:?}"), false)
            }
        };
        CallerSource { name: self.name.clone(), index, credentials, rules: rules.into(), has_claims }
    }
}
