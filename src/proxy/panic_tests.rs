//! X03: a panic in one task is the end of one request. The seams are in the code, and only in tests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::client_request::ClientHead;
use crate::clock::Clock;
use crate::config::{Config, Listen, SettingOverrides};
use crate::server::{Listener, Listeners};

/// Panics where a request says so.
pub(super) fn trap(head: &ClientHead, place: &str) {
    let asked = head.parts.headers.get("x-panic").is_some_and(|at| at == place);
    assert!(!asked, "as the test asks, in the {place}");
}

/// Answers everything with a number that counts up.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count) = (stream.unwrap(), count.clone());
            thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.push(byte[0]);
                }
                let body = count.fetch_add(1, Ordering::SeqCst);
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n{body:04}");
                _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    address
}

struct Running {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<std::io::Result<()>>>,
}

impl Running {
    fn start() -> Self {
        let listener = Listener::bind(&Listen::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
        let address = listener.to_string().parse().unwrap();
        let yaml = format!(
            "upstream: http://{}\nadmin: off\nroutes: [{{path: /a, ttl: 1h, shared: true}}]",
            upstream()
        );
        let config = Config::parse(&yaml, "", &|_| None, &SettingOverrides::default()).unwrap();
        let listeners = Listeners { proxy: vec![listener], admin: None, outlive_process: false };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = thread::spawn(move || {
            crate::run(config, listeners, Clock::system(), async { drop(stopped.await) })
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// The whole answer; what there is of it, if it breaks off.
    fn ask(&self, line: &str, panic: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Panic: {panic}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("{line}: it hangs"),
            _ => String::from_utf8(answer).unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop = None;
        let ended = self.thread.take().unwrap().join();
        assert!(thread::panicking() || ended.unwrap().is_ok());
    }
}

#[test]
fn a_panic_ends_its_request_and_nothing_else() {
    let larder = Running::start();
    // In the request's own task: the connection ends.
    assert_eq!(larder.ask("GET /a", "request"), "");
    // In a fetch: the one who asked, and whoever waits, get an error, and the next one fetches.
    let failed = larder.ask("GET /a", "fetch");
    assert!(failed.starts_with("HTTP/1.1 502"), "{failed}");
    // In the middle of a fetch that is passed on: cut off, never as if whole.
    let cut = larder.ask("GET /a", "fill");
    assert!(!cut.starts_with("HTTP/1.1 200") || !cut.contains("\r\n\r\n0"), "{cut}");
    for expected in ["fwd=uri-miss", "larder; hit"] {
        let answer = larder.ask("GET /a", "nowhere");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(expected), "{answer}");
    }
}

#[test]
fn a_write_that_ends_in_a_panic_is_purged_before_it_is_answered() {
    let larder = Running::start();
    larder.ask("GET /a", "nowhere");
    assert!(larder.ask("GET /a", "nowhere").contains("larder; hit"));
    let failed = larder.ask("DELETE /a", "write");
    assert!(failed.starts_with("HTTP/1.1 502"), "{failed}");
    assert!(!larder.ask("GET /a", "nowhere").contains("larder; hit"));
}
