//! `webhook` of an event source: its path, and how its events are signed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Secret;
use super::keys::Reader;
use super::scalars::{one_or_many, parsed, parsed_secret, words};
use super::section::Kind;
use super::yaml::YamlNode;
use crate::policy::path::is_normal;

/// The shortest key of an HMAC, decoded.
pub(super) const MIN_SECRET_BYTES: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Webhook {
    pub path: String,
    /// Whether it is served by the proxy's listener instead of the admin listener.
    pub on_proxy: bool,
    pub scheme: WebhookScheme,
    /// Signatures with any of them are accepted.
    pub secrets: Vec<Secret>,
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
    pub(super) fn has_time(self) -> bool {
        !matches!(self, WebhookScheme::Github | WebhookScheme::Shopify)
    }

    /// The key of the HMAC. `None`: the secret is not in the form of the scheme.
    pub(crate) fn key(self, secret: &Secret) -> Option<Vec<u8>> {
        let text = secret.expose();
        match self {
            WebhookScheme::Standard => {
                let key = text.strip_prefix("v1,").unwrap_or(text);
                STANDARD.decode(key.strip_prefix("whsec_").unwrap_or(key)).ok()
            }
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
