//! `larder run`: reads the configuration, opens what is to be listened on, and lets the library work.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::inherited::Inherited;
use super::watch::{Event, Watched};
use super::{ConfigArg, USAGE, fail, service_manager, signals};
use crate::clock::Clock;
use crate::config::{Config, Listen, Overrides, UpstreamAddress};
use crate::logging;
use crate::server::{Listener, Listeners, tls};

#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    over: OverArgs,
}

/// What is given here goes over what the configuration says.
#[derive(Args, Clone, Debug)]
pub struct OverArgs {
    /// Where clients connect: address:port or unix:/path; several by comma
    #[arg(long, value_name = "ADDRESS", env = "LARDER_LISTEN", value_delimiter = ',')]
    listen: Vec<String>,
    /// The API behind larder: http://host:port, https://host or unix:/path
    #[arg(long, value_name = "URL", env = "LARDER_UPSTREAM")]
    upstream: Option<String>,
    /// Where operators connect: address:port, unix:/path, or off
    #[arg(long, value_name = "ADDRESS", env = "LARDER_ADMIN")]
    admin: Option<String>,
    /// error, warn, info, debug, trace, off, or a filter such as info,larder::proxy=debug
    #[arg(long, value_name = "LEVEL", env = "LARDER_LOG")]
    log_level: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT", env = "LARDER_LOG_FORMAT")]
    log_format: Option<String>,
}

pub fn run(args: &RunArgs) -> ExitCode {
    let path = &args.config.config;
    let watched = Watched::new(path, args.over.overrides());
    let config = match Config::load_with(path, &args.over.overrides()) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            if !path.exists() {
                eprintln!("Write one, name it with --config, or see what larder does: larder demo");
            }
            return ExitCode::from(USAGE);
        }
    };
    if let Err(error) = logging::init(&config.log) {
        return fail(USAGE, error);
    }
    for warning in &config.warnings {
        eprintln!("{warning}");
    }
    let watched = watched.also(tls::files(&config.doors));
    match bind(&config).and_then(|listeners| serve_on(config, listeners, Some(watched))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, error),
    }
}

/// Serves on what was opened, until a signal. `watched` is the file that the configuration came from, if it did.
pub fn serve_on(config: Config, listeners: Listeners, watched: Option<Watched>) -> Result<(), String> {
    let paths = if listeners.outlive { Vec::new() } else { socket_files(&config) };
    let (ask, changes) = match watched {
        Some(watched) => watched.start(),
        None => (std::sync::mpsc::channel().0, tokio::sync::mpsc::channel(1).1),
    };
    let shutdown = signals::shutdown(move || _ = ask.send(Event::Asked))
        .map_err(|error| format!("can't listen to signals: {error}"))?;
    let of_proxy: Vec<_> = listeners.proxy.iter().map(Listener::to_string).collect();
    let of_admin = listeners.admin.as_ref().map_or("off".to_string(), Listener::to_string);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = of_proxy.join(", "),
        admin = of_admin,
        upstream = url(&config.upstream.address),
        routes = config.routes.len(),
        "larder listens"
    );
    service_manager::ready();
    let shutdown = async move {
        shutdown.await;
        service_manager::stopping();
    };
    let result = crate::run_reloading(config, changes, listeners, Clock::system(), shutdown);
    for path in paths {
        // Nobody answers on it any more; should it stay, the next start replaces it.
        _ = std::fs::remove_file(path);
    }
    result.map_err(|error| format!("stopped: {error}"))
}

fn bind(config: &Config) -> Result<Listeners, String> {
    let mut inherited = Inherited::of_environment()?;
    let outlive = !inherited.is_empty();
    let mut get = |listen, key| match inherited.take(listen) {
        Some(listener) => Ok(listener),
        None => open(listen, key),
    };
    let proxy = config.listen.iter().map(|listen| get(listen, "listen")).collect::<Result<_, _>>()?;
    let admin = config.admin.listen.as_ref().map(|listen| get(listen, "admin")).transpose()?;
    inherited.refuse_rest()?;
    Ok(Listeners { proxy, admin, outlive })
}

/// `key` is how the address is called, in the file and on the command line.
fn open(listen: &Listen, key: &str) -> Result<Listener, String> {
    Listener::bind(listen).map_err(|error| {
        let address = written(listen);
        let choose = format!("choose another address with --{key}, or in proxy.yaml");
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("can't listen on {address}: something else listens there\nstop it, or {choose}")
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("can't listen on {address}: this machine does not have that address\n{choose}")
            }
            io::ErrorKind::PermissionDenied => {
                format!(
                    "can't listen on {address}: this user may not\n{choose}; ports below 1024 are reserved"
                )
            }
            _ => format!("can't listen on {address}: {error}\n{choose}"),
        }
    })
}

fn written(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn url(address: &UpstreamAddress) -> String {
    match address {
        UpstreamAddress::Http { authority } => format!("http://{authority}"),
        UpstreamAddress::Https { authority } => format!("https://{authority}"),
        UpstreamAddress::Unix(path) => format!("unix:{}", path.display()),
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

impl OverArgs {
    pub fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen.clone(),
            upstream: self.upstream.clone(),
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
            (taken.local_addr().unwrap(), "listen", "something else listens there"),
            ("192.0.2.1:8080".parse().unwrap(), "admin", "this machine does not have that address"),
        ] {
            let error = open(&Listen::Tcp(address), key).unwrap_err();
            assert!(error.contains(&address.to_string()), "{error}");
            assert!(error.contains(expected) && error.contains(&format!("--{key}")), "{error}");
        }
    }

    #[test]
    fn all_that_is_given_goes_over_the_file() {
        let over = OverArgs {
            listen: vec!["127.0.0.1:1".into(), "unix:/tmp/l.sock".into()],
            upstream: Some("https://api.example".into()),
            admin: Some("off".into()),
            log_level: Some("debug".into()),
            log_format: Some("json".into()),
        };
        let text = "upstream: http://127.0.0.1:3000";
        let config = Config::parse(text, "proxy.yaml", &|_| None, &over.overrides())
            .unwrap_or_else(|errors| panic!("{errors}"));
        let listen = [Listen::Tcp("127.0.0.1:1".parse().unwrap()), Listen::Unix("/tmp/l.sock".into())];
        assert_eq!(config.listen, listen);
        assert_eq!(url(&config.upstream.address), "https://api.example");
        assert_eq!(config.admin.listen, None);
        assert_eq!((config.log.level.as_str(), config.log.json), ("debug", true));
        assert_eq!(socket_files(&config), [PathBuf::from("/tmp/l.sock")]);
    }
}
