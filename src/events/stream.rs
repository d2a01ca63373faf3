//! Consumer of a Redis stream. One replica reads it, from a shared position that advances only after the purge. So no
//! event is lost, and an event may be applied twice, which is harmless.

use std::cmp::Ordering;
use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::{MAX_BATCH, SourceConsumer};
use crate::config::EventKind;
use crate::policy::content::Content;
use crate::policy::event::{EventOutcome, MAX_EVENT_BYTES};
use crate::policy::purge_targets::PurgeTargets;
use crate::store::sources::{SourceUpdate, StreamPosition};
use crate::store::{EventConnection, StreamEntry, StreamState};

/// A reader keeps its lease this long after its last update.
const READER_LEASE: Duration = Duration::from_secs(5);

/// Longest blocking read, after which the reader renews its lease.
const READ_TIMEOUT: Duration = Duration::from_millis(900);

/// Interval between attempts to become the reader, and after failures.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Where a reader resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resume {
    From(StreamPosition),
    /// At the end, since entries may be missing before it; everything the source covers is purged first.
    AfterGap,
}

/// How far the stream was read.
#[derive(Clone, Copy, Debug)]
struct ReadProgress {
    position: StreamPosition,
    /// Entries ever added up to the position, if the server counts them.
    added: Option<u64>,
}

impl ReadProgress {
    /// At the last entry of the stream.
    fn at_end(state: StreamState) -> Self {
        Self { position: state.last, added: state.added }
    }

    fn resume(position: StreamPosition, state: StreamState) -> Self {
        let added = match position {
            StreamPosition::START => Some(0),
            position => state.added.filter(|_| position == state.last),
        };
        Self { position, added }
    }

    fn advance(self, entries: &[StreamEntry]) -> Self {
        let position = entries.last().map_or(self.position, |last| last.position);
        Self { position, added: self.added.map(|added| added + entries.len() as u64) }
    }
}

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

async fn consume_forever(source: &SourceConsumer, read_up_to: &mut Option<StreamPosition>) -> Infallible {
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
    read_up_to: &mut Option<StreamPosition>,
) -> Result<(), String> {
    let recorded = source
        .update_source(SourceUpdate { reader_lease: READER_LEASE, ..source.new_update() })
        .await
        .map_err(error_text)?;
    source.metrics.record_heard(recorded.contact_ago, recorded.event_ago);
    source.metrics.set_standby(!recorded.is_reader);
    if !recorded.is_reader {
        return Ok(());
    }
    let (Some(feed), EventKind::Stream { key, from_beginning, .. }) = (&source.feed, &source.settings.kind)
    else {
        return Ok(());
    };
    let connected = feed.connect().await?;
    let state = connected.stream_state(key).await?;
    let resume = match recorded.position.or(*read_up_to) {
        Some(position) => resume_from(position, state, has_entry(&connected, key, position, state).await?),
        None if *from_beginning => Resume::From(StreamPosition::START),
        None => Resume::AfterGap,
    };
    let mut read = match resume {
        Resume::From(position) => ReadProgress::resume(position, state),
        Resume::AfterGap => {
            source
                .purge_everything("the stream no longer has the entry to resume from")
                .await
                .map_err(error_text)?;
            ReadProgress::at_end(state)
        }
    };
    let mut update = SourceUpdate { position: Some(read.position), rewinds: true, ..source.new_update() };
    loop {
        *read_up_to = Some(read.position);
        source.metrics.set_position(read.position.to_string());
        source.metrics.record_contact();
        let recorded = source
            .update_source(SourceUpdate { contact: true, reader_lease: READER_LEASE, ..update })
            .await
            .map_err(error_text)?;
        if !recorded.is_reader {
            source.metrics.set_standby(true);
            return Ok(());
        }
        let entries = connected.read_after(key, read.position, MAX_BATCH, READ_TIMEOUT).await?;
        let reached = purge_missing(source, &connected, key, read, &entries).await?;
        purge_entries(source, &entries).await?;
        update = SourceUpdate {
            position: (reached.position != read.position).then_some(reached.position),
            rewinds: reached.position < read.position,
            event: !entries.is_empty(),
            ..source.new_update()
        };
        read = reached;
    }
}

/// Decides where a reader at `position` resumes, given the state of the stream.
fn resume_from(position: StreamPosition, state: StreamState, is_there: bool) -> Resume {
    match position == state.last || (position < state.last && is_there) {
        true => Resume::From(position),
        // The stream was trimmed, deleted or recreated.
        false => Resume::AfterGap,
    }
}

/// Whether no entry after `position` is missing. Redis trims the oldest entries first, so it is enough that this one exists,
/// and that no later one was deleted.
async fn has_entry(
    connected: &EventConnection,
    key: &str,
    position: StreamPosition,
    state: StreamState,
) -> Result<bool, String> {
    if state.max_deleted.is_some_and(|deleted| deleted > position) {
        return Ok(false);
    }
    match position == StreamPosition::START {
        true => Ok(state.added == Some(state.length)),
        false => connected.contains(key, position).await,
    }
}

/// Purges everything if entries that came after `read` are missing among `entries`. Returns how far the stream is covered.
async fn purge_missing(
    source: &SourceConsumer,
    connected: &EventConnection,
    key: &str,
    read: ReadProgress,
    entries: &[StreamEntry],
) -> Result<ReadProgress, String> {
    let state = connected.stream_state(key).await?;
    let reached = read.advance(entries);
    if has_gap(connected, key, read, reached, state).await? {
        source
            .purge_everything("stream entries were deleted or trimmed before they were read")
            .await
            .map_err(error_text)?;
        return Ok(ReadProgress::at_end(state));
    }
    match reached.position == state.last {
        true => Ok(ReadProgress::at_end(state)),
        false => Ok(reached),
    }
}

/// Whether entries are missing between `read` and `reached`, by the state of the stream after they were read.
/// A server that counts entries shows each that is missing once all are read.
async fn has_gap(
    connected: &EventConnection,
    key: &str,
    read: ReadProgress,
    reached: ReadProgress,
    state: StreamState,
) -> Result<bool, String> {
    if reached.position == state.last
        && let (Some(counted), Some(added)) = (reached.added, state.added)
    {
        return Ok(counted != added);
    }
    if reached.position == read.position {
        // Unless it was deleted, what was added came after the read.
        return Ok(match reached.position.cmp(&state.last) {
            Ordering::Less => !connected.contains(key, state.last).await?,
            Ordering::Equal => false,
            Ordering::Greater => true,
        });
    }
    Ok(!has_entry(connected, key, read.position, state).await?)
}

/// Purges the targets of `entries`.
async fn purge_entries(source: &SourceConsumer, entries: &[StreamEntry]) -> Result<(), String> {
    let mut targets = PurgeTargets::default();
    let meanings: Vec<EventOutcome> = entries
        .iter()
        .map(|entry| source.collect_targets(parse_event(source, entry).as_ref(), &mut targets))
        .collect();
    source.purge(targets).await.map_err(error_text)?;
    let now = source.context.clock.now();
    for (entry, meaning) in entries.iter().zip(meanings) {
        let added = crate::clock::Timestamp::from_micros(entry.position.millis.saturating_mul(1000));
        source.metrics.record_event(meaning, now, Some(now.since(added)));
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

fn error_text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_goes_on_only_where_nothing_can_have_gone_unread() {
        let at = |millis| StreamPosition { millis, number: 0 };
        let stream = |last| StreamState { last: at(last), length: 1, added: None, max_deleted: None };
        for (position, last, is_there, expected) in [
            (5, 5, true, Resume::From(at(5))),
            // Nothing came since, whatever was trimmed.
            (5, 5, false, Resume::From(at(5))),
            (5, 9, true, Resume::From(at(5))),
            (5, 9, false, Resume::AfterGap),
            // It began anew.
            (5, 3, false, Resume::AfterGap),
            (5, 3, true, Resume::AfterGap),
            (0, 0, false, Resume::From(at(0))),
        ] {
            assert_eq!(
                resume_from(at(position), stream(last), is_there),
                expected,
                "{position} {last} {is_there}"
            );
        }
    }
}
