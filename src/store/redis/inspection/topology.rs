//! Checks that the servers are what the URL says: that each sentinel answers, and that a cluster is one.

use std::io;
use std::time::Instant;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::connection::Address;
use super::super::connector::RedisConnector;
use super::super::error::RedisError;
use super::super::failure_reason::{TopologyKind, explain};
use super::super::sentinel::{AnswerWait, ask_sentinel};
use super::{
    COMMAND_TIMEOUT, CONNECT_WAIT, FindingLevel, Inspection, Probe, RETRY_INTERVAL, SETTLED_AFTER,
    ServerFinding,
};
use crate::config::{RedisServers, RedisSettings};

/// Asks each sentinel by itself: one that answers hides the others from larder.
///
/// # Errors
/// If a TLS file can't be read.
pub(super) async fn check_sentinels(settings: &RedisSettings, inspection: &mut Inspection) -> io::Result<()> {
    let RedisServers::Sentinel { sentinels, service } = &settings.servers else { return Ok(()) };
    let connector = RedisConnector::new(settings, COMMAND_TIMEOUT)?;
    let wait = AnswerWait { settled_after: SETTLED_AFTER, longest: CONNECT_WAIT };
    let mut asked = JoinSet::new();
    for (place, host) in sentinels.iter().cloned().enumerate() {
        let (service, connector) = (service.clone(), connector.clone());
        asked.spawn(async move {
            let answer = ask_sentinel(&host, &service, &connector, wait).await;
            (place, host, answer)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(place, ..)| *place);
    for (_, host, answer) in &answers {
        let Err(reason) = answer else { continue };
        let host = Address::Host(host.clone());
        inspection.findings.push(ServerFinding {
            level: FindingLevel::Warning,
            code: reason.code,
            message: format!("the sentinel {host} names no primary: {}", reason.message),
            help: Some("start it, or let `store.redis.url` list the sentinels that there are".to_owned()),
        });
    }
    let (named, all) = (answers.iter().filter(|(.., answer)| answer.is_ok()).count(), answers.len());
    if named > 0 && 2 * named <= all {
        inspection.findings.push(ServerFinding {
            level: FindingLevel::Warning,
            code: "no-sentinel-majority",
            message: format!(
                "{named} of {all} sentinels name the primary, which is no majority: they replace no primary that fails"
            ),
            help: Some("start the others; with `max_lag: 0s` larder does not use Redis without a majority".to_owned()),
        });
    }
    Ok(())
}

/// Reads the slot map, and waits until larder follows it.
pub(super) async fn check_cluster(probe: &Probe, inspection: &mut Inspection) {
    let context = probe.servers.context();
    if context.topology != TopologyKind::Cluster {
        return;
    }
    match probe.send("CLUSTER", &["SLOTS"]).await {
        Ok(_) => {
            let began = Instant::now();
            while !probe.servers.knows_all_masters() && began.elapsed() < CONNECT_WAIT {
                sleep(RETRY_INTERVAL).await;
            }
        }
        Err(error @ RedisError::ErrorReply(_)) => {
            let reason = explain(&error, context);
            let (level, help) = match reason.code {
                "not-a-cluster" => (FindingLevel::Error, None),
                _ => {
                    let help = "larder finds the servers by redirections; grant `+cluster|info +cluster|slots +asking`";
                    (FindingLevel::Warning, Some(help.to_owned()))
                }
            };
            inspection.findings.push(ServerFinding {
                level,
                code: reason.code,
                message: reason.message,
                help,
            });
        }
        Err(_) => {}
    }
}
