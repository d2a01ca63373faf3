//! Explains failures of PostgreSQL to an operator: what was found, and what to do. The connection fails as one to Redis does.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;

use crate::store::remote_status::FailureReason;
use crate::store::{Rule, explain_connection, find_rule, quote};

/// A code, words that reveal it, and the explanation. `%` stands for the server's words.
const REPLIES: &[Rule] = &[
    (
        "wrong-password",
        &["28P01"],
        "the server rejects the user name or the password (28P01): check `username` and `password` under `postgres`",
    ),
    (
        "tls-required",
        &["no encryption"],
        "the server wants TLS of this user: write `?sslmode=verify-full` in `postgres.url` (%)",
    ),
    ("not-let-in", &["28000"], "the server does not let this user in from here: see its pg_hba.conf (%)"),
    ("no-database", &["3D000"], "the server has no such database: check the path of `postgres.url` (%)"),
    ("no-permission", &["42501"], "the user lacks a right: `GRANT CONNECT ON DATABASE` (%)"),
    (
        "max-clients",
        &["53300"],
        "the server has reached its limit of connections: raise `max_connections` or the user's CONNECTION LIMIT; \
         larder needs one, and a second one while it connects (%)",
    ),
    (
        "loading",
        &["57P03"],
        "the server is starting or shutting down; larder listens as soon as it is ready (%)",
    ),
    (
        "connection-closed",
        &["57P01", "57P02"],
        "the server ended the connection: it was shut down or restarted (%)",
    ),
    (
        "read-only-replica",
        &["25006"],
        "the server is a standby, which takes no LISTEN: let `postgres.url` name the primary",
    ),
];

/// Failures of a connection that mean something else than with Redis.
const CONNECTIONS: &[Rule] = &[
    (
        "no-socket",
        &["kind: NotFound", "kind: NotADirectory"],
        "the Unix socket does not exist: check `host` and the port in `postgres.url`, and `unix_socket_directories` in \
         postgresql.conf",
    ),
    (
        "socket-permission",
        &["PermissionDenied"],
        "access to the server's address is denied by the system: check `unix_socket_permissions` in postgresql.conf",
    ),
];

pub(super) fn too_late() -> FailureReason {
    FailureReason::new(
        "timed-out",
        "the server does not answer in time: check host and port in `postgres.url`, and firewalls in between",
    )
}

pub(super) fn no_tls() -> FailureReason {
    FailureReason::new(
        "tls-to-plain-port",
        "the server does not speak TLS: set `ssl` in postgresql.conf, or write `?sslmode=disable` in `postgres.url`",
    )
}

pub(super) fn not_delivered() -> FailureReason {
    FailureReason::new(
        "not-delivered",
        "the server takes LISTEN and delivers no notification: let `postgres.url` name the server itself, or a pooler in \
         session mode",
    )
}

pub(super) fn no_password(cause: &str) -> FailureReason {
    let advice = "the password can't be obtained: check `password_file` or `auth` under `postgres`";
    FailureReason::new("no-credentials", format!("{advice} ({cause})"))
}

pub(super) fn explain(error: &Error) -> FailureReason {
    if let Some(reply) = error.as_db_error() {
        return explain_reply(reply.code().code(), reply.message());
    }
    let source = error.source();
    if let Some(error) = source.and_then(|source| source.downcast_ref::<io::Error>()) {
        return explain_io(error);
    }
    let words = source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    if words.contains("password missing") {
        return FailureReason::new(
            "auth-required",
            "the server requires a password: set `password` under `postgres`",
        );
    }
    FailureReason::new("connection-failed", format!("the connection failed: {}", quote(&words)))
}

pub(super) fn explain_io(error: &io::Error) -> FailureReason {
    let detail = format!("{error:?}");
    if let Some(found) = find_rule(CONNECTIONS, &detail, "") {
        return found;
    }
    let found = explain_connection(&detail);
    if found.code == "connection-failed" && error.kind() == io::ErrorKind::InvalidData {
        let advice =
            "the server does not speak the protocol of PostgreSQL: check host and port in `postgres.url`";
        return FailureReason::new("not-postgres", format!("{advice} ({})", quote(&error.to_string())));
    }
    found.map_message(|message| message.replace("`store.redis", "`postgres").replace("Redis", "PostgreSQL"))
}

fn explain_reply(code: &str, message: &str) -> FailureReason {
    let words = quote(message);
    let unknown = || FailureReason::new("error-reply", format!("PostgreSQL answers with an error: {words}"));
    find_rule(REPLIES, &format!("{code} {message}"), &words).unwrap_or_else(unknown)
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
            ("XX000", "something\nnew", "answers with an error: something\\nnew"),
        ] {
            let explained = explain_reply(code, message).message;
            assert!(explained.contains(advice), "{code}: {explained}");
        }
        assert!(explain_reply("XX000", &"é".repeat(5000)).message.chars().count() < 300);
    }

    #[test]
    fn failures_of_the_connection_are_told_apart() {
        for (kind, words, advice) in [
            (io::ErrorKind::ConnectionRefused, "refused", "PostgreSQL does not listen"),
            (io::ErrorKind::Other, "failed to lookup address information: x", "the DNS"),
            (io::ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer", "`postgres.tls.ca`"),
            (
                io::ErrorKind::InvalidData,
                "InvalidCertificate(NotValidForName)",
                "`postgres.url` name the host",
            ),
            (io::ErrorKind::InvalidData, "received corrupt message", "check host and port"),
            (io::ErrorKind::Other, "odd", "the connection failed: "),
        ] {
            let explained = explain_io(&io::Error::new(kind, words)).message;
            assert!(explained.contains(advice), "{words}: {explained}");
        }
    }
}
