//! TLS on a listener: selects a certificate by the client's server name, and reloads certificates.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::acceptor::Socket;
use super::certificate_expiry;
use crate::config::CertificateFiles;
use crate::pem_files::read_identity;

/// One listener's certificates. They stay in use until others are activated.
pub(crate) struct ListenerTls {
    files: Vec<CertificateFiles>,
    active: ArcSwap<ActiveCertificates>,
}

struct ActiveCertificates {
    config: Arc<ServerConfig>,
    expiries: Vec<CertificateExpiry>,
}

/// The file of a certificate, and its `notAfter` in Unix seconds.
pub(crate) type CertificateExpiry = (String, u64);

/// Certificates that are read and checked, but not in use yet.
pub(crate) struct LoadedCertificates(Arc<ActiveCertificates>);

impl ListenerTls {
    pub(crate) fn load(files: &[CertificateFiles]) -> io::Result<Arc<Self>> {
        let LoadedCertificates(loaded) = read_certificates(files)?;
        Ok(Arc::new(Self { files: files.to_vec(), active: ArcSwap::new(loaded) }))
    }

    /// Reads the files again, and leaves the certificates in use.
    pub(crate) fn reload(&self) -> io::Result<LoadedCertificates> {
        read_certificates(&self.files)
    }

    /// Uses `loaded` for new connections.
    pub(crate) fn activate(&self, LoadedCertificates(loaded): LoadedCertificates) {
        self.active.store(loaded);
    }

    /// The expiries of the certificates in use.
    pub(crate) fn expiries(&self) -> Vec<CertificateExpiry> {
        self.active.load().expiries.clone()
    }

    pub(super) async fn accept(&self, socket: Socket) -> io::Result<TlsStream<Socket>> {
        TlsAcceptor::from(self.active.load().config.clone()).accept(socket).await
    }
}

fn read_certificates(files: &[CertificateFiles]) -> io::Result<LoadedCertificates> {
    let keys = files.iter().map(load_certified_key).collect::<io::Result<Vec<_>>>()?;
    let expiry = |(files, key): (&CertificateFiles, &Arc<CertifiedKey>)| {
        Some((files.cert.display().to_string(), certificate_expiry::parse_not_after(key.cert.first()?)?))
    };
    let expiries = files.iter().zip(&keys).filter_map(expiry).collect();
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(SniResolver(keys)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(LoadedCertificates(Arc::new(ActiveCertificates { config: Arc::new(config), expiries })))
}

fn load_certified_key(files: &CertificateFiles) -> io::Result<Arc<CertifiedKey>> {
    read_identity(&files.cert, &files.key).map_err(|error| error.into_io_error("listen.tls"))
}

/// Selects the first certificate that is valid for the client's server name; without one, the first certificate.
#[derive(Debug)]
struct SniResolver(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for SniResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_for = |key: &&Arc<CertifiedKey>| {
            let leaf = key.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
            leaf.zip(name.as_ref()).is_some_and(|(leaf, name)| verify_server_name(&leaf, name).is_ok())
        };
        // A single certificate needs no check.
        let named = if self.0.len() > 1 { self.0.iter().find(is_for) } else { None };
        named.or(self.0.first()).cloned()
    }
}

/// The files of all certificates of `listeners`.
pub(crate) fn certificate_files(doors: &[crate::config::ListenerSettings]) -> Vec<PathBuf> {
    let certificates = doors.iter().flat_map(|door| &door.tls);
    certificates.flat_map(|files| [files.cert.clone(), files.key.clone()]).collect()
}
