//! Commands of the requests of one runtime, given to the store's thread all at once, and their replies given back all at
//! once: either thread is woken once for all of them, and they leave in one write.

use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};

use super::failure::Failure;
use super::gathering::{Gathering, Group};
use super::scripts::Part;

type Reply = Result<Part, Failure>;
type Exchange = Pin<Box<dyn Future<Output = Reply> + Send>>;

pub struct Together {
    /// The connections live there.
    runtime: Handle,
    waiting: Arc<Gathering<Sending>>,
}

struct Sending {
    exchange: Exchange,
    told: oneshot::Sender<Reply>,
}

impl Together {
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, waiting: Arc::default() }
    }

    /// `exchange` sends the command and waits for its reply. It goes on should nobody wait for it any more.
    pub async fn send(&self, exchange: impl Future<Output = Reply> + Send + 'static) -> Reply {
        let (told, hears) = oneshot::channel();
        if let Some(group) = self.waiting.add(Sending { exchange: Box::pin(exchange), told }) {
            tokio::spawn(send_all(group, self.runtime.clone()));
        }
        hears.await.unwrap_or(Err(Failure::Away))
    }
}

async fn send_all(group: Group<Sending>, runtime: Handle) {
    group.grow().await;
    let (exchanges, mut who): (Vec<_>, Vec<_>) =
        group.close().into_iter().map(|sending| (sending.exchange, Some(sending.told))).unzip();
    let (replied, mut replies) = mpsc::unbounded_channel();
    runtime.spawn(exchange_all(exchanges, replied));
    while let Some(some) = replies.recv().await {
        for (at, reply) in some {
            if let Some(told) = who.get_mut(at).and_then(Option::take) {
                // Whoever has gone is not told.
                _ = told.send(reply);
            }
        }
    }
}

/// What has come together is given back together; nobody waits for a reply that is not theirs.
async fn exchange_all(exchanges: Vec<Exchange>, replied: mpsc::UnboundedSender<Vec<(usize, Reply)>>) {
    let mut all = JoinSet::new();
    for (at, exchange) in exchanges.into_iter().enumerate() {
        all.spawn(async move { (at, exchange.await) });
    }
    while let Some(first) = all.join_next().await {
        yield_now().await;
        let mut some = vec![first];
        some.extend(std::iter::from_fn(|| all.try_join_next()));
        if replied.send(some.into_iter().flatten().collect()).is_err() {
            break;
        }
    }
    // Once sent, each goes on to its end.
    all.detach_all();
}
