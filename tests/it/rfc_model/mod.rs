//! Random upstreams and random clients against a small executable reading of RFC 9111 and RFC 5861.
//!
//! The model is written from the RFCs alone, and says of each answer whether a shared cache may give it. It knows what the
//! upstream has said, and nothing of larder's store. `LARDER_MODEL_STEPS` sets the number of steps, `LARDER_MODEL_SEED` the
//! seed:
//!
//! `LARDER_TEST_LOG=off LARDER_MODEL_STEPS=1000000 cargo test --locked --test it -- rfc_model`

mod upstream;
mod world;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};

use crate::history::dice::Dice;
use crate::support::{Held, Larder, Received, Reply, Request, Upstream};
use world::{Asked, Subject, Use, World};

const DEFAULT_STEPS: u64 = 1500;
/// A run of its own for each so many steps, so that the figures of one stay small; and how many go on at once.
const STEPS_PER_RUN: u64 = 1000;
const CONCURRENT_RUNS: usize = 6;
const PATHS: [&str; 3] = ["/a", "/b", "/c"];
const LANGUAGES: [&str; 2] = ["de", "en"];
/// The longest time between two steps, and that the upstream takes to answer, in seconds.
const MAX_STEP: u64 = 5;
/// The steps that a fetch in the background may take: the machine's time goes on beside the clock's.
const BACKGROUND_STEPS: usize = 10;
/// The clients that send credentials.
const CALLERS: usize = 3;
/// How many refreshes of one client may fail in one second, in which it asks so many times. A request over a connection that
/// closes is sent again, and one may have begun before.
const MAX_FAILURES: usize = 4;
const HITS_PER_BURST: usize = 40;
/// A refresh that is due has begun by then; the clock stands still meanwhile.
const REFRESH_DEADLINE: Duration = Duration::from_secs(10);

/// One run.
struct Run<'u> {
    larder: Larder,
    upstream: &'u Upstream,
    world: Arc<Mutex<World>>,
    dice: Dice,
    /// The events and the time at the beginning of the last steps, the earliest first.
    begun: VecDeque<(usize, u64)>,
}

impl<'u> Run<'u> {
    fn start(seed: u64, upstream: &'u Upstream) -> Self {
        let larder = Larder::with("routes: [{path: '/{name}'}]", upstream);
        let world = World {
            dice: Dice::new(seed, 1),
            clock: larder.clock.clone(),
            given: Vec::new(),
            events: Vec::new(),
            brings_nothing: false,
        };
        let begun = VecDeque::from([(0, world.now())]);
        let world = Arc::new(Mutex::new(world));
        for (number, path) in PATHS.iter().enumerate() {
            let world = world.clone();
            upstream.on(path, move |request: &Received| lock(&world).answer(number, request));
        }
        Self { larder, upstream, world, dice: Dice::new(seed, 2), begun }
    }

    /// Lets time pass, sends one request or several at once, and asks the model what it thinks of the answers.
    async fn step(&mut self) -> Result<(), String> {
        self.begin();
        if self.dice.one_in(2) {
            self.larder.after(self.dice.below(6) as u64 % (MAX_STEP + 1));
        }
        let path = self.dice.below(PATHS.len());
        let is_storm_tried = self.dice.one_in(8);
        lock(&self.world).brings_nothing = is_storm_tried;
        let requests = if self.dice.one_in(6) { 4 } else { 1 };
        let subjects: Vec<Subject> = (0..requests).map(|_| self.draw_subject(path)).collect();
        let (since, asked_at) = {
            let world = lock(&self.world);
            (world.events.len(), world.now())
        };
        let held = self.dice.one_in(6).then(|| self.upstream.hold_every(PATHS[path]));
        let replies: Vec<_> = subjects.iter().map(|of| self.ask(*of).spawn()).collect();
        if let Some(held) = held {
            self.take_time(held, &replies).await;
        }
        let mut is_refresh_due = None;
        let mut told = Vec::new();
        for (of, reply) in subjects.into_iter().zip(replies) {
            let reply = reply.await.map_err(|error| error.to_string())?;
            // It may have been given before the upstream took its time.
            let judged = self.judge(&reply, of, since, asked_at);
            let used = match judged.or_else(|_| self.judge(&reply, of, since, self.now())) {
                Err(fault) if self.is_late(&reply, of, since) => self.ask_until_right(of, &fault).await?,
                judged => {
                    let used = judged?;
                    told.push(reply);
                    used
                }
            };
            is_refresh_due = (used == Use::WhileRevalidate).then_some(of).or(is_refresh_due);
        }
        told.iter().for_each(|reply| lock(&self.world).mark_told(reply, asked_at));
        if let Some(of) = is_refresh_due {
            self.expect_refresh(of, since).await?;
            if is_storm_tried {
                self.expect_no_storm(of).await?;
            }
        }
        Ok(())
    }

    /// The upstream answers what has reached it some seconds later.
    async fn take_time(&mut self, held: Held, replies: &[JoinHandle<Reply>]) {
        let are_answered = async {
            while !replies.iter().all(JoinHandle::is_finished) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = held.arrived() => {}
            () = are_answered => {}
        }
        self.larder.after(1 + self.dice.below(MAX_STEP as usize) as u64);
        held.release();
    }

    fn now(&self) -> u64 {
        lock(&self.world).now()
    }

    fn draw_subject(&mut self, path: usize) -> Subject {
        let caller = self.dice.one_in(3).then(|| self.dice.below(CALLERS));
        Subject { path, language: self.dice.below(LANGUAGES.len()), caller }
    }

    fn ask(&self, of: Subject) -> Request {
        let request = self.larder.get(PATHS[of.path]).header("accept-language", LANGUAGES[of.language]);
        match of.caller {
            Some(caller) => request.header("authorization", &format!("Bearer {caller}")),
            None => request,
        }
    }

    /// Asks the model what it thinks of an answer of that time.
    fn judge(&self, reply: &Reply, of: Subject, since: usize, at: u64) -> Result<Use, String> {
        let world = lock(&self.world);
        let used = world.find_fault(reply, of, self.asked(since, at));
        used.map_err(|fault| describe(&world, reply, of, &fault))
    }

    /// Whether the answer would be right if no fetch in the background had ended: on a busy machine one may take more than
    /// [`BACKGROUND_STEPS`].
    fn is_late(&self, reply: &Reply, of: Subject, since: usize) -> bool {
        let asked = Asked { since, background: 0, horizon: 0, at: self.now() };
        lock(&self.world).find_fault(reply, of, asked).is_ok()
    }

    /// Asks once more. `None`: the answer is late, and right but for that.
    async fn ask_again(&self, of: Subject) -> Result<(Reply, Option<Use>), String> {
        let known = lock(&self.world).events.len();
        let reply = self.ask(of).await;
        match self.judge(&reply, of, known, self.now()) {
            Err(_) if self.is_late(&reply, of, known) => Ok((reply, None)),
            judged => judged.map(|used| (reply, Some(used))),
        }
    }

    async fn ask_until_right(&self, of: Subject, fault: &str) -> Result<Use, String> {
        let deadline = Instant::now() + REFRESH_DEADLINE;
        loop {
            match self.ask_again(of).await {
                Ok((_, Some(used))) => return Ok(used),
                Ok((_, None)) if Instant::now() < deadline => {}
                Ok(_) | Err(_) => return Err(format!("{fault}, and stays so")),
            }
        }
    }

    /// Remembers the beginning of a step.
    fn begin(&mut self) {
        let world = lock(&self.world);
        self.begun.push_back((world.events.len(), world.now()));
        if self.begun.len() > BACKGROUND_STEPS {
            self.begun.pop_front();
        }
    }

    fn asked(&self, since: usize, at: u64) -> Asked {
        let (background, horizon) = self.begun.front().copied().unwrap_or_default();
        Asked { since, background, horizon, at }
    }

    /// RFC 5861 §3: the cache "SHOULD" revalidate. The fetch of an earlier step may be under way still. So the client asks
    /// until another one begins, or the stale response is served no more. If the earlier one brings nothing, the next may be
    /// held back for a second.
    async fn expect_refresh(&self, of: Subject, since: usize) -> Result<(), String> {
        let (mut deadline, mut has_waited) = (Instant::now() + REFRESH_DEADLINE, false);
        while !lock(&self.world).is_refreshing(of, since) {
            let (reply, used) = self.ask_again(of).await?;
            let is_over = Instant::now() > deadline;
            match used {
                Some(Use::WhileRevalidate) if is_over && !has_waited => {
                    self.larder.after(1);
                    (deadline, has_waited) = (Instant::now() + REFRESH_DEADLINE, true);
                }
                Some(Use::WhileRevalidate) | None if is_over => {
                    return Err(describe(&lock(&self.world), &reply, of, "no refresh begins (RFC 5861 §3)"));
                }
                Some(Use::WhileRevalidate) | None => {}
                Some(_) => break,
            }
        }
        Ok(())
    }

    /// One client asks again and again in one second: refreshes that bring nothing are not repeated at each hit.
    async fn expect_no_storm(&self, of: Subject) -> Result<(), String> {
        let since = lock(&self.world).events.len();
        for _ in 0..HITS_PER_BURST {
            let (reply, used) = self.ask_again(of).await?;
            if used != Some(Use::WhileRevalidate) {
                break;
            }
            let world = lock(&self.world);
            if world.count_failures(of, since) > MAX_FAILURES {
                return Err(describe(&world, &reply, of, "refreshes that fail are repeated at each hit"));
            }
        }
        Ok(())
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().expect("no thread has panicked")
}

fn describe(world: &World, reply: &Reply, of: Subject, fault: &str) -> String {
    let given = reply.text().parse().ok().and_then(|number: usize| world.given.get(number));
    let recent: Vec<_> =
        world.given.iter().enumerate().filter(|(_, given)| given.to.path == of.path).rev().take(5).collect();
    format!("{fault}\n{of:?} at {}: {reply}\n{given:?}\nthe last: {recent:#?}", world.now())
}

#[tokio::test]
async fn every_answer_is_one_that_the_rfcs_allow() {
    let variable = |name: &str, default: u64| std::env::var(name).map_or(Ok(default), |value| value.parse());
    let steps = variable("LARDER_MODEL_STEPS", DEFAULT_STEPS).expect("a number");
    let seed = variable("LARDER_MODEL_SEED", 9111).expect("a number");
    let mut runs = JoinSet::new();
    for first in (0..steps).step_by(STEPS_PER_RUN as usize) {
        if runs.len() == CONCURRENT_RUNS {
            runs.join_next().await.expect("a run").expect("it passes");
        }
        runs.spawn(run(seed + first / STEPS_PER_RUN, STEPS_PER_RUN.min(steps - first)));
    }
    while let Some(run) = runs.join_next().await {
        run.expect("it passes");
    }
}

#[tokio::test]
async fn seeds_that_failed_once_pass() {
    for (seed, steps) in [(20_002, 700), (705_002, 110)] {
        run(seed, steps).await;
    }
}

async fn run(seed: u64, steps: u64) {
    let upstream = Upstream::start();
    let mut model = Run::start(seed, &upstream);
    for step in 0..steps {
        if let Err(fault) = model.step().await {
            panic!("seed {seed}, step {step}: {fault}");
        }
    }
}
