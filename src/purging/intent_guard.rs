//! The purge intent of a guarded write: recorded before the write is sent, and extended while it goes on.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use crate::clock::Moment;
use crate::purge::{IntentId, PurgeIntent, TargetId};
use crate::store::{Store, StoreError};

/// Time between attempts to extend an intent.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A recorded purge intent, and when it was asked for.
pub struct IntentGuard {
    store: Arc<dyn Store>,
    intent: PurgeIntent,
    asked_at: Moment,
    /// The time that the write may take under one recording of its intent.
    limit: Duration,
}

/// Why a guarded write has no result.
#[derive(Debug)]
pub enum GuardError {
    /// The intent stands no more, and could not be recorded again: the write was not sent.
    NotRecorded(StoreError),
    /// The intent could not be extended in time: the write was given up, and may still take effect.
    Expired,
}

impl IntentGuard {
    /// `targets`: as the write's purge will name them ([`crate::purge::Purge::ids`]). `outlives`: how long a write that was
    /// given up may still take effect.
    pub fn new(
        store: Arc<dyn Store>,
        id: IntentId,
        targets: Vec<TargetId>,
        limit: Duration,
        outlives: Duration,
    ) -> Self {
        let intent = PurgeIntent { id, targets, expires_in: limit + outlives };
        Self { store, intent, asked_at: Moment::now(), limit }
    }

    /// Records the intent, or moves its date.
    ///
    /// # Errors
    /// It may have been recorded all the same.
    pub async fn record(&mut self) -> Result<(), StoreError> {
        let asked_at = Moment::now();
        self.store.record_intent(self.intent.clone()).await?;
        self.asked_at = asked_at;
        Ok(())
    }

    /// Runs the write, and extends the intent while it goes on.
    ///
    /// The write is polled only while its intent has more than `outlives` left. If this process stood still before a
    /// poll, a renewal comes first, so every part of the write is sent under an intent that outlasts it.
    ///
    /// # Errors
    /// The write has not begun, or was given up.
    pub async fn run<T>(&mut self, write: impl Future<Output = T>) -> Result<T, GuardError> {
        while self.asked_at.elapsed() >= self.limit / 2 {
            self.record().await.map_err(GuardError::NotRecorded)?;
        }
        tokio::pin!(write);
        let mut has_begun = false;
        let mut pause = self.limit / 2;
        loop {
            let fenced = poll_fn(|cx| match self.is_expired() {
                true => Poll::Ready(None),
                false => {
                    has_begun = true;
                    write.as_mut().poll(cx).map(Some)
                }
            });
            if let Ok(Some(result)) = timeout(pause, fenced).await {
                return Ok(result);
            }
            pause = match self.record().await {
                Ok(()) => self.limit / 2,
                Err(error) if !has_begun => return Err(GuardError::NotRecorded(error)),
                Err(_) if self.is_expired() => return Err(GuardError::Expired),
                Err(_) => RETRY_INTERVAL.min(self.limit / 4),
            };
        }
    }

    fn is_expired(&self) -> bool {
        self.asked_at.elapsed() >= self.limit
    }

    /// The intent, which the write's purge resolves.
    pub fn into_intent(self) -> PurgeIntent {
        self.intent
    }
}
