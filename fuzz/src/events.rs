//! Change events: whatever one says, it purges what it could mean, and nothing only where it is clearly about something else.

use std::sync::LazyLock;

use larder::config::Config;
use larder::policy::content::Content;
use larder::policy::event::{EventOutcome, EventRules, EventTargets, MAX_EVENT_BYTES};
use larder::policy::purge_targets::PurgeTargets;
use larder::policy::routes::Routes;
use larder::policy::tags::{LISTED_TAG, MAX_TAG_BYTES, parse_list};
use larder::purge::Target;

/// A value by itself, within a tag, of many, beside another, anywhere; and what is always the same.
const SOURCES: &str = "upstream: http://a
store: {redis: 'redis://a'}
routes:
  - {path: '/a/{a}', ttl: 1m, tags: ['a:{a}', 'd/{a}']}
events:
  - {name: '1', pubsub: a, purge: ['{event.json:/a}']}
  - {name: '2', pubsub: a, purge: ['a:{event.json:/a}']}
  - {name: '3', pubsub: a, purge: ['b:{event.json:$[*].a}']}
  - {name: '4', pubsub: a, purge: ['c:{event.json:/a}:{event.json:/b}']}
  - {name: '5', pubsub: a, purge: ['d/{event.json:$..a}']}
  - {name: '6', pubsub: a, purge: [e]}
  - {name: '7', pubsub: a, purge: [e], when: {/a: ['1', a]}}
";

static RULES: LazyLock<(Vec<EventRules>, Routes)> = LazyLock::new(|| {
    let config = Config::parse(SOURCES, "proxy.yaml", &|_| None, &Default::default()).expect("a right file");
    (config.events.iter().map(|source| source.rules.clone()).collect(), Routes::new(&config.routes))
});

/// The first byte says what is done with the rest: as it is; many times; deep in lists, in objects, in a value; as fields
/// with values; as a form.
pub fn events(data: &[u8]) {
    let [how, rest @ ..] = data else { return };
    let times = usize::from(how / 8);
    let within = |before: &str, after: &str| {
        [before.repeat(times).as_bytes(), rest, after.repeat(times).as_bytes()].concat()
    };
    let json = |text: &[u8]| Content::parse_event(text, MAX_EVENT_BYTES).ok();
    let event = match how % 8 {
        0 => json(&rest.repeat(1 + times)),
        1 => json(&within("[", "]")),
        2 => json(&within("{\"a\":", "}")),
        3 => json(&[b"{\"a\":\"", &rest.repeat(1 + times)[..], b"\"}"].concat()),
        // The largest event that is allowed, or one byte more; takes long.
        4 if times > 29 => {
            json(&[&vec![b' '; MAX_EVENT_BYTES.saturating_sub(rest.len()) + times % 2], rest].concat())
        }
        5 => {
            let fields = rest.split(|byte| *byte == b'&').map(|field| {
                let mut parts = field.splitn(2, |byte| *byte == b'=');
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            });
            Content::from_event_fields(fields).ok()
        }
        6 => Some(Content::Form(String::from_utf8_lossy(rest).into_owned())),
        _ => json(rest),
    };
    let (rules, routes) = &*RULES;
    for rule in rules {
        holds(rule, routes, event.as_ref());
    }
}

fn holds(rules: &EventRules, routes: &Routes, event: Option<&Content>) {
    let (mut found, mut all) = (EventTargets::default(), PurgeTargets::default());
    let meaning = rules.apply(routes, event, &mut found);
    rules.add_all_reachable(routes, &mut all);
    let (is_relayed, all) = (!found.relayed.is_empty(), all.to_vec());
    assert!(!is_relayed || found.targets.is_empty());
    let targets = if is_relayed { found.relayed } else { found.targets }.to_vec();
    match meaning {
        EventOutcome::Ignored => {
            let is_conditional = rules.0.iter().all(|rule| !rule.when.is_empty());
            let is_announced = matches!(event, Some(Content::Json(event))
                if event.get("relayed").is_some() || event.get("record").is_some());
            assert!(targets.is_empty() && (is_conditional || is_announced))
        }
        EventOutcome::Named => {
            assert!(!targets.is_empty());
            for target in &targets {
                let Target::Tag(tag) = target else { panic!("an event names tags: {target}") };
                assert!(tag != LISTED_TAG && tag.len() <= MAX_TAG_BYTES && parse_list(tag) == [tag.as_str()]);
                assert!(
                    rules.0.iter().flat_map(|rule| &rule.purge).any(|entry| entry.template.may_reach(tag)),
                    "{tag}"
                );
            }
        }
        EventOutcome::Malformed => {
            assert!(!all.is_empty() && all.iter().all(|target| targets.contains(target)), "{targets:?}");
        }
        EventOutcome::Widened => {
            let is_route =
                |target: &&Target| matches!(target, Target::Tag(tag) if tag.starts_with("(route) "));
            let mut routes = all.iter().filter(is_route).peekable();
            let listed = Target::tag(LISTED_TAG);
            assert!(routes.peek().is_some() || targets.contains(&listed), "{targets:?}");
            assert!(routes.all(|route| targets.contains(route)), "{targets:?}");
        }
    }
    assert_eq!(event.is_none(), meaning == EventOutcome::Malformed);
}
