//! A mapping of the file, read key by key. A key that its section does not have is an error that suggests the nearest one.

use super::diagnostics::{Diagnostics, Location};
use super::keys::Reader;
use super::masking::{SECRET_NAMES, SECRET_SECTIONS, looks_random};
use super::section::{Key, Section};
use super::suggest::nearest;
use super::yaml::{self, Value, YamlNode};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Located<T> {
    pub value: T,
    pub location: Location,
}

/// Keys at the top level that begin so are ignored: a place for the anchors of YAML.
pub(super) const EXTENSION_PREFIX: &str = "x-";

pub(super) struct Fields<'t> {
    section: &'static Section,
    entries: &'t [(YamlNode, YamlNode)],
    /// The location of the mapping.
    pub location: Location,
    diagnostics: &'t Diagnostics,
}

impl<'t> Fields<'t> {
    /// Opens a mapping; an absent value is an empty one. Returns `None` after reporting that `node` is something else.
    pub(super) fn open(
        node: &'t YamlNode,
        section: &'static Section,
        diagnostics: &'t Diagnostics,
    ) -> Option<Self> {
        let entries = match &node.value {
            Value::Mapping(entries) => entries.as_slice(),
            Value::Null => &[],
            Value::Broken => return None,
            Value::Scalar(_) | Value::List(_) => {
                let error = diagnostics
                    .error(node.location, format!("{} must be a mapping, not {}", section.name, node.kind()))
                    .help(format!("its keys: {}", key_names(section)));
                if has_secret(section) {
                    error.secret();
                }
                return None;
            }
        };
        let fields = Self { section, entries, location: node.location, diagnostics };
        fields.refuse_unknown_keys();
        Some(fields)
    }

    /// The location of the value under `name`, or of the mapping if the key is absent.
    pub(super) fn value_location(&self, name: &str) -> Location {
        self.node(name).map_or(self.location, |node| node.location)
    }

    /// The node under `name`.
    pub(super) fn node(&self, name: &str) -> Option<&'t YamlNode> {
        debug_assert!(self.section.key(name).is_some(), "`{name}` is not a key of {}", self.section.name);
        self.entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }

    /// The value under `name`: `Some(None)` if the key is absent, `None` if its value has an error.
    pub(super) fn optional<T>(&self, name: &str, reader: &Reader<T>) -> Option<Option<T>> {
        match self.node(name) {
            Some(node) => reader.read(node, self.diagnostics).map(Some),
            None => Some(None),
        }
    }

    /// The value under `name`, or the declared default.
    pub(super) fn default<T>(&self, name: &str, reader: &Reader<T>) -> Option<T> {
        match self.node(name) {
            Some(node) => reader.read(node, self.diagnostics),
            None => reader.read(&default_node(self.section.key(name)?)?, self.diagnostics),
        }
    }

    /// The value under `name`; a missing key is an error.
    pub(super) fn required<T>(&self, name: &str, reader: &Reader<T>) -> Option<T> {
        if self.node(name).is_none() {
            self.report_missing(name);
        }
        self.optional(name, reader)?
    }

    /// Reports that the key `name` is absent and needed.
    pub(super) fn report_missing(&self, name: &str) {
        let doc = self.section.key(name).map(Key::doc).unwrap_or_default();
        let location = if self.entries.is_empty() { Location::Start } else { self.location };
        self.diagnostics
            .error(location, format!("{} has no `{name}`", self.section.name))
            .help(format!("add `{name}: …`. {doc}"));
    }

    /// The value under `name` with its location; `None` if the key is absent or its value has an error.
    pub(super) fn located<T>(&self, name: &str, reader: &Reader<T>) -> Option<Located<T>> {
        let node = self.node(name)?;
        let value = reader.read(node, self.diagnostics)?;
        Some(Located { value, location: node.location })
    }

    fn refuse_unknown_keys(&self) {
        for (key, _) in self.entries {
            match &key.value {
                Value::Scalar(name) if self.section.key(name).is_some() || name.contains("${") => {}
                Value::Scalar(name) if self.is_root() && name.starts_with(EXTENSION_PREFIX) => {}
                Value::Scalar(name) => self.refuse_unknown(key, name),
                Value::Broken => {}
                _ => {
                    self.diagnostics
                        .error(key.location, format!("a key must be a name, not {}", key.kind()))
                        .help(format!("known keys of {}: {}", self.section.name, key_names(self.section)));
                }
            }
        }
    }

    fn is_root(&self) -> bool {
        self.diagnostics.root().is_some_and(|root| root.name == self.section.name)
    }

    /// Refuses an unknown key that may be a secret: the value of a key that was left out.
    fn refuse_unnamed(&self, key: &YamlNode) {
        self.diagnostics
            .error(
                key.location,
                format!("unknown key in {}; it is not shown, as it may be a secret", self.section.name),
            )
            .help(format!("known keys: {}", key_names(self.section)))
            .secret();
    }

    /// The section that a misplaced key belongs to. `defaults` has the keys of a route, so the route is named, and comes
    /// first for a key that `defaults` lacks.
    fn find_section_with(&self, name: &str) -> Option<&'static Section> {
        let mut sections = self.diagnostics.root()?.descendants();
        if self.section.name == "defaults" {
            sections.sort_by_key(|section| section.name != "a route");
        }
        sections.into_iter().find(|section| section.name != "defaults" && section.key(name).is_some())
    }

    fn refuse_unknown(&self, key: &YamlNode, name: &str) {
        let help = self.help_for(name);
        let may_be_secret = has_secret(self.section) && !name.starts_with(EXTENSION_PREFIX);
        if help.is_none() && (may_be_secret || looks_random(name)) {
            return self.refuse_unnamed(key);
        }
        let message = if self.is_root() {
            format!("unknown key `{name}`")
        } else {
            format!("unknown key `{name}` in {}", self.section.name)
        };
        let help = help.unwrap_or_else(|| format!("known keys: {}", key_names(self.section)));
        self.diagnostics.error(key.location, message).help(help);
    }

    /// Guesses which key was meant.
    fn help_for(&self, name: &str) -> Option<String> {
        if matches!(name, "true" | "True") && self.section.key("on").is_some() {
            return Some("a tool that reads YAML 1.1 has taken `on` for `true`; write `by`".to_owned());
        }
        if let Some(right) = nearest(name, self.section.keys().map(|key| key.name)) {
            return Some(format!("did you mean `{right}`?"));
        }
        if let Some(right) = equivalent_key(name).filter(|right| self.section.key(right).is_some()) {
            return Some(format!("in larder it is `{right}`"));
        }
        let other = self.find_section_with(name)?;
        Some(match self.diagnostics.root().is_some_and(|root| root.name == other.name) {
            true => format!("`{name}` belongs at the top level of the file"),
            false => format!("`{name}` belongs under {}", other.name),
        })
    }
}

/// Rewrites a value in its short form as a mapping with the one key `key`.
pub(super) fn expand_short_form(node: &YamlNode, key: &str) -> YamlNode {
    match &node.value {
        Value::Mapping(_) | Value::Broken => node.clone(),
        _ => {
            let entry = (YamlNode::scalar(key, node.location), node.clone());
            YamlNode::new(Value::Mapping(vec![entry]), node.location)
        }
    }
}

/// The key of larder that corresponds to a key of another proxy.
fn equivalent_key(name: &str) -> Option<&'static str> {
    Some(match name {
        "backend" | "backends" | "origin" | "proxy_pass" | "reverse_proxy" | "target" => "upstream",
        "certificate" | "certificate_file" | "crt" | "ssl_certificate" => "cert",
        "private_key" | "ssl_certificate_key" => "key",
        "bind" | "entryPoints" | "port" => "listen",
        "cache" => "store",
        "location" | "match" | "pattern" | "prefix" | "route" | "rule" | "uri" => "path",
        "expires" | "max_age" | "proxy_cache_valid" | "valid" => "ttl",
        "ban" | "invalidate" | "invalidates" => "purges",
        "vary" => "headers",
        "args" | "params" => "query",
        "grace" => "stale_while_revalidate",
        _ => return None,
    })
}

/// The declared default as if it stood in the file.
pub(super) fn default_node(key: &Key) -> Option<YamlNode> {
    yaml::parse(key.default?, &Diagnostics::default()).map(|node| node.with_location(Location::Start))
}

fn key_names(section: &Section) -> String {
    section.keys().map(|key| key.name).collect::<Vec<_>>().join(", ")
}

/// Whether a secret may stand where a key of this section is expected.
fn has_secret(section: &Section) -> bool {
    SECRET_SECTIONS.contains(&section.name) || section.keys().any(|key| SECRET_NAMES.contains(&key.name))
}
