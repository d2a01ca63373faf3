//! The request whose fetch it is: it waits for the landing like everyone, and gets what nobody else may have.

use std::sync::Arc;

use http::StatusCode;

use super::collapsing::{Landing, Leader, SharedResponse};
use super::error::ProxyError;
use super::fetching::{Fetch, Own};
use super::finding::{Miss, Usable};
use super::intake::ClientHead;
use super::shared_body::Reader;
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
        // Others may be told only when the whole is there; this one is told of its own as soon as that can be.
        let answer = match Fetch::new(self, head, lookup, miss).start(leader).await {
            Ok(Own::Reader { shared, reader }) => self.pass_on(&shared, reader, head, lookup, miss),
            Ok(Own::Response { response, not_stored }) => {
                if response.status().is_server_error()
                    && let Some(answer) = self.stand_in(head, lookup, miss, Some(response.status()))
                {
                    return Ok(answer);
                }
                let outcome = Outcome::forwarded(miss.fwd, Some(Detail::NotStored(not_stored)));
                Answer::new(response, Some(outcome), Some(lookup.route))
            }
            Err(_) => match flight.landing().await {
                Landing::Whole(stored) => {
                    let now = self.proxy.clock.now();
                    let ttl = Some(stored.head.terms().ttl(now));
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
                Landing::Found(stored) if self.is_hit(&stored.head, head, lookup) => {
                    let now = self.proxy.clock.now();
                    let outcome = Outcome::collapsed(miss.fwd, stored.head.terms().ttl(now));
                    self.reply(head, lookup, Usable { stored, now, outcome })
                }
                Landing::Found(_) => return Err(Unled::Again),
                Landing::NotShareable => return Err(Unled::Alone),
                Landing::Failed(error) => self.stale_or_error(head, lookup, miss, error),
                _ => self.stale_or_error(head, lookup, miss, ProxyError::Interrupted),
            },
        };
        Ok(answer)
    }

    fn pass_on(
        &self,
        shared: &SharedResponse,
        reader: Reader,
        head: &ClientHead,
        lookup: &Lookup<'_>,
        miss: &Miss,
    ) -> Answer {
        if shared.is_error()
            && let Some(answer) = self.stand_in(head, lookup, miss, Some(shared.head.status))
        {
            return answer;
        }
        let now = self.proxy.clock.now();
        let why_not = shared.not_stored.or(shared.doubt);
        let ttl = why_not.is_none().then(|| shared.head.terms().ttl(now));
        let outcome = Outcome::Forwarded {
            fwd: miss.fwd,
            fwd_status: None,
            stored: why_not.is_none(),
            collapsed: false,
            ttl,
            detail: why_not.map(Detail::NotStored),
        };
        let response = replying::in_flight(&shared.head, reader, head, now);
        Answer::new(response, Some(outcome), Some(lookup.route))
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
        let now = self.proxy.clock.now();
        // The upstream may have taken its time to fail.
        let stored =
            stale.as_of_now(self.proxy.store.as_ref()).filter(|stale| stale.is_of_use(now))?.response;
        let ttl = Some(stored.head.terms().ttl(now));
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
