//! A rolling update and a stream of reloads, under a load that reads and writes: nobody is failed, and nobody is told
//! what was purged before they asked.

use std::net::TcpListener;

use crate::support::{Command, Load, Process, Redis, Replica, Scratch, Upstream, eventually, free_port};

const ROUTES: &str = "routes: [{path: /courses, ttl: 60s, tags: [courses]}]";

/// A busy machine keeps this deadline, and nothing here is about another.
const STRICT: &str = "max_lag: 0s, timeout: 5s";

fn store_yaml(redis: &Redis) -> String {
    format!("store: {{redis: \"{}\", {STRICT}}}", redis.url())
}

/// Old and new overlap, and share what is stored and purged.
async fn on(socket: &TcpListener, upstream: &Upstream, store: &str) -> Process {
    let (proxy, admin) = (socket.local_addr().expect("an address").port(), free_port());
    let scratch = Scratch::new();
    let text = format!(
        "listen: 127.0.0.1:{proxy}\nadmin: {{listen: \"127.0.0.1:{admin}\"}}\nupstream: {}\n{store}\n{ROUTES}\n",
        upstream.url()
    );
    let config = scratch.file("proxy.yaml", &text);
    let command = Command::on_socket(socket, &["--config", config.to_str().expect("a path")]);
    let process = Process::spawn(command, scratch, proxy, admin).await;
    process.is_connected().await;
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_rolling_restarts_fail_nothing_and_serve_no_stale() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let store = store_yaml(&redis);
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let mut process = on(&socket, &upstream, &store).await;
    let load = Load::start(&upstream, "/courses", socket.local_addr().expect("an address"), 6);
    for _ in 0..20 {
        let before = load.answers();
        let next = on(&socket, &upstream, &store).await;
        eventually("clients are served meanwhile", || async { (load.answers() > before + 50).then_some(()) })
            .await;
        process.signal("TERM");
        assert!(process.ended().await.success());
        process = next;
    }
    let seen = load.ends().await;
    println!("{seen:?}");
    assert!(seen.hits > 100 && seen.writes > 10, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_over_one_redis_fail_nothing() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let replica = Replica::start(&redis, &upstream, STRICT, ROUTES).await;
    // The other replica's reloads are none of the first's business, and what it purges is.
    let other = Replica::start(&redis, &upstream, STRICT, ROUTES).await;
    let load = Load::start(&upstream, "/courses", replica.address(), 4);
    let store = store_yaml(&redis);
    for turn in 0..100 {
        let (ttl, tags) = (30 + turn % 3, ["[courses]", "[courses, more]"][turn % 2]);
        let routes = format!("routes: [{{path: /courses, ttl: {ttl}s, tags: {tags}}}]");
        replica.reconfigure(&format!("{store}\n{routes}")).await;
        if turn % 10 == 0 {
            other.purge_tag("courses").await;
        }
    }
    let seen = load.ends().await;
    println!("{seen:?}");
    assert!(seen.hits > 100 && seen.writes > 10, "{seen:?}");
    assert_eq!(replica.metric("larder_config_reloads_total{result=\"used\"}").await, 100.0);
}
