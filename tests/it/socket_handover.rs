//! A new process takes over from an old one, on a socket that outlives both, and no client notices.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::{Client, Command, Process, Scratch, Upstream, eventually, free_port, with_deadline};

const ROUTES: &str = "routes: [{path: /a, ttl: 60s}]";

/// Starts a larder on a socket that is open already. `yaml`: its `proxy.yaml` without listeners and upstream.
pub(crate) async fn on(socket: &TcpListener, upstream: &Upstream, yaml: &str) -> Process {
    let (proxy, admin) = (socket.local_addr().expect("an address").port(), free_port());
    let scratch = Scratch::new();
    let listeners = format!("listen: 127.0.0.1:{proxy}\nadmin: {{listen: \"127.0.0.1:{admin}\"}}\n");
    let config = scratch.file("proxy.yaml", &format!("{listeners}upstream: {}\n{yaml}\n", upstream.url()));
    let command = Command::on_socket(socket, &["--config", config.to_str().expect("a path")]);
    Process::spawn(command, scratch, proxy, admin).await
}

/// Asks again and again over a connection that is kept as long as it can be; each request must be answered.
async fn client(client: Client, done: Arc<AtomicBool>, answered: Arc<AtomicU64>, keep: bool) {
    let mut connection = client.connection().await;
    let mut was_last = false;
    for turn in 0_u64.. {
        if done.load(Ordering::SeqCst) {
            return;
        }
        if !keep || was_last {
            connection = client.connection().await;
        }
        let target = if turn.is_multiple_of(3) { "/pass" } else { "/a" };
        let reply = connection.get(target).await;
        assert_eq!(reply.status, 200);
        was_last = reply.header("connection").is_some_and(|connection| connection == "close");
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_rolling_restarts_under_load_fail_no_request() {
    let upstream = Upstream::start();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("an address");
    let mut process = on(&socket, &upstream, ROUTES).await;
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..6)
        .map(|number| tokio::spawn(client(Client::new(address), done.clone(), answered.clone(), number > 0)))
        .collect();
    for _ in 0..20 {
        let before = answered.load(Ordering::SeqCst);
        let next = on(&socket, &upstream, ROUTES).await;
        eventually("clients are served meanwhile", || async {
            (answered.load(Ordering::SeqCst) > before + 50).then_some(())
        })
        .await;
        process.signal("TERM");
        assert!(process.ended().await.success());
        process = next;
    }
    done.store(true, Ordering::SeqCst);
    for client in clients {
        with_deadline("a client ends", client).await.expect("every request was answered");
    }
}

#[tokio::test]
async fn who_comes_while_nobody_serves_waits_and_is_served() {
    let upstream = Upstream::start();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("an address");
    let early = Client::new(address).get("/a").spawn();
    let mut process = on(&socket, &upstream, ROUTES).await;
    early.await.expect("no panic").assert_status(200);
    process.signal("TERM");
    assert!(process.ended().await.success());
    let between = Client::new(address).get("/a").spawn();
    let _next = on(&socket, &upstream, ROUTES).await;
    between.await.expect("no panic").assert_status(200);
}

#[tokio::test]
async fn a_socket_that_nobody_would_serve_is_an_error_that_says_so() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let scratch = Scratch::new();
    let text = format!("upstream: http://127.0.0.1:9\nlisten: 127.0.0.1:{}\nadmin: off\n", free_port());
    let config = scratch.file("proxy.yaml", &text);
    let output = Command::on_socket(&socket, &["--config", config.to_str().expect("a path")]).output().await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains(&socket.local_addr().expect("an address").to_string()), "{said}");
    assert!(said.contains("neither `listen` nor `admin.listen`"), "{said}");
}
