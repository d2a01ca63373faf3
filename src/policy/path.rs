//! Paths: the templates of routes, and the normal form of what clients send (RFC 3986 §6.2.2).

/// `/api/courses/{id}`, `/files/{*rest}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    Literal(String),
    Parameter(String),
    /// The rest of the path, at least one segment; only as the last.
    Rest(String),
}

impl PathTemplate {
    /// The error says what is wrong and how to write it instead.
    pub fn parse(_text: &str) -> Result<Self, String> {
        todo!()
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The values of its parameters in a path that it matches, percent-decoded.
    pub fn captures<'t>(&'t self, _path: &str) -> Vec<(&'t str, String)> {
        todo!()
    }
}

/// Whether a path is spelled in its normal form: no escapes of unreserved characters, escapes in upper case, no dot
/// segments, no empty segments, nothing that another reader of paths could take for a separator.
pub fn is_normal(_path: &str) -> bool {
    todo!()
}

/// The normal form of a path.
pub fn normal_form(_path: &str) -> std::borrow::Cow<'_, str> {
    todo!()
}
