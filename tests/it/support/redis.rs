//! A real Redis for one test: on a port and a socket of its own, in a directory of its own, gone with the test.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::process::send_signal;
use super::{Scratch, eventually, free_port, with_deadline};

const SHIPPED_USERS: &str = include_str!("../../../deploy/users.acl");

pub struct Redis {
    program: String,
    port: u16,
    /// In its directory.
    config: Option<&'static str>,
    arguments: Vec<String>,
    scratch: Scratch,
    child: Option<Child>,
}

impl Redis {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// `arguments` as on redis-server's command line: `["--maxmemory", "10mb"]`.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let mut redis = Self::prepared(free_port(), arguments);
        redis.start_now().await;
        redis
    }

    /// Another server than `redis-server`: Valkey's.
    pub async fn start_program(program: &str, arguments: &[&str]) -> Self {
        let mut redis = Self::prepared(free_port(), arguments);
        redis.program = program.to_owned();
        redis.start_now().await;
        redis
    }

    /// One that will be on this port once it is started.
    pub fn prepared(port: u16, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        Self { program, port, config: None, arguments, scratch: Scratch::new(), child: None }
    }

    /// Puts a file into its directory before it is started.
    pub fn file(&self, name: &str, content: &str) -> &Self {
        self.scratch.file(name, content);
        self
    }

    /// It reads and writes this file, which is in its directory.
    pub fn configured_by(mut self, file: &'static str) -> Self {
        self.config = Some(file);
        self
    }

    pub async fn start_now(&mut self) {
        self.spawn();
        self.answers().await;
    }

    /// The name that the server gives itself.
    pub fn product(&self) -> &'static str {
        if self.program.contains("valkey") { "valkey" } else { "redis" }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn url(&self) -> String {
        let login = if is_restricted() { "larder:secret@" } else { "" };
        format!("redis://{login}127.0.0.1:{}/0", self.port)
    }

    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("redis.sock")
    }

    /// How often it was asked to log somebody in so far.
    pub async fn logins(&self) -> u64 {
        let stats = self.command(&["INFO", "commandstats"]).await;
        let calls = |name: &str| {
            let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":calls="));
            line.and_then(|calls| calls.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        calls("cmdstat_auth") + calls("cmdstat_hello")
    }

    /// One command, and its reply as redis-cli without a terminal would print it; an error begins with `-`.
    pub async fn command(&self, words: &[&str]) -> String {
        let reply = with_deadline("Redis replies", self.try_command(words)).await;
        reply.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Makes the user `app` with the password `p`, the shipped rights, and changes to them as words of ACL SETUSER.
    pub async fn set_user(&self, changes: &[&str]) {
        let rights = SHIPPED_USERS.lines().find_map(|line| line.strip_prefix("user larder on #PASSWORD "));
        let mut words = vec!["ACL", "SETUSER", "app", "reset", "on", ">p"];
        words.extend(rights.expect("larder's rights").split(' '));
        words.extend(changes);
        assert_eq!(self.command(&words).await, "OK", "{changes:?}");
    }

    /// Makes a backup with `redis-cli --rdb`.
    pub async fn back_up(&self) {
        let (socket, file) = (self.socket(), self.scratch.path().join("backup.rdb"));
        let mut command = Command::new("redis-cli");
        command.arg("-s").arg(socket).arg("--rdb").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        let run = tokio::task::spawn_blocking(move || command.status());
        assert!(with_deadline("a backup", run).await.unwrap().expect("redis-cli").success());
    }

    pub async fn flush(&self) {
        assert_eq!(self.command(&["FLUSHALL"]).await, "OK");
    }

    /// It dies at once, without saving.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// It hangs: connections stay open, and nothing is answered.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    pub fn cont(&self) {
        self.signal("CONT");
    }

    /// Another process on the same port, with what is in its directory.
    pub async fn restart(&mut self) {
        self.kill();
        self.start_now().await;
    }

    /// Another process, with nothing in it, on the same port.
    pub async fn forget(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(self.scratch.path().join("dump.rdb"));
        self.restart().await;
    }

    fn signal(&self, signal: &str) {
        send_signal(self.child.as_ref().expect("Redis runs").id(), signal);
    }

    fn spawn(&mut self) {
        let log = File::create(self.scratch.path().join("log")).expect("a file for the log");
        let mut command = Command::new(&self.program);
        command.current_dir(self.scratch.path()).stdin(Stdio::null()).stderr(Stdio::null()).stdout(log);
        command.args(self.config);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--unixsocket", &self.socket().to_string_lossy(), "--save", "", "--appendonly", "no"]);
        command.args(&self.arguments);
        if is_restricted() {
            self.scratch.file("users.acl", &users());
            command.args(["--aclfile", "users.acl"]);
        }
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.program)));
    }

    async fn answers(&self) {
        eventually("Redis answers", || async {
            self.try_command(&["PING"]).await.ok().filter(|reply| reply == "PONG")
        })
        .await;
    }

    async fn try_command(&self, words: &[&str]) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(self.socket()).await?;
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        stream.write_all(command.as_bytes()).await?;
        let mut reply = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&reply);
            if let Some((words, _)) = parse(&text) {
                return Ok(words);
            }
            if stream.read_buf(&mut reply).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// With `LARDER_TEST_ACL=1` larder may give no more commands than `deploy/users.acl` allows: to see whether a list of them
/// is whole, run the tests of Redis so. Those that have users or keys of their own fail then.
fn is_restricted() -> bool {
    std::env::var("LARDER_TEST_ACL").is_ok_and(|restricted| restricted == "1")
}

/// The rights to commands; the tests have keys and channels of many names.
fn users() -> String {
    let rights = SHIPPED_USERS.lines().find_map(|line| Some(line.split_once("-@all ")?.1));
    let rights = rights.expect("larder's rights");
    format!(
        "user default on nopass allkeys allchannels +@all\nuser larder on >secret allkeys allchannels -@all {rights}\n"
    )
}

/// A reply of RESP2 that is there whole, in words, and what follows it; arrays as lines.
fn parse(reply: &str) -> Option<(String, &str)> {
    let (line, rest) = reply.split_once("\r\n")?;
    let (kind, value) = line.split_at_checked(1)?;
    match (kind, value.parse::<usize>()) {
        ("$", Ok(length)) => {
            let (text, rest) = rest.split_at_checked(length)?;
            Some((text.to_owned(), rest.strip_prefix("\r\n")?))
        }
        ("*", Ok(count)) => {
            let mut rest = rest;
            let mut lines = Vec::new();
            for _ in 0..count {
                let (line, after) = parse(rest)?;
                lines.push(line);
                rest = after;
            }
            Some((lines.join("\n"), rest))
        }
        ("$" | "*", Err(_)) => Some((String::new(), rest)),
        ("-", _) => Some((line.to_owned(), rest)),
        _ => Some((value.to_owned(), rest)),
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
