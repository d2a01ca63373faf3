//! Metric families of the shared Redis store.

use std::collections::BTreeSet;

use super::exposition::{Labels, MetricFamily};
use crate::store::encoding::CompressionStats;
use crate::store::remote_status::{BreakerState, CommandStats, LeaseStats, NodeStatus, RemoteStatus};

/// The codes of all present failures, each once.
fn failure_codes(remote: &RemoteStatus) -> BTreeSet<&'static str> {
    let nodes = remote.nodes.iter().filter_map(|node| node.failure.as_ref());
    remote.failure.iter().chain(&remote.wake_up_failure).chain(nodes).map(|reason| reason.code).collect()
}

pub(super) fn families(remote: &RemoteStatus) -> Vec<MetricFamily> {
    let mut breaker =
        MetricFamily::gauge("larder_redis_breaker", "1 for the current state of the circuit breaker.");
    for state in BreakerState::ALL {
        breaker
            .push(vec![("state", state.as_str().to_string())], f64::from(u8::from(state == remote.breaker)));
    }
    let mut age = MetricFamily::gauge(
        "larder_redis_confirmed_age_seconds",
        "Seconds since all purges were last confirmed; absent before the first confirmation.",
    );
    if let Some(ago) = remote.synced_ago {
        age.push(Vec::new(), ago.as_secs_f64());
    }
    let mut max_lag = MetricFamily::gauge(
        "larder_redis_max_lag_seconds",
        "`store.max_lag`: above this age of the confirmation there are no hits; 0 is strict.",
    );
    max_lag.push(Vec::new(), remote.max_lag.as_secs_f64());
    let mut used = MetricFamily::gauge("larder_redis_memory_used_bytes", "Memory used by Redis.");
    let mut limit = MetricFamily::gauge("larder_redis_memory_limit_bytes", "Redis' `maxmemory`, if set.");
    if let Some(memory) = remote.memory {
        used.push(Vec::new(), memory.used as f64);
        memory.limit.into_iter().for_each(|bytes| limit.push(Vec::new(), bytes as f64));
    }
    let mut failures = MetricFamily::gauge(
        "larder_redis_failure",
        "1 for each reason why Redis, a node of it or its wake-ups can't be used; absent while all work.",
    );
    for code in failure_codes(remote) {
        failures.push(vec![("reason", code.to_string())], 1.0);
    }
    let mut families = vec![
        max_lag,
        used,
        limit,
        failures,
        MetricFamily::gauge(
            "larder_redis_up",
            "1 if Redis answers; in a cluster, the master that holds the purge index.",
        )
        .with_value(u64::from(!remote.is_unavailable())),
        breaker,
        MetricFamily::counter("larder_redis_breaker_opened", "Times the circuit breaker opened.")
            .with_value(remote.times_opened),
        MetricFamily::counter(
            "larder_redis_values_rejected",
            "Values in Redis that were forged, damaged, or encrypted with a key that is not configured; each was a miss.",
        )
        .with_value(remote.rejected_values),
        MetricFamily::counter("larder_redis_connections", "Connections established.")
            .with_value(remote.connections),
        MetricFamily::gauge("larder_redis_in_flight", "Commands in flight.")
            .with_value(remote.in_flight as u64),
        MetricFamily::gauge("larder_purges_waiting", "Purge targets not yet recorded in Redis.")
            .with_value(remote.pending_purges as u64),
        age,
        MetricFamily::counter(
            "larder_purge_indexes",
            "Purge indexes seen; more than one means that the index was reset.",
        )
        .with_value(remote.index_resets),
    ];
    let mut leases =
        MetricFamily::counter("larder_leases", "Fetch leases shared between replicas, by result.");
    let LeaseStats { taken, waited, fell_back: apart, lost } = remote.leases;
    for (result, count) in [("taken", taken), ("waited", waited), ("apart", apart), ("lost", lost)] {
        leases.push_if_any(vec![("result", result.to_string())], count);
    }
    families.push(leases);
    families.extend(remote.compression.as_ref().map(compression_family));
    families.extend(command_families(&remote.commands));
    families.extend(node_families(&remote.nodes));
    families
}

fn compression_family(stats: &CompressionStats) -> MetricFamily {
    let mut bytes = MetricFamily::counter(
        "larder_redis_compressed_bytes",
        "Bytes of values that were long enough to be compressed, before and after.",
    );
    for (stage, count) in [("before", stats.bytes_before), ("after", stats.bytes_after)] {
        bytes.push(vec![("stage", stage.to_string())], count as f64);
    }
    bytes
}

/// Nodes beyond this number share one label.
const MAX_NODE_LABELS: usize = 32;

fn node_families(nodes: &[NodeStatus]) -> Option<MetricFamily> {
    let mut up = MetricFamily::gauge("larder_redis_node_up", "1 if a master of the cluster answers.");
    let is_up = |node: &NodeStatus| node.breaker == BreakerState::Closed;
    let (named, others) = nodes.split_at(nodes.len().min(MAX_NODE_LABELS));
    for node in named {
        up.push(vec![("node", node.name.clone())], f64::from(u8::from(is_up(node))));
    }
    if !others.is_empty() {
        let all_up = others.iter().all(is_up);
        up.push(vec![("node", "others".to_owned())], f64::from(u8::from(all_up)));
    }
    (!nodes.is_empty()).then_some(up)
}

fn command_families(figures: &[CommandStats]) -> Vec<MetricFamily> {
    let mut commands = MetricFamily::counter("larder_redis_commands", "Commands by result.");
    let mut seconds = MetricFamily::counter("larder_redis_command_seconds", "Total time spent in commands.");
    let mut slow =
        MetricFamily::counter("larder_redis_slow_commands", "Commands that took longer than 10 ms.");
    for figure in figures {
        let labels = |result: &str| -> Labels {
            vec![("command", figure.command.to_string()), ("result", result.to_string())]
        };
        let answered = figure.sent.saturating_sub(figure.timed_out + figure.redirected + figure.failed);
        commands.push(labels("answered"), answered as f64);
        commands.push_if_any(labels("timeout"), figure.timed_out);
        commands.push_if_any(labels("redirected"), figure.redirected);
        commands.push_if_any(labels("failed"), figure.failed);
        seconds.push(vec![("command", figure.command.to_string())], figure.seconds);
        slow.push(vec![("command", figure.command.to_string())], figure.slow as f64);
    }
    vec![commands, seconds, slow]
}
