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
use super::failure_reason::{
    ExplainContext, explain_finding, explain_for_source, is_ambiguous, name_source_settings, timed_out,
};
use super::port_probe::probe_port;
use super::request::RedisRequest;
use super::scripts::{RespValue, STREAM};
use crate::config::{ChannelName, RedisServers, RedisSettings};
use crate::store::remote_status::FailureReason;
use crate::store::sources::StreamPosition;

/// For connecting, and for a command that does not block.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// Between questions on a quiet subscription, which would not notice a dead connection otherwise.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// A server that has change events.
#[derive(Clone)]
pub(crate) struct RedisEventSource {
    connector: RedisConnector,
    address: Address,
}

/// A connection to an event server; dropping it closes it.
pub(crate) struct EventConnection {
    connection: Arc<dyn RedisConnection>,
    events: Box<dyn ConnectionEvents>,
    context: ExplainContext,
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
    Disconnected(FailureReason),
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
        let connector = RedisConnector::new(settings, COMMAND_TIMEOUT)?.with_address(&address);
        Ok(Self { connector, address })
    }

    /// # Errors
    /// The reason why there is no connection.
    pub(crate) async fn connect(&self) -> Result<EventConnection, FailureReason> {
        self.open(self.connector.build_client()).await
    }

    /// Reads the stream as its consumer does, for people.
    ///
    /// # Errors
    /// The reason why the stream can't be read.
    pub(crate) async fn check_stream(&self, key: &str) -> Result<(), FailureReason> {
        let connected = self.connect().await?;
        connected.read_after(key, StreamPosition::START, 1).await?;
        connected.wait_for_entry(key, StreamPosition::START, Duration::ZERO).await
    }

    /// Subscribes as the consumer of the channel does, for people.
    ///
    /// # Errors
    /// The reason why the channel can't be heard.
    pub(crate) async fn check_channel(&self, channel: &ChannelName) -> Result<(), FailureReason> {
        self.subscribe(channel).await.map(drop)
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
    ) -> Result<Infallible, FailureReason> {
        let mut connected = self.subscribe(channel).await?;
        tell.send(ChannelEvent::Subscribed).await.map_err(|_| ended("the receiver is gone"))?;
        loop {
            let heard = tokio::select! {
                biased;
                event = connected.events.next() => match event {
                    ConnectionEvent::Message(Some(message)) => ChannelEvent::Message(message),
                    ConnectionEvent::Message(None) => return Err(too_fast()),
                    // The driver may try to connect while the server is unavailable.
                    ConnectionEvent::Failed(Some(error)) | ConnectionEvent::Ended(Some(error)) => {
                        return Err(connected.explain(&error));
                    }
                    ConnectionEvent::Failed(None)
                    | ConnectionEvent::Ended(None)
                    | ConnectionEvent::Connected => return Err(ended("the connection was lost")),
                },
                () = sleep(PING_INTERVAL) => {
                    connected.request_channel(channel).await?;
                    ChannelEvent::Alive
                }
            };
            tell.try_send(heard).map_err(|_| too_fast())?;
        }
    }

    /// A connection that is subscribed to the channel.
    async fn subscribe(&self, channel: &ChannelName) -> Result<EventConnection, FailureReason> {
        let connected = self.open(self.connector.build_pubsub_client(PubsubProtocol::Resp3)).await?;
        connected.request_channel(channel).await?;
        Ok(connected)
    }

    async fn open(&self, connection: Arc<dyn RedisConnection>) -> Result<EventConnection, FailureReason> {
        let mut events = connection.open();
        let context = self.connector.context();
        let reason = match timeout(COMMAND_TIMEOUT, events.next()).await {
            Ok(ConnectionEvent::Connected) => return Ok(EventConnection { connection, events, context }),
            Ok(ConnectionEvent::Failed(Some(error)) | ConnectionEvent::Ended(Some(error))) => {
                explain_for_source(&error, context)
            }
            Ok(_) => ended("the connection was lost"),
            Err(_) => name_source_settings(timed_out()),
        };
        match &self.address {
            Address::Host(host) if is_ambiguous(&reason) => {
                let found = probe_port(host, self.connector.uses_tls()).await;
                let better = found.and_then(|found| explain_finding(&reason, found, context));
                Err(better.map_or(reason, name_source_settings))
            }
            _ => Err(reason),
        }
    }
}

impl EventConnection {
    /// Subscribes to the channel, or shows that the server answers and still allows it: the driver may miss a refusal, so it is
    /// asked for again and again.
    async fn request_channel(&self, channel: &ChannelName) -> Result<(), FailureReason> {
        let subscribed = match channel.is_pattern() {
            true => self.connection.subscribe_pattern(channel.as_str()),
            false => self.connection.subscribe(channel.as_str()),
        };
        subscribed.await.map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &RedisError) -> FailureReason {
        explain_for_source(error, self.context)
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
    ) -> Result<(), FailureReason> {
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
    ) -> Result<StreamRead, FailureReason> {
        let args = || vec![Bytes::from(position.to_string()), Bytes::from(count.to_string())];
        let by_digest = || RedisRequest::evalsha(STREAM.sha(), &[key], args());
        let reply = match self.send(by_digest(), Duration::ZERO).await {
            Err(error) if error.is_unknown_script() => {
                match self.send(RedisRequest::script_load(STREAM.text), Duration::ZERO).await {
                    Ok(_) => self.query(by_digest(), Duration::ZERO).await?,
                    Err(RedisError::ErrorReply(_)) => {
                        self.query(RedisRequest::eval(STREAM.text, &[key], args()), Duration::ZERO).await?
                    }
                    Err(error) => return Err(self.explain(&error)),
                }
            }
            reply => reply.map_err(|error| self.explain(&error))?,
        };
        parse_read(&reply, count).ok_or_else(malformed_reply)
    }

    async fn query(&self, request: RedisRequest, waits: Duration) -> Result<RespValue, FailureReason> {
        self.send(request, waits).await.map_err(|error| self.explain(&error))
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

fn malformed_reply() -> FailureReason {
    let message =
        "the server's reply about the stream can't be read: it is no Redis, or a proxy changes replies";
    FailureReason::new("not-redis", message)
}

fn ended(message: &str) -> FailureReason {
    FailureReason::new("connection-closed", message)
}

fn too_fast() -> FailureReason {
    let message = "messages come faster than larder purges what they name: some are lost, and everything that they could \
                   name is purged";
    FailureReason::new("too-many-messages", message)
}
