//! larder as a process of its own: for its memory, its signals, its command line.

use std::fs::File;
use std::ops::Deref;
use std::process::{Child, ExitStatus, Output, Stdio};

use tokio::sync::{Mutex, MutexGuard};

use super::larder::{complete, metric};
use super::{Client, Scratch, Upstream, eventually, free_port, with_deadline};

/// A run of `larder` to come.
pub struct Command(std::process::Command);

impl Command {
    /// `LARDER_PROGRAM` names another larder: one that was built for release, say.
    pub fn new(arguments: &[&str]) -> Self {
        let program = std::env::var_os("LARDER_PROGRAM");
        Self::with_program(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").into()), arguments)
    }

    pub fn with_program(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Self {
        let mut command = std::process::Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LARDER_")) {
            command.env_remove(name);
        }
        Self(command)
    }

    /// Starts larder as a service manager does: with a socket that is open already.
    pub fn on_socket(socket: &std::net::TcpListener, arguments: &[&str]) -> Self {
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_larder")]).args(arguments);
        let socket: std::os::fd::OwnedFd = socket.try_clone().expect("a socket").into();
        command.stdin(Stdio::from(socket));
        Self(command)
    }

    pub fn into_inner(self) -> std::process::Command {
        self.0
    }

    /// Where this file is /etc/hosts; `None` if this machine lets nobody have a view of files of one's own.
    pub fn with_hosts(hosts: &std::path::Path, arguments: &[&str]) -> Option<Self> {
        let apart = ["--map-root-user", "--mount"];
        let allowed = std::process::Command::new("unshare").args(apart).arg("true").status();
        if !allowed.is_ok_and(|status| status.success()) {
            return None;
        }
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let mut command = std::process::Command::new("unshare");
        command.args(apart).args(["sh", "-c", script]).arg(hosts).arg(env!("CARGO_BIN_EXE_larder"));
        command.args(arguments).stdin(Stdio::null());
        Some(Self(command))
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    pub fn directory(mut self, directory: &std::path::Path) -> Self {
        self.0.current_dir(directory);
        self
    }

    /// Runs it to its end.
    pub async fn output(mut self) -> Output {
        let run = tokio::task::spawn_blocking(move || self.0.output());
        with_deadline("the command ends", run).await.expect("no panic").expect("it can be run")
    }

    /// Runs it to its end, which must be a success, and gives what it printed.
    pub async fn stdout(self) -> String {
        let output = self.output().await;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
        stdout.into_owned()
    }
}

/// A larder that serves from a process of its own; killed when this is dropped.
pub struct Process {
    proxy: Client,
    pub admin: Client,
    child: Child,
    scratch: Scratch,
    listeners: String,
}

impl Process {
    /// Starts it with a `proxy.yaml` that names neither its upstream nor its listeners, and waits until it serves.
    pub async fn with(yaml: &str, upstream: &Upstream) -> Self {
        let [proxy, admin] = [free_port(), free_port()];
        let scratch = Scratch::new();
        let listeners = format!("listen: 127.0.0.1:{proxy}\nadmin: {{listen: \"127.0.0.1:{admin}\"}}\n");
        let config = scratch.file("proxy.yaml", &(listeners.clone() + &complete(yaml)));
        let command = Command::new(&["--config", config.to_str().expect("a path")]);
        let mut process = Self::spawn(command.env("UPSTREAM", &upstream.url()), scratch, proxy, admin).await;
        process.listeners = listeners;
        process
    }

    /// Starts a command that will listen on these ports.
    pub async fn spawn(command: Command, scratch: Scratch, proxy: u16, admin: u16) -> Self {
        let log = File::create(scratch.path().join("log")).expect("a file for the log");
        let mut command = command.0;
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        let child = command.spawn().expect("larder can be started");
        let client = |port| Client::new(([127, 0, 0, 1], port).into());
        let mut process =
            Self { proxy: client(proxy), admin: client(admin), child, scratch, listeners: String::new() };
        process.serves().await;
        process
    }

    async fn serves(&mut self) {
        let admin = self.admin.clone();
        eventually("larder serves", || {
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("larder ended at once: {status}\n{}", self.log());
            }
            let admin = admin.clone();
            async move { admin.get("/healthz").attempt().await.ok().filter(|reply| reply.status == 200) }
        })
        .await;
    }

    /// Puts another `proxy.yaml` in the place of its own, as a deployment does: by renaming.
    pub fn replace_config(&self, yaml: &str) {
        let new = self.scratch.file("proxy.yaml.new", &(self.listeners.clone() + &complete(yaml)));
        std::fs::rename(new, self.scratch.path().join("proxy.yaml")).expect("a file in its place");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    pub async fn metric(&self, name: &str) -> f64 {
        metric(&self.admin.get("/metrics").await.assert_status(200), name)
    }

    /// Waits until a metric has a value.
    pub async fn metric_becomes(&self, name: &str, value: f64) {
        let what = format!("{name} is {value}");
        eventually(&what, || async { (self.metric(name).await == value).then_some(()) }).await;
    }

    /// Waits until it is connected with Redis.
    pub async fn is_connected(&self) {
        self.metric_becomes("larder_redis_up", 1.0).await;
    }

    /// `TERM`, `STOP`, `CONT`, `HUP` …
    pub fn signal(&self, signal: &str) {
        send_signal(self.child.id(), signal);
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("larder ends", || {
            let status = self.child.try_wait().expect("a child");
            async move { status }
        })
        .await
    }

    /// How many files and connections it has open.
    pub fn open_files(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("a live process");
        open.count()
    }

    /// Lets it have no more open than so many.
    pub fn limit_files(&self, files: usize) {
        let limit = format!("prlimit --pid {} --nofile={files}:{files}", self.child.id());
        let status = std::process::Command::new("sh").args(["-c", &limit]).status().expect("a shell");
        assert!(status.success(), "{limit}");
    }

    /// The most memory it ever held, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory it holds now, in bytes.
    pub fn memory_now(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The part that it has allocated: without pages of its own program, which are read as they are used.
    pub fn allocated_now(&self) -> u64 {
        self.memory("RssAnon:")
    }

    fn memory(&self, line: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the status of a live process");
        let kibibytes = status.lines().find_map(|l| l.strip_prefix(line)?.trim().strip_suffix(" kB"));
        1024 * kibibytes.and_then(|k| k.trim().parse::<u64>().ok()).expect("a figure")
    }
}

/// By the system's own command: this crate has no unsafe code, and no dependency for it.
pub fn send_signal(process: u32, signal: &str) {
    let kill = format!("kill -{signal} {process}");
    let status = std::process::Command::new("sh").args(["-c", &kill]).status().expect("a shell");
    assert!(status.success(), "{kill}");
}

impl Deref for Process {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.proxy
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- what larder logged\n{}---", self.log());
        }
    }
}

/// Makes room for `files` open files in this process, and waits until no other crowd has them.
pub async fn one_crowd(files: usize) -> MutexGuard<'static, ()> {
    static ONE_CROWD: Mutex<()> = Mutex::const_new(());
    let only = ONE_CROWD.lock().await;
    raise_file_limit(files);
    only
}

/// Lets this process, and those it starts, have at least so many files and connections open.
fn raise_file_limit(files: usize) {
    let (files, own) = (files + 500, std::process::id());
    let raise = format!(
        "test $(prlimit --pid {own} --nofile --noheadings --output SOFT) -ge {files} \
         || prlimit --pid {own} --nofile={files}:$(prlimit --pid {own} --nofile --noheadings --output HARD)"
    );
    let status = std::process::Command::new("sh").args(["-c", &raise]).status().expect("a shell");
    assert!(status.success(), "this test needs {files} open files: raise `ulimit -Hn`");
}
