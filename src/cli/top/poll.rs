//! Asks the admin listener, on a thread of its own: an answer may take seconds, and keys are read meanwhile.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use http::Method;
use serde_json::Value;

use super::figures::{StatsSample, plain};
use crate::cli::admin::AdminClient;

/// Maximum number of the most used paths.
pub(super) const MAX_PATHS: usize = 10;

/// A request to the polling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Counters,
    /// The most used paths, too. They take the replica more work.
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
    pub(super) fn start(client: AdminClient) -> Self {
        let (wanted, asked) = channel();
        let (sender, updates) = channel();
        // It ends with the channels.
        std::thread::spawn(move || {
            asked.iter().try_for_each(|wanted| sender.send(read_update(&client, wanted)).ok())
        });
        Self { wanted, updates }
    }

    pub(super) fn ask(&self, wanted: Wanted) {
        // Without the thread nothing arrives, which is seen there.
        _ = self.wanted.send(wanted);
    }
}

fn read_update(client: &AdminClient, wanted: Wanted) -> Result<Update, String> {
    let sample = read_sample(client)?;
    let paths = match wanted {
        Wanted::Counters => None,
        Wanted::CountersAndPaths => {
            let sizes = client.send(Method::GET, &format!("/sizes?by=uses&limit={MAX_PATHS}"), None)?;
            Some(read_paths(&sizes))
        }
    };
    Ok(Update { sample, paths })
}

/// The counters of all replicas; of the one that is asked if it can't ask Redis for the others.
pub(super) fn read_sample(client: &AdminClient) -> Result<StatsSample, String> {
    let get = |path: &str| client.send(Method::GET, path, None);
    match get("/stats?scope=all") {
        Ok(stats) => Ok(StatsSample::from_stats(&stats, Instant::now())),
        Err(error) => {
            let stats = get("/stats").map_err(|_| error.clone())?;
            let mut sample = StatsSample::from_stats(&stats, Instant::now());
            let reason = error.lines().next().unwrap_or_default();
            sample.notes.push(format!("this replica alone: {}", plain(reason)));
            Ok(sample)
        }
    }
}

fn read_paths(sizes: &Value) -> Vec<(String, u64)> {
    let paths = sizes["paths"].as_array().into_iter().flatten();
    paths.filter_map(|path| Some((plain(path["name"].as_str()?), path["uses"].as_u64()?))).collect()
}
