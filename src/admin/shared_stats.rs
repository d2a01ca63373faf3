//! `GET /stats?scope=all`: the counters of all replicas, added up, and `GET /sizes?scope=all`: their most used paths. Each
//! replica reports its own through the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::query::query_pairs;
use super::sizes::{Sizes, SortBy};
use super::stats::round_percent;
use super::{AdminError, AdminState};
use crate::clock::Moment;
use crate::metrics::hit_rate;
use crate::store::StatsReports;

/// Between reports. Redis forgets those of a replica that has ended soon after.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Larger reports, of hundreds of routes, are told without paths, then without latencies, and then without routes.
const MAX_REPORT_BYTES: usize = 64 * 1024;

/// The most used paths in a report, and how often they are counted anew, which takes a look at thousands of entries.
const MAX_REPORTED_PATHS: usize = 50;
const PATHS_INTERVAL: Duration = Duration::from_secs(30);

const QUERY_USAGE: &str = "write `?scope=all`, or nothing for this replica alone";

/// Reports this replica's counters until the runtime ends; returns at once if the store is not shared.
pub(crate) async fn report_stats(state: Arc<ArcSwap<AdminState>>) {
    if state.load().store.remote_status().is_none() {
        return;
    }
    let mut paths = ReportedPaths::default();
    loop {
        let state = state.load_full();
        let mut stats = state.stats_value();
        stats["paths"] = paths.refresh(&state).await;
        if let Err(error) = state.store.report_stats(encode_report(stats)).await {
            tracing::debug!(%error, "counters not reported to the other replicas");
        }
        tokio::time::sleep(REPORT_INTERVAL).await;
    }
}

/// The most used paths as they were counted last.
#[derive(Default)]
struct ReportedPaths {
    counted_at: Option<Moment>,
    paths: Value,
}

impl ReportedPaths {
    /// None if values in Redis are encrypted: whoever reads there is to learn nothing of them.
    async fn refresh(&mut self, state: &AdminState) -> Value {
        if state.config.store.encrypt.is_some() {
            return Value::Null;
        }
        let is_empty = self.paths.as_object().is_none_or(Map::is_empty);
        if is_empty || self.counted_at.is_none_or(|counted| Moment::now().since(counted) >= PATHS_INTERVAL) {
            self.counted_at = Some(Moment::now());
            let counted = state.measure_sizes(MAX_REPORTED_PATHS, SortBy::Uses).await;
            self.paths = counted.map_or(Value::Null, |sizes| {
                sizes.paths.iter().map(|path| (path.name.clone(), json!(path.uses))).collect()
            });
        }
        self.paths.clone()
    }
}

fn encode_report(mut stats: Value) -> Bytes {
    let reductions: [fn(&mut Value); 4] = [
        |_| {},
        |stats| stats["paths"] = Value::Null,
        |stats| remove_latencies(&mut stats["routes"]),
        |stats| stats["routes"] = json!({}),
    ];
    let mut report = String::new();
    for reduce in reductions {
        reduce(&mut stats);
        report = stats.to_string();
        if report.len() <= MAX_REPORT_BYTES {
            break;
        }
    }
    report.into()
}

fn remove_latencies(routes: &mut Value) {
    let routes = routes.as_object_mut().into_iter().flat_map(Map::values_mut);
    for route in routes.filter_map(Value::as_object_mut) {
        route.remove("fromStore");
        route.remove("fromUpstream");
    }
}

/// Whether all replicas are asked for.
pub(super) fn parse_scope(query: Option<&str>) -> Result<bool, AdminError> {
    let mut is_all = false;
    for (name, value) in query_pairs(query)? {
        is_all = match (name.as_str(), value.as_str()) {
            ("scope", "all") => true,
            ("scope", "replica") => false,
            _ => {
                let message = format!("invalid parameter `{name}={value}`");
                return Err(AdminError::bad_request(message, QUERY_USAGE));
            }
        };
    }
    Ok(is_all)
}

/// Adds the reports of the others to this replica's counters. Times to live and the state are this replica's.
pub(super) fn add_reports(mut own: Value, reports: &StatsReports) -> Value {
    let mut replicas = vec![summary(&reports.own_name, &own)];
    let mut missing = Vec::new();
    for (other, report) in &reports.others {
        match report.as_ref().and_then(|report| serde_json::from_slice::<Value>(report).ok()) {
            Some(report) => {
                add_counters(&mut own["stats"], &report["stats"]);
                add_routes(&mut own["routes"], &report["routes"]);
                add_counters(&mut own["unrouted"], &report["unrouted"]);
                replicas.push(summary(other, &report));
            }
            None => missing.push(other.as_str()),
        }
    }
    let count = |name: &str| own["stats"][name].as_u64().unwrap_or_default();
    let rate = hit_rate(count("hits"), count("misses")).unwrap_or_default();
    own["stats"]["hitRate"] = round_percent(rate).into();
    own["missing"] = json!(missing);
    own["replicas"] = replicas.into();
    own
}

/// The most used paths of all replicas: this one's with those that the others have reported.
pub(super) fn add_paths(own: &Sizes, reports: &StatsReports, limit: usize) -> Value {
    let mut uses: HashMap<String, u64> =
        own.paths.iter().map(|path| (path.name.clone(), path.uses)).collect();
    let (mut replicas, mut missing) = (vec![reports.own_name.as_str()], Vec::new());
    for (other, report) in &reports.others {
        let report = report.as_ref().and_then(|report| serde_json::from_slice::<Value>(report).ok());
        match report.as_ref().and_then(|report| report["paths"].as_object()) {
            Some(paths) => {
                replicas.push(other);
                for (path, more) in paths {
                    let sum = uses.entry(path.clone()).or_default();
                    *sum = sum.saturating_add(more.as_u64().unwrap_or_default());
                }
            }
            None => missing.push(other.as_str()),
        }
    }
    let mut paths: Vec<(String, u64)> = uses.into_iter().collect();
    paths.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    paths.truncate(limit);
    let paths: Vec<Value> =
        paths.into_iter().map(|(name, uses)| json!({"name": name, "uses": uses})).collect();
    json!({"paths": paths, "replicas": replicas, "missing": missing})
}

fn summary(name: &str, stats: &Value) -> Value {
    let totals = &stats["stats"];
    json!({
        "name": name,
        "hits": totals["hits"],
        "misses": totals["misses"],
        "memoryUsed": totals["memoryUsed"],
        "timestamp": stats["timestamp"],
        "notes": stats["notes"],
    })
}

/// Adds whole numbers, except `ttlSeconds`, also within histograms.
fn add_counters(own: &mut Value, other: &Value) {
    let (Some(own), Some(other)) = (own.as_object_mut(), other.as_object()) else { return };
    for (name, value) in own.iter_mut().filter(|(name, _)| *name != "ttlSeconds") {
        let Some(more) = other.get(name) else { continue };
        if name == "buckets" {
            add_buckets(value, more);
        } else if value.is_object() {
            add_counters(value, more);
        } else if let (Some(one), Some(more)) = (value.as_u64(), more.as_u64()) {
            *value = one.saturating_add(more).into();
        }
    }
}

/// Empty buckets are left out, here or there.
fn add_buckets(own: &mut Value, other: &Value) {
    let (Some(own), Some(other)) = (own.as_object_mut(), other.as_object()) else { return };
    for (bound, more) in other.iter().filter_map(|(bound, more)| Some((bound, more.as_u64()?))) {
        let sum = own.get(bound).and_then(Value::as_u64).unwrap_or_default().saturating_add(more);
        own.insert(bound.clone(), sum.into());
    }
}

/// Routes that this replica lacks are those of another configuration.
fn add_routes(own: &mut Value, other: &Value) {
    let empty = Map::new();
    for (name, route) in other.as_object().unwrap_or(&empty) {
        match own.get_mut(name) {
            Some(own) => add_counters(own, route),
            None => own[name] = route.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(hits: u64, misses: u64, route: &str) -> Value {
        json!({
            "stats": {"hits": hits, "misses": misses, "hitRate": 0.0, "memoryUsed": 100},
            "routes": {route: {
                "hits": hits, "ttlSeconds": 60, "fromStore": {"micros": 10, "buckets": {hits.to_string(): hits, "7": 1}},
            }},
            "unrouted": {"requests": hits},
            "notes": [misses],
            "status": "ok",
            "timestamp": "2026-11-20T10:00:00.000Z",
        })
    }

    #[test]
    fn counters_are_added_and_the_rate_follows() {
        let other = |name: &str, report: Option<Value>| {
            (name.to_owned(), report.map(|report| Bytes::from(report.to_string())))
        };
        let others = vec![
            other("two", Some(report(1, 2, "a"))),
            other("three", Some(report(5, 0, "b"))),
            other("four", None),
            ("five".to_owned(), Some(Bytes::from_static(b"{"))),
        ];
        let reports = StatsReports { own_name: "one".to_owned(), others };
        let all = add_reports(report(4, 3, "a"), &reports);
        assert_eq!((&all["stats"]["hits"], &all["stats"]["misses"]), (&json!(10), &json!(5)));
        assert_eq!((&all["stats"]["hitRate"], &all["stats"]["memoryUsed"]), (&json!(66.67), &json!(300)));
        let latencies = json!({"micros": 20, "buckets": {"1": 1, "4": 4, "7": 2}});
        assert_eq!(all["routes"]["a"], json!({"hits": 5, "ttlSeconds": 60, "fromStore": latencies}));
        assert_eq!((&all["unrouted"]["requests"], &all["notes"]), (&json!(10), &json!([3])));
        assert_eq!(all["replicas"][1]["notes"], json!([2]));
        assert_eq!(all["routes"]["b"]["hits"], 5);
        let names: Vec<_> = all["replicas"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert_eq!(names, ["one", "two", "three"]);
        assert_eq!(all["missing"], json!(["four", "five"]));
    }

    #[test]
    fn a_report_is_bounded() {
        let mut stats = report(1, 2, "a");
        let latencies = json!({"micros": 1_000_000, "buckets": {"0.00025": 1_000_000}});
        let route = json!({"hits": 1, "fromStore": latencies, "fromUpstream": latencies});
        let mut encoded = |routes: usize| -> Value {
            stats["routes"] = (0..routes).map(|number| (format!("route-{number}"), route.clone())).collect();
            let report = encode_report(stats.clone());
            assert!(report.len() <= MAX_REPORT_BYTES);
            serde_json::from_slice(&report).unwrap()
        };
        assert_eq!(encoded(100)["routes"]["route-7"], route);
        assert_eq!(encoded(1000)["routes"]["route-7"], json!({"hits": 1}));
        let report = encoded(5000);
        assert_eq!((&report["stats"]["hits"], &report["routes"]), (&json!(1), &json!({})));
    }

    #[test]
    fn the_scope_is_checked() {
        assert!(!parse_scope(None).unwrap() && parse_scope(Some("scope=all")).unwrap());
        assert!(parse_scope(Some("scope=some")).is_err() && parse_scope(Some("x=all")).is_err());
    }
}
