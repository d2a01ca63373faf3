//! What the documents say is true: snippets load, commands and files exist, the first page happens.

use std::path::{Path, PathBuf};

use larder::config::{Config, Overrides};

use crate::support::markdown::blocks;
use crate::support::{Command, Larder, Reply, Upstream, bearer};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

struct Document {
    name: String,
    text: String,
}

fn documents() -> Vec<Document> {
    let mut files = Vec::new();
    for folder in [root(), root().join("docs"), root().join("deploy"), root().join("config")] {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        files.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let read = |file: PathBuf| Document {
        name: file.strip_prefix(root()).expect("below").to_string_lossy().into_owned(),
        text: std::fs::read_to_string(&file).expect("a text"),
    };
    let documents: Vec<_> = files.into_iter().map(read).collect();
    for expected in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/dependencies.md"] {
        assert!(documents.iter().any(|document| document.name == expected), "{expected} is missing");
    }
    documents
}

impl Document {
    /// The fenced blocks of one language.
    fn blocks(&self, language: &str) -> Vec<String> {
        blocks(&root().join(&self.name), language).into_iter().map(|block| block.text).collect()
    }
}

#[test]
fn every_yaml_snippet_loads() {
    let mut snippets = 0;
    for document in documents() {
        for snippet in document.blocks("yaml") {
            // A snippet of routes, or one without an upstream, is a part of a file.
            let routes = if snippet.trim_start().starts_with("- path:") { "routes:\n" } else { "" };
            let has_upstream = snippet.lines().any(|line| line.starts_with("upstream:"));
            let upstream = if has_upstream { "" } else { "upstream: http://127.0.0.1:3000\n" };
            let text = format!("{upstream}{routes}{snippet}");
            if let Err(errors) = Config::parse(&text, &document.name, &|_| None, &Overrides::default()) {
                panic!("{}:\n{snippet}\n{errors}", document.name);
            }
            snippets += 1;
        }
    }
    assert!(snippets > 0);
}

#[tokio::test]
async fn every_command_exists_with_its_flags() {
    let mut commands = 0;
    for document in documents() {
        for line in document.blocks("sh").iter().flat_map(|block| block.lines()) {
            let words = line.split('#').next().unwrap_or_default().split_whitespace();
            // What is set for the command alone stands before it.
            let is_setting = |word: &&str| {
                word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.starts_with('-'))
            };
            let words: Vec<&str> = words.skip_while(is_setting).collect();
            let Some(program) = words.first().copied() else { continue };
            commands += 1;
            let where_it_stands = format!("{}: {line}", document.name);
            match words.as_slice() {
                ["larder", arguments @ ..] => has_flags(arguments, &where_it_stands).await,
                ["cargo", "run", rest @ ..] => {
                    let arguments = rest.iter().skip_while(|word| **word != "--").skip(1).copied();
                    has_flags(&arguments.collect::<Vec<_>>(), &where_it_stands).await;
                }
                _ if program.contains('/') => {
                    use std::os::unix::fs::PermissionsExt;
                    let script = std::fs::metadata(root().join(program));
                    let mode = script
                        .unwrap_or_else(|error| panic!("{where_it_stands}: {error}"))
                        .permissions()
                        .mode();
                    assert!(mode & 0o111 != 0, "{where_it_stands}: not executable");
                }
                _ => assert!(
                    ["curl", "cargo", "docker", "kubectl", "systemctl", "redis-cli"].contains(&program),
                    "{where_it_stands}"
                ),
            }
        }
    }
    assert!(commands >= 5, "{commands}");
}

async fn has_flags(arguments: &[&str], where_it_stands: &str) {
    let command: Vec<&str> =
        arguments.iter().copied().take_while(|word| !word.starts_with('-')).take(1).collect();
    let help = Command::new(&[command.as_slice(), &["--help"]].concat()).output().await;
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.contains("Usage: larder"), "{where_it_stands}: {help}");
    for flag in arguments.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
        assert!(help.contains(flag.split('=').next().unwrap_or_default()), "{where_it_stands}: {flag}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let folder = root().join(&document.name).parent().expect("a folder").to_owned();
        for link in document.text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                assert!(folder.join(target).exists(), "{}: {target}", document.name);
            }
        }
    }
}

#[test]
fn every_dependency_stands_in_the_list_with_its_reason() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let list = std::fs::read_to_string(root().join("docs/dependencies.md")).expect("a list");
    let mut in_dependencies = false;
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            in_dependencies = section.contains("dependencies]");
        } else if let (true, Some((name, _))) = (in_dependencies, line.split_once(" = ")) {
            assert!(list.contains(&format!("`{name}`")), "{name} is not in docs/dependencies.md");
        }
    }
}

/// The table of the README's first page: what is asked, and what `Cache-Status` answers.
#[tokio::test]
async fn the_readmes_first_page_happens() {
    let readme = documents().into_iter().find(|document| document.name == "README.md").expect("it is there");
    let yaml = readme.blocks("yaml").into_iter().next().expect("a first page");
    let upstream = Upstream::start();
    let larder = Larder::with_environment(&yaml.replace("http://127.0.0.1:3000", &upstream.url()), &[]);
    let mut shown = 0;
    for row in readme.text.lines().filter(|line| line.starts_with("| `")) {
        let mut code = row.split('`').skip(1).step_by(2);
        let (Some(request), Some(answer)) = (code.next(), code.next()) else { continue };
        let (Some((method, target)), true) = (request.split_once(' '), answer.starts_with("larder;")) else {
            continue;
        };
        let reply = larder.request(method, target).header("authorization", &bearer(r#"{"sub":"ann"}"#)).await;
        let expected = answer.trim_end_matches(['…', ' ', ';']);
        assert!(status_without_ttl(&reply).starts_with(&without_ttl(expected)), "{row}\n{reply}");
        shown += 1;
    }
    assert!(shown >= 4, "{shown} rows");
}

fn status_without_ttl(reply: &Reply) -> String {
    without_ttl(&reply.header("cache-status").unwrap_or_default())
}

fn without_ttl(status: &str) -> String {
    let parameters = status.split("; ").filter(|parameter| !parameter.starts_with("ttl="));
    parameters.collect::<Vec<_>>().join("; ")
}
