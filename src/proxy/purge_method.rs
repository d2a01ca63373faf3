//! The method `PURGE` on the listener: authorises it, parses its targets and answers it. It is never forwarded.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::Value;

use super::answer::{Answer, LARDER_POSITION};
use super::body::Body;
use super::client_request::{ClientHead, ClientRequest};
use super::error::ProxyError;
use super::request_host::purge_fields;
use super::state::Proxy;
use crate::access::{AccessDenied, AccessRequest, Trusted};
use crate::config::{Config, PurgeAllow};
use crate::metrics::{NonCacheReply, PurgeSource};
use crate::policy::{RequestHead, invalidation};
use crate::purge::Purge;
use crate::purging::purge_wait::{FIELD_HINT, dry_run_response, parse_wait_field, purge_response};

const CONTENT_IS_IGNORED: &str = "the content of a PURGE names nothing; list tags in `Cache-Tag`, or send JSON to /purge of \
                                  the admin listener";

/// Whether the request is a purge. Methods of the dialects are one only if the client may purge.
pub(super) fn is_purge(proxy: &Proxy, head: &ClientHead) -> bool {
    let (settings, method) = (&proxy.config.purge, head.parts.method.as_str());
    method == "PURGE"
        || (invalidation::is_purge_method(method, settings.dialects)
            && authorize(&proxy.config, head).is_ok())
}

pub(super) async fn purge(proxy: &Proxy, request: &ClientRequest) -> Answer {
    let response = match answer_purge(proxy, request).await {
        Ok(response) => response,
        Err(error) => error.response(),
    };
    Answer::without_cache(response, NonCacheReply::Purge, None)
}

async fn answer_purge(proxy: &Proxy, request: &ClientRequest) -> Result<Response<Body>, ProxyError> {
    let head = &request.head;
    let (settings, headers) = (&proxy.config.purge, &head.parts.headers);
    authorize(&proxy.config, head)?;
    if request.has_content() {
        return Err(ProxyError::Purge(CONTENT_IS_IGNORED.to_owned()));
    }
    let wait = parse_purge_wait(headers, settings.wait_timeout)?;
    let is_dry_run = parse_dry_run(headers)?;
    let fields = purge_fields(&head.parts);
    let policy_head = RequestHead { headers: &fields, ..head.as_policy() };
    let (targets, mode) = invalidation::parse_purge_request(
        &proxy.routes,
        &policy_head,
        head.is_absolute_form,
        settings.dialects,
    )
    .map_err(ProxyError::Purge)?;
    let purger = proxy.purger();
    let checked = purger.check_tags(&targets).await;
    checked.map_err(|(error, fix)| ProxyError::Purge(format!("{error}; {fix}")))?;
    let report = purger.report(&targets, mode, is_dry_run).await;
    if is_dry_run {
        return Ok(json_response(StatusCode::OK, &dry_run_response(report)));
    }
    let purge = Purge { mode, cause: Some(head.purge_reason()), ..Purge::hard(targets) };
    let recorded = purger.purge(purge, PurgeSource::PurgeMethod, None).await;
    let position = recorded.map_err(|error| ProxyError::PurgeNotRecorded(error.to_string()))?;
    let applied = match wait {
        Some(timeout) => Some(purger.wait_applied(position, timeout).await),
        None => None,
    };
    let (status, body) = purge_response(position, report, applied);
    let mut response = json_response(status, &body);
    if let Ok(position) = HeaderValue::try_from(proxy.store.position(position)) {
        response.headers_mut().insert(LARDER_POSITION, position);
    }
    Ok(response)
}

/// Parses `Purge-Dry-Run: true`.
fn parse_dry_run(headers: &HeaderMap) -> Result<bool, ProxyError> {
    let mut values = headers.get_all("purge-dry-run").iter().map(HeaderValue::as_bytes);
    match (values.next(), values.next()) {
        (None, _) | (Some(b"false" | b"0" | b"?0"), None) => Ok(false),
        (Some(b"true" | b"1" | b"?1"), None) => Ok(true),
        _ => Err(ProxyError::Purge("invalid `Purge-Dry-Run`; expected `true` or `false`".to_owned())),
    }
}

/// Parses `Purge-Wait: applied; timeout=2s`: how long to wait until all replicas know the purge.
fn parse_purge_wait(headers: &HeaderMap, default: Duration) -> Result<Option<Duration>, ProxyError> {
    let mut fields = headers.get_all("purge-wait").iter();
    let refuse = |error: String| ProxyError::Purge(format!("`Purge-Wait`: {error}; {FIELD_HINT}"));
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(field), None) => {
            let value = field.to_str().map_err(|_| refuse("it is not text".into()))?;
            parse_wait_field(value, default).map(Some).map_err(refuse)
        }
        (Some(_), Some(_)) => Err(refuse("there are two".into())),
    }
}

fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{body}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Checks the address and the token; where both are configured, both must pass. Without a token, nothing that a browser
/// sends is accepted.
fn authorize(config: &Config, head: &ClientHead) -> Result<(), ProxyError> {
    let settings = &config.purge;
    let forbidden = |reason: &str| ProxyError::PurgeForbidden(reason.to_owned());
    if let PurgeAllow::Networks(networks) = &settings.allow {
        if networks.is_empty() && settings.token.is_none() {
            return Err(forbidden("PURGE is switched off: neither `purge.allow` nor `purge.token` is set"));
        }
        let is_allowed =
            || head.client_ip.is_some_and(|ip| networks.iter().any(|network| network.contains(&ip)));
        if !networks.is_empty() && !is_allowed() {
            return Err(forbidden("PURGE is not allowed from this address (`purge.allow`)"));
        }
    }
    let parts = &head.parts;
    let request =
        AccessRequest { peer: head.peer, version: parts.version, uri: &parts.uri, headers: &parts.headers };
    let (checked, fix) = match (&settings.token, &settings.allow) {
        (Some(token), _) => (
            request.authorize(Trusted::Token(token.expose()), false),
            "PURGE needs the token of `purge.token`",
        ),
        (None, allow) => {
            let hosts = Some(&settings.hosts[..]).filter(|hosts| !hosts.is_empty());
            let checked = match allow {
                PurgeAllow::Networks(_) => request.authorize(Trusted::Address, false),
                PurgeAllow::Loopback if config.is_reached_from_elsewhere() => Err(AccessDenied::NotLoopback),
                PurgeAllow::Loopback => request.authorize(Trusted::Machine { hosts }, false),
            };
            (checked, "set `purge.allow` or `purge.token` in proxy.yaml")
        }
    };
    checked.map_err(|denied| ProxyError::PurgeForbidden(format!("{denied}; {fix}")))
}
