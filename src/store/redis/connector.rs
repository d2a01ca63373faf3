//! Builds clients: address, credentials and TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::ConfigBuilderExt;
use rustls::ClientConfig;
use rustls::sign::SingleCertAndKey;

use super::connection::{
    Address, ConnectionPurpose, ConnectionSettings, PubsubProtocol, RedisConnection, simulated_connection,
};
use super::credentials::LoginSource;
use super::driver;
use super::failure_reason::{ExplainContext, TopologyKind};
use crate::config::{RedisServers, RedisSettings, TlsFiles};
use crate::pem_files::{read_authorities, read_identity};

/// Settings of connections; [`RedisConnector::with_address`] selects the server.
#[derive(Clone)]
pub(crate) struct RedisConnector {
    settings: ConnectionSettings,
    context: ExplainContext,
}

impl RedisConnector {
    /// # Errors
    /// If a TLS file can't be read or is malformed.
    pub(crate) fn new(settings: &RedisSettings, timeout: Duration) -> io::Result<Self> {
        let database = u8::try_from(settings.database)
            .map_err(|_| io::Error::other("store.redis: database numbers go up to 255"))?;
        let topology = match &settings.servers {
            RedisServers::One(_) | RedisServers::Unix(_) => TopologyKind::Single,
            RedisServers::Sentinel { .. } => TopologyKind::Sentinel,
            RedisServers::Cluster(_) => TopologyKind::Cluster,
        };
        let tls = settings.tls.as_ref().map(build_tls).transpose();
        let tls = tls.map_err(|error| io::Error::other(format!("store.redis.tls: {error}")))?;
        let context = ExplainContext { uses_tls: settings.tls.is_some(), topology };
        let settings = ConnectionSettings {
            address: None,
            purpose: ConnectionPurpose::Commands,
            database,
            username: settings.username.clone(),
            password: settings.password.clone(),
            credentials: LoginSource::new(settings.username.as_deref(), settings.credentials.as_ref()),
            tls: tls.map(Arc::new),
            timeout,
        };
        Ok(Self { settings, context })
    }

    pub(crate) fn with_address(&self, address: &Address) -> Self {
        self.with_settings(ConnectionSettings { address: Some(address.clone()), ..self.settings.clone() })
    }

    /// For a sentinel, which has no databases.
    pub(crate) fn without_database(&self) -> Self {
        self.with_settings(ConnectionSettings { database: 0, ..self.settings.clone() })
    }

    /// `None` if there are no credentials.
    pub(crate) fn without_credentials(&self) -> Option<Self> {
        if self.settings.password.is_none() && self.settings.credentials.is_none() {
            return None;
        }
        let settings = self.settings.clone();
        Some(self.with_settings(ConnectionSettings {
            username: None,
            password: None,
            credentials: None,
            ..settings
        }))
    }

    fn with_settings(&self, settings: ConnectionSettings) -> Self {
        Self { settings, ..*self }
    }

    /// Where the password comes from, if it changes.
    pub(super) fn credentials(&self) -> Option<&LoginSource> {
        self.settings.credentials.as_ref()
    }

    pub(crate) fn context(&self) -> ExplainContext {
        self.context
    }

    pub(crate) fn uses_tls(&self) -> bool {
        self.context.uses_tls
    }

    pub(crate) fn build_client(&self) -> Arc<dyn RedisConnection> {
        self.build(ConnectionPurpose::Commands)
    }

    /// A client for subscriptions.
    pub(crate) fn build_pubsub_client(&self, protocol: PubsubProtocol) -> Arc<dyn RedisConnection> {
        self.build(ConnectionPurpose::Subscription(protocol))
    }

    fn build(&self, purpose: ConnectionPurpose) -> Arc<dyn RedisConnection> {
        if let Some(simulated) = self.settings.address.as_ref().and_then(simulated_connection) {
            return simulated;
        }
        driver::connect(&ConnectionSettings { purpose, ..self.settings.clone() })
    }
}

/// The TLS of a client.
///
/// # Errors
/// If a file can't be read or is malformed, with its path.
pub(crate) fn build_tls(files: &TlsFiles) -> io::Result<ClientConfig> {
    let builder = ClientConfig::builder();
    let builder = match &files.ca {
        None => builder.with_native_roots()?,
        Some(ca) => {
            builder.with_root_certificates(read_authorities(ca).map_err(|error| error.into_io_error("ca"))?)
        }
    };
    Ok(match &files.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let identity = read_identity(cert, key).map_err(|error| error.into_io_error("cert"))?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
    })
}
