//! Tag templates: `course:{id}`, `progress:{jwt.sub}`. A value is data: it becomes part of one literal tag.

use http::HeaderMap;

use super::RequestHead;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {}

/// Where the values come from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    pub request: RequestHead<'a>,
    /// The path's parameters.
    pub captures: &'a [(&'a str, String)],
    /// Known once there is a response.
    pub response_headers: Option<&'a HeaderMap>,
}

impl Template {
    /// The error says what is wrong and what can be written instead.
    pub fn parse(_text: &str) -> Result<Self, String> {
        todo!()
    }

    pub fn as_str(&self) -> &str {
        todo!()
    }

    /// Names of the path parameters it uses.
    pub fn path_parameters(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// Whether it stands for the same tag whatever the request.
    pub fn is_literal(&self) -> bool {
        todo!()
    }

    /// Whether it can be rendered only when the response is there.
    pub fn needs_response(&self) -> bool {
        todo!()
    }

    /// The tags it makes; none if a value is missing.
    pub fn render(&self, _sources: &Sources<'_>) -> Vec<String> {
        todo!()
    }
}
