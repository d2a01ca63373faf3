//! An upstream whose answer says which version of its data it is, and clients that know the least they may be given.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinHandle;

use super::{Answer, Client, Received, Upstream, with_deadline};

/// Totals of a reader's loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub answers: u64,
    pub hits: u64,
    pub writes: u64,
}

/// Asks for `path` again and again, and changes it now and then. Each answer must be a 200, and no older than the last
/// write that was acknowledged before the question.
pub struct Load {
    clients: Vec<JoinHandle<Seen>>,
    shared: Arc<Shared>,
}

struct Shared {
    path: &'static str,
    acknowledged: AtomicU64,
    answers: AtomicU64,
    done: AtomicBool,
}

impl Load {
    /// Two of `clients` write as well; all but one keep their connections as long as they may.
    pub fn start(upstream: &Upstream, path: &'static str, address: SocketAddr, clients: usize) -> Self {
        let version = AtomicU64::new(0);
        upstream.on(path, move |request: &Received| {
            let version = match request.method.as_str() {
                "GET" => version.load(Ordering::SeqCst),
                _ => version.fetch_add(1, Ordering::SeqCst) + 1,
            };
            Answer::ok(version.to_string())
        });
        let shared = Arc::new(Shared {
            path,
            acknowledged: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            done: AtomicBool::new(false),
        });
        let run = |number| tokio::spawn(shared.clone().ask(Client::new(address), number));
        Self { clients: (0..clients).map(run).collect(), shared }
    }

    /// How many requests were answered so far.
    pub fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::SeqCst)
    }

    /// Ends it; fails if any client was failed or told something old.
    pub async fn ends(self) -> Seen {
        self.shared.done.store(true, Ordering::SeqCst);
        let mut all = Seen::default();
        for client in self.clients {
            let seen = with_deadline("a client ends", client).await.expect("no failed request, no stale hit");
            all.answers += seen.answers;
            all.hits += seen.hits;
            all.writes += seen.writes;
        }
        all
    }
}

impl Shared {
    async fn ask(self: Arc<Self>, client: Client, number: usize) -> Seen {
        let (mut seen, mut connection, mut was_last) = (Seen::default(), client.connection().await, false);
        while !self.done.load(Ordering::SeqCst) {
            let least = self.acknowledged.load(Ordering::SeqCst);
            let writes = number < 2 && seen.answers % 10 == number as u64;
            if was_last || number == 0 {
                connection = client.connection().await;
            }
            let reply = if writes {
                client
                    .request("POST", self.path)
                    .body("x")
                    .header("host", &client.address().to_string())
                    .await
            } else {
                connection.get(self.path).await
            };
            was_last = !writes && reply.header("connection").is_some_and(|connection| connection == "close");
            assert_eq!(reply.status, 200, "{reply}");
            let version: u64 = reply.text().parse().expect("a version");
            assert!(version >= least, "{version} after {least} was acknowledged: {reply}");
            if writes {
                self.acknowledged.fetch_max(version, Ordering::SeqCst);
            }
            seen.answers += 1;
            seen.hits += u64::from(reply.is_hit());
            seen.writes += u64::from(writes);
            self.answers.fetch_add(1, Ordering::SeqCst);
        }
        seen
    }
}
