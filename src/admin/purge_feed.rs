//! `GET /events`: every purge of every replica as it happens, as server-sent events. Whoever reads too slowly is told so
//! and let go, and whoever comes back says what it has seen.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use super::answer::{Answer, Refusal};
use super::purges::Line;
use super::{AdminState, Phase, Readiness};
use crate::purge::{Asked, Position};
use crate::store::Store;

/// So many may listen at once.
pub const MOST_READERS: usize = 32;

/// So many purges wait for a reader.
const WAITING: usize = 256;

/// The journal has at least so many; of more at once some may have gone.
const PAGE: usize = 1000;

/// Between looks whether there was a purge.
const LOOKS: Duration = Duration::from_millis(50);

/// Without a reason to, the journal is read this often.
const LOOKS_ANYWAY: Duration = Duration::from_secs(1);

/// A silent connection is taken for a dead one somewhere on the way.
const COMMENTS: Duration = Duration::from_secs(15);

/// What one reader is sent.
struct Sent {
    frames: mpsc::Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

struct Reader {
    store: Arc<dyn Store>,
    readiness: Readiness,
    /// Up to here it has been told.
    told: Position,
    tell: mpsc::Sender<Bytes>,
}

/// Why a reader is let go.
enum Gone {
    /// It has gone by itself, or larder ends.
    Away,
    TooSlow,
}

pub fn follow(state: &AdminState, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let Ok(place) = state.readers.clone().try_acquire_owned() else {
        let error = format!("{MOST_READERS} readers are here already");
        return Err(Refusal::unavailable(error));
    };
    let told = seen(headers)?.unwrap_or_else(|| state.store.latest());
    let (tell, frames) = mpsc::channel(WAITING + 1);
    let reader = Reader { store: state.store.clone(), readiness: state.readiness.clone(), told, tell };
    tokio::spawn(reader.run());
    let mut answer = Response::new(Sent { frames, _place: place }.boxed_unsync());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *answer.status_mut() = StatusCode::OK;
    Ok(answer)
}

/// Room for the readers of one admin listener.
pub fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MOST_READERS))
}

/// `Last-Event-ID`: the position of the last purge that a reader has seen.
fn seen(headers: &HeaderMap) -> Result<Option<Position>, Refusal> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let position = id.to_str().ok().and_then(|id| id.trim().parse().ok());
    position.map(|position| Some(Position(position))).ok_or_else(|| {
        Refusal::bad_request("`Last-Event-ID` is not a position", "send the `id` of the last event seen")
    })
}

impl Reader {
    async fn run(mut self) {
        if let Err(Gone::TooSlow) = self.tell_all().await {
            let latest = self.store.latest().0;
            let lagged = format!("id: {latest}\nevent: lagged\ndata: {{\"since\":{}}}\n\n", self.told.0);
            // There is room for this one.
            let _ = self.tell.try_send(lagged.into());
        }
    }

    async fn tell_all(&mut self) -> Result<(), Gone> {
        self.say(": larder tells of each purge\nretry: 1000\n\n".into())?;
        let mut looked = None;
        let (mut looked_at, mut said_at) = (Instant::now(), Instant::now());
        while self.readiness.phase() != Phase::Draining {
            let latest = self.store.latest();
            if looked != Some(latest) || looked_at.elapsed() >= LOOKS_ANYWAY {
                looked_at = Instant::now();
                if self.tell_new().await? {
                    looked = Some(latest);
                }
            }
            if said_at.elapsed() >= COMMENTS {
                said_at = Instant::now();
                self.say(":\n\n".into())?;
            }
            if self.tell.is_closed() {
                return Err(Gone::Away);
            }
            sleep(LOOKS).await;
        }
        Ok(())
    }

    /// Whether the journal could be read.
    async fn tell_new(&mut self) -> Result<bool, Gone> {
        let asked = Asked { limit: PAGE, since: self.told, tag: None };
        let purges = self.store.purges(asked).await;
        if !purges.of_all_replicas {
            return Ok(false);
        }
        if purges.records.len() >= PAGE {
            return Err(Gone::TooSlow);
        }
        for record in VecDeque::from(purges.records).into_iter().rev() {
            let position = record.position;
            let line = serde_json::to_string(&Line::of(record)).unwrap_or_default();
            self.say(format!("id: {}\nevent: purge\ndata: {line}\n\n", position.0).into())?;
            self.told = position;
        }
        Ok(true)
    }

    /// One place is left for the last word.
    fn say(&self, frame: Bytes) -> Result<(), Gone> {
        if self.tell.capacity() <= 1 {
            return Err(Gone::TooSlow);
        }
        self.tell.try_send(frame).map_err(|_| Gone::Away)
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames.poll_recv(cx).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::purge::{Incarnation, Purge, Target};
    use crate::store::memory::MemoryStore;

    fn reader(told: u64) -> (Reader, mpsc::Receiver<Bytes>) {
        let store = Arc::new(MemoryStore::new(1 << 20, Incarnation(1), Clock::system()));
        let (tell, frames) = mpsc::channel(WAITING + 1);
        (Reader { store, readiness: Readiness::new(), told: Position(told), tell }, frames)
    }

    async fn purge(reader: &Reader, times: usize) {
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
        assert!(matches!(reader.tell_new().await, Ok(true)));
        assert!(matches!(reader.tell_new().await, Ok(true)));
        let told = all(&mut frames);
        let ids: Vec<u64> = told.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
        assert!(ids.len() == 2 && ids[0] < ids[1], "{told}");
        assert_eq!(told.matches("\"targets\":[\"tag a\"]").count(), 2, "{told}");
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_told_so_and_let_go() {
        let (reader, mut frames) = reader(0);
        purge(&reader, WAITING + 10).await;
        reader.run().await;
        let told = all(&mut frames);
        assert_eq!(told.matches("event: purge").count(), WAITING - 1, "one place was the greeting's");
        assert!(told.trim_end().lines().rev().nth(1).unwrap().starts_with("event: lagged"), "{told}");
        assert!(frames.recv().await.is_none());
    }

    #[tokio::test]
    async fn one_that_missed_more_than_the_journal_keeps_is_told_so() {
        let (reader, mut frames) = reader(1);
        purge(&reader, PAGE + 1).await;
        reader.run().await;
        let told = all(&mut frames);
        assert_eq!((told.matches("event: purge").count(), told.matches("event: lagged").count()), (0, 1));
    }
}
