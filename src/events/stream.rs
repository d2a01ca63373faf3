//! A Redis stream: one of the replicas reads it, from the position that they keep together, and moves that on only when
//! what it has read is purged. So no event is lost; one may be purged twice, which does no harm.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::{BATCH, Source};
use crate::config::EventKind;
use crate::policy::content::Content;
use crate::policy::event::{MAX_EVENT, Meaning};
use crate::store::sources::{StreamPosition, Word};
use crate::store::{Connected, Entry, StreamState};

/// For so long after its last word a reader is not replaced.
const TURN: Duration = Duration::from_secs(5);

/// How long a reader waits for an entry before it says that it is still there.
const WAITS: Duration = Duration::from_millis(900);

/// Between looks whether the reader has gone, and after trouble.
const PAUSE: Duration = Duration::from_secs(1);

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resume {
    From(StreamPosition),
    /// Entries may have gone that nobody has read. What is purged now covers all up to here.
    InDoubt(StreamPosition),
}

/// Until told to stop.
pub async fn follow(source: &Source, mut stopping: watch::Receiver<bool>) {
    // Where no store remembers it.
    let mut read_up_to = None;
    let stopped = async { _ = stopping.wait_for(|stop| *stop).await };
    tokio::select! {
        never = read(source, &mut read_up_to) => match never {},
        () = stopped => {}
    }
    let _ = source.tell(source.word()).await;
}

async fn read(source: &Source, read_up_to: &mut Option<StreamPosition>) -> Infallible {
    source.learn().await;
    loop {
        if let Err(reason) = take_turn(source, read_up_to).await {
            source.trouble(&reason);
            // Another replica may have more luck.
            let _ = source.tell(source.word()).await;
        }
        sleep(PAUSE).await;
    }
}

/// Reads, if nobody else does, until somebody else does or something is wrong.
async fn take_turn(source: &Source, read_up_to: &mut Option<StreamPosition>) -> Result<(), String> {
    let known = source.tell(Word { reads_for: TURN, ..source.word() }).await.map_err(told)?;
    source.figures.heard_at(known.contact_ago, known.event_ago);
    source.figures.stands_by(!known.is_reader);
    if !known.is_reader {
        return Ok(());
    }
    let (Some(feed), EventKind::Stream { key, from_beginning, .. }) = (&source.feed, &source.settings.kind)
    else {
        return Ok(());
    };
    let connected = feed.connect().await?;
    let state = connected.state(key).await?;
    let resume = match known.position.or(*read_up_to) {
        Some(position) => resume(position, state, is_there(&connected, key, position, state).await?),
        None if *from_beginning => Resume::From(StreamPosition::START),
        None => Resume::InDoubt(state.last),
    };
    let mut position = match resume {
        Resume::From(position) => position,
        Resume::InDoubt(last) => {
            source
                .purge_everything("the stream has no entry any more from where it is to be read")
                .await
                .map_err(told)?;
            last
        }
    };
    let mut word = Word { position: Some(position), begins_anew: true, ..source.word() };
    loop {
        *read_up_to = Some(position);
        source.figures.read_up_to(position.to_string());
        source.figures.contact();
        let known = source.tell(Word { contact: true, reads_for: TURN, ..word }).await.map_err(told)?;
        if !known.is_reader {
            source.figures.stands_by(true);
            return Ok(());
        }
        word = source.word();
        let entries = connected.read_after(key, position, BATCH, WAITS).await?;
        if let Some(last) = entries.last() {
            purge(source, &connected, key, position, &entries).await?;
            position = last.position;
            word = Word { position: Some(position), event: true, ..word };
        }
    }
}

/// Whether a reader that has read up to `position` can go on, given what the stream says of itself.
fn resume(position: StreamPosition, state: StreamState, is_there: bool) -> Resume {
    match position == state.last || (position < state.last && is_there) {
        true => Resume::From(position),
        // Trimmed, deleted, or another stream by the same name.
        false => Resume::InDoubt(state.last),
    }
}

/// Entries go from the oldest on, so nothing behind one that is there has gone.
async fn is_there(
    connected: &Connected,
    key: &str,
    position: StreamPosition,
    state: StreamState,
) -> Result<bool, String> {
    match position == StreamPosition::START {
        true => Ok(state.added == Some(state.length)),
        false => connected.has(key, position).await,
    }
}

/// Purges what the entries behind `position` name, and all that they could if some between may have gone unread.
async fn purge(
    source: &Source,
    connected: &Connected,
    key: &str,
    position: StreamPosition,
    entries: &[Entry],
) -> Result<(), String> {
    let state =
        if position == StreamPosition::START { connected.state(key).await? } else { StreamState::default() };
    if !is_there(connected, key, position, state).await? {
        source.purge_everything("entries of the stream went before they were read").await.map_err(told)?;
    }
    let mut targets = Vec::new();
    let meanings: Vec<Meaning> =
        entries.iter().map(|entry| source.apply(event(source, entry).as_ref(), &mut targets)).collect();
    source.purge(targets).await.map_err(told)?;
    let now = source.hub.clock.now();
    for (entry, meaning) in entries.iter().zip(meanings) {
        let added = crate::clock::Timestamp::from_micros(entry.position.millis.saturating_mul(1000));
        source.figures.event(meaning, now, Some(now.since(added)));
        if meaning == Meaning::Malformed {
            let position = entry.position.to_string();
            tracing::warn!(
                source = source.settings.name,
                position,
                "an event can't be read: all it could name is purged"
            );
        }
    }
    Ok(())
}

/// `None`: it can't be read.
fn event(source: &Source, entry: &Entry) -> Option<Content> {
    let EventKind::Stream { field, .. } = &source.settings.kind else { return None };
    let length: usize = entry.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    if length > MAX_EVENT {
        return None;
    }
    let Some(field) = field else {
        return Content::of_fields(entry.fields.iter().map(|(name, value)| (&name[..], &value[..]))).ok();
    };
    let mut values = entry.fields.iter().filter(|(name, _)| name == field.as_bytes());
    let ((_, value), None) = (values.next()?, values.next()) else { return None };
    Content::of_event(value, MAX_EVENT).ok()
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_goes_on_only_where_nothing_can_have_gone_unread() {
        let at = |millis| StreamPosition { millis, number: 0 };
        let stream = |last| StreamState { last: at(last), length: 1, added: None };
        for (position, last, is_there, expected) in [
            (5, 5, true, Resume::From(at(5))),
            // Nothing came since, whatever was trimmed.
            (5, 5, false, Resume::From(at(5))),
            (5, 9, true, Resume::From(at(5))),
            (5, 9, false, Resume::InDoubt(at(9))),
            // It began anew.
            (5, 3, false, Resume::InDoubt(at(3))),
            (5, 3, true, Resume::InDoubt(at(3))),
            (0, 0, false, Resume::From(at(0))),
        ] {
            assert_eq!(
                resume(at(position), stream(last), is_there),
                expected,
                "{position} {last} {is_there}"
            );
        }
    }
}
