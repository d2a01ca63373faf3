//! What becomes of a fetch that may be shared: all who wait are told, the body goes to each as it comes, and the whole
//! is remembered off the clients' path.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::SET_COOKIE;
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::collapsing::{Landing, Leader, MARK, SharedResponse};
use super::fetching::{Arrived, Fetch, Own};
use super::finding::Stale;
use super::reading::Reading;
use super::shared_body::{SharedBody, SharedBodyError};
use super::{Body, replying};
use crate::policy::arrival::{largest, too_large};
use crate::policy::storing::{Exchange, NotStored};
use crate::policy::validation::{freshen, freshened_headers};
use crate::policy::vary::Vary;
use crate::policy::{shortening, tags};
use crate::purge::Stamp;
use crate::store::{Ended, Fill, StoreError};
use crate::stored_response::{Stored, StoredHead, StoredResponse, Variants};
use crate::upstream::UpstreamBody;

/// Readers of a body whose fetch ends in a way that it did not decide (a panic) are not left waiting.
struct Ends(Arc<SharedBody>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.finish(Err(SharedBodyError::Upstream("the fetch was interrupted".into())));
    }
}

/// How many kinds of `Vary` are remembered for one key.
const VARIANT_KINDS: usize = 4;

impl Fetch {
    /// Tells all who wait, and passes on the body as it comes. `not_stored`: an error, for those who wait alone.
    pub(super) async fn share(
        mut self,
        head: StoredHead,
        body: UpstreamBody,
        length: Option<u64>,
        not_stored: Option<NotStored>,
        leader: Leader,
        own: oneshot::Sender<Own>,
    ) {
        let head = Arc::new(head);
        let shared = SharedBody::new(length);
        let is_complete = not_stored.is_some() || !self.route.reads_content();
        match (not_stored, head.terms().is_fresh(head.terms().received_at)) {
            (Some(_), _) => {
                leader.close();
                self.tell_replicas(Ended::FAILED);
            }
            (None, true) if is_complete => leader.unmark(),
            (None, true) => {}
            // It can be stored, but only to be validated each time: there is nothing to wait for.
            (None, false) => {
                leader.mark_unshareable(MARK, None);
                self.tell_replicas(Ended::NotShareable(MARK));
            }
        }
        if not_stored.is_none() {
            self.announce_variant(&head, &leader);
        }
        let _ends = Ends(shared.clone());
        let doubt = if is_complete { None } else { leader.doubt() };
        let response = Arc::new(SharedResponse {
            head: head.clone(),
            body: shared.clone(),
            not_stored,
            is_complete,
            doubt,
        });
        if let Some(reader) = shared.reader() {
            let _gone = own.send(Own::Reader { shared: response.clone(), reader });
        }
        if is_complete || !shortening::reads_content(&self.route) {
            leader.land(Landing::Shared(response));
        }
        #[cfg(test)]
        super::panic_tests::trap(&self.head, "fill");
        match self.pump(body, &shared, &leader).await {
            Err(error) => {
                leader.close();
                leader.land(Landing::LookAgain);
                shared.finish(Err(error));
                self.worker.proxy.metrics.filled(self.route.index, Err(NotStored::Incomplete));
            }
            Ok(trailers) => match not_stored.is_none().then(|| shared.whole()).flatten() {
                None => {
                    shared.finish(Ok(trailers));
                    self.worker
                        .proxy
                        .metrics
                        .filled(self.route.index, Err(not_stored.unwrap_or(too_large(&self.route))));
                }
                Some(whole) => self.keep(head, whole, trailers, &shared, &leader).await,
            },
        }
    }

    /// The whole is here.
    async fn keep(
        &mut self,
        head: Arc<StoredHead>,
        whole: Bytes,
        trailers: Option<HeaderMap>,
        shared: &SharedBody,
        leader: &Leader,
    ) {
        if self.route.reads_content() && !Reading::is_at_once(whole.len()) {
            // No client waits for what its content tells; who asks meanwhile still joins.
            shared.finish(Ok(trailers.clone()));
        }
        match self.completed(head, whole).await {
            Ok(response) => {
                if self.route.reads_content()
                    && response.head.terms().is_fresh(response.head.terms().received_at)
                {
                    leader.unmark();
                }
                let fill = self.fill.for_variant(response.head.key);
                // Remembered before the last reader sees the end, so that whoever asks next finds it.
                let stored = self.remember(fill, response.clone());
                leader.land(Landing::Whole(response));
                shared.finish(Ok(trailers));
                let ended = stored.await;
                self.tell_replicas(ended);
            }
            Err(not_stored) => {
                leader.mark_unshareable(MARK, Some(not_stored));
                self.tell_replicas(Ended::NotShareable(MARK));
                leader.close();
                leader.land(Landing::NotShareable);
                shared.finish(Ok(trailers));
                tracing::debug!(reason = not_stored.as_str(), "not stored for what its content tells");
                self.worker.proxy.metrics.filled(self.route.index, Err(not_stored));
            }
        }
    }

    /// Where responses for one key differ by request fields, those who come look for their own variant from now on.
    fn announce_variant(&self, head: &StoredHead, leader: &Leader) {
        let Vary::Fields(fields) = &head.vary() else { return };
        let store = &self.worker.proxy.store;
        let before = match store.recall_here(&self.primary).map(|found| found.stored) {
            Some(Stored::Variants(variants)) => Some(variants),
            _ => None,
        };
        let known =
            before.iter().flat_map(|variants| variants.fields.iter()).filter(|known| *known != fields);
        let fields = std::iter::once(fields).chain(known).take(VARIANT_KINDS).cloned().collect();
        let latest = before.as_ref().map_or(head.terms().expires_at, |variants| variants.expires_at);
        let expires_at = latest.max(head.terms().expires_at);
        let variants = Stored::Variants(Arc::new(Variants { fields, expires_at }));
        let announced = store.insert(self.fill.for_variant(self.primary), variants);
        tokio::spawn(announced);
        leader.rekey(head.key);
    }

    /// Everything up to the end; past the route's `max_size` only as fast as somebody reads.
    async fn pump(
        &mut self,
        mut body: UpstreamBody,
        shared: &SharedBody,
        leader: &Leader,
    ) -> Result<Option<HeaderMap>, SharedBodyError> {
        let patience = self.worker.proxy.config.upstream.response_timeout;
        let in_time = || Instant::now() + patience;
        let mut abandoned = None;
        let mut overflown = false;
        let mut trailers = None;
        loop {
            if overflown && !shared.wanted().await {
                return Err(SharedBodyError::Upstream("nobody reads it any more".into()));
            }
            let frame = match shared.is_read() {
                true => {
                    abandoned = None;
                    body.frame().await
                }
                // For the store alone it is read to its end, if that comes in time.
                false => match timeout_at(*abandoned.get_or_insert_with(in_time), body.frame()).await {
                    Ok(frame) => frame,
                    Err(_) if shared.is_read() => continue,
                    Err(_) => return Err(SharedBodyError::Upstream("nobody reads it any more".into())),
                },
            };
            match frame {
                None => return Ok(trailers),
                Some(Err(error)) => {
                    let (path, request_id) = (self.head.parts.uri.path(), self.head.request_id());
                    tracing::warn!(%error, method = "GET", path, ?request_id, "the upstream failed in the middle of a response");
                    return Err(SharedBodyError::Upstream(error.to_string()));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let arrived = shared.append(data);
                        if !overflown && arrived > largest(&self.route) {
                            overflown = true;
                            leader.mark_unshareable(MARK, Some(too_large(&self.route)));
                            self.tell_replicas(Ended::NotShareable(MARK));
                            leader.close();
                            leader.land(Landing::NotShareable);
                            shared.overflow(largest(&self.route));
                        }
                    }
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    /// 304: what is stored is still good (RFC 9111 §4.3.4).
    pub(super) async fn freshen(
        &mut self,
        arrived: Arrived,
        stale: &Stale,
        strong: bool,
        leader: &Leader,
        own: oneshot::Sender<Own>,
    ) {
        let before = &stale.response.head;
        // Only a strong validator says that the content is the one of now.
        let stamp = if strong { self.fill.stamp() } else { before.stamp };
        let head = self.freshened_head(&stale.response, &arrived.headers, arrived.exchange, stamp).await;
        let body = stale.response.body.clone();
        match head {
            Ok(head) => {
                let freshened = StoredResponse { head: Arc::new(head), body };
                let fill = self.fill.for_variant(freshened.head.key);
                let stored = self.remember(fill, freshened.clone());
                leader.land(Landing::Whole(freshened));
                // Whoever asked for it waits no longer than the others.
                drop(own);
                let ended = stored.await;
                self.tell_replicas(ended);
            }
            Err(not_stored) => {
                // It is still the answer to this request; it is only not kept.
                let mut headers = freshened_headers(&before.fields.to_map(), &arrived.headers);
                for cookie in arrived.headers.get_all(SET_COOKIE) {
                    headers.append(SET_COOKIE, cookie.clone());
                }
                let response = replying::whole(before.status, headers, Body::from(body));
                self.refuse(response, not_stored, leader, own);
            }
        }
    }

    /// 200 to a HEAD that describes what is stored (§4.3.5): it is as fresh as the answer says, and no newer than before
    /// for purges. Whether it is kept.
    pub(super) async fn freshen_by_head(self, stale: &Stale, update: &HeaderMap, exchange: Exchange) -> bool {
        let stamp = stale.response.head.stamp;
        let Ok(head) = self.freshened_head(&stale.response, update, exchange, stamp).await else {
            return false;
        };
        // A GET may have replaced it meanwhile; what is newer stays.
        let present = self.worker.proxy.store.recall_here(&head.key).map(|found| found.stored);
        if !present.is_some_and(|present| present.is(&Stored::Response(stale.response.clone()))) {
            return false;
        }
        let fill = self.fill.for_variant(head.key);
        let freshened = StoredResponse { head: Arc::new(head), body: stale.response.body.clone() };
        let tasks = self.worker.proxy.tasks.clone();
        let remembering = self.remember(fill, freshened);
        tasks.spawn(async move { _ = remembering.await });
        true
    }

    /// The stored head with the fields of `update`; tags only add up.
    async fn freshened_head(
        &self,
        stored: &StoredResponse,
        update: &HeaderMap,
        exchange: Exchange,
        stamp: Stamp,
    ) -> Result<StoredHead, NotStored> {
        let (request, before) = (self.request(), &stored.head);
        let (headers, terms) = freshen(&self.route, self.caller, &request, before, update, exchange)?;
        let terms = self.shortened(terms, &headers, &stored.body).await?;
        // Those of the content are among those of before.
        let mut tags = tags::of_response(&self.route, &request, &headers, None)?;
        let more: Vec<_> = before.tags().map(str::to_owned).filter(|tag| !tags.contains(tag)).collect();
        tags.extend(more);
        self.stored_head(before.status, headers, terms, stamp, tags)
    }

    /// RFC 9111 §4: of several responses the most recent is used. A slow fetch that began before the one that is stored
    /// would take clients back to what they have seen replaced.
    fn is_outdated(&self, fill: &Fill, head: &StoredHead) -> bool {
        let present = self.worker.proxy.store.recall_here(fill.key());
        present.is_some_and(|present| match present.stored {
            Stored::Response(stored) => {
                !present.soft_purged && stored.head.terms().requested_at > head.terms().requested_at
            }
            Stored::Variants(_) => false,
        })
    }

    /// The first tier has it when this returns; the future is the rest, and says what it is to other replicas.
    fn remember(&self, fill: Fill, response: StoredResponse) -> impl Future<Output = Ended> + use<> {
        let (metrics, route) = (self.worker.proxy.metrics.clone(), self.route.index);
        let size = response.body.len() as u64;
        let inserting = (!self.is_outdated(&fill, &response.head))
            .then(|| self.worker.proxy.store.insert(fill, Stored::Response(response)));
        async move {
            let Some(inserting) = inserting else { return Ended::Stored };
            match inserting.await {
                Ok(()) => {
                    metrics.filled(route, Ok(size));
                    Ended::Stored
                }
                Err(error) => {
                    tracing::debug!(%error, "not stored");
                    match error {
                        StoreError::Outdated => Ended::Stored,
                        StoreError::TooLarge => Ended::Apart(MARK),
                        _ => Ended::FAILED,
                    }
                }
            }
        }
    }
}
