//! Redis: the second tier and the keeper of the purge index. No type of the client library leaves this folder.

mod audit_log;
mod batcher;
mod cluster;
mod command_stats;
mod connection;
mod connector;
mod credentials;
mod driver;
mod error;
mod event_source;
mod failure_reason;
mod health;
mod index;
mod inspection;
mod journal;
mod keys;
mod leases;
mod node;
mod port_probe;
mod pubsub;
pub(super) mod rates;
mod recent_purges;
mod replicas;
mod request;
mod scripts;
mod sentinel;
mod server_memory;
mod servers;
mod slots;
pub(super) mod sources;
mod wake_ups;

pub(super) use audit_log::read_purges;
pub(super) use command_stats::CommandKind;
pub use connection::{
    Address, ChannelMessage, ConnectionEvent, ConnectionEvents, RedisConnection, simulate_redis,
};
pub use connection::{Admission, SendOptions};
pub(crate) use connector::build_tls;
pub(crate) use credentials::LoginSource;
pub use error::{Redirect, RedisError};
#[cfg(test)]
pub(crate) use event_source::StreamState;
pub(crate) use event_source::{ChannelEvent, RedisEventSource, StreamEntry, StreamRead};
pub(crate) use failure_reason::{Rule, explain_connection, find_rule, quote};
pub(super) use index::RedisIndex;
pub(crate) use inspection::{Census, FindingLevel, Inspection, ServerFinding, count_keys, inspect};
pub(super) use keys::KeyNames;
pub(super) use leases::FetchLeases;
pub(super) use replicas::Membership;
pub use request::RedisRequest;
pub use scripts::RespValue;
pub(super) use scripts::{REMOVE, REPLACE};
pub(super) use sentinel::SentinelTrust;
pub(super) use server_memory::poll_memory;
pub(super) use servers::Servers;
pub(super) use wake_ups::listen_for_wake_ups;
