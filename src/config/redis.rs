//! `store.redis`: a URL, or a mapping with the URL and the values that should not be part of one.

use std::path::PathBuf;

use super::Secret;
use super::diagnostics::Diagnostics;
use super::fields::{Fields, expand_short_form};
use super::keys::Reader;
use super::login::{
    AUTH, CredentialSource, Credentials, GivenLogin, TLS, TlsFiles, parse_credentials, percent_decoded,
};
use super::scalars::{NON_EMPTY, PATH, absolute_path, parsed};
use super::section::{Kind, NONE};
use super::settings::{Settings, settings};
use super::units::FieldError;
use super::yaml::YamlNode;

/// A Redis deployment and how to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    pub(crate) servers: RedisServers,
    /// Always 0 in a cluster.
    pub database: u16,
    /// The user of Redis' access control list.
    pub username: Option<String>,
    pub(crate) password: Option<Secret>,
    /// Where a password comes from that changes while larder runs.
    pub(crate) credentials: Option<CredentialSource>,
    /// `None`: no TLS.
    pub(crate) tls: Option<TlsFiles>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RedisServers {
    One(RedisHost),
    Unix(PathBuf),
    /// Some nodes of a cluster; the others are discovered.
    Cluster(Vec<RedisHost>),
    Sentinel {
        sentinels: Vec<RedisHost>,
        service: String,
    },
}

/// The address of a Redis server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisHost {
    /// A host name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl RedisSettings {
    /// Whether both name the same server, as far as their addresses tell.
    pub fn may_share_server(&self, other: &Self) -> bool {
        let is_same = |one: &RedisHost, other: &RedisHost| {
            let is_loopback =
                |host: &RedisHost| matches!(host.host.as_str(), "localhost" | "127.0.0.1" | "::1");
            one.port == other.port
                && (one.host.eq_ignore_ascii_case(&other.host) || is_loopback(one) && is_loopback(other))
        };
        match (&self.servers, &other.servers) {
            (RedisServers::Unix(one), RedisServers::Unix(other)) => one == other,
            (one, other) => {
                one.hosts().iter().any(|one| other.hosts().iter().any(|other| is_same(one, other)))
            }
        }
    }
}

impl RedisServers {
    /// The servers that it names.
    fn hosts(&self) -> &[RedisHost] {
        match self {
            RedisServers::One(host) => std::slice::from_ref(host),
            RedisServers::Cluster(hosts) => hosts,
            RedisServers::Unix(_) | RedisServers::Sentinel { .. } => &[],
        }
    }
}

settings! {
    partial struct RedisFields = "redis" {
        /// The URL, as in the short form: `redis://host:port/0` and the like.
        url: RedisSettings = URL, required;
        /// An ACL user, if the URL has none.
        username: String = NON_EMPTY, optional;
        /// A password, if the URL has none. Prefer `${REDIS_PASSWORD}`.
        password: String = NON_EMPTY, optional;
        /// A file with the password. It is read again for each connection, and every 10 s for connections that are open.
        password_file: PathBuf = PATH, optional;
        /// A command that prints the password, for tokens that expire.
        auth: CredentialSource = AUTH, optional;
        /// Files of a TLS connection (`rediss://`).
        tls: TlsFiles = TLS, optional;
    }
}

/// A URL, or a mapping with `url`.
pub(super) const REDIS: Reader<RedisSettings> =
    Reader::new(Kind::OneOf(&[Kind::Text, Kind::Mapping(RedisFields::SECTION)]), redis);

/// A Redis, or `none`, so that one file serves with and without Redis.
pub(super) const OPTIONAL_REDIS: Reader<Option<RedisSettings>> = Reader::new(
    Kind::OneOf(&[Kind::Text, NONE, Kind::Mapping(RedisFields::SECTION)]),
    |node, diagnostics| match node.text() {
        Some("none") => Some(None),
        _ => redis(node, diagnostics).map(Some),
    },
);

fn redis(node: &YamlNode, diagnostics: &Diagnostics) -> Option<RedisSettings> {
    let node = expand_short_form(node, "url");
    let fields = Fields::open(&node, RedisFields::SECTION, diagnostics)?;
    let RedisFields { url, username, password, password_file, auth, tls } = RedisFields::read(&fields)?;
    let mut settings = url?;
    let login = GivenLogin {
        username: username?,
        password: password?.map(Secret::new),
        credentials: password_file?.map(CredentialSource::File).or(auth?),
    };
    let login = login.with_url((settings.username, settings.password), &fields, diagnostics);
    (settings.username, settings.password) = (login.username, login.password);
    settings.credentials = login.credentials;
    if let Some(given) = fields.node("tls") {
        if settings.tls.is_none() {
            diagnostics
                .error(given.location, "`tls` is set, but the URL's scheme is without TLS")
                .help("write `rediss://` (`rediss-cluster://`, `rediss-sentinel://`)");
        }
        settings.tls = tls?;
    }
    Some(settings)
}

const URL: Reader<RedisSettings> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a URL such as `redis://127.0.0.1:6379/0`", diagnostics, parse_url)
});

const FORMS: &str = "write `redis://host:6379/0`, `redis+unix:///run/redis.sock`, `redis-cluster://host:6379,host:6379` or \
                     `redis-sentinel://host:26379,host:26379/service`; `rediss…` for TLS";

fn url_error(message: &str) -> FieldError {
    (message.to_owned(), FORMS.to_owned())
}

/// Never shows the URL: it may hold a password.
fn parse_url(text: &str) -> Result<RedisSettings, FieldError> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| url_error("this is not a Redis URL"))?;
    if rest.contains(['?', '#']) {
        return Err(url_error("a Redis URL has no `?` or `#` here; percent-encode them in a password"));
    }
    if scheme == "redis+unix" {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, host) = split_login(authority)?;
        let path = absolute_path(path).ok().filter(|_| host.is_empty());
        let path = path.ok_or_else(|| url_error("this Redis URL has no absolute path"))?;
        return Ok(settings(RedisServers::Unix(path), 0, login, false));
    }
    let (kind, tls) = match scheme.strip_prefix("rediss") {
        Some(kind) => (kind, true),
        None => (scheme.strip_prefix("redis").ok_or_else(|| url_error("this is not a Redis URL"))?, false),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = split_login(authority)?;
    let default_port = if kind == "-sentinel" { 26379 } else { 6379 };
    let hosts: Option<Vec<RedisHost>> = hosts.split(',').map(|host| redis_host(host, default_port)).collect();
    let hosts = hosts.ok_or_else(|| url_error("the Redis URL's hosts are not readable"))?;
    let (servers, database) = match kind {
        "" => one_server(&hosts, path)?,
        "-cluster" => cluster(hosts, path)?,
        "-sentinel" => sentinel(hosts, path)?,
        _ => return Err(url_error("this is not a Redis URL")),
    };
    Ok(settings(servers, database, login, tls))
}

fn split_login(authority: &str) -> Result<(Credentials, &str), FieldError> {
    let Some((login, hosts)) = authority.rsplit_once('@') else { return Ok(((None, None), authority)) };
    let login =
        parse_credentials(login).ok_or_else(|| url_error("the Redis URL's password is not readable"))?;
    Ok((login, hosts))
}

fn one_server(hosts: &[RedisHost], path: &str) -> Result<(RedisServers, u16), FieldError> {
    let [host] = hosts else { return Err(url_error("`redis://` has one host")) };
    Ok((RedisServers::One(host.clone()), database(path)?))
}

fn cluster(hosts: Vec<RedisHost>, path: &str) -> Result<(RedisServers, u16), FieldError> {
    if !matches!(path, "" | "0") {
        let fix = "tell environments apart by `namespace`".to_owned();
        return Err(("a Redis cluster has database 0 only".to_owned(), fix));
    }
    Ok((RedisServers::Cluster(hosts), 0))
}

fn sentinel(sentinels: Vec<RedisHost>, path: &str) -> Result<(RedisServers, u16), FieldError> {
    let (service, number) = path.split_once('/').unwrap_or((path, ""));
    let service = percent_decoded(service).filter(|service| !service.is_empty());
    let service = service.ok_or_else(|| url_error("the Redis URL names no service of the sentinels"))?;
    Ok((RedisServers::Sentinel { sentinels, service }, database(number)?))
}

fn database(text: &str) -> Result<u16, FieldError> {
    match text {
        "" => Ok(0),
        number => number.parse().map_err(|_| url_error("the Redis URL's database is not a number")),
    }
}

fn settings(
    servers: RedisServers,
    database: u16,
    (username, password): Credentials,
    tls: bool,
) -> RedisSettings {
    RedisSettings {
        servers,
        database,
        username,
        password: password.map(Secret::new),
        credentials: None,
        tls: tls.then(TlsFiles::default),
    }
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
