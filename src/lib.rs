//! larder: a sidecar caching reverse proxy.
//!
//! `policy` decides, `store` remembers, `upstream` answers, `proxy` connects them.
//!
//! Arrows point down only: `proxy` → `store`, `upstream`, `policy`; `policy` and `purge` import nothing of the rest.
//! ARCHITECTURE.md has the map. [`run`] builds the parts and wires them.

#![forbid(unsafe_code)]

mod access_log;
pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
mod events;
pub mod explain;
mod hex;
mod lines;
pub mod logging;
pub mod metrics;
pub mod policy;
mod proxy;
pub mod purge;
pub mod purging;
mod reloading;
pub mod server;
mod stall;
pub mod store;
pub mod stored_response;
mod telemetry;
mod upstream;
mod warming;
mod workers;

pub use reloading::Change;
pub use workers::{run, run_reloading};
