//! One Redis server: a client that is always there, deadlines, and what is known of the server's health.
//!
//! The only folder that names the client library is this one, and of it only this file, `connecting`, `request`,
//! `failure`, `wake` and `slots`.
//! What the library does on its own that a cache can't have, and what is done about it:
//!
//! - it queues without a bound while the server is away: nothing is sent then ([`Health`]), and little at once;
//! - it waits without a deadline: every command has one, in the library's own options, because a future that is
//!   dropped cancels nothing;
//! - it sends a command again whose reply was lost: every command is sent once;
//! - it does not notice a server that hangs: whoever asks too often in vain has the client replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::Options;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use super::connecting::{Address, Connecting};
use super::failure::Failure;
use super::figures::{Command, CommandFigures};
use super::health::Health;
use super::reads::Reads;
use super::request::{Request, part};
use super::scripts::{Part, Script};

/// More commands of one class than this at once are not sent. Reads are many: those of one turn are one command.
const READS: usize = 4096;
const WRITES: usize = 64;
const SCRIPTS: usize = 256;

/// Pause before a client that gave up is replaced.
const PAUSE: Duration = Duration::from_millis(100);

/// Told whenever a connection has come or gone, or a server was found to be another one: time to look.
pub type Changes = Arc<watch::Sender<()>>;

pub struct Node {
    connecting: ArcSwap<Connecting>,
    /// `None`: nobody knows yet where it is.
    address: ArcSwapOption<Address>,
    client: ArcSwap<Client>,
    pub health: Health,
    pub figures: CommandFigures,
    connections: AtomicU64,
    pub reading: Reads,
    reads: Semaphore,
    writes: Semaphore,
    scripts: Semaphore,
    replace: Notify,
    has_ended: AtomicBool,
    changes: Changes,
}

/// Whether a command is sent although the server counts as away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    IfHealthy,
    AsProbe,
}

/// How a command is sent.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub sent: Sent,
    /// To a node that takes the key's slot over, and does not have it yet.
    pub asking: bool,
    pub within: Duration,
}

impl Node {
    /// Connects in the background, again and again; without an address, once [`Node::move_to`] has given it one. Needs
    /// a runtime, which the connection then lives on.
    pub fn connect(connecting: &Connecting, address: Option<Address>, changes: Changes) -> Arc<Self> {
        let connecting = address.as_ref().map_or_else(|| connecting.clone(), |to| connecting.to(to));
        let node = Arc::new(Self {
            client: ArcSwap::from_pointee(connecting.client()),
            connecting: ArcSwap::from_pointee(connecting),
            address: ArcSwapOption::from_pointee(address),
            health: Health::default(),
            figures: CommandFigures::default(),
            connections: AtomicU64::new(0),
            reading: Reads::default(),
            reads: Semaphore::new(READS),
            writes: Semaphore::new(WRITES),
            scripts: Semaphore::new(SCRIPTS),
            replace: Notify::new(),
            has_ended: AtomicBool::new(false),
            changes,
        });
        tokio::spawn(node.clone().supervise());
        node
    }

    pub fn address(&self) -> Option<Arc<Address>> {
        self.address.load_full()
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
        self.connecting.load().listening_client()
    }

    /// Runs a script; one that the server does not know is loaded first, within the same deadline.
    pub async fn run(
        &self,
        command: Command,
        script: &'static Script,
        keys: &[&str],
        args: Vec<Bytes>,
        way: Way,
    ) -> Result<Part, Failure> {
        let began = Instant::now();
        if let Some(sha) = script.sha.get() {
            match self.send(command, Request::evaluate(sha, keys, args.clone()), way).await {
                Err(Failure::Refused(reason)) if reason.contains("NOSCRIPT") => {}
                result => return result,
            }
        }
        let rest = || Way { within: rest(way.within, began), ..way };
        let load = Way { asking: false, ..rest() };
        let loaded = self.send(Command::Load, Request::load(script.text), load).await?;
        let Some(sha) = loaded.text() else {
            return Err(Failure::Refused("it gave a script no name".to_owned()));
        };
        let sha = script.sha.get_or_init(|| sha.to_owned());
        self.send(command, Request::evaluate(sha, keys, args), rest()).await
    }

    pub async fn send(&self, command: Command, request: Request, way: Way) -> Result<Part, Failure> {
        let _slot = self.slot(command, way.sent)?;
        self.exchange(command, request, way).await
    }

    /// The room for one more command.
    pub fn slot(&self, command: Command, sent: Sent) -> Result<SemaphorePermit<'_>, Failure> {
        if !self.may_be_asked(sent) {
            return Err(Failure::Away);
        }
        let class = match command {
            Command::Get | Command::GetMany => &self.reads,
            Command::Set | Command::Remove | Command::Replace => &self.writes,
            Command::Confirm
            | Command::Purge
            | Command::Load
            | Command::Look
            | Command::History
            | Command::Replicas
            | Command::Lease
            | Command::Source => &self.scripts,
        };
        class.try_acquire().map_err(|_| Failure::Busy)
    }

    fn may_be_asked(&self, sent: Sent) -> bool {
        (sent == Sent::AsProbe || self.health.is_good()) && self.address.load().is_some()
    }

    /// For whoever has the slots.
    pub async fn exchange(&self, command: Command, request: Request, way: Way) -> Result<Part, Failure> {
        if !self.may_be_asked(way.sent) {
            return Err(Failure::Away);
        }
        let options = Options {
            timeout: Some(way.within),
            max_attempts: Some(1),
            // A probe may wait for the connection.
            fail_fast: way.sent == Sent::IfHealthy,
            ..Options::default()
        };
        let began = Instant::now();
        let client = self.client.load().with_options(&options);
        // In a box: the library's future takes 7 KB, and whoever waits for it would be as large.
        let sending = match way.asking {
            true => Box::pin(request.send_asking(client)).await,
            false => Box::pin(request.send(client)).await,
        };
        let result = sending.map(part).map_err(|error| Failure::of(&error));
        self.figures.count(command, began.elapsed(), result.as_ref().err());
        match &result {
            Err(failure) if failure.is_of_server() => {
                if self.health.command_failed(failure) {
                    self.changes.send_replace(());
                }
            }
            _ => self.health.replied(),
        }
        result
    }

    /// It is at `address` from now on: what is connected elsewhere is given up.
    pub fn move_to(&self, connecting: &Connecting, address: Address) {
        let connecting = connecting.to(&address);
        // What is sent from now on waits for the new connection, and not for the old one.
        self.client.store(Arc::new(connecting.client()));
        self.connecting.store(Arc::new(connecting));
        let reason = format!("it is at {address} now");
        self.address.store(Some(Arc::new(address)));
        self.lost(&reason);
        self.replace();
    }

    /// Drops the connection, whatever state it is in, and begins anew.
    pub fn replace(&self) {
        self.replace.notify_one();
    }

    /// Drops the connection for ever.
    pub fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.replace();
    }

    async fn supervise(self: Arc<Self>) {
        while !self.has_ended() {
            let before = self.connecting.load_full();
            match self.address.load().is_some() {
                true => self.keep_connected(&self.client.load_full()).await,
                false => self.replace.notified().await,
            }
            // Who has moved has a new client already.
            if Arc::ptr_eq(&before, &self.connecting.load()) {
                tokio::time::sleep(PAUSE).await;
                self.client.store(Arc::new(self.connecting.load().client()));
            }
        }
    }

    /// Until the client gives up, or is to be replaced.
    async fn keep_connected(&self, client: &Client) {
        let (mut errors, mut connects) = (client.error_rx(), client.reconnect_rx());
        let mut running = client.connect();
        loop {
            tokio::select! {
                ended = &mut running => {
                    let reason = match ended {
                        Ok(Err(error)) => error.to_string(),
                        _ => "the connection was given up".to_owned(),
                    };
                    return self.lost(&reason);
                }
                error = errors.recv() => match error {
                    Ok((error, _)) => self.lost(&error.to_string()),
                    Err(_) => self.lost("errors came too fast"),
                },
                Ok(_) = connects.recv() => {
                    self.connections.fetch_add(1, Ordering::Relaxed);
                    self.health.connected();
                    self.changes.send_replace(());
                }
                () = self.replace.notified() => {
                    running.abort();
                    return self.lost("it did not answer; connecting anew");
                }
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    fn lost(&self, reason: &str) {
        self.health.disconnected(reason);
        self.changes.send_replace(());
    }
}

/// What is left of a deadline; never nothing, which would be no deadline at all.
pub fn rest(within: Duration, began: Instant) -> Duration {
    within.saturating_sub(began.elapsed()).max(Duration::from_millis(1))
}
