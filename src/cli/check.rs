//! `larder check`: reports the errors and warnings of a configuration, or summarizes its routes.

use std::fmt::Write as _;
use std::io::{self, stderr};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::connect::{Connected, connect};
use super::output::{OutputFormat, ReportEntry, Severity, colorize, render, render_errors};
use super::{fail, print};
use crate::config::{Config, ConfigErrors, Finding, PurgeAllow, SettingOverrides, show_duration};
use crate::policy::Route;
use crate::policy::content_key::ReadMethods;
use crate::policy::route::{RouteMode, Shared, Ttl};
use crate::policy::template::Template;
use crate::store::build_tls;
use crate::upstream::Destination;

/// The scope of a check, and its strictness.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CheckOptions {
    /// Warnings fail the check too.
    pub(super) is_strict: bool,
    /// Connect to Redis.
    pub(super) connects: bool,
    /// Connect to the API too, and give advice.
    pub(super) is_doctor: bool,
}

pub(super) fn run(
    path: &Path,
    overrides: &SettingOverrides,
    format: OutputFormat,
    options: CheckOptions,
) -> ExitCode {
    let (config, warnings) = match Config::check_file(path, overrides) {
        Ok(checked) => checked,
        Err(errors) => {
            _ = print(&render_errors(format, &errors));
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = load_tls(&config) {
        let help = "name the authorities to trust with `ca:`, or install the system's";
        _ = print(&render_errors(format, &ConfigErrors::without_place(path, error.to_string(), help)));
        return ExitCode::FAILURE;
    }
    let connected = match options.connects || options.is_doctor {
        true => match connect(&config, options.is_doctor) {
            Ok(connected) => Some(connected),
            Err(error) => return fail(1, error),
        },
        false => None,
    };
    let out = render_report(&path.display().to_string(), format, (&config, &warnings), connected.as_ref());
    let has = |severity| connected.as_ref().is_some_and(|connected| connected.has(severity));
    let is_failure =
        has(Severity::Error) || (options.is_strict && (!warnings.is_empty() || has(Severity::Warning)));
    match print(&out) {
        Ok(()) if is_failure => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure,
    }
}

/// Loads what larder could not start without. The files were read before: what is left are the system's authorities.
fn load_tls(config: &Config) -> io::Result<()> {
    let redis = config.store.redis.as_ref();
    redis.and_then(|redis| redis.tls.as_ref()).map(build_tls).transpose()?;
    Destination::new(&config.upstream).map(drop)
}

/// For people, the warnings of the file go to standard error.
fn render_report(
    file: &str,
    format: OutputFormat,
    (config, warnings): (&Config, &[Finding]),
    connected: Option<&Connected>,
) -> String {
    let entry = |severity, code, diagnostic| ReportEntry { severity, code, file, diagnostic };
    let mut findings: Vec<_> =
        warnings.iter().map(|warning| entry(Severity::Warning, "warning", &warning.diagnostic)).collect();
    let mut more = json!({"routes": config.routes.len(), "purge": purge_senders(config)});
    if let Some(connected) = connected {
        findings.extend(
            connected.diagnostics.iter().map(|(severity, found)| entry(*severity, found.name, found)),
        );
        if let (Value::Object(more), Value::Object(members)) = (&mut more, connected.to_json()) {
            more.extend(members);
        }
    }
    render(format, &findings, &more).unwrap_or_else(|| {
        for warning in warnings {
            eprintln!("{}", colorize(&warning.text, &stderr()));
        }
        let connected = connected.map(Connected::to_text).unwrap_or_default();
        let headline = headline(config, warnings.len());
        format!("{file}: {headline}\n{}  PURGE: {}\n{connected}", table(config), purge_senders(config))
    })
}

/// The clients that may send PURGE to the listener.
fn purge_senders(config: &Config) -> &'static str {
    match (&config.purge.allow, &config.purge.token) {
        (PurgeAllow::Loopback, Some(_)) => "with the token",
        (PurgeAllow::Networks(networks), Some(_)) if networks.is_empty() => "with the token",
        (PurgeAllow::Networks(_), Some(_)) => "from `purge.allow`, with the token",
        (PurgeAllow::Networks(networks), None) if networks.is_empty() => "off",
        (PurgeAllow::Networks(_), None) => "from `purge.allow`",
        (PurgeAllow::Loopback, None) if config.is_reached_from_elsewhere() => {
            "refused, since others can reach larder; set `purge.token` or `purge.allow`"
        }
        (PurgeAllow::Loopback, None) => "from this machine; behind a proxy on it, set `purge.token`",
    }
}

fn headline(config: &Config, warnings: usize) -> String {
    let routes = match config.routes.len() {
        0 => "no routes: everything is forwarded uncached".to_owned(),
        1 => "1 route".to_owned(),
        many => format!("{many} routes"),
    };
    let warnings = match warnings {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        many => format!(", {many} warnings"),
    };
    format!("no errors{warnings}; {routes}")
}

fn table(config: &Config) -> String {
    let width =
        config.routes.iter().map(|route| route.path.as_str().chars().count()).max().unwrap_or(0).min(60);
    config.routes.iter().fold(String::new(), |mut out, route| {
        // Writing to a string can't fail.
        let _ = writeln!(out, "  {:width$}  {}", route.path.as_str(), summary(route));
        out
    })
}

fn summary(route: &Route) -> String {
    let ttl = match route.ttl {
        Ttl::For(duration) => format!("ttl {}", show_duration(duration)),
        Ttl::Upstream => "ttl upstream".to_owned(),
        Ttl::UntilPurged => "until purged".to_owned(),
        Ttl::Never => "GETs not cached".to_owned(),
    };
    let mut parts = match route.mode {
        RouteMode::On => vec![ttl],
        RouteMode::Observe => vec!["observe".to_owned(), ttl],
        RouteMode::Off => vec!["off".to_owned()],
    };
    parts.extend(read_methods(route.methods));
    for url in route.caller_parts() {
        parts.push(format!("overlay {url}"));
    }
    match &route.per {
        Some(per) => parts.push(format!("per {per}")),
        None => match route.shared {
            Shared::No => {}
            Shared::All => parts.push("shared".to_owned()),
            Shared::SignedIn => parts.push("shared by the signed in".to_owned()),
        },
    }
    if let Some(callers) = &route.callers {
        parts.push(format!("callers {}", callers.name));
    }
    if let Some(rate) = &route.rate {
        parts.push(format!("{} requests in {}", rate.requests, show_duration(rate.period)));
    }
    if !route.tags.is_empty() {
        parts.push(format!("tags {}", list(route.tags.iter())));
    }
    match route.purges.as_deref() {
        Some([]) => parts.push("writes purge nothing".to_owned()),
        Some(purges) => parts.push(format!("purges {}", list(purges.iter().map(|rule| &rule.template)))),
        None => {}
    }
    parts.join("; ")
}

/// The methods by which a route is read, if GET is not the only one.
fn read_methods(methods: ReadMethods) -> Option<String> {
    let more = [("QUERY", methods.query), ("POST", methods.post)];
    let more: Vec<_> = more.into_iter().filter_map(|(name, is_read)| is_read.then_some(name)).collect();
    (!more.is_empty()).then(|| format!("read by GET, {}", more.join(", ")))
}

fn list<'t>(templates: impl Iterator<Item = &'t Template>) -> String {
    let names: Vec<&str> = templates.map(Template::as_str).collect();
    format!("[{}]", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{headline, table};
    use crate::config::{Config, SettingOverrides};

    #[test]
    fn the_summary_says_what_each_route_does() {
        let text = "upstream: http://127.0.0.1:3000
routes:
  - {path: /a, ttl: 90s, tags: [a], shared: true}
  - {path: '/a/{id}', per: authorization, mode: observe}
  - {path: '/a/{id}/b', purges: [a]}
  - {path: /c, ttl: none, tags: [c], purges: [], purged_by: admin}
  - {path: /d, mode: off}
  - {path: /e, ttl: 1m, methods: [GET, QUERY, POST]}
";
        let config =
            Config::parse(text, "proxy.yaml", &|_| None, &SettingOverrides::default()).expect("a right file");
        assert_eq!(headline(&config, 0), "no errors; 6 routes");
        assert_eq!(
            table(&config),
            "  /a         ttl 90s; shared; tags [a]
  /a/{id}    observe; ttl upstream; per authorization
  /a/{id}/b  GETs not cached; purges [a]
  /c         until purged; tags [c]; writes purge nothing
  /d         off
  /e         ttl 1m; read by GET, QUERY, POST
"
        );
    }
}
