//! GET and HEAD on a route that caches: from the store, from a fetch of one's own, or from another's.

use std::sync::Arc;
use std::time::Instant;

use http::Method;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};

use super::collapsing::{Flight, Landing, Seat, SharedResponse};
use super::error::ProxyError;
use super::finding::{Finding, Glance, Miss, Usable};
use super::intake::{ClientHead, ClientRequest};
use super::leading::Unled;
use super::{Answer, LARDER_POSITION, Worker, replying};
use crate::policy::cache_status::{Detail, Fwd, Outcome};
use crate::policy::classify::{Caller, Lookup, PassReason};
use crate::policy::miss::{OnMiss, on_miss, passes_unseen};
use crate::policy::route::{Collapse, Mode};
use crate::purge::Validity;

/// A request that so many flights in a row did not serve fetches for itself.
const FLIGHTS: usize = 4;

impl Worker {
    /// `glance`: what is known already. What takes longer than the store is in boxes of its own, so that waiting for the
    /// store takes little room.
    pub(super) async fn look_up(
        &self,
        request: Box<ClientRequest>,
        lookup: Lookup<'_>,
        glance: Option<Glance>,
    ) -> Answer {
        let has = |name| request.head.has(&name);
        if let Some(reason) = passes_unseen(&request.head.as_policy()) {
            let outcome = Outcome::pass(reason);
            return Box::pin(self.pass(request, Some(lookup.route), outcome)).await;
        }
        // Positions of different servers are not compared: whatever it says, the latest word on purges has it.
        if has(LARDER_POSITION) && !self.proxy.store.catch_up().await {
            let outcome = Outcome::pass(PassReason::Position);
            return Box::pin(self.pass(request, Some(lookup.route), outcome)).await;
        }
        let glance = glance.unwrap_or_else(|| self.glance(&lookup, &request.head));
        let finding = self.look_on(glance, &lookup, &request.head).await;
        if lookup.route.mode == Mode::Observe {
            let conditional = has(IF_NONE_MATCH) || has(IF_MODIFIED_SINCE);
            let whole = request.head.parts.method == Method::GET && !has(RANGE) && !conditional;
            return Box::pin(self.observe(request, &lookup, finding, whole)).await;
        }
        match finding {
            Finding::Fresh(usable) => self.reply(&request.head, &lookup, usable),
            Finding::Stale(_, miss) if request.head.errand.is_some() => {
                Box::pin(self.fetch_or_join(Arc::new(request.head), &lookup, miss)).await
            }
            Finding::Stale(usable, miss) => {
                let head = Arc::new(request.head);
                self.fetch_behind(&head, &lookup, miss);
                self.reply(&head, &lookup, usable)
            }
            Finding::Miss(miss) => match on_miss(lookup.route, &request.head.as_policy()) {
                OnMiss::OnlyIfCached => Answer::own(&ProxyError::OnlyIfCached, Some(lookup.route)),
                OnMiss::Head => Box::pin(self.forward_head(*request, &lookup, &miss)).await,
                OnMiss::Pass(reason) => {
                    Box::pin(self.pass(request, Some(lookup.route), Outcome::pass(reason))).await
                }
                OnMiss::Fetch => Box::pin(self.fetch_or_join(Arc::new(request.head), &lookup, miss)).await,
            },
        }
    }

    /// Fetches, or waits for another's fetch if what that brings would be a hit.
    async fn fetch_or_join(&self, head: Arc<ClientHead>, lookup: &Lookup<'_>, mut miss: Miss) -> Answer {
        if lookup.caller == Caller::Credentialed || lookup.route.collapse == Collapse::No {
            return self.fetch_alone(&head, lookup, &miss).await;
        }
        let arrived = Instant::now();
        let mut refused: Option<Arc<Flight>> = None;
        for _ in 0..FLIGHTS {
            let flight = match self.proxy.flights.join(&miss.key, refused.as_ref()) {
                Seat::Alone => break,
                Seat::Leader(leader) => match self.find_again(lookup, &head, &miss).await {
                    Some(usable) => {
                        leader.close();
                        leader.land(Landing::LookAgain);
                        return self.reply(&head, lookup, usable);
                    }
                    None => {
                        let flight = leader.flight().clone();
                        match self.lead(leader, &head, lookup, &miss).await {
                            Ok(answer) => return answer,
                            Err(Unled::Alone) => break,
                            Err(Unled::Again) => flight,
                        }
                    }
                },
                Seat::Follower(flight) => flight,
            };
            match flight.landing().await {
                Landing::Shared(shared) => {
                    let is_later = flight.began_after(arrived);
                    if let Some(answer) = self.follow(&shared, is_later, &head, lookup, &miss) {
                        return answer;
                    }
                }
                Landing::Whole(stored) | Landing::Found(stored) => {
                    if self.is_hit(&stored.head, &head, lookup) {
                        let now = self.proxy.clock.now();
                        let outcome = Outcome::collapsed(miss.fwd, stored.head.terms().ttl(now));
                        return self.reply(&head, lookup, Usable { stored, now, outcome });
                    }
                }
                Landing::LookAgain => {}
                Landing::NotShareable => break,
                Landing::Failed(error) => return self.stale_or_error(&head, lookup, &miss, error),
            }
            refused = Some(flight);
            match self.find(lookup, &head).await {
                Finding::Fresh(usable) | Finding::Stale(usable, _) => {
                    return self.reply(&head, lookup, usable);
                }
                Finding::Miss(again) => miss = again,
            }
        }
        self.fetch_alone(&head, lookup, &miss).await
    }

    /// The response in flight, if it would be a hit were it stored now. `is_later`: its fetch began after this request
    /// arrived, so that no purge that was acknowledged before is missing from it. An error answers those who waited for it.
    fn follow(
        &self,
        shared: &SharedResponse,
        is_later: bool,
        head: &ClientHead,
        lookup: &Lookup<'_>,
        miss: &Miss,
    ) -> Option<Answer> {
        let usable = match (shared.is_error(), is_later) {
            (true, true) => true,
            (true, false) => self.validity_in_flight(shared) != Validity::Dead,
            (false, true) => self.answers(&shared.head, Validity::Valid, head, lookup),
            (false, false) => self.answers(&shared.head, self.validity_in_flight(shared), head, lookup),
        };
        if !usable {
            return None;
        }
        if shared.is_error()
            && let Some(answer) = self.stand_in(head, lookup, miss, Some(shared.head.status))
        {
            return Some(answer);
        }
        let reader = shared.body.reader()?;
        let now = self.proxy.clock.now();
        let outcome = Outcome::collapsed(miss.fwd, shared.head.terms().ttl(now));
        Some(Answer::new(
            replying::in_flight(&shared.head, reader, head, now),
            Some(outcome),
            Some(lookup.route),
        ))
    }

    /// `mode: observe`: everything is forwarded, and the answer says what would have happened.
    async fn observe(
        &self,
        request: Box<ClientRequest>,
        lookup: &Lookup<'_>,
        finding: Finding,
        whole: bool,
    ) -> Answer {
        let bypass = |detail| Outcome::forwarded(Fwd::Bypass, Some(detail));
        let miss = match finding {
            Finding::Miss(miss) if whole => Miss { stale: None, ..miss },
            Finding::Miss(_) => {
                return self.pass(request, Some(lookup.route), bypass(Detail::WouldMiss)).await;
            }
            _ => return self.pass(request, Some(lookup.route), bypass(Detail::WouldHit)).await,
        };
        // As it came: a route that is only watched drops nothing.
        let query = request.head.parts.uri.query().map(str::to_owned);
        let lookup = &Lookup { query, ..lookup.under(lookup.key) };
        let mut answer = self.fetch_alone(&Arc::new(request.head), lookup, &miss).await;
        if let Some(Outcome::Forwarded { stored, detail, .. }) = answer.outcome {
            let detail = if stored { Some(Detail::WouldStore) } else { detail };
            answer.outcome = Some(Outcome::forwarded(Fwd::Bypass, detail));
        }
        answer
    }

    pub(super) fn reply(&self, head: &ClientHead, lookup: &Lookup<'_>, usable: Usable) -> Answer {
        if self.proxy.store.keeps() {
            head.note_use(lookup, &usable.stored.head, &self.proxy.config.credentials);
        }
        let response = replying::stored(usable.stored, head, usable.now);
        Answer::new(response, Some(usable.outcome), Some(lookup.route))
    }

    /// By the one who has just been given the lead: whoever fetched before may have stored it since.
    async fn find_again(&self, lookup: &Lookup<'_>, head: &ClientHead, miss: &Miss) -> Option<Usable> {
        match head.errand {
            Some(_) => self.find_beyond(lookup, head, miss).await,
            None => self.find_here(lookup, head, miss.key),
        }
    }
}
