//! One simulation: replicas, their clients, and the faults, from a seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder::clock::{Clock, Timestamp};
use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::clients;
use crate::dice::Dice;
use crate::faults::strike;
use crate::history::{History, ProcessId, Violation};
use crate::network::{Network, Path, START};
use crate::plan::{Operation, Plan};
use crate::process::{Process, begin, end, simulate};
use crate::redis::Database;
use crate::replica::{Replica, Surroundings};
use crate::scenes;
use crate::setting::Setting;
use crate::upstream::Upstream;

pub struct Simulation {
    pub world: Arc<Surroundings>,
    network: Arc<Network>,
    slots: Vec<Slot>,
    plan: Plan,
}

/// The place of a replica.
struct Slot {
    path: Arc<Path>,
    replica: Mutex<Arc<Replica>>,
    starts: AtomicU64,
    rules: AtomicU64,
}

/// The end of a simulation.
pub struct Outcome {
    pub violation: Option<Violation>,
    /// A hash of everything that happened.
    pub trace: u64,
    /// Answers from the store, and all answers.
    pub hits: (u64, u64),
    pub setting: Setting,
    pub notes: Vec<String>,
    pub operations: Vec<Operation>,
}

/// Plays the history of a seed.
pub fn play(seed: u64) -> Outcome {
    play_plan(seed, Plan::default())
}

/// Plays the part of a seed's history that the plan has.
pub fn play_plan(seed: u64, plan: Plan) -> Outcome {
    simulate();
    let mut dice = Dice::new(seed);
    let setting = Setting::draw(&mut dice);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let (world, operations) = runtime.block_on(async {
        let network = Network::new();
        begin(seed, network.clone());
        let simulation = Simulation::start(setting.clone(), network, plan, &dice);
        simulation.clone().run(dice.branch(9)).await;
        (simulation.world.clone(), simulation.plan.performed())
    });
    let trace = end();
    drop(runtime);
    let notes =
        world.history.notes.lock().iter().map(|(point, note)| format!("{} {note}", point.at)).collect();
    let (violation, hits) = (world.history.check(&setting), world.history.hits());
    Outcome { violation, trace, hits, setting, notes, operations }
}

impl Simulation {
    fn start(setting: Setting, network: Arc<Network>, plan: Plan, dice: &Dice) -> Arc<Self> {
        let lag = u64::try_from(setting.settle.as_millis()).expect("a short time");
        let upstream = Upstream::new(dice.branch(2), lag);
        let world = Arc::new(Surroundings { setting, upstream, history: History::default() });
        let slots = (0..world.setting.replicas).map(|number| {
            let path = Path::new(dice.branch(10 + number as u64));
            let replica = Mutex::new(start_replica(&world, &network, &path, number, 0));
            Slot { path, replica, starts: AtomicU64::new(0), rules: AtomicU64::new(0) }
        });
        let slots = slots.collect();
        Arc::new(Self { world, network, slots, plan })
    }

    /// Clients come and go, and faults strike, until the time is over.
    async fn run(self: Arc<Self>, mut dice: Dice) {
        let mut tasks = JoinSet::new();
        for (number, kind) in (0..).zip(&self.setting().faults) {
            tasks.spawn(strike(self.clone(), number, *kind, dice.branch(100 + number)));
        }
        let until = Instant::now() + self.setting().lasts;
        if let Some(scene) = self.setting().scene {
            tasks.spawn(scenes::play(self.clone(), scene, dice.branch(300)));
        }
        for number in 0..self.setting().clients {
            tasks.spawn(clients::run(self.clone(), number, dice.branch(200 + number), until));
        }
        let patience = self.setting().lasts + Duration::from_secs(5);
        _ = timeout(patience, async { while tasks.join_next().await.is_some() {} }).await;
        sleep(dice.millis(0, 2)).await;
    }

    /// Whether the operation takes place. A short history says so, for people.
    pub fn begins(&self, operation: Operation) -> bool {
        let takes_place = self.plan.begins(operation);
        if takes_place && self.plan.is_short() {
            self.note(format!("{operation:?}"));
        }
        takes_place
    }

    pub fn setting(&self) -> &Setting {
        &self.world.setting
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.world.upstream
    }

    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    pub fn path(&self, slot: usize) -> Arc<Path> {
        self.slots[slot].path.clone()
    }

    pub fn note(&self, text: String) {
        self.world.history.note(text);
    }

    pub fn replica(&self, slot: usize) -> Arc<Replica> {
        self.slots[slot].replica.lock().clone()
    }

    pub fn process_id(&self, slot: usize) -> ProcessId {
        (slot, self.slots[slot].starts.load(Ordering::SeqCst))
    }

    pub fn set_rules(&self, slot: usize, rules: u64) {
        self.slots[slot].rules.store(rules, Ordering::SeqCst);
    }

    pub fn kill(&self, slot: usize) {
        self.replica(slot).process.kill();
        self.network.reset(Some(&self.slots[slot].path));
    }

    /// A process that another fault has started here meanwhile goes on, so that two have one name.
    pub fn restart(&self, number: usize) {
        let slot = &self.slots[number];
        slot.starts.fetch_add(1, Ordering::SeqCst);
        let rules = slot.rules.load(Ordering::SeqCst);
        *slot.replica.lock() = start_replica(&self.world, &self.network, &slot.path, number, rules);
    }

    /// Stops the server for a while. It comes back with what `remember` makes of what it knew.
    pub async fn restart_redis(&self, dice: &mut Dice, remember: impl FnOnce(&Database) -> Database) {
        self.network.change(|server| {
            server.is_down = true;
            server.replace(remember(&server.database));
        });
        self.network.reset(None);
        sleep(dice.millis(0, 400)).await;
        self.network.change(|server| server.is_down = false);
    }
}

/// The clocks of replicas are up to four seconds apart.
fn start_replica(
    world: &Arc<Surroundings>,
    network: &Arc<Network>,
    path: &Arc<Path>,
    number: usize,
    rules: u64,
) -> Arc<Replica> {
    let ahead = Duration::from_millis(2000 * number as u64 + crate::process::millis());
    let clock = Clock::running(Timestamp::from_micros(START).plus(ahead));
    Replica::start(world, number, Process::new(network, path), clock, rules)
}
