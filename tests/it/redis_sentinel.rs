//! Behind sentinels: whoever is the primary has the index. A failover costs misses and nothing else, whatever it lost,
//! and whichever sentinel hangs or is wrong.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    Answer, ITEMS, LONGEST, Line, Redis, Relay, Replica, Sentinels, Upstream, eventually, timed,
};

/// A busy machine keeps this deadline.
const STRICT: &str = "max_lag: 0s, timeout: 500ms";
const BOUNDED: &str = "max_lag: 1s, timeout: 500ms";

/// A lag that no test outlasts: the memory tier answers whatever happens to Redis.
const LOOSE: &str = "max_lag: 10m, timeout: 500ms";

async fn start(url: &str, upstream: &Upstream, store: &str) -> Replica {
    let replica = Replica::start_alone(url, upstream, store, ITEMS);
    replica.is_connected().await;
    replica
}

async fn two(redis: &Sentinels, upstream: &Upstream, store: &str) -> [Replica; 2] {
    [start(&redis.url(), upstream, store).await, start(&redis.url(), upstream, store).await]
}

/// R13: the purge was acknowledged, and the primary died before a replica heard of it.
#[tokio::test]
async fn a_purge_that_the_failover_loses_holds() {
    for store in [STRICT, BOUNDED] {
        let (mut redis, upstream) = (Sentinels::start().await, Upstream::start());
        let [one, other] = two(&redis, &upstream, store).await;
        upstream.on("/items/1", Answer::ok("old"));
        one.has("/items/1").await;
        other.has("/items/1").await.assert_text("old");
        // The replicas have the response, and will not have the purge.
        for replica in &redis.servers[1..] {
            eventually("it is there", || async { (replica.responses().await.len() == 1).then_some(()) })
                .await;
        }
        redis.servers[0].command(&["ACL", "SETUSER", "default", "-psync"]).await;
        redis.servers[0].command(&["CLIENT", "KILL", "TYPE", "replica"]).await;
        upstream.on("/items/1", Answer::ok("new"));
        one.purge_tag("item:1").await;
        other.answers("/items/1", "new").await;
        redis.servers[0].kill();
        let failed_over = async {
            let primary = redis.fails_over(0, 0).await;
            one.is_connected().await;
            other.is_connected().await;
            primary
        };
        let reading = async {
            loop {
                for replica in [&one, &other] {
                    timed(replica.get("/items/1")).await.assert_status(200).assert_text("new");
                }
            }
        };
        let primary = tokio::select! { primary = failed_over => primary, () = reading => unreachable!() };
        // The old response is there, and it is as dead as it was.
        assert!(!redis.servers[primary].responses().await.is_empty());
        for replica in [&one, &other] {
            replica.has("/items/1").await.assert_text("new");
        }
        one.purge_tag("items").await;
        other.answers("/items/1", "new").await;
    }
}

/// A sentinel that hangs, wherever it stands, never stops a failover; nor does what it says later.
#[tokio::test]
async fn a_sentinel_that_hangs_stops_no_failover() {
    for hung in 0..2 {
        let (mut redis, upstream) = (Sentinels::start().await, Upstream::start());
        let one = start(&redis.url(), &upstream, STRICT).await;
        redis.sentinels[hung].stop();
        // And a primary that hangs as well: its connections stay open.
        if hung == 0 {
            redis.servers[0].kill()
        } else {
            redis.servers[0].stop()
        };
        let primary = redis.fails_over(2, 0).await;
        let named = Instant::now();
        one.is_connected().await;
        assert!(named.elapsed() < LONGEST, "{:?}", named.elapsed());
        one.has("/items/1").await;
        assert!(!redis.servers[primary].responses().await.is_empty());
        // It wakes up with what it knew, and soon knows better; so does the old primary.
        redis.sentinels[hung].cont();
        if hung == 1 {
            redis.servers[0].cont();
        }
        one.has("/items/1").await;
        one.request("PURGE", "/items/1").await.assert_status(200);
    }
}

/// The operators' own failover, under load.
#[tokio::test]
async fn a_primary_that_steps_down_is_followed_at_once() {
    let (redis, upstream) = (Sentinels::start().await, Upstream::start());
    let [one, other] = two(&redis, &upstream, STRICT).await;
    let over = std::cell::Cell::new(false);
    let stepping_down = async {
        assert_eq!(redis.sentinels[1].command(&["SENTINEL", "FAILOVER", "shop"]).await, "OK");
        redis.fails_over(1, 0).await;
        one.is_connected().await;
        other.is_connected().await;
        over.set(true);
    };
    let load = async {
        for version in 0_u64.. {
            let new = version.to_string();
            upstream.on("/items/1", Answer::ok(new.clone()));
            let written = timed(one.request("POST", "/items/1/sell")).await.assert_status(200);
            let is_acknowledged = written.header("larder-position").is_some();
            timed(one.get("/items/1")).await.assert_text(&new);
            let read = timed(other.get("/items/1")).await.assert_status(200);
            assert!(!is_acknowledged || read.text() == new, "{} instead of {new}", read.text());
            if over.get() {
                return;
            }
        }
    };
    tokio::join!(stepping_down, load);
    one.has("/items/1").await;
    other.has("/items/1").await;
}

/// R26: two servers believe they are the primary, and each replica of larder uses another one. Purges made on either
/// side hold on both once there is one primary again. (While there are two, nothing is promised unless `min-replicas-
/// to-write` makes the lone one refuse.)
#[tokio::test]
async fn what_two_primaries_were_told_holds_once_there_is_one() {
    let (redis, upstream) = (Sentinels::start().await, Upstream::start());
    // One hears of the third sentinel alone, the other of the first two.
    let behind = |sentinels: &[&Redis]| {
        let hosts: Vec<String> = sentinels.iter().map(|one| one.address().to_string()).collect();
        format!("redis-sentinel://{}/shop", hosts.join(","))
    };
    let [first, second, third] = [0, 1, 2].map(|number| &redis.sentinels[number]);
    let one = start(&behind(&[third]), &upstream, LOOSE).await;
    let other = start(&behind(&[first, second]), &upstream, LOOSE).await;
    // The third sentinel knows nothing more, the others lose the primary, and then they see and do nothing more.
    third.stop();
    redis.servers[0].stop();
    let new = redis.fails_over(0, 0).await;
    other.metric_becomes("larder_purge_indexes_total", 2.0).await;
    // The new primary is named before the other replica is sent to it. One that the old primary keeps lets it write.
    redis.follows(3 - new, new).await;
    first.stop();
    second.stop();
    redis.servers[0].cont();
    one.is_connected().await;
    for item in ["/items/1", "/items/2"] {
        upstream.on(item, Answer::ok("old"));
        one.has(item).await;
        other.has(item).await;
    }
    for (item, replica, primary) in [("/items/1", &one, 0), ("/items/2", &other, new)] {
        assert!(redis.servers[primary].command(&["ROLE"]).await.starts_with("master"));
        upstream.on(item, Answer::ok("new"));
        replica.request("PURGE", item).await.assert_status(200);
    }
    one.get("/items/1").await.assert_text("new");
    other.get("/items/2").await.assert_text("new");
    other.get("/items/1").await.assert_text("old");
    // The old primary has no replicas any more; if it is to have one, it says so, and counts as away.
    redis.servers[0].command(&["CONFIG", "SET", "min-replicas-max-lag", "1"]).await;
    redis.servers[0].command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    one.is_cut_off().await;
    one.request("PURGE", "/items/3").await.assert_status(503);
    for sentinel in [first, second, third] {
        sentinel.cont();
    }
    one.is_connected().await;
    for item in ["/items/1", "/items/2"] {
        for replica in [&one, &other] {
            replica.answers(item, "new").await;
            replica.has(item).await.assert_text("new");
        }
    }
}

/// It reaches all servers, and no sentinel that would tell it of the failover.
#[tokio::test]
async fn a_replica_that_hears_no_sentinels_does_not_trust_the_primary() {
    let (redis, upstream) = (Sentinels::start().await, Upstream::start());
    let mut lines = Vec::new();
    for sentinel in &redis.sentinels {
        lines.push(Relay::to(sentinel.address()).await);
    }
    let hosts: Vec<String> = lines.iter().map(|line| line.address().to_string()).collect();
    let deaf = start(&format!("redis-sentinel://{}/shop", hosts.join(",")), &upstream, STRICT).await;
    let one = start(&redis.url(), &upstream, STRICT).await;
    upstream.on("/items/1", Answer::ok("old"));
    one.has("/items/1").await;
    deaf.has("/items/1").await;
    // A minority is not missed.
    lines[0].set(Line::Dead);
    deaf.has("/items/1").await;
    lines[1].set(Line::Dead);
    deaf.is_cut_off().await;
    let health = deaf.admin.get("/healthz").await.json();
    assert_eq!(health["redis"]["reason"], "no-sentinel-majority", "{health}");
    // The minority goes on to name the primary, and larder does not go back and forth.
    let connections = deaf.metric("larder_redis_connections_total").await;
    let queries = async || {
        let stats = redis.sentinels[2].command(&["INFO", "stats"]).await;
        let count = stats.lines().find_map(|line| line.trim().strip_prefix("total_commands_processed:"));
        count.expect("a count").parse::<u64>().expect("a number")
    };
    let before = queries().await;
    eventually("it has asked some more", || async { (queries().await > before + 60).then_some(()) }).await;
    assert_eq!(deaf.metric("larder_redis_connections_total").await, connections);
    assert_eq!(redis.sentinels[0].command(&["SENTINEL", "FAILOVER", "shop"]).await, "OK");
    let primary = redis.fails_over(0, 0).await;
    upstream.on("/items/1", Answer::ok("new"));
    eventually("the purge is at the new primary", || async {
        let purged = one.request("PURGE", "/items/1").await.status == 200;
        let index = redis.servers[primary].command(&["EXISTS", "{larder}:index"]).await;
        (purged && index == "1").then_some(())
    })
    .await;
    deaf.get("/items/1").await.assert_text("new");
    for line in &lines {
        line.set(Line::Whole);
    }
    deaf.is_connected().await;
    deaf.has("/items/1").await.assert_text("new");
}

/// The login is the servers'; these sentinels have none, and refuse it.
#[tokio::test]
async fn sentinels_need_not_know_the_login_of_the_servers() {
    let (redis, upstream) = (Sentinels::start().await, Upstream::start());
    let give = ["ACL", "SETUSER", "app", "on", ">secret", "allkeys", "allchannels", "+@all"];
    redis.servers[0].command(&give).await;
    let url = redis.url().replace("redis-sentinel://", "redis-sentinel://app:secret@");
    let one = start(&url, &upstream, STRICT).await;
    one.has("/items/1").await;
    let clients = redis.servers[0].command(&["CLIENT", "LIST"]).await;
    assert!(clients.contains("user=app"), "{clients}");
    // Other tests write to the same log, and a busy machine makes servers late.
    let ours: Vec<String> =
        redis.servers.iter().chain(&redis.sentinels).map(|server| server.address().to_string()).collect();
    let is_of_login = |line: &&str| line.contains("password") && ours.iter().any(|at| line.contains(at));
    let log = one.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).filter(is_of_login).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
    // And these know it, and allow it as little as docs/redis.md says.
    for sentinel in &redis.sentinels {
        let mut words: Vec<&str> = "ACL SETUSER app on >secret -@all".split(' ').collect();
        words.extend(SENTINEL_RIGHTS.split(' '));
        assert_eq!(sentinel.command(&words).await, "OK");
    }
    let other = start(&url, &upstream, STRICT).await;
    other.has("/items/1").await;
    for sentinel in &redis.sentinels {
        eventually("it listens with its login", || async {
            let clients = sentinel.command(&["CLIENT", "LIST"]).await;
            clients
                .lines()
                .any(|client| client.contains("user=app") && client.contains("sub=1"))
                .then_some(())
        })
        .await;
        assert!(!sentinel.command(&["ACL", "LOG"]).await.contains("command"), "something was denied");
    }
}

/// The sentinels' rights according to docs/redis.md.
const SENTINEL_RIGHTS: &str = "+sentinel|master +sentinel|get-master-addr-by-name +subscribe +ping +client|id +info +hello +auth resetchannels &+switch-master";

/// A sentinel that says what the test wants.
#[derive(Default)]
struct Liar {
    /// The port of the primary and the epoch; nothing: it does not say.
    says: Mutex<Option<(u16, u64)>>,
    asked: AtomicUsize,
}

impl Liar {
    async fn start(port: u16, epoch: u64) -> (Arc<Self>, std::net::SocketAddr) {
        let liar = Arc::new(Self::default());
        liar.says(Some((port, epoch)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let its_own = liar.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(its_own.clone().serve(client));
            }
        });
        (liar, address)
    }

    fn says(&self, named: Option<(u16, u64)>) {
        *self.says.lock().unwrap() = named;
    }

    async fn serve(self: Arc<Self>, client: TcpStream) -> std::io::Result<()> {
        let mut client = BufReader::new(client);
        loop {
            let mut words = Vec::new();
            let mut line = String::new();
            client.read_line(&mut line).await?;
            let Ok(count) = line.trim_start_matches('*').trim().parse::<usize>() else { return Ok(()) };
            for _ in 0..count {
                for _ in 0..2 {
                    line.clear();
                    client.read_line(&mut line).await?;
                }
                words.push(line.trim().to_owned());
            }
            let reply = match words[0].as_str() {
                "SENTINEL" => self.named(&words[1]),
                "PING" => "+PONG\r\n".to_owned(),
                _ => "-ERR unknown command\r\n".to_owned(),
            };
            client.write_all(reply.as_bytes()).await?;
        }
    }

    fn named(&self, asked: &str) -> String {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let Some((port, epoch)) = *self.says.lock().unwrap() else { return "-ERR not now\r\n".to_owned() };
        let fields = match asked {
            "MASTER" => ["config-epoch".to_owned(), epoch.to_string()],
            _ => ["127.0.0.1".to_owned(), port.to_string()],
        };
        let fields = fields.map(|field| format!("${}\r\n{field}\r\n", field.len()));
        format!("*2\r\n{}", fields.concat())
    }
}

/// R14: who is named is asked whether it is a primary. A replica is not used, however sure a sentinel is of it.
#[tokio::test]
async fn a_sentinel_that_names_a_replica_is_not_believed() {
    let (redis, upstream) = (Sentinels::start().await, Upstream::start());
    let (liar, address) = Liar::start(redis.servers[1].port(), 999).await;
    let alone = Replica::start_alone(&format!("redis-sentinel://{address}/shop"), &upstream, STRICT, ITEMS);
    let one = start(&redis.url().replace("://", &format!("://{address},")), &upstream, STRICT).await;
    one.has("/items/1").await;
    assert!(!redis.servers[0].responses().await.is_empty());
    // A replica that hears no other has no Redis, and purges are not promised.
    for _ in 0..3 {
        assert!(!timed(alone.get("/items/1")).await.assert_status(200).is_hit());
        timed(alone.request("PURGE", "/items/1")).await.assert_status(503);
    }
    liar.says(Some((redis.servers[0].port(), 999)));
    alone.is_connected().await;
    alone.request("PURGE", "/items/1").await.assert_status(200);
}

/// R26: while whoever knows the new primary can't be asked, nobody goes back to the old one, though it is alive and
/// takes itself for the primary.
#[tokio::test]
async fn nobody_goes_back_to_a_primary_of_the_past() {
    let (old, new, upstream) = (Redis::start().await, Redis::start().await, Upstream::start());
    let (knowing, first) = Liar::start(new.port(), 9).await;
    let (not_yet, second) = Liar::start(old.port(), 8).await;
    let one = start(&format!("redis-sentinel://{first},{second}/shop"), &upstream, STRICT).await;
    knowing.says(None);
    let asked = not_yet.asked.load(Ordering::SeqCst);
    eventually("it is asked some times", || async {
        (not_yet.asked.load(Ordering::SeqCst) > asked + 6).then_some(())
    })
    .await;
    one.request("PURGE", "/items/1").await.assert_status(200);
    let index = ["EXISTS", "{larder}:index"];
    assert_eq!((old.command(&index).await, new.command(&index).await), ("0".to_owned(), "1".to_owned()));
    // All of them have been set up anew, and count from the beginning.
    knowing.says(Some((old.port(), 1)));
    not_yet.says(Some((old.port(), 1)));
    eventually("it is followed", || async { (old.command(&index).await == "1").then_some(()) }).await;
}
