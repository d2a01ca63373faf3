//! Simulated processes, and the time, randomness and tasks that larder gets in this thread's simulation.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use larder::clock::simulate_time;
use larder::random::simulate_randomness;
use larder::store::simulate_redis;
use larder::tasks::{TaskHost, simulate_tasks};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::network::{Network, Path};

/// The simulation of this thread.
struct World {
    began: Instant,
    ids: Dice,
    network: Arc<Network>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    /// The process whose task is being polled.
    static CURRENT: RefCell<Option<Arc<Process>>> = const { RefCell::new(None) };
    /// A hash of everything that has happened.
    static TRACE: AtomicU64 = const { AtomicU64::new(0) };
}

/// One larder process.
pub struct Process {
    pub path: Arc<Path>,
    network: Arc<Network>,
    state: Mutex<State>,
    died: Notify,
}

#[derive(Default)]
struct State {
    is_frozen: bool,
    /// It freezes when it connects to the upstream for a guarded write.
    pauses_before_send: bool,
    is_dead: bool,
    waiting: Vec<Waker>,
}

impl Process {
    pub fn new(network: &Arc<Network>, path: &Arc<Path>) -> Arc<Self> {
        Arc::new(Self {
            path: path.clone(),
            network: network.clone(),
            state: Mutex::default(),
            died: Notify::new(),
        })
    }

    /// Runs `action` as a part of this process.
    pub fn enter<T>(self: &Arc<Self>, action: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(Some(self.clone()));
        let result = action();
        CURRENT.set(before);
        result
    }

    /// From here on none of its tasks goes on, until it is thawed.
    pub fn freeze(&self) {
        self.state.lock().is_frozen = true;
    }

    /// Freezes it once it has a mark's reply, and has not sent the write.
    pub fn pause_before_send(&self) {
        self.state.lock().pauses_before_send = true;
    }

    pub fn pause_if_asked(&self) {
        let mut state = self.state.lock();
        state.is_frozen |= std::mem::take(&mut state.pauses_before_send);
    }

    pub fn is_frozen(&self) -> bool {
        self.state.lock().is_frozen
    }

    pub fn thaw(&self) {
        let waiting = {
            let mut state = self.state.lock();
            (state.is_frozen, state.pauses_before_send) = (false, false);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    pub fn kill(&self) {
        self.state.lock().is_dead = true;
        self.died.notify_waiters();
    }

    pub fn is_dead(&self) -> bool {
        self.state.lock().is_dead
    }

    /// Waits until it is killed.
    pub async fn wait_killed(&self) {
        let died = self.died.notified();
        if !self.state.lock().is_dead {
            died.await;
        }
    }
}

/// A task of a process, as larder's own tasks are.
struct Tasks(Arc<Process>);

impl TaskHost for Tasks {
    fn poll(&self, context: &mut Context<'_>, task: &mut dyn FnMut(&mut Context<'_>)) {
        {
            let mut state = self.0.state.lock();
            if state.is_dead || state.is_frozen {
                state.waiting.push(context.waker().clone());
                return;
            }
        }
        self.0.enter(|| task(context));
    }
}

fn current() -> Arc<Process> {
    CURRENT.with_borrow(Option::clone).expect("larder runs in a process only")
}

/// Puts the simulation in the place of the system.
pub fn simulate() {
    simulate_time(nanos);
    simulate_randomness(|bytes| {
        WORLD.with_borrow_mut(|world| world.as_mut().expect("a simulation").ids.fill(bytes));
    });
    simulate_tasks(|| Arc::new(Tasks(current())));
    simulate_redis(|_| {
        let process = current();
        process.network.connection(&process.path)
    });
}

/// Begins a simulation in this thread, on a runtime whose time stands still.
pub fn begin(seed: u64, network: Arc<Network>) {
    let ids = Dice::new(seed).branch(1);
    WORLD.set(Some(World { began: Instant::now(), ids, network }));
    TRACE.with(|trace| trace.store(seed, Ordering::Relaxed));
}

/// Since the simulation began.
pub fn nanos() -> u64 {
    let since = WORLD.with_borrow(|world| world.as_ref().map(|world| world.began.elapsed()));
    u64::try_from(since.unwrap_or_default().as_nanos()).expect("five hundred years")
}

pub fn millis() -> u64 {
    nanos() / 1_000_000
}

/// Adds an event to the trace.
pub fn trace(event: u64) {
    TRACE.with(|trace| {
        let before = trace.load(Ordering::Relaxed) ^ event ^ millis().rotate_left(32);
        trace.store(before.wrapping_mul(0x0100_0000_01b3).rotate_left(17), Ordering::Relaxed);
    });
}

/// Ends the simulation, and returns the hash of all its events.
pub fn end() -> u64 {
    WORLD.take().inspect(|world| world.network.end());
    CURRENT.set(None);
    TRACE.with(|trace| trace.load(Ordering::Relaxed))
}
