//! Change events from PostgreSQL: what `NOTIFY` sends on channels. Events are not interpreted here.

mod failure;
mod session;

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::Notification;

use crate::config::PostgresSettings;
use crate::random::random_token;
use crate::store::remote_status::FailureReason;
use crate::store::{ChannelEvent, ChannelMessage};
use session::{PostgresConnector, PostgresSession};

/// For connecting, for a query, and for a notification to arrive.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Between queries on a quiet connection, which would not notice that it is dead otherwise.
const PING_INTERVAL: Duration = Duration::from_secs(1);

const TOO_MANY: &str = "too many notifications are pending";

/// Channels of one database.
pub(crate) struct PostgresListener {
    connector: PostgresConnector,
    channels: Vec<String>,
}

impl PostgresListener {
    /// # Errors
    /// If a TLS file can't be read or is malformed.
    pub(crate) fn new(settings: &PostgresSettings, channels: &[String]) -> io::Result<Self> {
        Ok(Self { connector: PostgresConnector::new(settings)?, channels: channels.to_vec() })
    }

    /// Runs one subscription until it ends, and tells what is heard. If notifications come too fast, the connection ends, so
    /// that the receiver learns that some were missed.
    ///
    /// # Errors
    /// The reason of the end.
    pub(super) async fn run_subscription(
        &self,
        tell: &mpsc::Sender<ChannelEvent>,
    ) -> Result<Infallible, FailureReason> {
        let mut session = self.subscribe().await?;
        tell.send(ChannelEvent::Subscribed)
            .await
            .map_err(|_| FailureReason::new("connection-closed", "the receiver is gone"))?;
        let tell_now =
            |event| tell.try_send(event).map_err(|_| FailureReason::new("too-many-messages", TOO_MANY));
        loop {
            match timeout(PING_INTERVAL, session.next_notification()).await {
                Ok(notification) => tell_now(ChannelEvent::Message(to_message(notification?)))?,
                Err(_) => {
                    // Those that came before the answer are told before it.
                    for notification in session.query("").await? {
                        tell_now(ChannelEvent::Message(to_message(notification)))?;
                    }
                    tell_now(ChannelEvent::Alive)?;
                }
            }
        }
    }

    /// Connects as larder does, for people. Returns the version of the server.
    ///
    /// # Errors
    /// The reason why the channels can't be heard.
    pub(crate) async fn check(&self) -> Result<String, FailureReason> {
        Ok(self.subscribe().await?.server_version().to_owned())
    }

    /// Listens to the channels. Earlier notifications are missed.
    async fn subscribe(&self) -> Result<PostgresSession, FailureReason> {
        let mut session = self.connector.connect().await?;
        let probe = format!(
            "larder_{}",
            random_token().map_err(|error| FailureReason::new("no-random-numbers", error.to_string()))?
        );
        let channels = self.channels.iter().chain([&probe]);
        let listen: String = channels.map(|channel| format!("LISTEN {};", quote(channel))).collect();
        session.query(&listen).await?;
        self.verify_delivery(&mut session, &probe).await?;
        session.query(&format!("UNLISTEN {}", quote(&probe))).await?;
        Ok(session)
    }

    /// Verifies that what another session notifies arrives. A pooler that lends connections for single transactions takes
    /// LISTEN and delivers nothing.
    async fn verify_delivery(&self, session: &mut PostgresSession, probe: &str) -> Result<(), FailureReason> {
        self.connector.connect().await?.query(&format!("NOTIFY {}", quote(probe))).await?;
        let arrives = async {
            while session.next_notification().await?.channel() != probe {}
            Ok(())
        };
        timeout(SERVER_TIMEOUT, arrives).await.unwrap_or_else(|_| Err(failure::not_delivered()))
    }
}

fn to_message(notification: Notification) -> ChannelMessage {
    let content = Bytes::copy_from_slice(notification.payload().as_bytes());
    ChannelMessage { channel: Bytes::copy_from_slice(notification.channel().as_bytes()), content }
}

/// A channel's name as SQL.
fn quote(channel: &str) -> String {
    format!("\"{}\"", channel.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_channel_is_quoted_as_a_name_of_sql() {
        assert_eq!(super::quote("a\"; DROP TABLE x; --"), "\"a\"\"; DROP TABLE x; --\"");
    }
}
