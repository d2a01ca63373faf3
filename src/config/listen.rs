//! The section `listen`: addresses, and what a connection has to pass there before it speaks HTTP.

use std::path::PathBuf;

use super::fields::Fields;
use super::problem::{Place, Problems};
use super::scalars::{boolean, list, listen, text};
use super::tree::{Node, Value};
use super::{CertificateFiles, DoorSettings, Listen, keys};

/// One address or a list; each may be a mapping.
pub fn listeners(node: &Node, problems: &Problems) -> Option<(Vec<Listen>, Vec<DoorSettings>)> {
    let read = match &node.value {
        Value::List(_) => list(node, "[127.0.0.1:8080]", problems, listener)?,
        _ => vec![listener(node, problems)?],
    };
    if read.is_empty() {
        problems
            .error(node.place, "there is nothing to listen on")
            .help("write an address, `listen: 127.0.0.1:8080`");
        return None;
    }
    Some(read.into_iter().unzip())
}

fn listener(node: &Node, problems: &Problems) -> Option<(Listen, DoorSettings)> {
    let Value::Mapping(_) = &node.value else {
        return Some((listen(node, problems)?, DoorSettings::default()));
    };
    let fields = Fields::open(node, &keys::LISTENER, problems)?;
    let address = fields.required("address", listen);
    let proxy_protocol = fields.read("proxy_protocol", boolean);
    let tls = match fields.given("tls") {
        Some(given) => certificates(given, problems),
        None => Some(Vec::new()),
    };
    Some((address?, DoorSettings { proxy_protocol: proxy_protocol?, tls: tls? }))
}

/// One certificate or a list.
fn certificates(node: &Node, problems: &Problems) -> Option<Vec<CertificateFiles>> {
    let read = match &node.value {
        Value::List(_) => list(node, "[{cert: a.pem, key: a.key}]", problems, certificate)?,
        _ => vec![certificate(node, problems)?],
    };
    if read.is_empty() {
        problems
            .error(node.place, "TLS needs a certificate")
            .help("write `tls: {cert: server.pem, key: server.key}`, or leave `tls` out");
        return None;
    }
    Some(read)
}

fn certificate(node: &Node, problems: &Problems) -> Option<CertificateFiles> {
    let fields = Fields::open(node, &keys::CERTIFICATE, problems)?;
    let (cert, key) = (fields.required("cert", file), fields.required("key", file));
    Some(CertificateFiles { cert: cert?, key: key? })
}

fn file(node: &Node, problems: &Problems) -> Option<PathBuf> {
    text(node, "a file in PEM", problems).map(PathBuf::from)
}

/// Whoever may say in whose name a connection comes is named.
pub fn refuse_unnamed_balancers(
    listen: &[Listen],
    doors: &[DoorSettings],
    is_anybody_trusted: bool,
    place: Place,
    problems: &Problems,
) {
    let is_open = |(listen, door): (&Listen, &DoorSettings)| {
        door.proxy_protocol && matches!(listen, Listen::Tcp(_)) && !is_anybody_trusted
    };
    if listen.iter().zip(doors).any(is_open) {
        problems
            .error(place, "`proxy_protocol` is on, and nobody is trusted to say who the client is")
            .help("name the balancers' networks in `trusted_proxies`, such as `[10.0.0.0/8]`");
    }
}
