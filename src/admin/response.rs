//! Responses of the admin listener. Every error says what is wrong and how to fix it.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;

/// The field of every answer of the admin listener, by which its clients tell it from any other server.
pub(super) const LISTENER_FIELD: HeaderName = HeaderName::from_static("larder-listener");
pub(super) const LISTENER_NAME: HeaderValue = HeaderValue::from_static("admin");

pub(super) type AdminResponse = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// An error response.
#[derive(Debug)]
pub(super) struct AdminError {
    status: StatusCode,
    hint: Option<ErrorHeader>,
    message: ErrorBody,
}

/// A header that lets programs handle the error.
#[derive(Clone, Copy, Debug)]
enum ErrorHeader {
    Allow(&'static str),
    Authenticate,
    RetryAfter,
}

#[derive(Debug, Serialize)]
struct ErrorBody {
    error: String,
    fix: String,
}

impl AdminError {
    pub(super) fn new(status: StatusCode, error: impl Into<String>, fix: impl Into<String>) -> Self {
        let message = ErrorBody { error: error.into(), fix: fix.into() };
        Self { status, hint: None, message }
    }

    pub(super) fn bad_request(error: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, fix)
    }

    pub(super) fn forbidden(error: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error, fix)
    }

    pub(super) fn unauthorized(error: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error, fix).with_header(ErrorHeader::Authenticate)
    }

    pub(super) fn method_not_allowed(allowed: &'static str) -> Self {
        let error = "method not allowed";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, error, format!("use {allowed}"))
            .with_header(ErrorHeader::Allow(allowed))
    }

    /// The store did not accept the purge: nothing is acknowledged, so the client must retry.
    pub(super) fn unavailable(error: impl Into<String>) -> Self {
        let fix = "retry; until it succeeds, only this replica is sure to apply the purge";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, fix).with_header(ErrorHeader::RetryAfter)
    }

    fn with_header(self, hint: ErrorHeader) -> Self {
        Self { hint: Some(hint), ..self }
    }

    pub(super) fn into_response(self) -> AdminResponse {
        let mut answer = json(self.status, &self.message);
        answer.headers_mut().extend(self.hint.map(ErrorHeader::into_header));
        answer
    }
}

impl ErrorHeader {
    fn into_header(self) -> (HeaderName, HeaderValue) {
        match self {
            ErrorHeader::Allow(methods) => (ALLOW, HeaderValue::from_static(methods)),
            ErrorHeader::Authenticate => {
                (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"larder admin\""))
            }
            ErrorHeader::RetryAfter => (RETRY_AFTER, HeaderValue::from_static("1")),
        }
    }
}

pub(super) fn json(status: StatusCode, content: &impl Serialize) -> AdminResponse {
    match serde_json::to_vec_pretty(content) {
        Ok(mut content) => {
            content.push(b'\n');
            with_content_type(status, HeaderValue::from_static("application/json"), content)
        }
        // Serializing fails only for maps with non-string keys, and there are none.
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the response could not be serialized\n"),
    }
}

pub(super) fn text(status: StatusCode, content: impl Into<Bytes>) -> AdminResponse {
    with_content_type(status, HeaderValue::from_static("text/plain; charset=utf-8"), content)
}

pub(super) fn with_content_type(
    status: StatusCode,
    content_type: HeaderValue,
    content: impl Into<Bytes>,
) -> AdminResponse {
    let mut answer = Response::new(Full::new(content.into()).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    // Admin responses must not be cached.
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
