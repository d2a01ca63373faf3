//! What is not as it should be, in words that need no manual: what it is, what follows, what to do.

use std::time::Duration;

use serde::Serialize;

use crate::admin::Phase;
use crate::metrics::Overview;
use crate::store::Figures;
use crate::store::remote::Remote;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    pub level: Level,
    pub text: String,
}

/// How soon somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Clients notice, or may be told something old.
    Trouble,
    /// It works, and less well than it could.
    Warning,
    /// Good to know.
    Notice,
}

pub struct Facts<'f> {
    pub phase: Phase,
    pub refused: Option<String>,
    pub needs_restart: Vec<&'static str>,
    /// `None`: there is no Redis in the configuration.
    pub remote: Option<&'f Remote>,
    pub figures: &'f Figures,
    pub overview: &'f Overview,
    /// Requests that the upstream failed in the last minute.
    pub failed_lately: u64,
}

/// The worst first.
pub fn notes(facts: &Facts) -> Vec<Note> {
    let mut notes = Vec::new();
    of_process(facts, &mut notes);
    if let Some(remote) = facts.remote {
        of_redis(remote, &mut notes);
    }
    of_upstream(facts, &mut notes);
    of_store(facts.figures, &mut notes);
    of_configuration(facts, &mut notes);
    notes.sort_by_key(|note| note.level);
    notes
}

fn of_process(facts: &Facts, notes: &mut Vec<Note>) {
    match facts.phase {
        Phase::Ready => {}
        Phase::Starting => note(notes, Level::Notice, "larder is starting: it takes no requests yet."),
        Phase::Draining => {
            note(
                notes,
                Level::Warning,
                "larder is stopping: it answers what is under way and takes nobody new.",
            );
        }
    }
    let stalled = facts.overview.workers_stalled.iter().filter(|seconds| **seconds > 1.0).count();
    if stalled > 0 {
        let text = format!(
            "{} still: clients connected to it wait.",
            are(stalled, "worker stands", "workers stand")
        );
        note(notes, Level::Trouble, text);
    }
}

fn of_redis(remote: &Remote, notes: &mut Vec<Note>) {
    if remote.is_away() {
        let trouble = plain(remote.trouble.as_deref().unwrap_or("it is being tried"));
        let told = match remote.confirmed_ago {
            Some(ago) => format!("The last word from it came {} ago. ", duration(ago)),
            None => String::new(),
        };
        let text = format!(
            "Redis can't be used: {trouble}. {told}Until it is back nearly every request reaches the API, guarded writes \
             and purge requests are answered 503, and other replicas don't learn of this one's purges."
        );
        note(notes, Level::Trouble, text);
    } else if let Some(ago) = remote.confirmed_ago.filter(|ago| *ago > remote.max_lag.max(LATE)) {
        let text = format!(
            "What other replicas purged in the last {} is not known here: no hits are served until it is.",
            duration(ago)
        );
        note(notes, Level::Trouble, text);
    }
    if remote.purges_waiting > 0 {
        let text = format!(
            "{} for Redis. This replica holds to it already; others don't know of it.",
            are(remote.purges_waiting, "purge target waits", "purge targets wait")
        );
        note(notes, Level::Trouble, text);
    }
    let full = remote.memory.and_then(|memory| Some(memory.used as f64 / memory.limit? as f64));
    if let Some(share) = full.filter(|share| *share > 0.8) {
        let text = format!(
            "Redis uses {:.0} % of the memory that it may use: it evicts responses, or refuses new ones. Raise `maxmemory`.",
            share * 100.0
        );
        note(notes, Level::Warning, text);
    }
    if remote.new_indexes > 1 {
        let times = are(remote.new_indexes as usize - 1, "time", "times");
        let text = format!(
            "The purge index turned out to be a new one {times} since the start: Redis lost its data or was replaced, and \
             what was stored before counts as purged."
        );
        note(notes, Level::Notice, text);
    }
}

/// An error of the system is shown with all its parts; people need its message.
fn plain(trouble: &str) -> &str {
    let message = trouble.split_once("message: \"").and_then(|(_, rest)| Some(rest.split_once('"')?.0));
    message.unwrap_or(trouble)
}

/// In strict mode a confirmation is asked for when somebody needs it.
const LATE: Duration = Duration::from_secs(1);

fn of_upstream(facts: &Facts, notes: &mut Vec<Note>) {
    if facts.failed_lately > 0 {
        let text = format!(
            "The API failed {} in the last minute. The log and `larder_upstream_failures_total` say how.",
            are(facts.failed_lately as usize, "request", "requests")
        );
        note(notes, Level::Trouble, text);
    }
}

fn of_store(figures: &Figures, notes: &mut Vec<Note>) {
    let nearly = figures.capacity - figures.capacity / 20;
    if figures.capacity > 0 && figures.bytes > nearly && figures.evicted > 0 {
        let text = format!(
            "The memory for responses is full, and {} for newer ones. Raise `store.memory` if the hit rate is low.",
            are(figures.evicted as usize, "response was removed", "responses were removed")
        );
        note(notes, Level::Notice, text);
    }
}

fn of_configuration(facts: &Facts, notes: &mut Vec<Note>) {
    if let Some(reason) = &facts.refused {
        let text = format!("The changed proxy.yaml is wrong, and the one before is in use: {reason}.");
        note(notes, Level::Warning, text);
    }
    if !facts.needs_restart.is_empty() {
        let text = format!(
            "Changed in proxy.yaml, and in use only after a restart: {}.",
            facts.needs_restart.join(", ")
        );
        note(notes, Level::Notice, text);
    }
}

fn note(notes: &mut Vec<Note>, level: Level, text: impl Into<String>) {
    notes.push(Note { level, text: text.into() });
}

fn are(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// To the second from a second on.
fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::store::remote::{Breaker, LeaseFigures, ServerMemory};

    fn remote() -> Remote {
        Remote {
            breaker: Breaker::Closed,
            trouble: None,
            opened: 0,
            connections: 1,
            in_flight: 0,
            purges_waiting: 0,
            confirmed_ago: Some(Duration::from_millis(3)),
            max_lag: Duration::from_secs(1),
            new_indexes: 1,
            memory: Some(ServerMemory { used: 1, limit: Some(100) }),
            leases: LeaseFigures::default(),
            nodes: Vec::new(),
            commands: Vec::new(),
        }
    }

    fn told(remote: Option<&Remote>, change: impl FnOnce(&mut Facts)) -> Vec<(Level, String)> {
        let figures = Figures { entries: 1, bytes: 1, capacity: 100, evicted: 0, purge_records: 0 };
        let overview = Metrics::default().overview();
        let mut facts = Facts {
            phase: Phase::Ready,
            refused: None,
            needs_restart: Vec::new(),
            remote,
            figures: &figures,
            overview: &overview,
            failed_lately: 0,
        };
        change(&mut facts);
        notes(&facts).into_iter().map(|note| (note.level, note.text)).collect()
    }

    #[test]
    fn where_all_is_well_there_is_nothing_to_say() {
        assert_eq!(told(None, |_| {}), []);
        assert_eq!(told(Some(&remote()), |_| {}), []);
    }

    #[test]
    fn each_thing_that_is_wrong_is_said() {
        type Wrong = (fn(&mut Remote), Level, &'static str);
        let wrongs: [Wrong; 5] = [
            (|remote| remote.breaker = Breaker::Open, Level::Trouble, "Redis can't be used"),
            (|remote| remote.confirmed_ago = Some(Duration::from_secs(5)), Level::Trouble, "in the last 5 s"),
            (|remote| remote.purges_waiting = 1, Level::Trouble, "1 purge target waits"),
            (
                |remote| remote.memory = Some(ServerMemory { used: 90, limit: Some(100) }),
                Level::Warning,
                "90 % of the memory",
            ),
            (|remote| remote.new_indexes = 3, Level::Notice, "a new one 2 times"),
        ];
        for (wrong, level, text) in wrongs {
            let mut remote = remote();
            wrong(&mut remote);
            let told = told(Some(&remote), |_| {});
            assert!(
                matches!(&*told, [(its, words)] if *its == level && words.contains(text)),
                "{text}: {told:?}"
            );
        }
    }

    #[test]
    fn an_error_of_the_system_is_its_message() {
        let os = r#"IO Error: Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }"#;
        assert_eq!(plain(os), "Connection refused");
        assert_eq!(plain("Redis did not answer in time"), "Redis did not answer in time");
    }

    #[test]
    fn the_worst_comes_first() {
        let told = told(None, |facts| {
            facts.needs_restart = vec!["store", "log"];
            facts.refused = Some("proxy.yaml:2: unknown key `tll`".to_owned());
            facts.failed_lately = 2;
        });
        let levels: Vec<_> = told.iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [Level::Trouble, Level::Warning, Level::Notice]);
        assert!(told[0].1.starts_with("The API failed 2 requests"), "{told:?}");
        assert!(told[2].1.ends_with("store, log."), "{told:?}");
    }
}
