//! Whether larder takes requests: what `/readyz` says.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// Its clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<State>);

#[derive(Debug, Default)]
struct State {
    phase: AtomicU8,
    config: Mutex<ConfigState>,
}

/// What became of the last change of the configuration.
#[derive(Debug, Default)]
struct ConfigState {
    refused: Option<String>,
    needs_restart: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Ready,
    /// It answers what is under way and takes nothing new.
    Draining,
}

impl Readiness {
    /// Until told otherwise, it starts.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn set(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Release);
    }

    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// `needs_restart`: what the file says and this process does not do until it is started again.
    pub fn config_in_use(&self, needs_restart: Vec<&'static str>) {
        *self.config() = ConfigState { refused: None, needs_restart };
    }

    /// The configuration stays as it was.
    pub fn config_refused(&self, reason: String) {
        self.config().refused = Some(reason);
    }

    /// Why the file is not what is in use, if it is not.
    pub fn refused_config(&self) -> Option<String> {
        self.config().refused.clone()
    }

    pub fn needs_restart(&self) -> Vec<&'static str> {
        self.config().needs_restart.clone()
    }

    /// What `/readyz` says of the configuration, if there is something to say.
    pub fn add_config(&self, body: &mut Value) {
        let config = self.config();
        if let Some(reason) = &config.refused {
            body["config"] = json!({ "status": "refused", "reason": reason });
        }
        if !config.needs_restart.is_empty() {
            body["needs_restart"] = json!(config.needs_restart);
        }
    }

    fn config(&self) -> MutexGuard<'_, ConfigState> {
        self.0.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ok",
            Phase::Draining => "draining",
        }
    }
}
