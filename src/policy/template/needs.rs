//! The request parts that a template needs.

use http::HeaderName;

use super::{Template, ValueSource};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemplateNeed<'t> {
    Query(&'t str),
    Header(&'t HeaderName),
    Cookie(&'t str),
    /// A claim of the bearer token.
    Jwt,
}

impl Template {
    pub(crate) fn needs(&self) -> impl Iterator<Item = TemplateNeed<'_>> {
        self.sources().filter_map(|source| match source {
            ValueSource::Query(name) => Some(TemplateNeed::Query(name)),
            ValueSource::Header(name) => Some(TemplateNeed::Header(name)),
            ValueSource::Cookie(name) => Some(TemplateNeed::Cookie(name)),
            ValueSource::Jwt(_) => Some(TemplateNeed::Jwt),
            ValueSource::Path(_)
            | ValueSource::RequestJson(_)
            | ValueSource::RequestForm(_)
            | ValueSource::EventJson(_)
            | ValueSource::EventChannel
            | ValueSource::ResponseHeader(_)
            | ValueSource::ResponseJson(_) => None,
        })
    }
}
