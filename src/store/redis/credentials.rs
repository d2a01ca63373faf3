//! Passwords that change while larder runs: read from a file, or printed by a command.
//!
//! All connections share one source. New ones log in with the present password; open ones log in again at an interval.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::error::RedisError;
use super::failure_reason::{NO_PASSWORD, explain_reply};
use crate::config::{CredentialSource, Secret};
use crate::store::remote_status::FailureReason;

/// How often open connections log in again with the password of a file.
const FILE_REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// A command that takes longer is killed.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a login waits for the command: less than the driver waits for the connection.
const LOGIN_PATIENCE: Duration = Duration::from_millis(300);

/// How long an open connection waits for the command to end, also for a run before its own.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(2 * COMMAND_TIMEOUT.as_secs() + 1);

const TOO_SLOW: &str = "it runs, and has printed no password yet; larder waits for it up to 30 s";

/// How much of its output and its errors is kept.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;
const MAX_ERROR_BYTES: usize = 300;

/// How long its standard error may stay open after its end.
const ERROR_PATIENCE: Duration = Duration::from_millis(200);

/// A new connection runs the command again if its last output is older than this.
const MAX_AGE_FOR_LOGIN: Duration = Duration::from_secs(5);

/// The source of logins, shared by all connections.
#[derive(Clone)]
pub(crate) struct LoginSource {
    username: Option<String>,
    source: PasswordSource,
    /// Why open connections could not log in again, by their servers.
    renewal_failures: Arc<parking_lot::Mutex<BTreeMap<String, FailureReason>>>,
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
pub(crate) struct Login {
    pub username: Option<String>,
    pub password: Secret,
}

impl LoginSource {
    /// `None` if the password does not change.
    pub(crate) fn new(username: Option<&str>, source: Option<&CredentialSource>) -> Option<Self> {
        let source = match source?.clone() {
            CredentialSource::File(path) => PasswordSource::File(path),
            CredentialSource::Command { command, every } => {
                PasswordSource::Command { command, every, last: Arc::default() }
            }
        };
        Some(Self { username: username.map(str::to_owned), source, renewal_failures: Arc::default() })
    }

    /// The present login. `is_new`: for a connection that is being made, not for one that is open.
    ///
    /// # Errors
    /// Why there is no password, beginning with [`NO_PASSWORD`].
    pub(crate) async fn fetch(&self, is_new: bool) -> Result<Login, String> {
        let password = match &self.source {
            PasswordSource::File(path) => read_password(path).await,
            PasswordSource::Command { command, every, last } => {
                let (max_age, patience) = match is_new {
                    true => (MAX_AGE_FOR_LOGIN.min(*every), LOGIN_PATIENCE),
                    // It keeps nobody waiting.
                    false => (*every / 2, RENEWAL_PATIENCE),
                };
                run_or_reuse(command, max_age, patience, last).await
            }
        };
        let password = password.map_err(|reason| format!("{NO_PASSWORD} {reason}"))?;
        Ok(Login { username: self.username.clone(), password })
    }

    /// Logs an open connection to `server` in again and again, until the future is dropped. A login that fails leaves the
    /// connection as it is, so it is told here.
    pub(super) async fn keep_logged_in<F>(&self, server: &str, log_in: impl Fn(Login) -> F)
    where
        F: Future<Output = Result<(), RedisError>>,
    {
        let renewals = ServerRenewals { failures: &self.renewal_failures, server };
        loop {
            tokio::time::sleep(self.refresh_interval()).await;
            let refusal = match self.fetch(false).await {
                Err(reason) => Some(reason),
                Ok(login) => match log_in(login).await {
                    Ok(()) => None,
                    Err(RedisError::ErrorReply(reply)) => Some(reply),
                    // It has no connection, which is told elsewhere.
                    Err(_) => continue,
                },
            };
            renewals.record(refusal.as_deref().map(renewal_failure));
        }
    }

    /// Why open connections could not log in again, as far as that is known.
    pub(super) fn renewal_failure(&self) -> Option<FailureReason> {
        self.renewal_failures.lock().values().next().cloned()
    }

    /// How often open connections log in again.
    fn refresh_interval(&self) -> Duration {
        match self.source {
            PasswordSource::File(_) => FILE_REFRESH_INTERVAL,
            PasswordSource::Command { every, .. } => every,
        }
    }
}

/// The renewals of a connection to one server, which are forgotten with it.
struct ServerRenewals<'s> {
    failures: &'s parking_lot::Mutex<BTreeMap<String, FailureReason>>,
    server: &'s str,
}

impl ServerRenewals<'_> {
    /// Logs each other reason once, also if it is that of several servers.
    fn record(&self, failure: Option<FailureReason>) {
        let mut failures = self.failures.lock();
        match failure {
            Some(reason) => {
                if !failures.values().any(|known| *known == reason) {
                    tracing::warn!(
                        code = reason.code,
                        reason = reason.message,
                        "the password for Redis was not renewed"
                    );
                }
                failures.insert(self.server.to_owned(), reason);
            }
            None => {
                if failures.remove(self.server).is_some() && failures.is_empty() {
                    tracing::info!("the password for Redis was renewed");
                }
            }
        }
    }
}

impl Drop for ServerRenewals<'_> {
    fn drop(&mut self) {
        self.failures.lock().remove(self.server);
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

fn renewal_failure(reason: &str) -> FailureReason {
    explain_reply(reason)
        .map_message(|message| format!("{message}; open connections stay logged in with the last one"))
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
    patience: Duration,
    last: &Arc<Mutex<Option<(Instant, Secret)>>>,
) -> Result<Secret, String> {
    let (words, last) = (command.to_vec(), last.clone());
    // On a task of its own: a connection gives up its login after a while, but the next one needs the result.
    let password = tokio::spawn(async move {
        // A login that has waited for longer than a run may take leaves the next run to others.
        let mut last = timeout(COMMAND_TIMEOUT, last.lock()).await.map_err(|_| TOO_SLOW.to_owned())?;
        if let Some((_, password)) = last.as_ref().filter(|(at, _)| at.elapsed() < max_age) {
            return Ok(password.clone());
        }
        let password = Secret::new(run(&words).await?);
        *last = Some((Instant::now(), password.clone()));
        Ok::<_, String>(password)
    });
    let password = match timeout(patience, password).await {
        Ok(password) => password.map_err(|error| error.to_string())?,
        Err(_) => Err(TOO_SLOW.to_owned()),
    };
    password.map_err(|error| format!("{}: {error}", command[0]))
}

/// Runs the command. Its error has the beginning of what it wrote to its standard error, and nothing of its output.
async fn run(command: &[String]) -> Result<String, String> {
    let (program, args) = command.split_first().ok_or("the command is empty")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let errors = tokio::spawn(read_start(errors, MAX_ERROR_BYTES));
    let exchange = async { tokio::join!(read_start(output, MAX_OUTPUT_BYTES), child.wait()) };
    let (output, status) = timeout(COMMAND_TIMEOUT, exchange)
        .await
        .map_err(|_| format!("it took longer than {} s, and was killed", COMMAND_TIMEOUT.as_secs()))?;
    let status = status.map_err(|error| error.to_string())?;
    // A process that the command has left behind may keep it open.
    let errors = timeout(ERROR_PATIENCE, errors).await.ok().and_then(Result::ok).unwrap_or_default();
    let told = as_one_line(&errors);
    if !status.success() {
        return Err(if told.is_empty() { status.to_string() } else { format!("{status}: {told}") });
    }
    if !told.is_empty() {
        tracing::debug!(command = program, stderr = told, "the password command wrote to its standard error");
    }
    if output.len() > MAX_OUTPUT_BYTES {
        return Err(format!("it printed more than {MAX_OUTPUT_BYTES} bytes"));
    }
    let text = String::from_utf8(output).map_err(|_| "its output is not UTF-8")?;
    match text.trim_end_matches(['\r', '\n']) {
        "" if told.is_empty() => Err("it printed no password".to_owned()),
        "" => Err(format!("it printed no password: {told}")),
        password => Ok(password.to_owned()),
    }
}

/// Reads to the end, and keeps one byte more than `limit` at most.
async fn read_start(stream: Option<impl AsyncRead + Unpin>, limit: usize) -> Vec<u8> {
    let mut start = Vec::new();
    if let Some(mut stream) = stream {
        _ = (&mut stream).take(limit as u64 + 1).read_to_end(&mut start).await;
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    start
}

/// The words of a command's standard error as one line.
fn as_one_line(errors: &[u8]) -> String {
    let text = String::from_utf8_lossy(&errors[..errors.len().min(MAX_ERROR_BYTES)]);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}
