//! A connection to one Redis server: the client library's, or that of a simulation.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fred::clients::{Client, Pipeline, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::config::{Options, Server};
use fred::types::{ConnectHandle, CustomCommand, Message, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::connector::Address;
use super::error::RedisError;
use super::node::{Admission, SendOptions};
use super::request::RedisRequest;
use super::scripts::RespValue;
use crate::store::BoxFuture;

/// A client of one server. It is connected, again and again, while somebody holds its events.
pub trait RedisConnection: Send + Sync {
    fn open(&self) -> Box<dyn ConnectionEvents>;

    /// Sends a command once, and waits for its reply within its deadline.
    fn send(&self, request: RedisRequest, options: SendOptions) -> BoxFuture<Result<RespValue, RedisError>>;

    /// Subscribes to a channel, whose messages are events from then on.
    fn subscribe(&self, channel: &str) -> BoxFuture<Result<(), RedisError>>;

    fn ping(&self) -> BoxFuture<Result<(), RedisError>>;
}

/// The events of a connection. Dropping them closes it for good.
pub trait ConnectionEvents: Send + Sync {
    /// The next event. Dropping the future loses none.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = ConnectionEvent> + Send + '_>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    Connected,
    /// It was lost, or could not be made; `None`: for several reasons.
    Failed(Option<RedisError>),
    /// A message of a subscription; `None`: so many came that some were lost.
    Message(Option<Bytes>),
    /// No further attempt is made.
    Ended(Option<RedisError>),
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

/// The client library's connection.
pub(super) struct DriverConnection(pub(super) Client);

struct DriverEvents {
    running: ConnectHandle,
    connects: Receiver<Server>,
    errors: Receiver<(Error, Option<Server>)>,
    messages: Receiver<Message>,
}

impl RedisConnection for DriverConnection {
    fn open(&self) -> Box<dyn ConnectionEvents> {
        let Self(client) = self;
        let (connects, errors) = (client.reconnect_rx(), client.error_rx());
        Box::new(DriverEvents { connects, errors, messages: client.message_rx(), running: client.connect() })
    }

    fn send(&self, request: RedisRequest, options: SendOptions) -> BoxFuture<Result<RespValue, RedisError>> {
        let driver_options = Options {
            timeout: Some(options.timeout),
            max_attempts: Some(1),
            // A probe may wait for the connection.
            fail_fast: options.admission == Admission::IfHealthy,
            ..Options::default()
        };
        let client = self.0.with_options(&driver_options);
        Box::pin(async move {
            let sent = match options.asking {
                true => send_asking(client, request).await,
                false => client.custom(custom_command(&request), request.args).await,
            };
            sent.map(to_resp).map_err(|error| RedisError::from_driver(&error))
        })
    }

    fn subscribe(&self, channel: &str) -> BoxFuture<Result<(), RedisError>> {
        let (client, channel) = (self.0.clone(), channel.to_owned());
        Box::pin(async move {
            let mut subscribed = client.subscribe(channel).await;
            if subscribed.is_ok() {
                // The library takes the refusal of a subscription for the reply to the next command.
                subscribed = client.ping::<()>(None).await;
            }
            subscribed.map_err(|error| RedisError::from_driver(&error))
        })
    }

    fn ping(&self) -> BoxFuture<Result<(), RedisError>> {
        let client = self.0.clone();
        Box::pin(
            async move { client.ping::<()>(None).await.map_err(|error| RedisError::from_driver(&error)) },
        )
    }
}

impl ConnectionEvents for DriverEvents {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = ConnectionEvent> + Send + '_>> {
        Box::pin(async {
            tokio::select! {
                ended = &mut self.running => match ended {
                    Ok(Err(error)) => ConnectionEvent::Ended(Some(RedisError::from_driver(&error))),
                    _ => ConnectionEvent::Ended(None),
                },
                error = self.errors.recv() => {
                    ConnectionEvent::Failed(error.ok().map(|(error, _)| RedisError::from_driver(&error)))
                }
                Ok(_) = self.connects.recv() => ConnectionEvent::Connected,
                message = self.messages.recv() => match message {
                    Ok(message) => ConnectionEvent::Message(message.value.into_bytes()),
                    Err(RecvError::Lagged(_)) => ConnectionEvent::Message(None),
                    Err(RecvError::Closed) => ConnectionEvent::Ended(None),
                },
            }
        })
    }
}

impl Drop for DriverEvents {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Sends the command to a node that is importing the slot. The pipeline puts ASKING right before it on the connection.
/// If another command still comes in between, the node redirects this one.
async fn send_asking(client: WithOptions<Client>, request: RedisRequest) -> Result<Value, Error> {
    let pipeline = Pipeline::from(client);
    // The pipeline only queues commands here.
    let asking = CustomCommand::new_static("ASKING", None::<u16>, false);
    pipeline.custom::<Value, Value>(asking, Vec::new()).await?;
    pipeline.custom::<Value, Bytes>(custom_command(&request), request.args).await?;
    let mut replies = pipeline.try_all::<Value>().await;
    replies.pop().unwrap_or_else(|| Err(Error::new(ErrorKind::Protocol, "no reply")))
}

fn custom_command(request: &RedisRequest) -> CustomCommand {
    CustomCommand::new_static(request.name, None::<u16>, request.blocks)
}

fn to_resp(value: Value) -> RespValue {
    match value {
        Value::Null => RespValue::Nil,
        Value::Integer(number) => RespValue::Integer(number),
        Value::Array(values) => RespValue::Array(values.into_iter().map(to_resp).collect()),
        value => value.into_bytes().map_or(RespValue::Nil, RespValue::Bytes),
    }
}
