//! Groups in `routes`: an entry with `routes` of its own, for which its other keys are defaults.

use super::diagnostics::Diagnostics;
use super::fields::Fields;
use super::route_fields::{GROUP, GroupHeadFields, RouteFields};
use super::scalars::list;
use super::settings::Settings;
use super::yaml::{Value, YamlNode};
use super::{additions, overlay_checks};

/// Routes with common values. A route outside of groups is one with none.
pub(super) struct RouteGroup {
    /// The name of routes that have none.
    pub name: Option<String>,
    pub values: RouteFields,
    /// The values as they are written, with those of `defaults`: what a `+` adds to.
    pub block: YamlNode,
    pub routes: Vec<YamlNode>,
}

impl RouteGroup {
    /// Reads an entry of `routes`. Returns `None` after reporting an error.
    pub(super) fn read(entry: &YamlNode, defaults: &YamlNode, diagnostics: &Diagnostics) -> Option<Self> {
        if entry.entry("routes").is_none() {
            return Some(Self {
                name: None,
                values: RouteFields::default(),
                block: defaults.clone(),
                routes: vec![entry.clone()],
            });
        }
        let entry = additions::resolve(entry, defaults, diagnostics);
        let fields = Fields::open(&entry, GROUP, diagnostics)?;
        let GroupHeadFields { name, routes } = GroupHeadFields::read(&fields)?;
        let mut values = RouteFields::read(&fields);
        overlay_checks::refuse_in_defaults(values.overlay.take(), diagnostics);
        let routes = list(&routes, "[{path: /api/courses}]", diagnostics, |node, _| Some(node.clone()))?;
        Some(Self { name, values, block: with_defaults(&entry, defaults), routes })
    }
}

/// The entries of the group, and those of `defaults` that it does not have.
fn with_defaults(entry: &YamlNode, defaults: &YamlNode) -> YamlNode {
    let mut merged = entry.clone();
    if let (Value::Mapping(entries), Value::Mapping(inherited)) = (&mut merged.value, &defaults.value) {
        let is_absent = |key: &YamlNode| key.text().is_some_and(|key| entry.entry(key).is_none());
        entries.extend(inherited.iter().filter(|(key, _)| is_absent(key)).cloned());
    }
    merged
}
