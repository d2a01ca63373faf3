//! Lets the requests of one worker wait for the same attempt to connect.

use std::error::Error;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::connect::BoxError;

/// At most one attempt at a time.
#[derive(Default)]
pub(super) struct ConnectAttempts(Mutex<Option<AttemptOutcome>>);

/// An attempt to connect, of the request that leads it. It ends when this is dropped.
pub(super) struct ConnectAttempt(watch::Sender<Option<SharedError>>);

/// The end of an attempt, for the requests that follow it.
#[derive(Clone)]
pub(super) struct AttemptOutcome(watch::Receiver<Option<SharedError>>);

pub(super) enum AttemptRole {
    Leader(ConnectAttempt),
    Follower(AttemptOutcome),
}

/// An error that several requests have in common.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
struct SharedError(#[source] Arc<dyn Error + Send + Sync>);

impl ConnectAttempts {
    /// Joins the attempt that is being made, or begins one.
    pub(super) fn join(&self) -> AttemptRole {
        let mut current = self.0.lock();
        match &*current {
            // It has ended if its sender is gone.
            Some(outcome) if outcome.0.has_changed().is_ok() => AttemptRole::Follower(outcome.clone()),
            _ => {
                let (sender, outcome) = watch::channel(None);
                *current = Some(AttemptOutcome(outcome));
                AttemptRole::Leader(ConnectAttempt(sender))
            }
        }
    }
}

impl ConnectAttempt {
    /// Ends the attempt with an error, and returns it.
    pub(super) fn fail(self, error: BoxError) -> BoxError {
        let error = SharedError(error.into());
        self.0.send_replace(Some(error.clone()));
        error.into()
    }
}

impl AttemptOutcome {
    /// Waits for the end of the attempt. `None`: it did not fail, or was given up.
    pub(super) async fn failure(mut self) -> Option<BoxError> {
        while self.0.changed().await.is_ok() {}
        self.0.borrow().clone().map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(attempts: &ConnectAttempts) -> ConnectAttempt {
        match attempts.join() {
            AttemptRole::Leader(attempt) => attempt,
            AttemptRole::Follower(_) => panic!("the last attempt has ended"),
        }
    }

    #[tokio::test]
    async fn all_who_wait_learn_of_a_failure_and_the_next_one_tries_anew() {
        let attempts = ConnectAttempts::default();
        let attempt = lead(&attempts);
        let AttemptRole::Follower(outcome) = attempts.join() else { panic!("an attempt is made") };
        assert_eq!(attempt.fail("refused".into()).to_string(), "refused");
        assert_eq!(outcome.clone().failure().await.expect("it failed").to_string(), "refused");
        assert!(outcome.failure().await.is_some());
        let attempt = lead(&attempts);
        let AttemptRole::Follower(outcome) = attempts.join() else { panic!("an attempt is made") };
        drop(attempt);
        assert!(outcome.failure().await.is_none());
        lead(&attempts);
    }
}
