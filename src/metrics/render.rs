//! `/metrics`: names, help texts and values of a snapshot.

use std::collections::HashSet;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::exposition::{Exposition, Labels, MetricFamily};
use super::labels::REQUEST_OUTCOMES;
use super::snapshot::hit_rate;
use super::{OVER_RATE_RESULTS, RefusedBy, RouteSnapshot, Snapshot, cdn, labels, redis, sources};
use crate::log_writer;
use crate::store::StoreStats;
use crate::store::remote_status::RemoteStatus;

/// A format of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsFormat {
    /// OpenMetrics 1.0, as [`Snapshot::render`] writes it.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus.
    Text,
}

impl MetricsFormat {
    /// The format for a request: OpenMetrics, unless its `Accept` names plain text alone.
    pub(crate) fn choose(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default().to_ascii_lowercase();
        match accept.contains("text/plain") && !accept.contains("application/openmetrics-text") {
            true => MetricsFormat::Text,
            false => MetricsFormat::OpenMetrics,
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            MetricsFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            MetricsFormat::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts OpenMetrics to this format.
    pub(crate) fn convert(self, written: String) -> String {
        match self {
            MetricsFormat::OpenMetrics => written,
            MetricsFormat::Text => to_text_format(&written),
        }
    }
}

/// In the text format a counter's family has the name of its samples, and there is neither a unit nor an end.
fn to_text_format(written: &str) -> String {
    let counters: HashSet<&str> =
        written.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(written.len());
    for line in written.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let of_family =
            ["# HELP ", "# TYPE "].into_iter().find_map(|mark| Some((mark, line.strip_prefix(mark)?)));
        match of_family.and_then(|(mark, rest)| Some((mark, rest.split_once(' ')?))) {
            Some((mark, (name, rest))) if counters.contains(name) => {
                out.extend([mark, name, "_total ", rest, "\n"]);
            }
            _ => out.extend([line, "\n"]),
        }
    }
    out
}

pub(super) fn encode(families: Vec<MetricFamily>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(families)));
    let mut written = String::new();
    match text::encode(&mut written, &registry) {
        Ok(()) => written,
        // Writing to a string cannot fail.
        Err(_) => String::new(),
    }
}

impl Snapshot {
    /// Renders OpenMetrics 1.0. `stats` describe the store, `remote` the Redis server shared with other replicas.
    pub(crate) fn render(&self, stats: &StoreStats, remote: Option<&RemoteStatus>) -> String {
        encode(self.families(stats, remote))
    }

    /// All metrics.
    pub(crate) fn families(&self, stats: &StoreStats, remote: Option<&RemoteStatus>) -> Vec<MetricFamily> {
        let mut families = self.namespace_families();
        families.extend(self.route_families());
        families.extend(self.fill_families());
        families.extend(self.purge_families());
        families.extend(self.background_families());
        families.extend(store_families(stats));
        families.extend(remote.into_iter().flat_map(redis::families));
        families.extend(self.upstream_families());
        families.extend(self.process_families());
        families.extend(self.worker_families());
        families.extend(sources::families(&self.sources));
        families.extend(cdn::families(&self.cdns));
        families.extend(self.config_families());
        families
    }

    /// Unprefixed names, as used by dashboards for in-process caches.
    fn namespace_families(&self) -> Vec<MetricFamily> {
        let mut hits = MetricFamily::counter("cache_hits", "Requests answered from the store.");
        let mut misses =
            MetricFamily::counter("cache_misses", "Requests that no stored response could answer.");
        let mut rates = MetricFamily::gauge("cache_hit_rate", "Hits divided by hits and misses, 0 to 1.");
        let mut invalidations = MetricFamily::counter(
            "cache_invalidations",
            "Purges that reach a route of this name, whoever sent them.",
        );
        for route in self.routes.iter().filter(|route| route.is_configured) {
            let labels = || vec![("namespace", route.name.to_string())];
            invalidations.push(labels(), route.invalidations as f64);
            if route.caches {
                hits.push(labels(), route.hits() as f64);
                misses.push(labels(), route.misses() as f64);
                rates.push(labels(), hit_rate(route.hits(), route.misses()).unwrap_or_default());
            }
        }
        vec![hits, misses, rates, invalidations]
    }

    fn route_families(&self) -> Vec<MetricFamily> {
        let help = "Requests answered, by outcome and status class.";
        let mut requests = MetricFamily::counter("larder_requests", help);
        let help = "Requests forwarded or collapsed, by reason (RFC 9211).";
        let mut forwarded = MetricFamily::counter("larder_forwarded", help);
        let help = "Requests that shared another request's fetch.";
        let mut collapsed = MetricFamily::counter("larder_collapsed", help);
        let help = "Requests over the rate of their route, refused or only observed.";
        let mut over_rate = MetricFamily::counter("larder_over_rate", help);
        let help = "Time from the request head to the response head, by the response's source.";
        let mut seconds = MetricFamily::histogram("larder_request_seconds", help);
        for route in &self.routes {
            collapsed.push_if_any(route_labels(route, &[]), route.collapsed());
            for (result, count) in OVER_RATE_RESULTS.iter().zip(route.over_rate) {
                over_rate.push_if_any(route_labels(route, &[("result", result)]), count);
            }
            for (classes, outcome) in route.requests.iter().zip(REQUEST_OUTCOMES) {
                for (class, count) in classes.iter().enumerate() {
                    let class = labels::status_class_name(class);
                    let labels = route_labels(route, &[("outcome", outcome), ("status_class", &class)]);
                    requests.push_if_any(labels, *count);
                }
            }
            for (fwd, reason, count) in route.forward_reasons() {
                let labels = route_labels(route, &[("fwd", fwd), ("reason", reason)]);
                forwarded.push_if_any(labels, count);
            }
            for (from, latencies) in [
                ("store", route.from_store),
                ("upstream", route.from_upstream),
                ("larder", route.from_larder),
            ] {
                seconds.push_histogram(route_labels(route, &[("from", from)]), latencies);
            }
        }
        vec![requests, forwarded, collapsed, over_rate, seconds]
    }

    fn fill_families(&self) -> Vec<MetricFamily> {
        let mut fills = MetricFamily::counter("larder_fills", "Responses stored.");
        let mut bytes = MetricFamily::counter("larder_filled_bytes", "Total bytes of the responses stored.");
        let mut not_stored = MetricFamily::counter("larder_not_stored", "Responses not stored, by reason.");
        for route in &self.routes {
            fills.push_if_any(route_labels(route, &[]), route.fills);
            bytes.push_if_any(route_labels(route, &[]), route.filled_bytes);
            for (reason, count) in route.not_stored_reasons() {
                not_stored.push_if_any(route_labels(route, &[("reason", reason)]), count);
            }
        }
        vec![fills, bytes, not_stored]
    }

    fn purge_families(&self) -> Vec<MetricFamily> {
        let mut purges = MetricFamily::counter("larder_purges", "Purges acknowledged.");
        let mut targets = MetricFamily::counter("larder_purged_targets", "Targets of acknowledged purges.");
        let mut failed = MetricFamily::counter("larder_purges_failed", "Purges that the store rejected.");
        for (source, counts) in &self.purges {
            let labels = || vec![("source", source.as_str().to_string())];
            purges.push(labels(), counts.purges as f64);
            targets.push(labels(), counts.targets as f64);
            failed.push(labels(), counts.failed as f64);
        }
        let mut awaited = MetricFamily::counter(
            "larder_purges_awaited",
            "Purges whose sender waited for all replicas, by result.",
        );
        for (result, count) in ["applied", "missing"].iter().zip(self.awaited) {
            awaited.push_if_any(vec![("result", (*result).to_string())], count);
        }
        let help = "Tag templates of writes without a value, which were widened.";
        let widened = MetricFamily::counter("larder_widened", help).with_value(self.widened);
        let help = "Writes whose sender's budget was used up, and which left no doubt or were not widened.";
        let over =
            MetricFamily::counter("larder_writes_over_budget", help).with_value(self.writes_over_budget);
        let help = "Request fields that `underscores` dropped from writes.";
        let dropped =
            MetricFamily::counter("larder_write_fields_dropped", help).with_value(self.write_fields_dropped);
        let help = "Merges of the parts of a response (`overlay`).";
        let merges = MetricFamily::counter("larder_overlay_merges", help).with_value(self.merges);
        vec![purges, targets, failed, awaited, widened, over, dropped, merges]
    }

    fn background_families(&self) -> Vec<MetricFamily> {
        let help = "Background requests by kind and result.";
        let mut requests = MetricFamily::counter("larder_background_requests", help);
        for (kind, result, count) in &self.background {
            let labels = vec![("kind", kind.as_str().to_owned()), ("result", (*result).to_owned())];
            requests.push_if_any(labels, *count);
        }
        let warm_runs = MetricFamily::counter("larder_warm_runs", "Finished runs of `warm` entries.");
        let help = "Fresh responses refreshed before they expired.";
        let ahead = MetricFamily::counter("larder_refreshed_ahead", help);
        vec![requests, warm_runs.with_value(self.warm_runs), ahead.with_value(self.refreshed_ahead)]
    }

    fn config_families(&self) -> Vec<MetricFamily> {
        let config = &self.config;
        let mut reloads = MetricFamily::counter("larder_config_reloads", "Configuration reloads by result.");
        reloads.push(vec![("result", "used".to_string())], config.reloads as f64);
        reloads.push(vec![("result", "refused".to_string())], config.reloads_rejected as f64);
        let help = "Expiry of a listener's certificate, in seconds since 1970.";
        let mut certificates = MetricFamily::gauge("larder_tls_certificate_expiry_seconds", help);
        for (file, expiry) in &config.certificates {
            certificates.push(vec![("cert", file.clone())], *expiry as f64);
        }
        let help = "Keys that verify the tokens of an entry of `callers`; with 0 its callers have no hits.";
        let mut keys = MetricFamily::gauge("larder_caller_keys", help);
        let help = "0 if the keys of an entry of `callers` could not be read or fetched the last time.";
        let mut keys_up = MetricFamily::gauge("larder_caller_keys_up", help);
        for (callers, count, is_up) in &config.caller_keys {
            let labels = || vec![("callers", callers.to_string())];
            keys.push(labels(), *count as f64);
            keys_up.push(labels(), f64::from(u8::from(*is_up)));
        }
        let help = "1 if the configuration file is in use, 0 if its last change was rejected.";
        let in_use = MetricFamily::gauge("larder_config_in_use", help);
        let help = "Time the configuration in use was loaded, in seconds since 1970.";
        let loaded = MetricFamily::gauge("larder_config_loaded_seconds", help);
        let in_use = in_use.with_value(u64::from(config.is_in_use));
        let help = "1 if the configuration file has changes that take effect only after a restart.";
        let restart = MetricFamily::gauge("larder_config_needs_restart", help);
        let restart = restart.with_value(u64::from(config.needs_restart));
        vec![reloads, certificates, keys, keys_up, in_use, restart, loaded.with_value(config.loaded_at)]
    }

    fn upstream_families(&self) -> Vec<MetricFamily> {
        let help = "Failed upstream requests, by reason.";
        let mut failures = MetricFamily::counter("larder_upstream_failures", help);
        for (reason, count) in &self.upstream_failures {
            failures.push_if_any(vec![("reason", reason.to_string())], *count);
        }
        let help = "Responses of the upstream, by status class.";
        let mut responses = MetricFamily::counter("larder_upstream_responses", help);
        for (class, count) in self.upstream_responses.iter().enumerate() {
            responses.push_if_any(vec![("status_class", labels::status_class_name(class))], *count);
        }
        let waits = &self.upstream_waits;
        let help = "Requests that wait for the upstream's response head.";
        let waiting = MetricFamily::gauge("larder_upstream_waiting", help).with_value(waits.waiting);
        let help = "How long the oldest request has waited for the upstream's response head.";
        let mut oldest = MetricFamily::gauge("larder_upstream_oldest_wait_seconds", help);
        oldest.push(Vec::new(), waits.oldest.unwrap_or_default().as_secs_f64());
        let help = "1 while the upstream circuit breaker is open.";
        let breaker = MetricFamily::gauge("larder_upstream_breaker_open", help);
        let help = "0 if the last request to this instance of the upstream failed.";
        let mut up = MetricFamily::gauge("larder_upstream_up", help);
        for (url, is_up) in &self.upstream_health.instances {
            up.push(vec![("upstream", url.clone())], f64::from(u8::from(*is_up)));
        }
        let help = "Time from the last byte of a request to the upstream's response head.";
        let mut seconds = MetricFamily::histogram("larder_upstream_seconds", help);
        seconds.push_histogram(Vec::new(), self.upstream_latencies);
        let help = "How far the upstream's clock is behind, by the Date of its last response.";
        let mut lag = MetricFamily::gauge("larder_upstream_clock_lag_seconds", help);
        lag.push(Vec::new(), self.upstream_clock_lag as f64);
        let breaker = breaker.with_value(u64::from(self.upstream_health.is_breaker_open));
        vec![failures, responses, waiting, oldest, breaker, up, seconds, lag]
    }

    fn process_families(&self) -> Vec<MetricFamily> {
        let mut dropped = MetricFamily::counter(
            "larder_log_lines_dropped",
            "Log lines dropped because they could not be written.",
        );
        for (log, lines) in [("log", &log_writer::LOG_DROPPED), ("access", &log_writer::ACCESS_LOG_DROPPED)] {
            dropped.push(vec![("log", log.to_string())], lines.count() as f64);
        }
        let mut refused = MetricFamily::counter(
            "larder_connections_refused",
            "Connections refused before HTTP: invalid PROXY protocol header or TLS handshake, or too many of one client.",
        );
        for (by, count) in RefusedBy::ALL.iter().zip(self.connections_refused) {
            refused.push(vec![("by", by.as_str().to_string())], count as f64);
        }
        let mut build = MetricFamily::gauge("larder_build_info", "Always 1; the label holds the version.");
        build.push(vec![("version", env!("CARGO_PKG_VERSION").to_string())], 1.0);
        vec![
            MetricFamily::gauge("larder_connections", "Open client connections.")
                .with_value(self.connections),
            MetricFamily::gauge("larder_followers", "Requests that wait for another request's fetch.")
                .with_value(self.followers),
            MetricFamily::counter("larder_accepts_failed", "Failed accepts.").with_value(self.accepts_failed),
            refused,
            dropped,
            build,
            MetricFamily::gauge("larder_memory_allocated_bytes", "Memory allocated by the program.")
                .with_value(self.memory.allocated),
            MetricFamily::gauge("larder_memory_resident_bytes", "Resident memory.")
                .with_value(self.memory.resident),
        ]
    }

    fn worker_families(&self) -> Vec<MetricFamily> {
        let help = "Seconds a worker's heartbeat is overdue.";
        let mut stalled = MetricFamily::gauge("larder_worker_stalled_seconds", help);
        for (number, overdue) in &self.workers_overdue {
            stalled.push(vec![("worker", number.to_string())], overdue.as_secs_f64());
        }
        let help = "Times a worker thread was blocked for more than a second.";
        vec![stalled, MetricFamily::counter("larder_worker_stalls", help).with_value(self.worker_stalls)]
    }
}

fn store_families(stats: &StoreStats) -> Vec<MetricFamily> {
    vec![
        MetricFamily::gauge("larder_stored_entries", "Responses in this replica's memory.")
            .with_value(stats.entries),
        MetricFamily::gauge("larder_stored_bytes", "Bytes they use.").with_value(stats.bytes),
        MetricFamily::gauge("larder_store_capacity_bytes", "Limit of these bytes (`store.memory`).")
            .with_value(stats.capacity),
        MetricFamily::counter("larder_evicted", "Responses evicted to make room.").with_value(stats.evicted),
        MetricFamily::gauge("larder_purge_records", "Purge records in the index.")
            .with_value(stats.purge_records),
        MetricFamily::gauge("larder_request_memory_bytes", "Heads and contents of requests that are held.")
            .with_value(stats.request_bytes),
        MetricFamily::counter("larder_memory_refusals", "Times a client found no room in the memory budget.")
            .with_value(stats.memory_refusals),
    ]
}

fn route_labels(route: &RouteSnapshot, more: &[(&'static str, &str)]) -> Labels {
    let more = more.iter().map(|(name, value)| (*name, value.to_string()));
    std::iter::once(("route", route.name.to_string())).chain(more).collect()
}
