//! Explains failures of PostgreSQL to an operator: what was found, and what to do.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;

/// Longest part of the server's words that an explanation repeats, in characters.
const MAX_QUOTED_CHARS: usize = 200;

pub(super) const TOO_LATE: &str =
    "the server does not answer in time: check host and port in `postgres.url`, and firewalls in between";

pub(super) const NO_TLS: &str = "the server does not speak TLS: set `ssl` in postgresql.conf, or write `?sslmode=disable` in `postgres.url`";

pub(super) const NOT_DELIVERED: &str = "the server takes LISTEN and delivers no notification: let `postgres.url` name \
                                        the server itself, or a pooler in session mode";

/// The code (SQLSTATE), words of the server's message, and the explanation. `%` stands for the server's words. The first
/// match counts.
const REPLIES: &[(&str, &str, &str)] = &[
    (
        "28P01",
        "",
        "the server rejects the user name or the password (28P01): check `username` and `password` under `postgres`",
    ),
    (
        "28000",
        "no encryption",
        "the server wants TLS of this user: write `?sslmode=verify-full` in `postgres.url` (%)",
    ),
    ("28000", "", "the server does not let this user in from here: see its pg_hba.conf (%)"),
    ("3D000", "", "the server has no such database: check the path of `postgres.url` (%)"),
    ("42501", "", "the user lacks a right: `GRANT CONNECT ON DATABASE` (%)"),
    (
        "53300",
        "",
        "the server has reached its limit of connections: raise `max_connections` or the user's CONNECTION LIMIT; \
         larder needs one, and a second one while it connects (%)",
    ),
    ("57P03", "", "the server is starting or shutting down; larder listens as soon as it is ready (%)"),
    ("57P01", "", "the server ended the connection: it was shut down or restarted (%)"),
    ("57P02", "", "the server ended the connection: it was shut down or restarted (%)"),
    ("25006", "", "the server is a standby, which takes no LISTEN: let `postgres.url` name the primary"),
];

/// The kind of an error of the operating system, words of it, and the explanation.
const CONNECTIONS: &[(Option<io::ErrorKind>, &str, &str)] = &[
    (
        Some(io::ErrorKind::ConnectionRefused),
        "",
        "the connection was refused: PostgreSQL does not listen on this address; check host and port, and that it runs",
    ),
    (
        Some(io::ErrorKind::NotFound),
        "",
        "the Unix socket does not exist: check `host` and the port in `postgres.url`, and `unix_socket_directories` in \
         postgresql.conf",
    ),
    (
        Some(io::ErrorKind::PermissionDenied),
        "",
        "access to the server's address is denied by the system: check `unix_socket_permissions` in postgresql.conf",
    ),
    (
        Some(io::ErrorKind::HostUnreachable),
        "",
        "the server's network can't be reached: check routes and firewalls",
    ),
    (
        Some(io::ErrorKind::NetworkUnreachable),
        "",
        "the server's network can't be reached: check routes and firewalls",
    ),
    (
        None,
        "failed to lookup address",
        "the server's name can't be resolved: check the host in `postgres.url` and the DNS",
    ),
    (
        None,
        "UnknownIssuer",
        "the server's certificate is signed by an unknown CA: set `postgres.tls.ca` to the CA's certificate",
    ),
    (
        None,
        "certificate expired",
        "the server's certificate has expired: renew it, or check this machine's clock (%)",
    ),
    (
        None,
        "not valid for",
        "the server's certificate is for another name: let `postgres.url` name the host in the certificate (%)",
    ),
    (None, "certificate", "the server's certificate is not acceptable, or it does not accept larder's (%)"),
    (
        Some(io::ErrorKind::InvalidData),
        "",
        "the server does not speak the protocol of PostgreSQL: check host and port in `postgres.url` (%)",
    ),
    (
        Some(io::ErrorKind::ConnectionReset),
        "",
        "the server closed the connection: it was restarted, or a proxy or firewall ended it",
    ),
    (
        Some(io::ErrorKind::UnexpectedEof),
        "",
        "the server closed the connection: it was restarted, or a proxy or firewall ended it",
    ),
];

pub(super) fn explain(error: &Error) -> String {
    if let Some(reply) = error.as_db_error() {
        return explain_reply(reply.code().code(), reply.message());
    }
    let source = error.source();
    if let Some(error) = source.and_then(|source| source.downcast_ref::<io::Error>()) {
        return explain_io(error);
    }
    let words = source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    if words.contains("password missing") {
        return "the server requires a password: set `password` under `postgres`".to_owned();
    }
    format!("the connection failed: {}", shorten(&words))
}

pub(super) fn explain_io(error: &io::Error) -> String {
    let words = error.to_string();
    let rule = CONNECTIONS.iter().find(|(kind, revealing, _)| {
        kind.is_none_or(|kind| kind == error.kind()) && words.contains(revealing)
    });
    let explanation = rule.map_or("the connection failed: %", |(_, _, explanation)| explanation);
    explanation.replace('%', &shorten(&words))
}

fn explain_reply(code: &str, message: &str) -> String {
    let rule = REPLIES.iter().find(|(its, words, _)| *its == code && message.contains(words));
    let explanation = rule.map_or("PostgreSQL answers with an error: %", |(_, _, explanation)| explanation);
    explanation.replace('%', &shorten(message))
}

/// Text of another program for one line of a log.
fn shorten(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().take(MAX_QUOTED_CHARS).map(plain).collect();
    if text.chars().nth(MAX_QUOTED_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_explained_by_what_to_do() {
        for (code, message, advice) in [
            ("28P01", "password authentication failed for user \"x\"", "check `username` and `password`"),
            (
                "28000",
                "no pg_hba.conf entry for host \"1\", user \"x\", no encryption",
                "sslmode=verify-full",
            ),
            ("28000", "role \"x\" is not permitted to log in", "not permitted to log in"),
            ("53300", "too many connections for role \"x\"", "CONNECTION LIMIT"),
            ("25006", "cannot execute LISTEN during recovery", "name the primary"),
            ("XX000", "something\nnew", "answers with an error: something new"),
        ] {
            let explained = explain_reply(code, message);
            assert!(explained.contains(advice), "{code}: {explained}");
        }
        assert!(explain_reply("XX000", &"é".repeat(5000)).chars().count() < 300);
    }

    #[test]
    fn failures_of_the_connection_are_told_apart() {
        for (kind, words, advice) in [
            (io::ErrorKind::ConnectionRefused, "refused", "check host and port"),
            (io::ErrorKind::Other, "failed to lookup address information: x", "the DNS"),
            (io::ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer", "`postgres.tls.ca`"),
            (
                io::ErrorKind::InvalidData,
                "invalid peer certificate: certificate not valid for name \"a\"",
                "name",
            ),
            (io::ErrorKind::InvalidData, "received corrupt message", "check host and port"),
            (io::ErrorKind::Other, "odd", "the connection failed: odd"),
        ] {
            let explained = explain_io(&io::Error::new(kind, words));
            assert!(explained.contains(advice), "{words}: {explained}");
        }
    }
}
