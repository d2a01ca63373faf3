//! The process's log: text or JSON on standard error, written by a thread of its own.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogSettings;
use crate::log_writer::{self, LogWriter, Sink, WriterOptions};
use crate::telemetry::LogLayer;

static WRITER: OnceLock<LogWriter<Vec<u8>>> = OnceLock::new();

/// Installs the global subscriber; call it once.
pub(crate) fn init(settings: &LogSettings) -> Result<(), String> {
    let filter = parse_filter(&settings.level)?;
    let lines = start_writer().map_err(|error| format!("cannot write the log: {error}"))?;
    WRITER.set(lines).map_err(|_| "logging was initialized twice")?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| QueueWriter)
        .with_ansi(shows_colors(&std::io::stderr()));
    let set = match settings.json {
        true => with_export(subscriber.json().finish()).try_init(),
        false => with_export(subscriber.finish()).try_init(),
    };
    set.map_err(|error| error.to_string())
}

/// Whether text on this stream has colours.
pub(crate) fn shows_colors(stream: &impl IsTerminal) -> bool {
    decide_colors(&|name| std::env::var_os(name), stream.is_terminal())
}

/// `NO_COLOR` (<https://no-color.org>) outweighs `CLICOLOR_FORCE` (<https://bixense.com/clicolors>), and both outweigh what
/// the stream is. An empty value counts as none.
fn decide_colors(variable: &dyn Fn(&str) -> Option<OsString>, is_terminal: bool) -> bool {
    let value = |name| variable(name).filter(|value| !value.is_empty());
    let is_forced = value("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    value("NO_COLOR").is_none() && (is_forced || is_terminal && !is_dumb(variable))
}

/// Whether a stream is a terminal that can move its cursor.
pub(crate) fn moves_cursor(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !is_dumb(&|name| std::env::var_os(name))
}

fn is_dumb(variable: &dyn Fn(&str) -> Option<OsString>) -> bool {
    variable("TERM").is_some_and(|term| term == "dumb")
}

/// Adds the export of the log to an OpenTelemetry collector, which is off until it is configured.
fn with_export<S>(subscriber: S) -> impl SubscriberInitExt
where
    S: Subscriber + Send + Sync + 'static,
{
    subscriber.with(LogLayer)
}

/// Waits until the log is written, with a bound; call it before exit.
pub(crate) fn flush() {
    const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
    WRITER.get().into_iter().for_each(|lines| lines.flush(FLUSH_TIMEOUT));
}

fn start_writer() -> io::Result<LogWriter<Vec<u8>>> {
    let manner = WriterOptions {
        name: "log",
        dropped: &log_writer::LOG_DROPPED,
        batch_interval: Duration::ZERO,
        // There is no other place to say it.
        on_change: Box::new(|_| ()),
    };
    LogWriter::spawn(manner, Sink::stderr()?, |line: Vec<u8>, out| out.extend_from_slice(&line))
}

/// Receives one whole event per write.
struct QueueWriter;

impl io::Write for QueueWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        WRITER.get().into_iter().for_each(|lines| lines.try_send(event.to_vec()));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A plain level applies to larder itself. Libraries log warnings only, and the Redis driver errors only, because
/// larder reports an unavailable Redis itself.
fn parse_filter(level: &str) -> Result<EnvFilter, String> {
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
    fn colours_are_for_terminals_unless_the_environment_decides() {
        for (variables, on_terminal, elsewhere) in [
            (&[][..], true, false),
            (&[("NO_COLOR", "1")], false, false),
            (&[("NO_COLOR", "")], true, false),
            (&[("TERM", "dumb")], false, false),
            (&[("TERM", "xterm-256color")], true, false),
            (&[("CLICOLOR_FORCE", "1")], true, true),
            (&[("CLICOLOR_FORCE", "0")], true, false),
            (&[("CLICOLOR_FORCE", "")], true, false),
            (&[("CLICOLOR_FORCE", "1"), ("TERM", "dumb")], true, true),
            (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false, false),
        ] {
            let variable = |name: &str| {
                let found = variables.iter().find(|(one, _)| *one == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(decide_colors(&variable, true), on_terminal, "{variables:?}");
            assert_eq!(decide_colors(&variable, false), elsewhere, "{variables:?}");
        }
    }

    #[test]
    fn a_level_alone_is_larders_own() {
        for (level, written) in [
            ("info", "larder=info,fred=error,warn"),
            (" DEBUG ", "larder=debug,fred=error,warn"),
            ("warn", "warn"),
            ("off", "off"),
            ("info,larder::proxy=debug", "larder::proxy=debug,info"),
        ] {
            assert_eq!(parse_filter(level).unwrap().to_string(), written);
        }
        assert!(parse_filter("larder=loud").unwrap_err().contains("is no log level"));
    }
}
