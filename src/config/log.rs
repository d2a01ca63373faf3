//! The sections `log` and `tracing`.

use std::path::PathBuf;
use std::time::Duration;

use super::diagnostics::Diagnostics;
use super::fields::expand_short_form;
use super::keys::Reader;
use super::scalars::{BOOLEAN, FRACTION, POSITIVE_DURATION, is_off, parsed, text, words};
use super::section::{Kind, OFF};
use super::settings::{Settings, settings};
use super::suggest::nearest;
use super::units::FieldError;
use super::yaml::YamlNode;
use super::{AccessFormat, Fraction};

settings! {
    /// The log of events and of requests.
    pub struct LogSettings = "log" {
        /// `text` for people, `json` for machines.
        json as "format": bool = words!("text" => false, "json" => true), default "text";
        /// `error`, `warn`, `info`, `debug` (a line for each request), `trace`, or a filter such as
        /// `info,larder::proxy=debug`.
        level: String = LEVEL, default "info";
        /// The access log, a line for each response: `json`, `combined` (Apache's format), `off`, or a mapping with
        /// `format` and more.
        access: Option<AccessLogSettings> = ACCESS, default "off";
    }
}

/// The access log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogSettings {
    /// The format of a line.
    pub format: AccessFormat,
    /// The share of requests that are logged.
    pub sample: Fraction,
    /// `None`: standard output.
    pub path: Option<PathBuf>,
}

settings! {
    struct AccessFields = "access" {
        /// `json`, or Apache's `combined`.
        format: Option<AccessFormat> = ACCESS_FORMAT, default "json";
        /// The share of requests that get a line: `0.1` is one in ten. Responses with a status from 500 and aborted ones
        /// always get one.
        sample: Fraction = FRACTION, default "1";
        /// `stdout`, or a file. A file that was renamed (logrotate) is opened anew.
        path: Option<PathBuf> = ACCESS_PATH, default "stdout";
    }
}

settings! {
    /// The export of spans, metrics and logs.
    pub(crate) struct TracingSettings = "tracing" {
        /// The collector's URL for OTLP over HTTP, such as `http://127.0.0.1:4318`.
        otlp: http::Uri = COLLECTOR, required;
        /// The share of requests that are traced, if the client's `traceparent` does not decide it.
        sample: Fraction = FRACTION, default "0.01";
        /// Export the metrics of `/metrics` in this interval. Without it, none are exported.
        metrics_interval: Duration = POSITIVE_DURATION, optional;
        /// Export larder's own log, too. `log.level` holds for both.
        logs: bool = BOOLEAN, default "false";
    }
}

const ACCESS: Reader<Option<AccessLogSettings>> = Reader::new(
    Kind::OneOf(&[Kind::Word(&["off", "json", "combined"]), Kind::Mapping(AccessFields::SECTION)]),
    |node, diagnostics| {
        let AccessFields { format, sample, path } =
            AccessFields::from_node(&expand_short_form(node, "format"), diagnostics)?;
        Some(format.map(|format| AccessLogSettings { format, sample, path }))
    },
);

/// `None` stands for `off`.
const ACCESS_FORMAT: Reader<Option<AccessFormat>> =
    Reader::new(Kind::Word(&["json", "combined", "off"]), |node, diagnostics| {
        if node.text().is_some_and(is_off) {
            return Some(None);
        }
        let formats = words!("json" => AccessFormat::Json, "combined" => AccessFormat::Combined);
        formats.read(node, diagnostics).map(Some)
    });

/// `None` stands for `stdout`.
const ACCESS_PATH: Reader<Option<PathBuf>> =
    Reader::new(Kind::OneOf(&[Kind::Word(&["stdout"]), Kind::Matching("^/")]), |node, diagnostics| {
        const HELP: &str = "`stdout`, or a file such as `/var/log/larder/access.log`";
        let path: Option<PathBuf> = parsed(node, HELP, diagnostics, |text| match text {
            "stdout" | "-" => Ok(None),
            path if path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') => {
                Ok(Some(path.into()))
            }
            other => Err((
                format!("`{other}` is neither `stdout` nor the absolute path of a file"),
                format!("write {HELP}"),
            )),
        })?;
        path.iter().for_each(|path| diagnostics.name_file_to_write(node.location, path));
        Some(path)
    });

const LEVEL: Reader<String> = Reader::new(Kind::Text, |node, diagnostics| {
    let level = text(node, "a level such as `info`", diagnostics)?.trim();
    parsed(node, "a level", diagnostics, |_| check_log_level(level).map(|()| level.to_owned()))
});

fn check_log_level(level: &str) -> Result<(), FieldError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    const HELP: &str =
        "write error, warn, info, debug, trace or off, or a filter such as `info,larder::proxy=debug`";
    for directive in level.split(',') {
        let word = directive.trim();
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        // `EnvFilter` takes an unknown word for the name of a module and logs all of it.
        if !is_level && word.chars().all(char::is_alphanumeric) {
            let help =
                nearest(word, LEVELS).map_or(HELP.to_owned(), |right| format!("did you mean `{right}`?"));
            return Err((format!("`{word}` is not a log level"), help));
        }
    }
    match tracing_subscriber::EnvFilter::try_new(level) {
        Ok(_) => Ok(()),
        Err(error) => Err((format!("`{level}` is not a log filter: {error}"), HELP.into())),
    }
}

/// `None` stands for `off`.
pub(super) const TRACING: Reader<Option<TracingSettings>> =
    Reader::new(Kind::OneOf(&[OFF, Kind::Mapping(TracingSettings::SECTION)]), tracing);

fn tracing(node: &YamlNode, diagnostics: &Diagnostics) -> Option<Option<TracingSettings>> {
    if node.text().is_some_and(is_off) {
        return Some(None);
    }
    TracingSettings::from_node(node, diagnostics).map(Some)
}

const COLLECTOR: Reader<http::Uri> = Reader::new(Kind::Matching("^http://"), |node, diagnostics| {
    parsed(node, "a URL such as `http://127.0.0.1:4318`", diagnostics, |text| {
        let uri = text.parse::<http::Uri>().ok();
        let is_usable = |uri: &http::Uri| {
            uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty())
        };
        uri.filter(is_usable).ok_or_else(|| {
            let help = "write `http://host:4318`; for TLS, run a collector next to larder";
            (format!("`{text}` is not a collector's URL"), help.to_owned())
        })
    })
});
