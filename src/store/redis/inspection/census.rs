//! Counts the keys of a namespace for `larder redis stats`. It reads names and sizes, never values, in bounded steps.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::connection::Address;
use super::super::error::RedisError;
use super::super::failure_reason::explain;
use super::super::keys::KeyNames;
use super::super::node::RedisNode;
use super::super::scripts::RespValue;
use super::super::sentinel::SentinelTrust;
use super::super::servers::Servers;
use super::{COMMAND_TIMEOUT, CONNECT_WAIT, Probe, RETRY_INTERVAL, send_to};
use crate::config::{RedisHost, RedisSettings};

/// Keys that one SCAN visits: about a millisecond of the server's time.
const SCAN_STEP: u64 = 1000;

/// How long a replica has to answer. It may be announced under an address that can't be reached from here.
const REPLICA_WAIT: Duration = Duration::from_millis(1500);

/// Values whose sizes are read, at most one for each reply of SCAN.
const MAX_SAMPLES: u64 = 1000;

/// The keys of a namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    pub masters: Vec<String>,
    /// The servers whose keys were walked: a replica of each master that has one which can be reached.
    pub scanned: Vec<String>,
    /// By kind of key.
    pub kinds: BTreeMap<&'static str, KindCount>,
    /// Keys that SCAN has passed, other applications' included.
    pub visited: u64,
    /// Whether all keys were visited; otherwise the counts are lower bounds.
    pub is_complete: bool,
    /// Records and replicas in the purge index.
    pub index_members: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KindCount {
    pub keys: u64,
    /// Values that were measured, and their bytes.
    pub samples: u64,
    pub sampled_bytes: u64,
}

impl KindCount {
    /// Estimated bytes of all values; `None` if none was measured.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let total = u128::from(self.sampled_bytes) * u128::from(self.keys);
        total.checked_div(self.samples.into()).and_then(|bytes| u64::try_from(bytes).ok())
    }
}

/// Counts the keys of a namespace on all masters, visiting at most `limit` keys on each. Needs a runtime.
///
/// # Errors
/// If a TLS file can't be read; the reason why there is no connection, or why keys can't be listed.
pub(crate) async fn count_keys(settings: &RedisSettings, namespace: &str, limit: u64) -> io::Result<Census> {
    let keys = KeyNames::new(namespace);
    let servers = Servers::connect(settings, &keys, COMMAND_TIMEOUT, SentinelTrust::Any)?;
    let probe = Probe { servers, keys, id: [0; 16] };
    probe.wait_for_connection().await.map_err(|reason| io::Error::other(reason.message))?;
    let began = Instant::now();
    while !probe.servers.knows_all_masters() && began.elapsed() < CONNECT_WAIT {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    let mut census = Census { is_complete: true, ..Census::default() };
    for node in probe.servers.nodes() {
        census.masters.push(node.name());
        let replica = connect_to_replica(&node).await;
        let scanned = replica.as_ref().unwrap_or(&node);
        census.scanned.push(scanned.name());
        let counted = census.count_node(scanned, &node, namespace, limit).await;
        replica.iter().for_each(|replica| replica.shut_down());
        counted.map_err(|error| {
            io::Error::other(format!(
                "keys can't be listed: {}; the user needs `+scan`, beside the smallest ACL",
                explain(&error, probe.servers.context()).message
            ))
        })?;
    }
    let members = probe.send("ZCARD", &[&probe.keys.index]).await;
    census.index_members = members.ok().and_then(|members| members.number());
    Ok(census)
}

impl Census {
    /// Walks the names at one server, and measures values at their master, since a replica in a cluster refuses to.
    async fn count_node(
        &mut self,
        scanned: &RedisNode,
        master: &RedisNode,
        namespace: &str,
        limit: u64,
    ) -> Result<(), RedisError> {
        let pattern = format!("*{}*:*", escape_glob(namespace));
        let mut cursor = "0".to_owned();
        let mut visited = 0;
        while visited < limit {
            let step = SCAN_STEP.min(limit - visited).to_string();
            let reply = send_to(scanned, "SCAN", &[&cursor, "MATCH", &pattern, "COUNT", &step]).await?;
            let Some((next, names)) = parse_scan(&reply) else {
                return Err(RedisError::ErrorReply("malformed reply to SCAN".to_owned()));
            };
            visited += SCAN_STEP.min(limit - visited);
            self.count_names(master, namespace, &names).await;
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
        self.visited += visited;
        self.is_complete &= cursor == "0";
        Ok(())
    }

    async fn count_names(&mut self, node: &RedisNode, namespace: &str, names: &[&str]) {
        let mut sample = None;
        for name in names {
            let Some(kind) = kind_of_key(namespace, name) else { continue };
            self.kinds.entry(kind).or_default().keys += 1;
            if kind == RESPONSES {
                sample = Some(*name);
            }
        }
        let measured = self.kinds.get(RESPONSES).map_or(0, |count| count.samples);
        if let Some(name) = sample.filter(|_| measured < MAX_SAMPLES)
            && let Ok(length) = send_to(node, "STRLEN", &[name]).await
        {
            let count = self.kinds.entry(RESPONSES).or_default();
            count.samples += 1;
            count.sampled_bytes += length.number().unwrap_or_default();
        }
    }
}

/// Connects to a replica of the master that is in sync and answers; `None` if there is none, or it takes too long.
async fn connect_to_replica(master: &RedisNode) -> Option<Arc<RedisNode>> {
    let info = send_to(master, "INFO", &["replication"]).await.ok()?;
    let (host, port) = info.text()?.lines().find_map(parse_replica)?;
    let replica = master.connect_beside(Address::Host(RedisHost { host, port }));
    let began = Instant::now();
    while began.elapsed() < REPLICA_WAIT {
        let info = send_to(&replica, "INFO", &["replication"]).await;
        match info.as_ref().ok().and_then(RespValue::text) {
            Some(info) if info.contains("role:slave") && info.contains("master_link_status:up") => {
                return Some(replica);
            }
            // It is another server, or does not know all keys.
            Some(_) => break,
            None => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    }
    replica.shut_down();
    None
}

/// Reads `slave0:ip=10.0.0.2,port=6379,state=online,…`.
fn parse_replica(line: &str) -> Option<(String, u16)> {
    let (name, fields) = line.trim().split_once(':')?;
    let number = name.strip_prefix("slave")?;
    let field = |name: &str| {
        fields.split(',').filter_map(|field| field.split_once('=')).find(|(its, _)| *its == name)
    };
    let is_online = number.parse::<u32>().is_ok() && field("state")?.1 == "online";
    is_online.then_some((field("ip")?.1.to_owned(), field("port")?.1.parse().ok()?))
}

/// The next cursor, and names that are text.
fn parse_scan(reply: &RespValue) -> Option<(String, Vec<&str>)> {
    let [cursor, names] = reply.array()? else { return None };
    Some((cursor.text()?.to_owned(), names.array()?.iter().filter_map(RespValue::text).collect()))
}

const RESPONSES: &str = "responses";

/// `None`: a key of another namespace.
fn kind_of_key(namespace: &str, name: &str) -> Option<&'static str> {
    let shared = name.strip_prefix('{').and_then(|rest| rest.strip_prefix(namespace)?.strip_prefix("}:"));
    if let Some(rest) = shared {
        return Some(match rest.split(':').next().unwrap_or_default() {
            "index" => "purge index",
            "journal" => "purge log",
            "events" => "event sources",
            "stats" => "counters of replicas",
            "seen" => "seen events",
            "rate" => "rate limits",
            "purged" | "replicas" => "former release",
            _ => "other",
        });
    }
    let rest = name.strip_prefix(namespace)?.strip_prefix(':')?;
    let kind = rest.split(':').next().unwrap_or_default();
    let own = format!("r{}", crate::store::encoding::FORMAT_VERSION);
    Some(match kind {
        kind if kind == own => RESPONSES,
        "lease" => "leases",
        _ if is_format(kind) => "responses of other releases",
        _ => "other",
    })
}

fn is_format(kind: &str) -> bool {
    kind.strip_prefix('r')
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn escape_glob(text: &str) -> String {
    text.chars()
        .flat_map(|letter| "\\*?[]".contains(letter).then_some('\\').into_iter().chain([letter]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_by_kind_and_namespace() {
        for (name, kind) in [
            ("{shop}:index", Some("purge index")),
            ("{shop}:journal", Some("purge log")),
            ("{shop}:events:orders", Some("event sources")),
            ("shop:r5:00ff", Some("responses")),
            ("shop:r4:00ff", Some("responses of other releases")),
            ("shop:lease:{shop:r5:00ff}", Some("leases")),
            ("shop:rx:00ff", Some("other")),
            ("shop2:r5:00ff", None),
            ("{shop2}:index", None),
            ("other:shop:r5:00ff", None),
        ] {
            assert_eq!(kind_of_key("shop", name), kind, "{name}");
        }
    }

    #[test]
    fn a_replica_in_sync_is_found() {
        let line = "slave0:ip=10.0.0.2,port=6380,state=online,offset=14,lag=0\r";
        assert_eq!(parse_replica(line), Some(("10.0.0.2".to_owned(), 6380)));
        for other in
            ["slave_repl_offset:14", "slave1:ip=a,port=1,state=wait_bgsave", "role:master", "slave0:"]
        {
            assert_eq!(parse_replica(other), None, "{other}");
        }
    }

    #[test]
    fn sizes_are_estimated_from_samples() {
        let count = KindCount { keys: 1000, samples: 2, sampled_bytes: 300 };
        assert_eq!(count.bytes(), Some(150_000));
        assert_eq!(KindCount { keys: 5, ..KindCount::default() }.bytes(), None);
    }

    #[test]
    fn a_namespace_is_no_pattern() {
        assert_eq!(escape_glob("a*b[c]?\\"), "a\\*b\\[c\\]\\?\\\\");
    }
}
