//! Polls the servers' memory figures for health checks and metrics. Nothing else depends on them.

use std::sync::Arc;
use std::time::Duration;

use super::command_stats::CommandKind;
use super::connection::{Admission, SendOptions};
use super::node::RedisNode;
use super::request::RedisRequest;
use super::servers::Servers;
use crate::store::remote_status::ServerMemory;

const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Polls until the runtime ends.
pub(crate) async fn poll_memory(servers: Arc<Servers>, deadline: Duration) {
    loop {
        let mut all_answered = true;
        for node in servers.nodes() {
            let memory = query_memory(&node, deadline).await;
            all_answered &= memory.is_some();
            node.figures.set_memory(memory);
        }
        // Ask again soon: right after the start there is no connection yet.
        let pause = if all_answered { POLL_INTERVAL } else { POLL_INTERVAL / 10 };
        tokio::time::sleep(pause).await;
    }
}

async fn query_memory(node: &RedisNode, deadline: Duration) -> Option<ServerMemory> {
    let way = SendOptions { admission: Admission::IfHealthy, asking: false, timeout: deadline };
    let reply = node.send(CommandKind::Query, RedisRequest::with_args("INFO", &[]), way).await.ok()?;
    parse_memory(reply.text()?)
}

/// Parses the reply of INFO; `None` if the figures are missing.
fn parse_memory(info: &str) -> Option<ServerMemory> {
    let figure = |name: &str| -> Option<u64> {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok();
        info.lines().find_map(value)
    };
    let limit = figure("maxmemory").filter(|limit| *limit > 0);
    let databases = info.lines().filter_map(|line| line.strip_prefix("db")?.split_once(":keys="));
    let keys = databases.filter_map(|(_, rest)| rest.split(',').next()?.parse::<u64>().ok()).sum();
    Some(ServerMemory { used: figure("used_memory")?, limit, keys: Some(keys) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_memory_figures_are_left_out() {
        let info = "# Memory\r\nused_memory:1024\r\nused_memory_human:1.00K\r\nmaxmemory:4096\r\n# Keyspace\r\n\
                    db0:keys=12,expires=3,avg_ttl=0\r\ndb1:keys=1,expires=0,avg_ttl=0\r\n";
        assert_eq!(parse_memory(info), Some(ServerMemory { used: 1024, limit: Some(4096), keys: Some(13) }));
        assert_eq!(
            parse_memory("used_memory:7\r\nmaxmemory:0\r\n"),
            Some(ServerMemory { used: 7, limit: None, keys: Some(0) })
        );
        assert_eq!(parse_memory("used_memory:many\r\n"), None);
        assert_eq!(parse_memory(""), None);
    }
}
