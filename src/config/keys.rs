//! The declaration of keys in `proxy.yaml`: each key is declared once, with its type, reader, default and
//! documentation. The settings type, the reading code, the JSON Schema, `docs/options.md` and the suggestions for
//! misspelt keys are generated from the declaration.
//!
//! # Adding a key
//!
//! Add an entry to the `settings!` declaration of its section, or, for a key of a route, to `route_keys!` in
//! `policy/route_keys.rs`:
//!
//! ```text
//! /// Maximum number of client connections.
//! connections: usize = COUNT, default "10000";
//! ```
//!
//! - The doc comment documents the field and the option: full sentences, Markdown.
//! - `COUNT` is a [`Reader`]: it checks the value, reports errors, and states the [`Kind`] for editors. `scalars.rs` has
//!   the common ones; a section defines its own beside its declaration.
//! - The mode is one of `default "TEXT"` (the value as it would be written in the file), `required`, and `optional`
//!   (the field is an `Option`). Keys of routes may also be `inherited` (set while routes are merged).
//! - `json as "format": bool` declares the key `format` and the field `json`.
//!
//! Then add the key with its default to `proxy.yaml`, and regenerate the two files (tests compare them):
//! `larder schema > config/proxy.schema.json` and `larder schema --format markdown > docs/options.md`.

use super::diagnostics::Diagnostics;
use super::section::Kind;
use super::yaml::YamlNode;

/// Reads and checks the value of a key.
pub(super) struct Reader<T> {
    pub kind: Kind,
    parse: fn(&YamlNode, &Diagnostics) -> Option<T>,
}

impl<T> Reader<T> {
    pub(super) const fn new(kind: Kind, parse: fn(&YamlNode, &Diagnostics) -> Option<T>) -> Self {
        Self { kind, parse }
    }

    /// Returns `None` after reporting an error.
    pub(super) fn read(&self, node: &YamlNode, diagnostics: &Diagnostics) -> Option<T> {
        (self.parse)(node, diagnostics)
    }
}

/// Keeps the node of a value that is read later, together with other parts of the file.
pub(super) const fn deferred(kind: Kind) -> Reader<YamlNode> {
    Reader::new(kind, |node, _| Some(node.clone()))
}

/// The [`Key`] of one declaration.
macro_rules! key {
    ($doc:expr, ($field:ident $($name:literal)?), $type:ty, $reader:expr, ($mode:ident $($default:literal)?) $(, $flag:ident)?) => {
        $crate::config::section::Key {
            name: $crate::config::keys::key!(@name $field $($name)?),
            kind: {
                const READER: $crate::config::keys::Reader<$type> = $reader;
                READER.kind
            },
            default: $crate::config::keys::key!(@default $($default)?),
            required: $crate::config::keys::key!(@required $mode),
            cache_only: $crate::config::keys::key!(@cache_only $($flag)?),
            raw_doc: $doc,
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
    (@required required) => { true };
    (@required $mode:ident) => { false };
    (@cache_only) => { false };
    (@cache_only cache_only) => { true };
    (@type optional, $type:ty) => { Option<$type> };
    (@type $mode:ident, $type:ty) => { $type };
}

pub(crate) use key;
