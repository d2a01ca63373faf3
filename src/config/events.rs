//! `events:`: where changes are announced, and what each announcement purges.

use std::time::Duration;

use super::fields::Fields;
use super::problem::Problems;
use super::route_fields::Placed;
use super::scalars::{list, message_and_help, parsed, positive_duration, text, word};
use super::tree::{Node, Value};
use super::{RedisServers, RedisSettings, Secret, StoreSettings, keys, redis};
use crate::policy::event::{Condition, EventRule};
use crate::policy::json_query::JsonQuery;
use crate::policy::path::is_normal;
use crate::policy::template::Template;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSource {
    /// Among the sources there is no other of this name.
    pub name: String,
    pub kind: EventKind,
    pub rule: EventRule,
    /// `None`: its silence means nothing.
    pub silence: Option<Silence>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    Stream {
        redis: RedisSettings,
        key: String,
        /// The field that holds the JSON; `None`: the fields are the event.
        field: Option<String>,
        from_beginning: bool,
    },
    PubSub {
        redis: RedisSettings,
        channel: String,
    },
    Webhook(Webhook),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub path: String,
    /// Else on the admin listener.
    pub on_proxy: bool,
    /// Any of them will do.
    pub secrets: Vec<Secret>,
    pub window: Duration,
}

/// When a source is silent, and what that means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    pub after: Duration,
    /// Contact alone is not enough.
    pub without_event: bool,
    pub fallback_ttl: Duration,
}

impl EventKind {
    pub fn as_str(&self) -> &'static str {
        match self {
            EventKind::Stream { .. } => "stream",
            EventKind::PubSub { .. } => "pubsub",
            EventKind::Webhook(_) => "webhook",
        }
    }
}

/// A source, and where its tags stand.
pub struct CheckedSource {
    pub source: EventSource,
    pub purge: Vec<Placed<Template>>,
}

/// `None` where something is wrong with any of them. `store`: as far as it could be read.
pub fn read(
    node: Option<&Node>,
    store: Option<&StoreSettings>,
    has_admin: bool,
    problems: &Problems,
) -> Option<Vec<CheckedSource>> {
    let Some(node) = node.filter(|node| !matches!(node.value, Value::Null)) else { return Some(Vec::new()) };
    let mut wrong = false;
    let sources = list(node, "[{stream: shop:changes, purge: [products]}]", problems, |node, problems| {
        let read = source(node, store, has_admin, problems).map(|source| (source, node.place));
        wrong |= read.is_none();
        read
    })?;
    for (at, (checked, place)) in sources.iter().enumerate() {
        let (name, kind) = (&checked.source.name, &checked.source.kind);
        if sources[..at].iter().any(|(other, _)| other.source.name == *name) {
            let help = "give each a `name`; it is what its position and its metrics are kept under";
            problems.error(*place, format!("two event sources are called `{name}`")).help(help);
            wrong = true;
        }
        let is_the_same = |other: &CheckedSource| match (kind, &other.source.kind) {
            (EventKind::Webhook(one), EventKind::Webhook(other)) => {
                one.path == other.path && one.on_proxy == other.on_proxy
            }
            _ => false,
        };
        if sources[..at].iter().any(|(other, _)| is_the_same(other)) {
            problems.error(*place, "two webhooks have the same path").help("give each a path of its own");
            wrong = true;
        }
    }
    (!wrong).then(|| sources.into_iter().map(|(source, _)| source).collect())
}

fn source(
    node: &Node,
    store: Option<&StoreSettings>,
    has_admin: bool,
    problems: &Problems,
) -> Option<CheckedSource> {
    let fields = Fields::open(node, &keys::EVENT, problems)?;
    let name = fields.optional("name", name);
    let purge = fields.required("purge", purge);
    let when = fields.given("when").map(|node| conditions(node, problems));
    let silence = silence(&fields);
    let kind = kind(&fields, store, has_admin, problems)?;
    let default_name = match &kind {
        EventKind::Stream { key, .. } => key,
        EventKind::PubSub { channel, .. } => channel,
        EventKind::Webhook(webhook) => &webhook.path,
    };
    let name = match fields.given("name") {
        Some(_) => name?,
        None => parse_name(default_name).ok().or_else(|| {
            let help = "add `name:`, a short word for metrics and for its position";
            problems.error(fields.place(), "this source needs a `name`").help(help);
            None
        })?,
    };
    let purge = purge?;
    let rule = EventRule {
        purge: purge.iter().map(|template| template.value.clone()).collect(),
        when: when.unwrap_or_else(|| Some(Vec::new()))?,
    };
    Some(CheckedSource { source: EventSource { name, kind, rule, silence: silence? }, purge })
}

/// Which of the three it is, and what belongs to it.
fn kind(
    fields: &Fields<'_>,
    store: Option<&StoreSettings>,
    has_admin: bool,
    problems: &Problems,
) -> Option<EventKind> {
    const KINDS: [&str; 3] = ["stream", "pubsub", "webhook"];
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| fields.given(kind).is_some()).collect();
    let [kind] = given.as_slice() else {
        let wrong = if given.is_empty() { "has no source" } else { "has more than one source" };
        problems
            .error(fields.place(), format!("an event source {wrong}"))
            .help("write one of `stream: KEY`, `pubsub: CHANNEL` and `webhook: /path` in each");
        return None;
    };
    for (key, of) in [
        ("redis", &["stream", "pubsub"][..]),
        ("from", &["stream"]),
        ("field", &["stream"]),
        ("listener", &["webhook"]),
        ("secret", &["webhook"]),
        ("window", &["webhook"]),
    ] {
        if let (Some(given), false) = (fields.given(key), of.contains(kind)) {
            problems
                .error(given.place, format!("`{key}` means nothing for a `{kind}`"))
                .help(format!("leave it out; it belongs to `{}`", of.join("` and `")));
        }
    }
    if *kind == "webhook" {
        return webhook(fields, has_admin, problems).map(EventKind::Webhook);
    }
    let redis = redis_of(fields, kind, store, problems);
    let key = fields.optional(kind, non_empty);
    let from =
        fields.read("from", |node, problems| word(node, &[("now", false), ("beginning", true)], problems));
    let field = fields.optional("field", non_empty);
    let (redis, key) = (redis?, key?);
    Some(match *kind {
        "stream" => EventKind::Stream { redis, key, field, from_beginning: from? },
        _ => EventKind::PubSub { redis, channel: key },
    })
}

/// Its own, or the store's.
fn redis_of(
    fields: &Fields<'_>,
    kind: &str,
    store: Option<&StoreSettings>,
    problems: &Problems,
) -> Option<RedisSettings> {
    let (settings, place) = match fields.given("redis") {
        Some(node) => (redis::read(node, problems)?, node.place),
        None => match store?.redis.clone() {
            Some(redis) => (redis, fields.place()),
            None => {
                problems
                    .error(fields.place(), format!("a `{kind}` needs a Redis, and `store` has none"))
                    .help("add `redis: redis://host:6379` to this source, or to `store`");
                return None;
            }
        },
    };
    if let RedisServers::Cluster(_) | RedisServers::Sentinel { .. } = settings.servers {
        problems
            .error(place, format!("a `{kind}` is read from one server, not from a cluster or by sentinels"))
            .help(
                "add `redis: redis://host:6379` with the server that has it, under a name that moves with it",
            );
        return None;
    }
    Some(settings)
}

fn webhook(fields: &Fields<'_>, has_admin: bool, problems: &Problems) -> Option<Webhook> {
    let path = fields.optional("webhook", |node, problems| {
        parsed(node, "a path such as `/hooks/products`", problems, |path| match path {
            path if path.starts_with('/') && is_normal(path) && !path.contains('{') => Ok(path.to_owned()),
            _ => Err((
                format!("`{path}` is not a path that is always written the same"),
                "write a plain path such as `/hooks/products`".into(),
            )),
        })
    });
    let on_proxy =
        fields.read("listener", |node, problems| word(node, &[("admin", false), ("proxy", true)], problems));
    let secrets = fields.required("secret", secrets);
    let window = fields.read("window", positive_duration);
    let (path, on_proxy) = (path?, on_proxy?);
    let place = fields.given("webhook").map_or(fields.place(), |node| node.place);
    if !on_proxy && !path.starts_with("/hooks/") {
        problems
            .error(place, "on the admin listener the path of a webhook begins with `/hooks/`")
            .help(format!("write `webhook: /hooks{path}`; other paths there are larder's own"));
        return None;
    }
    if !on_proxy && !has_admin {
        problems
            .error(place, "this webhook is for the admin listener, and there is none")
            .help("write `listener: proxy`, or give `admin` an address");
        return None;
    }
    Some(Webhook { path, on_proxy, secrets: secrets?, window: window? })
}

/// One, or a list. None of them stands in an error.
fn secrets(node: &Node, problems: &Problems) -> Option<Vec<Secret>> {
    const SHORTEST: usize = 16;
    let one = |node: &Node, problems: &Problems| {
        parsed(node, "a secret", problems, |secret| match secret.len() {
            SHORTEST.. => Ok(Secret::new(secret)),
            _ => Err((
                format!("a secret has at least {SHORTEST} bytes"),
                "make one by `openssl rand -hex 32`, and give it as `${LARDER_WEBHOOK_SECRET}`".into(),
            )),
        })
    };
    let Value::List(items) = &node.value else { return Some(vec![one(node, problems)?]) };
    if items.is_empty() {
        problems.error(node.place, "without a secret anybody could purge").help("write at least one");
        return None;
    }
    items.iter().map(|item| one(item, problems)).collect()
}

/// `Some(None)`: nothing is said.
fn silence(fields: &Fields<'_>) -> Option<Option<Silence>> {
    let fallback_ttl = fields.read("fallback_ttl", positive_duration);
    let words =
        |node: &Node, problems: &Problems| word(node, &[("contact", false), ("event", true)], problems);
    let without_event = fields.read("silent_without", words);
    if fields.given("stale_after").is_none() {
        return Some(None);
    }
    let after = fields.optional("stale_after", positive_duration)?;
    Some(Some(Silence { after, without_event: without_event?, fallback_ttl: fallback_ttl? }))
}

fn purge(node: &Node, problems: &Problems) -> Option<Vec<Placed<Template>>> {
    const HELP: &str = "a tag is text with values of the event: `product:{event.json:/id}`";
    let templates = list(node, "[products, \"product:{event.json:/id}\"]", problems, |node, problems| {
        let parse = |text: &str| match Template::parse(text) {
            Ok(template) if template.reads_nothing_but_an_event() => Ok(template),
            Ok(_) => Err((format!("`{text}`: an event has no request and no response"), HELP.to_owned())),
            Err(wrong) => Err(message_and_help(wrong, HELP)),
        };
        parsed(node, "a tag", problems, parse).map(|value| Placed { value, place: node.place })
    })?;
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        problems.error(node.place, "events that purge nothing").help(HELP);
        return None;
    }
    Some(templates)
}

fn conditions(node: &Node, problems: &Problems) -> Option<Vec<Condition>> {
    let Value::Mapping(entries) = &node.value else {
        problems
            .error(node.place, format!("`when` must be a mapping, not {}", node.kind()))
            .help("write values of the event: `{/type: [updated, deleted]}`");
        return None;
    };
    let read = entries.iter().map(|(key, value)| {
        const HELP: &str = "write where the value stands: `/type` or `$.type`";
        let query = parsed(key, "where a value stands, `/type`", problems, |text| {
            JsonQuery::parse(text).map_err(|wrong| message_and_help(wrong, HELP))
        });
        let text = |node: &Node| text(node, "a value", problems).map(str::to_owned);
        let one_of = match &value.value {
            Value::List(items) => items.iter().map(text).collect(),
            _ => text(value).map(|text| vec![text]),
        };
        Some(Condition { value: query?, one_of: one_of? })
    });
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

fn name(node: &Node, problems: &Problems) -> Option<String> {
    parsed(node, "a name", problems, |text| {
        parse_name(text).map_err(|()| {
            let help = "write a short word of letters, digits and `-_.:/`, such as `products`".to_owned();
            (format!("`{text}` can't be the name of a source"), help)
        })
    })
}

/// It stands in keys, labels and log lines.
fn parse_name(text: &str) -> Result<String, ()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    match (1..=100).contains(&text.len()) && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(()),
    }
}

fn non_empty(node: &Node, problems: &Problems) -> Option<String> {
    parsed(node, "a name", problems, |text| match text {
        "" => Err(("this is empty".into(), "write the name that the events come under".into())),
        text => Ok(text.to_owned()),
    })
}
