//! HEAD that goes forward, and what its answer says of the stored GET (RFC 9111 §4.3.5).

use std::sync::Arc;

use http::Method;

use super::fetching::Fetch;
use super::finding::{Miss, Stale};
use super::intake::ClientRequest;
use super::passing::{to_client, upstream_request};
use super::{Answer, Worker};
use crate::policy::cache_status::Outcome;
use crate::policy::classify::Lookup;
use crate::policy::storing::Exchange;
use crate::policy::validation::is_freshened_by_head;
use crate::upstream::RequestBody;

impl Worker {
    /// Nothing fresh is stored: a fresh response answers HEAD itself.
    pub(super) async fn forward_head(
        &self,
        request: ClientRequest,
        lookup: &Lookup<'_>,
        miss: &Miss,
    ) -> Answer {
        debug_assert_eq!(request.head.parts.method, Method::HEAD);
        let head = Arc::new(request.head);
        let fetch = Fetch::new(self, &head, lookup, miss);
        let forwarded = upstream_request(
            &head,
            head.parts.headers.clone(),
            lookup.query.as_deref(),
            RequestBody::empty(),
        );
        let requested_at = self.proxy.clock.now();
        let response = match self.send(forwarded, &head).await {
            Ok(response) => response,
            Err(error) => return self.stale_or_error(&head, lookup, miss, error),
        };
        if response.status().is_server_error()
            && let Some(answer) = self.stand_in(&head, lookup, miss, Some(response.status()))
        {
            return answer;
        }
        let exchange = Exchange { requested_at, received_at: self.proxy.clock.now() };
        // HEAD tells nothing of the content, so what was purged softly is not brought back by it.
        let stale = miss.stale.as_ref().filter(|stale| !stale.soft_purged);
        let (status, headers) = (response.status(), response.headers());
        let freshened = match stale {
            Some(Stale { response, .. })
                if !is_freshened_by_head(&response.head, response.body.len() as u64, status, headers) =>
            {
                false
            }
            Some(stale) => fetch.freshen_by_head(stale, headers, exchange).await,
            None => false,
        };
        let outcome = Outcome::Forwarded {
            fwd: miss.fwd,
            fwd_status: None,
            stored: freshened,
            collapsed: false,
            ttl: None,
            detail: None,
        };
        Answer::new(to_client(response), Some(outcome), Some(lookup.route))
    }
}
