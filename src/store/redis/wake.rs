//! The wake-up: a channel on which every purge is announced, on a connection of its own. A hint only: should it be
//! lost, the timer finds the purge.

use std::sync::Arc;
use std::time::Duration;

use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};

use super::index::RedisIndex;
use super::replicas::ROLL_CALL;
use crate::purge::Position;

/// A connection that only listens does not notice that nobody talks any more.
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(500);

/// Listens for ever.
pub async fn listen(channel: String, index: Arc<RedisIndex>) {
    loop {
        let client = index.servers.index().listening_client();
        let (mut messages, mut connects) = (client.message_rx(), client.reconnect_rx());
        let mut running = client.connect();
        loop {
            let asks = tokio::time::sleep(BETWEEN_QUESTIONS);
            let is_alive = tokio::select! {
                _ = &mut running => break,
                message = messages.recv() => {
                    // One that was overtaken by too many others may have been of any purge.
                    hear(&index, message.ok().and_then(|message| message.value.into_string()).as_deref());
                    true
                }
                Ok(_) = connects.recv() => {
                    let subscribed = client.subscribe(channel.as_str()).await;
                    // What was announced in between was not heard.
                    index.woken(Position(u64::MAX));
                    subscribed.is_ok()
                }
                () = asks => client.ping::<()>(None).await.is_ok() || !index.is_reachable(),
            };
            if !is_alive {
                running.abort();
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn hear(index: &RedisIndex, message: Option<&str>) {
    let position = |text: &str| text.parse().ok().map(Position);
    match message {
        Some(called) if called.starts_with(ROLL_CALL) => {
            index.roll_is_called(position(&called[1..]).unwrap_or_default());
        }
        message => index.woken(message.and_then(position).unwrap_or(Position(u64::MAX))),
    }
}
