//! Explains failures of Redis to an operator: what was found, and what to do.

mod rules;

use super::error::RedisError;
use crate::store::remote_status::{CONNECTING, FailureReason};
pub(super) use rules::NO_PASSWORD;
pub(crate) use rules::Rule;
use rules::{CONNECTIONS, REPLIES};

/// The place in the documentation that has the rights of the store's user.
const ACL_OF_STORE: &str = "the smallest ACL in docs/redis.md";

/// The same for the user of an event source.
const ACL_OF_SOURCES: &str = "`Rights in Redis` in docs/events.md";

/// Longest part of another program's words that an explanation repeats, in characters.
const MAX_QUOTED_CHARS: usize = 200;

/// Settings that an explanation refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExplainContext {
    pub uses_tls: bool,
    pub topology: TopologyKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopologyKind {
    Single,
    Sentinel,
    Cluster,
}

/// Result of a separate connection to the port, made if the failure itself is ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortFinding {
    /// It answers a TLS handshake.
    SpeaksTls,
    /// It answers Redis commands without TLS.
    SpeaksPlainRedis,
    /// It accepts connections and sends nothing.
    Silent,
}

impl ExplainContext {
    pub(crate) fn is_cluster(self) -> bool {
        self.topology == TopologyKind::Cluster
    }
}

/// Explains a failure to connect or to get a reply.
pub(super) fn explain(error: &RedisError, context: ExplainContext) -> FailureReason {
    match error {
        RedisError::TimedOut => FailureReason::new(
            "no-reply",
            "the server does not answer within `store.timeout`: it hangs, is overloaded or far away; check it, or raise `store.timeout`",
        ),
        RedisError::Redirected(redirect) if !context.is_cluster() => FailureReason {
            code: "cluster-node",
            message: format!(
                "the server is a node of a cluster: write `redis-cluster://` instead of `redis://` (it redirects to {}:{})",
                redirect.host, redirect.port
            ),
        },
        RedisError::ErrorReply(reply) => explain_reply(reply),
        RedisError::ConnectionLost(detail) => explain_connection(detail),
        error => FailureReason::new("other", error.to_string()),
    }
}

/// Explains a failure of an event source's server by the names of the source's settings.
pub(super) fn explain_for_source(error: &RedisError, context: ExplainContext) -> FailureReason {
    name_source_settings(match error {
        RedisError::TimedOut => FailureReason::new(
            "no-reply",
            "the server does not answer in time: it hangs, is overloaded or far away",
        ),
        error => explain(error, context),
    })
}

/// Names the settings of an event source in place of the store's.
pub(super) fn name_source_settings(explained: FailureReason) -> FailureReason {
    explained.map_message(|message| {
        message.replace("`store.redis", "`redis").replace(ACL_OF_STORE, ACL_OF_SOURCES)
    })
}

/// Explains an ambiguous failure by what another connection to the port found.
pub(super) fn explain_finding(
    before: &FailureReason,
    finding: PortFinding,
    context: ExplainContext,
) -> Option<FailureReason> {
    match (finding, context.uses_tls) {
        (PortFinding::SpeaksTls, false) => Some(FailureReason::new(
            "plain-to-tls-port",
            "the port speaks TLS only: write `rediss://` instead of `redis://` in `store.redis.url`",
        )),
        (PortFinding::SpeaksPlainRedis, true) => Some(FailureReason::new(
            "tls-to-plain-port",
            "the port does not speak TLS: write `redis://` instead of `rediss://`, or use the server's `tls-port`",
        )),
        (PortFinding::Silent, _) if before.code == "timed-out" => Some(FailureReason::new(
            "no-reply",
            "the port accepts connections, but nothing answers: the server hangs, or a proxy or firewall is in between",
        )),
        _ => None,
    }
}

/// Whether another connection to the port may tell more about a failure to connect.
pub(super) fn is_ambiguous(reason: &FailureReason) -> bool {
    ["connection-closed", "timed-out", "no-reply", "not-redis"].contains(&reason.code)
}

/// Whether the server or a proxy refuses `HELLO 3`.
pub(super) fn is_resp3_refusal(error: &RedisError) -> bool {
    matches!(error, RedisError::ErrorReply(reply) if explain_reply(reply).code == "no-resp3")
}

pub(super) fn explain_reply(reply: &str) -> FailureReason {
    let words = server_words(reply);
    let unknown = || FailureReason::new("error-reply", format!("Redis answers with an error: {words}"));
    find_rule(REPLIES, reply, &words).unwrap_or_else(unknown)
}

/// Explains the failure of a connection, by an error in debug format.
pub(crate) fn explain_connection(detail: &str) -> FailureReason {
    if let Some(found) = find_rule(CONNECTIONS, detail, &tls_words(detail)) {
        return found;
    }
    if detail.contains("Decode Error") || detail.contains("frame_type") {
        return FailureReason::new(
            "not-redis",
            "the server does not speak the Redis protocol: check host and port in `store.redis.url`",
        );
    }
    if ["TimedOut", "timed out"].iter().any(|word| detail.contains(word)) {
        return timed_out();
    }
    let closed = [
        "ConnectionReset",
        "Connection reset",
        "Connection closed",
        "ConnectionAborted",
        "BrokenPipe",
        "Broken pipe",
        "UnexpectedEof",
        "Canceled",
        "eof",
        "EOF",
        "Failed to route",
    ];
    if detail.is_empty() || closed.iter().any(|word| detail.contains(word)) {
        return FailureReason::new(
            "connection-closed",
            "the server closed the connection: it was restarted, or a proxy or firewall ended it",
        );
    }
    FailureReason::new("connection-failed", format!("the connection failed: {}", quote(detail)))
}

/// Explains a sentinel's error.
pub(super) fn explain_sentinel_reply(reply: &str, service: &str) -> FailureReason {
    let is_unknown = |words: &[&str]| words.iter().any(|word| reply.to_lowercase().contains(word));
    if is_unknown(&["no such master"]) {
        return FailureReason {
            code: "unknown-service",
            message: format!(
                "the sentinels know no service `{service}`: check the path of `store.redis.url` and `sentinel monitor` in \
                 sentinel.conf"
            ),
        };
    }
    if is_unknown(&["unknown command", "unknown subcommand", "unknown sub command"]) {
        return FailureReason::new(
            "not-a-sentinel",
            "the server is not a sentinel: write `redis://` instead of `redis-sentinel://`, or name a sentinel's port",
        );
    }
    explain_reply(reply)
}

/// Explains that no sentinel answers, by the failure of one of them.
pub(super) fn no_sentinel_answers(of_one: &FailureReason) -> FailureReason {
    FailureReason::new("no-sentinel", format!("no sentinel answers: {}", of_one.message))
}

/// Explains that the primary may have been replaced without a word to this replica.
pub(super) fn unconfirmed_primary() -> FailureReason {
    FailureReason::new(
        "no-sentinel-majority",
        "no majority of the sentinels answers, or they name a server that can't be reached, so another server may be the \
         primary: check the hosts in `store.redis.url`, and the network to the sentinels and all servers",
    )
}

/// A connection, its TLS handshake or its login took too long.
pub(super) fn timed_out() -> FailureReason {
    FailureReason::new(
        "timed-out",
        "the server can't be reached in time: check host and port in `store.redis.url`, and firewalls in between",
    )
}

/// The state before the first attempt to connect has ended.
pub(super) fn connecting() -> FailureReason {
    FailureReason::new(CONNECTING, "connecting to Redis")
}

/// Explains `text` by the first rule that knows it; `words` is the part to repeat.
pub(crate) fn find_rule(rules: &[Rule], text: &str, words: &str) -> Option<FailureReason> {
    let (code, _, message) =
        rules.iter().find(|(_, revealing, _)| revealing.iter().any(|word| text.contains(word)))?;
    Some(FailureReason::new(code, message.replace('%', words)))
}

/// The names in a certificate, the alert that ended a handshake, or the last error of a chain in debug format.
fn tls_words(detail: &str) -> String {
    let within = |from: &str, to: char| Some(detail.split_once(from)?.1.split_once(to)?.0);
    let words = within("presented: [", ']').or_else(|| within("AlertReceived(", ')'));
    let words = words.or_else(|| Some(detail.split_once("error: ")?.1)).unwrap_or(detail);
    let words = words.replace("DnsName(", "").replace("IpAddress(", "").replace("\\\"", "");
    quote(&words.trim_matches(['"', '}', ' ', ')']).replace(")\"", "").replace('"', ""))
}

/// Text of another program for one line of a log: escaped and cut.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::new();
    for (at, character) in text.chars().enumerate() {
        match character {
            _ if at == MAX_QUOTED_CHARS => {
                quoted.push('…');
                break;
            }
            character if character.is_control() => quoted.extend(character.escape_default()),
            character => quoted.push(character),
        }
    }
    quoted
}

/// A reply without the parts that differ each time: arguments, the name of the script and the place in it.
fn server_words(reply: &str) -> String {
    let ends = [", with args beginning", " script: ", " on @user_script"].map(|end| reply.find(end));
    let end = ends.into_iter().flatten().min().unwrap_or(reply.len());
    quote(reply[..end].trim_end_matches([',', ' ', '.']))
}

#[cfg(test)]
mod tests {
    use super::super::error::Redirect;
    use super::*;

    const PLAIN: ExplainContext = ExplainContext { uses_tls: false, topology: TopologyKind::Single };

    #[test]
    fn replies_are_explained_by_what_to_do() {
        for (reply, code, advice) in [
            ("NOAUTH Authentication required.", "auth-required", "set `password`"),
            ("WRONGPASS invalid username-password pair or user is disabled.", "wrong-password", "`username`"),
            (
                "ERR AUTH <password> called without any password configured",
                "no-password-configured",
                "remove",
            ),
            (
                "ERR The user executing the script can't run this command or subcommand",
                "no-permission",
                "ACL",
            ),
            (
                "NOPERM this user has no permissions to run the 'evalsha' command",
                "no-permission",
                "'evalsha'",
            ),
            ("ERR unknown command 'HELLO', with args beginning with: '3' ", "no-resp3", "RESP3"),
            ("NOPROTO unsupported protocol version", "no-resp3", "RESP3"),
            (
                "ERR unknown command 'EVALSHA', with args beginning with: '0b9' ",
                "unknown-command",
                "'EVALSHA')",
            ),
            ("LOADING Redis is loading the dataset in memory", "loading", "ready"),
            ("ERR max number of clients reached", "max-clients", "`maxclients`"),
            (
                "READONLY You can't write against a read only replica. script: 0b, on @user_script:17.",
                "read-only-replica",
                "redis-sentinel",
            ),
            ("OOM command not allowed when used memory > 'maxmemory'.", "out-of-memory", "volatile-lru"),
            ("ERR DB index is out of range", "database-out-of-range", "databases"),
            ("ERR SELECT is not allowed in cluster mode", "cluster-node", "redis-cluster://"),
            (
                "DENIED Redis is running in protected mode because protected mode is enabled and no password is set",
                "protected-mode",
                "`requirepass`",
            ),
            ("ERR This instance has cluster support disabled", "not-a-cluster", "redis://"),
            ("ERR something new", "error-reply", "ERR something new"),
        ] {
            let found = explain(&RedisError::ErrorReply(reply.to_owned()), PLAIN);
            assert_eq!(found.code, code, "{reply}");
            assert!(found.message.contains(advice), "{reply}: {}", found.message);
        }
    }

    #[test]
    fn words_that_differ_each_time_are_left_out() {
        let reply = "ERR unknown command 'EVALSHA', with args beginning with: '0b98' '1' '{larder}:purged' ";
        assert_eq!(server_words(reply), "ERR unknown command 'EVALSHA'");
        assert_eq!(
            server_words("WRONGTYPE Operation script: 0b, on @user_script:17."),
            "WRONGTYPE Operation"
        );
    }

    #[test]
    fn words_of_a_server_are_one_line_of_bounded_length() {
        let reply = format!("ERR \u{1b}[31mhaha\r\nWARN {}", "é".repeat(5000));
        let found = explain(&RedisError::ErrorReply(reply.clone()), PLAIN);
        assert_eq!(found.code, "error-reply");
        assert!(found.message.contains("ERR \\u{1b}[31mhaha\\r\\nWARN é"), "{}", found.message);
        assert!(found.message.ends_with("é…") && found.message.chars().count() < 250, "{}", found.message);
        for error in
            [RedisError::ErrorReply(format!("NOPERM {reply}")), RedisError::ConnectionLost(reply.clone())]
        {
            let found = explain(&error, PLAIN).message;
            assert!(found.chars().count() < 400 && !found.contains(char::is_control), "{found}");
        }
    }

    #[test]
    fn failed_handshakes_are_told_apart() {
        for (detail, code, advice) in [
            ("AlertReceived(HandshakeFailure)", "tls-ciphers", "`tls-ciphers`"),
            ("AlertReceived(ProtocolVersion)", "tls-version", "`tls-protocols`"),
            ("PeerIncompatible(ServerDoesNotSupportTls12Or13)", "tls-version", "TLS 1.2"),
            ("AlertReceived(CertificateExpired)", "client-certificate", "renew `store.redis.tls.cert`"),
            ("AlertReceived(CertificateUnknown)", "client-certificate", "certificate (CertificateUnknown):"),
            ("AlertReceived(UnrecognisedName)", "certificate-name", "host in `store.redis.url`"),
            ("AlertReceived(InternalError)", "tls-failed", "failed: InternalError"),
        ] {
            let detail = format!("IO Error: Custom {{ kind: InvalidData, error: {detail} }}");
            let found = explain(&RedisError::ConnectionLost(detail), PLAIN);
            assert_eq!(found.code, code, "{advice}");
            assert!(found.message.contains(advice), "{}", found.message);
        }
    }

    #[test]
    fn a_redirection_means_a_cluster_unless_it_is_known_to_be_one() {
        let redirect = Redirect { is_ask: false, host: "10.0.0.7".to_owned(), port: 6379 };
        let found = explain(&RedisError::Redirected(redirect.clone()), PLAIN);
        assert!(found.code == "cluster-node" && found.message.contains("redis-cluster://"), "{found:?}");
        let cluster = ExplainContext { topology: TopologyKind::Cluster, ..PLAIN };
        assert_eq!(explain(&RedisError::Redirected(redirect), cluster).code, "other");
    }

    #[test]
    fn a_port_that_speaks_the_other_way_is_named() {
        let tls = ExplainContext { uses_tls: true, ..PLAIN };
        let code =
            |finding, context| explain_finding(&timed_out(), finding, context).map(|reason| reason.code);
        assert_eq!(code(PortFinding::SpeaksTls, PLAIN), Some("plain-to-tls-port"));
        assert_eq!(code(PortFinding::SpeaksTls, tls), None);
        assert_eq!(code(PortFinding::SpeaksPlainRedis, tls), Some("tls-to-plain-port"));
        assert_eq!(code(PortFinding::SpeaksPlainRedis, PLAIN), None);
        assert_eq!(code(PortFinding::Silent, PLAIN), Some("no-reply"));
    }

    #[test]
    fn the_names_in_a_certificate_are_said() {
        let detail = "IO Error: Custom { kind: InvalidData, error: InvalidCertificate(NotValidForNameContext { expected: \
                      IpAddress(V4(Ipv4Addr([127, 0, 0, 1]))), presented: [\"DnsName(\\\"other.example\\\")\"] }) }";
        let found = explain(&RedisError::ConnectionLost(detail.to_owned()), PLAIN);
        assert_eq!(found.code, "certificate-name");
        assert!(found.message.ends_with("(other.example)"), "{}", found.message);
    }
}
