//! Listening to a channel, on a connection of its own: the wake-up on which every purge is announced, and what sentinels
//! say. A hint only: should it be lost, a timer finds out.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};

use super::index::RedisIndex;
use super::leases::{ENDED, Leases};
use super::replicas::ROLL_CALL;
use crate::purge::Position;

/// A connection that only listens does not notice that nobody talks any more.
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(500);

/// Listens to the wake-ups for ever. In a cluster every node hears what is published on one.
pub async fn listen(channel: String, index: Arc<RedisIndex>, leases: Arc<Leases>) {
    let servers = index.servers.clone();
    let moved = || {
        let (servers, mut changes) = (servers.clone(), servers.changes());
        let (before, address) = (servers.index(), servers.index().address());
        async move {
            let is_the_same = || {
                let now = servers.index();
                Arc::ptr_eq(&now, &before) && now.address() == address
            };
            while is_the_same() && changes.changed().await.is_ok() {}
        }
    };
    let connect = || index.servers.index().listening_client();
    hear(channel, connect, moved, |message| woken(&index, &leases, message)).await;
}

/// One that was overtaken by too many others may have been of any purge.
fn woken(index: &RedisIndex, leases: &Leases, message: Option<&str>) {
    let position = |text: &str| text.parse().ok().map(Position);
    match message {
        Some(called) if called.starts_with(ROLL_CALL) => {
            index.roll_is_called(position(&called[1..]).unwrap_or_default());
        }
        Some(ended) if ended.starts_with(ENDED) => leases.ended(&ended[1..]),
        message => index.woken(message.and_then(position).unwrap_or(Position(u64::MAX))),
    }
}

/// Tells what is said on the channel; and, by nothing, that something may have been missed. It connects anew
/// whenever what `moved` made ends.
pub async fn hear<F: Future<Output = ()>>(
    channel: String,
    connect: impl Fn() -> Client,
    moved: impl Fn() -> F,
    tell: impl Fn(Option<&str>),
) {
    loop {
        let moved = std::pin::pin!(moved());
        let mut moved = moved;
        let client = connect();
        let (mut messages, mut connects) = (client.message_rx(), client.reconnect_rx());
        let mut running = client.connect();
        loop {
            let asks = tokio::time::sleep(BETWEEN_QUESTIONS);
            let is_alive = tokio::select! {
                _ = &mut running => break,
                message = messages.recv() => {
                    tell(message.ok().and_then(|message| message.value.into_string()).as_deref());
                    true
                }
                Ok(_) = connects.recv() => {
                    let subscribed = client.subscribe(channel.as_str()).await;
                    // What was announced in between was not heard.
                    tell(None);
                    subscribed.is_ok()
                }
                () = asks => client.ping::<()>(None).await.is_ok(),
                () = &mut moved => false,
            };
            if !is_alive {
                running.abort();
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
