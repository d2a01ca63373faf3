//! The process's phase and the state of its configuration, as reported by `/readyz`.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};

use crate::phase::ProcessPhase;

/// Clones share their state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<ReadinessState>);

#[derive(Debug, Default)]
struct ReadinessState {
    phase: ProcessPhase,
    config: Mutex<ConfigState>,
}

/// Outcome of the last configuration change.
#[derive(Debug, Default)]
struct ConfigState {
    refused: Option<String>,
    needs_restart: Vec<&'static str>,
}

impl Readiness {
    /// Starts in `Phase::Starting`.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn phase(&self) -> &ProcessPhase {
        &self.0.phase
    }

    /// `needs_restart` lists changed sections that take effect only after a restart.
    pub(crate) fn set_config_in_use(&self, needs_restart: Vec<&'static str>) {
        *self.lock_config() = ConfigState { refused: None, needs_restart };
    }

    /// Records that the changed configuration was rejected.
    pub(crate) fn set_config_refused(&self, reason: String) {
        self.lock_config().refused = Some(reason);
    }

    /// Why the file on disk is not in use, if it is not.
    pub(crate) fn config_error(&self) -> Option<String> {
        self.lock_config().refused.clone()
    }

    pub(crate) fn needs_restart(&self) -> Vec<&'static str> {
        self.lock_config().needs_restart.clone()
    }

    /// Adds the configuration's state to the body of `/readyz`, unless there is nothing to report.
    pub(crate) fn add_config_status(&self, body: &mut Value) {
        let config = self.lock_config();
        if let Some(reason) = &config.refused {
            body["config"] = json!({ "status": "refused", "reason": reason });
        }
        if !config.needs_restart.is_empty() {
            body["needs_restart"] = json!(config.needs_restart);
        }
    }

    fn lock_config(&self) -> MutexGuard<'_, ConfigState> {
        self.0.config.lock()
    }
}
