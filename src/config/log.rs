//! The sections `log` and `tracing`: what is said of requests, and to whom.

use std::path::PathBuf;

use super::fields::Fields;
use super::problem::Problems;
use super::scalars::{fraction, parsed, text, word};
use super::sections::is_off;
use super::suggest::nearest;
use super::tree::{Node, Value};
use super::units::Wrong;
use super::{AccessFormat, AccessLogSettings, LogSettings, TracingSettings, keys};

pub fn log(node: &Node, problems: &Problems) -> Option<LogSettings> {
    let fields = Fields::open(node, &keys::LOG, problems)?;
    let json =
        fields.read("format", |node, problems| word(node, &[("text", false), ("json", true)], problems));
    let level = fields.read("level", log_level);
    let access = fields.read("access", access);
    Some(LogSettings { json: json?, level: level?, access: access? })
}

/// A word for the format, or a mapping; `Some(None)`: `off`.
fn access(node: &Node, problems: &Problems) -> Option<Option<AccessLogSettings>> {
    let short = Node { value: Value::Mapping(Vec::new()), place: node.place };
    let (fields, format) = match &node.value {
        Value::Mapping(_) => {
            let fields = Fields::open(node, &keys::ACCESS, problems)?;
            let format = fields.read("format", access_format);
            (fields, format)
        }
        _ => (Fields::open(&short, &keys::ACCESS, problems)?, access_format(node, problems)),
    };
    let sample = fields.read("sample", fraction);
    let path = fields.read("path", access_path);
    let (format, sample, path) = (format?, sample?, path?);
    Some(format.map(|format| AccessLogSettings { format, sample, path }))
}

fn access_format(node: &Node, problems: &Problems) -> Option<Option<AccessFormat>> {
    if node.text().is_some_and(is_off) {
        return Some(None);
    }
    let words = [("json", AccessFormat::Json), ("combined", AccessFormat::Combined)];
    word(node, &words, problems).map(Some)
}

/// `Some(None)`: standard output.
fn access_path(node: &Node, problems: &Problems) -> Option<Option<PathBuf>> {
    parsed(node, "`stdout`, or a file such as `/var/log/larder/access.log`", problems, |text| match text {
        "stdout" | "-" => Ok(None),
        path if path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') => {
            Ok(Some(path.into()))
        }
        other => Err((
            format!("`{other}` is neither `stdout` nor a file's absolute path"),
            "write `stdout`, or a file such as `/var/log/larder/access.log`".into(),
        )),
    })
}

fn log_level(node: &Node, problems: &Problems) -> Option<String> {
    let level = text(node, "a level such as `info`", problems)?.trim();
    match check_log_level(level) {
        Ok(()) => Some(level.to_owned()),
        Err((message, help)) => {
            problems.error(node.place, message).help(help);
            None
        }
    }
}

fn check_log_level(level: &str) -> Result<(), Wrong> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    const HELP: &str =
        "write error, warn, info, debug, trace or off, or a filter such as `info,larder::proxy=debug`";
    for directive in level.split(',') {
        let word = directive.trim();
        let known = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        // A lone word that is no level would be taken for the name of a module, and log all of it.
        if !known && word.chars().all(char::is_alphanumeric) {
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

/// `Some(None)`: `off`.
pub fn tracing(node: &Node, problems: &Problems) -> Option<Option<TracingSettings>> {
    if node.text().is_some_and(is_off) {
        return Some(None);
    }
    if !cfg!(feature = "otel") {
        problems
            .error(node.place, "this larder was built without OpenTelemetry")
            .help("build it with `cargo build --release --features otel`, or leave `tracing` out");
        return None;
    }
    let fields = Fields::open(node, &keys::TRACING, problems)?;
    let (otlp, sample) = (fields.required("otlp", collector), fields.read("sample", fraction));
    Some(Some(TracingSettings { otlp: otlp?, sample: sample? }))
}

fn collector(node: &Node, problems: &Problems) -> Option<http::Uri> {
    parsed(node, "a URL such as `http://127.0.0.1:4318`", problems, |text| {
        let uri = text.parse::<http::Uri>().ok();
        let is_usable = |uri: &http::Uri| {
            uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty())
        };
        uri.filter(is_usable).ok_or_else(|| {
            let help = "write `http://host:4318`; a collector beside larder speaks TLS to others";
            (format!("`{text}` is not a collector's URL"), help.to_owned())
        })
    })
}
