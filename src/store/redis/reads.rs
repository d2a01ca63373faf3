//! Responses that several requests want at the same time are read by one command. What that can't do, each does alone.
//!
//! In a cluster one command reads from one slot only, so there each is read alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::driver::{Node, Sent, Way};
use super::failure::Failure;
use super::figures::Command;
use super::gathering::{Gathering, Group};
use super::request::Request;
use super::scripts::Part;
use crate::clock::Moment;

/// One node's.
#[derive(Default)]
pub struct Reads {
    waiting: Arc<Gathering<Read>>,
    /// How large values were lately.
    typical: AtomicUsize,
    /// The [`Moment`] until which each is read alone.
    alone_until: AtomicU64,
}

struct Read {
    key: Bytes,
    until: Moment,
    told: oneshot::Sender<Result<Option<Bytes>, Failure>>,
}

/// So many are read by one command, and about so many bytes: nobody has a value before all of its command are there.
const MOST: usize = 64;
const MOST_BYTES: usize = 256 * 1024;

/// A server that refuses the command, for want of a right or of a memory for its name, is asked again after so long.
const REFUSED: Duration = Duration::from_secs(60);

impl Node {
    /// Reads a value: with others who want one, or alone where little of the `timeout` is left.
    pub async fn get(
        self: &Arc<Self>,
        key: Bytes,
        within: Duration,
        timeout: Duration,
    ) -> Result<Option<Bytes>, Failure> {
        let now = Moment::now();
        let is_alone =
            within < timeout / 10 * 9 || now.as_nanos() < self.reading.alone_until.load(Ordering::Relaxed);
        if is_alone {
            let alone = self.send(Command::Get, Request::get(key), way(within)).await;
            return alone.map(Part::into_bytes);
        }
        let _slot = self.slot(Command::Get, Sent::IfHealthy)?;
        let (told, hears) = oneshot::channel();
        if let Some(group) = self.reading.waiting.add(Read { key, until: now.plus(within), told }) {
            tokio::spawn(self.clone().read(group));
        }
        hears.await.unwrap_or(Err(Failure::Away))
    }

    async fn read(self: Arc<Self>, group: Group<Read>) {
        group.grow().await;
        let mut reads = group.close();
        let most = (MOST_BYTES / self.reading.typical.load(Ordering::Relaxed).max(1)).clamp(1, MOST);
        while reads.len() > most {
            tokio::spawn(self.clone().read_these(reads.split_off(reads.len() - most)));
        }
        self.read_these(reads).await;
    }

    async fn read_these(self: Arc<Self>, reads: Vec<Read>) {
        if let [_] = reads[..] {
            return self.read_alone(reads).await;
        }
        let keys = reads.iter().map(|read| read.key.clone());
        let until = reads.iter().map(|read| read.until).min().unwrap_or(Moment::from_nanos(0));
        let reply = self.exchange(Command::GetMany, Request::get_many(keys), way(left(until))).await;
        match reply {
            Ok(Part::List(values)) if values.len() == reads.len() => {
                let values: Vec<_> = values.into_iter().map(Part::into_bytes).collect();
                self.reading.saw(&values);
                for (read, value) in reads.into_iter().zip(values) {
                    read.tell(Ok(value));
                }
            }
            Err(failure) if !matches!(failure, Failure::Refused(_)) || failure.is_of_server() => {
                reads.into_iter().for_each(|read| read.tell(Err(failure.clone())));
            }
            // Each has an answer of its own then.
            reply => {
                tracing::debug!(?reply, "several responses can't be read by one command; each is read alone");
                let until = Moment::now().plus(REFUSED).as_nanos();
                self.reading.alone_until.store(until, Ordering::Relaxed);
                self.read_alone(reads).await;
            }
        }
    }

    async fn read_alone(self: Arc<Self>, reads: Vec<Read>) {
        let mut all = JoinSet::new();
        for read in reads {
            let node = self.clone();
            all.spawn(async move {
                let request = Request::get(read.key.clone());
                let reply = node.exchange(Command::Get, request, way(left(read.until))).await;
                read.tell(reply.map(Part::into_bytes));
            });
        }
        all.join_all().await;
    }
}

impl Read {
    fn tell(self, value: Result<Option<Bytes>, Failure>) {
        // Whoever has gone is not told.
        _ = self.told.send(value);
    }
}

impl Reads {
    fn saw(&self, values: &[Option<Bytes>]) {
        let sizes = values.iter().flatten().map(Bytes::len);
        let (count, bytes) = (sizes.clone().count(), sizes.sum::<usize>());
        if let Some(average) = bytes.checked_div(count) {
            let before = self.typical.load(Ordering::Relaxed);
            // Up at once, down slowly.
            self.typical.store(average.max((7 * before + average) / 8), Ordering::Relaxed);
        }
    }
}

fn left(until: Moment) -> Duration {
    until.since(Moment::now()).max(Duration::from_millis(1))
}

fn way(within: Duration) -> Way {
    Way { sent: Sent::IfHealthy, asking: false, within }
}
