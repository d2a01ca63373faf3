//! Paths: the templates of routes, and the normal form of what clients send (RFC 3986 §6.2.2).
//!
//! A GET is cached only under the one normal spelling of its path, so no other spelling can put anything there.

mod normal;
mod parse;
#[cfg(test)]
mod tests;

pub(super) use normal::percent_decoded;
pub use normal::{is_normal, normal_form};

use crate::purge::LoosePath;

/// `/api/courses/{id}`, `/files/{*rest}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// An empty one, only as the last, is a trailing slash.
    Literal(String),
    Parameter(String),
    /// The rest of the path, at least one segment; only as the last.
    Rest(String),
}

impl PathTemplate {
    /// The error says what is wrong and how to write it instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.to_owned(), segments: parse::segments(text)? })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The values of its parameters in a path that it matches, percent-decoded.
    pub fn captures<'t>(&'t self, path: &str) -> Vec<(&'t str, String)> {
        self.values(path, percent_decoded)
    }

    /// The values of its parameters in any spelling of a path that it matches; a loose path is decoded already.
    pub fn captures_loosely<'t>(&'t self, path: &LoosePath) -> Vec<(&'t str, String)> {
        self.values(path.as_str(), str::to_owned)
    }

    /// The path above its first parameter, as far as whole segments go: what all the paths that it matches share.
    pub fn literal_prefix(&self) -> LoosePath {
        let literals = self.segments.iter().map_while(|segment| match segment {
            Segment::Literal(literal) => Some(literal.as_str()),
            Segment::Parameter(_) | Segment::Rest(_) => None,
        });
        LoosePath::new(&format!("/{}", literals.collect::<Vec<_>>().join("/")))
    }

    fn values<'t>(&'t self, path: &str, decode: impl Fn(&str) -> String) -> Vec<(&'t str, String)> {
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
                Segment::Rest(name) => values.push((name.as_str(), decode(text))),
            }
            left = after;
        }
        values
    }
}
