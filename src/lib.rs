//! larder: a sidecar caching reverse proxy.
//!
//! `policy` decides, `store` remembers, `upstream` answers, `proxy` connects them.
//!
//! Dependencies point down only: `proxy` → `store`, `upstream`, `policy`; `policy` and `purge` depend on nothing
//! else. ARCHITECTURE.md has the module map. [`run`] wires the parts.

#![warn(unreachable_pub)]

mod access;
mod access_log;
mod admin;
mod audit;
mod callers;
mod cdn;
pub mod cli;
pub mod clock;
pub mod config;
mod decision_feed;
mod draft;
pub mod events;
pub mod explain;
mod hex;
mod log_interval;
mod log_writer;
mod logging;
pub mod memory_budget;
pub mod metrics;
pub mod observation;
mod pem_files;
mod phase;
pub mod policy;
mod progress_timeout;
mod proxy;
pub mod purge;
pub mod purging;
pub mod random;
mod raw_target;
mod reload;
mod sampler;
pub mod server;
pub mod store;
pub mod stored_response;
pub mod tasks;
mod telemetry;
mod upstream;
mod warming;
mod workers;

pub use reload::ConfigChange;
pub use workers::{ExitAtOnce, Shutdown, run, run_with_reload};
