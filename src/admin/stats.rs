//! `GET /stats`: the names that a dashboard for a cache expects.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Number;

use crate::clock::Timestamp;
use crate::metrics::Snapshot;
use crate::store::Figures;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    stats: Totals,
    status: &'static str,
    timestamp: String,
    routes: BTreeMap<String, OfRoute>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    hits: u64,
    misses: u64,
    /// In percent, to two places.
    hit_rate: f64,
    memory_used: u64,
    evicted_keys: u64,
    key_count: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfRoute {
    hits: u64,
    misses: u64,
    invalidations: u64,
    ttl_seconds: Option<Number>,
}

impl Stats {
    pub fn new(status: &'static str, snapshot: Snapshot, figures: Figures, now: Timestamp) -> Self {
        let stats = Totals {
            hits: snapshot.hits,
            misses: snapshot.misses,
            hit_rate: (snapshot.hit_rate() * 100.0).round() / 100.0,
            memory_used: figures.bytes,
            evicted_keys: figures.evicted,
            key_count: figures.entries,
        };
        let routes = snapshot.namespaces.into_iter().map(|(name, figures)| {
            let ttl_seconds = figures.ttl_seconds.and_then(seconds);
            let (hits, misses, invalidations) = (figures.hits, figures.misses, figures.invalidations);
            (name, OfRoute { hits, misses, invalidations, ttl_seconds })
        });
        Self { stats, status, timestamp: rfc3339(now), routes: routes.collect() }
    }
}

/// Whole seconds without a fraction: `60`, and `0.25`.
fn seconds(seconds: f64) -> Option<Number> {
    if seconds.fract() == 0.0 { Some(Number::from(seconds as u64)) } else { Number::from_f64(seconds) }
}

/// RFC 3339, in UTC, to the millisecond: `2026-11-20T10:00:00.000Z`.
pub fn rfc3339(now: Timestamp) -> String {
    let (seconds, millis) = (now.as_secs(), now.as_micros() / 1000 % 1000);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a number of days after 1970-01-01. It counts from March, so that the leap day is a year's
/// last; 400 years have 146,097 days, and 719,468 days lie between 0000-03-01 and 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339() {
        for (micros, written) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000_000, "2000-03-01T00:00:00.000Z"),
            (1_709_251_199_001_000, "2024-02-29T23:59:59.001Z"),
            (1_795_170_645_678_000, "2026-11-20T10:30:45.678Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_micros(micros)), written);
        }
    }
}
