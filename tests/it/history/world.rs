//! Replicas, each with a line of its own to Redis, a Redis that another can take the place of, and the upstream.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::origin::Origin;
use super::record::{Fault, Harm, Span};
use crate::support::{Command, Line, Process, Redis, Relay, Scratch, eventually, free_port};

pub const REPLICAS: usize = 3;

/// Settings of the replicas besides addresses.
#[derive(Clone)]
pub struct Setting {
    pub store: &'static str,
    /// Targets of a write on `/edit/{id}`.
    pub purges: &'static str,
    pub guarded: bool,
    /// Writes go to `/edit/{id}` only.
    pub edits_only: bool,
    /// Another larder than the one that is tested.
    pub program: Option<PathBuf>,
    /// The former release. Replicas switch between it and this one each time they start, as in a rolling update, and the
    /// odd ones begin with it.
    pub former: Option<PathBuf>,
}

pub struct World {
    pub seed: u64,
    pub origin: Arc<Origin>,
    pub redis: tokio::sync::Mutex<Pair>,
    pub setting: Setting,
    pub writes: AtomicU64,
    /// The key that was acknowledged last: the next reads are aimed at it.
    pub latest: AtomicU64,
    replicas: Vec<Site>,
    over: AtomicBool,
    /// Nothing is recorded any more.
    closed: AtomicBool,
    writing_over: AtomicBool,
    faults: Mutex<Vec<Fault>>,
}

/// The Redis in use, and the one that can take its place.
pub struct Pair {
    pub primary: Redis,
    standby: Redis,
}

struct Site {
    line: Relay,
    ports: [u16; 2],
    config: String,
    scratch: Scratch,
    process: tokio::sync::Mutex<Process>,
    /// Even: the next process is of this release; odd: of the former one, if the setting has it.
    starts: AtomicUsize,
}

impl World {
    pub async fn start(seed: u64, setting: Setting) -> Arc<Self> {
        let began = Instant::now();
        let origin = Origin::start(seed, began).await;
        let pair = Pair { primary: Redis::start().await, standby: Redis::start().await };
        let mut replicas = Vec::new();
        for number in 0..REPLICAS {
            let ports = [free_port(), free_port()];
            let line = Relay::to(pair.primary.address()).await;
            let config = configuration(seed, &setting, &origin, &line, ports);
            let scratch = Scratch::new();
            let process = tokio::sync::Mutex::new(launch(&setting, number, &scratch, &config, ports).await);
            replicas.push(Site {
                line,
                ports,
                config,
                scratch,
                process,
                starts: AtomicUsize::new(number + 1),
            });
        }
        Arc::new(Self {
            seed,
            origin,
            redis: tokio::sync::Mutex::new(pair),
            setting,
            writes: AtomicU64::new(0),
            latest: AtomicU64::new(0),
            replicas,
            over: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            writing_over: AtomicBool::new(false),
            faults: Mutex::default(),
        })
    }

    pub fn now(&self) -> u64 {
        self.origin.now()
    }

    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.replicas.iter().map(|site| ([127, 0, 0, 1], site.ports[0]).into())
    }

    pub fn stop_writing(&self) {
        self.writing_over.store(true, Ordering::SeqCst);
    }

    pub fn stop(&self) {
        self.stop_writing();
        self.over.store(true, Ordering::SeqCst);
    }

    pub fn close(&self) {
        self.stop();
        self.closed.store(true, Ordering::SeqCst);
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub fn is_writing_over(&self) -> bool {
        self.writing_over.load(Ordering::SeqCst)
    }

    /// Notes a fault that is over. `away`: while nothing of a replica's, or of any, could reach Redis.
    pub fn fault(&self, what: String, harms: Harm, inv: u64, away: Option<(Option<usize>, Span)>) {
        let span = Span { inv, ret: self.now() };
        self.faults.lock().unwrap().push(Fault { what, span, harms, away });
    }

    pub fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap().clone()
    }

    pub fn line(&self, replica: usize) -> &Relay {
        &self.replicas[replica].line
    }

    pub fn every_line(&self, line: Line) {
        self.replicas.iter().for_each(|site| site.line.set(line));
    }

    pub async fn freeze(&self, replica: usize, how_long: Duration) {
        let process = self.replicas[replica].process.lock().await;
        process.signal("STOP");
        tokio::time::sleep(how_long).await;
        process.signal("CONT");
    }

    /// Ends it by a signal, and starts another one on the same ports.
    pub async fn end(&self, replica: usize, signal: &str, away: Duration) {
        let site = &self.replicas[replica];
        let mut process = site.process.lock().await;
        process.signal(signal);
        process.ended().await;
        tokio::time::sleep(away).await;
        let start = site.starts.fetch_add(1, Ordering::SeqCst);
        *process = launch(&self.setting, start, &site.scratch, &site.config, site.ports).await;
    }

    /// Gives it a configuration with another lifetime.
    pub async fn reload(&self, replica: usize, hours: usize) {
        let site = &self.replicas[replica];
        let process = site.process.lock().await;
        site.scratch.file("proxy.yaml", &site.config.replace("ttl: 1h", &format!("ttl: {hours}h")));
        process.signal("HUP");
    }

    /// The standby has what the primary had at some moment; the primary goes on for a while, and dies; the standby is
    /// the primary now. Since when, and until when, nothing could reach either.
    pub async fn fail_over(&self, lost: Duration) -> Span {
        let mut pair = self.redis.lock().await;
        let port = pair.primary.address().port().to_string();
        let standby = &pair.standby;
        standby.command(&["REPLICAOF", "127.0.0.1", &port]).await;
        eventually("the standby is in step", || async {
            let state = standby.command(&["INFO", "replication"]).await;
            state.contains("master_link_status:up").then_some(())
        })
        .await;
        standby.command(&["REPLICAOF", "NO", "ONE"]).await;
        tokio::time::sleep(lost).await;
        pair.primary.kill();
        let inv = self.now();
        let Pair { primary, standby } = &mut *pair;
        std::mem::swap(primary, standby);
        let ret = self.now();
        self.replicas.iter().for_each(|site| site.line.lead_to(primary.address()));
        standby.forget().await;
        Span { inv, ret }
    }

    pub async fn logs(&self) -> String {
        let mut logs = String::new();
        for (number, site) in self.replicas.iter().enumerate() {
            let log = site.process.lock().await.log();
            logs += &format!("--- replica {number}\n{log}");
        }
        logs
    }
}

fn configuration(seed: u64, setting: &Setting, origin: &Origin, line: &Relay, ports: [u16; 2]) -> String {
    let Setting { store, purges, guarded, .. } = setting;
    // The default, and one that is not one more fault on a busy machine.
    let timeout = if seed.is_multiple_of(2) { "50ms" } else { "250ms" };
    format!(
        "listen: 127.0.0.1:{}\nadmin: {{listen: \"127.0.0.1:{}\"}}\nlog: {{level: info}}\n\
         upstream: {{url: \"http://{}\", connect_timeout: 1s, response_timeout: 2s}}\n\
         store: {{redis: \"{}\", {store}, timeout: {timeout}}}\n\
         limits: {{drain: 1s}}\n\
         defaults: {{guard: {guarded}}}\n\
         routes:\n\
         - {{path: \"/k/{{id}}\", ttl: 1h, tags: [\"key:{{id}}\"]}}\n\
         - {{path: \"/me/{{id}}\", ttl: 1h, per: authorization, tags: [\"key:{{id}}\"]}}\n\
         - {{path: \"/edit/{{id}}\", purges: [{purges}]}}\n",
        ports[0],
        ports[1],
        origin.address,
        line.url(),
    )
}

async fn launch(
    setting: &Setting,
    start: usize,
    scratch: &Scratch,
    config: &str,
    ports: [u16; 2],
) -> Process {
    let former = setting.former.as_ref().filter(|_| start % 2 == 1);
    // The former release treats compressed values as misses.
    let config = match (&setting.former, former) {
        (Some(_), None) => config.replacen("store: {", "store: {compress: {min_size: 1}, ", 1),
        _ => config.to_owned(),
    };
    let path = scratch.file("proxy.yaml", &config);
    let arguments = ["--config", path.to_str().expect("a path")];
    let command = match former.or(setting.program.as_ref()) {
        Some(program) => Command::with_program(program, &arguments),
        None => Command::new(&arguments),
    };
    Process::spawn(command, Scratch::new(), ports[0], ports[1]).await
}
