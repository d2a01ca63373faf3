//! TLS to the upstream: which authorities are trusted, the client certificate, and the protocols that are offered.

use std::io;
use std::sync::Arc;

use http::uri::Authority;
use hyper_rustls::ConfigBuilderExt as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, SignatureScheme, WantsVerifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::protocols::Protocols;
use crate::config::{TlsVersion, UpstreamTlsSettings, parse_server_name};
use crate::pem_files::{read_authorities, read_identity};

#[derive(Clone)]
pub(super) struct UpstreamTls {
    http1: TlsConnector,
    http2: TlsConnector,
    server_name: ServerName<'static>,
}

impl UpstreamTls {
    /// # Errors
    /// If a file can't be used, or `authority` is no name that a certificate can have.
    pub(super) fn new(settings: &UpstreamTlsSettings, authority: &str) -> io::Result<Self> {
        let config = client_config(settings)?;
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        let authority: Authority = authority.parse().map_err(io::Error::other)?;
        let name = settings.server_name.as_deref().unwrap_or(authority.host());
        Ok(Self {
            http1: offering(&[b"http/1.1"]),
            http2: offering(&[b"h2", b"http/1.1"]),
            server_name: parse_server_name(name).map_err(io::Error::other)?,
        })
    }

    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        protocols: Protocols,
    ) -> io::Result<TlsStream<TcpStream>> {
        let connector = match protocols {
            Protocols::Http1 => &self.http1,
            Protocols::Http2 => &self.http2,
        };
        connector.connect(self.server_name.clone(), stream).await
    }
}

fn client_config(settings: &UpstreamTlsSettings) -> io::Result<ClientConfig> {
    let builder: ConfigBuilder<ClientConfig, WantsVerifier> = match settings.min_version {
        TlsVersion::Tls12 => ClientConfig::builder(),
        TlsVersion::Tls13 => ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]),
    };
    let provider = builder.crypto_provider().clone();
    let builder = match &settings.ca {
        None => builder.with_native_roots()?,
        Some(path) => builder.with_root_certificates(
            read_authorities(path).map_err(|error| error.into_io_error("upstream.tls.ca"))?,
        ),
    };
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let identity = read_identity(cert, key).map_err(|error| error.into_io_error("upstream.tls"))?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
    };
    if settings.accept_any_certificate {
        config.dangerous().set_certificate_verifier(Arc::new(AcceptAny(provider)));
    }
    Ok(config)
}

/// Verifies the handshake, and accepts any certificate: `dangerously_accept_any_certificate`.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
