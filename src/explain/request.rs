//! The hypothetical request and response, as written on a command line.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

use crate::raw_target::encode_raw;

/// A hypothetical request.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
    pub(super) peer: Option<IpAddr>,
    pub(super) is_tls: bool,
}

/// A hypothetical response of the upstream; by default a 200 without cache directives.
#[derive(Clone, Debug)]
pub struct ExplainResponse {
    /// The status.
    pub status: StatusCode,
    /// All fields, in the order they were added.
    pub headers: HeaderMap,
    /// `None`: unknown.
    pub body: Option<Bytes>,
}

/// The `Host` of a request without one.
const DEFAULT_HOST: HeaderValue = HeaderValue::from_static("localhost");

impl ExplainRequest {
    /// `target` is a path with a query, or a URL with scheme and host. The peer is 127.0.0.1.
    pub fn new(method: &str, target: &str, headers: HeaderMap, body: Bytes) -> Result<Self, String> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("`{method}` is not a method; write GET, POST …"))?;
        let uri: Uri = encode_raw(target).parse().map_err(|error| {
            format!("`{target}` is not a URL ({error}); percent-encode special characters")
        })?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            None if uri.path().starts_with('/') && uri.authority().is_none() => false,
            _ => return Err(format!("`{target}` is neither a path nor a URL; write `/api/courses`")),
        };
        let mut parts = Request::new(()).into_parts().0;
        (parts.method, parts.headers) = (method, headers);
        if let Some(host) = uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
            parts.headers.entry(HOST).or_insert(host);
        }
        parts.headers.entry(HOST).or_insert(DEFAULT_HOST);
        parts.uri = match uri.path_and_query() {
            Some(path) if uri.authority().is_some() => Uri::from(path.clone()),
            _ => uri,
        };
        Ok(Self { parts, body, peer: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), is_tls })
    }

    /// Sets the address that the request comes from.
    #[must_use]
    pub fn with_peer(self, peer: IpAddr) -> Self {
        Self { peer: Some(peer), ..self }
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The path and the query.
    pub fn target(&self) -> &str {
        self.parts.uri.path_and_query().map_or("/", |target| target.as_str())
    }
}

impl Default for ExplainResponse {
    fn default() -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: None }.with_default_type()
    }
}

impl ExplainResponse {
    /// Adds `Content-Type: application/json` if there is no type.
    #[must_use]
    pub fn with_default_type(mut self) -> Self {
        self.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        self
    }

    /// The length of the content, if it is known.
    pub(super) fn content_length(&self) -> Option<u64> {
        let said = || self.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        self.body.as_ref().map(|body| body.len() as u64).or_else(said)
    }
}

/// Parses a field line `Name: value`, as curl does.
pub fn parse_field(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    // The value may be a credential.
    let shown = line.split_once([':', ' ']).map(|(name, _)| name.trim());
    let shown = shown.filter(|name| name.parse::<HeaderName>().is_ok());
    let shown = shown.map_or_else(|| "a header".to_owned(), |name| format!("`{name} …`"));
    let wrong = |what: &str| format!("{shown} {what}; write `Name: value`");
    let (name, value) = line.split_once(':').ok_or_else(|| wrong("has no colon"))?;
    let name = name.trim().parse().map_err(|_| wrong("does not begin with a field name"))?;
    let value =
        HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| wrong("has an invalid value"))?;
    Ok((name, value))
}

/// Parses several field lines.
pub(crate) fn parse_fields<'l>(lines: impl IntoIterator<Item = &'l str>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = parse_field(line)?;
        headers.append(name, value);
    }
    Ok(headers)
}
