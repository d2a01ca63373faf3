//! One way to purge, whoever asks: the store is told, it is counted, and a line says what was purged.
//!
//! It never decides what to purge.

use std::sync::Arc;

use tracing::Instrument as _;

use crate::metrics::{Metrics, PurgeSource};
use crate::policy::Route;
use crate::purge::{Hardness, Position, Purge, Target};
use crate::store::{Store, StoreError};

/// More targets than this are counted in the log and not named.
const NAMED: usize = 20;

/// Purges, and returns when the store has acknowledged it or has not. `route` is the one that a write came in by.
///
/// A purge that was begun is finished, also when nobody waits for it any more: a client that goes away must not leave
/// behind what its write made stale.
pub async fn purge(
    store: &Arc<dyn Store>,
    metrics: &Arc<Metrics>,
    purge: Purge,
    source: PurgeSource,
    route: Option<&Arc<Route>>,
) -> Result<Position, StoreError> {
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
            named: purge.targets.iter().take(NAMED).map(named).collect(),
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

fn named(target: &Target) -> String {
    let at = |host: &Option<String>| host.clone().unwrap_or_default();
    match target {
        Target::Tag(tag) => format!("tag {tag}"),
        Target::Path { host, path } => format!("path {}{}", at(host), path.as_str()),
        Target::Url { host, path, query } => format!("url {}{}?{query}", at(host), path.as_str()),
        Target::Prefix { host, path } => format!("prefix {}{}", at(host), path.as_str()),
        Target::Everything => "everything".to_string(),
    }
}

#[cfg(test)]
mod tests;
