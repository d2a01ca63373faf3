//! larder's own process in want: of ports for connections to the upstream, and of a worker that stands still.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::{Block, Client, Larder, Scratch, Upstream, eventually, with_deadline};

/// larder in a network of its own that has no more than these ports for outgoing connections.
const PORTS: &str = "40000 40003";

/// In a network of its own: larder with one worker, so that all connections are in one pool, whose upstream is another larder there, whose upstream is the test's on a unix socket.
struct Cramped {
    scratch: Scratch,
    child: Child,
}

impl Cramped {
    /// `None` where this user may not make a network of its own.
    fn start() -> Option<Self> {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path().join(name).display().to_string();
        let front = format!(
            "listen: unix:{}\nadmin: {{listen: \"unix:{}\"}}\nupstream: {{url: \"http://127.0.0.1:8080\", \
             breaker: 3, queue_timeout: 300ms}}\nroutes: []\n",
            at("front"),
            at("admin")
        );
        let back = format!("listen: 127.0.0.1:8080\nadmin: off\nupstream: \"unix:{}\"\n", at("api"));
        scratch.file("front.yaml", &front);
        scratch.file("back.yaml", &back);
        let script = format!(
            "ip link set lo up && sysctl -qw net.ipv4.ip_local_port_range='{PORTS}' && touch made && \
             cpu=$(taskset -cp $$ | sed 's/.*: //; s/[,-].*//') && \
             {{ '{larder}' run --config back.yaml & exec taskset -c $cpu '{larder}' run --config front.yaml; }}",
            larder = env!("CARGO_BIN_EXE_larder")
        );
        let log = std::fs::File::create(scratch.path().join("log")).expect("a file");
        let child = std::process::Command::new("unshare")
            .args(["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", &script])
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .ok()?;
        let mut cramped = Self { scratch, child };
        let front = cramped.scratch.path().join("front");
        // The file of a socket is there before anybody listens on it.
        while UnixStream::connect(&front).is_err() {
            if cramped.child.try_wait().expect("a child").is_some() {
                assert!(!cramped.scratch.path().join("made").exists(), "{}", cramped.log());
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(cramped)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    fn get(&self, socket: &str, target: &str) -> String {
        let mut stream = UnixStream::connect(self.scratch.path().join(socket)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("an answer");
        reply
    }

    fn status(&self, target: &str) -> u16 {
        let reply = self.get("front", target);
        reply.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{reply}"))
    }
}

impl Drop for Cramped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- what larder logged\n{}---", self.log());
        }
    }
}

/// Answers each connection's only request, `/held` once it is let go.
fn answer(listener: UnixListener, arrived: mpsc::Sender<()>, held: std::sync::Arc<std::sync::RwLock<()>>) {
    for stream in listener.incoming() {
        let (mut stream, arrived, held) = (stream.expect("a connection"), arrived.clone(), held.clone());
        std::thread::spawn(move || {
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap_or(0);
            if head[..read].starts_with(b"GET /held") {
                let _ = arrived.send(());
                drop(held.read());
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        });
    }
}

#[test]
fn port_exhaustion_is_a_503_and_opens_no_breaker() {
    let Some(cramped) = Cramped::start() else {
        eprintln!("not shown: this user may not make a network");
        return;
    };
    let listener = UnixListener::bind(cramped.scratch.path().join("api")).expect("a socket");
    let (arrived, arrivals) = mpsc::channel();
    let gate = std::sync::Arc::new(std::sync::RwLock::new(()));
    let shut = gate.write().expect("not poisoned");
    let held = gate.clone();
    std::thread::spawn(move || answer(listener, arrived, held));
    // The other larder may take a moment longer.
    while cramped.status("/warm") != 200 {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::scope(|scope| {
        // Four ports, four requests that take their time.
        let slow: Vec<_> = (0..4).map(|_| scope.spawn(|| cramped.status("/held"))).collect();
        for _ in 0..4 {
            arrivals.recv_timeout(Duration::from_secs(30)).expect("it reaches the upstream");
        }
        for _ in 0..10 {
            let reply = cramped.get("front", "/quick");
            assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
            assert!(reply.to_lowercase().contains("retry-after: 1\r\n"), "{reply}");
        }
        drop(shut);
        for status in slow {
            assert_eq!(status.join().expect("a status"), 200);
        }
    });
    // The breaker of three failures has not opened, and the connections that there are serve again.
    for _ in 0..10 {
        assert_eq!(cramped.status("/quick"), 200);
    }
    let metrics = cramped.get("admin", "/metrics");
    assert!(metrics.contains("larder_upstream_failures_total{reason=\"busy\"} 10"), "{metrics}");
    assert!(!metrics.contains("reason=\"circuit-open\""), "{metrics}");
}

/// A worker that logs waits here for whoever reads the log: that is what stands still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stands_still_is_reported_and_the_others_serve() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("not shown: with one core there is one worker");
        return;
    }
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s}]", &upstream);
    larder.get("/a").await.assert_stored();
    // The worker that operators reach shows nothing while it stands still itself, so it must be another.
    let block = loop {
        let block = Block::set("stand-still");
        let purge = larder.request("PURGE", "/any").header("cache-tag", "stand-still").spawn();
        block.reached().await;
        let metrics = tokio::time::timeout(Duration::from_secs(2), larder.admin.get("/metrics").attempt());
        if metrics.await.is_ok() {
            break (block, purge);
        }
        drop(block);
        with_deadline("the purge ends", purge).await.expect("a reply").assert_status(200);
    };
    let (block, purge) = block;
    let stalled = eventually("the metric shows it", || async {
        let text = larder.admin.get("/metrics").await.text().to_owned();
        let lines = text.lines().filter_map(|line| line.strip_prefix("larder_worker_stalled_seconds{"));
        let seconds = lines.filter_map(|line| line.split_once("} ")?.1.parse::<f64>().ok());
        Some(seconds.filter(|seconds| *seconds > 1.0).count()).filter(|stalled| *stalled > 0)
    });
    assert_eq!(stalled.await, 1);
    for _ in 0..20 {
        served(&larder).await;
    }
    drop(block);
    with_deadline("the purge ends", purge).await.expect("a reply").assert_status(200);
    eventually("it is counted", || async {
        (larder.metric("larder_worker_stalls_total").await > 0.0).then_some(())
    })
    .await;
}

/// Connections go to whoever accepts them first, and who stands still accepts none.
async fn served(client: &Client) {
    client.get("/a").await.assert_status(200).assert_hit();
}
