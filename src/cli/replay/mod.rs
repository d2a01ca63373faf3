//! `larder audit --replay`: plays a file of requests through a larder of its own, and compares each hit with the API's
//! present answer. For pipelines.

mod http_file;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use self::http_file::{FileRequest, MAX_FILE_BYTES};
use super::admin::{AdminAddress, AdminClient, AuditArgs, counted, format_audit};
use super::connect::block_on;
use super::progress::ProgressBar;
use super::run::config_without_file;
use super::{USAGE, fail, print_result};
use crate::clock::Clock;
use crate::config::{AuditSettings, Config, EventKind, Fraction, Listen, ListenerSettings};
use crate::config::{SettingOverrides, UpstreamAddress};
use crate::server::{Listener, Listeners};
use crate::upstream::{Destination, RequestBody, Timeouts, Upstream};

/// Longest wait for one answer of larder, which waits for the API itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest wait for the audits of a few hits.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(120);
const AUDIT_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Hits that may be audited at once: fewer than larder queues, so that none is skipped.
const MAX_PENDING: usize = 8;

/// How long a purge that is not the write's own may take, where the configuration has no `audit.settle`.
const SETTLE: Duration = Duration::from_secs(2);

/// Most requests without an answer that are named.
const MAX_NAMED: usize = 10;

/// The exit code and the message.
type ReplayFailure = (u8, String);

pub(super) fn run(args: &AuditArgs, file: &Path, config: &Path) -> ExitCode {
    let report = read_file(file).and_then(|requests| {
        let config = load_config(args, config)?;
        let name = file.display().to_string();
        block_on(async { Ok(replay(config, requests, &name).await) })
            .unwrap_or_else(|error| Err(error.to_string()))
            .map_err(|error| (1, error))
    });
    let report = match report {
        Ok(report) => report,
        Err((code, error)) => return fail(code, error),
    };
    let printed = print_result(&match args.json {
        true => format!("{report:#}\n"),
        false => format_report(&report),
    });
    let audits = report["results"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64());
    if args.fails_on_findings() && audits.sum::<u64>() == 0 {
        return fail(
            1,
            "--fail-on: no hit was audited, so nothing could be found; repeat reads in the file, and see by \
             `larder explain` why they are not stored (`shared`, `per`, `ttl`)",
        );
    }
    let is_incomplete = report["replay"]["unanswered"] != 0;
    if args.is_fatal(&report) || is_incomplete { ExitCode::FAILURE } else { printed }
}

fn read_file(path: &Path) -> Result<Vec<FileRequest>, ReplayFailure> {
    let name = path.display();
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| (USAGE, format!("{name} can't be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err((USAGE, format!("{name} has more than {MAX_FILE_BYTES} bytes; split it")));
    }
    let text = String::from_utf8(bytes).map_err(|_| (USAGE, format!("{name} is not text in UTF-8")))?;
    http_file::parse(&text, &|variable| std::env::var(variable).ok()).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(|error| error.render(&name)).collect();
        (USAGE, format!("the requests can't be read\n{}", errors.join("\n")))
    })
}

/// The configuration with every hit audited, and without everything that reaches beyond the replay: shared stores,
/// warming, events from elsewhere, limits on the rate of a client, and logs.
fn load_config(args: &AuditArgs, path: &Path) -> Result<Config, ReplayFailure> {
    let over = SettingOverrides { upstream: args.upstream.clone(), ..SettingOverrides::default() };
    let mut config = Config::load_with(path, &over)
        .map_err(|errors| (USAGE, format!("the configuration has errors\n{errors}")))?;
    let every_hit = Fraction::new(1.0).unwrap_or_else(|| unreachable!("a share"));
    let settings = config.audit.take().unwrap_or_else(|| AuditSettings {
        sample: every_hit,
        ignored_json: Vec::new(),
        ignored_fields: Vec::new(),
        settle: SETTLE,
        sees_all_writes: true,
    });
    config.audit = Some(AuditSettings { sample: every_hit, sees_all_writes: true, ..settings });
    (config.background.rate, config.background.concurrency, config.background.share) =
        (1_000_000, MAX_PENDING, 100);
    (config.store.redis, config.store.publish) = (None, None);
    (config.store.encrypt, config.store.sign) = (None, None);
    config.warm.clear();
    config.events.retain(|source| matches!(source.kind, EventKind::Webhook(_)));
    (config.log.access, config.tracing) = (None, None);
    config.listener_settings = vec![ListenerSettings::default()];
    config.admin.token = None;
    // All requests come from one client here.
    config.limits.purge_targets_per_client = 0;
    config.limits.cut_writes_per_client = 0;
    config.limits.unsent_bytes_per_client = 0;
    for route in &mut config.routes {
        Arc::make_mut(route).rate = None;
    }
    Ok(config)
}

/// A larder on free ports of this machine.
struct ReplayedLarder {
    proxy: String,
    admin: AdminClient,
    thread: JoinHandle<io::Result<()>>,
    _stop: oneshot::Sender<()>,
}

impl ReplayedLarder {
    fn start(config: Config) -> Result<Self, String> {
        let open = || {
            let anywhere = Listen::Tcp(([127, 0, 0, 1], 0).into());
            Listener::bind(&anywhere).map_err(|error| format!("no free port: {error}"))
        };
        let (proxy, admin) = (open()?, open()?);
        let (address, admin_address) = (proxy.to_string(), admin.to_string());
        let listeners = Listeners { proxy: vec![proxy], admin: Some(admin), outlive_process: false };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let serve = move || crate::run(config, listeners, Clock::system(), shutdown);
        let thread = std::thread::Builder::new().name("larder-replay".into()).spawn(serve);
        Ok(Self {
            proxy: address,
            admin: AdminClient::new(AdminAddress::Tcp(admin_address), None),
            thread: thread.map_err(|error| format!("no thread: {error}"))?,
            _stop: stop,
        })
    }

    /// The error if it has ended.
    fn check(&mut self) -> Result<(), String> {
        match self.thread.is_finished() {
            true => Err("larder has stopped; `larder check --connect` may say why".to_owned()),
            false => Ok(()),
        }
    }
}

struct Player {
    larder: ReplayedLarder,
    upstream: Upstream,
    /// The `Host` of requests that name none.
    host: HeaderValue,
    /// Hits since all audits had ended.
    pending: usize,
    tally: ReplayTally,
}

#[derive(Default)]
struct ReplayTally {
    requests: usize,
    hits: usize,
    writes: usize,
    /// The line of the last hit with this target.
    hit_lines: HashMap<String, usize>,
    unanswered: usize,
    /// The first of them.
    named: Vec<String>,
}

async fn replay(config: Config, requests: Vec<FileRequest>, file: &str) -> Result<Value, String> {
    let host = default_host(&config);
    let larder = ReplayedLarder::start(config)?;
    let over = SettingOverrides { upstream: Some(format!("http://{}", larder.proxy)), ..Default::default() };
    let settings = config_without_file(&over).map_err(|errors| errors.to_string())?.upstream;
    let destination = Destination::new(&settings).map_err(|error| error.to_string())?;
    let upstream = Upstream::new(destination);
    let mut player = Player { larder, upstream, host, pending: 0, tally: ReplayTally::default() };
    let (mut bar, all) = (ProgressBar::on_stderr(), requests.len() as u64);
    for (request, done) in requests.into_iter().zip(1..) {
        player.play(request, file).await?;
        bar.draw(done, all, " requests");
    }
    let report = player.wait_for_audits().await?;
    Ok(player.tally.complete(report, file))
}

/// The upstream's own name.
fn default_host(config: &Config) -> HeaderValue {
    let authority = config.upstream.addresses.first().and_then(|address| match address {
        UpstreamAddress::Http { authority } | UpstreamAddress::Https { authority } => authority.parse().ok(),
        UpstreamAddress::Unix(_) => None,
    });
    authority.unwrap_or(HeaderValue::from_static("localhost"))
}

impl Player {
    /// Sends a request. The hits before a write are judged before it is sent, so that no difference is the write's.
    async fn play(&mut self, request: FileRequest, file: &str) -> Result<(), String> {
        let is_write = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(&request.method);
        if is_write || self.pending >= MAX_PENDING {
            self.wait_for_audits().await?;
        }
        let (line, target) = (request.line, request.target.as_str().to_owned());
        self.tally.requests += 1;
        self.tally.writes += usize::from(is_write);
        let problem = match self.send(request).await {
            Ok((StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT, _)) => {
                "the API did not answer".to_owned()
            }
            Ok((_, headers)) => {
                if is_hit(&headers) {
                    self.pending += 1;
                    self.tally.hits += 1;
                    self.tally.hit_lines.insert(target, line);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        self.larder.check()?;
        self.tally.unanswered += 1;
        if self.tally.named.len() < MAX_NAMED {
            self.tally.named.push(format!("{file}:{line}: {problem}"));
        }
        Ok(())
    }

    async fn send(&self, request: FileRequest) -> Result<(StatusCode, HeaderMap), String> {
        let FileRequest { method, target, mut headers, content, .. } = request;
        headers.entry(HOST).or_insert_with(|| self.host.clone());
        let mut message = Box::new(Request::new(RequestBody::from_content(content)));
        (*message.method_mut(), *message.uri_mut(), *message.headers_mut()) =
            (method, Uri::from(target), headers);
        let timeouts =
            Timeouts { response: ANSWER_TIMEOUT, idle: ANSWER_TIMEOUT, stream_idle: ANSWER_TIMEOUT };
        let answer = self.upstream.send(message, timeouts).await.map_err(|error| error.to_string())?;
        let (head, mut content) = answer.into_parts();
        while let Some(frame) = content.frame().await {
            frame.map_err(|error| error.to_string())?;
        }
        Ok((head.status, head.headers))
    }

    /// Waits until no hit is being audited. Returns the report.
    async fn wait_for_audits(&mut self) -> Result<Value, String> {
        let end = Instant::now() + AUDIT_TIMEOUT;
        loop {
            let report = self.larder.admin.send_async(Method::GET, "/audit", None).await?;
            if report["pending"] == 0 {
                self.pending = 0;
                return Ok(report);
            }
            if Instant::now() > end {
                return Err(format!(
                    "{} audits did not end within {} s",
                    report["pending"],
                    AUDIT_TIMEOUT.as_secs()
                ));
            }
            sleep(AUDIT_POLL_INTERVAL).await;
        }
    }
}

/// Whether larder's own member of `Cache-Status`, the last one, says so.
fn is_hit(headers: &HeaderMap) -> bool {
    let members = headers.get_all("cache-status").iter().filter_map(|value| value.to_str().ok());
    let own = members
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .rfind(|member| member.starts_with("larder"));
    own.is_some_and(|member| member.split(';').any(|parameter| parameter.trim() == "hit"))
}

impl ReplayTally {
    /// Adds what was played, and the place of each finding's request.
    fn complete(self, mut report: Value, file: &str) -> Value {
        for finding in report["findings"].as_array_mut().into_iter().flatten() {
            let url = finding["url"].as_str().unwrap_or_default();
            let is_meant = |target: &str| match url.strip_suffix('…') {
                Some(start) => target.starts_with(start),
                None => target == url,
            };
            let line =
                self.hit_lines.iter().filter(|(target, _)| is_meant(target)).map(|(_, line)| line).max();
            if let Some(line) = line {
                finding["request"] = json!(format!("{file}:{line}"));
            }
        }
        report["replay"] = json!({
            "file": file,
            "requests": self.requests,
            "hits": self.hits,
            "writes": self.writes,
            "unanswered": self.unanswered,
            "problems": self.named,
        });
        report
    }
}

fn format_report(report: &Value) -> String {
    let replay = &report["replay"];
    let mut out = format!(
        "replayed {} of {}: {}, {}, {} without an answer\n",
        counted(&replay["requests"], "request"),
        replay["file"].as_str().unwrap_or_default(),
        counted(&replay["hits"], "hit"),
        counted(&replay["writes"], "write"),
        replay["unanswered"],
    );
    for problem in replay["problems"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        out += &format!("  {}\n", problem.escape_debug());
    }
    out + &format_audit(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_what_larder_itself_calls_so() {
        for (fields, expected) in [
            (&["larder; hit; ttl=3"][..], true),
            (&["other; hit, larder; fwd=uri-miss"], false),
            (&["larder; fwd=miss", "larder; hit"], true),
            (&["other; hit"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append("cache-status", field.parse().unwrap());
            }
            assert_eq!(is_hit(&headers), expected, "{fields:?}");
        }
    }
}
