//! What is logged, and how: text for people or JSON for machines, on standard error, from a thread of its own.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::config::LogSettings;
use crate::lines::{self, Lines, Manner, Sink};

static LINES: OnceLock<Lines<Vec<u8>>> = OnceLock::new();

/// From now on everything is logged as `settings` say; once in a process.
pub fn init(settings: &LogSettings) -> Result<(), String> {
    let filter = filter(&settings.level)?;
    let lines = start().map_err(|error| format!("the log can't be written: {error}"))?;
    LINES.set(lines).map_err(|_| "the log was set up twice")?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Queue)
        .with_ansi(std::io::stderr().is_terminal());
    let set = if settings.json { subscriber.json().try_init() } else { subscriber.try_init() };
    set.map_err(|error| error.to_string())
}

/// Waits until what was logged is written, but not for long: before the process ends.
pub fn flush() {
    const PATIENCE: Duration = Duration::from_secs(1);
    LINES.get().into_iter().for_each(|lines| lines.flush(PATIENCE));
}

fn start() -> io::Result<Lines<Vec<u8>>> {
    let manner = Manner { name: "log", dropped: &lines::LOG, rest: Duration::ZERO };
    Lines::start(manner, Sink::stderr()?, |line: Vec<u8>, out| out.extend_from_slice(&line))
}

/// Takes one whole event at a time.
struct Queue;

impl io::Write for Queue {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        LINES.get().into_iter().for_each(|lines| lines.push(event.to_vec()));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
