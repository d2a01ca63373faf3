//! Sentinels: find the primary, and follow it to another server.
//!
//! All sentinels are queried at once with a short deadline, so that one that hangs or knows an old primary delays nothing.
//! A named server must confirm that it is a primary.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::command_stats::CommandKind;
use super::connection::{Address, Admission, PubsubProtocol, RedisConnection, SendOptions};
use super::connector::RedisConnector;
use super::error::RedisError;
use super::failure_reason::{
    explain, explain_sentinel_reply, is_ambiguous, no_sentinel_answers, unconfirmed_primary,
};
use super::node::{RedisNode, TopologyChanges};
use super::pubsub::{Subscriber, subscribe};
use super::request::RedisRequest;
use super::scripts::RespValue;
use crate::clock::Moment;
use crate::config::RedisHost;
use crate::store::remote_status::{CONNECTING, FailureReason};

/// For a query to a sentinel, and for one to the server that it names.
const QUERY_TIMEOUT: Duration = Duration::from_millis(250);

/// Between refreshes while the primary answers. Sentinels also announce a new primary.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
const DEGRADED_REFRESH_INTERVAL: Duration = Duration::from_millis(100);

/// The channel on which sentinels announce a new primary.
const SWITCH_CHANNEL: &str = "+switch-master";

/// Under [`SentinelTrust::Majority`] the primary is given up after so many rounds in a row that did not confirm it. At most
/// [`REFRESH_INTERVAL`] passes before the first, and [`QUERY_TIMEOUT`] and [`DEGRADED_REFRESH_INTERVAL`] with each.
const MAX_UNCONFIRMED_ROUNDS: u32 = 3;

/// How many sentinels must be heard for a primary to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentinelTrust {
    /// The primary is trusted until a sentinel names another.
    Any,
    /// A primary is adopted, and trusted, while a majority of all sentinels answers, and none names another at a later epoch.
    Majority,
}

struct SentinelMonitor {
    nodes: Vec<Arc<RedisNode>>,
    service: String,
    /// For the primary.
    connector: RedisConnector,
    /// For sentinels, with credentials and without.
    credentials: [RedisConnector; 2],
    /// Whether a sentinel was asked with the second credentials.
    has_rotated: bool,
    primary: Arc<RedisNode>,
    /// The epoch at which the primary was named.
    epoch: u64,
    trust: SentinelTrust,
    unconfirmed_rounds: u32,
}

/// Keeps `primary` at the address that the sentinels name, until the runtime ends.
pub(super) fn follow_primary(
    sentinels: &[RedisHost],
    service: &str,
    connector: &RedisConnector,
    primary: Arc<RedisNode>,
    trust: SentinelTrust,
) {
    let credentials = sentinel_credentials(connector);
    primary.health.set_server(format!("primary of {service}"));
    // Nothing waits for changes of sentinels: they are polled.
    let quiet = TopologyChanges::default();
    let connect = |host: &RedisHost| {
        RedisNode::connect(&credentials[0], Some(Address::Host(host.clone())), quiet.clone())
    };
    let nodes: Vec<_> = sentinels.iter().map(connect).collect();
    let announced = Arc::new(Notify::new());
    for sentinel in &nodes {
        let (sentinel, announced) = (sentinel.clone(), announced.clone());
        tokio::spawn(subscribe(SentinelAnnouncements { channel: SWITCH_CHANNEL, sentinel, announced }));
    }
    let monitor = SentinelMonitor {
        nodes,
        service: service.to_owned(),
        connector: connector.clone(),
        credentials,
        has_rotated: false,
        primary,
        epoch: 0,
        trust,
        unconfirmed_rounds: 0,
    };
    tokio::spawn(monitor.run(announced));
}

/// For sentinels, with credentials and without.
fn sentinel_credentials(connector: &RedisConnector) -> [RedisConnector; 2] {
    let with_credentials = connector.without_database();
    let without = with_credentials.without_credentials().unwrap_or_else(|| with_credentials.clone());
    [with_credentials, without]
}

/// How long a sentinel is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerWait {
    /// After this time a reason is final, unless a better one is still looked for.
    pub settled_after: Duration,
    pub longest: Duration,
}

/// Asks a sentinel for the primary's address, over a connection of its own.
///
/// # Errors
/// Why it names none.
pub(super) async fn ask_sentinel(
    host: &RedisHost,
    service: &str,
    connector: &RedisConnector,
    wait: AnswerWait,
) -> Result<RedisHost, FailureReason> {
    const RETRY_INTERVAL: Duration = Duration::from_millis(50);
    let (credentials, address) = (sentinel_credentials(connector), Address::Host(host.clone()));
    let node = RedisNode::connect(&credentials[0], Some(address.clone()), TopologyChanges::default());
    let began = Moment::now();
    let mut is_rotated = false;
    let answer = loop {
        let error = match query_primary(&node, service).await {
            Ok((_, primary)) => break Ok(primary),
            Err(RedisError::ErrorReply(reply)) => break Err(explain_sentinel_reply(&reply, service)),
            Err(error) => error,
        };
        let reason = node.health.last_error().unwrap_or_else(|| explain(&error, connector.context()));
        if !is_rotated && is_credential_refused(&reason) {
            is_rotated = true;
            node.move_to(&credentials[1], address.clone());
        } else {
            let is_known = reason.code != CONNECTING && !is_ambiguous(&reason);
            let is_final = is_known && began.elapsed() >= wait.settled_after;
            if is_final || began.elapsed() >= wait.longest {
                break Err(reason);
            }
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    };
    node.shut_down();
    answer
}

impl SentinelTrust {
    /// The trust that a bound on the staleness of hits (`max_lag`) needs.
    pub(crate) fn for_max_lag(max_lag: Duration) -> Self {
        match max_lag {
            Duration::ZERO => SentinelTrust::Majority,
            _ => SentinelTrust::Any,
        }
    }
}

impl SentinelMonitor {
    async fn run(mut self, announced: Arc<Notify>) {
        let mut changes = self.primary.changes().subscribe();
        for round in 0_usize.. {
            self.refresh_primary().await;
            self.rotate_credentials(round);
            let pause = match self.primary.health.is_healthy() && self.unconfirmed_rounds == 0 {
                true => REFRESH_INTERVAL,
                false => DEGRADED_REFRESH_INTERVAL,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = announced.notified() => {}
                _ = changes.changed() => tokio::time::sleep(DEGRADED_REFRESH_INTERVAL / 10).await,
            }
        }
    }

    /// Asks all sentinels, follows the primary, and gives it up if it was not confirmed for too long.
    async fn refresh_primary(&mut self) {
        let mut asked = JoinSet::new();
        for node in &self.nodes {
            let (node, service) = (node.clone(), self.service.clone());
            asked.spawn(async move { query_primary(&node, &service).await });
        }
        let answers = asked.join_all().await;
        self.report_failure(&answers);
        let heard = answers.iter().filter(|answer| is_reply(answer)).count();
        let is_majority = 2 * heard > answers.len();
        let may_adopt = is_majority || self.trust == SentinelTrust::Any;
        let is_confirmed = self.follow_named(answers, may_adopt).await && is_majority;
        self.unconfirmed_rounds = if is_confirmed { 0 } else { self.unconfirmed_rounds.saturating_add(1) };
        self.give_up_doubted(heard);
    }

    /// Gives the primary up if it was not confirmed for too long. `heard`: how many sentinels answered.
    fn give_up_doubted(&self, heard: usize) {
        let is_doubted =
            self.trust == SentinelTrust::Majority && self.unconfirmed_rounds >= MAX_UNCONFIRMED_ROUNDS;
        let is_in_use = self.primary.address().is_some();
        if is_doubted && is_in_use {
            tracing::warn!(service = self.service, "primary dropped: the sentinels no longer confirm it");
            self.primary.withdraw_address();
        }
        if is_doubted && (is_in_use || heard > 0) {
            self.primary.health.on_unknown_address(unconfirmed_primary());
        }
    }

    /// The server named at the highest epoch is the primary, if it confirms that. If it says that it is a replica, the next
    /// one is tried; if it does not answer, nothing changes. An older epoch comes from a sentinel that is out of date,
    /// unless all of them report one: then they were reset. Reports whether no other server than the primary is named.
    async fn follow_named(
        &mut self,
        answers: Vec<Result<(u64, RedisHost), RedisError>>,
        may_adopt: bool,
    ) -> bool {
        let mut named: Vec<(u64, RedisHost)> = answers.into_iter().flatten().collect();
        named.sort_by_key(|(epoch, _)| std::cmp::Reverse(*epoch));
        let were_reset =
            named.len() == self.nodes.len() && named.iter().all(|(epoch, _)| *epoch < self.epoch);
        named.retain(|(epoch, _)| *epoch >= self.epoch || were_reset);
        named.dedup_by(|one, other| one.1 == other.1);
        for (epoch, host) in named {
            let address = Address::Host(host);
            let is_named = self.primary.address().as_deref() == Some(&address);
            if !is_named && !may_adopt {
                return false;
            }
            let is_it = is_named && self.primary.health.is_healthy();
            match if is_it { Some(true) } else { self.verify_primary(&address).await } {
                Some(true) => {
                    self.epoch = epoch;
                    self.move_to(address);
                    return true;
                }
                Some(false) => {}
                None => return is_named,
            }
        }
        true
    }

    /// Says why the primary has no address, if no sentinel names one.
    fn report_failure(&self, answers: &[Result<(u64, RedisHost), RedisError>]) {
        if self.primary.address().is_some() || answers.iter().any(Result::is_ok) {
            return;
        }
        let errors = answers.iter().filter_map(|answer| answer.as_ref().err());
        let replies = errors.filter_map(|error| match error {
            RedisError::ErrorReply(reply) => Some(reply),
            _ => None,
        });
        // A reply says more than a sentinel that does not answer.
        let reason = replies.map(|reply| explain_sentinel_reply(reply, &self.service)).next();
        let reason = reason.or_else(|| {
            let reason = self.nodes.iter().find_map(|node| node.health.last_error())?;
            let may_pass = reason.code == CONNECTING || (!self.has_rotated && is_credential_refused(&reason));
            (!may_pass).then(|| no_sentinel_answers(&reason))
        });
        if let Some(reason) = reason {
            self.primary.health.on_unknown_address(reason);
        }
    }

    fn move_to(&self, address: Address) {
        if self.primary.address().as_deref() != Some(&address) {
            tracing::info!(service = self.service, primary = %address, "sentinels name a new primary");
            self.primary.move_to(&self.connector, address);
            self.primary.changes().send_replace(());
        }
    }

    /// Asks the server itself, over a separate connection. `None`: no answer.
    async fn verify_primary(&self, address: &Address) -> Option<bool> {
        let node = RedisNode::connect(&self.connector, Some(address.clone()), TopologyChanges::default());
        let query = RedisRequest::with_args("INFO", &["replication"]);
        let look = SendOptions { admission: Admission::Probe, asking: false, timeout: QUERY_TIMEOUT };
        let answer = node.send(CommandKind::Query, query, look).await;
        node.shut_down();
        Some(answer.ok()?.text()?.lines().any(|line| line.trim() == "role:master"))
    }

    /// Sentinels may not accept the servers' credentials, or have no passwords at all: try both ways in turn.
    fn rotate_credentials(&mut self, round: usize) {
        for node in &self.nodes {
            let is_refused = node.health.last_error().is_some_and(|reason| is_credential_refused(&reason));
            if let (Some(address), true) = (node.address(), is_refused) {
                node.move_to(&self.credentials[(round + 1) % 2], Address::clone(&address));
                self.has_rotated = true;
            }
        }
    }
}

/// Whether other credentials may be accepted.
fn is_credential_refused(reason: &FailureReason) -> bool {
    ["wrong-password", "no-password-configured"].contains(&reason.code)
}

/// Whether the sentinel answered, if only with an error.
fn is_reply(answer: &Result<(u64, RedisHost), RedisError>) -> bool {
    matches!(answer, Ok(_) | Err(RedisError::ErrorReply(_)))
}

/// The primary's address and epoch as a sentinel knows them. The epoch is queried first, because the sentinel may learn of
/// a new primary in between. The address is queried by a command of its own, because during a failover the description of
/// the primary has the old address beside the new epoch.
async fn query_primary(node: &RedisNode, service: &str) -> Result<(u64, RedisHost), RedisError> {
    let options = SendOptions { admission: Admission::Probe, asking: false, timeout: QUERY_TIMEOUT };
    let query =
        |args: [&str; 2]| node.send(CommandKind::Query, RedisRequest::with_args("SENTINEL", &args), options);
    let (description, address) =
        tokio::join!(query(["MASTER", service]), query(["GET-MASTER-ADDR-BY-NAME", service]));
    let (description, address) = match (description, address) {
        (Ok(description), Ok(address)) => (description, address),
        (Err(error), _) | (_, Err(error)) => {
            tracing::debug!(%error, "sentinel query failed");
            return Err(error);
        }
    };
    let malformed = || RedisError::ErrorReply("malformed description of a primary".to_owned());
    let named = parse_epoch(&description).zip(parse_host(&address)).ok_or_else(malformed)?;
    node.health.on_probe_success();
    Ok(named)
}

/// Finds `config-epoch` among alternating names and values.
fn parse_epoch(description: &RespValue) -> Option<u64> {
    let RespValue::Array(fields) = description else { return None };
    let epoch = fields.chunks_exact(2).find(|pair| pair[0].text() == Some("config-epoch"))?;
    epoch[1].number()
}

fn parse_host(address: &RespValue) -> Option<RedisHost> {
    let RespValue::Array(address) = address else { return None };
    let [host, port] = address.as_slice() else { return None };
    Some(RedisHost { host: host.text()?.to_owned(), port: u16::try_from(port.number()?).ok()? })
}

/// The announcements of a sentinel.
struct SentinelAnnouncements {
    channel: &'static str,
    sentinel: Arc<RedisNode>,
    announced: Arc<Notify>,
}

impl Subscriber for SentinelAnnouncements {
    fn channel(&self) -> &str {
        self.channel
    }

    fn connect(&self, protocol: PubsubProtocol) -> Arc<dyn RedisConnection> {
        self.sentinel.build_pubsub_client(protocol)
    }

    fn on_message(&self, _message: Option<&str>) {
        self.announced.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RedisServers, RedisSettings};

    fn answer(fields: &[&'static str]) -> RespValue {
        RespValue::Array(
            fields.iter().map(|text| RespValue::Bytes(bytes::Bytes::from_static(text.as_bytes()))).collect(),
        )
    }

    /// The first queries find no connection yet, which says nothing of the sentinel.
    #[tokio::test]
    async fn the_reason_why_a_sentinel_is_silent_is_waited_for() {
        // Connections are made, and nobody reads from them.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let host = RedisHost { host: "127.0.0.1".to_owned(), port };
        let settings = RedisSettings {
            servers: RedisServers::Sentinel { sentinels: vec![host.clone()], service: "main".to_owned() },
            database: 0,
            username: None,
            password: None,
            credentials: None,
            tls: None,
        };
        let connector = RedisConnector::new(&settings, Duration::from_secs(1)).unwrap();
        let wait = AnswerWait { settled_after: Duration::ZERO, longest: Duration::from_secs(60) };
        let answer = ask_sentinel(&host, "main", &connector, wait).await;
        assert_eq!(answer.map_err(|reason| reason.code), Err("no-reply"));
    }

    #[test]
    fn a_sentinel_names_a_server_and_an_epoch() {
        let fields = ["name", "config-epoch", "ip", "10.0.0.7", "flags", "master", "config-epoch", "3"];
        assert_eq!(parse_epoch(&answer(&fields)), Some(3));
        for wrong in [&fields[..6], &["config-epoch", "x"], &["config-epoch"], &[]] {
            assert_eq!(parse_epoch(&answer(wrong)), None, "{wrong:?}");
        }
        let host = RedisHost { host: "10.0.0.7".to_owned(), port: 6379 };
        assert_eq!(parse_host(&answer(&["10.0.0.7", "6379"])), Some(host));
        for wrong in [&["10.0.0.7", "x"][..], &["10.0.0.7"], &["10.0.0.7", "65536"], &[]] {
            assert_eq!(parse_host(&answer(wrong)), None, "{wrong:?}");
        }
        assert_eq!((parse_epoch(&RespValue::Nil), parse_host(&RespValue::Nil)), (None, None));
    }
}
