//! Between larder and Redis lies a network: slow, cut, silent, garbled. And in Redis lies what others put there.

use std::time::{Duration, Instant};

use larder::clock::Clock;

use crate::support::{Answer, LONGEST, Line, Redis, Relay, Replica, Upstream, eventually, timed};

const ROUTES: &str = "
routes:
  - path: /items/{id}
    ttl: 1h
    tags: [items, \"item:{id}\"]
";

/// A replica behind a relay, and one that reaches Redis without.
struct Net {
    redis: Redis,
    relay: Relay,
    upstream: Upstream,
    one: Replica,
    other: Replica,
}

async fn net(store: &str) -> Net {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let relay = Relay::to(redis.address()).await;
    let one = Replica::start_alone(&relay.url(), &upstream, store, ROUTES);
    one.is_connected().await;
    let other = Replica::start(&redis, &upstream, store, ROUTES).await;
    Net { redis, relay, upstream, one, other }
}

/// R06, R07, R09, R31: whatever the line does, requests are answered, purges of the other side are not missed, and
/// all is well when the line is.
#[tokio::test]
async fn a_bad_line_costs_hits_and_nothing_else() {
    let millis = Duration::from_millis;
    for line in [
        Line::Late(millis(20)),
        Line::Late(millis(200)),
        Line::Late(millis(2000)),
        Line::Trickling(millis(1)),
        Line::Dead,
        Line::ResetAfter(1),
        Line::Garbage(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        Line::Garbage(b"$4294967296\r\nx"),
        Line::Garbage(b"*2147483647\r\n*2147483647\r\n"),
        Line::Garbage(b"+OK\r\n+OK\r\n"),
    ] {
        let net = net("max_lag: 0s").await;
        net.upstream.on("/items/1", Answer::ok("old"));
        net.other.has("/items/1").await;
        net.one.has("/items/1").await;
        net.relay.set(line);
        for _ in 0..10 {
            timed(net.one.get("/items/1")).await.assert_text("old");
        }
        net.upstream.on("/items/1", Answer::ok("new"));
        net.other.purge_tag("item:1").await;
        for _ in 0..5 {
            timed(net.one.get("/items/1")).await.assert_text("new");
        }
        net.relay.set(Line::Whole);
        let healed = Instant::now();
        net.one.is_connected().await;
        net.one.has("/items/1").await.assert_text("new");
        assert!(healed.elapsed() < LONGEST, "{line:?}: well again only after {:?}", healed.elapsed());
    }
}

/// R27, when nobody is left who knows the purge that the snapshot lacks: that it is another server is all there is to
/// see, and it is enough.
#[tokio::test]
async fn an_old_snapshot_is_noticed_by_who_knows_nothing_newer() {
    for store in ["max_lag: 0s", "max_lag: 10s"] {
        let Net { mut redis, relay, upstream, one, other } = net(store).await;
        upstream.on("/items/1", Answer::ok("old"));
        one.get("/items/1").await.assert_stored();
        redis.holds(1).await;
        assert_eq!(redis.command(&["SAVE"]).await, "OK");
        relay.set(Line::Dead);
        upstream.on("/items/1", Answer::ok("new"));
        other.purge_tag("item:1").await;
        other.ends().await;
        redis.restart().await;
        assert_eq!(redis.responses().await.len(), 1, "the old response is there again");
        relay.set(Line::Whole);
        one.answers("/items/1", "new").await;
        one.is_connected().await;
        one.has("/items/1").await.assert_text("new");
    }
}

/// R03, R08: a reply that breaks off in the middle is none.
#[tokio::test]
async fn half_a_response_is_none() {
    let net = net("max_lag: 0s").await;
    let whole = vec![b'x'; 1 << 20];
    net.upstream.on("/items/1", Answer::ok(whole.clone()));
    net.other.get("/items/1").await.assert_stored();
    net.redis.holds(1).await;
    for after in [100, 5_000, 500_000] {
        net.relay.set(Line::ResetAfter(after));
        let reply = timed(net.one.get("/items/1")).await.assert_status(200);
        assert!(reply.body == whole, "{} bytes", reply.body.len());
        net.relay.set(Line::Whole);
        net.one.is_connected().await;
        // The response fetched meanwhile must not be in the memory tier.
        net.other.purge_tag("item:1").await;
        net.other.get("/items/1").await.assert_stored();
        net.redis.holds(1).await;
    }
}

/// R21: clients that go away while their look-up is under way cost nobody an answer.
#[tokio::test]
async fn clients_that_go_away_shift_no_replies() {
    let net = net("max_lag: 0s, memory: 0").await;
    for item in 0..20 {
        let target = format!("/items/{item}");
        net.upstream.on(&target, Answer::ok(target.clone()));
        net.one.get(&target).await.assert_stored();
    }
    net.redis.holds(20).await;
    net.relay.set(Line::Late(Duration::from_millis(5)));
    for round in 0..20 {
        let leaving: Vec<_> = (0..20).map(|item| net.one.get(&format!("/items/{item}")).spawn()).collect();
        tokio::task::yield_now().await;
        for (at, client) in leaving.into_iter().enumerate() {
            if at % 3 == round % 3 { client.abort() } else { drop(client) }
        }
        let target = format!("/items/{round}");
        net.one.get(&target).await.assert_text(&target);
    }
}

/// R22
#[tokio::test]
async fn what_others_put_under_a_key_is_a_miss_and_is_removed() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "max_lag: 0s, memory: 0", ROUTES).await;
    one.get("/items/1").await.assert_stored();
    one.get("/items/2").await.assert_stored();
    redis.holds(2).await;
    let [first, second] = <[String; 2]>::try_from(redis.responses().await).unwrap();
    let ours = format!("redis.call('GET', '{second}')");
    let set = |value: &str| format!("redis.call('SET', '{first}', {value})");
    for (number, script) in [
        set("'not ours'"),
        set("''"),
        set(&ours),
        set(&format!("string.sub({ours}, 1, -2)")),
        set(&format!("{ours} .. 'x'")),
        set("string.sub(redis.call('GET', KEYS[1]), 1, 50)"),
        set("(string.gsub(redis.call('GET', KEYS[1]), 'GET', 'GOT'))"),
        set("'lrdr\\1\\1' .. string.rep('\\255', 100)"),
        format!("redis.call('DEL', '{first}') redis.call('LPUSH', '{first}', 'x')"),
        format!("redis.call('DEL', '{first}') redis.call('HSET', '{first}', 'x', 'y')"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = upstream.total();
        let script = script.replace("KEYS[1]", &format!("'{first}'"));
        let done = redis.command(&["EVAL", &format!("{script} return 1"), "0"]).await;
        assert_eq!(done, "1", "{script}");
        for item in ["/items/1", "/items/2"] {
            let reply = one.get(item).await.assert_status(200);
            assert!(reply.text().starts_with(&format!("GET {item} ")), "{number}: {script}");
        }
        assert_eq!(upstream.total(), before + 1, "{number}: {script}");
        // The fetch may have been faster than the removal, which then takes nothing away.
        eventually("both are stored again", || async {
            one.get("/items/1").await;
            one.get("/items/2").await;
            (redis.responses().await.len() == 2).then_some(())
        })
        .await;
    }
}

/// R14
#[tokio::test]
async fn a_server_that_became_a_replica_counts_as_away() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "max_lag: 0s", ROUTES).await;
    one.get("/items/1").await.assert_stored();
    one.has("/items/1").await;
    // Make it a replica of an unreachable primary: it keeps its data and would answer reads.
    assert_eq!(redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await, "OK");
    one.is_cut_off().await;
    one.request("PURGE", "/items/1").await.assert_status(503);
    one.get("/items/1").await.assert_text("GET /items/1 #2");
    assert_eq!(redis.command(&["REPLICAOF", "NO", "ONE"]).await, "OK");
    one.is_connected().await;
    one.has("/items/1").await;
}

/// R18
#[tokio::test]
async fn a_server_that_is_busy_counts_as_away() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "max_lag: 0s", ROUTES).await;
    one.get("/items/1").await.assert_stored();
    redis.command(&["CONFIG", "SET", "busy-reply-threshold", "50"]).await;
    let looping = redis.command(&["EVAL", "while true do end", "0"]);
    let asking = async {
        one.is_cut_off().await;
        timed(one.get("/items/1")).await.assert_text("GET /items/1 #2");
        timed(one.request("PURGE", "/items/1")).await.assert_status(503);
        redis.command(&["SCRIPT", "KILL"]).await;
        one.is_connected().await;
        one.has("/items/1").await;
    };
    let (ended, ()) = tokio::join!(looping, asking);
    assert!(ended.starts_with('-'), "{ended}");
}

/// R19
#[tokio::test]
async fn scripts_that_the_server_forgot_are_loaded_again() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "max_lag: 0s", ROUTES).await;
    let mut old = String::new();
    for _ in 0..5 {
        redis.command(&["SCRIPT", "FLUSH"]).await;
        let new = one.has("/items/1").await.text().to_owned();
        assert_ne!(new, old);
        old = new;
        redis.command(&["SCRIPT", "FLUSH"]).await;
        one.purge_tag("items").await;
    }
    let loads = one.metric("larder_redis_commands_total{command=\"load\",result=\"answered\"}").await;
    assert!(loads >= 10.0, "{loads}");
}

/// R20: the wake-up is a hint; without it the timer finds the purge, and it comes back.
#[tokio::test]
async fn without_wake_ups_the_bound_holds_and_they_come_back() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "max_lag: 400ms", ROUTES).await;
    let other = Replica::start(&redis, &upstream, "max_lag: 400ms", ROUTES).await;
    other.listens(&redis).await;
    for _ in 0..5 {
        one.get("/items/1").await;
        let old = other.has("/items/1").await.text().to_owned();
        redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        let purged = Instant::now();
        one.purge_tag("items").await;
        eventually("the other knows it", || async {
            (other.get("/items/1").await.text() != old).then_some(())
        })
        .await;
        assert!(purged.elapsed() < LONGEST, "{:?}", purged.elapsed());
    }
    other.listens(&redis).await;
}

/// R24: replicas whose clocks are ten minutes apart agree on how old a response is.
#[tokio::test]
async fn clocks_that_differ_make_nothing_younger() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let yaml = format!("store: {{redis: \"{}\", max_lag: 0s, memory: 0}}\n{ROUTES}", redis.url());
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let now = Clock::system().now();
    let clocks = [now.minus(minutes(10)), now, now.plus(minutes(10))];
    let replicas = clocks.map(|now| Replica::with(&yaml, &upstream, Clock::manual(now)));
    for replica in &replicas {
        replica.is_connected().await;
    }
    for (number, writer) in replicas.iter().enumerate() {
        let target = format!("/items/{number}");
        writer.get(&target).await.assert_stored();
        redis.holds(number + 1).await;
        for reader in &replicas {
            // A clock that stands still falls behind Redis', a little with each confirmation.
            let hit = reader.has(&target).await;
            let age: u64 = hit.header("age").expect("an age").parse().unwrap();
            assert!(age < 30, "{age}");
        }
        let ttl: i64 = redis.command(&["PTTL", &redis.responses().await[0]]).await.parse().unwrap();
        assert!((3_500_000..=3_600_000).contains(&ttl), "{ttl}");
    }
}
