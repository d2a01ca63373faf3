//! Why a command has no reply, and whether that says something about the server.

use fred::error::{Error, ErrorKind};

use crate::config::RedisHost;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("Redis is away")]
    Away,
    #[error("too many commands are under way")]
    Busy,
    #[error("Redis did not answer in time")]
    TimedOut,
    #[error("the connection to Redis broke: {0}")]
    Broken(String),
    #[error("Redis refused: {0}")]
    Refused(String),
    #[error("another purge index has taken the place of the one that took it")]
    Replaced,
    /// Another node of the cluster has the key.
    #[error("another node of a cluster has it, which `redis-cluster://` would find")]
    Elsewhere(Redirect),
}

/// Where a node of a cluster sends those who ask for what it does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// For this command alone: the slot is on its way to another node.
    pub is_ask: bool,
    /// Empty: the host that said so.
    pub host: String,
    pub port: u16,
}

/// Replies of a server that is there and can't be used for now. Redis 6.2 wraps what a script ran into. (CLUSTERDOWN
/// is none of them: the node's other slots may be served.)
const NOT_NOW: [&str; 8] =
    ["LOADING", "BUSY", "MASTERDOWN", "MISCONF", "READONLY", "NOREPLICAS", "NOAUTH", "WRONGPASS"];

impl Failure {
    pub fn of(error: &Error) -> Self {
        let details = error.details();
        match error.kind() {
            ErrorKind::Timeout => Failure::TimedOut,
            ErrorKind::IO
            | ErrorKind::Canceled
            | ErrorKind::Routing
            | ErrorKind::Protocol
            | ErrorKind::Tls => Failure::Broken(details.to_owned()),
            _ => match redirect(details) {
                Some(redirect) => Failure::Elsewhere(redirect),
                None => Failure::Refused(details.to_owned()),
            },
        }
    }

    /// Whether nothing more is to be asked of the server until it has answered a probe.
    pub fn is_of_server(&self) -> bool {
        match self {
            Failure::TimedOut | Failure::Broken(_) => true,
            Failure::Refused(reason) => NOT_NOW.iter().any(|prefix| reason.contains(prefix)),
            Failure::Away | Failure::Busy | Failure::Replaced | Failure::Elsewhere(_) => false,
        }
    }
}

impl Redirect {
    /// The host that is meant, if `said_by` said so.
    pub fn target(&self, said_by: Option<&RedisHost>) -> Option<RedisHost> {
        let host = if self.host.is_empty() { &said_by?.host } else { &self.host };
        Some(RedisHost { host: host.clone(), port: self.port })
    }
}

/// `MOVED 8579 10.0.0.7:6379`; the host may be an IPv6 address, a name, or nothing.
fn redirect(details: &str) -> Option<Redirect> {
    let mut words = details.split_ascii_whitespace();
    let is_ask = match words.next()? {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let (host, port) = words.nth(1)?.rsplit_once(':')?;
    Some(Redirect { is_ask, host: host.to_owned(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_name_a_host_or_mean_the_one_that_said_so() {
        let at = |host: &str, port| RedisHost { host: host.to_owned(), port };
        let said_by = at("10.0.0.1", 7000);
        for (details, is_ask, target) in [
            ("MOVED 8579 10.0.0.7:6379", false, at("10.0.0.7", 6379)),
            ("ASK 0 redis-2.internal:7001", true, at("redis-2.internal", 7001)),
            ("MOVED 16383 2001:db8::7:6379", false, at("2001:db8::7", 6379)),
            ("MOVED 1 :7002", false, at("10.0.0.1", 7002)),
        ] {
            let redirect = redirect(details).unwrap();
            assert_eq!(redirect.is_ask, is_ask, "{details}");
            assert_eq!(redirect.target(Some(&said_by)), Some(target), "{details}");
        }
        for details in ["MOVED", "MOVED 1", "MOVED 1 host", "MOVED 1 host:x", "TRYAGAIN a:1 b:2", ""] {
            assert_eq!(redirect(details), None, "{details}");
        }
    }
}
