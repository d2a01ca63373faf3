//! One reading of each request: its authority, its scheme and who sent it. What can be read in two ways is refused.

use std::net::IpAddr;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Version};
use hyper::body::{Body as _, Incoming};

use super::error::ProxyError;
use super::forwarding::Origin;
use crate::config::Config;
use crate::policy::RequestHead;

/// A client's request that has one meaning.
pub struct ClientRequest {
    pub head: ClientHead,
    pub body: Incoming,
}

pub struct ClientHead {
    pub parts: Parts,
    pub scheme: &'static str,
    /// Lower case, without the scheme's own port; empty for HTTP/1.0 without `Host`.
    pub host: String,
    /// The peer of the connection; `None` on a unix socket.
    pub peer: Option<IpAddr>,
    pub trusted: bool,
    /// The target was in absolute form: it names the host on purpose.
    pub absolute: bool,
}

impl ClientRequest {
    pub fn accept(
        request: Request<Incoming>,
        peer: Option<IpAddr>,
        config: &Config,
    ) -> Result<Self, ProxyError> {
        let (parts, body) = request.into_parts();
        if parts.method == Method::CONNECT {
            return Err(ProxyError::Connect);
        }
        if parts.headers.len() > config.limits.header_count {
            return Err(ProxyError::TooManyFields);
        }
        if parts.headers.contains_key(TRANSFER_ENCODING) && parts.headers.contains_key(CONTENT_LENGTH) {
            return Err(ProxyError::BadRequest("both Content-Length and Transfer-Encoding"));
        }
        let trusted = peer.is_some_and(|peer| config.trusted_proxies.iter().any(|net| net.contains(&peer)));
        let scheme = match trusted.then(|| single(&parts.headers, "x-forwarded-proto")).flatten() {
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => "https",
            _ => "http",
        };
        let absolute = parts.version < Version::HTTP_2 && parts.uri.authority().is_some();
        let host = authority(&parts, trusted)?;
        let host = normalised(&host, scheme)?;
        Ok(Self { head: ClientHead { parts, scheme, host, peer, trusted, absolute }, body })
    }

    pub fn has_content(&self) -> bool {
        !self.body.is_end_stream()
    }
}

impl ClientHead {
    pub fn as_policy(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.parts.method,
            scheme: self.scheme,
            host: &self.host,
            path: self.parts.uri.path(),
            query: self.parts.uri.query(),
            headers: &self.parts.headers,
        }
    }

    pub fn origin(&self) -> Origin<'_> {
        Origin { peer: self.peer, trusted: self.trusted, scheme: self.scheme, host: &self.host }
    }

    pub fn wants_upgrade(&self) -> bool {
        self.parts.version == Version::HTTP_11 && self.parts.headers.contains_key(UPGRADE)
    }
}

/// RFC 9112 §3.2: the target's own authority wins over `Host`; without either the request has no meaning.
fn authority(parts: &Parts, trusted: bool) -> Result<String, ProxyError> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(ProxyError::BadRequest("more than one Host"));
    }
    let host = match host.map(|host| host.to_str()) {
        Some(Ok(host)) => Some(host),
        Some(Err(_)) => return Err(ProxyError::BadRequest("Host is not valid")),
        None => None,
    };
    if let Some(forwarded) = trusted.then(|| single(&parts.headers, "x-forwarded-host")).flatten() {
        return Ok(forwarded.to_owned());
    }
    match (parts.uri.authority(), host) {
        (Some(authority), _) if authority.as_str().contains('@') => {
            Err(ProxyError::BadRequest("a target with user information"))
        }
        (Some(authority), _) => Ok(authority.as_str().to_owned()),
        (None, Some(host)) => Ok(host.to_owned()),
        (None, None) if parts.version == Version::HTTP_10 => Ok(String::new()),
        (None, None) => Err(ProxyError::BadRequest("no Host")),
    }
}

fn normalised(host: &str, scheme: &str) -> Result<String, ProxyError> {
    let host = host.to_ascii_lowercase();
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte)) {
        return Err(ProxyError::BadRequest("Host is not valid"));
    }
    let own_port = if scheme == "https" { ":443" } else { ":80" };
    Ok(host.strip_suffix(own_port).unwrap_or(&host).to_owned())
}

/// A field that came once, with one value.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    (values.next().is_none() && !value.is_empty() && !value.contains(',')).then_some(value)
}
