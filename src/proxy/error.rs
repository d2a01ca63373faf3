//! The errors of request handling, and the responses that they become.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

use super::body::Body;
use super::purge_rate::RateExceeded;
use crate::upstream::UpstreamError;

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ProxyError {
    /// The request can be read in more than one way.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    #[error("the request's target is longer than `limits.header_bytes` allows")]
    TargetTooLong,
    #[error("the request has too many header fields")]
    TooManyFields,
    /// RFC 5842 §7.2.
    #[error("request loop: the request has come through larder too often; the upstream leads back to it")]
    Loop,
    #[error("larder does not tunnel: CONNECT is refused")]
    Connect,
    #[error("{0}")]
    Purge(String),
    #[error("{0}")]
    PurgeForbidden(String),
    #[error("the purge was not recorded: {0}")]
    PurgeNotRecorded(String),
    /// An operation of `admin_at` without a credential.
    #[error("operator credentials required")]
    OperatorAnonymous,
    #[error("{0}")]
    OperatorRefused(&'static str),
    /// The API did not say who the caller is.
    #[error("cannot verify operator credentials: `callers.ask` is unavailable; try again")]
    OperatorUnverified,
    #[error("larder is starting or stopping; try again")]
    NoOperator,
    #[error("larder has no memory for the request now; try again")]
    NoMemory,
    #[error("the write was not forwarded: {0}")]
    WriteNotGuarded(String),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// RFC 9111 §5.2.1.7.
    #[error("nothing is stored for this request, and it says only-if-cached")]
    OnlyIfCached,
    /// The route's `timeout`.
    #[error("the request took too long")]
    RouteTimeout,
    /// The route's `rate`.
    #[error("too many requests")]
    OverRate,
    /// A write of a sender that purges much at once. Nothing of it was sent.
    #[error("too many writes that purge; try again")]
    PurgeRateExceeded(RateExceeded),
    #[error("the fetch was interrupted")]
    Interrupted,
}

impl ProxyError {
    /// Whether the fields of the request may have caused it. If not, it answers all who wait for the same response.
    pub(crate) fn may_depend_on_request(&self) -> bool {
        match self {
            ProxyError::Upstream(UpstreamError::ClientBusy) => true,
            ProxyError::Upstream(error) => error.may_have_happened(),
            _ => false,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            ProxyError::BadRequest(_) | ProxyError::Purge(_) => StatusCode::BAD_REQUEST,
            ProxyError::TargetTooLong => StatusCode::URI_TOO_LONG,
            ProxyError::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ProxyError::Loop => StatusCode::LOOP_DETECTED,
            ProxyError::OverRate | ProxyError::PurgeRateExceeded(RateExceeded::Client(_)) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            ProxyError::Connect => StatusCode::METHOD_NOT_ALLOWED,
            ProxyError::OperatorAnonymous => StatusCode::UNAUTHORIZED,
            ProxyError::PurgeForbidden(_) | ProxyError::OperatorRefused(_) => StatusCode::FORBIDDEN,
            ProxyError::PurgeNotRecorded(_)
            | ProxyError::WriteNotGuarded(_)
            | ProxyError::OperatorUnverified
            | ProxyError::NoOperator
            | ProxyError::NoMemory
            | ProxyError::PurgeRateExceeded(RateExceeded::Total)
            | ProxyError::Upstream(
                UpstreamError::Busy | UpstreamError::ClientBusy | UpstreamError::CircuitOpen,
            ) => StatusCode::SERVICE_UNAVAILABLE,
            ProxyError::OnlyIfCached
            | ProxyError::RouteTimeout
            | ProxyError::Upstream(UpstreamError::Timeout) => StatusCode::GATEWAY_TIMEOUT,
            ProxyError::Upstream(UpstreamError::RequestCut | UpstreamError::RequestIncomplete) => {
                StatusCode::REQUEST_TIMEOUT
            }
            ProxyError::Upstream(UpstreamError::RequestMalformed { .. }) => StatusCode::BAD_REQUEST,
            ProxyError::Upstream(_) | ProxyError::Interrupted => StatusCode::BAD_GATEWAY,
        }
    }

    /// The text for the client: which side failed, without addresses and causes.
    fn client_message(&self) -> String {
        match self {
            ProxyError::Upstream(UpstreamError::Unreachable(_)) => "the upstream can't be reached".into(),
            ProxyError::Upstream(UpstreamError::Invalid(_)) => {
                "the upstream's answer is not valid HTTP".into()
            }
            ProxyError::Upstream(UpstreamError::Reset(_)) => "the upstream reset the request's stream".into(),
            ProxyError::Upstream(UpstreamError::TlsRefused(_)) => {
                "the upstream refused the TLS connection".into()
            }
            ProxyError::PurgeNotRecorded(_) => "the purge was not recorded; try again".into(),
            ProxyError::WriteNotGuarded(_) => "the write was not forwarded; try again".into(),
            other => other.to_string(),
        }
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(format!("larder: {}\n", self.client_message())));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            ProxyError::PurgeRateExceeded(RateExceeded::Client(after)) => {
                headers.insert(RETRY_AFTER, after.as_secs().saturating_add(1).into());
            }
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if *self == ProxyError::OperatorAnonymous {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
