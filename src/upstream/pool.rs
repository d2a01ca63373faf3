//! A worker's connections to the upstream. The number in use is bounded by the destination's slots.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::connect::{BoxError, Connector};
use super::connect_attempt::{AttemptRole, ConnectAttempt, ConnectAttempts};
use super::http1_connection::Http1Connection;
use super::http2_connection::{Http2Connection, StreamGuard};
use super::observed_keep_alive::ObservedKeepAlive;
use super::protocols::Protocols;
use super::slot::Slot;

pub(super) struct ConnectionPool {
    connector: Arc<Connector>,
    protocols: Protocols,
    idle_timeout: Duration,
    connections: Mutex<Connections>,
    attempts: ConnectAttempts,
    /// The upstream chose HTTP/1.1 when it was last offered HTTP/2.
    chose_http1: AtomicBool,
    /// Notified of events on idle HTTP/1.1 connections: mostly the upstream has closed one.
    idle_event: Arc<Notify>,
}

type IdleConnections = Vec<(Box<Http1Connection>, Instant)>;

/// The kind of request that a connection is wanted for.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestKind {
    /// A second copy does no harm.
    pub(super) is_repeatable: bool,
    pub(super) has_content: bool,
    /// Its response may be stored.
    pub(super) is_storable: bool,
}

#[derive(Default)]
struct Connections {
    /// Idle connections that never carried content of a client, in the order of their last use.
    http1: IdleConnections,
    /// Those that did. An upstream that ignores the content takes it for the next request, so only requests with content
    /// of their own whose responses are not stored go over them.
    http1_with_content: IdleConnections,
    /// All connections, in use or not.
    http2: Vec<Http2Connection>,
    /// How long the upstream keeps idle HTTP/1.1 connections.
    keep_alive: ObservedKeepAlive,
    is_watched: bool,
}

/// A connection for one request.
pub(super) enum Checkout {
    /// `idle`: for how long it was; `None` for a new connection.
    Http1 {
        connection: Box<Http1Connection>,
        idle: Option<Duration>,
    },
    Http2 {
        connection: Http2Connection,
        stream: StreamGuard,
        is_new: bool,
    },
}

impl ConnectionPool {
    pub(super) fn new(connector: Arc<Connector>, protocols: Protocols, idle_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            connector,
            protocols,
            idle_timeout,
            connections: Mutex::default(),
            attempts: ConnectAttempts::default(),
            chose_http1: AtomicBool::new(false),
            idle_event: Arc::default(),
        })
    }

    /// Returns an open connection that can carry a request now, if there is one. `allowed`: an upgrade wants HTTP/1.1. A
    /// request that can't be sent again does not go over a connection that the upstream may be closing: one that was idle
    /// for half of `idle_timeout`, of what the upstream announced, or of the time after which it closed others.
    pub(super) fn checkout_idle(&self, allowed: Protocols, request: RequestKind) -> Option<Checkout> {
        let mut connections = self.connections.lock();
        if self.protocols == Protocols::Http2 && allowed == Protocols::Http2 {
            let max_idle = self.idle_timeout / if request.is_repeatable { 1 } else { 2 };
            for connection in &connections.http2 {
                if let Some(stream) = connection.reserve(max_idle) {
                    let connection = connection.clone();
                    return Some(Checkout::Http2 { connection, stream, is_new: false });
                }
            }
        }
        let Connections { http1, http1_with_content, keep_alive, .. } = &mut *connections;
        let idle_connections = match (request.has_content, request.is_storable) {
            (true, true) => return None,
            (true, false) => http1_with_content,
            (false, _) => http1,
        };
        loop {
            let (connection, since) = idle_connections.last()?;
            let limit = connection.keep_alive().map_or(self.idle_timeout, |it| it.min(self.idle_timeout));
            let unrepeatable_limit = keep_alive.shortest().map_or(limit, |it| it.min(limit)) / 2;
            let idle = since.elapsed();
            if !request.is_repeatable && idle < limit && idle >= unrepeatable_limit {
                return None;
            }
            let (mut connection, _) = idle_connections.pop()?;
            if idle >= limit {
                continue;
            }
            if connection.is_reusable() {
                keep_alive.record_open(idle);
                return Some(Checkout::Http1 { connection, idle: Some(idle) });
            }
            keep_alive.record_close(idle);
        }
    }

    /// Records that the upstream closed a connection that was idle for this time before it was used again.
    pub(super) fn record_close(&self, idle: Option<Duration>) {
        if let Some(idle) = idle {
            self.connections.lock().keep_alive.record_close(idle);
        }
    }

    /// Makes a connection. Those that may carry HTTP/2 are made one at a time, so that requests that come meanwhile share
    /// it, or its failure.
    pub(super) async fn connect(
        self: &Arc<Self>,
        allowed: Protocols,
        request: RequestKind,
    ) -> Result<Checkout, BoxError> {
        if self.protocols == Protocols::Http1 || allowed == Protocols::Http1 {
            return self.connect_one(Protocols::Http1, None).await;
        }
        while !self.chose_http1.load(Ordering::Relaxed) {
            match self.attempts.join() {
                AttemptRole::Leader(attempt) => {
                    return self.connect_one(Protocols::Http2, Some(attempt)).await;
                }
                AttemptRole::Follower(outcome) => outcome.failure().await.map_or(Ok(()), Err)?,
            }
            if let Some(checkout) = self.checkout_idle(allowed, request) {
                return Ok(checkout);
            }
        }
        self.connect_one(Protocols::Http2, None).await
    }

    async fn connect_one(
        self: &Arc<Self>,
        protocols: Protocols,
        attempt: Option<ConnectAttempt>,
    ) -> Result<Checkout, BoxError> {
        let (stream, negotiated) = match self.connector.connect(protocols).await {
            Ok(connected) => connected,
            Err(error) => {
                return Err(match attempt {
                    Some(attempt) => attempt.fail(error),
                    None => error,
                });
            }
        };
        let limits = self.connector.header_limits;
        if protocols == Protocols::Http2 {
            self.chose_http1.store(negotiated == Protocols::Http1, Ordering::Relaxed);
        }
        if negotiated == Protocols::Http1 {
            let connection = Http1Connection::new(stream, limits, self.idle_event.clone()).await?;
            return Ok(Checkout::Http1 { connection: Box::new(connection), idle: None });
        }
        let connection = Http2Connection::new(stream, limits, attempt).await?;
        let stream = connection.reserve_first();
        let mut connections = self.connections.lock();
        connections.http2.retain(|connection| connection.is_reusable(self.idle_timeout));
        connections.http2.push(connection.clone());
        self.watch(&mut connections);
        Ok(Checkout::Http2 { connection, stream, is_new: true })
    }

    /// Takes a connection back after an exchange. A request that is still being sent goes on by itself, and keeps its slot.
    fn release(
        self: &Arc<Self>,
        mut connection: Box<Http1Connection>,
        rest: RequestRest,
        slot: Option<Slot>,
    ) {
        if rest == RequestRest::Unwanted {
            return;
        }
        let is_clean = rest == RequestRest::Nothing;
        if connection.is_reusable() {
            if is_clean {
                self.put_idle(connection);
            }
            return;
        }
        let pool = self.clone();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                connection.wait_until_reusable().await;
                drop(slot);
                if is_clean && connection.is_reusable() {
                    pool.put_idle(connection);
                }
            });
        }
    }

    fn put_idle(self: &Arc<Self>, connection: Box<Http1Connection>) {
        let mut connections = self.connections.lock();
        match connection.has_carried_content() {
            true => connections.http1_with_content.push((connection, Instant::now())),
            false => connections.http1.push((connection, Instant::now())),
        }
        self.watch(&mut connections);
    }

    /// Closes expired connections from now on, on a task that ends with the pool.
    fn watch(self: &Arc<Self>, connections: &mut Connections) {
        if connections.is_watched {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            connections.is_watched = true;
            let (pool, idle_event) = (Arc::downgrade(self), self.idle_event.clone());
            let interval = self.idle_timeout / 2;
            runtime.spawn(async move {
                loop {
                    _ = timeout(interval, idle_event.notified()).await;
                    let Some(pool) = pool.upgrade() else { return };
                    pool.close_expired();
                }
            });
        }
    }

    /// Closes connections that were idle for too long, or that the upstream has closed.
    fn close_expired(&self) {
        let mut connections = self.connections.lock();
        let Connections { http1, http1_with_content, keep_alive, .. } = &mut *connections;
        for connections in [http1, http1_with_content] {
            connections.retain_mut(|(connection, since)| {
                let (idle, is_open) = (since.elapsed(), connection.is_reusable());
                match is_open {
                    true if idle >= self.idle_timeout => keep_alive.record_open(idle),
                    true => {}
                    false => keep_alive.record_close(idle),
                }
                is_open && idle < self.idle_timeout
            });
        }
        connections.http2.retain(|connection| connection.is_reusable(self.idle_timeout));
    }
}

impl Drop for ConnectionPool {
    fn drop(&mut self) {
        self.idle_event.notify_one();
    }
}

/// The connection that a response is read from.
pub(super) enum PooledConnection {
    Http1(Http1Guard),
    Http2 { _stream: StreamGuard },
}

/// The part of a request that was not sent when its response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestRest {
    Nothing,
    /// It is sent. An upstream that does not wait for it may take it for the next request, so the connection is not used
    /// again.
    Sent,
    /// The upstream does not want it, and it is not sent: the connection closes.
    Unwanted,
}

/// An HTTP/1.1 connection. It closes when this is dropped.
pub(super) struct Http1Guard {
    connection: Box<Http1Connection>,
    rest: RequestRest,
    pool: Arc<ConnectionPool>,
}

impl Http1Guard {
    pub(super) fn new(
        connection: Box<Http1Connection>,
        rest: RequestRest,
        pool: Arc<ConnectionPool>,
    ) -> Self {
        Self { connection, rest, pool }
    }
}

impl PooledConnection {
    /// The connection, if this task has to poll it.
    pub(super) fn http1(&mut self) -> Option<&mut Http1Connection> {
        match self {
            PooledConnection::Http1(guard) => Some(&mut guard.connection),
            PooledConnection::Http2 { .. } => None,
        }
    }

    /// Returns the connection to its pool. `slot` is free once nothing is sent over it any more.
    pub(super) fn release(self, slot: Option<Slot>) {
        if let PooledConnection::Http1(Http1Guard { connection, rest, pool }) = self {
            pool.release(connection, rest, slot);
        }
    }

    /// Polls the connection on a task of its own, after a response that switches protocols.
    pub(super) fn upgrade(self) {
        if let PooledConnection::Http1(guard) = self {
            tokio::spawn(guard.connection.run_upgraded());
        }
    }
}
