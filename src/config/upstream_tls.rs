//! The section `upstream.tls`.

use std::path::PathBuf;

use rustls::pki_types::{InvalidDnsNameError, ServerName};

use super::diagnostics::Diagnostics;
use super::fields::Fields;
use super::keys::Reader;
use super::login::name_tls_files;
use super::scalars::{BOOLEAN, FILE, NON_EMPTY, words};
use super::settings::{Settings, mapping, settings};
use super::yaml::YamlNode;

/// TLS to an `https` upstream. Files are in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTlsSettings {
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the certificate; `None`: the host of the URL.
    pub(crate) server_name: Option<String>,
    pub(crate) min_version: TlsVersion,
    pub(crate) accept_any_certificate: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    #[default]
    Tls12,
    Tls13,
}

impl UpstreamTlsSettings {
    /// The files that are read when a destination is made.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let identity = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        self.ca.iter().chain(identity).cloned().collect()
    }
}

settings! {
    struct UpstreamTlsFields = "upstream.tls" {
        /// PEM file with the authorities to trust instead of the system's.
        ca: PathBuf = FILE, optional;
        /// PEM file with the client's certificate.
        cert: PathBuf = FILE, optional;
        /// PEM file with the key of `cert`.
        key: PathBuf = FILE, optional;
        /// The name that the certificate must have, and that is sent as SNI. Default: the host of `url`.
        server_name: String = SERVER_NAME, optional;
        /// The oldest version of TLS that is accepted.
        min_version: TlsVersion = VERSION, default "1.2";
        /// Accept any certificate. Anybody between larder and the upstream can then read and change everything.
        dangerously_accept_any_certificate: bool = BOOLEAN, default "false";
    }
}

/// Parses the name that a certificate must have: that of a host, or an IP address, which may be in brackets.
pub(crate) fn parse_server_name(host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

const SERVER_NAME: Reader<String> = Reader::new(NON_EMPTY.kind, |node, diagnostics| {
    let name = NON_EMPTY.read(node, diagnostics)?;
    if parse_server_name(&name).is_err() {
        diagnostics
            .error(node.location, format!("`{name}` is no name that a certificate can have"))
            .help("write a host name or an IP address, without a scheme, port or path");
    }
    Some(name)
});

const VERSION: Reader<TlsVersion> = words!("1.2" => TlsVersion::Tls12, "1.3" => TlsVersion::Tls13);

pub(super) const UPSTREAM_TLS: Reader<UpstreamTlsSettings> =
    Reader::new(mapping::<UpstreamTlsFields>().kind, upstream_tls);

fn upstream_tls(node: &YamlNode, diagnostics: &Diagnostics) -> Option<UpstreamTlsSettings> {
    let fields = Fields::open(node, UpstreamTlsFields::SECTION, diagnostics)?;
    let UpstreamTlsFields { ca, cert, key, server_name, min_version, dangerously_accept_any_certificate } =
        UpstreamTlsFields::read(&fields)?;
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if let (Some(given), None) = (fields.node(one), fields.node(other)) {
            diagnostics
                .error(given.location, format!("`{one}` without `{other}`"))
                .help(format!("add `{other}:`; a client certificate needs both"));
        }
    }
    if let (true, Some(given)) =
        (dangerously_accept_any_certificate, fields.node("dangerously_accept_any_certificate"))
    {
        diagnostics
            .warning(given.location, "the upstream's certificate is not checked")
            .help("trust a private authority with `ca:`, or name the certificate's host with `server_name:`");
    }
    let identity = cert.zip(key);
    name_tls_files(&fields, ca.as_deref(), identity.as_ref(), diagnostics);
    Some(UpstreamTlsSettings {
        ca,
        identity,
        server_name,
        min_version,
        accept_any_certificate: dangerously_accept_any_certificate,
    })
}
