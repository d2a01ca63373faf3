//! The keys of `warm` and `background`: what larder asks for itself.

use super::{Kind, OFF, Section, key, optional, required};

pub static WARM: Section = Section {
    name: "warm",
    keys: &[
        required(
            "get",
            Kind::OneOf(&[Kind::Text, Kind::ListOf(&Kind::Text)]),
            "The path and query to ask for, or a list of them; `{name}` stands for each of its `values`, `{}` for each \
             value that `each` finds.",
        ),
        optional(
            "values",
            Kind::Names(&Kind::ListOf(&Kind::Text)),
            "The values of each `{name}`: `{id: [1, 2, 3]}`.",
        ),
        optional("from", Kind::Text, "The path of a JSON answer that names what to ask for."),
        optional("each", Kind::Text, "Which of its values fill `{}`: `$.items[*].id`."),
        key(
            "every",
            Kind::OneOf(&[OFF, Kind::Duration]),
            "off",
            "How often; what would expire before the next time is fetched anew. `off`: not again.",
        ),
        key("on_start", Kind::Boolean, "true", "Whether it is asked for when larder starts."),
        optional("host", Kind::Text, "As in `background`, for this entry."),
        optional(
            "headers",
            Kind::Names(&Kind::Text),
            "More request fields: those in the key, or a credential.",
        ),
        optional("name", Kind::Text, "In metrics and logs. Default: the first path."),
    ],
};

pub static BACKGROUND: Section = Section {
    name: "background",
    keys: &[
        key(
            "rate",
            Kind::Count,
            "20",
            "Requests to the upstream in a second; what is still fresh costs nothing.",
        ),
        key("concurrency", Kind::Count, "4", "At most so many at once."),
        key(
            "connections",
            Kind::Matching("^[0-9]+%$"),
            "25%",
            "At most that share of `upstream.max_connections` at once; and none begins while clients use more than half \
             of them.",
        ),
        optional(
            "host",
            Kind::Text,
            "The scheme and host that clients ask for, `https://api.example.com`: responses are kept by them. Default: the \
             first address of `listen`.",
        ),
        key(
            "headers",
            Kind::Names(&Kind::Text),
            "{}",
            "More request fields, such as a service's credential.",
        ),
    ],
};
