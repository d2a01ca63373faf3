//! Versions of HTTP.

/// The versions of HTTP that a connection may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocols {
    Http1,
    /// HTTP/2: negotiated over TLS, where the upstream may choose HTTP/1.1; by prior knowledge otherwise.
    Http2,
}
