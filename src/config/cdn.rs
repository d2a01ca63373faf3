//! The section `cdn`: the caches in front of larder that purges are relayed to.

use std::time::Duration;

use http::{HeaderName, Method};

use super::Secret;
use super::callers::{REMOTE_URL, RemoteUrl};
use super::diagnostics::{Diagnostics, Location};
use super::fields::Fields;
use super::keys::Reader;
use super::route_fields::parse_tag_field;
use super::scalars::{BOOLEAN, DURATION, NON_EMPTY, TOKEN, list, parsed, words};
use super::section::Kind;
use super::settings::{Settings, settings};
use super::yaml::YamlNode;

/// A cache in front of larder.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CdnSettings {
    pub name: String,
    pub api: CdnApi,
    /// The API's base, or where the purges of `http` go.
    pub url: RemoteUrl,
    pub token: Option<Secret>,
    /// Responses are marked stale, also where larder drops them.
    pub always_soft: bool,
    /// A purge is sent once more this long after it; zero: never.
    pub repeat: Duration,
    /// Everything is purged when larder starts.
    pub purges_at_start: bool,
}

/// How a cache takes purges.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CdnApi {
    Fastly { service: String },
    Cloudflare { zone: String },
    Http { method: Method, field: HeaderName },
}

impl CdnApi {
    /// The response field in which the cache reads tags.
    pub(crate) fn field(&self) -> HeaderName {
        match self {
            CdnApi::Fastly { .. } => HeaderName::from_static("surrogate-key"),
            CdnApi::Cloudflare { .. } => HeaderName::from_static("cache-tag"),
            CdnApi::Http { field, .. } => field.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ApiKind {
    Fastly,
    Cloudflare,
    Http,
}

settings! {
    struct CdnFields = "an entry of `cdn`" {
        /// The interface of the cache: `fastly`, `cloudflare`, or `http` for Varnish and others, which purge by a field of a
        /// request.
        kind as "type": ApiKind = words!(
            "fastly" => ApiKind::Fastly, "cloudflare" => ApiKind::Cloudflare, "http" => ApiKind::Http
        ), required;
        /// The name in metrics and logs. Default: the `type`.
        name: String = NON_EMPTY, optional;
        /// The id of the service at Fastly.
        service: String = ID, optional;
        /// The id of the zone at Cloudflare.
        zone: String = ID, optional;
        /// The token of the API: `${FASTLY_TOKEN}`. With `http` it is sent as `Authorization: Bearer`.
        token: Option<Secret> = TOKEN, default "none";
        /// Where purges are sent. Default: the public API of Fastly or Cloudflare; `http` needs one.
        url: RemoteUrl = REMOTE_URL, optional;
        /// With `http`: the method of the request.
        method: Method = METHOD, default "PURGE";
        /// With `http`: the field in which responses and purges list tags.
        field: HeaderName = FIELD, default "xkey";
        /// Mark responses stale where larder drops them. Cloudflare can't.
        soft: bool = BOOLEAN, default "false";
        /// How long after a purge it is sent once more, for a response that passed it on its way. A purge in doubt is sent
        /// again at the end of the doubt at the earliest. `0s`: only once.
        repeat: Duration = DURATION, default "10s";
        /// When larder starts: `purge` everything, since a purge may have been lost and rules may have changed, or `keep` it.
        purges_at_start as "at_start": bool = words!("purge" => true, "keep" => false), default "purge";
    }
}

pub(super) const CDN: Reader<Vec<CdnSettings>> =
    Reader::new(Kind::ListOf(&Kind::Mapping(CdnFields::SECTION)), |node, diagnostics| {
        let read = list(node, "[{type: fastly, service: …, token: …}]", diagnostics, read_entry)?;
        let is_repeated = |at: usize| read[..at].iter().any(|other| other.name == read[at].name);
        if let Some(at) = (0..read.len()).find(|at| is_repeated(*at)) {
            diagnostics
                .error(node.location, format!("two entries of `cdn` have the name `{}`", read[at].name))
                .help("give each a `name` of its own");
            return None;
        }
        Some(read)
    });

fn read_entry(node: &YamlNode, diagnostics: &Diagnostics) -> Option<CdnSettings> {
    let fields = Fields::open(node, CdnFields::SECTION, diagnostics)?;
    let CdnFields { kind, name, service, zone, token, url, method, field, soft, repeat, purges_at_start } =
        CdnFields::read(&fields)?;
    let need = |key: &str, what: &str| {
        diagnostics
            .error(node.location, format!("an entry of `cdn` for {what} has no `{key}`"))
            .help(format!("add `{key}: …`"));
    };
    let (api, word, public) = match kind {
        ApiKind::Fastly => {
            let service = service.or_else(|| missing(|| need("service", "Fastly")))?;
            (CdnApi::Fastly { service }, "fastly", Some("https://api.fastly.com"))
        }
        ApiKind::Cloudflare => {
            let zone = zone.or_else(|| missing(|| need("zone", "Cloudflare")))?;
            (CdnApi::Cloudflare { zone }, "cloudflare", Some("https://api.cloudflare.com/client/v4"))
        }
        ApiKind::Http => (CdnApi::Http { method, field }, "http", None),
    };
    if kind != ApiKind::Http && token.is_none() {
        return missing(|| need("token", word));
    }
    let url = match (url, public) {
        (Some(url), _) => url,
        (None, Some(public)) => REMOTE_URL.read(&YamlNode::scalar(public, Location::Start), diagnostics)?,
        (None, None) => return missing(|| need("url", "another cache")),
    };
    let name = name.unwrap_or_else(|| word.to_owned());
    Some(CdnSettings { name, api, url, token, always_soft: soft, repeat, purges_at_start })
}

/// `None` after reporting it.
fn missing<T>(report: impl FnOnce()) -> Option<T> {
    report();
    None
}

const ID: Reader<String> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "an id", diagnostics, |text| {
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        match !text.is_empty() && text.bytes().all(is_id) {
            true => Ok(text.to_owned()),
            false => Err(("this is not an id".into(), "write the letters and digits of the id alone".into())),
        }
    })
});

const METHOD: Reader<Method> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a method", diagnostics, |text| {
        let method = Method::from_bytes(text.as_bytes()).ok();
        method.ok_or_else(|| (format!("`{text}` is not a method"), "write `PURGE`, `BAN` or `POST`".into()))
    })
});

const FIELD: Reader<HeaderName> =
    Reader::new(Kind::Text, |node, diagnostics| parsed(node, "a field name", diagnostics, parse_tag_field));
