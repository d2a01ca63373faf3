//! What only the content of a response tells of it, read once it is whole and off the clients' path.
//!
//! Until then nobody knows which tags it has. So others join its fetch only while nothing at all was purged since the
//! fetch began; and it is stored, with all its tags, under the stamp from before: a purge in between finds it.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::fetching::Fetch;
use crate::policy::content::Content;
use crate::policy::storing::NotStored;
use crate::policy::{RequestHead, tags};
use crate::stored_response::{StoredHead, StoredResponse};

impl Fetch {
    /// The response as it is stored. Never waits if the content is small, or is not read.
    pub(super) async fn completed(
        &self,
        head: Arc<StoredHead>,
        body: Bytes,
    ) -> Result<Arc<StoredResponse>, NotStored> {
        if !self.route.reads_content() {
            return Ok(Arc::new(StoredResponse { head, body }));
        }
        let (route, asked, of, content) = (self.route.clone(), self.head.clone(), head.clone(), body.clone());
        let read = move || {
            let content = Content::of_response(&of.headers, &content, route.max_json)
                .map_err(|unreadable| unreadable.not_stored())?;
            let request = RequestHead { method: &Method::GET, ..asked.as_policy() };
            tags::of_response(&route, &request, &of.headers, Some(&content))
        };
        let reading = &self.worker.proxy.reading;
        let tags = reading.run(body.len(), read).await.unwrap_or(Err(NotStored::MalformedJson))?;
        let (headers, terms) = (head.headers.clone(), head.terms.clone());
        let head = self.stored_head(head.status, headers, terms, head.stamp, tags)?;
        Ok(Arc::new(StoredResponse { head: Arc::new(head), body }))
    }

    /// Of so many bytes nothing more is kept.
    pub(super) fn largest(&self) -> u64 {
        match self.route.reads_content() {
            true => self.route.max_size.min(self.route.max_json),
            false => self.route.max_size,
        }
    }

    /// Why a response beyond [`Fetch::largest`] is not stored.
    pub(super) fn too_large(&self) -> NotStored {
        match self.largest() < self.route.max_size {
            true => NotStored::JsonTooLarge,
            false => NotStored::TooLarge,
        }
    }
}
