//! Passwords that change while larder runs: read from a file, or printed by a command.
//!
//! All connections share one source. New ones log in with the present password; open ones log in again at an interval,
//! which the client library does.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use fred::error::{Error, ErrorKind};
use fred::types::config::{CredentialProvider, Server};
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

/// The provider for the client library; `None` if the password does not change.
pub(super) fn credential_provider(settings: &RedisSettings) -> Option<Arc<dyn CredentialProvider>> {
    let username = settings.username.clone();
    Some(match settings.credentials.clone()? {
        CredentialSource::File(path) => Arc::new(PasswordFile { path, username }),
        CredentialSource::Command { command, every } => {
            Arc::new(PasswordCommand { command, every, username, last: Arc::default() })
        }
    })
}

type Login = (Option<String>, Option<String>);
type LoginFuture<'f> = Pin<Box<dyn Future<Output = Result<Login, Error>> + Send + 'f>>;

#[derive(Debug)]
struct PasswordFile {
    path: PathBuf,
    username: Option<String>,
}

struct PasswordCommand {
    command: Vec<String>,
    every: Duration,
    username: Option<String>,
    /// The last output. Locked while the command runs, so that all who wait share one run.
    last: Arc<Mutex<Option<(Instant, Secret)>>>,
}

/// Without arguments, which may be secret.
impl fmt::Debug for PasswordCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordCommand").field("program", &self.command.first()).finish_non_exhaustive()
    }
}

impl CredentialProvider for PasswordFile {
    fn fetch<'s, 'h, 'f>(&'s self, _: Option<&'h Server>) -> LoginFuture<'f>
    where
        's: 'f,
        'h: 'f,
        Self: 'f,
    {
        Box::pin(async {
            let read = tokio::fs::read_to_string(&self.path).await;
            let text = read.map_err(|error| no_password(format!("{}: {error}", self.path.display())))?;
            let password = text.trim_end_matches(['\r', '\n']);
            if password.is_empty() {
                return Err(no_password(format!("{} is empty", self.path.display())));
            }
            Ok((self.username.clone(), Some(password.to_owned())))
        })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        Some(FILE_REFRESH_INTERVAL)
    }
}

impl CredentialProvider for PasswordCommand {
    /// A connection that is being made has a server, one that logs in again has none.
    fn fetch<'s, 'h, 'f>(&'s self, server: Option<&'h Server>) -> LoginFuture<'f>
    where
        's: 'f,
        'h: 'f,
        Self: 'f,
    {
        let max_age = if server.is_some() { MAX_AGE_FOR_LOGIN.min(self.every) } else { self.every / 2 };
        let (command, last) = (self.command.clone(), self.last.clone());
        Box::pin(async move {
            // On a task of its own: the client library gives up a login after a while, but the next one needs the result.
            let password = tokio::spawn(async move {
                let mut last = last.lock().await;
                if let Some((_, password)) = last.as_ref().filter(|(at, _)| at.elapsed() < max_age) {
                    return Ok(password.clone());
                }
                let password = Secret::new(run(&command).await?);
                *last = Some((Instant::now(), password.clone()));
                Ok::<_, String>(password)
            });
            let password = password.await.map_err(|error| no_password(error.to_string()))?;
            let password = password.map_err(|error| no_password(format!("{}: {error}", self.command[0])))?;
            Ok((self.username.clone(), Some(password.expose().to_owned())))
        })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        Some(self.every)
    }
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

fn no_password(reason: String) -> Error {
    Error::new(ErrorKind::Auth, format!("{NO_PASSWORD} {reason}"))
}
