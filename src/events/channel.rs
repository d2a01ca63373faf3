//! Consumer of channels, of Redis or PostgreSQL. Every replica subscribes. Channels keep no history, so everything its events
//! could name is purged whenever a subscription starts, unless another replica has listened all the time.

use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Feed, MAX_BATCH, SourceConsumer};
use crate::config::EventKind;
use crate::policy::content::Content;
use crate::policy::event::{ChangeEvent, EventOutcome, EventTargets, MAX_EVENT_BYTES};
use crate::policy::purge_channels::namespace_of_wake_channel;
use crate::store::sources::SourceUpdate;
use crate::store::{ChannelEvent, ChannelMessage};
use crate::tasks::spawn;

/// Delay before reconnecting. It doubles while the server takes no subscription.
const RECONNECT_DELAY: Duration = Duration::from_millis(250);

const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// Maximum number of unprocessed messages; more end the connection.
const MAX_BUFFERED_MESSAGES: usize = 10_000;

/// Interval of the reports that this replica listens. Another one counts them.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A replica that has not reported for this long may not listen any more.
const LISTENER_LEASE: Duration = Duration::from_secs(3);

/// A report that is so much later than the start of a subscription tells that its sender listened at that start. One that
/// has missed something purges before it reports again.
const REPORT_DELAY: Duration = Duration::from_secs(1);

/// Longest time to wait for such a report.
const MAX_WAIT: Duration = Duration::from_secs(5);

const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The knowledge of messages before the subscription.
enum Coverage {
    /// Some may be missing since the subscription that began then.
    Unknown(Instant),
    /// All were heard, here or by another replica, which was last reported then.
    Complete(Option<Instant>),
}

/// Consumes messages until shutdown.
pub(super) async fn run(source: &SourceConsumer, mut stopping: watch::Receiver<bool>) {
    let mut heard = listen(source.feed.clone());
    let mut coverage = Coverage::Complete(None);
    loop {
        let heard_now = tokio::select! {
            heard = recv_batch(&mut heard) => heard,
            () = sleep(POLL_INTERVAL), if matches!(coverage, Coverage::Unknown(_)) => Vec::new(),
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        process_messages(source, heard_now, &mut coverage).await;
        coverage = match coverage {
            Coverage::Unknown(since) => cover_gap(source, since).await,
            // Messages that wait are not purged yet, and another replica would trust that they are.
            Coverage::Complete(Some(reported))
                if reported.elapsed() >= REPORT_INTERVAL && heard.is_empty() =>
            {
                report(source, LISTENER_LEASE).await;
                Coverage::Complete(Some(Instant::now()))
            }
            complete => complete,
        };
    }
    // A replica that starts now need not wait.
    report(source, Duration::ZERO).await;
}

/// Subscribes until the receiver is dropped, again and again.
fn listen(feed: Feed) -> Receiver<ChannelEvent> {
    let (sender, events) = mpsc::channel(MAX_BUFFERED_MESSAGES);
    spawn(async move {
        let mut delay = RECONNECT_DELAY;
        loop {
            let began = Instant::now();
            let Err(reason) = feed.run_subscription(&sender).await;
            if sender.send(ChannelEvent::Disconnected(reason)).await.is_err() {
                return;
            }
            // A server that is full or refuses the password is not asked all the time.
            let lasted = began.elapsed() > MAX_RECONNECT_DELAY;
            delay = if lasted { RECONNECT_DELAY } else { MAX_RECONNECT_DELAY.min(delay * 2) };
            sleep(delay).await;
        }
    });
    events
}

/// Receives the next messages in one batch.
async fn recv_batch(heard: &mut Receiver<ChannelEvent>) -> Vec<ChannelEvent> {
    let mut batch = Vec::new();
    heard.recv_many(&mut batch, MAX_BATCH).await;
    batch
}

/// Tells the other replicas that this one has heard all until now. If they can't be told, they purge everything.
async fn report(source: &SourceConsumer, reader_lease: Duration) {
    let contact = !reader_lease.is_zero();
    let _ = source.update_source(SourceUpdate { contact, reader_lease, ..source.new_update() }).await;
}

/// Purges everything that may have been announced before the subscription, unless another replica has heard it.
async fn cover_gap(source: &SourceConsumer, since: Instant) -> Coverage {
    let waited = since.elapsed();
    let update = SourceUpdate { reader_lease: LISTENER_LEASE, ..source.new_update() };
    let is_heard = match source.update_source(update).await {
        // No other replica listens.
        Ok(state) if state.is_reader => false,
        Ok(state) if state.contact_ago.is_some_and(|ago| ago + REPORT_DELAY <= waited) => true,
        Ok(_) if waited < MAX_WAIT => return Coverage::Unknown(since),
        Ok(_) | Err(_) => false,
    };
    if is_heard {
        tracing::info!(source = source.settings.name, "another replica has listened: nothing is purged");
    } else if source.purge_everything("the subscription starts").await.is_err() {
        // It holds here, and is sent later. Until a subscription starts again, others are told nothing.
        source.metrics.record_contact();
        return Coverage::Complete(None);
    }
    source.metrics.record_contact();
    report(source, LISTENER_LEASE).await;
    Coverage::Complete(Some(Instant::now()))
}

/// A purge that Redis did not accept holds locally and is retried. If the process ends before, the next subscription
/// purges everything.
async fn process_messages(source: &SourceConsumer, heard: Vec<ChannelEvent>, coverage: &mut Coverage) {
    let (mut targets, mut meanings) = (EventTargets::default(), Vec::new());
    let routes = source.routes();
    for heard in heard {
        match heard {
            ChannelEvent::Alive if matches!(coverage, Coverage::Complete(_)) => {
                source.metrics.record_contact()
            }
            ChannelEvent::Alive => {}
            ChannelEvent::Disconnected(reason) => {
                *coverage = Coverage::Complete(None);
                source.report_error(&reason);
            }
            ChannelEvent::Subscribed => *coverage = Coverage::Unknown(Instant::now()),
            ChannelEvent::Message(ChannelMessage { channel, content }) => {
                let channel = String::from_utf8_lossy(&channel);
                // A pattern may include it. Its messages say nothing, and each purge sends one.
                let is_pubsub = matches!(source.settings.kind, EventKind::PubSub { .. });
                if is_pubsub && namespace_of_wake_channel(&channel).is_some() {
                    continue;
                }
                let content = Content::parse_event(&content, MAX_EVENT_BYTES).ok();
                let event = ChangeEvent { content: content.as_ref(), channel: Some(&channel) };
                meanings.push(source.collect_targets(&routes, event, &mut targets));
            }
        }
    }
    if source.purge(routes, targets).await.is_err() && matches!(coverage, Coverage::Complete(_)) {
        // Others are told nothing before it has arrived, which is not seen here.
        *coverage = Coverage::Complete(None);
    }
    for meaning in meanings {
        source.metrics.record_event(meaning, source.context.clock.now(), None);
        if meaning == EventOutcome::Malformed {
            tracing::warn!(
                source = source.settings.name,
                "unreadable event: purged everything it could name"
            );
        }
    }
}
