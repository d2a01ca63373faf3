//! The one place where errors become answers: what the client is told, whose fault it was, and what is logged.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::body::Body;
use crate::upstream::UpstreamError;

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProxyError {
    /// The client's request can't be read in one way only.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    #[error("the request has too many header fields")]
    TooManyFields,
    #[error("larder does not tunnel: CONNECT is refused")]
    Connect,
    #[error("{0}")]
    Purge(String),
    #[error("{0}")]
    PurgeForbidden(&'static str),
    #[error("the purge was not recorded: {0}")]
    PurgeNotRecorded(String),
    /// The write was not forwarded.
    #[error("the write was not forwarded: {0}")]
    NotGuarded(String),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// RFC 9111 §5.2.1.7.
    #[error("nothing is stored for this request, and it says only-if-cached")]
    OnlyIfCached,
    /// The route's `timeout`.
    #[error("the request took too long")]
    TooLong,
    #[error("the fetch was interrupted")]
    Interrupted,
}

impl ProxyError {
    pub fn status(&self) -> StatusCode {
        match self {
            ProxyError::BadRequest(_) | ProxyError::Purge(_) => StatusCode::BAD_REQUEST,
            ProxyError::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ProxyError::Connect => StatusCode::METHOD_NOT_ALLOWED,
            ProxyError::PurgeForbidden(_) => StatusCode::FORBIDDEN,
            ProxyError::PurgeNotRecorded(_)
            | ProxyError::NotGuarded(_)
            | ProxyError::Upstream(UpstreamError::Busy | UpstreamError::Resting) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ProxyError::OnlyIfCached | ProxyError::TooLong | ProxyError::Upstream(UpstreamError::Timeout) => {
                StatusCode::GATEWAY_TIMEOUT
            }
            ProxyError::Upstream(UpstreamError::RequestCut) => StatusCode::REQUEST_TIMEOUT,
            ProxyError::Upstream(_) | ProxyError::Interrupted => StatusCode::BAD_GATEWAY,
        }
    }

    /// What the client reads: which side failed, never an address or a cause.
    fn public(&self) -> String {
        match self {
            ProxyError::Upstream(UpstreamError::Unreachable(_)) => "the upstream can't be reached".into(),
            ProxyError::Upstream(UpstreamError::Invalid(_)) => {
                "the upstream's answer is not valid HTTP".into()
            }
            ProxyError::PurgeNotRecorded(_) => "the purge was not recorded; try again".into(),
            ProxyError::NotGuarded(_) => "the write was not forwarded; try again".into(),
            other => other.to_string(),
        }
    }

    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(format!("larder: {}\n", self.public())));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
