//! Notices about the upstream: it fails, answers with errors, or does not answer.

use std::time::Duration;

use super::notice::{Notice, NoticeLevel, count_noun, format_duration, push_notice};
use crate::metrics::{Snapshot, UpstreamCounts, UpstreamWaits};

/// A request that waits longer than this is worth a notice.
const MIN_WAIT: Duration = Duration::from_secs(5);

/// Shares of responses with a status of 5xx.
const ERROR_SHARE_TROUBLE: f64 = 0.1;
const ERROR_SHARE_WARNING: f64 = 0.01;

/// Below this many errors, their share says little.
const MIN_ERRORS_TROUBLE: u64 = 3;

/// `recent`: in the last minute.
pub(super) fn add_upstream_notices(metrics: &Snapshot, recent: UpstreamCounts, notes: &mut Vec<Notice>) {
    if metrics.upstream_health.is_breaker_open {
        let text = "The circuit breaker of the API is open: requests that no stored response answers get 503, except \
                    for a probe now and then. It closes with the first probe that succeeds.";
        push_notice(notes, NoticeLevel::Trouble, text);
    }
    if recent.failures > 0 {
        let text = format!(
            "The API failed {} in the last minute. See the log and `larder_upstream_failures_total` for the reasons.",
            count_noun(recent.failures as usize, "request", "requests")
        );
        push_notice(notes, NoticeLevel::Trouble, text);
    }
    add_error_notice(recent, notes);
    add_wait_notice(metrics.upstream_waits, notes);
}

fn add_error_notice(recent: UpstreamCounts, notes: &mut Vec<Notice>) {
    let share = recent.errors as f64 / recent.responses.max(1) as f64;
    let level = match share {
        _ if share >= ERROR_SHARE_TROUBLE && recent.errors >= MIN_ERRORS_TROUBLE => NoticeLevel::Trouble,
        _ if share >= ERROR_SHARE_WARNING => NoticeLevel::Warning,
        _ => return,
    };
    let text = format!(
        "The API answered {} of {} with an error (5xx) in the last minute.",
        recent.errors,
        count_noun(recent.responses as usize, "request", "requests")
    );
    push_notice(notes, level, text);
}

/// Where nothing was answered meanwhile, the API hangs. Otherwise it may be a slow path, or one that waits for an event.
fn add_wait_notice(waits: UpstreamWaits, notes: &mut Vec<Notice>) {
    let Some(oldest) = waits.oldest.filter(|oldest| *oldest >= MIN_WAIT) else { return };
    let waiting = count_noun(waits.waiting as usize, "request waits", "requests wait");
    let oldest = format_duration(oldest);
    let is_silent = waits.silent_for.is_none_or(|silent| silent >= MIN_WAIT);
    let (level, text) = match is_silent {
        true => (
            NoticeLevel::Trouble,
            format!(
                "The API does not answer: {waiting} for it, the oldest for {oldest}, and it answered no other."
            ),
        ),
        false => (NoticeLevel::Warning, format!("{waiting} for the API, the oldest for {oldest}.")),
    };
    push_notice(notes, level, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn told(recent: UpstreamCounts, waits: UpstreamWaits) -> Vec<(NoticeLevel, String)> {
        let mut metrics = Metrics::default().snapshot();
        metrics.upstream_waits = waits;
        let mut notes = Vec::new();
        add_upstream_notices(&metrics, recent, &mut notes);
        notes.into_iter().map(|note| (note.level, note.text)).collect()
    }

    #[test]
    fn the_share_of_errors_decides() {
        for (errors, responses, level) in [
            (0, 100, None),
            (1, 200, None),
            (1, 100, Some(NoticeLevel::Warning)),
            (2, 2, Some(NoticeLevel::Warning)),
            (3, 3, Some(NoticeLevel::Trouble)),
            (10, 100, Some(NoticeLevel::Trouble)),
            (0, 0, None),
        ] {
            let told = told(UpstreamCounts { failures: 0, responses, errors }, UpstreamWaits::default());
            assert_eq!(told.first().map(|(level, _)| *level), level, "{errors} of {responses}: {told:?}");
        }
    }

    #[test]
    fn an_api_that_hangs_is_trouble() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (waiting, oldest, silent_for, level, text) in [
            (48, 7, seconds(8), NoticeLevel::Trouble, "48 requests wait for it, the oldest for 7 s"),
            (1, 5, None, NoticeLevel::Trouble, "1 request waits for it"),
            (2, 9, seconds(1), NoticeLevel::Warning, "2 requests wait for the API, the oldest for 9 s."),
        ] {
            let waits = UpstreamWaits { waiting, oldest: seconds(oldest), silent_for };
            let told = told(UpstreamCounts::default(), waits);
            assert!(
                matches!(&*told, [(its, words)] if *its == level && words.contains(text)),
                "{text}: {told:?}"
            );
        }
        let short = UpstreamWaits { waiting: 9, oldest: seconds(4), silent_for: None };
        assert_eq!(told(UpstreamCounts::default(), short), []);
    }
}
