//! A connection to one Redis server: a driver's, or that of a simulation.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;

use super::credentials::LoginSource;
use super::error::RedisError;
use super::request::RedisRequest;
use super::scripts::RespValue;
use crate::config::{RedisHost, Secret};
use crate::store::BoxFuture;

/// Whether a command is sent although the breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Only if the breaker is closed.
    IfHealthy,
    /// Always: the reply decides about the breaker.
    Probe,
}

/// How a command is sent.
#[derive(Clone, Copy, Debug)]
pub struct SendOptions {
    /// Whether it is sent with an open breaker.
    pub admission: Admission,
    /// Prefixed by ASKING, for a node that is importing the key's slot.
    pub asking: bool,
    /// Time to wait for the reply.
    pub timeout: Duration,
}

/// A client of one server. It is connected, again and again, while somebody holds its events.
pub trait RedisConnection: Send + Sync {
    /// Connects; the events come from the stream that it returns.
    fn open(&self) -> Box<dyn ConnectionEvents>;

    /// Sends a command once, and waits for its reply within its deadline.
    fn send(&self, request: RedisRequest, options: SendOptions) -> BoxFuture<Result<RespValue, RedisError>>;

    /// Subscribes to a channel, whose messages are events from then on.
    fn subscribe(&self, channel: &str) -> BoxFuture<Result<(), RedisError>>;

    /// Subscribes to all channels that match.
    fn subscribe_pattern(&self, pattern: &str) -> BoxFuture<Result<(), RedisError>>;

    /// Sends PING, and waits for the reply.
    fn ping(&self) -> BoxFuture<Result<(), RedisError>>;
}

/// The events of a connection. Dropping them closes it for good.
pub trait ConnectionEvents: Send + Sync {
    /// The next event. Dropping the future loses none.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = ConnectionEvent> + Send + '_>>;
}

/// One event of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// The server has accepted the connection.
    Connected,
    /// It was lost, or could not be made; `None`: for several reasons.
    Failed(Option<RedisError>),
    /// A message of a subscription; `None`: so many came that some were lost.
    Message(Option<ChannelMessage>),
    /// No further attempt is made.
    Ended(Option<RedisError>),
}

/// A message, and the channel on which it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelMessage {
    /// The name of the channel, also of one that a pattern selected.
    pub channel: Bytes,
    /// The published bytes.
    pub content: Bytes,
}

/// The settings by which a driver connects.
#[derive(Clone)]
pub(super) struct ConnectionSettings {
    /// `None` until it is known; nothing is connected before.
    pub address: Option<Address>,
    pub purpose: ConnectionPurpose,
    pub database: u8,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// In place of the password, if it changes.
    pub credentials: Option<LoginSource>,
    pub tls: Option<Arc<ClientConfig>>,
    /// For a command that has no deadline of its own.
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionPurpose {
    Commands,
    Subscription(PubsubProtocol),
}

/// The protocol of a subscription. RESP2 is for servers and proxies that refuse `HELLO 3`. A driver may use RESP2 for
/// both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PubsubProtocol {
    Resp3,
    Resp2,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP address.
    Host(RedisHost),
    /// The path of a Unix socket.
    Socket(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Host(RedisHost { host, port }) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Host(RedisHost { host, port }) => write!(f, "{host}:{port}"),
            Address::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Makes a client of a simulated server.
type SimulateRedis = fn(&Address) -> Arc<dyn RedisConnection>;

static SIMULATED: OnceLock<SimulateRedis> = OnceLock::new();

/// Replaces all Redis servers, for this whole process.
pub fn simulate_redis(connect: SimulateRedis) {
    SIMULATED.get_or_init(|| connect);
}

/// The simulated client for `address`, if servers are simulated.
pub(super) fn simulated_connection(address: &Address) -> Option<Arc<dyn RedisConnection>> {
    SIMULATED.get().map(|connect| connect(address))
}
