//! A Redis with the settings and the users of `deploy/`: larder has all that it needs there, and nobody has more.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ::larder::clock::Clock;

use crate::support::{Replica, Scratch, Upstream, eventually, free_port};

const ROUTES: &str = "
routes:
  - {path: \"/items/{id}\", ttl: 1h, tags: [items, \"item:{id}\"]}
  - {path: \"/items/{item}/sell\", purges: [\"item:{item}\"]}
";

const PASSWORD: &str = "se/cret&";

/// Sees what was denied, which nobody in `deploy/users.acl` may.
const INSPECTOR: &str = "user inspector on >inspector resetkeys -@all +acl|log";

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn users() -> String {
    std::fs::read_to_string(deploy("users.acl")).expect("the users")
}

struct Shipped {
    port: u16,
    scratch: Scratch,
    child: Option<Child>,
}

impl Shipped {
    fn start() -> Self {
        let scratch = Scratch::new();
        // The hash is made as in deploy/compose.yaml.
        let hash = format!("printf %s '{PASSWORD}' | sha256sum | cut -c1-64");
        let hash = Command::new("sh").args(["-c", &hash]).output().expect("a shell").stdout;
        let hash = String::from_utf8(hash).expect("hexadecimal");
        scratch.file("users.acl", &format!("{}{INSPECTOR}\n", users().replace("PASSWORD", hash.trim())));
        let mut redis = Self { port: free_port(), scratch, child: None };
        redis.spawn();
        redis
    }

    fn spawn(&mut self) {
        let mut command = Command::new("redis-server");
        command.arg(deploy("redis.conf")).args(["--port", &self.port.to_string(), "--aclfile", "users.acl"]);
        command.current_dir(self.scratch.path()).stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server"));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    async fn ask(&self, user: &str, password: &str, words: &[&str]) -> String {
        let mut command = tokio::process::Command::new("redis-cli");
        command.args(["-p", &self.port.to_string(), "--no-auth-warning"]);
        if !user.is_empty() {
            command.args(["--user", user, "--pass", password]);
        }
        let output = command.args(words).output().await.expect("redis-cli");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
    }

    async fn denied(&self) -> String {
        self.ask("inspector", "inspector", &["ACL", "LOG"]).await
    }
}

impl Drop for Shipped {
    fn drop(&mut self) {
        self.kill();
    }
}

fn replica(redis: &Shipped, upstream: &Upstream) -> Replica {
    let url = format!("redis://127.0.0.1:{}/0", redis.port);
    let login = format!("{{url: \"{url}\", username: larder, password: \"{PASSWORD}\"}}");
    Replica::with(
        &format!("store: {{redis: {login}, max_lag: 0s, timeout: 5s}}\n{ROUTES}"),
        upstream,
        Clock::system(),
    )
}

#[tokio::test]
async fn the_shipped_acl_denies_larder_nothing() {
    let (mut redis, upstream) = (Shipped::start(), Upstream::start());
    let (one, other) = (replica(&redis, &upstream), replica(&redis, &upstream));
    for round in 0..2 {
        one.is_connected().await;
        other.is_connected().await;
        let seen = one.get("/items/1").await.text().to_owned();
        eventually("the other has it", || async { other.get("/items/1").await.is_hit().then_some(()) }).await;
        other.get("/items/1").await.assert_text(&seen);
        one.request("POST", "/items/1/sell").body("x").await.assert_status(200);
        assert_ne!(other.get("/items/1").await.text(), seen);
        one.has("/items/1").await;
        other.purge_tag("items").await;
        one.get("/items/1").await.assert_fwd("uri-miss");
        one.request("PURGE", "/items/*").header("purge-mode", "soft").await.assert_status(200);
        let purges = other.admin.get("/purges").await.assert_status(200).json();
        assert_eq!(purges["ownOnly"], false, "{purges}");
        let denied = redis.denied().await;
        assert_eq!(denied, "", "something was denied");
        if round == 0 {
            redis.kill();
            one.is_cut_off().await;
            redis.spawn();
        }
    }
}

#[tokio::test]
async fn nobody_else_gets_in_and_larder_may_do_no_more_than_it_needs() {
    let (redis, upstream) = (Shipped::start(), Upstream::start());
    let one = replica(&redis, &upstream);
    one.is_connected().await;
    one.get("/items/1").await.assert_stored();
    assert!(redis.ask("", "", &["PING"]).await.starts_with("NOAUTH"));
    assert!(redis.ask("larder", "wrong", &["PING"]).await.contains("NOAUTH"));
    assert_eq!(redis.ask("larder", PASSWORD, &["PING"]).await, "PONG");
    for words in [
        &["FLUSHALL"][..],
        &["FLUSHDB"],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["CONFIG", "GET", "*"],
        &["CONFIG", "SET", "dir", "/tmp"],
        &["EVAL", "return 1", "0"],
        &["MODULE", "LIST"],
        &["REPLICAOF", "127.0.0.1", "1"],
        &["SHUTDOWN"],
        &["ACL", "LIST"],
        &["CLIENT", "LIST"],
        &["MONITOR"],
        &["SAVE"],
        &["GET", "other:key"],
        &["SET", "other:key", "x"],
        &["PUBLISH", "other", "x"],
    ] {
        let reply = redis.ask("larder", PASSWORD, words).await;
        assert!(reply.starts_with("NOPERM"), "{words:?}: {reply}");
    }
    let memory = redis.ask("larder", PASSWORD, &["INFO", "memory"]).await;
    assert!(memory.contains("maxmemory_policy:volatile-lru"), "{memory}");
    assert!(memory.contains("maxmemory:536870912"), "{memory}");
    one.has("/items/1").await;
}

/// The rights in the documents and in the file are the same.
#[test]
fn the_documents_and_the_file_of_users_agree() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/redis.md");
    let docs = std::fs::read_to_string(docs).expect("docs/redis.md");
    let told = docs.lines().find_map(|line| line.strip_prefix("ACL SETUSER ")).expect("an ACL");
    let users = users();
    let user =
        users.lines().find_map(|line| line.strip_prefix("user ").filter(|user| user.starts_with("larder ")));
    assert_eq!(user.expect("a user").replace("#PASSWORD", ">PASSWORD"), told);
}
