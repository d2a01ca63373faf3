//! Reads a request once: its authority, scheme and sender. A request that can be read in two ways is refused.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{EXPECT, FORWARDED, UPGRADE, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::error::ProxyError;
use super::forwarding::{self, FORWARDED_ADDRESS_FIELDS, Origin, client_ip};
use super::interim::InterimSender;
use super::request_fields::{asks_for_upgrade, normalize_fields, unambiguous_names};
use super::request_host::{authority, keep_purge_host, normalize_host, single_value};
use super::spans::RequestSpan;
use super::trace_context::{self, TRACEPARENT, TRACESTATE, X_REQUEST_ID};
use crate::access_log::UpstreamTime;
use crate::callers::CallerRequest;
use crate::config::{Config, RequestIds};
use crate::policy::caller::{CallerSource, CallerVerdict, CallerView};
use crate::policy::forwarding_fields::{X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::policy::languages::choose_request_language;
use crate::policy::overlay_fields::part_fields;
use crate::policy::route::SharedPart;
use crate::policy::routes::Routes;
use crate::policy::{CacheKey, CallerFields, HeaderNameFilter, RequestHead, Route, override_fields};
use crate::purge::PurgeCause;
use crate::purging::describe_request;
use crate::raw_target::encode_target;
use crate::upstream::Timeouts;

/// Fields that name one request.
pub(super) const REQUEST_ID_FIELDS: [HeaderName; 3] = [X_REQUEST_ID, TRACEPARENT, TRACESTATE];

/// The sender of a request.
pub(crate) struct Client {
    /// The peer of the connection; `None` on a unix socket.
    pub peer: Option<IpAddr>,
    pub is_tls: bool,
    /// Set on larder's internal requests.
    pub refresh: Option<RefreshPolicy>,
}

/// How fresh an internal request wants the stored response to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshPolicy {
    /// Fetch only if less freshness than this is left, and less than half of its lifetime.
    Keep(Duration),
    /// Fetch if less freshness than this is left.
    Renew(Duration),
}

/// A client's request that can be read in one way only.
pub(super) struct ClientRequest {
    pub head: ClientHead,
    /// `None`: the request has no body.
    pub body: Option<Incoming>,
}

pub(crate) struct ClientHead {
    pub parts: Parts,
    /// The whole content of a read by QUERY or POST.
    pub content: Option<Bytes>,
    /// The part of the content that was read to find out whether there is any.
    pub content_start: Option<Bytes>,
    pub scheme: &'static str,
    names: HeaderNameFilter,
    /// Lower case, without the scheme's own port; empty for HTTP/1.0 without `Host`.
    pub host: String,
    /// The address under which a trusted proxy was asked; few requests have one.
    forwarded: Option<Box<ForwardedAddress>>,
    /// The client's address. `None` behind an intermediary that is not trusted.
    pub client_ip: Option<IpAddr>,
    /// The peer of the connection; `None` on a unix socket.
    pub peer: Option<IpAddr>,
    /// Where interim responses go; `None` where none can be sent.
    pub interims: Option<InterimSender>,
    pub is_trusted: bool,
    /// The request target was in absolute form (RFC 9112 §3.2.2).
    pub is_absolute_form: bool,
    request_ids: RequestIds,
    request_id: OnceLock<HeaderValue>,
    /// Receives the upstream's latency, for the access log.
    pub upstream_time: Option<UpstreamTime>,
    /// The request's span, where requests are traced.
    pub span: Option<Arc<RequestSpan>>,
    /// The time-outs of the route that matches, if there is one.
    pub route_timeouts: Option<Timeouts>,
    /// Set on larder's internal requests.
    pub refresh: Option<RefreshPolicy>,
    /// The position of the entry of `callers`, and its verdict; set once the caller is identified.
    caller: OnceLock<(usize, CallerVerdict)>,
}

/// The address that a trusted proxy forwards. The proxy may pass on what a client sent, so it replaces no `Host`.
#[derive(Clone)]
struct ForwardedAddress {
    /// `X-Forwarded-Host`, where it names another host.
    host: Option<String>,
    /// All fields of the address. They may change the response, so they are part of the key.
    key: String,
}

impl ClientRequest {
    pub(super) fn accept(
        request: Request<Option<Incoming>>,
        client: Client,
        config: &Config,
    ) -> Result<Self, ProxyError> {
        let (parts, body) = request.into_parts();
        Ok(Self { head: ClientHead::read(parts, client, config)?, body })
    }

    pub(super) fn has_content(&self) -> bool {
        let is_empty = |body: &Incoming| body.is_end_stream() || body.size_hint().exact() == Some(0);
        self.head.content_start.is_some() || self.body.as_ref().is_some_and(|body| !is_empty(body))
    }

    /// Whether an empty DATA frame may yet end the content (RFC 9113 §8.1). Only for a GET or HEAD does it matter.
    pub(super) fn may_be_empty(&self) -> bool {
        let ClientHead { parts, content_start, .. } = &self.head;
        let is_open = |body: &Incoming| !body.is_end_stream() && body.size_hint().exact().is_none();
        parts.version == Version::HTTP_2
            && [Method::GET, Method::HEAD].contains(&parts.method)
            && content_start.is_none()
            && self.body.as_ref().is_some_and(is_open)
    }

    /// Reads the first part of the content. A client that sends none within `limit` has content to come.
    pub(super) async fn begin_content(&mut self, limit: Duration) {
        let Some(body) = &mut self.body else { return };
        let first = timeout(limit, async {
            loop {
                match body.frame().await {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => return Some(data),
                        Err(_trailers) => return None,
                    },
                    // The connection tells why.
                    Some(Err(_)) => return Some(Bytes::new()),
                    None => return None,
                }
            }
        });
        match first.await {
            Ok(None) => self.body = None,
            Ok(Some(data)) => self.head.content_start = Some(data),
            Err(_) => self.head.content_start = Some(Bytes::new()),
        }
    }
}

impl ClientHead {
    pub(crate) fn read(
        mut parts: Parts,
        Client { peer, is_tls, refresh }: Client,
        config: &Config,
    ) -> Result<Self, ProxyError> {
        if parts.version == Version::HTTP_2 || parts.uri.authority().is_some() || refresh.is_some() {
            encode_target(&mut parts.uri);
        }
        if config.limits.is_target_too_long(parts.method.as_str().len() + 1 + target_length(&parts.uri)) {
            return Err(ProxyError::TargetTooLong);
        }
        let names = unambiguous_names(&mut parts, config.underscores)?;
        if names.may_hold(&VIA) && forwarding::is_loop(&parts.headers) {
            return Err(ProxyError::Loop);
        }
        // Internal requests are trusted: their fields come from the configuration or from trusted requests.
        let trusted = refresh.is_some()
            || peer.is_some_and(|peer| config.trusted_proxies.iter().any(|net| net.contains(&peer)));
        keep_purge_host(&mut parts);
        let believed = if trusted { &config.trusted_fields[..] } else { &[] };
        if trusted {
            override_fields::remove_forwarded(&mut parts.headers, names, believed);
        }
        if let Some(refusal) = override_fields::restrict(&parts.method, &mut parts.headers, names, believed) {
            return Err(ProxyError::BadRequest(refusal));
        }
        check_target(&parts)?;
        normalize_fields(&mut parts, names, config.limits.header_count, config.underscores)?;
        let scheme = scheme(&parts.headers, trusted, is_tls);
        let sender = client_ip(&parts.headers, names, peer, &config.trusted_proxies);
        let absolute = parts.version < Version::HTTP_2 && parts.uri.authority().is_some();
        let host = normalize_host(authority(&parts)?, scheme)?;
        let forwarded = match trusted {
            true => read_forwarded_address(&parts.headers, scheme, &host, believed)?,
            false => None,
        };
        Ok(Self {
            parts,
            content: None,
            content_start: None,
            names,
            scheme,
            host,
            forwarded,
            client_ip: sender,
            peer,
            interims: None,
            is_trusted: trusted,
            is_absolute_form: absolute,
            request_ids: config.request_id,
            request_id: OnceLock::new(),
            upstream_time: None,
            span: None,
            route_timeouts: None,
            refresh,
            caller: OnceLock::new(),
        })
    }

    /// The request for the part of this request's response that all callers share.
    pub(crate) fn for_shared_part(&self, part: &SharedPart, caller_fields: &CallerFields) -> Self {
        self.for_part(self.parts.uri.clone(), part.request_fields(&self.parts.headers, caller_fields))
    }

    /// The request for a part of this request's response that is of its caller.
    pub(crate) fn for_caller_part(&self, url: &Uri, routes: &Routes) -> Self {
        let mut head = self.for_part(url.clone(), part_fields(&self.parts.headers));
        head.choose_language(routes);
        head
    }

    /// The GET for a part of this request's response.
    fn for_part(&self, uri: Uri, headers: HeaderMap) -> Self {
        let mut parts = Request::new(()).into_parts().0;
        (parts.uri, parts.version) = (uri, self.parts.version);
        let names = HeaderNameFilter::from_headers(&headers);
        parts.headers = headers;
        Self {
            parts,
            content: None,
            content_start: None,
            scheme: self.scheme,
            names,
            host: self.host.clone(),
            forwarded: self.forwarded.clone(),
            client_ip: self.client_ip,
            peer: self.peer,
            interims: None,
            is_trusted: self.is_trusted,
            is_absolute_form: self.is_absolute_form,
            request_ids: self.request_ids,
            request_id: OnceLock::from(self.request_id().clone()),
            upstream_time: self.upstream_time.clone(),
            span: self.span.clone(),
            route_timeouts: None,
            refresh: self.refresh,
            // The routes of two parts may know their callers in two ways.
            caller: OnceLock::new(),
        }
    }

    /// Replaces `Accept-Language` on a route with `languages`.
    pub(crate) fn choose_language(&mut self, routes: &Routes) {
        let Parts { method, uri, headers, .. } = &mut self.parts;
        choose_request_language(routes, method, uri.path(), headers);
    }

    /// The time-outs of the request to the upstream.
    pub(crate) fn timeouts(&self, config: &Config) -> Timeouts {
        self.route_timeouts.unwrap_or_else(|| timeouts(config, None))
    }

    /// The request id, made at the first call: most hits need none.
    pub(crate) fn request_id(&self) -> &HeaderValue {
        self.request_id.get_or_init(|| trace_context::request_id(&self.parts.headers))
    }

    /// A log span that names this request.
    pub(crate) fn span(&self) -> tracing::Span {
        let (method, path) = (&self.parts.method, self.parts.uri.path());
        tracing::error_span!("request", %method, path, request_id = ?self.request_id())
    }

    pub(crate) fn set_request_id(&self, request_id: HeaderValue) {
        self.request_id.get_or_init(|| request_id);
    }

    /// The request id to forward, unless that is off.
    pub(crate) fn forwarded_id(&self) -> Option<&HeaderValue> {
        (self.request_ids != RequestIds::Off).then(|| self.request_id())
    }

    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.names.may_hold(name) && self.parts.headers.contains_key(name)
    }

    pub(crate) fn as_policy(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.parts.method,
            scheme: self.scheme,
            host: &self.host,
            forwarded_host: self.forwarded_host(),
            forwarded_address: self.forwarded.as_ref().map_or("", |forwarded| &forwarded.key),
            path: self.parts.uri.path(),
            query: self.parts.uri.query(),
            headers: &self.parts.headers,
            content: self.content.as_deref(),
            json: None,
            search_hint: None,
            name_filter: self.names,
            caller: self.caller().map_or(CallerView::NotAsked, CallerVerdict::view),
        }
    }

    /// The part that says who the caller is.
    pub(crate) fn as_asked(&self) -> CallerRequest<'_> {
        let client = self.client_ip.or(self.peer);
        CallerRequest {
            network: None,
            headers: &self.parts.headers,
            host: self.forwarded_host().unwrap_or(&self.host),
            scheme: self.scheme,
            client,
        }
    }

    /// The caller, once it is identified.
    pub(crate) fn caller(&self) -> Option<&CallerVerdict> {
        self.caller.get().map(|(_, verdict)| verdict)
    }

    /// The caller, and the position of the entry that identified it.
    pub(crate) fn caller_of_entry(&self) -> Option<(usize, &CallerVerdict)> {
        self.caller.get().map(|(index, verdict)| (*index, verdict))
    }

    /// The caller, if this entry identified it.
    pub(crate) fn find_caller(&self, source: &CallerSource) -> Option<&CallerVerdict> {
        self.caller.get().filter(|(index, _)| *index == source.index).map(|(_, verdict)| verdict)
    }

    /// Keeps the first verdict that is not pending.
    pub(crate) fn set_caller(&self, source: &CallerSource, verdict: CallerVerdict) {
        if verdict != CallerVerdict::Pending {
            self.caller.get_or_init(|| (source.index, verdict));
        }
    }

    /// The cause that is recorded with a purge of this request.
    pub(crate) fn purge_reason(&self) -> PurgeCause {
        let from = self.client_ip.or(self.peer).map(|address| address.to_string());
        describe_request(&self.parts.method, self.parts.uri.path(), from, &self.parts.headers)
    }

    /// The client's address, unless it is a trusted proxy that does not name its client.
    pub(crate) fn untrusted_address(&self) -> Option<IpAddr> {
        match self.is_trusted {
            true => self.client_ip.filter(|_| self.client_ip != self.peer),
            false => self.client_ip.or(self.peer),
        }
    }

    pub(crate) fn origin(&self) -> Origin<'_> {
        Origin {
            peer: self.peer,
            is_trusted: self.is_trusted,
            scheme: self.scheme,
            host: &self.host,
            forwarded_host: self.forwarded_host(),
        }
    }

    /// The `X-Forwarded-Host` of a trusted proxy, where it names another host.
    pub(crate) fn forwarded_host(&self) -> Option<&str> {
        self.forwarded.as_ref()?.host.as_deref()
    }

    /// The fields as a proxy forwards them.
    pub(crate) fn forwarded_fields(&self) -> HeaderMap {
        let mut headers = self.parts.headers.clone();
        forwarding::prepare_request(&mut headers, self.parts.version, self.origin());
        headers
    }

    /// The key of the requests for the response under `key` that forward the same fields as this one, but for those that
    /// name one request.
    pub(crate) fn key_of_fields(&self, key: &CacheKey) -> CacheKey {
        key.key_of_fields(&self.parts.headers, |name| !REQUEST_ID_FIELDS.contains(name))
    }

    /// Whether the client waits for a 100 before it sends its content. hyper's server sends one over HTTP/1.1 only.
    pub(super) fn expects_continue(&self) -> bool {
        let is_continue = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        self.parts.version == Version::HTTP_11
            && self.names.may_hold(&EXPECT)
            && self.parts.headers.get(EXPECT).is_some_and(is_continue)
    }

    /// Whether it asks for an upgrade to a protocol other than HTTP. Writes of a tunnelled HTTP would not be purged.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.has(&UPGRADE) && asks_for_upgrade(&self.parts)
    }
}

fn check_target(parts: &Parts) -> Result<(), ProxyError> {
    if parts.method == Method::CONNECT {
        return Err(ProxyError::Connect);
    }
    // RFC 9112 §3.2.4.
    if parts.uri.path() == "*" && parts.method != Method::OPTIONS {
        return Err(ProxyError::BadRequest("the target `*`, which is for OPTIONS"));
    }
    // RFC 9112 §3.2.3: a target without scheme and path is for CONNECT.
    if !parts.uri.path().starts_with('/') && parts.uri.path() != "*" {
        return Err(ProxyError::BadRequest("a target that is neither a path nor a URL"));
    }
    // RFC 9110 §7.4: what larder answers is a response of HTTP.
    match parts.uri.scheme_str() {
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(ProxyError::BadRequest("a target whose scheme is neither http nor https")),
    }
}

/// The scheme of the target: the connection's, or the one that a trusted proxy names.
fn scheme(headers: &HeaderMap, is_trusted: bool, is_tls: bool) -> &'static str {
    match is_trusted.then(|| single_value(headers, X_FORWARDED_PROTO.as_str())).flatten() {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => "https",
        None if is_tls => "https",
        _ => "http",
    }
}

/// The length of the target as it was sent over HTTP/1.1.
fn target_length(uri: &Uri) -> usize {
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len() + "://".len());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    uri.scheme_str().map_or(0, str::len) + authority + path
}

/// The time-outs of requests to the upstream: those of the route win over those of `upstream`.
pub(super) fn timeouts(config: &Config, route: Option<&Route>) -> Timeouts {
    let upstream = config.upstream.response_timeout;
    let total = route.and_then(|route| route.timeout);
    let response = route.and_then(|route| route.response_timeout).or(total);
    let idle = route.and_then(|route| route.idle_timeout);
    let stream_idle = idle.unwrap_or(config.limits.tunnel_idle);
    Timeouts { response: response.unwrap_or(upstream), idle: idle.or(total).unwrap_or(upstream), stream_idle }
}

/// Reads the fields of a trusted proxy that upstreams build links from.
fn read_forwarded_address(
    headers: &HeaderMap,
    scheme: &str,
    host: &str,
    believed: &[HeaderName],
) -> Result<Option<Box<ForwardedAddress>>, ProxyError> {
    let host_field = single_value(headers, X_FORWARDED_HOST.as_str());
    let named = host_field.map(|host| normalize_host(host, scheme)).transpose()?;
    let other = named.filter(|named| named != host);
    let mut key = String::new();
    let mut add = |name: &HeaderName, value: &[u8]| key.push_str(&format!("{name}={value:?};"));
    other.iter().for_each(|host| add(&X_FORWARDED_HOST, host.as_bytes()));
    for name in FORWARDED_ADDRESS_FIELDS.iter().chain(believed) {
        headers.get_all(name).iter().for_each(|value| add(name, value.as_bytes()));
    }
    let forwarded = headers.get_all(FORWARDED).iter().map(|value| forwarded_without_client(value.as_bytes()));
    forwarded.filter(|said| !said.is_empty()).for_each(|said| add(&FORWARDED, &said));
    Ok((!key.is_empty()).then(|| Box::new(ForwardedAddress { host: other, key })))
}

/// A `Forwarded` value (RFC 7239) without its `for=` pairs, since clients would share nothing otherwise. A value whose
/// quoted strings contain separators is kept as it is.
pub(super) fn forwarded_without_client(value: &[u8]) -> Vec<u8> {
    let pairs = || value.split(|byte| b",;".contains(byte)).map(<[u8]>::trim_ascii);
    let is_plain = pairs().all(|pair| pair.iter().filter(|byte| **byte == b'"').count() % 2 == 0);
    if !is_plain {
        return value.to_vec();
    }
    let of_client = |pair: &&[u8]| pair.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"for="));
    pairs().filter(|pair| !of_client(pair)).collect::<Vec<_>>().join(&b';')
}
