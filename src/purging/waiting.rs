//! Whoever purges may wait until no replica answers from before the purge any more: how that is asked for, and answered.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::metrics::Metrics;
use crate::purge::Position;
use crate::store::Store;

/// Nobody waits for longer, whatever they ask for.
const LONGEST: Duration = Duration::from_secs(60);

pub const FIX: &str = "write `applied`, or `applied; timeout=2s` with at most 60s";

/// The value of `Purge-Wait`: for how long to wait. `usual`: where it does not say.
pub fn of_field(value: &str, usual: Duration) -> Result<Duration, String> {
    let (word, parameter) = match value.split_once(';') {
        Some((word, parameter)) => (word.trim(), Some(parameter.trim())),
        None => (value.trim(), None),
    };
    let within = match parameter {
        None => Some(usual),
        Some(parameter) => parameter.strip_prefix("timeout=").and_then(of_text),
    };
    match within {
        Some(within) if word.eq_ignore_ascii_case("applied") => Ok(within.min(LONGEST)),
        _ => Err(format!("`{value}` is nothing that a purge can wait for")),
    }
}

/// `2s`, `1.5s`, `500ms`.
fn of_text(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    let seconds = number.trim().parse::<f64>().ok()? * unit;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

/// What came of waiting.
#[derive(Debug)]
pub enum Applied {
    Everywhere,
    /// These may still answer from before the purge.
    NotBy(Vec<String>),
    /// The store could not be asked.
    Unknown(String),
}

pub async fn applied(
    store: &Arc<dyn Store>,
    metrics: &Metrics,
    position: Position,
    within: Duration,
) -> Applied {
    let known = store.known_everywhere(position, within).await;
    metrics.purge_awaited(known.as_ref().is_ok_and(Vec::is_empty));
    match known {
        Ok(missing) if missing.is_empty() => Applied::Everywhere,
        Ok(missing) => Applied::NotBy(missing.into_iter().map(|replica| replica.name).collect()),
        Err(error) => Applied::Unknown(error.to_string()),
    }
}

/// The answer to a purge that was acknowledged. Whoever waited and was not given what they waited for gets an error's
/// status, or a script that goes on after a success would go on too early.
pub fn answer(position: Position, applied: Option<Applied>) -> (StatusCode, Value) {
    let mut answer = json!({ "status": "purged", "position": position.0 });
    let Some(applied) = applied else { return (StatusCode::OK, answer) };
    answer["applied"] = Value::Bool(matches!(applied, Applied::Everywhere));
    let error = match applied {
        Applied::Everywhere => return (StatusCode::OK, answer),
        Applied::NotBy(missing) => {
            let error = format!("purged, but not yet known by {}", missing.join(", "));
            answer["missing"] = missing.into();
            error
        }
        Applied::Unknown(reason) => format!("purged, but whether all replicas know it is not: {reason}"),
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
            let within = of_field(value, usual).ok();
            assert_eq!(within, expected.map(Duration::from_millis), "{value}");
        }
    }
}
