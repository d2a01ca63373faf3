//! `audit`: the share of hits that is compared with the upstream's present answer.

use std::time::Duration;

use http::HeaderName;

use super::Fraction;
use super::diagnostics::Diagnostics;
use super::keys::Reader;
use super::scalars::{DURATION, is_off, list, parse_header_name, parsed};
use super::section::{Kind, OFF};
use super::settings::{Settings, settings};
use super::units::FieldError;
use super::yaml::YamlNode;
use crate::policy::json_query::JsonQuery;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AuditSettings {
    /// The share of hits.
    pub sample: Fraction,
    pub ignored_json: Vec<JsonQuery>,
    pub ignored_fields: Vec<HeaderName>,
    /// How long after a change its purge may come.
    pub settle: Duration,
    /// Nothing changes but by writes that are seen, as in a replay: one difference after a write is evidence enough.
    pub sees_all_writes: bool,
}

settings! {
    struct AuditFields = "audit" {
        /// The share of hits that are asked for again behind the client's back, within the budget of `background`: `0.1%`, or
        /// a number from 0 to 1.
        sample: Fraction = SHARE, default "0.1%";
        /// Parts that differ from response to response and mean nothing: a JSONPath, a JSON Pointer, or `header.NAME`.
        ignore: Vec<Ignored> = IGNORED, default "[]";
        /// How long after a change its purge may come, before it counts as missing.
        settle: Duration = DURATION, default "2s";
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Ignored {
    Json(JsonQuery),
    Field(HeaderName),
}

/// `None` stands for `off`.
pub(super) const AUDIT: Reader<Option<AuditSettings>> =
    Reader::new(Kind::OneOf(&[OFF, Kind::Mapping(AuditFields::SECTION)]), read);

fn read(node: &YamlNode, diagnostics: &Diagnostics) -> Option<Option<AuditSettings>> {
    if node.text().is_some_and(is_off) {
        return Some(None);
    }
    let AuditFields { sample, ignore, settle } = AuditFields::from_node(node, diagnostics)?;
    let mut settings = AuditSettings {
        sample,
        ignored_json: Vec::new(),
        ignored_fields: Vec::new(),
        settle,
        sees_all_writes: false,
    };
    for ignored in ignore {
        match ignored {
            Ignored::Json(query) => settings.ignored_json.push(query),
            Ignored::Field(name) => settings.ignored_fields.push(name),
        }
    }
    Some(Some(settings))
}

const SHARE: Reader<Fraction> =
    Reader::new(Kind::OneOf(&[Kind::Fraction, Kind::Matching("^[0-9.]+%$")]), |node, diagnostics| {
        parsed(node, "a share such as `0.1%`", diagnostics, |text| {
            let number = match text.strip_suffix('%') {
                Some(percent) => percent.parse().ok().map(|percent: f64| percent / 100.0),
                None => text.parse().ok(),
            };
            number.and_then(Fraction::new).ok_or_else(|| {
                (format!("`{text}` is no share"), "write `0.1%`, or a number from 0 to 1".to_owned())
            })
        })
    });

const IGNORED: Reader<Vec<Ignored>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    list(node, "[$.generatedAt, header.link]", diagnostics, |node, diagnostics| {
        parsed(node, "a JSONPath, a JSON Pointer or `header.NAME`", diagnostics, ignored)
    })
});

fn ignored(text: &str) -> Result<Ignored, FieldError> {
    if let Some(name) = text.strip_prefix("header.") {
        return parse_header_name(name).map(Ignored::Field);
    }
    if !text.starts_with(['$', '/']) {
        let help = "write `$.generatedAt`, `/generatedAt` or `header.x-request-id`".to_owned();
        return Err((format!("`{text}` names no part of a response"), help));
    }
    JsonQuery::parse(text).map(Ignored::Json).map_err(|error| (error, "write `$.generatedAt`".to_owned()))
}
