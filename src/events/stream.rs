//! Consumer of a Redis stream. One replica reads it, from a shared position that advances only after the purge. So no
//! event is lost, and an event may be applied twice, which is harmless.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::{Feed, MAX_BATCH, SourceConsumer};
use crate::config::EventKind;
use crate::policy::content::Content;
use crate::policy::event::{EventOutcome, EventTargets, MAX_EVENT_BYTES};
use crate::purging::{JoinedMark, PurgeThrottle};
use crate::store::remote_status::FailureReason;
use crate::store::sources::{SourceUpdate, StreamPosition, StreamProgress};
use crate::store::{StoreError, StreamEntry, StreamRead};

/// A reader keeps its lease this long after its last update.
const READER_LEASE: Duration = Duration::from_secs(5);

/// Longest blocking read, after which the reader renews its lease.
const READ_TIMEOUT: Duration = Duration::from_millis(900);

/// Interval between attempts to become the reader, and after failures.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Consumes entries until shutdown.
pub(super) async fn run(source: &SourceConsumer, mut stopping: watch::Receiver<bool>) {
    // Kept here for stores that do not record positions.
    let mut read_up_to = None;
    let stopped = async { _ = stopping.wait_for(|stop| *stop).await };
    tokio::select! {
        biased;
        never = consume_forever(source, &mut read_up_to) => match never {},
        () = stopped => {}
    }
    let _ = source.update_source(source.new_update()).await;
}

async fn consume_forever(source: &SourceConsumer, read_up_to: &mut Option<StreamProgress>) -> Infallible {
    source.restore_state().await;
    loop {
        if let Err(reason) = consume_as_reader(source, read_up_to).await {
            source.report_error(&reason);
            // Release the lease: another replica may be able to read.
            let _ = source.update_source(source.new_update()).await;
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Reads while this replica is the reader; returns when another one is, or after a failure.
async fn consume_as_reader(
    source: &SourceConsumer,
    read_up_to: &mut Option<StreamProgress>,
) -> Result<(), FailureReason> {
    let recorded = source
        .update_source(SourceUpdate { reader_lease: READER_LEASE, ..source.new_update() })
        .await
        .map_err(explain_store_error)?;
    source.metrics.record_heard(recorded.contact_ago, recorded.event_ago);
    source.metrics.set_standby(!recorded.is_reader);
    if !recorded.is_reader {
        return Ok(());
    }
    let (Feed::Stream(feed), EventKind::Stream { key, from_beginning, .. }) =
        (&source.feed, &source.settings.kind)
    else {
        return Ok(());
    };
    let connected = feed.connect().await?;
    let mut read = match recorded.progress.or(*read_up_to) {
        Some(read) => read,
        None if *from_beginning => BEGINNING,
        None => {
            let found = connected.read_after(key, StreamPosition::START, 1).await?;
            source
                .purge_everything("the stream is read for the first time")
                .await
                .map_err(explain_store_error)?;
            skip_to_end(&found)
        }
    };
    let mut update = SourceUpdate { progress: Some(read), rewinds: true, ..source.new_update() };
    let mut progress = RecordedProgress { recorded: read, waiting: VecDeque::new() };
    let mut has_event = false;
    loop {
        *read_up_to = Some(read);
        source.metrics.set_position(read.position.to_string());
        let recorded = source
            .update_source(SourceUpdate { reader_lease: READER_LEASE, ..update })
            .await
            .map_err(explain_store_error)?;
        if !recorded.is_reader {
            source.metrics.set_standby(true);
            return Ok(());
        }
        let found = connected.read_after(key, read.position, MAX_BATCH).await?;
        let reached = purge_read(source, read, &found).await?;
        has_event |= !found.entries.is_empty();
        // While more is to be read, the source may have said long ago what is not purged yet.
        let is_heard = found.is_complete;
        if is_heard {
            source.metrics.record_contact();
            source.metrics.record_heard(None, has_event.then_some(Duration::ZERO));
        }
        if reached == read {
            connected.wait_for_entry(key, read.position, READ_TIMEOUT).await?;
        }
        if reached != read {
            progress.reach(reached, source.context.throttle.mark());
        }
        let before = progress.recorded;
        let purged = progress.take_purged(&source.context.throttle);
        update = SourceUpdate {
            progress: purged,
            rewinds: purged.is_some_and(|purged| purged.position <= before.position),
            contact: is_heard,
            event: is_heard && std::mem::take(&mut has_event),
            ..source.new_update()
        };
        read = reached;
    }
}

/// The progress that others go on from. It covers an event only once its purges are done, also those that wait for the end
/// of a window (`at_most_every`): if this replica ends meanwhile, the next reader does them.
struct RecordedProgress {
    recorded: StreamProgress,
    /// The entries read since, in order.
    waiting: VecDeque<(StreamProgress, JoinedMark)>,
}

impl RecordedProgress {
    /// Beyond these, what was read is recorded together.
    const MAX_WAITING: usize = 1000;

    fn reach(&mut self, reached: StreamProgress, mark: JoinedMark) {
        if self.waiting.len() >= Self::MAX_WAITING {
            self.waiting.pop_back();
        }
        self.waiting.push_back((reached, mark));
    }

    /// The progress whose purges are done, if it is new.
    fn take_purged(&mut self, throttle: &PurgeThrottle) -> Option<StreamProgress> {
        let mut purged = None;
        while let Some((reached, _)) = self.waiting.pop_front_if(|(_, mark)| throttle.is_done(*mark)) {
            self.recorded = reached;
            purged = Some(reached);
        }
        purged
    }
}

/// Purges what was found after `read`: everything if entries are missing. Returns how far the stream is covered.
async fn purge_read(
    source: &SourceConsumer,
    read: StreamProgress,
    found: &StreamRead,
) -> Result<StreamProgress, FailureReason> {
    if has_gap(read, found) {
        let why =
            "stream entries were deleted or trimmed before they were read, or the stream is another one";
        source.purge_everything(why).await.map_err(explain_store_error)?;
        return Ok(skip_to_end(found));
    }
    purge_entries(source, &found.entries).await?;
    Ok(match found.entries.last() {
        Some(last) if !found.is_complete => StreamProgress {
            position: last.position,
            added: read.added.map(|added| added + found.entries.len() as u64),
        },
        _ => skip_to_end(found),
    })
}

/// Before the first entry.
const BEGINNING: StreamProgress = StreamProgress { position: StreamPosition::START, added: Some(0) };

/// The progress at the last entry of the stream.
fn skip_to_end(found: &StreamRead) -> StreamProgress {
    StreamProgress { position: found.state.last, added: found.state.added }
}

/// Whether an entry after `read` may be missing among those found there. Entries up to `read` may be deleted.
fn has_gap(read: StreamProgress, found: &StreamRead) -> bool {
    let (position, state) = (read.position, &found.state);
    if state.last < position || state.max_deleted.is_some_and(|deleted| deleted > position) {
        return true;
    }
    // A position that an earlier release recorded has no count. Nothing is before the first entry.
    let before = read.added.or((position == StreamPosition::START).then_some(0));
    let (Some(before), Some(added)) = (before, state.added) else {
        // The server does not count. It trims the oldest entries first.
        return state.last != position && !found.has_position;
    };
    let present = match (found.is_complete, state.first) {
        (true, _) => found.entries.len() as u64,
        (false, Some(first)) if first > position => state.length,
        // An older entry is left, so none after it was trimmed. The count follows when the rest has been read.
        (false, _) => return false,
    };
    added != before + present
}

/// Purges the targets of `entries`.
async fn purge_entries(source: &SourceConsumer, entries: &[StreamEntry]) -> Result<(), FailureReason> {
    let (routes, mut targets) = (source.routes(), EventTargets::default());
    let meanings: Vec<EventOutcome> = entries
        .iter()
        .map(|entry| {
            source.collect_targets(&routes, parse_event(source, entry).as_ref().into(), &mut targets)
        })
        .collect();
    source.purge(routes, targets).await.map_err(explain_store_error)?;
    let now = source.context.clock.now();
    for (entry, meaning) in entries.iter().zip(meanings) {
        let added = crate::clock::Timestamp::from_micros(entry.position.millis.saturating_mul(1000));
        source.metrics.count_event(meaning, now, Some(now.since(added)));
        if meaning == EventOutcome::Malformed {
            let position = entry.position.to_string();
            tracing::warn!(
                source = source.settings.name,
                position,
                "unreadable event: purged everything it could name"
            );
        }
    }
    Ok(())
}

/// Returns `None` for an unreadable entry.
fn parse_event(source: &SourceConsumer, entry: &StreamEntry) -> Option<Content> {
    let EventKind::Stream { field, .. } = &source.settings.kind else { return None };
    let length: usize = entry.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    if length > MAX_EVENT_BYTES {
        return None;
    }
    let Some(field) = field else {
        return Content::from_event_fields(entry.fields.iter().map(|(name, value)| (&name[..], &value[..])))
            .ok();
    };
    let mut values = entry.fields.iter().filter(|(name, _)| name == field.as_bytes());
    let ((_, value), None) = (values.next()?, values.next()) else { return None };
    Content::parse_event(value, MAX_EVENT_BYTES).ok()
}

/// The position is kept, and purges are sent, by the store.
fn explain_store_error(error: StoreError) -> FailureReason {
    FailureReason::new("store", format!("the store can't be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StreamState;

    fn to_position(millis: u64) -> StreamPosition {
        StreamPosition { millis, number: 0 }
    }

    /// The entries after `position` of a stream that has had the entries 1 to `last`, without those that are gone.
    fn found(position: u64, last: u64, deleted: &[u64], trimmed: u64) -> StreamRead {
        let is_there = |id: &u64| !deleted.contains(id) && *id > trimmed;
        let present = (1..=last).filter(is_there);
        let state = StreamState {
            last: to_position(last),
            length: present.clone().count() as u64,
            added: Some(last),
            max_deleted: deleted.iter().max().map(|id| to_position(*id)),
            first: present.clone().next().map(to_position),
        };
        let after = present.clone().filter(|id| *id > position);
        let entries: Vec<_> =
            after.map(|id| StreamEntry { position: to_position(id), fields: Vec::new() }).take(3).collect();
        let (has_position, is_complete) = (is_there(&position), entries.len() < 3);
        StreamRead { state, has_position, entries, is_complete }
    }

    fn is_missed(position: u64, found: &StreamRead) -> bool {
        has_gap(StreamProgress { position: to_position(position), added: Some(position) }, found)
    }

    #[test]
    fn what_was_deleted_after_it_was_read_is_not_missed() {
        for last in 5..=12 {
            for deleted in [&[][..], &[5], &[3, 5], &[1, 2, 3, 4, 5]] {
                assert!(!is_missed(5, &found(5, last, deleted, 0)), "{deleted:?} of {last}");
            }
            for trimmed in 0..=5 {
                assert!(!is_missed(5, &found(5, last, &[], trimmed)), "up to {trimmed} of {last}");
            }
        }
    }

    #[test]
    fn what_was_deleted_or_trimmed_unread_is_missed() {
        for last in 6..=12 {
            for deleted in [&[6][..], &[5, 6], &[1, 2, 3, 4, 5, 6], &[last]] {
                assert!(is_missed(5, &found(5, last, deleted, 0)), "{deleted:?} of {last}");
            }
            for trimmed in 6..=last {
                assert!(is_missed(5, &found(5, last, &[], trimmed)), "up to {trimmed} of {last}");
            }
        }
    }

    /// Four entries were added after the copy, three of them were read, and then others were added to the copy.
    #[test]
    fn another_stream_is_noticed() {
        let mut copy = found(8, 10, &[8], 0);
        assert!(!is_missed(8, &copy));
        copy.state.added = Some(9);
        assert!(is_missed(8, &copy));
        assert!(is_missed(8, &found(8, 7, &[], 0)), "an older copy");
        assert!(is_missed(8, &StreamRead { is_complete: true, ..StreamRead::default() }), "an empty one");
    }

    #[test]
    fn without_counts_the_oldest_entries_show_a_gap() {
        let uncounted = |position, last, deleted: &[u64], trimmed| {
            let mut found = found(position, last, deleted, trimmed);
            (found.state.added, found.state.max_deleted) = (None, None);
            has_gap(StreamProgress { position: to_position(position), added: None }, &found)
        };
        assert!(!uncounted(5, 5, &[], 5) && !uncounted(5, 9, &[], 4));
        assert!(uncounted(5, 9, &[], 5) && uncounted(5, 9, &[], 6) && uncounted(5, 3, &[], 0));
        assert!(uncounted(0, 9, &[], 0) && !uncounted(0, 0, &[], 0), "from the beginning");
    }

    /// A position may be recorded without a count.
    #[test]
    fn the_count_is_known_again_once_all_was_read() {
        let read = StreamProgress { position: to_position(5), added: None };
        assert!(!has_gap(read, &found(5, 7, &[], 0)) && has_gap(read, &found(5, 7, &[5], 0)));
        let start = StreamProgress { position: StreamPosition::START, added: None };
        assert!(!has_gap(start, &found(0, 2, &[], 0)) && has_gap(start, &found(0, 2, &[], 1)));
        assert_eq!(
            skip_to_end(&found(5, 7, &[], 0)),
            StreamProgress { position: to_position(7), added: Some(7) }
        );
    }
}
