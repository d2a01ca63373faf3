//! LISTENS. Accepts, bounds and drains connections; never looks inside a request.

mod accepting;
mod connection;
mod door;
mod expiry;
pub mod files;
pub mod framing;
mod interim;
mod lent;
pub mod listener;
mod pace;
mod proxy_protocol;
mod streams;
mod strict;
pub mod tls;

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use accepting::Accepting;
pub use door::Door;
pub use listener::{Listener, Listeners};

use crate::metrics::Metrics;
use crate::proxy::Desk;

/// When accepting fails, the process is most likely out of file descriptors; some come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts on one listener and one thread, until told to stop; then lets what is under way end within
/// `limits.drain`. `slots` bounds the connections of all threads together. `outlives`: the listener is there when this
/// process is not.
pub async fn serve(
    listener: Listener,
    door: Door,
    desk: Arc<Desk>,
    slots: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    outlives: bool,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let accepting = Accepting::of(listener)?;
    let serving = TaskTracker::new();
    let stopping = shutdown.clone();
    let open = |slot, (stream, peer): (accepting::Stream, _)| {
        let open = Open::new(slot, metrics.clone());
        let (door, desk, stopping) = (door.clone(), desk.clone(), stopping.clone());
        let metrics = metrics.clone();
        serving.spawn(async move {
            door.enter(stream, peer, desk, metrics, stopping).await;
            drop(open);
        });
    };
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await.ok();
            (slot, accepting.accept(desk.worker().limits().body_timeout).await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = next => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok(accepted) => open(slot, accepted),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                metrics.accept_failed();
                tracing::warn!(%error, "could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // From now on nobody gets in; who is in may finish, and who waits to be let in, unless the listener outlives this
    // process: then the next one lets them in.
    if !outlives {
        while let Some(accepted) = waiting(&accepting, desk.worker().limits().body_timeout).await {
            open(None, accepted);
        }
    }
    drop(accepting);
    serving.close();
    let drain = desk.worker().limits().drain;
    if timeout(drain, serving.wait()).await.is_err() {
        tracing::warn!("connections were cut off: they did not end within `limits.drain`");
    }
    Ok(())
}

/// A connection that the system has taken already.
async fn waiting(accepting: &Accepting, patience: Duration) -> Option<(accepting::Stream, Option<IpAddr>)> {
    let mut next = pin!(accepting.accept(patience));
    poll_fn(|cx| match next.as_mut().poll(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// The client went away before it was accepted: that says nothing of the next one.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
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
