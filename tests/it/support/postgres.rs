//! A real PostgreSQL for one test: a cluster of its own, on a port and a socket of its own, gone with the test.

use std::fs::File;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::process::send_signal;
use super::{Scratch, eventually, free_port, with_deadline};

/// The user `nobody`, who runs the server if the tests are run by root: PostgreSQL refuses to be root's.
const NOBODY: u32 = 65534;

/// A database `shop`, and the user `larder` with the password `p`, who logs in over TCP.
pub struct Postgres {
    port: u16,
    arguments: Vec<String>,
    scratch: Scratch,
    child: Option<Child>,
}

impl Postgres {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// `settings` as after `-c` on the command line: `["ssl=on"]`.
    pub async fn start_with(settings: &[&str]) -> Self {
        let arguments = settings.iter().flat_map(|&setting| ["-c".to_owned(), setting.to_owned()]).collect();
        let mut postgres = Self { port: free_port(), arguments, scratch: Scratch::new(), child: None };
        postgres.init().await;
        postgres.start_now().await;
        postgres.run("postgres", "CREATE DATABASE shop").await;
        postgres.sql("CREATE ROLE larder LOGIN PASSWORD 'p'").await;
        postgres
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("postgres://larder:p@127.0.0.1:{}/shop", self.port)
    }

    /// The directory of its socket.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Puts a file that only the server may read beside its data.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.scratch.file(name, content);
        own(&path);
        path
    }

    /// Runs statements in `shop` as its superuser.
    pub async fn sql(&self, statements: &str) -> String {
        self.run("shop", statements).await
    }

    pub async fn start_now(&mut self) {
        let log = File::create(self.scratch.path().join("log")).expect("a file for the log");
        let mut command = server_command("postgres");
        command.arg("-D").arg(self.scratch.path().join("data")).arg("-k").arg(self.scratch.path());
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-c", "fsync=off"]);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("postgres"));
        eventually("PostgreSQL answers", || async {
            self.try_run("postgres", "SELECT 1").await.ok().filter(|answer| answer.trim() == "1")
        })
        .await;
    }

    /// It ends at once, and its connections with it.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            send_signal(child.id(), "QUIT");
            let ended = tokio::task::spawn_blocking(move || child.wait());
            with_deadline("PostgreSQL ends", ended).await.expect("no panic").expect("an end");
        }
    }

    async fn init(&self) {
        own(self.scratch.path());
        let mut command = server_command("initdb");
        command.arg("-D").arg(self.scratch.path().join("data")).args(["-U", "postgres", "-N", "-E", "UTF8"]);
        command.args(["--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"]);
        output(command).await.expect("initdb");
    }

    async fn run(&self, database: &str, statements: &str) -> String {
        self.try_run(database, statements).await.unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    async fn try_run(&self, database: &str, statements: &str) -> Result<String, String> {
        let mut command = Command::new("psql");
        command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        command.arg("-h").arg(self.scratch.path()).args(["-p", &self.port.to_string(), "-c", statements]);
        output(command).await
    }
}

/// A program of the server, which Debian has outside of `PATH`.
fn server_command(program: &str) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(program)).find(|path| path.exists());
    let path = found.unwrap_or_else(|| program.into());
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
    command.arg(path);
    command
}

pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").expect("a status").contains("\nUid:\t0\t")
}

/// Gives a file to the user who runs the server.
fn own(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("another owner");
    }
}

/// Runs a command to its end; what it printed, or what it said of an error.
async fn output(mut command: Command) -> Result<String, String> {
    command.stdin(Stdio::null());
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = with_deadline("a command ends", run).await.expect("no panic").expect("it can be run");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            send_signal(child.id(), "QUIT");
            let _ = child.wait();
        }
    }
}
