//! LISTENS. Accepts, bounds and drains connections; never looks inside a request.

mod accepting;
pub mod listener;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use accepting::Accepting;
pub use listener::{Listener, Listeners};

use crate::config::Limits;
use crate::metrics::Metrics;
use crate::proxy::Desk;

/// When accepting fails, the process is most likely out of file descriptors; some come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// HTTP/2 requests at a time on one connection.
const MAX_STREAMS: u32 = 200;

/// Accepts on one listener and one thread, until told to stop; then lets what is under way end within
/// `limits.drain`. `slots` bounds the connections of all threads together.
pub async fn serve(
    listener: Listener,
    desk: Arc<Desk>,
    slots: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = Accepting::of(listener)?;
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = next => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = Connection { desk: desk.clone() };
        let open = Open::new(slot, metrics.clone());
        let watcher = graceful.watcher();
        let stopping = shutdown.clone();
        tokio::spawn(async move {
            connection.serve(stream, peer, watcher, stopping).await;
            drop(open);
        });
    }
    // From now on nobody gets in; who is in may finish.
    drop(listener);
    let drain = desk.worker().limits().drain;
    if timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut off: they did not end within `limits.drain`");
    }
    Ok(())
}

/// Counts a connection while it is open.
struct Open {
    _slot: Option<OwnedSemaphorePermit>,
    metrics: Arc<Metrics>,
}

impl Open {
    fn new(slot: Option<OwnedSemaphorePermit>, metrics: Arc<Metrics>) -> Self {
        metrics.connection_opened();
        Self { _slot: slot, metrics }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connection_closed();
    }
}

struct Connection {
    desk: Arc<Desk>,
}

impl Connection {
    async fn serve(
        self,
        stream: accepting::Stream,
        peer: Option<std::net::IpAddr>,
        watcher: hyper_util::server::graceful::Watcher,
        mut stopping: watch::Receiver<bool>,
    ) {
        let (header_timeout, builder) = {
            let worker = self.desk.worker();
            (worker.limits().header_timeout, protocol(worker.limits()))
        };
        // hyper's own clocks start with the first byte.
        tokio::select! {
            first = timeout(header_timeout, stream.readable()) => if !matches!(first, Ok(Ok(()))) { return },
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        let desk = self.desk;
        let asked = Arc::new(AtomicBool::new(false));
        let asks = asked.clone();
        let service = service_fn(move |request| {
            asks.store(true, Ordering::Relaxed);
            let worker = desk.worker().clone();
            async move { Ok::<_, Infallible>(worker.handle(request, peer).await) }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::select! {
            ended = watcher.watch(connection.into_owned()) => if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            },
            () = asks_nothing(&asked, header_timeout) => tracing::debug!("a connection asked nothing"),
        }
    }
}

/// Completes if the first request does not come in time. hyper bounds the time for a head only once it knows which
/// HTTP it speaks: half of an HTTP/2 preface would hold the connection for ever.
async fn asks_nothing(asked: &AtomicBool, limit: Duration) {
    sleep(limit).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

fn protocol(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.header_bytes.max(8 * 1024))
        // Not `pipeline_flush`: with it hyper takes a whole body in, however slowly the client reads.
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.header_timeout)
        .adaptive_window(true);
    builder
}
