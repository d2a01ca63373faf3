//! `postgres` of an event source: a URL, or a mapping with the URL and the values that should not be part of one.

use std::path::PathBuf;

use super::Secret;
use super::diagnostics::Diagnostics;
use super::fields::{Fields, expand_short_form};
use super::keys::Reader;
use super::login::{
    AUTH, CredentialSource, Credentials, GivenLogin, TLS, TlsFiles, parse_credentials, percent_decoded,
};
use super::scalars::{NON_EMPTY, PATH, absolute_path, parsed};
use super::section::Kind;
use super::settings::{Settings, settings};
use super::units::FieldError;
use super::yaml::{Value, YamlNode};

/// PostgreSQL cuts longer names.
const MAX_CHANNEL_BYTES: usize = 63;

/// Maximum number of channels of one source.
const MAX_CHANNELS: usize = 100;

const DEFAULT_PORT: u16 = 5432;

/// A database of a PostgreSQL server, and how to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PostgresSettings {
    pub server: PostgresServer,
    pub database: String,
    pub username: String,
    pub password: Option<Secret>,
    /// Where a password comes from that changes while larder runs.
    pub credentials: Option<CredentialSource>,
    /// `None`: no TLS.
    pub tls: Option<TlsFiles>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PostgresServer {
    Host {
        host: String,
        port: u16,
    },
    /// The path of the socket itself.
    Unix(PathBuf),
}

settings! {
    partial struct PostgresFields = "postgres" {
        /// The URL: `postgres://user@host:5432/database`. With `?sslmode=verify-full` the connection uses TLS, and the server's
        /// certificate is verified.
        url: UrlParts = URL, required;
        /// The user, if the URL has none.
        username: String = NON_EMPTY, optional;
        /// The password, if the URL has none. Prefer `${POSTGRES_PASSWORD}`.
        password: String = NON_EMPTY, optional;
        /// A file with the password. It is read again for each connection.
        password_file: PathBuf = PATH, optional;
        /// A command that prints the password, for tokens that expire.
        auth: CredentialSource = AUTH, optional;
        /// Files of a TLS connection. Given, the connection uses TLS.
        tls: TlsFiles = TLS, optional;
    }
}

/// A URL, or a mapping with `url`.
pub(super) const POSTGRES: Reader<PostgresSettings> =
    Reader::new(Kind::OneOf(&[Kind::Text, Kind::Mapping(PostgresFields::SECTION)]), postgres);

/// The parts of a URL.
#[derive(Clone, Debug, PartialEq)]
struct UrlParts {
    server: PostgresServer,
    database: Option<String>,
    login: Credentials,
    /// `None`: the URL says nothing about TLS.
    uses_tls: Option<bool>,
}

fn postgres(node: &YamlNode, diagnostics: &Diagnostics) -> Option<PostgresSettings> {
    let node = expand_short_form(node, "url");
    let fields = Fields::open(&node, PostgresFields::SECTION, diagnostics)?;
    let PostgresFields { url, username, password, password_file, auth, tls } = PostgresFields::read(&fields)?;
    let UrlParts { server, database, login: (user, url_password), uses_tls } = url?;
    let login = GivenLogin {
        username: username?,
        password: password?.map(Secret::new),
        credentials: password_file?.map(CredentialSource::File).or(auth?),
    };
    let login = login.with_url((user, url_password.map(Secret::new)), &fields, diagnostics);
    let Some(username) = login.username else {
        diagnostics
            .error(fields.value_location("url"), "the PostgreSQL URL names no user")
            .help("write `postgres://larder@host/database`, or add `username:`");
        return None;
    };
    let files = tls?;
    if let (Some(given), Some(false)) = (fields.node("tls"), uses_tls) {
        diagnostics
            .error(given.location, "`tls` is set, but the URL has `sslmode=disable`")
            .help("remove one of them");
    }
    let tls = files.or_else(|| (uses_tls == Some(true)).then(TlsFiles::default));
    let database = database.unwrap_or_else(|| username.clone());
    let (password, credentials) = (login.password, login.credentials);
    Some(PostgresSettings { server, database, username, password, credentials, tls })
}

const URL: Reader<UrlParts> = Reader::new(Kind::Text, |node, diagnostics| {
    parsed(node, "a URL such as `postgres://larder@127.0.0.1:5432/shop`", diagnostics, parse_url)
});

fn url_error(message: &str) -> FieldError {
    let forms = "write `postgres://user@host:5432/database`, with `?sslmode=verify-full` for TLS, or \
                 `postgres://user@/database?host=/run/postgresql` for a Unix socket";
    (message.to_owned(), forms.to_owned())
}

/// Never shows the URL: it may hold a password.
fn parse_url(text: &str) -> Result<UrlParts, FieldError> {
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    let rest = rest.ok_or_else(|| url_error("this is not a PostgreSQL URL"))?;
    if rest.contains('#') {
        return Err(url_error("a PostgreSQL URL has no `#`; percent-encode it in a password"));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) => (parse_credentials(login), host),
        None => (Some((None, None)), authority),
    };
    let login = login.ok_or_else(|| url_error("the PostgreSQL URL's password is not readable"))?;
    let database = percent_decoded(database).filter(|name| !name.contains('/'));
    let database = database.ok_or_else(|| url_error("the PostgreSQL URL's database is not readable"))?;
    let (directory, uses_tls) = parse_parameters(query)?;
    let server = server(host, directory)?;
    if let (PostgresServer::Unix(_), Some(true)) = (&server, uses_tls) {
        return Err(url_error("a Unix socket has no TLS"));
    }
    let database = (!database.is_empty()).then_some(database);
    Ok(UrlParts { server, database, login, uses_tls })
}

/// The directory of the Unix socket, and whether TLS is used.
fn parse_parameters(query: &str) -> Result<(Option<PathBuf>, Option<bool>), FieldError> {
    let (mut directory, mut uses_tls) = (None, None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (name, value) {
            ("sslmode", "disable") => uses_tls = Some(false),
            // There is no way to skip the verification.
            ("sslmode", "require" | "verify-ca" | "verify-full") => uses_tls = Some(true),
            ("sslmode", _) => {
                let help = "write `sslmode=verify-full`, or `sslmode=disable`".to_owned();
                return Err(("`sslmode` must say whether TLS is used".to_owned(), help));
            }
            ("host", path) => {
                let path = percent_decoded(path).and_then(|path| absolute_path(&path).ok());
                directory = Some(path.ok_or_else(|| url_error("`host` is the directory of a Unix socket"))?);
            }
            _ => {
                return Err(url_error(
                    "the PostgreSQL URL has a parameter other than `sslmode` and `host`: remove it",
                ));
            }
        }
    }
    Ok((directory, uses_tls))
}

fn server(host: &str, directory: Option<PathBuf>) -> Result<PostgresServer, FieldError> {
    let unreadable = || url_error("the PostgreSQL URL names no single host that is readable");
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().ok().filter(|port| *port > 0).ok_or_else(unreadable)?)
        }
        _ => (host, DEFAULT_PORT),
    };
    if let Some(directory) = directory {
        return match host.is_empty() {
            true => Ok(PostgresServer::Unix(directory.join(format!(".s.PGSQL.{port}")))),
            false => Err(url_error("the PostgreSQL URL names a host and a Unix socket")),
        };
    }
    let is_name = host.parse::<http::uri::Authority>().is_ok_and(|authority| authority.host() == host);
    // With commas it is a list of hosts for other clients.
    if !is_name || host.contains(',') {
        return Err(unreadable());
    }
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(PostgresServer::Host { host, port })
}

/// One channel or a list of them.
pub(super) const CHANNELS: Reader<Vec<String>> =
    Reader::new(Kind::OneOf(&[Kind::Text, Kind::ListOf(&Kind::Text)]), |node, diagnostics| {
        let Value::List(items) = &node.value else {
            return channel(node, diagnostics).map(|channel| vec![channel]);
        };
        let channels: Vec<String> = items.iter().filter_map(|item| channel(item, diagnostics)).collect();
        let is_repeated = |(at, channel): (usize, &String)| channels[..at].contains(channel);
        let (message, help) = match channels.len() {
            0 => ("no channel", "write `notify: changes`"),
            1..=MAX_CHANNELS if !channels.iter().enumerate().any(is_repeated) => return Some(channels),
            1..=MAX_CHANNELS => ("the same channel occurs twice", "remove one of them"),
            _ => ("more than 100 channels", "notify on fewer, and tell the events apart by `when`"),
        };
        diagnostics.error(node.location, message).help(help);
        None
    });

fn channel(node: &YamlNode, diagnostics: &Diagnostics) -> Option<String> {
    parsed(node, "the name of a channel", diagnostics, |text| match text.len() {
        1..=MAX_CHANNEL_BYTES if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err((
            "the name of a channel in PostgreSQL has 1 to 63 bytes".to_owned(),
            "write the name that `NOTIFY` or `pg_notify` has, such as `changes`".to_owned(),
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn parse(written: &str) -> Result<PostgresSettings, Vec<String>> {
        let problems = Diagnostics::default();
        let node = yaml::parse(written, &problems).expect("YAML");
        let settings = POSTGRES.read(&node, &problems);
        let errors: Vec<String> =
            problems.into_parts().0.into_iter().map(|problem| problem.message).collect();
        if errors.is_empty() { Ok(settings.expect("settings or errors")) } else { Err(errors) }
    }

    fn plain(host: &str, port: u16) -> PostgresSettings {
        PostgresSettings {
            server: PostgresServer::Host { host: host.to_owned(), port },
            database: "shop".to_owned(),
            username: "larder".to_owned(),
            password: None,
            credentials: None,
            tls: None,
        }
    }

    #[test]
    fn every_form_of_url_is_read() {
        let with_password = |settings| PostgresSettings { password: Some(Secret::new("p@/ss")), ..settings };
        let with_tls = |settings| PostgresSettings { tls: Some(TlsFiles::default()), ..settings };
        let socket = PostgresSettings {
            server: PostgresServer::Unix("/run/postgresql/.s.PGSQL.5433".into()),
            ..plain("", 0)
        };
        let files = TlsFiles { ca: Some("Cargo.toml".into()), identity: None };
        for (written, expected) in [
            ("postgres://larder@db/shop", plain("db", 5432)),
            ("postgresql://larder@db:5433/shop?sslmode=disable", plain("db", 5433)),
            ("postgres://larder@[::1]:1/shop", plain("::1", 1)),
            ("postgres://larder@[::1]/shop", plain("::1", 5432)),
            ("postgres://larder:p%40%2Fss@db/shop", with_password(plain("db", 5432))),
            ("postgres://larder@db/shop?sslmode=verify-full", with_tls(plain("db", 5432))),
            ("postgres://larder@db/shop?sslmode=require", with_tls(plain("db", 5432))),
            ("postgres://larder@:5433/shop?host=/run/postgresql", socket),
            (
                "{url: postgres://db/shop, username: larder, password: 'p@/ss'}",
                with_password(plain("db", 5432)),
            ),
            (
                "{url: postgres://larder@db/shop, tls: {ca: Cargo.toml}}",
                PostgresSettings { tls: Some(files), ..plain("db", 5432) },
            ),
            ("postgres://larder@db", PostgresSettings { database: "larder".to_owned(), ..plain("db", 5432) }),
        ] {
            assert_eq!(parse(written).expect(written), expected, "{written}");
        }
    }

    #[test]
    fn a_wrong_url_says_what_is_wrong_without_showing_it() {
        for (written, part) in [
            ("postgres://db/shop", "names no user"),
            ("mysql://larder:hunter2@db/shop", "not a PostgreSQL URL"),
            ("postgres://larder:hunter2@a,b/shop", "no single host"),
            ("postgres://larder:hunter2@db:0/shop", "no single host"),
            ("postgres://larder:hunter2@db:5432/shop?sslmode=prefer", "whether TLS is used"),
            ("postgres://larder:hunter2@db/shop?connect_timeout=3", "other than `sslmode` and `host`"),
            ("postgres://larder:hunter2@db/shop?host=/run", "a host and a Unix socket"),
            ("postgres://larder:hunter2@/shop?host=/run&sslmode=require", "no TLS"),
            ("postgres://larder:hunter%2@db/shop", "password is not readable"),
            ("{url: 'postgres://larder:hunter2@db/shop', password: x}", "part of the URL as well"),
            ("{url: 'postgres://l@db/s', password: x, password_file: /x}", "given twice"),
            (
                "{url: 'postgres://l@db/s?sslmode=disable', tls: {ca: Cargo.toml}}",
                "the URL has `sslmode=disable`",
            ),
        ] {
            let errors = parse(written).expect_err(written).join("\n");
            assert!(errors.contains(part) && !errors.contains("hunter2"), "{written}: {errors}");
        }
    }
}
