//! One reading of each request: its authority, its scheme and who sent it. What can be read in two ways is refused.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use http::header::{COOKIE, HOST, TRANSFER_ENCODING, UPGRADE, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use hyper::body::{Body as _, Incoming};
use ipnet::IpNet;

use super::error::ProxyError;
use super::forwarding::{OF_ADDRESS, Origin};
use super::spans::RequestSpan;
use super::{Client, Errand, Interims, identity};
use crate::access_log::UpstreamTime;
use crate::config::{Config, RequestIds};
use crate::policy::{Names, RequestHead};
use crate::purge::Why;
use crate::purging::asked_by;

/// A client's request that has one meaning.
pub struct ClientRequest {
    pub head: ClientHead,
    /// `None`: it has none, and never had.
    pub body: Option<Incoming>,
}

pub struct ClientHead {
    pub parts: Parts,
    pub scheme: &'static str,
    names: Names,
    /// Lower case, without the scheme's own port; empty for HTTP/1.0 without `Host`.
    pub host: String,
    /// What else a trusted proxy says of the address that it was asked under: it may change the response, so it stands
    /// in the key.
    front: String,
    /// Who sent it, if that is known: behind an intermediary that is not trusted, nobody knows.
    pub sender: Option<IpAddr>,
    /// The peer of the connection; `None` on a unix socket.
    pub peer: Option<IpAddr>,
    /// The way for interim responses; `None` where none can be sent.
    pub interims: Option<Interims>,
    pub trusted: bool,
    /// The target was in absolute form: it names the host on purpose.
    pub absolute: bool,
    request_ids: RequestIds,
    request_id: OnceLock<HeaderValue>,
    /// Who wants to know how long the upstream took.
    pub upstream_time: Option<UpstreamTime>,
    /// Of the request, if it has one.
    pub span: Option<Arc<RequestSpan>>,
    /// `None`: a client sent it.
    pub errand: Option<Errand>,
}

impl ClientRequest {
    pub fn accept(
        request: Request<Option<Incoming>>,
        client: Client,
        config: &Config,
    ) -> Result<Self, ProxyError> {
        let (parts, body) = request.into_parts();
        Ok(Self { head: ClientHead::read(parts, client, config)?, body })
    }

    pub fn has_content(&self) -> bool {
        self.body.as_ref().is_some_and(|body| !body.is_end_stream())
    }
}

impl ClientHead {
    pub fn read(
        mut parts: Parts,
        Client { peer, is_tls, errand }: Client,
        config: &Config,
    ) -> Result<Self, ProxyError> {
        let names = Names::of(&parts.headers);
        if parts.method == Method::CONNECT {
            return Err(ProxyError::Connect);
        }
        if parts.headers.len() > config.limits.header_count {
            return Err(ProxyError::TooManyFields);
        }
        // hyper lets `Transfer-Encoding` win over `Content-Length`, and ends the connection then (RFC 9112 §6.3). Another
        // coding than its own stays in the content.
        if names.may_hold(&TRANSFER_ENCODING)
            && parts.headers.contains_key(TRANSFER_ENCODING)
            && !is_only(&parts.headers, TRANSFER_ENCODING, "chunked")
        {
            return Err(ProxyError::BadRequest("a transfer coding other than chunked"));
        }
        if names.may_hold(&COOKIE) {
            join_cookies(&mut parts.headers);
        }
        // What larder asks for itself is asked as the configuration says.
        let trusted = errand.is_some()
            || peer.is_some_and(|peer| config.trusted_proxies.iter().any(|net| net.contains(&peer)));
        let scheme = match trusted.then(|| single(&parts.headers, "x-forwarded-proto")).flatten() {
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => "https",
            None if is_tls => "https",
            _ => "http",
        };
        let front = if trusted { front(&parts.headers) } else { String::new() };
        let sender = sender(&parts.headers, names, peer, &config.trusted_proxies);
        let absolute = parts.version < Version::HTTP_2 && parts.uri.authority().is_some();
        let host = normalised(authority(&parts, trusted)?, scheme)?;
        Ok(Self {
            parts,
            names,
            scheme,
            host,
            front,
            sender,
            peer,
            interims: None,
            trusted,
            absolute,
            request_ids: config.request_id,
            request_id: OnceLock::new(),
            upstream_time: None,
            span: None,
            errand,
        })
    }

    /// Its name in logs, made when it is first asked for: a hit mostly needs none.
    pub fn request_id(&self) -> &HeaderValue {
        self.request_id.get_or_init(|| identity::request_id(&self.parts.headers))
    }

    /// In the log, what is said within it is said of this request.
    pub fn span(&self) -> tracing::Span {
        let (method, path) = (&self.parts.method, self.parts.uri.path());
        tracing::error_span!("request", %method, path, request_id = ?self.request_id())
    }

    pub fn is_known_as(&self, request_id: HeaderValue) {
        self.request_id.get_or_init(|| request_id);
    }

    /// The one that the upstream is told.
    pub fn forwarded_id(&self) -> Option<&HeaderValue> {
        (self.request_ids != RequestIds::Off).then(|| self.request_id())
    }

    pub fn has(&self, name: &HeaderName) -> bool {
        self.names.may_hold(name) && self.parts.headers.contains_key(name)
    }

    pub fn as_policy(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.parts.method,
            scheme: self.scheme,
            host: &self.host,
            front: &self.front,
            path: self.parts.uri.path(),
            query: self.parts.uri.query(),
            headers: &self.parts.headers,
            names: self.names,
        }
    }

    /// For the record of what it purges.
    pub fn why(&self) -> Why {
        let from = self.sender.or(self.peer).map(|address| address.to_string());
        asked_by(&self.parts.method, self.parts.uri.path(), from, &self.parts.headers)
    }

    pub fn origin(&self) -> Origin<'_> {
        Origin { peer: self.peer, trusted: self.trusted, scheme: self.scheme, host: &self.host }
    }

    /// To anything but another HTTP: writes in a tunnel would pass by without their purges.
    pub fn wants_upgrade(&self) -> bool {
        let mut protocols = self.parts.headers.get_all(UPGRADE).iter().map(HeaderValue::as_bytes);
        let (Some(protocol), None) = (protocols.next(), protocols.next()) else { return false };
        let protocol = protocol.trim_ascii().to_ascii_lowercase();
        let is_http = [&b"h2"[..], b"h3", b"http", b"tls"].iter().any(|http| protocol.starts_with(http));
        self.parts.version == Version::HTTP_11 && !is_http && !protocol.contains(&b',')
    }
}

pub(super) const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// What a trusted proxy says, and upstreams make links of.
fn front(headers: &HeaderMap) -> String {
    let mut front = String::new();
    let mut add = |name: &HeaderName, value: &[u8]| front.push_str(&format!("{name}={value:?};"));
    for name in &OF_ADDRESS {
        headers.get_all(name).iter().for_each(|value| add(name, value.as_bytes()));
    }
    let forwarded = headers.get_all(FORWARDED).iter().map(|value| of_address(value.as_bytes()));
    forwarded.filter(|said| !said.is_empty()).for_each(|said| add(&FORWARDED, &said));
    front
}

/// Of `Forwarded` (RFC 7239) all but what it says of clients, who would share nothing otherwise. Where a quoted text makes
/// it hard to tell, all of it.
pub(super) fn of_address(value: &[u8]) -> Vec<u8> {
    let pairs = || value.split(|byte| b",;".contains(byte)).map(<[u8]>::trim_ascii);
    let is_plain = pairs().all(|pair| pair.iter().filter(|byte| **byte == b'"').count() % 2 == 0);
    if !is_plain {
        return value.to_vec();
    }
    let of_client = |pair: &&[u8]| pair.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"for="));
    pairs().filter(|pair| !of_client(pair)).collect::<Vec<_>>().join(&b';')
}

/// What an intermediary adds.
const RELAYED: [HeaderName; 3] = [VIA, FORWARDED, HeaderName::from_static("x-forwarded-for")];

/// The nearest address that is not one of our own proxies.
fn sender(
    headers: &HeaderMap,
    names: Names,
    peer: Option<IpAddr>,
    trusted_proxies: &[IpNet],
) -> Option<IpAddr> {
    let is_ours = |address: &IpAddr| trusted_proxies.iter().any(|net| net.contains(address));
    // Whoever may open the unix socket is on this machine.
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let is_relayed = RELAYED.iter().any(|name| names.may_hold(name) && headers.contains_key(name));
    if !is_relayed {
        return Some(peer);
    }
    if !is_ours(&peer) {
        return None;
    }
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().map(|line| line.to_str().unwrap_or_default()).collect();
    for address in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let address: IpAddr = address.trim().parse().ok()?;
        if !is_ours(&address) {
            return Some(address.to_canonical());
        }
    }
    None
}

fn is_only(headers: &HeaderMap, name: HeaderName, value: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    values.next().is_some_and(|first| first.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
        && values.next().is_none()
}

/// RFC 9113 §8.2.3: HTTP/2 may send it in pieces, which are one field to everybody else.
fn join_cookies(headers: &mut HeaderMap) {
    let pieces: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&pieces.join(&b"; "[..]))
    {
        headers.insert(COOKIE, cookie);
    }
}

/// RFC 9112 §3.2: the target's own authority wins over `Host`; without either the request has no meaning.
fn authority(parts: &Parts, trusted: bool) -> Result<&str, ProxyError> {
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
        return Ok(forwarded);
    }
    match (parts.uri.authority(), host) {
        (Some(authority), _) if authority.as_str().contains('@') => {
            Err(ProxyError::BadRequest("a target with user information"))
        }
        (Some(authority), _) => Ok(authority.as_str()),
        (None, Some(host)) => Ok(host),
        (None, None) if parts.version == Version::HTTP_10 => Ok(""),
        (None, None) => Err(ProxyError::BadRequest("no Host")),
    }
}

fn normalised(host: &str, scheme: &str) -> Result<String, ProxyError> {
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte)) {
        return Err(ProxyError::BadRequest("Host is not valid"));
    }
    let own_port = if scheme == "https" { ":443" } else { ":80" };
    Ok(host.strip_suffix(own_port).unwrap_or(host).to_ascii_lowercase())
}

/// A field that came once, with one value.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    (values.next().is_none() && !value.is_empty() && !value.contains(',')).then_some(value)
}
