//! The purge index as this replica sees it: a view, kept up to date by confirmations, and purges that go through Redis.
//!
//! One confirmation is under way at a time, and serves all who wait for one. It is sent on a timer, when another
//! replica's purge wakes this one, when the connection is a new one, and when somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::driver::Sent;
use super::failure::Failure;
use super::figures::Command;
use super::history;
use super::journal::{Batch, Journal};
use super::keys::Keys;
use super::past::Past;
use super::replicas::Beat;
use super::scripts::{CONFIRM, PURGE, Script, Told, told};
use super::servers::Servers;
use crate::clock::{Clock, Moment, Timestamp};
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
    bounds: Bounds,
    clock: Clock,
    /// For every command.
    deadline: Duration,
    /// Without another reason, a confirmation is sent this long after the last.
    interval: Duration,
    /// Somebody waits for a confirmation.
    wanted: Notify,
    /// Another replica has purged.
    woken: Notify,
    /// Changes with every confirmation and with every failure to get one.
    told: watch::Sender<Option<Clocks>>,
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
            bounds,
            clock,
            deadline,
            interval,
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

    /// Waits until the view is confirmed as of `moment` or later; reports whether it is. Does not wait for a server
    /// that is away.
    pub async fn confirmed_since(&self, moment: Moment, within: Duration) -> bool {
        let mut told = self.told.subscribe();
        let is_confirmed = || self.view.confirmed_at().is_some_and(|confirmed| confirmed >= moment);
        self.wanted.notify_one();
        let confirmed = async {
            loop {
                if is_confirmed() {
                    return true;
                }
                if !self.is_reachable() || told.changed().await.is_err() {
                    return is_confirmed();
                }
            }
        };
        timeout(within, confirmed).await.unwrap_or_else(|_| is_confirmed())
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
                    if !matches!(failure, Failure::Busy) {
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
            let woken = async {
                tokio::time::sleep(BETWEEN_WAKE_UPS).await;
                self.woken.notified().await;
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
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
            let (beats, words) = self.beat.words();
            let told = self.ask(Command::Confirm, &CONFIRM, words, Sent::AsProbe).await?;
            if beats {
                self.beat.said(told.confirmation.after);
            }
            self.learn(&told.confirmation);
            let is_said = !self.beat.is_wanted(self.view.read().high_water());
            // Another index is told what was purged before it counts.
            if told.confirmation.is_whole && is_said && self.waiting() == 0 {
                return Ok(());
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
        let told = self.ask(Command::Purge, &PURGE, args, self.sent()).await?;
        self.learn(&told.confirmation);
        let date = Position(told.position.0.saturating_add(micros(mark.lasts)));
        if !told.confirmation.is_whole && self.view.incarnation() == told.confirmation.incarnation {
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
            let args = self.purge_args(targets, kind, in_doubt_for, lifted, record);
            let told = self.ask(Command::Purge, &PURGE, args, sent).await?;
            position = told.position;
            self.learn(&told.confirmation);
            if self.view.incarnation() == told.confirmation.incarnation {
                // The reply may have been one page of many, without these.
                let dated = Position(position.0.saturating_add(micros(in_doubt_for)));
                let change = |id: &TargetId| Change::Purged { id: *id, position: dated, hardness };
                let changes: Vec<Change> = targets.iter().map(change).collect();
                let now = told.confirmation.now;
                self.view.change(|index| index.learn(&changes, Position::default(), now));
                self.past.purged(targets, in_doubt_for, Moment::now());
            } else {
                // Nobody asks the index that has it any more.
                self.journal(in_doubt_for).add(targets, in_doubt_for, &self.view);
            }
        }
        Ok(position)
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
            Bytes::from(format!("{:032x}", incarnation.0)),
            number(known.0),
            number(PAGE as u64),
        ];
        args.extend(more);
        let keys =
            [&self.keys.index, &self.keys.never, &self.keys.history, &self.keys.replicas].map(String::as_str);
        let (asked_at, asked) = (Moment::now(), self.clock.now());
        let reply = self.servers.run(command, script, &keys, args, sent, self.deadline).await?;
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
        let before = self.view.incarnation();
        let leaves = self.view.leaves_for(confirmation);
        if leaves {
            self.purge_again(before, confirmation.incarnation);
        }
        if self.view.learn(confirmation) {
            if !leaves {
                self.purge_again(before, confirmation.incarnation);
            }
            self.new_indexes.fetch_add(1, Ordering::Relaxed);
            tracing::info!("the purge index is a new one: nothing stored before is valid");
        }
        self.told.send_modify(|_| {});
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

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
