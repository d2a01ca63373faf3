//! `overlay` of a route: what concerns the caller alone is added to the items of a response that all callers share.
//!
//! The response consists of parts. The shared part is the route's own response to a request that identifies nobody; the
//! parts of the caller are responses of other routes, one for each caller. Each part is stored, purged and validated for
//! itself. They are merged for each request, and the merged response is not stored.

mod items;
mod merge;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use http::Uri;
use serde_json::Value;

use super::content::Content;
use super::json_query::JsonQuery;

pub(crate) use items::ItemsPath;
pub use merge::{Mismatch, merge};

/// One addition to the items of the shared part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The URL of the caller's part.
    pub from: Uri,
    /// The values in it that select items.
    pub(crate) each: SelectingValues,
    /// Where the items are in the shared part.
    pub(crate) into: ItemsPath,
    /// The member of an item that is compared with the values.
    pub on: String,
    pub(crate) members: Vec<OverlayMember>,
    pub(crate) on_error: OnPartError,
}

/// The values of a caller's part that select items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SelectingValues {
    query: JsonQuery,
    /// The same query, if it has only names and `[*]`: then a document that lacks one of them is told from an empty list.
    path: Option<ItemsPath>,
}

impl SelectingValues {
    pub(crate) fn new(query: JsonQuery) -> Self {
        let path = match &query {
            JsonQuery::Path(path) => ItemsPath::parse(&path.to_string()).ok(),
            JsonQuery::Pointer(_) => None,
        };
        Self { query, path }
    }

    /// Whether the document has each name. A JSONPath with filters and the like may select nothing.
    fn are_named_in(&self, document: &Value) -> bool {
        match (&self.query, &self.path) {
            (JsonQuery::Pointer(pointer), _) => document.pointer(pointer).is_some(),
            (JsonQuery::Path(_), path) => path.as_ref().is_none_or(|path| path.has_values(document)),
        }
    }
}

/// A member that items get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OverlayMember {
    pub name: String,
    /// Its value as JSON in the items that are selected; `None`: the item keeps its own.
    set: Option<String>,
    /// The same for all other items.
    default: Option<String>,
    /// The name as it is added behind another member.
    label: String,
}

impl OverlayMember {
    pub(crate) fn new(name: String, set: Option<String>, default: Option<String>) -> Self {
        let label = format!(",{}:", Value::from(name.as_str()));
        Self { name, set, default, label }
    }

    fn value(&self, is_selected: bool) -> Option<&str> {
        if is_selected { self.set.as_deref() } else { self.default.as_deref() }
    }
}

/// The handling of a caller's part that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum OnPartError {
    /// The request is forwarded.
    #[default]
    Pass,
    /// No item is selected.
    Default,
}

/// The sender of the requests for shared parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OverlayAs {
    /// Nobody: the requests have no credential.
    #[default]
    Anonymous,
    /// larder, with `background.headers`.
    Background,
}

impl Overlay {
    /// The values of the caller's part that select items. `None`: one is neither text nor a whole number, or the part
    /// lacks what `each` names. An empty list, or `null` in its place, selects none.
    pub fn select(&self, content: &Content) -> Option<HashSet<String>> {
        let document = content.json()?;
        if !self.each.are_named_in(document) {
            return None;
        }
        let nodes = self.each.query.nodes(document).into_iter().filter(|node| !node.is_null());
        let text = |node: &Value| match node {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
            _ => None,
        };
        nodes.map(text).collect()
    }
}
