//! The keys of an event source that select its purges: `purge`, `when`, and `rules`, which has several of both.

use super::diagnostics::Diagnostics;
use super::events::EventFields;
use super::fields::{Fields, Located};
use super::keys::{Kind, Reader, Settings, settings};
use super::purge_rules::{ENTRIES_KIND, read_rule, templates};
use super::scalars::{TEXT, entries, list, one_or_many, parsed, split_help};
use super::yaml::YamlNode;
use crate::policy::event::{EventCondition, EventRule, EventRules};
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

/// The rules of a source with the locations of their tags. `None`: one has an error, which was reported.
pub(super) fn read_rules(
    fields: &Fields<'_>,
    read: &EventFields,
    diagnostics: &Diagnostics,
) -> Option<(EventRules, Vec<Located<Template>>)> {
    let rules = match (&read.rules, &read.purge, &read.when) {
        (Some(None), Some(Some(purge)), Some(when)) => {
            vec![ParsedRule { purge: purge.clone(), when: when.clone().unwrap_or_default() }]
        }
        (Some(Some(rules)), Some(None), Some(None)) => rules.clone(),
        (Some(Some(_)), Some(_), Some(_)) => {
            let location =
                fields.value_location(if fields.node("purge").is_some() { "purge" } else { "when" });
            diagnostics
                .error(location, "this source has `rules`, too")
                .help("move it into an entry of `rules`, each of which has `purge` and `when`");
            return None;
        }
        (Some(None), Some(None), _) => {
            fields.report_missing("purge");
            return None;
        }
        _ => return None,
    };
    let tags = rules.iter().flat_map(|rule| templates(&rule.purge)).collect();
    let to_rule = |ParsedRule { purge, when }: ParsedRule| EventRule {
        purge: purge.into_iter().map(|rule| rule.value).collect(),
        when,
    };
    Some((EventRules(rules.into_iter().map(to_rule).collect()), tags))
}

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
                let one_of: Option<Vec<String>> =
                    one_or_many(value).iter().map(|node| TEXT.read(node, diagnostics)).collect();
                Some(EventCondition { value: query?, one_of: one_of? })
            });
        let read: Vec<_> = read.collect();
        read.into_iter().collect()
    });
