//! What only the content of a response tells of it, read once it is whole and off the clients' path.
//!
//! Until then nobody knows which tags it has. So others join its fetch only while nothing at all was purged since the
//! fetch began; and it is stored, with all its tags, under the stamp from before: a purge in between finds it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::fetching::Fetch;
use crate::policy::RequestHead;
use crate::policy::arrival::Asked;
use crate::policy::content::Content;
use crate::policy::shortening::{self, shorten};
use crate::policy::storing::NotStored;
use crate::stored_response::{StoredHead, StoredResponse, Terms};

impl Fetch {
    /// The response as it is stored. Never waits if the content is small, or is not read.
    pub(super) async fn completed(
        &self,
        head: Arc<StoredHead>,
        body: Bytes,
    ) -> Result<StoredResponse, NotStored> {
        if !self.route.reads_content() {
            return Ok(StoredResponse { head, body });
        }
        let (route, caller, asked, primary) =
            (self.route.clone(), self.caller, self.head.clone(), self.primary);
        let (of, content) = (head.clone(), body.clone());
        let read = move || {
            let request = RequestHead { method: &Method::GET, ..asked.as_policy() };
            let asked = Asked { route: &route, caller, primary: &primary, request: &request };
            asked.whole(of.terms(), &of.fields.to_map(), &content)
        };
        let (tags, terms) = self.read(body.len(), read).await?;
        let headers = head.fields.to_map();
        let head = self.stored_head(head.status, headers, terms, head.stamp, tags)?;
        Ok(StoredResponse { head: Arc::new(head), body })
    }

    /// The terms of what is stored and found to be still good. Its content is the one of before, and so is the time in it.
    pub(super) async fn shortened(
        &self,
        terms: Terms,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Terms, NotStored> {
        if !shortening::reads_content(&self.route) {
            return shorten(&self.route, &self.primary, terms, headers, None);
        }
        let (route, primary, headers, body) =
            (self.route.clone(), self.primary, headers.clone(), body.clone());
        let length = body.len();
        let read = move || {
            let content = Content::of_response(&headers, &body, route.max_json)
                .map_err(|unreadable| unreadable.not_stored())?;
            shorten(&route, &primary, terms, &headers, Some(&content))
        };
        self.read(length, read).await
    }

    async fn read<T: Send + 'static>(
        &self,
        length: usize,
        read: impl FnOnce() -> Result<T, NotStored> + Send + 'static,
    ) -> Result<T, NotStored> {
        self.worker.proxy.reading.run(length, read).await.unwrap_or(Err(NotStored::MalformedJson))
    }
}
