//! `overlay` of a route: its entries.

use http::Uri;

use super::diagnostics::Diagnostics;
use super::fields::{Fields, Located};
use super::json_scalar::read_json_scalar;
use super::keys::Reader;
use super::scalars::{NON_EMPTY, entries, list, parsed, split_help, words};
use super::section::Kind;
use super::settings::{Settings, settings};
use super::warm::{LIST_QUERY, LIST_URL};
use super::yaml::YamlNode;
use crate::policy::json_query::JsonQuery;
use crate::policy::overlay::{ItemsPath, OnPartError, Overlay, OverlayAs, OverlayMember, SelectingValues};

/// The entries of a route. Each may need a request of its own.
const MAX_ENTRIES: usize = 8;

settings! {
    struct OverlayFields = "overlay" {
        /// The path of the caller's part, a JSON response of a route with `per`.
        from: Uri = LIST_URL, required;
        /// The values in it that select items: `$.enrollments[*].courseId`. Text or whole numbers.
        each: JsonQuery = LIST_QUERY, required;
        /// The items in the route's own response, by names and `[*]` alone: `$.courses[*]`; `$` for the object itself.
        into: ItemsPath = ITEMS, required;
        /// The member of an item that is compared with the values.
        by: String = NON_EMPTY, optional;
        /// The former name of `by`. Tools that read YAML 1.1 (Helm, Ansible, PyYAML) take it for `true`.
        on: String = NON_EMPTY, optional;
        /// The members that the selected items get: `{isEnrolled: true}`. Text, a number, `true`, `false` or `null`; in quotes it is text.
        set: Vec<(String, String)> = MEMBERS, required;
        /// The members that all other items get, and all items for a caller who is nobody.
        default: Vec<(String, String)> = MEMBERS, default "{}";
        /// If the caller's part can't be had or read: `pass` forwards the request, `default` selects no item.
        on_error: OnPartError = ON_ERROR, default "pass";
    }
}

pub(super) const OVERLAY: Reader<Vec<Located<Overlay>>> = Reader::new(
    Kind::ListOf(&Kind::Mapping(OverlayFields::SECTION)),
    |node, diagnostics| {
        const EXAMPLE: &str = "[{from: /api/me/enrollments, each: \"$.enrollments[*].courseId\", into: \
                               \"$.courses[*]\", by: id, set: {isEnrolled: true}, default: {isEnrolled: false}}]";
        let read = list(node, EXAMPLE, diagnostics, read_entry)?;
        if read.len() > MAX_ENTRIES {
            let message = format!("`overlay` has {} entries; at most {MAX_ENTRIES} are merged", read.len());
            diagnostics.error(node.location, message).help("let the API answer several in one part");
            return None;
        }
        let members =
            |overlay: &Overlay| overlay.members.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        for (at, entry) in read.iter().enumerate() {
            let same_items = read[..at].iter().filter(|other| other.value.into == entry.value.into);
            let others: Vec<String> = same_items.flat_map(|other| members(&other.value)).collect();
            if let Some(name) = members(&entry.value).into_iter().find(|name| others.contains(name)) {
                diagnostics
                    .error(entry.location, format!("two entries give the same items the member `{name}`"))
                    .help("give each member in one entry");
            }
        }
        Some(read)
    },
);

pub(super) const OVERLAY_AS: Reader<OverlayAs> =
    words!("anonymous" => OverlayAs::Anonymous, "background" => OverlayAs::Background);

const ON_ERROR: Reader<OnPartError> = words!("pass" => OnPartError::Pass, "default" => OnPartError::Default);

const ITEMS: Reader<ItemsPath> = Reader::new(Kind::Matching("^\\$"), |node, diagnostics| {
    parsed(node, "a JSONPath such as `$.items[*]`", diagnostics, |text| {
        ItemsPath::parse(text).map_err(|error| split_help(error, "write `$.items[*]`"))
    })
});

/// The members by name, each with its value as JSON.
const MEMBERS: Reader<Vec<(String, String)>> = Reader::new(Kind::Names(&Kind::Text), |node, diagnostics| {
    let given = entries(node, "{isEnrolled: true}", diagnostics)?;
    let member = |(name, value): &(YamlNode, YamlNode)| {
        let name = parsed(name, "a name", diagnostics, |name| Ok(name.to_owned()))?;
        Some((name, read_json_scalar(value, diagnostics)?))
    };
    let read: Vec<_> = given.iter().filter_map(member).collect();
    (read.len() == given.len()).then_some(read)
});

fn read_entry(node: &YamlNode, diagnostics: &Diagnostics) -> Option<Located<Overlay>> {
    let fields = Fields::open(node, OverlayFields::SECTION, diagnostics)?;
    let OverlayFields { from, each, into, by, on, set, default, on_error } = OverlayFields::read(&fields)?;
    let name = if by.is_some() { "by" } else { "on" };
    let on = match (by, on) {
        (Some(_), Some(_)) => {
            diagnostics
                .error(fields.value_location("on"), "`by` and `on` are two names of one key")
                .help("remove `on`");
            return None;
        }
        (Some(name), None) | (None, Some(name)) => name,
        (None, None) => {
            fields.report_missing("by");
            return None;
        }
    };
    let (place, problem) = match () {
        () if set.is_empty() => ("set", "`set` gives the selected items nothing".to_owned()),
        () if set.iter().chain(&default).any(|(name, _)| *name == on) => {
            (name, format!("`{on}` identifies an item, so it can't be set"))
        }
        () => {
            let find = |of: &[(String, String)], name: &str| {
                of.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            };
            let only_default = default.iter().filter(|(name, _)| find(&set, name).is_none());
            let names = set.iter().chain(only_default).map(|(name, _)| name);
            let member =
                |name: &String| OverlayMember::new(name.clone(), find(&set, name), find(&default, name));
            let members = names.map(member).collect();
            let each = SelectingValues::new(each);
            let value = Overlay { from, each, into, on, members, on_error };
            return Some(Located { value, location: fields.value_location("from") });
        }
    };
    diagnostics.error(fields.value_location(place), problem).help("write `set: {isEnrolled: true}`");
    None
}
