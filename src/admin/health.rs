//! `/healthz` and `/readyz`. A replica without Redis still answers requests, so it stays in service.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::stats::format_rfc3339;
use crate::callers::KeyStatus;
use crate::metrics::SourceStatus;
use crate::phase::Phase;
use crate::store::remote_status::{NodeStatus, RemoteStatus};

/// Returns `degraded` if Redis is unavailable in whole or in part.
pub(super) fn overall_status(phase: Phase, remote: Option<&RemoteStatus>) -> &'static str {
    match (phase, remote) {
        (Phase::Ready, Some(remote)) if remote.is_degraded() => "degraded",
        _ => phase.as_str(),
    }
}

pub(super) fn report(phase: Phase, remote: Option<&RemoteStatus>) -> Value {
    let mut health = json!({ "status": overall_status(phase, remote) });
    if let Some(remote) = remote {
        health["redis"] = redis_json(remote);
    }
    health
}

/// Adds the event sources; one that is unavailable or silent turns `ok` into `degraded`.
pub(super) fn add_source_statuses(health: &mut Value, sources: &[SourceStatus]) {
    if sources.is_empty() {
        return;
    }
    if health["status"] == "ok" && sources.iter().any(|source| matches!(source.status, "away" | "silent")) {
        health["status"] = "degraded".into();
    }
    health["events"] = sources.iter().map(source_json).collect();
}

/// Adds the keys that verify callers' tokens; an entry without any turns `ok` into `degraded`: its callers have no hits.
pub(super) fn add_key_statuses(health: &mut Value, statuses: &[KeyStatus]) {
    if statuses.is_empty() {
        return;
    }
    if health["status"] == "ok" && statuses.iter().any(|status| status.keys == 0) {
        health["status"] = "degraded".into();
    }
    let entry = |status: &KeyStatus| {
        let word = match (status.keys, &status.trouble) {
            (0, _) => "no-keys",
            (_, Some(_)) => "outdated",
            (_, None) => "ok",
        };
        let trouble = status.trouble.as_deref();
        (status.callers.to_string(), json!({"status": word, "keys": status.keys, "trouble": trouble}))
    };
    health["callers"] = statuses.iter().map(entry).collect::<Map<_, _>>().into();
}

fn source_json(source: &SourceStatus) -> Value {
    let millis = |duration: Duration| duration.as_millis().min(u128::from(u32::MAX)) as u32;
    json!({
        "name": source.name,
        "kind": source.kind,
        "status": source.status,
        "trouble": source.trouble.as_ref().map(|reason| &reason.message),
        "reason": source.trouble.as_ref().map(|reason| reason.code),
        "position": source.position,
        "lastEvent": source.last_event.map(format_rfc3339),
        "contactMillisAgo": millis(source.contact_ago),
        "lagMillis": millis(source.lag),
        "events": source.events(),
        "missed": source.missed,
    })
}

fn redis_json(remote: &RemoteStatus) -> Value {
    let commands = remote.commands.iter().filter(|figure| figure.sent > 0).map(|figure| {
        let latency = figure.seconds / figure.sent as f64;
        let figures = json!({
            "sent": figure.sent,
            "timedOut": figure.timed_out,
            "redirected": figure.redirected,
            "failed": figure.failed,
            "meanMicros": (latency * 1e6).round(),
        });
        (figure.command.to_owned(), figures)
    });
    let mut health = json!({
        "status": match (remote.is_unavailable(), remote.is_degraded()) {
            (true, _) => "away",
            (false, true) => "degraded",
            (false, false) => "ok",
        },
        "trouble": remote.failure.as_ref().map(|reason| &reason.message),
        "reason": remote.failure.as_ref().map(|reason| reason.code),
        "wakeUpTrouble": remote.wake_up_failure.as_ref().map(|reason| &reason.message),
        "breaker": remote.breaker.as_str(),
        "breakerOpened": remote.times_opened,
        "connections": remote.connections,
        "reconnections": remote.connections.saturating_sub(1),
        "inFlight": remote.in_flight,
        "purgesWaiting": remote.pending_purges,
        "confirmedMillisAgo": remote.synced_ago.map(|ago| ago.as_millis().min(u128::from(u32::MAX)) as u32),
        "commands": commands.collect::<Map<_, _>>(),
    });
    if !remote.nodes.is_empty() {
        let node = |node: &NodeStatus| {
            let figures = json!({
                "breaker": node.breaker.as_str(),
                "trouble": node.failure.as_ref().map(|reason| &reason.message),
                "reason": node.failure.as_ref().map(|reason| reason.code),
                "inFlight": node.in_flight,
                "hasIndex": node.has_index,
            });
            (node.name.clone(), figures)
        };
        health["nodes"] = remote.nodes.iter().map(node).collect::<Map<_, _>>().into();
    }
    health
}
