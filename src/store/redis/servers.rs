//! Which server has what: the index is on one, a response may be on another. It never decides what a reply means.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::connecting::Connecting;
use super::driver::{Failure, Node, Sent};
use super::figures::Command;
use super::scripts::{Part, Script};
use crate::config::RedisSettings;

/// The servers that larder shares its responses through.
pub struct Servers {
    node: Arc<Node>,
}

impl Servers {
    /// Connects in the background, again and again. Needs a runtime, which the connections then live on.
    ///
    /// # Errors
    /// If a file for TLS can't be read.
    pub fn connect(settings: &RedisSettings, timeout: Duration) -> io::Result<Arc<Self>> {
        let connecting = Connecting::new(settings, timeout)?;
        Ok(Arc::new(Self { node: Node::connect(connecting) }))
    }

    /// The one that has the purge index and what lies in one slot with it. Ask each time: it may be another one soon.
    pub fn index(&self) -> Arc<Node> {
        self.node.clone()
    }

    /// The one that has `key`. Ask each time, and send commands by the functions below, which find it again if it has
    /// moved.
    pub fn of(&self, _key: &str) -> Arc<Node> {
        self.node.clone()
    }

    pub async fn get(&self, key: &str, within: Duration) -> Result<Option<Bytes>, Failure> {
        self.of(key).get(key, within).await
    }

    /// `expires_at` is in milliseconds on the server's clock.
    pub async fn set(
        &self,
        key: &str,
        value: Bytes,
        expires_at: i64,
        within: Duration,
    ) -> Result<(), Failure> {
        self.of(key).set(key, value, expires_at, within).await
    }

    /// Runs a script where its first key is; all its keys lie in one slot.
    pub async fn run(
        &self,
        command: Command,
        script: &'static Script,
        keys: &[&str],
        args: Vec<Bytes>,
        sent: Sent,
        within: Duration,
    ) -> Result<Part, Failure> {
        let node = self.of(keys.first().copied().unwrap_or_default());
        node.run(command, script, keys, args, sent, within).await
    }
}
