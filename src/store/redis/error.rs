//! Why a command has no reply, and whether that says something about the server.

use crate::config::RedisHost;

/// Why a command has no usable reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// The circuit breaker is open.
    #[error("Redis is unavailable")]
    Unavailable,
    /// The bound on commands in flight is reached.
    #[error("too many commands are in flight")]
    TooManyInFlight,
    /// The deadline has passed.
    #[error("Redis did not answer in time")]
    TimedOut,
    /// The connection was lost; the command may have been carried out.
    #[error("the connection to Redis failed: {0}")]
    ConnectionLost(String),
    /// An error reply, with its text.
    #[error("Redis answered with an error: {0}")]
    ErrorReply(String),
    /// A new epoch has begun meanwhile.
    #[error("a new purge index has replaced the one that took the purge")]
    IndexReplaced,
    /// Another process uses the name of this replica.
    #[error("another process has this replica's name: give each a `store.replica` of its own")]
    NameTaken,
    /// Another node of the cluster has the key.
    #[error("another node of a cluster has the key; write `redis-cluster://`")]
    Redirected(Redirect),
}

/// A MOVED or ASK reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// For this command alone: the slot is being migrated to another node.
    pub(crate) is_ask: bool,
    /// Empty: the host that replied.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// Errors of a server that is up but can't be used now. Redis 6.2 wraps the errors of scripts. CLUSTERDOWN is not among
/// them, because the node's other slots may be served.
const UNUSABLE_SERVER_ERRORS: [&str; 8] =
    ["LOADING", "BUSY", "MASTERDOWN", "MISCONF", "READONLY", "NOREPLICAS", "NOAUTH", "WRONGPASS"];

impl RedisError {
    /// The error that a server's own words mean.
    pub(super) fn from_reply(text: &str) -> Self {
        match parse_redirect(text) {
            Some(redirect) => RedisError::Redirected(redirect),
            None => RedisError::ErrorReply(text.to_owned()),
        }
    }

    /// Whether the server does not know a script by its digest.
    pub(super) fn is_unknown_script(&self) -> bool {
        matches!(self, RedisError::ErrorReply(reply) if reply.contains("NOSCRIPT"))
    }

    /// Whether the server must answer a probe before anything else is sent to it.
    pub(crate) fn is_server_failure(&self) -> bool {
        match self {
            RedisError::TimedOut | RedisError::ConnectionLost(_) => true,
            RedisError::ErrorReply(reply) => UNUSABLE_SERVER_ERRORS.iter().any(|error| reply.contains(error)),
            RedisError::Unavailable
            | RedisError::TooManyInFlight
            | RedisError::IndexReplaced
            | RedisError::NameTaken
            | RedisError::Redirected(_) => false,
        }
    }
}

impl Redirect {
    /// The host to go to, if `replied_by` sent the redirection.
    pub(crate) fn resolve(&self, replied_by: Option<&RedisHost>) -> Option<RedisHost> {
        let host = if self.host.is_empty() { &replied_by?.host } else { &self.host };
        Some(RedisHost { host: host.clone(), port: self.port })
    }
}

/// Parses `MOVED 8579 10.0.0.7:6379`. The host may be an IPv6 address, a name, or empty.
fn parse_redirect(details: &str) -> Option<Redirect> {
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
    fn redirections_name_a_host_or_mean_the_one_that_replied() {
        let at = |host: &str, port| RedisHost { host: host.to_owned(), port };
        let replied_by = at("10.0.0.1", 7000);
        for (details, is_ask, target) in [
            ("MOVED 8579 10.0.0.7:6379", false, at("10.0.0.7", 6379)),
            ("ASK 0 redis-2.internal:7001", true, at("redis-2.internal", 7001)),
            ("MOVED 16383 2001:db8::7:6379", false, at("2001:db8::7", 6379)),
            ("MOVED 1 :7002", false, at("10.0.0.1", 7002)),
        ] {
            let redirect = parse_redirect(details).unwrap();
            assert_eq!(redirect.is_ask, is_ask, "{details}");
            assert_eq!(redirect.resolve(Some(&replied_by)), Some(target), "{details}");
        }
        for details in ["MOVED", "MOVED 1", "MOVED 1 host", "MOVED 1 host:x", "TRYAGAIN a:1 b:2", ""] {
            assert_eq!(parse_redirect(details), None, "{details}");
        }
    }
}
