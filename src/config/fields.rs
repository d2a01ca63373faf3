//! A mapping of the file, read key by key. What its section does not know is an error, with the nearest right name.

use super::keys::{Key, SECTIONS, Section};
use super::problem::{Place, Problems};
use super::suggest::nearest;
use super::tree::{self, Node, Value};

/// Reads one value; `None` once its problem is reported.
pub type Reader<T> = fn(&Node, &Problems) -> Option<T>;

pub struct Fields<'t> {
    section: &'static Section,
    entries: &'t [(Node, Node)],
    place: Place,
    problems: &'t Problems,
}

impl<'t> Fields<'t> {
    /// Nothing at all is an empty mapping. `None` once it is reported that `node` is something else.
    pub fn open(node: &'t Node, section: &'static Section, problems: &'t Problems) -> Option<Self> {
        let entries = match &node.value {
            Value::Mapping(entries) => entries.as_slice(),
            Value::Null => &[],
            Value::Broken => return None,
            Value::Scalar(_) | Value::List(_) => {
                problems
                    .error(node.place, format!("{} must be a mapping, not {}", section.name, node.kind()))
                    .help(format!("its keys: {}", names(section)));
                return None;
            }
        };
        let fields = Self { section, entries, place: node.place, problems };
        fields.refuse_unknown_keys();
        Some(fields)
    }

    /// Where the mapping begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// What is written under `name`.
    pub fn given(&self, name: &str) -> Option<&'t Node> {
        debug_assert!(self.section.key(name).is_some(), "`{name}` is not in the table of keys");
        self.entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }

    /// The value under `name`, if one is written.
    pub fn optional<T>(&self, name: &str, read: Reader<T>) -> Option<T> {
        read(self.given(name)?, self.problems)
    }

    /// The value under `name`, or the table's default.
    pub fn read<T>(&self, name: &str, read: Reader<T>) -> Option<T> {
        match self.given(name) {
            Some(node) => read(node, self.problems),
            None => read(&default_of(self.section.key(name)?)?, self.problems),
        }
    }

    /// The value under `name`; an error if it is missing.
    pub fn required<T>(&self, name: &str, read: Reader<T>) -> Option<T> {
        if self.given(name).is_none() {
            let doc = self.section.key(name).map(|key| key.doc).unwrap_or_default();
            let place = if self.entries.is_empty() { Place::Start } else { self.place };
            self.problems
                .error(place, format!("{} has no `{name}`", self.section.name))
                .help(format!("add `{name}: …`. {doc}"));
        }
        self.optional(name, read)
    }

    fn refuse_unknown_keys(&self) {
        for (key, _) in self.entries {
            match &key.value {
                Value::Scalar(name) if self.section.key(name).is_some() || name.contains("${") => {}
                Value::Scalar(name) => self.refuse_unknown(key, name),
                Value::Broken => {}
                _ => {
                    self.problems
                        .error(key.place, format!("a key must be a name, not {}", key.kind()))
                        .help(format!("known keys of {}: {}", self.section.name, names(self.section)));
                }
            }
        }
    }

    fn refuse_unknown(&self, key: &Node, name: &str) {
        let known = self.section.keys.iter().map(|key| key.name);
        let help = if let Some(right) = nearest(name, known) {
            format!("did you mean `{right}`?")
        } else if let Some(right) = elsewhere(name).filter(|right| self.section.key(right).is_some()) {
            format!("here it is `{right}`")
        } else if let Some(other) = SECTIONS.iter().find(|section| section.key(name).is_some()) {
            match other.name {
                "proxy.yaml" => format!("`{name}` belongs at the top level of the file"),
                section => format!("`{name}` belongs under {section}"),
            }
        } else {
            format!("known keys: {}", names(self.section))
        };
        let of = if self.section.name == "proxy.yaml" { "" } else { self.section.name };
        let message = match of {
            "" => format!("unknown key `{name}`"),
            section => format!("unknown key `{name}` in {section}"),
        };
        self.problems.error(key.place, message).help(help);
    }
}

/// What other proxies call a key, and what it is here.
fn elsewhere(name: &str) -> Option<&'static str> {
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

/// The default as if it were written in the file.
pub fn default_of(key: &Key) -> Option<Node> {
    tree::parse(key.default?, &Problems::default()).map(|node| node.moved_to(Place::Start))
}

fn names(section: &Section) -> String {
    section.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}
