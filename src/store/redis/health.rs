//! The circuit breaker in front of a server, and why it is open.
//!
//! Closed: commands are sent. Open: they fail at once. Half-open: a probe is under way; the confirmation of the purge
//! index is the probe. One failure opens the breaker, because every request that waits for a missing reply is delayed.
//! A single late reply may be due to a busy machine, so it takes two of these in a row. One answered probe closes it.
//!
//! (The upstream's breaker counts failures and lets a request through now and then. This one opens at once and is closed
//! by probes of its own, so the two share no code.)

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::command_stats::CommandKind;
use super::error::RedisError;
use super::failure_reason::{
    ExplainContext, PortFinding, connecting, explain, explain_finding, is_ambiguous, timed_out,
};
use crate::clock::Moment;
use crate::store::remote_status::{BreakerState, FailureReason};

/// A server that has not answered for this long gets a new connection.
const HANG_TIMEOUT: Duration = Duration::from_millis(1500);

/// Connections are replaced no more often than this.
const MIN_RECONNECT_INTERVAL: Duration = Duration::from_secs(3);

/// A reason that comes back within this time is not logged again.
const MIN_LOG_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct NodeHealth {
    context: ExplainContext,
    breaker: AtomicU8,
    times_opened: AtomicU64,
    /// The last reply did not come in time.
    last_reply_was_late: AtomicBool,
    has_warning: AtomicBool,
    outage: Mutex<Outage>,
}

#[derive(Debug, Default)]
struct Outage {
    server: String,
    is_connected: bool,
    /// Why there is no connection. Takes precedence over `command`.
    connection: Option<FailureReason>,
    /// An ambiguous reason, and the better one that a probe of the port found.
    refined: Option<(FailureReason, FailureReason)>,
    /// A probe of the port is under way; the reason is logged after it.
    is_probing_port: bool,
    /// Why the last command failed.
    command: Option<FailureReason>,
    /// Refused commands of one kind, although the server answers others. Without a kind it lasts until a new connection.
    warning: Option<(Option<CommandKind>, FailureReason)>,
    since: Option<Moment>,
    reconnected: Option<Moment>,
    /// The code of the reason in effect that was logged, and when each code was.
    logged: Option<&'static str>,
    log_times: Vec<(&'static str, Moment)>,
    was_available: bool,
}

impl NodeHealth {
    /// The breaker is open at first: only probes are sent.
    pub(crate) fn new(context: ExplainContext, server: String) -> Self {
        Self {
            context,
            breaker: AtomicU8::new(BreakerState::Open as u8),
            times_opened: AtomicU64::new(0),
            last_reply_was_late: AtomicBool::new(false),
            has_warning: AtomicBool::new(false),
            outage: Mutex::new(Outage { server, ..Outage::default() }),
        }
    }

    /// From now on it is the health of another connection.
    pub(crate) fn set_server(&self, server: String) {
        let mut outage = self.outage.lock();
        (outage.connection, outage.command) = (None, None);
        outage.server = server;
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.breaker.load(Ordering::Acquire) == BreakerState::Closed as u8
    }

    pub(crate) fn breaker(&self) -> BreakerState {
        match self.breaker.load(Ordering::Acquire) {
            0 => BreakerState::Closed,
            1 => BreakerState::HalfOpen,
            _ => BreakerState::Open,
        }
    }

    /// Whether the breaker was opened less than `ago` ago: a probe may close it at any moment.
    pub(crate) fn opened_within(&self, ago: Duration) -> bool {
        self.outage.lock().since.is_some_and(|since| since.elapsed() < ago)
    }

    pub(crate) fn times_opened(&self) -> u64 {
        self.times_opened.load(Ordering::Relaxed)
    }

    /// Why the breaker is open, or which commands are refused although it is closed.
    pub(crate) fn last_error(&self) -> Option<FailureReason> {
        let outage = self.outage.lock();
        match self.is_healthy() {
            true => outage.warning.as_ref().map(|(_, reason)| reason.clone()),
            false => Some(outage.reason().cloned().unwrap_or_else(connecting)),
        }
    }

    /// Whether nothing has been heard of the server yet, good or bad.
    pub(crate) fn is_unknown(&self) -> bool {
        !self.is_healthy() && self.outage.lock().since.is_none()
    }

    pub(crate) fn start_probe(&self) {
        let (open, half) = (BreakerState::Open as u8, BreakerState::HalfOpen as u8);
        // A closed breaker stays closed.
        let _not_open = self.breaker.compare_exchange(open, half, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The server replied; whether it refused the command is not a matter of the connection.
    pub(crate) fn on_reply(&self, command: CommandKind, error: Option<&RedisError>) {
        if self.last_reply_was_late.load(Ordering::Relaxed) {
            self.last_reply_was_late.store(false, Ordering::Relaxed);
        }
        match error {
            None if self.has_warning.load(Ordering::Relaxed) => self.end_warning(command),
            // There is a way without MGET, INFO and SCRIPT LOAD.
            Some(RedisError::ErrorReply(_))
                if matches!(command, CommandKind::GetMany | CommandKind::Query | CommandKind::Load) => {}
            Some(RedisError::ErrorReply(reply)) if is_refusal(reply) => self.warn(Some(command), error),
            Some(RedisError::Redirected(_)) if !self.context.is_cluster() => self.warn(None, error),
            _ => {}
        }
    }

    /// The node does not tell the cluster's slots.
    pub(super) fn on_map_refusal(&self, error: &RedisError) {
        if matches!(error, RedisError::ErrorReply(_)) {
            self.warn(None, Some(error));
        }
    }

    fn warn(&self, command: Option<CommandKind>, error: Option<&RedisError>) {
        let Some(reason) = error.map(|error| explain(error, self.context)) else { return };
        let mut outage = self.outage.lock();
        if self.is_healthy() {
            outage.log(&reason, "Redis refuses a command");
        }
        outage.warning = Some((command, reason));
        self.has_warning.store(true, Ordering::Relaxed);
    }

    fn end_warning(&self, command: CommandKind) {
        let mut outage = self.outage.lock();
        if outage.warning.as_ref().is_some_and(|(kind, _)| *kind == Some(command)) {
            (outage.warning, outage.logged) = (None, None);
            self.has_warning.store(false, Ordering::Relaxed);
        }
    }

    /// Reports whether the failure opened the breaker.
    pub(crate) fn on_command_failure(&self, error: &RedisError) -> bool {
        let is_late = *error == RedisError::TimedOut;
        if is_late && !self.last_reply_was_late.swap(true, Ordering::Relaxed) && self.is_healthy() {
            return false;
        }
        self.open(|outage| {
            // Without a connection, a missing reply says nothing new. A command that was not sent never does.
            let was_sent = !matches!(error, RedisError::Unavailable | RedisError::TooManyInFlight);
            if was_sent && (outage.is_connected || !is_late) {
                outage.command = Some(explain(error, self.context));
            }
        })
    }

    /// There is no connection. Returns the reason if it is ambiguous: then the caller probes the port and calls
    /// [`NodeHealth::refine`].
    pub(crate) fn on_disconnected(&self, error: &RedisError) -> Option<FailureReason> {
        let reason = match error {
            RedisError::TimedOut => timed_out(),
            error => explain(error, self.context),
        };
        let mut needs_probe = false;
        self.open(|outage| {
            outage.is_connected = false;
            let refined = outage.refined.take().filter(|(before, _)| *before == reason);
            needs_probe = refined.is_none() && is_ambiguous(&reason) && !outage.is_probing_port;
            outage.is_probing_port |= needs_probe;
            outage.connection = Some(refined.as_ref().map_or(&reason, |(_, better)| better).clone());
            outage.refined = refined;
            outage.log_change();
        });
        needs_probe.then_some(reason)
    }

    /// The connection was given up here, which is no reason by itself.
    pub(crate) fn on_connection_dropped(&self) {
        self.open(|outage| outage.is_connected = false);
    }

    /// The probe of the port has ended. Replaces the reason before it by a better one.
    pub(crate) fn refine(&self, before: FailureReason, finding: Option<PortFinding>) {
        let mut outage = self.outage.lock();
        outage.is_probing_port = false;
        let better = finding.and_then(|finding| explain_finding(&before, finding, self.context));
        if outage.connection.as_ref() == Some(&before) {
            // Nothing better was found: the reason stands, and the port is not probed again for it.
            let better = better.unwrap_or_else(|| before.clone());
            outage.connection = Some(better.clone());
            outage.refined = Some((before, better));
        }
        outage.log_change();
    }

    /// Says why there is no address to connect to.
    pub(crate) fn on_unknown_address(&self, reason: FailureReason) {
        self.open(|outage| outage.connection = Some(reason));
    }

    pub(crate) fn on_connected(&self) {
        let mut outage = self.outage.lock();
        outage.is_connected = true;
        (outage.connection, outage.refined, outage.warning) = (None, None, None);
        self.has_warning.store(false, Ordering::Relaxed);
    }

    fn open(&self, change: impl FnOnce(&mut Outage)) -> bool {
        let mut outage = self.outage.lock();
        let before = self.breaker.swap(BreakerState::Open as u8, Ordering::AcqRel);
        change(&mut outage);
        outage.since.get_or_insert_with(Moment::now);
        let was_healthy = before == BreakerState::Closed as u8;
        if was_healthy {
            self.times_opened.fetch_add(1, Ordering::Relaxed);
            let reason = outage.reason().map(|reason| reason.message.as_str());
            tracing::debug!(server = outage.server, reason, "Redis command failed; probing");
        }
        was_healthy
    }

    /// A single command may fail. Once the probe after it has failed, Redis is unavailable, which is logged once for each
    /// reason.
    pub(crate) fn on_probe_failure(&self, error: &RedisError) {
        if *error != RedisError::TimedOut {
            self.on_command_failure(error);
        }
        if self.is_healthy() {
            return;
        }
        self.outage.lock().log_reason();
    }

    pub(crate) fn on_probe_success(&self) {
        if self.is_healthy() {
            return;
        }
        let mut outage = self.outage.lock();
        let was_logged = outage.logged.is_some();
        let is_first = !std::mem::replace(&mut outage.was_available, true);
        (outage.connection, outage.command, outage.since, outage.logged) = (None, None, None, None);
        outage.is_connected = true;
        self.last_reply_was_late.store(false, Ordering::Relaxed);
        self.breaker.store(BreakerState::Closed as u8, Ordering::Release);
        if was_logged || is_first {
            tracing::info!(server = outage.server, "connected to Redis");
        }
    }

    /// Whether the server has been silent for so long that it should get a new connection. True once for each
    /// [`MIN_RECONNECT_INTERVAL`]. A server that answers with errors is not silent.
    pub(crate) fn should_reconnect(&self) -> bool {
        let mut outage = self.outage.lock();
        let is_older = |instant: Option<Moment>, ago| instant.is_some_and(|instant| instant.elapsed() >= ago);
        let answers_errors =
            outage.is_connected && outage.command.as_ref().is_some_and(|reason| reason.code != "no-reply");
        let hangs = !answers_errors
            && is_older(outage.since, HANG_TIMEOUT)
            && (outage.reconnected.is_none() || is_older(outage.reconnected, MIN_RECONNECT_INTERVAL));
        if hangs {
            outage.reconnected = Some(Moment::now());
        }
        hangs
    }
}

impl Outage {
    fn reason(&self) -> Option<&FailureReason> {
        self.connection.as_ref().or(self.command.as_ref())
    }

    /// Logs another reason of an outage that is known to be one.
    fn log_change(&mut self) {
        if self.logged.is_some() {
            self.log_reason();
        }
    }

    fn log_reason(&mut self) {
        if let Some(reason) =
            self.reason().cloned().filter(|reason| !(self.is_probing_port && is_ambiguous(reason)))
        {
            self.log(&reason, "Redis is unavailable");
        }
    }

    /// Logs a reason that is not the one logged last.
    fn log(&mut self, reason: &FailureReason, event: &str) {
        if self.logged == Some(reason.code) {
            return;
        }
        self.logged = Some(reason.code);
        self.log_times.retain(|(_, at)| at.elapsed() < MIN_LOG_INTERVAL);
        if self.log_times.iter().all(|(code, _)| *code != reason.code) {
            self.log_times.push((reason.code, Moment::now()));
            tracing::warn!(server = self.server, code = reason.code, reason = reason.message, "{event}");
        }
    }
}

/// Errors that concern one kind of command, not the server.
fn is_refusal(reply: &str) -> bool {
    ["NOPERM", "no permissions", "user executing the script can't", "unknown command", "OOM "]
        .iter()
        .any(|error| reply.contains(error))
}

#[cfg(test)]
mod tests {
    use super::super::failure_reason::TopologyKind;
    use super::*;

    fn new() -> NodeHealth {
        let context = ExplainContext { uses_tls: false, topology: TopologyKind::Single };
        NodeHealth::new(context, "redis:6379".to_owned())
    }

    fn healthy() -> NodeHealth {
        let health = new();
        health.on_connected();
        health.on_probe_success();
        health
    }

    fn code(health: &NodeHealth) -> Option<&'static str> {
        health.last_error().map(|reason| reason.code)
    }

    fn refused() -> RedisError {
        RedisError::ConnectionLost("Os { code: 111, kind: ConnectionRefused }".to_owned())
    }

    #[test]
    fn one_late_reply_opens_nothing_and_two_in_a_row_do() {
        let health = healthy();
        assert!(!health.on_command_failure(&RedisError::TimedOut));
        health.on_probe_failure(&RedisError::TimedOut);
        assert!(health.is_healthy());
        health.on_reply(CommandKind::Get, None);
        assert!(!health.on_command_failure(&RedisError::TimedOut));
        assert!(health.on_command_failure(&RedisError::TimedOut));
        assert!(!health.is_healthy());
        assert_eq!(code(&health), Some("no-reply"));
        health.on_probe_success();
        assert_eq!((health.is_healthy(), code(&health), health.times_opened()), (true, None, 1));
    }

    #[test]
    fn any_other_failure_opens_it_at_once() {
        for error in [RedisError::ConnectionLost("reset".into()), RedisError::ErrorReply("READONLY".into())] {
            let health = healthy();
            assert!(health.on_command_failure(&error));
            assert!(!health.is_healthy());
        }
        let health = healthy();
        health.on_disconnected(&refused());
        assert!(!health.is_healthy());
    }

    #[test]
    fn a_failed_connection_is_a_better_reason_than_a_missing_reply() {
        let health = new();
        assert_eq!(code(&health), Some("connecting"));
        health.on_command_failure(&RedisError::TimedOut);
        assert_eq!(code(&health), Some("connecting"));
        health.on_disconnected(&refused());
        health.on_command_failure(&RedisError::TimedOut);
        health.on_probe_failure(&RedisError::TimedOut);
        health.on_connection_dropped();
        assert_eq!(code(&health), Some("refused"));
        health.on_connected();
        health.on_command_failure(&RedisError::ErrorReply("LOADING".into()));
        assert_eq!(code(&health), Some("loading"));
    }

    #[test]
    fn an_ambiguous_reason_is_refined_once_by_a_probe_of_the_port() {
        let health = new();
        let reset = RedisError::ConnectionLost("Os { code: 104, kind: ConnectionReset }".to_owned());
        let before = health.on_disconnected(&reset).expect("ambiguous");
        assert_eq!(health.on_disconnected(&reset), None, "a probe is under way");
        health.refine(before, Some(PortFinding::SpeaksTls));
        assert_eq!(code(&health), Some("plain-to-tls-port"));
        assert_eq!(health.on_disconnected(&reset), None, "the same again");
        assert_eq!(code(&health), Some("plain-to-tls-port"));
        assert_eq!(health.on_disconnected(&refused()), None);
        assert_eq!(code(&health), Some("refused"));
    }

    #[test]
    fn a_refused_kind_of_command_is_a_warning_until_it_works() {
        let health = healthy();
        let denied = RedisError::ErrorReply("NOPERM this user has no permissions to run 'get'".into());
        health.on_reply(CommandKind::Get, Some(&denied));
        assert_eq!((health.is_healthy(), code(&health)), (true, Some("no-permission")));
        health.on_reply(CommandKind::Set, None);
        assert_eq!(code(&health), Some("no-permission"));
        health.on_reply(CommandKind::Get, None);
        assert_eq!(code(&health), None);
    }
}
