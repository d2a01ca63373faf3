//! Subscriptions, each on a connection of its own: wake-ups, and announcements of sentinels. They are hints: if one is
//! lost, polling finds the change.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{ConnectionEvent, PubsubProtocol, RedisConnection};
use super::error::RedisError;
use super::failure_reason::is_resp3_refusal;

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
                let text = message.as_ref().and_then(|message| std::str::from_utf8(&message.content).ok());
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
