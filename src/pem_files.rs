//! Certificates and keys in PEM files, read and checked as TLS uses them.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

const CERTIFICATE_FIX: &str =
    "name a file with a certificate in PEM, which begins with `-----BEGIN CERTIFICATE-----`";
const KEY_FIX: &str =
    "name a file with an unencrypted private key in PEM, which begins with `-----BEGIN PRIVATE KEY-----`";

/// A file that can't be used.
#[derive(Debug)]
pub(crate) struct PemFileError {
    pub path: PathBuf,
    pub fault: String,
    pub fix: String,
}

impl PemFileError {
    fn new(path: &Path, fault: impl Display, fix: &str) -> Self {
        Self { path: path.to_owned(), fault: fault.to_string(), fix: fix.to_owned() }
    }

    /// The error for a caller that knows only the key of the file.
    pub(crate) fn into_io_error(self, key: &str) -> io::Error {
        io::Error::other(format!("{key}: {self}"))
    }
}

impl Display for PemFileError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "can't use the file {}: {}; {}", self.path.display(), self.fault, self.fix)
    }
}

/// Reads the authorities to trust.
pub(crate) fn read_authorities(path: &Path) -> Result<RootCertStore, PemFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| PemFileError::new(path, error, CERTIFICATE_FIX))?;
    }
    Ok(roots)
}

/// Reads a certificate chain, leaf first, and its key.
pub(crate) fn read_identity(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, PemFileError> {
    let chain = read_certificates(cert)?;
    if let Some(leaf) = chain.first() {
        ParsedCertificate::try_from(leaf).map_err(|error| PemFileError::new(cert, error, CERTIFICATE_FIX))?;
    }
    let key_error = |error: &dyn Display| PemFileError::new(key, error, KEY_FIX);
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| key_error(&error))?;
    let signing = any_supported_type(&private).map_err(|error| key_error(&error))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|_| PemFileError {
        fix: format!("name the key of the certificate in {}", cert.display()),
        ..PemFileError::new(key, "the key does not belong to the certificate", "")
    })?;
    Ok(Arc::new(certified))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemFileError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| PemFileError::new(path, error, CERTIFICATE_FIX))?;
    match read.is_empty() {
        true => Err(PemFileError::new(path, "it contains no certificate", CERTIFICATE_FIX)),
        false => Ok(read),
    }
}
