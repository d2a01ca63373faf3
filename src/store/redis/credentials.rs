//! Passwords that change while larder runs: read from a file, or printed by a command.
//!
//! All connections share one source. New ones log in with the present password; open ones log in again at an interval,
//! which the driver does.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::failure_reason::NO_PASSWORD;
use crate::config::{CredentialSource, RedisSettings, Secret};

/// How often open connections log in again with the password of a file.
const FILE_REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// A command that takes longer is killed.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A new connection runs the command again if its last output is older than this.
const MAX_AGE_FOR_LOGIN: Duration = Duration::from_secs(5);

/// The source of logins, shared by all connections.
#[derive(Clone)]
pub(super) struct LoginSource {
    username: Option<String>,
    source: PasswordSource,
}

#[derive(Clone)]
enum PasswordSource {
    File(PathBuf),
    Command {
        command: Vec<String>,
        every: Duration,
        /// The last output. Locked while the command runs, so that all who wait share one run.
        last: Arc<Mutex<Option<(Instant, Secret)>>>,
    },
}

/// User name and password of a connection.
pub(super) struct Login {
    pub username: Option<String>,
    pub password: Secret,
}

impl LoginSource {
    /// `None` if the password does not change.
    pub(super) fn new(settings: &RedisSettings) -> Option<Self> {
        let source = match settings.credentials.clone()? {
            CredentialSource::File(path) => PasswordSource::File(path),
            CredentialSource::Command { command, every } => {
                PasswordSource::Command { command, every, last: Arc::default() }
            }
        };
        Some(Self { username: settings.username.clone(), source })
    }

    /// The present login. `is_new`: for a connection that is being made, not for one that is open.
    ///
    /// # Errors
    /// Why there is no password, beginning with [`NO_PASSWORD`].
    pub(super) async fn fetch(&self, is_new: bool) -> Result<Login, String> {
        let password = match &self.source {
            PasswordSource::File(path) => read_password(path).await,
            PasswordSource::Command { command, every, last } => {
                let max_age = if is_new { MAX_AGE_FOR_LOGIN.min(*every) } else { *every / 2 };
                run_or_reuse(command, max_age, last).await
            }
        };
        let password = password.map_err(|reason| format!("{NO_PASSWORD} {reason}"))?;
        Ok(Login { username: self.username.clone(), password })
    }

    /// How often open connections log in again.
    pub(super) fn refresh_interval(&self) -> Duration {
        match self.source {
            PasswordSource::File(_) => FILE_REFRESH_INTERVAL,
            PasswordSource::Command { every, .. } => every,
        }
    }
}

/// Without arguments, which may be secret.
impl fmt::Debug for LoginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            PasswordSource::File(path) => f.debug_tuple("PasswordFile").field(path).finish(),
            PasswordSource::Command { command, .. } => {
                f.debug_tuple("PasswordCommand").field(&command.first()).finish()
            }
        }
    }
}

async fn read_password(path: &Path) -> Result<Secret, String> {
    let read = tokio::fs::read_to_string(path).await;
    let text = read.map_err(|error| format!("{}: {error}", path.display()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("{} is empty", path.display())),
        password => Ok(Secret::new(password)),
    }
}

/// The last output of the command, unless it is older than `max_age`: then a new one.
async fn run_or_reuse(
    command: &[String],
    max_age: Duration,
    last: &Arc<Mutex<Option<(Instant, Secret)>>>,
) -> Result<Secret, String> {
    let (words, last) = (command.to_vec(), last.clone());
    // On a task of its own: a connection gives up its login after a while, but the next one needs the result.
    let password = tokio::spawn(async move {
        let mut last = last.lock().await;
        if let Some((_, password)) = last.as_ref().filter(|(at, _)| at.elapsed() < max_age) {
            return Ok(password.clone());
        }
        let password = Secret::new(run(&words).await?);
        *last = Some((Instant::now(), password.clone()));
        Ok::<_, String>(password)
    });
    let password = password.await.map_err(|error| error.to_string())?;
    password.map_err(|error| format!("{}: {error}", command[0]))
}

/// Runs the command. Its errors go to larder's standard error; no output of it is in the result's error.
async fn run(command: &[String]) -> Result<String, String> {
    let (program, args) = command.split_first().ok_or("the command is empty")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = timeout(COMMAND_TIMEOUT, command.output());
    let output = output.await.map_err(|_| format!("it took longer than {} s", COMMAND_TIMEOUT.as_secs()))?;
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(output.status.to_string());
    }
    let text = String::from_utf8(output.stdout).map_err(|_| "its output is not UTF-8")?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("it printed no password".to_owned()),
        password => Ok(password.to_owned()),
    }
}
