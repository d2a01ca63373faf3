//! `larder demo`: a sample API with larder in front of it, and requests to try.

mod courses;
mod tour;
pub mod upstream;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::signals::{self, RegisteredSignals};
use super::{fail, print, print_result, run};
use crate::config::{Config, ConfigErrors, Listen, SettingOverrides};
use crate::logging;
use crate::server::{Listener, Listeners};

/// The demo's configuration file.
pub const CONFIG: &str = include_str!("proxy.yaml");

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// The address for clients [default: 127.0.0.1:8080, or a free port]
    #[arg(long, value_name = "ADDRESS", env = "LARDER_LISTEN")]
    listen: Option<SocketAddr>,
    /// The address for operators [default: 127.0.0.1:9090, or a free port]
    #[arg(long, value_name = "ADDRESS", env = "LARDER_ADMIN")]
    admin: Option<SocketAddr>,
    /// Time that the sample API takes for a query, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 300)]
    delay: u64,
    /// Print the demo's configuration and exit
    #[arg(long)]
    print_config: bool,
}

pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    if args.print_config {
        return print_result(CONFIG);
    }
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, error),
    }
}

fn start(args: &DemoArgs) -> Result<(), String> {
    let signals = RegisteredSignals::register().map_err(signals::explain)?;
    let proxy = open(args.listen, 8080, "--listen")?;
    let admin = open(args.admin, 9090, "--admin")?;
    let upstream = serve_upstream(Duration::from_millis(args.delay))
        .map_err(|error| format!("the sample API can't start: {error}"))?;
    let config =
        config(&proxy.to_string(), &admin.to_string(), upstream).map_err(|errors| errors.to_string())?;
    logging::init(&config.log)?;
    _ = print(&tour::render(&proxy.to_string(), &admin.to_string(), &upstream.to_string()));
    let listeners = Listeners { proxy: vec![proxy], admin: Some(admin), outlive_process: false };
    run::serve_on(config, listeners, signals, None)
}

/// The demo's configuration, with the addresses of this run.
fn config(proxy: &str, admin: &str, upstream: SocketAddr) -> Result<Config, ConfigErrors> {
    let overrides = SettingOverrides {
        listen: vec![proxy.to_owned()],
        upstream: Some(format!("http://{upstream}")),
        admin_listen: Some(admin.to_owned()),
        ..SettingOverrides::default()
    };
    Config::parse(CONFIG, "the demo's proxy.yaml", &|_| None, &overrides)
}

/// Binds the requested address; by default the usual port on loopback, or a free one if that is taken.
fn open(asked: Option<SocketAddr>, usual: u16, flag: &str) -> Result<Listener, String> {
    let address = asked.unwrap_or(SocketAddr::from(([127, 0, 0, 1], usual)));
    match (Listener::bind(&Listen::Tcp(address)), asked) {
        (Err(error), None) if error.kind() == io::ErrorKind::AddrInUse => {
            let free = SocketAddr::from(([127, 0, 0, 1], 0));
            let listener = Listener::bind(&Listen::Tcp(free)).map_err(|error| error.to_string())?;
            _ = print(&format!(
                "Port {usual} is in use; the demo listens on {listener} instead ({flag} chooses another).\n"
            ));
            Ok(listener)
        }
        (Err(error), _) => Err(format!("can't listen on {address}: {error}\nchoose another with {flag}")),
        (Ok(listener), _) => Ok(listener),
    }
}

/// Starts the sample API on a free port and its own thread.
fn serve_upstream(delay: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("sample-api".into()).spawn(move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => upstream::serve(listener, delay).await,
                Err(error) => tracing::error!(%error, "the sample API can't listen"),
            }
        })
    })?;
    Ok(address)
}

#[cfg(test)]
mod tests;
