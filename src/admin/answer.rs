//! The admin listener's responses. Every refusal says what is wrong and what to do about it.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;

pub type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Why a request is not carried out.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    hint: Option<Hint>,
    message: Message,
}

/// What a client that is a program understands of it.
#[derive(Clone, Copy, Debug)]
enum Hint {
    Allow(&'static str),
    Authenticate,
    RetryAfter,
}

#[derive(Debug, Serialize)]
struct Message {
    error: String,
    fix: String,
}

impl Refusal {
    pub fn new(status: StatusCode, error: impl Into<String>, fix: impl Into<String>) -> Self {
        let message = Message { error: error.into(), fix: fix.into() };
        Self { status, hint: None, message }
    }

    pub fn bad_request(error: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, fix)
    }

    pub fn forbidden(error: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error, fix)
    }

    pub fn unauthorized(error: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error, fix).with(Hint::Authenticate)
    }

    pub fn method_not_allowed(allowed: &'static str) -> Self {
        let error = "this method is not one that this endpoint has";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, error, format!("use {allowed}")).with(Hint::Allow(allowed))
    }

    /// The store did not take it: nothing is acknowledged, so the client has to ask again.
    pub fn unavailable(error: impl Into<String>) -> Self {
        let fix = "ask again; until then only this replica is sure to hold to the purge";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, fix).with(Hint::RetryAfter)
    }

    fn with(self, hint: Hint) -> Self {
        Self { hint: Some(hint), ..self }
    }

    pub fn into_answer(self) -> Answer {
        let mut answer = json(self.status, &self.message);
        answer.headers_mut().extend(self.hint.map(Hint::field));
        answer
    }
}

impl Hint {
    fn field(self) -> (HeaderName, HeaderValue) {
        match self {
            Hint::Allow(methods) => (ALLOW, HeaderValue::from_static(methods)),
            Hint::Authenticate => {
                (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"larder admin\""))
            }
            Hint::RetryAfter => (RETRY_AFTER, HeaderValue::from_static("1")),
        }
    }
}

pub fn json(status: StatusCode, content: &impl Serialize) -> Answer {
    match serde_json::to_vec_pretty(content) {
        Ok(mut content) => {
            content.push(b'\n');
            with_type(status, HeaderValue::from_static("application/json"), content)
        }
        // Only a map with keys that are no strings can fail, and there is none.
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n"),
    }
}

pub fn text(status: StatusCode, content: impl Into<Bytes>) -> Answer {
    with_type(status, HeaderValue::from_static("text/plain; charset=utf-8"), content)
}

pub fn with_type(status: StatusCode, content_type: HeaderValue, content: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(content.into()).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    // Nobody between larder and the operator may keep an answer of this listener.
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
