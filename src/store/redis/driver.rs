//! One Redis server: a client that is always there, deadlines, and what is known of the server's health.
//!
//! The only folder that names the client library is this one, and of it only this file, `connecting` and `wake`.
//! What the library does on its own that a cache can't have, and what is done about it:
//!
//! - it queues without a bound while the server is away: nothing is sent then ([`Health`]), and little at once;
//! - it waits without a deadline: every command has one, in the library's own options, because a future that is
//!   dropped cancels nothing;
//! - it sends a command again whose reply was lost: every command is sent once;
//! - it does not notice a server that hangs: whoever asks too often in vain has the client replaced.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use fred::clients::{Client, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, EventInterface, KeysInterface, LuaInterface};
use fred::types::Expiration;
use fred::types::config::Options;
use fred::types::{CustomCommand, Key, Value};
use tokio::sync::{Notify, Semaphore};

use super::connecting::Connecting;
use super::figures::{Command, CommandFigures};
use super::health::Health;
use super::scripts::{Part, Script};

/// More commands of one class than this at once are not sent.
const READS: usize = 512;
const WRITES: usize = 64;
const SCRIPTS: usize = 256;

/// Pause before a client that gave up is replaced.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Node {
    connecting: Connecting,
    client: ArcSwap<Client>,
    pub health: Health,
    pub figures: CommandFigures,
    connections: AtomicU64,
    reads: Semaphore,
    writes: Semaphore,
    scripts: Semaphore,
    replace: Notify,
    /// A connection has come or gone: time to look.
    pub changed: Notify,
}

/// Why a command has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("Redis is away")]
    Away,
    #[error("too many commands are under way")]
    Busy,
    #[error("Redis did not answer in time")]
    TimedOut,
    #[error("the connection to Redis broke: {0}")]
    Broken(String),
    #[error("Redis refused: {0}")]
    Refused(String),
}

/// Whether a command is sent although the server counts as away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    IfHealthy,
    AsProbe,
}

impl Node {
    /// Connects in the background, again and again. Needs a runtime, which the connection then lives on.
    pub fn connect(connecting: Connecting) -> Arc<Self> {
        let client = connecting.client();
        let node = Arc::new(Self {
            connecting,
            client: ArcSwap::from_pointee(client),
            health: Health::default(),
            figures: CommandFigures::default(),
            connections: AtomicU64::new(0),
            reads: Semaphore::new(READS),
            writes: Semaphore::new(WRITES),
            scripts: Semaphore::new(SCRIPTS),
            replace: Notify::new(),
            changed: Notify::new(),
        });
        tokio::spawn(node.clone().supervise());
        node
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn in_flight(&self) -> usize {
        let free = [&self.reads, &self.writes, &self.scripts].map(Semaphore::available_permits);
        READS + WRITES + SCRIPTS - free.iter().sum::<usize>()
    }

    /// Another client of the same server, for what would hold up commands.
    pub fn listening_client(&self) -> Client {
        self.connecting.listening_client()
    }

    pub async fn get(&self, key: &str, within: Duration) -> Result<Option<Bytes>, Failure> {
        let key = Key::from(key);
        let run = move |client: WithOptions<Client>| async move { client.get::<Option<Bytes>, _>(key).await };
        self.call(Command::Get, Sent::IfHealthy, within, run).await
    }

    /// `expires_at` is in milliseconds on the server's clock.
    pub async fn set(
        &self,
        key: &str,
        value: Bytes,
        expires_at: i64,
        within: Duration,
    ) -> Result<(), Failure> {
        let key = Key::from(key);
        let run = move |client: WithOptions<Client>| async move {
            let expiry = Some(Expiration::PXAT(expires_at));
            client.set::<(), _, _>(key, Value::Bytes(value), expiry, None, false).await
        };
        self.call(Command::Set, Sent::IfHealthy, within, run).await
    }

    /// A section of what the server says of itself.
    pub async fn info(&self, section: &'static str, within: Duration) -> Result<String, Failure> {
        let run = move |client: WithOptions<Client>| async move {
            client.custom::<String, _>(CustomCommand::new_static("INFO", None, false), vec![section]).await
        };
        self.call(Command::Info, Sent::IfHealthy, within, run).await
    }

    /// Runs a script; one that the server does not know is loaded first, within the same deadline.
    pub async fn run(
        &self,
        command: Command,
        script: &'static Script,
        keys: &[&str],
        args: Vec<Bytes>,
        sent: Sent,
        within: Duration,
    ) -> Result<Part, Failure> {
        let began = Instant::now();
        let keys: Vec<Key> = keys.iter().map(|key| Key::from(*key)).collect();
        let args: Vec<Value> = args.into_iter().map(Value::Bytes).collect();
        if let Some(sha) = script.sha.get() {
            let result = self.evaluate(command, sha, keys.clone(), args.clone(), sent, within).await;
            match result {
                Err(Failure::Refused(reason)) if reason.contains("NOSCRIPT") => {}
                result => return result,
            }
        }
        let rest = || within.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
        let run = move |client: WithOptions<Client>| async move {
            client.script_load::<String, _>(script.text).await
        };
        let sha = self.call(Command::Load, sent, rest(), run).await?;
        let sha = script.sha.get_or_init(|| sha);
        self.evaluate(command, sha, keys, args, sent, rest()).await
    }

    async fn evaluate(
        &self,
        command: Command,
        sha: &str,
        keys: Vec<Key>,
        args: Vec<Value>,
        sent: Sent,
        within: Duration,
    ) -> Result<Part, Failure> {
        let sha = sha.to_owned();
        let run = move |client: WithOptions<Client>| async move {
            client.evalsha::<Value, _, _, _>(sha, keys, args).await
        };
        self.call(command, sent, within, run).await.map(part)
    }

    async fn call<T, F>(
        &self,
        command: Command,
        sent: Sent,
        within: Duration,
        run: impl FnOnce(WithOptions<Client>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        if sent == Sent::IfHealthy && !self.health.is_good() {
            return Err(Failure::Away);
        }
        let class = match command {
            Command::Get => &self.reads,
            Command::Set | Command::Remove => &self.writes,
            Command::Confirm
            | Command::Purge
            | Command::Load
            | Command::History
            | Command::Info
            | Command::Replicas
            | Command::Source => &self.scripts,
        };
        let Ok(_slot) = class.try_acquire() else { return Err(Failure::Busy) };
        let options =
            Options { timeout: Some(within), max_attempts: Some(1), fail_fast: true, ..Options::default() };
        let began = Instant::now();
        let client = self.client.load().with_options(&options);
        let result = run(client).await.map_err(failure);
        self.figures.count(command, began.elapsed(), result.as_ref().err());
        if let Err(failure) = &result {
            self.notice(failure);
        }
        result
    }

    /// One reply that does not come is reason enough to ask nothing more, until a probe is answered.
    fn notice(&self, failure: &Failure) {
        let is_away = match failure {
            Failure::TimedOut | Failure::Broken(_) => true,
            Failure::Refused(reason) => NOT_NOW.iter().any(|prefix| reason.contains(prefix)),
            Failure::Away | Failure::Busy => false,
        };
        if is_away && self.health.failed(&failure.to_string()) {
            self.changed.notify_one();
        }
    }

    /// Drops the connection, whatever state it is in, and begins anew.
    pub fn replace(&self) {
        self.replace.notify_one();
    }

    async fn supervise(self: Arc<Self>) {
        loop {
            let client = self.client.load_full();
            let (mut errors, mut connects) = (client.error_rx(), client.reconnect_rx());
            let mut running = client.connect();
            loop {
                tokio::select! {
                    ended = &mut running => {
                        let reason = match ended {
                            Ok(Err(error)) => error.to_string(),
                            _ => "the connection was given up".to_owned(),
                        };
                        self.lost(&reason);
                        break;
                    }
                    error = errors.recv() => match error {
                        Ok((error, _)) => self.lost(&error.to_string()),
                        Err(_) => self.lost("errors came too fast"),
                    },
                    Ok(_) = connects.recv() => {
                        self.connections.fetch_add(1, Ordering::Relaxed);
                        self.changed.notify_one();
                    }
                    () = self.replace.notified() => {
                        running.abort();
                        self.lost("it did not answer; connecting anew");
                        break;
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
            self.client.store(Arc::new(self.connecting.client()));
        }
    }

    fn lost(&self, reason: &str) {
        self.health.failed(reason);
        self.changed.notify_one();
    }
}

/// Replies of a server that is there and can't be used for now. Redis 6.2 wraps what a script ran into.
const NOT_NOW: [&str; 9] = [
    "LOADING",
    "BUSY",
    "MASTERDOWN",
    "MISCONF",
    "READONLY",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "NOAUTH",
    "WRONGPASS",
];

fn failure(error: Error) -> Failure {
    let details = error.details().to_owned();
    match error.kind() {
        ErrorKind::Timeout => Failure::TimedOut,
        ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Routing | ErrorKind::Protocol | ErrorKind::Tls => {
            Failure::Broken(details)
        }
        _ => Failure::Refused(details),
    }
}

pub(super) fn part(value: Value) -> Part {
    match value {
        Value::Null => Part::Nothing,
        Value::Integer(number) => Part::Number(number),
        Value::Array(values) => Part::List(values.into_iter().map(part).collect()),
        value => value.into_bytes().map_or(Part::Nothing, Part::Bytes),
    }
}
