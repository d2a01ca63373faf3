//! Connects to Redis, PostgreSQL and the API as a configuration says, for `larder check --connect` and `larder doctor`.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use http::{Method, Request, Uri};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::output::Severity;
use crate::clock::Clock;
use crate::config::{Config, Diagnostic, EventKind, EventSource, Location, UpstreamSettings};
use crate::events::postgres::PostgresListener;
use crate::explain::{KeyStatus, callers};
use crate::store::remote_status::FailureReason;
use crate::store::{FindingLevel, Inspection, RedisEventSource, inspect};
use crate::upstream::{Destination, RequestBody, Timeouts, Upstream};

/// The servers of event sources, as people call them.
const POSTGRES: &str = "PostgreSQL";
const REDIS: &str = "Redis";

/// Longest wait for the API's answer.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(5);

/// Results of connecting.
#[derive(Default)]
pub(super) struct Connected {
    /// `None`: the configuration has no `store.redis`.
    redis: Option<Inspection>,
    /// The status of the API's answer and its time, or why there is none; `None` if it was not asked.
    upstream: Option<Result<(u16, Duration), String>>,
    sources: Vec<TriedSource>,
    pub(super) diagnostics: Vec<(Severity, Diagnostic)>,
}

/// An event source, and whether it can be heard.
struct TriedSource {
    name: String,
    server: &'static str,
    /// With the version of the server, if it tells one; or why it can't be heard.
    heard: Result<Option<String>, FailureReason>,
}

/// Connects to Redis and PostgreSQL, and `with_upstream` to the API too.
///
/// # Errors
/// If a TLS file can't be read, or no runtime can be made.
pub(super) fn connect(config: &Config, with_upstream: bool) -> io::Result<Connected> {
    block_on(async {
        let mut connected = Connected::default();
        if let Some(redis) = &config.store.redis {
            let inspection = inspect(redis, &config.store, &Clock::system()).await?;
            connected.diagnostics.extend(diagnostics(&inspection, with_upstream));
            connected.redis = Some(inspection);
        }
        for source in &config.events {
            connected.try_source(source).await?;
        }
        if with_upstream {
            let answer = ask_upstream(&config.upstream).await?;
            connected.diagnostics.extend(answer.as_ref().err().map(|error| upstream_diagnostic(error)));
            connected.upstream = Some(answer);
            connected.diagnostics.extend(find_missing_keys(config).await?);
        }
        Ok(connected)
    })
}

/// Runs a task on a runtime of its own. Connections that hang afterwards hold nothing up.
///
/// # Errors
/// The task's, or that no runtime can be made.
pub(super) fn block_on<T>(task: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(task);
    runtime.shutdown_background();
    result
}

fn diagnostics(inspection: &Inspection, with_advice: bool) -> Vec<(Severity, Diagnostic)> {
    let findings =
        inspection.findings.iter().filter(|finding| with_advice || finding.level != FindingLevel::Advice);
    let diagnostic = |finding: &crate::store::ServerFinding| {
        let severity = match finding.level {
            FindingLevel::Error => Severity::Error,
            FindingLevel::Warning => Severity::Warning,
            FindingLevel::Advice => Severity::Note,
        };
        let message = format!("Redis: {}", finding.message);
        (severity, new_diagnostic(finding.code, message, finding.help.clone()))
    };
    findings.map(diagnostic).collect()
}

fn upstream_diagnostic(error: &str) -> (Severity, Diagnostic) {
    let help = "check `upstream`, and that the API runs and can be reached from here".to_owned();
    (Severity::Error, new_diagnostic("upstream", format!("the API: {error}"), Some(help)))
}

/// Fetches the keys of `callers` as a running larder does.
async fn find_missing_keys(config: &Config) -> io::Result<Vec<(Severity, Diagnostic)>> {
    let callers = callers(config, Clock::system())?;
    callers.load_keys().await;
    let diagnostic = |status: KeyStatus| {
        let trouble = status.trouble?;
        let message = format!("the keys of `callers.{}`: {trouble}", status.callers);
        let help = "check `keys`, and that it can be reached from here; without keys no caller has a hit";
        Some((Severity::Error, new_diagnostic("caller-keys", message, Some(help.to_owned()))))
    };
    Ok(callers.key_statuses().into_iter().filter_map(diagnostic).collect())
}

fn new_diagnostic(name: &'static str, message: String, help: Option<String>) -> Diagnostic {
    Diagnostic { location: Location::Start, message, help, note: None, name, is_secret: false }
}

/// Any answer to HEAD shows that the API is there.
async fn ask_upstream(settings: &UpstreamSettings) -> io::Result<Result<(u16, Duration), String>> {
    let upstream = Upstream::new(Destination::new(settings)?);
    let mut request = Box::new(Request::new(RequestBody::empty()));
    *request.method_mut() = Method::HEAD;
    *request.uri_mut() = Uri::from_static("/");
    let timeout = UPSTREAM_TIMEOUT.min(settings.response_timeout);
    let timeouts = Timeouts { response: timeout, idle: timeout, stream_idle: timeout };
    let began = Instant::now();
    let answer = upstream.send(request, timeouts).await;
    Ok(answer.map(|answer| (answer.status().as_u16(), began.elapsed())).map_err(|error| error.to_string()))
}

impl TriedSource {
    fn diagnostic(&self) -> Option<(Severity, Diagnostic)> {
        let reason = self.heard.as_ref().err()?;
        let help = "until it is heard, nothing that it announces is purged".to_owned();
        let message = format!("{} of the event source `{}`: {reason}", self.server, self.name);
        Some((Severity::Error, new_diagnostic(reason.code, message, Some(help))))
    }

    fn to_json(&self) -> Value {
        match &self.heard {
            Ok(Some(version)) => json!({"source": self.name, "version": version}),
            Ok(None) => json!({"source": self.name}),
            Err(reason) => json!({"source": self.name, "error": reason.message}),
        }
    }
}

impl Connected {
    /// Hears an event source as a running larder does.
    async fn try_source(&mut self, source: &EventSource) -> io::Result<()> {
        let (server, heard) = match &source.kind {
            EventKind::Webhook(_) => return Ok(()),
            EventKind::Notify { postgres, channels } => {
                (POSTGRES, PostgresListener::new(postgres, channels)?.check().await.map(Some))
            }
            EventKind::Stream { redis, key, .. } => {
                (REDIS, RedisEventSource::new(redis)?.check_stream(key).await.map(|()| None))
            }
            EventKind::PubSub { redis, channel } => {
                (REDIS, RedisEventSource::new(redis)?.check_channel(channel).await.map(|()| None))
            }
        };
        let tried = TriedSource { name: source.name.clone(), server, heard };
        self.diagnostics.extend(tried.diagnostic());
        self.sources.push(tried);
        Ok(())
    }

    fn sources_at(&self, server: &str) -> impl Iterator<Item = &TriedSource> {
        self.sources.iter().filter(move |source| source.server == server)
    }

    pub(super) fn has(&self, severity: Severity) -> bool {
        self.diagnostics.iter().any(|(its, _)| *its == severity)
    }

    /// The members `redis`, `postgres`, `eventRedis` and `upstream` of a report.
    pub(super) fn to_json(&self) -> Value {
        let upstream = self.upstream.as_ref().map(|answer| match answer {
            Ok((status, took)) => json!({"status": status, "millis": millis(*took)}),
            Err(error) => json!({"error": error}),
        });
        let sources = |server| self.sources_at(server).map(TriedSource::to_json).collect::<Value>();
        json!({
            "redis": self.redis.as_ref().map(redis_json),
            "postgres": sources(POSTGRES),
            "eventRedis": sources(REDIS),
            "upstream": upstream,
        })
    }

    /// The state of each in words, then the findings.
    pub(super) fn to_text(&self) -> String {
        let mut out = match &self.redis {
            Some(redis) => redis_text(redis),
            None => "Redis: `store.redis` is not set; responses are kept in this process\n".to_owned(),
        };
        for TriedSource { name, heard, .. } in self.sources_at(POSTGRES).chain(self.sources_at(REDIS)) {
            match heard {
                Ok(Some(version)) => {
                    _ = writeln!(out, "PostgreSQL {version}: delivers the notifications of `{name}`");
                }
                Ok(None) => _ = writeln!(out, "Redis: delivers the events of `{name}`"),
                Err(_) => {}
            }
        }
        if let Some(Ok((status, took))) = &self.upstream {
            _ = writeln!(out, "API: answers {status} to HEAD / in {:.1} ms", millis(*took));
        }
        for (severity, diagnostic) in &self.diagnostics {
            _ = writeln!(out, "{}: {} [{}]", severity.as_str(), diagnostic.message, diagnostic.name);
            if let Some(help) = &diagnostic.help {
                _ = writeln!(out, "  help: {help}");
            }
        }
        out
    }
}

fn redis_json(found: &Inspection) -> Value {
    let server = &found.server;
    json!({
        "topology": found.topology,
        "masters": found.masters,
        "server": server.name,
        "version": server.version,
        "mode": server.mode,
        "usedMemory": server.used_memory,
        "maxmemory": server.max_memory,
        "maxmemoryPolicy": server.eviction_policy,
        "appendonly": server.appends_to_file,
        "snapshots": server.saves_snapshots,
        "replicas": server.replicas,
        "minReplicasToWrite": server.min_replicas,
        "timeoutSeconds": server.idle_timeout,
        "infoAllowed": server.may_read_info,
        "configAllowed": server.may_read_config,
        "roundTripMillis": found.round_trip.map(millis),
        "clockLeadMillis": found.clock_lead.map(|micros| micros as f64 / 1e3),
        "wakeUpMillis": found.wake_up.map(millis),
        "tried": found.tried,
        "refused": found.refused,
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn redis_text(found: &Inspection) -> String {
    let server = &found.server;
    let unknown = || "unknown".to_owned();
    let masters = found.masters.join(", ");
    if found.tried == 0 {
        return format!("Redis: not connected ({})\n", format!("{} {masters}", found.topology).trim_end());
    }
    let name = server.name.clone().unwrap_or_else(|| "redis".to_owned());
    let version = server.version.clone().unwrap_or_else(unknown);
    let used = server.used_memory.map_or_else(unknown, mebibytes);
    let limit = match server.max_memory {
        Some(0) => "no limit".to_owned(),
        limit => limit.map_or_else(unknown, mebibytes),
    };
    let switch = |state: Option<bool>| state.map_or("unknown", |is_on| if is_on { "on" } else { "off" });
    let count = |number: Option<u64>| number.map_or_else(unknown, |number| number.to_string());
    let mut out = format!("Redis: {name} {version}, {} ({masters})\n", found.topology);
    let lines = [
        ("round trip", found.round_trip.map_or_else(unknown, |took| format!("{:.2} ms", millis(took)))),
        ("clock", found.clock_lead.map_or_else(unknown, |lead| format!("{:+.2} ms", lead as f64 / 1e3))),
        (
            "wake-ups",
            found.wake_up.map_or("not delivered".to_owned(), |took| format!("{:.2} ms", millis(took))),
        ),
        ("commands", format!("{} of {}", found.tried - found.refused.len().min(found.tried), found.tried)),
        (
            "memory",
            format!("{used} used, {limit}, {}", server.eviction_policy.clone().unwrap_or_else(unknown)),
        ),
        (
            "persistence",
            format!(
                "appendonly {}, snapshots {}",
                switch(server.appends_to_file),
                switch(server.saves_snapshots)
            ),
        ),
        (
            "replicas",
            format!("{}, min-replicas-to-write {}", count(server.replicas), count(server.min_replicas)),
        ),
    ];
    for (name, value) in lines {
        _ = writeln!(out, "  {name:<12} {value}");
    }
    out
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
