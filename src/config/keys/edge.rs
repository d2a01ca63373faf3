//! The keys of what stands before a request, and of what it leaves behind.

use super::{ADDRESS, Kind, Section, key, optional, required};

pub static LISTENER: Section = Section {
    name: "a listener",
    keys: &[
        required("address", ADDRESS, "An address and port, or `unix:/path`."),
        optional(
            "tls",
            Kind::OneOf(&[Kind::Mapping(&CERTIFICATE), Kind::ListOf(&Kind::Mapping(&CERTIFICATE))]),
            "TLS with this certificate; of a list, the one for the host that the client names, else the first. \
             The files are read again when they change.",
        ),
        key(
            "proxy_protocol",
            Kind::Boolean,
            "false",
            "Each connection begins with a PROXY protocol header (version 1 or 2) that names its client. Only \
             `trusted_proxies` can connect then.",
        ),
    ],
};

pub static CERTIFICATE: Section = Section {
    name: "a certificate",
    keys: &[
        required(
            "cert",
            Kind::Text,
            "PEM file with the certificate, and those between it and its authority.",
        ),
        required("key", Kind::Text, "PEM file with the key of `cert`."),
    ],
};

pub static LOG: Section = Section {
    name: "log",
    keys: &[
        key("format", Kind::Word(&["text", "json"]), "text", "`text` for people, `json` for machines."),
        key(
            "level",
            Kind::Text,
            "info",
            "`error`, `warn`, `info`, `debug` (a line for each request), `trace`, or a filter such as \
             `info,larder::proxy=debug`.",
        ),
        key(
            "access",
            Kind::OneOf(&[Kind::Word(&["off", "json", "combined"]), Kind::Mapping(&ACCESS)]),
            "off",
            "A line for each request that was answered: `json`, `combined` (Apache's), `off`, or a mapping with `format` and more.",
        ),
    ],
};

pub static ACCESS: Section = Section {
    name: "access",
    keys: &[
        key("format", Kind::Word(&["json", "combined", "off"]), "json", "`json`, or Apache's `combined`."),
        key(
            "sample",
            Kind::Fraction,
            "1",
            "The part of the requests that gets a line: `0.1` is one of ten. Statuses from 500 and answers that broke off \
             always get one.",
        ),
        key(
            "path",
            Kind::OneOf(&[Kind::Word(&["stdout"]), Kind::Matching("^/")]),
            "stdout",
            "`stdout`, or a file; one that is renamed (logrotate) is made anew.",
        ),
    ],
};

pub static TRACING: Section = Section {
    name: "tracing",
    keys: &[
        required(
            "otlp",
            Kind::Matching("^http://"),
            "The collector's URL for OTLP over HTTP, such as `http://127.0.0.1:4318`.",
        ),
        key(
            "sample",
            Kind::Fraction,
            "0.01",
            "The part of the requests that gets a trace, where the client's `traceparent` does not say it.",
        ),
    ],
};
