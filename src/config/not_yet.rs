//! What the file may say and this version can't do yet. Everything of that kind is refused here and nowhere else.

use super::problem::{Place, Problems};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `{request.json:…}` in a template.
    RequestJson,
    /// `{response.json:…}` in a template.
    ResponseJson,
}

pub fn not_yet(feature: Feature, place: Place, problems: &Problems) {
    let (what, meanwhile) = match feature {
        Feature::RequestJson => (
            "`{request.json…}`",
            "use a value of the path, query, a header or the JWT, or a literal tag that covers more",
        ),
        Feature::ResponseJson => (
            "`{response.json…}`",
            "let the upstream name its tags in `Surrogate-Key` or `Cache-Tag`, or use `{response.header.NAME}`",
        ),
    };
    problems.error(place, format!("{what} is not in this version yet")).help(meanwhile);
}
