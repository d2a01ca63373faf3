//! Path templates of routes, and the normal form of request paths (RFC 3986 §6.2.2).
//!
//! A GET is cached only under the normal form of its path, so other spellings cannot store anything there.

mod alternatives;
mod caller_segments;
mod framework_readings;
mod normal;
mod parse;
#[cfg(test)]
mod tests;

pub(crate) use caller_segments::is_caller_segment;
pub(super) use framework_readings::framework_readings;
pub(crate) use normal::decode_escapes;
pub(super) use normal::percent_decoded;
pub use normal::{is_normal, normalize};

use crate::purge::NormalizedPath;

/// `/api/courses/{id}`, `/api/courses/{id}:archive`, `/files/{*rest}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    segments: Vec<Segment>,
    /// It matches with a slash at the end, too, unless another template names that path: `/c/` for `/c/{*rest?}`.
    takes_slash: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Empty only as the last segment: a trailing slash.
    Literal(String),
    Parameter(String),
    Affixed(AffixedParameter),
    /// The rest of the path, at least one segment; only as the last segment.
    Rest(String),
}

/// A parameter that is a part of its segment: `{id}:archive`, `Courses({id})`. Its affixes are plain ASCII, so that every
/// reading of a path has them at the same places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AffixedParameter {
    pub prefix: String,
    pub name: String,
    pub suffix: String,
}

impl Segment {
    /// The name of its parameter.
    pub(crate) fn parameter(&self) -> Option<&str> {
        match self {
            Segment::Literal(_) => None,
            Segment::Parameter(name) | Segment::Rest(name) => Some(name),
            Segment::Affixed(parameter) => Some(&parameter.name),
        }
    }
}

impl PathTemplate {
    /// # Errors
    /// Says what is wrong and how to write it instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.to_owned(), segments: parse::parse_segments(text)?, takes_slash: false })
    }

    /// Whether it ends with the rest of a path, and so may match paths of several kinds.
    pub(super) fn has_rest(&self) -> bool {
        matches!(self.segments.last(), Some(Segment::Rest(_)))
    }

    /// Parses a path with alternatives: `/api/{notes|tasks}/{*rest?}` stands for four templates.
    ///
    /// # Errors
    /// Says what is wrong and how to write it instead.
    pub(crate) fn parse_alternatives(text: &str) -> Result<Vec<Self>, String> {
        alternatives::expand(text)
    }

    /// The spelling of the configuration.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it also stands for its path with a slash at the end.
    pub(crate) fn takes_slash(&self) -> bool {
        self.takes_slash
    }

    /// The parameters' values in a matching path, percent-decoded.
    pub(crate) fn captures<'t>(&'t self, path: &str) -> Vec<(&'t str, String)> {
        self.capture_values(path, percent_decoded)
    }

    /// The parameters' values in a normalized path, which is decoded already.
    pub(crate) fn captures_loosely<'t>(&'t self, path: &NormalizedPath) -> Vec<(&'t str, String)> {
        self.capture_values(path.as_str(), str::to_owned)
    }

    /// The literal segments before the first parameter, shared by all matching paths.
    pub(crate) fn literal_prefix(&self) -> NormalizedPath {
        let literals = self.segments.iter().map_while(|segment| match segment {
            Segment::Literal(literal) => Some(literal.as_str()),
            Segment::Parameter(_) | Segment::Affixed(_) | Segment::Rest(_) => None,
        });
        NormalizedPath::new(&format!("/{}", literals.collect::<Vec<_>>().join("/")))
    }

    fn capture_values<'t>(&'t self, path: &str, decode: impl Fn(&str) -> String) -> Vec<(&'t str, String)> {
        let mut left = path.strip_prefix('/');
        let mut values = Vec::new();
        for segment in &self.segments {
            let Some(text) = left else { break };
            let (first, after) = match text.split_once('/') {
                Some((first, after)) => (first, Some(after)),
                None => (text, None),
            };
            match segment {
                Segment::Literal(_) => {}
                Segment::Parameter(name) => values.push((name.as_str(), decode(first))),
                Segment::Affixed(AffixedParameter { prefix, name, suffix }) => {
                    let end = first.len().saturating_sub(suffix.len());
                    values.push((name.as_str(), decode(first.get(prefix.len()..end).unwrap_or_default())));
                }
                Segment::Rest(name) => values.push((name.as_str(), decode(text))),
            }
            left = after;
        }
        values
    }
}
