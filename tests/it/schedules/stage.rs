//! Where a schedule is played: up to three larders in front of an upstream that answers when it is told, each step an
//! event that has provably happened before the next begins. `/a` is what is read; a write to `/w` changes it.

use tokio::task::JoinHandle;

use crate::support::{
    Answer, Held, Larder, Line, Received, Redis, Relay, Replica, Reply, Request, Upstream, eventually,
};

/// Replicas. Where there is one only, all of them are that one.
pub const A: usize = 0;
pub const B: usize = 1;
pub const C: usize = 2;

const ROUTES: &str = "
routes:
  - {path: /a, ttl: 1h, tags: [a]}
  - {path: /w, purges: [a]}
  - {path: /elsewhere, ttl: 1h}
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `max_lag: 0s`, and writes put no mark.
    Strict,
    Guarded,
    /// Reads begin when each view has been confirmed since the purge.
    Bounded,
    /// One larder without Redis.
    Embedded,
}

pub const ALL: [Mode; 4] = [Mode::Strict, Mode::Guarded, Mode::Bounded, Mode::Embedded];
pub const SHARED: [Mode; 3] = [Mode::Strict, Mode::Guarded, Mode::Bounded];

pub struct Stage {
    pub mode: Mode,
    pub upstream: Upstream,
    redis: Option<Redis>,
    /// The connection between replica A and Redis.
    line: Option<Relay>,
    replicas: Vec<Replica>,
}

/// A fetch that the upstream has read its data for, and not answered.
pub struct Fill {
    replica: usize,
    held: Held,
    reply: JoinHandle<Reply>,
    fills_before: f64,
}

/// A write that the upstream has, and has not answered.
pub struct Write {
    held: Held,
    pub reply: JoinHandle<Reply>,
}

/// A response on its way to Redis.
pub struct Sent {
    replica: usize,
    fills_before: f64,
}

impl Write {
    pub async fn acknowledged(self) {
        self.held.release();
        let reply = self.reply.await.expect("a reply").assert_status(200);
        assert!(reply.header("larder-position").is_some(), "not acknowledged: {reply}");
    }
}

impl Stage {
    pub async fn start(mode: Mode) -> Self {
        let upstream = Upstream::start();
        // Nothing here is about a deadline, and a busy machine keeps this one.
        let (store, guard) = match mode {
            Mode::Strict => ("max_lag: 0s, timeout: 10s", false),
            Mode::Guarded => ("max_lag: 0s, timeout: 10s", true),
            Mode::Bounded => ("max_lag: 10m, timeout: 10s", false),
            Mode::Embedded => ("", false),
        };
        let routes = format!("defaults: {{guard: {guard}}}\n{ROUTES}");
        let stage = if mode == Mode::Embedded {
            let only = Replica::new(Larder::with(&routes, &upstream));
            Self { mode, upstream, redis: None, line: None, replicas: vec![only] }
        } else {
            let redis = Redis::start().await;
            let line = Relay::to(redis.address()).await;
            let first = Replica::start_alone(&line.url(), &upstream, store, &routes);
            first.is_connected().await;
            let others = [
                Replica::start(&redis, &upstream, store, &routes).await,
                Replica::start(&redis, &upstream, store, &routes).await,
            ];
            let replicas = std::iter::once(first).chain(others).collect();
            Self { mode, upstream, redis: Some(redis), line: Some(line), replicas }
        };
        stage.has("old");
        stage
    }

    pub fn replica(&self, number: usize) -> &Replica {
        &self.replicas[number % self.replicas.len()]
    }

    pub fn redis(&self) -> &Redis {
        self.redis.as_ref().expect("a mode with Redis")
    }

    /// The upstream has this from now on: what it was asked for before is settled.
    pub fn has(&self, version: &'static str) {
        self.upstream.on("/a", move |request: &Received| {
            let etag = format!("\"{version}\"");
            let answer = match request.header("if-none-match") {
                Some(known) if known == etag => Answer::status(304),
                _ => Answer::ok(version),
            };
            answer
                .header("etag", &etag)
                .header("surrogate-key", "from-field")
                .header("vary", "accept-language")
        });
    }

    /// F1, by a GET.
    pub async fn fill_reads(&self, replica: usize) -> Fill {
        self.fill_reads_for(replica, self.replica(replica).get("/a")).await
    }

    pub async fn fill_reads_for(&self, replica: usize, request: Request) -> Fill {
        let fills_before = self.fills(replica).await;
        let held = self.upstream.hold("/a");
        let reply = request.spawn();
        held.arrived().await;
        Fill { replica, held, reply, fills_before }
    }

    /// F2: the answer comes, and whatever is stored of it is stored everywhere when this returns.
    pub async fn fill_stores(&self, fill: Fill) -> Reply {
        fill.held.release();
        let reply = fill.reply.await.expect("a reply").assert_status(200);
        eventually("the fill is stored", || async {
            (self.fills(fill.replica).await > fill.fills_before).then_some(())
        })
        .await;
        reply
    }

    /// F2, where nothing may be stored of it.
    pub async fn fill_answers(&self, fill: Fill) {
        fill.held.release();
        fill.reply.await.expect("a reply");
    }

    /// F2 as far as A can come: Redis is sent the response, and does not get it before [`Stage::fill_arrives`].
    pub async fn fill_is_sent(&self, fill: Fill) -> Sent {
        self.line(Line::Dead);
        let sent = self.fill_is_answered(fill).await;
        self.line_holds("larder:r5:").await;
        sent
    }

    /// The answer comes; its client has it when this returns.
    pub async fn fill_is_answered(&self, fill: Fill) -> Sent {
        fill.held.release();
        fill.reply.await.expect("a reply").assert_status(200);
        Sent { replica: fill.replica, fills_before: fill.fills_before }
    }

    pub fn line(&self, line: Line) {
        self.line.as_ref().expect("a mode with Redis").set(line);
    }

    /// Waits until A has sent this on the line that is dead.
    pub async fn line_holds(&self, text: &str) {
        let line = self.line.as_ref().expect("a mode with Redis");
        eventually("it is on its way", || async { line.holds(text).then_some(()) }).await;
    }

    pub async fn fill_arrives(&self, sent: Sent) {
        self.line.as_ref().expect("a mode with Redis").set(Line::Whole);
        eventually("the fill is stored", || async {
            (self.fills(sent.replica).await > sent.fills_before).then_some(())
        })
        .await;
    }

    async fn fills(&self, replica: usize) -> f64 {
        self.replica(replica).metric("larder_fills_total{route=\"/a\"}").await
    }

    /// W1.
    pub async fn write_is_forwarded(&self, replica: usize) -> Write {
        let held = self.upstream.hold("/w");
        let reply = self.replica(replica).request("POST", "/w").spawn();
        held.arrived().await;
        Write { held, reply }
    }

    /// W3: the upstream answers, and so does larder.
    pub async fn write_is_answered(&self, write: Write) {
        write.acknowledged().await;
        self.is_known_to_all().await;
    }

    /// The upstream answers, and nobody is there to hear it.
    pub async fn write_is_answered_to_nobody(&self, replica: usize, write: Write) {
        write.held.release();
        let purges = "larder_purges_total{source=\"write\"}";
        self.replica(replica).metric_becomes(purges, 1.0).await;
        self.is_known_to_all().await;
    }

    /// W1, W2, W3.
    pub async fn writes(&self, replica: usize, version: &'static str) {
        let write = self.write_is_forwarded(replica).await;
        self.has(version);
        self.write_is_answered(write).await;
    }

    pub async fn purges_tag(&self, replica: usize, tag: &str) {
        let reply = self.replica(replica).request("PURGE", "/any").header("cache-tag", tag).await;
        reply.assert_status(200);
        self.is_known_to_all().await;
    }

    /// In bounded mode a purge is promised once each view was confirmed after it.
    pub async fn is_known_to_all(&self) {
        if self.mode == Mode::Bounded {
            let purge = self.replica(C).request("PURGE", "/nothing").await.assert_status(200);
            let position = purge.header("larder-position").expect("a position");
            for replica in &self.replicas {
                // A request with a position is answered by a view that was synced since.
                replica.get("/elsewhere").header("larder-position", &position).await.assert_status(200);
            }
        }
    }

    /// R: each replica, this one first, answers with this; and then goes on to store it.
    pub async fn everybody_reads(&self, first: usize, version: &str) {
        self.everybody_reads_by(first, version, |request| request).await;
    }

    pub async fn everybody_reads_by(&self, first: usize, version: &str, how: impl Fn(Request) -> Request) {
        let count = self.replicas.len();
        for number in (0..count).map(|n| (first + n) % count) {
            let reply = how(self.replica(number).get("/a")).await;
            assert_eq!(reply.text(), version, "{:?}, replica {number}: {reply}", self.mode);
        }
        for number in 0..count {
            let has = || async { Some(how(self.replica(number).get("/a")).await).filter(Reply::is_hit) };
            assert_eq!(eventually("it is a hit", has).await.text(), version, "{:?}", self.mode);
        }
    }

    /// Every replica has it in its first tier.
    pub async fn everybody_has(&self, version: &str) {
        for replica in &self.replicas {
            replica.has("/a").await.assert_text(version);
        }
    }
}
