//! Connections by fred.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use fred::clients::{Client, Pipeline, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::{AuthInterface, ClientLike, EventInterface, PubsubInterface};
use fred::types::config::{
    Config, ConnectionConfig, CredentialProvider, Options, PerformanceConfig, ReconnectPolicy, Server,
    ServerConfig, TcpConfig, TlsConnector,
};
use fred::types::{ConnectHandle, CustomCommand, Message, RespVersion, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::connection::{
    Address, Admission, ChannelMessage, ConnectionEvent, ConnectionEvents, ConnectionPurpose,
    ConnectionSettings, PubsubProtocol, RedisConnection, SendOptions,
};
use super::super::credentials::{Login, LoginSource};
use super::super::error::RedisError;
use super::super::request::RedisRequest;
use super::super::scripts::RespValue;
use super::{CONNECT_TIMEOUT, MAX_RECONNECT_DELAY_MS, MIN_RECONNECT_DELAY_MS, RECONNECT_JITTER_MS};
use crate::store::BoxFuture;

struct FredConnection {
    client: Client,
    renewal: Option<Renewal>,
}

/// How an open connection logs in again.
#[derive(Clone)]
struct Renewal {
    credentials: LoginSource,
    server: String,
}

struct FredEvents {
    renewing: Option<JoinHandle<()>>,
    running: ConnectHandle,
    connects: Receiver<Server>,
    errors: Receiver<(Error, Option<Server>)>,
    messages: Receiver<Message>,
}

/// A client, which connects once its events are opened.
pub(in super::super) fn connect(settings: &ConnectionSettings) -> Arc<dyn RedisConnection> {
    let mut policy = ReconnectPolicy::new_exponential(0, MIN_RECONNECT_DELAY_MS, MAX_RECONNECT_DELAY_MS, 2);
    policy.set_jitter(RECONNECT_JITTER_MS);
    let connection = ConnectionConfig {
        connection_timeout: CONNECT_TIMEOUT,
        internal_command_timeout: CONNECT_TIMEOUT,
        max_command_attempts: 1,
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        // Error replies never trigger a reconnect: the caller decides.
        reconnect_errors: Vec::new(),
        ..ConnectionConfig::default()
    };
    let performance =
        PerformanceConfig { default_command_timeout: settings.timeout, ..PerformanceConfig::default() };
    let config = client_config(settings);
    let client = Client::new(config, Some(performance), Some(connection), Some(policy));
    // A subscription by RESP2 takes no other commands.
    let can_renew = settings.purpose != ConnectionPurpose::Subscription(PubsubProtocol::Resp2);
    let server = settings.address.as_ref().map(Address::to_string).unwrap_or_default();
    let credentials = settings.credentials.clone().filter(|_| can_renew);
    let renewal = credentials.map(|credentials| Renewal { credentials, server });
    Arc::new(FredConnection { client, renewal })
}

impl Renewal {
    async fn run(self, client: Client) {
        let log_in = |login: Login| {
            let client = client.clone();
            async move {
                if !client.is_connected() {
                    return Err(RedisError::Unavailable);
                }
                let password = login.password.expose().to_owned();
                let replied = timeout(CONNECT_TIMEOUT, client.auth(login.username, password)).await;
                let replied = replied.map_err(|_| RedisError::TimedOut)?;
                replied.map_err(|error| to_redis_error(&error))
            }
        };
        let mut connects = client.reconnect_rx();
        loop {
            tokio::select! {
                () = self.credentials.keep_logged_in(&self.server, &log_in) => {}
                // A new connection has logged in: the failures of the former one are forgotten with it.
                Ok(_) | Err(RecvError::Lagged(_)) = connects.recv() => {}
            }
        }
    }
}

fn client_config(settings: &ConnectionSettings) -> Config {
    let server = match &settings.address {
        Some(Address::Host(host)) => {
            ServerConfig::Centralized { server: Server::new(host.host.as_str(), host.port) }
        }
        Some(Address::Socket(path)) => ServerConfig::Unix { path: path.clone() },
        None => ServerConfig::default(),
    };
    let version = match settings.purpose {
        ConnectionPurpose::Subscription(PubsubProtocol::Resp3) => RespVersion::RESP3,
        ConnectionPurpose::Subscription(PubsubProtocol::Resp2) | ConnectionPurpose::Commands => {
            RespVersion::RESP2
        }
    };
    let provider = |credentials: &LoginSource| -> Arc<dyn CredentialProvider> {
        Arc::new(FredCredentials(credentials.clone()))
    };
    Config {
        // Retry the first connection like any other.
        fail_fast: false,
        server,
        version,
        database: (settings.database != 0).then_some(settings.database),
        username: settings.username.clone(),
        password: settings.password.as_ref().map(|password| password.expose().to_owned()),
        credential_provider: settings.credentials.as_ref().map(provider),
        tls: settings.tls.clone().map(|tls| TlsConnector::from((*tls).clone()).into()),
        ..Config::default()
    }
}

impl RedisConnection for FredConnection {
    fn open(&self) -> Box<dyn ConnectionEvents> {
        let client = &self.client;
        let (connects, errors) = (client.reconnect_rx(), client.error_rx());
        let renewing = self.renewal.clone().map(|renewal| tokio::spawn(renewal.run(client.clone())));
        let messages = client.message_rx();
        Box::new(FredEvents { renewing, connects, errors, messages, running: client.connect() })
    }

    fn send(&self, request: RedisRequest, options: SendOptions) -> BoxFuture<Result<RespValue, RedisError>> {
        let driver_options = Options {
            timeout: Some(options.timeout),
            max_attempts: Some(1),
            // A probe may wait for the connection.
            fail_fast: options.admission == Admission::IfHealthy,
            ..Options::default()
        };
        let client = self.client.with_options(&driver_options);
        Box::pin(async move {
            let sent = match options.asking {
                true => send_asking(client, request).await,
                false => client.custom(custom_command(&request), request.args).await,
            };
            sent.map(to_resp).map_err(|error| to_redis_error(&error))
        })
    }

    fn subscribe(&self, channel: &str) -> BoxFuture<Result<(), RedisError>> {
        let (client, channel) = (self.client.clone(), channel.to_owned());
        Box::pin(async move { confirm_subscription(&client, client.subscribe(channel)).await })
    }

    fn subscribe_pattern(&self, pattern: &str) -> BoxFuture<Result<(), RedisError>> {
        let (client, pattern) = (self.client.clone(), pattern.to_owned());
        Box::pin(async move { confirm_subscription(&client, client.psubscribe(pattern)).await })
    }

    fn ping(&self) -> BoxFuture<Result<(), RedisError>> {
        let client = self.client.clone();
        Box::pin(async move { client.ping::<()>(None).await.map_err(|error| to_redis_error(&error)) })
    }
}

/// The library takes the refusal of a subscription for the reply to the next command, and drops it if there is none. So a
/// PING follows at once, before the refusal can arrive.
async fn confirm_subscription(
    client: &Client,
    subscribing: impl Future<Output = Result<(), Error>>,
) -> Result<(), RedisError> {
    let (subscribed, answered) = tokio::join!(subscribing, client.ping::<()>(None));
    subscribed.and(answered).map_err(|error| to_redis_error(&error))
}

impl ConnectionEvents for FredEvents {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = ConnectionEvent> + Send + '_>> {
        Box::pin(async {
            tokio::select! {
                ended = &mut self.running => match ended {
                    Ok(Err(error)) => ConnectionEvent::Ended(Some(to_redis_error(&error))),
                    _ => ConnectionEvent::Ended(None),
                },
                error = self.errors.recv() => {
                    ConnectionEvent::Failed(error.ok().map(|(error, _)| to_redis_error(&error)))
                }
                Ok(_) = self.connects.recv() => ConnectionEvent::Connected,
                message = self.messages.recv() => match message {
                    Ok(message) => {
                        let channel = message.channel.into_inner();
                        let content = message.value.into_bytes();
                        ConnectionEvent::Message(content.map(|content| ChannelMessage { channel, content }))
                    }
                    Err(RecvError::Lagged(_)) => ConnectionEvent::Message(None),
                    Err(RecvError::Closed) => ConnectionEvent::Ended(None),
                },
            }
        })
    }
}

impl Drop for FredEvents {
    fn drop(&mut self) {
        self.running.abort();
        self.renewing.iter().for_each(JoinHandle::abort);
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

fn to_redis_error(error: &Error) -> RedisError {
    let details = error.details();
    match error.kind() {
        ErrorKind::Timeout => RedisError::TimedOut,
        // The client was replaced in between.
        ErrorKind::Unknown if details.contains("send command to router") || details == "channel closed" => {
            RedisError::Unavailable
        }
        // The library's own words: the connection ended before the command was sent.
        ErrorKind::Unknown if details.starts_with("Failed to route") => {
            RedisError::ConnectionLost(details.to_owned())
        }
        ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Routing | ErrorKind::Protocol | ErrorKind::Tls => {
            RedisError::ConnectionLost(details.to_owned())
        }
        _ => RedisError::from_reply(details),
    }
}

type FredLogin = (Option<String>, Option<String>);
type LoginFuture<'f> = Pin<Box<dyn Future<Output = Result<FredLogin, Error>> + Send + 'f>>;

/// Gives the library the present password for new connections.
struct FredCredentials(LoginSource);

impl fmt::Debug for FredCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl CredentialProvider for FredCredentials {
    fn fetch<'s, 'h, 'f>(&'s self, _: Option<&'h Server>) -> LoginFuture<'f>
    where
        's: 'f,
        'h: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let login = self.0.fetch(true).await.map_err(|reason| Error::new(ErrorKind::Auth, reason))?;
            Ok((login.username, Some(login.password.expose().to_owned())))
        })
    }
}
