//! Consumer of a Redis pub/sub channel. Channels keep no history, so everything its events could name is purged
//! whenever the subscription starts. Every replica subscribes.

use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

use super::{MAX_BATCH, SourceConsumer};
use crate::config::{EventKind, namespace_of_wake_channel};
use crate::policy::content::Content;
use crate::policy::event::{ChangeEvent, EventOutcome, EventTargets, MAX_EVENT_BYTES};
use crate::store::{ChannelEvent, ChannelMessage};

/// Consumes messages until shutdown.
pub(super) async fn run(source: &SourceConsumer, mut stopping: watch::Receiver<bool>) {
    let (Some(feed), EventKind::PubSub { channel, .. }) = (&source.feed, &source.settings.kind) else {
        return;
    };
    let mut heard = feed.listen(channel.clone());
    loop {
        let heard_now = tokio::select! {
            heard = recv_batch(&mut heard) => heard,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        process_messages(source, heard_now).await;
    }
}

/// Receives the next messages in one batch.
async fn recv_batch(heard: &mut Receiver<ChannelEvent>) -> Vec<ChannelEvent> {
    let mut batch = Vec::new();
    heard.recv_many(&mut batch, MAX_BATCH).await;
    batch
}

/// A purge that Redis did not accept holds locally and is retried. If the process ends before, the next subscription
/// purges everything.
async fn process_messages(source: &SourceConsumer, heard: Vec<ChannelEvent>) {
    let (mut targets, mut meanings) = (EventTargets::default(), Vec::new());
    let routes = source.routes();
    for heard in heard {
        match heard {
            ChannelEvent::Alive => source.metrics.record_contact(),
            ChannelEvent::Disconnected(reason) => source.report_error(&reason),
            ChannelEvent::Subscribed => {
                let _ = source.purge_everything("the subscription starts").await;
                source.metrics.record_contact();
            }
            ChannelEvent::Message(ChannelMessage { channel, content }) => {
                let channel = String::from_utf8_lossy(&channel);
                // A pattern may include it. Its messages say nothing, and each purge sends one.
                if namespace_of_wake_channel(&channel).is_some() {
                    continue;
                }
                let content = Content::parse_event(&content, MAX_EVENT_BYTES).ok();
                let event = ChangeEvent { content: content.as_ref(), channel: Some(&channel) };
                meanings.push(source.collect_targets(&routes, event, &mut targets));
            }
        }
    }
    let _ = source.purge(routes, targets).await;
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
