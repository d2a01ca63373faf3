//! Plays one row: stores a response for the first caller, and asks for it as the second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use larder::clock::Clock;
use serde_json::json;

use super::caller::Caller;
use super::{Row, Way};
use crate::callers::SECRET;
use crate::support::{
    Answer, HOST, Larder, Received, Redis, Replica, Reply, Request, START, Upstream, eventually,
};

/// How callers are known, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    Tokens,
    /// By a service that is asked.
    Sessions,
    /// By tokens, at two replicas. The second caller asks the other one.
    Replicas,
    /// The same, and what is in Redis is encrypted or signed.
    Sealed,
}

impl World {
    pub fn is_replicated(self) -> bool {
        matches!(self, World::Replicas | World::Sealed)
    }
}

/// A refused refresh that ends no stale window is followed by others, after a back-off of its own clock.
const MAX_REFUSED_REFRESHES: usize = 3;

/// Until Redis has the end of a stale window, more refreshes begin at once, so that they are no sign.
const MAX_WAIT_FOR_REDIS: Duration = Duration::from_secs(20);

/// Responses of these routes are purged by their caller's logout.
pub fn has_caller_tag(kind: &str) -> bool {
    matches!(kind, "mine" | "cohort" | "token" | "named" | "cookie" | "header")
}

/// The stale window of responses that are not `shared` ends when the API refuses their refresh.
pub fn is_ended_by_refusal(kind: &str) -> bool {
    has_caller_tag(kind) || matches!(kind, "field" | "plain")
}

/// Where callers of a route have their token.
#[derive(Clone, Copy)]
enum Carrier {
    Authorization,
    Cookie,
    Header,
}

impl Carrier {
    fn find(kind: &str) -> Self {
        match kind {
            "cookie" => Carrier::Cookie,
            "header" => Carrier::Header,
            _ => Carrier::Authorization,
        }
    }

    /// The field that carries a credential.
    fn field(self, credential: &str) -> (&'static str, String) {
        let token = credential.strip_prefix("Bearer ").unwrap_or(credential);
        match self {
            Carrier::Authorization => ("authorization", credential.to_owned()),
            Carrier::Cookie => ("cookie", format!("token={token}")),
            Carrier::Header => ("x-caller-token", token.to_owned()),
        }
    }

    /// The path of the logout for such callers, or of what the API refuses them.
    fn path(self, name: &str) -> String {
        match self {
            Carrier::Authorization => format!("/{name}"),
            Carrier::Cookie => format!("/{name}/cookie"),
            Carrier::Header => format!("/{name}/header"),
        }
    }
}

fn routes(world: World) -> String {
    let by_claims = match world {
        World::Sessions => "",
        World::Tokens | World::Replicas | World::Sealed => {
            "
  - {path: '/open/{x}', shared: true}
  - {path: '/plain/{x}'}
  - {path: '/field/{x}', per: authorization}
  - {path: '/cookie/{x}', callers: by-cookie, per: jwt.sub, tags: ['by:{caller}']}
  - {path: '/header/{x}', callers: by-header, per: jwt.sub, tags: ['by:{caller}']}
  - {path: /logout/cookie, callers: by-cookie, purges: ['by:{caller}']}
  - {path: /logout/header, callers: by-header, purges: ['by:{caller}']}
  - {path: /refused/cookie, callers: by-cookie}
  - {path: /refused/header, callers: by-header}
  - {path: '/mine/{x}', callers: app, per: jwt.sub, tags: ['by:{caller}']}
  - {path: '/cohort/{x}', callers: app, per: [jwt.tenant, jwt.role], anonymous: share, tags: ['by:{caller}']}"
        }
    };
    // Elsewhere `store.encrypt` is not set, and the key would be an error.
    let signed = if world == World::Sealed { ", encrypt: false" } else { "" };
    format!(
        "
  - {{path: '/members/{{x}}', callers: app, shared: true{signed}}}
  - {{path: '/both/{{x}}', callers: app, shared: signed-in, anonymous: share}}
  - {{path: '/token/{{x}}', callers: app, per: authorization, tags: ['by:{{caller}}']}}
  - {{path: '/named/{{x}}', callers: app, per: identity, tags: ['by:{{caller}}']}}
  - {{path: /logout, callers: app, purges: ['by:{{caller}}']}}{by_claims}"
    )
}

/// The service that knows sessions.
#[derive(Clone, Default)]
struct Sessions {
    by_credential: Arc<Mutex<HashMap<String, (&'static str, u64)>>>,
    now: Arc<AtomicU64>,
    fails: Arc<AtomicBool>,
}

impl Sessions {
    fn answer(&self, request: &Received) -> Answer {
        let credential = request.header("authorization").unwrap_or_default();
        match self.by_credential.lock().unwrap().get(&credential) {
            _ if self.fails.load(Ordering::Relaxed) => Answer::status(503),
            Some((user, end)) if self.now.load(Ordering::Relaxed) < *end => {
                Answer::status(204).header("x-user", user)
            }
            _ => Answer::status(401),
        }
    }

    fn learn(&self, caller: Caller, credential: Option<&str>) {
        if let (Some((user, seconds)), Some(credential)) = (caller.session(), credential) {
            let end = self.now.load(Ordering::Relaxed) + seconds;
            self.by_credential.lock().unwrap().entry(credential.to_owned()).or_insert((user, end));
        }
    }

    fn forget(&self, credential: Option<&str>) {
        self.by_credential.lock().unwrap().remove(credential.unwrap_or_default());
    }
}

pub struct Stage {
    pub world: World,
    upstream: Upstream,
    sessions: Sessions,
    /// Those whom the first and the second caller ask.
    larders: [Option<Replica>; 2],
    now: u64,
    _redis: Option<Redis>,
}

/// Answers each caller with its own name, and refuses nobody: what larder lets through is seen.
fn answer(request: &Received) -> Answer {
    let who = request.header("x-test").unwrap_or_default();
    let answer = Answer::ok(format!("for <{who}>")).header("etag", "\"1\"").header("vary", "accept-language");
    match request.header("if-none-match") {
        Some(_) if request.target.contains("validated") => Answer::status(304).header("etag", "\"1\""),
        _ => answer,
    }
}

/// The same, as old as it is when the second caller asks: the clock of Redis can't be set.
fn answer_aged(request: &Received, age: u64) -> Answer {
    answer(request).header("cache-control", "max-age=60").header("age", &age.to_string())
}

fn answer_forbidden(request: &Received) -> Answer {
    Answer::status(403).body(format!("for <{}>", request.header("x-test").unwrap_or_default()))
}

/// How old the response is when the second caller asks.
fn age(way: Way) -> u64 {
    match way {
        Way::Stale | Way::Refreshed | Way::Withdrawn => 70,
        Way::Failing => 130,
        Way::Validated => 190,
        _ => 10,
    }
}

/// A request of a caller with its credential, which is where the kind of route has it.
fn request(
    larder: &Larder,
    (method, path): (&str, &str),
    caller: Caller,
    (kind, credential): (&str, Option<&str>),
) -> Request {
    let request = larder.request(method, path).header("host", HOST).header("x-test", &format!("{caller:?}"));
    match credential.map(|credential| Carrier::find(kind).field(credential)) {
        Some((name, value)) => request.header(name, &value),
        None => request,
    }
}

impl Stage {
    pub async fn start(world: World) -> Self {
        let (upstream, sessions) = (Upstream::start(), Sessions::default());
        let now = match world {
            World::Replicas | World::Sealed => Clock::system().now().as_secs(),
            World::Tokens | World::Sessions => START.as_secs(),
        };
        sessions.now.store(now, Ordering::Relaxed);
        let own = Caller::Larder.credential(now);
        sessions.learn(Caller::Larder, own.as_deref());
        let service = sessions.clone();
        upstream.on("/check", move |request: &Received| service.answer(request));
        for carrier in [Carrier::Authorization, Carrier::Cookie, Carrier::Header] {
            upstream.on(&carrier.path("logout"), Answer::status(204));
            upstream.on(&carrier.path("refused"), Answer::status(401));
        }
        let callers = match world {
            World::Sessions => {
                "app: {ask: {url: '${UPSTREAM}/check', forward: [authorization], every: 10s, identity: [header.X-User]}}"
                    .to_owned()
            }
            World::Tokens | World::Replicas | World::Sealed => format!(
                "app: {{jwt: {{secret: '{SECRET}'}}}}, \
                 by-cookie: {{jwt: {{secret: '{SECRET}', from: cookie.token}}}}, \
                 by-header: {{jwt: {{secret: '{SECRET}', from: header.X-Caller-Token}}}}"
            ),
        };
        let yaml = format!(
            "callers: {{{callers}}}\n\
             background: {{host: {HOST}, rate: 10000, headers: {{authorization: '{}', x-test: Larder}}}}\n\
             defaults: {{ttl: 60s, stale_while_revalidate: 60s, stale_if_error: 120s, collapse: replicas}}\n\
             routes:{}",
            own.unwrap_or_default(),
            routes(world)
        );
        let mut stage = Self { world, upstream, sessions, larders: [None, None], now, _redis: None };
        if world.is_replicated() {
            let redis = Redis::start().await;
            for larder in &mut stage.larders {
                // Each hit comes out of Redis, and knows each purge.
                let store = match world {
                    World::Sealed => {
                        format!("memory: 0, max_lag: 0s, encrypt: {{keys: [{{id: a, secret: {SECRET:?}}}]}}")
                    }
                    _ => "memory: 0, max_lag: 0s".to_owned(),
                };
                *larder = Some(Replica::start(&redis, &stage.upstream, &store, &yaml).await);
            }
            stage._redis = Some(redis);
        } else {
            let yaml = yaml.replace(", collapse: replicas", "");
            stage.larders[0] = Some(Replica::new(Larder::with(&yaml, &stage.upstream)));
        }
        stage
    }

    /// The larder that the first caller asks.
    fn one(&self) -> &Larder {
        self.larders[0].as_deref().expect("a larder")
    }

    /// The larder that the second caller asks.
    fn other(&self) -> &Larder {
        self.larders[1].as_deref().unwrap_or(self.one())
    }

    fn after(&mut self, seconds: u64) {
        if !self.world.is_replicated() {
            self.one().after(seconds);
            self.now += seconds;
            self.sessions.now.store(self.now, Ordering::Relaxed);
        }
    }

    /// Plays a row; whether the second caller had a hit.
    pub async fn play(&mut self, row: &Row, number: usize) -> bool {
        let Row { kind, first, second, way, .. } = *row;
        let path = format!("/{kind}/{}{number}", if way == Way::Validated { "validated" } else { "x" });
        match (self.world, way) {
            (_, Way::Forbidden) => self.upstream.on(&path, answer_forbidden),
            (World::Replicas | World::Sealed, _) => {
                self.upstream.on(&path, move |request: &Received| answer_aged(request, age(way)))
            }
            _ => self.upstream.on(&path, answer),
        };
        let (one, other) = (first.credential(self.now), second.credential(self.now));
        for (caller, credential) in [(first, &one), (second, &other)] {
            self.sessions.learn(caller, credential.as_deref());
        }
        let (one, other) = (one.as_deref(), other.as_deref());
        if second == Caller::Revoked {
            let path = Carrier::find(kind).path("refused");
            request(self.other(), ("GET", &path), second, (kind, other)).await.assert_status(401);
        }
        if way == Way::Collapsed {
            return self.play_collapsed(row, &path, (one, other)).await;
        }
        self.store(row, &path, one).await;
        self.prepare(row, &path, one).await;
        let method = if way == Way::Head { "HEAD" } else { "GET" };
        let asked = request(self.other(), (method, &path), second, (kind, other));
        let reply = match way {
            Way::Range => asked.header("range", "bytes=0-8").await,
            Way::Conditional => asked.header("if-none-match", "\"1\"").await,
            Way::Variant => asked.header("accept-language", "de").await,
            _ => asked.await,
        };
        self.sessions.fails.store(false, Ordering::Relaxed);
        check(row, &reply);
        if way == Way::Forbidden {
            assert!(reply.status == 200 && reply.text() == format!("for <{second:?}>"), "{row:?}");
        }
        let is_hit = is_answered_from_store(&reply);
        if way == Way::Refreshed && is_hit {
            self.check_refreshed(row, &path, one).await;
        }
        is_hit
    }

    /// Stores the response of the first caller, if anything is stored for it.
    async fn store(&self, Row { kind, first, way, .. }: &Row, path: &str, credential: Option<&str>) {
        let ask = || request(self.one(), ("GET", path), *first, (kind, credential));
        let is_stored = *way != Way::Forbidden && first.may_have(*first, kind);
        if *way == Way::Warmed {
            let body = json!({"urls": [path]}).to_string();
            self.one().admin.request("POST", "/warm").body(body).await.assert_status(200);
        } else {
            assert_eq!(ask().await.text(), format!("for <{first:?}>"));
        }
        if self.world.is_replicated() && is_stored {
            let fields = credential.iter().map(|credential| Carrier::find(kind).field(credential));
            let headers: Vec<_> = fields.map(|(name, value)| format!("{name}: {value}")).collect();
            let question = json!({"url": format!("http://{HOST}{path}"), "headers": headers}).to_string();
            eventually("it is in Redis", || async {
                let told = self.one().admin.request("POST", "/explain").body(question.clone()).await.json();
                (told["now"]["stored"] == true).then_some(())
            })
            .await;
        }
    }

    /// Does what lies between the first request and the second.
    async fn prepare(&mut self, Row { kind, first, way, .. }: &Row, path: &str, credential: Option<&str>) {
        if *way == Way::LoggedOut {
            let path = Carrier::find(kind).path("logout");
            request(self.one(), ("POST", &path), *first, (kind, credential)).await.assert_status(204);
            self.sessions.forget(credential);
        }
        self.after(age(*way));
        match way {
            Way::Failing => self.upstream.on(path, Answer::status(503)),
            Way::Withdrawn => self.upstream.on(path, answer_forbidden),
            _ => self.upstream.on(path, answer),
        };
        if *way == Way::Withdrawn && first.may_have(*first, kind) {
            let reply = self.refuse_refresh(path, *first, (kind, credential)).await;
            assert_eq!(reply.text(), format!("for <{first:?}>"));
        }
        self.sessions.fails.store(*way == Way::Unanswered, Ordering::Relaxed);
    }

    /// Has the API refuse a refresh for the first caller, which ends the stale window or does not. Returns its next response.
    async fn refuse_refresh(
        &mut self,
        path: &str,
        caller: Caller,
        (kind, credential): (&str, Option<&str>),
    ) -> Reply {
        let ends = is_ended_by_refusal(kind);
        let (before, began, started) = (self.upstream.count(path), self.now, Instant::now());
        loop {
            let reply = request(self.one(), ("GET", path), caller, (kind, credential)).await;
            let refreshes = self.upstream.count(path) - before;
            if refreshes > 0 && reply.is_hit() != ends {
                return reply;
            }
            let goes_on = match self.world {
                World::Replicas | World::Sealed => started.elapsed() < MAX_WAIT_FOR_REDIS,
                World::Tokens | World::Sessions => refreshes < MAX_REFUSED_REFRESHES,
            };
            assert!(goes_on, "{path}, {caller:?}: still stale after {refreshes}: {reply}");
            if refreshes > 0 {
                self.after(1);
                assert!(
                    self.now - began < 40,
                    "{path}, {caller:?}: no refresh within the stale window: {reply}"
                );
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The second one's request has refreshed the response, with its own credential or with larder's: whoever gets the new
    /// one may have what was made for that.
    async fn check_refreshed(&self, row: &Row, path: &str, credential: Option<&str>) {
        let reply = eventually("it is refreshed", || async {
            let reply = request(self.one(), ("GET", path), row.first, (row.kind, credential)).await;
            (!reply.is_hit() || reply.remaining_ttl() > 0).then_some(reply)
        })
        .await;
        let allowed = [row.second, Caller::Larder, row.first]
            .into_iter()
            .filter(|made_for| row.first == *made_for || row.first.may_have(*made_for, row.kind));
        let texts: Vec<_> = allowed.map(|made_for| format!("for <{made_for:?}>")).collect();
        assert!(texts.iter().any(|text| text == reply.text()), "{row:?}: {reply}");
    }

    async fn play_collapsed(
        &self,
        row: &Row,
        path: &str,
        (one, other): (Option<&str>, Option<&str>),
    ) -> bool {
        let held = self.upstream.hold(path);
        let leader = request(self.one(), ("GET", path), row.first, (row.kind, one)).spawn();
        held.arrived().await;
        let follower = request(self.other(), ("GET", path), row.second, (row.kind, other)).spawn();
        if row.is_allowed() && !self.world.is_replicated() {
            self.one().metric_becomes("larder_followers", 1.0).await;
        }
        held.release();
        assert_eq!(leader.await.unwrap().text(), format!("for <{:?}>", row.first));
        let reply = follower.await.unwrap();
        check(row, &reply);
        // At another replica it may have come after the fetch, which is a hit.
        reply.text() == format!("for <{:?}>", row.first)
    }
}

fn is_answered_from_store(reply: &Reply) -> bool {
    reply.is_hit()
        || reply.cache_status("detail").as_deref() == Some("stale-if-error")
        || reply.cache_status("fwd-status").as_deref() == Some("304")
}

/// Checks that the second caller has an own response, unless it may have the first one's.
fn check(row: &Row, reply: &Reply) {
    if row.is_allowed() {
        return;
    }
    assert!(!is_answered_from_store(reply), "{row:?}: {reply}");
    let is_made_for_first = reply.text() == format!("for <{:?}>", row.first);
    assert!(row.first == row.second || !is_made_for_first, "{row:?}: {reply}");
}
