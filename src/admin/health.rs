//! `/healthz` and `/readyz`: whether larder works, and whether it works without Redis. A replica whose Redis is away
//! answers all the same, so nothing is taken out of service for it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Phase;
use super::stats::rfc3339;
use crate::metrics::SourceNow;
use crate::store::remote::{Remote, RemoteNode};

/// `degraded`: Redis is away, or a part of it.
pub fn status(phase: Phase, remote: Option<&Remote>) -> &'static str {
    match (phase, remote) {
        (Phase::Ready, Some(remote)) if remote.is_degraded() => "degraded",
        _ => phase.as_str(),
    }
}

pub fn of(phase: Phase, remote: Option<&Remote>) -> Value {
    let mut health = json!({ "status": status(phase, remote) });
    if let Some(remote) = remote {
        health["redis"] = of_redis(remote);
    }
    health
}

/// What they say of themselves; one that can't be heard, or is silent, degrades what is well otherwise.
pub fn add_sources(health: &mut Value, sources: &[SourceNow]) {
    if sources.is_empty() {
        return;
    }
    if health["status"] == "ok" && sources.iter().any(|source| matches!(source.status, "away" | "silent")) {
        health["status"] = "degraded".into();
    }
    health["events"] = sources.iter().map(of_source).collect();
}

fn of_source(source: &SourceNow) -> Value {
    let millis = |duration: Duration| duration.as_millis().min(u128::from(u32::MAX)) as u32;
    json!({
        "name": source.name,
        "kind": source.kind,
        "status": source.status,
        "trouble": source.trouble,
        "position": source.position,
        "lastEvent": source.last_event.map(rfc3339),
        "contactMillisAgo": source.contact_ago.map(millis),
        "lagMillis": millis(source.lag),
        "events": source.events,
        "missed": source.missed,
    })
}

fn of_redis(remote: &Remote) -> Value {
    let commands = remote.commands.iter().filter(|figure| figure.sent > 0).map(|figure| {
        let latency = figure.seconds / figure.sent as f64;
        let figures = json!({
            "sent": figure.sent,
            "timedOut": figure.timed_out,
            "failed": figure.failed,
            "meanMicros": (latency * 1e6).round(),
        });
        (figure.command.to_owned(), figures)
    });
    let mut health = json!({
        "status": match (remote.is_away(), remote.is_degraded()) {
            (true, _) => "away",
            (false, true) => "degraded",
            (false, false) => "ok",
        },
        "trouble": remote.trouble,
        "breaker": remote.breaker.as_str(),
        "breakerOpened": remote.opened,
        "connections": remote.connections,
        "reconnections": remote.connections.saturating_sub(1),
        "inFlight": remote.in_flight,
        "purgesWaiting": remote.purges_waiting,
        "confirmedMillisAgo": remote.confirmed_ago.map(|ago| ago.as_millis().min(u128::from(u32::MAX)) as u32),
        "commands": commands.collect::<Map<_, _>>(),
    });
    if !remote.nodes.is_empty() {
        let node = |node: &RemoteNode| {
            let figures = json!({
                "breaker": node.breaker.as_str(),
                "trouble": node.trouble,
                "inFlight": node.in_flight,
                "hasIndex": node.has_index,
            });
            (node.name.clone(), figures)
        };
        health["nodes"] = remote.nodes.iter().map(node).collect::<Map<_, _>>().into();
    }
    health
}
