//! `larder run`: reads the configuration, opens the listeners, and runs the proxy.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::output::colorize;
use super::signals::RegisteredSignals;
use super::socket_activation::InheritedListeners;
use super::watch::{ConfigWatcher, ReloadEvent};
use super::{DEFAULT_CONFIG, USAGE, fail, print, service_manager, signals};
use crate::Shutdown;
use crate::clock::Clock;
use crate::config::{Config, ConfigErrors, Listen, SettingOverrides};
use crate::logging;
use crate::policy::route::RouteMode;
use crate::server::{Listener, Listeners, tls};

/// Settings that take precedence over the configuration.
#[derive(Args, Clone, Debug)]
pub(super) struct OverrideArgs {
    /// The address for clients: address:port or unix:/path; several separated by commas
    #[arg(long, value_name = "ADDRESS", env = "LARDER_LISTEN", value_delimiter = ',')]
    listen: Vec<String>,
    /// The API behind larder: http://host:port, https://host or unix:/path
    #[arg(long, value_name = "URL", env = "LARDER_UPSTREAM")]
    upstream: Option<String>,
    /// Cache nothing and observe all requests, for `larder suggest --observed`: `mode: observe` in `defaults`
    #[arg(long)]
    observe: bool,
    /// The address for operators: address:port, unix:/path, or off
    #[arg(long, value_name = "ADDRESS", env = "LARDER_ADMIN")]
    admin: Option<String>,
    /// The log level: error, warn, info, debug, trace, off; or a filter such as info,larder::proxy=debug
    #[arg(long, value_name = "LEVEL", env = "LARDER_LOG")]
    log_level: Option<String>,
    /// The log format: text or json
    #[arg(long, value_name = "FORMAT", env = "LARDER_LOG_FORMAT")]
    log_format: Option<String>,
}

/// Without a file: responses live as long as the API's own fields allow.
const WITHOUT_FILE: &str = "routes: [{path: \"/{*rest?}\", ttl: upstream}]";

/// Runs with the file at `path`. If that is the default name, it may be absent when there is an upstream.
pub(super) fn run(path: &Path, is_default_path: bool, over: &OverrideArgs) -> ExitCode {
    match RegisteredSignals::register() {
        Ok(signals) => start(path, is_default_path, over, signals),
        Err(error) => fail(1, signals::explain(error)),
    }
}

fn start(path: &Path, is_default_path: bool, over: &OverrideArgs, signals: RegisteredSignals) -> ExitCode {
    let watcher = ConfigWatcher::new(path, over.overrides());
    let is_without_file = is_default_path && over.upstream.is_some() && !path.exists();
    let config = match is_without_file {
        true => config_without_file(&over.overrides()),
        false => Config::load_to_start(path, &over.overrides()),
    };
    let config = match config {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{}", colorize(&errors.to_string(), &io::stderr()));
            if is_default_path && !path.exists() {
                eprintln!(
                    "Start without one: larder --upstream URL; write one: larder init --upstream URL; see larder at \
                     work: larder demo"
                );
            }
            return ExitCode::from(USAGE);
        }
    };
    if let Err(error) = logging::init(&config.log) {
        return fail(USAGE, error);
    }
    for warning in &config.warnings {
        eprintln!("{}", colorize(warning, &io::stderr()));
    }
    let watcher = watcher.with_certificates(tls::certificate_files(&config.listener_settings), &config);
    let served = bind(&config, path).and_then(|listeners| {
        if is_without_file {
            _ = print(&first_steps(&config, &listeners));
        }
        serve_on(config, listeners, signals, Some(watcher))
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, error),
    }
}

/// The text of a start without a file: what is cached, and how to go on.
fn first_steps(config: &Config, listeners: &Listeners) -> String {
    let proxy = listeners.proxy.first().map_or_else(String::new, Listener::to_string);
    let upstream = config.upstream.urls();
    let admin = match &listeners.admin {
        Some(listener) => format!("Operators  http://{listener}/dashboard\n"),
        None => String::new(),
    };
    if config.routes.iter().all(|route| route.mode == RouteMode::Observe) {
        return format!(
            "No {DEFAULT_CONFIG}: larder forwards everything, and observes what changes the answers.

Clients    http://{proxy} in front of {upstream}
{admin}Go on      larder suggest --observed > {DEFAULT_CONFIG}   (once each kind of write has occurred some times)

"
        );
    }
    format!(
        "No {DEFAULT_CONFIG}: larder caches what the API itself allows (its Cache-Control and Expires), nothing else.

Clients    http://{proxy} in front of {upstream}
{admin}Try it     curl -i http://{proxy}/   (Cache-Status: a hit, or why not)
Go on      larder init --upstream {upstream}   (writes a first {DEFAULT_CONFIG}; larder takes it at once)

"
    )
}

/// Serves until a signal arrives. Without a `watcher`, the configuration never changes.
pub(super) fn serve_on(
    config: Config,
    listeners: Listeners,
    signals: RegisteredSignals,
    watcher: Option<ConfigWatcher>,
) -> Result<(), String> {
    let paths = if listeners.outlive_process { Vec::new() } else { socket_files(&config) };
    let (reload, changes) = match watcher {
        Some(watcher) => watcher.start(),
        None => (std::sync::mpsc::channel().0, tokio::sync::mpsc::channel(1).1),
    };
    let (drain, exit) =
        signals::shutdown_requested(signals, move || _ = reload.send(ReloadEvent::ReloadRequested))
            .map_err(signals::explain)?;
    let of_proxy: Vec<_> = listeners.proxy.iter().map(Listener::to_string).collect();
    let of_admin = listeners.admin.as_ref().map_or("off".to_string(), Listener::to_string);
    let (upstream, routes) = (config.upstream.urls(), config.routes.len());
    // Polled once everything is set up that could fail.
    let shutdown = async move {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            listen = of_proxy.join(", "),
            admin = of_admin,
            upstream,
            routes,
            "listening"
        );
        service_manager::notify_ready();
        drain.await;
        service_manager::notify_stopping();
    };
    let result = crate::run_with_reload(
        config,
        changes,
        listeners,
        Clock::system(),
        Shutdown::from(shutdown).with_exit(exit),
    );
    for path in paths {
        // A socket file that remains is replaced by the next start.
        _ = std::fs::remove_file(path);
    }
    result.map_err(|error| format!("stopped: {error}"))
}

/// Opens the listeners, or takes them from the service manager.
fn bind(config: &Config, path: &Path) -> Result<Listeners, String> {
    let mut inherited = InheritedListeners::from_environment()?;
    let outlive = !inherited.is_empty();
    let mut get = |listen, key| match inherited.take(listen) {
        Some(listener) => Ok(listener),
        None => open(listen, key, path),
    };
    let proxy = config.listen.iter().map(|listen| get(listen, "listen")).collect::<Result<_, _>>()?;
    let admin = config.admin.listen.as_ref().map(|listen| get(listen, "admin")).transpose()?;
    inherited.refuse_rest()?;
    Ok(Listeners { proxy, admin, outlive_process: outlive })
}

/// Opens the address of `key`, which is also the name of the flag. `path` is the configuration.
fn open(listen: &Listen, key: &str, path: &Path) -> Result<Listener, String> {
    Listener::bind(listen).map_err(|error| {
        let address = format_listen(listen);
        let choose = format!("choose another address with --{key}, or in {}", path.display());
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "can't listen on {address}: the address is in use\nstop the other process, or {choose}"
                )
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("can't listen on {address}: this machine does not have that address\n{choose}")
            }
            io::ErrorKind::PermissionDenied => {
                format!(
                    "can't listen on {address}: permission denied\n{choose}; ports below 1024 are reserved"
                )
            }
            _ => format!("can't listen on {address}: {error}\n{choose}"),
        }
    })
}

fn format_listen(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn socket_files(config: &Config) -> Vec<PathBuf> {
    let all = config.listen.iter().chain(&config.admin.listen);
    all.filter_map(|listen| match listen {
        Listen::Unix(path) => Some(path.clone()),
        Listen::Tcp(_) => None,
    })
    .collect()
}

/// The configuration of a start without a file.
pub(super) fn config_without_file(over: &SettingOverrides) -> Result<Config, ConfigErrors> {
    let environment = |name: &str| std::env::var(name).ok();
    Config::parse(WITHOUT_FILE, "the command line", &environment, over)
}

impl OverrideArgs {
    pub(super) fn overrides(&self) -> SettingOverrides {
        SettingOverrides {
            listen: self.listen.clone(),
            upstream: self.upstream.clone(),
            observe: self.observe,
            admin_listen: self.admin.clone(),
            log_level: self.log_level.clone(),
            log_format: self.log_format.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_can_not_be_opened_says_why_and_what_to_do() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for (address, key, expected) in [
            (taken.local_addr().unwrap(), "listen", "the address is in use"),
            ("192.0.2.1:8080".parse().unwrap(), "admin", "this machine does not have that address"),
        ] {
            let error = open(&Listen::Tcp(address), key, Path::new("larder.yaml")).unwrap_err();
            assert!(error.contains(&address.to_string()), "{error}");
            assert!(
                error.contains(expected) && error.contains(&format!("--{key}, or in larder.yaml")),
                "{error}"
            );
        }
    }

    #[test]
    fn all_that_is_given_goes_over_the_file() {
        let over = OverrideArgs {
            listen: vec!["127.0.0.1:1".into(), "unix:/tmp/l.sock".into()],
            upstream: Some("https://api.example".into()),
            observe: true,
            admin: Some("off".into()),
            log_level: Some("debug".into()),
            log_format: Some("json".into()),
        };
        let text =
            "upstream: http://127.0.0.1:3000\nroutes: [{path: /a, ttl: 1s}, {path: /b, ttl: 1s, mode: on}]";
        let config = Config::parse(text, "proxy.yaml", &|_| None, &over.overrides())
            .unwrap_or_else(|errors| panic!("{errors}"));
        let listen = [Listen::Tcp("127.0.0.1:1".parse().unwrap()), Listen::Unix("/tmp/l.sock".into())];
        assert_eq!(config.listen, listen);
        assert_eq!(config.upstream.urls(), "https://api.example");
        assert_eq!(config.admin.listen, None);
        assert_eq!((config.routes[0].mode, config.routes[1].mode), (RouteMode::Observe, RouteMode::On));
        assert_eq!((config.log.level.as_str(), config.log.json), ("debug", true));
        assert_eq!(socket_files(&config), [PathBuf::from("/tmp/l.sock")]);
    }
}
