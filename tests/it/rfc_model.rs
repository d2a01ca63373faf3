//! Random upstreams and random clients against a small executable reading of RFC 9111 and RFC 5861.
//!
//! The model is written from the RFCs alone, and says of each answer whether a shared cache may give it. It knows what the
//! upstream has said, and nothing of larder's store. `LARDER_MODEL_STEPS` sets the number of steps, `LARDER_MODEL_SEED` the
//! seed:
//!
//! `LARDER_TEST_LOG=off LARDER_MODEL_STEPS=1000000 cargo test --locked --test it -- rfc_model`

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use larder::clock::Clock;
use tokio::task::JoinSet;

use crate::history::dice::Dice;
use crate::support::{Answer, Larder, Received, Reply, Upstream};

const DEFAULT_STEPS: u64 = 1500;
/// A run of its own for each so many steps, so that the figures of one stay small; and how many go on at once.
const STEPS_PER_RUN: u64 = 1000;
const CONCURRENT_RUNS: usize = 6;
const PATHS: [&str; 3] = ["/a", "/b", "/c"];
const LANGUAGES: [&str; 2] = ["de", "en"];
/// Seconds.
const MAX_STEP: u64 = 5;
/// The steps that a fetch in the background may take: the machine's time goes on beside the clock's.
const BACKGROUND_STEPS: usize = 10;
/// Failed refreshes may be held back for 1 s, twice as long after each further one, and no longer than this.
const MAX_BACKOFF: u64 = 30;
/// Seconds after which no failure counts as one of a row any more, however long the pauses between.
const LONGEST_ROW: u64 = 400;
/// A refresh that is due has begun by then; the clock stands still meanwhile.
const REFRESH_DEADLINE: Duration = Duration::from_secs(10);

/// The cache directives of a response, in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Directives {
    max_age: Option<u64>,
    s_maxage: Option<u64>,
    stale_while_revalidate: u64,
    stale_if_error: u64,
    no_store: bool,
    private: bool,
    no_cache: bool,
    must_revalidate: bool,
}

/// A response that the upstream has given; its content is its number.
#[derive(Clone, Debug)]
struct Given {
    path: usize,
    /// The last request's to which it was given, or confirmed.
    language: usize,
    status: u16,
    directives: Directives,
    varies: bool,
    /// When it was generated, or last confirmed by a 304.
    at: u64,
    /// The number of the event that generated or confirmed it.
    event: usize,
    /// Before each 304. The fetch of the last one may still be under way behind a client's back, and those of one second may
    /// have arrived in any order.
    former: Vec<(Directives, u64)>,
    /// A client has had it as it was generated or last confirmed: that fetch has ended.
    is_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Given,
    Confirmed,
    Failed,
}

/// The history of the upstream.
struct World {
    dice: Dice,
    clock: Clock,
    given: Vec<Given>,
    events: Vec<(usize, u64, Event)>,
}

impl Directives {
    fn draw(dice: &mut Dice) -> Self {
        let mut seconds = |often: usize, most: usize| dice.one_in(often).then(|| dice.below(most) as u64);
        let mut directives = Self {
            max_age: seconds(1, 12),
            s_maxage: seconds(6, 12),
            stale_while_revalidate: seconds(2, 15).unwrap_or(0),
            stale_if_error: seconds(2, 25).unwrap_or(0),
            ..Self::default()
        };
        match dice.below(16) {
            0 => directives.no_store = true,
            1 => directives.private = true,
            2 => directives.no_cache = true,
            3 => directives.must_revalidate = true,
            4 => directives.max_age = None,
            _ => {}
        }
        directives
    }

    fn field(&self) -> String {
        let seconds = |name: &str, value: Option<u64>| value.map(|value| format!("{name}={value}"));
        let flag = |name: &str, is_set: bool| is_set.then(|| name.to_owned());
        let window = |name: &str, value: u64| seconds(name, Some(value).filter(|value| *value > 0));
        let all = [
            seconds("max-age", self.max_age),
            seconds("s-maxage", self.s_maxage),
            window("stale-while-revalidate", self.stale_while_revalidate),
            window("stale-if-error", self.stale_if_error),
            flag("no-store", self.no_store),
            flag("private", self.private),
            flag("no-cache", self.no_cache),
            flag("must-revalidate", self.must_revalidate),
        ];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// RFC 9111 §4.2.1.
    fn lifetime(&self) -> Option<u64> {
        self.s_maxage.or(self.max_age)
    }
}

impl Given {
    /// RFC 9111 §3, for a shared cache; the statuses here are all final and understood.
    fn may_be_stored(&self) -> bool {
        !self.directives.no_store
            && !self.directives.private
            && self.status != 500
            && (self.directives.lifetime().is_some() || self.directives.no_cache)
    }

    /// RFC 9111 §4.1.
    fn is_selected_by(&self, path: usize, language: usize) -> bool {
        self.path == path && (!self.varies || self.language == language)
    }

    /// RFC 9111 §4.2, and RFC 5861: whether it may be used at `now` without asking. `has_failed`: asking failed.
    fn use_at(&self, now: u64, has_failed: bool) -> Use {
        let directives = &self.directives;
        // §5.2.2.4.
        let (Some(lifetime), false) = (directives.lifetime(), directives.no_cache) else {
            return Use::Forbidden;
        };
        let age = now - self.at;
        if age < lifetime {
            return Use::Fresh;
        }
        // §4.2.4, §5.2.2.2, §5.2.2.10.
        if directives.must_revalidate || directives.s_maxage.is_some() {
            return Use::Forbidden;
        }
        let stale_for = age - lifetime;
        if stale_for <= directives.stale_while_revalidate && directives.stale_while_revalidate > 0 {
            Use::WhileRevalidate
        } else if has_failed && stale_for <= directives.stale_if_error {
            Use::IfError
        } else {
            Use::Forbidden
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Fresh,
    WhileRevalidate,
    IfError,
    Forbidden,
}

impl World {
    fn now(&self) -> u64 {
        self.clock.now().as_secs()
    }

    /// Answers a request at the upstream.
    fn answer(&mut self, path: usize, request: &Received) -> Answer {
        let language = request.header("accept-language");
        let language =
            LANGUAGES.iter().position(|known| Some(*known) == language.as_deref()).expect("a language");
        let now = self.now();
        if self.dice.one_in(8) {
            self.events.push((path, now, Event::Failed));
            return match self.dice.one_in(2) {
                true => Answer::hang_up(),
                false => Answer::status(503),
            };
        }
        let directives = Directives::draw(&mut self.dice);
        let confirmed =
            request.header("if-none-match").and_then(|tag| tag.trim_matches('"').parse::<usize>().ok());
        if let Some(number) = confirmed.filter(|_| self.dice.one_in(2)) {
            let event = self.events.len();
            self.events.push((path, now, Event::Confirmed));
            let given = &mut self.given[number];
            given.former.push((given.directives, given.at));
            (given.directives, given.at, given.event) = (directives, now, event);
            given.is_told = false;
            // Without Vary, it is larder's for requests like the last one (§4.1).
            if !given.varies {
                given.language = language;
            }
            return Answer::status(304)
                .header("etag", &format!("\"{number}\""))
                .header("cache-control", &directives.field());
        }
        let (number, event) = (self.given.len(), self.events.len());
        let status = if self.dice.one_in(12) { 404 } else { 200 };
        let varies = self.dice.one_in(2);
        self.events.push((path, now, Event::Given));
        let (at, former, is_told) = (now, Vec::new(), false);
        let given = Given { path, language, status, directives, varies, at, event, former, is_told };
        self.given.push(given);
        let mut answer = Answer::status(status).body(number.to_string());
        answer = answer.header("cache-control", &directives.field());
        if self.dice.one_in(2) {
            answer = answer.header("etag", &format!("\"{number}\""));
        }
        if varies { answer.header("vary", "Accept-Language") } else { answer }
    }

    /// Why a shared cache may not give this answer to a request.
    fn find_fault(
        &self,
        reply: &Reply,
        (path, language): (usize, usize),
        Asked { since, background, horizon }: Asked,
    ) -> Result<Use, String> {
        let failed = |from: usize| {
            let mut mine = self.events[from..].iter().filter(|(of, ..)| *of == path);
            mine.any(|(.., event)| *event == Event::Failed)
        };
        // The request may have joined a fetch in the background (RFC 9111 §4).
        let has_failed = failed(background);
        if matches!(reply.status, 502 | 503) {
            // An error of larder's own does not say whose fetch it was.
            let is_joined = reply.status == 502 || reply.cache_status("collapsed").is_some();
            let is_told = failed(since) || (is_joined && has_failed);
            return if is_told { Ok(Use::Fresh) } else { Err("an error out of nothing".into()) };
        }
        let number: usize =
            reply.text().parse().map_err(|_| format!("not an answer of the upstream: {reply}"))?;
        let given = self.given.get(number).ok_or("a number that was never given")?;
        if reply.status != given.status {
            return Err(format!("status {} of a {}", reply.status, given.status));
        }
        let is_new = given.event >= since && given.path == path;
        if is_new
            && (given.language == language
                || given.is_selected_by(path, language)
                    && (given.may_be_stored() || !given.former.is_empty()))
        {
            return Ok(Use::Fresh);
        }
        let is_joined = given.event >= background && reply.cache_status("collapsed").is_some();
        let judge = |given: &Given| self.judge_reuse(reply, given, (path, language), (has_failed, is_joined));
        let last = given.former.last().filter(|_| given.at >= horizon);
        let former = given.former.iter().filter(|(_, at)| *at == given.at).chain(last);
        let former =
            former.map(|(directives, at)| Given { directives: *directives, at: *at, ..given.clone() });
        former.map(|former| judge(&former)).fold(judge(given), |one, other| match (&one, &other) {
            (Ok(Use::Fresh), _) | (_, Err(_)) => one,
            _ => other,
        })
    }

    /// Whether a stored response, or one that a fetch in the background brings, may be used without asking the upstream.
    fn judge_reuse(
        &self,
        reply: &Reply,
        given: &Given,
        (path, language): (usize, usize),
        (has_failed, is_joined): (bool, bool),
    ) -> Result<Use, String> {
        if !given.may_be_stored() {
            return Err("it may not be stored (§3)".into());
        }
        if !given.is_selected_by(path, language) {
            return Err("its fields are not this request's (§4.1)".into());
        }
        let used = given.use_at(self.now(), has_failed);
        if used == Use::Forbidden {
            return Err("it is stale, and nothing allows that (§4.2.4)".into());
        }
        // §4.2.3: the time that the upstream took counts, and behind a client's back it may be two steps. One that is not
        // stored yet needs no Age.
        let (age, least) = (reply.header("age").and_then(|age| age.parse().ok()), self.now() - given.at);
        if !age.map_or(is_joined, |age: u64| (least..=least + 2 * MAX_STEP).contains(&age)) {
            return Err(format!("Age is {age:?} (§5.1)"));
        }
        let is_later = |other: &&Given| {
            other.is_told
                && other.at > given.at
                && other.event != given.event
                && (other.path, other.language) == (path, language)
        };
        for other in self.given.iter().filter(is_later) {
            // §4: "a cache MUST use the most recent one".
            if other.may_be_stored() && other.varies == given.varies {
                return Err(format!("there is a later one: {other:?} (§4)"));
            }
            if other.status == 404 && used != Use::Fresh {
                return Err(format!("it was withdrawn: {other:?}"));
            }
        }
        Ok(used)
    }

    /// Takes a reply to a request of `asked_at`. One that is older than the last confirmation does not tell of it.
    fn mark_told(&mut self, reply: &Reply, asked_at: u64) {
        let age = reply.header("age").and_then(|age| age.parse::<u64>().ok()).unwrap_or(0);
        let given = reply.text().parse().ok().and_then(|number: usize| self.given.get_mut(number));
        let confirmed = given.filter(|given| given.at + age <= asked_at);
        confirmed.into_iter().for_each(|given| given.is_told = true);
    }

    /// Whether a fetch of `path` has begun since so many events had happened, or may be held back.
    fn is_refreshing(&self, path: usize, since: usize) -> bool {
        let now = self.now();
        let failures: Vec<u64> = self
            .events
            .iter()
            .filter(|(of, at, event)| *of == path && *event == Event::Failed && at + LONGEST_ROW >= now)
            .map(|(_, at, _)| *at)
            .collect();
        let back_off = 1_u64.checked_shl(failures.len().saturating_sub(1) as u32).unwrap_or(MAX_BACKOFF);
        // Larder may hear of a failure two steps later.
        let is_held_back =
            failures.last().is_some_and(|at| now < at + back_off.min(MAX_BACKOFF) + 2 * MAX_STEP);
        is_held_back || self.events[since..].iter().any(|(of, ..)| *of == path)
    }
}

/// When a request was made.
#[derive(Clone, Copy)]
struct Asked {
    /// The number of events that had happened.
    since: usize,
    /// A fetch in the background whose event is a later one than this may not have ended.
    background: usize,
    /// The same as a time.
    horizon: u64,
}

/// One run.
struct Run {
    larder: Larder,
    world: Arc<Mutex<World>>,
    dice: Dice,
    /// The events and the time at the beginning of the last steps, the earliest first.
    begun: VecDeque<(usize, u64)>,
}

impl Run {
    fn start(seed: u64, upstream: &Upstream) -> Self {
        let larder = Larder::with("routes: [{path: '/{name}'}]", upstream);
        let world = World {
            dice: Dice::new(seed, 1),
            clock: larder.clock.clone(),
            given: Vec::new(),
            events: Vec::new(),
        };
        let begun = VecDeque::from([(0, world.now())]);
        let world = Arc::new(Mutex::new(world));
        for (number, path) in PATHS.iter().enumerate() {
            let world = world.clone();
            upstream.on(path, move |request: &Received| lock(&world).answer(number, request));
        }
        Self { larder, world, dice: Dice::new(seed, 2), begun }
    }

    /// Lets time pass, sends one request or several at once, and asks the model what it thinks of the answers.
    async fn step(&mut self) -> Result<(), String> {
        self.begin();
        if self.dice.one_in(2) {
            self.larder.after(self.dice.below(6) as u64 % (MAX_STEP + 1));
        }
        let path = self.dice.below(PATHS.len());
        let requests = if self.dice.one_in(6) { 4 } else { 1 };
        let languages: Vec<usize> = (0..requests).map(|_| self.dice.below(LANGUAGES.len())).collect();
        let (since, asked_at) = {
            let world = lock(&self.world);
            (world.events.len(), world.now())
        };
        let replies: Vec<_> = languages
            .iter()
            .map(|language| {
                self.larder.get(PATHS[path]).header("accept-language", LANGUAGES[*language]).spawn()
            })
            .collect();
        let mut is_refresh_due = None;
        let mut told = Vec::new();
        for (language, reply) in languages.into_iter().zip(replies) {
            let reply = reply.await.map_err(|error| error.to_string())?;
            let world = lock(&self.world);
            let used = world.find_fault(&reply, (path, language), self.asked(since));
            let used = used.map_err(|fault| describe(&world, &reply, path, language, &fault))?;
            is_refresh_due = (used == Use::WhileRevalidate).then_some(language).or(is_refresh_due);
            told.push(reply);
        }
        told.iter().for_each(|reply| lock(&self.world).mark_told(reply, asked_at));
        if let Some(language) = is_refresh_due {
            self.expect_refresh(path, language, since).await?;
        }
        Ok(())
    }

    /// Remembers the beginning of a step.
    fn begin(&mut self) {
        let world = lock(&self.world);
        self.begun.push_back((world.events.len(), world.now()));
        if self.begun.len() > BACKGROUND_STEPS {
            self.begun.pop_front();
        }
    }

    fn asked(&self, since: usize) -> Asked {
        let (background, horizon) = self.begun.front().copied().unwrap_or_default();
        Asked { since, background, horizon }
    }

    /// RFC 5861 §3: the cache "SHOULD" revalidate. The fetch of an earlier step may be under way still. So the client asks
    /// until another one begins, or the stale response is served no more.
    async fn expect_refresh(&self, path: usize, language: usize, since: usize) -> Result<(), String> {
        let deadline = Instant::now() + REFRESH_DEADLINE;
        while !lock(&self.world).is_refreshing(path, since) {
            let known = lock(&self.world).events.len();
            let reply = self.larder.get(PATHS[path]).header("accept-language", LANGUAGES[language]).await;
            let world = lock(&self.world);
            let used = world.find_fault(&reply, (path, language), self.asked(known));
            match used.map_err(|fault| describe(&world, &reply, path, language, &fault))? {
                Use::WhileRevalidate if Instant::now() > deadline => {
                    return Err(describe(&world, &reply, path, language, "no refresh begins (RFC 5861 §3)"));
                }
                Use::WhileRevalidate => {}
                _ => break,
            }
        }
        Ok(())
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().expect("no thread has panicked")
}

fn describe(world: &World, reply: &Reply, path: usize, language: usize, fault: &str) -> String {
    let given = reply.text().parse().ok().and_then(|number: usize| world.given.get(number));
    let recent: Vec<_> =
        world.given.iter().enumerate().filter(|(_, given)| given.path == path).rev().take(5).collect();
    format!(
        "{fault}\n{} for {} at {}: {reply}\n{given:?}\nthe last: {recent:#?}",
        PATHS[path],
        LANGUAGES[language],
        world.now()
    )
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
