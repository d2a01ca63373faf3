//! Change events from a Redis server: a stream that is read on from a position, or a channel that is listened to. The
//! server may be another one than the store's. It never decides what an event means.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::config::{Options, Server};
use fred::types::{ConnectHandle, CustomCommand, Value};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::connecting::{Address, Connecting};
use super::request::part;
use super::scripts::Part;
use crate::config::{RedisServers, RedisSettings};
use crate::store::sources::StreamPosition;

/// For a connection, and for a command that does not wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection that only listens does not notice that nobody talks any more.
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(1);

/// Between a connection that is lost and the next.
const PAUSE: Duration = Duration::from_millis(250);

/// More messages than this that nobody has looked at are not kept.
const WAITING: usize = 10_000;

/// A server that has events.
#[derive(Clone)]
pub struct Feed(Connecting);

/// A connection to it; gone when this is dropped.
pub struct Connected {
    client: Client,
    running: ConnectHandle,
    connects: Receiver<Server>,
}

/// An entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub position: StreamPosition,
    pub fields: Vec<(Bytes, Bytes)>,
}

/// What a stream says of itself; that of one that is not there is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    pub last: StreamPosition,
    pub length: u64,
    /// How many entries there ever were, where the server counts them.
    pub added: Option<u64>,
}

/// What is heard on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Message(Bytes),
    /// The server is there, and would have said if there were something.
    Contact,
    /// It is listened to from now on; what was said before was not heard.
    Begun,
    /// Why nothing is heard at present.
    Deaf(String),
}

impl Feed {
    /// # Errors
    /// If a file for TLS can't be read, or the settings name no single server.
    pub fn new(settings: &RedisSettings) -> io::Result<Self> {
        let address = match &settings.servers {
            RedisServers::One(host) => Address::Host(host.clone()),
            RedisServers::Unix(path) => Address::Socket(path.clone()),
            // The configuration has seen to that.
            RedisServers::Cluster(_) | RedisServers::Sentinel { .. } => {
                return Err(io::Error::other("change events are read from one server"));
            }
        };
        Ok(Self(Connecting::new(settings, PATIENCE)?.to(&address)))
    }

    /// # Errors
    /// Why there is no connection.
    pub async fn connect(&self) -> Result<Connected, String> {
        Connected::by(self.0.client()).await
    }

    /// Listens until nobody wants to know any more. What can't be kept ends the connection, so that it is known that
    /// something was missed.
    pub fn listen(&self, channel: String) -> mpsc::Receiver<Heard> {
        let (tell, heard) = mpsc::channel(WAITING);
        let connecting = self.0.clone();
        tokio::spawn(async move {
            loop {
                let Err(reason) = listen_once(&connecting, &channel, &tell).await;
                if tell.send(Heard::Deaf(reason)).await.is_err() {
                    return;
                }
                sleep(PAUSE).await;
            }
        });
        heard
    }
}

/// Until it ends, and why.
async fn listen_once(
    connecting: &Connecting,
    channel: &str,
    tell: &mpsc::Sender<Heard>,
) -> Result<std::convert::Infallible, String> {
    let client = connecting.listening_client();
    let mut messages = client.message_rx();
    let mut connected = Connected::by(client).await?;
    connected.client.subscribe(channel).await.map_err(told)?;
    tell.send(Heard::Begun).await.map_err(|_| "nobody listens".to_owned())?;
    loop {
        let heard = tokio::select! {
            message = messages.recv() => match message {
                Ok(message) => Heard::Message(message.value.into_bytes().unwrap_or_default()),
                Err(RecvError::Lagged(missed)) => return Err(format!("{missed} messages came too fast")),
                Err(RecvError::Closed) => return Err("the connection ended".to_owned()),
            },
            ended = &mut connected.running => return Err(format!("the connection ended: {ended:?}")),
            _ = connected.connects.recv() => return Err("the connection broke".to_owned()),
            () = sleep(BETWEEN_QUESTIONS) => {
                connected.client.ping::<()>(None).await.map_err(told)?;
                Heard::Contact
            }
        };
        tell.try_send(heard).map_err(|_| format!("more than {WAITING} messages wait"))?;
    }
}

impl Connected {
    async fn by(client: Client) -> Result<Self, String> {
        let (mut errors, mut connects) = (client.error_rx(), client.reconnect_rx());
        let mut connected = Self { running: client.connect(), connects: client.reconnect_rx(), client };
        let begun = async {
            tokio::select! {
                Ok(_) = connects.recv() => Ok(()),
                Ok((error, _)) = errors.recv() => Err(told(error)),
                ended = &mut connected.running => Err(format!("no connection: {ended:?}")),
            }
        };
        timeout(PATIENCE, begun).await.unwrap_or_else(|_| Err("no connection in time".to_owned()))?;
        // Any further one comes after one that broke.
        connected.connects = connected.client.reconnect_rx();
        Ok(connected)
    }

    /// What comes after `position` in the stream at `key`. Waits for it no longer than `within`.
    ///
    /// # Errors
    /// Why it can't be read.
    pub async fn read_after(
        &self,
        key: &str,
        position: StreamPosition,
        count: usize,
        within: Duration,
    ) -> Result<Vec<Entry>, String> {
        let words = [
            "COUNT".to_owned(),
            count.to_string(),
            "BLOCK".to_owned(),
            within.as_millis().max(1).to_string(),
            "STREAMS".to_owned(),
            key.to_owned(),
            position.to_string(),
        ];
        let reply = self.ask(CustomCommand::new_static("XREAD", None, true), &words, within).await?;
        let Part::List(streams) = reply else { return Ok(Vec::new()) };
        let entries = match streams.first() {
            Some(Part::List(stream)) => stream.get(1),
            _ => None,
        };
        let Some(Part::List(entries)) = entries else { return Ok(Vec::new()) };
        entries.iter().map(|entry| self::entry(entry).ok_or_else(unreadable)).collect()
    }

    /// # Errors
    /// Why the stream can't say.
    pub async fn state(&self, key: &str) -> Result<StreamState, String> {
        let words = ["STREAM".to_owned(), key.to_owned()];
        let reply =
            match self.ask(CustomCommand::new_static("XINFO", None, false), &words, Duration::ZERO).await {
                Err(error) if error.contains("no such key") => return Ok(StreamState::default()),
                reply => reply?,
            };
        let Part::List(parts) = reply else { return Err(unreadable()) };
        let value = |name: &str| {
            let pair = parts.chunks(2).find(|pair| pair[0].text() == Some(name))?;
            pair.get(1)
        };
        let last = value("last-generated-id").and_then(Part::text).and_then(StreamPosition::parse);
        let number = |name| value(name).and_then(Part::number);
        Ok(StreamState {
            last: last.ok_or_else(unreadable)?,
            length: number("length").ok_or_else(unreadable)?,
            added: number("entries-added"),
        })
    }

    /// Whether the entry at `position` is still there.
    ///
    /// # Errors
    /// Why the stream can't say.
    pub async fn has(&self, key: &str, position: StreamPosition) -> Result<bool, String> {
        let position = position.to_string();
        let words = [key.to_owned(), position.clone(), position, "COUNT".to_owned(), "1".to_owned()];
        let command = CustomCommand::new_static("XRANGE", None, false);
        let reply = self.ask(command, &words, Duration::ZERO).await?;
        Ok(matches!(reply, Part::List(entries) if !entries.is_empty()))
    }

    async fn ask(&self, command: CustomCommand, words: &[String], waits: Duration) -> Result<Part, String> {
        let options = Options {
            timeout: Some(waits + PATIENCE),
            max_attempts: Some(1),
            fail_fast: true,
            ..Options::default()
        };
        let client = self.client.with_options(&options);
        client.custom::<Value, _>(command, words.to_vec()).await.map(part).map_err(told)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn entry(entry: &Part) -> Option<Entry> {
    let Part::List(parts) = entry else { return None };
    let [id, fields] = parts.as_slice() else { return None };
    let position = StreamPosition::parse(id.text()?)?;
    // Of one that was deleted meanwhile there is the id alone.
    let Part::List(fields) = fields else { return Some(Entry { position, fields: Vec::new() }) };
    let bytes = |part: &Part| match part {
        Part::Bytes(bytes) => Some(Bytes::copy_from_slice(bytes)),
        _ => None,
    };
    let pairs = fields.chunks(2).map(|pair| Some((bytes(pair.first()?)?, bytes(pair.get(1)?)?)));
    Some(Entry { position, fields: pairs.collect::<Option<_>>()? })
}

fn unreadable() -> String {
    "what the stream says of itself can't be read".to_owned()
}

fn told(error: Error) -> String {
    error.to_string()
}
