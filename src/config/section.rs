//! The parts of the file: sections, their keys, and the kinds of values. The schema, the options page and suggestions
//! are made from it.

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
    pub cache_only: bool,
    /// Read it with [`Key::doc`].
    pub raw_doc: &'static str,
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

/// The common kinds with one fixed word.
pub(super) const OFF: Kind = Kind::Word(&["off"]);
pub(super) const NONE: Kind = Kind::Word(&["none"]);

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
