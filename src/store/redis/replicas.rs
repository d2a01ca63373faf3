//! Which replicas there are, and how much each knows: a heartbeat that follows a confirmation, and whoever waits for a
//! purge to be known everywhere.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::driver::Sent;
use super::failure::Failure;
use super::figures::Command;
use super::index::RedisIndex;
use super::scripts::{BEAT, Part, REPLICAS};
use crate::clock::Moment;
use crate::purge::{Incarnation, Position};
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
    has_left: AtomicBool,
}

impl Beat {
    /// `trusted_for`: how long this replica may answer from what it knows without a word from Redis.
    pub fn new(name: String, trusted_for: Duration) -> Self {
        let lasts = (trusted_for + SLACK).max(SHORTEST_LIFE);
        let [last, said, wanted] = std::array::from_fn(|_| AtomicU64::default());
        Self { name, lasts, last, said, wanted, has_left: AtomicBool::new(false) }
    }

    pub fn want(&self, position: Position) {
        self.wanted.fetch_max(position.0, Ordering::AcqRel);
    }

    /// Whether it is time to say that this is known, or somebody waits for it.
    fn is_due(&self, known: Position) -> bool {
        let (wanted, said) = (self.wanted.load(Ordering::Acquire), self.said.load(Ordering::Acquire));
        let last = self.last.load(Ordering::Acquire);
        let is_time = last == 0 || Moment::now().since(Moment::from_nanos(last)) >= BETWEEN_BEATS;
        !self.has_left.load(Ordering::Acquire) && (is_time || (wanted > said && known.0 >= wanted))
    }

    /// Redis has heard it.
    fn said(&self, known: Position) {
        self.said.store(known.0, Ordering::Release);
        self.last.store(Moment::now().as_nanos(), Ordering::Release);
    }
}

impl RedisIndex {
    /// Call it when the view has just been confirmed.
    pub async fn say_what_is_known(&self) {
        let (incarnation, known) = {
            let index = self.view.read();
            (index.incarnation(), index.high_water())
        };
        if self.beat.is_due(known) && self.say(&known.0.to_string(), incarnation).await {
            self.beat.said(known);
        }
    }

    /// Nobody waits any more for this replica, which answers no request from now on.
    pub async fn leave(&self) {
        self.beat.has_left.store(true, Ordering::Release);
        self.say("", Incarnation::NONE).await;
    }

    /// Whether Redis has heard it. Whoever may not say so reads all the same.
    async fn say(&self, known: &str, incarnation: Incarnation) -> bool {
        let (lasts, incarnation) = (self.beat.lasts.as_micros().to_string(), written(incarnation));
        let args =
            [&self.beat.name, known, &incarnation, &lasts].map(|arg| Bytes::copy_from_slice(arg.as_bytes()));
        let keys = [self.keys.replicas.as_str()];
        let said = self
            .servers
            .run(Command::Replicas, &BEAT, &keys, args.into(), Sent::IfHealthy, self.deadline)
            .await;
        said.is_ok()
    }

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
        let incarnation = written(self.view.incarnation());
        Ok(replicas.iter().filter_map(|told| replica(told, &incarnation)).collect())
    }
}

/// What it knows of another index than the present one is nothing.
fn replica(told: &Part, present: &str) -> Option<Replica> {
    let Part::List(parts) = told else { return None };
    let [name, position, silent_for, incarnation] = parts.as_slice() else { return None };
    let position = if incarnation.text()? == present { position.number()? } else { 0 };
    Some(Replica {
        name: name.text()?.to_owned(),
        position: Position(position),
        silent_for: Duration::from_micros(silent_for.number()?),
    })
}

fn written(incarnation: Incarnation) -> String {
    incarnation.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_speaks_at_first_and_then_when_it_is_time_or_asked_and_not_after_it_left() {
        let beat = Beat::new("one".into(), Duration::from_secs(30));
        assert_eq!(beat.lasts, Duration::from_secs(31));
        assert!(beat.is_due(Position(5)));
        beat.said(Position(5));
        assert!(!beat.is_due(Position(6)));
        beat.want(Position(7));
        assert!(!beat.is_due(Position(6)), "it has nothing to say yet");
        assert!(beat.is_due(Position(7)));
        beat.said(Position(7));
        assert!(!beat.is_due(Position(9)));
        beat.want(Position(10));
        beat.has_left.store(true, Ordering::Release);
        assert!(!beat.is_due(Position(10)));
    }

    #[test]
    fn what_is_known_of_another_index_counts_for_nothing() {
        let text = |text: &'static str| Part::Bytes(Bytes::from_static(text.as_bytes()));
        let told = Part::List(vec![text("one"), text("17"), text("5"), text("ff")]);
        assert_eq!(replica(&told, "ff").unwrap().position, Position(17));
        assert_eq!(replica(&told, "fe").unwrap().position, Position(0));
    }
}
