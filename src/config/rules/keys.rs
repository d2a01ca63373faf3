//! Every key of a file of rules, in the same kind of table as `proxy.yaml`'s.

use crate::config::keys::{Key, Kind, Section};

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: None, required: false, doc }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: None, required: true, doc }
}

const TEXTS: Kind = Kind::ListOf(&Kind::Text);
const CASES: Kind = Kind::OneOf(&[Kind::Text, TEXTS]);

pub static FILE: Section = Section {
    name: "a file of rules",
    keys: &[
        key("config", Kind::Text, "The configuration that is tested, beside this file. Default: proxy.yaml."),
        required("tests", Kind::ListOf(&Kind::Mapping(&TEST)), "The tests, each one request."),
    ],
};

pub static TEST: Section = Section {
    name: "a test",
    keys: &[
        required("name", Kind::Text, "By which others name it; each stands once."),
        required("request", Kind::Text, "`GET /api/courses?page=2`; a path alone is a GET."),
        key("headers", Kind::Names(&Kind::Text), "Fields of the request, each with a value or a list."),
        key(
            "jwt",
            Kind::Names(&Kind::Text),
            "Claims of a bearer token that is made up of them: `{sub: ann}`.",
        ),
        key("data", Kind::Text, "The request's content; JSON where no Content-Type is given."),
        key(
            "response",
            Kind::Mapping(&RESPONSE),
            "What the upstream would answer. Default: a 200 that says nothing.",
        ),
        required(
            "expect",
            Kind::Mapping(&EXPECT),
            "What larder makes of it; what is left out is not looked at.",
        ),
    ],
};

pub static RESPONSE: Section = Section {
    name: "`response`",
    keys: &[
        key("status", Kind::Count, "Default: 200."),
        key("headers", Kind::Names(&Kind::Text), "Its fields; JSON where no Content-Type is given."),
        key("body", Kind::Text, "Its content, for tags and times that stand in it."),
    ],
};

pub static EXPECT: Section = Section {
    name: "`expect`",
    keys: &[
        key("decision", Kind::Word(&["lookup", "pass", "write", "refused"]), "How the request is taken."),
        key("route", Kind::Text, "The path of its route, as it is written there; `none`."),
        key("stored", Kind::Boolean, "Whether the response of a miss is stored."),
        key("reason", Kind::Text, "Why it passes, or is not stored: as `Cache-Status` says it in `detail`."),
        key(
            "ttl",
            Kind::OneOf(&[Kind::Duration, Kind::Word(&["none"])]),
            "How long it is fresh; `none`: until purged.",
        ),
        key("tags", TEXTS, "Exactly these, in any order."),
        key("purges", TEXTS, "The tags that a write purges: exactly these, in any order."),
        key("purged_by", CASES, "Tests, writes each, whose purge reaches what is stored here."),
        key("survives", CASES, "Tests, writes each, whose purge does not."),
        key("same_as", CASES, "Tests whose requests are answered by the same stored response."),
        key("differs_from", CASES, "Tests whose requests have another one."),
    ],
};
