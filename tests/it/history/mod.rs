//! Coherence as a history: three larders as processes of their own share one Redis and one upstream whose versions are
//! numbered; clients read, write, purge and leave, while a seed says what goes wrong. Everything is recorded, and a
//! checker that knows nothing of larder judges it.
//!
//! `LARDER_LONG=20` runs so many seeds of a minute each instead of the one short run; `LARDER_SEED` says which is the
//! first, `LARDER_SECONDS` how long each is.

mod checker;
mod dice;
mod faults;
mod origin;
mod record;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use checker::{Invariant, Promise, Violation, check};
use faults::{ALL, Kind};
use origin::KEYS;
use record::{End, History, Seen, Span};
use world::{REPLICAS, Setting, World};

const READERS: u64 = 16;
const WRITERS: u64 = 3;

/// The upstream's timeout, twice, and some slack.
const UNKNOWN_AFTER: u64 = 5_000_000;

/// Around a witness, so much is shown.
const AROUND: u64 = 2_000_000;

const STRICT: Setting =
    Setting { store: "max_lag: 0s", purges: "\"key:{id}\"", guarded: false, edits_only: false };
const BOUNDED: Setting = Setting { store: "max_lag: 300ms", ..STRICT };

const PROMISED_STRICT: Promise = Promise { lag: 0, guarded: false, unknown_after: UNKNOWN_AFTER };
const PROMISED_BOUNDED: Promise = Promise { lag: 300_000, ..PROMISED_STRICT };

const GUARDED: Setting = Setting { guarded: true, ..STRICT };
const PROMISED_GUARDED: Promise = Promise { guarded: true, ..PROMISED_STRICT };

struct Run {
    world: Arc<World>,
    history: History,
}

impl Run {
    /// `prepare` makes a world in which the checker must find something.
    async fn play(
        seed: u64,
        setting: Setting,
        kinds: &'static [Kind],
        seconds: u64,
        prepare: impl FnOnce(&World),
    ) -> Self {
        let world = World::start(seed, setting).await;
        prepare(&world);
        let mut tasks: Vec<_> = (0..READERS).map(|who| world.reader(who)).collect();
        tasks.extend((0..WRITERS).map(|who| world.writer(who)));
        tasks.push(world.purger());
        let enough = Arc::new(AtomicBool::new(false));
        let trouble = tokio::spawn(faults::play(world.clone(), kinds, enough.clone()));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        enough.store(true, Ordering::SeqCst);
        trouble.await.expect("the faults are played");
        world.stop();
        let mut history = History::default();
        for task in tasks {
            history.merge(task.await.expect("no panic in the driver"));
        }
        history.faults = world.faults();
        history.applies = world.origin.applies();
        Self { world, history }
    }

    /// When all is well again, everybody has the newest, and has it stored.
    async fn converges(&mut self) {
        for replica in 0..REPLICAS {
            for key in 0..KEYS {
                let world = &self.world;
                crate::support::eventually("a second read is a hit", || async {
                    Some(world.read(replica, key, 0, 0).await).filter(|read| read.hit)
                })
                .await;
                self.history.reads.push(world.read(replica, key, 0, 0).await);
            }
        }
    }

    fn violations(&self, promise: Promise) -> Vec<Violation> {
        check(&self.history, promise)
    }

    /// What happened, in figures; and that enough of it did to show something.
    fn summary(&self) -> String {
        let History { reads, writes, purges, faults, .. } = &self.history;
        let hits = reads.iter().filter(|read| read.hit).count();
        let mut ends: BTreeMap<String, u32> = BTreeMap::new();
        for write in writes {
            let end = match &write.end {
                End::Unknown(_) => "Unknown".to_owned(),
                end => format!("{end:?}"),
            };
            *ends.entry(end).or_default() += 1;
        }
        let failed = reads.iter().filter(|read| matches!(read.seen, Seen::Failed(_))).count();
        format!(
            "seed {}: {} reads ({hits} hits, {failed} failed, {} within 10 ms after an acknowledgement), writes {ends:?}, \
             {} purges ({} acknowledged), {} faults, {} fetches",
            self.world.seed,
            reads.len(),
            self.soon_after(),
            purges.len(),
            purges.iter().filter(|purge| purge.acknowledged).count(),
            faults.len(),
            self.world.origin.fetches(),
        )
    }

    fn soon_after(&self) -> usize {
        let writes = self.history.writes.iter().filter(|write| write.end == End::Acknowledged);
        let mut acknowledged: Vec<(usize, u64)> = writes.map(|write| (write.key, write.span.ret)).collect();
        acknowledged.sort_unstable();
        let is_soon = |key: usize, inv: u64| {
            let next = acknowledged.partition_point(|at| *at < (key, inv));
            next.checked_sub(1).is_some_and(|last| {
                let (named, ret) = acknowledged[last];
                named == key && inv - ret <= 10_000
            })
        };
        self.history.reads.iter().filter(|read| is_soon(read.key, read.span.inv)).count()
    }

    async fn assert_right(&self, promise: Promise) {
        let violations = self.violations(promise);
        println!("{}", self.summary());
        let Some(smallest) = violations.first() else { return };
        let Span { inv, ret } = smallest.span;
        let around = Span { inv: inv.saturating_sub(AROUND), ret: ret + AROUND / 4 };
        let excerpt = self.history.excerpt(smallest.key, around);
        let file = format!("{}/larder-history-{}.log", std::env::temp_dir().display(), self.world.seed);
        std::fs::write(&file, format!("{smallest}\n\n{excerpt}\n{}", self.world.logs().await))
            .expect("a file");
        let mut counts: BTreeMap<Invariant, u32> = BTreeMap::new();
        for violation in &violations {
            *counts.entry(violation.invariant).or_default() += 1;
        }
        let lines: Vec<&str> = excerpt.lines().collect();
        let shown = lines[lines.len().saturating_sub(60)..].join("\n");
        panic!("seed {}: {counts:?}; all of it in {file}\n{smallest}\n{shown}", self.world.seed);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

async fn holds(setting: Setting, promise: Promise) {
    let seeds = number("LARDER_LONG").unwrap_or(1);
    let seconds = number("LARDER_SECONDS").unwrap_or(if seeds > 1 { 60 } else { 12 });
    let first = number("LARDER_SEED").unwrap_or(1);
    for seed in first..first + seeds {
        let mut run = Run::play(seed, setting.clone(), ALL, seconds, |_| {}).await;
        run.converges().await;
        run.assert_right(promise).await;
        let reads = run.history.reads.len();
        assert!(reads > 500, "{reads} reads show nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_no_acknowledged_change_is_ever_unseen() {
    holds(STRICT, PROMISED_STRICT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounded_no_acknowledged_change_is_unseen_beyond_the_bound() {
    holds(BOUNDED, PROMISED_BOUNDED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guarded_no_change_is_unseen_although_nobody_heard_of_it() {
    holds(GUARDED, PROMISED_GUARDED).await;
}

/// A world that is wrong in one way, and what the checker must say of it.
async fn is_caught(
    setting: Setting,
    promise: Promise,
    kinds: &'static [Kind],
    prepare: impl Fn(&World),
    expected: Invariant,
) {
    // Most are found by the first seeds, within a minute; a mutant that needs a rare moment is given more of them.
    for seed in 1..=60 {
        let run = Run::play(seed, setting.clone(), kinds, 4, &prepare).await;
        if run.violations(promise).iter().any(|violation| violation.invariant == expected) {
            return;
        }
        println!("not found in {}", run.summary());
    }
    panic!("{expected:?} is not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_purges_something_else_is_caught() {
    let setting = Setting { purges: "\"elsewhere:{id}\"", edits_only: true, ..STRICT };
    is_caught(setting, PROMISED_STRICT, &[], |_| {}, Invariant::FreshAfterAcknowledgement).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unguarded_writes_are_caught_where_guarded_ones_are_promised() {
    // A slow upstream lets many replicas die between a change and its purge.
    let promise = Promise { unknown_after: 500_000, ..PROMISED_GUARDED };
    let prepare = |world: &World| world.origin.set(origin::Mood::Slow);
    is_caught(STRICT, promise, &[Kind::ReplicaKilled], prepare, Invariant::UnknownOutcome).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_is_older_than_promised_is_caught() {
    // With wake-ups lost, the timer alone brings the view up to date, in a quarter of `max_lag`.
    let setting = Setting { store: "max_lag: 4s", ..STRICT };
    let promise = Promise { lag: 20_000, ..PROMISED_STRICT };
    is_caught(setting, promise, &[Kind::RedisHangsUp], |_| {}, Invariant::FreshAfterAcknowledgement).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_answers_for_another_key_is_caught() {
    let prepare = |world: &World| world.origin.confuses.store(20, Ordering::SeqCst);
    is_caught(STRICT, PROMISED_STRICT, &[], prepare, Invariant::RealValue).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_takes_place_twice_is_caught() {
    let prepare = |world: &World| world.origin.repeats.store(5, Ordering::SeqCst);
    is_caught(STRICT, PROMISED_STRICT, &[], prepare, Invariant::ExactlyOnce).await;
}
