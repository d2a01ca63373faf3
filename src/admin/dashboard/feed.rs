//! `GET /dashboard/data`: the figures of `/metrics`, and the last hour of them, as the page draws them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::words;
use crate::admin::{AdminState, health};
use crate::metrics::{SAMPLE_EVERY, Sample};
use crate::store::remote::Remote;
use crate::store::{Figures, remote::CommandFigure};

pub fn feed(state: &AdminState) -> Value {
    let (figures, remote) = (state.store.figures(), state.store.remote());
    let (overview, history) = (state.metrics.overview(), state.metrics.history());
    let facts = words::Facts {
        phase: state.readiness.phase(),
        refused: state.readiness.refused_config(),
        needs_restart: state.readiness.needs_restart(),
        remote: remote.as_ref(),
        figures: &figures,
        overview: &overview,
        failed_lately: history.iter().rev().take(6).map(|sample| sample.upstream_failures).sum(),
    };
    json!({
        "at": millis(state.clock.now()),
        "version": env!("CARGO_PKG_VERSION"),
        "status": health::status(state.readiness.phase(), remote.as_ref()),
        "notes": words::notes(&facts),
        "overview": overview,
        "store": of_store(&figures),
        "redis": remote.as_ref().map(of_redis),
        "history": of_history(&history),
    })
}

fn of_store(figures: &Figures) -> Value {
    json!({
        "entries": figures.entries,
        "bytes": figures.bytes,
        "capacity": figures.capacity,
        "evicted": figures.evicted,
        "purgeRecords": figures.purge_records,
    })
}

fn of_redis(remote: &Remote) -> Value {
    json!({
        "up": !remote.is_away(),
        "breaker": remote.breaker.as_str(),
        "breakerOpened": remote.opened,
        "trouble": remote.trouble,
        "confirmedSeconds": remote.confirmed_ago.map(|ago| ago.as_secs_f64()),
        "maxLagSeconds": remote.max_lag.as_secs_f64(),
        "purgesWaiting": remote.purges_waiting,
        "connections": remote.connections,
        "inFlight": remote.in_flight,
        "newIndexes": remote.new_indexes,
        "memoryUsed": remote.memory.map(|memory| memory.used),
        "memoryLimit": remote.memory.and_then(|memory| memory.limit),
        "commands": remote.commands.iter().filter(|figure| figure.sent > 0).map(of_command).collect::<Vec<_>>(),
    })
}

fn of_command(figure: &CommandFigure) -> Value {
    json!({
        "command": figure.command,
        "sent": figure.sent,
        "timedOut": figure.timed_out,
        "failed": figure.failed,
        "meanSeconds": figure.seconds / figure.sent as f64,
    })
}

/// For each route a list as long as that of the moments; `null` where it was not asked for.
fn of_history(samples: &[Sample]) -> Value {
    let mut routes: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (at, sample) in samples.iter().enumerate() {
        for (name, route) in &sample.routes {
            let column = routes.entry(name).or_insert_with(|| vec![Value::Null; samples.len()]);
            column[at] = json!([route.requests, route.hits, route.misses, route.p50, route.p95]);
        }
    }
    let routes: Map<String, Value> =
        routes.into_iter().map(|(name, column)| (name.to_owned(), Value::Array(column))).collect();
    json!({
        "everySeconds": SAMPLE_EVERY.as_secs(),
        "at": samples.iter().map(|sample| millis(sample.at)).collect::<Vec<_>>(),
        "failures": samples.iter().map(|sample| sample.upstream_failures).collect::<Vec<_>>(),
        "columns": ["requests", "hits", "misses", "p50", "p95"],
        "routes": routes,
    })
}

fn millis(at: crate::clock::Timestamp) -> u64 {
    at.as_micros() / 1000
}
