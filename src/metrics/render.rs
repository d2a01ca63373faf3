//! `/metrics`: every name, what it means, and where its figures come from.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::exposition::{Exposition, Family, Labels};
use super::labels::{FWDS, NOT_STORED, OUTCOMES, REASONS, SOURCES, STATUS_CLASSES};
use super::snapshot::rate;
use super::{Memory, Metrics, Namespace, Refused, labels, of_redis};
use crate::clock::Moment;
use crate::lines;
use crate::store::Figures;
use crate::store::remote::Remote;

/// The media type of what [`Metrics::render`] writes; Prometheus reads it as well as its own older format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    /// Prometheus text format (OpenMetrics 1.0); `figures` are the store's, `remote` is the server
    /// that it shares with other replicas.
    pub fn render(&self, figures: &Figures, remote: Option<&Remote>) -> String {
        let mut families = self.of_namespaces();
        families.extend(self.of_routes());
        families.extend(self.of_fills());
        families.extend(self.of_purges());
        families.extend(self.of_background());
        families.extend(of_store(figures));
        families.extend(remote.into_iter().flat_map(of_redis::families));
        families.extend(self.of_process());
        families.extend(self.of_workers());
        families.extend(self.of_configuration());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Exposition(families)));
        let help = "From the last byte of a request to the upstream's header section";
        registry.register("larder_upstream_seconds", help, self.all.upstream_seconds.clone());
        let mut written = String::new();
        match text::encode(&mut written, &registry) {
            Ok(()) => written,
            // Writing to a string does not fail; should it, no metrics are better than half of them.
            Err(_) => String::new(),
        }
    }

    /// By `namespace`, without a prefix: the names that dashboards for caches in an application use already.
    fn of_namespaces(&self) -> Vec<Family> {
        let mut hits = Family::counter("cache_hits", "Requests answered from the store.");
        let mut misses = Family::counter("cache_misses", "Requests that a stored response could not answer.");
        let mut rates = Family::gauge("cache_hit_rate", "Hits of hits and misses, 0 to 1.");
        let mut invalidations = Family::counter(
            "cache_invalidations",
            "Writes that came in on a route of this name, and purged, whatever they purged.",
        );
        for namespace in self.namespaces.iter().filter(|namespace| namespace.configured) {
            let labels = || vec![("namespace", namespace.name.to_string())];
            invalidations.push(labels(), namespace.counts.invalidations.get() as f64);
            if !namespace.ttls.is_empty() {
                let (hit, miss) = (namespace.hits(), namespace.misses());
                hits.push(labels(), hit as f64);
                misses.push(labels(), miss as f64);
                rates.push(labels(), rate(hit, miss));
            }
        }
        vec![hits, misses, rates, invalidations]
    }

    fn of_routes(&self) -> Vec<Family> {
        let mut requests = Family::counter("larder_requests", "Requests answered.");
        let mut forwarded = Family::counter(
            "larder_forwarded",
            "Requests that went to the upstream or waited for one, and why.",
        );
        let mut collapsed = Family::counter(
            "larder_collapsed",
            "Requests answered by another request's way to the upstream.",
        );
        for namespace in &self.namespaces {
            collapsed.push_if_any(route(namespace, &[]), namespace.collapsed());
            for (outcome, class) in pairs(OUTCOMES.len(), STATUS_CLASSES) {
                let class_name = labels::status_class_name(class);
                let labels =
                    route(namespace, &[("outcome", OUTCOMES[outcome]), ("status_class", &class_name)]);
                requests.push_if_any(labels, namespace.counts.requests.get(outcome, class));
            }
            for (fwd, reason) in pairs(FWDS.len(), REASONS.len() + 1) {
                let labels =
                    route(namespace, &[("fwd", FWDS[fwd].1), ("reason", labels::reason_name(reason))]);
                forwarded.push_if_any(labels, namespace.counts.forwarded.get(fwd, reason));
            }
        }
        vec![requests, forwarded, collapsed, self.of_latencies()]
    }

    fn of_latencies(&self) -> Family {
        let help = "From a request's header section to its response's, by where the response came from.";
        let mut seconds = Family::histogram("larder_request_seconds", help);
        for namespace in &self.namespaces {
            let counts = &namespace.counts;
            seconds.push_latencies(route(namespace, &[("from", "store")]), counts.from_store.so_far());
            seconds.push_latencies(route(namespace, &[("from", "upstream")]), counts.from_upstream.so_far());
        }
        seconds
    }

    fn of_fills(&self) -> Vec<Family> {
        let mut fills = Family::counter("larder_fills", "Responses stored.");
        let mut bytes = Family::counter("larder_filled_bytes", "Bytes of the responses stored.");
        let mut not_stored = Family::counter("larder_not_stored", "Responses not stored, and why.");
        for namespace in &self.namespaces {
            fills.push_if_any(route(namespace, &[]), namespace.counts.stored.get());
            bytes.push_if_any(route(namespace, &[]), namespace.counts.stored_bytes.get());
            for slot in 0..=NOT_STORED.len() {
                let reason = NOT_STORED.get(slot).map_or(labels::OTHER, |reason| reason.as_str());
                not_stored.push_if_any(
                    route(namespace, &[("reason", reason)]),
                    namespace.counts.not_stored.get(0, slot),
                );
            }
        }
        vec![fills, bytes, not_stored]
    }

    fn of_purges(&self) -> Vec<Family> {
        let mut purges = Family::counter("larder_purges", "Purges acknowledged.");
        let mut targets = Family::counter("larder_purged_targets", "Targets that purges named.");
        let mut failed = Family::counter("larder_purges_failed", "Purges that the store did not take.");
        for (source, counts) in SOURCES.iter().zip(&self.all.purges) {
            let labels = || vec![("source", source.as_str().to_string())];
            purges.push(labels(), counts.purges.get() as f64);
            targets.push(labels(), counts.targets.get() as f64);
            failed.push(labels(), counts.failed.get() as f64);
        }
        let mut awaited =
            Family::counter("larder_purges_awaited", "Purges that waited until every replica knows them.");
        for (result, count) in ["applied", "missing"].iter().zip(&self.all.awaited) {
            awaited.push_if_any(vec![("result", (*result).to_string())], count.get());
        }
        let help = "Tag templates of writes that found no value, so that more was purged.";
        vec![
            purges,
            targets,
            failed,
            awaited,
            Family::counter("larder_widened", help).with(self.all.widened.get()),
        ]
    }

    fn of_configuration(&self) -> Vec<Family> {
        let mut reloads = Family::counter("larder_config_reloads", "Changes of the configuration.");
        reloads.push(vec![("result", "used".to_string())], self.all.reloads.get() as f64);
        reloads.push(vec![("result", "refused".to_string())], self.all.reloads_refused.get() as f64);
        let refused = self.all.refused.load(Ordering::Relaxed);
        let mut certificates = Family::gauge(
            "larder_tls_certificate_expiry_seconds",
            "When a certificate of a listener ends, in seconds since 1970.",
        );
        for (file, end) in self.all.certificates.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            certificates.push(vec![("cert", file.clone())], *end as f64);
        }
        vec![
            reloads,
            certificates,
            Family::gauge("larder_config_in_use", "1 if the file is what is in use, 0 if it was refused.")
                .with(u64::from(!refused)),
            Family::gauge("larder_config_loaded_seconds", "When the configuration in use was read.")
                .with(self.all.loaded_at.load(Ordering::Relaxed)),
        ]
    }

    fn of_process(&self) -> Vec<Family> {
        let mut failures = Family::counter("larder_upstream_failures", "Requests that the upstream failed.");
        for (reason, count) in self.failures().iter() {
            failures.push_if_any(vec![("reason", reason.to_string())], *count);
        }
        let mut dropped = Family::counter(
            "larder_log_lines_dropped",
            "Lines of the log and of the access log that could not be written.",
        );
        for (log, lines) in [("log", &lines::LOG), ("access", &lines::ACCESS)] {
            dropped.push(vec![("log", log.to_string())], lines.count() as f64);
        }
        let mut refused = Family::counter(
            "larder_connections_refused",
            "Connections that ended before HTTP: without a valid PROXY protocol header or TLS handshake.",
        );
        for by in Refused::ALL {
            let count = self.all.connections_refused[by as usize].get();
            refused.push(vec![("by", by.as_str().to_string())], count as f64);
        }
        let connections = self.all.connections.load(Ordering::Relaxed);
        let connections = u64::try_from(connections).unwrap_or_default();
        let mut build = Family::gauge("larder_build_info", "Always 1; the version is in the label.");
        build.push(vec![("version", env!("CARGO_PKG_VERSION").to_string())], 1.0);
        let memory = Memory::now();
        vec![
            failures,
            Family::gauge("larder_connections", "Open connections of clients.").with(connections),
            Family::counter("larder_accepts_failed", "Connections that could not be accepted.")
                .with(self.all.accepts_failed.get()),
            refused,
            dropped,
            build,
            Family::gauge("larder_memory_allocated_bytes", "Memory in use.").with(memory.allocated),
            Family::gauge("larder_memory_resident_bytes", "Memory held from the system.")
                .with(memory.resident),
        ]
    }

    fn of_workers(&self) -> Vec<Family> {
        let help = "For how long a worker's thread has stood still.";
        let mut stalled = Family::gauge("larder_worker_stalled_seconds", help);
        for (number, overdue) in self.all.heartbeats.overdue(Moment::now()) {
            stalled.push(vec![("worker", number.to_string())], overdue.as_secs_f64());
        }
        let help = "How often a worker's thread stood still for more than a second.";
        vec![stalled, Family::counter("larder_worker_stalls", help).with(self.all.heartbeats.stalls())]
    }
}

fn of_store(figures: &Figures) -> Vec<Family> {
    vec![
        Family::gauge("larder_stored_entries", "Responses in the store.").with(figures.entries),
        Family::gauge("larder_stored_bytes", "Bytes that they take.").with(figures.bytes),
        Family::gauge("larder_store_capacity_bytes", "Bytes that they may take.").with(figures.capacity),
        Family::counter("larder_evicted", "Responses removed to make room.").with(figures.evicted),
        Family::gauge("larder_purge_records", "Purges that the index remembers.").with(figures.purge_records),
    ]
}

fn route(namespace: &Namespace, more: &[(&'static str, &str)]) -> Labels {
    let more = more.iter().map(|(name, value)| (*name, value.to_string()));
    std::iter::once(("route", namespace.name.to_string())).chain(more).collect()
}

fn pairs(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
}
