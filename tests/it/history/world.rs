//! Replicas, one Redis, the upstream, and those who use them, until the run is over.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::dice::Dice;
use super::origin::{self, KEYS, Origin, PATIENCE, PUBLIC};
use super::record::{Content, End, Fault, Harm, History, Purge, Read, Seen, Span, Write};
use crate::support::{Client, Command, HOST, Process, Redis, Reply, Request, Scratch, free_port};

pub const REPLICAS: usize = 3;

/// What the replicas are told, besides where things are.
#[derive(Clone)]
pub struct Setting {
    pub store: &'static str,
    /// What a write on `/edit/{id}` purges.
    pub purges: &'static str,
    pub guarded: bool,
    /// Writes go to `/edit/{id}` only.
    pub edits_only: bool,
}

pub struct World {
    pub seed: u64,
    pub origin: Arc<Origin>,
    pub redis: tokio::sync::Mutex<Redis>,
    replicas: Vec<Site>,
    over: AtomicBool,
    writing_over: AtomicBool,
    writes: AtomicU64,
    setting: Setting,
    faults: Mutex<Vec<Fault>>,
    /// The key that was acknowledged last: the next reads are aimed at it.
    latest: AtomicU64,
}

struct Site {
    client: Client,
    ports: [u16; 2],
    config: String,
    process: tokio::sync::Mutex<Process>,
}

impl World {
    pub async fn start(seed: u64, setting: Setting) -> Arc<Self> {
        let began = Instant::now();
        let origin = Origin::start(seed, began).await;
        let redis = Redis::start().await;
        let mut replicas = Vec::new();
        for _ in 0..REPLICAS {
            let ports = [free_port(), free_port()];
            let config = configuration(&setting, &origin, &redis, ports);
            let client = Client::new(([127, 0, 0, 1], ports[0]).into());
            let process = tokio::sync::Mutex::new(launch(&config, ports).await);
            replicas.push(Site { client, ports, config, process });
        }
        Arc::new(Self {
            seed,
            origin,
            redis: tokio::sync::Mutex::new(redis),
            replicas,
            over: AtomicBool::new(false),
            writing_over: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            setting,
            faults: Mutex::default(),
            latest: AtomicU64::new(0),
        })
    }

    pub fn now(&self) -> u64 {
        self.origin.now()
    }

    pub fn stop_writing(&self) {
        self.writing_over.store(true, Ordering::SeqCst);
    }

    pub fn stop(&self) {
        self.stop_writing();
        self.over.store(true, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Notes a fault that is over.
    pub fn fault(&self, what: String, harms: Harm, inv: u64) {
        let span = Span { inv, ret: self.now() };
        self.faults.lock().unwrap().push(Fault { what, span, harms });
    }

    pub fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap().clone()
    }

    pub async fn freeze(&self, replica: usize, how_long: Duration) {
        let process = self.replicas[replica].process.lock().await;
        process.signal("STOP");
        tokio::time::sleep(how_long).await;
        process.signal("CONT");
    }

    /// `kill -9`, and another one on the same ports.
    pub async fn kill(&self, replica: usize, away: Duration) {
        let site = &self.replicas[replica];
        let mut process = site.process.lock().await;
        process.signal("KILL");
        process.ended().await;
        tokio::time::sleep(away).await;
        *process = launch(&site.config, site.ports).await;
    }

    pub async fn logs(&self) -> String {
        let mut logs = String::new();
        for (number, site) in self.replicas.iter().enumerate() {
            let log = site.process.lock().await.log();
            logs += &format!("--- replica {number}\n{log}");
        }
        logs
    }

    pub fn reader(self: &Arc<Self>, who: u64) -> JoinHandle<History> {
        let world = self.clone();
        tokio::spawn(async move {
            let mut dice = Dice::new(world.seed, 1000 + who);
            let mut history = History::default();
            while !world.is_over() {
                let latest = usize::try_from(world.latest.load(Ordering::SeqCst)).expect("a key");
                let key = if dice.one_in(2) { latest } else { dice.below(KEYS) };
                let replica = dice.below(REPLICAS);
                if dice.one_in(20) {
                    let abandoned = world.get(replica, key, dice.below(2), dice.below(3));
                    let _ = tokio::time::timeout(dice.micros(100, 4000), abandoned.attempt()).await;
                    continue;
                }
                history.reads.push(world.read(replica, key, dice.below(2), dice.below(3)).await);
            }
            history
        })
    }

    pub async fn read(&self, replica: usize, key: usize, variant: usize, caller: usize) -> Read {
        let request = self.get(replica, key, variant, caller);
        let inv = self.now();
        let reply = tokio::time::timeout(PATIENCE, request.attempt()).await;
        let span = Span { inv, ret: self.now() };
        let (hit, seen) = match reply {
            Ok(Ok(reply)) => (reply.is_hit(), seen(&reply)),
            Ok(Err(error)) => (false, Seen::Failed(error)),
            Err(_) => (false, Seen::Failed(format!("no answer within {PATIENCE:?}"))),
        };
        let identity = (key >= PUBLIC).then_some(caller);
        Read { replica, key, variant, identity, span, seen, hit }
    }

    fn get(&self, replica: usize, key: usize, variant: usize, caller: usize) -> Request {
        let path = if key < PUBLIC { format!("/k/{key}") } else { format!("/me/{key}") };
        let request = self.request(replica, "GET", &path);
        let request = request.header("accept-language", ["en", "fr"][variant]);
        if key < PUBLIC { request } else { request.header("authorization", &format!("Bearer {caller}")) }
    }

    fn request(&self, replica: usize, method: &str, target: &str) -> Request {
        self.replicas[replica].client.request(method, target).header("host", HOST)
    }

    pub fn writer(self: &Arc<Self>, who: u64) -> JoinHandle<History> {
        let world = self.clone();
        tokio::spawn(async move {
            let mut dice = Dice::new(world.seed, 2000 + who);
            let mut history = History::default();
            while !world.writing_over.load(Ordering::SeqCst) {
                history.writes.push(world.write(&mut dice).await);
                tokio::time::sleep(dice.millis(10, 200)).await;
            }
            history
        })
    }

    async fn write(&self, dice: &mut Dice) -> Write {
        let id = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let (replica, key) = (dice.below(REPLICAS), dice.below(KEYS));
        let path = match dice.one_in(2) {
            true if key < PUBLIC && !self.setting.edits_only => format!("/k/{key}"),
            _ => format!("/edit/{key}"),
        };
        let method = ["POST", "PUT", "PATCH", "DELETE"][dice.below(4)];
        let request = self.request(replica, method, &path).header("x-write", &id.to_string()).body("new");
        let leaves = dice.one_in(10);
        let patience = if leaves { dice.micros(100, 5000) } else { PATIENCE };
        let inv = self.now();
        let reply = tokio::time::timeout(patience, request.attempt()).await;
        let span = Span { inv, ret: self.now() };
        let end = match reply {
            Ok(Ok(reply)) => ended(&reply),
            Ok(Err(error)) => End::Unknown(error),
            Err(_) if leaves => End::Unknown(super::checker::LEFT.to_owned()),
            Err(_) => End::Unknown(format!("no answer within {PATIENCE:?}")),
        };
        if end == End::Acknowledged {
            self.latest.store(key as u64, Ordering::SeqCst);
        }
        Write { id, replica, key, span, end }
    }

    pub fn purger(self: &Arc<Self>) -> JoinHandle<History> {
        let world = self.clone();
        tokio::spawn(async move {
            let mut dice = Dice::new(world.seed, 3000);
            let mut history = History::default();
            while !world.writing_over.load(Ordering::SeqCst) {
                tokio::time::sleep(dice.millis(50, 400)).await;
                history.purges.push(world.purge(&mut dice).await);
            }
            history
        })
    }

    async fn purge(&self, dice: &mut Dice) -> Purge {
        let (replica, named) = (dice.below(REPLICAS), dice.below(KEYS));
        let (key, request) = match dice.below(8) {
            0 => (None, self.request(replica, "PURGE", "/*")),
            n if n < 5 && named < PUBLIC => {
                (Some(named), self.request(replica, "PURGE", &format!("/k/{named}")))
            }
            _ => (
                Some(named),
                self.request(replica, "PURGE", "/any").header("surrogate-key", &format!("key:{named}")),
            ),
        };
        let inv = self.now();
        let reply = tokio::time::timeout(PATIENCE, request.attempt()).await;
        let acknowledged = matches!(&reply, Ok(Ok(reply)) if reply.status == 200);
        Purge { key, span: Span { inv, ret: self.now() }, acknowledged }
    }
}

fn seen(reply: &Reply) -> Seen {
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

fn ended(reply: &Reply) -> End {
    match reply.status {
        200 if reply.header("larder-position").is_some() => End::Acknowledged,
        200 => End::NotRecorded,
        503 if reply.header("retry-after").is_some() => End::Refused,
        status => End::Unknown(format!("{status} {}", String::from_utf8_lossy(&reply.body))),
    }
}

fn configuration(setting: &Setting, origin: &Origin, redis: &Redis, ports: [u16; 2]) -> String {
    let Setting { store, purges, guarded, .. } = setting;
    format!(
        "listen: 127.0.0.1:{}\nadmin: {{listen: \"127.0.0.1:{}\"}}\nlog: {{level: info}}\n\
         upstream: {{url: \"http://{}\", response_timeout: 2s}}\n\
         store: {{redis: \"{}\", {store}}}\n\
         defaults: {{guard: {guarded}}}\n\
         routes:\n\
         - {{path: \"/k/{{id}}\", ttl: 1h, tags: [\"key:{{id}}\"]}}\n\
         - {{path: \"/me/{{id}}\", ttl: 1h, per: authorization, tags: [\"key:{{id}}\"]}}\n\
         - {{path: \"/edit/{{id}}\", purges: [{purges}]}}\n",
        ports[0],
        ports[1],
        origin.address,
        redis.url(),
    )
}

async fn launch(config: &str, ports: [u16; 2]) -> Process {
    let scratch = Scratch::new();
    let path = scratch.file("proxy.yaml", config);
    let command = Command::new(&["--config", path.to_str().expect("a path")]);
    Process::spawn(command, scratch, ports[0], ports[1]).await
}
