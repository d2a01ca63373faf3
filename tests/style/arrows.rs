//! What ARCHITECTURE.md promises of the sources and the compiler can't know.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each room, and which others it may name. A room that is not here is not in the map.
const ARROWS: &[(&str, &[&str])] = &[
    ("access", &[]),
    ("access_log", &["clock", "config", "log_writer", "policy", "sampler"]),
    ("audit", &["clock", "config", "policy", "sampler", "stored_response"]),
    (
        "admin",
        &[
            "access",
            "audit",
            "callers",
            "clock",
            "config",
            "decision_feed",
            "events",
            "explain",
            "metrics",
            "phase",
            "observation",
            "policy",
            "purge",
            "purging",
            "server",
            "store",
            "stored_response",
            "warming",
        ],
    ),
    ("callers", &["clock", "config", "hex", "policy", "upstream"]),
    ("cdn", &["clock", "config", "metrics", "policy", "purge", "tasks", "upstream"]),
    (
        "cli",
        &[
            "ConfigChange",
            "ExitAtOnce",
            "Shutdown",
            "clock",
            "config",
            "draft",
            "events",
            "explain",
            "logging",
            "metrics",
            "observation",
            "policy",
            "run",
            "run_with_reload",
            "server",
            "store",
            "upstream",
        ],
    ),
    ("clock", &[]),
    ("config", &["pem_files", "policy"]),
    ("decision_feed", &["clock", "policy"]),
    ("draft", &["clock", "config", "observation", "policy"]),
    (
        "events",
        &[
            "cdn", "clock", "config", "hex", "metrics", "policy", "purge", "purging", "random", "store",
            "tasks",
        ],
    ),
    (
        "explain",
        &["callers", "clock", "config", "hex", "policy", "proxy", "purge", "raw_target", "stored_response"],
    ),
    ("hex", &[]),
    ("log_interval", &["clock"]),
    ("log_writer", &[]),
    ("logging", &["config", "log_writer", "telemetry"]),
    ("metrics", &["clock", "log_interval", "log_writer", "policy", "store"]),
    ("observation", &["clock", "policy"]),
    ("policy", &["clock", "hex", "purge", "raw_target", "stored_response"]),
    (
        "proxy",
        &[
            "access",
            "access_log",
            "audit",
            "callers",
            "cdn",
            "clock",
            "config",
            "decision_feed",
            "events",
            "hex",
            "log_interval",
            "memory_budget",
            "metrics",
            "observation",
            "policy",
            "purge",
            "purging",
            "random",
            "raw_target",
            "store",
            "stored_response",
            "telemetry",
            "upstream",
        ],
    ),
    ("purge", &["clock"]),
    ("purging", &["cdn", "clock", "config", "metrics", "policy", "purge", "store", "tasks"]),
    ("random", &[]),
    ("raw_target", &[]),
    ("reload", &["admin", "config", "proxy", "server", "warming"]),
    ("sampler", &["config"]),
    ("pem_files", &[]),
    ("phase", &[]),
    (
        "server",
        &[
            "clock",
            "config",
            "memory_budget",
            "metrics",
            "pem_files",
            "phase",
            "proxy",
            "progress_timeout",
            "raw_target",
        ],
    ),
    ("memory_budget", &[]),
    ("progress_timeout", &[]),
    (
        "store",
        &[
            "clock",
            "config",
            "hex",
            "memory_budget",
            "pem_files",
            "policy",
            "purge",
            "random",
            "stored_response",
            "tasks",
        ],
    ),
    ("stored_response", &["clock", "policy", "purge"]),
    ("tasks", &[]),
    ("telemetry", &["clock", "config", "metrics", "random"]),
    ("upstream", &["config", "memory_budget", "pem_files", "progress_timeout"]),
    (
        "warming",
        &[
            "audit",
            "clock",
            "config",
            "metrics",
            "phase",
            "policy",
            "proxy",
            "purge",
            "store",
            "stored_response",
        ],
    ),
    (
        "workers",
        &[
            "admin", "clock", "config", "metrics", "phase", "proxy", "purge", "random", "reload", "server",
            "store", "upstream", "warming",
        ],
    ),
];

/// What only these places may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("serde_yaml", &["config/yaml.rs"]),
    ("hyper_util::client", &["upstream/"]),
    ("hyper::client", &["upstream/", "cli/admin/client.rs"]),
    ("prometheus_client", &["metrics/"]),
    ("clap", &["cli/"]),
    ("ratatui", &["cli/top/"]),
    ("fred", &["store/redis/driver/"]),
    ("tokio_postgres", &["events/postgres/"]),
    ("notify::", &["cli/watch.rs"]),
    ("listenfd", &["cli/socket_activation.rs"]),
    ("rustix", &["clock.rs", "server/fd_limit.rs"]),
    ("SystemTime::now", &["clock.rs"]),
    ("jiff", &["clock.rs"]),
    ("opentelemetry_proto", &["telemetry/"]),
    ("prost", &["telemetry/"]),
    ("tikv_jemallocator", &["main.rs"]),
    // Locks are `parking_lot`'s: a panic does not poison them.
    ("PoisonError", &[]),
];

/// `policy` and `purge` decide, and do nothing else.
const IMPURE: &[&str] = &[
    "tokio",
    "async fn",
    ".await",
    "tracing",
    "std::fs",
    "std::net",
    "std::env",
    "getrandom",
    "Instant::now",
    "hyper",
];

struct Source {
    /// Below `src/`.
    path: String,
    /// Without its tests.
    code: String,
    whole: String,
}

impl Source {
    fn room(&self) -> &str {
        let first = self.path.split('/').next().expect("a path");
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    for file in rust_files(&root) {
        let path = file.strip_prefix(&root).expect("below it").to_string_lossy().into_owned();
        let whole = std::fs::read_to_string(&file).expect("a text");
        let code = whole.split("#[cfg(test)]\nmod tests {").next().expect("a first part").to_owned();
        sources.push(Source { path, code, whole });
    }
    assert!(sources.len() > 50, "{} files", sources.len());
    sources
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Those that are compiled for tests alone.
fn is_test(path: &str) -> bool {
    let part_of_tests = |part: &str| part == "tests" || part.ends_with("_tests");
    let mut parts = path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    parts.any(part_of_tests)
        || ["policy/testing.rs", "policy/fixtures.rs"].contains(&path)
        || path.ends_with("/key_properties.rs")
        || path.ends_with("/hostile_paths.rs")
}

/// The rooms that a text names by `crate::`, also in groups.
fn rooms_named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => drop(rooms.insert(word(rest))),
            Some(group) => {
                let group = group.split(';').next().unwrap_or_default();
                rooms.extend(group.split(',').map(|name| word(name.trim())).filter(|name| !name.is_empty()));
            }
        }
    }
    rooms
}

#[test]
fn arrows_point_down_only() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_test(&source.path)) {
        if ["lib", "main"].contains(&source.room()) {
            continue;
        }
        let room = source.room();
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            panic!("{room} is not in the map: put it into ARROWS and into ARCHITECTURE.md");
        };
        for named in rooms_named(&source.code) {
            if named != room && !allowed.contains(&named.as_str()) {
                wrong.push(format!("{} names {named}", source.path));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn each_crate_with_a_side_effect_has_its_one_place() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_test(&source.path)) {
        for (name, places) in ONLY_IN {
            let names = source.code.lines().map(str::trim).filter(|line| !line.starts_with("//"));
            let names = names.into_iter().any(|line| names_path(line, name));
            if names && !places.iter().any(|place| source.path.starts_with(place)) {
                wrong.push(format!("{} names {name}", source.path));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// Whether a line of code uses `name` as the beginning of a path, or as a call.
fn names_path(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        let starts = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '"');
        starts && after.is_some_and(|c| [':', ';', '('].contains(&c))
    })
}

#[test]
fn decisions_are_pure() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_test(&source.path)) {
        if !["policy", "purge", "stored_response"].contains(&source.room()) {
            continue;
        }
        for line in source.code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            if let Some(word) = IMPURE.iter().find(|word| line.contains(**word)) {
                wrong.push(format!("{}: {word} in `{}`", source.path, line.trim()));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn nothing_is_unsafe_silenced_or_left_undone() {
    let mut wrong = Vec::new();
    for source in sources() {
        for line in source.whole.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let words = ["unsafe ", "#[allow(", "todo!(", "unimplemented!(", "dbg!(", "#[ignore"];
            if words.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}: {}", source.path, line.trim()));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn the_map_in_the_documents_has_every_room() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md"))
        .expect("a page");
    let missing: Vec<_> = ARROWS.iter().map(|(room, _)| *room).filter(|room| !page.contains(room)).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn groups_of_imports_are_understood() {
    let code =
        "use crate::{clock::Clock, store};\nuse crate::policy::Route;\nlet x = crate::purge::Target::tag();";
    let rooms: Vec<_> = rooms_named(code).into_iter().collect();
    assert_eq!(rooms, ["clock", "policy", "purge", "store"]);
}
