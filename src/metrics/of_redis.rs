//! What `/metrics` says of Redis, where responses are shared through it.

use super::exposition::{Family, Labels};
use crate::store::remote::{Breaker, CommandFigure, LeaseFigures, Remote, RemoteNode};

pub(super) fn families(remote: &Remote) -> Vec<Family> {
    let mut breaker = Family::gauge("larder_redis_breaker", "1 for the state that the breaker is in.");
    for state in Breaker::ALL {
        breaker
            .push(vec![("state", state.as_str().to_string())], f64::from(u8::from(state == remote.breaker)));
    }
    let mut age = Family::gauge(
        "larder_redis_confirmed_age_seconds",
        "How long ago all purges were known here; absent while none is.",
    );
    if let Some(ago) = remote.confirmed_ago {
        age.push(Vec::new(), ago.as_secs_f64());
    }
    let mut used = Family::gauge("larder_redis_memory_used_bytes", "Memory that Redis has in use.");
    let mut limit = Family::gauge("larder_redis_memory_limit_bytes", "Memory that it may use, if bounded.");
    if let Some(memory) = remote.memory {
        used.push(Vec::new(), memory.used as f64);
        memory.limit.into_iter().for_each(|bytes| limit.push(Vec::new(), bytes as f64));
    }
    let mut families = vec![
        used,
        limit,
        Family::gauge(
            "larder_redis_up",
            "Whether Redis answers; in a cluster, the master that has the purge index.",
        )
        .with(u64::from(!remote.is_away())),
        breaker,
        Family::counter("larder_redis_breaker_opened", "How often the breaker was opened.")
            .with(remote.opened),
        Family::counter("larder_redis_connections", "Connections made.").with(remote.connections),
        Family::gauge("larder_redis_in_flight", "Commands under way.").with(remote.in_flight as u64),
        Family::gauge("larder_purges_waiting", "Targets of purges that Redis has not taken.")
            .with(remote.purges_waiting as u64),
        age,
        Family::counter("larder_purge_indexes", "How often the purge index turned out to be a new one.")
            .with(remote.new_indexes),
    ];
    let mut leases = Family::counter("larder_leases", "Fetches for all replicas, and waits for another's.");
    let LeaseFigures { taken, waited, apart, lost } = remote.leases;
    for (result, count) in [("taken", taken), ("waited", waited), ("apart", apart), ("lost", lost)] {
        leases.push_if_any(vec![("result", result.to_string())], count);
    }
    families.push(leases);
    families.extend(of_commands(&remote.commands));
    families.extend(of_nodes(&remote.nodes));
    families
}

/// More nodes than this have one label together.
const MOST_NODES: usize = 32;

fn of_nodes(nodes: &[RemoteNode]) -> Option<Family> {
    let mut up = Family::gauge("larder_redis_node_up", "Whether a master of the cluster answers.");
    let is_up = |node: &RemoteNode| node.breaker == Breaker::Closed;
    let (named, others) = nodes.split_at(nodes.len().min(MOST_NODES));
    for node in named {
        up.push(vec![("node", node.name.clone())], f64::from(u8::from(is_up(node))));
    }
    if !others.is_empty() {
        let all_up = others.iter().all(is_up);
        up.push(vec![("node", "others".to_owned())], f64::from(u8::from(all_up)));
    }
    (!nodes.is_empty()).then_some(up)
}

fn of_commands(figures: &[CommandFigure]) -> Vec<Family> {
    let mut commands = Family::counter("larder_redis_commands", "Commands, by what became of them.");
    let mut seconds = Family::counter("larder_redis_command_seconds", "Time that commands took, in all.");
    for figure in figures {
        let labels = |result: &str| -> Labels {
            vec![("command", figure.command.to_string()), ("result", result.to_string())]
        };
        let answered = figure.sent.saturating_sub(figure.timed_out + figure.failed);
        commands.push(labels("answered"), answered as f64);
        commands.push_if_any(labels("timeout"), figure.timed_out);
        commands.push_if_any(labels("failed"), figure.failed);
        seconds.push(vec![("command", figure.command.to_string())], figure.seconds);
    }
    vec![commands, seconds]
}
