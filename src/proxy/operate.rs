//! Operations at paths of the API (`admin_at`): asks the API who sends the request, and hands it to the admin endpoints.
//! They are never forwarded.

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;

use super::answer::Answer;
use super::body::Body;
use super::client_request::{ClientHead, ClientRequest};
use super::error::ProxyError;
use super::upstream_request;
use super::worker::Worker;
use crate::access;
use crate::config::Operation;
use crate::metrics::NonCacheReply;
use crate::policy::caller::{CallerVerdict, UnknownCaller};
use crate::upstream::{BodyError, UpstreamError};

const MAX_CONTENT_BYTES: u64 = 1024 * 1024;

pub(super) async fn operate(worker: &Worker, request: ClientRequest, operation: Operation) -> Answer {
    let response = match answer_operation(worker, request, operation).await {
        Ok(response) => response.map(Body::from),
        Err(error) => error.response(),
    };
    Answer::without_cache(response, NonCacheReply::Operation, None)
}

async fn answer_operation(
    worker: &Worker,
    request: ClientRequest,
    operation: Operation,
) -> Result<Response<Bytes>, ProxyError> {
    let ClientRequest { head, body } = request;
    authorize(worker, &head).await?;
    let content = match body {
        Some(body) => read_content(worker, &head, body).await?,
        None => Bytes::new(),
    };
    let paths = worker.proxy.config.admin_at.as_ref().ok_or(ProxyError::NoOperator)?;
    let content = match paths.translate(&operation, &content) {
        Ok(None) => content,
        Ok(Some(translated)) => translated.to_string().into(),
        Err(_) => return Err(ProxyError::BadRequest("a value in the content is neither text nor a number")),
    };
    let operator = worker.proxy.operator.get().ok_or(ProxyError::NoOperator)?;
    let from = head.client_ip.or(head.peer);
    let request = Request::from_parts(head.parts, content);
    operator(operation, from, request).await.ok_or(ProxyError::NoOperator)
}

/// Lets in whom the API knows as one who may. A browser sends cookies for pages of other sites, too.
async fn authorize(worker: &Worker, head: &ClientHead) -> Result<(), ProxyError> {
    let paths = worker.proxy.config.admin_at.as_ref().ok_or(ProxyError::NoOperator)?;
    if access::check_same_origin(&head.parts.headers).is_err() {
        return Err(ProxyError::OperatorRefused("a browser sends this request for a page of another site"));
    }
    match worker.proxy.callers.ask(&paths.callers, head.as_asked()).await {
        CallerVerdict::Known(_) => Ok(()),
        CallerVerdict::Unknown(UnknownCaller::Anonymous) => Err(ProxyError::OperatorAnonymous),
        CallerVerdict::Unknown(UnknownCaller::Refused | UnknownCaller::Expired) => {
            Err(ProxyError::OperatorRefused("the API does not let this caller operate it"))
        }
        CallerVerdict::Unknown(UnknownCaller::Unverified) | CallerVerdict::Pending => {
            Err(ProxyError::OperatorUnverified)
        }
    }
}

/// The content counts in the memory budget until the operation has read it.
async fn read_content(worker: &Worker, head: &ClientHead, body: Incoming) -> Result<Bytes, ProxyError> {
    let mut body = upstream_request::received_body(worker, head, Some(body));
    let check = |length| match worker.memory().admits(length) {
        _ if length > MAX_CONTENT_BYTES => Err(BodyError::RequestTooLarge),
        false => Err(BodyError::NoMemory),
        true => Ok(()),
    };
    match body.read_whole(check, worker.limits().body_timeout).await {
        Ok(()) => Ok(body.into_content()),
        Err(BodyError::RequestTooLarge) => {
            Err(ProxyError::BadRequest("the content of an operation is larger than 1 MiB"))
        }
        Err(BodyError::NoMemory) => Err(ProxyError::NoMemory),
        Err(error) => Err(ProxyError::from(UpstreamError::from(error))),
    }
}
