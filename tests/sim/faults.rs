//! Faults, any number at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::dice::Dice;
use crate::network::Path;
use crate::plan::{Actor, Operation};
use crate::redis::Database;
use crate::simulation::Simulation;
use crate::upstream::Mood;

/// A silence after which a replica is not on the roll any more, in milliseconds.
const MIN_SILENCE: u64 = 4200;
const MAX_SILENCE: u64 = 5500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    RedisRestartsEmpty,
    RedisRestartsFromSnapshot,
    RedisRestartsWhole,
    RedisFlushed,
    RedisEvictsIndex,
    RedisEvictsSome,
    RedisHangs,
    FailoverWhole,
    FailoverWithoutLastWrites,
    ClockSteps,
    PathSlow,
    PathCut,
    PathSilent,
    PathLossy,
    PathReordersAndRepeats,
    PathResets,
    WakeUpsLost,
    ReplicaFrozen,
    /// Between the reply about a mark and the first byte of its write; when it goes on, it may die soon.
    ReplicaPausedBeforeSend,
    ReplicaKilled,
    Reload,
    RollingDeployment,
    UpstreamSlow,
    UpstreamCuts,
    /// It ends as on a signal, and comes back. Not among [`Kind::ALL`], nor are those below it: `Setting` draws them.
    ReplicaLeaves,
    /// Nothing of it reaches the server until it is taken off the roll.
    ReplicaUnheard,
    /// The same, because it stands still.
    ReplicaAsleep,
    /// Another server becomes the primary; for one replica the former one goes on, and refuses writes.
    FormerPrimaryGoesOn,
}

impl Kind {
    pub const ALL: &[Kind] = &[
        Kind::RedisRestartsEmpty,
        Kind::RedisRestartsFromSnapshot,
        Kind::RedisRestartsWhole,
        Kind::RedisFlushed,
        Kind::RedisEvictsIndex,
        Kind::RedisEvictsSome,
        Kind::RedisHangs,
        Kind::FailoverWhole,
        Kind::FailoverWithoutLastWrites,
        Kind::ClockSteps,
        Kind::PathSlow,
        Kind::PathCut,
        Kind::PathSilent,
        Kind::PathLossy,
        Kind::PathReordersAndRepeats,
        Kind::PathResets,
        Kind::WakeUpsLost,
        Kind::ReplicaFrozen,
        Kind::ReplicaPausedBeforeSend,
        Kind::ReplicaKilled,
        Kind::Reload,
        Kind::RollingDeployment,
        Kind::UpstreamSlow,
        Kind::UpstreamCuts,
    ];

    pub fn loses_the_index(self) -> bool {
        matches!(
            self,
            Kind::RedisRestartsEmpty
                | Kind::RedisRestartsFromSnapshot
                | Kind::RedisRestartsWhole
                | Kind::RedisFlushed
                | Kind::RedisEvictsIndex
                | Kind::FailoverWhole
                | Kind::FailoverWithoutLastWrites
                | Kind::FormerPrimaryGoesOn
        )
    }
}

/// Lets a fault happen at some time, once or twice.
pub async fn strike(simulation: Arc<Simulation>, number: u64, kind: Kind, mut dice: Dice) {
    let actor = Actor::Fault(number);
    let millis = u64::try_from(simulation.setting().lasts.as_millis()).expect("a short time");
    sleep(dice.millis(0, millis / 2)).await;
    for number in 0..=dice.below(2) as u64 {
        let mut dice = dice.branch(number);
        if !simulation.begins(Operation { actor, number }) {
            continue;
        }
        let slot = dice.below(simulation.setting().replicas);
        simulation.note(format!("{kind:?} at {slot}"));
        match kind {
            Kind::ReplicaFrozen
            | Kind::ReplicaPausedBeforeSend
            | Kind::ReplicaKilled
            | Kind::ReplicaLeaves
            | Kind::ReplicaUnheard
            | Kind::ReplicaAsleep
            | Kind::Reload
            | Kind::RollingDeployment => {
                strike_replica(&simulation, kind, slot, &mut dice).await;
            }
            Kind::UpstreamSlow | Kind::UpstreamCuts => {
                let mood = if kind == Kind::UpstreamSlow { Mood::Slow } else { Mood::Cuts };
                simulation.upstream().set_mood(mood);
                sleep(dice.millis(50, 400)).await;
                simulation.upstream().set_mood(Mood::Well);
            }
            Kind::FormerPrimaryGoesOn => {
                simulation.network().split(&simulation.path(slot));
                sleep(dice.millis(50, 500)).await;
                simulation.network().heal();
            }
            _ if is_of_path(kind) => strike_path(&simulation, kind, &simulation.path(slot), &mut dice).await,
            _ => strike_redis(&simulation, kind, &mut dice).await,
        }
        simulation.note(format!("{kind:?} at {slot} is over"));
        sleep(dice.millis(20, 300)).await;
    }
}

async fn strike_replica(simulation: &Arc<Simulation>, kind: Kind, slot: usize, dice: &mut Dice) {
    match kind {
        Kind::ReplicaFrozen => {
            let process = simulation.replica(slot).process.clone();
            process.freeze();
            sleep(dice.millis(10, 700)).await;
            process.thaw();
        }
        Kind::ReplicaLeaves => leave(simulation, slot, dice).await,
        Kind::ReplicaUnheard => {
            let path = simulation.path(slot);
            path.weather.lock().is_silent = true;
            sleep(dice.millis(MIN_SILENCE, MAX_SILENCE)).await;
            path.weather.lock().is_silent = false;
        }
        Kind::ReplicaAsleep => {
            let process = simulation.replica(slot).process.clone();
            process.freeze();
            sleep(dice.millis(MIN_SILENCE, MAX_SILENCE)).await;
            process.thaw();
        }
        Kind::ReplicaPausedBeforeSend => pause_before_send(simulation, slot, dice).await,
        Kind::ReplicaKilled => {
            simulation.kill(slot);
            sleep(dice.millis(0, 300)).await;
            simulation.restart(slot);
        }
        Kind::Reload => {
            let rules = dice.between(0, 3);
            simulation.replica(slot).use_rules(rules);
            simulation.set_rules(slot, rules);
        }
        _ => {
            let rules = dice.between(0, 3);
            for slot in 0..simulation.setting().replicas {
                simulation.set_rules(slot, rules);
                simulation.kill(slot);
                simulation.restart(slot);
                sleep(dice.millis(0, 250)).await;
            }
        }
    }
}

/// Ends the process as a signal does. It is asked for a while still, as by clients that its drain did not wait for. Now and
/// then its way to the server is slow or lossy meanwhile, and it comes back under its name.
async fn leave(simulation: &Arc<Simulation>, slot: usize, dice: &mut Dice) {
    let (path, replica) = (simulation.path(slot), simulation.replica(slot));
    let before = path.weather.lock().clone();
    if dice.one_in(3) {
        let mut weather = path.weather.lock();
        (weather.delay, weather.loss) = (dice.between(5, 60), dice.between(0, 8));
    }
    let leaving = replica.process.enter(|| larder::tasks::spawn(replica.clone().leave()));
    // A process that is frozen or dead meanwhile does not leave.
    _ = timeout(Duration::from_secs(1), leaving).await;
    sleep(dice.millis(0, 300)).await;
    *path.weather.lock() = before;
    simulation.kill(slot);
    sleep(dice.millis(0, 200)).await;
    simulation.restart(slot);
}

/// Pauses the process at its next guarded write, for longer than the mark lasts, or for less. Its way to the server may
/// be slow or cut when it goes on, so that a mark renewed after the write is too late.
async fn pause_before_send(simulation: &Arc<Simulation>, slot: usize, dice: &mut Dice) {
    let process = simulation.replica(slot).process.clone();
    process.pause_before_send();
    for _ in 0..50 {
        if process.is_frozen() {
            break;
        }
        sleep(dice.millis(1, 20)).await;
    }
    let (path, is_slow) = (simulation.path(slot), !dice.one_in(3));
    let before = path.weather.lock().clone();
    if is_slow {
        path.weather.lock().delay = dice.between(20, 150);
    }
    sleep(if is_slow { dice.millis(310, 700) } else { dice.millis(50, 700) }).await;
    if is_slow && dice.one_in(2) {
        path.weather.lock().is_cut = true;
        simulation.network().reset(Some(&path));
    }
    process.thaw();
    if is_slow {
        sleep(dice.millis(20, 200)).await;
        *path.weather.lock() = before;
    }
    if dice.one_in(2) {
        sleep(dice.millis(0, 30)).await;
        simulation.kill(slot);
        simulation.restart(slot);
    }
}

fn is_of_path(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::PathSlow
            | Kind::PathCut
            | Kind::PathSilent
            | Kind::PathLossy
            | Kind::PathReordersAndRepeats
            | Kind::PathResets
            | Kind::WakeUpsLost
    )
}

async fn strike_path(simulation: &Arc<Simulation>, kind: Kind, path: &Arc<Path>, dice: &mut Dice) {
    let network = simulation.network();
    let before = path.weather.lock().clone();
    {
        let mut weather = path.weather.lock();
        match kind {
            Kind::PathSlow => weather.delay = dice.between(5, 60),
            Kind::PathCut => weather.is_cut = true,
            Kind::PathSilent => weather.is_silent = true,
            Kind::PathLossy => weather.loss = dice.between(2, 12),
            Kind::PathReordersAndRepeats => {
                (weather.reorders, weather.repeats, weather.delay) =
                    (true, dice.between(2, 8), dice.between(2, 20));
            }
            Kind::WakeUpsLost => weather.loses_messages = true,
            _ => {}
        }
    }
    if matches!(kind, Kind::PathCut | Kind::PathResets) {
        network.reset(Some(path));
    }
    if kind != Kind::PathResets {
        sleep(dice.millis(30, 500)).await;
        *path.weather.lock() = before;
    }
}

async fn strike_redis(simulation: &Arc<Simulation>, kind: Kind, dice: &mut Dice) {
    let network = simulation.network();
    let lag = dice.millis(5, 250);
    match kind {
        Kind::RedisFlushed => network.change(|server| server.database.flush()),
        Kind::RedisEvictsIndex => {
            network.change(|server| server.database.evict(|key| key.ends_with(b":index")))
        }
        Kind::RedisEvictsSome => {
            network.change(|server| server.database.evict(|key| !key.ends_with(b":index") && dice.one_in(2)));
        }
        Kind::ClockSteps => {
            let step = dice.between(0, 8_000_000) as i64 - 4_000_000;
            network.change(|server| server.ahead += step);
        }
        Kind::RedisHangs => {
            network.change(|server| server.is_hung = true);
            sleep(dice.millis(20, 400)).await;
            network.change(|server| server.is_hung = false);
        }
        Kind::FailoverWithoutLastWrites | Kind::RedisRestartsFromSnapshot => {
            let copy = network.server.lock().database.clone();
            sleep(lag).await;
            if kind == Kind::RedisRestartsFromSnapshot {
                simulation.restart_redis(dice, |_| copy).await;
            } else {
                network.change(|server| server.replace(copy));
                network.reset(None);
            }
        }
        Kind::FailoverWhole => {
            network.change(|server| server.replace(server.database.clone()));
            network.reset(None);
        }
        Kind::RedisRestartsEmpty => simulation.restart_redis(dice, |_| Database::default()).await,
        _ => simulation.restart_redis(dice, Clone::clone).await,
    }
}
