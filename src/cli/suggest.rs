//! `larder suggest`: prints a configuration, with the reason of each line, from what describes an API or its traffic.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use http::Method;

use super::admin::AdminArgs;
use super::progress::{ProgressBar, ProgressReader};
use super::{USAGE, fail, print_result};
use crate::config::{Config, read_document};
use crate::draft::{DEFAULT_UPSTREAM, Draft, access_log, observed, openapi};
use crate::observation::ObservedTraffic;

#[derive(Args, Debug)]
#[group(id = "source", required = true, args = ["openapi", "access_log", "observed"])]
pub(super) struct SuggestArgs {
    /// An OpenAPI 3.0 or 3.1 document of the API, in YAML or JSON
    #[arg(long, value_name = "FILE", conflicts_with = "access_log")]
    openapi: Option<PathBuf>,
    /// An access log in the combined format, or with one JSON object per line, such as larder's own
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// The traffic that a running larder has seen on routes in `mode: observe`
    #[arg(long, conflicts_with_all = ["openapi", "access_log"])]
    observed: bool,
    /// The API's address [default: the first server of the document, or the observed API]
    #[arg(long, value_name = "URL", env = "LARDER_UPSTREAM")]
    upstream: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &SuggestArgs, config: &Path) -> ExitCode {
    let upstream = args.upstream.as_deref();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    print_draft(match (&args.openapi, &args.access_log) {
        (Some(path), _) => read_document(path).map_err(|errors| errors.to_string()).and_then(|document| {
            openapi::draft(&document, &name(path), upstream).map_err(|error| name_file(path, &error))
        }),
        (None, Some(path)) => {
            let open = || {
                let file = File::open(path)?;
                let size = file.metadata()?.len();
                Ok(BufReader::new(ProgressReader::new(file, size, ProgressBar::on_stderr())))
            };
            access_log::draft(open, &name(path), upstream.unwrap_or(DEFAULT_UPSTREAM))
        }
        (None, None) if args.observed => draft_observed(&args.admin, config, upstream),
        (None, None) => Err("name a source: --openapi FILE, --access-log FILE or --observed".into()),
    })
}

/// An error with the file that it is about.
fn name_file(path: &Path, error: &str) -> String {
    format!("{}: {error}", path.display())
}

/// Asks a running larder.
pub(super) fn draft_observed(
    admin: &AdminArgs,
    config: &Path,
    upstream: Option<&str>,
) -> Result<Draft, String> {
    let report = admin.client(config)?.send(Method::GET, "/observed", None)?;
    let mut traffic: ObservedTraffic = serde_json::from_value(report)
        .map_err(|error| format!("another version of larder answered: {error}"))?;
    // A larder of an earlier version names no upstream. The file may be the one that the shell has just emptied.
    if traffic.upstream.is_empty()
        && let Ok(config) = Config::load(config)
    {
        traffic.upstream = config.upstream.addresses.iter().map(ToString::to_string).collect();
    }
    observed::draft(&traffic, "a running larder", upstream)
}

/// Prints the text of a draft, and what `larder lint` finds in it.
pub(super) fn print_draft(draft: Result<Draft, String>) -> ExitCode {
    let written = draft.and_then(|draft| draft.write().map_err(|errors| errors.to_string()));
    match written {
        Ok((text, findings)) => {
            findings.iter().for_each(|finding| eprintln!("{}", finding.text));
            print_result(&text)
        }
        Err(error) => fail(USAGE, error),
    }
}
