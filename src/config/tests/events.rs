use std::time::Duration;

use super::{check_wrong, right, with, wrong};
use crate::config::EventKind;
use crate::config::events::SilencePolicy;

const ROUTES: &str = "routes: [{path: '/p/{id}', ttl: none, tags: ['product:{id}']}]\n";

fn source(source: &str) -> String {
    format!("{ROUTES}events: [{{{source}}}]\n")
}

#[test]
fn each_kind_of_source_is_read_with_its_defaults() {
    let stream =
        "stream: 'shop:changes', redis: 'redis://events:6380/2', purge: ['product:{event.json:/id}']";
    let config = right(&source(stream));
    let [event] = config.events.as_slice() else { panic!("{:?}", config.events) };
    assert_eq!((event.name.as_str(), event.silence), ("shop:changes", None));
    let EventKind::Stream { redis, key, field, from_beginning } = &event.kind else { panic!("{event:?}") };
    assert_eq!((redis.database, key.as_str(), field, from_beginning), (2, "shop:changes", &None, &false));

    let store = "store: {redis: 'redis://store'}\n";
    let pubsub = "name: p, pubsub: changes, purge: [all], stale_after: 10m, silent_without: event";
    let config = right(&format!("{store}{}", source(pubsub)));
    let EventKind::PubSub { redis, .. } = &config.events[0].kind else { panic!("{config:?}") };
    assert_eq!(Some(redis), config.store.redis.as_ref());
    let silence = SilencePolicy {
        after: Duration::from_secs(600),
        without_event: true,
        fallback_ttl: Duration::from_secs(60),
    };
    assert_eq!(config.events[0].silence, Some(silence));

    let notify =
        "name: p, notify: [a, b], postgres: 'postgres://u:hunter2@db/shop', purge: ['{event.channel}']";
    let config = right(&source(notify));
    let EventKind::Notify { postgres, channels } = &config.events[0].kind else { panic!("{config:?}") };
    assert_eq!((postgres.database.as_str(), channels.len()), ("shop", 2));
    assert!(!format!("{config:?}").contains("hunter2"), "a password shows");

    let webhook =
        "webhook: /hooks/x, secret: 0123456789abcdef, purge: [all], when: {/type: [a, 1], $.b: true}";
    let config = right(&source(webhook));
    let EventKind::Webhook(webhook) = &config.events[0].kind else { panic!("{config:?}") };
    assert_eq!(
        (webhook.on_proxy, webhook.window, webhook.secrets.len()),
        (false, Duration::from_secs(300), 1)
    );
    assert_eq!(config.events[0].rules.0[0].when.len(), 2);
    assert!(!format!("{config:?}").contains("0123456789abcdef"), "a secret shows");
}

#[test]
fn what_is_wrong_with_a_source_is_said_with_the_fix() {
    let hook = "webhook: /hooks/x, secret: 0123456789abcdef";
    let redis = "redis: 'redis://a'";
    for (events, parts) in [
        (format!("{redis}, purge: [a]"), &["has no source", "`stream: KEY`"][..]),
        (format!("stream: a, pubsub: b, {redis}, purge: [a]"), &["more than one source"]),
        ("stream: a, purge: [a]".into(), &["needs a Redis", "add `redis:"]),
        ("stream: a, redis: 'redis-cluster://a', purge: [a]".into(), &["from one server"]),
        (format!("stream: a, {redis}"), &["has no `purge`"]),
        (format!("stream: a, {redis}, purge: []"), &["purges nothing"]),
        (
            format!("stream: a, {redis}, purge: ['x:{{request.json:/id}}']"),
            &["no request", "{event.json:/id}"],
        ),
        (format!("stream: a, {redis}, purge: ['x:{{event.json:id}}']"), &["write `/id` or `$.id`"]),
        (
            format!("stream: a, {redis}, purge: ['{{event.channel}}']"),
            &["events of a `stream` have no channel", "{event.json:/id}"],
        ),
        (format!("stream: a, {redis}, purge: ['x:{{event.id}}']"), &["not a source of values"]),
        (format!("stream: a, {redis}, purge: [a], secret: 0123456789abcdef"), &["`secret` has no effect"]),
        ("notify: a, purge: [a]".into(), &["has no `postgres`"]),
        ("notify: [], postgres: 'postgres://u@db', purge: [a]".into(), &["no channel"]),
        ("notify: [a, a], postgres: 'postgres://u@db', purge: [a]".into(), &["occurs twice"]),
        (format!("notify: {}, postgres: 'postgres://u@db', purge: [a]", "a".repeat(64)), &["1 to 63 bytes"]),
        (
            format!("notify: a, {redis}, postgres: 'postgres://u@db', purge: [a]"),
            &["`redis` has no effect on a `notify`"],
        ),
        (format!("stream: a, {redis}, postgres: 'postgres://u@db', purge: [a]"), &["belongs to `notify`"]),
        (format!("{hook}, purge: [a], from: now"), &["`from` has no effect", "belongs to `stream`"]),
        ("webhook: /hooks/x, purge: [a]".into(), &["has no `secret`"]),
        ("webhook: /hooks/x, secret: short, purge: [a]".into(), &["at least 16 bytes", "openssl"]),
        ("webhook: /x, secret: 0123456789abcdef, purge: [a]".into(), &["must begin with `/hooks/`"]),
        ("webhook: '/hooks/{id}', secret: 0123456789abcdef, purge: [a]".into(), &["not a normalized path"]),
        (format!("{hook}, purge: [a], when: [a]"), &["must be a mapping"]),
        (format!("{hook}, purge: [a], when: {{type: a}}"), &["write `/type` or `$.type`"]),
        (
            format!("{hook}, purge: [a], rules: [{{purge: [a]}}]"),
            &["has `rules`, too", "into an entry of `rules`"],
        ),
        (format!("{hook}, when: {{/a: b}}, rules: [{{purge: [a]}}]"), &["has `rules`, too"]),
        (format!("{hook}, rules: []"), &["purges nothing", "write `[{when:"]),
        (format!("{hook}, rules: [{{when: {{/a: b}}}}]"), &["an entry of `rules` has no `purge`"]),
        (format!("{hook}, purge: [a], scheme: github, window: 1m"), &["signs no time"]),
        (format!("{hook}-, purge: [a], scheme: standard"), &["`whsec_` and the base64"]),
        (
            "webhook: /hooks/x, secret: whsec_QUFBQUFBQUE=, purge: [a], scheme: standard".into(),
            &["at least 16 bytes"],
        ),
        (
            format!("stream: a, {redis}, purge: [a], scheme: github"),
            &["`scheme` has no effect", "to `webhook`"],
        ),
        (format!("{hook}, purge: [a], scheme: gitlab"), &["`gitlab`", "github"]),
        (format!("{hook}, purge: [a], name: 'a b'"), &["can't be the name"]),
        (format!("stream: 'a b', {redis}, purge: [a]"), &["needs a `name`"]),
    ] {
        let routes = "routes: [{path: /a, tags: [a]}]\n";
        check_wrong(&format!("{routes}events: [{{{events}}}]\n"), parts);
    }
    check_wrong(&format!("{ROUTES}admin: off\nevents: [{{{hook}, purge: [a]}}]\n"), &["which is off"]);
    let twice = format!("{ROUTES}events: [{{{hook}, purge: [a]}}, {{{hook}, name: b, purge: [a]}}]\n");
    check_wrong(&twice, &["the same path"]);
    let twice =
        format!("{ROUTES}events: [{{stream: a, {redis}, purge: [a]}}, {{stream: a, {redis}, purge: [b]}}]\n");
    check_wrong(&twice, &["two event sources are called `a`"]);
    let store = "store: {redis: 'redis://localhost:6379/1', namespace: shop, publish: purges}\n";
    for (source, parts) in [
        ("pubsub: purges", &["`store.publish`", "name the channel to which the API"][..]),
        ("pubsub: purges, redis: 'redis://127.0.0.1'", &["`store.publish`"]),
        ("name: p, pubsub: 'p*s'", &["`store.publish`", "name the channel to which the API"]),
        ("pubsub: 'shop:wake'", &["wakes the replicas", "would cause the next one"]),
        ("pubsub: 'other:wake'", &["`other:wake` wakes the replicas", "`publish: other:purges`"]),
        ("pubsub: 'other:wake', redis: 'redis://other'", &["do not say what was purged"]),
        ("name: j, stream: '{shop}:journal'", &["a key of `store.namespace`", "name the stream"]),
    ] {
        check_wrong(&format!("{ROUTES}{store}events: [{{{source}, purge: [a]}}]\n"), parts);
    }
    for source in [
        "pubsub: other",
        "pubsub: purges, redis: 'redis://other'",
        "pubsub: 'wake'",
        "pubsub: 'wake:up'",
        "name: j, stream: '{shop}:journal', redis: 'redis://localhost:6379/0'",
    ] {
        right(&format!("{ROUTES}{store}events: [{{{source}, purge: ['product:1']}}]\n"));
    }
    check_wrong("store: {redis: 'redis://a', publish: 'larder:wake'}", &["a channel of its own"]);
    check_wrong("store: {redis: 'redis://a', publish: 'other:wake'}", &["a channel of its own"]);
    check_wrong("store: {publish: x}", &["needs Redis", "GET /events"]);
    check_wrong("store: {compress: {}}", &["`redis` is not set", "compress: [gzip]"]);
    check_wrong("routes: [{path: /a, tags: ['a:{event.json:/id}']}]", &["a route has no event"]);
    check_wrong("routes: [{path: /a, purges: ['a:{event.json:/id}']}]", &["{request.json:/id}"]);
}

#[test]
fn channels_of_announcements_are_listed_and_not_read_again() {
    let by_tag = "{channel: 'guilds:{id}', tag: 'guild:{id}'}";
    let listed = format!("store: {{redis: 'redis://localhost:6379/1', publish: [purges, {by_tag}]}}\n");
    for source in ["pubsub: purges", "pubsub: 'guilds:7'", "name: g, pubsub: 'g*'"] {
        let events = format!("events: [{{{source}, purge: [a]}}]\n");
        check_wrong(&format!("{ROUTES}{listed}{events}"), &["`store.publish`", "would cause the next one"]);
    }
    for source in ["pubsub: guilds", "pubsub: 'guilds:'", "name: g, pubsub: 'shop*'"] {
        right(&format!("{ROUTES}{listed}events: [{{{source}, purge: ['product:1']}}]\n"));
    }
    for (publish, parts) in [
        ("[]", &["no channel", "leave `publish` out"][..]),
        (by_tag, &["not a mapping", "write a list"]),
        ("[a, 'other:wake']", &["wakes replicas", "a channel of its own"]),
        ("[\"a\\nb\"]", &["no control characters"]),
        ("[{channel: 'g:{id}:wake', tag: 'guild:{id}'}]", &["wakes replicas", "another end"]),
        ("[{channel: 'g {id}', tag: 'guild:{id}'}]", &["white space"]),
        ("[{channel: 'g:{id}', tag: 'guild:{guildId}'}]", &["no `{id}`", "values of the tag in `channel`"]),
        ("[{channel: 'g:{id}'}]", &["`tag`"]),
    ] {
        check_wrong(&format!("store: {{redis: 'redis://a', publish: {publish}}}"), parts);
    }
    check_wrong(
        &format!("store: {{redis: 'redis://a', publish: [{}]}}", "a, ".repeat(101)),
        &["more than 100 channels"],
    );
}

#[test]
fn a_ttl_none_needs_something_that_purges_it() {
    let event =
        "events: [{webhook: /hooks/x, secret: 0123456789abcdef, purge: ['product:{event.json:/id}']}]\n";
    let write = "{path: '/w/{id}', purges: ['product:{id}']}";
    for (right_one, file) in [
        (false, "routes: [{path: /a, ttl: none}]".to_owned()),
        (false, "routes: [{path: /a, ttl: none, tags: [a], purges: []}]".into()),
        (
            false,
            "routes: [{path: '/p/{id}', ttl: none, tags: ['item:{id}'], purges: []}]\n".to_owned() + event,
        ),
        (false, "defaults: {ttl: none}\nroutes: [{path: /a}]".into()),
        (true, "routes: [{path: /a, ttl: none, purged_by: admin}]".into()),
        (true, "defaults: {ttl: none, purged_by: admin}\nroutes: [{path: /a}]".into()),
        (true, "routes: [{path: /a, ttl: none, tags: [a]}]".into()),
        (true, "routes: [{path: /a, ttl: none, mode: off}]".into()),
        (
            true,
            format!(
                "routes: [{{path: '/p/{{id}}', ttl: none, tags: ['product:{{id}}'], purges: []}}, {write}]"
            ),
        ),
        (
            true,
            "routes: [{path: '/p/{id}', ttl: none, tags: ['product:{id}'], purges: []}]\n".to_owned() + event,
        ),
    ] {
        if right_one {
            right(&file);
            continue;
        }
        let found = wrong(&with(&file));
        assert!(found.len() == 1 && found[0].contains("purged_by: admin"), "{file}: {found:#?}");
    }
}

#[test]
fn an_unknown_event_tag_warns_where_a_known_one_is_near() {
    let file = |tag: &str| {
        format!("{ROUTES}events: [{{webhook: /hooks/x, secret: 0123456789abcdef, purge: ['{tag}']}}]\n")
    };
    let warnings = right(&file("prodcut:{event.json:/id}")).warnings;
    assert!(
        matches!(warnings.as_slice(), [one] if one.contains("did you mean `product:{…}`")),
        "{warnings:?}"
    );
    assert_eq!(right(&file("something-else")).warnings, [""; 0]);
}

#[test]
fn the_values_of_a_condition_are_those_of_json() {
    let source = |values: &str| {
        let hook = "webhook: /hooks/a, secret: 0123456789abcdef, purge: [a]";
        format!("routes: [{{path: /a, tags: [a]}}]\nevents: [{{{hook}, when: {{/v: {values}}}}}]\n")
    };
    let when = format!("{:?}", right(&source("[yes, 0x10, '1.0']")).events[0].rules.0[0].when);
    for value in ["Bool(true)", "Number(16)", "String(\"1.0\")"] {
        assert!(when.contains(value), "{when} has no {value}");
    }
    check_wrong(&source(".inf"), &["JSON has no number `.inf`", "if it is text"]);
    check_wrong(&source("~"), &["a value is missing"]);
}
