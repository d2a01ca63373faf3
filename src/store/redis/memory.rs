//! How much memory the server has in use, asked now and then, for people. Nothing depends on it.

use std::sync::Arc;
use std::time::Duration;

use super::driver::{Node, Sent, Way};
use super::figures::Command;
use super::request::Request;
use super::servers::Servers;
use crate::store::remote::ServerMemory;

const BETWEEN: Duration = Duration::from_secs(5);

/// Until the runtime ends.
pub async fn watch(servers: Arc<Servers>, deadline: Duration) {
    loop {
        let mut all_told = true;
        for node in servers.all() {
            let told = ask(&node, deadline).await;
            all_told &= told.is_some();
            node.figures.set_memory(told);
        }
        // Soon after the start there is a connection.
        let pause = if all_told { BETWEEN } else { BETWEEN / 10 };
        tokio::time::sleep(pause).await;
    }
}

async fn ask(node: &Node, deadline: Duration) -> Option<ServerMemory> {
    let way = Way { sent: Sent::IfHealthy, asking: false, within: deadline };
    let told = node.send(Command::Look, Request::about("INFO", &["memory"]), way).await.ok()?;
    read(told.text()?)
}

/// `None` from a server that tells something else.
fn read(info: &str) -> Option<ServerMemory> {
    let figure = |name: &str| -> Option<u64> {
        let of_name = |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok();
        info.lines().find_map(of_name)
    };
    let limit = figure("maxmemory").filter(|limit| *limit > 0);
    Some(ServerMemory { used: figure("used_memory")?, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_tells_is_read_and_what_it_does_not_is_left_out() {
        let info = "# Memory\r\nused_memory:1024\r\nused_memory_human:1.00K\r\nmaxmemory:4096\r\n";
        assert_eq!(read(info), Some(ServerMemory { used: 1024, limit: Some(4096) }));
        assert_eq!(read("used_memory:7\r\nmaxmemory:0\r\n"), Some(ServerMemory { used: 7, limit: None }));
        assert_eq!(read("used_memory:many\r\n"), None);
        assert_eq!(read(""), None);
    }
}
