//! `larder top`: a table for pipes, a screen for terminals, and the counters of all replicas.

use std::process::Stdio;

use crate::support::{Command, Redis, Replica, Upstream, eventually, with_deadline};

const ROUTES: &str =
    "routes: [{path: /a, name: things, ttl: 60s}, {path: '/b/{id}', name: others, ttl: 60s}]";

/// Runs a command on a terminal of 100 columns and 24 lines, presses keys (`!15`: sends a signal) once each text is on the
/// screen, and prints all that came. A text is one word: cells that stay as they were are not sent again.
const TERMINAL: &str = r"
import fcntl, os, pty, select, struct, sys, termios, time
steps = [step.split('=', 1) for step in sys.argv[1].split('|')]
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[2], sys.argv[2:])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 100, 0, 0))
seen, all, end = b'', b'', time.monotonic() + 110
while time.monotonic() < end:
    if select.select([terminal], [], [], 0.1)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        seen, all = seen + data, all + data
    if steps and steps[0][0].encode() in seen:
        keys = steps.pop(0)[1]
        os.kill(child, int(keys[1:])) if keys[0] == '!' else os.write(terminal, keys.encode())
        seen = b''
sys.stdout.buffer.write(all)
os.close(terminal)
status = os.waitpid(child, 0)[1]
sys.exit(os.waitstatus_to_exitcode(status) or len(steps))
";

#[tokio::test]
async fn counters_of_all_replicas_are_one_table() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "", ROUTES).await;
    let two = Replica::start(&redis, &upstream, "", ROUTES).await;
    // Each has a miss of its own.
    for (replica, own) in [(&one, "/b/1"), (&two, "/b/2")] {
        for target in ["/a", "/a", own, "/elsewhere"] {
            replica.get(target).await.assert_status(200);
        }
    }
    let stats = eventually("both replicas have reported", || async {
        let stats = one.admin.get("/stats?scope=all").await.json();
        let count = |name: &str| stats["routes"]["things"][name].as_u64();
        (count("requests") == Some(4) && stats["unrouted"]["requests"] == 2).then_some(stats)
    })
    .await;
    let of_upstream = |name: &str| {
        let buckets = stats["routes"][name]["fromUpstream"]["buckets"].as_object().expect("buckets");
        buckets.values().filter_map(serde_json::Value::as_u64).sum::<u64>()
    };
    for name in ["things", "others"] {
        assert_eq!(Some(of_upstream(name)), stats["routes"][name]["misses"].as_u64(), "{stats}");
    }
    let admin = format!("http://{}", one.admin.address());
    let printed = Command::new(&["top", "--admin", &admin, "--token", "t"]).stdout().await;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(printed.starts_with("ok; 2 replicas; 8 requests, "), "{printed}");
    let row = printed.lines().find(|line| line.starts_with("things ")).expect("the route");
    assert_eq!(words(row)[1..3], ["-", "4"], "{printed}");
    assert!(printed.lines().any(|line| line.starts_with("(no route) ")), "{printed}");
    let sizes = one.admin.get("/sizes?by=uses").await.json();
    let paths = sizes["paths"].as_array().expect("paths");
    assert!(paths.iter().any(|path| path["name"] == "/a" && path["uses"].as_u64() >= Some(1)), "{sizes}");
}

#[tokio::test]
async fn the_most_used_paths_are_those_of_all_replicas() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "replica: one", ROUTES).await;
    let two = Replica::start(&redis, &upstream, "replica: two", ROUTES).await;
    // Only the second replica knows the path, and counts its paths when it starts and after half a minute.
    for _ in 0..3 {
        two.get("/b/2").await.assert_status(200);
    }
    one.get("/a").await.assert_status(200);
    one.get("/a").await.assert_status(200);
    eventually("both have reported their paths", || async {
        let sizes = one.admin.get("/sizes?by=uses&scope=all").await.assert_status(200).json();
        let uses = |name: &str| {
            let paths = sizes["paths"].as_array()?;
            paths.iter().find(|path| path["name"] == name)?["uses"].as_u64()
        };
        (uses("/b/2") == Some(2) && uses("/a") == Some(1) && sizes["missing"] == serde_json::json!([]))
            .then_some(())
    })
    .await;
    one.admin.get("/sizes?scope=all").await.assert_status(400);
}

#[tokio::test]
async fn encrypted_paths_are_not_reported() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let keys = "encrypt: {keys: [{id: a, secret: 0123456789abcdef0123456789abcdef}]}";
    let larder = Replica::start(&redis, &upstream, &format!("replica: one, {keys}"), ROUTES).await;
    for _ in 0..2 {
        larder.get("/b/secret").await.assert_status(200);
    }
    let report = eventually("it has reported", || async {
        let report = redis.command(&["GET", "{larder}:stats:one"]).await;
        report.contains("\"requests\":2").then_some(report)
    })
    .await;
    assert!(!report.contains("/b/secret") && report.contains("\"paths\":null"), "{report}");
}

#[tokio::test]
async fn replicas_without_redis_are_added_up_and_a_silent_one_is_told() {
    let upstream = Upstream::start();
    let [one, two] = [(); 2].map(|()| crate::support::Larder::with(ROUTES, &upstream));
    for larder in [&one, &two] {
        for _ in 0..3 {
            larder.get("/a").await.assert_status(200);
        }
    }
    let [one, two] = [&one, &two].map(|larder| format!("http://{}", larder.admin.address()));
    let top = ["top", "--token", "t", "--admin", &one, "--admin", &two, "--admin", &one];
    let printed = Command::new(&top).stdout().await;
    assert!(printed.starts_with("ok; 2 replicas; 6 requests, "), "{printed}");
    let silent = "127.0.0.1:1";
    let printed = Command::new(&[&top[..], &["--admin", silent]].concat()).stdout().await;
    assert!(printed.starts_with("ok; 2 replicas; 6 requests, "), "{printed}");
    assert!(printed.contains(&format!("! {silent}: ")), "{printed}");
}

#[tokio::test]
async fn a_terminal_gets_a_screen_that_keys_change_and_leave() {
    let upstream = Upstream::start();
    let larder = crate::support::Larder::with(ROUTES, &upstream);
    for _ in 0..3 {
        larder.get("/a").await.assert_status(200);
    }
    let admin = format!("http://{}", larder.admin.address());
    for (steps, code) in [("things=?|reverse=?k|Most=p|PAUSED=q", 0), ("things=!15", 143), ("things=!1", 129)]
    {
        let program = env!("CARGO_BIN_EXE_larder");
        let mut command = tokio::process::Command::new("python3");
        command.args(["-c", TERMINAL, steps, program, "top", "--interval", "200ms", "--admin", &admin]);
        command.args(["--token", "t"]).env("TERM", "xterm-256color").stdin(Stdio::null()).kill_on_drop(true);
        let output = with_deadline("it is left", command.output()).await.expect("python3");
        let seen = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{steps}: {:?}\n{seen}\n{errors}", output.status);
        // The other screen of the terminal is entered, and left at the end.
        let (entered, left) = (seen.find("\u{1b}[?1049h"), seen.rfind("\u{1b}[?1049l"));
        assert!(entered < left && entered.is_some(), "{seen:?}");
    }
}
