//! The keys of an event source that select its purges: `purge`, `when`, and `rules`, which has several of both.

use super::diagnostics::Diagnostics;
use super::fields::Located;
use super::json_scalar::read_json_scalar;
use super::keys::Reader;
use super::purge_rules::{ENTRIES_KIND, read_rule};
use super::scalars::{entries, list, one_or_many, parsed, split_help, text};
use super::section::Kind;
use super::settings::{Settings, settings};
use super::yaml::YamlNode;
use crate::policy::event::{EventCondition, ListedValue};
use crate::policy::json_query::JsonQuery;
use crate::policy::purge_targets::PurgeRule;
use crate::policy::template::Template;

settings! {
    pub(super) struct ParsedRule = "an entry of `rules`" {
        /// The tags that an event purges, as in `purge` of a source.
        purge: Vec<Located<PurgeRule>> = RULES, required;
        /// Values that select events, as in `when` of a source.
        when: Vec<EventCondition> = CONDITIONS, default "{}";
    }
}

pub(super) const RULE_LIST: Reader<Vec<ParsedRule>> =
    Reader::new(Kind::ListOf(&Kind::Mapping(ParsedRule::SECTION)), |node, diagnostics| {
        let example = "[{when: {/type: updated}, purge: [products]}]";
        let rules = list(node, example, diagnostics, ParsedRule::from_node)?;
        if node.is_empty_list() {
            diagnostics.error(node.location, "this source purges nothing").help(format!("write `{example}`"));
            return None;
        }
        Some(rules)
    });

pub(super) const RULES: Reader<Vec<Located<PurgeRule>>> = Reader::new(ENTRIES_KIND, |node, diagnostics| {
    if node.is_empty_list() {
        diagnostics.error(node.location, "this source purges nothing").help(TEMPLATE_HELP);
        return None;
    }
    let example = "[products, \"product:{event.json:/id}\"]";
    list(node, example, diagnostics, |node, diagnostics| read_rule(node, diagnostics, template))
});

const TEMPLATE_HELP: &str = "a tag is text with values of the event: `product:{event.json:/id}`";

fn template(node: &YamlNode, diagnostics: &Diagnostics) -> Option<Located<Template>> {
    let parse = |text: &str| match Template::parse(text) {
        Ok(template) if template.reads_only_event() => Ok(template),
        Ok(_) => {
            Err((format!("`{text}`: an event has no request and no response"), TEMPLATE_HELP.to_owned()))
        }
        Err(error) => Err(split_help(error, TEMPLATE_HELP)),
    };
    parsed(node, "a tag", diagnostics, parse).map(|value| Located { value, location: node.location })
}

pub(super) const CONDITIONS: Reader<Vec<EventCondition>> =
    Reader::new(Kind::Names(&Kind::OneOf(&[Kind::Text, Kind::ListOf(&Kind::Text)])), |node, diagnostics| {
        let read =
            entries(node, "when: {/type: [updated, deleted]}", diagnostics)?.iter().map(|(key, value)| {
                const HELP: &str = "write where the value is: `/type` or `$.type`";
                let query = parsed(key, "where the value is, `/type`", diagnostics, |text| {
                    JsonQuery::parse(text).map_err(|error| split_help(error, HELP))
                });
                let one_of: Option<Vec<ListedValue>> =
                    one_or_many(value).iter().map(|node| listed_value(node, diagnostics)).collect();
                Some(EventCondition { value: query?, one_of: one_of? })
            });
        let read: Vec<_> = read.collect();
        read.into_iter().collect()
    });

fn listed_value(node: &YamlNode, diagnostics: &Diagnostics) -> Option<ListedValue> {
    let written = text(node, "a single value", diagnostics)?;
    let json = read_json_scalar(node, diagnostics)?;
    let value = serde_json::from_str(&json).unwrap_or_else(|_| written.into());
    Some(ListedValue::new(written, value))
}
