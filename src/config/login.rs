//! How larder logs in to a server that it depends on: passwords, and files of TLS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Secret;
use super::diagnostics::Diagnostics;
use super::fields::Fields;
use super::keys::Reader;
use super::scalars::{FILE, NON_EMPTY, POSITIVE_DURATION, list};
use super::section::Kind;
use super::settings::{Settings, mapping, settings};

/// The source of a password that is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CredentialSource {
    File(PathBuf),
    /// A command that prints the password, and how often it is run.
    Command {
        command: Vec<String>,
        every: Duration,
    },
}

/// PEM files of a TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

settings! {
    struct AuthFields = "auth" {
        /// The command and its arguments. Its output is the password; a line break at the end is ignored.
        exec: Vec<String> = COMMAND, required;
        /// How often the command is run, and connections that are open log in again. Less than the password's lifetime.
        every: Duration = POSITIVE_DURATION, default "10m";
    }
}

pub(super) const AUTH: Reader<CredentialSource> =
    Reader::new(mapping::<AuthFields>().kind, |node, diagnostics| {
        let AuthFields { exec, every } = AuthFields::from_node(node, diagnostics)?;
        Some(CredentialSource::Command { command: exec, every })
    });

const COMMAND: Reader<Vec<String>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    let example = "[aws, elasticache, generate-token]";
    let command = list(node, example, diagnostics, |node, diagnostics| NON_EMPTY.read(node, diagnostics))?;
    if command.is_empty() {
        diagnostics.error(node.location, "the command is empty").help(format!("write `exec: {example}`"));
    }
    Some(command)
});

settings! {
    struct TlsFields = "tls" {
        /// PEM file with the authorities to trust instead of the system's.
        ca: PathBuf = FILE, optional;
        /// PEM file with the client's certificate.
        cert: PathBuf = FILE, optional;
        /// PEM file with the key of `cert`.
        key: PathBuf = FILE, optional;
    }
}

pub(super) const TLS: Reader<TlsFiles> = Reader::new(mapping::<TlsFields>().kind, |node, diagnostics| {
    let fields = Fields::open(node, TlsFields::SECTION, diagnostics)?;
    let TlsFields { ca, cert, key } = TlsFields::read(&fields)?;
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if let (Some(given), None) = (fields.node(one), fields.node(other)) {
            diagnostics
                .error(given.location, format!("`{one}` without `{other}`"))
                .help(format!("add `{other}:`; a client certificate needs both"));
        }
    }
    let identity = cert.zip(key);
    name_tls_files(&fields, ca.as_deref(), identity.as_ref(), diagnostics);
    Some(TlsFiles { ca, identity })
});

/// Notes the files under `ca`, `cert` and `key`.
pub(super) fn name_tls_files(
    fields: &Fields<'_>,
    ca: Option<&Path>,
    identity: Option<&(PathBuf, PathBuf)>,
    diagnostics: &Diagnostics,
) {
    let find = |name| fields.node(name).map(|node| node.location);
    if let (Some(location), Some(path)) = (find("ca"), ca) {
        diagnostics.name_authorities(location, path);
    }
    if let (Some(at_cert), Some(at_key), Some((cert, key))) = (find("cert"), find("key"), identity) {
        diagnostics.name_identity((at_cert, cert), (at_key, key));
    }
}

/// A user name and a password.
pub(super) type Credentials = (Option<String>, Option<String>);

/// `user:password`, `:password`, `user`; each percent-encoded.
pub(super) fn parse_credentials(login: &str) -> Option<Credentials> {
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(percent_decoded(password)?)),
        None => (login, None),
    };
    let given = |text: String| (!text.is_empty()).then_some(text);
    Some((given(percent_decoded(user)?), password.and_then(given)))
}

pub(super) fn percent_decoded(text: &str) -> Option<String> {
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

/// A user name and where its password comes from, of the keys beside a URL, and of the URL itself.
#[derive(Default)]
pub(super) struct GivenLogin {
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub credentials: Option<CredentialSource>,
}

impl GivenLogin {
    /// Adds what the URL says, and reports what is given twice.
    pub(super) fn with_url(
        self,
        (username, password): (Option<String>, Option<Secret>),
        fields: &Fields<'_>,
        diagnostics: &Diagnostics,
    ) -> Self {
        for (name, is_in_url) in [("username", username.is_some()), ("password", password.is_some())] {
            if let (Some(given), true) = (fields.node(name), is_in_url) {
                diagnostics
                    .error(given.location, format!("`{name}` is part of the URL as well"))
                    .help("remove one of them");
            }
        }
        let sources = ["password", "password_file", "auth"].map(|name| fields.node(name));
        let given: Vec<_> = sources.into_iter().flatten().collect();
        let has_two = given.len() > 1 || (password.is_some() && sources[0].is_none() && !given.is_empty());
        if let (Some(last), true) = (given.last(), has_two) {
            diagnostics
                .error(last.location, "the password is given twice")
                .help("keep one of: the URL's password, `password`, `password_file`, `auth`");
        }
        Self { username: self.username.or(username), password: self.password.or(password), ..self }
    }
}
