//! larder: a sidecar caching reverse proxy.
//!
//! `policy` decides, `store` remembers, `upstream` answers, `proxy` connects them.
//!
//! Arrows point down only: `proxy` → `store`, `upstream`, `policy`; `policy` and `purge` import nothing of the rest.

#![forbid(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod config;
pub mod metrics;
pub mod policy;
pub mod purge;
pub mod store;
pub mod stored_response;
