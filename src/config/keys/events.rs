//! The keys of sources of change events.

use super::{Kind, REDIS, Section, key, optional, required};

pub static EVENT: Section = Section {
    name: "an event source",
    keys: &[
        optional(
            "name",
            Kind::Text,
            "What metrics and `/healthz` call it, and what its position is kept under. Default: the stream, the channel or \
             the path.",
        ),
        optional(
            "stream",
            Kind::Text,
            "The key of a Redis stream. The position in it is kept in `store.redis`, so that no event is lost.",
        ),
        optional(
            "pubsub",
            Kind::Text,
            "A Redis channel. It keeps nothing: whenever events may have been missed, all that they could name is purged.",
        ),
        optional(
            "webhook",
            Kind::Matching("^/"),
            "A path at which signed events are posted: `Larder-Timestamp` and `Larder-Signature`.",
        ),
        required(
            "purge",
            Kind::ListOf(&Kind::Text),
            "The tags that an event purges, with `{event.json:/id}` or `{event.json:$.items[*].id}` of its JSON. What an \
             event lacks is widened to the paths of all routes that have such tags, and to responses whose own fields \
             name tags.",
        ),
        optional(
            "when",
            Kind::Names(&Kind::OneOf(&[Kind::Text, Kind::ListOf(&Kind::Text)])),
            "Values of the event's JSON, each one or one of a list: `{/type: [updated, deleted]}`. An event with another \
             value there purges nothing; one without any does.",
        ),
        optional(
            "redis",
            Kind::OneOf(&[Kind::Text, Kind::Mapping(&REDIS)]),
            "Where the stream or the channel is. Default: `store.redis`.",
        ),
        key(
            "from",
            Kind::Word(&["now", "beginning"]),
            "now",
            "Where to begin in a stream that was never read before.",
        ),
        optional(
            "field",
            Kind::Text,
            "The field of a stream's entries that holds the JSON. Default: an entry's fields are the values of one object.",
        ),
        key(
            "listener",
            Kind::Word(&["admin", "proxy"]),
            "admin",
            "Where a webhook is posted: at the admin listener, or at `listen`, where no request for its path reaches the \
             upstream then.",
        ),
        optional(
            "secret",
            Kind::OneOf(&[Kind::Text, Kind::ListOf(&Kind::Text)]),
            "What a webhook is signed with, best as `${LARDER_WEBHOOK_SECRET}`; of a list, any, so that it can be changed.",
        ),
        key(
            "window",
            Kind::Duration,
            "5m",
            "How far a webhook's timestamp may be from now. Signatures are remembered for as long, and taken once.",
        ),
        optional(
            "stale_after",
            Kind::Duration,
            "After so long without a word from the source, `fallback_ttl` holds for what its events would purge.",
        ),
        key(
            "silent_without",
            Kind::Word(&["contact", "event"]),
            "contact",
            "What a word is: `contact`, an answer from its Redis; or an `event`, for sources that always have some. For a \
             webhook both are an event.",
        ),
        key(
            "fallback_ttl",
            Kind::Duration,
            "1m",
            "While the source is silent, nothing older than this is a hit on the routes whose tags it purges.",
        ),
    ],
};
