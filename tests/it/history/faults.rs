//! Faults in the order given by the seed, one after the other with pauses in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::dice::Dice;
use super::origin::Mood;
use super::record::{Harm, Span};
use super::world::{REPLICAS, World};
use crate::support::Line;

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    RedisStopped,
    RedisKilled,
    RedisFlushed,
    RedisSetBack,
    RedisFailedOver,
    RedisFull,
    RedisEvicting,
    RedisSlow,
    IndexLost,
    RedisHangsUp,
    LineSlow,
    LineTrickles,
    LineDead,
    LineCut,
    ReplicaFrozen,
    ReplicaKilled,
    ReplicaTerminated,
    ReplicaReloaded,
    UpstreamSlow,
    UpstreamCuts,
    UpstreamFails,
}

pub const ALL: &[Kind] = &[
    Kind::RedisStopped,
    Kind::RedisKilled,
    Kind::RedisFlushed,
    Kind::RedisSetBack,
    Kind::RedisFailedOver,
    Kind::RedisFull,
    Kind::RedisEvicting,
    Kind::RedisSlow,
    Kind::IndexLost,
    Kind::RedisHangsUp,
    Kind::LineSlow,
    Kind::LineTrickles,
    Kind::LineDead,
    Kind::LineCut,
    Kind::ReplicaFrozen,
    Kind::ReplicaKilled,
    Kind::ReplicaTerminated,
    Kind::ReplicaReloaded,
    Kind::UpstreamSlow,
    Kind::UpstreamCuts,
    Kind::UpstreamFails,
];

/// Faults of a rolling update: replicas end, start and reload.
pub const UPDATES: &[Kind] = &[Kind::ReplicaTerminated, Kind::ReplicaTerminated, Kind::ReplicaReloaded];

/// Since when nothing reaches Redis, of whom; until the fault is over.
type Away = Option<(Option<usize>, Span)>;

/// Each kind once, in an order that the seed draws, and then again, until it is told to stop. Returns when all is well.
pub async fn play(world: Arc<World>, kinds: &'static [Kind], over: Arc<AtomicBool>) {
    let mut dice = Dice::new(world.seed, 4000);
    let mut left = Vec::new();
    while !over.load(Ordering::SeqCst) && !kinds.is_empty() {
        if left.is_empty() {
            left.extend_from_slice(kinds);
        }
        let kind = left.swap_remove(dice.below(left.len()));
        let lasts = if dice.one_in(3) { dice.millis(300, 1200) } else { dice.millis(20, 300) };
        let replica = dice.below(REPLICAS);
        let began = world.now();
        let away = happen(&world, kind, replica, lasts, &mut dice).await;
        world.fault(format!("{kind:?} {replica}"), harms(kind, replica), began, away);
        tokio::time::sleep(dice.millis(100, 1500)).await;
    }
}

fn harms(kind: Kind, replica: usize) -> Harm {
    match kind {
        Kind::ReplicaReloaded => Harm::Nothing,
        Kind::ReplicaFrozen => Harm::Frozen(replica),
        Kind::ReplicaTerminated => Harm::Ended(replica),
        Kind::ReplicaKilled => Harm::Killed(replica),
        Kind::UpstreamSlow | Kind::UpstreamCuts | Kind::UpstreamFails => Harm::Upstream,
        Kind::RedisKilled
        | Kind::RedisFlushed
        | Kind::RedisSetBack
        | Kind::RedisFailedOver
        | Kind::RedisEvicting
        | Kind::IndexLost => Harm::Index,
        Kind::RedisStopped
        | Kind::RedisFull
        | Kind::RedisSlow
        | Kind::RedisHangsUp
        | Kind::LineSlow
        | Kind::LineTrickles
        | Kind::LineDead
        | Kind::LineCut => Harm::Store,
    }
}

async fn happen(world: &World, kind: Kind, replica: usize, lasts: Duration, dice: &mut Dice) -> Away {
    let one = |line, replica| on_lines(world, line, Some(replica), lasts);
    match kind {
        Kind::ReplicaFrozen => world.freeze(replica, lasts).await,
        Kind::ReplicaKilled => world.end(replica, "KILL", lasts / 4).await,
        Kind::ReplicaTerminated => world.end(replica, "TERM", lasts / 4).await,
        Kind::ReplicaReloaded => world.reload(replica, 1 + dice.below(3)).await,
        Kind::UpstreamSlow => upstream(world, Mood::Slow, lasts).await,
        Kind::UpstreamCuts => upstream(world, Mood::Cutting, lasts).await,
        Kind::UpstreamFails => upstream(world, Mood::Failing, lasts).await,
        Kind::RedisSlow => drop(on_lines(world, Line::Late(dice.millis(2, 80)), None, lasts).await),
        Kind::LineSlow => drop(one(Line::Late(dice.millis(2, 200)), replica).await),
        Kind::LineTrickles => drop(one(Line::Trickling(dice.micros(20, 2000)), replica).await),
        Kind::LineDead => return Some((Some(replica), one(Line::Dead, replica).await)),
        Kind::LineCut => return Some((Some(replica), one(Line::Cut, replica).await)),
        Kind::RedisFailedOver => return Some((None, world.fail_over(lasts).await)),
        _ => return in_redis(world, kind, lasts).await.map(|span| (None, span)),
    }
    None
}

/// On the line of one replica, or of all.
async fn on_lines(world: &World, line: Line, replica: Option<usize>, lasts: Duration) -> Span {
    let set = |line| match replica {
        Some(replica) => world.line(replica).set(line),
        None => world.every_line(line),
    };
    set(line);
    let away = settled(world, lasts).await;
    set(Line::Whole);
    away
}

/// Waits until commands in flight have arrived or been lost.
async fn settled(world: &World, lasts: Duration) -> Span {
    tokio::time::sleep(Duration::from_millis(10)).await;
    let inv = world.now();
    tokio::time::sleep(lasts).await;
    Span { inv, ret: world.now() }
}

async fn upstream(world: &World, mood: Mood, lasts: Duration) {
    world.origin.set(mood);
    tokio::time::sleep(lasts).await;
    world.origin.set(Mood::Well);
    // Requests that came before are cut a little later.
    tokio::time::sleep(Duration::from_millis(150)).await;
}

async fn in_redis(world: &World, kind: Kind, lasts: Duration) -> Option<Span> {
    let redis = &mut world.redis.lock().await.primary;
    match kind {
        Kind::RedisStopped => {
            redis.stop();
            let away = settled(world, lasts).await;
            redis.cont();
            return Some(away);
        }
        Kind::RedisKilled => {
            redis.kill();
            let away = settled(world, lasts).await;
            redis.restart().await;
            return Some(away);
        }
        Kind::RedisFlushed => redis.flush().await,
        Kind::RedisSetBack => {
            redis.command(&["SAVE"]).await;
            tokio::time::sleep(lasts).await;
            redis.restart().await;
        }
        Kind::RedisFull | Kind::RedisEvicting => {
            if matches!(kind, Kind::RedisEvicting) {
                redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
            }
            redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
            tokio::time::sleep(lasts).await;
            redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
            redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
        }
        Kind::IndexLost => drop(redis.command(&["UNLINK", "{larder}:index"]).await),
        _ => {
            redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
            redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        }
    }
    None
}
