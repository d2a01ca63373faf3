//! Several larders in front of one upstream that share one Redis, asked for the same host.

use std::time::{Duration, Instant};

use ::larder::clock::Clock;

use super::client::Request;
use super::larder::complete;
use super::{Larder, Redis, Upstream, eventually};

/// Clients reach every replica under one name, or they would not ask for the same.
pub const HOST: &str = "shop.test";

/// Items by number, which can be sold; unguarded writes are forwarded while Redis is down.
pub const ITEMS: &str = "
defaults: {guard: false}
routes:
  - path: /items/{id}
    ttl: 1h
    tags: [items, \"item:{id}\"]
  - path: /items/{item}/sell
    purges: [\"item:{item}\"]
";

/// Some times the deadline of a store, and far below what any network's own timeout is.
pub const LONGEST: Duration = Duration::from_secs(5);

/// A request, and that it did not wait for longer than a deadline or two.
pub async fn timed(request: Request) -> super::Reply {
    let began = Instant::now();
    let reply = request.await;
    assert!(began.elapsed() < LONGEST, "it took {:?}", began.elapsed());
    reply
}

pub struct Replica(Larder);

impl Replica {
    /// A Redis, and two that share it.
    pub async fn two(store: &str, rest: &str) -> (Redis, Upstream, [Self; 2]) {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let one = Self::start(&redis, &upstream, store, rest).await;
        let other = Self::start(&redis, &upstream, store, rest).await;
        (redis, upstream, [one, other])
    }

    /// Starts one, and waits until it has confirmed its view of purges. `store` is what `store` says besides `redis`:
    /// `max_lag: 0s`; `rest` are the routes.
    pub async fn start(redis: &Redis, upstream: &Upstream, store: &str, rest: &str) -> Self {
        let replica = Self::start_alone(&redis.url(), upstream, store, rest);
        replica.is_connected().await;
        replica
    }

    /// Starts one, whether there is a Redis or not. Where `store` has no time-out, it is one that a busy machine keeps.
    pub fn start_alone(redis: &str, upstream: &Upstream, store: &str, rest: &str) -> Self {
        let timeout = if store.contains("timeout:") { "" } else { ", timeout: 500ms" };
        let comma = if store.is_empty() { "" } else { ", " };
        let store = format!("redis: \"{redis}\"{timeout}{comma}{store}");
        Self::with(&format!("store: {{{store}}}\n{rest}"), upstream, Clock::system())
    }

    pub fn new(larder: Larder) -> Self {
        Self(larder)
    }

    /// Redis keeps its own time, so a clock that stands still beside it is only for tests of that.
    pub fn with(yaml: &str, upstream: &Upstream, clock: Clock) -> Self {
        Self(Larder::with_clock(clock, &complete(yaml), &[("UPSTREAM", &upstream.url())]))
    }

    pub fn get(&self, target: &str) -> Request {
        self.request("GET", target)
    }

    pub fn request(&self, method: &str, target: &str) -> Request {
        self.0.request(method, target).header("host", HOST)
    }

    pub async fn purge_tag(&self, tag: &str) {
        self.request("PURGE", "/any").header("cache-tag", tag).await.assert_status(200);
    }

    /// Asks until the answer is this one.
    pub async fn answers(&self, target: &str, text: &str) {
        eventually(text, || async { (self.get(target).await.text() == text).then_some(()) }).await;
    }

    /// Waits until it hears the wake-ups of other replicas.
    pub async fn listens(&self, redis: &Redis) {
        let channels = || redis.command(&["PUBSUB", "NUMSUB", "larder:wake"]);
        eventually("both replicas listen", || async { (channels().await == "larder:wake\n2").then_some(()) })
            .await;
    }

    /// Ends it, and waits until it has ended.
    pub async fn ends(mut self) {
        self.0.shut_down();
        self.0.stopped().await.expect("a clean end");
    }

    pub async fn is_connected(&self) {
        self.0.metric_becomes("larder_redis_up", 1.0).await;
    }

    pub async fn is_cut_off(&self) {
        self.0.metric_becomes("larder_redis_up", 0.0).await;
    }

    /// Asks until it is a hit.
    pub async fn has(&self, target: &str) -> super::Reply {
        eventually("it is a hit", || async { Some(self.get(target).await).filter(super::Reply::is_hit) })
            .await
    }
}

impl std::ops::Deref for Replica {
    type Target = Larder;

    fn deref(&self) -> &Larder {
        &self.0
    }
}

impl std::ops::DerefMut for Replica {
    fn deref_mut(&mut self) -> &mut Larder {
        &mut self.0
    }
}

impl Redis {
    /// Waits until so many responses are in it.
    pub async fn holds(&self, responses: usize) {
        eventually("the responses are in Redis", || async {
            (self.responses().await.len() == responses).then_some(())
        })
        .await;
    }

    /// Waits until a response with this text is in it.
    pub async fn has_text(&self, text: &str) {
        eventually("the text is in Redis", || async {
            // Found there, for the value is no text.
            let find = "return string.find(redis.call('GET', KEYS[1]) or '', ARGV[1], 1, true) and 1 or 0";
            for key in self.responses().await {
                if self.command(&["EVAL", find, "1", &key, text]).await.contains('1') {
                    return Some(());
                }
            }
            None
        })
        .await;
    }

    /// Forgets the responses, and not what was purged.
    pub async fn flush_responses(&self) {
        for key in self.responses().await {
            self.command(&["DEL", &key]).await;
        }
    }

    /// The keys of the responses in it.
    pub async fn responses(&self) -> Vec<String> {
        let keys = self.command(&["KEYS", "larder:r5:*"]).await;
        keys.lines().filter(|key| !key.is_empty()).map(str::to_owned).collect()
    }
}
