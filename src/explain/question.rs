//! A request and a response as people write them.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

/// A request that nobody sent.
#[derive(Clone, Debug)]
pub struct Question {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
    pub(super) peer: Option<IpAddr>,
    pub(super) is_tls: bool,
}

/// A response that nobody gave. By default a 200 that says nothing of caching.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// `None`: not known.
    pub body: Option<Bytes>,
}

/// Where nothing else is said.
const ANY_HOST: HeaderValue = HeaderValue::from_static("localhost");

impl Question {
    /// `target`: a path with its query, or a URL, whose scheme and host count then. From this machine, where nothing
    /// else is said.
    pub fn new(method: &str, target: &str, headers: HeaderMap, body: Bytes) -> Result<Self, String> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("`{method}` can't be a method; write GET, POST …"))?;
        let uri: Uri = target.parse().map_err(|error| {
            format!("`{target}` can't be asked for ({error}); percent-encode what is no URL")
        })?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            None if uri.path().starts_with('/') && uri.authority().is_none() => false,
            _ => return Err(format!("`{target}` is neither a path nor a URL; write `/api/courses`")),
        };
        let mut parts = Request::new(()).into_parts().0;
        (parts.method, parts.headers) = (method, headers);
        // As a client sends it.
        if let Some(host) = uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
            parts.headers.entry(HOST).or_insert(host);
        }
        parts.headers.entry(HOST).or_insert(ANY_HOST);
        parts.uri = match uri.path_and_query() {
            Some(path) if uri.authority().is_some() => Uri::from(path.clone()),
            _ => uri,
        };
        Ok(Self { parts, body, peer: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), is_tls })
    }

    /// As if it came from there.
    #[must_use]
    pub fn from(self, peer: IpAddr) -> Self {
        Self { peer: Some(peer), ..self }
    }

    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The path and the query.
    pub fn target(&self) -> &str {
        self.parts.uri.path_and_query().map_or("/", |target| target.as_str())
    }
}

impl Default for Reply {
    fn default() -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: None }.with_type()
    }
}

impl Reply {
    /// JSON, where the type is not said.
    #[must_use]
    pub fn with_type(mut self) -> Self {
        self.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        self
    }

    /// Of its content, as far as it is known.
    pub(super) fn length(&self) -> Option<u64> {
        let said = || self.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        self.body.as_ref().map(|body| body.len() as u64).or_else(said)
    }
}

/// `Name: value`, as curl takes it.
pub fn field(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = |what: &str| format!("`{line}` {what}; write `Name: value`");
    let (name, value) = line.split_once(':').ok_or_else(|| wrong("has no colon"))?;
    let name = name.trim().parse().map_err(|_| wrong("does not begin with the name of a field"))?;
    let value = HeaderValue::from_bytes(value.trim().as_bytes())
        .map_err(|_| wrong("has a value that no field can have"))?;
    Ok((name, value))
}

/// Lines of fields.
pub fn fields<'l>(lines: impl IntoIterator<Item = &'l str>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = field(line)?;
        headers.append(name, value);
    }
    Ok(headers)
}
