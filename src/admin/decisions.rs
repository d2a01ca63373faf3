//! `GET /decisions`: how requests are answered, as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::event_stream::{KEEP_ALIVE_INTERVAL, acquire_slot, respond};
use super::query::query_pairs;
use super::response::{AdminError, AdminResponse};
use super::{AdminState, Readiness};
use crate::config::{nearest, read_duration};
use crate::decision_feed::{CallerFilter, DecisionFeed, DecisionFilter, DecisionReader, InvalidCaller};
use crate::metrics::outcome_words;
use crate::phase::Phase;

/// Frames buffered per reader.
const QUEUE_CAPACITY: usize = 256;

/// Interval of the reports on skipped decisions.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

const QUERY_USAGE: &str =
    "`GET /decisions` takes `route`, `outcome`, `path`, `client` (an address), `caller` and `slower` (50ms)";

pub(super) fn stream_decisions(state: &AdminState, query: Option<&str>) -> Result<AdminResponse, AdminError> {
    let filter = parse_query(state, query)?;
    if let Some(name) = &filter.route {
        check_route(state, name)?;
    }
    if state.readiness.phase().current() >= Phase::Stopping {
        return Err(AdminError::unavailable("larder is stopping"));
    }
    let slot = acquire_slot(&state.reader_slots.decisions)?;
    let (sender, frames) = mpsc::channel(QUEUE_CAPACITY);
    let reader = state.decisions.add(filter, sender.clone());
    tokio::spawn(report_until_closed(state.decisions.clone(), reader, sender, state.readiness.clone()));
    Ok(respond(frames, slot))
}

/// Refuses the name of a route that is not there: the stream would stay empty.
fn check_route(state: &AdminState, name: &str) -> Result<(), AdminError> {
    let mut names = state.routes.iter().map(|route| &*route.name);
    if names.any(|known| known == name) {
        return Ok(());
    }
    let fix = match nearest(name, state.routes.iter().map(|route| &*route.name)) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "`/stats` lists the routes by name".to_owned(),
    };
    Err(AdminError::bad_request(format!("there is no route {name:?}"), fix))
}

/// Refuses a text with which no path begins.
fn check_path(start: String) -> Result<String, AdminError> {
    match start.starts_with('/') {
        true => Ok(start),
        false => Err(AdminError::bad_request(format!("no path begins with `{start}`"), "begin it with `/`")),
    }
}

/// Refuses a text that no outcome has in it: the stream would stay empty.
fn check_outcome(part: String) -> Result<String, AdminError> {
    const PARAMETERS: [&str; 8] =
        ["larder", "hit", "fwd", "fwd-status", "ttl", "stored", "collapsed", "detail"];
    let known: Vec<&str> = PARAMETERS.into_iter().chain(outcome_words()).collect();
    let is_possible = |word: &str| {
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        is_number || known.iter().any(|known| known.contains(word))
    };
    let mut words = part.split([';', '=', ' ', ':']);
    let Some(wrong) = words.find(|word| !is_possible(word)) else { return Ok(part) };
    let fix = match nearest(wrong, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write a part of `Cache-Status`: `hit`, `stored`, `fwd=stale`, `detail=no-route`".to_owned(),
    };
    Err(AdminError::bad_request(format!("no outcome has `{wrong}` in it"), fix))
}

/// The text is not repeated: it may be a credential.
fn parse_caller(state: &AdminState, text: &str) -> Result<CallerFilter, AdminError> {
    state.decisions.parse_caller(text, &state.config.credentials).map_err(|error| match error {
        InvalidCaller::Unknown => AdminError::bad_request(
            "`caller` names neither a kind of callers nor a fingerprint",
            "write `anonymous`, a field of `credentials` such as `authorization`, or a fingerprint as a decision has it",
        ),
        InvalidCaller::OtherProcess => AdminError::bad_request(
            "the fingerprint in `caller` is not of this process: each makes its own, from its start on",
            "ask without `caller` first: decisions have the fingerprints of their callers",
        ),
    })
}

fn parse_query(state: &AdminState, query: Option<&str>) -> Result<DecisionFilter, AdminError> {
    let mut filter = DecisionFilter::default();
    for (name, value) in query_pairs(query)? {
        let wrong = || AdminError::bad_request(format!("invalid parameter `{name}={value}`"), QUERY_USAGE);
        match name.as_str() {
            _ if value.is_empty() => return Err(wrong()),
            "route" => filter.route = Some(value),
            "outcome" => filter.outcome = Some(check_outcome(value)?),
            "path" => filter.path = Some(check_path(value)?),
            "client" => filter.client = Some(value.parse().map_err(|_| wrong())?),
            "caller" => filter.caller = Some(parse_caller(state, &value)?),
            "slower" => filter.slower_than = Some(read_duration(&value).map_err(|_| wrong())?),
            _ => return Err(wrong()),
        }
    }
    Ok(filter)
}

/// Tells the reader how many decisions it did not get, and removes it from the feed once it is gone.
async fn report_until_closed(
    feed: Arc<DecisionFeed>,
    reader: Arc<DecisionReader>,
    frames: mpsc::Sender<Bytes>,
    readiness: Readiness,
) {
    _ = frames.try_send(": one event per request\n\n".into());
    let mut told_at = Instant::now();
    while !frames.is_closed() && readiness.phase().current() < Phase::Stopping {
        tokio::select! {
            () = sleep(REPORT_INTERVAL) => {}
            () = frames.closed() => break,
        }
        let skipped = reader.take_skipped();
        if skipped > 0 {
            told_at = Instant::now();
            _ = frames.try_send(format!("event: skipped\ndata: {{\"skipped\":{skipped}}}\n\n").into());
        } else if told_at.elapsed() >= KEEP_ALIVE_INTERVAL {
            told_at = Instant::now();
            _ = frames.try_send(":\n\n".into());
        }
    }
    feed.remove(&reader);
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, StatusCode, Uri};

    use super::*;
    use crate::clock::Timestamp;
    use crate::decision_feed::LiveDecision;
    use crate::policy::CallerFields;

    #[tokio::test]
    async fn a_reader_that_falls_behind_is_told_how_much_it_missed() {
        let (feed, readiness) = (Arc::new(DecisionFeed::default()), Readiness::new());
        let (sender, mut frames) = mpsc::channel(QUEUE_CAPACITY);
        let reader = feed.add(DecisionFilter::default(), sender.clone());
        let (method, uri) = (Method::GET, Uri::from_static("/a"));
        let caller = feed.mark_caller(&CallerFields::default(), &HeaderMap::new());
        let decision = LiveDecision {
            at: Timestamp::from_secs(0),
            method: &method,
            uri: &uri,
            route: None,
            status: StatusCode::OK,
            outcome: None,
            client: None,
            caller: &caller,
            took: Duration::ZERO,
        };
        (0..QUEUE_CAPACITY).for_each(|_| feed.publish(&decision));
        let reporting = tokio::spawn(report_until_closed(feed.clone(), reader, sender, readiness));
        let skipped = loop {
            let frame = frames.recv().await.expect("the report");
            if frame.starts_with(b"event: skipped") {
                break frame;
            }
        };
        // Two frames stay free, and a second has a bound of its own.
        let data = String::from_utf8_lossy(&skipped).into_owned();
        let number =
            data.split(':').next_back().and_then(|number| number.trim().trim_end_matches('}').parse().ok());
        assert!(number.is_some_and(|number: usize| (2..QUEUE_CAPACITY).contains(&number)), "{data}");
        drop(frames);
        reporting.await.expect("it ends");
        assert!(!feed.is_watched());
    }
}
