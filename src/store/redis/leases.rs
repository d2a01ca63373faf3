//! Leases: one fetch for all replicas. They are for load, never for coherence: whatever goes wrong with one, somebody
//! fetches who need not have.
//!
//! A holder renews its lease while it fetches, so that one that died is replaced soon. Whoever waits sleeps until it is
//! woken by the end of the fetch, or until the lease would have ended; it never asks again and again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::driver::Sent;
use super::failure::Failure;
use super::figures::Command;
use super::index::RedisIndex;
use super::scripts::{LEASE_END, LEASE_RENEW, LEASE_TAKE, Part, Script};
use crate::hex;
use crate::policy::CacheKey;
use crate::store::remote::LeaseFigures;
use crate::store::turn::{Ended, Lease, Turn};

/// How long a lease outlives its holder at the most.
const LASTS: Duration = Duration::from_secs(3);
const BETWEEN_RENEWALS: Duration = Duration::from_secs(1);

/// Begins the message that wakes those who wait for a key.
pub const ENDED: char = 'l';

pub struct Leases {
    index: Arc<RedisIndex>,
    /// Where renewals run: not beside requests.
    handle: Handle,
    deadline: Duration,
    waiting: Mutex<HashMap<CacheKey, Vec<oneshot::Sender<()>>>>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    taken: AtomicU64,
    waited: AtomicU64,
    apart: AtomicU64,
    lost: AtomicU64,
}

/// What Redis says of a lease.
enum Said {
    Taken,
    /// There is something stored that was not looked at.
    Stored,
    Held(Duration),
    NotShareable(Duration),
    Apart,
}

impl Leases {
    pub fn new(index: Arc<RedisIndex>, handle: Handle, deadline: Duration) -> Self {
        Self { index, handle, deadline, waiting: Mutex::default(), counts: Counts::default() }
    }

    pub fn figures(&self) -> LeaseFigures {
        let Counts { taken, waited, apart, lost } = &self.counts;
        let [taken, waited, apart, lost] =
            [taken, waited, apart, lost].map(|count| count.load(Ordering::Relaxed));
        LeaseFigures { taken, waited, apart, lost }
    }

    /// `has_looked`: the caller has seen what is stored, and can't use it. Waits for no longer than `within`, and for
    /// Redis itself for no longer than for any command.
    pub async fn turn(self: Arc<Self>, key: CacheKey, mut has_looked: bool, within: Duration) -> Turn {
        let end = Instant::now() + within;
        let Some(token) = token() else { return self.apart() };
        loop {
            // Before it is asked: whatever ends from now on is heard.
            let woken = self.listen(key);
            let held_for = match self.take(&key, &token, has_looked).await {
                Ok(Said::Taken) => return Turn::Ours(self.hold(key, token)),
                Ok(Said::Stored) => return Turn::LookAgain,
                Ok(Said::NotShareable(lasts)) => return Turn::NotShareable(lasts),
                Ok(Said::Held(lasts)) => lasts.clamp(Duration::from_millis(1), LASTS),
                Ok(Said::Apart) | Err(_) => return self.apart(),
            };
            self.counts.waited.fetch_add(1, Ordering::Relaxed);
            // What is stored when this is over may be another's.
            has_looked = false;
            tokio::select! {
                _ = woken => return Turn::LookAgain,
                () = sleep(held_for) => {}
                () = sleep_until(end) => return self.apart(),
                () = self.index.lost() => return self.apart(),
            }
        }
    }

    /// The end of a fetch of this key, as it was told to all.
    pub fn ended(&self, key: &str) {
        let Some(key) = parsed(key) else { return };
        // Dropping them wakes.
        drop(self.waiting().remove(&key));
    }

    fn apart(&self) -> Turn {
        self.counts.apart.fetch_add(1, Ordering::Relaxed);
        Turn::Apart
    }

    fn listen(&self, key: CacheKey) -> oneshot::Receiver<()> {
        let (wakes, woken) = oneshot::channel();
        let mut waiting = self.waiting();
        let those = waiting.entry(key).or_default();
        those.retain(|other| !other.is_closed());
        those.push(wakes);
        // Those who stopped waiting for other keys leave now and then.
        if waiting.len().is_power_of_two() {
            waiting.retain(|_, those| those.iter().any(|other| !other.is_closed()));
        }
        woken
    }

    fn hold(self: &Arc<Self>, key: CacheKey, token: Bytes) -> Lease {
        self.counts.taken.fetch_add(1, Ordering::Relaxed);
        let (lease, hears) = Lease::new();
        let leases = self.clone();
        self.handle.spawn(async move { leases.keep(&key, &token, hears).await });
        lease
    }

    /// Until it has ended, or is lost.
    async fn keep(&self, key: &CacheKey, token: &Bytes, mut hears: oneshot::Receiver<Ended>) {
        let mut lasts_until = Instant::now() + LASTS;
        loop {
            match timeout_at(Instant::now() + BETWEEN_RENEWALS, &mut hears).await {
                Ok(ended) => {
                    let ended = ended.unwrap_or(Ended::FAILED);
                    if let Err(failure) = self.end(key, token, ended).await {
                        tracing::debug!(%failure, "a lease stays until it has lasted long enough");
                    }
                    return;
                }
                Err(_) => match self.renew(key, token).await {
                    Ok(true) => lasts_until = Instant::now() + LASTS,
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

    async fn take(&self, key: &CacheKey, token: &Bytes, has_looked: bool) -> Result<Said, Failure> {
        let looked = if has_looked { "1" } else { "" };
        let args = vec![token.clone(), millis(LASTS), Bytes::from_static(looked.as_bytes())];
        let reply = self.run(key, &LEASE_TAKE, args).await?;
        let Part::List(parts) = &reply else { return Ok(Said::Apart) };
        let (Some(word), Some(left)) = (parts.first().and_then(Part::text), parts.get(1)) else {
            return Ok(Said::Apart);
        };
        // Without an end of its own it was not made here.
        let left = left.number().map_or(LASTS, Duration::from_millis);
        Ok(match word {
            "t" => Said::Taken,
            "s" => Said::Stored,
            "h" | "w" => Said::Held(left),
            "n" => Said::NotShareable(left),
            _ => Said::Apart,
        })
    }

    async fn renew(&self, key: &CacheKey, token: &Bytes) -> Result<bool, Failure> {
        let reply = self.run(key, &LEASE_RENEW, vec![token.clone(), millis(LASTS)]).await?;
        Ok(reply.number() == Some(1))
    }

    async fn end(&self, key: &CacheKey, token: &Bytes, ended: Ended) -> Result<(), Failure> {
        let (word, lasts) = match ended {
            Ended::Stored => ("", Duration::ZERO),
            Ended::NotShareable(lasts) => ("n", lasts),
            Ended::Apart(lasts) => ("e", lasts),
        };
        let keys = &self.index.keys;
        let args = vec![
            token.clone(),
            Bytes::from_static(word.as_bytes()),
            millis(lasts.max(Duration::from_millis(1))),
            Bytes::copy_from_slice(keys.wake.as_bytes()),
            format!("{ENDED}{}", hex::encode(&key.0)).into(),
        ];
        self.run(key, &LEASE_END, args).await.map(drop)
    }

    /// On the server that has the response of this key.
    async fn run(&self, key: &CacheKey, script: &'static Script, args: Vec<Bytes>) -> Result<Part, Failure> {
        let (servers, keys) = (&self.index.servers, &self.index.keys);
        let names = [keys.lease(key), keys.response(key)];
        let names = names.each_ref().map(String::as_str);
        servers.run(Command::Lease, script, &names, args, Sent::IfHealthy, self.deadline).await
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<CacheKey, Vec<oneshot::Sender<()>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn token() -> Option<Bytes> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    Some(format!("{:032x}", u128::from_le_bytes(random)).into())
}

fn millis(duration: Duration) -> Bytes {
    duration.as_millis().to_string().into()
}

fn parsed(digits: &str) -> Option<CacheKey> {
    hex::decode(digits).map(CacheKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let key = CacheKey(std::array::from_fn(|at| at as u8 * 7));
        assert_eq!(parsed(&hex::encode(&key.0)), Some(key));
        for wrong in ["", "7", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
