//! Lists of a route that add to those of its group or of `defaults`: `tags: ["+course:{id}"]`.

use super::diagnostics::Diagnostics;
use super::yaml::{Value, YamlNode};

/// The keys whose lists can add.
const ADDING_KEYS: [&str; 4] = ["tags", "purges", "headers", "cookies"];

/// Puts the items of `defaults`, or of a group with these, before those of each list of `block` that adds.
pub(super) fn resolve(block: &YamlNode, defaults: &YamlNode, diagnostics: &Diagnostics) -> YamlNode {
    let mut block = block.clone();
    for (key, items) in adding_lists(&mut block.value) {
        let list = complete(key, items, defaults, diagnostics);
        *items = list.unwrap_or_default();
    }
    block
}

/// Reports each item of `defaults` that would add.
pub(super) fn refuse(defaults: &YamlNode, diagnostics: &Diagnostics) {
    for (_, items) in adding_lists(&mut defaults.value.clone()) {
        for (item, text) in items.iter().filter_map(|item| Some((item, added_text(item)?))) {
            diagnostics
                .error(item.location, format!("`+{text}` has nothing to add to in `defaults`"))
                .help(format!("write `{text}`; a route adds to it with `+`"));
        }
    }
}

fn adding_lists(block: &mut Value) -> impl Iterator<Item = (&str, &mut Vec<YamlNode>)> {
    let entries = match block {
        Value::Mapping(entries) => entries.as_mut_slice(),
        _ => &mut [],
    };
    entries.iter_mut().filter_map(|(key, value)| match &mut value.value {
        Value::List(items) if items.iter().any(|item| added_text(item).is_some()) => {
            key.text().filter(|key| ADDING_KEYS.contains(key)).map(|key| (key, items))
        }
        _ => None,
    })
}

/// Returns `None` after reporting an error.
fn complete(
    key: &str,
    items: &[YamlNode],
    defaults: &YamlNode,
    diagnostics: &Diagnostics,
) -> Option<Vec<YamlNode>> {
    let Some(Value::List(inherited)) = defaults.entry(key).map(|node| &node.value) else {
        let (location, text) = items.iter().find_map(|item| Some((item.location, added_text(item)?)))?;
        diagnostics
            .error(location, format!("`+{text}` adds to the `{key}` of `defaults`, which has no such list"))
            .help(format!("write `{text}`, or add `{key}: […]` under `defaults`"));
        return None;
    };
    let mut all = inherited.clone();
    for item in items {
        match (added_text(item), item.text()) {
            (Some(text), _) => all.push(YamlNode::scalar(text, item.location)),
            (None, Some(text)) => {
                diagnostics
                    .error(item.location, format!("`{text}` has no `+`, which another item of its list has"))
                    .help(format!("write `+{text}`: all items add to the list of `defaults`, or none does"));
            }
            // A mapping has no place for the mark.
            (None, None) => all.push(item.clone()),
        }
    }
    Some(all)
}

fn added_text(item: &YamlNode) -> Option<&str> {
    item.text()?.strip_prefix('+')
}
