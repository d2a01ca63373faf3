//! A connection to PostgreSQL, with TLS where it is configured.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Notification};
use tokio_rustls::TlsConnector;

use super::SERVER_TIMEOUT;
use super::failure::{explain, explain_io, no_password, no_tls, too_late};
use crate::config::{PostgresServer, PostgresSettings};
use crate::store::remote_status::FailureReason;
use crate::store::{LoginSource, build_tls};

/// For all addresses of a host. The rest of [`SERVER_TIMEOUT`] is for TLS and the login.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// Asks a server for TLS: the length of the message, and its code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Makes connections to one database.
pub(super) struct PostgresConnector {
    settings: PostgresSettings,
    login: Option<LoginSource>,
    tls: Option<Arc<ClientConfig>>,
}

/// A connection that is logged in; dropping it closes it.
pub(super) struct PostgresSession {
    client: Client,
    connection: Connection<Box<dyn Stream>, NoTlsStream>,
}

impl PostgresConnector {
    pub(super) fn new(settings: &PostgresSettings) -> io::Result<Self> {
        let tls = settings.tls.as_ref().map(build_tls).transpose();
        let tls = tls.map_err(|error| io::Error::other(format!("postgres.tls: {error}")))?;
        let login = LoginSource::new(Some(&settings.username), settings.credentials.as_ref());
        Ok(Self { settings: settings.clone(), login, tls: tls.map(Arc::new) })
    }

    /// # Errors
    /// The reason why there is no connection.
    pub(super) async fn connect(&self) -> Result<PostgresSession, FailureReason> {
        timeout(SERVER_TIMEOUT, self.connect_and_log_in()).await.unwrap_or_else(|_| Err(too_late()))
    }

    async fn connect_and_log_in(&self) -> Result<PostgresSession, FailureReason> {
        let mut config = Config::new();
        // TLS is up to `open`.
        config.user(&self.settings.username).dbname(&self.settings.database).ssl_mode(SslMode::Disable);
        config.application_name("larder");
        if let Some(login) = &self.login {
            let login = login.fetch(true).await.map_err(|cause| no_password(&cause))?;
            config.password(login.password.expose());
        } else if let Some(password) = &self.settings.password {
            config.password(password.expose());
        }
        let stream = self.open().await?;
        let (client, connection) =
            config.connect_raw(stream, NoTls).await.map_err(|error| explain(&error))?;
        Ok(PostgresSession { client, connection })
    }

    async fn open(&self) -> Result<Box<dyn Stream>, FailureReason> {
        let (host, port) = match &self.settings.server {
            PostgresServer::Unix(path) => {
                return Ok(Box::new(UnixStream::connect(path).await.map_err(|error| explain_io(&error))?));
            }
            PostgresServer::Host { host, port } => (host.as_str(), *port),
        };
        let stream = connect(host, port).await.map_err(|error| explain_io(&error))?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| no_tls())?;
        let stream = start_tls(stream, tls.clone(), name).await.map_err(|error| explain_io(&error))?;
        stream.map(|stream| Box::new(stream) as Box<dyn Stream>).ok_or_else(no_tls)
    }
}

/// Connects to the first address of the host that takes the connection. Each has an equal share of the time that is left, so
/// that one that does not answer leaves time for the others.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    let mut failure = io::Error::other("failed to lookup address information: the name has no address");
    for (at, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

/// `None`: the server has no TLS.
async fn start_tls(
    mut stream: TcpStream,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<Option<impl Stream>> {
    stream.write_all(&SSL_REQUEST).await?;
    // One byte alone: what follows is of the handshake.
    match stream.read_u8().await? {
        b'S' => TlsConnector::from(tls).connect(name, stream).await.map(Some),
        _ => Ok(None),
    }
}

impl PostgresSession {
    /// The next notification.
    ///
    /// # Errors
    /// The reason why the connection has ended.
    pub(super) async fn next_notification(&mut self) -> Result<Notification, FailureReason> {
        loop {
            match poll_fn(|cx| self.connection.poll_message(cx)).await {
                Some(Ok(AsyncMessage::Notification(notification))) => return Ok(notification),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(explain(&error)),
                None => return Err(FailureReason::new("connection-closed", "the connection was closed")),
            }
        }
    }

    /// Runs statements without results. Returns the notifications that came before the answer.
    ///
    /// # Errors
    /// The reason why there is no answer, or why it is an error.
    pub(super) async fn query(&mut self, statements: &str) -> Result<Vec<Notification>, FailureReason> {
        let Self { client, connection } = self;
        let mut answered = pin!(client.batch_execute(statements));
        let mut notifications = Vec::new();
        let exchange = async {
            loop {
                tokio::select! {
                    biased;
                    message = poll_fn(|cx| connection.poll_message(cx)) => match message {
                        Some(Ok(AsyncMessage::Notification(notification))) => notifications.push(notification),
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Err(explain(&error)),
                        None => return Err(FailureReason::new("connection-closed", "the connection was closed")),
                    },
                    answer = &mut answered => return answer.map_err(|error| explain(&error)),
                }
            }
        };
        timeout(SERVER_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(too_late()))?;
        Ok(notifications)
    }

    pub(super) fn server_version(&self) -> &str {
        self.connection.parameter("server_version").unwrap_or("of an unknown version")
    }
}
