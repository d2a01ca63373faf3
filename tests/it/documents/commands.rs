//! Commands that the tests don't run still exist: scripts are executable, `larder` has the flags, cargo has the targets.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;

use super::{documents, root};
use crate::support::Command;

/// Programs that only a `no-run` block may call.
const FOREIGN: [&str; 21] = [
    "cargo",
    "npm",
    "docker",
    "kubectl",
    "systemctl",
    "sudo",
    "apt-get",
    "apt",
    "dnf",
    "podman",
    "helm",
    "curl",
    "git",
    "python3",
    "node",
    "go",
    "java",
    "nginx",
    "caddy",
    "npx",
    "puma",
];

#[tokio::test]
async fn every_command_that_is_not_run_exists() {
    let mut help = Help::default();
    let mut commands = 0;
    for block in documents().iter().flat_map(|document| document.blocks()) {
        if block.info != "sh no-run" {
            continue;
        }
        for line in block.text.lines() {
            let words = words(line);
            // A page creates its virtual environment, so what is in one is foreign.
            let Some(program) = words.first().filter(|word| !word.starts_with(".venv/")) else { continue };
            let place = format!("{}:{}: {line}", block.file.display(), block.line);
            commands += 1;
            if program == "larder" {
                help.has_flags(&words[1..], &place).await;
            } else if program.contains('/') {
                let script = std::fs::metadata(root().join(program));
                let mode = script.unwrap_or_else(|error| panic!("{place}: {error}")).permissions().mode();
                assert!(mode & 0o111 != 0, "{place}: not executable");
            } else {
                assert!(FOREIGN.contains(&program.as_str()), "{place}: run it, or add it to FOREIGN");
                has_cargo_target(&words, &place);
            }
        }
    }
    assert!(commands >= 5, "{commands}");
}

/// `larder purge --tag courses` in a sentence or a table has the same flags as anywhere.
#[tokio::test]
async fn every_larder_command_in_the_text_has_its_flags() {
    let mut help = Help::default();
    for document in documents() {
        for span in document.code_spans() {
            if let Some(arguments) = span.strip_prefix("larder ") {
                help.has_flags(&words(arguments), &format!("{}: {span}", document.name)).await;
            }
        }
    }
}

/// The words of a command, without settings before it and a comment behind it.
fn words(line: &str) -> Vec<String> {
    let words = line.split(" #").next().unwrap_or_default().split_whitespace();
    let is_setting = |word: &&str| {
        word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.starts_with('-'))
    };
    words.filter(|word| !word.starts_with('#')).skip_while(is_setting).map(str::to_owned).collect()
}

/// A benchmark or test that a cargo command names is in the manifest or in its folder.
fn has_cargo_target(words: &[String], place: &str) {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    for pair in words.windows(2) {
        let exists = match pair[0].as_str() {
            "--bench" => manifest.contains(&format!("[[bench]]\nname = \"{}\"", pair[1])),
            "--test" => ["tests/NAME.rs", "tests/NAME/main.rs"]
                .iter()
                .any(|path| root().join(path.replace("NAME", &pair[1])).exists()),
            _ => true,
        };
        assert!(exists, "{place}: no {}", pair[1]);
    }
}

/// The help texts of larder's commands, each asked for once.
#[derive(Default)]
struct Help(HashMap<String, String>);

impl Help {
    async fn has_flags(&mut self, arguments: &[String], place: &str) {
        let mut names = arguments.iter().take_while(|word| !word.starts_with('-'));
        let mut command: Vec<&str> = names.next().map(String::as_str).into_iter().collect();
        let mut help = self.read(&command).await;
        // A group of commands, like `larder redis`.
        if !command.is_empty() && help.contains(" <COMMAND>") {
            command.extend(names.next().map(String::as_str));
            help = self.read(&command).await;
        }
        let command = command.join(" ");
        assert!(help.contains("Usage: larder"), "{place}: larder has no command {command}");
        for flag in arguments.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
            let flag = flag.split('=').next().unwrap_or_default();
            assert!(help.contains(flag), "{place}: larder {command} has no {flag}");
        }
    }

    async fn read(&mut self, command: &[&str]) -> String {
        let name = command.join(" ");
        if !self.0.contains_key(&name) {
            let output = Command::new(&[command, &["--help"]].concat()).output().await;
            self.0.insert(name.clone(), String::from_utf8_lossy(&output.stdout).into_owned());
        }
        self.0[&name].clone()
    }
}
