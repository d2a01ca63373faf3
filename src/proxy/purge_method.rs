//! `PURGE` on the listener: who may, what it names, and the answer. It never reaches the upstream.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use subtle::ConstantTimeEq;

use super::error::ProxyError;
use super::intake::{ClientHead, ClientRequest};
use super::{Answer, Body, LARDER_POSITION, Worker};
use crate::config::PurgeSettings;
use crate::metrics::PurgeSource;
use crate::policy::invalidation;
use crate::purge::{Position, Purge};
use crate::purging::purge;

impl Worker {
    pub(super) async fn purge(&self, request: &ClientRequest) -> Answer {
        match self.purge_by_method(&request.head).await {
            Ok(position) => Answer::new(recorded(position), None, None),
            Err(error) => Answer::own(&error, None),
        }
    }

    async fn purge_by_method(&self, head: &ClientHead) -> Result<Position, ProxyError> {
        let proxy = &self.proxy;
        may_purge(&proxy.config.purge, head)?;
        let (targets, hardness) =
            invalidation::of_purge_request(&proxy.routes, &head.as_policy(), head.absolute)
                .map_err(ProxyError::Purge)?;
        let asked = Purge { hardness, why: Some(head.why()), ..Purge::hard(targets) };
        purge(&proxy.store, &proxy.metrics, asked, PurgeSource::PurgeMethod, None)
            .await
            .map_err(|error| ProxyError::PurgeNotRecorded(error.to_string()))
    }
}

fn recorded(position: Position) -> Response<Body> {
    let body = serde_json::json!({ "status": "purged", "position": position.0 });
    let mut response = Response::new(Body::from(format!("{body}\n")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(LARDER_POSITION, HeaderValue::from(position.0));
    response
}

/// The address and the token must both pass, where both are set.
fn may_purge(settings: &PurgeSettings, head: &ClientHead) -> Result<(), ProxyError> {
    let address_set = !settings.allow.is_empty();
    if !address_set && settings.token.is_none() {
        return Err(ProxyError::PurgeForbidden(
            "PURGE is switched off: neither `purge.allow` nor `purge.token` is set",
        ));
    }
    let allowed = || head.sender.is_some_and(|sender| settings.allow.iter().any(|net| net.contains(&sender)));
    if address_set && !allowed() {
        return Err(ProxyError::PurgeForbidden("PURGE is not allowed from this address (`purge.allow`)"));
    }
    match &settings.token {
        Some(token) if !bears(&head.parts.headers, token.expose()) => Err(ProxyError::PurgeForbidden(
            "PURGE needs `Authorization: Bearer …` with the right token (`purge.token`)",
        )),
        _ => Ok(()),
    }
}

fn bears(headers: &HeaderMap, token: &str) -> bool {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let given = value.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
    given.ct_eq(token.as_bytes()).into()
}
