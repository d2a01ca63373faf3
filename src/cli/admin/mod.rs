//! `larder purge`, `purges`, `stats`, `audit` and `health`: clients of the admin listener of a running larder.

mod client;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use http::Method;
use serde_json::{Value, json};

pub(super) use self::client::{AdminAddress, AdminClient, RequestError, StreamEvent};
pub(super) use self::table::{aligned, counted, format_audit};
use super::{DEFAULT_CONFIG, fail, print_result};
use crate::config::Config;

/// The address of the admin listener, and its token.
#[derive(Args, Clone, Debug)]
pub(super) struct AdminArgs {
    /// The admin listener: a URL, host:port, or unix:/path [default: from the configuration]
    #[arg(long, value_name = "URL", env = "LARDER_ADMIN")]
    pub(super) admin: Option<AdminAddress>,
    /// The admin token [default: from the configuration]
    #[arg(long, value_name = "TOKEN", env = "LARDER_ADMIN_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
}

#[derive(Args, Debug)]
#[group(id = "targets", required = true, multiple = true, args = ["tags", "urls", "prefixes", "everything"])]
pub(super) struct PurgeArgs {
    /// All responses with this tag; may be repeated
    #[arg(long = "tag", value_name = "TAG", value_parser = parse_tag)]
    tags: Vec<String>,
    /// A path with any query, or one exact URL; may be repeated
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// A path and everything below it; may be repeated
    #[arg(long = "prefix", value_name = "PATH")]
    prefixes: Vec<String>,
    /// All responses
    #[arg(long)]
    everything: bool,
    /// Mark as stale instead of discarding, so that validation and serving stale still work
    #[arg(long)]
    soft: bool,
    /// Wait until every replica has applied the purge; fail on a timeout
    #[arg(long)]
    wait: bool,
    /// Show the routes and stored responses that the purge would reach, and purge nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Print the JSON of the admin listener
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct PurgesArgs {
    /// Maximum number of purges
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
    /// Only purges of this tag, or of everything
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Print the JSON of the admin listener
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct StatsArgs {
    /// Sum over all replicas
    #[arg(long)]
    all: bool,
    /// Print the JSON of the admin listener
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct AuditArgs {
    /// Exit with 1 on findings of this kind; `stale` covers purge-missing and changed-within-ttl; may be repeated
    #[arg(long, value_name = "KIND", value_parser = FINDING_KINDS)]
    fail_on: Vec<String>,
    /// Play the requests of this .http file through a temporary larder, and compare each hit
    #[arg(long, value_name = "FILE")]
    pub(super) replay: Option<PathBuf>,
    /// With --replay: the API to use instead of the configured one
    #[arg(long, value_name = "URL", env = "LARDER_UPSTREAM")]
    pub(super) upstream: Option<String>,
    /// Print the JSON of the admin listener
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// The kinds of the audit's findings, and the name of those that served something old.
const FINDING_KINDS: [&str; 5] = ["stale", "purge-missing", "shared-wrongly", "changed-within-ttl", "varies"];
const STALE_KINDS: [&str; 2] = ["purge-missing", "changed-within-ttl"];

#[derive(Args, Debug)]
pub(super) struct KeyArgs {
    /// The key of a response or of its lease, as Redis has it
    #[arg(value_name = "KEY")]
    key: String,
    /// Print the JSON of the admin listener
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Args, Debug)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn purge(args: &PurgeArgs, config: &Path) -> ExitCode {
    let PurgeArgs { tags, urls, prefixes, everything, soft, wait, dry_run, json, admin } = args;
    let path = match (wait, dry_run) {
        (_, true) => "/purge?dry_run=true",
        (true, false) => "/purge?wait=applied",
        (false, false) => "/purge",
    };
    let request =
        json!({"tags": tags, "urls": urls, "prefixes": prefixes, "everything": everything, "soft": soft});
    let answer = admin.client(config).and_then(|client| client.send(Method::POST, path, Some(&request)));
    finish(answer, |answer| match json {
        true => format!("{answer:#}\n"),
        false => table::format_purge(answer),
    })
}

pub(super) fn purges(args: &PurgesArgs, config: &Path) -> ExitCode {
    let tag = args.tag.as_ref().map_or(String::new(), |tag| format!("&tag={}", percent_encoded(tag)));
    let path = format!("/purges?limit={}{tag}", args.limit);
    let answer = args.admin.client(config).and_then(|client| client.send(Method::GET, &path, None));
    finish(answer, |log| if args.json { format!("{log:#}\n") } else { table::format_purges(log) })
}

/// No tag has white space: a value's is percent-encoded.
fn parse_tag(text: &str) -> Result<String, String> {
    match text.contains(char::is_whitespace) {
        true => {
            Err("a tag has no space; repeat --tag for each tag, and write a space in a value as `%20`"
                .to_owned())
        }
        false => Ok(text.to_owned()),
    }
}

pub(super) fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

pub(super) fn stats(args: &StatsArgs, config: &Path) -> ExitCode {
    let path = if args.all { "/stats?scope=all" } else { "/stats" };
    let answer = args.admin.client(config).and_then(|client| client.send(Method::GET, path, None));
    finish(answer, |stats| if args.json { format!("{stats:#}\n") } else { table::format_stats(stats) })
}

pub(super) fn audit(args: &AuditArgs, config: &Path) -> ExitCode {
    let answer = args.admin.client(config).and_then(|client| client.send(Method::GET, "/audit", None));
    let has_failed = answer.as_ref().is_ok_and(|report| args.is_fatal(report));
    let is_off = answer.as_ref().is_ok_and(|report| report["enabled"] == false);
    let code = finish(answer, |report| match args.json {
        true => format!("{report:#}\n"),
        false => table::format_audit(report),
    });
    if is_off && !args.fail_on.is_empty() {
        return fail(1, "--fail-on: no hit is audited, so nothing can be found; set `audit: {sample: 0.1%}`");
    }
    if has_failed { ExitCode::FAILURE } else { code }
}

impl AuditArgs {
    pub(super) fn fails_on_findings(&self) -> bool {
        !self.fail_on.is_empty()
    }

    /// Whether the report has a finding that is to fail.
    pub(super) fn is_fatal(&self, report: &Value) -> bool {
        let is_fatal = |finding: &Value| {
            let kind = finding["kind"].as_str().unwrap_or_default();
            self.fail_on.iter().any(|named| named == kind || named == "stale" && STALE_KINDS.contains(&kind))
        };
        report["findings"].as_array().into_iter().flatten().any(is_fatal)
    }
}

pub(super) fn describe_key(args: &KeyArgs, config: &Path) -> ExitCode {
    let path = format!("/explain?key={}", percent_encoded(&args.key));
    let answer = args.admin.client(config).and_then(|client| client.send(Method::GET, &path, None));
    finish(answer, |entry| if args.json { format!("{entry:#}\n") } else { table::format_key(entry) })
}

pub(super) fn health(args: &HealthArgs, config: &Path) -> ExitCode {
    let answer = args.admin.client_for_health(config).and_then(|(client, unread)| {
        let answer = client.send(Method::GET, "/readyz", None);
        answer.map_err(|error| unread.map_or(error.clone(), |unread| format!("{error}\n{unread}")))
    });
    finish(answer, |health| format!("{}\n", describe_health(health)))
}

/// The status, and why Redis or an event source can't be used or is used only in part.
fn describe_health(health: &Value) -> String {
    let mut described = health["status"].as_str().unwrap_or("ok").to_owned();
    if let Some(reason) = health["redis"]["trouble"].as_str() {
        described += &format!(": Redis: {reason}");
    }
    for source in health["events"].as_array().into_iter().flatten() {
        if let (Some(name), Some(reason)) = (source["name"].as_str(), source["trouble"].as_str()) {
            described += &format!(": event source `{name}`: {reason}");
        }
    }
    described
}

fn finish(answer: Result<Value, String>, render: impl FnOnce(&Value) -> String) -> ExitCode {
    match answer {
        Ok(answer) => print_result(&render(&answer)),
        Err(error) => fail(1, error),
    }
}

/// Names the file that does not exist, and the fix.
pub(super) fn describe_missing(config: &Path) -> String {
    format!(
        "the configuration {} does not exist\nname that of the running larder with --config FILE, or its admin listener with --admin URL",
        config.display()
    )
}

/// The default of `admin.listen`.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9090";

impl AdminArgs {
    /// Makes a client. The configuration is read only for values that the command line lacks.
    pub(super) fn client(&self, config_path: &Path) -> Result<AdminClient, String> {
        if let (Some(address), Some(_)) = (&self.admin, &self.token) {
            return Ok(AdminClient::new(address.clone(), self.token.clone()));
        }
        let configured = self.load_config(config_path)?;
        let token = configured.as_ref().and_then(|config| config.admin.token.clone());
        let address = match (&self.admin, &configured) {
            (Some(address), _) => address.clone(),
            (None, None) => DEFAULT_ADDRESS.parse()?,
            (None, Some(config)) => match &config.admin.listen {
                Some(listen) => AdminAddress::from_listen(listen),
                None => {
                    return Err(format!(
                        "{} has no admin listener: set `admin.listen`",
                        config_path.display()
                    ));
                }
            },
        };
        Ok(AdminClient::new(address, self.token.clone().or(token.map(|token| token.expose().to_owned()))))
    }

    /// Makes a client that needs no token. The larder that runs may do so with an earlier file, so one that can't be read
    /// leaves the default address; the second value says why.
    fn client_for_health(&self, config_path: &Path) -> Result<(AdminClient, Option<String>), String> {
        match self.client(config_path) {
            Ok(client) => Ok((client, None)),
            Err(unread) if config_path.exists() => {
                Ok((AdminClient::new(DEFAULT_ADDRESS.parse()?, None), Some(unread)))
            }
            Err(missing) => Err(missing),
        }
    }

    /// Returns `None` if there is no file, or if an error in it does not matter.
    fn load_config(&self, path: &Path) -> Result<Option<Config>, String> {
        if !path.exists() {
            // Without a file the address would be a guess, and the command might go to another larder.
            let is_guess = self.admin.is_none() && path != Path::new(DEFAULT_CONFIG);
            return if is_guess { Err(describe_missing(path)) } else { Ok(None) };
        }
        let config = Config::load(path);
        match (config, &self.admin) {
            (Ok(config), _) => Ok(Some(config)),
            // Only the token would come from it, and there may be none.
            (Err(_), Some(_)) => Ok(None),
            (Err(errors), None) => Err(format!(
                "the admin listener's address can't be read from {}; give it with --admin\n{errors}",
                path.display()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_does_not_depend_on_a_file_without_errors() {
        let file = std::env::temp_dir().join(format!("larder-health-{}.yaml", std::process::id()));
        let none = AdminArgs { admin: None, token: None };
        let named = AdminArgs { admin: Some("127.0.0.1:9191".parse().expect("an address")), token: None };
        for (text, args, address) in [
            ("upstream: [", &none, "127.0.0.1:9090"),
            ("upstream: ${LARDER_NOT_SET}", &none, "127.0.0.1:9090"),
            ("upstream: [", &named, "127.0.0.1:9191"),
            ("upstream: http://127.0.0.1:1\nadmin: {listen: \"127.0.0.1:9292\"}", &none, "127.0.0.1:9292"),
        ] {
            std::fs::write(&file, text).expect("a file");
            let (client, unread) = args.client_for_health(&file).expect("a client");
            assert!(format!("{client:?}").contains(address), "{text}: {client:?}");
            assert_eq!(unread.is_some(), address.ends_with("9090"), "{text}: {unread:?}");
        }
        std::fs::remove_file(&file).expect("the file");
        assert!(none.client_for_health(&file).is_err());
    }
}
