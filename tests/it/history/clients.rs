//! Those who use the replicas, until the run is over: readers, writers, one who purges.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::checker::LEFT;
use super::dice::Dice;
use super::origin::{self, ANSWER_TIMEOUT, KEYS, PUBLIC};
use super::record::{Content, End, History, Purge, Read, STALLED, Seen, Span, Write};
use super::wire::{Answer, Wire};
use super::world::{REPLICAS, World};
use crate::support::HOST;

/// One client, with a connection to each replica.
pub struct Caller {
    wires: Vec<Wire>,
}

/// A read: key, replica and caller.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub replica: usize,
    pub key: usize,
    pub variant: usize,
    pub caller: usize,
}

impl Caller {
    pub fn new(world: &World) -> Self {
        Self { wires: world.addresses().map(Wire::to).collect() }
    }

    pub async fn read(&mut self, world: &World, wish: Wish) -> Read {
        let Wish { replica, key, variant, caller } = wish;
        let inv = world.now();
        let reply = timeout(ANSWER_TIMEOUT, self.wires[replica].ask(&get(wish))).await;
        let span = Span { inv, ret: world.now() };
        let (hit, seen) = match reply {
            Ok(Ok(reply)) => (reply.is_hit, seen(&reply)),
            Ok(Err(error)) => (false, Seen::Failed(error)),
            Err(_) => (false, Seen::Failed(format!("no answer within {ANSWER_TIMEOUT:?}"))),
        };
        let identity = (key >= PUBLIC).then_some(caller);
        Read { replica, key, variant, identity, span, seen, hit }
    }

    /// Leaves before the answer comes, mostly.
    async fn abandon(&mut self, world: &World, wish: Wish, dice: &mut Dice) -> (usize, Span) {
        let inv = world.now();
        let _ = timeout(dice.micros(100, 4000), self.wires[wish.replica].ask(&get(wish))).await;
        (wish.key, Span { inv, ret: world.now() })
    }

    async fn write(&mut self, world: &World, dice: &mut Dice) -> Write {
        let id = world.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let (replica, key) = (dice.below(REPLICAS), dice.below(KEYS));
        let path = match dice.one_in(2) {
            true if key < PUBLIC && !world.setting.edits_only => format!("/k/{key}"),
            _ => format!("/edit/{key}"),
        };
        let method = ["POST", "PUT", "PATCH", "DELETE"][dice.below(4)];
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {HOST}\r\nx-write: {id}\r\ncontent-length: 3\r\n\r\nnew"
        );
        let leaves = dice.one_in(10);
        let patience = if leaves { dice.micros(100, 5000) } else { ANSWER_TIMEOUT };
        let inv = world.now();
        let reply = timeout(patience, self.wires[replica].ask(&request)).await;
        let span = Span { inv, ret: world.now() };
        let end = match reply {
            Ok(Ok(reply)) => ended(&reply),
            Ok(Err(error)) => End::Unknown(error),
            Err(_) if leaves => End::Unknown(LEFT.to_owned()),
            Err(_) => End::Unknown(format!("no answer within {ANSWER_TIMEOUT:?}")),
        };
        if end == End::Acknowledged {
            world.latest.store(key as u64, Ordering::SeqCst);
        }
        Write { id, replica, key, span, end }
    }

    async fn purge(&mut self, world: &World, dice: &mut Dice) -> Purge {
        let (replica, named) = (dice.below(REPLICAS), dice.below(KEYS));
        let (key, target, fields) = match dice.below(20) {
            0 => (None, "/*".to_owned(), String::new()),
            n if n < 10 && named < PUBLIC => (Some(named), format!("/k/{named}"), String::new()),
            _ => (Some(named), "/any".to_owned(), format!("surrogate-key: key:{named}\r\n")),
        };
        let inv = world.now();
        let request = format!("PURGE {target} HTTP/1.1\r\nhost: {HOST}\r\n{fields}\r\n");
        let reply = timeout(ANSWER_TIMEOUT, self.wires[replica].ask(&request)).await;
        let acknowledged = matches!(&reply, Ok(Ok(reply)) if reply.status == 200);
        Purge { replica, key, span: Span { inv, ret: world.now() }, acknowledged }
    }
}

pub fn reader(world: &Arc<World>, who: u64) -> JoinHandle<History> {
    let world = world.clone();
    tokio::spawn(async move {
        let (mut dice, mut caller) = (Dice::new(world.seed, 1000 + who), Caller::new(&world));
        let mut history = History::default();
        while !world.is_over() {
            let latest = usize::try_from(world.latest.load(Ordering::SeqCst)).expect("a key");
            let key = if dice.one_in(2) { latest } else { dice.below(KEYS) };
            let wish =
                Wish { replica: dice.below(REPLICAS), key, variant: dice.below(2), caller: dice.below(3) };
            if dice.one_in(20) {
                history.abandoned.push(caller.abandon(&world, wish, &mut dice).await);
            } else {
                history.reads.push(caller.read(&world, wish).await);
            }
        }
        history
    })
}

pub fn writer(world: &Arc<World>, who: u64) -> JoinHandle<History> {
    let world = world.clone();
    tokio::spawn(async move {
        let (mut dice, mut caller) = (Dice::new(world.seed, 2000 + who), Caller::new(&world));
        let mut history = History::default();
        while !world.is_writing_over() {
            history.writes.push(caller.write(&world, &mut dice).await);
            tokio::time::sleep(dice.millis(10, 200)).await;
        }
        history
    })
}

pub fn purger(world: &Arc<World>) -> JoinHandle<History> {
    let world = world.clone();
    tokio::spawn(async move {
        let (mut dice, mut caller) = (Dice::new(world.seed, 3000), Caller::new(&world));
        let mut history = History::default();
        while !world.is_writing_over() {
            tokio::time::sleep(dice.millis(50, 400)).await;
            history.purges.push(caller.purge(&world, &mut dice).await);
        }
        history
    })
}

/// Notices when the machine has no time for anybody.
pub fn watch(world: &Arc<World>) -> JoinHandle<History> {
    let world = world.clone();
    tokio::spawn(async move {
        let mut history = History::default();
        let mut inv = world.now();
        while !world.is_closed() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            let ret = world.now();
            if ret - inv > STALLED {
                history.stalls.push(Span { inv, ret });
            }
            inv = ret;
        }
        history
    })
}

fn get(wish: Wish) -> String {
    let Wish { key, variant, caller, .. } = wish;
    let language = ["en", "fr"][variant];
    let (path, fields) = match key < PUBLIC {
        true => (format!("/k/{key}"), String::new()),
        false => (format!("/me/{key}"), format!("authorization: Bearer {caller}\r\n")),
    };
    format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\naccept-language: {language}\r\n{fields}\r\n")
}

fn seen(reply: &Answer) -> Seen {
    let text = String::from_utf8_lossy(&reply.body);
    match reply.status {
        // An answer that says it is whole and can't be read is not what the upstream had.
        200 => Seen::Content(origin::read(&text).unwrap_or(Content {
            key: usize::MAX,
            version: 0,
            variant: 0,
            owner: None,
            origin_at: u64::MAX,
            intact: false,
        })),
        status => Seen::Failed(format!("{status} {text}")),
    }
}

fn ended(reply: &Answer) -> End {
    match reply.status {
        200 if reply.has_position => End::Acknowledged,
        200 => End::NotRecorded,
        503 if reply.has_retry_after => End::Refused,
        status => End::Unknown(format!("{status} {}", String::from_utf8_lossy(&reply.body))),
    }
}
