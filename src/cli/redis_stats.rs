//! `larder redis stats`: counts the keys of a namespace.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::connect::block_on;
use super::{fail, print_result};
use crate::config::Config;
use crate::store::{Census, count_keys};

#[derive(Args, Debug)]
pub(super) struct RedisStatsArgs {
    /// The configuration file; the same as --config
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Namespace to count instead of the configured one
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Maximum number of keys to scan per server, all applications' included
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    limit: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RedisStatsArgs, config_path: &Path) -> ExitCode {
    let config = match Config::load(args.file.as_deref().unwrap_or(config_path)) {
        Ok(config) => config,
        Err(errors) => return fail(1, errors),
    };
    let Some(redis) = &config.store.redis else {
        return fail(1, "`store.redis` is not set: responses are kept in each process; see `larder stats`");
    };
    let namespace = args.namespace.as_ref().unwrap_or(&config.store.namespace);
    let counted = block_on(async {
        let counted = count_keys(redis, namespace, args.limit).await;
        let rights = "its user needs `+scan +strlen` besides those of docs/redis.md";
        counted.map_err(|error| {
            let error = format!("Redis: {error}");
            io::Error::other(if error.contains("NOPERM") { format!("{error}\n{rights}") } else { error })
        })
    });
    match counted {
        Ok(census) if args.json => print_result(&format!("{:#}\n", to_json(&census, namespace))),
        Ok(census) => print_result(&to_text(&census, namespace)),
        Err(error) => fail(1, error),
    }
}

fn to_json(census: &Census, namespace: &str) -> Value {
    let kinds: serde_json::Map<String, Value> = census
        .kinds
        .iter()
        .map(|(kind, count)| ((*kind).to_owned(), json!({"keys": count.keys, "bytes": count.bytes()})))
        .collect();
    json!({
        "namespace": namespace,
        "masters": census.masters,
        "scanned": census.scanned,
        "kinds": kinds,
        "indexMembers": census.index_members,
        "visited": census.visited,
        "complete": census.is_complete,
    })
}

fn to_text(census: &Census, namespace: &str) -> String {
    let mut out = format!("namespace {namespace} ({})\n", census.scanned.join(", "));
    for (kind, count) in &census.kinds {
        // Writing to a string can't fail.
        _ = write!(out, "{:>12}  {kind}", count.keys);
        if let Some(bytes) = count.bytes() {
            _ = write!(out, ", about {bytes} bytes");
        }
        if let (&"purge index", Some(members)) = (kind, census.index_members) {
            _ = write!(out, ", {members} members");
        }
        out.push('\n');
    }
    if census.kinds.is_empty() {
        out.push_str("no keys\n");
    }
    if !census.is_complete {
        out.push_str("not all keys were visited: the counts are lower bounds; raise --limit\n");
    }
    out
}
