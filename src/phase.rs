//! The phase of the process, for the endpoints that report it and the tasks that wait for it.

use tokio::sync::watch;

/// In the order in which a process passes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Starting,
    Ready,
    /// Connections are accepted and requests served, but clients are told to close their connections.
    Draining,
    /// Requests in flight are finished, and no new connections are accepted.
    Stopping,
    /// All purges are recorded, and connections that are left are closed.
    Flushed,
}

impl Phase {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ok",
            Phase::Draining | Phase::Stopping | Phase::Flushed => "draining",
        }
    }
}

/// Clones share their state.
#[derive(Clone, Debug)]
pub(crate) struct ProcessPhase(watch::Sender<Phase>);

impl Default for ProcessPhase {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl ProcessPhase {
    pub(crate) fn current(&self) -> Phase {
        *self.0.borrow()
    }

    /// Enters `phase`, unless the process is in it or beyond it. Returns whether it was entered.
    pub(crate) fn advance(&self, phase: Phase) -> bool {
        self.0.send_if_modified(|current| {
            let advances = *current < phase;
            *current = phase.max(*current);
            advances
        })
    }

    pub(crate) fn subscribe(&self) -> PhaseReceiver {
        PhaseReceiver(self.0.subscribe())
    }
}

/// Observes the phase.
#[derive(Clone, Debug)]
pub(crate) struct PhaseReceiver(watch::Receiver<Phase>);

impl PhaseReceiver {
    pub(crate) fn has_reached(&self, phase: Phase) -> bool {
        *self.0.borrow() >= phase
    }

    /// Returns whether the phase has changed since the last call; costs no lock.
    pub(crate) fn has_changed(&mut self) -> bool {
        let has_changed = self.0.has_changed().unwrap_or(true);
        if has_changed {
            self.0.mark_unchanged();
        }
        has_changed
    }

    /// Resolves in `phase` or beyond it, or when the process has ended.
    pub(crate) async fn reached(&mut self, phase: Phase) {
        drop(self.0.wait_for(|current| *current >= phase).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_never_comes_back() {
        let phase = ProcessPhase::default();
        let mut observer = phase.subscribe();
        assert!(!observer.has_changed());
        assert!(phase.advance(Phase::Draining) && observer.has_changed() && !observer.has_changed());
        assert!(!phase.advance(Phase::Draining) && !phase.advance(Phase::Ready) && !observer.has_changed());
        assert_eq!(phase.current(), Phase::Draining);
        assert!(observer.has_reached(Phase::Ready) && !observer.has_reached(Phase::Stopping));
        assert!(phase.advance(Phase::Stopping) && observer.has_reached(Phase::Draining));
    }
}
