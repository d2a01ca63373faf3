//! Clients: each asks replicas one request after another, and records what it gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder::store::ReplicaRegistry;
use larder::store::sources::StreamPosition;
use tokio::time::{Instant, sleep};

use crate::dice::Dice;
use crate::faults::Kind;
use crate::history::{Duty, Point, ProcessId, Read, Seen};
use crate::network::Network;
use crate::plan::{Actor, Operation};
use crate::redis::Reply;
use crate::replica::{GUARD_LIMIT, Replica, Written};
use crate::rules::{STREAM, position_key};
use crate::simulation::Simulation;
use crate::upstream::{ITEMS, RESOURCES, RESPONSE_TIMEOUT};

/// A client gives up on a replica that does not answer.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The write that a client knows of: the item, its version, and its `Larder-Position`.
type Known = (usize, u64, String);

pub struct Client {
    simulation: Arc<Simulation>,
    dice: Dice,
    known: Option<Known>,
}

/// A write, as far as its client has heard of it.
pub struct SentWrite {
    replica: Arc<Replica>,
    by: ProcessId,
    item: usize,
    id: u64,
    /// When the first byte went to the upstream, and one, in milliseconds; zero: not yet.
    sent: u64,
    done: Point,
    answer: Option<Written>,
}

/// Asks until the time is over.
pub async fn run(simulation: Arc<Simulation>, number: u64, dice: Dice, until: Instant) {
    let actor = Actor::Client(number);
    let mut client = Client::new(&simulation, dice.clone());
    for number in 0.. {
        client.dice = dice.branch(number);
        sleep(client.dice.millis(0, 30)).await;
        if Instant::now() >= until {
            return;
        }
        if !client.simulation.begins(Operation { actor, number }) {
            continue;
        }
        match client.dice.below(24) {
            0..4 => client.write().await,
            4 => client.purge().await,
            5 if client.simulation.setting().has_events => client.announce().await,
            _ => client.read().await,
        }
    }
}

impl Client {
    pub fn new(simulation: &Arc<Simulation>, dice: Dice) -> Self {
        Self { simulation: simulation.clone(), dice, known: None }
    }

    fn choose_slot(&mut self) -> usize {
        self.dice.below(self.simulation.setting().replicas)
    }

    /// Runs a request in the process of its replica.
    pub async fn ask<T: Send + 'static>(
        replica: &Arc<Replica>,
        request: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let running = replica.process.enter(|| larder::tasks::spawn(request));
        tokio::select! {
            biased;
            answer = running => answer.ok(),
            () = replica.process.wait_killed() => None,
            () = sleep(PATIENCE) => None,
        }
    }

    async fn read(&mut self) {
        let (slot, resource) = (self.choose_slot(), self.dice.below(RESOURCES));
        let brings = self.dice.one_in(3);
        self.read_at(slot, resource, brings).await;
    }

    /// Reads through a replica. `brings`: with the position of the last write that it knows of.
    pub async fn read_at(&mut self, slot: usize, resource: usize, brings: bool) {
        let (replica, by) = (self.simulation.replica(slot), self.simulation.process_id(slot));
        let known = self.known.clone().filter(|_| brings);
        let asked = self.simulation.world.history.now();
        let position = known.as_ref().map(|(_, _, position)| position.clone());
        let answer = Self::ask(&replica, replica.clone().read(resource, position)).await;
        let history = &self.simulation.world.history;
        if let Some(Some((body, obtained))) = answer {
            let (after, answered) = (known.map(|(item, version, _)| (item, version)), history.now());
            history.read(Read { by, resource, asked, answered, body, obtained, after });
        }
    }

    async fn write(&mut self) {
        let slot = self.choose_slot();
        let (item, soft) = (self.dice.below(ITEMS), self.dice.one_in(4));
        let mut content = self.dice.branch(1);
        let slow_for = if content.one_in(3) { content.millis(0, 90) } else { Duration::ZERO };
        let written = self.send_write(slot, item, soft, slow_for).await;
        self.follow(written).await;
    }

    /// Writes an item through a replica. `slow_for`: how long its content takes.
    pub async fn send_write(&self, slot: usize, item: usize, soft: bool, slow_for: Duration) -> SentWrite {
        let (replica, by) = (self.simulation.replica(slot), self.simulation.process_id(slot));
        let sent = Arc::new(AtomicU64::new(0));
        let note = sent.clone();
        let mark_sent = move || note.store(crate::process::millis() + 1, Ordering::SeqCst);
        let id = self.simulation.world.history.now().order;
        let writing = replica.clone().write((item, id), soft, slow_for, mark_sent);
        let answer = Self::ask(&replica, writing).await;
        let done = self.simulation.world.history.now();
        SentWrite { replica, by, item, id, sent: sent.load(Ordering::SeqCst), done, answer }
    }

    /// Records from when on a write must be seen.
    pub async fn follow(&mut self, written: SentWrite) {
        let SentWrite { replica, by, item, id, sent, done, answer } = written;
        match answer {
            Some(Written::Done { version, purge, position }) => {
                let duty = self.require(
                    "an acknowledged write",
                    item,
                    version,
                    Some((by, done)),
                    purge.map(|_| done),
                );
                if let Some(purge) = purge {
                    self.known = Some((item, version, position));
                    self.wait_applied(&replica, purge, duty).await;
                } else if self.wait_taken(&replica).await {
                    let now = self.simulation.world.history.now();
                    self.require("a write whose purge Redis took later", item, version, None, Some(now));
                }
            }
            Some(Written::Unknown { is_purged: true }) => self.expect_in_doubt((item, id), done).await,
            None if self.simulation.setting().guarded && sent > 0 => {
                self.expect_guarded((item, id), sent).await;
            }
            _ => {}
        }
    }

    /// A write with an unknown outcome is visible once its doubt is over.
    async fn expect_in_doubt(&mut self, write: (usize, u64), done: Point) {
        let setting = self.simulation.setting();
        // A doubt that is lost with the index is told again by its replica: later, if that one hears nothing of the loss.
        if setting.has(Kind::ClockSteps) || setting.has(Kind::FormerPrimaryGoesOn) {
            return;
        }
        let at = done.at + RESPONSE_TIMEOUT.as_millis() as u64;
        self.expect_later(write, at, "a write with an unknown outcome").await;
    }

    /// A guarded write whose replica is gone is visible once its mark has expired.
    async fn expect_guarded(&mut self, write: (usize, u64), sent: u64) {
        if self.simulation.setting().loses_the_index() {
            return;
        }
        // The mark was extended while the write went on.
        let lasts = 2 * GUARD_LIMIT + RESPONSE_TIMEOUT;
        self.expect_later(write, sent + lasts.as_millis() as u64, "a guarded write without an end").await;
    }

    /// If it has taken effect by then, it must be seen from then on.
    async fn expect_later(&mut self, (item, id): (usize, u64), at: u64, cause: &'static str) {
        let settle = self.simulation.setting().settle;
        sleep(Duration::from_millis(at.saturating_sub(crate::process::millis()) + 2) + settle).await;
        let Some(version) = self.simulation.upstream().find_version(item, id) else { return };
        let now = self.simulation.world.history.now();
        self.require(cause, item, version, None, Some(now));
    }

    /// Somebody changes an item and announces it. Now and then the event is deleted at once or soon.
    async fn announce(&mut self) {
        let item = self.dice.below(ITEMS);
        let deleted_after =
            self.dice.one_in(4).then(|| self.dice.millis(0, 60) / (1 + 5 * u32::from(self.dice.one_in(2))));
        self.announce_change(item, deleted_after).await;
    }

    /// Changes an item and announces it. Once the stream is read up to the event, the change must be seen.
    pub async fn announce_change(&mut self, item: usize, deleted_after: Option<Duration>) {
        let version = self.simulation.upstream().apply(item, 0);
        let (network, id) = (self.simulation.network().clone(), item.to_string());
        let Some(Reply::Bulk(event)) = network.run_for_others(&["XADD", STREAM, "*", "id", &id]) else {
            return;
        };
        let event = String::from_utf8_lossy(&event).into_owned();
        if let Some(after) = deleted_after {
            sleep(after).await;
            network.run_for_others(&["XDEL", STREAM, &event]);
        }
        // Positions of a stream that was lost may be later than those of another one, on a clock that was set back.
        if self.simulation.setting().has(Kind::ClockSteps) {
            return;
        }
        let added = StreamPosition::parse(&event).expect("a position");
        let is_read = || read_position(&network).is_some_and(|position| position >= added);
        for _ in 0..100 {
            if is_read() {
                let now = self.simulation.world.history.now();
                self.require("an event that was read", item, version, None, Some(now));
                // A worker that is done with an event deletes it.
                if self.dice.one_in(2) {
                    network.run_for_others(&["XDEL", STREAM, &event]);
                }
                return;
            }
            sleep(self.dice.millis(1, 10)).await;
        }
    }

    fn require(
        &self,
        cause: &'static str,
        item: usize,
        version: u64,
        there: Option<(ProcessId, Point)>,
        everywhere: Option<Point>,
    ) -> usize {
        let seen = Seen::Version { item, version };
        self.simulation.world.history.require(Duty { cause, seen, there, everywhere, applied: None })
    }

    async fn purge(&mut self) {
        let slot = self.choose_slot();
        let resource = (!self.dice.one_in(4)).then(|| self.dice.below(RESOURCES));
        self.purge_at(slot, resource).await;
    }

    /// An operator purges a resource through a replica, or all.
    pub async fn purge_at(&mut self, slot: usize, resource: Option<usize>) {
        let (replica, by) = (self.simulation.replica(slot), self.simulation.process_id(slot));
        let begun = self.simulation.world.history.now();
        let Some(Some(version)) = Self::ask(&replica, replica.clone().purge(resource)).await else { return };
        let history = &self.simulation.world.history;
        let done = history.now();
        let duty = history.require(Duty {
            cause: "an acknowledged purge",
            seen: Seen::Purged { resource, begun },
            there: Some((by, done)),
            everywhere: Some(done),
            applied: None,
        });
        self.wait_applied(&replica, version, duty).await;
    }

    /// Waits until Redis has taken the purges that wait in a replica. `false`: not in time, or the replica is gone.
    async fn wait_taken(&mut self, replica: &Arc<Replica>) -> bool {
        for _ in 0..100 {
            sleep(self.dice.millis(1, 10)).await;
            let status = replica.store.remote_status();
            if status.is_some_and(|status| status.pending_purges == 0) {
                return !replica.process.is_dead();
            }
        }
        false
    }

    /// Now and then a client waits until all replicas have it.
    async fn wait_applied(
        &mut self,
        replica: &Arc<Replica>,
        version: larder::purge::PurgeVersion,
        duty: usize,
    ) {
        if self.dice.one_in(self.simulation.setting().waits)
            && Self::ask(replica, replica.clone().wait_applied(version)).await == Some(true)
        {
            self.simulation.world.history.is_applied(duty);
        }
    }
}

/// How far the stream is read.
pub fn read_position(network: &Network) -> Option<StreamPosition> {
    let Some(Reply::Array(fields)) = network.run_for_others(&["HGETALL", &position_key()]) else {
        return None;
    };
    fields.chunks(2).find_map(|pair| match pair {
        [Reply::Bulk(name), Reply::Bulk(value)] if &name[..] == b"position" => {
            StreamPosition::parse(std::str::from_utf8(value).ok()?)
        }
        _ => None,
    })
}
