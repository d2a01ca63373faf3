//! The keys of `store`: where responses are remembered, and how far that is trusted.

use super::{Kind, NONE, Section, key, optional, required};

pub static STORE: Section = Section {
    name: "store",
    keys: &[
        optional(
            "redis",
            Kind::OneOf(&[Kind::Text, NONE, Kind::Mapping(&REDIS)]),
            "Shares responses between replicas: a URL (`redis://`, `redis+unix://`, `redis-sentinel://`, `redis-cluster://`; `rediss…` with TLS), or a mapping. Without it, or \
             with `none`, responses live in this process.",
        ),
        key(
            "namespace",
            Kind::Text,
            "larder",
            "What the names of all keys in Redis begin with: one for each environment.",
        ),
        key(
            "memory",
            Kind::Size,
            "256MiB",
            "The first tier, in this process; without `redis` the whole store. `0`: no first tier.",
        ),
        key(
            "max_lag",
            Kind::Duration,
            "1s",
            "How long a replica may go on serving what another replica has purged, when things fail. `0s`: not at all; \
             each hit then asks Redis first.",
        ),
        key(
            "on_store_loss",
            Kind::OneOf(&[Kind::Word(&["bypass"]), Kind::Mapping(&ON_STORE_LOSS)]),
            "bypass",
            "When Redis is away: `bypass` asks the upstream, `serve: 30s` goes on from the first tier for so long.",
        ),
        key("timeout", Kind::Duration, "50ms", "For every call to the store."),
        optional(
            "publish",
            Kind::Text,
            "A channel of `redis` on which every purge is announced, as JSON, for whoever wants to know.",
        ),
        optional(
            "replica",
            Kind::Text,
            "What this larder is called where several are named: in the journal of purges, and by whoever waits for one. \
             Each must have its own. Without it: the host's name and a random suffix.",
        ),
    ],
};

pub static REDIS: Section = Section {
    name: "redis",
    keys: &[
        required("url", Kind::Text, "As the short form: `redis://host:port/0` and the like."),
        optional("username", Kind::Text, "An ACL user, where the URL names none."),
        optional("password", Kind::Text, "A password, where the URL has none: best as `${REDIS_PASSWORD}`."),
        optional("tls", Kind::Mapping(&TLS), "Files for a TLS connection (`rediss://`)."),
    ],
};

pub static TLS: Section = Section {
    name: "tls",
    keys: &[
        optional("ca", Kind::Text, "PEM file with the authorities to trust instead of the system's."),
        optional("cert", Kind::Text, "PEM file with the client's certificate."),
        optional("key", Kind::Text, "PEM file with the key of `cert`."),
    ],
};

pub static ON_STORE_LOSS: Section = Section {
    name: "on_store_loss",
    keys: &[required(
        "serve",
        Kind::Duration,
        "How long the first tier goes on after the last word from Redis.",
    )],
};
