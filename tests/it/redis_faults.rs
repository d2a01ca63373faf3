//! The races of a slow miss across two processes, and what is left of the faults of Redis: dead between a fetch and its
//! store, a name that does not resolve, giants, and a script that fails half-way.

use crate::purge_races::ROUTES;
use crate::support::{
    Answer, Command, HOST, Process, Received, Redis, Replica, Reply, Request, Scratch, Upstream, eventually,
    free_port,
};

/// A busy machine keeps this deadline, and nothing here is about another.
const STRICT: &str = "max_lag: 0s, timeout: 5s";
const BOUNDED: &str = "max_lag: 60s, timeout: 5s";

/// Everything that can purge the slow miss of `/items/{n}`; `{n}` stands for the number.
#[derive(Clone, Copy, Debug)]
enum By {
    Purge(&'static str),
    PurgeTag(&'static str),
    Admin(&'static str),
    AdminDelete(&'static str),
    Write(&'static str, &'static str),
}

const ALL: [By; 17] = [
    By::PurgeTag("items"),
    By::PurgeTag("item:{n}"),
    By::PurgeTag("other, ITEM:{n}"),
    // Tags that only the response's own fields name: nobody knows them before its head is there.
    By::PurgeTag("from-field"),
    By::PurgeTag("kind:book"),
    By::AdminDelete("/cache/tags/from-field"),
    By::AdminDelete("/cache"),
    By::Admin(r#"{"tags": ["kind:book"]}"#),
    By::Admin(r#"{"urls": ["/items/{n}"]}"#),
    By::Admin(r#"{"prefixes": ["/items"]}"#),
    By::Admin(r#"{"everything": true}"#),
    By::Purge("/items/{n}"),
    By::Purge("/items/{n}?x=1"),
    By::Purge("/items/*"),
    By::Write("POST", "/items/{n}/sell"),
    By::Write("PUT", "/items/{n}"),
    // A write whose answer points at it.
    By::Write("POST", "/orders/{n}"),
];

/// Requests that purge something else.
const OTHERS: [By; 4] =
    [By::PurgeTag("item:0"), By::Purge("/items/0"), By::Purge("/items/{n}?x=2"), By::Write("PUT", "/other")];

impl By {
    fn request(self, larder: &Process, number: usize) -> Request {
        let of = |text: &str| text.replace("{n}", &number.to_string());
        match self {
            By::Purge(target) => larder.request("PURGE", &of(target)).header("host", HOST),
            By::PurgeTag(tags) => {
                larder.request("PURGE", "/any").header("host", HOST).header("cache-tag", &of(tags))
            }
            By::Admin(body) => larder.admin.request("POST", "/purge").body(of(body)),
            By::AdminDelete(target) => larder.admin.request("DELETE", &of(target)),
            By::Write(method, target) => larder.request(method, &of(target)).header("host", HOST).body("{}"),
        }
    }
}

/// Two processes and their Redis. Each case is about an item of its own, so that none finds what another left.
struct Two {
    redis: Redis,
    upstream: Upstream,
    one: Process,
    other: Process,
}

impl Two {
    async fn start() -> Self {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let yaml = format!("store: {{redis: \"{}\", {STRICT}}}\n{ROUTES}", redis.url());
        let (one, other) = (Process::with(&yaml, &upstream).await, Process::with(&yaml, &upstream).await);
        for process in [&one, &other] {
            process.is_connected().await;
        }
        Self { redis, upstream, one, other }
    }

    fn script(&self, number: usize) {
        let answer = move |request: &Received| {
            let answer = Answer::numbered(request).header("location", &format!("/items/{number}?x=1"));
            answer.header("surrogate-key", "from-field").header("x-kind", "book")
        };
        for path in [format!("/items/{number}"), format!("/items/{number}/sell"), format!("/orders/{number}")]
        {
            self.upstream.on(&path, answer);
        }
    }

    /// Neither process serves the first fetch to anyone any more, whichever is asked first; and both go on caching.
    async fn ask_again(&self, by: By, number: usize) {
        let mut processes = [&self.one, &self.other];
        processes.rotate_left(number % 2);
        let mut newest = 0;
        for process in processes {
            let later = slow(process, number).await;
            assert!(fetch(&later) > 1, "{by:?}: {later}");
            newest = newest.max(fetch(&later));
        }
        let again = slow(processes[1], number).await.assert_hit();
        assert!((2..=newest).contains(&fetch(&again)), "{by:?}: {again}");
    }
}

fn slow(process: &Process, number: usize) -> Request {
    process.get(&format!("/items/{number}?x=1")).header("host", HOST)
}

/// The fetch that answered: what comes after `#`.
fn fetch(reply: &Reply) -> u32 {
    let text = reply.text();
    text.rsplit('#').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no number in {text:?}"))
}

#[tokio::test]
async fn a_slow_miss_purged_before_its_head_is_not_served() {
    let two = Two::start().await;
    for (number, by) in ALL.into_iter().enumerate() {
        two.script(number);
        let held = two.upstream.hold(&format!("/items/{number}"));
        let first = slow(&two.one, number).spawn();
        held.arrived().await;
        by.request(&two.other, number).await.assert_status(200);
        held.release();
        // It was asked for before the purge, so it may have the old data; nobody else may.
        assert_eq!(fetch(&first.await.unwrap()), 1, "{by:?}");
        two.ask_again(by, number).await;
    }
}

#[tokio::test]
async fn a_slow_miss_purged_in_mid_body_is_not_served() {
    let two = Two::start().await;
    for (number, by) in ALL.into_iter().enumerate() {
        two.script(number);
        let (answer, feed) = Answer::fed();
        let answer = answer.header("surrogate-key", "from-field").header("x-kind", "book");
        two.upstream.once(&format!("/items/{number}"), answer);
        let mut first = slow(&two.one, number).start().await;
        feed.send("first fetch ").await;
        first.read_until("first fetch ").await;
        by.request(&two.other, number).await.assert_status(200);
        feed.send("#1").await;
        feed.end().await;
        first.whole().await.unwrap().assert_text("#1");
        two.ask_again(by, number).await;
    }
}

/// Through either process, also while the fetch is still held.
#[tokio::test]
async fn a_follower_after_a_remote_purge_is_not_served() {
    let two = Two::start().await;
    for (number, by) in ALL.into_iter().enumerate() {
        two.script(number);
        let held = two.upstream.hold(&format!("/items/{number}"));
        let first = slow(&two.one, number).spawn();
        held.arrived().await;
        by.request(&two.other, number).await.assert_status(200);
        let same = slow(&two.one, number).spawn();
        // The other process has nothing in flight that it could wait for.
        let elsewhere = slow(&two.other, number).await;
        assert!(fetch(&elsewhere) > 1, "{by:?}: {elsewhere}");
        held.release();
        assert_eq!(fetch(&first.await.unwrap()), 1, "{by:?}");
        let same = same.await.unwrap();
        assert!(fetch(&same) > 1, "{by:?}: {same}");
    }
}

/// The races above would prove nothing if no slow miss were ever shared.
#[tokio::test]
async fn a_slow_miss_survives_an_unrelated_remote_purge() {
    let two = Two::start().await;
    for (number, by) in (1..).zip(OTHERS) {
        two.script(number);
        let held = two.upstream.hold(&format!("/items/{number}"));
        let first = slow(&two.one, number).spawn();
        held.arrived().await;
        by.request(&two.other, number).await.assert_status(200);
        held.release();
        first.await.unwrap().assert_stored();
        assert_eq!(fetch(&slow(&two.one, number).await.assert_hit()), 1, "{by:?}");
        two.redis.holds(number).await;
        assert_eq!(fetch(&slow(&two.other, number).await.assert_hit()), 1, "{by:?}");
    }
}

/// R04: both before and after anybody has noticed.
#[tokio::test]
async fn redis_dies_between_a_fetch_and_its_store() {
    for (store, noticed) in [(STRICT, false), (STRICT, true), (BOUNDED, false), (BOUNDED, true)] {
        let upstream = Upstream::start();
        let mut redis = Redis::start().await;
        let one = Replica::start(&redis, &upstream, store, ROUTES).await;
        let held = upstream.hold("/items/1");
        let slow = one.get("/items/1").spawn();
        held.arrived().await;
        redis.kill();
        if noticed {
            one.is_cut_off().await;
        }
        held.release();
        slow.await.unwrap().assert_status(200).assert_text("GET /items/1 #1");
        one.is_cut_off().await;
        redis.restart().await;
        one.is_connected().await;
        // A command sent before anybody noticed may reach the new server within its deadline: of the former epoch.
        if noticed {
            assert_eq!(redis.responses().await, [""; 0], "{store}");
        }
        let late = Replica::start(&redis, &upstream, STRICT, ROUTES).await;
        one.get("/items/1").await.assert_text("GET /items/1 #2").assert_fwd("uri-miss");
        // And that one is stored.
        one.get("/items/1").await.assert_text("GET /items/1 #2").assert_hit();
        redis.holds(1).await;
        assert_ne!(late.has("/items/1").await.text(), "GET /items/1 #1", "{store}, {noticed}");
    }
}

/// R02: by RFC 6761, section 6.4, no such name ever resolves.
#[tokio::test]
async fn a_name_that_does_not_resolve_costs_no_request() {
    for store in [STRICT, BOUNDED] {
        let upstream = Upstream::start();
        let settings = format!("store: {{redis: \"redis://no-such-host.invalid:6379\", {store}}}\n{ROUTES}");
        let larder = Process::with(&settings, &upstream).await;
        for round in 1..=3 {
            let reply = larder.get("/items/1").await.assert_status(200);
            reply.assert_text(&format!("GET /items/1 #{round}")).assert_fwd("miss");
        }
        larder.request("POST", "/items/1/sell").await.assert_status(200);
        larder.request("PURGE", "/items/1").await.assert_status(503);
        for path in ["/healthz", "/readyz"] {
            let health = larder.admin.get(path).await.assert_status(200).json();
            assert_eq!((&health["status"], &health["redis"]["status"]), (&"degraded".into(), &"away".into()));
            assert_eq!(health["redis"]["connections"], 0);
        }
    }
}

/// R02: the name is resolved again for every connection. (Where a process may not have an /etc/hosts of its own, there is
/// nothing to see.)
#[tokio::test]
async fn a_name_that_leads_elsewhere_later_is_followed() {
    let upstream = Upstream::start();
    let mut redis = Redis::start().await;
    let scratch = Scratch::new();
    let hosts = scratch.file("hosts", "127.0.0.1 redis.test\n");
    let [proxy, admin] = [free_port(), free_port()];
    let listeners = format!("listen: 127.0.0.1:{proxy}\nadmin: {{listen: \"127.0.0.1:{admin}\"}}\n");
    let url = redis.url().replace("127.0.0.1", "redis.test");
    let yaml =
        format!("{listeners}upstream: {}\nstore: {{redis: \"{url}\", {STRICT}}}\n{ROUTES}", upstream.url());
    let config = scratch.file("proxy.yaml", &yaml);
    let Some(command) = Command::with_hosts(&hosts, &["--config", config.to_str().expect("a path")]) else {
        return;
    };
    let larder = Process::spawn(command, scratch, proxy, admin).await;
    let is_hit = || async { larder.get("/items/1").await.is_hit().then_some(()) };
    eventually("it is a hit", is_hit).await;
    redis.kill();
    // On the same port of another address.
    let mut elsewhere = Redis::prepared(redis.port(), &["--bind", "127.0.0.2"]);
    elsewhere.start_now().await;
    std::fs::write(&hosts, "127.0.0.2 redis.test\n").expect("the same file");
    eventually("it is a hit", is_hit).await;
    larder.request("PURGE", "/items/1").await.assert_status(200);
    assert!(elsewhere.command(&["ZCARD", "{larder}:index"]).await.parse::<u32>().expect("a count") > 4);
}

/// R29: nobody looks at what carries the tag, so nobody waits for it. Without a first tier every hit is Redis's own.
#[tokio::test]
async fn a_purge_of_giants_takes_nothing_from_others() {
    const CARRYING: usize = 50_000;
    /// With its head, nearly the largest value that Redis is given.
    const BIG: usize = (4 << 20) - 1024;
    const READERS: usize = 8;
    const READS: usize = 25;
    const COPY: &str = "local value = redis.call('GET', KEYS[1]) for n = 1, tonumber(ARGV[1]) do \
                        redis.call('SET', 'larder:r5:copy-' .. n, value, 'EX', 3600) end return 'OK'";
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let routes = "
routes:
  - {path: \"/small/{id}\", ttl: 1h, tags: [giant]}
  - {path: \"/big/{id}\", ttl: 1h, tags: [big]}
  - {path: \"/others/{id}\", ttl: 1h, tags: [others]}
";
    upstream.on("/big/1", |request: &Received| Answer::ok(vec![b'0' + request.nth as u8; BIG]));
    let store = format!("{STRICT}, memory: 0");
    let one = Replica::start(&redis, &upstream, &store, routes).await;
    let other = Replica::start(&redis, &upstream, &store, routes).await;
    one.get("/small/1").await.assert_stored();
    redis.holds(1).await;
    let carrying = redis.responses().await.remove(0);
    for path in ["/big/1", "/others/1"] {
        one.get(path).await.assert_stored();
    }
    redis.holds(3).await;
    assert_eq!(redis.command(&["EVAL", COPY, "1", &carrying, &CARRYING.to_string()]).await, "OK");
    other.get("/small/1").await.assert_hit();
    assert_eq!(other.get("/big/1").await.assert_hit().body, vec![b'1'; BIG]);
    let fetched = upstream.total();

    let reader = |_| {
        let read = other.get("/others/1");
        tokio::spawn(async move {
            for _ in 0..READS {
                read.clone().await.assert_hit();
            }
        })
    };
    let readers: Vec<_> = (0..READERS).map(reader).collect();
    while !readers.iter().all(|reader| reader.is_finished()) {
        one.purge_tag("giant").await;
        one.purge_tag("big").await;
    }
    for reader in readers {
        reader.await.unwrap();
    }

    assert_eq!(upstream.total(), fetched);
    // The purged values are still there beside the index and the journal; only two records make them invalid.
    // The third record says when the epoch began.
    // So may be what the two replicas report for statistics.
    let keys: usize = redis.command(&["DBSIZE"]).await.parse().expect("a number");
    assert!((CARRYING + 5..=CARRYING + 7).contains(&keys), "{keys}");
    assert_eq!(redis.command(&["ZCOUNT", "{larder}:index", "1", "+inf"]).await, "3");
    other.get("/small/1").await.assert_text("GET /small/1 #2");
    assert_eq!(other.get("/big/1").await.body, vec![b'2'; BIG]);
    one.get("/others/1").await.assert_hit();
}

/// R32: whatever a purge had done before its script failed, it is not acknowledged; and nothing is forgotten of it.
#[tokio::test]
async fn a_purge_whose_script_fails_is_refused_and_holds_afterwards() {
    const INDEX: &str = "{larder}:index";
    // At once, and after the purge has been recorded: what is counted with is gone.
    let faults: [(&[&str], &[&str]); 3] = [
        (&["SET", INDEX, "x"], &["UNLINK", INDEX]),
        (&["ZREM", INDEX, "n"], &["UNLINK", INDEX]),
        (&["ZREM", INDEX, "n"], &["ZADD", INDEX, "-1", "n"]),
    ];
    for (fault, remedy) in faults {
        for store in [STRICT, BOUNDED] {
            let (redis, upstream) = (Redis::start().await, Upstream::start());
            let one = Replica::start(&redis, &upstream, store, ROUTES).await;
            let other = Replica::start(&redis, &upstream, store, ROUTES).await;
            let items = ["/items/1", "/items/2", "/items/3", "/items/4"];
            for item in items {
                upstream.on(item, Answer::ok("old"));
                one.get(item).await.assert_stored();
            }
            redis.holds(items.len()).await;
            other.has("/items/1").await;
            redis.command(fault).await;
            for item in items {
                upstream.on(item, Answer::ok("new"));
            }
            for _ in 0..3 {
                one.request("PURGE", "/items/1").await.assert_status(503);
                one.request("PURGE", "/any").header("cache-tag", "item:2").await.assert_status(503);
                let admin = one.admin.request("POST", "/purge").body(r#"{"tags": ["item:3"]}"#);
                admin.await.assert_status(503);
            }
            one.request("POST", "/items/4/sell").await.assert_status(200);
            for item in items {
                one.get(item).await.assert_text("new");
            }
            redis.command(remedy).await;
            one.metric_becomes("larder_purges_waiting", 0.0).await;
            for replica in [&one, &other] {
                replica.is_connected().await;
                for item in items {
                    replica.answers(item, "new").await;
                    replica.get(item).await.assert_text("new");
                }
                replica.has("/items/1").await.assert_text("new");
                replica.request("PURGE", "/items/1").await.assert_status(200);
            }
        }
    }
}
