//! `GET /events`: every replica's purges as server-sent events. A reader that falls behind gets a `lagged` event and
//! is disconnected; a reader that reconnects sends `Last-Event-ID`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::event_stream::{KEEP_ALIVE_INTERVAL, acquire_slot, respond};
use super::purges::PurgeEntry;
use super::response::{AdminError, AdminResponse};
use super::{AdminState, Readiness};
use crate::phase::Phase;
use crate::purge::{AuditFilter, PurgeVersion};
use crate::store::Store;

/// Frames buffered per reader.
const QUEUE_CAPACITY: usize = 256;

/// Records read at a time. The journal holds at least this many; a full page may have gaps.
const JOURNAL_PAGE_SIZE: usize = 1000;

/// Interval between checks for a new purge.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The journal is read at least this often, even without a new purge.
const FORCED_READ_INTERVAL: Duration = Duration::from_secs(1);

struct FeedReader {
    store: Arc<dyn Store>,
    readiness: Readiness,
    /// Position of the last purge sent.
    sent_up_to: PurgeVersion,
    sender: mpsc::Sender<Bytes>,
}

/// Reason for ending a stream.
enum Disconnect {
    /// The client disconnected, or larder is shutting down.
    Closed,
    TooSlow,
}

pub(super) fn stream_purges(state: &AdminState, headers: &HeaderMap) -> Result<AdminResponse, AdminError> {
    let slot = acquire_slot(&state.reader_slots.events)?;
    let told = parse_last_event_id(headers)?.unwrap_or_else(|| state.store.latest_version());
    let (tell, frames) = mpsc::channel(QUEUE_CAPACITY + 1);
    let reader = FeedReader {
        store: state.store.clone(),
        readiness: state.readiness.clone(),
        sent_up_to: told,
        sender: tell,
    };
    tokio::spawn(reader.run());
    Ok(respond(frames, slot))
}

/// Parses `Last-Event-ID`: the position of the last purge the reader has seen.
fn parse_last_event_id(headers: &HeaderMap) -> Result<Option<PurgeVersion>, AdminError> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let position = id.to_str().ok().and_then(|id| id.trim().parse().ok());
    position.map(|position| Some(PurgeVersion(position))).ok_or_else(|| {
        AdminError::bad_request("`Last-Event-ID` is not a position", "send the `id` of the last event seen")
    })
}

impl FeedReader {
    async fn run(mut self) {
        if let Err(Disconnect::TooSlow) = self.follow_journal().await {
            let latest = self.store.latest_version().0;
            let lagged =
                format!("id: {latest}\nevent: lagged\ndata: {{\"since\":{}}}\n\n", self.sent_up_to.0);
            // `send` keeps one slot free for this frame.
            let _ = self.sender.try_send(lagged.into());
        }
    }

    async fn follow_journal(&mut self) -> Result<(), Disconnect> {
        self.send(": one event per purge\nretry: 1000\n\n".into())?;
        let mut looked = None;
        let (mut looked_at, mut said_at) = (Instant::now(), Instant::now());
        while self.readiness.phase().current() < Phase::Stopping {
            let latest = self.store.latest_version();
            if looked != Some(latest) || looked_at.elapsed() >= FORCED_READ_INTERVAL {
                looked_at = Instant::now();
                if self.send_new_purges().await? {
                    looked = Some(latest);
                }
            }
            if said_at.elapsed() >= KEEP_ALIVE_INTERVAL {
                said_at = Instant::now();
                self.send(":\n\n".into())?;
            }
            if self.sender.is_closed() {
                return Err(Disconnect::Closed);
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Returns whether the journal could be read.
    async fn send_new_purges(&mut self) -> Result<bool, Disconnect> {
        let asked = AuditFilter { limit: JOURNAL_PAGE_SIZE, since: self.sent_up_to, tag: None };
        let purges = self.store.recent_purges(asked).await;
        if !purges.of_all_replicas {
            return Ok(false);
        }
        if purges.records.len() >= JOURNAL_PAGE_SIZE {
            return Err(Disconnect::TooSlow);
        }
        for record in VecDeque::from(purges.records).into_iter().rev() {
            let position = record.position;
            let line = serde_json::to_string(&PurgeEntry::from_record(record)).unwrap_or_default();
            self.send(format!("id: {}\nevent: purge\ndata: {line}\n\n", position.0).into())?;
            self.sent_up_to = position;
        }
        Ok(true)
    }

    /// Sends a frame, keeping one slot of the channel free for `lagged`.
    fn send(&self, frame: Bytes) -> Result<(), Disconnect> {
        if self.sender.capacity() <= 1 {
            return Err(Disconnect::TooSlow);
        }
        self.sender.try_send(frame).map_err(|_| Disconnect::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::purge::{Epoch, Purge, Target};
    use crate::store::memory::MemoryStore;

    fn reader(told: u64) -> (FeedReader, mpsc::Receiver<Bytes>) {
        let store = Arc::new(MemoryStore::new(1 << 20, Epoch(1), Clock::system()));
        let (tell, frames) = mpsc::channel(QUEUE_CAPACITY + 1);
        (
            FeedReader { store, readiness: Readiness::new(), sent_up_to: PurgeVersion(told), sender: tell },
            frames,
        )
    }

    async fn purge(reader: &FeedReader, times: usize) {
        for _ in 0..times {
            reader.store.purge(Purge::hard(vec![Target::tag("a")])).await.unwrap();
        }
    }

    fn all(frames: &mut mpsc::Receiver<Bytes>) -> String {
        std::iter::from_fn(|| frames.try_recv().ok())
            .map(|frame| String::from_utf8(frame.to_vec()).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn a_reader_is_told_each_purge_once_in_order() {
        let (mut reader, mut frames) = reader(0);
        purge(&reader, 2).await;
        assert!(matches!(reader.send_new_purges().await, Ok(true)));
        assert!(matches!(reader.send_new_purges().await, Ok(true)));
        let told = all(&mut frames);
        let ids: Vec<u64> = told.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
        assert!(ids.len() == 2 && ids[0] < ids[1], "{told}");
        assert_eq!(told.matches("\"targets\":[\"tag a\"]").count(), 2, "{told}");
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_told_so_and_let_go() {
        let (reader, mut frames) = reader(0);
        purge(&reader, QUEUE_CAPACITY + 10).await;
        reader.run().await;
        let told = all(&mut frames);
        assert_eq!(told.matches("event: purge").count(), QUEUE_CAPACITY - 1, "one place was the greeting's");
        assert!(told.trim_end().lines().rev().nth(1).unwrap().starts_with("event: lagged"), "{told}");
        assert!(frames.recv().await.is_none());
    }

    #[tokio::test]
    async fn one_that_missed_more_than_the_journal_keeps_is_told_so() {
        let (reader, mut frames) = reader(1);
        purge(&reader, JOURNAL_PAGE_SIZE + 1).await;
        reader.run().await;
        let told = all(&mut frames);
        assert_eq!((told.matches("event: purge").count(), told.matches("event: lagged").count()), (0, 1));
    }
}
