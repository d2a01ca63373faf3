//! `PURGE` on the listener: who may, what it names, and the answer. It never reaches the upstream.

use std::time::Duration;

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
use crate::purging::waiting::{Applied, FIX, answer, applied, of_field};

impl Worker {
    pub(super) async fn purge(&self, request: &ClientRequest) -> Answer {
        match self.purge_by_method(&request.head).await {
            Ok((position, applied)) => Answer::new(recorded(position, applied), None, None),
            Err(error) => Answer::own(&error, None),
        }
    }

    async fn purge_by_method(&self, head: &ClientHead) -> Result<(Position, Option<Applied>), ProxyError> {
        let proxy = &self.proxy;
        may_purge(&proxy.config.purge, head)?;
        let wait = wait(&head.parts.headers, proxy.config.purge.wait_timeout)?;
        let (targets, hardness) =
            invalidation::of_purge_request(&proxy.routes, &head.as_policy(), head.absolute)
                .map_err(ProxyError::Purge)?;
        let asked = Purge { hardness, why: Some(head.why()), ..Purge::hard(targets) };
        let purged = purge(&proxy.store, &proxy.metrics, asked, PurgeSource::PurgeMethod, None).await;
        let position = purged.map_err(|error| ProxyError::PurgeNotRecorded(error.to_string()))?;
        match wait {
            Some(within) => {
                Ok((position, Some(applied(&proxy.store, &proxy.metrics, position, within).await)))
            }
            None => Ok((position, None)),
        }
    }
}

/// `Purge-Wait: applied; timeout=2s`: for how long to wait until all replicas know the purge.
fn wait(headers: &HeaderMap, usual: Duration) -> Result<Option<Duration>, ProxyError> {
    let mut fields = headers.get_all("purge-wait").iter();
    let refuse = |error: String| ProxyError::Purge(format!("`Purge-Wait`: {error}; {FIX}"));
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(field), None) => {
            let value = field.to_str().map_err(|_| refuse("it is not text".into()))?;
            of_field(value, usual).map(Some).map_err(refuse)
        }
        (Some(_), Some(_)) => Err(refuse("there are two".into())),
    }
}

fn recorded(position: Position, applied: Option<Applied>) -> Response<Body> {
    let (status, body) = answer(position, applied);
    let mut response = Response::new(Body::from(format!("{body}\n")));
    *response.status_mut() = status;
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
