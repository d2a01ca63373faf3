//! The section `store`: where responses are kept, and how far replicas may lag behind each other.

use std::time::Duration;

use super::diagnostics::{Diagnostics, Location};
use super::fields::Fields;
use super::keys::Reader;
use super::publish::PUBLISH;
use super::redis::{OPTIONAL_REDIS, RedisSettings};
use super::scalars::{DURATION, NON_EMPTY, POSITIVE_DURATION, SIZE, list, parsed, parsed_secret, words};
use super::section::Kind;
use super::settings::{Settings, mapping, settings};
use super::yaml::{Value, YamlNode};
use super::{OnStoreLoss, Secret};
use crate::policy::purge_channels::PurgeChannels;

settings! {
    /// The store of responses.
    pub struct StoreSettings = "store" {
        /// Share responses between replicas through Redis: a URL (`redis://`, `redis+unix://`, `redis-sentinel://`,
        /// `redis-cluster://`; `rediss…` with TLS), or a mapping. Without it, or with `none`, responses are kept in this
        /// process.
        redis: Option<RedisSettings> = OPTIONAL_REDIS, default "none";
        /// Prefix of all keys in Redis. Give each environment its own.
        namespace: String = NAMESPACE, default "larder";
        /// Size of the memory tier in this process; without `redis` it is the whole store. `0`: no memory tier.
        memory: u64 = SIZE, default "256MiB";
        /// How long, after a failure, a replica may still serve what another replica has purged. `0s`: never; each hit
        /// then asks Redis first.
        max_lag: Duration = DURATION, default "1s";
        /// When Redis is unavailable: `bypass` sends requests to the upstream, `serve: 30s` serves from the memory tier
        /// for that long first.
        on_store_loss: OnStoreLoss = ON_STORE_LOSS, default "bypass";
        /// Timeout of each call to the store.
        timeout: Duration = POSITIVE_DURATION, default "50ms";
        /// Encrypt responses in Redis (AES-256-GCM), so that others with access to it can neither read nor forge them.
        encrypt: Encryption = mapping(), optional;
        /// Sign responses in Redis (HMAC-SHA256), so that others with access to it can read but not forge them. `encrypt`
        /// does both.
        sign: Signing = mapping(), optional;
        /// Compress responses in Redis, before they are encrypted or signed.
        compress: StoreCompression = mapping(), optional;
        /// A Redis channel on which every purge is published as JSON, or a list of channels: by name, or
        /// `{channel: "cache:invalidated:{guildId}", tag: "guild:{guildId}"}` for the purges of such tags.
        publish: PurgeChannels = PUBLISH, optional;
        /// The name of this replica in the purge log and in the answers to `Purge-Wait`. Must be unique. Default: the
        /// host name and a random suffix.
        replica: String = REPLICA, optional;
    }
}

settings! {
    /// Keys that encrypt values in Redis.
    pub struct Encryption = "encrypt" {
        /// The keys. The first one encrypts; any decrypts, so that keys can be rotated: add the new one last in all replicas,
        /// then move it to the front, and remove the old one when its responses have expired.
        keys: Vec<SealingKey> = SEALING_KEYS, required;
    }
}

settings! {
    /// Keys that sign values in Redis.
    pub struct Signing = "sign" {
        /// The keys. The first one signs, and what any of them signed is believed. They are rotated like those of `encrypt`,
        /// and read what `encrypt` wrote with them.
        keys: Vec<SealingKey> = SEALING_KEYS, required;
    }
}

settings! {
    /// A key for values in Redis.
    pub struct SealingKey = "a key for values in Redis" {
        /// The name of the key, which values carry.
        id: String = NON_EMPTY, required;
        /// The secret, at least 32 characters of it random, for example `${LARDER_REDIS_KEY}`.
        secret: Secret = SEALING_SECRET, required;
    }
}

/// The protection of values in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealingMode {
    Encrypt,
    Sign,
}

impl StoreSettings {
    /// The keys by which values in Redis are encrypted or signed.
    pub(crate) fn sealing(&self) -> Option<(SealingMode, &[SealingKey])> {
        let encryption = self.encrypt.as_ref().map(|encrypt| (SealingMode::Encrypt, encrypt.keys.as_slice()));
        encryption.or_else(|| self.sign.as_ref().map(|sign| (SealingMode::Sign, sign.keys.as_slice())))
    }
}

const SEALING_KEYS: Reader<Vec<SealingKey>> =
    Reader::new(Kind::ListOf(&Kind::Mapping(SealingKey::SECTION)), |node, diagnostics| {
        let keys =
            list(node, "[{id: a, secret: \"${LARDER_REDIS_KEY}\"}]", diagnostics, SealingKey::from_node)?;
        let is_repeated = |(at, key): (usize, &SealingKey)| keys[..at].iter().any(|other| other.id == key.id);
        if node.is_empty_list() {
            diagnostics
                .error(node.location, "`keys` is empty")
                .help("leave `encrypt` and `sign` out to store plain responses");
        } else if keys.iter().enumerate().any(is_repeated) {
            diagnostics
                .error(node.location, "two keys have the same `id`")
                .help("give each key an id of its own");
        }
        Some(keys)
    });

const SEALING_SECRET: Reader<Secret> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed_secret(node, "a secret", diagnostics, |text| match text.len() {
        ..MIN_SECRET_LENGTH => Err((
            format!("the secret is shorter than {MIN_SECRET_LENGTH} characters"),
            "generate one: `openssl rand -base64 32`".into(),
        )),
        _ => Ok(Secret::new(text)),
    })
});

/// 32 base64 characters hold 192 random bits.
const MIN_SECRET_LENGTH: usize = 32;

settings! {
    /// Compression of values in Redis.
    pub struct StoreCompression = "compress" {
        /// The algorithm.
        algorithm: CompressionAlgorithm = ALGORITHM, default "zstd";
        /// From `1`, the fastest, to `9`, the smallest.
        level: u8 = COMPRESSION_LEVEL, default "1";
        /// Smaller responses, with their fields, stay as they are.
        min_size: u64 = SIZE, default "1KiB";
    }
}

/// How values in Redis are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionAlgorithm {
    /// Zstandard (RFC 8878).
    Zstd,
}

const ALGORITHM: Reader<CompressionAlgorithm> = words!("zstd" => CompressionAlgorithm::Zstd);

/// Higher levels take a second for a large response, and gain little.
const COMPRESSION_LEVEL: Reader<u8> = Reader::new(Kind::Count, |node, diagnostics| {
    parsed(node, "a level such as `3`", diagnostics, |text| match text.parse() {
        Ok(level @ 1..=9) => Ok(level),
        _ => {
            Err((format!("`{text}` is not a level from 1 to 9"), "write `1` for speed, `9` for size".into()))
        }
    })
});

settings! {
    struct ServeOnLoss = "on_store_loss" {
        /// How long the memory tier may serve after the last answer from Redis.
        serve: Duration = POSITIVE_DURATION, required;
    }
}

pub(super) const STORE: Reader<StoreSettings> = Reader::new(mapping::<StoreSettings>().kind, store);

fn store(node: &YamlNode, diagnostics: &Diagnostics) -> Option<StoreSettings> {
    let fields = Fields::open(node, StoreSettings::SECTION, diagnostics)?;
    let has_redis = fields.node("redis").is_some_and(|node| node.text() != Some("none"));
    let settings = StoreSettings::read(&fields);
    if let (Some(memory), false) = (fields.node("memory"), has_redis)
        && SIZE.read(memory, &Diagnostics::default()) == Some(0)
    {
        diagnostics
            .error(memory.location, "without `redis`, `memory` is the whole store: it can't be 0")
            .help("to cache nothing, write `defaults: {mode: off}`");
    }
    if let (Some(compress), false) = (fields.node("compress"), has_redis) {
        diagnostics
            .error(compress.location, "`store.compress` is for responses in Redis, and `redis` is not set")
            .help(
                "add `redis: redis://host:6379`; to compress for clients, set `compress: [gzip]` on a route",
            );
    }
    if let (None, Some(settings)) = (fields.node("redis"), &settings) {
        warn_of_redis_keys(&fields, settings, diagnostics);
    }
    if let (Some(sign), Some(_)) = (fields.node("sign"), fields.node("encrypt")) {
        diagnostics
            .error(sign.location, "`encrypt` protects responses from changes already")
            .help("remove `sign`: the keys of `encrypt` read what they signed, too");
    }
    if let (Some(publish), false) = (fields.node("publish"), has_redis) {
        diagnostics
            .error(publish.location, "`publish` needs Redis, and `redis` is not set")
            .help("add `redis: redis://host:6379`, or read `GET /events` on the admin listener");
    }
    settings
}

/// Warns of keys that do nothing where the store is in this process. Those that only say their default are left alone.
fn warn_of_redis_keys(fields: &Fields<'_>, settings: &StoreSettings, diagnostics: &Diagnostics) {
    let empty = YamlNode::new(Value::Mapping(Vec::new()), Location::Start);
    let Some(plain) = StoreSettings::from_node(&empty, &Diagnostics::default()) else { return };
    for (name, is_set) in [
        ("max_lag", settings.max_lag != plain.max_lag),
        ("on_store_loss", settings.on_store_loss != plain.on_store_loss),
        ("timeout", settings.timeout != plain.timeout),
        ("encrypt", settings.encrypt.is_some()),
        ("sign", settings.sign.is_some()),
    ] {
        if let (Some(given), true) = (fields.node(name), is_set) {
            diagnostics
                .warning(given.location, format!("`store.{name}` does nothing, since `redis` is not set"))
                .help("add `redis: redis://host:6379`, or `redis: none` in a file for both; else remove it");
        }
    }
}

const REPLICA: Reader<String> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a name", diagnostics, |text| match text.len() {
        1..=128 if text.chars().all(|c| c.is_ascii_graphic() && c != ',') => Ok(text.to_owned()),
        _ => Err((
            "this can't be the name of a replica".into(),
            "write a short name without spaces, such as `${HOSTNAME}`".into(),
        )),
    })
});

/// Braces would choose the hash slot of a Redis cluster.
const NAMESPACE: Reader<String> = Reader::new(Kind::Text, |node, diagnostics| {
    const MAX_BYTES: usize = 128;
    parsed(node, "a name", diagnostics, |text| {
        let wrong = match text {
            "" => "the namespace is empty",
            text if text.contains(['{', '}']) => "a namespace has no braces",
            text if text.contains(|c: char| c.is_whitespace() || c.is_control()) => {
                "a namespace has no spaces"
            }
            text if text.len() > MAX_BYTES => "the namespace is too long",
            text => return Ok(text.to_owned()),
        };
        Err((wrong.into(), "write a short name such as `larder` or `shop-staging`".into()))
    })
});

const ON_STORE_LOSS: Reader<OnStoreLoss> = Reader::new(
    Kind::OneOf(&[Kind::Word(&["bypass"]), Kind::Mapping(ServeOnLoss::SECTION)]),
    |node, diagnostics| match &node.value {
        Value::Mapping(_) => {
            ServeOnLoss::from_node(node, diagnostics).map(|loss| OnStoreLoss::Serve(loss.serve))
        }
        _ => parsed(node, "`bypass` or `{serve: 30s}`", diagnostics, |text| match text {
            "bypass" => Ok(OnStoreLoss::Bypass),
            _ => Err((format!("unknown value `{text}`"), "write `bypass`, or `{serve: 30s}`".into())),
        }),
    },
);
