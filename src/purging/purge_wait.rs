//! Waiting until all replicas have applied a purge: how it is requested and answered.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::Purger;
use crate::purge::PurgeVersion;

/// Upper bound of every wait.
const MAX_WAIT: Duration = Duration::from_secs(60);

pub(crate) const FIELD_HINT: &str = "write `applied`, or `applied; timeout=2s` with at most 60s";

/// The value of `Purge-Wait`: for how long to wait. `usual`: where it does not say.
pub(crate) fn parse_wait_field(value: &str, usual: Duration) -> Result<Duration, String> {
    let (word, parameter) = match value.split_once(';') {
        Some((word, parameter)) => (word.trim(), Some(parameter.trim())),
        None => (value.trim(), None),
    };
    let within = match parameter {
        None => Some(usual),
        Some(parameter) => parameter.strip_prefix("timeout=").and_then(parse_duration),
    };
    match within {
        Some(within) if word.eq_ignore_ascii_case("applied") => Ok(within.min(MAX_WAIT)),
        _ => Err(format!("`{value}` is nothing that a purge can wait for")),
    }
}

/// `2s`, `1.5s`, `500ms`.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    let seconds = number.trim().parse::<f64>().ok()? * unit;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

/// Outcome of a wait.
#[derive(Debug)]
pub(crate) enum WaitOutcome {
    Applied,
    /// These may still answer from before the purge.
    Missing(Vec<String>),
    /// The store could not be asked.
    Unknown(String),
}

impl Purger {
    /// Waits until all replicas have applied a purge.
    pub(crate) async fn wait_applied(&self, position: PurgeVersion, within: Duration) -> WaitOutcome {
        let known = self.store.wait_replicated(position, within).await;
        self.metrics.record_purge_wait(known.as_ref().is_ok_and(Vec::is_empty));
        match known {
            Ok(missing) if missing.is_empty() => WaitOutcome::Applied,
            Ok(missing) => WaitOutcome::Missing(missing.into_iter().map(|replica| replica.name).collect()),
            Err(error) => WaitOutcome::Unknown(error.to_string()),
        }
    }
}

/// The answer to a dry run.
pub(crate) fn dry_run_response(report: Value) -> Value {
    let mut answer = json!({ "status": "dry-run" });
    merge_report(&mut answer, report);
    answer
}

fn merge_report(answer: &mut Value, report: Value) {
    if let (Value::Object(answer), Value::Object(report)) = (answer, report) {
        answer.extend(report);
    }
}

/// Answers an acknowledged purge. A wait that failed gets an error status, or a script would go on too early.
pub(crate) fn purge_response(
    position: PurgeVersion,
    report: Value,
    applied: Option<WaitOutcome>,
) -> (StatusCode, Value) {
    let mut answer = json!({ "status": "purged", "position": position.0 });
    merge_report(&mut answer, report);
    let Some(applied) = applied else { return (StatusCode::OK, answer) };
    answer["applied"] = Value::Bool(matches!(applied, WaitOutcome::Applied));
    let error = match applied {
        WaitOutcome::Applied => return (StatusCode::OK, answer),
        WaitOutcome::Missing(missing) => {
            let error = format!("purged, but not yet known by {}", missing.join(", "));
            answer["missing"] = missing.into();
            error
        }
        WaitOutcome::Unknown(reason) => format!("purged, but whether all replicas know it is not: {reason}"),
    };
    answer["error"] = error.into();
    answer["fix"] = "it holds, and reaches them as soon as they hear from Redis; ask again to wait on".into();
    (StatusCode::GATEWAY_TIMEOUT, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_and_for_how_long() {
        let usual = Duration::from_secs(5);
        for (value, expected) in [
            ("applied", Some(5000)),
            ("Applied ; timeout=2s", Some(2000)),
            ("applied;timeout=1.5s", Some(1500)),
            ("applied; timeout=250ms", Some(250)),
            ("applied; timeout=1000s", Some(60_000)),
            ("applied; timeout=0s", None),
            ("applied; timeout=-1s", None),
            ("applied; timeout=NaNs", None),
            ("applied; timeout=2", None),
            ("applied; timeout", None),
            ("applied; bound=2s", None),
            ("recorded", None),
            ("", None),
        ] {
            let within = parse_wait_field(value, usual).ok();
            assert_eq!(within, expected.map(Duration::from_millis), "{value}");
        }
    }
}
