//! `/warm` and `/refresh`: background requests started by an operator.

use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json as value;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use super::AdminState;
use super::event_stream::{KEEP_ALIVE_INTERVAL, acquire_slot, respond};
use super::query::parse_object;
use super::response::{AdminError, AdminResponse, json};
use crate::warming::{ActiveRun, RefreshRequest, Tally, WarmRequest, WarmResult};

const WARM_EXAMPLE: &str = r#"send JSON such as {"route": "/api/courses/{id}", "values": {"id": [1, 2]}}, {"urls": ["/api/courses"]} or {"name": "recent-files"}"#;
const REFRESH_EXAMPLE: &str =
    r#"send JSON such as {"expiring_within": "5m", "route": "courses", "tag": "course:7"}"#;

/// Longest time that a response waits for its run.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval of progress events.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A reader that is behind by so many events misses some.
const QUEUE_CAPACITY: usize = 8;

impl AdminState {
    /// Progress of the configuration's `warm` entries.
    pub(super) fn warm_status(&self) -> AdminResponse {
        let runs = self.warming.as_ref().map(|warming| warming.run_statuses()).unwrap_or_default();
        json(StatusCode::OK, &value!({ "warm": runs }))
    }

    pub(super) async fn warm(&self, headers: &HeaderMap, body: &[u8]) -> Result<AdminResponse, AdminError> {
        let request: WarmRequest = parse_body(body, WARM_EXAMPLE)?;
        let warming = self.warming.as_ref().ok_or_else(warming_unavailable)?;
        let slot = self.progress_slot(headers)?;
        report(warming.warm_now(request), slot).await
    }

    pub(super) async fn refresh(
        &self,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<AdminResponse, AdminError> {
        let request: RefreshRequest = parse_body(body, REFRESH_EXAMPLE)?;
        let warming = self.warming.as_ref().ok_or_else(warming_unavailable)?;
        let slot = self.progress_slot(headers)?;
        report(warming.refresh(request), slot).await
    }

    /// A slot for the stream of events that the request asks for, if it does.
    fn progress_slot(&self, headers: &HeaderMap) -> Result<Option<OwnedSemaphorePermit>, AdminError> {
        let ranges = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        let mut types =
            ranges.flat_map(|ranges| ranges.split(',').filter_map(|range| range.split(';').next()));
        let wants_events = types.any(|range| range.trim().eq_ignore_ascii_case("text/event-stream"));
        wants_events.then(|| acquire_slot(&self.reader_slots.progress)).transpose()
    }
}

fn parse_body<'b, T: Deserialize<'b>>(body: &'b [u8], form: &str) -> Result<T, AdminError> {
    parse_object(body).map_err(|error| AdminError::bad_request(error, form))
}

fn warming_unavailable() -> AdminError {
    let fix = "send the request to a process that serves clients";
    AdminError::new(StatusCode::SERVICE_UNAVAILABLE, "this process sends no background requests", fix)
}

/// Reports the run: as events if there is a slot for them, else once it has ended, or 202 while it continues.
async fn report(
    started: WarmResult<ActiveRun>,
    slot: Option<OwnedSemaphorePermit>,
) -> Result<AdminResponse, AdminError> {
    let mut run = started.map_err(|(wrong, fix)| AdminError::bad_request(wrong, fix))?;
    if let Some(slot) = slot {
        let (sender, frames) = mpsc::channel(QUEUE_CAPACITY);
        tokio::spawn(send_progress(run, sender));
        return Ok(respond(frames, slot));
    }
    let (code, status) = match run.wait(RESPONSE_TIMEOUT).await {
        true => (StatusCode::OK, "done"),
        false => (StatusCode::ACCEPTED, "running"),
    };
    Ok(json(code, &with_status(&run.tally(), status)))
}

fn with_status(tally: &Tally, status: &str) -> serde_json::Value {
    let mut answer = serde_json::to_value(tally).unwrap_or_default();
    answer["status"] = status.into();
    answer
}

/// Sends an event when the totals have changed, and one at the end. The run goes on without a reader.
async fn send_progress(mut run: ActiveRun, sender: mpsc::Sender<Bytes>) {
    let (mut sent, mut sent_at) = (None, Instant::now());
    while !run.wait(PROGRESS_INTERVAL).await && !sender.is_closed() {
        let tally = run.tally();
        if sent.as_ref() != Some(&tally) {
            _ = sender.try_send(event("progress", &with_status(&tally, "running")));
            (sent, sent_at) = (Some(tally), Instant::now());
        } else if sent_at.elapsed() >= KEEP_ALIVE_INTERVAL {
            _ = sender.try_send(":\n\n".into());
            sent_at = Instant::now();
        }
    }
    _ = sender.send(event("done", &with_status(&run.tally(), "done"))).await;
}

fn event(name: &str, data: &serde_json::Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}
