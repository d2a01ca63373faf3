//! Inspects a Redis deployment for `larder check --connect` and `larder doctor`: connects as larder does, tries every
//! command and script on keys of its own, and reads the server's settings where it may. It leaves no key behind.

mod assessment;
mod census;
mod facts;
mod keyspace;
mod topology;
mod trials;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

pub(crate) use self::census::{Census, count_keys};
pub(crate) use self::facts::ServerFacts;
use self::trials::{Refusals, Trials};
use super::command_stats::CommandKind;
use super::connection::{Admission, PubsubProtocol, SendOptions};
use super::error::RedisError;
use super::failure_reason::{ExplainContext, TopologyKind, explain, is_ambiguous, is_resp3_refusal};
use super::keys::KeyNames;
use super::node::RedisNode;
use super::pubsub::deliver_to_self;
use super::request::RedisRequest;
use super::scripts::RespValue;
use super::sentinel::SentinelTrust;
use super::servers::Servers;
use crate::clock::{Clock, Timestamp};
use crate::config::{RedisSettings, StoreSettings};
use crate::policy::purge_channels::PurgeChannels;
use crate::random::random_bytes;
use crate::store::remote_status::{CONNECTING, FailureReason};

/// How long a server has to accept the connection and the login.
const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// After this time a reason that can't change by itself is final.
const SETTLED_AFTER: Duration = Duration::from_millis(1200);
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// For each command: longer than `store.timeout`, which is judged by the round trip.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);
const OPTIONS: SendOptions =
    SendOptions { admission: Admission::Probe, asking: false, timeout: COMMAND_TIMEOUT };

/// Number of exchanges that measure the round trip and the clock.
const EXCHANGES: usize = 7;

/// The deployment as it was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inspection {
    /// `single`, `sentinel` or `cluster`, as the configuration says.
    pub topology: &'static str,
    /// The servers that take commands.
    pub masters: Vec<String>,
    pub server: ServerFacts,
    pub round_trip: Option<Duration>,
    /// The server's clock minus this machine's, in microseconds.
    pub clock_lead: Option<i64>,
    /// Number of commands and scripts that were tried, and those that were refused.
    pub tried: usize,
    pub refused: Vec<String>,
    /// Time from a message's publication to its arrival; `None` if wake-ups are not delivered.
    pub wake_up: Option<Duration>,
    pub findings: Vec<ServerFinding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FindingLevel {
    /// larder can't share responses.
    Error,
    /// Something works only in part, or will fail.
    Warning,
    /// Something could be better.
    Advice,
}

/// A finding about the deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerFinding {
    pub level: FindingLevel,
    pub code: &'static str,
    pub message: String,
    pub help: Option<String>,
}

/// Connects to the servers of `redis` as `store` says, and inspects them. Needs a runtime.
///
/// # Errors
/// If a TLS file can't be read.
pub(crate) async fn inspect(
    redis: &RedisSettings,
    store: &StoreSettings,
    clock: &Clock,
) -> io::Result<Inspection> {
    let id = random_bytes()?;
    let keys = KeyNames::for_inspection(&store.namespace, &crate::hex::encode(&id));
    let trust = SentinelTrust::for_max_lag(store.max_lag);
    let servers = Servers::connect(redis, &keys, COMMAND_TIMEOUT, trust)?;
    let mut inspection = Inspection { topology: topology_name(servers.context()), ..Inspection::default() };
    let probe = Probe { servers, keys, id };
    let connected = probe.wait_for_connection().await;
    topology::check_sentinels(redis, &mut inspection).await?;
    if let Err(reason) = connected {
        inspection.masters = probe.addresses();
        inspection.findings.insert(0, ServerFinding::from_reason(FindingLevel::Error, reason));
        return Ok(inspection);
    }
    topology::check_cluster(&probe, &mut inspection).await;
    inspection.server = facts::read_facts(&probe).await;
    (inspection.round_trip, inspection.clock_lead) = probe.measure_clock(clock).await;
    keyspace::check_keys(&probe, &store.namespace, &mut inspection).await;
    let refusals = Trials::new(&probe, clock.now()).run().await;
    probe.try_wake_ups(&mut inspection, &refusals).await;
    for (channel, pattern) in store.publish.iter().flat_map(PurgeChannels::examples) {
        probe.try_announcements(&channel, &pattern, &mut inspection).await;
    }
    probe.check_masters(&mut inspection).await;
    probe.remove_keys().await;
    (inspection.tried, inspection.refused) = (refusals.tried, refusals.names());
    inspection.findings.extend(refusals.findings(probe.servers.context()));
    assessment::assess(&mut inspection, store.timeout);
    inspection.findings.sort_by_key(|finding| finding.level as u8);
    Ok(inspection)
}

fn topology_name(context: ExplainContext) -> &'static str {
    match context.topology {
        TopologyKind::Single => "single",
        TopologyKind::Sentinel => "sentinel",
        TopologyKind::Cluster => "cluster",
    }
}

/// The connection of an inspection, and its keys.
struct Probe {
    servers: Arc<Servers>,
    keys: KeyNames,
    id: [u8; 16],
}

impl Probe {
    /// Waits until the server with the index's slot answers a command, if only by refusing it.
    async fn wait_for_connection(&self) -> Result<(), FailureReason> {
        let began = Instant::now();
        loop {
            let error = match self.send("EXISTS", &[&self.keys.index]).await {
                Ok(_) => return Ok(()),
                Err(RedisError::ErrorReply(reply)) if trials::is_refusal(&reply) => return Ok(()),
                Err(error) => error,
            };
            let reason = self.explain_failure(&error);
            let is_final = began.elapsed() >= SETTLED_AFTER
                && !is_ambiguous(&reason)
                && ![CONNECTING, "loading", "cluster-down"].contains(&reason.code);
            if is_final || began.elapsed() >= CONNECT_WAIT {
                return Err(reason);
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    fn explain_failure(&self, error: &RedisError) -> FailureReason {
        match error {
            RedisError::ErrorReply(_) | RedisError::Redirected(_) => explain(error, self.servers.context()),
            _ => self
                .servers
                .index_node()
                .health
                .last_error()
                .unwrap_or_else(|| explain(error, self.servers.context())),
        }
    }

    /// Sends a command to the server of the index's slot, or of the key if the first word is one.
    async fn send(&self, name: &'static str, args: &[&str]) -> Result<RespValue, RedisError> {
        let key =
            args.first().filter(|word| word.contains(':')).unwrap_or(&self.keys.index.as_str()).to_owned();
        let request = RedisRequest::with_args(name, args);
        self.servers.send(CommandKind::Query, key, request, OPTIONS).await
    }

    /// The shortest of several round trips, and the lead of the server's clock in that one.
    async fn measure_clock(&self, clock: &Clock) -> (Option<Duration>, Option<i64>) {
        let mut best: Option<(Duration, Option<i64>)> = None;
        for _ in 0..EXCHANGES {
            let (sent, began) = (clock.now(), Instant::now());
            let Ok(reply) = self.send("TIME", &[]).await else { continue };
            let took = began.elapsed();
            if best.is_none_or(|(shortest, _)| took < shortest) {
                best = Some((took, clock_lead(&reply, sent, took)));
            }
        }
        (best.map(|(took, _)| took), best.and_then(|(_, lead)| lead))
    }

    async fn try_wake_ups(&self, inspection: &mut Inspection, refusals: &Refusals) {
        let mut delivered = self.deliver_wake_up(PubsubProtocol::Resp3).await;
        if delivered.as_ref().is_err_and(is_resp3_refusal) {
            delivered = self.deliver_wake_up(PubsubProtocol::Resp2).await;
        }
        match delivered {
            Ok(took) => inspection.wake_up = Some(took),
            // Reported with the other commands.
            Err(_) if refusals.names().iter().any(|name| name == "publish") => {}
            Err(error) => {
                let reason = explain(&error, self.servers.context());
                inspection.findings.push(ServerFinding {
                    level: FindingLevel::Warning,
                    code: reason.code,
                    message: format!("wake-ups are not delivered: {}", reason.message),
                    help: Some(
                        "purges of other replicas are noticed by polling, four times within `max_lag`"
                            .to_owned(),
                    ),
                });
            }
        }
    }

    async fn deliver_wake_up(&self, protocol: PubsubProtocol) -> Result<Duration, RedisError> {
        let client = self.servers.index_node().build_pubsub_client(protocol);
        // A version that every replica knows already.
        let publish = async { self.send("PUBLISH", &[&self.keys.wake, "0"]).await.map(drop) };
        deliver_to_self(client, &self.keys.wake, publish, COMMAND_TIMEOUT).await
    }

    /// Whether purges can be announced on `store.publish`. Nothing is published, since others act on what comes there: a
    /// subscription needs the right to the same channel. `pattern` is that of the right.
    async fn try_announcements(&self, channel: &str, pattern: &str, inspection: &mut Inspection) {
        let index = self.servers.index_node();
        let Some(address) = index.address() else { return };
        let connection = index.connect_beside((*address).clone());
        // A driver may keep the confirmation to itself, and take the second reply for it.
        let (subscribe, ping) = ([channel], []);
        let (tried, _) =
            tokio::join!(send_to(&connection, "SUBSCRIBE", &subscribe), send_to(&connection, "PING", &ping));
        connection.shut_down();
        let Err(RedisError::ErrorReply(reply)) = tried else { return };
        if trials::is_refusal(&reply) && reply.contains("channel") {
            inspection.findings.push(ServerFinding {
                level: FindingLevel::Warning,
                code: "no-permission",
                message: format!(
                    "the Redis user may not use the channel `{pattern}` of `store.publish`: purges are not announced there"
                ),
                help: Some(format!("ACL SETUSER \u{2026} &{pattern}")),
            });
        }
    }

    /// Asks every master of a cluster.
    async fn check_masters(&self, inspection: &mut Inspection) {
        for node in self.servers.nodes() {
            let name = node.name();
            if let Err(error) = send_to(&node, "PING", &[]).await
                && !matches!(&error, RedisError::ErrorReply(reply) if trials::is_refusal(reply))
            {
                let reason =
                    node.health.last_error().unwrap_or_else(|| explain(&error, self.servers.context()));
                let reason = reason.map_message(|message| format!("{name}: {message}"));
                inspection.findings.push(ServerFinding::from_reason(FindingLevel::Warning, reason));
            }
            inspection.masters.push(name);
        }
    }

    fn addresses(&self) -> Vec<String> {
        let address = |node: Arc<RedisNode>| Some(node.address()?.to_string());
        self.servers.nodes().into_iter().filter_map(address).collect()
    }

    async fn remove_keys(&self) {
        for key in trials::list_keys(self) {
            let removed = match self.send("UNLINK", &[&key]).await {
                Err(RedisError::ErrorReply(_)) => self.send("DEL", &[&key]).await,
                other => other,
            };
            if let Err(error) = removed {
                tracing::debug!(key, %error, "probe key not deleted");
            }
        }
    }
}

async fn send_to(node: &RedisNode, name: &'static str, args: &[&str]) -> Result<RespValue, RedisError> {
    node.send(CommandKind::Query, RedisRequest::with_args(name, args), OPTIONS).await
}

/// Assumes that the server read its clock in the middle of the exchange.
fn clock_lead(reply: &RespValue, sent: Timestamp, took: Duration) -> Option<i64> {
    let [seconds, micros] = reply.array()? else { return None };
    let server = Timestamp::from_micros(seconds.number()?.checked_mul(1_000_000)? + micros.number()?);
    let here = sent.plus(took / 2);
    i64::try_from(server.as_micros()).ok()?.checked_sub(i64::try_from(here.as_micros()).ok()?)
}

impl ServerFinding {
    fn from_reason(level: FindingLevel, reason: FailureReason) -> Self {
        Self { level, code: reason.code, message: reason.message, help: None }
    }
}
