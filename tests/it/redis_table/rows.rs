//! The rows.

use crate::support::Refuse;

pub struct Row {
    pub server: &'static str,
    pub restriction: &'static str,
    pub setup: Setup,
    /// `works`, `works without …`, or `shares nothing: CODE`.
    pub result: &'static str,
}

pub enum Setup {
    /// With arguments on its command line.
    Server(&'static [&'static str]),
    /// With arguments, in which `FREE_PORT` is a port that nothing listens on, and this `store.redis`, in which `PORT` and
    /// `SOCKET` are the server's.
    Settings(&'static [&'static str], &'static str),
    /// After this command, with this `store.redis`.
    Command(&'static [&'static str], &'static str),
    /// With a user that has the smallest ACL, and changes to it.
    User(&'static [&'static str]),
    /// A read-only replica.
    Replica,
    Tls(TlsLogin),
    /// Behind a proxy that refuses commands.
    Proxy(Refuse),
    /// Arguments of its nodes, and changes to the smallest ACL if there is a user.
    Cluster(&'static [&'static str], Option<&'static [&'static str]>),
    /// Changes to the smallest ACL of the servers if there is a user.
    Sentinel(Option<&'static [&'static str]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsLogin {
    None,
    Certificate,
    User,
}

impl Setup {
    pub fn topology(&self) -> &'static str {
        match self {
            Setup::Proxy(_) => "behind a proxy",
            Setup::Cluster(..) => "cluster",
            Setup::Sentinel(_) => "Sentinel",
            _ => "one server",
        }
    }
}

impl Row {
    /// The server's program; `None` if this machine lacks it.
    pub fn program(&self) -> Option<String> {
        match self.server {
            "Valkey 9" => std::env::var("VALKEY_SERVER").ok().or_else(|| {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let is_there =
                    std::env::split_paths(&path).any(|folder| folder.join("valkey-server").exists());
                is_there.then(|| "valkey-server".to_owned())
            }),
            _ => Some(std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())),
        }
    }
}

const fn redis(restriction: &'static str, setup: Setup, result: &'static str) -> Row {
    Row { server: "Redis 7", restriction, setup, result }
}

const fn valkey(restriction: &'static str, setup: Setup, result: &'static str) -> Row {
    Row { server: "Valkey 9", restriction, setup, result }
}

/// The commands of Envoy's Redis proxy that larder sends.
const ENVOY: Refuse = Refuse::AllBut(&[
    "AUTH",
    "DEL",
    "EVAL",
    "EVALSHA",
    "EXISTS",
    "GET",
    "GETRANGE",
    "HDEL",
    "HGETALL",
    "HSET",
    "MGET",
    "PEXPIRE",
    "PEXPIREAT",
    "PING",
    "PTTL",
    "SET",
    "SETRANGE",
    "TIME",
    "TYPE",
    "UNLINK",
    "XADD",
    "XRANGE",
    "XREVRANGE",
    "ZADD",
    "ZCARD",
    "ZCOUNT",
    "ZINCRBY",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZREM",
    "ZREVRANGEBYSCORE",
    "ZSCORE",
]);

/// Commands that managed services take away.
const MANAGED: &[&str] = &[
    "--rename-command",
    "CONFIG",
    "",
    "--rename-command",
    "DEBUG",
    "",
    "--rename-command",
    "SAVE",
    "",
    "--rename-command",
    "BGSAVE",
    "",
    "--rename-command",
    "BGREWRITEAOF",
    "",
    "--rename-command",
    "SHUTDOWN",
    "",
    "--rename-command",
    "MIGRATE",
    "",
    "--rename-command",
    "REPLICAOF",
    "",
    "--rename-command",
    "ACL",
    "",
    "--rename-command",
    "KEYS",
    "",
    "--rename-command",
    "FLUSHALL",
    "",
    "--rename-command",
    "MONITOR",
    "",
];

const FULL: &[&str] = &["--maxmemory", "1", "--maxmemory-policy", "noeviction"];

pub const ROWS: &[Row] = &[
    redis("none", Setup::Server(&[]), "works"),
    redis("a Unix socket", Setup::Settings(&[], "\"redis+unix://SOCKET\""), "works"),
    redis("another database", Setup::Settings(&[], "\"redis://127.0.0.1:PORT/5\""), "works"),
    redis(
        "a user with all rights",
        Setup::Command(
            &["ACL", "SETUSER", "app", "on", ">p", "~*", "&*", "+@all"],
            "\"redis://app:p@127.0.0.1:PORT\"",
        ),
        "works",
    ),
    redis("the smallest ACL", Setup::User(&[]), "works"),
    redis("TLS only", Setup::Tls(TlsLogin::None), "works"),
    redis("TLS with client certificates", Setup::Tls(TlsLogin::Certificate), "works"),
    redis("TLS with the smallest ACL", Setup::Tls(TlsLogin::User), "works"),
    redis("no CONFIG", Setup::Server(&["--rename-command", "CONFIG", ""]), "works"),
    redis("a managed service's renamed commands", Setup::Server(MANAGED), "works"),
    redis("no KEYS, no SCAN", Setup::User(&["-keys", "-scan"]), "works"),
    redis("no CLIENT", Setup::Server(&["--rename-command", "CLIENT", ""]), "works"),
    redis("no MGET", Setup::User(&["-mget"]), "works"),
    redis("no SELECT", Setup::User(&["-select"]), "works"),
    redis("no channels", Setup::User(&["resetchannels"]), "works without wake-ups"),
    redis("no SUBSCRIBE", Setup::User(&["-subscribe"]), "works without wake-ups"),
    redis("no HELLO: RESP2 only", Setup::Server(&["--rename-command", "HELLO", ""]), "works"),
    redis("no XADD", Setup::Server(&["--rename-command", "XADD", ""]), "works without the purge log"),
    redis("no RENAME", Setup::User(&["-rename"]), "works without leases"),
    redis("no PERSIST", Setup::User(&["-persist"]), "works"),
    redis("no SCRIPT LOAD", Setup::User(&["-script", "+eval"]), "works"),
    redis("no EVALSHA", Setup::User(&["-evalsha"]), "shares nothing: `no-permission`"),
    redis("no INFO", Setup::User(&["-info"]), "shares nothing: `no-permission`"),
    redis(
        "INFO is renamed",
        Setup::Server(&["--rename-command", "INFO", ""]),
        "shares nothing: `unknown-command`",
    ),
    redis("no sorted sets", Setup::User(&["-@sortedset"]), "shares nothing: `no-permission`"),
    redis(
        "keys of another namespace",
        Setup::User(&["resetkeys", "~other:*"]),
        "shares nothing: `no-permission`",
    ),
    redis("`timeout 1`", Setup::Server(&["--timeout", "1"]), "works"),
    redis(
        "a small `client-output-buffer-limit`",
        Setup::Server(&["--client-output-buffer-limit", "pubsub 4kb 2kb 1"]),
        "works",
    ),
    redis("`maxclients 8`", Setup::Server(&["--maxclients", "8"]), "works"),
    redis(
        "`maxmemory-policy volatile-lru`",
        Setup::Server(&["--maxmemory", "64mb", "--maxmemory-policy", "volatile-lru"]),
        "works",
    ),
    redis(
        "`maxmemory-policy allkeys-lru`",
        Setup::Server(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]),
        "works",
    ),
    redis("full, with `noeviction`", Setup::Server(FULL), "works without stored responses, leases"),
    redis("`appendonly yes`", Setup::Server(&["--appendonly", "yes"]), "works"),
    redis(
        "`min-replicas-to-write 1`, no replica",
        Setup::Server(&["--min-replicas-to-write", "1"]),
        "shares nothing: `too-few-replicas`",
    ),
    redis("a read-only replica", Setup::Replica, "shares nothing: `read-only-replica`"),
    redis(
        "a node of a cluster without slots",
        Setup::Settings(
            &["--cluster-enabled", "yes", "--cluster-port", "FREE_PORT"],
            "\"redis://127.0.0.1:PORT\"",
        ),
        "shares nothing: `cluster-down`",
    ),
    redis("nothing", Setup::Proxy(Refuse::Only(&[])), "works"),
    redis("RESP2 only", Setup::Proxy(Refuse::Only(&["HELLO"])), "works"),
    redis(
        "no SUBSCRIBE",
        Setup::Proxy(Refuse::Only(&["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"])),
        "works without wake-ups",
    ),
    redis("no INFO", Setup::Proxy(Refuse::Only(&["INFO"])), "works without memory figures"),
    redis("no CLIENT, CONFIG, SELECT", Setup::Proxy(Refuse::Only(&["CLIENT", "CONFIG", "SELECT"])), "works"),
    redis("no MGET", Setup::Proxy(Refuse::Only(&["MGET"])), "works"),
    redis("no SCRIPT", Setup::Proxy(Refuse::Only(&["SCRIPT"])), "works"),
    redis(
        "no EVAL, EVALSHA, SCRIPT",
        Setup::Proxy(Refuse::Only(&["EVAL", "EVALSHA", "SCRIPT"])),
        "shares nothing: `unknown-command`",
    ),
    redis(
        "the commands of Envoy's Redis proxy",
        Setup::Proxy(ENVOY),
        "works without memory figures, wake-ups",
    ),
    redis("none", Setup::Sentinel(None), "works"),
    redis("the smallest ACL on the servers", Setup::Sentinel(Some(&[])), "works"),
    redis("none", Setup::Cluster(&[], None), "works"),
    redis("the smallest ACL", Setup::Cluster(&[], Some(&[])), "works"),
    redis("no channels", Setup::Cluster(&[], Some(&["resetchannels"])), "works without wake-ups"),
    redis(
        "hostnames",
        Setup::Cluster(
            &["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"],
            None,
        ),
        "works",
    ),
    redis(
        "unknown endpoints (NAT)",
        Setup::Cluster(&["--cluster-preferred-endpoint-type", "unknown-endpoint"], None),
        "works",
    ),
    redis("no CONFIG", Setup::Cluster(&["--rename-command", "CONFIG", ""], None), "works"),
    redis("no CLUSTER SLOTS", Setup::Cluster(&[], Some(&["-cluster"])), "works"),
    valkey("none", Setup::Server(&[]), "works"),
    valkey("the smallest ACL", Setup::User(&[]), "works"),
    valkey("a managed service's renamed commands", Setup::Server(MANAGED), "works"),
    valkey("no SCRIPT LOAD", Setup::User(&["-script", "+eval"]), "works"),
    valkey("no HELLO: RESP2 only", Setup::Server(&["--rename-command", "HELLO", ""]), "works"),
    valkey("no channels", Setup::User(&["resetchannels"]), "works without wake-ups"),
    valkey("no INFO", Setup::User(&["-info"]), "shares nothing: `no-permission`"),
    valkey(
        "INFO is renamed",
        Setup::Server(&["--rename-command", "INFO", ""]),
        "shares nothing: `unknown-command`",
    ),
    valkey("full, with `noeviction`", Setup::Server(FULL), "works without stored responses, leases"),
    valkey("`timeout 1`", Setup::Server(&["--timeout", "1"]), "works"),
    valkey(
        "the commands of Envoy's Redis proxy",
        Setup::Proxy(ENVOY),
        "works without memory figures, wake-ups",
    ),
];
