//! What is logged, and how: text for people or JSON for machines, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogSettings;

/// From now on everything is logged as `settings` say; once in a process.
pub fn init(settings: &LogSettings) -> Result<(), String> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(&settings.level)?)
        .with_writer(std::io::stderr)
        // Whoever read the log may have gone. To complain of that on the same stream would end the task that logged.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let set = if settings.json { subscriber.json().try_init() } else { subscriber.try_init() };
    set.map_err(|error| error.to_string())
}

/// A level alone is larder's own: of the libraries only warnings are of use to an operator, and of Redis' driver not even
/// those, since larder says itself when Redis is away.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    let directives = match level.trim().to_ascii_lowercase().as_str() {
        plain @ ("info" | "debug" | "trace") => format!("warn,fred=error,larder={plain}"),
        _ => level.trim().to_string(),
    };
    EnvFilter::try_new(&directives).map_err(|error| {
        format!(
            "{level:?} is no log level ({error}); write error, warn, info, debug, trace, off, or a filter such as \
             info,larder::proxy=debug"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_larders_own() {
        for (level, written) in [
            ("info", "larder=info,fred=error,warn"),
            (" DEBUG ", "larder=debug,fred=error,warn"),
            ("warn", "warn"),
            ("off", "off"),
            ("info,larder::proxy=debug", "larder::proxy=debug,info"),
        ] {
            assert_eq!(filter(level).unwrap().to_string(), written);
        }
        assert!(filter("larder=loud").unwrap_err().contains("is no log level"));
    }
}
