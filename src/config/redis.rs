//! `store.redis`: a URL, or a mapping with the URL and what should not stand in one.

use std::path::PathBuf;

use super::fields::Fields;
use super::problem::Problems;
use super::scalars::{absolute_path, parsed, text};
use super::tree::{Node, Value};
use super::units::Wrong;
use super::{Secret, keys};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    pub servers: RedisServers,
    /// 0 in a cluster.
    pub database: u16,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// `None`: without TLS.
    pub tls: Option<RedisTls>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServers {
    One(RedisHost),
    Unix(PathBuf),
    /// Some of the cluster's nodes; they name the others.
    Cluster(Vec<RedisHost>),
    Sentinel {
        sentinels: Vec<RedisHost>,
        service: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisHost {
    pub host: String,
    pub port: u16,
}

/// Files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// `none`: no Redis, so that one file can serve with and without.
pub fn is_none(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar(text) if text == "none")
}

pub fn read(node: &Node, problems: &Problems) -> Option<RedisSettings> {
    if !matches!(node.value, Value::Mapping(_)) {
        return from_url(node, problems);
    }
    let fields = Fields::open(node, &keys::REDIS, problems)?;
    let settings = fields.required("url", from_url);
    let username = fields.optional("username", non_empty);
    let password = fields.optional("password", non_empty);
    let tls = fields.optional("tls", tls_files);
    let mut settings = settings?;
    let twice = |name: &str, in_url: bool| {
        if let (Some(given), true) = (fields.given(name), in_url) {
            problems
                .error(given.place, format!("`{name}` stands in the URL as well"))
                .help("keep one of them");
        }
    };
    twice("username", settings.username.is_some());
    twice("password", settings.password.is_some());
    settings.username = username.or(settings.username);
    settings.password = password.map(Secret::new).or(settings.password);
    if let Some(given) = fields.given("tls") {
        if settings.tls.is_none() {
            problems
                .error(given.place, "`tls` is given, but the URL asks for a connection without TLS")
                .help("write `rediss://` (`rediss-cluster://`, `rediss-sentinel://`)");
        }
        settings.tls = tls;
    }
    Some(settings)
}

fn non_empty(node: &Node, problems: &Problems) -> Option<String> {
    parsed(node, "a value", problems, |text| match text {
        "" => Err(("this is empty".into(), "leave the key out, or set the variable".into())),
        text => Ok(text.to_owned()),
    })
}

fn tls_files(node: &Node, problems: &Problems) -> Option<RedisTls> {
    let fields = Fields::open(node, &keys::TLS, problems)?;
    let file = |node: &Node, problems: &Problems| Some(PathBuf::from(text(node, "a path", problems)?));
    let ca = fields.optional("ca", file);
    let (cert, key) = (fields.optional("cert", file), fields.optional("key", file));
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if let (Some(given), None) = (fields.given(one), fields.given(other)) {
            problems
                .error(given.place, format!("`{one}` without `{other}`"))
                .help(format!("add `{other}:`; a client's certificate needs both"));
        }
    }
    Some(RedisTls { ca, identity: cert.zip(key) })
}

fn from_url(node: &Node, problems: &Problems) -> Option<RedisSettings> {
    parsed(node, "a URL such as `redis://127.0.0.1:6379/0`", problems, parse_url)
}

const FORMS: &str = "write `redis://host:6379/0`, `redis+unix:///run/redis.sock`, `redis-cluster://host:6379,host:6379` or \
                     `redis-sentinel://host:26379,host:26379/service`; `rediss…` for TLS";

/// Never shows the URL: it may hold a password.
fn parse_url(text: &str) -> Result<RedisSettings, Wrong> {
    let wrong = |message: &str| (message.to_owned(), FORMS.to_owned());
    let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("this is not a Redis URL"))?;
    if rest.contains(['?', '#']) {
        return Err(wrong("a Redis URL has no `?` or `#` here; percent-encode them in a password"));
    }
    if scheme == "redis+unix" {
        let path = absolute_path(rest).map_err(|_| wrong("this Redis URL has no absolute path"))?;
        return Ok(settings(RedisServers::Unix(path), 0, (None, None), false));
    }
    let (kind, tls) = match scheme.strip_prefix("rediss") {
        Some(kind) => (kind, true),
        None => (scheme.strip_prefix("redis").ok_or_else(|| wrong("this is not a Redis URL"))?, false),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            (credentials(login).ok_or_else(|| wrong("the Redis URL's password is not readable"))?, hosts)
        }
        None => ((None, None), authority),
    };
    let default_port = if kind == "-sentinel" { 26379 } else { 6379 };
    let hosts: Option<Vec<RedisHost>> = hosts.split(',').map(|host| redis_host(host, default_port)).collect();
    let hosts = hosts.ok_or_else(|| wrong("the Redis URL's hosts are not readable"))?;
    let database = |text: &str| match text {
        "" => Ok(0),
        number => number.parse().map_err(|_| wrong("the Redis URL's database is not a number")),
    };
    match (kind, hosts.as_slice()) {
        ("", [host]) => Ok(settings(RedisServers::One(host.clone()), database(path)?, login, tls)),
        ("", _) => Err(wrong("`redis://` has one host")),
        ("-cluster", _) if !matches!(path, "" | "0") => Err((
            "a Redis cluster has database 0 only".into(),
            "tell environments apart by `namespace`".into(),
        )),
        ("-cluster", _) => Ok(settings(RedisServers::Cluster(hosts), 0, login, tls)),
        ("-sentinel", _) => {
            let (service, number) = path.split_once('/').unwrap_or((path, ""));
            let service = match decoded(service) {
                Some(service) if !service.is_empty() => service,
                _ => return Err(wrong("the Redis URL names no service of the sentinels")),
            };
            let servers = RedisServers::Sentinel { sentinels: hosts, service };
            Ok(settings(servers, database(number)?, login, tls))
        }
        _ => Err(wrong("this is not a Redis URL")),
    }
}

type Login = (Option<String>, Option<String>);

fn settings(servers: RedisServers, database: u16, (username, password): Login, tls: bool) -> RedisSettings {
    RedisSettings {
        servers,
        database,
        username,
        password: password.map(Secret::new),
        tls: tls.then(RedisTls::default),
    }
}

/// `user:password`, `:password`, `user`; each percent-encoded.
fn credentials(login: &str) -> Option<Login> {
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password)?)),
        None => (login, None),
    };
    let given = |text: String| (!text.is_empty()).then_some(text);
    Some((given(decoded(user)?), password.and_then(given)))
}

fn redis_host(text: &str, default_port: u16) -> Option<RedisHost> {
    let authority = text.parse::<http::uri::Authority>().ok()?;
    let (host, given) = (authority.host(), authority.as_str().strip_prefix(authority.host())?);
    let port = match given.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None if given.is_empty() => default_port,
        None => return None,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| RedisHost { host: host.to_owned(), port })
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}
