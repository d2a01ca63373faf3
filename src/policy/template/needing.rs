//! What of a request a template needs.

use http::HeaderName;

use super::{Source, Template};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs<'t> {
    Query(&'t str),
    Header(&'t HeaderName),
    Cookie(&'t str),
    /// A claim of the bearer token.
    Jwt,
}

impl Template {
    pub fn needs(&self) -> impl Iterator<Item = Needs<'_>> {
        self.sources().filter_map(|source| match source {
            Source::Query(name) => Some(Needs::Query(name)),
            Source::Header(name) => Some(Needs::Header(name)),
            Source::Cookie(name) => Some(Needs::Cookie(name)),
            Source::Jwt(_) => Some(Needs::Jwt),
            Source::Path(_)
            | Source::RequestJson(_)
            | Source::RequestForm(_)
            | Source::EventJson(_)
            | Source::ResponseHeader(_)
            | Source::ResponseJson(_) => None,
        })
    }
}
