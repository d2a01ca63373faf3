//! TLS on a listener: which certificate answers whom. What was read stays in use until something better is read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::accepting::Stream;
use super::expiry;
use crate::config::CertificateFiles;

/// One listener's certificates.
pub struct Tls {
    files: Vec<CertificateFiles>,
    live: ArcSwap<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    expiries: Vec<Expiry>,
}

/// Where a certificate was read from, and the second since 1970 at which it ends.
pub type Expiry = (String, u64);

/// Certificates that were read and are not in use yet.
pub struct Fresh(Arc<Loaded>);

impl Tls {
    pub fn load(files: &[CertificateFiles]) -> io::Result<Arc<Self>> {
        let Fresh(loaded) = read(files)?;
        Ok(Arc::new(Self { files: files.to_vec(), live: ArcSwap::new(loaded) }))
    }

    /// Reads the files again, and changes nothing yet.
    pub fn read(&self) -> io::Result<Fresh> {
        read(&self.files)
    }

    /// From now on connections are answered with these.
    pub fn take(&self, Fresh(loaded): Fresh) {
        self.live.store(loaded);
    }

    /// Of those in use.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.live.load().expiries.clone()
    }

    pub(super) async fn accept(&self, stream: Stream) -> io::Result<TlsStream<Stream>> {
        TlsAcceptor::from(self.live.load().config.clone()).accept(stream).await
    }
}

fn read(files: &[CertificateFiles]) -> io::Result<Fresh> {
    let keys = files.iter().map(certified).collect::<io::Result<Vec<_>>>()?;
    let expiry = |(files, key): (&CertificateFiles, &Arc<CertifiedKey>)| {
        Some((shown(&files.cert).to_string(), expiry::of(key.cert.first()?)?))
    };
    let expiries = files.iter().zip(&keys).filter_map(expiry).collect();
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(ByName(keys)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Fresh(Arc::new(Loaded { config: Arc::new(config), expiries })))
}

fn certified(files: &CertificateFiles) -> io::Result<Arc<CertifiedKey>> {
    let CertificateFiles { cert, key } = files;
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| unusable(cert, error))?;
    let Some(leaf) = chain.first() else { return Err(unusable(cert, "it holds no certificate")) };
    ParsedCertificate::try_from(leaf).map_err(|error| unusable(cert, error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
    let signing = any_supported_type(&private).map_err(|error| unusable(key, error))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|_| unusable(key, format!("it is not the key of {}", shown(cert))))?;
    Ok(Arc::new(certified))
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("the certificate can't be used: {}: {error}", shown(path)))
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

/// The first certificate that is for the name that the client asks for; else the first.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_for = |key: &&Arc<CertifiedKey>| {
            let leaf = key.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
            leaf.zip(name.as_ref()).is_some_and(|(leaf, name)| verify_server_name(&leaf, name).is_ok())
        };
        // With one there is nothing to choose.
        let named = if self.0.len() > 1 { self.0.iter().find(is_for) } else { None };
        named.or(self.0.first()).cloned()
    }
}

/// All files that certificates are read from.
pub fn files(doors: &[crate::config::DoorSettings]) -> Vec<PathBuf> {
    let certificates = doors.iter().flat_map(|door| &door.tls);
    certificates.flat_map(|files| [files.cert.clone(), files.key.clone()]).collect()
}
