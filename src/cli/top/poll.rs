//! Asks the admin listeners, on threads of their own: an answer may take seconds, and keys are read meanwhile.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use http::Method;

use super::figures::{StatsSample, plain};
use crate::cli::admin::AdminClient;

/// Maximum number of the most used paths that are shown, and that are asked for.
pub(super) const MAX_PATHS: usize = 10;
const MAX_ASKED_PATHS: usize = 50;

/// An admin listener.
pub(super) struct StatsSource {
    /// Its address; empty for that of the configuration.
    pub name: String,
    pub client: AdminClient,
}

/// A request to the polling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Counters,
    /// The most used paths, too. They take the replicas more work.
    CountersAndPaths,
}

pub(super) struct Update {
    pub sample: StatsSample,
    /// Paths with their hits.
    pub paths: Option<Vec<(String, u64)>>,
}

/// Answers arrive in the order of what was wanted.
pub(super) struct Poller {
    wanted: Sender<Wanted>,
    pub updates: Receiver<Result<Update, String>>,
}

impl Poller {
    pub(super) fn start(sources: Vec<StatsSource>) -> Self {
        let (wanted, asked) = channel();
        let (sender, updates) = channel();
        // It ends with the channels.
        std::thread::spawn(move || {
            asked.iter().try_for_each(|wanted| sender.send(read_update(&sources, wanted)).ok())
        });
        Self { wanted, updates }
    }

    pub(super) fn ask(&self, wanted: Wanted) {
        // Without the thread nothing arrives, which is seen there.
        _ = self.wanted.send(wanted);
    }
}

/// Asks all sources at the same time. Fails if none answers; those that do not are named in the notices otherwise.
pub(super) fn read_update(sources: &[StatsSource], wanted: Wanted) -> Result<Update, String> {
    let answers: Vec<Result<Update, String>> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            sources.iter().map(|source| scope.spawn(move || read_source(source, wanted))).collect();
        let failed = |_| Err("the thread that asked has failed".to_owned());
        asked.into_iter().map(|thread| thread.join().unwrap_or_else(failed)).collect()
    });
    let mut sum: Option<Update> = None;
    let mut failures = Vec::new();
    for (source, answer) in sources.iter().zip(answers) {
        match (answer, &mut sum) {
            (Ok(update), None) => sum = Some(update),
            (Ok(update), Some(sum)) => sum.add(&source.name, update),
            (Err(error), _) => failures.push((source.name.as_str(), error)),
        }
    }
    let Some(mut sum) = sum else {
        return Err(failures.into_iter().next().map(|(_, error)| error).unwrap_or_default());
    };
    let first_line = |error: &str| plain(error.lines().next().unwrap_or_default());
    sum.sample.notes.extend(failures.iter().map(|(name, error)| format!("{name}: {}", first_line(error))));
    Ok(sum)
}

impl Update {
    /// Adds another source's. Replicas that share Redis report all of them, and are counted once.
    fn add(&mut self, name: &str, other: Self) {
        if !self.sample.add(name, other.sample) {
            return;
        }
        let mut sum: BTreeMap<String, u64> = BTreeMap::new();
        for (path, uses) in self.paths.take().into_iter().chain(other.paths).flatten() {
            let uses_so_far = sum.entry(path).or_default();
            *uses_so_far = uses_so_far.saturating_add(uses);
        }
        let mut paths: Vec<(String, u64)> = sum.into_iter().collect();
        paths.sort_by_key(|(_, uses)| std::cmp::Reverse(*uses));
        self.paths = Some(paths);
    }
}

fn read_source(source: &StatsSource, wanted: Wanted) -> Result<Update, String> {
    let sample = read_sample(source)?;
    let paths = match wanted {
        Wanted::Counters => None,
        Wanted::CountersAndPaths => Some(read_paths(&source.client)?),
    };
    Ok(Update { sample, paths })
}

/// The counters of all replicas; of the one that is asked if it can't ask Redis for the others.
fn read_sample(source: &StatsSource) -> Result<StatsSample, String> {
    let get = |path: &str| source.client.send(Method::GET, path, None);
    match get("/stats?scope=all") {
        Ok(stats) => Ok(StatsSample::from_stats(&stats, Instant::now(), &source.name)),
        Err(error) => {
            let stats = get("/stats").map_err(|_| error.clone())?;
            let mut sample = StatsSample::from_stats(&stats, Instant::now(), &source.name);
            let reason = error.lines().next().unwrap_or_default();
            sample.notes.push(format!("this replica alone: {}", plain(reason)));
            Ok(sample)
        }
    }
}

/// The most used paths, of the same replicas as the counters.
fn read_paths(client: &AdminClient) -> Result<Vec<(String, u64)>, String> {
    let own = format!("/sizes?by=uses&limit={MAX_ASKED_PATHS}");
    let get = |path: &str| client.send(Method::GET, path, None);
    let sizes = get(&format!("{own}&scope=all")).or_else(|_| get(&own))?;
    let paths = sizes["paths"].as_array().into_iter().flatten();
    Ok(paths.filter_map(|path| Some((plain(path["name"].as_str()?), path["uses"].as_u64()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::sample_of;
    use super::*;

    fn update(replicas: &[&str], paths: &[(&str, u64)]) -> Update {
        let paths = paths.iter().map(|(path, uses)| ((*path).to_owned(), *uses)).collect();
        Update { sample: sample_of(replicas, "asked"), paths: Some(paths) }
    }

    #[test]
    fn replicas_that_share_redis_are_counted_once() {
        let mut sum = update(&["one", "two"], &[("/a", 3), ("/b", 2)]);
        sum.add("second", update(&["two", "one"], &[("/a", 3)]));
        assert_eq!((sum.sample.replicas.len(), sum.paths.as_ref().unwrap()[0].1), (2, 3));
        sum.add("third", update(&["three"], &[("/b", 2), ("/c", 1)]));
        let paths = [("/b".to_owned(), 4), ("/a".to_owned(), 3), ("/c".to_owned(), 1)];
        assert_eq!((sum.sample.replicas.len(), sum.paths.unwrap()), (3, paths.to_vec()));
    }
}
