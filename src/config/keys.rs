//! Every key of `proxy.yaml`: its kind, its built-in default, what it means. Reading, suggestions and the JSON
//! schema all come from this one table, so that they can't drift apart.

mod background;
mod edge;
mod events;
mod store;

pub use background::{BACKGROUND, WARM};
pub use edge::{ACCESS, CERTIFICATE, LISTENER, LOG, TRACING};
pub use events::EVENT;
pub use store::{ON_STORE_LOSS, REDIS, STORE, TLS};

/// A mapping in the file.
#[derive(Debug)]
pub struct Section {
    /// As an error names it.
    pub name: &'static str,
    pub keys: &'static [Key],
}

#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be written in the file.
    pub default: Option<&'static str>,
    pub required: bool,
    pub doc: &'static str,
}

/// What may be written, as far as an editor can check it.
#[derive(Debug)]
pub enum Kind {
    Duration,
    Size,
    Boolean,
    Count,
    /// A number from 0 to 1.
    Fraction,
    Text,
    /// Text that matches a regular expression.
    Matching(&'static str),
    Word(&'static [&'static str]),
    ListOf(&'static Kind),
    /// Names, each with a value or nothing.
    Names(&'static Kind),
    /// HTTP status codes, each with a value.
    Statuses(&'static Kind),
    Mapping(&'static Section),
    OneOf(&'static [Kind]),
}

impl Section {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default: Some(default), required: false, doc }
}

/// A key that stands for nothing when it is left out.
const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: None, required: false, doc }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: None, required: true, doc }
}

/// The words of a word-or-something kind: `off`, `none`.
const OFF: Kind = Kind::Word(&["off"]);
const NONE: Kind = Kind::Word(&["none"]);
/// `host:port` or `unix:/path`.
const ADDRESS: Kind = Kind::Matching(":[0-9]+$|^unix:/");
const CREDENTIAL: Kind = Kind::Matching("^(none|authorization|cookie\\..+|header\\..+)$");
const TOKEN: Kind = Kind::OneOf(&[NONE, Kind::Text]);

pub static ROOT: Section = Section {
    name: "proxy.yaml",
    keys: &[
        key(
            "listen",
            Kind::OneOf(&[
                ADDRESS,
                Kind::Mapping(&LISTENER),
                Kind::ListOf(&Kind::OneOf(&[ADDRESS, Kind::Mapping(&LISTENER)])),
            ]),
            "127.0.0.1:8080",
            "Where clients connect: an address and port, `unix:/path`, a mapping with `address` and more, or a list of \
             them.",
        ),
        required(
            "upstream",
            Kind::OneOf(&[Kind::Text, Kind::Mapping(&UPSTREAM)]),
            "The API behind larder: its URL (`http://`, `https://`, `unix:/path`), or a mapping with `url` and more.",
        ),
        key("store", Kind::Mapping(&STORE), "{}", "Where responses are remembered."),
        key(
            "admin",
            Kind::OneOf(&[OFF, Kind::Mapping(&ADMIN)]),
            "{}",
            "The listener for operators. /healthz, /readyz and /metrics are always open; the rest needs the token, \
             or loopback where there is none. `off`: no such listener.",
        ),
        key(
            "purge",
            Kind::Mapping(&PURGE),
            "{}",
            "Who may send PURGE, and what a write purges that no route matches.",
        ),
        key(
            "trusted_proxies",
            Kind::ListOf(&Kind::Text),
            "[]",
            "Networks whose `X-Forwarded-*` and `Forwarded` are believed; from others they are replaced.",
        ),
        key(
            "credentials",
            Kind::ListOf(&Kind::Text),
            "[Authorization, Cookie, X-API-Key]",
            "Request fields that identify a caller. A request with one of them neither reads nor fills a shared \
             response, unless its route says `per` or `shared`, or the response says `public` or `s-maxage`.",
        ),
        key(
            "request_id",
            Kind::Word(&["forward", "respond", "off"]),
            "forward",
            "`X-Request-Id`: the client's, or a new one. `forward`: the upstream gets it; `respond`: and so does the client, \
             with the response; `off`: a field like any other.",
        ),
        key("limits", Kind::Mapping(&LIMITS), "{}", "Bounds on what clients may hold."),
        key("log", Kind::Mapping(&LOG), "{}", "What is logged, and how."),
        key(
            "tracing",
            Kind::OneOf(&[OFF, Kind::Mapping(&TRACING)]),
            "off",
            "Spans of requests, for an OpenTelemetry collector. Only in a build with the feature `otel`.",
        ),
        key(
            "warm",
            Kind::ListOf(&Kind::Mapping(&WARM)),
            "[]",
            "What is asked for before clients ask: at the start, and every so often. See docs/warming.md.",
        ),
        key(
            "background",
            Kind::Mapping(&BACKGROUND),
            "{}",
            "How larder sends the requests that no client has sent: to warm, to refresh, after a purge.",
        ),
        key(
            "defaults",
            Kind::Mapping(&DEFAULTS),
            "{}",
            "Any field of a route: for the routes that don't say it.",
        ),
        key(
            "routes",
            Kind::ListOf(&Kind::Mapping(&ROUTE)),
            "[]",
            "What is cached, for how long, and what purges it. A path that no route matches passes uncached.",
        ),
        key(
            "events",
            Kind::ListOf(&Kind::Mapping(&EVENT)),
            "[]",
            "Where changes are announced that do not pass here: each announcement purges tags.",
        ),
    ],
};

pub static UPSTREAM: Section = Section {
    name: "upstream",
    keys: &[
        required("url", Kind::Text, "`http://host:port`, `https://host:port` or `unix:/path`."),
        key("connect_timeout", Kind::Duration, "2s", "For a connection, with TLS where it is used."),
        key(
            "response_timeout",
            Kind::Duration,
            "30s",
            "From the end of the request to the response's header section, and between two parts of its body.",
        ),
        key(
            "idle_timeout",
            Kind::Duration,
            "4s",
            "How long an unused connection is kept: less than the upstream keeps it (Node 5 s), so that no write meets one that was just closed.",
        ),
        key(
            "max_connections",
            Kind::Count,
            "512",
            "At most so many connections at once; further requests wait.",
        ),
        key(
            "queue_timeout",
            Kind::Duration,
            "2s",
            "How long a request waits for one of them, in the order of arrival; then it is answered 503.",
        ),
        key(
            "breaker",
            Kind::OneOf(&[OFF, Kind::Count]),
            "20",
            "After so many failures in a row to connect or to answer in time, the upstream is asked twice a second \
             and the other requests are answered 503, until it answers. `off`: it is always asked.",
        ),
        key("http2", Kind::Boolean, "false", "HTTP/2: by prior knowledge over http, negotiated over https."),
        key(
            "host",
            Kind::OneOf(&[Kind::Word(&["preserve"]), Kind::Text]),
            "preserve",
            "The `Host` that the upstream sees: `preserve` the client's own, or this name.",
        ),
    ],
};

pub static ADMIN: Section = Section {
    name: "admin",
    keys: &[
        key("listen", ADDRESS, "127.0.0.1:9090", "An address and port, or `unix:/path`."),
        key("token", TOKEN, "none", "What `Authorization: Bearer …` must carry; `none`: loopback only."),
    ],
};

pub static PURGE: Section = Section {
    name: "purge",
    keys: &[
        key(
            "allow",
            Kind::ListOf(&Kind::Text),
            "[127.0.0.0/8, \"::1\"]",
            "Networks from which PURGE is taken on the listener. With a token both must pass.",
        ),
        key("token", TOKEN, "none", "What `Authorization: Bearer …` of a PURGE must carry."),
        key(
            "wait_timeout",
            Kind::Duration,
            "5s",
            "How long a purge with `Purge-Wait: applied`, or `?wait=applied`, waits until every replica knows it, \
             where it does not say.",
        ),
        key(
            "parents",
            Kind::Boolean,
            "true",
            "Whether a write that no route matches also purges the cached paths it lies under.",
        ),
        key(
            "reprime",
            Kind::OneOf(&[OFF, Kind::Count]),
            "off",
            "After a purge, so many of the responses that it made invalid are fetched again: those that this replica \
             gave to clients most often.",
        ),
    ],
};

pub static LIMITS: Section = Section {
    name: "limits",
    keys: &[
        key("connections", Kind::Count, "10000", "Client connections at once."),
        key("header_bytes", Kind::Size, "32KiB", "Of a request's header section."),
        key("header_count", Kind::Count, "100", "Fields of a request's header section."),
        key(
            "header_timeout",
            Kind::Duration,
            "10s",
            "For a request's header section to arrive, from its first byte; for the first one, from the connection's.",
        ),
        key(
            "body_timeout",
            Kind::Duration,
            "30s",
            "Between two parts of a request's content, and for a client that takes nothing of a response.",
        ),
        key("idle_timeout", Kind::Duration, "60s", "How long a connection without a request is kept."),
        key(
            "tunnel_idle",
            Kind::Duration,
            "1h",
            "How long a connection that was upgraded (a WebSocket, say) is kept without a byte from either side.",
        ),
        key("drain", Kind::Duration, "30s", "How long running requests may go on after SIGTERM."),
    ],
};

macro_rules! section_of_a_route {
    ($name:literal, $($own:expr),*) => {
        Section {
            name: $name,
            keys: &[
                $($own,)*
                key("mode", Kind::OneOf(&[Kind::Word(&["on", "observe", "off"]), Kind::Boolean]), "on",
                    "`observe`: forward everything, and say in `Cache-Status` what would have happened."),
                key("ttl", Kind::OneOf(&[Kind::Duration, Kind::Word(&["upstream", "none", "never"])]), "upstream",
                    "The lifetime where the response gives none. `upstream`: only what the response says; `none`: until \
                     purged (forgotten after 7d); `never`: GETs pass. A route with `purges` and neither `ttl` nor `tags` \
                     of its own has `never`."),
                key("ttl_from", Kind::OneOf(&[NONE, Kind::Mapping(&TTL_FROM)]), "none",
                    "A time that the response names, such as the end of a signed URL in it: it is never kept longer, nor \
                     stored if that can't be read."),
                key("jitter", Kind::Matching("^[0-9]+%$"), "0%",
                    "How much of its lifetime a response may lose by chance, so that what was stored together does not \
                     expire together: `10%`, at most `50%`."),
                key("tags", Kind::ListOf(&Kind::Text), "[]",
                    "Tags of its responses; a write that passes here purges them. With `{id}` of the path, `{query.x}`, \
                     `{header.x}`, `{cookie.x}`, `{jwt.sub}`, `{response.header.x}`, `{response.json:$.items[*].id}` (a tag \
                     for each value)."),
                optional("purges", Kind::ListOf(&Kind::Text),
                    "More tags that a write here purges, also with `{request.json:/id}`, `{request.json:$.ids[*]}` and \
                     `{request.form:name}`. `[]`: a write here changes nothing."),
                key("query", Kind::OneOf(&[Kind::Word(&["all"]), Kind::ListOf(&Kind::Text), Kind::Mapping(&IGNORE), Kind::Names(&Kind::Text)]), "all",
                    "Which parameters make the key, and are sent on: `all` as they come, a list of names, a mapping of \
                     names to their defaults, or `{ignore: [\"utm_*\"]}`."),
                key("shared", Kind::Boolean, "false",
                    "One response for all callers, although they send credentials; a caller without any gets it as well."),
                key("per",
                    CREDENTIAL, "none",
                    "One response for each credential: `authorization`, `cookie.NAME` or `header.NAME`. A request without \
                     it passes. `none`: nothing of the kind."),
                key("headers", Kind::ListOf(&Kind::Text), "[]", "More request fields in the key."),
                key("cookies", Kind::ListOf(&Kind::Text), "[]", "More cookies in the key."),
                key("status", Kind::Statuses(&Kind::Duration), "{}",
                    "Statuses besides 200, 203, 204, 301 and 308 to store, each with its lifetime."),
                key("stale_while_revalidate", Kind::Duration, "0s",
                    "How long a stale response is served while a new one is fetched."),
                key("stale_if_error", Kind::Duration, "0s", "How long a stale response is served when the upstream fails."),
                key("refresh_ahead", Kind::Duration, "0s",
                    "A response that is asked for with less than that left (and less than half of its lifetime) is fetched \
                     anew in the background; the request does not wait. `0s`: not before its end."),
                key("max_size", Kind::Size, "8MiB", "Of a stored body."),
                key("max_json", Kind::Size, "1MiB",
                    "Of a body, decoded, that `{request.json…}`, `{request.form…}` and `{response.json…}` are read from. A \
                     larger response is not stored; what a larger write would have named is widened."),
                key("timeout", Kind::OneOf(&[NONE, Kind::Duration]), "none",
                    "For a request in all, from its header section to the response's last byte: 504 before the \
                     response has begun, and cut off after. `none`: only the upstream's and the clients' own limits."),
                key("collapse", Kind::OneOf(&[Kind::Boolean, Kind::Word(&["replicas"])]), "true",
                    "Whether requests for the same wait for one fetch: `true` those at this replica, `replicas` those at \
                     all that share a Redis."),
                key("collapse_wait", Kind::Duration, "5s",
                    "With `collapse: replicas`: how long a replica waits for another's fetch before it fetches itself."),
                key("override", Kind::ListOf(&Kind::Word(&["lifetime", "private", "no-cache"])), "[]",
                    "What of the response's own word `ttl` overrides."),
                key("targeted", Kind::ListOf(&Kind::Matching("(?i)-cache-control$")), "[Larder-Cache-Control]",
                    "Response fields that take the place of `Cache-Control` (RFC 9213): the first of them that is there \
                     and valid. `[]`: none."),
                key("heuristic", Kind::Boolean, "false",
                    "Where neither the response nor `ttl` gives a lifetime: a tenth of the time since `Last-Modified`, at \
                     most a day (RFC 9111, section 4.2.2)."),
                key("any_status", Kind::Boolean, "false",
                    "Whether a lifetime in the response stores it whatever its status: 5xx and unknown ones too."),
                key("request_directives", Kind::Boolean, "false",
                    "Whether `Cache-Control` and `Pragma` of requests are obeyed (RFC 9111, section 5.2.1). Callers can \
                     then make each request reach the upstream."),
                key("hide_tags", Kind::Boolean, "false",
                    "Whether fields meant for caches stay behind: `Surrogate-Key`, `Cache-Tag`, `xkey`, `Edge-Cache-Tag`, \
                     `Cache-Groups`, `Cache-Group-Invalidation` and those in `targeted`."),
                key("purged_by", Kind::Word(&["rules", "admin"]), "rules",
                    "What ends a `ttl: none`: `rules`, a tag that a write or an event purges, of which there must be one; or \
                     `admin`: PURGE, the admin listener, or tags that responses carry in fields."),
                optional("guard", Kind::Boolean,
                    "Whether a write is forwarded only once Redis has a mark of what it will purge. Default: true where \
                     `max_lag` is 0s."),
                key("settle", Kind::Duration, "0s",
                    "For an upstream that reads from lagging replicas: what is fetched so soon after a purge of its \
                     tags is not kept."),
            ],
        }
    };
}

pub static DEFAULTS: Section = section_of_a_route!("defaults",);

pub static ROUTE: Section = section_of_a_route!(
    "a route",
    required(
        "path",
        Kind::Matching("^/"),
        "Segments, `{name}`, and `{*rest}` at the end; the most specific route wins."
    ),
    optional("name", Kind::Text, "The metrics' namespace; several routes may share one. Default: the path.")
);

pub static TTL_FROM: Section = Section {
    name: "ttl_from",
    keys: &[
        optional(
            "json",
            Kind::Text,
            "Where it stands in the content: a JSON Pointer `/expires_at` or a JSONPath `$.urls[*].expires_at` (of several \
             the earliest). RFC 3339, an HTTP-date, or seconds or milliseconds since 1970.",
        ),
        optional("header", Kind::Text, "In place of `json`, the response field that says it."),
        key("minus", Kind::Duration, "0s", "How much earlier it is not served any more."),
    ],
};

pub static IGNORE: Section = Section {
    name: "query",
    keys: &[required(
        "ignore",
        Kind::ListOf(&Kind::Text),
        "All parameters but these make the key; a name may end in `*`.",
    )],
};

/// All sections, to find where a misplaced key belongs.
pub static SECTIONS: &[&Section] = &[
    &ROOT,
    &UPSTREAM,
    &STORE,
    &REDIS,
    &TLS,
    &ADMIN,
    &PURGE,
    &WARM,
    &BACKGROUND,
    &LIMITS,
    &LOG,
    &ROUTE,
    &EVENT,
    &ACCESS,
    &LISTENER,
    &CERTIFICATE,
];
