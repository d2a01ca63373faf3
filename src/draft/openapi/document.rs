//! The document as a tree, with its references followed. Every walk is bounded: a reference may lead back to itself.

use std::collections::BTreeSet;

use http::Uri;
use serde_json::{Map, Value};

/// Longest chain of references.
const MAX_REFERENCES: usize = 16;

/// Most nodes of a schema that are looked at.
const MAX_SCHEMA_NODES: usize = 4_000;

/// Deepest nesting of a schema that is looked at.
const MAX_SCHEMA_DEPTH: usize = 12;

pub(super) struct Document<'d> {
    root: &'d Value,
}

impl<'d> Document<'d> {
    /// # Errors
    /// The document is not OpenAPI 3.
    pub(super) fn new(root: &'d Value) -> Result<Self, String> {
        let version = |key: &str| root.get(key).and_then(as_scalar);
        match (version("openapi"), version("swagger")) {
            (Some(version), _) if version.starts_with("3.") => Ok(Self { root }),
            (Some(version), _) => Err(format!("OpenAPI {version} is not supported; expected 3.0 or 3.1")),
            (None, Some(version)) => {
                Err(format!("Swagger {version} is not supported; convert it to OpenAPI 3.0 first"))
            }
            (None, None) => Err("this is no OpenAPI document: it has no `openapi: 3.x`".into()),
        }
    }

    pub(super) fn paths(&self) -> Vec<(&'d str, &'d Value)> {
        let paths = self.root.get("paths").and_then(Value::as_object);
        paths
            .into_iter()
            .flatten()
            .filter(|(path, _)| path.starts_with('/'))
            .map(|(path, node)| (path.as_str(), node))
            .collect()
    }

    /// The origin of the first server, if it is a URL, and the path before all paths.
    pub(super) fn server(&self) -> (Option<String>, String) {
        let Some(server) = self.root.pointer("/servers/0") else { return (None, String::new()) };
        let mut url = server.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
        for (name, variable) in server.get("variables").and_then(Value::as_object).into_iter().flatten() {
            let default = variable.get("default").and_then(as_scalar).unwrap_or_default();
            url = url.replace(&format!("{{{name}}}"), &default);
        }
        let Ok(uri) = url.parse::<Uri>() else { return (None, String::new()) };
        let origin = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme @ ("http" | "https")), Some(authority)) => Some(format!("{scheme}://{authority}")),
            _ => None,
        };
        (origin, uri.path().trim_end_matches('/').to_owned())
    }

    /// The node that a reference stands for; other nodes stand for themselves.
    pub(super) fn resolve(&self, mut node: &'d Value) -> &'d Value {
        for _ in 0..MAX_REFERENCES {
            let Some(pointer) = reference(node) else { return node };
            let Some(target) = self.root.pointer(pointer) else { return &Value::Null };
            node = target;
        }
        &Value::Null
    }

    /// The reference of a node, if it leads to nothing in this document.
    pub(super) fn missing_reference(&self, mut node: &'d Value) -> Option<&'d str> {
        let written = node.get("$ref")?.as_str()?;
        for _ in 0..MAX_REFERENCES {
            node.get("$ref")?;
            match reference(node).and_then(|pointer| self.root.pointer(pointer)) {
                Some(target) => node = target,
                None => break,
            }
        }
        Some(written)
    }

    /// All references to other files.
    pub(super) fn external_references(&self) -> BTreeSet<&'d str> {
        let (mut found, mut open) = (BTreeSet::new(), vec![self.root]);
        while let Some(node) = open.pop() {
            match node {
                Value::Object(members) => {
                    found.extend(node.get("$ref").and_then(Value::as_str).filter(|to| !to.starts_with('#')));
                    open.extend(members.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        found
    }

    /// A member of a node, with its reference followed.
    pub(super) fn get(&self, node: &'d Value, key: &str) -> &'d Value {
        self.resolve(node).get(key).map_or(&Value::Null, |member| self.resolve(member))
    }

    pub(super) fn members(&self, node: &'d Value) -> Option<&'d Map<String, Value>> {
        self.resolve(node).as_object()
    }

    /// The security requirements of an operation, or else of the document.
    pub(super) fn security(&self, operation: &'d Value) -> &'d [Value] {
        let list = |node: &'d Value| node.get("security").and_then(Value::as_array);
        list(operation).or_else(|| list(self.root)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn security_scheme(&self, name: &str) -> Option<&'d Value> {
        let schemes = self.root.pointer("/components/securitySchemes")?;
        schemes.get(name).map(|scheme| self.resolve(scheme))
    }

    /// The request fields of all API keys.
    pub(super) fn header_keys(&self) -> impl Iterator<Item = String> {
        let schemes = self.root.pointer("/components/securitySchemes").and_then(Value::as_object);
        let schemes = schemes.into_iter().flatten().map(|(_, scheme)| self.resolve(scheme));
        let in_header = schemes.filter(|scheme| scheme.get("in").and_then(Value::as_str) == Some("header"));
        in_header.filter_map(|scheme| scheme.get("name").and_then(as_scalar))
    }

    /// The name of the schema that a node refers to, itself or as the items of a list.
    pub(super) fn schema_name(&self, schema: &'d Value) -> Option<&'d str> {
        let named = |node: &'d Value| reference(node)?.strip_prefix("/components/schemas/");
        named(schema).or_else(|| named(schema.get("items")?))
    }

    /// The names of all schemas that a schema embeds.
    pub(super) fn schema_names(&self, schema: &'d Value) -> BTreeSet<&'d str> {
        let (mut names, mut open, mut looked_at) = (BTreeSet::new(), vec![(schema, 0)], 0);
        while let Some((node, depth)) = open.pop() {
            looked_at += 1;
            if looked_at > MAX_SCHEMA_NODES || depth > MAX_SCHEMA_DEPTH {
                continue;
            }
            if let Some(pointer) = reference(node) {
                let is_new =
                    pointer.strip_prefix("/components/schemas/").is_none_or(|name| names.insert(name));
                if is_new && let Some(target) = self.root.pointer(pointer) {
                    open.push((target, depth + 1));
                }
                continue;
            }
            match node {
                Value::Object(members) => open.extend(members.values().map(|member| (member, depth + 1))),
                Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
                _ => {}
            }
        }
        names
    }
}

/// The JSON Pointer of a reference into this document.
fn reference(node: &Value) -> Option<&str> {
    node.get("$ref")?.as_str()?.strip_prefix('#')
}

/// A scalar as text. A YAML file has texts only.
pub(super) fn as_scalar(node: &Value) -> Option<String> {
    match node {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
