//! Notices of the dashboard: each names a problem, its consequence and the remedy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::notice::{Notice, NoticeLevel, count_noun, format_duration, push_notice};
use super::upstream_notices::add_upstream_notices;
use crate::metrics::{Snapshot, UpstreamCounts};
use crate::phase::Phase;
use crate::store::StoreStats;
use crate::store::remote_status::{CONNECTING, RemoteStatus};

pub(super) struct NoticeInputs<'f> {
    pub phase: Phase,
    /// The name of the configuration file.
    pub file: &'f str,
    pub refused: Option<String>,
    pub needs_restart: Vec<&'static str>,
    /// `None` if no Redis is configured.
    pub remote: Option<&'f RemoteStatus>,
    pub figures: &'f StoreStats,
    pub metrics: &'f Snapshot,
    /// Upstream requests that ended in the last minute.
    pub recent_upstream: UpstreamCounts,
    /// The name of the route, the effect, and the field.
    pub field_notices: Vec<(Arc<str>, &'static str, HeaderName)>,
}

/// Collects the notices, most severe first.
pub(super) fn collect_notices(facts: &NoticeInputs) -> Vec<Notice> {
    let mut notes = Vec::new();
    add_process_notices(facts, &mut notes);
    if let Some(remote) = facts.remote {
        add_redis_notices(remote, &mut notes);
    }
    add_source_notices(facts.metrics, &mut notes);
    add_upstream_notices(facts.metrics, facts.recent_upstream, &mut notes);
    add_audit_notices(facts.metrics, &mut notes);
    add_store_notices(facts.figures, &mut notes);
    add_config_notices(facts, &mut notes);
    add_field_notices(&facts.field_notices, &mut notes);
    notes.sort_by_key(|note| note.level);
    notes
}

fn add_process_notices(facts: &NoticeInputs, notes: &mut Vec<Notice>) {
    match facts.phase {
        Phase::Ready => {}
        Phase::Starting => {
            push_notice(notes, NoticeLevel::Notice, "larder is starting and accepts no requests yet.")
        }
        Phase::Draining => {
            push_notice(
                notes,
                NoticeLevel::Warning,
                "larder drains: clients are told to close their connections.",
            );
        }
        Phase::Stopping | Phase::Flushed => {
            push_notice(
                notes,
                NoticeLevel::Warning,
                "larder is shutting down: requests in flight are finished, new ones are refused.",
            );
        }
    }
    let overdue = facts.metrics.workers_overdue.iter();
    let stalled = overdue.filter(|(_, overdue)| *overdue > Duration::from_secs(1)).count();
    if stalled > 0 {
        let text =
            format!("{} blocked: its clients are waiting.", count_noun(stalled, "worker is", "workers are"));
        push_notice(notes, NoticeLevel::Trouble, text);
    }
}

fn add_redis_notices(remote: &RemoteStatus, notes: &mut Vec<Notice>) {
    if remote.is_unavailable() {
        let reason = remote.failure.as_ref().map_or("connecting", |reason| reason.message.as_str());
        let told = match remote.synced_ago {
            Some(ago) => format!("It last confirmed purges {} ago. ", format_duration(ago)),
            None => String::new(),
        };
        let text = format!(
            "Redis is unavailable: {reason}. {told}Until it is back, nearly every request reaches the API, guarded writes \
             and purge requests are answered 503, and other replicas miss this one's purges."
        );
        push_notice(notes, NoticeLevel::Trouble, text);
    } else if let Some(ago) = remote.synced_ago.filter(|ago| *ago > remote.max_lag.max(MIN_LAG_WARNING)) {
        let text = format!(
            "Purges by other replicas in the last {} are unknown here, so no hits are served until Redis confirms them.",
            format_duration(ago)
        );
        push_notice(notes, NoticeLevel::Trouble, text);
    }
    for reason in remote.failure.iter().filter(|_| !remote.is_unavailable()).chain(&remote.wake_up_failure) {
        let text = format!("Redis works only in part: {}.", reason.message);
        push_notice(notes, NoticeLevel::Warning, text);
    }
    if remote.pending_purges > 0 {
        let text = format!(
            "{} for Redis. This replica applies them already; the others do not know them.",
            count_noun(remote.pending_purges, "purge target waits", "purge targets wait")
        );
        push_notice(notes, NoticeLevel::Trouble, text);
    }
    let full = remote.memory.and_then(|memory| Some(memory.used as f64 / memory.limit? as f64));
    if let Some(share) = full.filter(|share| *share > 0.8) {
        let text = format!(
            "Redis uses {:.0} % of its `maxmemory` and evicts responses or refuses new ones. Raise `maxmemory`.",
            share * 100.0
        );
        push_notice(notes, NoticeLevel::Warning, text);
    }
    if remote.index_resets > 1 {
        let times = count_noun(remote.index_resets as usize - 1, "time", "times");
        let text = format!(
            "The purge index was reset {times} since startup: Redis lost its data or was replaced, and everything \
             stored before counts as purged."
        );
        push_notice(notes, NoticeLevel::Notice, text);
    }
}

fn add_source_notices(metrics: &Snapshot, notes: &mut Vec<Notice>) {
    for (name, reason) in metrics.unavailable_sources() {
        if reason.code != CONNECTING {
            let text = format!(
                "The event source `{name}` is unavailable: {}. Until it is back, nothing that it announces is purged.",
                reason.message
            );
            push_notice(notes, NoticeLevel::Trouble, text);
        }
    }
}

fn add_audit_notices(metrics: &Snapshot, notes: &mut Vec<Notice>) {
    for (result, finding) in [
        ("purge-missing", "changed by a write that did not purge"),
        ("shared-wrongly", "shared by callers who get different responses"),
    ] {
        let count = metrics.audits(result) as usize;
        if count > 0 {
            let hits = count_noun(count, "audited hit was", "audited hits were");
            let text = format!("{hits} {finding}. `larder audit` names the routes and the fixes.");
            push_notice(notes, NoticeLevel::Trouble, text);
        }
    }
}

/// Smallest staleness worth a notice: in strict mode, confirmations happen only on demand.
const MIN_LAG_WARNING: Duration = Duration::from_secs(1);

fn add_store_notices(figures: &StoreStats, notes: &mut Vec<Notice>) {
    let nearly = figures.capacity - figures.capacity / 20;
    if figures.capacity > 0 && figures.bytes > nearly && figures.evicted > 0 {
        let text = format!(
            "The response memory is full, and {}. Raise `store.memory` if the hit rate is low.",
            count_noun(figures.evicted as usize, "response was evicted", "responses were evicted")
        );
        push_notice(notes, NoticeLevel::Notice, text);
    }
}

fn add_config_notices(facts: &NoticeInputs, notes: &mut Vec<Notice>) {
    if let Some(reason) = &facts.refused {
        let text =
            format!("The changed {} is invalid, so the previous one stays in use: {reason}.", facts.file);
        push_notice(notes, NoticeLevel::Warning, text);
    }
    if !facts.needs_restart.is_empty() {
        let text = format!(
            "These sections of {} changed and take effect only after a restart: {}.",
            facts.file,
            facts.needs_restart.join(", ")
        );
        push_notice(notes, NoticeLevel::Notice, text);
    }
}

/// Fields of one notice that are named.
const MAX_SHOWN_FIELDS: usize = 5;

/// One notice for each route and effect.
fn add_field_notices(fields: &[(Arc<str>, &'static str, HeaderName)], notes: &mut Vec<Notice>) {
    let mut by_effect: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (route, effect, field) in fields {
        by_effect.entry((route, effect)).or_default().push(field.as_str());
    }
    for ((route, effect), fields) in by_effect {
        let mut shown = fields[..fields.len().min(MAX_SHOWN_FIELDS)].join("`, `");
        if fields.len() > MAX_SHOWN_FIELDS {
            shown += &format!("` and {} more", fields.len() - MAX_SHOWN_FIELDS);
        } else {
            shown.push('`');
        }
        let text = match effect {
            "not-shared" => format!(
                "`{route}`: responses are not shared, since requests have `{shown}. Say in `per`, `headers`, `shared` or \
                 `credentials` what it means."
            ),
            "shared" => format!(
                "`{route}`: responses are shared by requests with `{shown}. Where it changes the response, replace \
                 `shared` by `per` or `headers`."
            ),
            _ => format!("`{route}`: responses are stored without `{shown}; see `drop_response`."),
        };
        push_notice(notes, NoticeLevel::Notice, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{BackgroundKind, Metrics};
    use crate::store::remote_status::{BreakerState, LeaseStats, ServerMemory};

    fn remote() -> RemoteStatus {
        RemoteStatus {
            breaker: BreakerState::Closed,
            failure: None,
            wake_up_failure: None,
            times_opened: 0,
            connections: 1,
            in_flight: 0,
            pending_purges: 0,
            synced_ago: Some(Duration::from_millis(3)),
            max_lag: Duration::from_secs(1),
            rejected_values: 0,
            compression: None,
            index_resets: 1,
            memory: Some(ServerMemory { used: 1, limit: Some(100), keys: None }),
            leases: LeaseStats::default(),
            nodes: Vec::new(),
            commands: Vec::new(),
        }
    }

    fn told(
        remote: Option<&RemoteStatus>,
        change: impl FnOnce(&mut NoticeInputs),
    ) -> Vec<(NoticeLevel, String)> {
        let figures = StoreStats { entries: 1, bytes: 1, capacity: 100, ..StoreStats::default() };
        let metrics = Metrics::default().snapshot();
        let mut facts = NoticeInputs {
            phase: Phase::Ready,
            file: "/etc/larder/api.yaml",
            refused: None,
            needs_restart: Vec::new(),
            remote,
            figures: &figures,
            metrics: &metrics,
            recent_upstream: UpstreamCounts::default(),
            field_notices: Vec::new(),
        };
        change(&mut facts);
        collect_notices(&facts).into_iter().map(|note| (note.level, note.text)).collect()
    }

    #[test]
    fn findings_of_the_audit_are_said() {
        let metrics = Metrics::default();
        for result in ["same", "purge-missing", "purge-missing"] {
            metrics.record_background(BackgroundKind::Audit, result);
        }
        let mut notes = Vec::new();
        add_audit_notices(&metrics.snapshot(), &mut notes);
        let [note] = &*notes else { panic!("{notes:?}") };
        assert!(
            note.level == NoticeLevel::Trouble && note.text.starts_with("2 audited hits were changed"),
            "{note:?}"
        );
    }

    #[test]
    fn where_all_is_well_there_is_nothing_to_say() {
        assert_eq!(told(None, |_| {}), []);
        assert_eq!(told(Some(&remote()), |_| {}), []);
    }

    #[test]
    fn each_thing_that_is_wrong_is_said() {
        type RemoteFault = (fn(&mut RemoteStatus), NoticeLevel, &'static str);
        let wrongs: [RemoteFault; 5] = [
            (|remote| remote.breaker = BreakerState::Open, NoticeLevel::Trouble, "Redis is unavailable"),
            (
                |remote| remote.synced_ago = Some(Duration::from_secs(5)),
                NoticeLevel::Trouble,
                "in the last 5 s",
            ),
            (|remote| remote.pending_purges = 1, NoticeLevel::Trouble, "1 purge target waits"),
            (
                |remote| remote.memory = Some(ServerMemory { used: 90, limit: Some(100), keys: None }),
                NoticeLevel::Warning,
                "90 % of its",
            ),
            (|remote| remote.index_resets = 3, NoticeLevel::Notice, "reset 2 times"),
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
    fn fields_that_decide_what_is_shared_are_named() {
        let notice = |route: &str, effect, field: String| (route.into(), effect, field.parse().unwrap());
        let many = (0..7).map(|number| notice("b", "not-shared", format!("x-token-{number}")));
        let told = told(None, |facts| {
            facts.field_notices = vec![notice("a", "shared", "cookie".to_owned())];
            facts.field_notices.extend(many);
            facts.field_notices.push(notice("b", "not-stored", "x-user".to_owned()));
        });
        let [shared, not_shared, not_stored] = &*told else { panic!("{told:?}") };
        assert!(shared.1.starts_with("`a`: responses are shared by requests with `cookie`."), "{told:?}");
        assert!(not_shared.1.contains("since requests have `x-token-0`, `"), "{told:?}");
        assert!(not_shared.1.contains("`x-token-4` and 2 more."), "{told:?}");
        assert!(not_stored.1.contains("without `x-user`;"), "{told:?}");
    }

    #[test]
    fn the_worst_comes_first() {
        let told = told(None, |facts| {
            facts.needs_restart = vec!["store", "log"];
            facts.refused = Some("api.yaml:2: unknown key `tll`".to_owned());
            facts.recent_upstream.failures = 2;
        });
        let levels: Vec<_> = told.iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [NoticeLevel::Trouble, NoticeLevel::Warning, NoticeLevel::Notice]);
        assert!(told[0].1.starts_with("The API failed 2 requests"), "{told:?}");
        assert!(told[1].1.starts_with("The changed /etc/larder/api.yaml is invalid"), "{told:?}");
        assert!(told[2].1.starts_with("These sections of /etc/larder/api.yaml changed"), "{told:?}");
        assert!(told[2].1.ends_with("store, log."), "{told:?}");
    }
}
