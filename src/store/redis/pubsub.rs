//! Subscriptions, each on a connection of its own: wake-ups, which announce purges, and announcements of sentinels. They
//! are hints: if one is lost, polling finds the change.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection::{ConnectionEvent, PubsubProtocol, RedisConnection};
use super::error::RedisError;
use super::failure_reason::{ExplainContext, explain, is_resp3_refusal};
use super::index::RedisIndex;
use super::leases::{FetchLeases, LEASE_ENDED};
use super::node::RedisNode;
use super::replicas::HEARTBEAT_REQUEST;
use crate::purge::PurgeVersion;

/// Between PINGs on a quiet subscription, which would not notice a dead connection otherwise.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Delays before connecting again: usually, and after failing for [`FAILURE_REPORT_DELAY`].
const RECONNECT_DELAY: Duration = Duration::from_millis(500);
const FAILING_RECONNECT_DELAY: Duration = Duration::from_secs(10);

/// A subscription that has failed for this long is reported. Restarts and failovers are shorter.
const FAILURE_REPORT_DELAY: Duration = Duration::from_secs(2);

/// The receiver of a channel's messages.
pub(super) trait Subscriber: Send + Sync {
    fn channel(&self) -> &str;

    fn connect(&self, protocol: PubsubProtocol) -> Arc<dyn RedisConnection>;

    /// Completes when another server must be subscribed to.
    fn moved(&self) -> impl Future<Output = ()> + Send {
        pending()
    }

    /// `None`: messages may have been lost.
    fn on_message(&self, message: Option<&str>);

    /// The subscription has failed for a while, or works again (`None`).
    fn on_failure(&self, _error: Option<RedisError>) {}
}

/// Receives messages until the runtime ends.
pub(super) async fn subscribe(subscriber: impl Subscriber) {
    let (mut failing_since, mut protocol) = (None, PubsubProtocol::Resp3);
    loop {
        let error = run_subscription(&subscriber, protocol, &mut failing_since).await;
        if protocol == PubsubProtocol::Resp3 && error.as_ref().is_some_and(is_resp3_refusal) {
            protocol = PubsubProtocol::Resp2;
            continue;
        }
        tracing::debug!(channel = subscriber.channel(), ?error, "Redis subscription ended");
        let since = *failing_since.get_or_insert_with(Instant::now);
        let is_failing = since.elapsed() >= FAILURE_REPORT_DELAY;
        if is_failing {
            subscriber.on_failure(error);
        }
        tokio::time::sleep(if is_failing { FAILING_RECONNECT_DELAY } else { RECONNECT_DELAY }).await;
    }
}

/// Runs one connection until it must be replaced. Returns its last error.
async fn run_subscription(
    subscriber: &impl Subscriber,
    protocol: PubsubProtocol,
    failing_since: &mut Option<Instant>,
) -> Option<RedisError> {
    let mut moved = std::pin::pin!(subscriber.moved());
    let connection = subscriber.connect(protocol);
    let mut events = connection.open();
    let mut last_error = None;
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            () = &mut moved => return None,
            () = tokio::time::sleep(PING_INTERVAL) => {
                if let Err(error) = connection.ping().await {
                    return Some(error);
                }
                continue;
            }
        };
        match event {
            ConnectionEvent::Ended(error) => return error.or(last_error),
            ConnectionEvent::Message(message) => {
                let text = message.as_deref().and_then(|text| std::str::from_utf8(text).ok());
                subscriber.on_message(text);
            }
            ConnectionEvent::Connected => {
                let subscribed = connection.subscribe(subscriber.channel()).await;
                // Messages sent before the subscription were missed.
                subscriber.on_message(None);
                if let Err(error) = subscribed {
                    return Some(error);
                }
                tracing::debug!(channel = subscriber.channel(), "subscribed in Redis");
                *failing_since = None;
                subscriber.on_failure(None);
            }
            ConnectionEvent::Failed(error) => {
                last_error = error.or(last_error);
                if last_error.as_ref().is_some_and(is_resp3_refusal) {
                    return last_error;
                }
                if failing_since.get_or_insert_with(Instant::now).elapsed() >= FAILURE_REPORT_DELAY {
                    subscriber.on_failure(last_error.clone());
                }
            }
        }
    }
}

/// Subscribes to the channel, runs `publish`, and returns how long the message took.
///
/// # Errors
/// If there is no connection, the subscription is refused, or no message arrives within `timeout`.
pub(super) async fn deliver_to_self(
    connection: Arc<dyn RedisConnection>,
    channel: &str,
    publish: impl Future<Output = Result<(), RedisError>>,
    timeout: Duration,
) -> Result<Duration, RedisError> {
    let mut events = connection.open();
    let deliver = async {
        match events.next().await {
            ConnectionEvent::Connected => {}
            ConnectionEvent::Failed(Some(error)) | ConnectionEvent::Ended(Some(error)) => return Err(error),
            event => return Err(RedisError::ConnectionLost(format!("{event:?}"))),
        }
        connection.subscribe(channel).await?;
        let began = Instant::now();
        publish.await?;
        match events.next().await {
            ConnectionEvent::Message(_) => Ok(began.elapsed()),
            event => Err(RedisError::ConnectionLost(format!("{event:?}"))),
        }
    };
    tokio::time::timeout(timeout, deliver).await.unwrap_or(Err(RedisError::TimedOut))
}

/// The wake-ups of a namespace. In a cluster every node delivers messages that are published on one.
pub(super) struct WakeUps {
    pub channel: String,
    pub index: Arc<RedisIndex>,
    pub leases: Arc<FetchLeases>,
    pub context: ExplainContext,
}

/// Receives wake-ups until the runtime ends.
pub(crate) async fn listen_for_wake_ups(channel: String, index: Arc<RedisIndex>, leases: Arc<FetchLeases>) {
    let context = index.servers.context();
    subscribe(WakeUps { channel, index, leases, context }).await;
}

impl Subscriber for WakeUps {
    fn channel(&self) -> &str {
        &self.channel
    }

    fn connect(&self, protocol: PubsubProtocol) -> Arc<dyn RedisConnection> {
        self.index.servers.index_node().build_pubsub_client(protocol)
    }

    async fn moved(&self) {
        let servers = &self.index.servers;
        let mut changes = servers.changes();
        let (before, address) = (servers.index_node(), servers.index_node().address());
        let is_same = || {
            let now = servers.index_node();
            Arc::ptr_eq(&now, &before) && now.address() == address
        };
        while is_same() && changes.changed().await.is_ok() {}
    }

    /// A lost message may have been of any purge.
    fn on_message(&self, message: Option<&str>) {
        let version = |text: &str| text.parse().ok().map(PurgeVersion);
        match message {
            Some(request) if request.starts_with(HEARTBEAT_REQUEST) => {
                self.index.on_heartbeat_request(version(&request[1..]).unwrap_or_default());
            }
            Some(ended) if ended.starts_with(LEASE_ENDED) => self.leases.on_lease_ended(&ended[1..]),
            message => self.index.on_wake_up(message.and_then(version).unwrap_or(PurgeVersion(u64::MAX))),
        }
    }

    /// While Redis is unavailable altogether, that is what is reported.
    fn on_failure(&self, error: Option<RedisError>) {
        let servers = &self.index.servers;
        match error {
            None => servers.set_wake_up_failure(None),
            Some(error) if self.index.is_reachable() => {
                servers.set_wake_up_failure(Some(explain(&error, self.context)));
            }
            Some(_) => {}
        }
    }
}

/// The announcements of a sentinel.
pub(super) struct SentinelAnnouncements {
    pub channel: &'static str,
    pub sentinel: Arc<RedisNode>,
    pub announced: Arc<Notify>,
}

impl Subscriber for SentinelAnnouncements {
    fn channel(&self) -> &str {
        self.channel
    }

    fn connect(&self, protocol: PubsubProtocol) -> Arc<dyn RedisConnection> {
        self.sentinel.build_pubsub_client(protocol)
    }

    fn on_message(&self, _message: Option<&str>) {
        self.announced.notify_one();
    }
}
