//! The request whose fetch it is: it waits for the landing like everyone, and gets what nobody else may have.

use std::sync::Arc;

use http::StatusCode;

use super::collapsing::{Landing, Leader};
use super::error::ProxyError;
use super::fetching::{Fetch, Own};
use super::finding::{Miss, Usable};
use super::intake::ClientHead;
use super::{Answer, Worker, replying};
use crate::policy::cache_status::{Detail, Fwd, Outcome};
use crate::policy::classify::Lookup;

/// Why a fetch that was to be led was not made: another replica's made it needless.
pub(super) enum Unled {
    /// Another replica found that it is not to be shared.
    Alone,
    /// What another replica stored is not for this request.
    Again,
}

impl Worker {
    /// A fetch that nobody joins.
    pub(super) async fn fetch_alone(
        &self,
        head: &Arc<ClientHead>,
        lookup: &Lookup<'_>,
        miss: &Miss,
    ) -> Answer {
        let leader = self.proxy.flights.alone(&miss.key);
        match self.lead(leader, head, lookup, miss).await {
            Ok(answer) => answer,
            // Nobody waits for other replicas alone.
            Err(Unled::Alone | Unled::Again) => {
                self.stale_or_error(head, lookup, miss, ProxyError::Interrupted)
            }
        }
    }

    /// The fetch is a task of its own: should this client go away, it goes on for those who wait, and for the store.
    pub(super) async fn lead(
        &self,
        leader: Leader,
        head: &Arc<ClientHead>,
        lookup: &Lookup<'_>,
        miss: &Miss,
    ) -> Result<Answer, Unled> {
        let flight = leader.flight().clone();
        let own = Fetch::new(self, head, lookup, miss).start(leader);
        let landing = flight.landing().await;
        let now = self.proxy.clock.now();
        let answer = match (landing, own.await) {
            (Landing::Found(stored), _) if self.is_hit(&stored.head, head, lookup) => {
                let outcome = Outcome::collapsed(miss.fwd, stored.head.terms.ttl(now));
                self.reply(head, lookup, Usable { stored, now, outcome })
            }
            (Landing::Found(_), _) => return Err(Unled::Again),
            (Landing::NotShareable, Err(_)) => return Err(Unled::Alone),
            (Landing::Freshened(stored), _) => {
                let ttl = Some(stored.head.terms.ttl(now));
                let fwd_status = Some(StatusCode::NOT_MODIFIED.as_u16());
                let outcome = Outcome::Forwarded {
                    fwd: miss.fwd,
                    fwd_status,
                    stored: true,
                    collapsed: false,
                    ttl,
                    detail: None,
                };
                self.reply(head, lookup, Usable { stored, now, outcome })
            }
            (Landing::Shared(shared), Ok(Own::Reader(reader))) => {
                if shared.is_error()
                    && let Some(answer) = self.stand_in(head, lookup, miss, Some(shared.head.status))
                {
                    return Ok(answer);
                }
                let (stored, ttl) = match shared.is_error() {
                    true => (false, None),
                    false => (true, Some(shared.head.terms.ttl(now))),
                };
                let outcome = Outcome::Forwarded {
                    fwd: miss.fwd,
                    fwd_status: None,
                    stored,
                    collapsed: false,
                    ttl,
                    detail: shared.not_stored.map(Detail::NotStored),
                };
                let response = replying::in_flight(&shared.head, reader, head, now);
                Answer::new(response, Some(outcome), Some(lookup.route))
            }
            (Landing::NotShareable, Ok(Own::Response { response, not_stored })) => {
                if response.status().is_server_error()
                    && let Some(answer) = self.stand_in(head, lookup, miss, Some(response.status()))
                {
                    return Ok(answer);
                }
                let outcome = Outcome::forwarded(miss.fwd, Some(Detail::NotStored(not_stored)));
                Answer::new(response, Some(outcome), Some(lookup.route))
            }
            (Landing::Failed(error), _) => self.stale_or_error(head, lookup, miss, error),
            _ => self.stale_or_error(head, lookup, miss, ProxyError::Interrupted),
        };
        Ok(answer)
    }

    pub(super) fn stale_or_error(
        &self,
        head: &ClientHead,
        lookup: &Lookup<'_>,
        miss: &Miss,
        error: ProxyError,
    ) -> Answer {
        self.stand_in(head, lookup, miss, None).unwrap_or_else(|| Answer::own(&error, Some(lookup.route)))
    }

    /// What is stored, since the upstream failed (RFC 5861 §4): if its terms allow, and it was not purged meanwhile.
    pub(super) fn stand_in(
        &self,
        head: &ClientHead,
        lookup: &Lookup<'_>,
        miss: &Miss,
        status: Option<StatusCode>,
    ) -> Option<Answer> {
        let stale = miss.stale.as_ref().filter(|stale| stale.if_error)?;
        let stored = stale.as_of_now(self.proxy.store.as_ref())?.response;
        let now = self.proxy.clock.now();
        let ttl = Some(stored.head.terms.ttl(now));
        let outcome = Outcome::Forwarded {
            fwd: Fwd::Stale,
            fwd_status: status.map(|status| status.as_u16()),
            stored: false,
            collapsed: false,
            ttl,
            detail: Some(Detail::StaleIfError),
        };
        Some(self.reply(head, lookup, Usable { stored, now, outcome }))
    }
}
