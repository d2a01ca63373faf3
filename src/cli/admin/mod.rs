//! `larder purge`, `stats` and `health`: they ask the admin listener of a larder that runs.

mod client;
mod table;

use std::process::ExitCode;

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use self::client::{Address, Client};
use super::{ConfigArg, fail};
use crate::config::Config;

/// Where the admin listener is, and what it wants to see.
#[derive(Args, Clone, Debug)]
pub(super) struct AdminArgs {
    /// The admin listener: a URL, host:port, or unix:/path [default: as the configuration says]
    #[arg(long, value_name = "URL", env = "LARDER_ADMIN")]
    admin: Option<Address>,
    /// The admin token [default: as the configuration says]
    #[arg(long, value_name = "TOKEN", env = "LARDER_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Args, Debug)]
#[group(id = "targets", required = true, multiple = true, args = ["tags", "urls", "prefixes", "everything"])]
pub struct PurgeArgs {
    /// All responses that carry this tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// One path with all its queries, or with one query; may be repeated
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// One path and all below it; may be repeated
    #[arg(long = "prefix", value_name = "PATH")]
    prefixes: Vec<String>,
    /// Everything
    #[arg(long)]
    everything: bool,
    /// Make stale instead of discarding, so that validation and serving stale still work
    #[arg(long)]
    soft: bool,
    /// Return only when every replica knows the purge; fail if that takes too long
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Args, Debug)]
pub struct PurgesArgs {
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
    /// Only those that name this tag, or everything
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Print the JSON as the admin listener gives it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Args, Debug)]
pub struct StatsArgs {
    /// Print the JSON as the admin listener gives it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Args, Debug)]
pub struct HealthArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

pub fn purge(args: &PurgeArgs) -> ExitCode {
    let PurgeArgs { tags, urls, prefixes, everything, soft, wait, admin } = args;
    let path = if *wait { "/purge?wait=applied" } else { "/purge" };
    let wanted =
        json!({"tags": tags, "urls": urls, "prefixes": prefixes, "everything": everything, "soft": soft});
    finish(admin.client().and_then(|client| client.send(Method::POST, path, Some(&wanted))), |answer| {
        format!("purged {} target(s), at position {}\n", answer["targets"], answer["position"])
    })
}

pub fn purges(args: &PurgesArgs) -> ExitCode {
    let tag = args.tag.as_ref().map_or(String::new(), |tag| format!("&tag={}", percent_encoded(tag)));
    let path = format!("/purges?limit={}{tag}", args.limit);
    let answer = args.admin.client().and_then(|client| client.send(Method::GET, &path, None));
    finish(answer, |told| if args.json { format!("{told:#}\n") } else { table::of_purges(told) })
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

pub fn stats(args: &StatsArgs) -> ExitCode {
    let answer = args.admin.client().and_then(|client| client.send(Method::GET, "/stats", None));
    finish(answer, |stats| if args.json { format!("{stats:#}\n") } else { table::of_stats(stats) })
}

pub fn health(args: &HealthArgs) -> ExitCode {
    let answer = args.admin.client().and_then(|client| client.send(Method::GET, "/readyz", None));
    finish(answer, |health| format!("{}\n", health["status"].as_str().unwrap_or("ok")))
}

fn finish(answer: Result<Value, String>, shown: impl FnOnce(&Value) -> String) -> ExitCode {
    match answer {
        Ok(answer) => {
            print!("{}", shown(&answer));
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, error),
    }
}

/// Where the admin listener is if nothing says otherwise.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9090";

impl AdminArgs {
    /// The configuration is read only for what the command line leaves open.
    pub(super) fn client(&self) -> Result<Client, String> {
        if let (Some(address), Some(_)) = (&self.admin, &self.token) {
            return Ok(Client::new(address.clone(), self.token.clone()));
        }
        let configured = self.configured()?;
        let token = configured.as_ref().and_then(|config| config.admin.token.clone());
        let address = match (&self.admin, &configured) {
            (Some(address), _) => address.clone(),
            (None, None) => DEFAULT_ADDRESS.parse()?,
            (None, Some(config)) => match &config.admin.listen {
                Some(listen) => Address::of(listen),
                None => return Err("the configuration has no admin listener: set `admin.listen`".into()),
            },
        };
        Ok(Client::new(address, self.token.clone().or(token.map(|token| token.expose().to_owned()))))
    }

    /// The configuration's.
    pub(super) fn file(&self) -> &std::path::Path {
        &self.config.config
    }

    /// None where there is no file: then the defaults hold.
    fn configured(&self) -> Result<Option<Config>, String> {
        let path = &self.config.config;
        if !path.exists() {
            return Ok(None);
        }
        let config = Config::load(path);
        match (config, &self.admin) {
            (Ok(config), _) => Ok(Some(config)),
            // It was wanted for the token only, and perhaps there is none.
            (Err(_), Some(_)) => Ok(None),
            (Err(errors), None) => Err(format!(
                "the admin listener's address can't be read from {}; give it with --admin\n{errors}",
                path.display()
            )),
        }
    }
}
