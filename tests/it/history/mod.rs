//! Coherence as a history: three larders as processes of their own share one Redis and one upstream whose versions are
//! numbered; clients read, write, purge and leave, while a seed says what goes wrong. Everything is recorded, and a
//! checker that knows nothing of larder judges it.
//!
//! `docs/coherence.md` says how to run it for long.

mod checker;
mod clients;
pub mod dice;
mod faults;
mod figures;
mod mutants;
mod origin;
mod record;
mod split_mix;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

pub use dice::Dice;

use checker::{Invariant, Promise, Violation, check};
use clients::{Caller, Wish};
use faults::{ALL, Kind, UPDATES};
use figures::Figures;
use origin::KEYS;
use record::{History, Span};
pub use wire::Wire;
use world::{REPLICAS, Setting, World};

const READERS: u64 = 16;
const WRITERS: u64 = 6;

/// How long a mark stands at the most: the upstream's two time-outs, and its second once more; and some slack.
const UNKNOWN_AFTER: u64 = 5_500_000;

/// Around a witness, so much is shown.
const AROUND: u64 = 2_000_000;

const STRICT: Setting = Setting {
    store: "max_lag: 0s",
    purges: "\"key:{id}\"",
    guarded: false,
    edits_only: false,
    program: None,
    former: None,
};
const BOUNDED: Setting = Setting { store: "max_lag: 300ms", ..STRICT };
const GUARDED: Setting = Setting { guarded: true, ..STRICT };

const PROMISED_STRICT: Promise =
    Promise { lag: 0, guarded: false, unknown_after: UNKNOWN_AFTER, converges_within: 1_000_000 };
const PROMISED_BOUNDED: Promise = Promise { lag: 300_000, ..PROMISED_STRICT };
const PROMISED_GUARDED: Promise = Promise { guarded: true, ..PROMISED_STRICT };

struct Run {
    world: Arc<World>,
    history: History,
    watching: Option<JoinHandle<History>>,
}

impl Run {
    /// `prepare` makes a world in which the checker must find something. `to_the_end`: until all is well again.
    async fn play(
        seed: u64,
        setting: Setting,
        kinds: &'static [Kind],
        seconds: u64,
        to_the_end: bool,
        prepare: impl FnOnce(&World),
    ) -> Self {
        let world = World::start(seed, setting).await;
        prepare(&world);
        let mut tasks: Vec<_> = (0..READERS).map(|who| clients::reader(&world, who)).collect();
        tasks.extend((0..WRITERS).map(|who| clients::writer(&world, who)));
        tasks.push(clients::purger(&world));
        let watching = Some(clients::watch(&world));
        let enough = Arc::new(AtomicBool::new(false));
        let trouble = tokio::spawn(faults::play(world.clone(), kinds, enough.clone()));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let mut history = History::default();
        if to_the_end {
            world.stop_writing();
            // Until no write is in doubt any more.
            tokio::time::sleep(Duration::from_micros(UNKNOWN_AFTER)).await;
        }
        enough.store(true, Ordering::SeqCst);
        trouble.await.expect("the faults are played");
        if to_the_end {
            let last = world.faults().iter().map(|fault| fault.span.ret).max();
            history.well_since = Some(last.unwrap_or_else(|| world.now()));
        }
        Self { world, history, watching }.recorded(tasks).await
    }

    async fn recorded(mut self, tasks: Vec<JoinHandle<History>>) -> Self {
        let Self { world, history, .. } = &mut self;
        if let Some(well_since) = history.well_since {
            let by = well_since + PROMISED_BOUNDED.converges_within + PROMISED_BOUNDED.lag;
            tokio::time::sleep(Duration::from_micros(by.saturating_sub(world.now()))).await;
        }
        world.stop();
        for task in tasks {
            history.merge(task.await.expect("no panic in the driver"));
        }
        history.faults = world.faults();
        history.applies = world.origin.applies();
        history.fetches = world.origin.fetches();
        if history.well_since.is_none() {
            world.close();
        }
        self
    }

    /// When all is well again, everybody has the newest, and has it stored.
    async fn converges(&mut self) {
        let mut caller = Caller::new(&self.world);
        for replica in 0..REPLICAS {
            for key in 0..KEYS {
                for _ in 0..2 {
                    let wish = Wish { replica, key, variant: 0, caller: 0 };
                    let read = caller.read(&self.world, wish).await;
                    self.history.reads.push(read);
                }
            }
        }
        self.world.close();
        if let Some(watching) = self.watching.take() {
            self.history.merge(watching.await.expect("no panic in the driver"));
        }
    }

    fn violations(&self, promise: Promise) -> Vec<Violation> {
        check(&self.history, promise)
    }

    async fn assert_right(&self, promise: Promise) -> Figures {
        let violations = self.violations(promise);
        let figures = Figures::from_history(&self.history);
        println!("seed {}: {figures}", self.world.seed);
        let Some(smallest) = violations.first() else { return figures };
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

/// `LARDER_LONG` says how many seeds are played instead of one; `LARDER_SEED` which is the first; `LARDER_SECONDS` how
/// long each is.
async fn holds(setting: Setting, promise: Promise, kinds: &'static [Kind]) {
    let seeds = number("LARDER_LONG");
    let seconds = number("LARDER_SECONDS").unwrap_or(if seeds.is_some() { 60 } else { 10 });
    let first = number("LARDER_SEED").unwrap_or(1);
    // Where everything is tested at once, a second is not what it is.
    let converges_within = if seeds.is_some() { promise.converges_within } else { 10_000_000 };
    let promise = Promise { converges_within, ..promise };
    let mut all = Figures::default();
    for seed in first..first + seeds.unwrap_or(1) {
        let mut run = Run::play(seed, setting.clone(), kinds, seconds, true, |_| {}).await;
        run.converges().await;
        all += run.assert_right(promise).await;
    }
    println!("{} runs of {seconds} s: {all}", all.runs);
    assert!(all.reads > 500, "{} reads show nothing", all.reads);
    if all.reads >= 1_000_000 {
        assert!(all.hit_ratio() >= 80.0 && all.soon_after >= 10_000, "it shows too little");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_no_acknowledged_change_is_ever_unseen() {
    holds(STRICT, PROMISED_STRICT, ALL).await;
}

/// `tests/ship/mixed` builds the former release, names it in `LARDER_FORMER_PROGRAM`, and runs this test. Without it there
/// is nothing to mix.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_releases_leave_no_acknowledged_change_unseen() {
    let Ok(former) = std::env::var("LARDER_FORMER_PROGRAM") else { return };
    let mixed = Setting { former: Some(former.into()), ..STRICT };
    holds(mixed.clone(), PROMISED_STRICT, UPDATES).await;
    holds(mixed, PROMISED_STRICT, ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounded_no_acknowledged_change_is_unseen_beyond_the_bound() {
    holds(BOUNDED, PROMISED_BOUNDED, ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guarded_no_change_is_unseen_although_nobody_heard_of_it() {
    holds(GUARDED, PROMISED_GUARDED, ALL).await;
}
