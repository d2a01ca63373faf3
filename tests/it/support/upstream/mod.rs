//! The scripted upstream: HTTP/1.1 by hand over TCP, so that it can misbehave on the wire in any way.
//!
//! It runs on a thread of its own. Unscripted requests are answered with a body that changes with each request for its
//! path (`GET /a #1`, `GET /a #2` …), which tells stored answers from new ones.

mod answer;
mod book;
mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

pub use answer::{Answer, Feed};
use book::{Book, Script, Scripted};
pub use book::{Held, Received};
pub use wire::Wire;

/// Answers for as long as it lives.
pub struct Upstream {
    address: SocketAddr,
    book: Arc<Book>,
    _stop: oneshot::Sender<()>,
}

impl Upstream {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let book = Arc::new(Book::default());
        let (stop, stopped) = oneshot::channel();
        let at_work = Arc::clone(&book);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                tokio::select! {
                    () = accept(listener, at_work) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, book, _stop: stop }
    }

    /// An address at which nothing answers.
    pub fn nowhere() -> String {
        format!("http://127.0.0.1:{}", super::free_port())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on requests for `path` (whatever their method and query) are answered so: by an [`Answer`], or by a
    /// function of what was [`Received`].
    pub fn on(&self, path: &str, script: impl Script) -> &Self {
        self.book.script(path, script.scripted());
        self
    }

    /// Like [`Upstream::on`], for the next request only.
    pub fn once(&self, path: &str, answer: Answer) -> &Self {
        self.book.script_once(path, answer);
        self
    }

    /// From now on `handler` gets the connection of a request for `path` as soon as its head is read.
    pub fn take_over<F>(&self, path: &str, handler: impl Fn(Wire) -> F + Send + Sync + 'static) -> &Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handler = move |wire| -> Pin<Box<dyn Future<Output = ()> + Send>> { Box::pin(handler(wire)) };
        self.book.script(path, Scripted::TakeOver(Arc::new(handler)));
        self
    }

    /// Holds the next request for `path` until it is released. Its answer is chosen on arrival, like that of a slow
    /// upstream that has read its data already.
    pub fn hold(&self, path: &str) -> Held {
        self.book.hold(path, 1)
    }

    /// Like [`Upstream::hold`], for so many requests.
    pub fn hold_several(&self, path: &str, requests: usize) -> Held {
        self.book.hold(path, requests)
    }

    /// Like [`Upstream::hold`], for every request until the release.
    pub fn hold_every(&self, path: &str) -> Held {
        self.book.hold(path, usize::MAX)
    }

    /// How many requests for `path` came so far.
    pub fn count(&self, path: &str) -> usize {
        self.book.received(path).len()
    }

    /// How many requests came so far, whatever they asked for.
    pub fn total(&self) -> usize {
        self.book.all().len()
    }

    /// All requests received, in order.
    pub fn all(&self) -> Vec<Arc<Received>> {
        self.book.all()
    }

    /// Requests received for `path`, in order.
    pub fn received(&self, path: &str) -> Vec<Arc<Received>> {
        self.book.received(path)
    }

    /// The last request for `path`.
    pub fn last(&self, path: &str) -> Arc<Received> {
        self.book.received(path).pop().unwrap_or_else(|| panic!("nothing came for {path}"))
    }

    /// Forgets the requests so far: a long run has too many to keep.
    pub fn forget(&self) {
        self.book.forget();
    }

    /// Waits until `n` requests for `path` came.
    pub async fn has_received(&self, path: &str, n: usize) {
        super::with_deadline(
            &format!("{n} requests for {path}"),
            self.book.wait_until(|| self.count(path) >= n),
        )
        .await;
    }

    /// Waits until no connection that sent a request is open any more.
    pub async fn is_left_alone(&self) {
        super::with_deadline(
            "all connections closed",
            self.book.wait_until(|| self.book.open_connections() == 0),
        )
        .await;
    }

    /// Closes every connection that waits for a request, as a server does when it has waited long enough.
    pub async fn close_idle_connections(&self) {
        self.book.close_idle();
        self.is_left_alone().await;
    }
}

async fn accept(listener: std::net::TcpListener, book: Arc<Book>) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = TcpListener::from_std(listener).expect("a listener");
    let connections = AtomicU64::new(0);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let number = connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(serve(stream, number, Arc::clone(&book)));
    }
}

async fn serve(stream: TcpStream, number: u64, book: Arc<Book>) {
    let _open = book.opened();
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(stream, number);
    loop {
        let head = tokio::select! {
            head = wire.next_head() => head,
            () = book.idle_closed() => return,
        };
        let Some(()) = head else { return };
        let path = wire.head.path().to_owned();
        if let Some(handler) = book.handler(&path) {
            book.record(wire.head.clone());
            return handler(wire).await;
        }
        if wire.read_body().await.is_err() {
            wire.head.aborted = true;
            book.record(wire.head.clone());
            return;
        }
        let (answer, gate) = book.answer_to(wire.head.clone());
        if let Some(mut gate) = gate {
            let _ = gate.wait_for(|open| *open).await;
        }
        if wire.answer(answer).await.is_break() {
            return;
        }
    }
}
