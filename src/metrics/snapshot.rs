//! The figures of each namespace, for `GET /stats`.

use std::collections::BTreeMap;

use super::{Metrics, Namespace};
use crate::policy::route::Ttl;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub hits: u64,
    pub misses: u64,
    /// By the name of the routes.
    pub namespaces: BTreeMap<String, NamespaceFigures>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NamespaceFigures {
    pub hits: u64,
    pub misses: u64,
    pub invalidations: u64,
    /// Of the routes of this name that cache; `None` where there is none: until purged, only what the response says,
    /// nothing cached, or routes that differ.
    pub ttl_seconds: Option<f64>,
}

impl Metrics {
    pub fn snapshot(&self) -> Snapshot {
        let namespaces = self.namespaces.iter().filter(|namespace| namespace.configured);
        let namespaces: BTreeMap<_, _> =
            namespaces.map(|namespace| (namespace.name.to_string(), namespace.figures())).collect();
        Snapshot {
            hits: namespaces.values().map(|figures| figures.hits).sum(),
            misses: namespaces.values().map(|figures| figures.misses).sum(),
            namespaces,
        }
    }
}

impl Snapshot {
    /// In percent; zero before the first request.
    pub fn hit_rate(&self) -> f64 {
        rate(self.hits, self.misses) * 100.0
    }
}

impl Namespace {
    pub(super) fn figures(&self) -> NamespaceFigures {
        NamespaceFigures {
            hits: self.hits(),
            misses: self.misses(),
            invalidations: self.counts.invalidations.get(),
            ttl_seconds: self.ttl_seconds(),
        }
    }

    fn ttl_seconds(&self) -> Option<f64> {
        match self.ttls.split_first() {
            Some((Ttl::For(ttl), rest)) if rest.iter().all(|other| *other == Ttl::For(*ttl)) => {
                Some(ttl.as_secs_f64())
            }
            _ => None,
        }
    }
}

/// Hits of all that could have been hits, 0 to 1; zero where there were none.
pub(super) fn rate(hits: u64, misses: u64) -> f64 {
    match hits + misses {
        0 => 0.0,
        all => hits as f64 / all as f64,
    }
}
