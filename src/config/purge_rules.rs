//! Entries of `purges` and `purge`: a tag, or a mapping with the tag and how it is purged. And `purge_on`, `unclear`.

use std::time::Duration;

use super::diagnostics::Diagnostics;
use super::fields::Located;
use super::keys::Reader;
use super::scalars::{BOOLEAN, DURATION, list, parsed, words};
use super::section::Kind;
use super::settings::{Settings, settings};
use super::yaml::{Value, YamlNode};
use crate::policy::purge_targets::{PurgeOptions, PurgeRule};
use crate::policy::route::OwnUrl;
use crate::policy::template::Template;
use crate::policy::write_outcome::{StatusPattern, UnclearEnd};

settings! {
    partial struct PurgeEntryFields = "an entry of `purges`" {
        /// The tag, with values in braces.
        tag: YamlNode = NODE, required;
        /// The first purge of a tag is done at once; later ones within this time are joined to one at its end.
        at_most_every: Duration = DURATION, optional;
        /// The tags to purge if a value is missing or unusable, or if there are too many: `[products]`.
        otherwise: Vec<String> = OTHERWISE, default "[]";
        /// Make responses stale instead of dropping them: they may be served while they are revalidated, where the route
        /// allows it.
        soft: bool = BOOLEAN, default "false";
    }
}

/// The tag, which the list's own reader parses.
const NODE: Reader<YamlNode> = Reader::new(Kind::Text, |node, _| Some(node.clone()));

const OTHERWISE: Reader<Vec<String>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    list(node, "[products]", diagnostics, |node, diagnostics| {
        parsed(node, "a tag", diagnostics, |text| match Template::parse(text) {
            Ok(tag) if tag.is_literal() => Ok(tag.literal_prefix().to_owned()),
            _ => Err((format!("`{text}` is not a tag without values"), "write a tag without braces".into())),
        })
    })
});

pub(super) const ENTRIES_KIND: Kind =
    Kind::ListOf(&Kind::OneOf(&[Kind::Text, Kind::Mapping(PurgeEntryFields::SECTION)]));

/// Reads one entry; `template` reads its tag.
pub(super) fn read_rule(
    node: &YamlNode,
    diagnostics: &Diagnostics,
    template: fn(&YamlNode, &Diagnostics) -> Option<Located<Template>>,
) -> Option<Located<PurgeRule>> {
    if !matches!(node.value, Value::Mapping(_)) {
        let Located { value, location } = template(node, diagnostics)?;
        return Some(Located { value: PurgeRule::from(value), location });
    }
    let fields = PurgeEntryFields::from_node(node, diagnostics)?;
    let Located { value: template, location } = template(&fields.tag?, diagnostics)?;
    let at_most_every = fields.at_most_every?.unwrap_or_default();
    let options = PurgeOptions { soft: fields.soft?, at_most_every };
    Some(Located { value: PurgeRule { template, options, otherwise: fields.otherwise? }, location })
}

/// The tags of entries, without their options.
pub(super) fn templates(rules: &[Located<PurgeRule>]) -> Vec<Located<Template>> {
    let template =
        |rule: &Located<PurgeRule>| Located { value: rule.value.template.clone(), location: rule.location };
    rules.iter().map(template).collect()
}

pub(super) const OWN_URL: Reader<OwnUrl> = words!("all" => OwnUrl::All, "caller" => OwnUrl::Caller);

const STATUS_PATTERN: Kind = Kind::OneOf(&[Kind::Count, Kind::Matching("^([2-5](xx|[0-9]{2})|unassigned)$")]);

pub(super) const PURGE_ON: Reader<Vec<StatusPattern>> =
    Reader::new(Kind::ListOf(&STATUS_PATTERN), |node, diagnostics| {
        list(node, "[2xx, 303, 500]", diagnostics, status_pattern)
    });

pub(super) const UNCLEAR: Reader<Vec<UnclearEnd>> = Reader::new(
    Kind::ListOf(&Kind::OneOf(&[STATUS_PATTERN, Kind::Word(&["cut", "partial"])])),
    |node, diagnostics| {
        list(node, "[502, 504, unassigned, cut]", diagnostics, |node, diagnostics| match node.text() {
            Some("cut") => Some(UnclearEnd::Cut),
            Some("partial") => Some(UnclearEnd::Partial),
            _ => status_pattern(node, diagnostics).map(UnclearEnd::Status),
        })
    },
);

fn status_pattern(node: &YamlNode, diagnostics: &Diagnostics) -> Option<StatusPattern> {
    parsed(node, "a status", diagnostics, |text| {
        text.parse().map_err(|()| {
            let help = "write a status such as `303`, a class such as `2xx`, or `unassigned`".to_owned();
            (format!("`{text}` is not a status or a class of statuses"), help)
        })
    })
}
