//! The contents of a write, and the fields of its response.

use http::header::HeaderMap;

use crate::policy::content::Content;

/// The parts of an exchange that are known after the request's head; `None`: absent or unreadable.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteExchange<'a> {
    /// The request's content.
    pub request_content: Option<&'a Content>,
    /// The response's fields.
    pub response_headers: Option<&'a HeaderMap>,
    /// The response's content.
    pub response_content: Option<&'a Content>,
    /// The `Host` that the upstream got in place of the client's.
    pub upstream_host: Option<&'a str>,
}
