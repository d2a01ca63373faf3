//! Judges the facts about a server, with what to do about each.

use std::time::Duration;

use super::{FindingLevel, Inspection, ServerFinding};

const OLDEST_VERSION: (u64, u64) = (6, 2);

/// Beyond this difference, lifetimes that the API states as dates are judged wrongly.
const MAX_CLOCK_DIFFERENCE_MICROS: u64 = 2_000_000;

/// larder uses its quietest connection at least this often, in seconds.
const LONGEST_QUIET_SECONDS: u64 = 6;

/// Adds findings about the server's settings, its clock and its distance.
pub(super) fn assess(inspection: &mut Inspection, timeout: Duration) {
    let findings = [
        judge_version(inspection),
        judge_mode(inspection),
        judge_visibility(inspection),
        judge_distance(inspection, timeout),
        judge_clock(inspection),
        judge_idle_timeout(inspection),
        judge_memory_limit(inspection),
        judge_eviction(inspection),
        judge_persistence(inspection),
        judge_min_replicas(inspection),
    ];
    inspection.findings.extend(findings.into_iter().flatten());
}

fn finding(
    level: FindingLevel,
    code: &'static str,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Option<ServerFinding> {
    Some(ServerFinding { level, code, message: message.into(), help: Some(help.into()) })
}

fn judge_version(found: &Inspection) -> Option<ServerFinding> {
    let version = found.server.version_numbers().filter(|version| *version < OLDEST_VERSION)?;
    let message = format!("the server's version is {}.{}", version.0, version.1);
    finding(FindingLevel::Error, "old-version", message, "use Redis 6.2 or later, or Valkey")
}

fn judge_mode(found: &Inspection) -> Option<ServerFinding> {
    let mode = found.server.mode.as_deref()?;
    let (message, help) = match (mode, found.topology) {
        ("cluster", "single" | "sentinel") => {
            ("the server is a node of a cluster", "write `redis-cluster://` in `store.redis.url`")
        }
        ("sentinel", "single") => {
            ("the server is a sentinel", "write `redis-sentinel://HOSTS/SERVICE` in `store.redis.url`")
        }
        _ => return None,
    };
    finding(FindingLevel::Error, "wrong-topology", message, help)
}

fn judge_visibility(found: &Inspection) -> Option<ServerFinding> {
    let (what, lost) = match (found.server.may_read_info, found.server.may_read_config) {
        (true, true) => return None,
        (true, false) => ("CONFIG is", "`save` and `timeout` were not checked"),
        (false, true) => ("INFO is", "memory and replicas were not checked"),
        (false, false) => ("INFO and CONFIG are", "memory, persistence and replicas were not checked"),
    };
    let help = "look at the service's own console, or run this check with an administrator's login";
    finding(FindingLevel::Advice, "not-visible", format!("{what} refused: {lost}"), help)
}

fn judge_distance(found: &Inspection, timeout: Duration) -> Option<ServerFinding> {
    let round_trip = found.round_trip.filter(|took| *took * 2 > timeout)?;
    let message = format!(
        "a round trip takes {:.1} ms, and `store.timeout` is {} ms",
        round_trip.as_secs_f64() * 1e3,
        timeout.as_millis()
    );
    let help = "use a Redis in the same zone, or raise `store.timeout` to five round trips";
    finding(FindingLevel::Warning, "far-away", message, help)
}

fn judge_clock(found: &Inspection) -> Option<ServerFinding> {
    let lead = found.clock_lead.filter(|lead| lead.unsigned_abs() > MAX_CLOCK_DIFFERENCE_MICROS)?;
    let message = format!(
        "the server's clock is {:.1} s {} this machine's",
        lead.unsigned_abs() as f64 / 1e6,
        if lead > 0 { "ahead of" } else { "behind" }
    );
    finding(FindingLevel::Warning, "clock-difference", message, "run NTP (chrony, systemd-timesyncd) on both")
}

fn judge_idle_timeout(found: &Inspection) -> Option<ServerFinding> {
    let seconds = found.server.idle_timeout.filter(|seconds| (1..LONGEST_QUIET_SECONDS).contains(seconds))?;
    let message = format!(
        "the server closes connections that are idle for {seconds} s, which larder's subscription is"
    );
    finding(FindingLevel::Warning, "idle-timeout", message, "set `timeout 0`, or 60 and more, in redis.conf")
}

fn judge_memory_limit(found: &Inspection) -> Option<ServerFinding> {
    found.server.max_memory.filter(|limit| *limit == 0)?;
    let help = "set `maxmemory 1gb` and `maxmemory-policy volatile-lru` in redis.conf";
    finding(FindingLevel::Warning, "no-maxmemory", "`maxmemory` is not set: Redis takes all memory", help)
}

fn judge_eviction(found: &Inspection) -> Option<ServerFinding> {
    let policy = found.server.eviction_policy.as_deref()?;
    let message = match policy {
        "noeviction" if found.server.max_memory != Some(0) => {
            "`maxmemory-policy` is `noeviction`: once Redis is full, responses are no longer shared"
                .to_owned()
        }
        policy if policy.starts_with("allkeys-") => format!(
            "`maxmemory-policy` is `{policy}`: the purge index can be evicted, and everything stored with it"
        ),
        _ => return None,
    };
    finding(FindingLevel::Warning, "eviction-policy", message, "set `maxmemory-policy volatile-lru`")
}

fn judge_persistence(found: &Inspection) -> Option<ServerFinding> {
    let (appends, saves) = (found.server.appends_to_file, found.server.saves_snapshots);
    if appends != Some(true) && saves != Some(true) {
        return None;
    }
    let help = "set `save \"\"` and `appendonly no`, unless other applications need them";
    finding(FindingLevel::Advice, "persistence", "Redis writes a cache to disk, which has no use", help)
}

/// Without `min-replicas-to-write`, a primary that is cut off takes purges that the promoted replica never sees. With as
/// many as there are replicas, a promoted replica refuses all writes.
fn judge_min_replicas(found: &Inspection) -> Option<ServerFinding> {
    let can_fail_over = found.topology == "sentinel" || found.server.replicas.is_some_and(|count| count > 0);
    let least = found.server.min_replicas.filter(|_| can_fail_over)?;
    let level = if found.topology == "single" { FindingLevel::Advice } else { FindingLevel::Warning };
    let (message, help) = match (least, found.server.replicas) {
        (0, Some(1)) => (
            "`min-replicas-to-write` is not set: a primary that is cut off goes on taking purges",
            "add a second replica, then set `min-replicas-to-write 1` and `min-replicas-max-lag 10` on every server",
        ),
        (0, _) => (
            "`min-replicas-to-write` is not set: a primary that is cut off goes on taking purges",
            "set `min-replicas-to-write 1` and `min-replicas-max-lag 10` on every server that has a replica",
        ),
        (least, Some(replicas)) if replicas > 0 && least >= replicas => (
            "`min-replicas-to-write` is the number of replicas: after a failover the new primary refuses all writes until the \
             former one is its replica",
            "add a replica; or set it to 0, and accept that a primary that is cut off goes on taking purges",
        ),
        _ => return None,
    };
    finding(level, "min-replicas", message, help)
}

#[cfg(test)]
mod tests {
    use super::super::ServerFacts;
    use super::*;

    fn codes(server: ServerFacts, change: impl FnOnce(&mut Inspection)) -> Vec<&'static str> {
        let server = ServerFacts { may_read_info: true, may_read_config: true, ..server };
        let mut found = Inspection { topology: "single", server, ..Inspection::default() };
        change(&mut found);
        assess(&mut found, Duration::from_millis(50));
        found.findings.iter().map(|finding| finding.code).collect()
    }

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn unknown_facts_are_not_judged() {
        assert_eq!(codes(ServerFacts::default(), |_| {}), [""; 0]);
        let hidden = |found: &mut Inspection| found.server = ServerFacts::default();
        assert_eq!(codes(ServerFacts::default(), hidden), ["not-visible"]);
    }

    #[test]
    fn each_setting_is_judged() {
        let facts = ServerFacts::default;
        for (server, expected) in [
            (ServerFacts { version: text("6.0.9"), ..facts() }, &["old-version"][..]),
            (ServerFacts { version: text("6.2.5"), ..facts() }, &[]),
            (ServerFacts { mode: text("cluster"), ..facts() }, &["wrong-topology"]),
            (ServerFacts { mode: text("standalone"), ..facts() }, &[]),
            (ServerFacts { idle_timeout: Some(5), ..facts() }, &["idle-timeout"]),
            (ServerFacts { idle_timeout: Some(0), ..facts() }, &[]),
            (ServerFacts { max_memory: Some(0), ..facts() }, &["no-maxmemory"]),
            (ServerFacts { eviction_policy: text("allkeys-lru"), ..facts() }, &["eviction-policy"]),
            (ServerFacts { eviction_policy: text("volatile-lru"), ..facts() }, &[]),
            (ServerFacts { saves_snapshots: Some(true), ..facts() }, &["persistence"]),
            (ServerFacts { replicas: Some(1), min_replicas: Some(0), ..facts() }, &["min-replicas"]),
            (ServerFacts { replicas: Some(1), min_replicas: Some(1), ..facts() }, &["min-replicas"]),
            (ServerFacts { replicas: Some(2), min_replicas: Some(1), ..facts() }, &[]),
            (ServerFacts { replicas: Some(0), min_replicas: Some(1), ..facts() }, &[]),
        ] {
            assert_eq!(codes(server.clone(), |_| {}), expected, "{server:?}");
        }
        assert_eq!(codes(facts(), |found| found.clock_lead = Some(-3_000_000)), ["clock-difference"]);
        assert_eq!(codes(facts(), |found| found.round_trip = Some(Duration::from_millis(30))), ["far-away"]);
        assert_eq!(codes(facts(), |found| found.round_trip = Some(Duration::from_millis(5))), [""; 0]);
    }
}
