//! A day with Redis, shortened: each hour the password is rotated, some hours the primary dies or larder is restarted.
//! No client notices, and connections and memory stay where they were.
//!
//! `LARDER_LONG` makes it all twenty-four hours.

use std::net::TcpListener;

use crate::support::{Command, Load, Process, Redis, Scratch, Sentinels, Upstream, eventually, free_port};

const ROUTES: &str = "defaults: {guard: false}\nroutes: [{path: /courses, ttl: 60s, tags: [courses]}, {path: /steady, ttl: 60s}]";
const MIB: f64 = 1024.0 * 1024.0;

/// Figures that must not grow.
#[derive(Debug)]
struct Level {
    /// Connections of larder to all servers.
    connections: usize,
    keys: usize,
    files: usize,
    allocated: f64,
}

struct Day {
    redis: Sentinels,
    upstream: Upstream,
    socket: TcpListener,
    passwords: Scratch,
}

impl Day {
    async fn begins() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let (redis, upstream) = (Sentinels::start().await, Upstream::start());
        let day = Self { redis, upstream, socket, passwords: Scratch::new() };
        day.passwords.file("password", "hour-0");
        for server in &day.redis.servers {
            allow(server, "hour-0").await;
        }
        day
    }

    async fn larder(&self, socket: &TcpListener) -> Process {
        let (proxy, admin) = (socket.local_addr().expect("an address").port(), free_port());
        let (scratch, file) = (Scratch::new(), self.passwords.path().join("password"));
        let text = format!(
            "listen: 127.0.0.1:{proxy}\nadmin: {{listen: \"127.0.0.1:{admin}\"}}\nupstream: {}\n\
             store:\n  redis: {{url: \"{}\", username: app, auth: {{exec: [cat, \"{}\"], every: 1s}}}}\n  \
             max_lag: 0s\n  timeout: 1s\n  memory: 1MiB\n{ROUTES}\n",
            self.upstream.url(),
            self.redis.url(),
            file.display(),
        );
        let config = scratch.file("proxy.yaml", &text);
        let command = Command::on_socket(socket, &["--config", config.to_str().expect("a path")]);
        let process = Process::spawn(command, scratch, proxy, admin).await;
        process.is_connected().await;
        process
    }

    /// The new password is allowed before anybody uses it, and the old one until nobody does.
    async fn rotates_the_password(&self, hour: usize) {
        let (old, new) = (format!("hour-{}", hour - 1), format!("hour-{hour}"));
        for server in &self.redis.servers {
            allow(server, &new).await;
        }
        self.passwords.file("password.new", &new);
        let path = self.passwords.path();
        std::fs::rename(path.join("password.new"), path.join("password")).expect("a file in its place");
        let before = self.logins().await;
        eventually("all have logged in again", || async { (self.logins().await > before + 4).then_some(()) })
            .await;
        for server in &self.redis.servers {
            let rule = ["ACL", "SETUSER", "app", &format!("<{old}")];
            assert_eq!(server.command(&rule).await, "OK");
        }
    }

    /// The old primary comes back once nobody takes it for the primary: without `min-replicas-to-write` there would be two.
    async fn fails_over(&mut self, hour: usize, larders: [&Process; 2]) {
        let old = self.redis.named_by(0).await;
        self.redis.servers[old].kill();
        for sentinel in 0..3 {
            self.redis.fails_over(sentinel, old).await;
        }
        for larder in larders {
            larder.is_connected().await;
        }
        self.redis.servers[old].restart().await;
        allow(&self.redis.servers[old], &format!("hour-{hour}")).await;
        for sentinel in &self.redis.sentinels {
            eventually("the old primary is a replica", || async {
                let replicas = sentinel.command(&["SENTINEL", "REPLICAS", "shop"]).await;
                (replicas.matches("master-link-status\nok").count() == 2).then_some(())
            })
            .await;
        }
    }

    async fn logins(&self) -> u64 {
        let mut all = 0;
        for server in &self.redis.servers {
            all += server.logins().await;
        }
        all
    }

    async fn level(&self, steady: &Process) -> Level {
        let mut connections = 0;
        for server in &self.redis.servers {
            connections += server.command(&["CLIENT", "LIST"]).await.matches("user=app ").count();
        }
        let primary = self.redis.named_by(0).await;
        let keys = self.redis.servers[primary].command(&["DBSIZE"]).await;
        Level {
            connections,
            keys: keys.parse().expect("a number"),
            files: steady.open_files(),
            allocated: steady.metric("larder_memory_allocated_bytes").await,
        }
    }
}

async fn allow(server: &Redis, password: &str) {
    let password = format!(">{password}");
    assert_eq!(server.command(&["ACL", "SETUSER", "app", "on", &password, "+@all", "~*", "&*"]).await, "OK");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_rotations_failovers_and_restarts_fails_nothing() {
    let hours = if std::env::var_os("LARDER_LONG").is_some() { 24 } else { 4 };
    let mut day = Day::begins().await;
    // One is restarted again and again; the other lives all day.
    let other_socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let steady = day.larder(&other_socket).await;
    let socket = day.socket.try_clone().expect("a socket");
    let mut restarted = day.larder(&socket).await;
    let address = |socket: &TcpListener| socket.local_addr().expect("an address");
    let loads = [
        Load::start(&day.upstream, "/courses", address(&socket), 3),
        Load::start(&day.upstream, "/steady", address(&other_socket), 3),
    ];
    let (mut first, mut failovers) = (None, 0.0);
    for hour in 1..=hours {
        day.rotates_the_password(hour).await;
        if hour % 3 == 2 {
            day.fails_over(hour, [&steady, &restarted]).await;
            failovers += 1.0;
        }
        if hour % 2 == 0 {
            let next = day.larder(&socket).await;
            restarted.signal("TERM");
            assert!(restarted.ended().await.success());
            restarted = next;
        }
        let answers = loads.each_ref().map(Load::answers);
        eventually("clients are served", || async {
            let served = loads.iter().zip(answers).all(|(load, before)| load.answers() > before + 50);
            served.then_some(())
        })
        .await;
        let level = day.level(&steady).await;
        println!("hour {hour}: {level:?}");
        let first = first.get_or_insert(level);
        let allowed = first.connections + 2;
        eventually("no more connections than in the first hour", || async {
            (day.level(&steady).await.connections <= allowed).then_some(())
        })
        .await;
    }
    let (first, last) = (first.expect("an hour"), day.level(&steady).await);
    assert!(last.keys <= first.keys + 4, "{first:?} {last:?}");
    assert!(last.files <= first.files + 8, "{first:?} {last:?}");
    assert!(last.allocated < first.allocated + 8.0 * MIB, "{first:?} {last:?}");
    // Rotation never reconnects.
    let connections = steady.metric("larder_redis_connections_total").await;
    assert!(connections <= 1.0 + 3.0 * failovers, "{connections} after {failovers} failovers");
    for load in loads {
        let seen = load.ends().await;
        println!("{seen:?}");
        assert!(seen.hits > 100 && seen.writes > 10, "{seen:?}");
    }
}
