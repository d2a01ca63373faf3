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
use super::fields::Fields;
use super::yaml::YamlNode;

/// A mapping in the file.
#[derive(Debug)]
pub(super) struct Section {
    /// The name in error messages.
    pub name: &'static str,
    /// Groups of keys; the sections `routes[]` and `defaults` share one.
    pub groups: &'static [&'static [Key]],
}

#[derive(Debug)]
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// The default as it would be written in the file.
    pub default: Option<&'static str>,
    pub required: bool,
    /// The key has no effect on a route whose GETs are not cached.
    pub(crate) cache_only: bool,
    /// Read it with [`Key::doc`].
    pub(crate) raw_doc: &'static str,
}

/// The values that a key accepts, as far as an editor can check them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Duration,
    Size,
    Boolean,
    Count,
    /// A number from 0 to 1.
    Fraction,
    Text,
    /// Text that matches a regular expression.
    Matching(&'static str),
    Word(&'static [&'static str]),
    ListOf(&'static Kind),
    /// A mapping of names to values; a value may be empty.
    Names(&'static Kind),
    /// A mapping of HTTP status codes to values.
    Statuses(&'static Kind),
    Mapping(&'static Section),
    OneOf(&'static [Kind]),
}

/// Reads and checks the value of a key.
pub(super) struct Reader<T> {
    pub kind: Kind,
    parse: fn(&YamlNode, &Diagnostics) -> Option<T>,
}

/// Settings read from a section; implemented by `settings!`.
pub(super) trait Settings: Sized {
    const SECTION: &'static Section;

    /// Reads every key. Returns `None` if one of them has an error, which is then reported.
    fn read(fields: &Fields<'_>) -> Option<Self>;

    fn from_node(node: &YamlNode, diagnostics: &Diagnostics) -> Option<Self> {
        Self::read(&Fields::open(node, Self::SECTION, diagnostics)?)
    }
}

impl Section {
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.groups.iter().copied().flatten()
    }

    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }

    /// This section and all sections below it, breadth first.
    pub(super) fn descendants(&'static self) -> Vec<&'static Section> {
        let mut found = vec![self];
        let mut next = 0;
        while let Some(section) = found.get(next) {
            found.extend(section.keys().flat_map(|key| key.kind.sections()).collect::<Vec<_>>());
            next += 1;
        }
        found
    }
}

impl Key {
    /// Full sentences, in Markdown.
    pub(super) fn doc(&self) -> &'static str {
        self.raw_doc.trim_start()
    }
}

impl Kind {
    /// The sections that a value of this kind may hold, each once.
    pub(super) fn sections(self) -> Vec<&'static Section> {
        match self {
            Kind::Mapping(section) => vec![section],
            Kind::ListOf(kind) | Kind::Names(kind) | Kind::Statuses(kind) => kind.sections(),
            Kind::OneOf(kinds) => {
                let mut found: Vec<&'static Section> =
                    kinds.iter().copied().flat_map(Kind::sections).collect();
                found.dedup_by_key(|section| section.name);
                found
            }
            _ => Vec::new(),
        }
    }
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

/// Reads a mapping with the keys of `T`.
pub(super) const fn mapping<T: Settings>() -> Reader<T> {
    Reader::new(Kind::Mapping(T::SECTION), T::from_node)
}

/// Keeps the node of a value that is read later, together with other parts of the file.
pub(super) const fn deferred(kind: Kind) -> Reader<YamlNode> {
    Reader::new(kind, |node, _| Some(node.clone()))
}

/// The common kinds with one fixed word.
pub(super) const OFF: Kind = Kind::Word(&["off"]);
pub(super) const NONE: Kind = Kind::Word(&["none"]);

/// A reader of one of several words, each with its value.
macro_rules! words {
    ($($word:literal => $value:expr),+ $(,)?) => {
        $crate::config::keys::Reader::new(
            $crate::config::keys::Kind::Word(&[$($word),+]),
            |node, diagnostics| $crate::config::scalars::word(node, &[$(($word, $value)),+], diagnostics),
        )
    };
}

/// The [`Key`] of one declaration.
macro_rules! key {
    ($doc:expr, ($field:ident $($name:literal)?), $type:ty, $reader:expr, ($mode:ident $($default:literal)?) $(, $flag:ident)?) => {
        $crate::config::keys::Key {
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

/// Declares the keys of a section and the type of its settings. See the head of this file.
///
/// With `partial`, each field is an `Option` that is `None` if its value has an error, so that the caller can check the
/// other values too.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident = $title:literal { $(
            $(#[doc = $doc:literal])+
            $field:ident $(as $name:literal)? : $type:ty = $reader:expr, $mode:ident $($default:literal)?;
        )+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $Name { $(
            $(#[doc = $doc])+
            $vis $field: $crate::config::keys::key!(@type $mode, $type),
        )+ }

        impl $crate::config::keys::Settings for $Name {
            const SECTION: &'static $crate::config::keys::Section = &$crate::config::keys::Section {
                name: $title,
                groups: &[&[$($crate::config::keys::key!(
                    concat!($($doc),+), ($field $($name)?), $type, $reader, ($mode $($default)?)
                )),+]],
            };

            fn read(fields: &$crate::config::fields::Fields<'_>) -> Option<Self> {
                // Every key is read before the first error returns.
                $(let $field = fields.$mode($crate::config::keys::key!(@name $field $($name)?), &$reader);)+
                Some(Self { $($field: $field?),+ })
            }
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis partial struct $Name:ident = $title:literal { $(
            $(#[doc = $doc:literal])+
            $field:ident $(as $name:literal)? : $type:ty = $reader:expr, $mode:ident $($default:literal)?;
        )+ }
    ) => {
        $(#[$meta])*
        $vis struct $Name { $(
            $(#[doc = $doc])+
            $vis $field: Option<$crate::config::keys::key!(@type $mode, $type)>,
        )+ }

        impl $crate::config::keys::Settings for $Name {
            const SECTION: &'static $crate::config::keys::Section = &$crate::config::keys::Section {
                name: $title,
                groups: &[&[$($crate::config::keys::key!(
                    concat!($($doc),+), ($field $($name)?), $type, $reader, ($mode $($default)?)
                )),+]],
            };

            fn read(fields: &$crate::config::fields::Fields<'_>) -> Option<Self> {
                Some(Self { $(
                    $field: fields.$mode($crate::config::keys::key!(@name $field $($name)?), &$reader),
                )+ })
            }
        }
    };
}

pub(crate) use {key, settings, words};
