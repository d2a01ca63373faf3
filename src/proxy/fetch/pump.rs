//! Moves a response's content from the upstream into the shared body that its clients read.

use std::cell::LazyCell;
use std::sync::Arc;

use http::HeaderMap;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::super::body::Body;
use super::super::shared_body::{SharedBody, SharedBodyError};
use super::super::unsent_bytes::UnsentBytes;
use super::target::FetchTarget;
use crate::policy::not_stored::NotStored;
use crate::policy::response_admission::{max_stored_body, too_large_reason};

/// Ends the shared body when dropped, so that a panic of the fetch does not leave its readers waiting.
pub(super) struct FinishOnDrop(pub Arc<SharedBody>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.0.finish(Err(SharedBodyError::Upstream("the fetch was interrupted".into())));
    }
}

/// Reads the content to its end, and returns the trailers. `overflow` is called once the content is larger than what
/// may be stored; from then on it is read only as fast as the fastest reader.
pub(super) async fn pump(
    target: &FetchTarget,
    body: &mut Body,
    shared: &SharedBody,
    mut overflow: impl FnMut(NotStored),
) -> Result<Option<HeaderMap>, SharedBodyError> {
    let memory = target.memory();
    let timeout = target.proxy().config.upstream.response_timeout;
    let limit = max_stored_body(&target.route);
    let abandoned = || SharedBodyError::Upstream("no client reads it any more".into());
    let budget = LazyCell::new(|| target.unsent_bytes());
    let mut deadline = None;
    let mut is_overflown = false;
    let mut trailers = None;
    loop {
        if is_overflown && !shared.wait_for_demand().await {
            return Err(abandoned());
        }
        let frame = if shared.has_readers() {
            deadline = None;
            body.frame().await
        } else if budget.as_ref().is_some_and(UnsentBytes::is_used_up) {
            return Err(abandoned());
        } else {
            // For the store alone it is read to its end, if that comes in time.
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + timeout);
            match timeout_at(deadline, body.frame()).await {
                Ok(frame) => frame,
                Err(_) if shared.has_readers() => continue,
                Err(_) => return Err(abandoned()),
            }
        };
        match frame.transpose().map_err(|error| {
            let (path, request_id) = (target.head.parts.uri.path(), target.head.request_id());
            tracing::warn!(%error, method = "GET", path, ?request_id, "upstream failed in the middle of a response");
            SharedBodyError::Upstream(error.to_string())
        })? {
            None => return Ok(trailers),
            Some(frame) => match frame.into_data() {
                Ok(data) => {
                    let arrived = shared.append(memory.count(data));
                    if is_overflown {
                        continue;
                    }
                    if arrived > limit {
                        is_overflown = true;
                        overflow(too_large_reason(&target.route));
                        shared.overflow(limit);
                    } else if !memory.admits(arrived) {
                        is_overflown = true;
                        overflow(NotStored::Memory);
                        shared.overflow(0);
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
}
