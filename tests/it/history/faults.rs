//! What goes wrong, as the seed says: one thing after the other, with a pause in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::dice::Dice;
use super::origin::Mood;
use super::record::Harm;
use super::world::{REPLICAS, World};

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    RedisStopped,
    RedisKilled,
    RedisFlushed,
    RedisSetBack,
    RedisFull,
    RedisEvicting,
    IndexLost,
    RedisHangsUp,
    ReplicaFrozen,
    ReplicaKilled,
    UpstreamSlow,
    UpstreamCuts,
}

pub const ALL: &[Kind] = &[
    Kind::RedisStopped,
    Kind::RedisKilled,
    Kind::RedisFlushed,
    Kind::RedisSetBack,
    Kind::RedisFull,
    Kind::RedisEvicting,
    Kind::IndexLost,
    Kind::RedisHangsUp,
    Kind::ReplicaFrozen,
    Kind::ReplicaKilled,
    Kind::UpstreamSlow,
    Kind::UpstreamCuts,
];

/// Each kind once, in an order that the seed draws, and then again, until it is told to stop. Returns when all is well.
pub async fn play(world: Arc<World>, kinds: &'static [Kind], over: Arc<AtomicBool>) {
    let mut dice = Dice::new(world.seed, 4000);
    let mut left: Vec<Kind> = Vec::new();
    while !over.load(Ordering::SeqCst) && !kinds.is_empty() {
        if left.is_empty() {
            left.extend_from_slice(kinds);
        }
        let kind = left.swap_remove(dice.below(left.len()));
        let lasts = if dice.one_in(3) { dice.millis(300, 1200) } else { dice.millis(20, 300) };
        happen(&world, kind, lasts, &mut dice).await;
        tokio::time::sleep(dice.millis(100, 1500)).await;
    }
}

async fn happen(world: &World, kind: Kind, lasts: Duration, dice: &mut Dice) {
    let began = world.now();
    let replica = dice.below(REPLICAS);
    let mut harms = Harm::Store;
    match kind {
        Kind::ReplicaFrozen => {
            harms = Harm::Replica(replica);
            world.freeze(replica, lasts).await;
        }
        Kind::ReplicaKilled => {
            harms = Harm::Replica(replica);
            world.kill(replica, lasts / 4).await;
        }
        Kind::UpstreamSlow | Kind::UpstreamCuts => {
            harms = Harm::Upstream;
            let mood = if matches!(kind, Kind::UpstreamSlow) { Mood::Slow } else { Mood::Cutting };
            world.origin.set(mood);
            tokio::time::sleep(lasts).await;
            world.origin.set(Mood::Well);
            // Requests that came before are cut a little later.
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        _ => in_redis(world, kind, lasts).await,
    }
    world.fault(format!("{kind:?} {replica}"), harms, began);
}

async fn in_redis(world: &World, kind: Kind, lasts: Duration) {
    let mut redis = world.redis.lock().await;
    match kind {
        Kind::RedisStopped => {
            redis.stop();
            tokio::time::sleep(lasts).await;
            redis.cont();
        }
        Kind::RedisKilled => {
            redis.kill();
            tokio::time::sleep(lasts).await;
            redis.restart().await;
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
        Kind::IndexLost => drop(redis.command(&["UNLINK", "{larder}:purged"]).await),
        _ => {
            redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
            redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        }
    }
}
