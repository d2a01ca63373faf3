//! Which replicas there are, and how much each knows: a heartbeat that goes with the confirmation, and whoever waits for
//! a purge to be known everywhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::driver::Sent;
use super::failure::Failure;
use super::figures::Command;
use super::index::RedisIndex;
use super::scripts::{Part, REPLICAS};
use crate::clock::Moment;
use crate::purge::Position;
use crate::store::remote::Replica;

/// Without another reason a replica says this often that it is there.
const BETWEEN_BEATS: Duration = Duration::from_millis(900);

/// So much longer than it may go on without a word from Redis, a silent replica counts as being there.
const SLACK: Duration = Duration::from_secs(1);
const SHORTEST_LIFE: Duration = Duration::from_secs(4);

/// Between looks at who knows a purge.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// An operator can wait for longer than a request.
const PATIENCE: Duration = Duration::from_secs(1);

/// Begins a message that asks every replica to say what it knows.
pub const ROLL_CALL: char = 'b';

/// What this replica has said of itself.
#[derive(Debug)]
pub struct Beat {
    pub name: String,
    lasts: Duration,
    /// The [`Moment`] of the last one; zero: never.
    last: AtomicU64,
    said: AtomicU64,
    /// Somebody waits until this position is said.
    wanted: AtomicU64,
}

impl Beat {
    /// `trusted_for`: how long this replica may answer from what it knows without a word from Redis.
    pub fn new(name: String, trusted_for: Duration) -> Self {
        let lasts = (trusted_for + SLACK).max(SHORTEST_LIFE);
        let [last, said, wanted] = std::array::from_fn(|_| AtomicU64::default());
        Self { name, lasts, last, said, wanted }
    }

    pub fn want(&self, position: Position) {
        self.wanted.fetch_max(position.0, Ordering::AcqRel);
    }

    /// Whether somebody waits for this to be said.
    pub fn is_wanted(&self, known: Position) -> bool {
        let (wanted, said) = (self.wanted.load(Ordering::Acquire), self.said.load(Ordering::Acquire));
        wanted > said && known.0 >= wanted
    }

    /// What the next confirmation says.
    pub fn words(&self) -> (bool, Vec<Bytes>) {
        let last = self.last.load(Ordering::Acquire);
        let is_due = last == 0
            || Moment::now().since(Moment::from_nanos(last)) >= BETWEEN_BEATS
            || self.wanted.load(Ordering::Acquire) > self.said.load(Ordering::Acquire);
        let name = if is_due { self.name.clone() } else { String::new() };
        (is_due, vec![name.into(), self.lasts.as_micros().to_string().into()])
    }

    /// Redis has heard it.
    pub fn said(&self, known: Position) {
        self.said.store(known.0, Ordering::Release);
        self.last.store(Moment::now().as_nanos(), Ordering::Release);
    }
}

impl RedisIndex {
    /// All that there are.
    pub async fn replicas(&self) -> Result<Vec<Replica>, Failure> {
        self.call_the_roll("").await
    }

    /// Waits until every replica knows what was purged up to `position`; those that do not within the time.
    pub async fn known_everywhere(
        &self,
        position: Position,
        within: Duration,
    ) -> Result<Vec<Replica>, Failure> {
        let end = Instant::now() + within;
        let mut message = format!("{ROLL_CALL}{}", position.0);
        let mut pause = FIRST_PAUSE;
        let mut missing = Err(Failure::TimedOut);
        loop {
            let Ok(replicas) = timeout_at(end, self.call_the_roll(&message)).await else { return missing };
            if replicas.is_ok() {
                message.clear();
            }
            missing = replicas.map(|replicas| {
                let knows = |replica: &Replica| match replica.name == self.beat.name {
                    true => self.view.read().high_water() >= position,
                    false => replica.position >= position,
                };
                replicas.into_iter().filter(|replica| !knows(replica)).collect()
            });
            let is_over = missing.as_ref().is_ok_and(Vec::is_empty) || Instant::now() + pause >= end;
            if is_over {
                return missing;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn call_the_roll(&self, message: &str) -> Result<Vec<Replica>, Failure> {
        let args = [&self.keys.wake, message].map(|arg| Bytes::copy_from_slice(arg.as_bytes()));
        let keys = [self.keys.replicas.as_str()];
        let told = self
            .servers
            .run(Command::Replicas, &REPLICAS, &keys, args.into(), Sent::IfHealthy, PATIENCE)
            .await?;
        let Part::List(replicas) = told else { return Ok(Vec::new()) };
        Ok(replicas.iter().filter_map(replica).collect())
    }
}

fn replica(told: &Part) -> Option<Replica> {
    let Part::List(parts) = told else { return None };
    let [name, position, silent_for] = parts.as_slice() else { return None };
    Some(Replica {
        name: name.text()?.to_owned(),
        position: Position(position.number()?),
        silent_for: Duration::from_micros(silent_for.number()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaks(beat: &Beat) -> bool {
        let (is_due, words) = beat.words();
        assert_eq!(is_due, !words[0].is_empty());
        is_due
    }

    #[test]
    fn a_replica_speaks_at_first_and_then_when_it_is_time_or_asked() {
        let beat = Beat::new("one".into(), Duration::from_secs(30));
        assert_eq!(beat.lasts, Duration::from_secs(31));
        assert!(speaks(&beat));
        beat.said(Position(5));
        assert!(!speaks(&beat));
        beat.want(Position(7));
        assert!(speaks(&beat));
        assert!(!beat.is_wanted(Position(6)), "it has nothing to say yet");
        assert!(beat.is_wanted(Position(7)));
        beat.said(Position(7));
        assert!(!beat.is_wanted(Position(9)) && !speaks(&beat));
    }
}
