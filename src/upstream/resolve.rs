//! Looks up the addresses of the upstream's names again and again (`upstream.resolve_every`).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Destination;

/// How often it is checked if another look-up is due.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A look-up that takes longer has failed.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps the instances of the upstream that `current` returns up to date. Never returns.
pub(crate) async fn keep_resolving(current: impl Fn() -> Arc<Destination>) {
    let (mut resolved, mut resolved_at) = (Weak::new(), Instant::now());
    loop {
        let destination = current();
        let is_new = !std::ptr::eq(Weak::as_ptr(&resolved), Arc::as_ptr(&destination));
        if let Some(interval) = destination.settings.resolve_every
            && (is_new || resolved_at.elapsed() >= interval)
        {
            destination.resolve(lookup).await;
            (resolved, resolved_at) = (Arc::downgrade(&destination), Instant::now());
        }
        drop(destination);
        sleep(CHECK_INTERVAL).await;
    }
}

async fn lookup(name: String) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(&name)).await;
    let found = found.map_err(io::Error::from).and_then(|found| found.map(Iterator::collect));
    if let Err(error) = &found {
        tracing::warn!(name, %error, "upstream's name not resolved");
    }
    found
}
