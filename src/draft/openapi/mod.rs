//! A draft from an OpenAPI 3 document: paths, parameters, security and schemas become routes, keys, `per`, tags and
//! purges.
//!
//! A document says what an API accepts, not what a write changes. The tags follow from two conventions, which the
//! comments name: a write below an item changes that item and the lists of its kind, and a response whose schema embeds
//! another kind changes with it.

mod caution;
mod document;
mod operation;
mod resource;
mod routes;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use self::document::Document;
pub(super) use self::operation::{PathItem, ReadOperation, WriteOperation};
pub(super) use self::routes::{RouteSource, add as add_routes};
use super::{DEFAULT_UPSTREAM, Draft, Setting, scalar, sequence};
use crate::policy::{CallerFields, is_ambiguous_name};

/// Most paths of a document.
const MAX_PATHS: usize = 4_000;

/// Drafts a configuration. `upstream` takes precedence over the document's first server.
///
/// # Errors
/// The document is not OpenAPI 3, or has no paths.
pub(crate) fn draft(root: &Value, source: &str, upstream: Option<&str>) -> Result<Draft, String> {
    let document = Document::new(root)?;
    let (origin, base) = document.server();
    let paths = document.paths();
    match paths.len() {
        0 => return Err("the document has no `paths`".into()),
        many if many > MAX_PATHS => return Err(format!("{many} paths are more than {MAX_PATHS}")),
        _ => {}
    }
    let mut draft = Draft::default();
    let mut items: Vec<PathItem> = Vec::new();
    let mut by_shape: HashMap<String, usize> = HashMap::new();
    for (path, node) in paths {
        match PathItem::read(&document, &base, path, node) {
            Ok(item) => match by_shape.entry(item.shape()) {
                Entry::Occupied(known) => items[*known.get()].merge(item),
                Entry::Vacant(free) => {
                    free.insert(items.len());
                    items.push(item);
                }
            },
            Err(error) => draft.questions.push(format!("{path}: {error}. Write a route for it by hand?")),
        }
    }
    draft.questions.extend(ask_about_files(&document.external_references()));
    let names = routes::add(&mut draft, &items, RouteSource::Document);
    let upstream = upstream.map(str::to_owned).or(origin);
    if upstream.is_none() {
        draft
            .questions
            .push(format!("Where is the API? The document names no server; {DEFAULT_UPSTREAM} is a guess."));
    }
    let upstream = upstream.unwrap_or_else(|| DEFAULT_UPSTREAM.to_owned());
    draft.about = about(source);
    draft.settings = settings(&upstream, &names, ambiguous_field(&document, &items));
    Ok(draft)
}

fn ask_about_files(references: &BTreeSet<&str>) -> Option<String> {
    let first = references.first()?;
    let count = references.len();
    Some(format!(
        "{count} references lead to other files (`{first}`), which are not read: what is there has no routes, parameters \
         or tags here. Can you bundle the document into one file (`redocly bundle`, `swagger-cli bundle`) first?"
    ))
}

fn about(source: &str) -> Vec<String> {
    vec![
        format!("Suggested by `larder suggest` from {source}. Nothing is cached while `defaults` has `mode: observe`."),
        "The document says what the API accepts, not what a write changes: read the tags and purges, and the questions \
         at the end."
            .into(),
    ]
}

/// A documented request field whose name has anything but letters, digits and `-`, such as `api_key`.
fn ambiguous_field(document: &Document<'_>, items: &[PathItem]) -> Option<String> {
    let reads = items.iter().filter_map(|item| item.read.as_ref());
    let documented = reads.flat_map(|read| read.headers.iter().cloned());
    let is_ambiguous = |name: &String| name.parse().is_ok_and(|name| is_ambiguous_name(&name));
    document.header_keys().chain(documented).find(is_ambiguous)
}

fn settings(
    upstream: &str,
    header_credentials: &BTreeSet<String>,
    ambiguous: Option<String>,
) -> Vec<Setting> {
    let mut settings = vec![Setting::new("upstream", scalar(upstream), "")];
    let recognised = CallerFields::recognised(Vec::new(), Vec::new());
    let is_known = |name: &str| name.parse().is_ok_and(|name| recognised.identify(&name));
    let unknown: Vec<&str> =
        header_credentials.iter().map(String::as_str).filter(|name| !is_known(name)).collect();
    if !unknown.is_empty() {
        let value = format!("{{also: {}}}", sequence(unknown));
        settings.push(Setting::new("credentials", value, "API keys by `components.securitySchemes`"));
    }
    if let Some(name) = ambiguous {
        let why = format!(
            "by default larder drops fields like `{name}`, which some servers read as if they had dashes"
        );
        settings.push(Setting::new("underscores", "pass", why));
    }
    let why = "everything passes, and Cache-Status says what would happen; remove it to cache";
    settings.push(Setting::new("defaults", "{mode: observe}", why));
    settings
}

#[cfg(test)]
mod tests;
