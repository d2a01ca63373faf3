//! One fetch for all who ask for the same at the same time (RFC 9111 §4, "collapsed").
//!
//! A follower is a look-up against the response in flight: it gets the response iff it would be a hit were that
//! stored now. So nobody follows a fetch from before a purge, and nothing private reaches a second client. A fetch that
//! began after the follower arrived needs no word on purges: so a crowd is merged while targets are in doubt, too.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use tokio::sync::watch;

use super::error::ProxyError;
use super::shared_body::SharedBody;
use crate::clock::{Clock, Timestamp};
use crate::policy::CacheKey;
use crate::policy::storing::NotStored;
use crate::stored_response::{StoredHead, StoredResponse};

/// How long a key that was not storable is remembered as such, so that requests for it go side by side.
pub(super) const MARK: Duration = Duration::from_secs(120);

/// How many such marks are kept.
const MARKS: usize = 16 * 1024;

/// What became of a fetch, told once to all who wait for it.
#[derive(Clone)]
pub enum Landing {
    /// The header section is there, and the body is on its way.
    Shared(Arc<SharedResponse>),
    /// What is stored is still good, as the upstream says; or the whole is there, and only that told for how long it is.
    Whole(StoredResponse),
    /// Another replica has fetched and stored it.
    Found(StoredResponse),
    /// The one who was to fetch found it stored.
    LookAgain,
    /// This response is for the one who asked; the others ask for themselves.
    NotShareable,
    /// The upstream did not answer: this answers everyone who waited.
    Failed(ProxyError),
}

/// A response in flight.
pub struct SharedResponse {
    pub head: Arc<StoredHead>,
    pub body: Arc<SharedBody>,
    /// Why it is not stored, if it is not.
    pub not_stored: Option<NotStored>,
    /// Whether the head has all its tags. If not, any purge since its fetch began may be one of it.
    pub is_complete: bool,
    /// Why the last response for this key was not stored once it was whole: this one will most likely not be either.
    pub doubt: Option<NotStored>,
}

impl SharedResponse {
    /// An error of the upstream's: it answers those who waited for it, and nobody later.
    pub fn is_error(&self) -> bool {
        self.not_stored.is_some()
    }
}

/// All fetches that others may join.
pub struct Flights {
    by_key: Mutex<HashMap<CacheKey, Arc<Flight>>>,
    /// Keys whose responses were not storable by nature, until when (hit-for-miss).
    unshareable: Cache<CacheKey, Mark>,
    clock: Clock,
}

#[derive(Clone, Copy)]
struct Mark {
    until: Timestamp,
    /// What only the whole response told.
    why: Option<NotStored>,
}

pub struct Flight {
    /// Where others find it: the key of the request, and of the variant once that is known.
    key: Mutex<CacheKey>,
    began: Instant,
    /// Others may find it.
    is_open: bool,
    landing: watch::Sender<Option<Landing>>,
}

pub enum Seat {
    /// This request fetches. The flight is left by dropping the [`Leader`].
    Leader(Leader),
    /// Another fetches already.
    Follower(Arc<Flight>),
    /// The key is known not to be shareable.
    Alone,
}

impl Flights {
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { by_key: Mutex::default(), unshareable: Cache::new(MARKS), clock })
    }

    /// Joins the fetch of `key`, or starts it. `refused` is a flight that did not serve this request: it is not
    /// joined again, but replaced.
    pub fn join(self: &Arc<Self>, key: &CacheKey, refused: Option<&Arc<Flight>>) -> Seat {
        if self.mark(key).is_some() {
            return Seat::Alone;
        }
        let mut flights = self.lock();
        match flights.entry(*key) {
            Entry::Occupied(present)
                if !refused.is_some_and(|refused| Arc::ptr_eq(refused, present.get())) =>
            {
                Seat::Follower(present.get().clone())
            }
            entry => {
                let flight = Flight::new(*key, true);
                entry.insert_entry(flight.clone());
                Seat::Leader(Leader { flights: self.clone(), flight })
            }
        }
    }

    fn mark(&self, key: &CacheKey) -> Option<Mark> {
        self.unshareable.get(key).filter(|mark| self.clock.now() < mark.until)
    }

    /// A fetch that nobody can join.
    pub fn alone(self: &Arc<Self>, key: &CacheKey) -> Leader {
        Leader { flights: self.clone(), flight: Flight::new(*key, false) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, Arc<Flight>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    fn new(key: CacheKey, is_open: bool) -> Arc<Self> {
        let (key, landing) = (Mutex::new(key), watch::Sender::new(None));
        Arc::new(Self { key, began: Instant::now(), is_open, landing })
    }

    fn key(&self) -> CacheKey {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it brings is as good as what a request that arrived then would fetch for itself.
    pub fn began_after(&self, arrived: Instant) -> bool {
        self.began > arrived
    }

    /// Waits until it is known what became of the fetch.
    pub async fn landing(&self) -> Landing {
        let mut landing = self.landing.subscribe();
        match landing.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(landing)) => landing.clone(),
            _ => Landing::Failed(ProxyError::Interrupted),
        }
    }
}

/// Whoever fetches. Dropping it frees all who wait, also when the fetch panics.
pub struct Leader {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
}

impl Leader {
    pub fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Tells everyone who waits.
    pub fn land(&self, landing: Landing) {
        self.flight.landing.send_if_modified(|present| {
            let first = present.is_none();
            present.get_or_insert(landing);
            first
        });
    }

    /// Nobody joins this fetch from now on.
    pub fn close(&self) {
        self.leave(&mut self.flights.lock());
    }

    /// The response turned out to be one of several variants: others find this fetch under `key` from now on.
    pub fn rekey(&self, key: CacheKey) {
        let mut flights = self.flights.lock();
        if self.leave(&mut flights) {
            flights.entry(key).or_insert_with(|| self.flight.clone());
            *self.flight.key.lock().unwrap_or_else(PoisonError::into_inner) = key;
        }
    }

    pub fn can_be_joined(&self) -> bool {
        self.flight.is_open
    }

    /// Requests for this key go side by side for a while. `why`: if that was not known before the whole was there.
    pub fn mark_unshareable(&self, lasts: Duration, why: Option<NotStored>) {
        let mark = Mark { until: self.flights.clock.now().plus(lasts), why };
        self.flights.unshareable.insert(self.flight.key(), mark);
    }

    /// Why the last one was not stored, as far as only the whole told.
    pub fn doubt(&self) -> Option<NotStored> {
        self.flights.mark(&self.flight.key())?.why
    }

    /// The key turned out to be storable.
    pub fn unmark(&self) {
        self.flights.unshareable.remove(&self.flight.key());
    }

    /// Whether it was there to be found.
    fn leave(&self, flights: &mut HashMap<CacheKey, Arc<Flight>>) -> bool {
        let key = self.flight.key();
        let present = flights.get(&key).is_some_and(|present| Arc::ptr_eq(present, &self.flight));
        if present {
            flights.remove(&key);
        }
        present
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.close();
        self.land(Landing::Failed(ProxyError::Interrupted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: CacheKey = CacheKey([1; 32]);
    const VARIANT: CacheKey = CacheKey([2; 32]);

    fn flights() -> (Arc<Flights>, Clock) {
        let clock = Clock::manual(Timestamp::from_secs(1_000));
        (Flights::new(clock.clone()), clock)
    }

    fn leader(flights: &Arc<Flights>, key: &CacheKey) -> Leader {
        match flights.join(key, None) {
            Seat::Leader(leader) => leader,
            _ => panic!("somebody leads already"),
        }
    }

    fn follower(flights: &Arc<Flights>, key: &CacheKey) -> Arc<Flight> {
        match flights.join(key, None) {
            Seat::Follower(flight) => flight,
            _ => panic!("nobody leads"),
        }
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_frees_all_who_wait() {
        let (flights, _) = flights();
        let leading = leader(&flights, &KEY);
        let flight = follower(&flights, &KEY);
        drop(leading);
        assert!(matches!(flight.landing().await, Landing::Failed(ProxyError::Interrupted)));
        leader(&flights, &KEY);
    }

    #[tokio::test]
    async fn the_first_landing_counts() {
        let (flights, _) = flights();
        let leading = leader(&flights, &KEY);
        let flight = leading.flight().clone();
        leading.land(Landing::NotShareable);
        leading.land(Landing::LookAgain);
        assert!(matches!(flight.landing().await, Landing::NotShareable));
    }

    #[test]
    fn a_flight_that_did_not_serve_is_replaced_once_for_all_whom_it_refused() {
        let (flights, _) = flights();
        let old = leader(&flights, &KEY);
        let refused = old.flight().clone();
        let Seat::Leader(new) = flights.join(&KEY, Some(&refused)) else { panic!("not replaced") };
        assert!(matches!(flights.join(&KEY, Some(&refused)), Seat::Follower(_)));
        // The old one leaves without taking the new one with it.
        drop(old);
        assert!(Arc::ptr_eq(&follower(&flights, &KEY), new.flight()));
    }

    #[test]
    fn a_variant_is_found_under_its_own_key() {
        let (flights, _) = flights();
        let leading = leader(&flights, &KEY);
        leading.rekey(VARIANT);
        assert!(Arc::ptr_eq(&follower(&flights, &VARIANT), leading.flight()));
        let _other_variant = leader(&flights, &KEY);
        drop(leading);
        let _again = leader(&flights, &VARIANT);
    }

    #[test]
    fn what_was_not_shareable_goes_side_by_side_for_a_while() {
        let (flights, clock) = flights();
        leader(&flights, &KEY).mark_unshareable(MARK, None);
        assert!(matches!(flights.join(&KEY, None), Seat::Alone));
        clock.advance(MARK);
        leader(&flights, &KEY).mark_unshareable(MARK, None);
        flights.alone(&KEY).unmark();
        leader(&flights, &KEY);
    }
}
