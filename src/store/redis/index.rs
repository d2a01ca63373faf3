//! The purge index as this replica sees it: a view, kept up to date by confirmations, and purges that go through Redis.
//!
//! One confirmation is under way at a time, and serves all who wait for one. It is sent on a timer, when another
//! replica's purge wakes this one, when the connection is a new one, and when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::driver::Sent;
use super::failure::Failure;
use super::figures::Command;
use super::gathering::Gathering;
use super::history;
use super::journal::{Batch, Journal};
use super::keys::Keys;
use super::past::Past;
use super::replicas::Beat;
use super::scripts::{CONFIRM, PURGE, Script, Told, told};
use super::servers::Servers;
use super::waiting::Waiter;
use crate::clock::{Clock, Moment, Timestamp, micros};
use crate::purge::{
    Bounds, Change, Confirmation, Hardness, Incarnation, Index, Mark, Position, Purge, Record, Target,
    TargetId, View, Why,
};
use crate::store::encoding::Clocks;
use crate::store::history::KEPT;
use crate::store::remote::Remote;

/// Records in one reply: some 50 kB.
const PAGE: usize = 1000;

/// One script blocks Redis for a millisecond or two with this many targets.
const MOST_TARGETS: usize = 1000;

/// A hundred replicas that hear of every purge at once are not to ask for each of a thousand.
const BETWEEN_WAKE_UPS: Duration = Duration::from_millis(1);

/// Between probes of a server that does not answer.
const BETWEEN_PROBES: Duration = Duration::from_millis(50);

pub struct RedisIndex {
    pub servers: Arc<Servers>,
    pub view: View,
    pub(super) keys: Keys,
    pub(super) beat: Beat,
    /// Purges that Redis has not taken; those that leave their targets in doubt are apart.
    journals: [Journal; 2],
    past: Past,
    /// Held while the view may go from one index to another, and by who must know that it does not.
    turning: Mutex<()>,
    bounds: Bounds,
    clock: Clock,
    /// For every command.
    pub(super) deadline: Duration,
    /// Without another reason, a confirmation is sent this long after the last.
    interval: Duration,
    pub(super) waiting: Arc<Gathering<Waiter>>,
    /// Somebody waits for a confirmation.
    pub(super) wanted: Notify,
    /// Another replica has purged.
    woken: Notify,
    /// Changes with every confirmation and with every failure to get one.
    pub(super) told: watch::Sender<Option<Clocks>>,
    new_indexes: AtomicU64,
}

impl RedisIndex {
    pub fn new(
        servers: Arc<Servers>,
        keys: Keys,
        beat: Beat,
        bounds: Bounds,
        clock: Clock,
        deadline: Duration,
        interval: Duration,
    ) -> Self {
        Self {
            servers,
            view: View::new(Index::unknown(bounds)),
            keys,
            beat,
            journals: Default::default(),
            past: Past::default(),
            turning: Mutex::default(),
            bounds,
            clock,
            deadline,
            interval,
            waiting: Arc::default(),
            wanted: Notify::new(),
            woken: Notify::new(),
            told: watch::Sender::new(None),
            new_indexes: AtomicU64::new(0),
        }
    }

    /// The store's clock beside ours; `None` before the first word from Redis.
    pub fn clocks(&self) -> Option<Clocks> {
        *self.told.borrow()
    }

    /// Whether the server that has the index answers.
    pub fn is_reachable(&self) -> bool {
        self.servers.index().health.is_good()
    }

    /// `max_lag` is not the index's to know.
    pub fn figures(&self, max_lag: Duration) -> Remote {
        Remote {
            purges_waiting: self.waiting(),
            confirmed_ago: self.view.confirmed_at().map(|confirmed| Moment::now().since(confirmed)),
            max_lag,
            new_indexes: self.new_indexes.load(Ordering::Relaxed),
            ..self.servers.figures()
        }
    }

    /// A purge took place at `position`; it may be one of our own.
    pub fn woken(&self, position: Position) {
        if position > self.view.read().high_water() {
            self.woken.notify_one();
        }
    }

    /// Waits until Redis is away.
    pub async fn lost(&self) {
        let mut told = self.told.subscribe();
        while self.is_reachable() && told.changed().await.is_ok() {}
    }

    /// Somebody waits until all replicas say that they know this position.
    pub fn roll_is_called(&self, position: Position) {
        self.beat.want(position);
        self.woken.notify_one();
    }

    /// Keeps the view up to date, for ever.
    pub async fn keep(self: Arc<Self>) {
        let mut changes = self.servers.changes();
        loop {
            let node = self.servers.index();
            let pause = match self.confirm().await {
                Ok(()) => {
                    node.health.answered();
                    self.interval
                }
                Err(failure) => {
                    if !matches!(failure, Failure::Busy | Failure::Replaced) {
                        node.health.probe_failed(&failure);
                    }
                    if node.health.hangs() {
                        node.replace();
                    }
                    self.told.send_modify(|_| {});
                    BETWEEN_PROBES
                }
            };
            let is_good = node.health.is_good();
            let told_at = Instant::now();
            // Only who is woken has a timer: each new one wakes the thread that sets it.
            let woken = async {
                self.woken.notified().await;
                sleep_until(told_at + BETWEEN_WAKE_UPS).await;
            };
            tokio::select! {
                () = sleep(pause) => {}
                _ = changes.changed() => {}
                // Whoever waits for a server that is away has been told so.
                () = self.wanted.notified(), if is_good => {}
                () = woken, if is_good => {}
            }
        }
    }

    /// Purges that Redis has not taken go first: until it has them, it is not trusted.
    async fn confirm(&self) -> Result<(), Failure> {
        self.servers.index().health.probing();
        loop {
            for journal in &self.journals {
                self.append(journal).await?;
            }
            // Whoever has asked so far is served by this one.
            tokio::select! { biased; () = self.wanted.notified() => {} () = std::future::ready(()) => {} }
            let keys = [self.keys.index.as_str()];
            let told = self.ask(Command::Confirm, &CONFIRM, &keys, Vec::new(), Sent::AsProbe).await?;
            self.learn(&told.confirmation);
            if told.confirmation.is_whole {
                self.say_what_is_known().await;
                // Another index is told what was purged before it counts.
                if self.waiting() == 0 {
                    return Ok(());
                }
            }
        }
    }

    async fn append(&self, journal: &Journal) -> Result<(), Failure> {
        while let Some(batch) = journal.take() {
            let told = Some(self.late(&batch));
            let how =
                Recorded { hardness: Hardness::Hard, in_doubt_for: batch.in_doubt_for, lifts: None, told };
            match self.record(&batch.targets, how, Sent::AsProbe).await {
                Ok(_) => journal.settle(&batch, &self.view),
                Err(failure) => {
                    journal.put_back(&batch, &self.view);
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    /// How many targets Redis has not taken.
    fn waiting(&self) -> usize {
        self.journals.iter().map(Journal::len).sum()
    }

    fn journal(&self, in_doubt_for: Duration) -> &Journal {
        &self.journals[usize::from(!in_doubt_for.is_zero())]
    }

    /// `Ok`: Redis has it, and so has the view. Otherwise it waits until Redis takes it, and holds here meanwhile.
    pub async fn purge(&self, purge: &Purge) -> Result<Position, Failure> {
        let mut targets: Vec<TargetId> = purge.targets.iter().map(Target::id).collect();
        targets.sort_unstable();
        targets.dedup();
        let how = Recorded {
            hardness: purge.hardness,
            in_doubt_for: purge.in_doubt_for,
            lifts: purge.lifts.as_ref().map(bounded),
            told: Record::of(purge, &self.beat.name),
        };
        let recorded = self.record(&targets, how, self.sent()).await;
        if recorded.is_err() && !targets.is_empty() {
            let journal = self.journal(purge.in_doubt_for);
            journal.add(&targets, purge.in_doubt_for, &self.view);
            journal.name(purge.named());
            self.wanted.notify_one();
        }
        recorded
    }

    /// What is told of purges that Redis takes later than they were asked for.
    fn late(&self, batch: &Batch) -> Record {
        Record {
            position: Position::default(),
            at: Timestamp::default(),
            why: Why { source: "late".to_owned(), ..Why::default() },
            soft: false,
            targets: batch.named.clone(),
            target_count: batch.targets.len(),
            replica: self.beat.name.clone(),
        }
    }

    /// `Ok`: Redis has the mark. Whether it has it otherwise, nobody knows; it ends at its date.
    pub async fn mark(&self, mark: &Mark) -> Result<(), Failure> {
        let mark = bounded(mark);
        let args = self.purge_args(&mark.targets, b"m", mark.lasts, Some((&mark, &[])), None);
        let keys = [self.keys.index.as_str()];
        let told = self.ask(Command::Purge, &PURGE, &keys, args, self.sent()).await?;
        self.learn(&told.confirmation);
        let date = Position(told.position.0.saturating_add(micros(mark.lasts)));
        if self.view.incarnation() != told.confirmation.incarnation {
            return Err(Failure::Replaced);
        }
        if !told.confirmation.is_whole {
            self.view.change(|index| index.mark(&mark.targets, mark.id, date));
        }
        Ok(())
    }

    /// A breaker that has just opened is no reason to refuse a purge, which Redis may well take.
    fn sent(&self) -> Sent {
        if self.servers.index().health.is_in_trouble_since(self.deadline) {
            Sent::AsProbe
        } else {
            Sent::IfHealthy
        }
    }

    async fn record(&self, targets: &[TargetId], how: Recorded, sent: Sent) -> Result<Position, Failure> {
        let Recorded { hardness, in_doubt_for, lifts, told: record } = how;
        let mut position = Position::default();
        let mut chunks: Vec<&[TargetId]> = targets.chunks(MOST_TARGETS).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let last = chunks.len() - 1;
        for (number, targets) in chunks.into_iter().enumerate() {
            let kind = match hardness {
                Hardness::Hard => b"h",
                Hardness::Soft => b"s",
            };
            // The doubt is over when all of the purge is there.
            let lifted =
                lifts.as_ref().filter(|_| number == last).map(|mark| (mark, mark.targets.as_slice()));
            let record = record.as_ref().filter(|_| number == last);
            let args = |record| self.purge_args(targets, kind, in_doubt_for, lifted, record);
            let keys = [self.keys.index.as_str(), &self.keys.history];
            let keys = if record.is_some() { &keys[..] } else { &keys[..1] };
            let told = match self.ask(Command::Purge, &PURGE, keys, args(record), sent).await {
                // While the slot moves, the journal is not where the index is; it can do without.
                Err(Failure::Refused(reason)) if reason.contains("TRYAGAIN") => {
                    self.ask(Command::Purge, &PURGE, &keys[..1], args(None), sent).await?
                }
                told => told?,
            };
            self.taken(targets, hardness, in_doubt_for, &told)?;
            position = told.position;
        }
        Ok(position)
    }

    /// An index has these. `Err`: nobody asks it any more, so nobody who asks has heard of them.
    fn taken(
        &self,
        targets: &[TargetId],
        hardness: Hardness,
        in_doubt_for: Duration,
        told: &Told,
    ) -> Result<(), Failure> {
        self.learn(&told.confirmation);
        // What is past when the view leaves its index is purged again; what is not is refused here.
        let _stays = self.turning();
        if self.view.incarnation() != told.confirmation.incarnation {
            return Err(Failure::Replaced);
        }
        // The reply may have been one page of many, without these.
        let dated = Position(told.position.0.saturating_add(micros(in_doubt_for)));
        let change = |id: &TargetId| Change::Purged { id: *id, position: dated, hardness };
        let changes: Vec<Change> = targets.iter().map(change).collect();
        self.view.change(|index| index.learn(&changes, Position::default(), told.confirmation.now));
        self.past.purged(targets, in_doubt_for, Moment::now());
        Ok(())
    }

    fn purge_args(
        &self,
        targets: &[TargetId],
        kind: &'static [u8; 1],
        in_doubt_for: Duration,
        mark: Option<(&Mark, &[TargetId])>,
        record: Option<&Record>,
    ) -> Vec<Bytes> {
        let (mark, lifted) = match mark {
            Some((mark, lifted)) => (Bytes::copy_from_slice(&mark.id.0), lifted),
            None => (Bytes::new(), &[][..]),
        };
        let mut args = vec![
            number(micros(in_doubt_for)),
            Bytes::from_static(kind),
            number(self.bounds.records as u64),
            number(micros(self.bounds.longest_lifetime)),
            Bytes::copy_from_slice(self.keys.wake.as_bytes()),
            Bytes::copy_from_slice(&Target::Everything.id().0),
            mark,
            history::written(record),
            number(KEPT as u64),
            Bytes::copy_from_slice(self.keys.publish.as_deref().unwrap_or_default().as_bytes()),
            number(lifted.len() as u64),
        ];
        args.extend(lifted.iter().chain(targets).map(|id| Bytes::copy_from_slice(&id.0)));
        args
    }

    /// One script on the index, and what it told.
    async fn ask(
        &self,
        command: Command,
        script: &'static Script,
        keys: &[&str],
        more: Vec<Bytes>,
        sent: Sent,
    ) -> Result<Told, Failure> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| Failure::Refused(error.to_string()))?;
        let nonce = format!("{:032x}", u128::from_le_bytes(nonce));
        let (incarnation, known) = {
            let index = self.view.read();
            (index.incarnation(), index.high_water())
        };
        let mut args = vec![
            Bytes::from(nonce.clone()),
            Bytes::from(incarnation.to_string()),
            number(known.0),
            number(PAGE as u64),
        ];
        args.extend(more);
        let (asked_at, asked) = (Moment::now(), self.clock.now());
        let reply = self.servers.run(command, script, keys, args, sent, self.deadline).await?;
        let Some(told) = told(&reply, &nonce, asked_at) else {
            // Whose reply it is, nobody knows; nor whose the next one is.
            self.servers.index().replace();
            return Err(Failure::Broken("a reply was not the one to its command".into()));
        };
        let clocks = Clocks::compared(asked, told.confirmation.now, self.clock.now());
        self.told.send_if_modified(|known| {
            *known = Some(clocks);
            // Who waits waits for what is told, not for the time.
            false
        });
        Ok(told)
    }

    fn learn(&self, confirmation: &Confirmation) {
        let turns = self.turning();
        let before = self.view.incarnation();
        // First, so that what it names is valid at no moment under the other index.
        if self.view.leaves_for(confirmation) {
            self.purge_again(before, confirmation.incarnation);
        }
        let is_new = self.view.learn(confirmation);
        drop(turns);
        if is_new {
            self.new_indexes.fetch_add(1, Ordering::Relaxed);
            tracing::info!("the purge index is a new one: nothing stored before is valid");
        }
        self.told.send_modify(|_| {});
    }

    fn turning(&self) -> MutexGuard<'_, ()> {
        self.turning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this replica has purged on the one index is to be purged on the other.
    fn purge_again(&self, from: Incarnation, to: Incarnation) {
        if from != Incarnation::NONE {
            let again = self.past.goes(from, to, Moment::now());
            self.journals[0].add(&again.targets, Duration::ZERO, &self.view);
            self.journals[1].add(&again.doubtful, again.in_doubt_for, &self.view);
        }
    }
}

/// How targets are recorded.
struct Recorded {
    hardness: Hardness,
    in_doubt_for: Duration,
    lifts: Option<Mark>,
    /// For people.
    told: Option<Record>,
}

/// As it is put on the index: one script, so everything where there are too many targets.
fn bounded(mark: &Mark) -> Mark {
    let mut mark = mark.clone();
    if mark.targets.len() > MOST_TARGETS {
        mark.targets = vec![Target::Everything.id()];
    }
    mark
}

fn number(number: u64) -> Bytes {
    Bytes::from(number.to_string())
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
