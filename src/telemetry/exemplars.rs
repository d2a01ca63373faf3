//! Exemplars: for each route, the latest traced request in each bucket of its latencies.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::{ExemplarKey, SpanContext};
use crate::clock::Timestamp;
use crate::metrics::LatencySnapshot;

/// Most routes with exemplars. They are those of the configuration, so only thousands of them reach it.
const MAX_ROUTES: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exemplar {
    pub seconds: f64,
    pub context: SpanContext,
    pub at: Timestamp,
}

/// By route and source, as the labels of the histogram have them.
#[derive(Default)]
pub(super) struct Exemplars(Mutex<HashMap<String, HashMap<&'static str, Buckets>>>);

/// One exemplar for each bucket.
type Buckets = Vec<Option<Exemplar>>;

impl Exemplars {
    pub(super) fn record(
        &self,
        ExemplarKey { route, from }: ExemplarKey<'_>,
        seconds: f64,
        context: SpanContext,
        at: Timestamp,
    ) {
        let empty = LatencySnapshot::default();
        let Some(slot) = empty.buckets().position(|(bound, _)| seconds <= bound) else { return };
        let mut all = self.0.lock();
        if !all.contains_key(route) {
            if all.len() >= MAX_ROUTES {
                return;
            }
            all.insert(route.to_owned(), HashMap::new());
        }
        let Some(histograms) = all.get_mut(route) else { return };
        let buckets = histograms.entry(from).or_insert_with(|| vec![None; empty.buckets().count()]);
        buckets[slot] = Some(Exemplar { seconds, context, at });
    }

    pub(super) fn find(&self, route: &str, from: &str) -> Vec<Exemplar> {
        let all = self.0.lock();
        let buckets = all.get(route).and_then(|histograms| histograms.get(from));
        buckets.map(|buckets| buckets.iter().flatten().copied().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_bucket_is_kept() {
        let exemplars = Exemplars::default();
        let context = |trace| SpanContext { trace, span_id: 1, parent: None, is_remote: false };
        let key = ExemplarKey { route: "a", from: "store" };
        for (seconds, trace) in [(0.3, 1), (0.000_2, 2), (0.4, 3), (1_000.0, 4)] {
            exemplars.record(key, seconds, context(trace), Timestamp::from_secs(1));
        }
        let traces: Vec<_> = exemplars.find("a", "store").iter().map(|one| one.context.trace).collect();
        assert_eq!(traces, [2, 3, 4]);
        assert_eq!(exemplars.find("a", "upstream"), []);
        for number in 0..2 * MAX_ROUTES {
            let route = number.to_string();
            exemplars.record(
                ExemplarKey { route: &route, from: "store" },
                0.1,
                context(1),
                Timestamp::from_secs(1),
            );
        }
        assert_eq!(exemplars.0.lock().len(), MAX_ROUTES);
    }
}
