//! The key `listen`: addresses, and what happens on a connection before HTTP.

use std::path::PathBuf;

use super::diagnostics::{Diagnostics, Location};
use super::fields::{Fields, expand_short_form};
use super::keys::Reader;
use super::scalars::{ADDRESS, BOOLEAN, FILE, list};
use super::section::Kind;
use super::settings::{Settings, mapping, settings};
use super::yaml::{Value, YamlNode};
use super::{Listen, ListenerSettings};

settings! {
    struct ListenerFields = "a listener" {
        /// An address and port, or `unix:/path`.
        address: Listen = ADDRESS, required;
        /// Serve TLS with this certificate. A list is searched for the host that the client names (SNI), else the first is
        /// used.
        /// The files are read again when they change.
        tls: Vec<CertificateFiles> = CERTIFICATES, optional;
        /// Each connection begins with a PROXY protocol header (version 1 or 2) that names its client. Only
        /// `trusted_proxies` may then connect.
        proxy_protocol: bool = BOOLEAN, default "false";
    }
}

settings! {
    /// A certificate and its key, in PEM.
    #[derive(Eq)]
    pub(crate) struct CertificateFiles = "a certificate" {
        /// PEM file with the certificate chain, leaf first.
        cert: PathBuf = FILE, required;
        /// PEM file with the key of `cert`.
        key: PathBuf = FILE, required;
    }
}

const LISTENER_KINDS: &[Kind] =
    &[ADDRESS.kind, Kind::Mapping(ListenerFields::SECTION), Kind::ListOf(&Kind::OneOf(LISTENER))];
const LISTENER: &[Kind] = &[ADDRESS.kind, Kind::Mapping(ListenerFields::SECTION)];

/// One address or a list; each may be a mapping.
pub(super) const LISTENERS: Reader<(Vec<Listen>, Vec<ListenerSettings>)> =
    Reader::new(Kind::OneOf(LISTENER_KINDS), |node, diagnostics| {
        let read = match &node.value {
            Value::List(_) => list(node, "[127.0.0.1:8080]", diagnostics, listener)?,
            _ => vec![listener(node, diagnostics)?],
        };
        if read.is_empty() {
            diagnostics
                .error(node.location, "there is nothing to listen on")
                .help("write an address, `listen: 127.0.0.1:8080`");
            return None;
        }
        Some(read.into_iter().unzip())
    });

fn listener(node: &YamlNode, diagnostics: &Diagnostics) -> Option<(Listen, ListenerSettings)> {
    let ListenerFields { address, tls, proxy_protocol } =
        ListenerFields::from_node(&expand_short_form(node, "address"), diagnostics)?;
    Some((address, ListenerSettings { proxy_protocol, tls: tls.unwrap_or_default() }))
}

/// One certificate or a list.
const CERTIFICATES: Reader<Vec<CertificateFiles>> = Reader::new(
    Kind::OneOf(&[
        mapping::<CertificateFiles>().kind,
        Kind::ListOf(&Kind::Mapping(CertificateFiles::SECTION)),
    ]),
    |node, diagnostics| {
        let read = match &node.value {
            Value::List(_) => list(node, "[{cert: a.pem, key: a.key}]", diagnostics, certificate)?,
            _ => vec![certificate(node, diagnostics)?],
        };
        if read.is_empty() {
            diagnostics
                .error(node.location, "TLS needs a certificate")
                .help("write `tls: {cert: server.pem, key: server.key}`, or remove `tls`");
            return None;
        }
        Some(read)
    },
);

fn certificate(node: &YamlNode, diagnostics: &Diagnostics) -> Option<CertificateFiles> {
    let fields = Fields::open(node, CertificateFiles::SECTION, diagnostics)?;
    let files = CertificateFiles::read(&fields)?;
    if let (Some(cert), Some(key)) = (fields.node("cert"), fields.node("key")) {
        diagnostics.name_identity((cert.location, &files.cert), (key.location, &files.key));
    }
    Some(files)
}

/// Refuses `proxy_protocol` on a TCP listener if no balancer is trusted to name its clients.
pub(super) fn require_trusted_proxies(
    (listen, settings): &(Vec<Listen>, Vec<ListenerSettings>),
    has_trusted_proxies: bool,
    location: Location,
    diagnostics: &Diagnostics,
) {
    let is_open = |(listen, settings): (&Listen, &ListenerSettings)| {
        settings.proxy_protocol && matches!(listen, Listen::Tcp(_)) && !has_trusted_proxies
    };
    if listen.iter().zip(settings).any(is_open) {
        diagnostics
            .error(location, "`proxy_protocol` is on, but `trusted_proxies` is empty")
            .help("name the balancers' networks in `trusted_proxies`, such as `[10.0.0.0/8]`");
    }
}
