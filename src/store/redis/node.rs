//! One Redis server: its connection, deadlines, and health.
//!
//! In this folder only `driver` names the client library. Some of its habits don't suit a cache:
//!
//! - It queues without a bound while the server is unavailable. Here nothing is sent then ([`NodeHealth`]), and a
//!   bounded number of commands otherwise.
//! - It waits without a deadline. Here each command has one, in the library's own options, because dropping its future
//!   cancels nothing.
//! - It repeats a command whose reply was lost. Here each command is sent once.
//! - It does not notice a server that hangs. Here the client is replaced after repeated timeouts.

mod read_batcher;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use super::command_stats::{CommandCounters, CommandKind};
use super::connection::{Address, Admission, ConnectionEvent, PubsubProtocol, RedisConnection, SendOptions};
use super::connector::RedisConnector;
use super::error::RedisError;
use super::health::NodeHealth;
use super::port_probe::probe_port;
use super::request::RedisRequest;
use super::scripts::{RespValue, Script};
use crate::clock::Moment;
use crate::tasks::spawn;
use read_batcher::ReadBatcher;

/// Maximum number of commands in flight, by class. A batch of reads counts each of them.
const MAX_READS_IN_FLIGHT: usize = 4096;
const MAX_WRITES_IN_FLIGHT: usize = 64;
const MAX_SCRIPTS_IN_FLIGHT: usize = 256;

/// Delay before a client that gave up is replaced.
const CLIENT_REPLACE_DELAY: Duration = Duration::from_millis(100);

/// Notified when a connection is made or lost, or a server has moved.
pub(super) type TopologyChanges = Arc<watch::Sender<()>>;

pub(crate) struct RedisNode {
    connector: ArcSwap<RedisConnector>,
    /// `None` until it is known.
    address: ArcSwapOption<Address>,
    client: ArcSwap<Arc<dyn RedisConnection>>,
    pub health: NodeHealth,
    pub figures: CommandCounters,
    connections: AtomicU64,
    pub read_batcher: ReadBatcher,
    reads: Semaphore,
    writes: Semaphore,
    scripts: Semaphore,
    reconnect_requested: Notify,
    is_shut_down: AtomicBool,
    changes: TopologyChanges,
}

impl RedisNode {
    /// Connects in the background and keeps reconnecting; without an address, once [`RedisNode::move_to`] has given one.
    /// Needs a runtime, which the connection then lives on.
    pub(crate) fn connect(
        connector: &RedisConnector,
        address: Option<Address>,
        changes: TopologyChanges,
    ) -> Arc<Self> {
        let connector = address.as_ref().map_or_else(|| connector.clone(), |to| connector.with_address(to));
        let server = address.as_ref().map(Address::to_string).unwrap_or_default();
        let node = Arc::new(Self {
            client: ArcSwap::from_pointee(connector.build_client()),
            health: NodeHealth::new(connector.context(), server),
            connector: ArcSwap::from_pointee(connector),
            address: ArcSwapOption::from_pointee(address),
            figures: CommandCounters::default(),
            connections: AtomicU64::new(0),
            read_batcher: ReadBatcher::default(),
            reads: Semaphore::new(MAX_READS_IN_FLIGHT),
            writes: Semaphore::new(MAX_WRITES_IN_FLIGHT),
            scripts: Semaphore::new(MAX_SCRIPTS_IN_FLIGHT),
            reconnect_requested: Notify::new(),
            is_shut_down: AtomicBool::new(false),
            changes,
        });
        spawn(node.clone().supervise());
        node
    }

    pub(crate) fn address(&self) -> Option<Arc<Address>> {
        self.address.load_full()
    }

    /// The address as text; empty until it is known.
    pub(super) fn name(&self) -> String {
        self.address().map(|address| address.to_string()).unwrap_or_default()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn in_flight(&self) -> usize {
        let free = [&self.reads, &self.writes, &self.scripts].map(Semaphore::available_permits);
        MAX_READS_IN_FLIGHT + MAX_WRITES_IN_FLIGHT + MAX_SCRIPTS_IN_FLIGHT - free.iter().sum::<usize>()
    }

    /// A connection to another server, with the same login. It lasts until [`RedisNode::shut_down`].
    pub(super) fn connect_beside(&self, address: Address) -> Arc<Self> {
        Self::connect(&self.connector.load(), Some(address), self.changes.clone())
    }

    /// Another client of the same server, for subscriptions.
    pub(crate) fn build_pubsub_client(&self, protocol: PubsubProtocol) -> Arc<dyn RedisConnection> {
        self.connector.load().build_pubsub_client(protocol)
    }

    /// Runs a script, within one deadline. A server that does not know it is told, by EVAL where SCRIPT LOAD is refused.
    pub(crate) async fn run(
        &self,
        command: CommandKind,
        script: &'static Script,
        keys: &[&str],
        args: Vec<Bytes>,
        options: SendOptions,
    ) -> Result<RespValue, RedisError> {
        let began = Moment::now();
        let by_digest = || RedisRequest::evalsha(script.sha(), keys, args.clone());
        match self.send(command, by_digest(), options).await {
            Err(error) if error.is_unknown_script() => {}
            result => return result,
        }
        let rest = || SendOptions { timeout: remaining_time(options.timeout, began), ..options };
        let load = SendOptions { asking: false, ..rest() };
        match self.send(CommandKind::Load, RedisRequest::script_load(script.text), load).await {
            Ok(_) => self.send(command, by_digest(), rest()).await,
            Err(error) if error.is_server_failure() => Err(error),
            Err(RedisError::ErrorReply(_)) => {
                self.send(command, RedisRequest::eval(script.text, keys, args), rest()).await
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn send(
        &self,
        command: CommandKind,
        request: RedisRequest,
        options: SendOptions,
    ) -> Result<RespValue, RedisError> {
        let _permit = self.acquire_permit(command, options.admission)?;
        self.send_with_permit(command, request, options).await
    }

    /// Admits one more command of its class.
    pub(crate) fn acquire_permit(
        &self,
        command: CommandKind,
        admission: Admission,
    ) -> Result<SemaphorePermit<'_>, RedisError> {
        if !self.may_send(admission) {
            return Err(RedisError::Unavailable);
        }
        let class = match command {
            // Clients choose how many of these there are: they never keep a purge from being sent.
            CommandKind::Get | CommandKind::GetMany | CommandKind::Rate => &self.reads,
            CommandKind::Set | CommandKind::Remove | CommandKind::Replace => &self.writes,
            CommandKind::Confirm
            | CommandKind::Purge
            | CommandKind::Load
            | CommandKind::Query
            | CommandKind::History
            | CommandKind::Replicas
            | CommandKind::Lease
            | CommandKind::Source => &self.scripts,
        };
        class.try_acquire().map_err(|_| RedisError::TooManyInFlight)
    }

    fn may_send(&self, admission: Admission) -> bool {
        (admission == Admission::Probe || self.health.is_healthy()) && self.address.load().is_some()
    }

    /// Sends a command for which the caller holds a permit.
    pub(crate) async fn send_with_permit(
        &self,
        command: CommandKind,
        request: RedisRequest,
        options: SendOptions,
    ) -> Result<RespValue, RedisError> {
        if !self.may_send(options.admission) {
            return Err(RedisError::Unavailable);
        }
        let began = Moment::now();
        let reply = self.client.load().send(request, options);
        let result = reply.await;
        // The caller loads an unknown script.
        let failure = result.as_ref().err().filter(|error| !error.is_unknown_script());
        self.figures.count(command, began.elapsed(), failure);
        match &result {
            Err(error) if error.is_server_failure() => {
                if self.health.on_command_failure(error) {
                    self.changes.send_replace(());
                }
            }
            result => self.health.on_reply(command, result.as_ref().err()),
        }
        result
    }

    /// Gives up the connection and connects to `address`.
    pub(crate) fn move_to(&self, connector: &RedisConnector, address: Address) {
        let connector = connector.with_address(&address);
        // Commands sent from now on wait for the new connection.
        self.client.store(Arc::new(connector.build_client()));
        self.connector.store(Arc::new(connector));
        self.health.set_server(address.to_string());
        self.address.store(Some(Arc::new(address)));
        self.on_connection_dropped();
        self.reconnect();
    }

    /// Gives up the connection and the address. Nothing is sent until [`RedisNode::move_to`] gives another.
    pub(super) fn withdraw_address(&self) {
        self.address.store(None);
        self.on_connection_dropped();
        self.reconnect();
    }

    pub(super) fn changes(&self) -> &TopologyChanges {
        &self.changes
    }

    /// Drops the connection, whatever state it is in, and connects again.
    pub(crate) fn reconnect(&self) {
        self.reconnect_requested.notify_one();
    }

    /// Drops the connection for good.
    pub(crate) fn shut_down(&self) {
        self.is_shut_down.store(true, Ordering::Release);
        self.reconnect();
    }

    async fn supervise(self: Arc<Self>) {
        while !self.is_shut_down() {
            let before = self.connector.load_full();
            match self.address.load().is_some() {
                true => self.run_connection(&**self.client.load_full()).await,
                false => self.reconnect_requested.notified().await,
            }
            // `move_to` has replaced the client already.
            if Arc::ptr_eq(&before, &self.connector.load()) {
                tokio::time::sleep(CLIENT_REPLACE_DELAY).await;
                self.client.store(Arc::new(self.connector.load().build_client()));
            }
        }
    }

    /// Runs until the client gives up or is to be replaced.
    async fn run_connection(self: &Arc<Self>, client: &dyn RedisConnection) {
        let mut events = client.open();
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                () = self.reconnect_requested.notified() => return self.on_connection_dropped(),
            };
            match event {
                ConnectionEvent::Ended(Some(error)) => return self.on_connection_error(&error),
                ConnectionEvent::Ended(None) => return self.on_connection_dropped(),
                ConnectionEvent::Failed(Some(error)) => self.on_connection_error(&error),
                // Too many errors at once; the next one says why.
                ConnectionEvent::Failed(None) => self.on_connection_dropped(),
                ConnectionEvent::Message(_) => {}
                ConnectionEvent::Connected => {
                    self.connections.fetch_add(1, Ordering::Relaxed);
                    self.health.on_connected();
                    self.changes.send_replace(());
                }
            }
        }
    }

    fn is_shut_down(&self) -> bool {
        self.is_shut_down.load(Ordering::Acquire)
    }

    fn on_connection_dropped(&self) {
        self.health.on_connection_dropped();
        self.changes.send_replace(());
    }

    /// The connection was lost or could not be made. If the error does not tell why, the port is probed.
    fn on_connection_error(self: &Arc<Self>, error: &RedisError) {
        if let Some(reason) = self.health.on_disconnected(error) {
            let node = self.clone();
            spawn(async move {
                let finding = match node.address().as_deref() {
                    Some(Address::Host(host)) => probe_port(host, node.connector.load().uses_tls()).await,
                    _ => None,
                };
                node.health.refine(reason, finding);
            });
        }
        self.changes.send_replace(());
    }
}

/// The rest of a deadline. Never zero, which would mean no deadline.
pub(super) fn remaining_time(timeout: Duration, began: Moment) -> Duration {
    timeout.saturating_sub(began.elapsed()).max(Duration::from_millis(1))
}
