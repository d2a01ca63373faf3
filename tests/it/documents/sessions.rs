//! Plays each page from top to bottom: a whole configuration is taken into use, commands run in a shell, and what a
//! `console` block shows below a command is what the command prints.
//!
//! larder runs as a process, in front of the sample API of `larder demo`. Addresses in the page are replaced by those of
//! the test. A page without a whole configuration is played with the repository's own `proxy.yaml`.

use std::process::Stdio;
use std::time::Duration;

use larder::cli::demo::upstream;

use super::{Document, documents, root};
use crate::support::markdown::Block;
use crate::support::{Command, Process, Redis, Scratch, free_port, with_deadline};

/// `docs/cases.md` is played under a clock that the test moves (`examples::documented`).
const PLAYED_ELSEWHERE: [&str; 1] = ["docs/cases.md"];

/// Shell functions for a page's commands: servers are started, asked for their health and terminated; other commands
/// run as written. `curl` fails if the answer is an error.
const FUNCTIONS: &str = r#"
export LARDER_ADMIN=127.0.0.1:$ADMIN
serve() {
    LARDER_ADMIN= "$LARDER" "$@" --listen "127.0.0.1:$SPARE" --admin "127.0.0.1:$SPARE_ADMIN" &
    local served=$!
    until "$LARDER" health --admin "127.0.0.1:$SPARE_ADMIN" >/dev/null 2>&1; do
        kill -0 "$served"
        sleep 0.05
    done
    kill -TERM "$served"
    wait "$served"
}
larder() {
    case " $* " in
        *" --help "* | *" --version "* | *" --print-config "*) "$LARDER" "$@" ;;
        "  " | " -"* | " run "* | " demo "*) serve "$@" ;;
        *) "$LARDER" "$@" ;;
    esac
}
cargo() {
    if [ "$1" = run ]; then
        while [ "$1" != -- ]; do shift; done
        shift
        larder "$@"
    fi
}
curl() { command curl -sS --max-time 20 $CURL_FAILS "$@"; }
redis-cli() { command redis-cli -p "$REDIS" "$@"; }
"#;

#[tokio::test]
async fn every_page_can_be_played() {
    let mut commands = 0;
    let mut failed = Vec::new();
    for document in documents() {
        let name = document.name.clone();
        if !PLAYED_ELSEWHERE.contains(&name.as_str()) {
            // A task of its own: one page that fails keeps no other from being played.
            match tokio::spawn(async move { Page::new(&document).await.play().await }).await {
                Ok(played) => commands += played,
                Err(_) => failed.push(name),
            }
        }
    }
    assert_eq!(failed, [""; 0]);
    assert!(commands > 30, "{commands}");
}

/// The commands in the comments of `proxy.yaml` and of the ready-made configurations.
#[tokio::test]
async fn every_command_in_a_configuration_runs() {
    let reference = std::fs::read_to_string(root().join("proxy.yaml")).expect("the reference");
    let page = Page::new(&Document { name: "proxy.yaml".into(), text: String::new() }).await;
    let larder = page.start(&reference).await;
    let mut commands = 0;
    for file in configurations() {
        let text = std::fs::read_to_string(root().join(&file)).expect("a configuration");
        for line in text.lines().filter(|line| line.starts_with('#')) {
            if let Some(arguments) = line.trim_start_matches(['#', ' ']).strip_prefix("larder ") {
                page.run(&larder, &format!("larder {arguments}"), true, &file).await;
                commands += 1;
            }
        }
    }
    assert!(commands >= 6, "{commands}");
}

fn configurations() -> Vec<String> {
    let mut files = vec!["proxy.yaml".to_owned()];
    for folder in ["config", "config/tests"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name().into_string().expect("a name");
            if name.ends_with(".yaml") {
                files.push(format!("{folder}/{name}"));
            }
        }
    }
    files
}

struct Page {
    blocks: Vec<Block>,
    api: std::net::SocketAddr,
    redis: Option<Redis>,
    ports: [u16; 4],
}

/// A configuration in use: the process that serves it, and the folder that commands run in.
struct Running {
    _process: Process,
    folder: Scratch,
}

impl Page {
    async fn new(document: &Document) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let api = listener.local_addr().expect("bound");
        tokio::spawn(upstream::serve(listener, Duration::ZERO));
        let blocks = if document.text.is_empty() { Vec::new() } else { document.blocks() };
        let asks_redis = blocks.iter().any(|block| is_played(block) && block.text.contains("redis-cli"));
        let redis = if asks_redis { Some(Redis::start().await) } else { None };
        Self { blocks, api, redis, ports: std::array::from_fn(|_| free_port()) }
    }

    async fn play(&self) -> usize {
        if !self.blocks.iter().any(is_played) {
            return 0;
        }
        let reference = std::fs::read_to_string(root().join("proxy.yaml")).expect("the reference");
        let has_own = self.blocks.iter().any(is_whole);
        let mut running = if has_own { None } else { Some(self.start(&reference).await) };
        let mut commands = 0;
        for block in &self.blocks {
            let place = format!("{}:{}", block.file.display(), block.line);
            if is_whole(block) {
                drop(running.take());
                running = Some(self.start(&block.text).await);
            } else if block.info == "yaml tests" {
                let running = running.as_ref().unwrap_or_else(|| panic!("{place}: before any configuration"));
                running.folder.file("tests.yaml", &block.text);
                self.run(running, "larder test tests.yaml", true, &place).await;
            } else if block.info == "sh" {
                let running = running.as_ref().unwrap_or_else(|| panic!("{place}: before any configuration"));
                self.run(running, &block.text, true, &place).await;
                commands += block.text.lines().count();
            } else if block.info == "console" {
                let running = running.as_ref().unwrap_or_else(|| panic!("{place}: before any configuration"));
                commands += self.converse(running, block, &place).await;
            }
        }
        commands
    }

    /// Takes a configuration into use, with the addresses of this test.
    async fn start(&self, yaml: &str) -> Running {
        let folder = Scratch::new();
        for shared in ["config", "deploy"] {
            std::os::unix::fs::symlink(root().join(shared), folder.path().join(shared)).expect("a link");
        }
        let file = folder.file("proxy.yaml", &self.localised(yaml));
        let [proxy, admin, ..] = self.ports;
        let (listen, admin_listen) = (format!("127.0.0.1:{proxy}"), format!("127.0.0.1:{admin}"));
        let config = file.to_str().expect("a path");
        let arguments = ["--config", config, "--listen", &listen, "--admin", &admin_listen];
        let process = Process::spawn(Command::new(&arguments), Scratch::new(), proxy, admin).await;
        Running { _process: process, folder }
    }

    /// Runs a script, which must succeed if `strict`, and gives what it printed.
    async fn run(&self, running: &Running, script: &str, strict: bool, place: &str) -> String {
        let [proxy, admin, spare, spare_admin] = self.ports;
        let settings = if strict { "set -euo pipefail" } else { "" };
        let script = format!("{settings}\n{FUNCTIONS}\n{}", self.localised(script));
        let mut command = std::process::Command::new("bash");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LARDER_")) {
            command.env_remove(name);
        }
        command
            .args(["-c", &script])
            .stdin(Stdio::null())
            .current_dir(running.folder.path())
            .env("LARDER", env!("CARGO_BIN_EXE_larder"))
            .env("CURL_FAILS", if strict { "--fail-with-body" } else { "" });
        let redis = self.redis.as_ref().map_or(0, Redis::port);
        for (name, port) in [
            ("PROXY", proxy),
            ("ADMIN", admin),
            ("SPARE", spare),
            ("SPARE_ADMIN", spare_admin),
            ("REDIS", redis),
        ] {
            command.env(name, port.to_string());
        }
        let run = tokio::task::spawn_blocking(move || command.output());
        let output = with_deadline(place, run).await.expect("no panic").expect("bash");
        let printed =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!strict || output.status.success(), "{place}:\n{script}\n{printed}");
        printed
    }

    /// Runs the commands of a `console` block, and looks for the lines that stand below each.
    async fn converse(&self, running: &Running, block: &Block, place: &str) -> usize {
        let mut exchanges: Vec<(String, Vec<&str>)> = Vec::new();
        for line in block.text.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => exchanges.push((command.to_owned(), Vec::new())),
                None => exchanges.last_mut().expect("a command first").1.push(line),
            }
        }
        for (command, expected) in &exchanges {
            let printed = self.run(running, command, false, place).await;
            let mut lines = printed.lines().map(without_times);
            for line in expected {
                let wanted = self.localised(&without_times(line));
                let wanted = wanted.trim_end();
                assert!(
                    lines.any(|line| line_matches(wanted, line.trim_end())),
                    "{place}: no `{wanted}` in\n{printed}"
                );
            }
        }
        exchanges.len()
    }

    /// The text with this test's addresses in place of those that the documentation uses.
    fn localised(&self, text: &str) -> String {
        let [proxy, admin, ..] = self.ports;
        let mut text = text.to_owned();
        for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
            text = text.replace(&format!("{host}:8080"), &format!("127.0.0.1:{proxy}"));
            text = text.replace(&format!("{host}:9090"), &format!("127.0.0.1:{admin}"));
            text = text.replace(&format!("{host}:3000"), &self.api.to_string());
            if let Some(redis) = &self.redis {
                text = text.replace(&format!("{host}:6379"), &redis.address().to_string());
            }
        }
        text
    }
}

fn is_played(block: &Block) -> bool {
    matches!(block.info.as_str(), "sh" | "console" | "yaml tests")
}

/// A configuration that larder can run with, and not a part of one.
fn is_whole(block: &Block) -> bool {
    block.info == "yaml" && block.text.lines().any(|line| line.starts_with("upstream:"))
}

/// Real time goes by while a page is played.
fn without_times(line: &str) -> String {
    let mut masked = String::new();
    let mut rest = line;
    while let Some(at) = ["ttl=", "age: "].iter().filter_map(|mark| Some(rest.find(mark)? + mark.len())).min()
    {
        masked.push_str(&rest[..at]);
        rest = rest[at..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    masked + rest
}

/// Whether `line` is `wanted`, where `…` stands for anything.
pub fn line_matches(wanted: &str, line: &str) -> bool {
    let parts: Vec<_> = wanted.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return wanted == line };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn an_ellipsis_stands_for_anything() {
    for (wanted, line, expected) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a…c", "abc", true),
        ("…", "", true),
        ("a…b…c", "a1b2c", true),
        ("a…b…c", "a1c", false),
    ] {
        assert_eq!(line_matches(wanted, line), expected, "{wanted} {line}");
    }
    assert_eq!(without_times("larder; hit; ttl=29; stored"), "larder; hit; ttl=; stored");
}
