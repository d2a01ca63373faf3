//! Batched reads: values that several requests want at the same time are read by one MGET.
//!
//! In a cluster one command reads one slot only, so each value is read by its own GET.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::super::batcher::{Batcher, OpenBatch};
use super::super::command_stats::CommandKind;
use super::super::connection::{Admission, SendOptions};
use super::super::error::RedisError;
use super::super::request::RedisRequest;
use super::super::scripts::RespValue;
use super::RedisNode;
use crate::clock::Moment;
use crate::tasks::spawn;

/// The batched reads of one node.
#[derive(Default)]
pub(crate) struct ReadBatcher {
    batches: Arc<Batcher<PendingRead>>,
    /// Running average of value sizes.
    average_bytes: AtomicUsize,
    /// The [`Moment`] until which values are read one by one.
    unbatched_until: AtomicU64,
}

struct PendingRead {
    key: Bytes,
    deadline: Moment,
    reply: oneshot::Sender<Result<Option<Bytes>, RedisError>>,
}

/// Bounds of one MGET, in keys and in expected bytes. No value of a command is available before all are.
const MAX_BATCH_KEYS: usize = 64;
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// MGET is tried again this long after the server refused it (no permission, or renamed).
const MGET_RETRY_INTERVAL: Duration = Duration::from_secs(60);

impl RedisNode {
    /// Reads a value: with others in one command, or alone if little of the `timeout` is left.
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: Bytes,
        within: Duration,
        timeout: Duration,
    ) -> Result<Option<Bytes>, RedisError> {
        let now = Moment::now();
        let is_alone = within < timeout / 10 * 9
            || now.as_nanos() < self.read_batcher.unbatched_until.load(Ordering::Relaxed);
        if is_alone {
            let alone = self.send(CommandKind::Get, RedisRequest::get(key), send_options(within)).await;
            return alone.map(RespValue::into_bytes);
        }
        let _slot = self.acquire_permit(CommandKind::Get, Admission::IfHealthy)?;
        let (told, hears) = oneshot::channel();
        if let Some(group) =
            self.read_batcher.batches.join(PendingRead { key, deadline: now.plus(within), reply: told })
        {
            spawn(self.clone().read_batch(group));
        }
        hears.await.unwrap_or(Err(RedisError::Unavailable))
    }

    async fn read_batch(self: Arc<Self>, group: OpenBatch<PendingRead>) {
        group.fill().await;
        let mut reads = group.close();
        let most = (MAX_BATCH_BYTES / self.read_batcher.average_bytes.load(Ordering::Relaxed).max(1))
            .clamp(1, MAX_BATCH_KEYS);
        while reads.len() > most {
            spawn(self.clone().read_together(reads.split_off(reads.len() - most)));
        }
        self.read_together(reads).await;
    }

    async fn read_together(self: Arc<Self>, mut reads: Vec<PendingRead>) {
        if reads.len() == 1
            && let Some(read) = reads.pop()
        {
            return self.read_alone(read).await;
        }
        let keys = reads.iter().map(|read| read.key.clone());
        let until = reads.iter().map(|read| read.deadline).min().unwrap_or(Moment::from_nanos(0));
        let reply = self
            .send_with_permit(
                CommandKind::GetMany,
                RedisRequest::get_many(keys),
                send_options(time_until(until)),
            )
            .await;
        match reply {
            Ok(RespValue::Array(values)) if values.len() == reads.len() => {
                let values: Vec<_> = values.into_iter().map(RespValue::into_bytes).collect();
                self.read_batcher.record_sizes(&values);
                for (read, value) in reads.into_iter().zip(values) {
                    read.complete(Ok(value));
                }
            }
            Err(failure) if !matches!(failure, RedisError::ErrorReply(_)) || failure.is_server_failure() => {
                reads.into_iter().for_each(|read| read.complete(Err(failure.clone())));
            }
            // Read each by itself, so that each has a reply of its own.
            reply => {
                tracing::debug!(?reply, "MGET refused; reading values one by one");
                let until = Moment::now().plus(MGET_RETRY_INTERVAL).as_nanos();
                self.read_batcher.unbatched_until.store(until, Ordering::Relaxed);
                for read in reads {
                    spawn(self.clone().read_alone(read));
                }
            }
        }
    }

    async fn read_alone(self: Arc<Self>, read: PendingRead) {
        let request = RedisRequest::get(read.key.clone());
        let options = send_options(time_until(read.deadline));
        let reply = self.send_with_permit(CommandKind::Get, request, options).await;
        read.complete(reply.map(RespValue::into_bytes));
    }
}

impl PendingRead {
    fn complete(self, value: Result<Option<Bytes>, RedisError>) {
        // The receiver may be gone.
        _ = self.reply.send(value);
    }
}

impl ReadBatcher {
    fn record_sizes(&self, values: &[Option<Bytes>]) {
        let sizes = values.iter().flatten().map(Bytes::len);
        let (count, bytes) = (sizes.clone().count(), sizes.sum::<usize>());
        if let Some(average) = bytes.checked_div(count) {
            let before = self.average_bytes.load(Ordering::Relaxed);
            // Rises at once, falls slowly.
            self.average_bytes.store(average.max((7 * before + average) / 8), Ordering::Relaxed);
        }
    }
}

fn time_until(until: Moment) -> Duration {
    until.since(Moment::now()).max(Duration::from_millis(1))
}

fn send_options(within: Duration) -> SendOptions {
    SendOptions { admission: Admission::IfHealthy, asking: false, timeout: within }
}
