//! Change events from a Redis server: entries of a stream, or messages on a channel. The server need not be the store's.
//! Events are not interpreted here.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::connection::{
    Address, Admission, ChannelMessage, ConnectionEvent, ConnectionEvents, PubsubProtocol, RedisConnection,
    SendOptions,
};
use super::connector::RedisConnector;
use super::error::RedisError;
use super::request::RedisRequest;
use super::scripts::{RespValue, STREAM};
use crate::config::{ChannelName, RedisServers, RedisSettings};
use crate::store::sources::StreamPosition;

/// For connecting, and for a command that does not block.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// Between PINGs on a quiet subscription, which would not notice a dead connection otherwise.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// A server that has change events.
#[derive(Clone)]
pub(crate) struct RedisEventSource(RedisConnector);

/// A connection to an event server; dropping it closes it.
pub(crate) struct EventConnection {
    connection: Arc<dyn RedisConnection>,
    events: Box<dyn ConnectionEvents>,
}

/// An entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamEntry {
    pub position: StreamPosition,
    pub fields: Vec<(Bytes, Bytes)>,
}

/// The state of a stream; of a missing stream it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamState {
    pub last: StreamPosition,
    pub length: u64,
    /// Number of entries ever added, where the server counts them (Redis 7).
    pub added: Option<u64>,
    /// The latest entry that was deleted out of turn (Redis 7).
    pub max_deleted: Option<StreamPosition>,
    /// The first entry that the stream still has.
    pub first: Option<StreamPosition>,
}

/// The entries of a stream after a position, and the state of the stream at the same moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamRead {
    pub state: StreamState,
    /// Whether the stream still has the entry at the position.
    pub has_position: bool,
    pub entries: Vec<StreamEntry>,
    /// Whether these are all entries after the position.
    pub is_complete: bool,
}

/// An event of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChannelEvent {
    Message(ChannelMessage),
    /// The server answers, and no message is pending.
    Alive,
    /// The subscription has begun; earlier messages were missed.
    Subscribed,
    /// There is no subscription, for this reason.
    Disconnected(String),
}

impl RedisEventSource {
    /// # Errors
    /// If a TLS file can't be read, or the settings name no single server.
    pub(crate) fn new(settings: &RedisSettings) -> io::Result<Self> {
        let address = match &settings.servers {
            RedisServers::One(host) => Address::Host(host.clone()),
            RedisServers::Unix(path) => Address::Socket(path.clone()),
            // The configuration check rejects these.
            RedisServers::Cluster(_) | RedisServers::Sentinel { .. } => {
                return Err(io::Error::other("change events are read from a single server"));
            }
        };
        Ok(Self(RedisConnector::new(settings, COMMAND_TIMEOUT)?.with_address(&address)))
    }

    /// # Errors
    /// The reason why there is no connection.
    pub(crate) async fn connect(&self) -> Result<EventConnection, String> {
        EventConnection::open(self.0.build_client()).await
    }

    /// Runs one subscription until it ends, and tells what is heard. If messages come too fast, the connection ends, so that
    /// the receiver learns that some were missed.
    ///
    /// # Errors
    /// The reason of the end.
    pub(crate) async fn run_subscription(
        &self,
        channel: &ChannelName,
        tell: &mpsc::Sender<ChannelEvent>,
    ) -> Result<Infallible, String> {
        let mut connected = EventConnection::open(self.0.build_pubsub_client(PubsubProtocol::Resp3)).await?;
        let subscribed = match channel.is_pattern() {
            true => connected.connection.subscribe_pattern(channel.as_str()),
            false => connected.connection.subscribe(channel.as_str()),
        };
        subscribed.await.map_err(describe_error)?;
        tell.send(ChannelEvent::Subscribed).await.map_err(|_| "the receiver is gone".to_owned())?;
        loop {
            let heard = tokio::select! {
                biased;
                event = connected.events.next() => match event {
                    ConnectionEvent::Message(Some(message)) => ChannelEvent::Message(message),
                    ConnectionEvent::Message(None) => return Err("messages came too fast".to_owned()),
                    ConnectionEvent::Ended(reason) => return Err(format!("the connection ended: {reason:?}")),
                    ConnectionEvent::Connected => return Err("the connection was lost".to_owned()),
                    // The driver may try to connect while the server is unavailable.
                    ConnectionEvent::Failed(Some(error)) => return Err(describe_error(error)),
                    ConnectionEvent::Failed(None) => return Err("the connection was lost".to_owned()),
                },
                () = sleep(PING_INTERVAL) => {
                    connected.connection.ping().await.map_err(describe_error)?;
                    ChannelEvent::Alive
                }
            };
            tell.try_send(heard).map_err(|_| "too many messages are pending".to_owned())?;
        }
    }
}

impl EventConnection {
    async fn open(connection: Arc<dyn RedisConnection>) -> Result<Self, String> {
        let mut events = connection.open();
        match timeout(COMMAND_TIMEOUT, events.next()).await {
            Ok(ConnectionEvent::Connected) => Ok(Self { connection, events }),
            Ok(ConnectionEvent::Failed(Some(error))) => Err(describe_error(error)),
            Ok(event) => Err(format!("no connection: {event:?}")),
            Err(_) => Err("connecting took too long".to_owned()),
        }
    }

    /// Waits up to `within` for an entry after `position`.
    ///
    /// # Errors
    /// The reason why the stream can't be read.
    pub(crate) async fn wait_for_entry(
        &self,
        key: &str,
        position: StreamPosition,
        within: Duration,
    ) -> Result<(), String> {
        let block = within.as_millis().max(1).to_string();
        let words = ["COUNT", "1", "BLOCK", &block, "STREAMS", key, &position.to_string()];
        let read = RedisRequest { blocks: true, ..RedisRequest::with_args("XREAD", &words) };
        self.query(read, within).await.map(drop)
    }

    /// Reads up to `count` entries after `position`. One script reads them and the state, so that what is added or
    /// deleted meanwhile makes no difference between the two.
    ///
    /// # Errors
    /// The reason why the stream can't be read.
    pub(crate) async fn read_after(
        &self,
        key: &str,
        position: StreamPosition,
        count: usize,
    ) -> Result<StreamRead, String> {
        let args = || vec![Bytes::from(position.to_string()), Bytes::from(count.to_string())];
        let by_digest = || RedisRequest::evalsha(STREAM.sha(), &[key], args());
        let reply = match self.send(by_digest(), Duration::ZERO).await {
            Err(error) if error.is_unknown_script() => {
                match self.send(RedisRequest::script_load(STREAM.text), Duration::ZERO).await {
                    Ok(_) => self.query(by_digest(), Duration::ZERO).await?,
                    Err(RedisError::ErrorReply(_)) => {
                        self.query(RedisRequest::eval(STREAM.text, &[key], args()), Duration::ZERO).await?
                    }
                    Err(error) => return Err(describe_error(error)),
                }
            }
            reply => reply.map_err(describe_error)?,
        };
        parse_read(&reply, count).ok_or_else(malformed_reply)
    }

    async fn query(&self, request: RedisRequest, waits: Duration) -> Result<RespValue, String> {
        self.send(request, waits).await.map_err(describe_error)
    }

    async fn send(&self, request: RedisRequest, waits: Duration) -> Result<RespValue, RedisError> {
        let (admission, timeout) = (Admission::IfHealthy, waits + COMMAND_TIMEOUT);
        let options = SendOptions { admission, asking: false, timeout };
        self.connection.send(request, options).await
    }
}

/// Parses the reply of [`STREAM`].
fn parse_read(reply: &RespValue, count: usize) -> Option<StreamRead> {
    let [last, length, added, max_deleted, first, has_position, entries] = reply.array()? else {
        return None;
    };
    let position = |part: &RespValue| part.text().and_then(StreamPosition::parse);
    let entries = entries.array()?.iter().map(parse_entry).collect::<Option<Vec<_>>>()?;
    let state = StreamState {
        last: position(last)?,
        length: length.number()?,
        added: added.number(),
        max_deleted: position(max_deleted),
        first: position(first),
    };
    let (has_position, is_complete) = (has_position.number()? == 1, entries.len() < count);
    Some(StreamRead { state, has_position, entries, is_complete })
}

fn parse_entry(entry: &RespValue) -> Option<StreamEntry> {
    let RespValue::Array(parts) = entry else { return None };
    let [id, fields] = parts.as_slice() else { return None };
    let position = StreamPosition::parse(id.text()?)?;
    // An entry that was deleted meanwhile has an id alone.
    let RespValue::Array(fields) = fields else { return Some(StreamEntry { position, fields: Vec::new() }) };
    let bytes = |part: &RespValue| match part {
        RespValue::Bytes(bytes) => Some(Bytes::copy_from_slice(bytes)),
        _ => None,
    };
    let pairs = fields.chunks(2).map(|pair| Some((bytes(pair.first()?)?, bytes(pair.get(1)?)?)));
    Some(StreamEntry { position, fields: pairs.collect::<Option<_>>()? })
}

fn malformed_reply() -> String {
    "malformed reply about a stream".to_owned()
}

fn describe_error(error: RedisError) -> String {
    error.to_string()
}
