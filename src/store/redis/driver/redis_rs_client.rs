//! Connections by redis-rs. It frames commands and replies; connecting, TLS, the login and reconnecting are here, so that
//! the server's own words reach the operator.

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream as MessageStream;
use redis::aio::{MultiplexedConnection, PubSub, PubSubSink};
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, ServerError, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::super::connection::{
    Address, Admission, ChannelMessage, ConnectionEvent, ConnectionEvents, ConnectionPurpose,
    ConnectionSettings, RedisConnection, SendOptions,
};
use super::super::credentials::Login;
use super::super::error::RedisError;
use super::super::request::RedisRequest;
use super::super::scripts::RespValue;
use super::{CONNECT_TIMEOUT, MAX_RECONNECT_DELAY_MS, MIN_RECONNECT_DELAY_MS, RECONNECT_JITTER_MS};
use crate::random::random_bytes;
use crate::store::BoxFuture;

/// Events that nobody has taken yet. Messages beyond are reported as lost.
const MAX_PENDING_EVENTS: usize = 1024;

/// Commands that wait to be written. Beyond it callers wait, within their deadline.
const MAX_QUEUED_COMMANDS: usize = 1024;

/// Length of the longest reply to a login.
const MAX_LOGIN_REPLY_BYTES: usize = 1024;

struct RedisRsConnection {
    settings: ConnectionSettings,
    /// `None` while there is no connection.
    link: Arc<watch::Sender<Option<Link>>>,
}

#[derive(Clone)]
enum Link {
    Commands(MultiplexedConnection),
    /// Over RESP2, which any server and proxy speaks.
    Subscription(PubSubSink),
}

struct RedisRsEvents {
    running: JoinHandle<()>,
    events: mpsc::Receiver<ConnectionEvent>,
    has_lost_messages: Arc<AtomicBool>,
}

/// A client, which connects once its events are opened.
pub(in super::super) fn connect(settings: &ConnectionSettings) -> Arc<dyn RedisConnection> {
    let link = Arc::new(watch::Sender::new(None));
    Arc::new(RedisRsConnection { settings: settings.clone(), link })
}

impl RedisConnection for RedisRsConnection {
    fn open(&self) -> Box<dyn ConnectionEvents> {
        let (sender, events) = mpsc::channel(MAX_PENDING_EVENTS);
        let has_lost_messages = Arc::new(AtomicBool::new(false));
        let upkeep = Upkeep {
            settings: self.settings.clone(),
            link: self.link.clone(),
            events: sender,
            has_lost_messages: has_lost_messages.clone(),
        };
        let running = tokio::spawn(upkeep.run());
        Box::new(RedisRsEvents { running, events, has_lost_messages })
    }

    fn send(&self, request: RedisRequest, options: SendOptions) -> BoxFuture<Result<RespValue, RedisError>> {
        let link = self.link.subscribe();
        Box::pin(async move {
            let exchange = async {
                match find_link(link, options.admission).await? {
                    Link::Commands(connection) => exchange(connection, &request, options.asking).await,
                    Link::Subscription(_) => Err(not_connected()),
                }
            };
            // A command that is not written yet is not sent once its caller has left.
            timeout(options.timeout, exchange).await.unwrap_or(Err(RedisError::TimedOut))
        })
    }

    fn subscribe(&self, channel: &str) -> BoxFuture<Result<(), RedisError>> {
        self.subscribe_to(channel, false)
    }

    fn subscribe_pattern(&self, pattern: &str) -> BoxFuture<Result<(), RedisError>> {
        self.subscribe_to(pattern, true)
    }

    fn ping(&self) -> BoxFuture<Result<(), RedisError>> {
        let link = self.link.subscribe();
        let ping = async move {
            match find_link(link, Admission::IfHealthy).await? {
                Link::Subscription(mut sink) => {
                    sink.ping::<Value>().await.map(drop).map_err(|error| to_redis_error(&error))
                }
                Link::Commands(connection) => {
                    exchange(connection, &RedisRequest::with_args("PING", &[]), false).await.map(drop)
                }
            }
        };
        with_deadline(self.settings.timeout, ping)
    }
}

impl RedisRsConnection {
    fn subscribe_to(&self, name: &str, is_pattern: bool) -> BoxFuture<Result<(), RedisError>> {
        let (link, name) = (self.link.subscribe(), name.to_owned());
        let subscribe = async move {
            let Link::Subscription(mut sink) = find_link(link, Admission::IfHealthy).await? else {
                return Err(not_connected());
            };
            let subscribed = match is_pattern {
                true => sink.psubscribe(name).await,
                false => sink.subscribe(name).await,
            };
            subscribed.map_err(|error| to_redis_error(&error))
        };
        with_deadline(self.settings.timeout, subscribe)
    }
}

fn with_deadline(
    deadline: Duration,
    work: impl Future<Output = Result<(), RedisError>> + Send + 'static,
) -> BoxFuture<Result<(), RedisError>> {
    Box::pin(async move { timeout(deadline, work).await.unwrap_or(Err(RedisError::TimedOut)) })
}

/// The present connection. A probe may wait for one.
async fn find_link(
    mut link: watch::Receiver<Option<Link>>,
    admission: Admission,
) -> Result<Link, RedisError> {
    let present = link.borrow_and_update().clone();
    match (present, admission) {
        (Some(link), _) => Ok(link),
        (None, Admission::IfHealthy) => Err(not_connected()),
        (None, Admission::Probe) => {
            let connected = link.wait_for(Option::is_some).await;
            connected.ok().and_then(|link| link.clone()).ok_or_else(not_connected)
        }
    }
}

fn not_connected() -> RedisError {
    RedisError::ConnectionLost("Canceled: not connected".to_owned())
}

async fn exchange(
    mut connection: MultiplexedConnection,
    request: &RedisRequest,
    asking: bool,
) -> Result<RespValue, RedisError> {
    let command = to_command(request.name, &request.args);
    let reply = match asking {
        false => connection.send_packed_command(&command).await,
        // The pipeline puts ASKING right before the command on the connection.
        true => {
            let mut pipeline = redis::pipe();
            pipeline.add_command(to_command("ASKING", &[])).add_command(command);
            let replies = connection.send_packed_commands(&pipeline, 0, 2).await;
            replies.map(|mut replies| replies.pop().unwrap_or_default())
        }
    };
    match reply.map_err(|error| to_redis_error(&error))? {
        Value::ServerError(error) => Err(RedisError::from_reply(&error_text(&error))),
        value => Ok(to_resp(value)),
    }
}

fn to_command(name: &str, args: &[Bytes]) -> Cmd {
    let mut command = Cmd::with_capacity(args.len() + 1, args.iter().map(Bytes::len).sum());
    command.arg(name);
    for arg in args {
        command.arg(&arg[..]);
    }
    command
}

impl ConnectionEvents for RedisRsEvents {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = ConnectionEvent> + Send + '_>> {
        Box::pin(async {
            if self.has_lost_messages.swap(false, Ordering::AcqRel) {
                return ConnectionEvent::Message(None);
            }
            self.events.recv().await.unwrap_or(ConnectionEvent::Ended(None))
        })
    }
}

impl Drop for RedisRsEvents {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Connects, again and again, until its task is aborted.
struct Upkeep {
    settings: ConnectionSettings,
    link: Arc<watch::Sender<Option<Link>>>,
    events: mpsc::Sender<ConnectionEvent>,
    has_lost_messages: Arc<AtomicBool>,
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.link.send_replace(None);
    }
}

impl Upkeep {
    async fn run(self) {
        let mut delay = MIN_RECONNECT_DELAY_MS;
        loop {
            let failure = match timeout(CONNECT_TIMEOUT, open_stream(&self.settings)).await {
                Ok(Ok(stream)) => {
                    delay = MIN_RECONNECT_DELAY_MS;
                    let ended = self.use_stream(stream).await;
                    self.link.send_replace(None);
                    ended
                }
                Ok(Err(error)) => error,
                Err(_) => RedisError::TimedOut,
            };
            if self.events.send(ConnectionEvent::Failed(Some(failure))).await.is_err() {
                return;
            }
            let jitter = random_bytes().map_or(0, u32::from_le_bytes) % RECONNECT_JITTER_MS;
            sleep(Duration::from_millis((delay + jitter).into())).await;
            delay = (delay * 2).min(MAX_RECONNECT_DELAY_MS);
        }
    }

    /// Runs until the connection ends. Returns the reason.
    async fn use_stream(&self, stream: Box<dyn ByteStream>) -> RedisError {
        // The login is done: the library must send nothing of its own.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let ended = match self.settings.purpose {
            ConnectionPurpose::Commands => self.run_commands(&info, stream).await,
            ConnectionPurpose::Subscription(_) => self.run_subscription(&info, stream).await,
        };
        match ended {
            Ok(()) => RedisError::ConnectionLost("UnexpectedEof: the connection has ended".to_owned()),
            Err(error) => to_redis_error(&error),
        }
    }

    async fn run_commands(
        &self,
        info: &RedisConnectionInfo,
        stream: Box<dyn ByteStream>,
    ) -> redis::RedisResult<()> {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(MAX_QUEUED_COMMANDS);
        let (connection, running) = MultiplexedConnection::new_with_config(info, stream, config).await?;
        self.link.send_replace(Some(Link::Commands(connection.clone())));
        let tell_and_log_in = async {
            let _ = self.events.send(ConnectionEvent::Connected).await;
            self.keep_logged_in(connection).await;
        };
        tokio::select! {
            () = running => {}
            () = tell_and_log_in => {}
        }
        Ok(())
    }

    /// Logs in again with the present password, so that a token that expires does not end the connection.
    async fn keep_logged_in(&self, connection: MultiplexedConnection) {
        let Some(credentials) = &self.settings.credentials else {
            return std::future::pending().await;
        };
        let server = self.settings.address.as_ref().map(Address::to_string).unwrap_or_default();
        let log_in = |login: Login| {
            let connection = connection.clone();
            async move {
                let request = RedisRequest { name: "AUTH", args: auth_args(&login), blocks: false };
                let replied = timeout(CONNECT_TIMEOUT, exchange(connection, &request, false)).await;
                replied.unwrap_or(Err(RedisError::TimedOut)).map(drop)
            }
        };
        credentials.keep_logged_in(&server, log_in).await;
    }

    async fn run_subscription(
        &self,
        info: &RedisConnectionInfo,
        stream: Box<dyn ByteStream>,
    ) -> redis::RedisResult<()> {
        let (sink, mut messages) = PubSub::new(info, stream).await?.split();
        self.link.send_replace(Some(Link::Subscription(sink)));
        if self.events.send(ConnectionEvent::Connected).await.is_err() {
            return Ok(());
        }
        while let Some(message) = poll_fn(|cx| Pin::new(&mut messages).poll_next(cx)).await {
            let channel = message.get_channel_name().to_owned().into();
            let content = message.get_payload_bytes().to_vec().into();
            let message = ConnectionEvent::Message(Some(ChannelMessage { channel, content }));
            if self.events.try_send(message).is_err() {
                self.has_lost_messages.store(true, Ordering::Release);
            }
        }
        Ok(())
    }
}

trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Connects and logs in.
async fn open_stream(settings: &ConnectionSettings) -> Result<Box<dyn ByteStream>, RedisError> {
    let lost = |error: std::io::Error| RedisError::ConnectionLost(format!("{error:?}"));
    let mut stream: Box<dyn ByteStream> = match &settings.address {
        Some(Address::Host(host)) => {
            let stream = TcpStream::connect((host.host.as_str(), host.port)).await.map_err(lost)?;
            stream.set_nodelay(true).map_err(lost)?;
            match &settings.tls {
                None => Box::new(stream),
                Some(tls) => {
                    let name = host.host.clone().try_into();
                    let name = name.map_err(|error| RedisError::ConnectionLost(format!("{error:?}")))?;
                    let connector = TlsConnector::from(tls.clone());
                    Box::new(connector.connect(name, stream).await.map_err(lost)?)
                }
            }
        }
        Some(Address::Socket(path)) => Box::new(UnixStream::connect(path).await.map_err(lost)?),
        None => return Err(RedisError::Unavailable),
    };
    for command in login_commands(settings).await? {
        stream.write_all(&command.get_packed_command()).await.map_err(lost)?;
        let reply = read_login_reply(&mut stream).await?;
        if let Some(error) = reply.strip_prefix('-') {
            return Err(RedisError::ErrorReply(error.to_owned()));
        }
    }
    Ok(stream)
}

/// The login, and at least one command, so that what is not Redis or refuses clients is found out.
async fn login_commands(settings: &ConnectionSettings) -> Result<Vec<Cmd>, RedisError> {
    let login = match (&settings.credentials, &settings.password) {
        (Some(credentials), _) => Some(credentials.fetch(true).await.map_err(RedisError::ErrorReply)?),
        (None, Some(password)) => {
            Some(Login { username: settings.username.clone(), password: password.clone() })
        }
        (None, None) => None,
    };
    let first = match login {
        Some(login) => to_command("AUTH", &auth_args(&login)),
        None => to_command("PING", &[]),
    };
    let select = || to_command("SELECT", &[settings.database.to_string().into()]);
    Ok([first].into_iter().chain((settings.database != 0).then(select)).collect())
}

fn auth_args(login: &Login) -> Vec<Bytes> {
    let words = login.username.iter().map(String::as_str).chain([login.password.expose()]);
    words.map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

/// Reads `+OK`, `+PONG` or `-ERR …`, byte by byte, so that nothing behind it is taken.
async fn read_login_reply(stream: &mut Box<dyn ByteStream>) -> Result<String, RedisError> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let byte =
            stream.read_u8().await.map_err(|error| RedisError::ConnectionLost(format!("{error:?}")))?;
        line.push(byte);
        if !matches!(line[0], b'+' | b'-') || line.len() > MAX_LOGIN_REPLY_BYTES {
            return Err(RedisError::ConnectionLost("Decode Error: no reply of Redis".to_owned()));
        }
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn to_resp(value: Value) -> RespValue {
    match value {
        Value::Int(number) => RespValue::Integer(number),
        Value::BulkString(bytes) => RespValue::Bytes(bytes.into()),
        Value::SimpleString(text) => RespValue::Bytes(text.into()),
        Value::Okay => RespValue::Bytes(Bytes::from_static(b"OK")),
        Value::Array(values) => RespValue::Array(values.into_iter().map(to_resp).collect()),
        // RESP2 has no other types.
        _ => RespValue::Nil,
    }
}

fn to_redis_error(error: &redis::RedisError) -> RedisError {
    if error.is_timeout() {
        return RedisError::TimedOut;
    }
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => {
            let (code, detail) = (error.code().unwrap_or_default(), error.detail().unwrap_or_default());
            RedisError::from_reply(format!("{code} {detail}").trim_end())
        }
        // The words by which `failure_reason` knows a failure, as they are in fred's errors.
        ErrorKind::Parse => RedisError::ConnectionLost(format!("Decode Error: {error}")),
        _ if error.is_connection_dropped() => RedisError::ConnectionLost(format!("Canceled: {error}")),
        kind => {
            let cause = error.source().map_or_else(|| error.to_string(), |cause| format!("{cause:?}"));
            RedisError::ConnectionLost(format!("{kind:?}: {cause}"))
        }
    }
}

fn error_text(error: &ServerError) -> String {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::super::failure_reason::{ExplainContext, TopologyKind, explain};
    use super::*;

    #[test]
    fn failures_that_the_library_words_are_explained_as_others_are() {
        let context = ExplainContext { uses_tls: false, topology: TopologyKind::Single };
        let of_system = |kind: io::ErrorKind| redis::RedisError::from(io::Error::from(kind));
        for (error, code) in [
            (of_system(io::ErrorKind::BrokenPipe), "connection-closed"),
            (of_system(io::ErrorKind::ConnectionReset), "connection-closed"),
            (of_system(io::ErrorKind::UnexpectedEof), "connection-closed"),
            (of_system(io::ErrorKind::HostUnreachable), "unreachable"),
            (of_system(io::ErrorKind::TimedOut), "no-reply"),
            ((ErrorKind::Io, "the driver has ended").into(), "connection-closed"),
            ((ErrorKind::Parse, "invalid reply").into(), "not-redis"),
        ] {
            let found = explain(&to_redis_error(&error), context);
            assert_eq!(found.code, code, "{error}: {}", found.message);
        }
    }
}
