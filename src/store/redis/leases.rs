//! Leases: one fetch for all replicas. They reduce load and never matter for coherence: if one fails, a replica fetches
//! needlessly.
//!
//! A holder renews its lease while it fetches, so that a dead holder is replaced soon. A waiting replica sleeps until
//! the end of the fetch or of the lease; it does not poll.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::command_stats::CommandKind;
use super::connection::Admission;
use super::error::RedisError;
use super::index::RedisIndex;
use super::request::millis_arg;
use super::scripts::{LEASE_END, LEASE_RENEW, LEASE_TAKE, RespValue, Script};
use crate::hex;
use crate::policy::CacheKey;
use crate::random::random_token;
use crate::store::fetch_lease::{FetchLease, LeaseDecision, LeaseOutcome};
use crate::store::remote_status::LeaseStats;
use crate::tasks::spawn;

/// How long a lease outlives its holder at the most.
const LEASE_TTL: Duration = Duration::from_secs(3);
const LEASE_RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// Begins the message that wakes those who wait for a key.
pub(super) const LEASE_ENDED: char = 'l';

pub(crate) struct FetchLeases {
    index: Arc<RedisIndex>,
    /// Where renewals run: not beside requests.
    handle: Handle,
    deadline: Duration,
    waiters: Mutex<HashMap<CacheKey, Vec<oneshot::Sender<()>>>>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    taken: AtomicU64,
    waited: AtomicU64,
    apart: AtomicU64,
    lost: AtomicU64,
}

/// The state of a lease in Redis.
enum LeaseState {
    Taken,
    /// There is something stored that was not looked at.
    Stored,
    Held(Duration),
    NotShareable(Duration),
    FetchLocally,
}

impl FetchLeases {
    pub(crate) fn new(index: Arc<RedisIndex>, handle: Handle, deadline: Duration) -> Self {
        Self { index, handle, deadline, waiters: Mutex::default(), counts: Counts::default() }
    }

    pub(crate) fn figures(&self) -> LeaseStats {
        let Counts { taken, waited, apart, lost } = &self.counts;
        let [taken, waited, apart, lost] =
            [taken, waited, apart, lost].map(|count| count.load(Ordering::Relaxed));
        LeaseStats { taken, waited, fell_back: apart, lost }
    }

    /// `has_looked`: the caller has seen what is stored, and can't use it. Waits for no longer than `within`, and for
    /// Redis itself for no longer than for any command.
    pub(crate) async fn acquire(
        self: Arc<Self>,
        key: CacheKey,
        mut has_looked: bool,
        within: Duration,
    ) -> LeaseDecision {
        let end = Instant::now() + within;
        let Ok(token) = random_token().map(Bytes::from) else { return self.fetch_locally() };
        loop {
            // Before it is asked: whatever ends from now on is heard.
            let woken = self.subscribe(key);
            let held_for = match self.take(&key, &token, has_looked).await {
                Ok(LeaseState::Taken) => return LeaseDecision::Acquired(self.start_lease(key, token)),
                Ok(LeaseState::Stored) => return LeaseDecision::LookAgain,
                Ok(LeaseState::NotShareable(lasts)) => return LeaseDecision::NotShareable(lasts),
                Ok(LeaseState::Held(lasts)) => lasts.clamp(Duration::from_millis(1), LEASE_TTL),
                Ok(LeaseState::FetchLocally) | Err(_) => return self.fetch_locally(),
            };
            self.counts.waited.fetch_add(1, Ordering::Relaxed);
            // Another replica may have stored a response meanwhile.
            has_looked = false;
            tokio::select! {
                biased;
                _ = woken => return LeaseDecision::LookAgain,
                () = sleep(held_for) => {}
                () = sleep_until(end) => return self.fetch_locally(),
                () = self.index.wait_until_unreachable() => return self.fetch_locally(),
            }
        }
    }

    /// The end of a fetch of this key, as it was told to all.
    pub(crate) fn on_lease_ended(&self, key: &str) {
        let Some(key) = parse_key(key) else { return };
        // Dropping them wakes.
        drop(self.lock_waiters().remove(&key));
    }

    fn fetch_locally(&self) -> LeaseDecision {
        self.counts.apart.fetch_add(1, Ordering::Relaxed);
        LeaseDecision::FetchLocally
    }

    fn subscribe(&self, key: CacheKey) -> oneshot::Receiver<()> {
        let (wakes, woken) = oneshot::channel();
        let mut waiting = self.lock_waiters();
        let those = waiting.entry(key).or_default();
        those.retain(|other| !other.is_closed());
        those.push(wakes);
        // Those who stopped waiting for other keys leave now and then.
        if waiting.len().is_power_of_two() {
            waiting.retain(|_, those| those.iter().any(|other| !other.is_closed()));
        }
        woken
    }

    fn start_lease(self: &Arc<Self>, key: CacheKey, token: Bytes) -> FetchLease {
        self.counts.taken.fetch_add(1, Ordering::Relaxed);
        let (lease, hears) = FetchLease::new();
        let leases = self.clone();
        let _on = self.handle.enter();
        spawn(async move { leases.renew_until_released(&key, &token, hears).await });
        lease
    }

    /// Until it has ended, or is lost.
    async fn renew_until_released(
        &self,
        key: &CacheKey,
        token: &Bytes,
        mut hears: oneshot::Receiver<LeaseOutcome>,
    ) {
        let mut lasts_until = Instant::now() + LEASE_TTL;
        loop {
            match timeout_at(Instant::now() + LEASE_RENEWAL_INTERVAL, &mut hears).await {
                Ok(ended) => {
                    let ended = ended.unwrap_or(LeaseOutcome::FAILED);
                    if let Err(failure) = self.release(key, token, ended).await {
                        tracing::debug!(%failure, "lease not released; it expires");
                    }
                    return;
                }
                Err(_) => match self.renew(key, token).await {
                    Ok(true) => lasts_until = Instant::now() + LEASE_TTL,
                    Err(_) if Instant::now() < lasts_until => {}
                    _ => {
                        self.counts.lost.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!("a lease was lost: another replica may fetch the same");
                        return;
                    }
                },
            }
        }
    }

    async fn take(&self, key: &CacheKey, token: &Bytes, has_looked: bool) -> Result<LeaseState, RedisError> {
        let looked = if has_looked { "1" } else { "" };
        let args = vec![token.clone(), millis_arg(LEASE_TTL), Bytes::from_static(looked.as_bytes())];
        let reply = self.run(key, &LEASE_TAKE, args).await?;
        let RespValue::Array(parts) = &reply else { return Ok(LeaseState::FetchLocally) };
        let (Some(word), Some(left)) = (parts.first().and_then(RespValue::text), parts.get(1)) else {
            return Ok(LeaseState::FetchLocally);
        };
        // Without an end of its own it was not made here.
        let left = left.number().map_or(LEASE_TTL, Duration::from_millis);
        Ok(match word {
            "t" => LeaseState::Taken,
            "s" => LeaseState::Stored,
            "h" | "w" => LeaseState::Held(left),
            "n" => LeaseState::NotShareable(left),
            _ => LeaseState::FetchLocally,
        })
    }

    async fn renew(&self, key: &CacheKey, token: &Bytes) -> Result<bool, RedisError> {
        let reply = self.run(key, &LEASE_RENEW, vec![token.clone(), millis_arg(LEASE_TTL)]).await?;
        Ok(reply.number() == Some(1))
    }

    async fn release(&self, key: &CacheKey, token: &Bytes, ended: LeaseOutcome) -> Result<(), RedisError> {
        let (word, lasts) = match ended {
            LeaseOutcome::Stored => ("", Duration::ZERO),
            LeaseOutcome::NotShareable(lasts) => ("n", lasts),
            LeaseOutcome::FetchLocally(lasts) => ("e", lasts),
        };
        let keys = &self.index.keys;
        let args = vec![
            token.clone(),
            Bytes::from_static(word.as_bytes()),
            millis_arg(lasts.max(Duration::from_millis(1))),
            Bytes::copy_from_slice(keys.wake.as_bytes()),
            format!("{LEASE_ENDED}{}", hex::encode(&key.0)).into(),
        ];
        self.run(key, &LEASE_END, args).await.map(drop)
    }

    /// On the server that has the response of this key.
    async fn run(
        &self,
        key: &CacheKey,
        script: &'static Script,
        args: Vec<Bytes>,
    ) -> Result<RespValue, RedisError> {
        let (servers, keys) = (&self.index.servers, &self.index.keys);
        let names = [keys.lease(key), keys.response(key)];
        let names = names.each_ref().map(String::as_str);
        servers.run(CommandKind::Lease, script, &names, args, Admission::IfHealthy, self.deadline).await
    }

    fn lock_waiters(&self) -> MutexGuard<'_, HashMap<CacheKey, Vec<oneshot::Sender<()>>>> {
        self.waiters.lock()
    }
}

fn parse_key(digits: &str) -> Option<CacheKey> {
    hex::decode(digits).map(CacheKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let key = CacheKey(std::array::from_fn(|at| at as u8 * 7));
        assert_eq!(parse_key(&hex::encode(&key.0)), Some(key));
        for wrong in ["", "7", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(parse_key(wrong), None, "{wrong}");
        }
    }
}
