//! `webhook` of an event source: its path, and how its events are signed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Secret;
use super::diagnostics::Diagnostics;
use super::events::EventFields;
use super::fields::Fields;
use super::keys::{Kind, Reader, words};
use super::scalars::{one_or_many, parsed, parsed_secret};
use super::yaml::YamlNode;
use crate::policy::path::is_normal;

/// The shortest key of an HMAC, decoded.
const MIN_SECRET_BYTES: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Webhook {
    pub path: String,
    /// Whether it is served by the proxy's listener instead of the admin listener.
    pub(crate) on_proxy: bool,
    pub scheme: WebhookScheme,
    /// Signatures with any of them are accepted.
    pub(crate) secrets: Vec<Secret>,
    pub window: Duration,
}

/// The fields and the text that are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WebhookScheme {
    Larder,
    /// <https://www.standardwebhooks.com>
    Standard,
    Github,
    Stripe,
    Shopify,
}

impl WebhookScheme {
    /// Whether the time of sending is signed.
    fn has_time(self) -> bool {
        !matches!(self, WebhookScheme::Github | WebhookScheme::Shopify)
    }

    /// The key of the HMAC. `None`: the secret is not in the form of the scheme.
    pub(crate) fn key(self, secret: &Secret) -> Option<Vec<u8>> {
        let text = secret.expose();
        match self {
            WebhookScheme::Standard => STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok(),
            _ => Some(text.as_bytes().to_vec()),
        }
    }
}

pub(super) const SCHEME: Reader<WebhookScheme> = words!(
    "larder" => WebhookScheme::Larder,
    "standard" => WebhookScheme::Standard,
    "github" => WebhookScheme::Github,
    "stripe" => WebhookScheme::Stripe,
    "shopify" => WebhookScheme::Shopify,
);

pub(super) fn webhook(
    fields: &Fields<'_>,
    read: EventFields,
    has_admin: bool,
    diagnostics: &Diagnostics,
) -> Option<Webhook> {
    let (path, on_proxy, scheme, secrets) = (read.webhook?, read.on_proxy?, read.scheme?, read.secrets?);
    if secrets.is_none() {
        fields.report_missing("secret");
    }
    let path = path?;
    if !on_proxy && !path.starts_with("/hooks/") {
        diagnostics
            .error(
                fields.value_location("webhook"),
                "on the admin listener the path of a webhook must begin with `/hooks/`",
            )
            .help(format!("write `webhook: /hooks{path}`; larder reserves the other paths there"));
        return None;
    }
    if !on_proxy && !has_admin {
        diagnostics
            .error(fields.value_location("webhook"), "this webhook is for the admin listener, which is off")
            .help("write `listener: proxy`, or give `admin` an address");
        return None;
    }
    if let (false, Some(window)) = (scheme.has_time(), fields.node("window")) {
        diagnostics
            .error(window.location, "`window` has no effect: this `scheme` signs no time")
            .help("remove it; an event that is sent again is purged again, which does no harm");
        return None;
    }
    let secrets = secrets?;
    let is_key = |secret: &Secret| scheme.key(secret).is_some_and(|key| key.len() >= MIN_SECRET_BYTES);
    if !secrets.iter().all(is_key) {
        let expected = format!(
            "a secret of Standard Webhooks is `whsec_` and the base64 of at least {MIN_SECRET_BYTES} bytes"
        );
        diagnostics
            .error(fields.value_location("secret"), expected)
            .help("copy it from the sender's settings, in full")
            .secret();
        return None;
    }
    Some(Webhook { path, on_proxy, scheme, secrets, window: read.window? })
}

pub(super) const WEBHOOK_PATH: Reader<String> = Reader::new(Kind::Matching("^/"), |node, diagnostics| {
    parsed(node, "a path such as `/hooks/products`", diagnostics, |path| {
        if path.starts_with('/') && is_normal(path) && !path.contains('{') {
            return Ok(path.to_owned());
        }
        Err((
            format!("`{path}` is not a normalized path"),
            "write a plain path such as `/hooks/products`".into(),
        ))
    })
});

/// One secret or a list. The values are never shown in an error.
pub(super) const SECRETS: Reader<Vec<Secret>> =
    Reader::new(Kind::OneOf(&[Kind::Text, Kind::ListOf(&Kind::Text)]), |node, diagnostics| {
        let secrets = one_or_many(node);
        if secrets.is_empty() {
            diagnostics
                .error(node.location, "without a secret anybody could purge")
                .help("write at least one");
            return None;
        }
        let secret = |node: &YamlNode| {
            parsed_secret(node, "a secret", diagnostics, |secret| match secret.len() {
                MIN_SECRET_BYTES.. => Ok(Secret::new(secret)),
                _ => Err((
                    format!("a secret has at least {MIN_SECRET_BYTES} bytes"),
                    "make one by `openssl rand -hex 32`, and give it as `${LARDER_WEBHOOK_SECRET}`".into(),
                )),
            })
        };
        secrets.iter().map(secret).collect()
    });
