//! The request parts that a template needs.

use http::HeaderName;

use super::{CALLER, Template, ValueSource};
use crate::policy::secret_parameters::is_secret_parameter;

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

    /// Whether each value is of the resource: in its path or query, or in a response field that `is_kept`. Others say
    /// something of who sent the request.
    pub(crate) fn names_resource_only(
        &self,
        path_parameters: &[&str],
        is_kept: impl Fn(&HeaderName) -> bool,
    ) -> bool {
        self.sources().all(|source| match source {
            ValueSource::Path(name) => name != CALLER || path_parameters.contains(&CALLER),
            ValueSource::Query(name) => !is_secret_parameter(name),
            ValueSource::ResponseHeader(name) => is_kept(name),
            ValueSource::ResponseJson(_) => true,
            ValueSource::Header(_)
            | ValueSource::Cookie(_)
            | ValueSource::Jwt(_)
            | ValueSource::RequestJson(_)
            | ValueSource::RequestForm(_)
            | ValueSource::EventJson(_)
            | ValueSource::EventChannel => false,
        })
    }
}
