//! One way to purge, whoever asks: the store is told, it is counted, and a line says what was purged.
//!
//! It never decides what to purge.

pub mod waiting;

use std::sync::Arc;

use http::{HeaderMap, Method};
use tracing::Instrument as _;

use crate::metrics::{Metrics, PurgeSource};
use crate::policy::Route;
use crate::purge::{Hardness, Position, Purge, Why};
use crate::store::{Store, StoreError};

/// Purges, and returns when the store has acknowledged it or has not. `route` is the one that a write came in by.
///
/// A purge that was begun is finished, also when nobody waits for it any more: a client that goes away must not leave
/// behind what its write made stale.
pub async fn purge(
    store: &Arc<dyn Store>,
    metrics: &Arc<Metrics>,
    mut purge: Purge,
    source: PurgeSource,
    route: Option<&Arc<Route>>,
) -> Result<Position, StoreError> {
    purge.why = Some(Why {
        source: source.as_str().to_owned(),
        route: route.map(|route| route.name.to_string()),
        ..purge.why.take().unwrap_or_default()
    });
    let (store, metrics, route) = (store.clone(), metrics.clone(), route.cloned());
    let purging = async move {
        let line = Line::of(&purge, source, route.as_deref());
        let result = store.purge(purge).await;
        match &result {
            Ok(_) => metrics.purged(source, route.map(|route| route.index), line.targets),
            Err(_) => metrics.purge_failed(source),
        }
        line.write(&result);
        result
    };
    tokio::spawn(purging.in_current_span())
        .await
        .unwrap_or_else(|stopped| Err(StoreError::PurgeNotTaken(stopped.to_string())))
}

/// The request behind a purge, as the record of it names it.
pub fn asked_by(method: &Method, path: &str, from: Option<String>, headers: &HeaderMap) -> Why {
    let request_id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    Why {
        method: Some(method.to_string()),
        path: Some(path.to_owned()),
        from,
        request_id: request_id.map(str::to_owned),
        ..Why::default()
    }
}

/// What the log says of a purge.
struct Line {
    source: &'static str,
    route: String,
    mode: &'static str,
    in_doubt_ms: u64,
    targets: usize,
    named: Vec<String>,
}

impl Line {
    fn of(purge: &Purge, source: PurgeSource, route: Option<&Route>) -> Self {
        Self {
            source: source.as_str(),
            route: route.map_or("none", |route| &route.name).to_string(),
            mode: match purge.hardness {
                Hardness::Hard => "hard",
                Hardness::Soft => "soft",
            },
            in_doubt_ms: u64::try_from(purge.in_doubt_for.as_millis()).unwrap_or(u64::MAX),
            targets: purge.targets.len(),
            named: purge.named(),
        }
    }

    /// The targets are written as Rust strings, so that what a request sent can't forge a line.
    fn write(&self, result: &Result<Position, StoreError>) {
        let Line { source, route, mode, in_doubt_ms, targets, named } = self;
        match result {
            Ok(Position(position)) => {
                tracing::info!(source, route, mode, in_doubt_ms, targets, position, ?named, "purged");
            }
            Err(error) => {
                tracing::error!(source, route, mode, in_doubt_ms, targets, %error, ?named, "not purged");
            }
        }
    }
}

#[cfg(test)]
mod tests;
