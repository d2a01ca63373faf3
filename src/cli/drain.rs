//! `larder drain`: moves clients away from a running larder, and waits until they have gone.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use http::Method;

use super::admin::AdminArgs;
use super::{USAGE, fail, print_result};
use crate::config::read_duration;

/// The time between two looks at the open connections.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
pub(super) struct DrainArgs {
    /// End the process once the requests in flight are answered, as SIGTERM does
    #[arg(long)]
    exit: bool,
    /// Wait until no client is connected; fail if that takes longer
    #[arg(long, value_name = "DURATION", conflicts_with = "exit")]
    wait: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &DrainArgs, config: &Path) -> ExitCode {
    let wait = match args.wait.as_deref().map(read_duration).transpose() {
        Ok(wait) => wait.unwrap_or_default(),
        Err((error, help)) => return fail(USAGE, format_args!("--wait: {error}; {help}")),
    };
    match drain(args, config, wait) {
        Ok(0) => print_result("draining: no client is connected\n"),
        Ok(connections) if args.wait.is_none() => {
            print_result(&format!("draining: {connections} client connections are open\n"))
        }
        Ok(connections) => fail(1, format_args!("{connections} client connections are open after `--wait`")),
        Err(error) => fail(1, error),
    }
}

/// Returns the number of client connections that are open after `wait` at the latest.
fn drain(args: &DrainArgs, config: &Path, wait: Duration) -> Result<u64, String> {
    let client = args.admin.client(config)?;
    let path = if args.exit { "/drain?exit=true" } else { "/drain" };
    let started = Instant::now();
    loop {
        let answer = client.send(Method::POST, path, None)?;
        let connections = answer["connections"].as_u64().ok_or("the answer has no `connections`")?;
        if connections == 0 || started.elapsed() >= wait {
            return Ok(connections);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
