//! larder: a sidecar caching reverse proxy.
//!
//! `policy` decides, `store` remembers, `upstream` answers, `proxy` connects them.
//!
//! Arrows point down only: `proxy` → `store`, `upstream`, `policy`; `policy` and `purge` import nothing of the rest.

#![forbid(unsafe_code)]

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod logging;
pub mod metrics;
pub mod policy;
pub mod purge;
pub mod purging;
pub mod server;
pub mod store;
pub mod stored_response;
pub mod upstream;

/// Serves until `shutdown`, and then until what is under way has ended.
pub fn run(
    _config: config::Config,
    _listeners: server::Listeners,
    _clock: clock::Clock,
    _shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    todo!()
}
