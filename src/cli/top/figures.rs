//! The counters of routes at several moments, and the figures that `larder top` makes of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::SortColumn;
use crate::metrics::{LatencyCounts, LatencySnapshot};

/// The time over which rates are taken. Replicas report to each other every 5 s.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// The shortest interval fills the window with fewer.
const MAX_SAMPLES: usize = 64;

/// The name of requests without a route.
const NO_ROUTE: &str = "(no route)";

/// The counters of one moment.
#[derive(Clone, Debug)]
pub(super) struct StatsSample {
    pub at: Instant,
    pub status: String,
    /// Their names; of one that shares with no other, the address.
    pub replicas: BTreeSet<String>,
    pub notes: Vec<String>,
    pub routes: BTreeMap<String, Counters>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    requests: u64,
    hits: u64,
    misses: u64,
    errors: u64,
    purges: u64,
    written_bytes: u64,
    from_store: LatencySnapshot,
    from_upstream: LatencySnapshot,
}

/// The samples of the last [`WINDOW`], the oldest first.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<StatsSample>);

/// The figures of one route.
#[derive(Clone, Debug)]
pub(super) struct Row {
    name: String,
    total: Counters,
    /// The counts of the window; since the start if there is one sample only.
    recent: Counters,
    /// The length of the window; `None` if there is one sample only.
    seconds: Option<f64>,
}

impl StatsSample {
    /// Reads the answer of `GET /stats` from this address.
    pub(super) fn from_stats(stats: &Value, at: Instant, address: &str) -> Self {
        let routes = stats["routes"].as_object().into_iter().flatten();
        let mut routes: BTreeMap<String, Counters> =
            routes.map(|(name, route)| (plain(name), Counters::from_stats(route))).collect();
        let unrouted = Counters::from_stats(&stats["unrouted"]);
        if unrouted.requests > 0 {
            routes.insert(NO_ROUTE.to_owned(), unrouted);
        }
        let replicas = stats["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut names: BTreeSet<String> =
            replicas.iter().filter_map(|replica| replica["name"].as_str()).map(plain).collect();
        names.remove("");
        if names.is_empty() {
            names.insert(plain(address));
        }
        Self {
            at,
            status: plain(stats["status"].as_str().unwrap_or("-")),
            replicas: names,
            notes: read_notes(stats, replicas),
            routes,
        }
    }
}

impl StatsSample {
    /// Adds the counters that another address has told, unless they are of replicas that are in here already. Returns
    /// whether they are not.
    pub(super) fn add(&mut self, address: &str, other: Self) -> bool {
        if !self.replicas.is_disjoint(&other.replicas) {
            return false;
        }
        if self.status == "ok" {
            self.status = other.status;
        }
        self.replicas.extend(other.replicas);
        self.notes.extend(other.notes.into_iter().map(|note| format!("{}: {note}", plain(address))));
        for (name, counters) in other.routes {
            let sum = self.routes.entry(name).or_default();
            *sum = sum.plus(&counters);
        }
        true
    }
}

/// The notices of the replica that was asked, and of the others by their names.
fn read_notes(stats: &Value, replicas: &[Value]) -> Vec<String> {
    fn texts(of: &Value) -> impl Iterator<Item = &str> {
        of["notes"].as_array().into_iter().flatten().filter_map(|note| note["text"].as_str())
    }
    let own = texts(stats).map(str::to_owned);
    let others = replicas.iter().skip(1).flat_map(|replica| {
        let name = replica["name"].as_str().unwrap_or("-");
        texts(replica).map(move |text| format!("{name}: {text}"))
    });
    let missing = stats["missing"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing = missing.map(|name| format!("{name} has not reported its counters"));
    own.chain(others).chain(missing).map(|note| plain(&note)).collect()
}

impl Counters {
    fn from_stats(route: &Value) -> Self {
        let count = |name: &str| route[name].as_u64().unwrap_or_default();
        let latencies = |name: &str| {
            let counts: LatencyCounts = serde_json::from_value(route[name].clone()).unwrap_or_default();
            LatencySnapshot::from(&counts)
        };
        Self {
            requests: count("requests"),
            hits: count("hits"),
            misses: count("misses"),
            errors: count("errors"),
            purges: count("invalidations"),
            written_bytes: count("filledBytes"),
            from_store: latencies("fromStore"),
            from_upstream: latencies("fromUpstream"),
        }
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            hits: self.hits.saturating_add(other.hits),
            misses: self.misses.saturating_add(other.misses),
            errors: self.errors.saturating_add(other.errors),
            purges: self.purges.saturating_add(other.purges),
            written_bytes: self.written_bytes.saturating_add(other.written_bytes),
            from_store: self.from_store.merge(&other.from_store),
            from_upstream: self.from_upstream.merge(&other.from_upstream),
        }
    }

    /// A replica that has restarted counts from zero.
    fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            hits: self.hits.saturating_sub(before.hits),
            misses: self.misses.saturating_sub(before.misses),
            errors: self.errors.saturating_sub(before.errors),
            purges: self.purges.saturating_sub(before.purges),
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
            from_store: self.from_store.since(&before.from_store),
            from_upstream: self.from_upstream.since(&before.from_upstream),
        }
    }

    fn hit_share(&self) -> Option<f64> {
        let looked_up = self.hits + self.misses;
        (looked_up > 0).then(|| self.hits as f64 / looked_up as f64)
    }
}

impl History {
    pub(super) fn push(&mut self, sample: StatsSample) {
        if self.0.back().is_some_and(|newest| newest.replicas != sample.replicas) {
            // The counters of others do not go on from these.
            self.0.clear();
        }
        let is_old = |old: &StatsSample| sample.at.saturating_duration_since(old.at) > WINDOW;
        // The one before the window stays: rates are then of all of it.
        while self.0.len() >= MAX_SAMPLES || self.0.get(1).is_some_and(is_old) {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    pub(super) fn notes(&self) -> &[String] {
        self.0.back().map(|newest| &*newest.notes).unwrap_or_default()
    }

    /// One line about all routes together.
    pub(super) fn summary(&self) -> String {
        let Some(newest) = self.0.back() else { return String::new() };
        let rows = self.unsorted_rows();
        let sum = |count: fn(&Row) -> u64| rows.iter().map(count).sum::<u64>();
        let total = Counters {
            hits: sum(|row| row.recent.hits),
            misses: sum(|row| row.recent.misses),
            ..Counters::default()
        };
        let replicas = match newest.replicas.len().max(1) {
            1 => "1 replica".to_owned(),
            replicas => format!("{replicas} replicas"),
        };
        let requests = match rows.iter().find_map(|row| row.seconds) {
            Some(seconds) => format!("{:.1} requests/s", sum(|row| row.recent.requests) as f64 / seconds),
            None => format!("{} requests", sum(|row| row.total.requests)),
        };
        format!("{}; {replicas}; {requests}, {} hits", newest.status, percent(total.hit_share()))
    }

    fn unsorted_rows(&self) -> Vec<Row> {
        let (Some(newest), Some(oldest)) = (self.0.back(), self.0.front()) else { return Vec::new() };
        let seconds =
            (self.0.len() > 1).then(|| newest.at.duration_since(oldest.at).as_secs_f64().max(0.001));
        let row = |(name, total): (&String, &Counters)| {
            let recent = match (seconds, oldest.routes.get(name)) {
                (None, _) => *total,
                (Some(_), Some(before)) => total.since(before),
                // A new route may have counted before.
                (Some(_), None) => Counters::default(),
            };
            Row { name: name.clone(), total: *total, recent, seconds }
        };
        newest.routes.iter().map(row).collect()
    }

    /// The routes, sorted: the most of a figure first, and names from A to Z.
    pub(super) fn rows(&self, sort: SortColumn, is_reversed: bool) -> Vec<Row> {
        let mut rows = self.unsorted_rows();
        rows.sort_by(|one, other| {
            let by_figure =
                || other.figure(sort).unwrap_or(-1.0).total_cmp(&one.figure(sort).unwrap_or(-1.0));
            let order = if sort == SortColumn::Route { one.name.cmp(&other.name) } else { by_figure() };
            let order = if is_reversed { order.reverse() } else { order };
            order.then_with(|| one.name.cmp(&other.name))
        });
        rows
    }
}

impl Row {
    fn rate(&self) -> Option<f64> {
        Some(self.recent.requests as f64 / self.seconds?)
    }

    /// `None`: there is none, which is less than any.
    fn figure(&self, sort: SortColumn) -> Option<f64> {
        let Self { total, recent, .. } = self;
        let count = |count: u64| Some(count as f64);
        let figures = [
            (SortColumn::Rate, self.rate()),
            (SortColumn::Requests, count(total.requests)),
            (SortColumn::Hits, recent.hit_share()),
            (SortColumn::P95Hit, recent.from_store.quantile(0.95)),
            (SortColumn::P95Api, recent.from_upstream.quantile(0.95)),
            (SortColumn::ApiTime, Some(recent.from_upstream.sum_seconds)),
            (SortColumn::Purges, count(total.purges)),
            (SortColumn::Written, count(total.written_bytes)),
            (SortColumn::Errors, count(total.errors)),
            (SortColumn::Misses, count(total.misses)),
        ];
        figures.into_iter().find(|(column, _)| *column == sort).and_then(|(_, figure)| figure)
    }

    /// In the order of [`super::COLUMNS`].
    pub(super) fn cells(&self) -> [String; 10] {
        let Self { name, total, recent, seconds } = self;
        let api_time = recent.from_upstream.sum_seconds;
        let api_time = match seconds {
            _ if recent.from_upstream.count() == 0 => "-".to_owned(),
            Some(seconds) => format!("{}/s", time(api_time / seconds)),
            None => time(api_time),
        };
        let quantile = |latencies: &LatencySnapshot| latencies.quantile(0.95).map_or("-".to_owned(), time);
        [
            name.clone(),
            self.rate().map_or("-".to_owned(), |rate| format!("{rate:.1}")),
            total.requests.to_string(),
            percent(recent.hit_share()),
            quantile(&recent.from_store),
            quantile(&recent.from_upstream),
            api_time,
            total.purges.to_string(),
            bytes(total.written_bytes),
            total.errors.to_string(),
        ]
    }
}

/// A text without what acts on a terminal.
pub(super) fn plain(text: &str) -> String {
    text.escape_debug().to_string()
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 0.01 => format!("{:.1} ms", seconds * 1e3),
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds < 10.0 => format!("{seconds:.1} s"),
        seconds => format!("{seconds:.0} s"),
    }
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut number, mut unit) = (count as f64, 0);
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && number < 10.0);
    format!("{number:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A sample `seconds` after the first one of a test, with so many requests of one route.
    pub(in crate::cli::top) fn sample(seconds: u64, requests: u64) -> StatsSample {
        use std::sync::LazyLock;
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let stats = json!({
            "status": "ok",
            "replicas": [{"name": "one"}, {"name": "two", "notes": [{"level": "warning", "text": "look"}]}],
            "missing": ["three"],
            "routes": {
                "a\u{1b}[2J": {
                    "requests": requests, "hits": 3, "misses": 1, "errors": 0, "invalidations": 3, "filledBytes": 2048,
                    "fromStore": {"micros": 400, "buckets": {"0.00025": 3}},
                    "fromUpstream": {"micros": requests * 100_000, "buckets": {"0.1": requests}},
                },
                "b": {"requests": 7, "hits": 0, "misses": 0, "errors": 9, "invalidations": 0, "filledBytes": 0},
            },
        });
        StatsSample::from_stats(&stats, *START + Duration::from_secs(seconds), "")
    }

    /// A sample of these replicas, each with 10 requests of one route; of a replica without a name, of this address.
    pub(in crate::cli::top) fn sample_of(replicas: &[&str], address: &str) -> StatsSample {
        let names = if replicas.is_empty() { &[""] } else { replicas };
        let names: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        let stats = json!({
            "status": "ok",
            "replicas": names,
            "routes": {"a": {"requests": 10 * replicas.len().max(1), "hits": 1, "misses": 1}},
        });
        StatsSample::from_stats(&stats, Instant::now(), address)
    }

    #[test]
    fn addresses_without_redis_are_added_up() {
        let mut sum = sample_of(&[], "one:9090");
        assert!(sum.add("two:9090", sample_of(&[], "two:9090")));
        assert!(!sum.add("one:9090", sample_of(&[], "one:9090")));
        let others = StatsSample {
            status: "degraded".into(),
            notes: vec!["look".into()],
            ..sample_of(&["x", "y"], "")
        };
        assert!(sum.add("three:9090", others));
        assert_eq!((sum.routes["a"].requests, sum.replicas.len()), (40, 4));
        assert_eq!((sum.status.as_str(), &*sum.notes), ("degraded", &["three:9090: look".to_owned()][..]));
    }

    fn history(samples: &[(u64, u64)]) -> History {
        let mut history = History::default();
        samples.iter().for_each(|(seconds, requests)| history.push(sample(*seconds, *requests)));
        history
    }

    fn cells(history: &History, name: &str) -> [String; 10] {
        let rows = history.rows(SortColumn::Route, false);
        rows.iter().find(|row| row.name.starts_with(name)).expect("the route").cells()
    }

    #[test]
    fn rates_are_those_of_the_window() {
        let grown = history(&[(0, 0), (2, 100), (4, 120)]);
        assert_eq!(cells(&grown, "a")[1], "30.0");
        assert_eq!(cells(&grown, "a")[5..=6], ["98 ms", "3.0 s/s"]);
        assert_eq!(cells(&grown, "b")[1..=6], ["0.0", "7", "-", "-", "-", "-"].map(str::to_owned));
        assert_eq!(grown.summary(), "ok; 2 replicas; 30.0 requests/s, - hits");
        // Only what the window needs is kept.
        let long = history(&[(0, 0), (2, 100), (4, 120), (12, 200), (14, 220)]);
        assert_eq!(cells(&long, "a")[1], "10.0");
        assert_eq!(long.0.len(), 4);
        let many = history(&(0..1000).map(|at| (at / 500, at)).collect::<Vec<_>>());
        assert!(many.0.len() <= MAX_SAMPLES);
    }

    #[test]
    fn a_restart_is_no_negative_rate() {
        assert_eq!(cells(&history(&[(0, 100), (2, 10)]), "a")[1], "0.0");
    }

    #[test]
    fn counters_of_other_replicas_make_no_rate() {
        let mut history = history(&[(0, 0), (2, 100)]);
        let alone = StatsSample { replicas: BTreeSet::from(["one".to_owned()]), ..sample(4, 60) };
        history.push(alone);
        assert_eq!(cells(&history, "a")[1], "-");
        history.push(sample(6, 140));
        assert_eq!(cells(&history, "a")[1], "-");
        history.push(sample(8, 160));
        assert_eq!(cells(&history, "a")[1], "10.0");
    }

    #[test]
    fn each_column_sorts() {
        let history = history(&[(0, 0), (2, 100)]);
        let first = |sort, is_reversed| history.rows(sort, is_reversed)[0].name[..1].to_owned();
        for sort in [SortColumn::Rate, SortColumn::Requests, SortColumn::Purges, SortColumn::Written] {
            assert_eq!((first(sort, false), first(sort, true)), ("a".to_owned(), "b".to_owned()), "{sort:?}");
        }
        assert_eq!(first(SortColumn::P95Api, false), "a");
        assert_eq!(first(SortColumn::ApiTime, true), "b");
        assert_eq!(first(SortColumn::Errors, false), "b");
        assert_eq!(
            (first(SortColumn::Route, false), first(SortColumn::Route, true)),
            ("a".into(), "b".into())
        );
    }

    #[test]
    fn figures_have_units() {
        for (seconds, text) in [(0.000_2, "0.2 ms"), (0.25, "250 ms"), (2.5, "2.5 s"), (120.0, "120 s")] {
            assert_eq!(time(seconds), text);
        }
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (u64::MAX, "16777216 TiB")] {
            assert_eq!(bytes(count), text);
        }
    }
}
