//! Words of servers, of the operating system and of rustls, and what they mean to an operator.

/// The beginning of errors about a password that could not be read.
pub(in crate::store::redis) const NO_PASSWORD: &str = "no password:";

/// A code, words that reveal it, and the explanation. `%` stands for the server's own words.
pub(crate) type Rule = (&'static str, &'static [&'static str], &'static str);

/// Replies to commands and to the login. Words are searched within the reply, because Redis 6.2 wraps the errors of
/// scripts. The first match counts.
pub(super) const REPLIES: &[Rule] = &[
    (
        "no-credentials",
        &[NO_PASSWORD],
        "the password can't be obtained: check `password_file` or `auth` under `store.redis` (%)",
    ),
    (
        "no-password-configured",
        &["without any password configured"],
        "the server has no password, but one is configured: remove `password` under `store.redis`",
    ),
    (
        "wrong-password",
        &["WRONGPASS", "invalid password", "invalid username-password"],
        "the server rejects the user name or the password (WRONGPASS): check `username` and `password` under `store.redis`",
    ),
    (
        "no-resp3",
        &["NOPROTO", "command 'HELLO'", "command `HELLO`", "command 'hello'", "unsupported protocol version"],
        "the server or a proxy in front of it does not speak RESP3 (HELLO 3), which larder's subscriptions need",
    ),
    (
        "auth-required",
        &["NOAUTH"],
        "the server requires a password (NOAUTH): set `password`, and `username` if it is not `default`, under `store.redis`",
    ),
    (
        "no-permission",
        &["NOPERM", "no permissions", "user executing the script can't"],
        "the Redis user lacks a permission: grant it, as in the smallest ACL in docs/redis.md (%)",
    ),
    (
        "not-a-cluster",
        &["cluster support disabled"],
        "the server is not a node of a cluster: write `redis://` instead of `redis-cluster://`",
    ),
    (
        "cluster-node",
        &["SELECT is not allowed in cluster mode"],
        "the server is a node of a cluster: write `redis-cluster://` instead of `redis://`, without a database number",
    ),
    (
        "protected-mode",
        &["DENIED Redis is running in protected mode"],
        "the server takes no connections from other machines (protected mode): set `requirepass` in redis.conf, and \
         `password` under `store.redis`",
    ),
    (
        "cluster-down",
        &["CLUSTERDOWN"],
        "the cluster is down or does not serve all slots: see `CLUSTER INFO` on its nodes (%)",
    ),
    ("loading", &["LOADING"], "Redis is loading its data set; larder uses it as soon as it is ready"),
    (
        "max-clients",
        &["max number of clients"],
        "the server has reached its max number of clients: raise `maxclients` in redis.conf, or close other clients",
    ),
    (
        "read-only-replica",
        &["READONLY"],
        "the server is a read-only replica: let `store.redis` name the primary, or use `redis-sentinel://`",
    ),
    (
        "primary-down",
        &["MASTERDOWN"],
        "the server is a replica that has lost its primary: let `store.redis` name the primary",
    ),
    (
        "cannot-persist",
        &["MISCONF"],
        "Redis refuses writes because it can't save to disk (MISCONF): see its log and its disk",
    ),
    (
        "too-few-replicas",
        &["NOREPLICAS"],
        "Redis refuses writes because too few replicas are connected: see `min-replicas-to-write` in redis.conf",
    ),
    ("busy-script", &["BUSY "], "Redis is busy with a script of another client: see `SCRIPT KILL`"),
    (
        "out-of-memory",
        &["OOM "],
        "Redis is full: raise `maxmemory`, or set `maxmemory-policy` to `volatile-lru`",
    ),
    (
        "database-out-of-range",
        &["DB index is out of range", "invalid DB index"],
        "the server has no database with this number: check the path of `store.redis.url` and `databases` in redis.conf",
    ),
    (
        "unknown-command",
        &["unknown command", "Unknown command", "Unknown Redis command", "unsupported command"],
        "the server does not know a command that larder needs; it is renamed, or a proxy refuses it (%)",
    ),
    (
        "no-run-id",
        &["NORUNID"],
        "the server does not tell its run id in INFO, so a restart that loses purges would go unseen: allow `INFO server`",
    ),
    (
        "wrong-type",
        &["WRONGTYPE"],
        "one of larder's keys holds data of another application (WRONGTYPE): choose another `store.namespace`",
    ),
];

/// Failures of a connection, as the operating system and rustls word them.
pub(super) const CONNECTIONS: &[Rule] = &[
    (
        "name-not-resolved",
        &["failed to lookup address", "Name or service not known"],
        "the server's name can't be resolved: check the host in `store.redis.url` and the DNS",
    ),
    (
        "refused",
        &["ConnectionRefused"],
        "the connection was refused: Redis does not listen on this address; check host and port, and that Redis runs",
    ),
    (
        "unreachable",
        &["HostUnreachable", "NetworkUnreachable"],
        "the server's network can't be reached: check routes and firewalls",
    ),
    (
        "no-socket",
        &["kind: NotFound"],
        "the Unix socket does not exist: check the path in `store.redis.url`, and `unixsocket` in redis.conf",
    ),
    (
        "no-socket",
        &["kind: NotADirectory"],
        "the path in `store.redis.url` goes on behind the Unix socket: let it end with the socket",
    ),
    (
        "socket-permission",
        &["PermissionDenied"],
        "access to the server's address is denied by the system: check `unixsocketperm` in redis.conf",
    ),
    (
        "unknown-ca",
        &["UnknownIssuer"],
        "the server's certificate is signed by an unknown CA: set `store.redis.tls.ca` to the CA's certificate",
    ),
    (
        "certificate-expired",
        &["InvalidCertificate(Expired"],
        "the server's certificate has expired: renew it, or check this machine's clock",
    ),
    (
        "certificate-not-yet-valid",
        &["InvalidCertificate(NotValidYet"],
        "the server's certificate is not valid yet: check this machine's clock",
    ),
    (
        "certificate-name",
        &["NotValidForName"],
        "the server's certificate is for another name: let `store.redis.url` name the host in the certificate (%)",
    ),
    (
        "client-certificate",
        &["AlertReceived(CertificateRequired", "AlertReceived(BadCertificate", "AlertReceived(UnknownCA"],
        "the server requires a client certificate that it trusts: set `store.redis.tls.cert` and `store.redis.tls.key`",
    ),
    (
        "client-certificate",
        &["AlertReceived(CertificateExpired"],
        "the server says that larder's client certificate has expired: renew `store.redis.tls.cert`",
    ),
    (
        "client-certificate",
        &[
            "AlertReceived(CertificateRevoked",
            "AlertReceived(CertificateUnknown",
            "AlertReceived(UnsupportedCertificate",
            "AlertReceived(AccessDenied",
        ],
        "the server rejects larder's client certificate (%): compare `store.redis.tls.cert` with the server's `tls-ca-cert-file`",
    ),
    (
        "certificate-name",
        &["AlertReceived(UnrecognisedName"],
        "the server has no certificate for the host in `store.redis.url`: write the name that the server knows",
    ),
    ("certificate-invalid", &["InvalidCertificate"], "the server's certificate is not acceptable (%)"),
    (
        "tls-to-plain-port",
        &["InvalidMessage", "InvalidContentType"],
        "the port does not speak TLS: write `redis://` instead of `rediss://`, or use the server's `tls-port`",
    ),
    (
        "tls-version",
        &["AlertReceived(ProtocolVersion", "ServerDoesNotSupportTls12Or13", "ServerTlsVersionIsDisabled"],
        "the server speaks neither TLS 1.2 nor TLS 1.3: allow one of them in its `tls-protocols`",
    ),
    (
        "tls-ciphers",
        &[
            "AlertReceived(HandshakeFailure",
            "AlertReceived(InsufficientSecurity",
            "NoCipherSuitesInCommon",
            "NoKxGroupsInCommon",
            "NoSignatureSchemesInCommon",
        ],
        "the server and larder have no TLS cipher in common: allow ECDHE with AES-GCM in its `tls-ciphers`, or TLS 1.3 in its \
         `tls-protocols`",
    ),
    ("tls-failed", &["AlertReceived", "PeerIncompatible", "PeerMisbehaved"], "the TLS handshake failed: %"),
];
