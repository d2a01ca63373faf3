//! The client library behind [`super::connection::RedisConnection`], chosen when larder is built: fred, or redis-rs with
//! the feature `redis-rs`. A driver connects to one server; everything about several servers is larder's own.

use std::time::Duration;

#[cfg(not(feature = "redis-rs"))]
mod fred_client;
#[cfg(feature = "redis-rs")]
mod redis_rs_client;

#[cfg(not(feature = "redis-rs"))]
pub(super) use fred_client::connect;
#[cfg(feature = "redis-rs")]
pub(super) use redis_rs_client::connect;

/// Time to connect, TLS handshake and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Delays between attempts to connect, in milliseconds.
const MIN_RECONNECT_DELAY_MS: u32 = 50;
const MAX_RECONNECT_DELAY_MS: u32 = 500;
const RECONNECT_JITTER_MS: u32 = 20;
