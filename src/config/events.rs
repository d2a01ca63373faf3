//! `events`: sources that announce changes, and what each announcement purges.

use std::time::Duration;

use super::channel_name::{CHANNEL, ChannelName};
use super::diagnostics::Diagnostics;
use super::event_rules::{CONDITIONS, ParsedRule, RULE_LIST, RULES};
use super::fields::{Fields, Located};
use super::keys::Reader;
use super::postgres::{CHANNELS, POSTGRES, PostgresSettings};
use super::purge_rules::templates;
use super::redis::REDIS;
use super::scalars::{NON_EMPTY, POSITIVE_DURATION, list, parsed, words};
use super::section::Kind;
use super::settings::{Settings, settings};
use super::webhooks::{MIN_SECRET_BYTES, SCHEME, SECRETS, WEBHOOK_PATH, Webhook, WebhookScheme};
use super::yaml::{Value, YamlNode};
use super::{RedisServers, RedisSettings, Secret, StoreSettings};
use crate::policy::event::{EventCondition, EventRule, EventRules};
use crate::policy::purge_channels::namespace_of_wake_channel;
use crate::policy::purge_targets::PurgeRule;
use crate::policy::template::Template;

settings! {
    pub(super) partial struct EventFields = "an event source" {
        /// The name in metrics and `/healthz`, under which the source's position is kept. Default: the stream, channel or
        /// path.
        name: String = NAME, optional;
        /// The key of a Redis stream. Its position is kept in `store.redis`, so that no event is lost.
        stream: String = NON_EMPTY, optional;
        /// A Redis channel, or a pattern of channels such as `cache:invalidated:*`. Channels keep no events: whenever some may
        /// have been missed, everything that they could name is purged.
        pubsub: ChannelName = CHANNEL, optional;
        /// A channel of PostgreSQL on which `NOTIFY` announces changes, or a list of channels. They keep no events either.
        notify: Vec<String> = CHANNELS, optional;
        /// A path to which signed events are posted.
        webhook: String = WEBHOOK_PATH, optional;
        /// The tags that an event purges, with values of its JSON: `{event.json:/id}` or
        /// `{event.json:$.items[*].id}`. An entry may be a mapping with `tag`, `at_most_every`, `soft` and `otherwise`. If a
        /// value is missing, the responses of all routes with such tags and the tags in `otherwise` are purged.
        purge: Vec<Located<PurgeRule>> = RULES, optional;
        /// Values in the event's JSON that select events, each one value or a list: `{/type: [updated, deleted]}`, or with a
        /// JSONPath `{"$.fields[*]": status}`, where one of the values must be listed. An event with other values purges
        /// nothing; an event without the value matches.
        when: Vec<EventCondition> = CONDITIONS, optional;
        /// In place of `purge` and `when`: a list of mappings with both, each of which applies on its own.
        rules: Vec<ParsedRule> = RULE_LIST, optional;
        /// The Redis of the stream or channel. Default: `store.redis`.
        redis: RedisSettings = REDIS, optional;
        /// The PostgreSQL database of `notify`.
        postgres: PostgresSettings = POSTGRES, optional;
        /// Where to begin in a stream that was never read before.
        from_beginning as "from": bool = words!("now" => false, "beginning" => true), default "now";
        /// The field of a stream's entries that holds the JSON. Default: the fields of an entry form one object.
        field: String = NON_EMPTY, optional;
        /// The listener of a webhook: `admin`, or `proxy` for `listen`, which then does not forward its path.
        on_proxy as "listener": bool = words!("admin" => false, "proxy" => true), default "admin";
        /// The way in which a webhook's events are signed: `larder` (`Larder-Timestamp` and `Larder-Signature`), `standard`
        /// (Standard Webhooks), `github`, `stripe` or `shopify`.
        scheme: WebhookScheme = SCHEME, default "larder";
        /// The key that signs a webhook's events, for example `${LARDER_WEBHOOK_SECRET}`. A list allows any of
        /// its keys, so that they can be rotated.
        secrets as "secret": Vec<Secret> = SECRETS, optional;
        /// How far a webhook's timestamp may be from now. Each signature is accepted once in this time. `github` and
        /// `shopify` sign no time.
        window: Duration = POSITIVE_DURATION, default "5m";
        /// How long a source may be silent before `fallback_ttl` applies to what its events would purge.
        stale_after: Duration = POSITIVE_DURATION, optional;
        /// How the silence ends: by `contact`, any answer of its Redis; or `event`, for sources that always
        /// have some. For a webhook both mean an event.
        without_event as "silent_without": bool = words!("contact" => false, "event" => true), default "contact";
        /// While the source is silent, the maximum age of a hit on routes with tags that it purges.
        fallback_ttl: Duration = POSITIVE_DURATION, default "1m";
    }
}

pub(super) const EVENTS_KIND: Kind = Kind::ListOf(&Kind::Mapping(EventFields::SECTION));

/// One entry of `events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSource {
    /// Unique among the sources.
    pub name: String,
    pub(crate) kind: EventKind,
    /// The purges of its events.
    pub rules: EventRules,
    /// `None`: silence has no effect.
    pub(crate) silence: Option<SilencePolicy>,
}

impl EventSource {
    /// The same source, with the secrets of its namesake in `others`, if that is the same webhook.
    pub(crate) fn replace_secrets_from(&self, others: &[EventSource]) -> Self {
        let mut own = self.clone();
        let namesake = others.iter().find(|other| other.name == self.name);
        if let (EventKind::Webhook(own), Some(EventKind::Webhook(other))) =
            (&mut own.kind, namesake.map(|it| &it.kind))
            && (&own.path, own.scheme, own.on_proxy) == (&other.path, other.scheme, other.on_proxy)
        {
            own.secrets.clone_from(&other.secrets);
        }
        own
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Stream {
        redis: RedisSettings,
        key: String,
        /// The field that holds the JSON; `None`: the fields form the event.
        field: Option<String>,
        from_beginning: bool,
    },
    PubSub {
        redis: RedisSettings,
        channel: ChannelName,
    },
    Notify {
        postgres: PostgresSettings,
        channels: Vec<String>,
    },
    Webhook(Webhook),
}

/// When a source counts as silent, and the bound on hits meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SilencePolicy {
    pub after: Duration,
    /// Whether only an event ends the silence, rather than any answer of its Redis.
    pub without_event: bool,
    pub fallback_ttl: Duration,
}

impl EventKind {
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            EventKind::Stream { .. } => "stream",
            EventKind::PubSub { .. } => "pubsub",
            EventKind::Notify { .. } => "notify",
            EventKind::Webhook(_) => "webhook",
        }
    }

    fn noun(&self) -> &'static str {
        match self {
            EventKind::Stream { .. } => "stream",
            EventKind::PubSub { .. } | EventKind::Notify { .. } => "channel",
            EventKind::Webhook(_) => "path",
        }
    }
}

/// A source and the locations of its tags.
pub(super) struct ParsedSource {
    pub source: EventSource,
    pub purge: Vec<Located<Template>>,
}

/// The settings that a source depends on. `store` is `None` if it has an error.
pub(super) struct EventContext<'s> {
    pub store: Option<&'s StoreSettings>,
    pub has_admin: bool,
}

/// Reads the sources; returns `None` if one has an error.
pub(super) fn read(
    node: &YamlNode,
    context: &EventContext<'_>,
    diagnostics: &Diagnostics,
) -> Option<Vec<ParsedSource>> {
    if matches!(node.value, Value::Null) {
        return Some(Vec::new());
    }
    let before = diagnostics.error_count();
    let example = "[{stream: shop:changes, purge: [products]}]";
    let mut sources: Vec<ParsedSource> = Vec::new();
    list(node, example, diagnostics, |node, diagnostics| {
        let source = source(node, context, diagnostics)?;
        refuse_conflict(&source, &sources, node, diagnostics);
        sources.push(source);
        Some(())
    })?;
    (diagnostics.error_count() == before).then_some(sources)
}

/// Reports a name or a path that an earlier source has too.
fn refuse_conflict(
    parsed: &ParsedSource,
    earlier: &[ParsedSource],
    node: &YamlNode,
    diagnostics: &Diagnostics,
) {
    let EventSource { name, kind, .. } = &parsed.source;
    if earlier.iter().any(|other| other.source.name == *name) {
        diagnostics
            .error(node.location, format!("two event sources are called `{name}`"))
            .help("give each a `name`; its position and its metrics are kept under it");
    }
    let has_same_path = |other: &ParsedSource| match (kind, &other.source.kind) {
        (EventKind::Webhook(one), EventKind::Webhook(other)) => {
            one.path == other.path && one.on_proxy == other.on_proxy
        }
        _ => false,
    };
    if earlier.iter().any(has_same_path) {
        diagnostics
            .error(node.location, "two webhooks have the same path")
            .help("give each a path of its own");
    }
}

fn source(node: &YamlNode, context: &EventContext<'_>, diagnostics: &Diagnostics) -> Option<ParsedSource> {
    let fields = Fields::open(node, EventFields::SECTION, diagnostics)?;
    let read = EventFields::read(&fields)?;
    let silence = match (read.stale_after, read.without_event, read.fallback_ttl) {
        (Some(None), Some(_), Some(_)) => Some(None),
        (Some(Some(after)), Some(without_event), Some(fallback_ttl)) => {
            Some(Some(SilencePolicy { after, without_event, fallback_ttl }))
        }
        _ => None,
    };
    let (name, rules) = (read.name.clone(), read_rules(&fields, &read, diagnostics));
    let kind = kind(&fields, read, context, diagnostics)?;
    let names_channel = |(_, tags): &(EventRules, Vec<Located<Template>>)| {
        tags.iter().find(|tag| tag.value.reads_event_channel()).map(|tag| tag.location)
    };
    if let (Some(location), false) = (
        rules.as_ref().and_then(names_channel),
        matches!(kind, EventKind::PubSub { .. } | EventKind::Notify { .. }),
    ) {
        let message = format!("events of a `{}` have no channel", kind.as_str());
        diagnostics.error(location, message).help("write a value of their JSON: `{event.json:/id}`");
        return None;
    }
    let default_name = match &kind {
        EventKind::Stream { key, .. } => key.as_str(),
        EventKind::PubSub { channel, .. } => channel.as_str(),
        EventKind::Notify { channels, .. } => &channels[0],
        EventKind::Webhook(webhook) => webhook.path.as_str(),
    };
    let name = name?.or_else(|| is_name(default_name).then(|| default_name.to_owned())).or_else(|| {
        let help = "add `name:`, a short word for metrics and for its position";
        diagnostics.error(node.location, "this source needs a `name`").help(help);
        None
    })?;
    let ((rules, purge), silence) = (rules?, silence?);
    Some(ParsedSource { source: EventSource { name, kind, rules, silence }, purge })
}

/// The kind of the source, which one of three keys selects, with the keys of that kind.
fn kind(
    fields: &Fields<'_>,
    read: EventFields,
    context: &EventContext<'_>,
    diagnostics: &Diagnostics,
) -> Option<EventKind> {
    const KINDS: [&str; 4] = ["stream", "pubsub", "notify", "webhook"];
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| fields.node(kind).is_some()).collect();
    let [kind] = given[..] else {
        let wrong = if given.is_empty() { "has no source" } else { "has more than one source" };
        diagnostics.error(fields.location, format!("an event source {wrong}")).help(
            "write one of `stream: KEY`, `pubsub: CHANNEL`, `notify: CHANNEL` and `webhook: /path` in each",
        );
        return None;
    };
    for (key, kinds) in [
        ("redis", &["stream", "pubsub"][..]),
        ("postgres", &["notify"]),
        ("from", &["stream"]),
        ("field", &["stream"]),
        ("listener", &["webhook"]),
        ("scheme", &["webhook"]),
        ("secret", &["webhook"]),
        ("window", &["webhook"]),
    ] {
        if let (Some(given), false) = (fields.node(key), kinds.contains(&kind)) {
            diagnostics
                .error(given.location, format!("`{key}` has no effect on a `{kind}`"))
                .help(format!("remove it; it belongs to `{}`", kinds.join("` and `")));
        }
    }
    match kind {
        "webhook" => {
            return webhook(fields, read, context.has_admin, diagnostics).map(EventKind::Webhook);
        }
        "notify" => return notify(fields, read.notify?, read.postgres?),
        _ => {}
    }
    let redis = redis_settings(fields, kind, read.redis?, context.store, diagnostics);
    let kind = match (read.stream?, read.pubsub?) {
        (Some(key), _) => {
            EventKind::Stream { redis: redis?, key, field: read.field?, from_beginning: read.from_beginning? }
        }
        (None, channel) => EventKind::PubSub { redis: redis?, channel: channel? },
    };
    if let Some((what, name)) = context.store.and_then(|store| find_own(&kind, store)) {
        diagnostics
            .error(
                fields.value_location(kind.as_str()),
                format!("larder itself writes to `{name}` ({what}): each purge would cause the next one"),
            )
            .help(format!("name the {} to which the API or a job writes", kind.noun()));
    } else if let EventKind::PubSub { channel, .. } = &kind
        && !channel.is_pattern()
        && let Some(namespace) = namespace_of_wake_channel(channel.as_str())
    {
        diagnostics
            .error(
                fields.value_location("pubsub"),
                format!(
                    "`{}` wakes the replicas of a larder: its messages do not say what was purged",
                    channel.as_str()
                ),
            )
            .help(format!(
                "let that larder have `publish: {namespace}:purges` in its `store`, and name that"
            ));
    }
    Some(kind)
}

/// The channel or key of larder's own that a source reads in the store's Redis, and what it is for.
fn find_own<'k>(kind: &'k EventKind, store: &StoreSettings) -> Option<(&'static str, &'k str)> {
    let (redis, name) = match kind {
        EventKind::Stream { redis, key, .. } => (redis, key.as_str()),
        EventKind::PubSub { redis, channel } => (redis, channel.as_str()),
        EventKind::Notify { .. } | EventKind::Webhook(_) => return None,
    };
    let store_redis = store.redis.as_ref().filter(|store| store.may_share_server(redis))?;
    let namespace = &store.namespace;
    let what = match kind {
        // A channel is the same in all databases.
        EventKind::PubSub { channel, .. }
            if store.publish.as_ref().is_some_and(|published| channel.may_hear(published)) =>
        {
            "`store.publish`"
        }
        EventKind::PubSub { .. } if namespace_of_wake_channel(name) == Some(namespace) => {
            "it wakes the replicas"
        }
        EventKind::Stream { .. }
            if store_redis.database == redis.database && name.starts_with(&format!("{{{namespace}}}:")) =>
        {
            "a key of `store.namespace`"
        }
        _ => return None,
    };
    Some((what, name))
}

/// The rules of a source with the locations of their tags. `None`: one has an error, which was reported.
fn read_rules(
    fields: &Fields<'_>,
    read: &EventFields,
    diagnostics: &Diagnostics,
) -> Option<(EventRules, Vec<Located<Template>>)> {
    let rules = match (&read.rules, &read.purge, &read.when) {
        (Some(None), Some(Some(purge)), Some(when)) => {
            vec![ParsedRule { purge: purge.clone(), when: when.clone().unwrap_or_default() }]
        }
        (Some(Some(rules)), Some(None), Some(None)) => rules.clone(),
        (Some(Some(_)), Some(_), Some(_)) => {
            let location =
                fields.value_location(if fields.node("purge").is_some() { "purge" } else { "when" });
            diagnostics
                .error(location, "this source has `rules`, too")
                .help("move it into an entry of `rules`, each of which has `purge` and `when`");
            return None;
        }
        (Some(None), Some(None), _) => {
            fields.report_missing("purge");
            return None;
        }
        _ => return None,
    };
    let tags = rules.iter().flat_map(|rule| templates(&rule.purge)).collect();
    let to_rule = |ParsedRule { purge, when }: ParsedRule| EventRule {
        purge: purge.into_iter().map(|rule| rule.value).collect(),
        when,
    };
    Some((EventRules(rules.into_iter().map(to_rule).collect()), tags))
}

fn webhook(
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

fn notify(
    fields: &Fields<'_>,
    channels: Option<Vec<String>>,
    postgres: Option<PostgresSettings>,
) -> Option<EventKind> {
    if postgres.is_none() {
        fields.report_missing("postgres");
    }
    Some(EventKind::Notify { postgres: postgres?, channels: channels? })
}

/// The source's own Redis, or the store's.
fn redis_settings(
    fields: &Fields<'_>,
    kind: &str,
    own: Option<RedisSettings>,
    store: Option<&StoreSettings>,
    diagnostics: &Diagnostics,
) -> Option<RedisSettings> {
    let location = fields.value_location("redis");
    let Some(settings) = own.or(store?.redis.clone()) else {
        diagnostics
            .error(location, format!("a `{kind}` needs a Redis, and `store` has none"))
            .help("add `redis: redis://host:6379` to this source, or to `store`");
        return None;
    };
    if let RedisServers::Cluster(_) | RedisServers::Sentinel { .. } = settings.servers {
        diagnostics
            .error(location, format!("a `{kind}` is read from one server, not from a cluster or by sentinels"))
            .help("add `redis: redis://host:6379` with a host name that always refers to the server that has it");
        return None;
    }
    Some(settings)
}

/// The name is part of keys in Redis, labels and log lines.
const NAME: Reader<String> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a name", diagnostics, |text| match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err((
            format!("`{text}` can't be the name of a source"),
            "write a short word of letters, digits and `-_.:/`, such as `products`".into(),
        )),
    })
});

fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    (1..=100).contains(&text.len()) && text.bytes().all(is_plain)
}
